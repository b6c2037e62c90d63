//! An authority and its vCenter, and what the tests ask them over and over.

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use tokio::sync::OnceCell;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::NO_GATEWAY;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::wait::until;

/// The two ESXi hosts that every vCenter here has.
pub(crate) const ESXI: IpAddr = ESXI_HOSTS[0];
pub(crate) const OTHER_ESXI: IpAddr = ESXI_HOSTS[1];

/// An authority and its vCenter. The authority is dropped first.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) vcenter: Vcsim,
    pub(crate) run: Run,
}

impl Site {
    /// The site that tests share which leave both parts as they are. Its parts end with the process.
    pub(crate) async fn shared() -> &'static Self {
        static SITE: OnceCell<Site> = OnceCell::const_new();
        SITE.get_or_init(|| Self::start("vcenter")).await
    }

    /// A site of a test's own.
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, |config, _, _| config).await
    }

    /// A site of a test's own whose configuration `change` has changed.
    pub(crate) async fn start_with(
        name: &str,
        change: impl FnOnce(Config, &Run, &Vcsim) -> Config,
    ) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let vcenter = Vcsim::start(&run, &ca).await;
        for host in ESXI_HOSTS {
            vcenter.add_host(host);
        }
        let config = change(Config::new(&run, &vcenter, NO_GATEWAY), &run, &vcenter);
        let authority = Authority::start(&run, config).await;
        Self { authority, vcenter, run }
    }

    /// A new machine on [`ESXI`] with a console port that no other machine has.
    pub(crate) fn machine(&self) -> (Vm, u16) {
        static MACHINES: AtomicUsize = AtomicUsize::new(0);
        static PORTS: AtomicU16 = AtomicU16::new(5901);
        // Not "vm-N": govc would take that for the id of another machine.
        let name = format!("machine-{}", MACHINES.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        (self.vcenter.create_vm(&name, ESXI, port), port)
    }

    /// A new machine that the authority's inventory has by its name.
    pub(crate) async fn machine_by_name(&self) -> (Vm, u16) {
        let (vm, port) = self.machine();
        until("the machine in the inventory", async || {
            let path = format!("/v1/vms?name={}", vm.name);
            let listed = self.authority.request(Method::GET, &path).send().await;
            let listed = Answer::of(listed.expect("the console API answers")).await;
            listed.body["vms"].as_array().is_some_and(|vms| vms.len() == 1)
        })
        .await;
        (vm, port)
    }

    /// A new machine and a token for it.
    pub(crate) async fn machine_and_token(&self) -> (Vm, u16, String) {
        let (vm, port) = self.machine();
        let token = self.authority.issue(&vm).await;
        (vm, port, token)
    }

    /// Asks for a console with these arguments of `os-getVNCConsoleVmware`.
    pub(crate) async fn issue(&self, vm: &Vm, arguments: Value) -> Answer {
        let path = format!("/v2.1/servers/{}/action", vm.instance_uuid);
        let action = json!({"os-getVNCConsoleVmware": arguments});
        let request = self.authority.request(Method::POST, &path).json(&action);
        Answer::of(request.send().await.expect("the console API answers")).await
    }

    /// The token in the answer to [`Self::issue`].
    pub(crate) fn token_of(answer: &Answer) -> &str {
        let url = answer.body["console"]["url"].as_str().expect("a URL");
        url.rsplit_once("token=").expect("a token in it").1
    }

    /// Asks what the filter asks.
    pub(crate) async fn check(&self, token: &str) -> Answer {
        self.authority.check(token).await
    }

    /// Asks what the console page asks.
    pub(crate) async fn status(&self, token: &str) -> Answer {
        self.authority.status(token).await
    }

    /// The machines of that name.
    pub(crate) async fn machines_named(&self, name: &str) -> Answer {
        let request = self.authority.request(Method::GET, "/v1/vms").query(&[("name", name)]);
        Answer::of(request.send().await.expect("the API answers")).await
    }

    /// The status of `/readyz`.
    pub(crate) async fn readiness(&self) -> u16 {
        self.authority.internal("/readyz").await.status().as_u16()
    }

    /// How many SOAP calls of `method` have had this `outcome`.
    pub(crate) async fn calls(&self, method: &str, outcome: &str) -> u64 {
        self.call_counts().await.get(&(method.to_owned(), outcome.to_owned())).copied().unwrap_or(0)
    }

    /// How many SOAP calls there have been of each method.
    pub(crate) async fn calls_by_method(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for ((method, _), count) in self.call_counts().await {
            *counts.entry(method).or_default() += count;
        }
        counts
    }

    /// The same by method and outcome.
    async fn call_counts(&self) -> BTreeMap<(String, String), u64> {
        let metrics = self.authority.metrics().await;
        let counts = metrics.lines().filter_map(|line| {
            let labels =
                line.strip_prefix(r#"vncgate_vcenter_calls_total{vcenter="vcenter-a","#)?;
            let (method, rest) = labels.strip_prefix("method=\"")?.split_once('"')?;
            let (outcome, count) = rest.strip_prefix(",outcome=\"")?.split_once("\"} ")?;
            let count = count.parse().expect("a count");
            Some(((method.to_owned(), outcome.to_owned()), count))
        });
        counts.collect()
    }
}
