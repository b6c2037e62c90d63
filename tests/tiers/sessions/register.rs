//! The register of live sessions through the whole path: consoles that browsers open are listed and ended, by the API and by
//! the command line, at one authority or at several, whatever dies meanwhile.

use crate::fixture::ESXI;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::authority::{Authority, Config, new_api_token};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{assert_echoes, close_of, next};
use vncgate_test_support::stores::Store;
use vncgate_test_support::tenant::Tenant;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::wait::{SLACK, until, until_some, until_within};
use vncgate_test_support::websocket::WebSocket;
use vncgate_test_support::workspace::{self, free_address};

/// How soon a session is in the register, or out of it.
const KNOWN: Duration = Duration::from_secs(1);

/// How soon the register is right when an authority is back.
const KNOWN_AGAIN: Duration = Duration::from_secs(5);

/// How soon the sessions of an Envoy that was killed are out of it.
const GONE: Duration = Duration::from_secs(30);

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("the API answers");
    let status = answer.status();
    let text = answer.text().await.expect("the whole answer");
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn sessions(authority: &Authority, query: &str) -> Vec<Value> {
    let path = format!("/v1/sessions{query}");
    let (status, body) = answer(authority.request(Method::GET, &path)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["sessions"].as_array().expect("a list").clone()
}

/// The identifiers of the open sessions of a machine.
async fn ids(authority: &Authority, vm: &Vm) -> BTreeSet<String> {
    let listed = sessions(authority, &format!("?machine={}", vm.instance_uuid)).await;
    listed.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

async fn until_listed(authority: &Authority, vm: &Vm, count: usize, limit: Duration) {
    let listed = async || (ids(authority, vm).await.len() == count).then_some(());
    until_within(&format!("{count} sessions are listed"), limit, listed).await;
}

async fn end(authority: &Authority, session: &str, reason: &str) -> StatusCode {
    let path = format!("/v1/sessions/{session}");
    let request = authority.request(Method::DELETE, &path).json(&json!({"reason": reason}));
    answer(request).await.0
}

/// A session of the token's, greeted.
async fn browse(envoy: &Envoy, token: &str) -> WebSocket {
    let mut browser = envoy.open(token).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    browser
}

/// A machine with a console that echoes, and a session of it.
async fn open(gateway: &Gateway) -> (Vm, String, WebSocket) {
    let screen = Box::leak(Box::new(TcpServer::echo(ESXI).await));
    let vm = gateway.machine_at(screen.address());
    let token = gateway.issue(&vm).await;
    let browser = browse(&gateway.envoy, &token).await;
    (vm, token, browser)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_listed_ended_and_gone_within_a_second_each() {
    let gateway = Gateway::start("register").await;
    let (vm, token, mut browser) = open(&gateway).await;
    assert_echoes(&mut browser, "typed").await;
    until_listed(&gateway.authority, &vm, 1, KNOWN).await;
    let listed = sessions(&gateway.authority, &format!("?machine={}", vm.name)).await;
    let [session] = &listed[..] else { panic!("{listed:?}") };
    let token_id = hex(&Sha256::digest(&token));
    let expected = json!({"instance_uuid": vm.instance_uuid, "machine": vm.name,
        "service_host": "vcenter-a", "protocol": "vnc", "console_type": "novnc",
        "caller": "api_token:portal", "user": null, "project": null, "token_id": token_id,
        "client": "127.0.0.1", "gateway": "vncgate", "ending": null});
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(session[field], *value, "{field} of {session}");
    }
    assert_eq!(session["target"].as_str().unwrap().split(':').next(), Some("127.0.0.2"));
    let traffic = async || {
        let listed = sessions(&gateway.authority, &format!("?machine={}", vm.name)).await;
        listed[0]["bytes_from_browser"].as_u64().filter(|bytes| *bytes > 0)
    };
    until_within("its traffic is reported", Duration::from_secs(25), traffic).await;

    let id = session["id"].as_str().expect("an id");
    let ordered = Instant::now();
    assert_eq!(end(&gateway.authority, id, "Wartung").await, StatusCode::NO_CONTENT);
    assert!(ordered.elapsed() < KNOWN + SLACK, "{:?}", ordered.elapsed());
    let close = close_of(&mut browser).await;
    assert_eq!(close, (1001, "ended_by_operator: Wartung".to_owned()));
    assert_eq!(ids(&gateway.authority, &vm).await.len(), 0);
    assert_eq!(end(&gateway.authority, id, "again").await, StatusCode::NOT_FOUND);

    // One that its browser ends.
    let browser = browse(&gateway.envoy, &token).await;
    until_listed(&gateway.authority, &vm, 1, KNOWN).await;
    drop(browser);
    until_listed(&gateway.authority, &vm, 0, KNOWN).await;
    let log = gateway.authority.log();
    for line in ["session opened", "session ordered to end", "session ended"] {
        let line = log.lines().find(|found| found.contains(line) && found.contains(id));
        assert!(line.is_some_and(|line| line.contains(&token_id)), "{log}");
    }
    assert!(!log.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webmks_session_is_ended_like_any_other() {
    let (gateway, esxi) = Gateway::start_webmks("register-webmks", |config| config).await;
    let _host = esxi.add_host(&gateway.vcenter, ESXI_HOSTS[0], "8.0.2").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let name = ESXI_HOSTS[0].to_string();
    let vm = esxi.create_vm(&gateway.vcenter, "webmks-1", &name, screen.address()).await;
    let token = gateway.issue(&vm).await;
    let mut browser = browse(&gateway.envoy, &token).await;
    assert_echoes(&mut browser, "typed").await;
    until_listed(&gateway.authority, &vm, 1, KNOWN).await;
    let id = ids(&gateway.authority, &vm).await.pop_first().expect("a session");
    assert_eq!(end(&gateway.authority, &id, "over").await, StatusCode::NO_CONTENT);
    assert_eq!(close_of(&mut browser).await, (1001, "ended_by_operator: over".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_and_ends_sessions() {
    let gateway = Gateway::start("command").await;
    let (vm, _, mut browser) = open(&gateway).await;
    until_listed(&gateway.authority, &vm, 1, KNOWN).await;
    let id = ids(&gateway.authority, &vm).await.pop_first().expect("a session");
    let url = format!("http://{}", gateway.authority.config().public());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(workspace::authority());
        command.arg("sessions").args(arguments).args(["--url", &url]);
        run_to_end(command.env("VNCGATE_API_TOKEN", API_TOKEN))
    };
    let table = run(&["--machine", &vm.name]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("SESSION   MACHINE"), "{table}");
    assert!(lines[1].starts_with(&id[..8]) && lines[1].contains(&vm.name), "{table}");
    assert_eq!(run(&["--machine", "no-such-machine"]).trim(), "no console is open");
    let listed: Value = serde_json::from_str(&run(&["--json"])).expect("JSON");
    assert_eq!(listed[0]["id"], *id);

    let end = |session: &str| {
        let mut command = Command::new(workspace::authority());
        command.args(["sessions", "end", session, "--reason", "by the shell", "--url", &url]);
        command.env("VNCGATE_API_TOKEN", API_TOKEN).output().expect("the command runs")
    };
    let output = end(&id[..8].to_uppercase());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(close_of(&mut browser).await, (1001, "ended_by_operator: by the shell".to_owned()));
    let output = end(&id[..8]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("no session"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_s_caller_sees_and_ends_the_sessions_of_its_own_machines() {
    let tenant = Tenant::new("member");
    let gateway = Gateway::start_with(
        "register-tenant",
        |config| {
            let rights = ["see_sessions", "end_sessions"].into_iter();
            let config = rights.fold(config, |config, right| {
                let line = format!("{right} = [\"admin\"]");
                config.with(&format!("#{line}"), &format!("{right} = [\"admin\", \"member\"]"))
            });
            tenant.known_in(config)
        },
        &[],
    )
    .await;
    Tenant::create_folder(&gateway.vcenter);
    let (own, _, mut own_browser) = open(&gateway).await;
    let (other, _, mut other_browser) = open(&gateway).await;
    Tenant::take(&gateway.vcenter, &own);
    until_listed(&gateway.authority, &own, 1, KNOWN).await;
    until_listed(&gateway.authority, &other, 1, KNOWN).await;
    let id_of = async |vm| ids(&gateway.authority, vm).await.pop_first().expect("a session");
    let (own_id, other_id) = (id_of(&own).await, id_of(&other).await);

    let as_tenant = async |method: Method, path: &str| {
        answer(tenant.request(&gateway.authority, method, path)).await
    };
    // The folder is known when vCenter has told of the move.
    let listed = until_some("the tenant's own session, and no other", async || {
        let (_, listed) = as_tenant(Method::GET, "/v1/sessions").await;
        let listed = listed["sessions"].as_array().expect("a list").clone();
        assert!(listed.iter().all(|session| session["id"] == *own_id), "{listed:?}");
        (!listed.is_empty()).then_some(listed)
    })
    .await;
    assert_eq!(listed[0]["target"], Value::Null, "addresses of hosts are the administrator's");
    for (method, path) in [
        (Method::GET, format!("/v1/sessions/{other_id}")),
        (Method::DELETE, format!("/v1/sessions/{other_id}")),
        (Method::DELETE, format!("/v1/instances/{}/sessions", other.instance_uuid)),
    ] {
        assert_eq!(as_tenant(method, &path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let path = format!("/v1/instances/{}/sessions", own.instance_uuid);
    assert_eq!(as_tenant(Method::DELETE, &path).await.1, json!({"ended": 1}));
    let (code, reason) = close_of(&mut own_browser).await;
    assert_eq!((code, &*reason), (1001, "ended_by_operator: An operator ended this session."));
    assert_echoes(&mut other_browser, "still there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_token_ends_what_it_opened_unless_that_is_not_wanted() {
    for (setting, ends) in
        [("revoke_ends_sessions = true", true), ("revoke_ends_sessions = false", false)]
    {
        let config = |config: Config| config.with_console(setting);
        let gateway = Gateway::start_with("register-revoke", config, &[]).await;
        let (vm, token, mut browser) = open(&gateway).await;
        until_listed(&gateway.authority, &vm, 1, KNOWN).await;
        let path = format!("/v1/tokens/{}", hex(&Sha256::digest(&token)));
        let (status, _) = answer(gateway.authority.request(Method::DELETE, &path)).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        if ends {
            let (code, reason) = close_of(&mut browser).await;
            assert!(code == 1008 && reason.starts_with("token_revoked: "), "{code} {reason}");
            until_listed(&gateway.authority, &vm, 0, KNOWN).await;
        } else {
            assert_echoes(&mut browser, "still there").await;
            assert_eq!(ids(&gateway.authority, &vm).await.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_api_token_leaves_the_configuration_loses_its_consoles() {
    let (token, sha256) = new_api_token("kiosk");
    let block = format!(
        "[[auth.api_token]]\nname = \"kiosk\"\nsha256 = \"{sha256}\"\nroles = [\"admin\"]\n\n"
    );
    let gateway = Gateway::start_with(
        "register-reload",
        |config| config.with("\n[log]\n", &format!("\n{block}[log]\n")),
        &[],
    )
    .await;
    let (vm, _, mut kept) = open(&gateway).await;
    let of_kiosk = gateway.authority.api().with_token(token).console(&vm).await.token;
    let mut lost = browse(&gateway.envoy, &of_kiosk).await;
    until_listed(&gateway.authority, &vm, 2, KNOWN).await;
    let config = gateway.authority.config().clone().with(&block, "");
    assert!(gateway.authority.reload(&config).await);
    let reason = "access_lost: Where this link came from may open no consoles any more.";
    assert_eq!(close_of(&mut lost).await, (1008, reason.to_owned()));
    until_listed(&gateway.authority, &vm, 1, KNOWN).await;
    assert_echoes(&mut kept, "still there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_was_gone_has_all_sessions_and_no_other() {
    let mut gateway = Gateway::start("register-restart").await;
    let (vm, token, first) = open(&gateway).await;
    let mut browsers = vec![first];
    // A token may have 16 sessions on a worker, and the kernel chooses a worker for each.
    for token in [token, gateway.issue(&vm).await] {
        for _ in 0..10 {
            browsers.push(browse(&gateway.envoy, &token).await);
        }
    }
    until_listed(&gateway.authority, &vm, 21, KNOWN).await;
    let before = ids(&gateway.authority, &vm).await;
    gateway.authority.kill();
    // Some end meanwhile.
    browsers.truncate(10);
    tokio::time::sleep(Duration::from_secs(3)).await;
    gateway.authority.start_again().await;
    until_listed(&gateway.authority, &vm, 10, KNOWN_AGAIN).await;
    let after = ids(&gateway.authority, &vm).await;
    assert!(after.is_subset(&before), "{after:?} of {before:?}");
    let ends = || gateway.authority.log().matches("session ended ").count();
    until("the log has the ends", async || ends() == before.len() - after.len()).await;
    let resumed = gateway.authority.log().matches("session opened resumed=true ").count();
    assert_eq!(resumed, before.len(), "each opening is told of as a new one once");
    for browser in &mut browsers {
        assert_echoes(browser, "still there").await;
    }
    // None is doubled or taken for over later.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(ids(&gateway.authority, &vm).await, after);
    let all = format!("/v1/instances/{}/sessions", vm.instance_uuid);
    let (_, body) = answer(gateway.authority.request(Method::DELETE, &all)).await;
    assert_eq!(body, json!({"ended": 10}));
    for browser in &mut browsers {
        assert_eq!(close_of(browser).await.0, 1001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_an_envoy_that_was_killed_leave_the_register() {
    let mut gateway = Gateway::start("register-killed").await;
    let (vm, _, _browser) = open(&gateway).await;
    until_listed(&gateway.authority, &vm, 1, KNOWN).await;
    gateway.envoy.process().kill();
    until_listed(&gateway.authority, &vm, 0, GONE).await;
    assert!(gateway.authority.log().contains("worker_gone"));
}

/// Two authorities with one store behind one Envoy.
struct Replicas {
    envoy: Envoy,
    authorities: [Authority; 2],
    vm: Vm,
    _screen: TcpServer,
    store: Store,
    _vcenter: Vcsim,
}

impl Replicas {
    async fn on(store: Store) -> Self {
        let (run, other_run) = (Run::new("register-one"), Run::new("register-other"));
        let ca = Ca::new(&run);
        other_run.write("ca.pem", ca.pem());
        let vcenter = Vcsim::start(&run, &ca).await;
        vcenter.add_host(ESXI);
        let screen = TcpServer::echo(ESXI).await;
        let vm = vcenter.create_vm("web-1", ESXI, screen.address().port());
        let listen = free_address();
        let config =
            |run| Config::new(run, &vcenter, &format!("https://{listen}")).with_store(&store);
        let one = Authority::start(&run, config(&run)).await;
        let other = Authority::start(&other_run, config(&other_run)).await;
        let (public, internal) = one.listeners();
        let (_, other_internal) = other.listeners();
        let endpoint = |port: u16| {
            format!(
                "- endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}"
            )
        };
        let line = endpoint(internal.port());
        let lines = format!("{line}\n              {}", endpoint(other_internal.port()));
        let settings = Settings {
            listen,
            authority_public: public,
            authority_internal: internal,
            changes: &[(&line, lines)],
        };
        let envoy = Envoy::start(&run, &ca, &settings).await;
        let authorities = [one, other];
        Self { envoy, authorities, vm, _screen: screen, store, _vcenter: vcenter }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_of_two_authorities_on_redis_lists_and_ends_all_sessions() {
    either_lists_and_ends(Replicas::on(Store::redis(&Run::new("register-redis")).await).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_of_two_authorities_on_memcached_lists_and_ends_all_sessions() {
    let store = Store::memcached(&Run::new("register-memcached")).await;
    either_lists_and_ends(Replicas::on(store).await).await;
}

async fn either_lists_and_ends(mut replicas: Replicas) {
    let token = replicas.authorities[0].issue(&replicas.vm).await;
    let mut browsers = join_all((0..10).map(|_| browse(&replicas.envoy, &token))).await;
    for authority in &replicas.authorities {
        until_listed(authority, &replicas.vm, 10, Duration::from_secs(2)).await;
    }
    let [one, other] = &replicas.authorities;
    assert_eq!(ids(one, &replicas.vm).await, ids(other, &replicas.vm).await);
    // Each authority ends half of them, whichever has their worker's call.
    let all = ids(one, &replicas.vm).await;
    let ends = all.iter().enumerate().map(|(number, id)| async move {
        let ordered = Instant::now();
        let status = end(if number % 2 == 0 { one } else { other }, id, "by a replica").await;
        assert!(status == StatusCode::NO_CONTENT || status == StatusCode::ACCEPTED, "{status}");
        ordered
    });
    let ordered = Instant::now();
    let closes = join_all(browsers.iter_mut().map(|browser| async move {
        let close = close_of(browser).await;
        (close, ordered.elapsed())
    }));
    let (_, closes) = tokio::join!(join_all(ends), closes);
    for ((code, _), took) in &closes {
        assert!(*code == 1001 && *took < Duration::from_secs(2) + SLACK, "{closes:?}");
    }
    for authority in &replicas.authorities {
        until_listed(authority, &replicas.vm, 0, Duration::from_secs(2)).await;
    }

    // An outage of the store ends no console; one of an authority is noticed by nobody but its callers.
    let mut browser = browse(&replicas.envoy, &token).await;
    for authority in &replicas.authorities {
        until_listed(authority, &replicas.vm, 1, Duration::from_secs(2)).await;
    }
    let id = ids(&replicas.authorities[0], &replicas.vm).await.pop_first().expect("a session");
    replicas.store.kill();
    assert_eq!(end(&replicas.authorities[0], &id, "x").await, StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_echoes(&mut browser, "still there").await;
    assert_eq!(ids(&replicas.authorities[1], &replicas.vm).await.len(), 1);
    replicas.store.start_again().await;
    replicas.authorities[0].kill();
    let other = &replicas.authorities[1];
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(ids(other, &replicas.vm).await, BTreeSet::from([id.clone()]));
    let answered = async || {
        let status = end(other, &id, "at last").await;
        (status != StatusCode::SERVICE_UNAVAILABLE).then_some(status)
    };
    until_within("the other authority ends it", Duration::from_secs(5), answered).await;
    assert_eq!(close_of(&mut browser).await, (1001, "ended_by_operator: at last".to_owned()));
    until("it is gone", async || ids(other, &replicas.vm).await.is_empty()).await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
