//! How many SOAP calls each action costs vCenter, by method. The counts are exact: a call more is a change of this table.

use crate::fixture::{ESXI, OTHER_ESXI, Site};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::esxi::Esxi;
use vncgate_test_support::process::Run;
use vncgate_test_support::tenant::Tenant;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::webmks::{self, WITH_VNC, WITHOUT_VNC};

type Calls = &'static [(&'static str, u64)];

const NONE: Calls = &[];

/// Each action, its calls while checks ask vCenter (`validate = "live"`), and while they use what was watched.
///
/// A machine is found by its UUID, then read with its host. For VNC, the ports of that host's other machines are read
/// before a token is issued. A limited scope costs a call for the folders above the machine.
const TABLE: [(&str, Calls, Calls); 19] = [
    ("issue vnc", ISSUE, ISSUE),
    ("issue webmks", FIND, FIND),
    ("issue vnc, limited", LIMITED_ISSUE, LIMITED_ISSUE),
    ("check vnc", READ, NONE),
    ("check webmks", &[("AcquireTicket", 1), ("RetrievePropertiesEx", 1)], &[("AcquireTicket", 1)]),
    ("check vnc, limited", &[("RetrievePropertiesEx", 2)], NONE),
    ("status vnc", READ, NONE),
    ("status webmks", READ, NONE),
    ("show", NONE, NONE),
    ("show, limited", NONE, NONE),
    ("list", NONE, NONE),
    ("list a page", NONE, NONE),
    ("list by name", NONE, NONE),
    ("list, limited", NONE, NONE),
    ("tokens", NONE, NONE),
    ("screenshot", SCREENSHOT, SCREENSHOT),
    ("reboot", RESET, RESET),
    ("stop", OFF, OFF),
    ("start", ON, ON),
];
const READ: Calls = &[("RetrievePropertiesEx", 1)];
const FIND: Calls = &[("FindByUuid", 1), ("RetrievePropertiesEx", 1)];
const ISSUE: Calls = &[("FindByUuid", 1), ("RetrievePropertiesEx", 2)];
const LIMITED_ISSUE: Calls = &[("FindByUuid", 1), ("RetrievePropertiesEx", 3)];
const SCREENSHOT: Calls = &[("FindByUuid", 1), ("RetrievePropertiesEx", 1), ("Screen", 1)];
// The task is read until it has ended, here once.
const RESET: Calls = &[("FindByUuid", 1), ("ResetVM_Task", 1), ("RetrievePropertiesEx", 2)];
const OFF: Calls = &[("FindByUuid", 1), ("PowerOffVM_Task", 1), ("RetrievePropertiesEx", 2)];
const ON: Calls = &[("FindByUuid", 1), ("PowerOnVM_Task", 1), ("RetrievePropertiesEx", 2)];

/// A site with a VNC console and a WebMKS console, and a tenant who sees both.
struct Consoles {
    site: Site,
    _esxi: Esxi,
    tenant: Tenant,
    vnc: Vm,
    webmks: Vm,
}

impl Consoles {
    async fn start(name: &str, validate: &str) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let (vcenter, esxi) = webmks::start(&run, &ca).await;
        esxi.add_host(&vcenter, ESXI, WITH_VNC).await;
        esxi.add_host(&vcenter, OTHER_ESXI, WITHOUT_VNC).await;
        let vnc = vcenter.create_vm("vnc", ESXI, 5901);
        let webmks = vcenter.create_vm_without_vnc("webmks", &OTHER_ESXI.to_string());
        Tenant::create_folder(&vcenter);
        for vm in [&vnc, &webmks] {
            Tenant::take(&vcenter, vm);
        }
        let tenant = Tenant::new("member");
        let config = Config::new(&run, &vcenter, NO_GATEWAY)
            .with("#open_console = [\"admin\"]", "open_console = [\"admin\", \"member\"]")
            .with("#power = []", "power = [\"admin\"]")
            .with("#screenshot = []", "screenshot = [\"admin\"]")
            .with("#guest_shutdown_timeout = \"1m\"", "guest_shutdown_timeout = \"0s\"")
            .with("#validate = \"live\"", &format!("validate = {validate:?}"));
        let authority = Authority::start(&run, tenant.known_in(config)).await;
        let site = Site { authority, vcenter, run };
        site.watched(1).await;
        site.started().await;
        Self { site, _esxi: esxi, tenant, vnc, webmks }
    }

    async fn send(request: RequestBuilder) -> Answer {
        let answer = Answer::of(request.send().await.expect("the API answers")).await;
        assert!((200..300).contains(&answer.status), "{}", answer.body);
        answer
    }

    fn server(&self) -> String {
        format!("/v2.1/servers/{}", self.vnc.instance_uuid)
    }

    async fn get(&self, path: &str) -> Answer {
        Self::send(self.site.authority.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Self::send(self.site.authority.request(Method::POST, path).json(body)).await
    }

    async fn issue(&self, vm: &Vm) -> String {
        let path = format!("/v1/instances/{}/tokens", vm.instance_uuid);
        Self::token(&self.post(&path, &json!({})).await)
    }

    async fn issue_to_tenant(&self) -> String {
        let path = format!("/v1/instances/{}/tokens", self.vnc.instance_uuid);
        let request = self.tenant.request(&self.site.authority, Method::POST, &path);
        Self::token(&Self::send(request.json(&json!({}))).await)
    }

    async fn get_as_tenant(&self, path: &str) {
        Self::send(self.tenant.request(&self.site.authority, Method::GET, path)).await;
    }

    fn token(issued: &Answer) -> String {
        let url = issued.body["url"].as_str().expect("a URL");
        url.rsplit_once("token=").expect("a token").1.to_owned()
    }

    async fn act(&self, action: Value) {
        self.post(&format!("{}/action", self.server()), &action).await;
    }

    /// The calls of each action of the table.
    async fn costs(&self) -> Vec<(&'static str, BTreeMap<String, u64>)> {
        let (vnc, webmks) = (self.issue(&self.vnc).await, self.issue(&self.webmks).await);
        let limited = self.issue_to_tenant().await;
        // Envoy would have the hosts' certificates by then.
        self.granted(&webmks).await;
        let mut costs = Vec::new();
        for (action, ..) in TABLE {
            let before = self.site.calls_for_requests().await;
            match action {
                "issue vnc" => drop(self.issue(&self.vnc).await),
                "issue webmks" => drop(self.issue(&self.webmks).await),
                "issue vnc, limited" => drop(self.issue_to_tenant().await),
                "check vnc" => self.granted(&vnc).await,
                "check webmks" => self.granted(&webmks).await,
                "check vnc, limited" => self.granted(&limited).await,
                "status vnc" => self.told(&vnc).await,
                "status webmks" => self.told(&webmks).await,
                "show" => drop(self.get(&self.server()).await),
                "show, limited" => self.get_as_tenant(&self.server()).await,
                "list" => drop(self.get("/v2.1/servers/detail").await),
                "list a page" => drop(self.get("/v2.1/servers/detail?limit=1").await),
                "list by name" => drop(self.get("/v2.1/servers?name=vnc").await),
                "list, limited" => self.get_as_tenant("/v2.1/servers/detail").await,
                "tokens" => {
                    let path = format!("/v1/instances/{}/tokens", self.vnc.instance_uuid);
                    self.get(&path).await;
                }
                "screenshot" => {
                    let path = format!("/v1/instances/{}/screenshot", self.vnc.instance_uuid);
                    let request = self.site.authority.request(Method::GET, &path);
                    assert_eq!(request.send().await.expect("a picture").status(), 200);
                }
                "reboot" => self.act(json!({"reboot": {"type": "HARD"}})).await,
                "stop" => self.act(json!({"os-stop": null})).await,
                "start" => self.act(json!({"os-start": null})).await,
                other => panic!("{other}"),
            }
            let mut calls = self.site.calls_for_requests().await;
            for (method, count) in &mut calls {
                *count -= before.get(method).copied().unwrap_or_default();
            }
            calls.retain(|_, count| *count > 0);
            let is_task = calls.keys().any(|method| method.ends_with("_Task"));
            if let Some(reads) = calls.get_mut("RetrievePropertiesEx").filter(|_| is_task) {
                // A task that has not ended when it is first read is read again half a second later.
                *reads = 2.min(*reads);
            }
            costs.push((action, calls));
        }
        costs
    }

    async fn granted(&self, token: &str) {
        let answer = self.site.check(token).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    async fn told(&self, token: &str) {
        let answer = self.site.status(token).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test]
async fn each_action_costs_vcenter_the_calls_of_the_table() {
    let (live, watched) = tokio::join!(
        Consoles::start("calls-live", "live"),
        Consoles::start("calls-watched", "watched"),
    );
    let (live, watched) = tokio::join!(live.costs(), watched.costs());
    let owned = |calls: Calls| -> BTreeMap<String, u64> {
        calls.iter().map(|(method, count)| ((*method).to_owned(), *count)).collect()
    };
    let expected = |of: fn(&(&'static str, Calls, Calls)) -> Calls| -> Vec<_> {
        TABLE.iter().map(|row| (row.0, owned(of(row)))).collect()
    };
    assert_eq!(live, expected(|row| row.1), "validate = \"live\"");
    assert_eq!(watched, expected(|row| row.2), "validate = \"watched\"");
}
