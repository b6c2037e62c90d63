//! Who may open what, by Keystone's word.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vncgate_test_support::cloud::{
    ADMIN, Cloud, MEMBER, POOL, POOL_MEMBER, POOL_TENANT, PORTAL, READER, TENANT,
};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::keystone::Scope;
use vncgate_test_support::wait::{until, until_some};

fn names(listed: &Value) -> Vec<&str> {
    let servers = listed["servers"].as_array().expect("servers").iter();
    servers.map(|server| server["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_member_has_the_project_s_machines_and_an_administrator_all() {
    let cloud = Cloud::shared().await;
    let member = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    let admin = cloud.keystone.token(ADMIN, Scope::Project("admin")).await;
    for (token, list, sees_other) in
        [(&member, "/servers", false), (&admin, "/servers?all_tenants=1", true)]
    {
        let (status, listed) = cloud.call(token, list, None).await;
        assert_eq!(status, 200, "{listed}");
        assert!(names(&listed).contains(&"web-1"), "{listed}");
        assert_eq!(names(&listed).contains(&"other-1"), sees_other, "{listed}");
        assert_eq!(cloud.console(token, &cloud.ours).await.0, 200);
    }
    assert_eq!(cloud.console(&admin, &cloud.other).await.0, 200);
    let (status, refusal) = cloud.console(&member, &cloud.other).await;
    let message = format!("Instance {} could not be found.", cloud.other.instance_uuid);
    assert_eq!((status, &refusal["itemNotFound"]["message"]), (404, &message.into()), "not 403");
    // The administrator's own project has none, and a member's list has no other.
    let (status, listed) = cloud.call(&admin, "/servers", None).await;
    assert_eq!((status, names(&listed).len()), (200, 0), "{listed}");
    let (status, refusal) = cloud.call(&member, "/servers?all_tenants=1", None).await;
    let told = refusal["forbidden"]["message"].as_str().unwrap_or_default();
    assert!(status == 403 && told.contains("servers:index:get_all_tenants"), "{refusal}");
    let marker = format!("/servers?marker={}", cloud.other.instance_uuid);
    assert_eq!(cloud.call(&member, &marker, None).await.0, 400, "another project's marker");
}

#[tokio::test]
async fn a_resource_pool_s_project_has_the_machines_in_it_and_in_those_below() {
    let cloud = Cloud::shared().await;
    let vcenter = &cloud.gateway.vcenter;
    let below = format!("{POOL}/web");
    vcenter.govc(&["pool.create", POOL, &below]);
    let direct = vcenter.create_vm("pooled-1", ESXI_HOSTS[0], 5940);
    let nested = vcenter.create_vm("pooled-2", ESXI_HOSTS[0], 5941);
    let member = cloud.keystone.token(POOL_MEMBER, Scope::Project(POOL_TENANT)).await;
    let refused = [&direct, &nested, &cloud.ours, &cloud.other];
    for vm in refused {
        assert_eq!(cloud.console(&member, vm).await.0, 404, "{} is in no pool yet", vm.name);
    }
    vcenter.govc(&["vm.migrate", "-pool", POOL, &direct.name]);
    vcenter.govc(&["vm.migrate", "-pool", &below, &nested.name]);
    until("the member's list has what vCenter has moved", async || {
        let (status, listed) = cloud.call(&member, "/servers", None).await;
        // The newest first, as nova has it.
        (status, names(&listed)) == (200, vec!["pooled-2", "pooled-1"])
    })
    .await;
    for (vm, status) in [(&direct, 200), (&nested, 200), (&cloud.ours, 404), (&cloud.other, 404)] {
        assert_eq!(cloud.console(&member, vm).await.0, status, "{}", vm.name);
    }
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

#[tokio::test]
async fn a_keystone_that_falls_silent_is_waited_for_as_long_as_configured() {
    const KEYSTONE_TIMEOUT: Duration = Duration::from_secs(3);
    /// Beside Keystone's answer, a call waits for vCenter's, on a machine that may be busy with a build.
    const LIMIT: Duration = Duration::from_secs(10);
    const CALLS: usize = 24;
    let cloud = Cloud::start_with(|config| {
        config
            .with(r#"cache_ttl = "1s""#, r#"cache_ttl = "1h""#)
            .with(r##"#timeout = "5s""##, &format!("timeout = \"{}s\"", KEYSTONE_TIMEOUT.as_secs()))
    })
    .await;
    let cached = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    assert_eq!(cloud.console(&cached, &cloud.ours).await.0, 200);
    let mut tokens = Vec::new();
    for _ in 0..CALLS {
        tokens.push(cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await);
    }
    // Some are answered by then, others are on their way.
    let calls = tokens.iter().map(async |token| {
        let started = Instant::now();
        (token, cloud.console(token, &cloud.ours).await, started.elapsed())
    });
    let mut calls: FuturesUnordered<_> = calls.collect();
    let mut unanswered = Vec::new();
    let mut frozen = false;
    while let Some((token, (status, body), took)) = calls.next().await {
        if !std::mem::replace(&mut frozen, true) {
            cloud.keystone.freeze();
        }
        if status != 200 {
            assert_eq!((status, &body["serviceUnavailable"]["code"]), (503, &503.into()), "{body}");
            assert!(took >= KEYSTONE_TIMEOUT && took < KEYSTONE_TIMEOUT + LIMIT, "{took:?}");
            unanswered.push(token);
        }
    }
    assert!(!unanswered.is_empty(), "Keystone fell silent after its last answer");

    let started = Instant::now();
    assert_eq!(cloud.console(&cached, &cloud.ours).await.0, 200, "its answer is cached");
    assert_eq!(cloud.console(PORTAL, &cloud.ours).await.0, 200, "API tokens need no Keystone");
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());

    cloud.keystone.thaw();
    for token in unanswered {
        let answered = async || (cloud.console(token, &cloud.ours).await.0 == 200).then_some(());
        until_some("a call that Keystone answers", answered).await;
    }
}

/// Tokens of application credentials with access rules were refused, whatever the rules said.
#[tokio::test]
async fn an_application_credential_may_do_what_its_access_rules_allow() {
    let cloud = Cloud::shared().await;
    let restricted = async |rules: &[(&str, &str, &str)]| {
        let rule = |(service, method, path): &(&str, &str, &str)| json!({"service": service, "method": method, "path": path});
        let rules = rules.iter().map(rule).collect();
        cloud.keystone.restricted_token(MEMBER, TENANT, rules).await
    };
    let issue = "/v2.1/servers/{server_id}/remote-consoles";
    for (rules, may_list, may_issue) in [
        (&[("compute", "GET", "/v2.1/servers")][..], true, false),
        (&[("compute", "POST", issue)], false, true),
        (&[("compute", "POST", "/v2.1/servers/*")], false, false),
        (&[("compute", "GET", "/v2.1/**"), ("compute", "POST", "/v2.1/**")], true, true),
        (&[("compute", "POST", "/v2.1/servers"), ("compute", "GET", issue)], false, false),
        (&[("image", "GET", "/v2.1/servers"), ("image", "POST", issue)], false, false),
    ] {
        let token = restricted(rules).await;
        // The second time from the cache.
        for _ in 0..2 {
            let listed = cloud.call(&token, "/servers", None).await.0;
            assert_eq!(listed, if may_list { 200 } else { 401 }, "{rules:?}");
            let issued = cloud.console(&token, &cloud.ours).await.0;
            assert_eq!(issued, if may_issue { 200 } else { 401 }, "{rules:?}");
            assert!(matches!(cloud.console(&token, &cloud.other).await.0, 401 | 404));
        }
    }
}

/// The role `admin` of any domain opened every machine's console.
#[tokio::test]
async fn an_administrator_of_another_domain_sees_its_own_project_alone() {
    let cloud = Cloud::start_with(|config| {
        config
            .with("#every_project_domains = [\"Default\"]", "every_project_domains = [\"default\"]")
    })
    .await;
    let foreign = cloud.keystone.token_in_new_domain("elsewhere", "admin").await;
    assert_eq!(cloud.console(&foreign, &cloud.ours).await.0, 404);
    let (status, listed) = cloud.call(&foreign, "/servers", None).await;
    assert_eq!((status, names(&listed).len()), (200, 0), "{listed}");
    let admin = cloud.keystone.token(ADMIN, Scope::Project("admin")).await;
    assert_eq!(cloud.console(&admin, &cloud.other).await.0, 200);
}
