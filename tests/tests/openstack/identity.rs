//! Who may open what, by Keystone's word.

use crate::fixture::{ADMIN, Cloud, MEMBER, PORTAL, READER, TENANT};
use serde_json::Value;
use vncgate_tests::keystone::Scope;

fn names(listed: &Value) -> Vec<&str> {
    let servers = listed["servers"].as_array().expect("servers").iter();
    servers.map(|server| server["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_member_has_the_project_s_machines_and_an_administrator_all() {
    let cloud = Cloud::shared().await;
    let member = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    let admin = cloud.keystone.token(ADMIN, Scope::Project("admin")).await;
    for (token, sees_other) in [(&member, false), (&admin, true)] {
        let (status, listed) = cloud.call(token, "/servers", None).await;
        assert_eq!(status, 200, "{listed}");
        assert!(names(&listed).contains(&"web-1"), "{listed}");
        assert_eq!(names(&listed).contains(&"other-1"), sees_other, "{listed}");
        assert_eq!(cloud.console(token, &cloud.ours).await.0, 200);
    }
    assert_eq!(cloud.console(&admin, &cloud.other).await.0, 200);
    let (status, refusal) = cloud.console(&member, &cloud.other).await;
    let told = format!("Instance {} could not be found.", cloud.other.instance_uuid);
    assert_eq!((status, &refusal["itemNotFound"]["message"]), (404, &told.into()), "not 403");
}

#[tokio::test]
async fn tokens_that_are_not_a_project_member_s_open_nothing() {
    let cloud = Cloud::shared().await;
    let keystone = &cloud.keystone;
    let good = keystone.token(MEMBER, Scope::Project(TENANT)).await;
    // One character of the signed part.
    let mut forged = good.clone();
    let another = if &good[40..41] == "x" { "y" } else { "x" };
    forged.replace_range(40..41, another);
    let unscoped = keystone.token(MEMBER, Scope::Unscoped).await;
    let expired = keystone.expired_token(MEMBER, Scope::Project(TENANT)).await;
    let reader = keystone.token(READER, Scope::Project(TENANT)).await;
    let system = keystone.token(ADMIN, Scope::System).await;
    for (what, token, status) in [
        ("good", &good, 200),
        ("forged", &forged, 401),
        ("unscoped", &unscoped, 401),
        ("expired", &expired, 401),
        ("a reader's", &reader, 403),
        ("the system's", &system, 403),
    ] {
        assert_eq!(cloud.console(token, &cloud.ours).await.0, status, "{what}");
    }
}

#[tokio::test]
async fn an_outage_of_keystone_is_no_answer_and_no_access() {
    let mut cloud = Cloud::start().await;
    let token = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    let later = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    assert_eq!(cloud.console(&token, &cloud.ours).await.0, 200);
    cloud.keystone.stop();
    assert_eq!(cloud.console(&later, &cloud.ours).await.0, 503);
    assert_eq!(cloud.console(PORTAL, &cloud.ours).await.0, 200, "API tokens need no Keystone");
    cloud.keystone.replace_keys();
    cloud.keystone.start_again().await;
    let again = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    assert_eq!(cloud.console(&again, &cloud.ours).await.0, 200, "the service user logs in again");
    assert_eq!(cloud.console(&later, &cloud.ours).await.0, 401);
}
