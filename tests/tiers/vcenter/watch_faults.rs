//! A vCenter whose updates are not as they should be: the watch begins anew, listings ask vCenter, and no console ends.

use crate::fake::{INSTANCE, Reply};
use crate::faults::Faulty;
use crate::fixture::Site;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use vncgate_test_support::certificate::plain_http_client;
use vncgate_test_support::wait::{until, until_within};

/// Time for five thousand pages.
const ENDLESS: Duration = Duration::from_secs(60);

/// A gateway that says that it has one console open.
struct Reported {
    worker: String,
    session: String,
}

impl Reported {
    async fn of(faulty: &Faulty) -> Self {
        let token = faulty.token().await;
        let grant = faulty.site.check(&token).await.body;
        let reply = report(&faulty.site, json!({"gateway": "test"})).await;
        let worker = reply["worker"].as_str().expect("a name").to_owned();
        let session = grant["session"].as_str().expect("a session").to_owned();
        let opened = json!([{"session": session, "opened_at": 0, "description": grant["description"],
            "traffic": {"from_browser": 0, "to_browser": 0}}]);
        let opening = json!({"worker": worker, "gateway": "test", "opened": opened});
        let reply = report(&faulty.site, opening).await;
        assert_eq!(reply["restart"], false, "{reply}");
        Self { worker, session }
    }

    /// The console is in the register, and its gateway gets no order.
    async fn goes_on(&self, site: &Site) {
        let reply = report(site, json!({"worker": self.worker, "gateway": "test"})).await;
        assert!(reply["restart"] == false && reply.get("orders").is_none(), "{reply}");
        let path = format!("/v1/sessions/{}", self.session);
        let request = site.authority.request(Method::GET, &path);
        let shown: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(shown["session"]["ending"], Value::Null, "{shown}");
        assert_eq!(shown["session"]["instance_uuid"], INSTANCE, "{shown}");
    }
}

async fn report(site: &Site, report: Value) -> Value {
    let url = format!("http://{}/v1/gateway/sessions", site.authority.config().internal());
    let answer = plain_http_client().post(url).json(&report).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

/// A page of updates.
fn page(version: u32, truncated: bool, objects: &str) -> Reply {
    Reply::soap(&format!(
        "<WaitForUpdatesExResponse xmlns=\"urn:vim25\"><returnval><version>{version}</version><filterSet>\
         <filter type=\"PropertyFilter\">session[1]2</filter>{objects}</filterSet>\
         <truncated>{truncated}</truncated></returnval></WaitForUpdatesExResponse>"
    ))
}

fn folder() -> &'static str {
    "<objectSet><kind>enter</kind><obj type=\"Folder\">group-d1</obj></objectSet>"
}

/// The machine as the watch sees it, with this power state.
fn watched(kind: &str, power: &str) -> String {
    let text = |path: &str, value: &str| {
        format!(
            "<changeSet><name>{path}</name><op>assign</op><val xsi:type=\"xsd:string\">{value}</val></changeSet>"
        )
    };
    [
        &format!("<objectSet><kind>{kind}</kind><obj type=\"VirtualMachine\">vm-1</obj>"),
        &text("summary.config.name", "web-1"),
        &text("summary.config.instanceUuid", INSTANCE),
        &text("runtime.powerState", power),
        &text("runtime.connectionState", "connected"),
        "</objectSet>",
    ]
    .concat()
}

/// Has the calls before `WaitForUpdatesEx` be answered as vCenter answers them.
fn begin(faulty: &Faulty, method: &'static str, kind: &str) {
    faulty.vcenter.answer(
        method,
        Reply::soap(&format!(
            "<{method}Response xmlns=\"urn:vim25\"><returnval type=\"{kind}\">session[1]2</returnval>\
             </{method}Response>"
        )),
    );
}

fn then(first: Reply, second: Reply) -> Reply {
    Reply::Then(Box::new(first), Box::new(second))
}

#[tokio::test]
async fn updates_that_are_wrong_end_no_console() {
    let faulty = Faulty::start().await;
    let console = Reported::of(&faulty).await;
    begin(&faulty, "CreatePropertyCollector", "PropertyCollector");
    begin(&faulty, "CreateFilter", "PropertyFilter");
    let whole = || page(1, false, &[folder(), &watched("enter", "poweredOn")].concat());
    let nothing = || Reply::soap("<WaitForUpdatesExResponse xmlns=\"urn:vim25\"/>");
    for (what, reply, logged) in [
        ("an account that sees nothing", nothing(), "sees nothing of the inventory"),
        (
            "a version that is refused",
            then(whole(), Reply::fault("InvalidCollectorVersion")),
            "InvalidCollectorVersion",
        ),
        (
            "a page that breaks off",
            then(
                page(1, true, folder()),
                Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<soap".to_owned()),
            ),
            "cannot reach it",
        ),
        ("a page of something else", then(whole(), Reply::html(200)), "html where a SOAP"),
    ] {
        let from = faulty.site.authority.log().len();
        faulty.vcenter.answer("WaitForUpdatesEx", reply);
        until(what, async || {
            console.goes_on(&faulty.site).await;
            let log = &faulty.site.authority.log()[from..];
            log.lines().any(|line| line.contains("begins anew") && line.contains(logged))
        })
        .await;
        assert_eq!(faulty.site.machines_named("web-1").await.status, 200, "{what}");
    }

    // vCenter shows the account no machine any more, and then says that the one is off. Asked for it, it says otherwise.
    for (what, objects) in [
        ("no machine", folder().to_owned()),
        ("a machine that is off", [folder(), &watched("enter", "poweredOff")].concat()),
    ] {
        let fills = faulty.site.authority.count(FILLS).await;
        let idle = then(page(1, false, &objects), nothing());
        faulty.vcenter.answer("WaitForUpdatesEx", then(Reply::html(200), idle));
        until(what, async || {
            console.goes_on(&faulty.site).await;
            faulty.site.authority.count(FILLS).await > fills
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        console.goes_on(&faulty.site).await;
    }
}

const FILLS: &str = r#"vncgate_vcenter_watch_fills_total{vcenter="vcenter-a"}"#;

#[tokio::test]
async fn updates_without_end_are_given_up_and_end_no_console() {
    let faulty = Faulty::start().await;
    let console = Reported::of(&faulty).await;
    begin(&faulty, "CreatePropertyCollector", "PropertyCollector");
    begin(&faulty, "CreateFilter", "PropertyFilter");
    let endless = [folder(), &watched("enter", "poweredOff")].concat();
    faulty.vcenter.answer("WaitForUpdatesEx", page(1, true, &endless));
    until_within("it is given up", ENDLESS, async || {
        console.goes_on(&faulty.site).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let log = faulty.site.authority.log();
        log.contains("more pages or bytes").then_some(())
    })
    .await;
    console.goes_on(&faulty.site).await;
    assert_eq!(faulty.site.authority.count(FILLS).await, 0, "it was never whole");
    assert_eq!(faulty.site.machines_named("web-1").await.status, 200);
}
