//! Failures that a real Keystone shows rarely. The OpenStack tier tests the rest with a real one.

use super::*;
use crate::http::listener::Listener;
use crate::http::server::serve;
use crate::identity::{KeystoneScope, Roles};
use crate::tls::Trust;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// A Keystone that follows a script: its service user's tokens are `own-1`, `own-2` and so on, of which the
/// latest `accepted` one is good.
#[derive(Default)]
struct Scripted {
    logins: AtomicUsize,
    questions: AtomicUsize,
    /// Service tokens up to this one have expired.
    expired: AtomicUsize,
    password_is_wrong: bool,
    /// The service user's password, if not every one is right.
    password: Option<&'static str>,
    /// How requests about tokens are answered, if the service token is good.
    answer: Option<fn() -> Response>,
}

async fn login(State(script): State<Arc<Scripted>>, Json(shown): Json<Value>) -> Response {
    let login = script.logins.fetch_add(1, Ordering::SeqCst) + 1;
    let shown = &shown["auth"]["identity"]["password"]["user"]["password"];
    if script.password_is_wrong || script.password.is_some_and(|right| shown != right) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    (StatusCode::CREATED, [("x-subject-token", format!("own-{login}"))]).into_response()
}

async fn validate(State(script): State<Arc<Scripted>>, headers: HeaderMap) -> Response {
    script.questions.fetch_add(1, Ordering::SeqCst);
    assert_eq!(headers["openstack-identity-access-rules"], "1.0");
    let own = headers["x-auth-token"].to_str().unwrap().strip_prefix("own-").unwrap();
    if own.parse::<usize>().unwrap() <= script.expired.load(Ordering::SeqCst) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    script.answer.unwrap_or(good)()
}

fn token(scope: &str, expires_at: &str) -> Response {
    format!(
        r#"{{"token": {{"user": {{"name": "alice", "domain": {{"name": "Default"}}, "id": "u"}},
        {scope} "roles": [{{"id": "r", "name": "Member"}}], "expires_at": "{expires_at}"}}}}"#
    )
    .into_response()
}

fn good() -> Response {
    token(
        r#""project": {"id": "p", "name": "demo", "domain": {"id": "d", "name": "D"}},"#,
        "2100-01-01T00:00:00.000000Z",
    )
}

async fn keystone(
    script: Scripted,
    change: impl FnOnce(&mut KeystoneConfig),
) -> (Arc<Keystone>, Arc<Scripted>) {
    let script = Arc::new(script);
    let routes = Router::new()
        .route("/v3/auth/tokens", post(login).get(validate))
        .with_state(Arc::clone(&script));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum_serve(listener, routes).await });
    let mut config = KeystoneConfig {
        url: format!("http://{address}/v3").parse().unwrap(),
        tls: Trust::Nothing.load().unwrap(),
        username: "vncgate".to_owned(),
        user_domain: "Default".to_owned(),
        password: PasswordFile::any(),
        project: "service".to_owned(),
        project_domain: "Default".to_owned(),
        cache_ttl: Duration::from_secs(60),
        cache_size: NonZeroUsize::new(2).unwrap(),
        timeout: Duration::from_secs(5),
    };
    change(&mut config);
    (Arc::new(Keystone::new(config, Arc::new(Metrics::new())).unwrap()), script)
}

/// Serves as the authority itself does.
async fn axum_serve(listener: TcpListener, routes: Router) {
    let never = tokio_util::sync::CancellationToken::new();
    serve(Listener::Tcp(listener), routes, usize::MAX, never, Duration::ZERO).await;
}

fn alice() -> Caller {
    Caller {
        id: "keystone:u".to_owned(),
        name: "alice@Default".to_owned(),
        roles: ["member"].into_iter().collect(),
        project: Some("p".to_owned()),
        keystone: Some(KeystoneScope {
            domain: vec!["d".to_owned(), "D".to_owned()],
            access_rules: None,
        }),
    }
}

impl Scripted {
    fn counts(&self) -> (usize, usize) {
        (self.logins.load(Ordering::SeqCst), self.questions.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_good_token_is_asked_about_once() {
    let (keystone, script) = keystone(Scripted::default(), |_| {}).await;
    for _ in 0..3 {
        assert_eq!(keystone.identify("token").await.unwrap(), Some(alice()));
    }
    assert_eq!(script.counts(), (1, 1));
}

#[tokio::test]
async fn the_cache_forgets_the_token_that_was_used_longest_ago() {
    let (keystone, script) = keystone(Scripted::default(), |_| {}).await;
    for shown in ["a", "b", "a", "c", "a"] {
        keystone.identify(shown).await.unwrap();
    }
    assert_eq!(script.counts().1, 3);
    keystone.identify("b").await.unwrap();
    assert_eq!(script.counts().1, 4);
}

#[tokio::test]
async fn without_a_cache_each_call_is_a_question() {
    let (keystone, script) =
        keystone(Scripted::default(), |config| config.cache_ttl = Duration::ZERO).await;
    for _ in 0..3 {
        assert_eq!(keystone.identify("token").await.unwrap(), Some(alice()));
    }
    assert_eq!(script.counts(), (1, 3));
}

/// A dashboard's calls come sixteen at a time, and Keystone got a request of each when the cached answer ran out.
#[tokio::test]
async fn calls_with_one_token_at_a_time_share_a_question() {
    for (cache_ttl, questions) in [(Duration::from_secs(60), 1), (Duration::ZERO, 16)] {
        let (keystone, script) =
            keystone(Scripted::default(), |config| config.cache_ttl = cache_ttl).await;
        let calls = (0..16).map(|_| keystone.identify("token"));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.unwrap(), Some(alice()));
        }
        assert_eq!(script.counts(), (1, questions));
        assert_eq!(keystone.validations.len(), 0, "it is over");
    }
}

#[tokio::test]
async fn a_question_is_given_up_with_the_last_call_that_waits_for_it() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let (keystone, _) = keystone(Scripted::default(), |config| {
        config.url = format!("http://{address}/v3").parse().unwrap();
    })
    .await;
    let wait = || Box::pin(keystone.identify("token"));
    let (mut first, mut second) = (wait(), wait());
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(keystone.validations.len(), 1);
    drop(second);
    assert_eq!(keystone.validations.len(), 0);
    let error = timeout(Duration::from_millis(1), wait()).await;
    assert!(error.is_err(), "it is asked again");
}

#[tokio::test]
async fn a_token_that_keystone_s_clock_calls_good_is_good_but_not_kept() {
    fn expired_by_our_clock() -> Response {
        token(
            r#""project": {"id": "p", "domain": {"id": "d", "name": "D"}},"#,
            "2000-01-01T00:00:00Z",
        )
    }
    let script = Scripted { answer: Some(expired_by_our_clock), ..Scripted::default() };
    let (keystone, script) = keystone(script, |_| {}).await;
    for _ in 0..2 {
        assert_eq!(keystone.identify("token").await.unwrap(), Some(alice()));
    }
    assert_eq!(script.counts().1, 2);
}

fn restricted(rules: usize) -> Response {
    let rule = r#"{"service": "compute", "method": "GET", "path": "/v2.1/servers"}"#;
    let rules = vec![rule; rules].join(",");
    token(
        &format!(
            r#""project": {{"id": "p", "domain": {{"id": "d", "name": "D"}}}},
            "application_credential": {{"access_rules": [{rules}]}},"#
        ),
        "2100-01-01T00:00:00Z",
    )
}

/// 10,000 cached tokens of one tenant with 1,500 rules each took 2 GiB.
#[tokio::test]
async fn a_caller_with_many_access_rules_is_not_kept() {
    for (answer, questions) in
        [((|| restricted(20)) as fn() -> Response, 1), (|| restricted(1_500), 2)]
    {
        let script = Scripted { answer: Some(answer), ..Scripted::default() };
        let (keystone, script) = keystone(script, |_| {}).await;
        for _ in 0..2 {
            let caller = keystone.identify("token").await.unwrap().unwrap();
            let rules = caller.keystone.unwrap().access_rules.unwrap();
            assert!(rules.allow("GET", "/v2.1/servers") && !rules.allow("GET", "/v2.1/flavors"));
        }
        assert_eq!(script.counts().1, questions);
    }
}

#[tokio::test]
async fn an_expired_service_token_is_renewed_once_for_all() {
    let (keystone, script) = keystone(Scripted::default(), |_| {}).await;
    keystone.identify("first").await.unwrap();
    script.expired.store(1, Ordering::SeqCst);
    let callers = (0..8).map(|caller| {
        let keystone = &keystone;
        async move { keystone.identify(&format!("token-{caller}")).await.unwrap() }
    });
    let answers = futures_util::future::join_all(callers).await;
    assert!(answers.iter().all(|answer| *answer == Some(alice())));
    assert_eq!(script.counts().0, 2);
}

#[tokio::test]
async fn a_service_token_that_is_never_good_is_no_endless_loop() {
    let script = Scripted { expired: AtomicUsize::new(usize::MAX), ..Scripted::default() };
    let (keystone, script) = keystone(script, |_| {}).await;
    let error = keystone.identify("token").await.unwrap_err();
    assert!(matches!(error, KeystoneError::Status(StatusCode::UNAUTHORIZED)), "{error}");
    assert_eq!(script.counts(), (2, 2));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let script = Scripted { password_is_wrong: true, ..Scripted::default() };
    let (keystone, script) = keystone(script, |_| {}).await;
    for _ in 0..3 {
        let error = keystone.identify("token").await.unwrap_err();
        let refused = matches!(error, KeystoneError::LoginRefused | KeystoneError::Paused(_));
        assert!(refused, "{error}");
    }
    assert_eq!(script.counts(), (1, 0));
}

#[tokio::test]
async fn a_new_password_is_tried_at_once_and_an_empty_file_is_no_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "old").unwrap();
    let script = Scripted { password: Some("new"), ..Scripted::default() };
    let file = PasswordFile::new(path.clone());
    let (keystone, script) = keystone(script, |config| config.password = file).await;
    let error = keystone.identify("token").await.unwrap_err();
    assert!(matches!(error, KeystoneError::LoginRefused), "{error}");

    std::fs::write(&path, "").unwrap();
    let error = keystone.identify("token").await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} is empty", path.display()));
    assert_eq!(script.counts(), (1, 0), "nothing is sent without a password");

    std::fs::write(&path, "new").unwrap();
    assert_eq!(keystone.identify("token").await.unwrap(), Some(alice()));
    assert_eq!(script.counts(), (2, 1));
}

#[tokio::test]
async fn tokens_that_are_nobody_s_are_refused() {
    fn unscoped() -> Response {
        token("", "2100-01-01T00:00:00Z")
    }
    fn unknown() -> Response {
        StatusCode::NOT_FOUND.into_response()
    }
    for answer in [unscoped, unknown] {
        let script = Scripted { answer: Some(answer), ..Scripted::default() };
        let (keystone, script) = keystone(script, |_| {}).await;
        assert_eq!(keystone.identify("token").await.unwrap(), None);
        assert_eq!(keystone.identify("token").await.unwrap(), None);
        assert_eq!(script.counts().1, 2, "a refusal is not kept");
    }
}

#[tokio::test]
async fn roles_in_a_domain_or_the_system_count_for_nothing() {
    fn domain() -> Response {
        token(r#""domain": {"id": "default"},"#, "2100-01-01T00:00:00Z")
    }
    fn system() -> Response {
        token(r#""system": {"all": true},"#, "2100-01-01T00:00:00Z")
    }
    for answer in [domain, system] {
        let script = Scripted { answer: Some(answer), ..Scripted::default() };
        let (keystone, _) = keystone(script, |_| {}).await;
        let caller = keystone.identify("token").await.unwrap().unwrap();
        assert_eq!((caller.roles, caller.project), (Roles::default(), None));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    fn html() -> Response {
        "<html>".into_response()
    }
    fn failed() -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
    fn forbidden() -> Response {
        StatusCode::FORBIDDEN.into_response()
    }
    fn huge() -> Response {
        " ".repeat(RESPONSE_LIMIT + 1).into_response()
    }
    fn no_date() -> Response {
        token(r#""project": {"id": "p", "domain": {"id": "d", "name": "D"}},"#, "soon")
    }
    for (answer, told) in [
        (html as fn() -> Response, "cannot be read"),
        (failed, "HTTP status 500"),
        (forbidden, "role service or admin"),
        (huge, "larger than"),
        (no_date, "expires_at"),
    ] {
        let script = Scripted { answer: Some(answer), ..Scripted::default() };
        let (keystone, _) = keystone(script, |_| {}).await;
        let error = keystone.identify("token").await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_keystone_that_is_silent_or_away_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let (keystone, _) = keystone(Scripted::default(), |config| {
        config.url = format!("http://{address}/v3").parse().unwrap();
        config.timeout = Duration::from_secs(1);
    })
    .await;
    let error = keystone.identify("token").await.unwrap_err();
    assert!(matches!(error, KeystoneError::TimedOut(_)), "{error}");
    drop(silent);
    let error = keystone.identify("token").await.unwrap_err();
    assert!(matches!(error, KeystoneError::Unreachable(_)), "{error}");
}
