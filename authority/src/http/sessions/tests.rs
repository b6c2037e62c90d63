use crate::console_type::ConsoleType;
use crate::http::app::App;
use crate::http::testing::{API_TOKEN, TestResponse, app, app_with_roles, send};
use crate::http::{internal, public};
use crate::sessions::Description;
use crate::tokens::TokenHash;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::num::NonZeroU16;
use std::sync::Arc;
use uuid::Uuid;
use vncgate_api::{REPORT_LIMIT, SESSIONS_PATH};

const MACHINE: Uuid = Uuid::from_u128(0x77);

async fn call(app: &Arc<App>, method: Method, path: &str, body: &str) -> TestResponse {
    let request = Request::builder().method(method).uri(path).header("X-Auth-Token", API_TOKEN);
    send(public(Arc::clone(app), None), request.body(body.to_owned().into()).unwrap()).await
}

async fn get(app: &Arc<App>, path: &str) -> TestResponse {
    call(app, Method::GET, path, "").await
}

async fn report(app: &Arc<App>, report: &Value) -> TestResponse {
    let request = Request::post(SESSIONS_PATH).body(Body::from(report.to_string())).unwrap();
    send(internal(Arc::clone(app)), request).await
}

fn description(number: u128) -> Description {
    Description {
        instance: if number == 1 { MACHINE } else { Uuid::from_u128(number) },
        machine: Some(format!("web-{number}").into()),
        vcenter: "vcenter-a".into(),
        host: "esx-1".into(),
        vnc_port: NonZeroU16::new(5901),
        console_type: Some(ConsoleType::Novnc),
        caller: format!("keystone:{number}").into(),
        user: Some(format!("user-{number}@Default").into()),
        project: Some((if number.is_multiple_of(2) { "even" } else { "odd" }).into()),
        token_id: Some(TokenHash::of(&number.to_string())),
        client: Some(format!("203.0.113.{number}").into()),
        target: Some("10.0.0.5:5901".parse().unwrap()),
        ..Description::default()
    }
}

/// Has a worker report the opening of these sessions, and returns its name.
async fn open(app: &Arc<App>, numbers: impl IntoIterator<Item = u128>) -> String {
    let traffic = json!({"from_browser": 1, "to_browser": 2, "last_message_at": 1_000});
    let opened: Vec<Value> = numbers
        .into_iter()
        .map(|number| {
            json!({"session": Uuid::from_u128(number), "opened_at": 0, "traffic": traffic,
                "description": description(number).to_text()})
        })
        .collect();
    let response = report(app, &json!({"gateway": "envoy-1", "opened": opened})).await;
    assert_eq!(response.status, StatusCode::OK);
    response.json()["worker"].as_str().unwrap().to_owned()
}

fn ids(response: &TestResponse) -> Vec<u128> {
    let listed = response.json()["sessions"].as_array().unwrap().clone();
    listed
        .iter()
        .map(|one| one["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128())
        .collect()
}

#[tokio::test]
async fn a_session_is_shown_with_all_that_is_known_of_it() {
    let app = app();
    let worker = open(&app, [1]).await;
    let session = get(&app, &format!("/v1/sessions/{}", Uuid::from_u128(1))).await;
    assert_eq!(session.status, StatusCode::OK);
    let expected = json!({
        "id": Uuid::from_u128(1), "instance_uuid": MACHINE, "machine": "web-1",
        "service_host": "vcenter-a", "host": "esx-1", "protocol": "vnc", "console_type": "novnc",
        "access": "control", "clipboard": true, "label": null, "target": "10.0.0.5:5901", "caller": "keystone:1",
        "user": "user-1@Default", "project": "odd", "token_id": TokenHash::of("1"),
        "client": "203.0.113.1", "gateway": "envoy-1", "worker": &worker[..8],
        "opened_at": "1970-01-01T00:00:00Z", "last_message_at": "1970-01-01T00:00:01Z",
        "last_input_at": null, "must_end_at": null, "bytes_from_browser": 1,
        "bytes_to_browser": 2, "ending": null,
    });
    assert_eq!(session.json()["session"], expected);
    assert_eq!(get(&app, "/v1/sessions").await.json(), json!({"sessions": [expected]}));
    for unknown in [Uuid::from_u128(2).to_string(), "x".to_owned()] {
        let response = get(&app, &format!("/v1/sessions/{unknown}")).await;
        assert_eq!(response.status, StatusCode::NOT_FOUND, "{unknown}");
        assert_eq!(response.json()["itemNotFound"]["message"], "Session not found");
    }
}

#[tokio::test]
async fn sessions_are_filtered_and_come_page_by_page() {
    let app = app();
    open(&app, 1..=9).await;
    for (query, expected) in [
        ("machine=web-2", &[2][..]),
        (&format!("machine={}", MACHINE.simple()), &[1]),
        ("caller=keystone:3", &[3]),
        ("caller=user-3@Default", &[3]),
        ("project=even", &[2, 4, 6, 8]),
        ("project=even&client=203.0.113.4", &[4]),
        ("client=203.0.113.4&machine=web-5", &[]),
        ("machine=", &[]),
        ("limit=0", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ] {
        assert_eq!(ids(&get(&app, &format!("/v1/sessions?{query}")).await), expected, "{query}");
    }

    let mut pages = Vec::new();
    let mut next = Some("/v1/sessions?project=odd&limit=2".to_owned());
    while let Some(path) = next {
        let page = get(&app, &path).await;
        pages.push(ids(&page));
        let links = page.json()["sessions_links"].clone();
        next = links[0]["href"].as_str().map(str::to_owned);
        // The session after which the next page begins ends meanwhile.
        if pages.len() == 1 {
            let path = format!("/v1/sessions/{}", Uuid::from_u128(3));
            let end = call(&app, Method::DELETE, &path, "").await;
            assert_eq!(end.status, StatusCode::ACCEPTED);
        }
    }
    assert_eq!(pages, [vec![1, 3], vec![5, 7], vec![9]]);

    for wrong in ["colour=red", "limit=-1", "limit=x", "client=esx", "marker=x"] {
        let response = get(&app, &format!("/v1/sessions?{wrong}")).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn rights_are_asked_for_and_other_projects_sessions_are_not_found() {
    let one = format!("/v1/sessions/{}", Uuid::from_u128(1));
    let all = format!("/v1/instances/{MACHINE}/sessions");
    let calls = [
        (Method::GET, "/v1/sessions"),
        (Method::GET, &one),
        (Method::DELETE, &one),
        (Method::DELETE, &all),
    ];
    let powerless = app_with_roles(&["reader"], Some("a"));
    open(&powerless, [1]).await;
    for (method, path) in &calls {
        let response = call(&powerless, method.clone(), path, "").await;
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{path}");
        let request = Request::builder().method(method.clone()).uri(*path);
        let anonymous = request.body(Body::empty()).unwrap();
        let response = send(public(Arc::clone(&powerless), None), anonymous).await;
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(powerless.sessions.live().len(), 1);
    assert!(powerless.sessions.live()[0].ending.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_ended_with_the_reason_of_its_operator() {
    let app = app();
    let worker = open(&app, [1, 2, 3, 4]).await;
    let path = |number| format!("/v1/sessions/{}", Uuid::from_u128(number));
    let first = path(1);
    let ending = |app: Arc<App>, path: String, body: &'static str| async move {
        call(&app, Method::DELETE, &path, body).await
    };
    let call_one =
        tokio::spawn(ending(Arc::clone(&app), first.clone(), r#"{"reason": "Wartung"}"#));
    let held = json!({"worker": worker, "gateway": "envoy-1", "wait_seconds": 20});
    let told = report(&app, &held).await.json();
    let order = json!({"order": "end", "session": Uuid::from_u128(1), "code": 1001,
        "reason": "ended_by_operator: Wartung"});
    assert_eq!(told["orders"], json!([order]));
    let shown = get(&app, &first).await.json()["session"]["ending"].clone();
    assert_eq!(shown, json!({"code": "ended_by_operator", "message": "Wartung"}));
    let ended = json!([{"session": Uuid::from_u128(1), "ended_at": 1, "cause": "ordered",
        "traffic": {"from_browser": 1, "to_browser": 2}}]);
    report(&app, &json!({"worker": worker, "gateway": "envoy-1", "ended": ended})).await;
    assert_eq!(call_one.await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(call(&app, Method::DELETE, &first, "").await.status, StatusCode::NOT_FOUND);

    // The gateway does not answer.
    let query = format!("{}?reason=by%20query", path(2));
    assert_eq!(call(&app, Method::DELETE, &query, "").await.status, StatusCode::ACCEPTED);
    let ending = app.sessions.get(Uuid::from_u128(2)).unwrap().ending.clone().unwrap();
    assert_eq!((&*ending.words, ending.by.as_deref()), ("by query", Some("api_token:portal")));

    for wrong in [
        "{",
        "[]]",
        "\"x\"",
        r#"{"reason": 1}"#,
        r#"{"grund": "x"}"#,
        r#"{"reason": "a\nb"}"#,
        r#"{"reason": "\u001b[31m"}"#,
        &json!({"reason": "ü".repeat(51)}).to_string(),
    ] {
        let response = call(&app, Method::DELETE, &path(3), wrong).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let huge = json!({"reason": "x".repeat(100_000)}).to_string();
    let response = call(&app, Method::DELETE, &path(3), &huge).await;
    assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    let response = call(&app, Method::DELETE, &format!("{}?grund=x", path(3)), "").await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
    assert!(app.sessions.get(Uuid::from_u128(3)).unwrap().ending.is_none());

    let all = format!("/v1/instances/{}/sessions", Uuid::from_u128(3));
    assert_eq!(call(&app, Method::DELETE, &all, "").await.json(), json!({"ended": 1}));
    assert!(app.sessions.get(Uuid::from_u128(3)).unwrap().ending.is_some());
    assert!(app.sessions.get(Uuid::from_u128(4)).unwrap().ending.is_none());
    let response = call(&app, Method::DELETE, "/v1/instances/x/sessions", "").await;
    assert_eq!(response.status, StatusCode::NOT_FOUND);
}

/// The token was used up when it opened its session: there is none to revoke any more.
#[tokio::test(start_paused = true)]
async fn revoking_a_token_ends_what_it_has_opened() {
    let app = app();
    open(&app, [1, 2, 3]).await;
    let revoke = |number: u32| {
        let path = format!("/v1/tokens/{}", TokenHash::of(&number.to_string()));
        let app = Arc::clone(&app);
        async move { call(&app, Method::DELETE, &path, "").await.status }
    };
    assert_eq!(revoke(1).await, StatusCode::NO_CONTENT);
    assert_eq!(revoke(9).await, StatusCode::NOT_FOUND);
    let all = format!("/v1/instances/{}/tokens", Uuid::from_u128(2));
    assert_eq!(call(&app, Method::DELETE, &all, "").await.json(), json!({"revoked": 0}));
    let code = |number| {
        let session = app.sessions.get(Uuid::from_u128(number)).unwrap();
        session.ending.as_deref().map(|reason| reason.code.as_str())
    };
    assert_eq!((code(1), code(2), code(3)), (Some("token_revoked"), Some("token_revoked"), None));
}

#[tokio::test]
async fn a_report_that_is_none_is_refused_and_changes_nothing() {
    let app = app();
    let send = async |body: String| {
        let request = Request::post(SESSIONS_PATH).body(Body::from(body)).unwrap();
        send(internal(Arc::clone(&app)), request).await.status
    };
    for wrong in [
        "",
        "{",
        "{}",
        r#"{"gateway": "g", "colour": "red"}"#,
        r#"{"gateway": "g", "worker": "somebody"}"#,
        r#"{"gateway": "g", "opened": [{"session": "x"}]}"#,
        r#"{"gateway": "g", "wait_seconds": -1}"#,
    ] {
        assert_eq!(send(wrong.to_owned()).await, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let huge = format!(r#"{{"gateway": "{}"}}"#, "x".repeat(REPORT_LIMIT));
    assert_eq!(send(huge).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(app.sessions.live().is_empty());
}
