//! VNC consoles with a password, and VNC servers that say odd things: the gateway logs in, the browser does
//! not know of it.

use crate::fixture::Site;
use crate::rfb_client::RfbClient;
use futures_util::StreamExt;
use futures_util::future::join_all;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use vncgate_test_support::rfb_script::{
    NONE, PASSWORD, Script, ScriptedRfb, Step, VNC_AUTHENTICATION,
};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::wait::until;
use vncgate_test_support::webmks::WITH_VNC;
use vncgate_test_support::workspace::free_address_of;

/// RFB's security type that only Apple's servers have.
const APPLE: u8 = 30;

/// A browser at a machine whose VNC server is at `screen` and whose configuration has that password.
async fn browser_at(site: &Site, name: &str, screen: SocketAddr, password: &str) -> RfbClient {
    let vcenter = &site.gateway.vcenter;
    let vm = vcenter.create_vm(name, screen.ip(), screen.port());
    vcenter.set_extra_config(name, "RemoteDisplay.vnc.password", password);
    RfbClient::new(site.open_console(&vm).await)
}

/// A host of a version with VNC.
async fn host(site: &Site) -> IpAddr {
    site.host(WITH_VNC).await.ip
}

#[tokio::test]
async fn the_gateway_logs_in_to_a_guest_with_a_password() {
    let site = Site::start("password").await;
    let ip = host(&site).await;
    let address = free_address_of(ip);
    let secret = "s3cr3t-x";
    let _guest = Qemu::start_with_password(&site.gateway.run, address, secret).await;
    let mut browser = browser_at(&site, "with-password", address, secret).await;
    assert_eq!(browser.log_in().await, "QEMU");

    let metrics = site.gateway.authority.metrics().await;
    for (name, log) in [
        ("Envoy", site.gateway.envoy.log()),
        ("the authority", site.gateway.authority.log()),
        ("the metrics", metrics),
    ] {
        assert!(!log.contains(secret), "the password in the log of {name}");
    }
}

#[tokio::test]
async fn each_version_of_rfb_is_spoken() {
    let site = Site::shared().await;
    let ip = host(site).await;
    for minor in [3, 7, 8] {
        let script = Script::new(minor, &[VNC_AUTHENTICATION]).in_single_bytes();
        let server = ScriptedRfb::start(ip, script).await;
        let name = format!("rfb-3-{minor}");
        let mut browser = browser_at(site, &name, server.address(), PASSWORD).await;
        assert_eq!(browser.log_in().await, "scripted");
        browser.send(b"typed").await;
        assert_eq!(browser.read(5).await, b"typed");
        assert_eq!(server.logins()[0].authenticated, Some(true));
    }
}

#[tokio::test]
async fn a_password_that_is_not_asked_for_does_no_harm() {
    let site = Site::shared().await;
    let ip = host(site).await;
    let server = ScriptedRfb::start(ip, Script::new(8, &[NONE])).await;
    let mut browser = browser_at(site, "not-asked", server.address(), PASSWORD).await;
    assert_eq!(browser.log_in().await, "scripted");
}

#[tokio::test]
async fn a_login_that_fails_says_why() {
    let site = Site::shared().await;
    let ip = host(site).await;
    let (login, close) = (VNC_AUTHENTICATION, "the console has closed");
    let garbage = || Script::new(8, &[login]).send_instead(Step::Version, *b"SSH-2.0-x\r\n\r");
    // A result that is a failure, and a reason of four gigabytes.
    let nonsense = format!("the console did not accept its password: {}", "\u{fffd}".repeat(27));
    let endless = || Script::new(8, &[login]).send_instead(Step::Result, vec![0xff; 4096]);
    for (name, script, password, reason) in [
        (
            "wrong",
            Script::new(8, &[login]),
            "wrong",
            "the console did not accept its password: Authentication failed",
        ),
        ("wrong-3", Script::new(3, &[login]), "wrong", "the console did not accept its password"),
        (
            "apple",
            Script::new(8, &[APPLE]),
            PASSWORD,
            "the console offers no security type that is known",
        ),
        (
            "no-type",
            Script::new(8, &[]).send_instead(Step::Security, *b"\0\0\0\0\x10Too many clients"),
            PASSWORD,
            "the console refuses: Too many clients",
        ),
        ("garbage", garbage(), PASSWORD, "the console does not speak RFB"),
        ("endless", endless(), PASSWORD, &nonsense),
        ("closes", Script::new(8, &[login]).close_at(Step::Challenge), PASSWORD, close),
    ] {
        let server = ScriptedRfb::start(ip, script).await;
        let name = format!("login-{name}");
        let mut browser = browser_at(site, &name, server.address(), password).await;
        assert_eq!(browser.reason_of_end().await, reason, "{name}");
    }
    // The gateway has not suffered from any of it.
    let server = ScriptedRfb::start(ip, Script::new(8, &[login])).await;
    let mut browser = browser_at(site, "login-good", server.address(), PASSWORD).await;
    assert_eq!(browser.log_in().await, "scripted");
}

#[tokio::test]
async fn a_login_that_stalls_is_given_up() {
    let site = Site::shared().await;
    let ip = host(site).await;
    let too_long = "the console took too long to begin";
    let stalls = [
        // Envoy lets the filter send a Close only once the console has said something.
        ("version", Step::Version, ""),
        ("security", Step::Security, too_long),
        ("challenge", Step::Challenge, too_long),
        ("result", Step::Result, too_long),
    ];
    let mut sessions = Vec::new();
    for (name, step, reason) in stalls {
        let script = Script::new(8, &[VNC_AUTHENTICATION]).silent_at(step);
        let server = ScriptedRfb::start(ip, script).await;
        let name = format!("stalls-{name}");
        let browser = browser_at(site, &name, server.address(), PASSWORD).await;
        sessions.push((name, server, browser, reason));
    }
    let all_open = Instant::now();
    join_all(sessions.into_iter().map(|(name, server, mut browser, reason)| async move {
        assert_eq!(browser.reason_of_end().await, reason, "{name}");
        assert!(
            all_open.elapsed() < Duration::from_secs(20),
            "{name}: after {:?}",
            all_open.elapsed()
        );
        until("the end at the server", async || !server.logins().is_empty()).await;
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_falls_silent_in_its_handshake_holds_only_its_own_browser() {
    let site = Site::shared().await;
    let ip = host(site).await;
    let silent = Script::new(8, &[VNC_AUTHENTICATION]).silent_at(Step::Challenge);
    let server = ScriptedRfb::start(ip, silent).await;
    let mut browser = browser_at(site, "login-silent", server.address(), PASSWORD).await;
    let version = browser.read(12).await;
    browser.send(&version).await;
    let silence = tokio::time::timeout(Duration::from_secs(1), browser.websocket.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    browser.websocket.close(None).await.expect("close");
    until("the end at the server", async || !server.logins().is_empty()).await;
}
