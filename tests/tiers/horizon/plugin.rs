//! The panels of `openstack/`, in a Horizon that has them.

use std::process::Command;
use tokio::net::TcpStream;
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::cloud::{ADMIN, Cloud, MEMBER};
use vncgate_test_support::horizon::{Horizon, Options};
use vncgate_test_support::keystone::REGION;
use vncgate_test_support::process::Process;
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::workspace::{cached, checkout, free_address};

const PROJECT: &str = "/project/vcenter_machines/";
const ADMINISTRATION: &str = "/admin/vcenter_machines/";

/// The catalog type of the panels, beside that of a nova.
const SERVICE_TYPE: &str = "vncgate";

/// A cloud whose dashboard has the panels.
struct Site {
    cloud: Cloud,
    horizon: Horizon,
    _neutron: Process,
}

impl Site {
    async fn start() -> Self {
        let cloud = Cloud::start_with(|config| {
            config
                .with("#power = []", "power = [\"admin\", \"member\"]")
                .with("#screenshot = []", "screenshot = [\"admin\", \"member\"]")
        })
        .await;
        let run = &cloud.gateway.run;
        let network = free_address();
        let mut neutron = Command::new("python3");
        neutron.arg(checkout().join("tests/openstack/neutron.py")).arg(network.port().to_string());
        let mut neutron = Process::start(run, "neutron", &neutron);
        neutron.ready(async || TcpStream::connect(network).await.ok()).await;
        cloud.keystone.create_endpoint("network", &format!("http://{network}"), REGION).await;
        let url = format!("{}/v2.1", cloud.gateway.envoy.url());
        cloud.keystone.create_endpoint(SERVICE_TYPE, &url, REGION).await;
        let package = cached("vncgate-openstack", "./justw setup");
        let enabled = vec![package.join("vncgate_dashboard/enabled")];
        let static_files = Some(cached("vncgate-openstack.static", "./justw setup"));
        let packages = vec![package];
        let options = Options { packages, enabled, static_files, ..Options::default() };
        let horizon = Horizon::start_at(free_address(), run, &cloud.keystone, &options).await;
        Self { cloud, horizon, _neutron: neutron }
    }

    async fn browser_of(&self, user: &str) -> Browser {
        let browser = Browser::start(&self.cloud.gateway).await;
        self.horizon.log_in(&browser, user).await;
        browser
    }

    /// Opens a panel, which has nothing to complain of.
    async fn open(&self, browser: &Browser, panel: &str) {
        self.horizon.open(browser, panel).await;
        assert_eq!(Horizon::complaints(browser).await, Vec::<String>::new());
    }
}

/// The texts of the table's cells in this column, from top to bottom.
async fn column(browser: &Browser, number: usize) -> Vec<String> {
    let script = format!(
        "return [...document.querySelectorAll('#vcenter_machines tbody tr[data-object-id]')]
            .map(row => row.cells[{number}].innerText.trim());"
    );
    let cells = browser.script(&script).await;
    let cells = cells.as_array().expect("a list").iter();
    cells.map(|cell| cell.as_str().expect("a text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_s_machines_are_listed_searched_seen_and_opened() {
    let site = Site::start().await;
    let (guest, _screen) = site.cloud.machine_with_guest("guest-1").await;
    let markup = "<b>bold</b>";
    let (odd, _other_screen) = site.cloud.machine_with_screen("odd-1").await;
    site.cloud.gateway.vcenter.govc(&["vm.change", "-vm", &odd.name, "-name", markup]);

    let browser = site.browser_of(MEMBER).await;
    site.open(&browser, PROJECT).await;
    assert_eq!(column(&browser, 1).await, [markup, "guest-1", "web-1"], "and no other project's");
    assert_eq!(column(&browser, 2).await, ["Active"; 3]);
    let seen = "const screens = [...document.querySelectorAll('img.vncgate-screen')];
        return screens.length === 3 && screens.every(screen => screen.naturalWidth === 720);";
    browser.page_shows("what each machine shows", seen).await;
    browser.keep_screenshot("horizon-plugin").await;

    let search = "document.querySelector('[name=vcenter_machines__filter__q]').value = 'uest-';
        document.getElementById('vcenter_machines__action_filter').click();";
    browser.script(search).await;
    let found = "return document.readyState === 'complete'
        && document.querySelectorAll('#vcenter_machines tbody tr[data-object-id]').length === 1;";
    browser.page_shows("what was searched for", found).await;
    assert_eq!(column(&browser, 1).await, ["guest-1"]);

    let id = &guest.instance_uuid;
    browser.open(&format!("{}{PROJECT}{id}/open", site.horizon.url())).await;
    let banner = |screen: &TextScreen| screen.row(Qemu::BANNER_ROW) == Qemu::BANNER;
    browser.screen_shows("the guest's banner", banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_the_machines_of_all_projects_with_their_vcenter() {
    let site = Site::start().await;
    let browser = site.browser_of(ADMIN).await;
    site.open(&browser, ADMINISTRATION).await;
    assert_eq!(column(&browser, 1).await, ["other-1", "web-1"]);
    assert_eq!(column(&browser, 3).await, ["vcenter-a"; 2]);
    browser.keep_screenshot("horizon-plugin-admin").await;
}
