//! Every answer against nova 34 itself: its table of paths, and the schemas by which its API validates queries and answers.

use crate::fixture::Dashboard;
use futures_util::{StreamExt, stream};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use vncgate_test_support::answer::Answer;
use vncgate_test_support::cloud::{ADMIN, Cloud, MEMBER, PORTAL, TENANT};
use vncgate_test_support::keystone::{Scope, installed};
use vncgate_test_support::wait::until_some;
use vncgate_test_support::workspace::{cached, checkout};

/// The newest microversion.
const NEWEST: u32 = 104;

/// Versions before and after those in which nova changed what it takes or answers.
const VERSIONS: [u32; 24] = [
    1, 2, 9, 20, 25, 26, 32, 33, 39, 40, 52, 53, 57, 58, 65, 66, 72, 73, 74, 75, 83, 101, 102, 104,
];

/// Paths of nova's that a gateway of consoles answers.
fn paths(dashboard: &Dashboard, project: &str) -> Vec<String> {
    let id = &dashboard.cloud.ours.instance_uuid;
    let whole = [
        "/servers",
        "/servers/detail",
        "/flavors",
        "/flavors/detail",
        "/flavors/vcenter-1-1024",
        "/flavors/vcenter-1-1024/os-extra_specs",
        "/limits",
        "/os-aggregates",
        "/os-availability-zone",
        "/os-availability-zone/detail",
        "/os-hypervisors",
        "/os-hypervisors/detail",
        "/os-keypairs",
        "/os-server-groups",
        "/os-services",
        "/os-simple-tenant-usage",
    ];
    let of_server = [
        "",
        "/os-instance-actions",
        "/os-interface",
        "/os-security-groups",
        "/os-volume_attachments",
        "/tags",
    ];
    let of_project = [
        "/os-quota-sets/PROJECT",
        "/os-quota-sets/PROJECT/detail",
        "/os-simple-tenant-usage/PROJECT",
    ];
    let whole = whole.iter().map(|&path| path.to_owned());
    let of_server = of_server.iter().map(|path| format!("/servers/{id}{path}"));
    let of_project = of_project.iter().map(|path| path.replace("PROJECT", project));
    whole.chain(of_server).chain(of_project).collect()
}

/// A request for nova's API and what came back, as `nova_schemas.py` reads it.
async fn exchange(
    http: &Client,
    url: &str,
    token: &str,
    path: String,
    query: Vec<(String, String)>,
    minor: u32,
) -> Value {
    let send = || {
        let request = http.get(format!("{url}{path}")).query(&query).header("X-Auth-Token", token);
        request.header("OpenStack-API-Version", format!("compute 2.{minor}")).send()
    };
    // On a busy machine Keystone takes longer than the authority waits for it, once in minutes.
    let response = until_some("an answer that is not 503", async || {
        let response = send().await.expect("the gateway answers");
        (response.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(response)
    })
    .await;
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or(Value::Null);
    json!({
        "method": "GET", "path": path, "query": query, "version": format!("2.{minor}"),
        "status": status, "body": body,
    })
}

/// What a script of `tests/openstack` prints that asks nova's own code, given this document.
fn ask_nova(script: &str, document: &Value) -> Value {
    let homes = ["nova", "horizon"].map(|name| cached(name, "./justw setup"));
    let path = homes.into_iter().chain([installed("")]);
    let mut asked = Command::new("python3")
        .arg(checkout().join("tests/openstack").join(script))
        .env("PYTHONPATH", std::env::join_paths(path).expect("no colon in a path"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the script");
    let written = serde_json::to_vec(document).expect("JSON");
    asked.stdin.take().expect("a pipe").write_all(&written).expect("the script reads");
    let output = asked.wait_with_output().expect("the script ends");
    assert!(output.status.success(), "{script} fails");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Path, query and minor version.
type Request = (String, Vec<(String, String)>, u32);

async fn compare(requests: Vec<Request>, token: &str) -> Vec<Value> {
    let dashboard = Dashboard::shared().await;
    let gateway = &dashboard.cloud.gateway;
    let (http, url) = (gateway.ca.http_client(), format!("{}/v2.1", gateway.envoy.url()));
    let count = requests.len();
    let exchanges: Vec<Value> = stream::iter(requests)
        .map(|(path, query, minor)| exchange(&http, &url, token, path, query, minor))
        .buffer_unordered(16)
        .collect()
        .await;
    assert_eq!(exchanges.len(), count);
    let exchanges = Value::Array(exchanges);
    let findings = ask_nova("nova_schemas.py", &exchanges);
    let findings: Vec<String> = serde_json::from_value(findings).expect("a list of texts");
    assert!(findings.is_empty(), "{} of {count}:\n{}", findings.len(), findings.join("\n"));
    let Value::Array(exchanges) = exchanges else { unreachable!("an array") };
    exchanges
}

fn query(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_answers_as_nova_does_in_every_version() {
    let dashboard = Dashboard::shared().await;
    let keystone = &dashboard.cloud.keystone;
    let member = keystone.token(MEMBER, Scope::Project(TENANT)).await;
    let admin = keystone.token(ADMIN, Scope::Project(ADMIN)).await;
    let project = keystone.project_of(&member).await;
    let requests: Vec<_> = paths(dashboard, &project)
        .into_iter()
        .flat_map(|path| (1..=NEWEST).map(move |minor| (path.clone(), Vec::new(), minor)))
        .collect();
    let exchanges = compare(requests, &admin).await;
    let answered = exchanges.iter().filter(|exchange| exchange["status"] == 200).count();
    assert!(answered > exchanges.len() * 9 / 10, "{answered} of {}", exchanges.len());
    // A console token, which nova's API shows from 2.31 on.
    let (_, console) = dashboard.cloud.console(PORTAL, &dashboard.cloud.ours).await;
    let url = console["remote_console"]["url"].as_str().expect("a URL");
    let (_, token) = url.rsplit_once("token=").expect("a token in the URL");
    let path = format!("/os-console-auth-tokens/{token}");
    let requests = (31..=NEWEST).map(|minor| (path.clone(), Vec::new(), minor)).collect();
    let exchanges = compare(requests, &admin).await;
    assert!(exchanges.iter().all(|exchange| exchange["status"] == 200), "{}", exchanges[0]);
    let requests = vec![(path.clone(), query("x=1"), 98), (path, query("x=1"), 99)];
    compare(requests, &admin).await;
    // A member's project, and everybody's machines.
    for (token, text) in
        [(member.as_str(), ""), (PORTAL, "all_tenants=1"), (&admin, "all_tenants=1")]
    {
        let lists = ["/servers", "/servers/detail"].into_iter();
        let requests = lists
            .flat_map(|path| VERSIONS.iter().map(|&minor| (path.to_owned(), query(text), minor)));
        let exchanges = compare(requests.collect(), token).await;
        assert!(exchanges.iter().all(|exchange| exchange["body"]["servers"][0]["id"].is_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_refused_where_nova_refuses_it() {
    let dashboard = Dashboard::shared().await;
    let keystone = &dashboard.cloud.keystone;
    let admin = keystone.token(ADMIN, Scope::Project(ADMIN)).await;
    let id = &dashboard.cloud.ours.instance_uuid;
    let servers: Vec<String> = [
        "limit=0",
        "limit=1",
        "limit=1000000000",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "name=web",
        "name=[",
        "sort_key=display_name&sort_dir=asc",
        "sort_key=uuid&sort_key=created_at&sort_key=host&sort_dir=asc&sort_dir=desc",
        "sort_key=display_name&sort_key=display_name",
        "sort_key=colour",
        "sort_key=vcpus&sort_key=uuid",
        "sort_key=locked&sort_key=uuid",
        "all_tenants=1&project_id=0123456789abcdef0123456789abcdef",
        "all_tenants=1&tenant_id=0123456789abcdef0123456789abcdef",
        "tags=a",
        "not-tags=a",
        "locked=True",
        "colour=red",
        "colour=red&smell=none",
        "deleted=True",
        "soft_deleted=True",
        "status=ACTIVE",
        "ip=192.0.2.1&ip6=2001:db8::1",
        "flavor=vcenter-1-1024&image=x&key_name=x&availability_zone=x",
        "host=vcenter-a&node=DC0&hostname=web-1&vm_state=active&power_state=1&task_state=x",
        "user_id=x&launch_index=0&reservation_id=x&created_at=2026&launched_at=2026&terminated_at=2026",
        "description=x&display_description=x&locked_by=x&uuid=x&root_device_name=x&config_drive=x",
        "access_ip_v4=x&access_ip_v6=x&auto_disk_config=x&progress=0&kernel_id=x&ramdisk_id=x",
    ]
    .iter()
    .map(|&text| text.to_owned())
    .collect();
    let others = ["colour=red", "limit=1", "tenant_id=x", "name=x", "start=2026-11-27T00:00:00"];
    let flavors = [
        "limit=0",
        "limit=x",
        "is_public=None",
        "minRam=1",
        "minDisk=1",
        "sort_key=memory_mb&sort_dir=desc",
        "sort_key=rxtx_factor",
        "sort_key=colour",
        "sort_dir=up",
        "name=vCPU",
    ];
    let mut requests = Vec::new();
    for minor in VERSIONS {
        for path in ["/servers", "/servers/detail"] {
            requests.extend(servers.iter().map(|text| (path.to_owned(), query(text), minor)));
        }
        for path in ["/flavors", "/flavors/detail"] {
            requests.extend(flavors.iter().map(|text| (path.to_owned(), query(text), minor)));
        }
        for path in [
            "/limits".to_owned(),
            "/flavors/vcenter-1-1024".to_owned(),
            "/flavors/vcenter-1-1024/os-extra_specs".to_owned(),
            "/os-aggregates".to_owned(),
            "/os-availability-zone".to_owned(),
            "/os-availability-zone/detail".to_owned(),
            "/os-keypairs".to_owned(),
            "/os-server-groups".to_owned(),
            "/os-services".to_owned(),
            "/os-simple-tenant-usage".to_owned(),
            format!("/servers/{id}"),
            format!("/servers/{id}/os-interface"),
            format!("/servers/{id}/os-security-groups"),
            format!("/servers/{id}/os-volume_attachments"),
        ] {
            requests.extend(others.iter().map(|text| (path.clone(), query(text), minor)));
        }
    }
    let exchanges = compare(requests, &admin).await;
    let refused = exchanges.iter().filter(|exchange| exchange["status"] == 400).count();
    assert!(refused > 500, "{refused}");
}

/// nova's actions that this API carries out, or that its consoles answer.
const OWN_ACTIONS: [&str; 6] = [
    "os-start",
    "os-stop",
    "reboot",
    "os-getVNCConsole",
    "os-getSPICEConsole",
    "os-getSerialConsole",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_nova_changes_and_a_gateway_of_consoles_does_not_is_refused_as_nova_refuses_it() {
    let dashboard = Dashboard::shared().await;
    let Cloud { gateway, keystone, ours, .. } = &dashboard.cloud;
    let admin = keystone.token(ADMIN, Scope::Project(ADMIN)).await;
    let (http, url) = (gateway.ca.http_client(), format!("{}/v2.1", gateway.envoy.url()));
    let call = async |method: &str, path: &str, minor: u64, body: Value| {
        let method = method.parse().expect("a method");
        let request = http.request(method, format!("{url}{path}")).header("X-Auth-Token", &admin);
        let request = request.header("OpenStack-API-Version", format!("compute 2.{minor}"));
        Answer::of(request.json(&body).send().await.expect("the gateway answers")).await
    };
    let not_found = |answer: &Answer| {
        assert_eq!(answer.nova_error(404, "itemNotFound"), "The resource could not be found.");
    };
    let nova = ask_nova("nova_changes.py", &Value::Null);
    let changes = nova["changes"].as_array().expect("changes");
    assert!(changes.len() > 40, "{nova}");
    for change in changes {
        let (method, path) = (change["method"].as_str().expect("a method"), &change["path"]);
        let path = path.as_str().expect("a path").replacen("{}", &ours.instance_uuid, 1);
        let path = path.replace("{}", "x");
        let since = change["since"].as_u64().expect("a version");
        if since > 1 {
            not_found(&call(method, &path, since - 1, json!({})).await);
        }
        for minor in [since, NEWEST.into()] {
            let refused = call(method, &path, minor, json!({})).await;
            let message = refused.nova_error(403, "forbidden");
            let rules = change["rules"].as_array().expect("rules").iter();
            let told = |rule: &Value| {
                let rule = rule.as_str().expect("a rule");
                format!("Policy doesn't allow {rule} to be performed.")
            };
            assert!(rules.map(told).any(|told| told == message), "{method} {path}: {message}");
        }
    }
    let actions = nova["actions"].as_array().expect("actions");
    let path = format!("/servers/{}/action", ours.instance_uuid);
    assert!(actions.len() > 35, "{nova}");
    for action in actions {
        let name = action["name"].as_str().expect("a name");
        let since = action["since"].as_u64().expect("a version");
        let until = action["until"].as_u64();
        let last = until.map_or(NEWEST.into(), |until| until - 1);
        let outside = [(since > 1).then(|| since - 1), until];
        for minor in outside.into_iter().flatten() {
            not_found(&call("POST", &path, minor, json!({name: null})).await);
        }
        if OWN_ACTIONS.contains(&name) {
            continue;
        }
        for minor in [since, last] {
            let refused = call("POST", &path, minor, json!({name: null})).await;
            let message = refused.nova_error(501, "notImplemented");
            assert_eq!(message, "The requested functionality is not supported.", "{name}");
        }
    }
    let unknown = call("POST", &path, 1, json!({"createServer": null})).await;
    let message = unknown.nova_error(400, "badRequest");
    assert_eq!(message, "There is no such action: createServer");
    assert_eq!(gateway.vcenter.power_state(&ours.name), "poweredOn");
}
