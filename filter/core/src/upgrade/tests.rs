use super::*;

const TOKEN: &str = "7b3d2f6e-0a41-4c8e-9d57-3f1f0b8a6c21";

fn config() -> Config {
    Config::parse(
        br#"{"authority": {"cluster": "a"}, "allowed_origins": ["https://Portal.example.com"]}"#,
    )
    .unwrap()
}

fn request(extra: &[(&str, &str)]) -> Headers {
    let base = [
        (":method", "GET"),
        (":path", "/websockify"),
        (":authority", "consoles.example.com"),
        (":scheme", "https"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let replaced = |name: &str| extra.iter().any(|(other, _)| *other == name);
    let mut headers: Vec<_> = base.iter().filter(|(name, _)| !replaced(name)).collect();
    headers.extend(extra.iter().filter(|(_, value)| !value.is_empty()));
    Headers(headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect())
}

fn read_http1(extra: &[(&str, &str)]) -> Result<Upgrade, Refusal> {
    read(&request(extra), HttpVersion::Http1, &config())
}

fn refusal(extra: &[(&str, &str)]) -> Refusal {
    read_http1(extra).map(|_| ()).unwrap_err()
}

fn token_path() -> String {
    format!("/websockify?token={TOKEN}")
}

#[test]
fn the_accept_key_is_that_of_rfc_6455_section_1_3() {
    let upgrade = read_http1(&[(":path", &token_path())]).map_err(|r| r.code()).ok().unwrap();
    assert_eq!(upgrade.handshake.accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(upgrade.handshake.subprotocol, None);
}

#[test]
fn extended_connect_has_no_key() {
    let headers = request(&[(":path", &token_path()), ("sec-websocket-key", "")]);
    let upgrade = read(&headers, HttpVersion::Http2OrLater, &config()).ok().unwrap();
    assert_eq!(upgrade.handshake.accept, None);
}

#[test]
fn the_token_is_found_in_subprotocol_query_and_cookie_in_this_order() {
    let offer = format!("binary, vncgate.token.{TOKEN}");
    let cookie = format!("a=b; token={TOKEN}");
    let quoted = format!("token=\"{TOKEN}\"");
    for (headers, path, subprotocol) in [
        (vec![("sec-websocket-protocol", offer.as_str())], "/websockify", Some("binary")),
        (vec![(":path", "/websockify?token=no&x=1&token=TOKEN")], "/websockify?x=1", None),
        (vec![(":path", "/?token=TOKEN")], "/", None),
        (vec![(":path", "/vnc.html?token=TOKEN")], "/vnc.html", None),
        (vec![(":path", "/w?%74oken=TOKEN&y")], "/w?y", None),
        (vec![("cookie", cookie.as_str())], "/websockify", None),
        (vec![("cookie", quoted.as_str())], "/websockify", None),
        (
            vec![
                ("sec-websocket-protocol", offer.as_str()),
                (":path", "/w?token=other"),
                ("cookie", "token=third"),
            ],
            "/w",
            Some("binary"),
        ),
        (vec![(":path", "/w?token=TOKEN"), ("cookie", "token=third")], "/w", None),
    ] {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, value.replace("TOKEN", TOKEN))).collect();
        let headers: Vec<_> = headers.iter().map(|(name, v)| (*name, v.as_str())).collect();
        let upgrade = read_http1(&headers).ok().unwrap();
        assert_eq!(upgrade.token, TOKEN, "{headers:?}");
        assert_eq!(upgrade.path, path, "{headers:?}");
        assert_eq!(upgrade.handshake.subprotocol, subprotocol, "{headers:?}");
    }
}

#[test]
fn a_token_of_another_form_is_refused() {
    let long = format!("/?token={}", "a".repeat(TOKEN_LEN_MAX + 1));
    for path in ["/?token=", "/?token", "/?token=a%20b", "/?token=a%00", "/?token=ä", &long] {
        assert_eq!(refusal(&[(":path", path)]), Refusal::TokenMalformed, "{path}");
    }
    for headers in [("cookie", "token"), ("cookie", "Token=x"), (":path", "/?tok=x")] {
        assert_eq!(refusal(&[headers]), Refusal::TokenMissing, "{headers:?}");
    }
}

#[test]
fn broken_handshakes_are_refused() {
    let path = token_path();
    let with = |header: (&'static str, &'static str)| refusal(&[(":path", &path), header]);
    assert_eq!(with((":method", "POST")), Refusal::MethodNotGet);
    assert_eq!(with(("sec-websocket-version", "")), Refusal::WebSocketVersion);
    assert_eq!(with(("sec-websocket-version", "8")), Refusal::WebSocketVersion);
    assert_eq!(with(("sec-websocket-version", "13, 8")), Refusal::WebSocketVersion);
    for key in ["", "c2hvcnQ=", "not base64", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZQ"]
    {
        assert_eq!(with(("sec-websocket-key", key)), Refusal::WebSocketKey, "{key}");
    }
    assert_eq!(with(("sec-websocket-protocol", "base64")), Refusal::Subprotocol);
    assert_eq!(with(("sec-websocket-protocol", "vncgate.token.x")), Refusal::Subprotocol);
    let long = format!("/{}?token={TOKEN}", "a".repeat(PATH_LEN_MAX));
    assert_eq!(refusal(&[(":path", &long)]), Refusal::PathTooLong);
}

#[test]
fn the_origin_is_absent_or_our_own_or_allowed() {
    let path = token_path();
    let allowed = |authority, scheme, origin| {
        read_http1(&[
            (":path", &path),
            (":authority", authority),
            (":scheme", scheme),
            ("origin", origin),
        ])
        .is_ok()
    };
    let host = "consoles.example.com";
    assert!(allowed(host, "https", ""));
    assert!(allowed(host, "https", "https://consoles.example.com"));
    assert!(allowed(host, "https", "https://CONSOLES.example.com:443"));
    assert!(allowed("consoles.example.com:8443", "https", "https://consoles.example.com:8443"));
    assert!(allowed("[::1]:8443", "https", "https://[::1]:8443"));
    assert!(allowed("[::1]", "https", "https://[::1]"));
    assert!(allowed(host, "https", "https://portal.example.com"));

    assert!(!allowed(host, "https", "http://consoles.example.com"));
    assert!(!allowed(host, "http", "https://consoles.example.com"));
    assert!(!allowed(host, "https", "https://consoles.example.com:8443"));
    assert!(!allowed(host, "https", "http://portal.example.com"));
    assert!(!allowed(host, "https", "https://portal.example.com.evil.example"));
    assert!(!allowed(host, "https", "https://evil.example"));
    assert!(!allowed(host, "https", "https://evil@consoles.example.com"));
    assert!(!allowed(host, "https", "null"));
    assert!(!allowed(host, "https", "file://"));
}

#[test]
fn a_name_that_is_not_ours_makes_no_origin_ours() {
    let config = Config::parse(
        br#"{"authority": {"cluster": "a"}, "hosts": ["Consoles.example.com", "[::1]"]}"#,
    )
    .unwrap();
    let path = token_path();
    let refused = |host: &str| {
        let origin = format!("https://{host}");
        let headers = request(&[(":path", &path), (":authority", host), ("origin", &origin)]);
        read(&headers, HttpVersion::Http1, &config).err()
    };
    assert_eq!(refused("consoles.example.com"), None);
    assert_eq!(refused("CONSOLES.example.com:8443"), None);
    assert_eq!(refused("[::1]:8443"), None);
    assert_eq!(refused("evil.example"), Some(Refusal::Host));
    assert_eq!(refused("consoles.example.com.evil.example"), Some(Refusal::Host));
}

#[test]
fn the_scheme_is_the_one_that_the_browser_used() {
    let headers = [
        (":path", &*token_path()),
        (":scheme", "http"),
        ("x-forwarded-proto", "https"),
        ("origin", "https://consoles.example.com"),
    ];
    assert!(read_http1(&headers).is_ok());
}

#[test]
fn only_upgrades_to_websocket_below_the_prefix_are_consoles() {
    let config =
        Config::parse(br#"{"authority": {"cluster": "a"}, "path_prefix": "/console/"}"#).unwrap();
    for (upgrade, path, expected) in [
        ("WebSocket", "/console/x", true),
        ("websocket", "/other", false),
        ("h2c", "/console/x", false),
        ("", "/console/x", false),
    ] {
        let headers = request(&[("upgrade", upgrade), (":path", path)]);
        assert_eq!(is_console_upgrade(&headers, &config), expected, "{upgrade} {path}");
    }
}

#[test]
fn upgrades_for_other_hosts_pass_only_if_the_configuration_says_so() {
    let config = |other_hosts: &str| {
        let json = format!(
            r#"{{"authority": {{"cluster": "a"}}, "hosts": ["consoles.example.com", "[2001:db8::1]"],
                "other_hosts": "{other_hosts}"}}"#
        );
        Config::parse(json.as_bytes()).unwrap()
    };
    for (authority, is_other) in [
        ("consoles.example.com", false),
        ("consoles.example.com:8443", false),
        ("Consoles.EXAMPLE.com", false),
        ("consoles.example.com.", false),
        ("consoles.example.com.:443", false),
        ("[2001:DB8:0::1]:443", false),
        // What cannot be read is not surely another host's.
        ("", false),
        ("user@consoles.example.com", false),
        ("consoles.example.com:80:443", false),
        ("consoles%2eexample.com", false),
        ("chat.example.com", true),
        ("chat.example.com:443", true),
        ("consoles.example.com.chat.example", true),
        ("xconsoles.example.com", true),
        ("[2001:db8::2]", true),
    ] {
        let headers = request(&[(":authority", authority), (":path", &token_path())]);
        assert!(is_console_upgrade(&headers, &config("refuse")), "{authority:?}");
        assert_eq!(is_console_upgrade(&headers, &config("pass")), !is_other, "{authority:?}");
        if is_other {
            let refused = read(&headers, HttpVersion::Http1, &config("refuse")).map(|_| ());
            assert_eq!(refused, Err(Refusal::Host), "{authority:?}");
        }
    }
}

#[test]
fn a_browser_shows_itself_once_and_in_its_form() {
    let read_browser = |offered: &str| {
        let offered = format!("binary, vncgate.token.t, {offered}");
        let headers = request(&[("sec-websocket-protocol", &offered)]);
        read(&headers, HttpVersion::Http1, &config()).map(|upgrade| upgrade.browser)
    };
    let secret = Browser::Secret("s".repeat(64));
    let digest = Browser::Digest("d".repeat(64));
    let (own, first) = (
        format!("vncgate.browser-secret.{}", "s".repeat(64)),
        format!("vncgate.browser-digest.{}", "d".repeat(64)),
    );
    assert!(read_browser("other") == Ok(None));
    assert!(read_browser(&own) == Ok(Some(secret)));
    assert!(read_browser(&first) == Ok(Some(digest)));
    for wrong in [
        format!("{own}, {own}"),
        format!("{own}, {first}"),
        "vncgate.browser-secret.".to_owned(),
        "vncgate.browser-digest.a b".to_owned(),
        format!("vncgate.browser-secret.{}", "s".repeat(TOKEN_LEN_MAX + 1)),
    ] {
        let refused = read_browser(&wrong).err();
        assert_eq!(refused, Some(Refusal::BrowserMalformed), "{wrong}");
    }
}
