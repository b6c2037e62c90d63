//! One cloud with its dashboard, which the tests share.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use vncgate_test_support::browser::Browser;
use vncgate_test_support::cloud::Cloud;
use vncgate_test_support::horizon::{Horizon, Options, WHOLE_PAGE};
use vncgate_test_support::keystone::REGION;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::workspace::{cached, checkout, free_address};

/// A cloud with its dashboards. Its parts end with the process.
pub(crate) struct Dashboard {
    pub(crate) cloud: Cloud,
    /// Unmodified, with its default settings.
    pub(crate) horizon: Horizon,
    /// The network service, whose pages may show no consoles.
    pub(crate) network: String,
    /// Has the panels of `openstack/`, in another catalog type.
    plugin: OnceCell<Horizon>,
    /// Where it listens.
    plugin_address: SocketAddr,
    /// Has the policies of `openstack/nova_policy.d`.
    restricted: OnceCell<Horizon>,
    _neutron: Process,
}

/// The catalog type of the panels, beside that of a nova.
const SERVICE_TYPE: &str = "vncgate";

/// A row of a table, by the headings of its columns.
pub(crate) type Row = BTreeMap<String, String>;

impl Dashboard {
    pub(crate) async fn shared() -> &'static Self {
        static DASHBOARD: OnceCell<Dashboard> = OnceCell::const_new();
        DASHBOARD.get_or_init(Self::start).await
    }

    /// A dashboard of a test's own.
    pub(crate) async fn start() -> Self {
        let (address, plugin_address) = (free_address(), free_address());
        let origins = [address, plugin_address].map(|address| format!("http://{address}"));
        let cloud = Cloud::start_with(|config| {
            config
                .with_console(&format!("embed_origins = {origins:?}"))
                .with("#power = []", "power = [\"admin\", \"member\"]")
                .with("#screenshot = []", "screenshot = [\"admin\", \"member\"]")
        })
        .await;
        let run = &cloud.gateway.run;
        let (neutron, network) = start_script(run, "neutron").await;
        cloud.keystone.create_endpoint("network", &network, REGION).await;
        let options = Options::default();
        let horizon = Horizon::start_at(address, run, &cloud.keystone, &options).await;
        let (plugin, restricted) = (OnceCell::new(), OnceCell::new());
        Self { cloud, horizon, network, plugin, plugin_address, restricted, _neutron: neutron }
    }

    /// The Horizon that has the panels.
    pub(crate) async fn plugin(&self) -> &Horizon {
        let start = async || {
            let Self { cloud, plugin_address, .. } = self;
            let url = format!("{}/v2.1", cloud.gateway.envoy.url());
            cloud.keystone.create_endpoint(SERVICE_TYPE, &url, REGION).await;
            let package = cached("vncgate-openstack", "./justw setup");
            let options = Options {
                enabled: vec![package.join("vncgate_dashboard/enabled")],
                packages: vec![package],
                static_files: Some(cached("vncgate-openstack.static", "./justw setup")),
                ..Options::default()
            };
            let (run, keystone) = (&cloud.gateway.run, &cloud.keystone);
            Horizon::start_at(*plugin_address, run, keystone, &options).await
        };
        self.plugin.get_or_init(start).await
    }

    /// The Horizon that hides what a gateway of consoles does not do.
    pub(crate) async fn restricted(&self) -> &Horizon {
        let start = async || {
            let policies = vec![checkout().join("openstack/nova_policy.d")];
            let options = Options { policies, ..Options::default() };
            let (run, keystone) = (&self.cloud.gateway.run, &self.cloud.keystone);
            Horizon::start_at(free_address(), run, keystone, &options).await
        };
        self.restricted.get_or_init(start).await
    }

    /// A browser in which this user is logged in.
    pub(crate) async fn browser_of(&self, user: &str) -> Browser {
        self.browser_at(&self.horizon, user).await
    }

    /// The same in another of the Horizons.
    pub(crate) async fn browser_at(&self, horizon: &Horizon, user: &str) -> Browser {
        static BROWSERS: AtomicUsize = AtomicUsize::new(0);
        let profile = format!("chromium-{}", BROWSERS.fetch_add(1, Ordering::Relaxed));
        let browser = Browser::start_with(&self.cloud.gateway, &profile).await;
        horizon.log_in(&browser, user).await;
        browser
    }

    /// Opens a page, and fails if it complains.
    pub(crate) async fn open(&self, browser: &Browser, path: &str) {
        open(&self.horizon, browser, path).await;
    }
}

/// Opens a page of a Horizon, and fails if it complains.
pub(crate) async fn open(horizon: &Horizon, browser: &Browser, path: &str) {
    horizon.open(browser, path).await;
    let complaints = Horizon::complaints(browser).await;
    assert!(complaints.is_empty(), "{path}: {complaints:?}");
}

/// Starts a script of `tests/openstack` that stands in for a service. Returns its address, too.
pub(crate) async fn start_script(run: &Run, name: &str) -> (Process, String) {
    let address = free_address();
    let mut command = Command::new("python3");
    command.arg(checkout().join(format!("tests/openstack/{name}.py")));
    command.arg(address.port().to_string());
    let mut process = Process::start(run, name, &command);
    process.ready(async || TcpStream::connect(address).await.ok()).await;
    (process, format!("http://{address}"))
}

/// The table of machines on the page, from top to bottom.
pub(crate) async fn rows(browser: &Browser) -> Vec<Row> {
    let rows = browser
        .script(
            "const table = document.querySelector('#instances');
             const headings = [...table.querySelectorAll('tr.table_column_header th, thead tr:last-child th')]
                 .map(heading => heading.innerText.trim().replace(/\\s+/g, ' '));
             return [...table.querySelectorAll('tbody tr[data-object-id]')].map(row => Object.fromEntries(
                 [...row.cells].map((cell, at) => [headings[at] ?? '', cell.innerText.trim()])));",
        )
        .await;
    serde_json::from_value(rows).expect("rows of texts")
}

/// The names in the table of machines.
pub(crate) async fn names(browser: &Browser) -> Vec<String> {
    let name = |row: Row| row.get("Instance Name").or(row.get("Name")).cloned();
    rows(browser).await.into_iter().map(|row| name(row).expect("a column of names")).collect()
}

/// Filters the table of machines by the choice with this value.
pub(crate) async fn filter(browser: &Browser, field: &str, text: &str) {
    let script = format!(
        "const field = document.querySelector('select[name$=__q_field]');
         field.value = {};
         document.querySelector('input[name$=__q]').value = {};
         document.body.dataset.left = 'soon';
         document.querySelector('.table_search button[type=submit]').click();
         return field.value;",
        json!(field),
        json!(text),
    );
    assert_eq!(browser.script(&script).await, Value::from(field), "Horizon has this filter");
    new_page(browser).await;
}

/// How many changes of a machine's power the authority has logged as accepted.
pub(crate) fn power_changes(dashboard: &Dashboard, vm: &Vm) -> usize {
    let log = dashboard.cloud.gateway.authority.log();
    let accepted =
        |line: &&str| line.contains("power change accepted") && line.contains(&vm.instance_uuid);
    log.lines().filter(accepted).count()
}

/// Presses a button in a machine's row of this table, and confirms it if Horizon asks. Returns what it asked; empty if nothing.
pub(crate) async fn press(browser: &Browser, table: &str, action: &str, machine: &str) -> String {
    let script = format!(
        "const button = document.querySelector('button[name=action][value=\"{table}__{action}__{machine}\"]');
         document.body.dataset.left = 'soon';
         button.click();
         return button.classList.contains('btn-danger');"
    );
    let asks = browser.script(&script).await == true;
    let mut question = String::new();
    if asks {
        let shown = "return [...document.querySelectorAll('.modal.in .modal-footer .btn-danger')].length === 1";
        browser.page_shows("Horizon's question", shown).await;
        let script = "const dialog = document.querySelector('.modal.in');
             const text = dialog.innerText;
             dialog.querySelector('.modal-footer .btn-danger').click();
             return text;";
        question = browser.script(script).await.as_str().expect("a text").to_owned();
    }
    new_page(browser).await;
    question
}

/// Follows the link of the table with this text.
pub(crate) async fn follow(browser: &Browser, text: &str) {
    let script = format!(
        "document.body.dataset.left = 'soon';
         [...document.querySelectorAll('#instances a')].find(link => link.innerText.includes({})).click();",
        json!(text),
    );
    browser.script(&script).await;
    new_page(browser).await;
}

async fn new_page(browser: &Browser) {
    browser.page_shows("the next page", WHOLE_PAGE).await;
}
