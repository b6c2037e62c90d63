//! What the filter needs of its host, and which configurations it takes.

use crate::story::*;
use vncgate_envoy_sim::{Host, LogLevel, Setup, StartError, built_filter};

#[test]
fn the_filter_needs_nothing_but_proxy_wasm() {
    let imports = built_filter().imports();
    assert!(imports.contains(&"env.proxy_http_call".to_owned()), "{imports:?}");
    for import in imports {
        assert!(import.starts_with("env.proxy_"), "{import} is no function of the ABI");
    }
}

#[test]
fn a_configuration_needs_the_cluster_alone() {
    for configuration in [
        r#"{"authority": {"cluster": "c"}}"#,
        r#"{"authority": {"cluster": "c", "timeout_ms": 100}, "allowed_origins": [],
            "path_prefix": "/console", "cookie_name": "vncgate"}"#,
    ] {
        assert_sound(&configured(configuration));
    }
}

#[test]
fn the_configuration_reaches_the_call() {
    let host = configured(
        r#"{"authority": {"cluster": "vncgate_authority_internal", "timeout_ms": 250},
            "cookie_name": "console"}"#,
    );
    let mut headers = upgrade_without_token();
    headers.replace("cookie", format!("token=other; console={TOKEN}"));
    let (_browser, call) = asked(&host, headers);
    assert_eq!(call.timeout.as_millis(), 250);
}

#[test]
fn a_bad_configuration_is_refused_with_every_fault() {
    let faults_of = |configuration: &[u8]| {
        let setup = Setup { configuration, ..Setup::default() };
        match Host::start(built_filter(), &setup).map(drop) {
            Err(StartError::Refused { function, logs }) => {
                assert_eq!(function, "proxy_on_configure");
                logs.into_iter()
                    .filter(|line| line.level >= LogLevel::Error)
                    .map(|line| line.message)
                    .collect::<Vec<_>>()
            }
            other => panic!("a refusal, not {other:?}"),
        }
    };
    let every_field = br#"{"authority": {"cluster": "", "timeout_ms": 0}, "path_prefix": "console",
        "allowed_origins": ["portal.example.com", "null"], "cookie_name": "a b",
        "ping_interval_ms": 1}"#;
    let faults = faults_of(every_field).join("\n");
    for part in [
        "authority.cluster",
        "authority.timeout_ms",
        "path_prefix",
        "portal.example.com",
        "null",
        "cookie_name",
        "ping_interval_ms",
    ] {
        assert!(faults.contains(part), "{part} is not named in:\n{faults}");
    }

    for (configuration, part) in [
        (&b""[..], "EOF"),
        (b"{", "EOF"),
        (b"[]", "invalid"),
        (b"\xff\xfe", "expected value"),
        (b"{}", "authority"),
        (br#"{"authority": {}}"#, "cluster"),
        (br#"{"authority": {"cluster": 7}}"#, "string"),
        (br#"{"authority": {"cluster": "c"}, "orgins": []}"#, "orgins"),
        (br#"{"authority": {"cluster": "c", "timeout": 1}}"#, "timeout"),
        (br#"{"authority": {"cluster": "c", "timeout_ms": -1}}"#, "-1"),
        (br#"{"authority": {"cluster": "c"}} trailing"#, "trailing"),
    ] {
        let faults = faults_of(configuration);
        let [fault] = &faults[..] else { panic!("one fault, not {faults:?}") };
        assert!(fault.contains(part), "{part} is not named in: {fault}");
    }
    let nested = [b'['].repeat(100_000);
    assert_eq!(faults_of(&nested).len(), 1);
}
