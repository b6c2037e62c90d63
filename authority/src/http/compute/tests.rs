use crate::http::testing::{API_TOKEN, Answer, INSTANCE, app, ask};
use crate::http::{BODY_LIMIT, public};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

async fn post(token: Option<&str>, id: &str, body: impl Into<Body>) -> Answer {
    let mut request = Request::post(format!("/v2.1/servers/{id}/action"));
    if let Some(token) = token {
        request = request.header("X-Auth-Token", token);
    }
    ask(public(app(), None), request.body(body.into()).unwrap()).await
}

/// The message of a nova error of this name, whose code is also the HTTP status.
#[track_caller]
fn message(answer: &Answer, name: &str) -> String {
    let body = answer.json();
    assert_eq!(body[name]["code"], answer.status.as_u16(), "{body}");
    body[name]["message"].as_str().unwrap().to_owned()
}

async fn refused(action: Value) -> String {
    let answer = post(Some(API_TOKEN), INSTANCE, action.to_string()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{action}");
    message(&answer, "badRequest")
}

#[tokio::test]
async fn without_a_good_token_it_answers_as_keystonemiddleware_does() {
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}}).to_string();
    for token in [None, Some(""), Some("wrong"), Some("the portal's API toke")] {
        let answer = post(token, INSTANCE, action.clone()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token:?}");
        assert!(answer.header("www-authenticate").is_some());
        let message = "The request you have made requires authentication.";
        let error = json!({"code": 401, "title": "Unauthorized", "message": message});
        assert_eq!(answer.json(), json!({"error": error}));
    }
}

#[tokio::test]
async fn a_body_that_is_no_action_is_a_bad_request() {
    for body in ["", "{", "[]", "null", "\"x\"", "{}", r#"{"a": {}, "b": {}}"#, "\u{0}"] {
        let answer = post(Some(API_TOKEN), INSTANCE, body).await;
        assert_eq!(message(&answer, "badRequest"), "Malformed request body", "{body}");
    }
    let message = refused(json!({"os-getSPICEConsole": {"type": "spice-html5"}})).await;
    assert_eq!(message, "There is no such action: os-getSPICEConsole");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let body = " ".repeat(BODY_LIMIT + 1);
    let answer = post(Some(API_TOKEN), INSTANCE, body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(message(&answer, "overLimit"), "Request is too large.");
}

#[tokio::test]
async fn arguments_are_held_to_the_schema() {
    let vmware = |arguments: Value| refused(json!({"os-getVNCConsoleVmware": arguments}));
    for (arguments, ending) in [
        (json!(null), "null is not of type 'object'"),
        (json!({}), "'type' is a required property"),
        (json!({"type": 1}), "1 is not of type 'string'"),
        (json!({"type": "novnc", "host": ["a"]}), "[\"a\"] is not of type 'string'"),
        (
            json!({"type": "novnc", "port": 1}),
            "Additional properties are not allowed ('port' was unexpected)",
        ),
        (json!({"type": "novnc", "host": "x".repeat(256)}), "is too long"),
    ] {
        let message = vmware(arguments.clone()).await;
        assert!(message.starts_with("Invalid input for field/attribute "), "{message}");
        assert!(message.ends_with(ending), "{arguments}: {message}");
    }
    assert_eq!(vmware(json!({"type": "spice"})).await, "Invalid console type spice");
    assert_eq!(vmware(json!({"type": "xvpvnc"})).await, "Unavailable console type xvpvnc.");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}}).to_string();
    let answer = post(Some(API_TOKEN), "no-uuid", action).await;
    assert_eq!(message(&answer, "itemNotFound"), "Instance no-uuid could not be found.");
    for key in ["hypervisor_name", "service_host"] {
        let action = json!({"os-getVNCConsoleVmware": {"type": "novnc", key: "cluster-b"}});
        let answer = post(Some(API_TOKEN), INSTANCE, action.to_string()).await;
        assert_eq!(
            message(&answer, "itemNotFound"),
            "No hypervisor matching 'cluster-b' could be found."
        );
    }
}

#[tokio::test]
async fn a_vcenter_that_is_down_is_unavailable_by_every_name_it_has() {
    for arguments in [
        json!({"type": "novnc"}),
        json!({"type": "novnc", "hypervisor_name": null, "host": null}),
        json!({"type": "novnc", "hypervisor_name": "domain-c7(cluster-a)"}),
        json!({"type": "novnc", "hypervisor_name": "cluster-a"}),
        json!({"type": "novnc", "service_host": "vcenter-a", "host": "esx-1"}),
    ] {
        let action = json!({"os-getVNCConsoleVmware": arguments}).to_string();
        let answer = post(Some(API_TOKEN), INSTANCE, action).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{arguments}");
        assert!(answer.header("retry-after").is_some());
        assert!(message(&answer, "serviceUnavailable").starts_with("vCenter does not answer."));
    }
}
