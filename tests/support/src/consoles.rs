//! A vCenter whose hosts have consoles of both kinds.

use crate::certificate::{Ca, Identity};
use crate::esxi::{Esxi, HostBehavior, HostState, self_signed};
use crate::process::Run;
use crate::screen::TcpServer;
use crate::vcsim::{Options, Vcsim, Vm};
use crate::webmks::{HostSettings, WITHOUT_VNC};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// The vCenter and its hosts, running.
#[derive(Debug)]
pub struct Consoles {
    /// Has the machines.
    pub vcenter: Vcsim,
    /// Plays the hosts of WebMKS consoles.
    pub esxi: Esxi,
    /// Signed the certificates of the parts.
    pub ca: Ca,
    /// The files of this run.
    pub run: Run,
    network: [u8; 2],
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
    /// Starts the vCenter, without hosts, on loopback, where its hosts will be too.
    pub async fn start(run: &Run) -> Self {
        Self::start_in(run, [127, 0], IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// The same with the vCenter at another address, and the hosts at addresses of this machine that begin with `network`.
    pub async fn start_in(run: &Run, network: [u8; 2], vcenter: IpAddr) -> Self {
        let ca = Ca::new(run);
        let esxi = Esxi::start(run).await;
        let esxi_url = Some(esxi.control_url().to_owned());
        let options = Options { esxi: esxi_url, address: Some(vcenter), ..Options::default() };
        let vcenter = Vcsim::start_with(run, &ca, options).await;
        Self { vcenter, esxi, ca, run: run.clone(), network }
    }

    fn address(&self, third: u8, fourth: u8) -> IpAddr {
        let [first, second] = self.network;
        IpAddr::V4(Ipv4Addr::new(first, second, third, fourth))
    }

    /// A new machine with a VNC console that echoes, on a host of its own: the port of a console that is gone may be used
    /// again, and no two machines of a host may have the same.
    pub async fn vnc(&self) -> (TcpServer, Vm) {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = self.address(3, NEXT.fetch_add(1, Ordering::Relaxed));
        self.vcenter.add_host(host);
        let console = TcpServer::echo(host).await;
        let vm = self.vcenter.create_vm(&unused_name("vnc"), host, console.address().port());
        (console, vm)
    }

    /// A new host with WebMKS consoles and a certificate of its own.
    pub async fn webmks_host(&self) -> WebmksHost {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let ip = self.address(2, NEXT.fetch_add(1, Ordering::Relaxed));
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
