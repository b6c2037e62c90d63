//! A person opens consoles in a real browser, on the whole path: Chromium, Envoy with the filter, the
//! authority, a simulated vCenter, and a guest with a screen and a keyboard.
//!
//! Each test keeps a picture of what the person saw at its end in `.run/screenshots/`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vncgate_test_support::authority::Config;
use vncgate_test_support::browser::{Browser, PAGE_LIMIT, TextScreen};
use vncgate_test_support::console_api::Console;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::until;
use vncgate_test_support::screen::{Qemu, TcpServer};
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::webmks::WITHOUT_VNC;
use vncgate_test_support::workspace::free_port;

/// Where the guest of `tests/guest/boot.S` echoes the first line that is typed.
const TYPED_ROW: usize = 4;

/// Envoy writes its access log once a second.
const LOG_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn the_url_of_the_console_api_shows_the_screen_and_takes_keys() {
    let desk = Desk::new("browser-screen").await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;

    let screen = browser.screen_shows("the guest's banner", shows_banner).await;
    assert_eq!(screen.size(), (720, 400));
    let ground = screen.pixel(700, 40);
    assert!(matches!(ground, [0, 0, 0xa0..=0xaf]), "the banner's blue ground: {ground:?}");
    assert_eq!(browser.title().await, "build-agent-07 – console");
    assert_eq!(browser.text("name").await, "build-agent-07");
    assert_eq!(browser.text("power").await, "powered on");
    assert_eq!(browser.text("state").await, "Connected");

    browser.type_keys("Hello, ESXi!").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "Hello, ESXi!").await;

    browser.keep_screenshot("screen").await;
    assert_eq!(browser.console_log().await, [""; 0], "errors or policy violations in the browser");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_host_has_no_vnc_shows_its_screen_and_takes_keys() {
    let (gateway, esxi) = Gateway::start_webmks("browser-webmks", |config| config).await;
    let host = ESXI_HOSTS[0];
    esxi.add_host(&gateway.vcenter, host, WITHOUT_VNC).await;
    let address = SocketAddr::new(host, free_port(host));
    let guest = Qemu::start(&gateway.run, address).await;
    let name = "build-agent-08";
    let vm = esxi.create_vm(&gateway.vcenter, name, &host.to_string(), address).await;
    let desk = Desk::with_machine(gateway, vm, Some(guest)).await;
    shows_and_types(&desk).await;
    assert_eq!(desk.browser.title().await, "build-agent-08 – console");
    assert_eq!(esxi.consoles(&desk.vm).await, 1);
    desk.browser.keep_screenshot("webmks").await;

    desk.browser.click("connection").await;
    phase(&desk.browser, "ended").await;
    let closed = async || (esxi.consoles(&desk.vm).await == 0).then_some(());
    until("the console is closed at its host", LOG_LIMIT, closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_that_the_console_service_lacks_is_named() {
    let (gateway, esxi) = Gateway::start_webmks("browser-denied", |config| config).await;
    let host = ESXI_HOSTS[0];
    esxi.add_host(&gateway.vcenter, host, WITHOUT_VNC).await;
    let vm = gateway.vcenter.create_vm_without_vnc("build-agent-11", &host.to_string());
    gateway.vcenter.deny(&vm.name);
    let desk = Desk::with_machine(gateway, vm, None).await;
    desk.browser.open(&desk.console.url).await;
    let privilege = "VirtualMachine.Interact.ConsoleInteract";
    refused(&desk.browser, "permission_denied", privilege).await;
    desk.browser.keep_screenshot("permission-denied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_s_vnc_password_is_asked_of_nobody() {
    const PASSWORD: &str = "g3heim!x";
    let gateway = Gateway::start("browser-password").await;
    let address = SocketAddr::new(ESXI_HOSTS[0], free_port(ESXI_HOSTS[0]));
    let guest = Qemu::start_with_password(&gateway.run, address, PASSWORD).await;
    let vm = gateway.vcenter.create_vm("build-agent-09", address.ip(), address.port());
    gateway.vcenter.set_extra_config(&vm.name, "RemoteDisplay.vnc.password", PASSWORD);
    let desk = Desk::with_machine(gateway, vm, Some(guest)).await;
    shows_and_types(&desk).await;
    desk.browser.keep_screenshot("password").await;

    let page = desk.browser.script("return document.documentElement.outerHTML").await.to_string();
    let console = &desk.console;
    let status = desk.gateway.authority.status(&console.token).await.body.to_string();
    for (place, text) in [
        ("the page", page),
        ("the status", status),
        ("the URL", console.url.clone()),
        ("Envoy's log", desk.gateway.envoy.log()),
        ("the authority's log", desk.gateway.authority.log()),
    ] {
        assert!(!text.contains(PASSWORD), "the password is in {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_vnc_was_off_a_moment_before_shows_its_screen() {
    let address = SocketAddr::new(ESXI_HOSTS[0], free_port(ESXI_HOSTS[0]));
    // One port, since nothing starts a VNC server where the authority says so.
    let ports = format!("ports = \"{0}-{0}\"", address.port());
    let enable_vnc = |config: Config| {
        config
            .with("#[vcenter.enable_vnc]", "[vcenter.enable_vnc]")
            .with("#ports = \"5900-6105\"", &ports)
            .with("#password = true", "password = false")
    };
    let gateway = Gateway::start_with("browser-vnc-off", enable_vnc, &[]).await;
    let guest = Qemu::start(&gateway.run, address).await;
    let host = ESXI_HOSTS[0].to_string();
    let vm = gateway.vcenter.create_vm_without_vnc("build-agent-10", &host);
    let desk = Desk::with_machine(gateway, vm, Some(guest)).await;
    shows_and_types(&desk).await;
    desk.browser.keep_screenshot("vnc-off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_in_no_url_and_survives_a_reload() {
    let desk = Desk::new("browser-token").await;
    let browser = &desk.browser;
    let token = &desk.console.token;
    browser.open(&format!("{}&resize=off", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    assert_eq!(
        browser.address_bar().await,
        format!("{}/console.html#resize=off", desk.gateway.envoy.url())
    );
    let requests = browser
        .script(
            "return performance.getEntriesByType('resource').map((entry) => entry.name).join(' ')",
        )
        .await
        .to_string();
    assert!(requests.contains("/novnc/core/rfb.js"), "the page's requests: {requests}");
    assert!(!requests.contains(token), "the token is in a request's URL: {requests}");

    browser.reload().await;
    browser.screen_shows("the guest's banner after a reload", shows_banner).await;
    browser.click("connection").await;
    phase(browser, "ended").await;

    // Both sessions, ended, are in the access log; the token is in no log at all.
    until("two ended sessions in the access log", LOG_LIMIT, async || {
        let log = desk.gateway.envoy.access_log();
        let ended = log
            .iter()
            .filter(|line| line["path"] == "/websockify" && line["event"] == "DownstreamEnd");
        (ended.count() == 2).then_some(())
    })
    .await;
    assert!(!desk.gateway.envoy.log().contains(token), "the token is in Envoy's logs");
    assert!(!desk.gateway.authority.log().contains(token), "the token is in the authority's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_reaches_nothing_but_its_own_gateway() {
    let desk = Desk::new("browser-policy").await;
    let browser = &desk.browser;
    // The parameters that lead other noVNC pages to a server of the link's choice (CVE-2017-18635).
    let elsewhere = "host=127.0.0.9&port=1&path=elsewhere";
    browser.open(&desk.console.url.replace('#', &format!("?{elsewhere}#{elsewhere}&"))).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    let injected = browser
        .script(
            "const script = document.createElement('script');
             script.textContent = 'window.injected = true';
             document.head.append(script);
             fetch('https://127.0.0.9/').catch(() => {});
             return window.injected === true;",
        )
        .await;
    assert_eq!(injected, false, "an inline script ran");
    let log = browser.console_log().await;
    for directive in ["script-src", "connect-src"] {
        assert!(
            log.iter().any(|line| line.contains(directive)),
            "no violation of {directive}: {log:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pasted_text_arrives_as_keys() {
    let desk = Desk::open("browser-paste").await;
    let browser = &desk.browser;

    browser.click("paste").await;
    browser.type_keys("~Shift & \"Quotes\" {[|]} #1\nsecond line").await;
    browser.click("paste-type").await;
    let screen = browser
        .screen_shows("the pasted text", |screen| screen.row(TYPED_ROW + 1) == "second line")
        .await;
    assert_eq!(screen.row(TYPED_ROW), "~Shift & \"Quotes\" {[|]} #1");
    browser.keep_screenshot("paste").await;

    // The dialog closes, forgets the text, and the keyboard is the machine's again.
    let dialog = "return [document.getElementById('paste-dialog').open, \
                  document.getElementById('paste-text').value].join()";
    assert_eq!(browser.script(dialog).await, "false,");
    browser.type_keys(" more").await;
    browser
        .screen_shows("keys after the pasted text", |screen| screen.text().contains(" more"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_alt_del_restarts_the_guest() {
    let desk = Desk::open("browser-ctrl-alt-del").await;
    let browser = &desk.browser;
    browser.type_keys("before").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "before").await;

    browser.click("ctrl-alt-del").await;
    let restarted = |screen: &TextScreen| shows_banner(screen) && screen.row(TYPED_ROW).is_empty();
    browser.screen_shows("a fresh banner", restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn view_only_sends_no_keys() {
    let desk = Desk::new("browser-view-only").await;
    let browser = &desk.browser;
    browser.open(&format!("{}&view_only=true", desk.console.url)).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
    browser.type_keys("unsent").await;

    // What is typed after switching to full control shows that nothing came before it.
    browser.click("view-only").await;
    browser.script("document.querySelector('canvas').focus()").await;
    browser.type_keys("sent").await;
    browser
        .screen_shows("the keys of full control alone", |screen| screen.row(TYPED_ROW) == "sent")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_reaches_the_controls_and_the_scale_changes() {
    let desk = Desk::open("browser-controls").await;
    let browser = &desk.browser;
    const FILLS_THE_WINDOW: &str =
        "const canvas = document.querySelector('canvas').getBoundingClientRect();
         const screen = document.getElementById('screen').getBoundingClientRect();
         return Math.abs(canvas.width - screen.width) < 1
             || Math.abs(canvas.height - screen.height) < 1;";
    browser.page_shows("a screen that fits the window", FILLS_THE_WINDOW).await;

    // WebDriver's code points for Control and Alt; the keys are released at the end of the call.
    browser.type_keys("\u{e009}\u{e00a}").await;
    browser
        .page_shows(
            "the focus on a button after Ctrl+Alt",
            "return document.activeElement.id === 'fit'",
        )
        .await;

    browser.click("full-screen").await;
    browser.page_shows("full screen", "return document.fullscreenElement !== null").await;
    browser.click("full-screen").await;
    browser.page_shows("the window again", "return document.fullscreenElement === null").await;

    browser.click("fit").await;
    browser
        .page_shows(
            "the guest's own size",
            "return document.querySelector('canvas').getBoundingClientRect().width === 720",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_link_is_explained() {
    let desk = Desk::new("browser-dead-link").await;
    let browser = &desk.browser;
    let page = format!("{}/console.html", desk.gateway.envoy.url());

    for (url, code, advice) in [
        (page.clone(), "no_token", "copy the whole link"),
        (format!("{page}#token=not%20a%20token"), "no_token", "copy the whole link"),
        (
            format!("{page}#token=00000000-0000-4000-8000-000000000000"),
            "token_invalid",
            "makes a new one",
        ),
    ] {
        browser.open("about:blank").await;
        browser.open(&url).await;
        refused(browser, code, advice).await;
        assert_eq!(browser.text("notice-heading").await, "The console cannot be opened");
        assert_eq!(browser.text("reconnect").await, "", "no button that cannot help");
    }
    browser.keep_screenshot("token-invalid").await;

    // A good link pasted over a dead one, which changes the fragment alone.
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_ran_out_is_explained() {
    // The shortest life that the authority allows.
    let short = |config: Config| config.with("token_ttl = \"10m\"", "token_ttl = \"10s\"");
    let desk = Desk::with("browser-expired", short).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    tokio::time::sleep(Duration::from_secs(11)).await;
    browser.type_keys("still here").await;
    browser
        .screen_shows("a session that outlives its token", |s| s.row(TYPED_ROW) == "still here")
        .await;

    browser.reload().await;
    refused(browser, "token_invalid", "makes a new one").await;
    browser.keep_screenshot("token-expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_for_one_use_opens_one_console() {
    let single_use = |config: Config| {
        config.with("token_ttl = \"10m\"", "token_ttl = \"10m\"\nsingle_use = true")
    };
    let desk = Desk::with("browser-single-use", single_use).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    browser.screen_shows("the guest's banner", shows_banner).await;

    browser.reload().await;
    refused(browser, "token_invalid", "makes a new one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_moved_is_explained() {
    let desk = Desk::new("browser-moved").await;
    desk.gateway.vcenter.migrate(&desk.vm.name, ESXI_HOSTS[1]);

    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "console_moved", "makes a new one").await;
    desk.browser.keep_screenshot("console-moved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_that_ends_says_why_and_comes_back() {
    let mut desk = Desk::open("browser-power-cycle").await;
    let address = desk.guest.as_ref().expect("a guest").address();

    desk.gateway.vcenter.power_off(&desk.vm.name);
    desk.guest = None;
    refused(&desk.browser, "console_unavailable", "powered off").await;
    assert_eq!(desk.browser.text("notice-heading").await, "The console has ended");
    assert_eq!(desk.browser.text("power").await, "", "no power state of before");
    desk.browser.keep_screenshot("powered-off").await;

    desk.gateway.vcenter.power_on(&desk.vm.name);
    desk.guest = Some(Qemu::start(&desk.gateway.run, address).await);
    desk.browser.screen_shows("the banner again, without a click", shows_banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_server_that_is_away_is_explained() {
    let mut desk = Desk::open("browser-server-away").await;
    let address = desk.guest.as_ref().expect("a guest").address();
    desk.guest = None;
    // First the end of the session, then the attempts that nobody answers.
    refused(&desk.browser, "no_answer", "console port").await;
    desk.browser.keep_screenshot("no-answer").await;

    desk.guest = Some(Qemu::start(&desk.gateway.run, address).await);
    desk.browser.click("reconnect").await;
    desk.browser.screen_shows("the banner after a click", shows_banner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_console_server_is_given_up() {
    let server = VncScript::start(&[]).await;
    let desk = Desk::at("browser-silent", server.address()).await;
    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "no_answer", "console port").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_server_that_speaks_something_else_is_explained() {
    let server = VncScript::start(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    let desk = Desk::at("browser-not-vnc", server.address()).await;
    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "protocol_error", "administrator").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_server_that_refuses_is_explained() {
    // RFC 6143, 7.1.2: no security type, and why. Then: VNC authentication, and its challenge.
    let no_types: &[&[u8]] = &[RFB_VERSION, b"\0\0\0\0\x12Too many attempts."];
    let vnc_authentication: &[&[u8]] = &[RFB_VERSION, b"\x01\x02", b"the challenge..."];

    for (lines, code, shown) in [
        (no_types, "server_refused", "Too many attempts."),
        (vnc_authentication, "password_required", "password"),
    ] {
        let server = VncScript::start(lines).await;
        let desk = Desk::at("browser-refuses", server.address()).await;
        desk.browser.open(&desk.console.url).await;
        refused(&desk.browser, code, "administrator").await;
        assert!(desk.browser.text("notice").await.contains(shown));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pasted_text_may_go_to_the_clipboard() {
    let server = VncScript::start(RFB_SESSION).await;
    let desk = Desk::at("browser-clipboard", server.address()).await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;
    phase(browser, "connected").await;

    browser.click("paste").await;
    browser.type_keys("from the clipboard").await;
    browser.click("paste-clipboard").await;
    // RFC 6143, 7.5.6: ClientCutText.
    let message = b"\x06\0\0\0\0\0\0\x12from the clipboard";
    until("the text as ClientCutText", PAGE_LIMIT, async || {
        let heard = server.heard();
        heard.windows(message.len()).any(|bytes| bytes == message).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_disconnects_can_reconnect() {
    let desk = Desk::open("browser-reconnect").await;
    let browser = &desk.browser;
    browser.type_keys("kept").await;
    browser.screen_shows("what was typed", |screen| screen.row(TYPED_ROW) == "kept").await;

    browser.click("connection").await;
    refused(browser, "closed_by_user", "goes on running").await;
    assert!(browser.console_screen().await.is_none(), "a picture without a connection");

    browser.click("reconnect").await;
    browser.screen_shows("the same screen", |screen| screen.row(TYPED_ROW) == "kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vcenter_or_authority_that_is_down_is_explained() {
    let mut desk = Desk::new("browser-down").await;
    desk.gateway.vcenter.stop();
    desk.browser.open(&desk.console.url).await;
    refused(&desk.browser, "vcenter_unavailable", "vCenter is down").await;

    desk.gateway.authority.process().kill();
    desk.browser.click("reconnect").await;
    refused(&desk.browser, "authority_unavailable", "administrator").await;

    desk.gateway.envoy.process().kill();
    desk.browser.click("reconnect").await;
    refused(&desk.browser, "unreachable", "network connection").await;
    desk.browser.keep_screenshot("unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_novnc_pages_open_consoles() {
    let stock =
        |config: Config| config.with("[console]\n", "[console]\nweb = \"/usr/share/novnc\"\n");
    let desk = Desk::with("browser-stock", stock).await;
    let Desk { browser, gateway, console, .. } = &desk;
    let (site, token) = (gateway.envoy.url(), &console.token);
    let shown = async |url: String| {
        browser.open("about:blank").await;
        browser.open(&url).await;
        browser.screen_shows(&format!("the guest's banner on {url}"), shows_banner).await;
    };

    shown(format!("{site}/vnc_lite.html?path=websockify%3Ftoken%3D{token}")).await;
    browser.keep_screenshot("vnc-lite").await;
    shown(format!("{site}/vnc_lite.html?path=%3Ftoken%3D{token}")).await;
    shown(format!("{site}/vnc.html?autoconnect=true&path=websockify%3Ftoken%3D{token}")).await;
    browser.keep_screenshot("vnc").await;

    // The form of old: the page is opened with a cookie and knows nothing of tokens.
    browser.script(&format!("document.cookie = 'token={token}; Secure; SameSite=Strict'")).await;
    shown(format!("{site}/vnc_lite.html")).await;

    assert!(!gateway.envoy.log().contains(token.as_str()), "the token is in Envoy's logs");
}

/// A person with an open browser, a link to a machine's console, and the machine.
struct Desk {
    browser: Browser,
    console: Console,
    vm: Vm,
    guest: Option<Qemu>,
    gateway: Gateway,
}

impl Desk {
    async fn new(name: &str) -> Self {
        Self::with(name, |config| config).await
    }

    async fn with(name: &str, authority: impl FnOnce(Config) -> Config) -> Self {
        let gateway = Gateway::start_with(name, authority, &[]).await;
        let address = SocketAddr::new(ESXI_HOSTS[0], free_port(ESXI_HOSTS[0]));
        let guest = Qemu::start(&gateway.run, address).await;
        Self::furnish(gateway, address, Some(guest)).await
    }

    /// A machine whose console is at `address`, whoever listens there.
    async fn at(name: &str, address: SocketAddr) -> Self {
        Self::furnish(Gateway::start(name).await, address, None).await
    }

    async fn furnish(gateway: Gateway, address: SocketAddr, guest: Option<Qemu>) -> Self {
        let vm = gateway.vcenter.create_vm("build-agent-07", address.ip(), address.port());
        Self::with_machine(gateway, vm, guest).await
    }

    async fn with_machine(gateway: Gateway, vm: Vm, guest: Option<Qemu>) -> Self {
        let console = gateway.api().console(&vm).await;
        let browser = Browser::start(&gateway).await;
        Self { browser, console, vm, guest, gateway }
    }

    /// With the console open.
    async fn open(name: &str) -> Self {
        let desk = Self::new(name).await;
        desk.browser.open(&desk.console.url).await;
        desk.browser.screen_shows("the guest's banner", shows_banner).await;
        desk
    }
}

const RFB_VERSION: &[u8] = b"RFB 003.008\n";

/// What a VNC server says up to and with ServerInit (RFC 6143, 7.1 to 7.3.2): no authentication, and a
/// screen of 16 x 16 pixels that stays black.
const RFB_SESSION: &[&[u8]] = &[
    RFB_VERSION,
    b"\x01\x01",
    b"\0\0\0\0",
    b"\0\x10\0\x10\
      \x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\
      \0\0\0\x04test",
];

/// A VNC server that says its lines, each after hearing something to the one before, then listens.
struct VncScript {
    server: TcpServer,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl VncScript {
    async fn start(lines: &'static [&'static [u8]]) -> Self {
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let ears = Arc::clone(&heard);
        let server = TcpServer::start(ESXI_HOSTS[0], move |connection| {
            let ears = Arc::clone(&ears);
            // The browser may leave at any time.
            async move { perform(connection, lines, &ears).await.unwrap_or_default() }
        })
        .await;
        Self { server, heard }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What browsers have sent so far.
    fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("no panic while locked").clone()
    }
}

async fn perform(
    mut connection: TcpStream,
    lines: &[&[u8]],
    heard: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let mut lines = lines.iter();
    let mut chunk = [0; 1024];
    loop {
        if let Some(line) = lines.next() {
            connection.write_all(line).await?;
        }
        let read = connection.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        heard.lock().expect("no panic while locked").extend_from_slice(&chunk[..read]);
    }
}

/// Opens the console: the guest's screen is there, and shows what is typed.
async fn shows_and_types(desk: &Desk) {
    desk.browser.open(&desk.console.url).await;
    desk.browser.screen_shows("the guest's banner", shows_banner).await;
    desk.browser.type_keys("Hello, ESXi!").await;
    let typed = |screen: &TextScreen| screen.row(TYPED_ROW) == "Hello, ESXi!";
    desk.browser.screen_shows("what was typed", typed).await;
    assert_eq!(desk.browser.console_log().await, [""; 0], "errors in the browser");
}

fn shows_banner(screen: &TextScreen) -> bool {
    screen.row(Qemu::BANNER_ROW) == Qemu::BANNER
}

/// Waits for a phase of the session, as `session.js` names them.
async fn phase(browser: &Browser, phase: &str) {
    let script = format!("return document.getElementById('state').dataset.phase === '{phase}'");
    browser.page_shows(&format!("phase {phase}"), &script).await;
}

/// Waits until the page gives this reason with what to do next. All of it is read at one moment: between
/// two attempts to reconnect the page hides the notice.
async fn refused(browser: &Browser, code: &str, advice: &str) {
    let script = format!(
        "const text = (id) => document.getElementById(id).textContent;
         return document.body.dataset.reason === '{code}'
             && text('notice-code').startsWith('{code}')
             && text('notice-summary') !== ''
             && text('notice-advice').includes({advice:?});"
    );
    browser.page_shows(&format!("reason {code} with the advice {advice:?}"), &script).await;
}
