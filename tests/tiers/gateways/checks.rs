//! What has to be true of a gateway, whatever it runs on.

use futures_util::SinkExt;
use serde_json::Value;
use std::net::SocketAddr;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::application::{Application, PAGE};
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::console_api::ConsoleApi;
use vncgate_test_support::consoles::Consoles;
use vncgate_test_support::esxi::self_signed;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::{assert_echoes, next};
use vncgate_test_support::wait::{LIMIT, until, until_within};
use vncgate_test_support::websocket::{Frontend, Upgrade, WebSocket, connect};

/// The consoles' host.
pub(crate) const HOST: &str = "consoles.example.com";
/// The other application's.
pub(crate) const OTHER_HOST: &str = "other.example.com";

/// A gateway, as the browsers and the portals before it see it.
#[derive(Debug)]
pub(crate) struct Checks<'a> {
    /// Behind it.
    pub(crate) consoles: &'a Consoles,
    /// Where it listens.
    pub(crate) https: SocketAddr,
    /// Where the other application listens.
    pub(crate) other: SocketAddr,
    /// The authority past the gateway, for tokens while the gateway answers nothing.
    pub(crate) authority: ConsoleApi,
}

impl Checks<'_> {
    /// The gateway as browsers reach it by this name.
    pub(crate) fn frontend(&self, name: &str) -> Frontend {
        Frontend { address: self.https, name: Some(name.to_owned()), ca: self.ca().clone() }
    }

    /// A browser's upgrade with a token, as the console page sends it.
    pub(crate) fn upgrade(&self, token: &str) -> Upgrade {
        Upgrade::with_token(self.frontend(HOST), token)
    }

    fn ca(&self) -> &Ca {
        &self.consoles.ca
    }

    /// A new machine with a VNC console that echoes, and a token for it.
    pub(crate) async fn vnc(&self) -> (TcpServer, String) {
        let (console, vm) = self.consoles.vnc().await;
        (console, self.authority.console(&vm).await.token)
    }

    /// A new VNC console, opened.
    pub(crate) async fn open_vnc(&self) -> WebSocket {
        let (console, token) = self.vnc().await;
        let mut browser = self.upgrade(&token).open().await;
        assert_echoes(&mut browser, "typed").await;
        // The server's connections go on without it.
        drop(console);
        browser
    }

    /// An HTTP client that finds the gateway's hosts at its address.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.ca().http_client_of(&[HOST, OTHER_HOST], self.https)
    }

    /// The console API as its callers reach it.
    pub(crate) fn api(&self) -> ConsoleApi {
        ConsoleApi::new(format!("https://{HOST}"), self.http())
    }

    /// Asserts that a VNC console opens: asked for through the gateway, with its page, over HTTP/1.1 and HTTP/2.
    pub(crate) async fn assert_vnc_opens(&self) {
        let (console, vm) = self.consoles.vnc().await;
        let link = self.api().console(&vm).await;
        assert!(link.url.starts_with(&format!("https://{HOST}/")), "{}", link.url);
        let page = self.http().get(&link.url).send().await.expect("the page");
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()["strict-transport-security"], "max-age=31536000");
        assert!(page.text().await.expect("the page").contains("<title>"), "a page");

        let mut browser = self.upgrade(&link.token).open().await;
        assert_echoes(&mut browser, "over HTTP/1.1").await;
        let http2 = Http2::connect(self.frontend(HOST)).await;
        let mut browser = http2.open(&link.token).await.expect("a console over HTTP/2");
        assert_echoes(&mut browser, "over HTTP/2").await;
        assert_eq!(console.accepted(), 2);
    }

    /// Asserts that a WebMKS console opens as long as its host shows the certificate that vCenter knows, which is changed
    /// twice: first at the host, then in vCenter.
    pub(crate) async fn assert_webmks_opens_by_pin(&self) {
        let consoles = self.consoles;
        let host = consoles.webmks_host().await;
        let (_screen, vm) = consoles.webmks(&host).await;
        let token = self.authority.console(&vm).await.token;
        let mut open = self.upgrade(&token).open().await;
        assert_echoes(&mut open, "by its pin").await;
        let request = &consoles.state(&host).await.upgrades[0];
        assert_eq!(request.header("host"), [host.address.to_string()], "the host's own name");

        let renewed = self_signed(&consoles.run, &format!("renewed-{}", host.name), &[&host.name]);
        consoles.show(&host, &renewed).await;
        let answer = self.upgrade(&token).send().await;
        answer.assert_refused(503, "console_unreachable");
        consoles.register(&host, &renewed).await;
        until("the renewed certificate is accepted", async || {
            self.upgrade(&token).send().await.status == 101
        })
        .await;
        assert_echoes(&mut open, "a live console stays").await;
    }

    /// Asserts that a token that was never issued opens nothing.
    pub(crate) async fn assert_bad_token_is_refused(&self) {
        let answer = self.upgrade("00000000-0000-4000-8000-000000000000").send().await;
        answer.assert_refused(403, "token_invalid");
    }

    /// Waits until the gateway shows this certificate.
    pub(crate) async fn until_it_shows(&self, identity: &Identity) {
        let expected = identity.der();
        until_within("the gateway's new certificate", 3 * LIMIT, async || {
            let connection = connect(self.frontend(HOST), &["http/1.1"]).await;
            let shown = connection.get_ref().1.peer_certificates()?.first()?.clone();
            (*shown == *expected).then_some(())
        })
        .await;
    }

    /// Waits until no console opens any more, and asserts that the one that is open goes on. Returns what browsers are
    /// answered.
    pub(crate) async fn until_nothing_opens(&self, live: &mut WebSocket) -> u16 {
        let (console, token) = self.vnc().await;
        // Without the filter Envoy waits 30 s for the rest of what it takes for a call of the authority.
        let status = until_within("no console opens", 3 * LIMIT, async || {
            let before = console.accepted();
            let status = self.upgrade(&token).send().await.status;
            let refused = (status != 101).then_some(status);
            assert!(
                refused.is_none() || console.accepted() == before,
                "a connection to the console"
            );
            refused
        })
        .await;
        assert_lives(live).await;
        status
    }

    /// Waits until consoles open, of an authority and a gateway that may be starting. Where pods of before are still being
    /// taken out, one of two consoles opens.
    pub(crate) async fn until_consoles_open(&self) {
        const IN_A_ROW: usize = 5;
        let (_console, vm) = self.consoles.vnc().await;
        let opens = async || {
            let answer = self.authority.try_request_console(&vm.instance_uuid).await.ok()?;
            let answer: Value = answer.json().await.ok()?;
            let (_, token) = answer["console"]["url"].as_str()?.rsplit_once("token=")?;
            (self.upgrade(token).send().await.status == 101).then_some(())
        };
        let mut opened = 0;
        until_within("consoles open", 4 * LIMIT, async || {
            opened = opens().await.map_or(0, |()| opened + 1);
            (opened == IN_A_ROW).then_some(())
        })
        .await;
    }

    /// Asserts that the other host has its own requests and WebSockets, untouched, and nothing of the consoles'.
    pub(crate) async fn assert_other_host_is_untouched(&self) {
        let application = Application::start_at(self.other).await;
        // More headers than the consoles' host takes.
        let url = format!("https://{OTHER_HOST}/a?token=query");
        let request = self.http().get(url).header("x-large", "x".repeat(40_000));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("strict-transport-security"));
        assert_eq!(answer.text().await.expect("text"), PAGE);

        let stranger = "https://elsewhere.example.com";
        let upgrade = Upgrade::new(self.frontend(OTHER_HOST)).header("Origin", stranger);
        let mut browser = upgrade.open().await;
        browser.send(Message::binary("other")).await.expect("send");
        assert_eq!(next(&mut browser).await, Message::binary("other"));

        // A token is no use there.
        let (console, token) = self.vnc().await;
        Upgrade::with_token(self.frontend(OTHER_HOST), &token).open().await;
        assert_eq!(console.accepted(), 0);
        let log = application.log();
        assert!(log.contains("GET /a?token=query HTTP/1.1"), "{log}");
        assert!(!log.contains("/ticket/") && !log.contains(HOST), "{log}");
    }
}

/// Asserts that a console that was opened before goes on. The filter may have sent it a Ping meanwhile.
pub(crate) async fn assert_lives(browser: &mut WebSocket) {
    browser.send(Message::binary("still there")).await.expect("send");
    loop {
        match next(browser).await {
            Message::Ping(_) => {}
            echoed => break assert_eq!(echoed, Message::binary("still there")),
        }
    }
}
