//! What consoles show, and that keys reach the machine: VNC and WebMKS, with a password, on the stock noVNC pages.

use crate::fixture::{Desk, TYPED_ROW, phase, shows_and_types, shows_banner};
use vncgate_test_support::authority::Config;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::wait::until_some;
use vncgate_test_support::webmks::WITHOUT_VNC;
use vncgate_test_support::workspace::free_address_of;

#[tokio::test(flavor = "multi_thread")]
async fn the_url_of_the_console_api_shows_the_screen_and_takes_keys() {
    let desk = Desk::new("browser-screen").await;
    let browser = &desk.browser;
    browser.open(&desk.console.url).await;

    let screen = browser.screen_shows("the guest's banner", shows_banner).await;
    assert_eq!(screen.size(), (720, 400));
    let ground = screen.pixel(700, 40);
    assert!(matches!(ground, [0, 0, 0xa0..=0xaf]), "the banner's blue ground: {ground:?}");
    assert_eq!(browser.title().await, format!("{} – console", desk.vm.name));
    assert_eq!(browser.text("name").await, desk.vm.name);
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
    let address = free_address_of(host);
    let guest = Qemu::start(&gateway.run, address).await;
    let name = "console-of-webmks";
    let vm = esxi.create_vm(&gateway.vcenter, name, &host.to_string(), address).await;
    let desk = Desk::with_machine(gateway, vm, Some(guest)).await;
    shows_and_types(&desk).await;
    assert_eq!(desk.browser.title().await, "console-of-webmks – console");
    assert_eq!(esxi.consoles(&desk.vm).await, 1);
    desk.browser.keep_screenshot("webmks").await;

    desk.browser.click("connection").await;
    phase(&desk.browser, "ended").await;
    let closed = async || (esxi.consoles(&desk.vm).await == 0).then_some(());
    until_some("the console is closed at its host", closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_s_vnc_password_is_asked_of_nobody() {
    const PASSWORD: &str = "g3heim!x";
    let gateway = Gateway::start("browser-password").await;
    let address = free_address_of(ESXI_HOSTS[0]);
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
    let address = free_address_of(ESXI_HOSTS[0]);
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
