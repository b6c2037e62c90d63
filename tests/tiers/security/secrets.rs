//! Tokens are in no log, no metric and no cookie, and no answer sends a browser to another site.

use crate::fixture::{ESXI, UNKNOWN_TOKEN, gateway, raw_answer};
use futures_util::StreamExt;
use reqwest::header::{LOCATION, SET_COOKIE};
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::RfbServer;
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::free_address_of;

/// nova wrote tokens to its logs. Here every log and metric is read after every kind of session and of
/// refusal.
#[tokio::test]
async fn cve_2015_9543_token_in_logs() {
    let gateway = gateway().await;
    let (envoy, ca) = (&gateway.envoy, &gateway.ca);
    let console = RfbServer::start(ESXI).await;
    let vm = gateway.machine_at(console.address());
    let good = gateway.issue(&vm).await;
    let closed = gateway.machine_at(free_address_of(ESXI));
    let unreachable = gateway.issue(&closed).await;
    let console_of_off = RfbServer::start(ESXI).await;
    let off = gateway.machine_at(console_of_off.address());
    let unavailable = gateway.issue(&off).await;
    gateway.vcenter.power_off(&off.name);

    let mut request_ids = Vec::new();
    for token in [&good, &unreachable, &unavailable, &UNKNOWN_TOKEN.to_owned()] {
        for upgrade in [
            envoy.upgrade_with(token),
            envoy.upgrade().path(&format!("/websockify?token={token}")),
            envoy.upgrade().path(&format!("/vnc.html?%74oken={token}&a=b")),
            envoy.upgrade().header("Cookie", &format!("token={token}")),
            envoy.upgrade_with(token).header("Origin", "https://evil.example"),
            envoy.upgrade_with(token).method("POST"),
            envoy.upgrade_with(token).header("Sec-WebSocket-Version", "8"),
            envoy.upgrade().path(&format!("/{}?token={token}", "a".repeat(7000))),
            envoy.upgrade().path(&format!("/?token={token}%00")),
            envoy.upgrade().path(&format!("/%2f?token={token}")),
            envoy.upgrade().header("Cookie", &format!("token={token}!")),
        ] {
            let answer = upgrade
                .header("Referer", &format!("https://{}/vnc.html?token={token}", envoy.address()))
                .send()
                .await;
            request_ids.extend(answer.header("x-request-id").map(str::to_owned));
            if answer.status == 101 {
                let mut browser = answer.into_websocket().await;
                browser.next().await.expect("the console's greeting").expect("a frame");
                browser.close(None).await.expect("close");
            }
        }
        // Over HTTP/2; the session, if it is one, ends with its connection.
        let _ = Http2::connect(envoy).await.open(token).await;
        // Plain requests: the page's own question, a stock page's URL, the token in places of its own.
        for (path, authorization) in [
            ("/console/status".to_owned(), format!("Bearer {token}")),
            (format!("/vnc.html?token={token}"), String::new()),
            (format!("/websockify?token={token}"), String::new()),
            (format!("/v2.1/os-console-auth-tokens/{token}"), String::new()),
            (format!("//v2.1/0a1b/./os-console-auth-tokens/{token}?a=b"), String::new()),
            (format!("/console.html%23token={token}"), String::new()),
            (format!("/console.html%252523to%6ben%253D{token}"), String::new()),
            (format!("/a/{token}/../{token}x"), String::new()),
        ] {
            let request = ca.http_client().get(format!("{}{path}", envoy.url()));
            let answer = request.header("authorization", authorization).send().await;
            let answer = answer.expect("an answer");
            let id = answer.headers()["x-request-id"].to_str().expect("an id");
            request_ids.push(id.to_owned());
        }
        raw_answer(&gateway.envoy, &format!("GET /?token={token} HTTP/1.1\r\nbroken\r\n\r\n"))
            .await;
    }
    // All of it is written.
    until("every request in the access log", async || {
        let log = envoy.access_log();
        let logged = |id: &String| {
            log.iter().any(|entry| entry["request_id"] == *id && entry["event"] == "DownstreamEnd")
        };
        request_ids.iter().all(logged)
    })
    .await;

    let metrics = gateway.authority.metrics().await;
    for (name, text) in [
        ("Envoy's logs", envoy.log()),
        ("the authority's log", gateway.authority.log()),
        ("vCenter's log", gateway.vcenter.log()),
        ("the authority's metrics", metrics),
        ("Envoy's metrics", format!("{:?}", envoy.stats("").await)),
    ] {
        assert!(!text.is_empty(), "{name} are read");
        for token in [good.as_str(), &unreachable, &unavailable, UNKNOWN_TOKEN] {
            assert!(!text.contains(token), "a token in {name}");
        }
    }
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}

/// nova-novncproxy redirected `//evil.example/%2F..` to `//evil.example/%2F../`, which is another site.
#[tokio::test]
async fn cve_2021_3654_open_redirect() {
    let gateway = gateway().await;
    for path in [
        "//evil.example/%2F..",
        "//evil.example/%2f%2e%2e",
        "//evil.example/..",
        "//evil.example/../node_modules",
        "//evil.example/%2e%2e/node_modules",
        "/%2F%2Fevil.example/..",
        "/\\evil.example/..",
        "/node_modules",
        "//node_modules",
        "/%5cevil.example/%2e%2e/node_modules",
        "/evil.example%0d%0aLocation:%20https://evil.example",
        "https://evil.example/node_modules",
    ] {
        let answer =
            raw_answer(&gateway.envoy, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let head = answer.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 4"), "{path}: {answer}");
        assert!(!head.contains("\r\nlocation:"), "{path}: {answer}");
    }
    // The same without Envoy before it, for pages that are served otherwise.
    let http = gateway.ca.http_client();
    for path in ["//evil.example/%2F..", "/node_modules", "//node_modules"] {
        let url = format!("http://{}{path}", gateway.authority.config().public());
        let answer = http.get(url).send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), answer.headers().get(LOCATION)),
            (404, None),
            "{path}"
        );
    }
}

/// nova's and others' consoles set cookies that scripts and plain HTTP could read. The gateway sets none: a
/// token arrives in the fragment of a URL and stays in the page.
#[tokio::test]
async fn cve_2013_7436_cookie_flags() {
    let gateway = gateway().await;
    let console = RfbServer::start(ESXI).await;
    let vm = gateway.machine_at(console.address());
    let token = gateway.issue(&vm).await;
    let http = gateway.ca.http_client();
    for path in ["/console.html", "/console.js", "/vnc.html", "/", "/console/status"] {
        let url = format!("{}{path}?token={token}", gateway.envoy.url());
        let request = http.get(url).header("authorization", format!("Bearer {token}"));
        let answer = request.send().await.expect("an answer");
        assert!(answer.headers().get(SET_COOKIE).is_none(), "{path}");
    }
    let issued = gateway.api().request_console(&vm.instance_uuid).await;
    assert!(issued.headers().get(SET_COOKIE).is_none());
    for upgrade in [
        gateway.envoy.upgrade_with(&token),
        gateway.envoy.upgrade().header("Cookie", &format!("token={token}")),
        gateway.envoy.upgrade().header("Cookie", "token=other"),
    ] {
        assert_eq!(upgrade.send().await.header("set-cookie"), None);
    }
}

/// A visitor who once came without TLS could be kept there and read. Every answer, refusals too, tells the browser
/// to come back with it.
#[tokio::test]
async fn every_answer_has_strict_transport_security() {
    let gateway = gateway().await;
    for path in ["/console.html", "/novnc/core/rfb.js", "/console/status", "/v1/vms", "/nothing"] {
        let answer = gateway.envoy.get(path).send().await.expect("an answer");
        let header = answer.headers().get("strict-transport-security").expect(path);
        assert_eq!(header, "max-age=31536000", "{path}");
    }
    let refused = gateway.envoy.send(UNKNOWN_TOKEN).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("strict-transport-security"), Some("max-age=31536000"));
}
