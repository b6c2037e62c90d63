//! All of a gateway but its Envoy: a vCenter whose hosts have consoles of both kinds, and the authority.

use crate::authority::{Authority, Config};
use crate::certificate::{Ca, Identity};
use crate::esxi::{Esxi, HostBehavior, HostState, self_signed};
use crate::process::Run;
use crate::screen::TcpServer;
use crate::vcsim::{Vcsim, Vm};
use crate::webmks::{self, HostSettings, WITHOUT_VNC};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// The parts, running.
#[derive(Debug)]
pub struct Consoles {
    /// Issues and checks tokens.
    pub authority: Authority,
    /// Has the machines.
    pub vcenter: Vcsim,
    /// Plays the hosts of WebMKS consoles.
    pub esxi: Esxi,
    /// Signed the certificates of the parts.
    pub ca: Ca,
    /// The files of this run.
    pub run: Run,
}

/// A host with WebMKS consoles.
#[derive(Debug)]
pub struct WebmksHost {
    /// Its name in vCenter, which is its address.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// Where it serves consoles.
    pub address: SocketAddr,
    /// The certificate that it shows and that vCenter knows.
    pub identity: Identity,
}

impl Consoles {
    /// Starts the parts; console links lead to `gateway` (`https://HOST`).
    pub async fn start(run: &Run, gateway: &str, config: impl FnOnce(Config) -> Config) -> Self {
        let ca = Ca::new(run);
        let (vcenter, esxi) = webmks::start(run, &ca).await;
        let authority = Authority::start(run, config(Config::new(run, &vcenter, gateway))).await;
        Self { authority, vcenter, esxi, ca, run: run.clone() }
    }

    /// A new machine with a VNC console that echoes, and a token for it.
    pub async fn vnc(&self) -> (TcpServer, String) {
        let (console, vm) = self.vnc_machine().await;
        (console, self.authority.issue(&vm).await)
    }

    /// A new machine with a VNC console that echoes, on a host of its own: the port of a console that is gone may be used
    /// again, and no two machines of a host may have the same.
    pub async fn vnc_machine(&self) -> (TcpServer, Vm) {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = IpAddr::V4(Ipv4Addr::new(127, 0, 3, NEXT.fetch_add(1, Ordering::Relaxed)));
        self.vcenter.add_host(host);
        let console = TcpServer::echo(host).await;
        let vm = self.vcenter.create_vm(&unused_name("vnc"), host, console.address().port());
        (console, vm)
    }

    /// A new host with WebMKS consoles and a certificate of its own.
    pub async fn webmks_host(&self) -> WebmksHost {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 2, NEXT.fetch_add(1, Ordering::Relaxed)));
        let name = ip.to_string();
        let identity = self_signed(&self.run, &name, &[&name]);
        let address =
            self.esxi.add_host_named(&self.vcenter, &name, ip, WITHOUT_VNC, &identity).await;
        WebmksHost { name, ip, address, identity }
    }

    /// A new machine of that host with a WebMKS console that echoes.
    pub async fn webmks(&self, host: &WebmksHost) -> (TcpServer, Vm) {
        let screen = TcpServer::echo(host.ip).await;
        let name = unused_name("webmks");
        let vm = self.esxi.create_vm(&self.vcenter, &name, &host.name, screen.address()).await;
        (screen, vm)
    }

    /// From now on the host shows this certificate.
    pub async fn show(&self, host: &WebmksHost, identity: &Identity) {
        self.esxi.set_host(&host.name, host.ip, identity, HostBehavior::Relay).await;
    }

    /// From now on vCenter knows this certificate as the host's.
    pub async fn register(&self, host: &WebmksHost, identity: &Identity) {
        let certificate = Some(identity.pem());
        let settings = HostSettings { certificate, ..HostSettings::default() };
        self.vcenter.set_host(&host.name, &settings).await;
    }

    /// What has happened at the host.
    pub async fn state(&self, host: &WebmksHost) -> HostState {
        self.esxi.host(&host.name).await
    }
}

/// A name that no other machine has. Not "vm-N": govc would take that for the id of another machine.
fn unused_name(kind: &str) -> String {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    format!("{kind}-console-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
