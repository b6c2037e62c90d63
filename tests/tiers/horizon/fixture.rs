//! One cloud with its dashboard, which the tests share.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use vncgate_test_support::browser::Browser;
use vncgate_test_support::cloud::Cloud;
use vncgate_test_support::horizon::{Horizon, Options, WHOLE_PAGE};
use vncgate_test_support::keystone::REGION;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::workspace::{checkout, free_address};

/// A cloud with its dashboard. Its parts end with the process.
pub(crate) struct Dashboard {
    pub(crate) cloud: Cloud,
    pub(crate) horizon: Horizon,
    /// The network service, whose pages may show no consoles.
    pub(crate) network: String,
    _neutron: Process,
}

/// A row of a table, by the headings of its columns.
pub(crate) type Row = BTreeMap<String, String>;

impl Dashboard {
    pub(crate) async fn shared() -> &'static Self {
        static DASHBOARD: OnceCell<Dashboard> = OnceCell::const_new();
        DASHBOARD.get_or_init(|| Self::start_with(Options::default())).await
    }

    /// A dashboard of a test's own.
    pub(crate) async fn start_with(options: Options) -> Self {
        let address = free_address();
        let origin = format!("embed_origins = [\"http://{address}\"]");
        let cloud = Cloud::start_with(|config| config.with_console(&origin)).await;
        let run = &cloud.gateway.run;
        let (neutron, network) = start_script(run, "neutron").await;
        cloud.keystone.create_endpoint("network", &network, REGION).await;
        let horizon = Horizon::start_at(address, run, &cloud.keystone, &options).await;
        Self { cloud, horizon, network, _neutron: neutron }
    }

    /// A browser in which this user is logged in.
    pub(crate) async fn browser_of(&self, user: &str) -> Browser {
        static BROWSERS: AtomicUsize = AtomicUsize::new(0);
        let profile = format!("chromium-{}", BROWSERS.fetch_add(1, Ordering::Relaxed));
        let browser = Browser::start_with(&self.cloud.gateway, &profile).await;
        self.horizon.log_in(&browser, user).await;
        browser
    }

    /// Opens a page, and fails if it complains.
    pub(crate) async fn open(&self, browser: &Browser, path: &str) {
        self.horizon.open(browser, path).await;
        let complaints = Horizon::complaints(browser).await;
        assert!(complaints.is_empty(), "{path}: {complaints:?}");
    }
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
