//! Two sites with one store, and what the tests ask them over and over.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use vncgate_test_support::authority::NO_GATEWAY;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::workspace::free_address_of;

/// The filter waits 5 s for a check.
pub(crate) const FILTER_TIMEOUT: Duration = Duration::from_secs(5);

/// What tells one site from another.
#[derive(Debug)]
pub(crate) struct Location {
    /// The site's name at the other one.
    pub(crate) name: &'static str,
    pub(crate) service_host: &'static str,
    /// The host of its URL, and so of its certificate.
    pub(crate) host: &'static str,
    /// Where its authority listens for other sites.
    ip: IpAddr,
    /// The ESXi host of all its machines.
    pub(crate) esxi: IpAddr,
}

/// The site whose tokens most tests take to the other one. It has a name.
pub(crate) const BERLIN: Location = Location {
    name: "berlin",
    service_host: "vcenter-berlin",
    host: "localhost",
    ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    esxi: ESXI_HOSTS[0],
};

/// The other one. It has an address alone.
pub(crate) const TOKYO: Location = Location {
    name: "tokyo",
    service_host: "vcenter-tokyo",
    host: "127.0.3.2",
    ip: IpAddr::V4(Ipv4Addr::new(127, 0, 3, 2)),
    esxi: ESXI_HOSTS[1],
};

/// A third one, for tests of its own.
pub(crate) const OSAKA: Location = Location {
    name: "osaka",
    service_host: "vcenter-osaka",
    host: "127.0.3.3",
    ip: IpAddr::V4(Ipv4Addr::new(127, 0, 3, 3)),
    esxi: ESXI_HOSTS[1],
};

/// A site that calls its vCenter what Berlin calls another one. Its machines are on hosts of the same names.
pub(crate) const TWIN: Location = Location {
    name: "twin",
    service_host: BERLIN.service_host,
    host: "127.0.3.4",
    ip: IpAddr::V4(Ipv4Addr::new(127, 0, 3, 4)),
    esxi: BERLIN.esxi,
};

/// A site, its authority to be dropped before its vCenter.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) vcenter: Vcsim,
    pub(crate) location: &'static Location,
    /// Where its authority listens for other sites.
    pub(crate) peer: SocketAddr,
    /// Who signed its vCenter's certificate.
    pub(crate) ca: Ca,
    pub(crate) run: Run,
}

/// Both sites, to be dropped before what they share.
pub(crate) struct Pair {
    pub(crate) berlin: Site,
    pub(crate) tokyo: Site,
    pub(crate) store: Store,
    /// Who signs the sites' certificates.
    pub(crate) ca: Ca,
}

impl Pair {
    /// The pair that tests share which leave both sites as they are. Its parts end with the process.
    pub(crate) async fn shared() -> &'static Self {
        static PAIR: OnceCell<Pair> = OnceCell::const_new();
        PAIR.get_or_init(|| Self::start("")).await
    }

    /// A pair of a test's own on Redis, with further settings of `[console]`.
    pub(crate) async fn start(console: &str) -> Self {
        Self::on(Store::redis(&Run::new("sites-redis")).await, console).await
    }

    /// The same on any store.
    pub(crate) async fn on(store: Store, console: &str) -> Self {
        let ca = Ca::new(&Run::new("sites"));
        let (berlin, tokyo) = (Plan::new(&BERLIN).await, Plan::new(&TOKYO).await);
        let peers = [berlin.other(), tokyo.other()];
        let berlin = berlin.start(&ca, &store, console, &peers[1]).await;
        let tokyo = tokyo.start(&ca, &store, console, &peers[0]).await;
        Self { berlin, tokyo, store, ca }
    }
}

/// A site whose authority does not run yet.
pub(crate) struct Plan {
    vcenter: Vcsim,
    location: &'static Location,
    pub(crate) peer: SocketAddr,
    ca: Ca,
    run: Run,
}

impl Plan {
    pub(crate) async fn new(location: &'static Location) -> Self {
        let run = Run::new(location.name);
        let ca = Ca::new(&run);
        let vcenter = Vcsim::start(&run, &ca).await;
        vcenter.add_host(location.esxi);
        Self::over(location, run, ca, vcenter)
    }

    /// A site for a vCenter that is there already.
    pub(crate) fn over(location: &'static Location, run: Run, ca: Ca, vcenter: Vcsim) -> Self {
        let peer = free_address_of(location.ip);
        Self { vcenter, location, peer, ca, run }
    }

    /// What another site has in its configuration for this one.
    pub(crate) fn other(&self) -> String {
        site(
            self.location.name,
            self.location.host,
            self.peer.port(),
            &[self.location.service_host],
        )
    }

    /// Starts the authority with a certificate for its site and these `[[site]]` blocks.
    pub(crate) async fn start(
        self,
        sites: &Ca,
        store: &Store,
        console: &str,
        others: &str,
    ) -> Site {
        self.start_with(sites, store, others, |config| config.with_console(console)).await
    }

    /// The same with any other change of the configuration.
    pub(crate) async fn start_with(
        self,
        sites: &Ca,
        store: &Store,
        others: &str,
        change: impl FnOnce(Config) -> Config,
    ) -> Site {
        let identity = sites.issue_for(self.location.name, &[self.location.host]);
        let Self { vcenter, location, peer, ca, run } = self;
        let config = Config::new(&run, &vcenter, NO_GATEWAY);
        let config = with_sites(config, peer, sites, &identity, others).with_store(store).with(
            r#"service_host = "vcenter-a""#,
            &format!("service_host = {:?}", location.service_host),
        );
        let authority = Authority::start(&run, change(config)).await;
        Site { authority, vcenter, location, peer, ca, run }
    }
}

/// A `[[site]]` block.
pub(crate) fn site(name: &str, host: &str, port: u16, service_hosts: &[&str]) -> String {
    format!(
        "[[site]]\nname = {name:?}\nurl = \"https://{host}:{port}\"\nservice_hosts = {service_hosts:?}\n\n"
    )
}

/// A configuration with other sites, of the lines that the shipped example has for them.
pub(crate) fn with_sites(
    config: Config,
    peer: SocketAddr,
    sites: &Ca,
    identity: &Identity,
    others: &str,
) -> Config {
    let file = |key: &str, path: &std::path::Path| format!("{key} = {path:?}");
    config
        .with(r#"#peer = "192.0.2.10:6084""#, &format!("peer = \"{peer}\""))
        .with("#[peer]", "[peer]")
        .with(r#"#certificate_file = "peer.crt""#, &file("certificate_file", &identity.certificate))
        .with(r#"#key_file = "peer.key""#, &file("key_file", &identity.key))
        .with(r#"#ca_file = "peer-ca.pem""#, &file("ca_file", sites.path()))
        .with("\n[log]\n", &format!("\n{others}[log]\n"))
}

impl Site {
    /// A new machine with a console port that no other machine has.
    pub(crate) fn machine(&self) -> (Vm, u16) {
        static PORTS: AtomicU16 = AtomicU16::new(5901);
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        // vcsim makes the instance UUID of the name, and no two machines of two vCenters have the same.
        let name = format!("{}-{port}", self.location.name);
        (self.vcenter.create_vm(&name, self.location.esxi, port), port)
    }

    /// A new machine and a token for it.
    pub(crate) async fn machine_and_token(&self) -> (Vm, u16, String) {
        let (vm, port) = self.machine();
        let token = self.token(&vm).await;
        (vm, port, token)
    }

    /// A token for a machine of this site's.
    pub(crate) async fn token(&self, vm: &Vm) -> String {
        self.authority.issue(vm).await
    }
}
