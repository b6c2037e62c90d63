//! The authority's commands, as a person types them.

use crate::fixture::Site;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::{Command, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vncgate_test_support::certificate::plain_http_client;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::workspace;

/// The authority's program without any variable of the caller's.
fn authority() -> Command {
    let mut command = Command::new(workspace::authority());
    command.env_clear();
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("run the authority");
    let text = |bytes| String::from_utf8(bytes).expect("its output is text");
    (status.code(), text(stdout), text(stderr))
}

/// `console` against this site, with the API token in the environment.
fn console(site: &Site, vm: &str) -> (Option<i32>, String, String) {
    let url = format!("http://{}", site.authority.config().public());
    run(authority().args(["console", "--url", &url, vm]).env("VNCGATE_API_TOKEN", API_TOKEN))
}

#[tokio::test]
async fn a_console_is_opened_by_name_or_by_uuid() {
    let site = Site::shared().await;
    let (vm, _) = site.machine_by_name().await;
    for by in [&vm.name, &vm.instance_uuid] {
        let (code, stdout, stderr) = console(site, by);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stderr}");
        let url = stdout.strip_suffix('\n').expect("one line");
        let (_, token) = url.split_once("/console.html#token=").expect("the URL alone");
        assert_eq!(site.check(token).await.status, 200);
    }
}

#[tokio::test]
async fn a_link_for_a_guest_has_the_access_the_label_and_the_life_that_were_asked_for() {
    let site = Site::shared().await;
    let (vm, _) = site.machine_by_name().await;
    let url = format!("http://{}", site.authority.config().public());
    let ask = |options: &[&str]| {
        let mut command = authority();
        let command = command.args(["console", "--url", &url, &vm.name]).args(options);
        run(command.env("VNCGATE_API_TOKEN", API_TOKEN))
    };
    for (options, access, clipboard) in [
        (&["--view", "--ttl", "2h", "--label", "vendor"][..], json!("view"), Value::Null),
        (&["--no-clipboard", "--label", "vendor"], Value::Null, json!(false)),
    ] {
        let (code, stdout, stderr) = ask(options);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stderr}");
        let (_, token) = stdout.trim_end().split_once("#token=").expect("a token");
        let granted = site.authority.check_of(token, None).await.body;
        assert_eq!((&granted["access"], &granted["clipboard"]), (&access, &clipboard));
    }
    let path = format!("/v1/instances/{}/tokens", vm.instance_uuid);
    let listed = site.authority.request(Method::GET, &path).send().await.expect("an answer");
    let listed: Value = listed.json().await.expect("JSON");
    let [view, no_clipboard] = listed["tokens"].as_array().expect("a list").as_slice() else {
        panic!("{listed}")
    };
    assert_eq!((&view["label"], &no_clipboard["label"]), (&json!("vendor"), &json!("vendor")));
    // RFC 3339 in UTC: two hours are later than ten minutes.
    let ends = [view, no_clipboard].map(|token| token["expires_at"].as_str().expect("a time"));
    assert!(ends[0] > ends[1], "{ends:?}");
    let (code, _, stderr) = ask(&["--ttl", "2h"]);
    assert_eq!(code, Some(1), "with control it lives for token_ttl at most");
    assert!(stderr.contains("HTTP 400"), "{stderr}");
}

#[tokio::test]
async fn a_link_that_is_checked_is_not_printed() {
    let site = Site::shared().await;
    let (vm, _) = site.machine_by_name().await;
    let url = format!("http://{}", site.authority.config().public());
    let check = || {
        let mut command = authority();
        command.args(["console", "--check", "--url", &url, &vm.name]);
        run(command.env("VNCGATE_API_TOKEN", API_TOKEN))
    };
    let opens = format!("the console of {} would open (vnc)\n", vm.name);
    assert_eq!(check(), (Some(0), opens, String::new()));

    // A console that is gone when its link is checked.
    let link = "https://x/console.html#token=5d93eed6-a1b7-4668-903c-b43c7c81d44c";
    let issued = json!({"console": {"url": link}}).to_string();
    let refusal = json!({"code": "console_moved", "message": "It moved."}).to_string();
    let server = TcpServer::start([127, 0, 0, 1].into(), move |mut connection| {
        let (issued, refusal) = (issued.clone(), refusal.clone());
        async move {
            let mut question = [0; 4096];
            let length = connection.read(&mut question).await.expect("a request");
            let is_check = question[..length].starts_with(b"GET /console/status ");
            let (status, body) =
                if is_check { ("409 Conflict", refusal) } else { ("200 OK", issued) };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            connection.write_all(answer.as_bytes()).await.expect("the answer is read");
        }
    })
    .await;
    let mut command = authority();
    command.args(["console", "--check", "--url", &format!("http://{}", server.address())]);
    command.arg("5d93eed6-a1b7-5668-903c-b43c7c81d44c").env("VNCGATE_API_TOKEN", API_TOKEN);
    let checked = tokio::task::spawn_blocking(move || run(&mut command)).await;
    let (code, stdout, stderr) = checked.expect("run it");
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr, "vncgate-authority: It moved. (HTTP 409)\n");
}

#[tokio::test]
async fn a_console_that_cannot_be_had_is_an_error_that_helps() {
    let site = Site::shared().await;
    let (vm, _) = site.machine_by_name().await;
    let (twin, _) = site.machine_by_name().await;
    site.vcenter.govc(&["vm.change", "-vm", &twin.name, "-name", &format!("twin-of-{}", vm.name)]);
    // Of a machine whose state is not known it is not known either where its console is.
    site.vcenter.withhold(&vm.name, &["runtime.powerState"]).await;
    for (what, said) in [
        ("no-such-name", "no virtual machine is named \"no-such-name\""),
        ("00000000-0000-4000-8000-000000000000", "could not be found. (HTTP 404)"),
        (vm.name.as_str(), "is not ready (HTTP 409)"),
    ] {
        let (code, stdout, stderr) = console(site, what);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{what}");
        assert!(stderr.starts_with("vncgate-authority: ") && stderr.contains(said), "{stderr}");
    }
    let public = format!("http://{}", site.authority.config().public());
    let (_, _, stderr) = run(authority().args(["console", "--url", &public, "x"]));
    assert!(stderr.contains("set VNCGATE_API_TOKEN"), "{stderr}");
    let wrong = site.run.write("wrong-token", "wrong\n");
    let mut command = authority();
    let (_, _, stderr) =
        run(command.args(["console", "--url", &public, "x", "--token-file"]).arg(wrong));
    assert!(stderr.contains("the authority refuses the API token"), "{stderr}");
    let mut unreachable = authority();
    let unreachable = unreachable.args(["console", "x"]).env("VNCGATE_API_TOKEN", "x");
    let (_, _, stderr) = run(unreachable.env("VNCGATE_URL", "http://127.0.0.1:1"));
    assert!(stderr.contains("no answer from http://127.0.0.1:1/"), "{stderr}");
}

#[tokio::test]
async fn an_api_token_that_was_made_is_one_that_works() {
    let (code, stdout, _) = run(authority().args(["api-token", "--name", "a \"quoted\" name"]));
    assert_eq!(code, Some(0));
    let token = stdout.lines().nth(1).expect("the token").to_owned();
    let (_, block) = stdout.split_once("[[auth.api_token]]").expect("the configuration");
    let block = format!("[[auth.api_token]]{block}\n[[auth.api_token]]\nname = \"portal\"");
    let site = Site::start_with("api-token", |config, _, _| {
        config.with("[[auth.api_token]]\nname = \"portal\"", &block)
    })
    .await;
    let url = format!("http://{}/v1/vms", site.authority.config().public());
    let ask = async |token: &str| {
        let request = plain_http_client().get(&url).header("X-Auth-Token", token);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask(&token).await, 200);
    assert_eq!(ask(API_TOKEN).await, 200);
    assert_eq!(ask("wrong").await, 401);
}

#[test]
fn a_bad_configuration_is_told_whole_and_never_runs() {
    let run_directory = Run::new("bad-configuration");
    let path = run_directory
        .write("bad.toml", "[listen]\npublic = 1\n[consoles]\n[tokens]\nstore = 'x'\n");
    for command in ["serve", "check-config"] {
        let (code, stdout, stderr) = run(authority().args([command, "--config"]).arg(&path));
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{stderr}");
        for fault in [
            "listen.public:",
            "consoles: is not a known key",
            "tokens.store:",
            "auth.api_token:",
            "vcenter:",
        ] {
            assert!(stderr.contains(fault), "{fault} in {stderr}");
        }
    }
    let (code, _, stderr) = run(authority().args(["check-config", "--config", "/no/such/file"]));
    assert_eq!(code, Some(64));
    assert!(stderr.contains("cannot read /no/such/file"), "{stderr}");
}

#[tokio::test]
async fn a_good_configuration_is_called_good_and_a_taken_address_is_named() {
    let site = Site::shared().await;
    let config = site.run.path("authority.toml");
    let (code, stdout, _) = run(authority().args(["check-config", "--config"]).arg(&config));
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("is a good configuration\n"), "{stdout}");

    let (code, _, stderr) = run(authority().args(["serve", "--config"]).arg(&config));
    assert_eq!(code, Some(1));
    let public = site.authority.config().public().to_string();
    assert!(
        stderr.contains(&format!("cannot listen on {public}: Address already in use")),
        "{stderr}"
    );
}

#[test]
fn help_teaches_by_example() {
    let (code, stdout, _) = run(authority().arg("--help"));
    assert_eq!(code, Some(0));
    for taught in
        ["Examples:", "vncgate-authority api-token --name", "serve --config", "VNCGATE_API_TOKEN"]
    {
        assert!(stdout.contains(taught), "{taught} in {stdout}");
    }
}

/// A server's answer set colours and title of the terminal that it was printed on, and took any memory.
#[tokio::test]
async fn what_a_server_says_is_printed_escaped_and_bounded() {
    let evil = "\u{1b}]0;title\u{7}\u{1b}[2J\r\n\u{9b}31m\u{202e}";
    let long = format!("{evil}{}", "x".repeat(100_000));
    let vm = json!({"instance_uuid": null, "power_state": long, "host": long});
    let url = |url: &str| json!({"console": {"url": url}}).to_string();
    let uuid = "5d93eed6-a1b7-5668-903c-b43c7c81d44c";
    for (vm, status, body) in [
        (uuid, "409 Conflict", json!({"conflictingRequest": {"message": long}}).to_string()),
        (uuid, "200 OK", url(&format!("https://x/{evil}"))),
        (uuid, "200 OK", url("javascript:alert(1)")),
        (uuid, "200 OK", url(&format!("https://x/{}", "x".repeat(100_000)))),
        (uuid, "200 OK", json!({"console": evil}).to_string()),
        (uuid, "200 OK", evil.to_owned()),
        ("web", "200 OK", json!({"vms": [], "unavailable": [long]}).to_string()),
        ("web", "200 OK", json!({"vms": vec![vm; 1_000]}).to_string()),
        (
            "web",
            "200 OK",
            json!({"vms": [{"instance_uuid": long, "power_state": "", "host": ""}]}).to_string(),
        ),
    ] {
        let (code, stdout, stderr) = ask(vm, &format!("HTTP/1.1 {status}\r\n"), body).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.starts_with("vncgate-authority: "), "{stderr}");
        assert!(
            !stderr.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{stderr:?}"
        );
        assert!(stderr.len() < 50_000 && stderr.lines().count() < 30, "{} bytes", stderr.len());
    }
    let (_, _, stderr) = ask(uuid, "HTTP/1.1 200 OK\r\n", " ".repeat(20 << 20)).await;
    assert!(stderr.contains("is larger than 16777216 bytes"), "{stderr}");
}

/// What the command says to a server that answers so.
async fn ask(vm: &str, head: &str, body: String) -> (Option<i32>, String, String) {
    let answer = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let server = TcpServer::start([127, 0, 0, 1].into(), move |mut connection| {
        let answer = answer.clone();
        async move {
            let mut question = [0; 4096];
            let _ = connection.read(&mut question).await;
            // The command may close before all of it is sent.
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let url = format!("http://{}", server.address());
    let vm = vm.to_owned();
    tokio::task::spawn_blocking(move || {
        run(authority().args(["console", "--url", &url, &vm]).env("VNCGATE_API_TOKEN", API_TOKEN))
    })
    .await
    .expect("it runs")
}
