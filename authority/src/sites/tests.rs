use super::*;
use serde_json::json;

#[test]
fn a_request_has_the_token_s_hash_and_a_response_the_pin_of_the_host() {
    let request = SiteRequest { token: TokenHash::of("t"), session: Uuid::nil() };
    let expected = json!({
        "token": TokenHash::of("t").to_string(),
        "session": "00000000-0000-0000-0000-000000000000",
    });
    assert_eq!(serde_json::to_value(request).unwrap(), expected);

    // Unknown fields of a newer authority are ignored.
    let target = json!({"protocol": "vnc", "address": "10.0.0.5:5901"});
    let response = json!({"target": target, "certificate": "ab".repeat(32), "more": 1});
    let console: RemoteConsole = serde_json::from_value(response).unwrap();
    assert_eq!(serde_json::to_value(&console).unwrap()["certificate"], "ab".repeat(32));
    for pin in ["", "ab", &"ab".repeat(33), &"xy".repeat(32)] {
        let response = json!({"target": target, "certificate": pin});
        assert!(serde_json::from_value::<RemoteConsole>(response).is_err(), "{pin}");
    }
}

#[test]
fn a_target_that_would_change_the_request_is_refused() {
    let target = |host: &str, path: &str, server_name: Option<&str>| {
        let mut target = json!({
            "protocol": "webmks", "address": "10.0.0.5:443", "host": host, "path": path,
        });
        if let Some(name) = server_name {
            target["server_name"] = json!(name);
        }
        check_target(&serde_json::from_value(target).unwrap())
    };
    assert_eq!(target("esx-1:8443", "/ticket/cst-++//a==", Some("esx-1.example.com")), Ok(()));
    assert_eq!(target("[2001:db8::5]", "/ticket/t", None), Ok(()));
    for (host, path, server_name) in [
        ("", "/ticket/t", None),
        ("esx-1\r\nx: y", "/ticket/t", None),
        ("esx-1", "ticket", None),
        ("esx-1", "/ticket t", None),
        ("esx-1", "/ticket/t", Some("esx 1")),
        ("esx-1", "/ticket/t", Some("10.0.0.5\0")),
    ] {
        assert!(target(host, path, server_name).is_err(), "{host:?} {path:?} {server_name:?}");
    }
}

#[test]
fn a_site_s_consoles_are_in_its_networks() {
    let networks = ["10.8.0.0/16", "2001:db8:8::/48"].map(|network| network.parse().unwrap());
    let target = |address: &str| {
        serde_json::from_value(json!({"protocol": "vnc", "address": address})).unwrap()
    };
    for (address, allowed) in [
        ("10.8.255.1:5901", true),
        ("[::ffff:10.8.0.1]:5901", true),
        ("[2001:db8:8:1::5]:5901", true),
        ("10.9.0.1:5901", false),
        ("127.0.0.1:9901", false),
        ("[::1]:9901", false),
        ("[::ffff:127.0.0.1]:9901", false),
        ("[::10.8.0.1]:5901", false),
        ("0.0.0.0:9901", false),
    ] {
        let checked = check_network(&target(address), &networks);
        assert_eq!(checked.is_ok(), allowed, "{address}: {checked:?}");
        assert_eq!(check_network(&target(address), &[]), Ok(()), "another rule's");
    }
}
