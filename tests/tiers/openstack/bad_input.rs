//! What none of OpenStack's clients sends. The whole gateway answers it as nova does.

use serde_json::json;
use vncgate_authority::http::BODY_LIMIT;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::cloud::{Cloud, MEMBER, TENANT};
use vncgate_test_support::keystone::Scope;

#[tokio::test]
async fn what_nova_s_schemas_do_not_foresee_is_refused_in_nova_s_words() {
    let cloud = Cloud::shared().await;
    let token = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    let http = cloud.gateway.ca.http_client();
    let servers = format!("{}/v2.1/servers", cloud.gateway.envoy.url());
    let ask = async |id: &str, version: &str, body: Vec<u8>| {
        let request = http.post(format!("{servers}/{id}/remote-consoles"));
        let request = request.header("X-Auth-Token", &token);
        let request = request.header("OpenStack-API-Version", format!("compute {version}"));
        let request = request.header("Content-Type", "application/json").body(body);
        Answer::of(request.send().await.expect("the gateway answers")).await
    };
    let console = |console: serde_json::Value| json!({"remote_console": console}).to_string();
    let good = console(json!({"protocol": "vnc", "type": "novnc"}));
    let unexpected = console(json!({"protocol": "vnc", "type": "novnc", "host": "127.0.0.1"}));
    let padded = |len: usize| format!("{good}{}", " ".repeat(len - good.len()));
    let id = cloud.ours.instance_uuid.as_str();
    for (id, version, body, status, name, told) in [
        (id, "2.96", &b"{"[..], 400, "badRequest", "Malformed request body"),
        (id, "2.96", b"\xff\xfe", 400, "badRequest", "Malformed request body"),
        (id, "2.96", b"[]", 400, "badRequest", "[] is not of type 'object'"),
        (
            id,
            "2.96",
            unexpected.as_bytes(),
            400,
            "badRequest",
            "Additional properties are not allowed ('host' was unexpected)",
        ),
        (
            id,
            "2.96",
            console(json!({"protocol": ["vnc"], "type": "novnc"})).as_bytes(),
            400,
            "badRequest",
            "['vnc'] is not of type 'string'",
        ),
        ("no-uuid", "2.96", good.as_bytes(), 404, "itemNotFound", "could not be found."),
        (
            id,
            "2.105",
            good.as_bytes(),
            406,
            "computeFault",
            "Version 2.105 is not supported by the API. Minimum is 2.1 and maximum is 2.104.",
        ),
        (id, "2.96", padded(BODY_LIMIT + 1).as_bytes(), 413, "overLimit", "Request is too large."),
    ] {
        let answer = ask(id, version, body.to_vec()).await;
        let message = answer.nova_error(status, name);
        assert!(message.ends_with(told), "{message}");
    }
    let answer = ask(id, "2.96", padded(BODY_LIMIT).into_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}
