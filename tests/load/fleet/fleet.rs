//! All parts of a fleet, running on this machine.

use crate::Arguments;
use anyhow::Result;
use reqwest::Client;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;
use vncgate_load::metrics;
use vncgate_load::usage::allow_descriptors;
use vncgate_load::worker::{Shared, Worker};
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::{PASSWORD, USERNAME, Vcsim, Vm};

/// Machines of a host.
pub(crate) const ON_A_HOST: usize = 25;

/// Where console URLs lead. No browser follows them.
const GATEWAY: &str = "https://127.0.0.1:1";

/// All of it. Dropped in the order of the path.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) workers: Vec<Worker>,
    pub(crate) shared: Shared,
    pub(crate) authority: Authority,
    _store: Store,
    pub(crate) vcenters: Vec<Vcsim>,
    /// Machines of all vCenters, in turns.
    pub(crate) machines: Vec<Vm>,
    arguments: Arguments,
    _runs: Vec<Run>,
}

impl Fleet {
    /// Starts everything; the workers have no sessions yet.
    /// Fails when the machine has too few descriptors.
    /// Panics with its log when a part does not start.
    pub(crate) async fn start(arguments: Arguments) -> Result<Self> {
        allow_descriptors(8_192)?;
        let run = Run::new("fleet");
        let ca = Ca::new(&run);
        let password = run.write("fleet.password", PASSWORD);
        let mut runs = Vec::new();
        let mut vcenters = Vec::new();
        let mut machines = Vec::new();
        let mut blocks = String::new();
        for number in 0..arguments.vcenters {
            let own = Run::new(&format!("fleet-vcenter-{number}"));
            let vcenter = Vcsim::start(&own, &ca).await;
            let mut of_vcenter = Vec::new();
            for host in 0..arguments.hosts {
                let host = Ipv4Addr::new(127, 1 + number, 0, host);
                vcenter.add_host(host.into());
                of_vcenter.extend(vcenter.create_vms(&host.to_string(), ON_A_HOST).await);
            }
            eprintln!("vCenter {number} has {} machines", of_vcenter.len());
            machines.push(of_vcenter);
            if number > 0 {
                write!(
                    blocks,
                    "\n[[vcenter]]\nservice_host = \"vcenter-{number}\"\nurl = {:?}\nusername = {USERNAME:?}\n\
                     password_file = {password:?}\nca_file = {:?}\nvalidate = {:?}\n",
                    vcenter.url(),
                    ca.path(),
                    arguments.validate.as_str(),
                )?;
            }
            vcenters.push(vcenter);
            runs.push(own);
        }
        let store = Store::redis(&run).await;
        let config = Config::new(&run, &vcenters[0], GATEWAY)
            .with_store(&store)
            .with(r#"token_ttl = "10m""#, r#"token_ttl = "4h""#)
            .with("#tokens_per_caller = 5000", "tokens_per_caller = 1000000")
            .with(r#"#validate = "live""#, &format!("validate = {:?}", arguments.validate.as_str()))
            .with("\n[log]\n", &format!("{blocks}\n[log]\n"));
        let authority = Authority::start(&run, config).await;
        runs.push(run);
        let shared = Shared {
            http: Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(5)).build()?,
            internal: format!("http://{}", authority.config().internal()),
            orders: Rc::default(),
            users_are_active: Rc::default(),
        };
        // One vCenter's after the other's, so that none is asked more than the others.
        let per_vcenter = machines.first().map_or(0, Vec::len);
        let machines = (0..per_vcenter)
            .flat_map(|index| machines.iter().filter_map(move |of| of.get(index).cloned()))
            .collect();
        let mut fleet = Self {
            workers: Vec::new(),
            shared,
            authority,
            _store: store,
            vcenters,
            machines,
            arguments,
            _runs: runs,
        };
        fleet.start_workers();
        Ok(fleet)
    }

    /// Starts all workers, without sessions. Those that ran before are gone without a word.
    pub(crate) fn start_workers(&mut self) {
        let start = |number| Worker::start(format!("gateway-{number}"), self.shared.clone());
        self.workers = (0..self.arguments.workers).map(start).collect();
    }

    /// The value of a gauge or counter of the authority, summed over its labels; 0 before its first event.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        metrics::sum(&self.authority.metrics().await, name)
    }

    /// How many sessions the register has.
    pub(crate) async fn registered(&self) -> u32 {
        self.metric("vncgate_sessions").await as u32
    }
}
