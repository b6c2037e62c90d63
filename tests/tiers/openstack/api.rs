//! The console API as nova's wire format has it, answered from a real vCenter.

use reqwest::Method;
use serde_json::{Value, json};
use vncgate_test_support::cloud::{Cloud, MEMBER, PORTAL, TENANT};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::keystone::Scope;
use vncgate_test_support::vcsim::CLUSTER;
use vncgate_test_support::wait::until;

fn token_of(answer: &Value) -> String {
    let url = answer["remote_console"]["url"].as_str().expect("a URL");
    url.rsplit_once("token=").expect("a token in the URL").1.to_owned()
}

#[tokio::test]
async fn a_server_is_shown_as_nova_shows_it() {
    let cloud = Cloud::shared().await;
    let id = &cloud.ours.instance_uuid;
    let (status, shown) = cloud.call(PORTAL, &format!("/servers/{id}"), None).await;
    let server = &shown["server"];
    assert_eq!(status, 200, "{shown}");
    assert_eq!((&server["id"], &server["name"]), (&json!(id), &json!("web-1")));
    assert_eq!(
        (&server["status"], &server["OS-EXT-STS:power_state"]),
        (&json!("ACTIVE"), &json!(1))
    );
    assert_eq!(server["OS-EXT-SRV-ATTR:host"], "vcenter-a");
    let hypervisor = server["OS-EXT-SRV-ATTR:hypervisor_hostname"].as_str().expect("a name");
    assert!(hypervisor.ends_with(&format!("({CLUSTER})")), "discovered: {hypervisor}");
    let link = format!("{}/v2.1/servers/{id}", cloud.gateway.envoy.url());
    assert_eq!(server["links"][0], json!({"rel": "self", "href": link}));
    // A caller may name the hypervisor as vCenter does; the API refuses other names.
    for (name, status) in [(hypervisor, 200), (CLUSTER, 200), ("no-such-cluster", 404)] {
        let action = json!({"os-getVNCConsoleVmware": {"type": "novnc", "hypervisor_name": name}});
        let path = format!("/servers/{id}/action");
        let (answered, body) = cloud.call(PORTAL, &path, Some(action)).await;
        assert_eq!(answered, status, "{name}: {body}");
    }
}

#[tokio::test]
async fn servers_are_found_by_name_and_come_page_by_page() {
    let cloud = Cloud::shared().await;
    for number in 1..=3 {
        cloud.gateway.vcenter.create_vm(&format!("page-{number}"), ESXI_HOSTS[0], 5910 + number);
    }
    until("vCenter has told of all", async || {
        let (_, listed) = cloud.call(PORTAL, "/servers?name=^page-", None).await;
        listed["servers"].as_array().map_or(0, Vec::len) == 3
    })
    .await;
    let mut path = "/servers?limit=2&name=^page-&sort_key=display_name&sort_dir=asc".to_owned();
    let mut seen = Vec::new();
    loop {
        let (status, page) = cloud.call(PORTAL, &path, None).await;
        assert_eq!(status, 200, "{page}");
        let servers = page["servers"].as_array().expect("servers").iter();
        seen.extend(servers.map(|server| server["name"].as_str().expect("a name").to_owned()));
        let Some(next) = page["servers_links"][0]["href"].as_str() else { break };
        path = next.rsplit_once("/v2.1").expect("a link below the version").1.to_owned();
    }
    assert_eq!(seen, ["page-1", "page-2", "page-3"]);
    let (status, refusal) = cloud.call(PORTAL, "/servers?marker=none", None).await;
    let message = "marker [none] not found";
    assert_eq!((status, &refusal["badRequest"]["message"]), (400, &json!(message)));
}

#[tokio::test]
async fn a_token_tells_its_place_until_it_is_revoked() {
    let cloud = Cloud::shared().await;
    let vm = cloud.gateway.vcenter.create_vm("revoked-1", ESXI_HOSTS[0], 5920);
    let (_, first) = cloud.console(PORTAL, &vm).await;
    let (_, second) = cloud.console(PORTAL, &vm).await;
    let (first, second) = (token_of(&first), token_of(&second));
    let shown = |token: &str| {
        let path = format!("/os-console-auth-tokens/{token}");
        async move { cloud.call(PORTAL, &path, None).await }
    };
    let location = json!({"console": {
        "instance_uuid": vm.instance_uuid, "host": ESXI_HOSTS[0].to_string(), "port": 5920,
        "internal_access_path": null,
    }});
    assert_eq!(shown(&first).await, (200, location));

    let tokens = format!("/v1/instances/{}/tokens", vm.instance_uuid);
    let (status, listed) = cloud.v1(PORTAL, Method::GET, &tokens).await;
    assert_eq!((status, listed["tokens"].as_array().map(Vec::len)), (200, Some(2)), "{listed}");
    let id = listed["tokens"][0]["id"].as_str().expect("an identifier");
    assert!(!listed.to_string().contains(&first), "the token itself is not listed");
    let revoke = format!("/v1/tokens/{id}");
    let member = cloud.keystone.token(MEMBER, Scope::Project(TENANT)).await;
    assert_eq!(cloud.v1(&member, Method::DELETE, &revoke).await.0, 403);
    assert_eq!(cloud.v1(PORTAL, Method::DELETE, &revoke).await.0, 204);
    assert_eq!(cloud.v1(PORTAL, Method::DELETE, &revoke).await.0, 404);
    assert_eq!(shown(&first).await.0, 404);
    assert_eq!(shown(&second).await.0, 200);
    assert_eq!(cloud.v1(PORTAL, Method::DELETE, &tokens).await, (200, json!({"revoked": 1})));
    let (status, refusal) = shown(&second).await;
    assert_eq!((status, &refusal["itemNotFound"]["message"]), (404, &json!("Token not found")));
}

#[tokio::test]
async fn a_token_tells_no_place_that_is_another_machine_s() {
    let cloud = Cloud::shared().await;
    let vm = cloud.gateway.vcenter.create_vm("moved-1", ESXI_HOSTS[0], 5930);
    let (_, console) = cloud.console(PORTAL, &vm).await;
    let path = format!("/os-console-auth-tokens/{}", token_of(&console));
    cloud.gateway.vcenter.migrate(&vm.name, ESXI_HOSTS[1]);
    assert_eq!(cloud.call(PORTAL, &path, None).await.0, 404);
}
