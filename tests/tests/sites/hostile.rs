//! Another site that answers what no authority answers. Its answers open nothing that they are not.

use crate::fixture::{BERLIN, FILTER_TIMEOUT, Plan, Site, TOKYO, site};
use serde_json::{Value, json};
use std::time::Instant;
use vncgate_tests::certificate::Ca;
use vncgate_tests::process::Run;
use vncgate_tests::scripted::{Script, ScriptedAuthority};
use vncgate_tests::stores::Store;

/// Tokyo, and in Berlin's place somebody who follows a script and has Berlin's certificate.
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
        let ca = Ca::new(&Run::new("sites-hostile"));
        let store = Store::redis(&Run::new("sites-redis")).await;
        let identity = ca.issue_for("hostile", &[BERLIN.host]);
        let scripted = ScriptedAuthority::start_site(Script::Silence, &identity).await;
        let other =
            site(BERLIN.name, BERLIN.host, scripted.address().port(), &[BERLIN.service_host]);
        let tokyo = Plan::new(&TOKYO).await.start(&ca, &store, "", &other).await;
        let nobody = site("x", "x.example.com", 1, &["x"]);
        let berlin = Plan::new(&BERLIN).await.start(&ca, &store, "", &nobody).await;
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

#[tokio::test]
async fn answers_that_are_none_are_refused_in_time() {
    let hostile = Hostile::start().await;
    let Hostile { tokyo, scripted, token, .. } = &hostile;
    let vnc = json!({"protocol": "vnc", "address": "127.0.0.2:5901"});
    let webmks = |changes: &[(&str, Value)]| {
        let mut target = json!({
            "protocol": "webmks", "address": "127.0.0.2:443", "host": "esx-1", "path": "/ticket/t",
        });
        for (key, value) in changes {
            target[*key] = value.clone();
        }
        target
    };
    let refusal = |code: &str, message: &str| json!({"code": code, "message": message});
    let book = "long ".repeat(1_000);
    let many = "x".repeat(3 * 1024 * 1024);
    for (what, script) in [
        ("not HTTP", Script::Raw(b"RFB 003.008\n".to_vec())),
        ("the end", Script::Raw(Vec::new())),
        (
            "half an answer",
            Script::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".to_vec()),
        ),
        ("an endless head", Script::Raw([b"HTTP/1.1 200 OK\r\nx: ", many.as_bytes()].concat())),
        ("megabytes", http(200, &many)),
        ("megabytes of JSON", http(200, &json!({"target": vnc, "x": many}).to_string())),
        ("no JSON", http(200, "<html>")),
        ("deep JSON", http(200, &"[".repeat(10_000))),
        (
            "a redirect",
            Script::Raw(
                b"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"
                    .to_vec(),
            ),
        ),
        ("no target", Script::Answer(200, json!({}))),
        (
            "a name to connect to",
            Script::Answer(200, json!({"target": {"protocol": "vnc", "address": "localhost:1"}})),
        ),
        (
            "a pin that is none",
            Script::Answer(200, json!({"target": webmks(&[]), "certificate": "00"})),
        ),
        ("no pin", Script::Answer(200, json!({"target": webmks(&[])}))),
        (
            "a ticket with a header",
            Script::Answer(200, json!({"target": webmks(&[("path", json!("/ticket/t\r\nx: y"))])})),
        ),
        (
            "a ticket without a path",
            Script::Answer(200, json!({"target": webmks(&[("path", json!("t"))])})),
        ),
        (
            "a host with a header",
            Script::Answer(200, json!({"target": webmks(&[("host", json!("x\r\ny: z"))])})),
        ),
        ("no host", Script::Answer(200, json!({"target": webmks(&[("host", json!(""))])}))),
        (
            "a server name that is none",
            Script::Answer(200, json!({"target": webmks(&[("server_name", json!("a b"))])})),
        ),
        ("a grant with a refusal's status", Script::Answer(403, json!({"target": vnc}))),
        ("a refusal with another status", Script::Answer(409, refusal("token_invalid", "no"))),
        ("a refusal as a yes", Script::Answer(200, refusal("token_invalid", "no"))),
        ("an unknown refusal", Script::Answer(403, refusal("go_away", "no"))),
        ("a refusal with a book", Script::Answer(403, refusal("token_invalid", &book))),
        ("an error", Script::Answer(500, json!({}))),
        ("silence", Script::Silence),
    ] {
        scripted.follow(script);
        let started = Instant::now();
        let answer = tokyo.authority.check(token).await;
        let took = started.elapsed();
        assert!(took < FILTER_TIMEOUT, "{what}: {took:?}");
        let expected = match what {
            "no pin" => (409, "console_unavailable"),
            _ => (503, "authority_unavailable"),
        };
        let code = answer.body["code"].as_str().unwrap_or_default();
        assert_eq!((answer.status, code), expected, "{what}: {}", answer.body);
    }
    // Nothing of it is left: the next answer counts.
    scripted.follow(Script::Answer(200, json!({"target": vnc})));
    tokyo.authority.check(token).await.assert_granted(BERLIN.esxi, 5901);
}

#[tokio::test]
async fn the_token_is_not_in_the_question() {
    let hostile = Hostile::start().await;
    let Hostile { tokyo, scripted, token, .. } = &hostile;
    scripted.follow(Script::Answer(403, json!({"code": "token_invalid", "message": "no"})));
    tokyo.authority.check(token).await.assert_refused(403, "token_invalid");
    tokyo.authority.status(token).await.assert_refused(403, "token_invalid");
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
