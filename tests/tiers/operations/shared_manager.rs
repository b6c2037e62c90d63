//! Another application in the connection manager of the consoles: however its routes stand to theirs, it never sees a
//! console's request.

use crate::beside::{APPLICATION, Beside, Changes, cluster};
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::application::{Application, PAGE};
use vncgate_test_support::envoy::CONSOLES;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::session::{assert_echoes, next};
use vncgate_test_support::websocket::Upgrade;

/// Where the routes of the consoles' virtual host begin.
const ROUTES: &str = "
                      domains: [\"*\"]
                      # A browser that has been here once does not come without TLS again.
";

/// The filter switched off in a virtual host, as the shipped README has it.
const FILTER_OFF: &str = "
                      typed_per_filter_config:
                        vncgate:
                          \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig
                          disabled: true";

/// The name of the consoles for their virtual host, and one for all other names that leads to the application.
fn at_every_other_name(application: &Application, keys: &str) -> Changes {
    let virtual_host = format!(
        "
                  virtual_hosts:
                    - name: application
                      domains: [\"*\"]{keys}
                      routes:
                        - match: {{ prefix: / }}
                          route: {{ cluster: application }}
"
    );
    vec![
        (ROUTES, ROUTES.replace("\"*\"", &format!("{CONSOLES}, \"{CONSOLES}:*\""))),
        ("\n                  virtual_hosts:\n", virtual_host),
        cluster(application),
    ]
}

/// Asserts that the gateway opens both consoles at this name, over HTTP/1.1 and HTTP/2.
async fn assert_opens(beside: &Beside, tokens: &[String]) {
    for token in tokens {
        let mut browser = Upgrade::with_token(beside.envoy.named(CONSOLES), token).open().await;
        assert_echoes(&mut browser, "typed").await;
        let http2 = Http2::connect(beside.envoy.named(CONSOLES)).await;
        assert_echoes(&mut http2.open(token).await.expect("a console"), "typed").await;
    }
}

/// Asserts that no console is opened at `host`, and that the application gets nothing of the attempt.
async fn assert_opens_none(beside: &Beside, host: &str, tokens: &[String]) {
    for token in tokens {
        let answer = Upgrade::with_token(beside.envoy.named(host), token).send().await;
        answer.assert_refused(500, "console_route");
        let http2 = Http2::connect(beside.envoy.named(host)).await;
        let (status, body) = http2.open(token).await.expect_err("a refusal");
        assert!(status == 500 && body.contains("console_route"), "{status} {body}");
    }
    beside.assert_kept_from_consoles(tokens);
    assert!(!beside.envoy.has_trapped());
}

async fn assert_serves_the_application(beside: &Beside) {
    let mut websocket = Upgrade::new(beside.envoy.named(CONSOLES))
        .path("/socket")
        .header("Host", APPLICATION)
        .header("Origin", "https://elsewhere.example.com")
        .open()
        .await;
    websocket.send(Message::text("of the application")).await.expect("send");
    assert_eq!(next(&mut websocket).await, Message::text("of the application"));
}

#[tokio::test]
async fn consoles_open_beside_an_application_at_every_other_name() {
    let beside = Beside::in_one_manager("beside-all", |application| {
        at_every_other_name(application, FILTER_OFF)
    })
    .await;
    let tokens = beside.tokens().await;
    assert_opens(&beside, &tokens).await;
    assert_serves_the_application(&beside).await;
    beside.assert_kept_from_consoles(&tokens);
}

#[tokio::test]
async fn a_token_at_the_application_s_name_opens_nothing_and_does_not_get_there() {
    // The filter is on for the application too, and takes every name for its own.
    let beside =
        Beside::in_one_manager("beside-on", |application| at_every_other_name(application, ""))
            .await;
    let tokens = beside.tokens().await;
    assert_opens(&beside, &tokens).await;
    let name = "localhost";
    assert_opens_none(&beside, name, &tokens).await;
    let page = beside.envoy.get("/a").send().await.expect("an answer");
    assert_eq!(page.text().await.expect("text"), PAGE);
}

/// The application's route before all others of the consoles' virtual host.
fn application_first(application: &Application) -> Changes {
    let begin = "                      routes:\n                        # A console session:";
    let route = begin.replace(
        "routes:\n",
        "routes:\n                        - match: { prefix: / }\n                          \
         route: { cluster: application }\n",
    );
    vec![(begin, route), cluster(application)]
}

#[tokio::test]
async fn a_console_whose_routes_come_after_the_application_s_does_not_open() {
    let beside = Beside::in_one_manager("application-first", application_first).await;
    let tokens = beside.tokens().await;
    assert_opens_none(&beside, CONSOLES, &tokens).await;
    let page = beside.envoy.get("/a").send().await.expect("an answer");
    assert_eq!(page.text().await.expect("text"), PAGE);
}

/// What another server answers opens no console, even where the guard was left out too.
#[tokio::test]
async fn without_the_guard_an_answer_of_the_application_opens_no_console() {
    let beside = Beside::in_one_manager("without-guard", |application| {
        let mut changes = application_first(application);
        changes.push(("action: DENY", "action: LOG".to_owned()));
        changes
    })
    .await;
    let tokens = beside.tokens().await;
    for token in &tokens {
        let answer = Upgrade::with_token(beside.envoy.named(CONSOLES), token).send().await;
        answer.assert_refused(500, "console_route");
    }
    let log = beside.application.log();
    assert!(log.contains("upgrade: websocket"), "the requests get there: {log}");
    for token in &tokens {
        assert!(!log.contains(token), "a token: {log}");
    }
    assert!(!beside.envoy.has_trapped());
}

/// Nor does what a route answers by itself.
#[tokio::test]
async fn a_route_without_a_cluster_opens_no_console() {
    for (status, guard) in [(200, "LOG"), (200, "DENY"), (404, "LOG")] {
        let begin = "                      routes:\n                        # A console session:";
        let route = begin.replace(
            "routes:\n",
            &format!(
                "routes:\n                        - match: {{ prefix: / }}\n                          \
                 direct_response: {{ status: {status}, body: {{ inline_string: x }} }}\n"
            ),
        );
        let beside = Beside::in_one_manager("direct", |_| {
            vec![(begin, route), ("action: DENY", format!("action: {guard}"))]
        })
        .await;
        for token in &beside.tokens().await {
            let answer = Upgrade::with_token(beside.envoy.named(CONSOLES), token).send().await;
            answer.assert_refused(500, "console_route");
        }
        assert!(!beside.envoy.has_trapped());
    }
}
