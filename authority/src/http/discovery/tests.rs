use super::*;
use crate::http::internal;
use crate::http::testing::{TestResponse, app, app_with_ca, send};
use axum::http::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

async fn ask(app: Arc<App>, request: impl Into<Body>) -> TestResponse {
    let request = Request::post("/v3/discovery:secrets").body(request.into()).unwrap();
    send(internal(app), request).await
}

/// As Envoy 1.40 writes it, shortened.
fn request(version: &str) -> Value {
    json!({
        "version_info": version,
        "node": {"id": "vncgate", "extensions": [{"name": "envoy.filters.http.wasm"}]},
        "resource_names": ["vncgate_esxi_hosts"],
        "type_url": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    })
}

#[tokio::test(start_paused = true)]
async fn an_envoy_gets_the_secret_and_waits_for_another_version() {
    let app = app();
    let response = ask(Arc::clone(&app), request("").to_string()).await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let response = response.json();
    let secret = &response["resources"][0];
    assert_eq!(secret["name"], "vncgate_esxi_hosts");
    let pins = secret["validation_context"]["verify_certificate_hash"].as_array().unwrap();
    assert_eq!(pins, &["0".repeat(64)], "an empty list would accept every host");
    assert_eq!(response["type_url"], secret["@type"]);

    let version = response["version_info"].as_str().unwrap();
    let started = Instant::now();
    let response = ask(Arc::clone(&app), request(version).to_string()).await;
    assert_eq!(response.status, StatusCode::NOT_MODIFIED);
    assert!(response.body.is_empty());
    assert!(started.elapsed() >= Duration::from_secs(20));

    let started = Instant::now();
    app.draining.cancel();
    let response = ask(Arc::clone(&app), request(version).to_string()).await;
    assert_eq!(response.status, StatusCode::NOT_MODIFIED);
    let response = ask(app, request("another").to_string()).await;
    assert_eq!(response.status, StatusCode::OK, "while it drains, too");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_refused_with_the_reason() {
    let with = |key: &str, value: Value| {
        let mut request = request("");
        request[key] = value;
        request.to_string()
    };
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let cases = [
        (String::new(), StatusCode::BAD_REQUEST, "not a DiscoveryRequest"),
        ("[]]".to_owned(), StatusCode::BAD_REQUEST, "not a DiscoveryRequest"),
        (with("version_info", json!(1)), StatusCode::BAD_REQUEST, "not a DiscoveryRequest"),
        (with("type_url", json!(cluster)), StatusCode::BAD_REQUEST, cluster),
        (with("resource_names", json!(["other"])), StatusCode::NOT_FOUND, "\"other\""),
        (with("resource_names", json!([])), StatusCode::NOT_FOUND, "vncgate_esxi_hosts"),
    ];
    for (request, status, reason) in cases {
        let response = ask(app(), request.clone()).await;
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, status, "{request}: {text}");
        assert!(text.contains(reason), "{request}: {text}");
    }
    let response = ask(app(), vec![b' '; REQUEST_LIMIT + 1]).await;
    assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    let response = ask(app_with_ca(), request("").to_string()).await;
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert!(String::from_utf8(response.body).unwrap().contains("pinned"));
}

#[test]
fn both_forms_of_protobuf_s_json_are_read() {
    let camel = r#"{"versionInfo": "7", "resourceNames": ["vncgate_esxi_hosts"]}"#;
    assert_eq!(read_request(camel.as_bytes()).unwrap(), "7");
    assert_eq!(read_request(request("7").to_string().as_bytes()).unwrap(), "7");
}
