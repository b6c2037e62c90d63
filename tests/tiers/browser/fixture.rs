//! A person at a desk: a browser, a link, a machine; and what the page shows.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::OnceCell;
use vncgate_test_support::authority::Config;
use vncgate_test_support::browser::{Browser, TextScreen};
use vncgate_test_support::console_api::Console;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::workspace::free_address_of;

/// Where the guest of `tests/guest/boot.S` echoes the first line that is typed.
pub(crate) const TYPED_ROW: usize = 4;

/// A gateway: the one that tests share which leave its parts as they are, or a test's own.
pub(crate) enum Place {
    Shared(&'static Gateway),
    Own(Box<Gateway>),
}

impl Place {
    /// The shared gateway. Its parts end with the test process.
    async fn shared() -> Self {
        static GATEWAY: OnceCell<Gateway> = OnceCell::const_new();
        Self::Shared(GATEWAY.get_or_init(|| Gateway::start("browser")).await)
    }
}

impl From<Gateway> for Place {
    fn from(gateway: Gateway) -> Self {
        Self::Own(Box::new(gateway))
    }
}

impl Deref for Place {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        match self {
            Self::Shared(gateway) => gateway,
            Self::Own(gateway) => gateway,
        }
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut Gateway {
        match self {
            Self::Shared(_) => panic!("a part of the gateway that tests share"),
            Self::Own(gateway) => gateway,
        }
    }
}

/// A person with an open browser, a link to a machine's console, and the machine.
pub(crate) struct Desk {
    pub(crate) browser: Browser,
    pub(crate) console: Console,
    pub(crate) vm: Vm,
    pub(crate) guest: Option<Qemu>,
    pub(crate) gateway: Place,
    /// The files of browser and guest.
    pub(crate) run: Run,
}

impl Desk {
    /// With the gateway that tests share, whose settings are those that are shipped.
    pub(crate) async fn new(name: &str) -> Self {
        Self::booted(name, Place::shared().await).await
    }

    /// With a gateway of its own.
    pub(crate) async fn with(name: &str, authority: impl FnOnce(Config) -> Config) -> Self {
        Self::booted(name, Gateway::start_with(name, authority, &[]).await.into()).await
    }

    async fn booted(name: &str, gateway: Place) -> Self {
        let address = free_address_of(ESXI_HOSTS[0]);
        let run = Run::new(name);
        let guest = Qemu::start(&run, address).await;
        Self::furnish_in(run, gateway, address, Some(guest)).await
    }

    /// A machine whose console is at `address`, where the test has started a server or none.
    pub(crate) async fn at(name: &str, address: SocketAddr) -> Self {
        Self::furnish_in(Run::new(name), Place::shared().await, address, None).await
    }

    /// The same with a gateway of its own.
    pub(crate) async fn furnish(
        gateway: Gateway,
        address: SocketAddr,
        guest: Option<Qemu>,
    ) -> Self {
        Self::furnish_in(gateway.run.clone(), gateway.into(), address, guest).await
    }

    async fn furnish_in(
        run: Run,
        gateway: Place,
        address: SocketAddr,
        guest: Option<Qemu>,
    ) -> Self {
        static MACHINES: AtomicUsize = AtomicUsize::new(7);
        let name = format!("build-agent-{:02}", MACHINES.fetch_add(1, Ordering::Relaxed));
        let vm = gateway.vcenter.create_vm(&name, address.ip(), address.port());
        Self::with_machine_in(run, gateway, vm, guest).await
    }

    pub(crate) async fn with_machine(gateway: Gateway, vm: Vm, guest: Option<Qemu>) -> Self {
        Self::with_machine_in(gateway.run.clone(), gateway.into(), vm, guest).await
    }

    async fn with_machine_in(run: Run, gateway: Place, vm: Vm, guest: Option<Qemu>) -> Self {
        let browser = Browser::start_in(&run, &gateway).await;
        // Last, since some links are good for ten seconds.
        let console = gateway.api().console(&vm).await;
        Self { browser, console, vm, guest, gateway, run }
    }

    /// With the console open.
    pub(crate) async fn open(name: &str) -> Self {
        Self::new(name).await.opened().await
    }

    pub(crate) async fn opened(self) -> Self {
        self.browser.open(&self.console.url).await;
        self.browser.screen_shows("the guest's banner", shows_banner).await;
        self
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
