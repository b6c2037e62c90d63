//! The shipped configuration with another application: each has a filter chain of its own.

use crate::beside::{APPLICATION, Beside};
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::application::PAGE;
use vncgate_test_support::envoy::CONSOLES;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::session::{assert_echoes, next};
use vncgate_test_support::websocket::Upgrade;

#[tokio::test]
async fn consoles_and_the_application_do_not_meet() {
    let beside = Beside::with_chains_of_their_own("shared").await;
    let tokens = beside.tokens().await;
    let port = beside.envoy.address().port();
    let http = beside.client();
    let get = |url: String| http.get(url);

    // Consoles of both kinds, and their page.
    for token in &tokens {
        let mut browser = Upgrade::with_token(beside.envoy.named(CONSOLES), token).open().await;
        assert_echoes(&mut browser, "typed").await;
        let http2 = Http2::connect(beside.envoy.named(CONSOLES)).await;
        assert_echoes(&mut http2.open(token).await.expect("a console"), "typed").await;
    }
    let page = get(format!("https://{CONSOLES}:{port}/console.html")).send().await.expect("a page");
    assert_eq!(page.status(), 200);
    assert!(page.text().await.expect("text").contains("console"));

    // The application: what the consoles' connection manager would refuse or change.
    let long = "c".repeat(60 * 1024);
    for path in ["/plain", "/a%2Fb", "/a//b", "/v2.1/servers", "/x/../y?token=of-the-application"] {
        let request = get(format!("https://{APPLICATION}:{port}{path}"));
        let answer = request.header("cookie", &long).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.text().await.expect("text"), PAGE);
    }
    let log = beside.application.log();
    for line in ["GET /a%2Fb HTTP/1.1", "GET /a//b HTTP/1.1", "?token=of-the-application", &long] {
        assert!(log.contains(line), "{line} as it was sent: {log}");
    }
    let upgrade =
        Upgrade::new(beside.envoy.named(APPLICATION)).path("/socket?token=of-the-application");
    let mut websocket = upgrade.header("Origin", "https://elsewhere.example.com").open().await;
    websocket.send(Message::text("of the application")).await.expect("send");
    assert_eq!(next(&mut websocket).await, Message::text("of the application"));

    // A connection to the one with requests for the other, as browsers reuse it.
    for token in &tokens {
        for (name, host) in [(APPLICATION, CONSOLES), (CONSOLES, APPLICATION)] {
            for host in [host.to_owned(), format!("{host}:{port}")] {
                let astray =
                    Upgrade::with_token(beside.envoy.named(name), token).header("Host", &host);
                assert_eq!(astray.send().await.status, 421, "{host} on a connection to {name}");
                let http2 = Http2::connect(beside.envoy.named(name)).await.for_host(&host);
                let (status, _) = http2.open(token).await.expect_err("no console");
                assert_eq!(status, 421, "{host} on a connection to {name}");
            }
        }
    }
    beside.assert_kept_from_consoles(&tokens);
    assert!(!beside.envoy.has_trapped());
}
