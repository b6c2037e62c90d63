//! Another site that answers what no authority answers. Its answers open nothing that they are not.

use crate::fixture::{BERLIN, FILTER_TIMEOUT, Plan, Site, TOKYO, site};
use serde_json::{Value, json};
use std::time::Instant;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::Run;
use vncgate_test_support::scripted::{Script, ScriptedAuthority};
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::SLACK;

/// Tokyo, and instead of Berlin a scripted authority with Berlin's certificate.
struct Hostile {
    tokyo: Site,
    scripted: ScriptedAuthority,
    /// Of a machine of Berlin's.
    token: String,
    _berlin: Site,
    _store: Store,
}

impl Hostile {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// With further keys in Tokyo's `[[site]]` block for Berlin.
    async fn start_with(keys: &str) -> Self {
        let ca = Ca::new(&Run::new("sites-hostile"));
        let store = Store::redis(&Run::new("sites-redis")).await;
        let identity = ca.issue_for("hostile", &[BERLIN.host]);
        let scripted = ScriptedAuthority::start_site(Script::Silence, &identity).await;
        let other =
            site(BERLIN.name, BERLIN.host, scripted.address().port(), &[BERLIN.service_host]);
        let other = other.trim_end().to_owned() + "\n" + keys + "\n";
        let tokyo = Plan::new(&TOKYO).await.start(&ca, &store, "", &other).await;
        let other_site = site("x", "x.example.com", 1, &["x"]);
        let berlin = Plan::new(&BERLIN).await.start(&ca, &store, "", &other_site).await;
        let (_, _, token) = berlin.machine_and_token().await;
        Self { tokyo, scripted, token, _berlin: berlin, _store: store }
    }
}

fn http(status: u16, body: &str) -> Script {
    let length = body.len();
    Script::Raw(
        format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {length}\r\n\r\n{body}").into(),
    )
}

/// A bigger answer than any authority's, and bigger than one that is read.
const MEGABYTES: usize = 3 * 1024 * 1024;

impl Hostile {
    /// Asserts that this answer opens nothing and is given up in time.
    async fn assert_no_answer(&self, what: &str, script: Script) {
        self.scripted.follow(script);
        let started = Instant::now();
        let answer = self.tokyo.authority.check(&self.token).await;
        let took = started.elapsed();
        assert!(took < FILTER_TIMEOUT + SLACK, "{what}: {took:?}");
        let code = answer.body["code"].as_str().unwrap_or_default();
        assert_eq!((answer.status, code), (503, "authority_unavailable"), "{what}");
    }
}

#[tokio::test]
async fn answers_that_are_none_are_refused_in_time() {
    let hostile = Hostile::start().await;
    let raw = |text: &str| Script::Raw(text.into());
    let many = "x".repeat(MEGABYTES);
    let vnc = json!({"protocol": "vnc", "address": "127.0.0.2:5901"});
    for (what, script) in [
        ("not HTTP", raw("RFB 003.008\n")),
        ("the end", raw("")),
        ("half an answer", raw("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{")),
        ("an endless head", raw(&format!("HTTP/1.1 200 OK\r\nx: {many}"))),
        ("a redirect", raw("HTTP/1.1 307 x\r\nlocation: /\r\ncontent-length: 0\r\n\r\n")),
        ("megabytes", http(200, &many)),
        ("megabytes of JSON", http(200, &json!({"target": vnc, "x": many}).to_string())),
        ("no JSON", http(200, "<html>")),
        ("deep JSON", http(200, &"[".repeat(10_000))),
        ("an error", http(500, "{}")),
        ("silence", Script::Silence),
    ] {
        hostile.assert_no_answer(what, script).await;
    }
    let refusal = |code: &str, message: &str| json!({"code": code, "message": message});
    for (what, status, body) in [
        ("a grant with a refusal's status", 403, json!({"target": vnc})),
        ("a refusal with another status", 409, refusal("token_invalid", "no")),
        ("a refusal with the status of a grant", 200, refusal("token_invalid", "no")),
        ("an unknown refusal", 403, refusal("go_away", "no")),
        ("a refusal with a book", 403, refusal("token_invalid", &"long ".repeat(1_000))),
    ] {
        hostile.assert_no_answer(what, Script::Answer(status, body)).await;
    }
    // Nothing of all that is left: the next answer counts.
    let Hostile { tokyo, scripted, token, .. } = &hostile;
    scripted.follow(Script::Answer(200, json!({"target": vnc})));
    tokyo.authority.check(token).await.assert_granted(BERLIN.esxi, 5901);
}

/// It answered with ports of this gateway's own machine for a token of its own machine.
#[tokio::test]
async fn a_target_that_is_not_allowed_opens_nothing() {
    let Hostile { tokyo, scripted, token, _berlin, _store } = Hostile::start().await;
    let webmks = |address: &str| json!({"protocol": "webmks", "address": address, "host": "esx-1", "path": "/ticket/t"});
    let vnc = |address: &str| json!({"protocol": "vnc", "address": address});
    for target in [
        vnc("127.0.0.2:22"),
        vnc("127.0.0.2:443"),
        vnc("169.254.169.254:5901"),
        vnc("0.0.0.0:5901"),
        vnc("[::1]:5901"),
        vnc("[::ffff:169.254.169.254]:5901"),
        webmks("169.254.169.254:443"),
        webmks("[::1]:443"),
    ] {
        let answer = json!({"target": target, "certificate": "ab".repeat(32)});
        scripted.follow(Script::Answer(200, answer));
        tokyo.authority.check(&token).await.assert_refused(409, "console_unavailable");
    }
    scripted.follow(Script::Answer(200, json!({"target": vnc("127.0.0.2:5901")})));
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, 5901);
}

#[tokio::test]
async fn targets_that_would_change_envoy_s_request_are_none() {
    let hostile = Hostile::start().await;
    let answer = |key: &str, value: &str| {
        let mut target = json!({
            "protocol": "webmks", "address": "127.0.0.2:443", "host": "esx-1", "path": "/ticket/t",
        });
        target[key] = json!(value);
        json!({"target": target, "certificate": "ab".repeat(32)})
    };
    for (key, value) in [
        ("address", "localhost:443"),
        ("protocol", "ftp"),
        ("path", "/ticket/t\r\nx: y"),
        ("path", "t"),
        ("host", "x\r\ny: z"),
        ("host", ""),
        ("server_name", "a b"),
    ] {
        let script = Script::Answer(200, answer(key, value));
        hostile.assert_no_answer(&format!("{key} {value:?}"), script).await;
    }
    let mut unpinned = answer("host", "esx-1");
    unpinned["certificate"] = json!("00");
    hostile.assert_no_answer("a malformed pin", Script::Answer(200, unpinned.clone())).await;

    // A host that Envoy cannot tell from an impostor has no console.
    let Hostile { tokyo, scripted, token, .. } = &hostile;
    unpinned["certificate"] = Value::Null;
    scripted.follow(Script::Answer(200, unpinned));
    tokyo.authority.check(token).await.assert_refused(409, "console_unavailable");
    scripted.follow(Script::Answer(200, answer("host", "esx-1")));
    assert_eq!(tokyo.authority.check(token).await.body["target"]["host"], "esx-1");
}

#[tokio::test]
async fn a_site_s_answers_lead_into_its_networks_only() {
    let hostile = Hostile::start_with(&format!("networks = [\"{}/32\"]\n", BERLIN.esxi)).await;
    let Hostile { tokyo, scripted, token, .. } = &hostile;
    let internal = tokyo.authority.config().internal().port();
    let webmks = |address: &str| json!({"protocol": "webmks", "address": address, "host": "esx-1", "path": "/ticket/t"});
    for address in [
        format!("127.0.0.1:{internal}"),
        format!("127.0.0.3:{internal}"),
        format!("0.0.0.0:{internal}"),
        format!("[::1]:{internal}"),
        format!("[::ffff:127.0.0.1]:{internal}"),
        "169.254.169.254:80".to_owned(),
    ] {
        for target in [json!({"protocol": "vnc", "address": address}), webmks(&address)] {
            let answer = json!({"target": target, "certificate": "ab".repeat(32)});
            scripted.follow(Script::Answer(200, answer));
            tokyo.authority.check(token).await.assert_refused(409, "console_unavailable");
        }
    }
    let log = tokyo.authority.log();
    assert!(log.contains("in none of the networks of its [[site]]"), "{log}");
    let allowed = format!("{}:5901", BERLIN.esxi);
    scripted
        .follow(Script::Answer(200, json!({"target": {"protocol": "vnc", "address": allowed}})));
    tokyo.authority.check(token).await.assert_granted(BERLIN.esxi, 5901);
}

#[tokio::test]
async fn the_token_is_not_in_the_question() {
    let hostile = Hostile::start().await;
    let Hostile { tokyo, scripted, token, .. } = &hostile;
    scripted.follow(Script::Answer(403, json!({"code": "token_invalid", "message": "no"})));
    tokyo.authority.check(token).await.assert_refused(403, "token_invalid");
    tokyo.authority.status(token).await.assert_refused(403, "token_invalid");
    assert_eq!(scripted.connections(), 1, "one handshake for all requests, not one for each");
    let requests = scripted.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.head.lines().next()).collect();
    assert_eq!(
        paths,
        [Some("POST /v1/sites/console HTTP/1.1"), Some("POST /v1/sites/status HTTP/1.1")]
    );
    for request in requests {
        let question = request.question.as_object().expect("an object");
        let keys: Vec<_> = question.keys().collect();
        assert_eq!(keys, ["session", "token"]);
        assert!(!format!("{request:?}").contains(token), "{request:?}");
        assert_eq!(question["token"].as_str().map(str::len), Some(64), "its SHA-256");
    }
}
