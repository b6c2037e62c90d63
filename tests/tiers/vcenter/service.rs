//! The authority as a service: it drains when told to end, and keeps its secrets.

use crate::fixture::{ESXI, Site};
use nix::sys::signal::Signal;
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use vncgate_test_support::certificate::plain_http_client;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::process::Process;
use vncgate_test_support::vcsim::PASSWORD;
use vncgate_test_support::wait::until_some;
use vncgate_test_support::workspace;

#[tokio::test]
async fn at_sigterm_a_request_under_way_is_answered_and_no_new_one_is_taken() {
    let mut site = Site::start("drain").await;
    let id = site.authority.process().id();
    let (vm, port, token) = site.machine_and_token().await;
    site.vcenter.freeze();
    let check = site.check(&token);
    let issue = site.issue(&vm, json!({"type": "novnc"}));
    let public = site.authority.config().public();
    let drain = async {
        // Both requests wait for vCenter by now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        signal(id, Signal::SIGTERM);
        until_some("a closed listener", async || TcpStream::connect(public).await.err()).await;
        assert_eq!(site.readiness().await, 503, "and it says so while it drains");
        site.vcenter.thaw();
    };
    let (granted, issued, ()) = tokio::join!(check, issue, drain);
    granted.assert_granted(ESXI, port);
    assert_eq!(issued.status, 200, "{}", issued.body);

    let process = site.authority.process();
    let status = until_some("the end of the authority", async || process.exit_status()).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn the_internal_listener_may_be_a_unix_socket() {
    let site = Site::start("unix").await;
    let socket = site.run.path("internal.sock");
    let config = std::fs::read_to_string(site.run.path("authority.toml")).expect("a configuration");
    let internal = site.authority.config().internal().to_string();
    let public = site.authority.config().public().to_string();
    let metrics = site.authority.config().metrics().to_string();
    let config = config
        .replace(&internal, &format!("unix:{}", socket.display()))
        .replace(&public, &workspace::free_address().to_string())
        .replace(&metrics, &workspace::free_address().to_string());
    let config = site.run.write("unix.toml", config);
    let mut command = Command::new(workspace::authority());
    command.args(["serve", "--config"]).arg(config);
    let mut process = Process::start(&site.run, "unix", &command);
    let mut connection = process.ready(async || UnixStream::connect(&socket).await.ok()).await;

    let request = b"GET /readyz HTTP/1.1\r\nHost: authority\r\nConnection: close\r\n\r\n";
    connection.write_all(request).await.expect("ask");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

    process.signal(Signal::SIGTERM);
    until_some("the end of the authority", async || process.exit_status()).await;
    assert!(!socket.exists(), "its socket goes with it");
}

/// CVE-2015-9543: tokens in logs. Here with the most talkative log that there is.
#[tokio::test]
async fn no_secret_is_in_log_or_metrics() {
    let site = Site::start_with("secrets", |config, _, _| {
        config
            .with("#level = \"info\"", "level = \"trace\"")
            .with("#format = \"text\"", "format = \"json\"")
    })
    .await;
    let (vm, port, token) = site.machine_and_token().await;
    site.check(&token).await.assert_granted(ESXI, port);
    site.status(&token).await;
    site.machines_named(&vm.name).await;
    site.vcenter.end_sessions();
    site.check(&token).await.assert_granted(ESXI, port);
    site.vcenter.set_console_port(&vm.name, port + 1000);
    site.check(&token).await.assert_refused(409, "console_moved");
    site.vcenter.power_off(&vm.name);
    site.check(&token).await.assert_refused(409, "console_unavailable");
    site.check("11111111-2222-4333-8444-555555555555").await.assert_refused(403, "token_invalid");
    let internal = site.authority.config().internal();
    let garbage = plain_http_client()
        .post(format!("http://{internal}/v1/check"))
        .body(format!("{{{token}}}"));
    assert_eq!(garbage.send().await.expect("an answer").status(), 400);
    let wrong = format!("http://{}/v1/vms", site.authority.config().public());
    let wrong = plain_http_client().get(wrong).header("X-Auth-Token", "a-wrong-api-token");
    assert_eq!(wrong.send().await.expect("an answer").status(), 401);

    let log = site.authority.log();
    assert!(log.contains("session granted") && log.contains("TRACE"), "the log is there: {log}");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let metrics = site.authority.metrics().await;
    for secret in [
        token.as_str(),
        "11111111-2222-4333-8444-555555555555",
        API_TOKEN,
        "a-wrong-api-token",
        PASSWORD,
        "p&amp;ss",
        "vmware_soap_session",
    ] {
        for (place, text) in [("log", &log), ("metrics", &metrics)] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
}

fn signal(id: u32, signal: Signal) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(id).expect("process ids fit"));
    nix::sys::signal::kill(id, signal).expect("the authority runs");
}
