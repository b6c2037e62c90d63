//! One cloud with its dashboard, which the tests share.

use std::process::Command;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use vncgate_test_support::browser::Browser;
use vncgate_test_support::cloud::Cloud;
use vncgate_test_support::horizon::Horizon;
use vncgate_test_support::keystone::REGION;
use vncgate_test_support::process::Process;
use vncgate_test_support::workspace::{checkout, free_address};

/// A cloud with its dashboard. Its parts end with the process.
pub(crate) struct Dashboard {
    pub(crate) cloud: Cloud,
    pub(crate) horizon: Horizon,
    _neutron: Process,
}

impl Dashboard {
    pub(crate) async fn shared() -> &'static Self {
        static DASHBOARD: OnceCell<Dashboard> = OnceCell::const_new();
        DASHBOARD.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let cloud = Cloud::start().await;
        let run = &cloud.gateway.run;
        let network = free_address();
        let mut neutron = Command::new("python3");
        neutron.arg(checkout().join("tests/openstack/neutron.py")).arg(network.port().to_string());
        let mut neutron = Process::start(run, "neutron", &neutron);
        neutron.ready(async || TcpStream::connect(network).await.ok()).await;
        cloud.keystone.create_endpoint("network", &format!("http://{network}"), REGION).await;
        let horizon = Horizon::start(run, &cloud.keystone).await;
        Self { cloud, horizon, _neutron: neutron }
    }

    /// A browser in which this user is logged in.
    pub(crate) async fn browser_of(&self, user: &str) -> Browser {
        let browser = Browser::start(&self.cloud.gateway).await;
        self.horizon.log_in(&browser, user).await;
        browser
    }
}
