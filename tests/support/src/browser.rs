//! A person at a browser: headless Chromium, Firefox or WebKitGTK, driven over WebDriver, and eyes for what it shows.

mod vga;

pub use vga::TextScreen;

use crate::gateway::Gateway;
use crate::process::{Process, Run};
use crate::wait::{LIMIT, until, until_within};
use crate::workspace::{cached, checkout, free_address};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;

/// The folder of a run in which the browser keeps its profile.
pub const PROFILE: &str = "chromium-profile";

/// What a person may have, by its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Debian's Chromium, with extensions of WebDriver that the others lack: [`Browser::devtools`],
    /// [`Browser::console_log`].
    Chromium,
    /// Debian's Firefox ESR.
    Firefox,
    /// WebKitGTK's MiniBrowser, on a display of its own.
    WebKit,
}

/// A browser with one empty profile and one tab.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    engine: Engine,
    /// The driver first, then what it drives.
    _processes: Vec<Process>,
}

impl Browser {
    /// Starts Chromium. It accepts the certificate of this gateway's Envoy and no other unknown one.
    pub async fn start(gateway: &Gateway) -> Self {
        Self::start_with(gateway, PROFILE).await
    }

    /// The same beside others of the same gateway, with a profile in a folder of its own.
    pub async fn start_with(gateway: &Gateway, profile: &str) -> Self {
        Self::start_chromium(&gateway.run, gateway, profile).await
    }

    /// The same with its files in another run than the gateway's.
    pub async fn start_in(run: &Run, gateway: &Gateway) -> Self {
        Self::start_chromium(run, gateway, PROFILE).await
    }

    async fn start_chromium(run: &Run, gateway: &Gateway, profile: &str) -> Self {
        let key = gateway.run.path("envoy.key");
        let (chromium, debugger) = start_chromium(run, &key, profile).await;
        let (chromedriver, webdriver) = start_chromedriver(run).await;
        let capabilities = json!({
            "goog:chromeOptions": {"debuggerAddress": debugger.to_string()},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let processes = vec![chromedriver, chromium];
        Self::attach(Engine::Chromium, webdriver, capabilities, processes).await
    }

    /// Starts a browser of this kind.
    ///
    /// The browser, or the display that it is on, is our child and not the driver's, so that it cannot outlive the tests.
    pub async fn start_engine(gateway: &Gateway, engine: Engine) -> Self {
        let run = &gateway.run;
        let (processes, webdriver, capabilities) = match engine {
            Engine::Chromium => return Self::start(gateway).await,
            Engine::Firefox => {
                let (firefox, marionette) = start_firefox(run).await;
                let (geckodriver, webdriver) = start_geckodriver(run, marionette).await;
                (vec![geckodriver, firefox], webdriver, json!({"acceptInsecureCerts": true}))
            }
            Engine::WebKit => {
                let (display, number) = start_display(run).await;
                let (driver, webdriver) = start_webkit_driver(run, number).await;
                let options = json!({"binary": mini_browser(), "args": ["--automation"]});
                let capabilities = json!({
                    "acceptInsecureCerts": true, "webkitgtk:browserOptions": options
                });
                (vec![driver, display], webdriver, capabilities)
            }
        };
        Self::attach(engine, webdriver, capabilities, processes).await
    }

    async fn attach(
        engine: Engine,
        webdriver: SocketAddr,
        capabilities: Value,
        processes: Vec<Process>,
    ) -> Self {
        let capabilities: Capabilities =
            serde_json::from_value(capabilities).expect("capabilities are an object");
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{webdriver}/"))
            .await
            .unwrap_or_else(|error| panic!("a session with {engine:?}: {error}"));
        Self { client, engine, _processes: processes }
    }

    /// Opens a URL in the tab.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("open a page");
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.client.refresh().await.expect("reload the page");
    }

    /// The address bar.
    pub async fn address_bar(&self) -> String {
        self.client.current_url().await.expect("the page's URL").to_string()
    }

    /// The title of the tab.
    pub async fn title(&self) -> String {
        self.client.title().await.expect("the page's title")
    }

    /// Presses the button (or any element) with this `id`.
    pub async fn click(&self, id: &str) {
        let element = self.client.find(Locator::Id(id)).await.expect("an element to click");
        element.click().await.unwrap_or_else(|error| panic!("click #{id}: {error}"));
    }

    /// Types into the element with this `id`.
    pub async fn type_into(&self, id: &str, text: &str) {
        let element = self.client.find(Locator::Id(id)).await.expect("an element to type into");
        element.send_keys(text).await.unwrap_or_else(|error| panic!("type into #{id}: {error}"));
    }

    /// Types into whatever has the keyboard focus, with Shift where a US keyboard needs it.
    pub async fn type_keys(&self, text: &str) {
        if self.engine != Engine::Chromium {
            // Their drivers press no Shift for an element.
            self.client.perform_actions(presses(text)).await.expect("type");
            return;
        }
        let focused = self.client.active_element().await.expect("a focused element");
        focused.send_keys(text).await.expect("type");
    }

    /// Looks at another tab, so that the page is hidden, and at the page again.
    pub async fn look_away_and_back(&self) {
        let page = self.client.window().await.expect("the page's tab");
        let other = self.client.new_window(true).await.expect("another tab").handle;
        self.client.switch_to_window(other).await.expect("look at the other tab");
        self.client.close_window().await.expect("close the other tab");
        self.client.switch_to_window(page).await.expect("look at the page");
    }

    /// Looks at the page in the only frame of the page from now on, as [`Self::script`] and others do.
    pub async fn enter_frame(&self) {
        self.client.clone().enter_frame(0).await.expect("a frame in the page");
    }

    /// Looks at the page itself again.
    pub async fn leave_frame(&self) {
        self.client.clone().enter_parent_frame().await.expect("the page around the frame");
    }

    /// The text that a person sees in the element with this `id`; empty when it is hidden.
    pub async fn text(&self, id: &str) -> String {
        let element = self.client.find(Locator::Id(id)).await.expect("an element with a text");
        element.text().await.expect("the element's text")
    }

    /// Runs the body of a JavaScript function in the page and returns what it returns.
    pub async fn script(&self, body: &str) -> Value {
        self.client.execute(body, Vec::new()).await.expect("run a script in the page")
    }

    /// Runs the body of an asynchronous function with arguments, and returns what it returns.
    pub async fn script_with(&self, body: &str, arguments: Vec<Value>) -> Value {
        let body = format!("return (async function () {{ {body} }}).apply(null, arguments)");
        self.client.execute(&body, arguments).await.expect("run a script in the page")
    }

    /// Chooses a value of a list.
    pub async fn choose(&self, id: &str, value: &str) {
        let body = "const list = document.getElementById(arguments[0]);
             list.value = arguments[1];
             list.dispatchEvent(new Event('change'));
             return list.value === arguments[1];";
        let chosen = self.script_with(body, vec![id.into(), value.into()]).await;
        assert_eq!(chosen, true, "#{id} has no {value}");
    }

    /// Sends a command of the DevTools protocol to the tab and returns its answer.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let command = DevTools(json!({"cmd": command, "params": parameters}));
        self.client.issue_cmd(command).await.expect("a command of the DevTools protocol")
    }

    /// Runs a script in each page that is opened from now on, before the page's own.
    pub async fn before_each_page(&self, script: &str) {
        let script = json!({"source": script});
        self.devtools("Page.addScriptToEvaluateOnNewDocument", script).await;
    }

    /// Puts text where the keyboard focus is, at once, as from the clipboard.
    pub async fn insert_text(&self, text: &str) {
        self.devtools("Input.insertText", json!({"text": text})).await;
    }

    /// What noVNC's canvas shows, as a text screen; `None` while there is no picture.
    pub async fn console_screen(&self) -> Option<TextScreen> {
        let data_url = self
            .script(
                "const canvas = document.querySelector('canvas:not([style*=fixed])');
                 return canvas?.width ? canvas.toDataURL('image/png') : null;",
            )
            .await;
        let base64 = data_url.as_str()?.strip_prefix("data:image/png;base64,").expect("a PNG");
        let png = BASE64_STANDARD.decode(base64).expect("base64 from the browser");
        Some(TextScreen::read(&png))
    }

    /// Waits until the canvas shows a text screen that fulfils `condition`.
    ///
    /// # Panics
    ///
    /// With the text that it shows instead, after [`LIMIT`].
    pub async fn screen_shows(
        &self,
        what: &str,
        condition: impl Fn(&TextScreen) -> bool,
    ) -> TextScreen {
        let mut last = None;
        let deadline = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < deadline {
            last = self.console_screen().await;
            if let Some(screen) = last.take_if(|screen| condition(screen)) {
                return screen;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the screen does not show {what}:\n{}", last.map_or_else(String::new, |s| s.text()));
    }

    /// Waits until a script of the page returns `true`.
    pub async fn page_shows(&self, what: &str, script: &str) {
        until(what, async || self.script(script).await == true).await;
    }

    /// The same, for what takes longer than [`LIMIT`].
    pub async fn page_shows_within(&self, what: &str, limit: Duration, script: &str) {
        let shown = async || (self.script(script).await == true).then_some(());
        until_within(what, limit, shown).await;
    }

    /// What the page and the browser have written to the JavaScript console since the last call: errors,
    /// failed requests and violations of the page's content security policy.
    pub async fn console_log(&self) -> Vec<String> {
        let entries = self.client.issue_cmd(&BrowserLog).await.expect("the browser's log");
        let entries = entries.as_array().expect("a list of log entries");
        entries
            .iter()
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Keeps a picture of the page as `.run/screenshots/NAME.png` in the checkout.
    pub async fn keep_screenshot(&self, name: &str) -> PathBuf {
        let png = self.client.screenshot().await.expect("a screenshot");
        let directory = checkout().join(".run/screenshots");
        fs::create_dir_all(&directory).expect("make .run/screenshots/");
        let path = directory.join(format!("{name}.png"));
        fs::write(&path, png).expect("write the screenshot");
        path
    }
}

/// The presses of keys that type a text on a US keyboard.
fn presses(text: &str) -> KeyActions {
    const SHIFT: char = '\u{e008}';
    let mut keys = KeyActions::new("keyboard".to_owned());
    for value in text.chars() {
        let shifted = value.is_ascii_uppercase() || "~!@#$%^&*()_+{}|:\"<>?".contains(value);
        if shifted {
            keys = keys.then(KeyAction::Down { value: SHIFT });
        }
        keys = keys.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        if shifted {
            keys = keys.then(KeyAction::Up { value: SHIFT });
        }
    }
    keys
}

/// `chromedriver`'s extension of WebDriver that reads the JavaScript console.
#[derive(Debug)]
struct BrowserLog;

impl WebDriverCompatibleCommand for BrowserLog {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/se/log", session.expect("a session")))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

/// `chromedriver`'s extension of WebDriver that speaks the DevTools protocol.
#[derive(Debug)]
struct DevTools(Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session.expect("a session")))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

async fn start_chromium(run: &Run, key: &Path, profile: &str) -> (Process, SocketAddr) {
    let debugger = free_address();
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        // Nothing but the pages that tests open.
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--disable-quic", "--disable-extensions"])
        .arg("--window-size=1100,760")
        .arg(format!("--remote-debugging-port={}", debugger.port()))
        .arg(format!("--user-data-dir={}", run.path(profile).display()))
        .arg(format!("--ignore-certificate-errors-spki-list={}", public_key_hash(key)))
        .arg("about:blank");
    (start(run, "chromium", &command, debugger).await, debugger)
}

async fn start_chromedriver(run: &Run) -> (Process, SocketAddr) {
    let webdriver = free_address();
    let mut command = Command::new("chromedriver");
    command.arg(format!("--port={}", webdriver.port()));
    (start(run, "chromedriver", &command, webdriver).await, webdriver)
}

/// Firefox, which its driver finds at the port that its profile has.
async fn start_firefox(run: &Run) -> (Process, SocketAddr) {
    let marionette = free_address();
    let profile = run.path("firefox-profile");
    fs::create_dir_all(&profile).expect("make a profile");
    let preferences = format!(
        "user_pref(\"marionette.port\", {});\n\
         user_pref(\"datareporting.policy.dataSubmissionEnabled\", false);\n\
         user_pref(\"app.normandy.enabled\", false);\n\
         user_pref(\"network.captive-portal-service.enabled\", false);\n\
         user_pref(\"network.connectivity-service.enabled\", false);\n",
        marionette.port()
    );
    fs::write(profile.join("user.js"), preferences).expect("write the preferences");
    let mut command = Command::new("firefox-esr");
    command
        .args(["--headless", "--marionette", "--no-remote", "--width", "1100", "--height", "760"])
        .arg("--profile")
        .arg(profile)
        .arg("about:blank")
        .env("MOZ_CRASHREPORTER_DISABLE", "1");
    (start(run, "firefox-esr", &command, marionette).await, marionette)
}

async fn start_geckodriver(run: &Run, marionette: SocketAddr) -> (Process, SocketAddr) {
    let webdriver = free_address();
    let program = cached("geckodriver/bin/geckodriver", "./justw test-browser");
    let mut command = Command::new(program);
    command
        .arg(format!("--port={}", webdriver.port()))
        .arg("--connect-existing")
        .arg(format!("--marionette-port={}", marionette.port()));
    let mut process = Process::start(run, "geckodriver", &command);
    process.ready(async || TcpStream::connect(webdriver).await.ok()).await;
    (process, webdriver)
}

/// An X server without a screen, and its number.
async fn start_display(run: &Run) -> (Process, u16) {
    // As unlikely taken as the port that it comes from.
    let number = free_address().port();
    let mut command = Command::new("Xvfb");
    command.arg(format!(":{number}")).args(["-screen", "0", "1100x760x24", "-nolisten", "tcp"]);
    let mut process = Process::start(run, "Xvfb", &command);
    let socket = PathBuf::from(format!("/tmp/.X11-unix/X{number}"));
    process.ready(async || socket.exists().then_some(())).await;
    (process, number)
}

async fn start_webkit_driver(run: &Run, display: u16) -> (Process, SocketAddr) {
    let webdriver = free_address();
    let mut command = Command::new("WebKitWebDriver");
    command
        .arg(format!("--port={}", webdriver.port()))
        .env("DISPLAY", format!(":{display}"))
        .env("XDG_DATA_HOME", run.path("webkit-data"))
        .env("XDG_CACHE_HOME", run.path("webkit-cache"))
        // There is no session bus, and no graphics card.
        .env("GTK_A11Y", "none")
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1");
    (start(run, "WebKitWebDriver", &command, webdriver).await, webdriver)
}

/// WebKitGTK's browser, in the folder of the machine's architecture.
fn mini_browser() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").filter_map(Result::ok);
    folders
        .map(|folder| folder.path().join("webkit2gtk-4.1/MiniBrowser"))
        .find(|browser| browser.is_file())
        .expect("MiniBrowser is missing: run `./justw test-browser`")
}

/// Starts a server and waits until it listens at `address`.
async fn start(run: &Run, program: &str, command: &Command, address: SocketAddr) -> Process {
    let installed = Command::new(program).arg("--version").output().is_ok();
    assert!(installed, "{program} is missing: run `./justw setup`");
    let mut process = Process::start(run, program, command);
    process.ready(async || TcpStream::connect(address).await.ok()).await;
    process
}

/// SHA-256 of a key pair's SubjectPublicKeyInfo in base64, by which Chromium knows an exempt certificate.
fn public_key_hash(key: &Path) -> String {
    let pem = fs::read_to_string(key).expect("read Envoy's key");
    let key = KeyPair::from_pem(&pem).expect("a PKCS#8 key");
    BASE64_STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
}
