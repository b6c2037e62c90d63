//! Who had which console, and why did a user fail: answered from the logs alone, by the commands of docs/operations.md.

use reqwest::Method;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, SystemTime};
use vncgate_test_support::authority::Config;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::console_api::ConsoleApi;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::keystone::{Keystone, PASSWORD, Scope};
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::screen::RfbServer;
use vncgate_test_support::session::next;
use vncgate_test_support::wait::until;
use vncgate_test_support::workspace::{checkout, free_address_of};

const PROJECT: &str = "tenant-a";

fn configured(config: Config, keystone: &Keystone) -> Config {
    let table = [
        ("#[auth.keystone]", "[auth.keystone]".to_owned()),
        (r#"#url = "https://keystone.example.com/v3""#, format!("url = \"{}\"", keystone.url())),
        (r#"#ca_file = "keystone-ca.pem""#, r#"ca_file = "ca.pem""#.to_owned()),
        (
            "#username = \"vncgate\"\n#password_file = \"keystone.password\"",
            "username = \"vncgate\"\npassword_file = \"keystone.password\"".to_owned(),
        ),
        (r#"#open_console = ["admin"]"#, r#"open_console = ["admin", "member"]"#.to_owned()),
        (r#"#every_project = ["admin"]"#, r#"every_project = ["admin", "member"]"#.to_owned()),
        (r#"#format = "text""#, r#"format = "json""#.to_owned()),
    ];
    table.iter().fold(config, |config, (literal, replacement)| config.with(literal, replacement))
}

/// The commands of docs/operations.md in which `word` is, as they stand there but for the values that they export.
fn documented(word: &str) -> String {
    let page = checkout().join("docs/operations.md");
    let page = std::fs::read_to_string(page).expect("docs/operations.md");
    let (_, rest) = page.split_once("## Who opened what").expect("the heading");
    let blocks = rest.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let mut blocks = blocks.filter(|block| block.contains(word));
    let block = blocks.next().unwrap_or_else(|| panic!("no command with {word}"));
    let lines = block.lines().filter(|line| !line.starts_with("export "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs such a command on the gateway's two logs, and returns the objects that it prints.
fn ask(gateway: &Gateway, word: &str, variables: &[(&str, &str)]) -> Vec<Value> {
    gateway.run.write("authority.log", gateway.authority.log());
    let lines = gateway.envoy.access_log();
    let lines: Vec<_> = lines.iter().map(|line| format!("{line}\n")).collect();
    gateway.run.write("envoy.log", lines.concat());
    let mut shell = Command::new("sh");
    shell.args(["-euc", &documented(word)]).current_dir(gateway.run.path(""));
    let printed = run_to_end(shell.envs(variables.iter().copied()));
    let objects = printed.lines().map(|line| serde_json::from_str(line).expect("an object a line"));
    objects.collect()
}

fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    run_to_end(Command::new("date").args(["--utc", "+%FT%TZ", "--date", &format!("@{seconds}")]))
        .trim()
        .to_owned()
}

#[tokio::test]
async fn the_logs_tell_who_had_a_console_and_why_a_user_failed() {
    let run = Run::new("who");
    let ca = Ca::new(&run);
    let keystone = Keystone::start(&run, &ca).await;
    let project = keystone.create_project(PROJECT).await;
    keystone.create_project("service").await;
    keystone.create_user("vncgate", "service", "service").await;
    keystone.create_user("alice", PROJECT, "member").await;
    // What a user's name may hold forges no line and commands no terminal.
    let odd = "bob\u{1b}[31m\",\"user\":\"alice";
    keystone.create_user(odd, PROJECT, "member").await;
    run.write("keystone.password", PASSWORD);
    let gateway = Gateway::start_in(run, ca, |config| configured(config, &keystone), &[]).await;
    let console = RfbServer::start(ESXI_HOSTS[0]).await;
    let payroll = gateway.vcenter.create_vm("payroll-1", ESXI_HOSTS[0], console.address().port());
    let other = gateway.vcenter.create_vm("other-1", ESXI_HOSTS[0], 5902);
    let closed = free_address_of(ESXI_HOSTS[0]);
    let unreachable = gateway.vcenter.create_vm("closed-1", closed.ip(), closed.port());
    let api_of = async |user: &str| {
        let token = keystone.token(user, Scope::Project(PROJECT)).await;
        let http = gateway.ca.http_client();
        ConsoleApi::new(gateway.envoy.url(), http).with_token(token)
    };
    let (alice, bob) = (api_of("alice").await, api_of(odd).await);

    // Alice has the console for a while, and the portal after her.
    let began = SystemTime::now();
    let mut session = gateway.envoy.open(&alice.console(&payroll).await.token).await;
    next(&mut session).await;
    session.close(None).await.expect("close");
    drop(session);
    until("the end of her session", async || {
        gateway
            .envoy
            .access_log()
            .iter()
            .any(|line| line["event"] == "DownstreamEnd" && line["session"].is_string())
    })
    .await;
    let ended = SystemTime::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let portals = gateway.envoy.open(&gateway.issue(&payroll).await).await;
    // Bob has links that open nothing: one revoked, of one the machine is off, one leads nowhere.
    let revoked = bob.console(&payroll).await.token;
    let listed = gateway
        .authority
        .request(Method::GET, &format!("/v1/instances/{}/tokens", payroll.instance_uuid));
    let listed: Value = listed.send().await.expect("an answer").json().await.expect("JSON");
    let of_bob = listed["tokens"]
        .as_array()
        .expect("tokens")
        .iter()
        .find(|token| token["user"].as_str().is_some_and(|user| user.starts_with("bob")));
    let id = of_bob.expect("a token of Bob's")["id"].as_str().expect("an id");
    let revoking = gateway.authority.request(Method::DELETE, &format!("/v1/tokens/{id}"));
    assert_eq!(revoking.send().await.expect("an answer").status(), 204);
    let off = bob.console(&other).await.token;
    gateway.vcenter.power_off(&other.name);
    let nowhere = bob.console(&unreachable).await.token;
    for (token, code) in [
        (&revoked, "token_invalid"),
        (&off, "console_unavailable"),
        (&nowhere, "console_unreachable"),
    ] {
        let answer = gateway.envoy.send(token).await;
        let request_id = answer.header("x-request-id").expect("an id").to_owned();
        assert_eq!(answer.code(), code);
        gateway.envoy.entry(Some("DownstreamEnd"), &request_id).await;
    }
    gateway.vcenter.withhold(&other.name, &["runtime.powerState"]).await;
    assert_eq!(bob.request_console(&other.instance_uuid).await.status(), 409);
    let foreign = gateway.envoy.upgrade_with(&off).header("Origin", "https://evil.example");
    let answer = foreign.send().await;
    let request_id = answer.header("x-request-id").expect("an id").to_owned();
    gateway.envoy.entry(Some("DownstreamEnd"), &request_id).await;

    // Every line is JSON, and no value of it was quoted before it became JSON.
    for line in gateway.authority.log().lines() {
        let line: Value = serde_json::from_str(line).expect("a JSON object a line");
        for (name, value) in line.as_object().expect("an object") {
            let value = value.as_str().unwrap_or_default();
            assert!(!value.starts_with('"') && !value.contains('\u{1b}'), "{name} of {line}");
        }
    }

    let at = |time: SystemTime| rfc3339(time);
    let period = |from, to| {
        let machine = payroll.name.clone();
        let variables = [("MACHINE", machine), ("FROM", at(from)), ("TO", at(to))];
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(&gateway, "env.MACHINE", &variables)
    };
    let had = period(began, ended);
    assert_eq!(had.len(), 1, "{had:?}");
    let expected = json!({
        "user": "alice@Default", "project": project, "client": "127.0.0.1",
        "host": ESXI_HOSTS[0].to_string(), "address": console.address().to_string(),
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&had[0][field], value, "{field} of {had:?}");
    }
    assert!(had[0]["caller"].as_str().is_some_and(|caller| caller.starts_with("keystone:")));
    assert!(had[0]["to"].as_str() >= had[0]["from"].as_str(), "{had:?}");
    let later = period(ended + Duration::from_secs(2), SystemTime::now());
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&later[0]["caller"], &later[0]["to"]), (&json!("api_token:portal"), &Value::Null));

    let name = "bob\\u{1b}[31m\",\"user\":\"alice@Default";
    let failed = ask(&gateway, "env.WHO", &[("WHO", name)]);
    let told: Vec<_> = failed
        .iter()
        .map(|line| {
            (
                line["refusal"].as_str().unwrap_or_default(),
                line["machine"].as_str(),
                &line["instance"],
            )
        })
        .collect();
    let (payroll_id, other_id) = (json!(payroll.instance_uuid), json!(other.instance_uuid));
    assert_eq!(
        told,
        [
            ("token_invalid", Some("payroll-1"), &payroll_id),
            ("console_unavailable", Some("other-1"), &other_id),
            ("conflictingRequest", None, &other_id),
            ("console_unreachable", Some("closed-1"), &json!(unreachable.instance_uuid)),
        ],
        "{failed:#?}"
    );
    assert_eq!(failed[1]["error"], "the machine is powered off");
    assert_eq!(ask(&gateway, "env.WHO", &[("WHO", "alice@Default")]), [] as [Value; 0]);

    // Both logs name the machine of a refusal, and join by the request.
    let refused = &failed[1];
    let request_id = refused["request_id"].as_str().expect("a request id");
    let line = gateway.envoy.entry(Some("DownstreamEnd"), request_id).await;
    for field in ["instance", "client", "refusal", "request_id"] {
        assert_eq!(line[field], refused[field], "{field}");
    }
    let by_address = ask(&gateway, "env.CLIENT", &[("CLIENT", "127.0.0.1")]);
    let origin = by_address.iter().find(|line| line["refusal"] == "origin");
    assert_eq!(origin.expect("the filter's own refusal")["request_id"], request_id_of(&answer));
    drop(portals);
}

fn request_id_of(answer: &vncgate_test_support::websocket::UpgradeResponse) -> Value {
    json!(answer.header("x-request-id").expect("an id"))
}
