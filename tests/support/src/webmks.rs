//! A vCenter whose hosts have WebMKS consoles.

use crate::certificate::{Ca, Identity, plain_http_client};
use crate::esxi::{Esxi, HostBehavior, self_signed};
use crate::process::Run;
use crate::vcsim::{Options, USERNAME, Vcsim, Vm};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// The version of hosts whose VMs have no VNC server.
pub const WITHOUT_VNC: &str = "8.0.2";
/// The version of hosts that offer either kind of console.
pub const WITH_VNC: &str = "6.7.0";

/// What vCenter says of a host. What is `None` stays as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HostSettings {
    /// Product version (`summary.config.product.version`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Text of `config.certificate`: what vCenter knows, not what the host presents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `host` of tickets; at first the host's inventory name. May be empty or a name that does not resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_host: Option<String>,
    /// Leaves `port` out of tickets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omit_ticket_port: Option<bool>,
}

/// Starts a vCenter without hosts, and what stands in for those it gets.
pub async fn start(run: &Run, ca: &Ca) -> (Vcsim, Esxi) {
    let esxi = Esxi::start(run).await;
    let options = Options { esxi: Some(esxi.control_url().to_owned()), ..Options::default() };
    (Vcsim::start_with(run, ca, options).await, esxi)
}

impl Esxi {
    /// Adds a host to the vCenter that is named after its address, presents a self-signed certificate for
    /// it and is known with it in vCenter. Returns where it serves consoles.
    pub async fn add_host(&self, vcenter: &Vcsim, ip: IpAddr, version: &str) -> SocketAddr {
        let name = ip.to_string();
        let identity = self_signed(&vcenter.run, &name, &[&name]);
        self.add_host_named(vcenter, &name, ip, version, &identity).await
    }

    /// The same under another name and with another certificate.
    pub async fn add_host_named(
        &self,
        vcenter: &Vcsim,
        name: &str,
        ip: IpAddr,
        version: &str,
        identity: &Identity,
    ) -> SocketAddr {
        vcenter.add_host_named(name);
        let address = self.set_host(name, ip, identity, HostBehavior::Relay).await;
        let settings = HostSettings {
            version: Some(version.to_owned()),
            certificate: Some(identity.pem()),
            ..HostSettings::default()
        };
        vcenter.set_host(name, &settings).await;
        address
    }

    /// Creates a machine on the host of that name, powered on, whose screen is a VNC server at `screen`.
    pub async fn create_vm(
        &self,
        vcenter: &Vcsim,
        name: &str,
        host: &str,
        screen: SocketAddr,
    ) -> Vm {
        let vm = vcenter.create_vm_without_vnc(name, host);
        self.set_screen(&vm, screen).await;
        vm
    }
}

impl Vcsim {
    /// Changes what the vCenter says of a host. Those who wait for updates are told.
    pub async fn set_host(&self, name: &str, settings: &HostSettings) {
        let http = plain_http_client();
        let url = format!("http://{}/hosts/{name}", self.control);
        let answer = http.put(url).json(settings).send().await.expect("the vCenter answers");
        assert_eq!(answer.status(), 204, "the vCenter knows no host {name}");
    }

    /// Takes every privilege but reading on a machine from the authority's user. `AcquireTicket` and
    /// changes of `config.extraConfig` are refused with `NoPermission` from now on.
    pub fn deny(&self, vm: &str) {
        let path = format!("/DC0/vm/{vm}");
        self.govc(&["permissions.set", "-principal", USERNAME, "-role", "ReadOnly", &path]);
    }
}
