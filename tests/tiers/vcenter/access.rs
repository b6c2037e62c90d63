//! Tokens that restrict their users, and tokens for one browser: what the authority grants, and to which filter.

use crate::fixture::{ESXI, Site};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use vncgate_authority::tokens::BrowserDigest;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::new_api_token;
use vncgate_test_support::certificate::plain_http_client;

async fn issue(site: &Site, instance: &str, body: Value) -> Value {
    let path = format!("/v1/instances/{instance}/tokens");
    let sent = site.authority.request(Method::POST, &path).json(&body).send().await;
    let answer = Answer::of(sent.expect("the API answers")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn token(issued: &Value) -> &str {
    issued["url"].as_str().and_then(|url| url.rsplit_once("token=")).expect("a token").1
}

#[tokio::test]
async fn a_filter_that_does_not_enforce_access_opens_no_restricted_session() {
    let site = Site::shared().await;
    let (vm, port, unrestricted) = site.machine_and_token().await;
    let asked = json!({"access": "view", "label": "vendor, ticket 4711", "ttl_seconds": 7200});
    let view = issue(site, &vm.instance_uuid, asked).await;
    let silent = issue(site, &vm.instance_uuid, json!({"clipboard": false})).await;
    for (issued, access, clipboard) in
        [(&view, json!("view"), Value::Null), (&silent, Value::Null, json!(false))]
    {
        let refused = site.check(token(issued)).await;
        refused.assert_refused(403, "permission_denied");
        let message = refused.body["message"].as_str().unwrap_or_default();
        assert!(message.contains("the gateway is too old"), "{message}");
        let granted = site.authority.check_of(token(issued), None).await;
        granted.assert_granted(ESXI, port);
        assert_eq!((&granted.body["access"], &granted.body["clipboard"]), (&access, &clipboard));
        // A proxy that asks where the console is would not enforce it.
        let path = format!("/v2.1/os-console-auth-tokens/{}", token(issued));
        let shown = site.authority.request(Method::GET, &path);
        let shown = shown.header("OpenStack-API-Version", "compute 2.31").send().await;
        assert_eq!(shown.expect("the API answers").status(), 404);
    }
    site.check(&unrestricted).await.assert_granted(ESXI, port);

    let status = site.status(token(&view)).await.body;
    assert_eq!((&status["access"], &status["clipboard"]), (&json!("view"), &json!(false)));
    let path = format!("/v1/instances/{}/tokens", vm.instance_uuid);
    let listed = site.authority.request(Method::GET, &path).send().await.expect("a list");
    let listed = Answer::of(listed).await.body;
    let [plain, first, second] = listed["tokens"].as_array().expect("a list").as_slice() else {
        panic!("{listed}")
    };
    assert_eq!((plain["access"].as_str(), plain["label"].as_str()), (Some("control"), None));
    assert_eq!((first, second), (&view["token"], &silent["token"]));
    assert_eq!(first["label"], "vendor, ticket 4711");

    let id = first["id"].as_str().expect("an id");
    let revoked = site.authority.request(Method::DELETE, &format!("/v1/tokens/{id}")).send().await;
    assert_eq!(revoked.expect("the API answers").status(), 204);
    let check = site.authority.check_of(token(&view), None).await;
    check.assert_refused(403, "token_invalid");
}

/// A role and a project that may only view.
#[tokio::test]
async fn a_caller_who_may_only_view_gets_links_to_view_and_is_refused_more() {
    let (reader, reader_sha256) = new_api_token("watcher");
    let (member, member_sha256) = new_api_token("tenant");
    let blocks = format!(
        "[[auth.api_token]]\nname = \"watcher\"\nsha256 = \"{reader_sha256}\"\nroles = [\"reader\", \"every\"]\n\n\
         [[auth.api_token]]\nname = \"tenant\"\nsha256 = \"{member_sha256}\"\nroles = [\"member\"]\n\
         project = \"tenant\"\n\n[[auth.project]]\nid = \"tenant\"\nvcenter = \"vcenter-a\"\n\
         folders = [\"/DC0/vm\"]\naccess = \"view\"\n"
    );
    let site = Site::start_with("view-policy", |config, _, _| {
        config
            .with("#open_console = [\"admin\"]", "open_console = [\"admin\", \"member\"]")
            .with("#view_console = []", "view_console = [\"reader\"]")
            .with("#every_project = [\"admin\"]", "every_project = [\"admin\", \"every\"]")
            .with("\n[log]\n", &format!("\n{blocks}\n[log]\n"))
    })
    .await;
    let (vm, port) = site.machine();
    let public = site.authority.config().public();
    let url = format!("http://{public}/v1/instances/{}/tokens", vm.instance_uuid);
    let ask = async |caller: &str, body: Value| {
        let sent = plain_http_client().post(&url).header("X-Auth-Token", caller).json(&body).send();
        Answer::of(sent.await.expect("the API answers")).await
    };
    for caller in [&reader, &member] {
        for body in [json!({}), json!({"access": "view"})] {
            let issued = ask(caller, body).await;
            assert_eq!(issued.status, 200, "{}", issued.body);
            assert_eq!(issued.body["token"]["access"], "view");
            let granted = site.authority.check_of(token(&issued.body), None).await;
            granted.assert_granted(ESXI, port);
            assert_eq!(granted.body["access"], "view");
        }
        let refused = ask(caller, json!({"access": "control"})).await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert!(refused.body.to_string().contains("may view consoles only"), "{}", refused.body);
    }
}

fn digest(secret: &str) -> Option<Value> {
    Some(json!({"digest": BrowserDigest::of(secret).to_string()}))
}

fn secret(secret: &str) -> Option<Value> {
    Some(json!({"secret": secret}))
}

#[tokio::test]
async fn of_30_browsers_the_first_has_the_link_past_its_time_and_no_other_has_it() {
    let same = "token_use = \"same-browser\"\nreconnect_for = \"1m\"";
    let site = Site::start_with("same-browser", |config, _, _| {
        config.with_console(same).with("token_ttl = \"10m\"", "token_ttl = \"10s\"")
    })
    .await;
    let (_, port, token) = site.machine_and_token().await;
    // A stock page, and a filter that knows nothing of it.
    site.authority.check_of(&token, None).await.assert_refused(403, "permission_denied");
    site.check(&token).await.assert_refused(403, "permission_denied");
    let malformed = Some(json!({"digest": "abc"}));
    site.authority.check_of(&token, malformed).await.assert_refused(403, "permission_denied");
    assert_eq!(site.status(&token).await.body["bound"], false);

    let names: Vec<String> = (0..30).map(|number| format!("browser {number}")).collect();
    let firsts = names.iter().map(|name| site.authority.check_of(&token, digest(name)));
    let answers = join_all(firsts).await;
    let winners: Vec<_> =
        names.iter().zip(&answers).filter(|(_, answer)| answer.status == 200).collect();
    let [(winner, _)] = winners[..] else { panic!("{winners:?}") };
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.assert_refused(403, "link_in_use");
    }

    sleep(Duration::from_secs(11)).await;
    let check = async |proof| site.authority.check_of(&token, proof).await;
    check(digest(winner)).await.assert_refused(403, "link_in_use");
    check(secret("another")).await.assert_refused(403, "link_in_use");
    check(None).await.assert_refused(403, "permission_denied");
    check(secret(winner)).await.assert_granted(ESXI, port);
    check(secret(winner)).await.assert_granted(ESXI, port);
    site.status(&token).await.assert_refused(403, "link_in_use");
    let log = site.authority.log();
    assert!(!log.contains(winner.as_str()), "the secret is in the log");

    let (_, _, unused) = site.machine_and_token().await;
    sleep(Duration::from_secs(11)).await;
    let late = site.authority.check_of(&unused, digest("late")).await;
    late.assert_refused(403, "token_invalid");
}
