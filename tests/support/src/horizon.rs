//! OpenStack's dashboard: an unmodified Horizon on Django's own server, over plain HTTP.

use crate::browser::Browser;
use crate::certificate::plain_http_client;
use crate::keystone::{Keystone, PASSWORD, installed};
use crate::process::{Process, Run};
use crate::workspace::{cached, checkout, free_address};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// A running Horizon.
#[derive(Debug)]
pub struct Horizon {
    process: Process,
    address: SocketAddr,
}

/// How a Horizon differs from the one that an operator gets by its installation guide.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where Python looks for packages before Horizon's own: those of plugins.
    pub packages: Vec<PathBuf>,
    /// Folders with the files that enable plugins (`openstack_dashboard/local/enabled`).
    pub enabled: Vec<PathBuf>,
    /// Scripts and styles, which `compress` has prepared for these plugins.
    pub static_files: Option<PathBuf>,
    /// Folders with more policies of the compute service (`POLICY_DIRS`).
    pub policies: Vec<PathBuf>,
}

impl Horizon {
    /// Starts Horizon for this Keystone's users, at a free address of `127.0.0.1`.
    pub async fn start(run: &Run, keystone: &Keystone) -> Self {
        Self::start_at(free_address(), run, keystone, &Options::default()).await
    }

    /// The same at an address that others know already, and with other options.
    pub async fn start_at(
        address: SocketAddr,
        run: &Run,
        keystone: &Keystone,
        options: &Options,
    ) -> Self {
        let mut command = Command::new("python3");
        // Horizon keeps a table's filter where all threads see it, so that one user's shows up in another's page.
        command.args(["-m", "django", "runserver", "--insecure", "--noreload", "--nothreading"]);
        command.arg(address.to_string());
        let own = [checkout().join("tests/openstack/horizon"), home(""), installed("")];
        let packages: Vec<_> = options.packages.iter().chain(&own).collect();
        let path = |list: &[&PathBuf]| std::env::join_paths(list).expect("no colon in a path");
        command
            .env("PYTHONPATH", path(&packages))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONWARNINGS", "ignore")
            .env("DJANGO_SETTINGS_MODULE", "openstack_dashboard.settings")
            .env("KEYSTONE_URL", keystone.url())
            .env("KEYSTONE_CA", run.path("ca.pem"))
            .env("HORIZON_FILES", run.path(""))
            .env("HORIZON_STATIC", options.static_files.clone().unwrap_or_else(|| home("static")));
        if !options.enabled.is_empty() {
            let enabled: Vec<_> = options.enabled.iter().collect();
            command.env("HORIZON_ENABLED", path(&enabled));
        }
        if !options.policies.is_empty() {
            let policies: Vec<_> = options.policies.iter().collect();
            command.env("HORIZON_POLICY", path(&policies));
        }
        let mut process = Process::start(run, "horizon", &command);
        let login = format!("http://{address}/auth/login/");
        let http = plain_http_client();
        let answers =
            async || http.get(&login).send().await.ok()?.status().is_success().then_some(());
        process.ready(answers).await;
        Self { process, address }
    }

    /// Its address, which is also the origin of its pages.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Logs a user in, who is then in their first project.
    pub async fn log_in(&self, browser: &Browser, user: &str) {
        browser.open(&format!("{}/auth/login/", self.url())).await;
        browser.type_into("id_username", user).await;
        browser.type_into("id_password", PASSWORD).await;
        browser.click("loginBtn").await;
        browser.page_shows("the user's name", &logged_in(user)).await;
    }

    /// Opens a page below Horizon's root, such as `/project/instances/`, and waits until all of it is there.
    pub async fn open(&self, browser: &Browser, path: &str) {
        browser.open(&format!("{}{path}", self.url())).await;
        browser.page_shows(&format!("all of {path}"), WHOLE_PAGE).await;
    }

    /// What the page complains of: its messages that are errors or warnings.
    pub async fn complaints(browser: &Browser) -> Vec<String> {
        let complaints = browser.script(COMPLAINTS).await;
        let complaints = complaints.as_array().expect("a list of messages").iter();
        complaints.map(|text| text.as_str().expect("a text").to_owned()).collect()
    }

    /// What Horizon has logged.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

/// The page is there, and the request for its header that it makes later was answered: that writes the session, and would
/// undo what the next page wrote.
pub const WHOLE_PAGE: &str =
    "return document.readyState === 'complete' && !document.body.dataset.left
    && !!document.querySelector('#content_body')
    && performance.getEntriesByType('resource').some(entry => entry.name.includes('/header/'));";

const COMPLAINTS: &str = "return [...document.querySelectorAll(
    '.alert-danger, .alert-error, .alert-warning')].map(alert => alert.innerText.trim());";

fn logged_in(user: &str) -> String {
    format!(
        "return document.readyState === 'complete'
            && !!document.querySelector('#content_body')
            && document.body.innerText.includes({user:?});"
    )
}

fn home(path: &str) -> PathBuf {
    cached(&format!("horizon/{path}"), "./justw setup")
}
