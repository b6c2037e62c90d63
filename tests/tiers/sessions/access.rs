//! Tokens for one browser, with the gateway that keeps them: the thief of a link and its owner, a console that stays open
//! past its token's time, and restarts.

use crate::fixture::ESXI;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use vncgate_authority::tokens::BrowserDigest;
use vncgate_test_support::audit::records;
use vncgate_test_support::authority::Config;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{assert_echoes, next};
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::{until, until_some};
use vncgate_test_support::websocket::Upgrade;

const OWNER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 1));
const THIEF: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 66));

/// How long a browser may stay away.
const RECONNECT_FOR: Duration = Duration::from_secs(60);

fn for_one_browser(config: Config) -> Config {
    config.with_console("token_use = \"same-browser\"\nreconnect_for = \"1m\"")
}

/// A connect of the page's in a browser that has this secret. `first`: the page believes that it is the first one.
fn upgrade(gateway: &Gateway, token: &str, secret: &str, first: bool) -> Upgrade {
    let shown = match first {
        true => format!("vncgate.browser-digest.{}", BrowserDigest::of(secret)),
        false => format!("vncgate.browser-secret.{secret}"),
    };
    let subprotocols = format!("binary, vncgate.token.{token}, {shown}");
    gateway.envoy.upgrade().header("Sec-WebSocket-Protocol", &subprotocols)
}

/// What the page of a browser is told of its link.
async fn status(gateway: &Gateway, token: &str, secret: &str, client: IpAddr) -> (u16, Value) {
    let request = Upgrade::new(&gateway.envoy).path("/console/status").from(client);
    let request = request.without("Upgrade").without("Connection");
    let digest = BrowserDigest::of(secret).to_string();
    let request = request
        .header("Authorization", &format!("Bearer {token}"))
        .header("Vncgate-Browser-Digest", &digest);
    let answer = request.send().await;
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_stolen_link_is_told_and_the_trail_has_both_addresses() {
    const FILE: &str = "audit.jsonl";
    let audited = |config| for_one_browser(config).with_audit(FILE, true);
    let gateway = Gateway::start_with("sessions-thief", audited, &[]).await;
    let console = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(console.address()).await;

    let mut thief = upgrade(&gateway, &token, "thief", true).from(THIEF).open().await;
    assert_eq!(next(&mut thief).await, Message::binary(RFB_VERSION.as_slice()));
    let (code, told) = status(&gateway, &token, "owner", OWNER).await;
    assert_eq!((code, &told["code"]), (403, &json!("link_in_use")), "{told}");
    // So is a browser that does not ask first, whatever it shows.
    for first in [true, false] {
        let refused = upgrade(&gateway, &token, "owner", first).from(OWNER).send().await;
        refused.assert_refused(403, "link_in_use");
    }
    // Who has overheard the first connect has not the secret.
    upgrade(&gateway, &token, "thief", true).send().await.assert_refused(403, "link_in_use");

    let of_link = |event: &str| {
        let records = records(&gateway.run.path(FILE)).into_iter();
        records.filter(|record| record["event"] == event).collect::<Vec<_>>()
    };
    let granted = of_link("session_granted");
    let [granted] = &granted[..] else { panic!("{granted:?}") };
    assert_eq!(granted["client"], THIEF.to_string());
    until("the refused browsers in the trail", async || of_link("session_refused").len() == 4)
        .await;
    let refused = of_link("session_refused");
    let clients: Vec<_> = refused.iter().map(|record| record["client"].as_str()).collect();
    let owner = OWNER.to_string();
    assert_eq!(clients, [Some(&*owner), Some(&*owner), Some(&*owner), Some("127.0.0.1")]);
    for record in &refused {
        assert_eq!(record["refusal"], "link_in_use", "{record}");
        assert_eq!(record["token_id"], granted["token_id"], "{record}");
        assert_eq!(record["machine"], granted["machine"], "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_console_keeps_its_link_for_its_browser_past_the_link_s_time() {
    let short = |config| for_one_browser(config).with("token_ttl = \"10m\"", "token_ttl = \"30s\"");
    let gateway = Gateway::start_with("sessions-keep", short, &[]).await;
    let console = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(console.address()).await;
    let mut browser = upgrade(&gateway, &token, "own", true).open().await;
    assert_echoes(&mut browser, "typed").await;
    // Longer than the token and than what its first connect gave it. Reading, a browser answers Pings.
    let opened = Instant::now();
    while opened.elapsed() < RECONNECT_FOR + Duration::from_secs(3) {
        sleep(Duration::from_secs(9)).await;
        assert_echoes(&mut browser, "typed").await;
    }
    drop(browser);
    let mut browser = upgrade(&gateway, &token, "own", false).open().await;
    assert_echoes(&mut browser, "again").await;
    upgrade(&gateway, &token, "other", true).send().await.assert_refused(403, "link_in_use");
}

/// A secret that is wrong, missing, replayed in a digest's place, or sent twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_for_its_secret_alone() {
    let gateway = Gateway::start_with("sessions-secret", for_one_browser, &[]).await;
    let console = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(console.address()).await;
    let digest = BrowserDigest::of("own");
    let offers = async |shown: &str, status: u16, code: &str| {
        let subprotocols = format!("binary, vncgate.token.{token}{shown}");
        let upgrade = gateway.envoy.upgrade().header("Sec-WebSocket-Protocol", &subprotocols);
        upgrade.send().await.assert_refused(status, code);
    };
    let twice = format!(", vncgate.browser-digest.{digest}, vncgate.browser-secret.own");
    let malformed = [
        &*twice,
        ", vncgate.browser-secret.own, vncgate.browser-secret.own",
        ", vncgate.browser-secret.",
        ", vncgate.browser-digest.",
    ];
    let overheard = format!(", vncgate.browser-digest.{digest}");
    let as_secret = format!(", vncgate.browser-secret.{digest}");
    let no_browser = async || {
        offers("", 403, "permission_denied").await;
        offers(", vncgate.browser-digest.abc", 403, "permission_denied").await;
        for shown in malformed {
            offers(shown, 400, "browser_malformed").await;
        }
    };
    no_browser().await;
    let mut browser = upgrade(&gateway, &token, "own", true).open().await;
    assert_echoes(&mut browser, "typed").await;
    no_browser().await;
    for shown in [&*overheard, &as_secret, ", vncgate.browser-secret.other"] {
        offers(shown, 403, "link_in_use").await;
    }
    let mut tab = upgrade(&gateway, &token, "own", false).open().await;
    assert_echoes(&mut tab, "another tab").await;
    assert_echoes(&mut browser, "still there").await;
}

async fn survives_restarts(store: Store, name: &str) {
    let stored = |config: Config| for_one_browser(config).with_store(&store);
    let mut gateway = Gateway::start_with(name, stored, &[]).await;
    let console = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(console.address()).await;
    let mut browser = upgrade(&gateway, &token, "own", true).open().await;
    assert_echoes(&mut browser, "typed").await;

    gateway.authority.kill();
    assert_echoes(&mut browser, "without an authority").await;
    upgrade(&gateway, &token, "own", false)
        .send()
        .await
        .assert_refused(503, "authority_unavailable");
    gateway.authority.start_again().await;
    let again = async |gateway: &Gateway| {
        let console = until_some("the console again", async || {
            let answer = upgrade(gateway, &token, "own", false).send().await;
            (answer.status == 101).then_some(answer)
        });
        assert_echoes(&mut console.await.into_websocket().await, "again").await;
        let thief = upgrade(gateway, &token, "thief", true).send().await;
        thief.assert_refused(403, "link_in_use");
    };
    again(&gateway).await;

    let (authority_public, authority_internal) = gateway.authority.listeners();
    let listen = gateway.envoy.address();
    gateway.envoy.process().kill();
    let settings = Settings { listen, authority_public, authority_internal, changes: &[] };
    gateway.envoy = Envoy::start(&gateway.run, &gateway.ca, &settings).await;
    again(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_its_browser_s_across_restarts_with_memcached() {
    survives_restarts(Store::memcached(&Run::new("keep-memcached")).await, "restarts-memcached")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_its_browser_s_across_restarts_with_redis() {
    survives_restarts(Store::redis(&Run::new("keep-redis")).await, "restarts-redis").await;
}
