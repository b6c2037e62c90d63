//! Pages of others open no console, and no URL makes our page open another server.

use crate::fixture::{gateway, gateway_with_echo};
use vncgate_test_support::session::assert_echoes;

/// A page on another site opened a console with the cookie of its visitor.
#[tokio::test]
async fn cve_2015_0259_cross_site_websocket_hijacking() {
    let (gateway, console, token) = gateway_with_echo().await;
    let own = gateway.envoy.address();
    let visitor = || gateway.envoy.upgrade().header("Cookie", &format!("lang=en; token={token}"));

    for origin in [
        "https://evil.example",
        "null",
        "",
        "file://",
        &format!("http://{own}"),
        &format!("https://{}", own.ip()),
        &format!("https://{own}.evil.example"),
        &format!("https://evil.example/https://{own}"),
        &format!("https://{own}@evil.example"),
    ] {
        let answer = visitor().header("Origin", origin).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "origin"), "{origin:?}");
    }
    // What a client says of its own connection does not make a wrong scheme right.
    visitor()
        .header("Origin", &format!("http://{own}"))
        .header("X-Forwarded-Proto", "http")
        .send()
        .await
        .assert_refused(403, "origin");
    assert_eq!(console.accepted(), 0);

    assert_echoes(&mut visitor().open().await, "typed").await;
}

/// A name that an attacker points at the gateway (DNS rebinding) is both `Host` and `Origin`, and so looks like
/// the gateway's own page.
#[tokio::test]
async fn lp_2158919_host_poisons_the_allow_list() {
    let (gateway, console, token) = gateway_with_echo().await;
    let names = r#""allowed_origins": [], "hosts": ["consoles.example.com"]"#.to_owned();
    let envoy = gateway.envoy_with(&[(r#""allowed_origins": []"#, names)]).await;
    let page_at = |host: &str| {
        envoy.upgrade_with(&token).header("Host", host).header("Origin", &format!("https://{host}"))
    };

    for host in [
        "evil.example",
        "evil.example:443",
        "consoles.example.com.evil.example",
        "consoles.example.com@evil.example",
    ] {
        let answer = page_at(host).send().await;
        assert!(answer.status >= 400, "{host}");
        // The last is not even a host, which Envoy itself may say.
        assert!(answer.body.is_empty() || answer.code() == "host", "{host}: {}", answer.body);
    }
    let forwarded = page_at("evil.example").header("X-Forwarded-Host", "consoles.example.com");
    assert_eq!(forwarded.send().await.code(), "host");
    let foreign = page_at("consoles.example.com").header("Origin", "https://evil.example");
    assert_eq!(foreign.send().await.code(), "origin");
    assert_eq!(console.accepted(), 0);

    assert_echoes(&mut page_at("consoles.example.com").open().await, "typed").await;
    assert_echoes(&mut page_at("consoles.example.com:8443").open().await, "typed").await;
}

/// noVNC read the server to connect to from its page's URL and showed what that server sent as HTML.
#[tokio::test]
async fn cve_2017_18635_url_parameters_choose_the_server() {
    let gateway = gateway().await;
    let http = gateway.ca.http_client();
    // Our own page, and one of a folder of noVNC's own pages.
    for page in ["/console.html", "/README.md"] {
        for parameters in ["", "?host=evil.example&port=443&path=x", "?path=wss://evil.example/"] {
            let url = format!("{}{page}{parameters}", gateway.envoy.url());
            let answer = http.get(url).send().await.expect("a page");
            assert_eq!(answer.status(), 200, "{page}");
            let policy = answer.headers()["content-security-policy"].to_str().expect("text");
            let sources = |directive: &str| {
                policy.split("; ").find_map(|rule| rule.strip_prefix(directive)).map(str::trim)
            };
            assert_eq!(sources("connect-src "), Some("'self'"), "{page}");
            assert_eq!(sources("frame-ancestors "), Some("'none'"), "{page}");
            assert_eq!(sources("base-uri "), Some("'none'"), "{page}");
            assert!(!policy.contains("unsafe-eval") && !policy.contains('*'), "{policy}");
        }
    }
    let own = http.get(format!("{}/console.html", gateway.envoy.url()));
    let answer = own.send().await.expect("a page");
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(!policy.contains("unsafe-inline"), "{policy}");
}
