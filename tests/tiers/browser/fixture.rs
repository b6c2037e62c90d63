//! A person at a desk: a browser, a link, a machine; and what the page shows.

use std::net::SocketAddr;
use vncgate_test_support::authority::Config;
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::console_api::Console;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::workspace::free_address_of;

/// Where the guest of `tests/guest/boot.S` echoes the first line that is typed.
pub(crate) const TYPED_ROW: usize = 4;

/// A person with an open browser, a link to a machine's console, and the machine.
pub(crate) struct Desk {
    pub(crate) browser: Browser,
    pub(crate) console: Console,
    pub(crate) vm: Vm,
    pub(crate) guest: Option<Qemu>,
    pub(crate) gateway: Gateway,
}

impl Desk {
    pub(crate) async fn new(name: &str) -> Self {
        Self::with(name, |config| config).await
    }

    pub(crate) async fn with(name: &str, authority: impl FnOnce(Config) -> Config) -> Self {
        let gateway = Gateway::start_with(name, authority, &[]).await;
        let address = free_address_of(ESXI_HOSTS[0]);
        let guest = Qemu::start(&gateway.run, address).await;
        Self::furnish(gateway, address, Some(guest)).await
    }

    /// A machine whose console is at `address`, where the test has started a server or none.
    pub(crate) async fn at(name: &str, address: SocketAddr) -> Self {
        Self::furnish(Gateway::start(name).await, address, None).await
    }

    pub(crate) async fn furnish(
        gateway: Gateway,
        address: SocketAddr,
        guest: Option<Qemu>,
    ) -> Self {
        let vm = gateway.vcenter.create_vm("build-agent-07", address.ip(), address.port());
        Self::with_machine(gateway, vm, guest).await
    }

    pub(crate) async fn with_machine(gateway: Gateway, vm: Vm, guest: Option<Qemu>) -> Self {
        let console = gateway.api().console(&vm).await;
        let browser = Browser::start(&gateway).await;
        Self { browser, console, vm, guest, gateway }
    }

    /// With the console open.
    pub(crate) async fn open(name: &str) -> Self {
        let desk = Self::new(name).await;
        desk.browser.open(&desk.console.url).await;
        desk.browser.screen_shows("the guest's banner", shows_banner).await;
        desk
    }
}

/// Opens the console: the guest's screen is there, and shows what is typed.
pub(crate) async fn shows_and_types(desk: &Desk) {
    desk.browser.open(&desk.console.url).await;
    desk.browser.screen_shows("the guest's banner", shows_banner).await;
    desk.browser.type_keys("Hello, ESXi!").await;
    let typed = |screen: &TextScreen| screen.row(TYPED_ROW) == "Hello, ESXi!";
    desk.browser.screen_shows("what was typed", typed).await;
    assert_eq!(desk.browser.console_log().await, [""; 0], "errors in the browser");
}

pub(crate) fn shows_banner(screen: &TextScreen) -> bool {
    screen.row(Qemu::BANNER_ROW) == Qemu::BANNER
}

/// Waits for a phase of the session, as `session.js` names them.
pub(crate) async fn phase(browser: &Browser, phase: &str) {
    let script = format!("return document.getElementById('state').dataset.phase === '{phase}'");
    browser.page_shows(&format!("phase {phase}"), &script).await;
}

/// Waits until the page gives this reason with what to do next. All of it is read at one moment: between
/// two attempts to reconnect the page hides the notice.
pub(crate) async fn refused(browser: &Browser, code: &str, advice: &str) {
    let script = format!(
        "const text = (id) => document.getElementById(id).textContent;
         return document.body.dataset.reason === '{code}'
             && text('notice-code').startsWith('{code}')
             && text('notice-summary') !== ''
             && text('notice-advice').includes({advice:?});"
    );
    browser.page_shows(&format!("reason {code} with the advice {advice:?}"), &script).await;
}
