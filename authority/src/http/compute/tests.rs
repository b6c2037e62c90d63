use crate::http::app::App;
use crate::http::testing::{
    API_TOKEN, INSTANCE, TestResponse, UNKNOWN_TOKENS, app, app_with_roles, get, send,
};
use crate::http::{BODY_LIMIT, public};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

async fn post(token: Option<&str>, id: &str, body: impl Into<Body>) -> TestResponse {
    let mut request = Request::post(format!("/v2.1/servers/{id}/action"));
    if let Some(token) = token {
        request = request.header("X-Auth-Token", token);
    }
    send(public(app(), None), request.body(body.into()).unwrap()).await
}

/// The message of a nova error of this name, whose code is also the HTTP status.
#[track_caller]
fn message(response: &TestResponse, name: &str) -> String {
    let body = response.json();
    assert_eq!(body[name]["code"], response.status.as_u16(), "{body}");
    body[name]["message"].as_str().unwrap().to_owned()
}

/// A call of the portal's, written for a microversion.
async fn call(method: &str, path: &str, version: &str, body: impl Into<Body>) -> TestResponse {
    call_as(app(), method, path, version, body).await
}

async fn call_as(
    app: Arc<App>,
    method: &str,
    path: &str,
    version: &str,
    body: impl Into<Body>,
) -> TestResponse {
    let request = Request::builder().method(method).uri(path).header("X-Auth-Token", API_TOKEN);
    let request = request.header("OpenStack-API-Version", format!("compute {version}"));
    send(public(app, None), request.body(body.into()).unwrap()).await
}

async fn refused(action: Value) -> String {
    let response = post(Some(API_TOKEN), INSTANCE, action.to_string()).await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST, "{action}");
    message(&response, "badRequest")
}

#[tokio::test]
async fn without_a_good_token_it_answers_as_keystonemiddleware_does() {
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}}).to_string();
    for token in [None, Some(""), Some("wrong"), Some("the portal's API toke")] {
        let response = post(token, INSTANCE, action.clone()).await;
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{token:?}");
        assert!(response.header("www-authenticate").is_some());
        let message = "The request you have made requires authentication.";
        let error = json!({"code": 401, "title": "Unauthorized", "message": message});
        assert_eq!(response.json(), json!({"error": error}));
    }
}

#[tokio::test]
async fn a_body_that_is_no_action_is_a_bad_request() {
    for body in ["", "{", "[]", "null", "\"x\"", "{}", r#"{"a": {}, "b": {}}"#, "\u{0}"] {
        let response = post(Some(API_TOKEN), INSTANCE, body).await;
        assert_eq!(message(&response, "badRequest"), "Malformed request body", "{body}");
    }
    let message = refused(json!({"os-stpo": null})).await;
    assert_eq!(message, "There is no such action: os-stpo");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let body = " ".repeat(BODY_LIMIT + 1);
    let response = post(Some(API_TOKEN), INSTANCE, body).await;
    assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(message(&response, "overLimit"), "Request is too large.");
}

#[tokio::test]
async fn arguments_are_held_to_the_schema() {
    let vmware = |arguments: Value| refused(json!({"os-getVNCConsoleVmware": arguments}));
    for (arguments, ending) in [
        (json!(null), "Value: None. None is not of type 'object'"),
        (json!({}), "'type' is a required property"),
        (json!({"type": 1}), "1 is not of type 'string'"),
        (json!({"type": "novnc", "host": ["a"]}), "Value: ['a']. ['a'] is not of type 'string'"),
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
async fn what_a_caller_may_add_is_held_to_its_bounds_in_each_call() {
    for (added, ending) in [
        (json!({"access": "admin"}), "'admin' is not one of ['control', 'view']"),
        (json!({"clipboard": "no"}), "'no' is not of type 'boolean'"),
        (json!({"label": "x".repeat(101)}), "is too long"),
        (json!({"label": "a\nb"}), "The label has a character that is not printable."),
        (json!({"ttl_seconds": -1}), "-1 is not of type 'integer'"),
        (json!({"ttl_seconds": "2h"}), "'2h' is not of type 'integer'"),
        (json!({"ttl_seconds": 9}), "ttl_seconds has to be from 10 to 600 here."),
        (json!({"ttl_seconds": 601}), "ttl_seconds has to be from 10 to 600 here."),
        (
            json!({"access": "view", "ttl_seconds": 86_401}),
            "ttl_seconds has to be from 10 to 86400 here.",
        ),
    ] {
        let with = |mut arguments: Value| {
            let fields = added.as_object().unwrap().clone();
            arguments.as_object_mut().unwrap().extend(fields);
            arguments
        };
        let novnc = with(json!({"type": "novnc"}));
        let action = format!("/v2.1/servers/{INSTANCE}/action");
        let remote = format!("/v2.1/servers/{INSTANCE}/remote-consoles");
        let tokens = format!("/v1/instances/{INSTANCE}/tokens");
        let protocol = with(json!({"protocol": "vnc", "type": "novnc"}));
        for (path, version, body) in [
            (&action, "2.1", json!({"os-getVNCConsoleVmware": novnc})),
            (&action, "2.1", json!({"os-getVNCConsole": novnc})),
            (&remote, "2.6", json!({"remote_console": protocol})),
            (&tokens, "2.1", novnc.clone()),
        ] {
            let response = call("POST", path, version, body.to_string()).await;
            assert_eq!(response.status, StatusCode::BAD_REQUEST, "{path} {body}");
            let message = message(&response, "badRequest");
            assert!(message.ends_with(ending), "{body}: {message}");
        }
    }
    // These are good, and vCenter does not answer here.
    for body in [
        json!({}),
        json!({"access": "view", "clipboard": false, "label": "Bob", "ttl_seconds": 86_400}),
        json!({"type": "webmks", "access": "control", "clipboard": true, "ttl_seconds": 10}),
    ] {
        let path = format!("/v1/instances/{INSTANCE}/tokens");
        let response = call("POST", &path, "2.1", body.to_string()).await;
        assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}}).to_string();
    let response = post(Some(API_TOKEN), "no-uuid", action).await;
    assert_eq!(message(&response, "itemNotFound"), "Instance no-uuid could not be found.");
    for path in ["/v2.1/servers/no-uuid", "/v2.1/servers/no-uuid?x=1"] {
        let response = call("GET", path, "2.1", "").await;
        assert_eq!(message(&response, "itemNotFound"), "Instance no-uuid could not be found.");
    }
    let response = call("GET", "/v2.1/os-console-auth-tokens/no-token", "2.31", "").await;
    assert_eq!(message(&response, "itemNotFound"), "Token not found");
}

#[tokio::test]
async fn what_nova_does_not_have_is_not_found_whatever_the_method() {
    for (method, path) in [
        ("GET", "/v2.1/no-such-path"),
        ("GET", "/v2.1/servers/a/no-such-path"),
        ("PATCH", "/v2.1/servers"),
        ("GET", "/v2.1/servers/a/action"),
        ("DELETE", "/v2.1/limits"),
        ("PUT", "/v2.1/servers/a/tags"),
    ] {
        let response = call(method, path, "2.25", "").await;
        assert_eq!(message(&response, "itemNotFound"), "The resource could not be found.");
    }
    let response = call("PUT", "/v2.1/servers/a/tags", "2.26", "").await;
    let told = "Policy doesn't allow os_compute_api:os-server-tags:update_all to be performed.";
    assert_eq!(message(&response, "forbidden"), told);
}

#[tokio::test]
async fn a_vcenter_that_is_down_is_unavailable_by_every_name_it_has() {
    for arguments in [
        json!({"type": "novnc"}),
        json!({"type": "novnc", "hypervisor_name": null, "host": null}),
        json!({"type": "novnc", "hypervisor_name": "domain-c7(cluster-a)"}),
        json!({"type": "novnc", "hypervisor_name": "cluster-a"}),
        json!({"type": "novnc", "service_host": "vcenter-a", "host": "esx-1"}),
        // It may have a cluster of that name: it has not told yet.
        json!({"type": "novnc", "hypervisor_name": "cluster-b"}),
    ] {
        let action = json!({"os-getVNCConsoleVmware": arguments}).to_string();
        let response = post(Some(API_TOKEN), INSTANCE, action).await;
        assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE, "{arguments}");
        assert!(response.header("retry-after").is_some());
        assert!(message(&response, "serviceUnavailable").starts_with("vCenter does not answer."));
    }
}

#[tokio::test]
async fn the_versions_are_told_to_anybody() {
    let host = |path: &str| {
        let mut request = get(path);
        let headers = request.headers_mut();
        headers.insert("host", "consoles.example.com".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        request
    };
    let response = send(public(app(), None), host("/")).await;
    assert_eq!(response.status, StatusCode::OK);
    let listed = &response.json()["versions"][0];
    for path in ["/v2.1", "/v2.1/"] {
        let response = send(public(app(), None), host(path)).await;
        assert_eq!(response.status, StatusCode::OK, "{path}");
        let version = &response.json()["version"];
        for field in ["id", "status", "version", "min_version", "updated"] {
            assert_eq!(version[field], listed[field], "{field}");
        }
        let link = json!({"rel": "self", "href": "https://consoles.example.com/v2.1/"});
        assert_eq!((&version["links"][0], &listed["links"][0]), (&link, &link));
        assert_eq!(
            (&version["min_version"], &version["version"]),
            (&json!("2.1"), &json!("2.104"))
        );
    }
}

#[tokio::test]
async fn each_answer_says_in_which_version_it_is_written() {
    for (path, version) in [("/v2.1/servers/no-uuid", "2.42"), ("/v2.1/", "2.42")] {
        let response = call("GET", path, version, "").await;
        assert_eq!(response.header("openstack-api-version"), Some("compute 2.42"));
        assert_eq!(response.header("x-openstack-nova-api-version"), Some("2.42"));
        let vary: Vec<_> = response.headers.get_all("vary").iter().collect();
        assert_eq!(vary, ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"]);
    }
    for path in ["/v2.1/servers", "/v2.1/"] {
        let response = call("GET", path, "2.105", "").await;
        assert_eq!(response.status, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(
            message(&response, "computeFault"),
            "Version 2.105 is not supported by the API. Minimum is 2.1 and maximum is 2.104."
        );
        let response = call("GET", path, "two", "").await;
        assert_eq!(
            message(&response, "badRequest"),
            "API Version String two is of invalid format. Must be of format MajorNum.MinorNum."
        );
    }
    let unknown = Request::get("/v2.1/servers").header("OpenStack-API-Version", "compute 2.105");
    let response = send(public(app(), None), unknown.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED, "the caller comes first");
}

#[tokio::test]
async fn each_way_to_ask_for_a_console_is_there_in_its_versions() {
    let action = |name: &str, console: &str| json!({name: {"type": console}}).to_string();
    let remote = |protocol: &str, console: &str| {
        json!({"remote_console": {"protocol": protocol, "type": console}}).to_string()
    };
    let (by_action, by_resource) = ("action", "remote-consoles");
    let down = StatusCode::SERVICE_UNAVAILABLE;
    let (missing, bad) = (StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST);
    for (path, version, body, status) in [
        (by_action, "2.1", action("os-getVNCConsole", "novnc"), down),
        (by_action, "2.5", action("os-getVNCConsole", "novnc"), down),
        (by_action, "2.6", action("os-getVNCConsole", "novnc"), missing),
        (by_action, "2.6", action("os-getSPICEConsole", "spice-html5"), missing),
        (by_action, "2.5", action("os-getSPICEConsole", "spice-html5"), bad),
        (by_action, "2.1", action("os-getVNCConsoleVmware", "novnc"), down),
        (by_action, "2.96", action("os-getVNCConsoleVmware", "novnc"), down),
        (by_resource, "2.5", remote("vnc", "novnc"), missing),
        (by_resource, "2.6", remote("vnc", "novnc"), down),
        (by_resource, "latest", remote("vnc", "novnc"), down),
        (by_resource, "2.7", remote("mks", "webmks"), bad),
        (by_resource, "2.8", remote("mks", "webmks"), down),
    ] {
        let path = format!("/v2.1/servers/{INSTANCE}/{path}");
        let response = call("POST", &path, version, body.clone()).await;
        assert_eq!(response.status, status, "{path} {version} {body}");
    }
    let response = call("GET", "/v2.1/os-console-auth-tokens/x", "2.30", "").await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_remote_console_is_held_to_nova_s_schema() {
    for (version, console, told) in [
        ("2.6", json!({}), "Value: {}. 'protocol' is a required property"),
        ("2.6", json!({"protocol": "vnc"}), "'type' is a required property"),
        (
            "2.6",
            json!({"protocol": "mks", "type": "webmks"}),
            "'mks' is not one of ['vnc', 'spice', \
            'serial', 'rdp']",
        ),
        (
            "2.8",
            json!({"protocol": "x", "type": "novnc"}),
            "'x' is not one of ['vnc', 'spice', \
            'serial', 'rdp', 'mks']",
        ),
        ("2.8", json!({"protocol": "mks", "type": "novnc"}), "Invalid console type novnc"),
        ("2.8", json!({"protocol": "vnc", "type": "webmks"}), "Invalid console type webmks"),
        (
            "2.8",
            json!({"protocol": "spice", "type": "spice-html5"}),
            "Unavailable console type \
            spice-html5.",
        ),
        (
            "2.98",
            json!({"protocol": "spice", "type": "spice-direct"}),
            "'spice-direct' is not one of ['novnc', 'xvpvnc', 'spice-html5', 'serial', \
            'rdp-html5', 'webmks']",
        ),
        (
            "2.99",
            json!({"protocol": "spice", "type": "spice-direct"}),
            "Unavailable console type spice-direct.",
        ),
        ("2.8", json!({"protocol": "rdp", "type": "rdp-html5"}), "Unavailable console type rdp."),
        ("2.8", json!({"protocol": "vnc", "type": "serial"}), "Invalid console type serial"),
        ("2.8", json!({"protocol": "vnc", "type": "xvpvnc"}), "Unavailable console type xvpvnc."),
        (
            "2.8",
            json!({"protocol": "vnc", "type": "novnc", "x": 1}),
            "Additional properties are not \
            allowed ('x' was unexpected)",
        ),
    ] {
        let path = format!("/v2.1/servers/{INSTANCE}/remote-consoles");
        let body = json!({"remote_console": console}).to_string();
        let response = call("POST", &path, version, body.clone()).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{body}");
        let message = message(&response, "badRequest");
        assert!(message.ends_with(told), "{body}: {message}");
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_not_json_is_not_read() {
    let path = format!("/v2.1/servers/{INSTANCE}/action");
    for (content_type, status) in [
        ("application/json", StatusCode::SERVICE_UNAVAILABLE),
        ("application/json; charset=UTF-8", StatusCode::SERVICE_UNAVAILABLE),
        ("text/plain", StatusCode::SERVICE_UNAVAILABLE),
        ("application/x-www-form-urlencoded", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("text/xml", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let request = Request::post(&path).header("X-Auth-Token", API_TOKEN);
        let body = json!({"os-getVNCConsoleVmware": {"type": "novnc"}}).to_string();
        let request = request.header("content-type", content_type).body(Body::from(body)).unwrap();
        let response = send(public(app(), None), request).await;
        assert_eq!(response.status, status, "{content_type}");
    }
}

#[tokio::test]
async fn a_project_in_the_path_must_be_the_caller_s_own() {
    for (project, status, told) in [
        ("0a1b", StatusCode::NOT_FOUND, "Instance no-uuid could not be found."),
        (
            "0a1c",
            StatusCode::BAD_REQUEST,
            "Malformed request URL: URL's project_id '0a1c' doesn't match Context's project_id '0a1b'",
        ),
        ("PROJECT", StatusCode::NOT_FOUND, "The resource could not be found."),
    ] {
        let app = app_with_roles(&["admin"], Some("0a1b"));
        let path = format!("/v2.1/{project}/servers/no-uuid");
        let response = call_as(app, "GET", &path, "2.1", "").await;
        assert_eq!(response.status, status, "{project}");
        let body = response.json();
        let error = body.as_object().unwrap().values().next().unwrap();
        assert_eq!(error["message"], told);
    }
}

#[tokio::test]
async fn a_caller_without_the_role_is_forbidden_by_nova_s_name_for_it() {
    let console = json!({"remote_console": {"protocol": "vnc", "type": "novnc"}}).to_string();
    let reboot = json!({"reboot": {"type": "SOFT"}}).to_string();
    for (method, path, body, rule) in [
        ("GET", "/v2.1/servers", "", "os_compute_api:servers:index"),
        ("GET", "/v2.1/servers/detail", "", "os_compute_api:servers:detail"),
        ("GET", "/v2.1/servers/no-uuid", "", "os_compute_api:servers:show"),
        (
            "POST",
            "/v2.1/servers/no-uuid/remote-consoles",
            &console,
            "os_compute_api:os-remote-consoles",
        ),
        ("GET", "/v2.1/os-console-auth-tokens/x", "", "os_compute_api:os-console-auth-tokens"),
        ("POST", "/v2.1/servers/x/action", r#"{"os-start": null}"#, "os_compute_api:servers:start"),
        ("POST", "/v2.1/servers/x/action", &reboot, "os_compute_api:servers:reboot"),
        ("GET", "/v1/vms", "", "open_console"),
        ("DELETE", "/v1/tokens/x", "", "revoke_token"),
        ("DELETE", "/v1/instances/x/tokens", "", "revoke_token"),
        ("GET", "/v1/instances/x/tokens", "", "read_token"),
    ] {
        let app = app_with_roles(&["member"], Some("0a1b"));
        let response = call_as(app, method, path, "2.96", body.to_owned()).await;
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{method} {path}");
        let told = format!("Policy doesn't allow {rule} to be performed.");
        assert_eq!(message(&response, "forbidden"), told);
    }
}

/// 700 tokens could be tried on this path without a refusal.
#[tokio::test]
async fn a_client_that_tries_tokens_by_nova_s_call_is_refused() {
    let app = app();
    let show = async |client: &str| {
        let request = Request::get("/v2.1/os-console-auth-tokens/guess")
            .header("X-Envoy-External-Address", client)
            .header("X-Auth-Token", API_TOKEN)
            .header("OpenStack-API-Version", "compute 2.96");
        send(public(app.clone(), None), request.body(Body::empty()).unwrap()).await
    };
    for _ in 0..UNKNOWN_TOKENS.get() {
        assert_eq!(show("203.0.113.7").await.status, StatusCode::NOT_FOUND);
    }
    let refused = show("203.0.113.7").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(show("203.0.113.8").await.status, StatusCode::NOT_FOUND);
}
