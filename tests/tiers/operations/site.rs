//! An authority and its vCenter.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::{PASSWORD, USERNAME, Vcsim, Vm};

/// The two ESXi hosts of a vCenter.
pub(crate) const ESXI: IpAddr = ESXI_HOSTS[0];
pub(crate) const OTHER_ESXI: IpAddr = ESXI_HOSTS[1];

/// An authority and its vCenter. The authority is dropped first.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) vcenter: Vcsim,
    pub(crate) run: Run,
}

impl Site {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, |config| config).await
    }

    /// The same with a configuration that `change` has changed.
    pub(crate) async fn start_with(name: &str, change: impl FnOnce(Config) -> Config) -> Self {
        let run = Run::new(name);
        let vcenter = Vcsim::start(&run, &Ca::new(&run)).await;
        for host in ESXI_HOSTS {
            vcenter.add_host(host);
        }
        let config = change(Config::new(&run, &vcenter, NO_GATEWAY));
        let authority = Authority::start(&run, config).await;
        Self { authority, vcenter, run }
    }

    /// A new machine on [`ESXI`] with a console port that no other machine has.
    pub(crate) fn machine(&self) -> (Vm, u16) {
        static PORTS: AtomicU16 = AtomicU16::new(5901);
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        (self.vcenter.create_vm(&format!("machine-{port}"), ESXI, port), port)
    }

    /// How often the authority has logged in to its vCenter.
    pub(crate) async fn logins(&self) -> u64 {
        let calls =
            r#"vncgate_vcenter_calls_total{vcenter="vcenter-a",method="Login",outcome="ok"} "#;
        self.authority.count(calls).await
    }
}

/// A vCenter with one host, [`OTHER_ESXI`], and the block of the configuration that names it `vcenter-b`.
pub(crate) async fn second_vcenter(name: &str) -> (Vcsim, String) {
    let run = Run::new(name);
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(OTHER_ESXI);
    let password = run.write("password", PASSWORD);
    let block = format!(
        "[[vcenter]]\nservice_host = \"vcenter-b\"\nurl = {:?}\nusername = {USERNAME:?}\n\
         password_file = {password:?}\nca_file = {:?}\n",
        vcenter.url(),
        ca.path(),
    );
    (vcenter, block)
}
