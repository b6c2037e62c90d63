//! A vCenter that does not behave: each fault is a defined refusal and a log line that says which it was.

use crate::fake::{FakeVcenter, HOST, INSTANCE, PORT, Reply, machine};
use crate::fixture::Site;
use serde_json::json;
use std::net::IpAddr;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::Config;
use vncgate_test_support::vcsim::Vm;

/// An authority whose vCenter is a fake.
pub(crate) struct Faulty {
    pub(crate) site: Site,
    pub(crate) vcenter: FakeVcenter,
}

impl Faulty {
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// One that does not wait for long, for tests of silence.
    async fn start_hasty() -> Self {
        Self::start_with(|config| config.with("hypervisors", "timeout = \"1s\"\nhypervisors")).await
    }

    async fn start_with(change: impl FnOnce(Config) -> Config) -> Self {
        let vcenter = FakeVcenter::start().await;
        let url = format!("http://{}/sdk", vcenter.address());
        let site = Site::start_with("faults", |config, _, simulated| {
            change(config).with(&simulated.url(), &url)
        })
        .await;
        assert_eq!(site.readiness().await, 200, "{}", site.authority.log());
        Self { site, vcenter }
    }

    async fn issue(&self) -> Answer {
        let vm = Vm { name: "web-1".to_owned(), instance_uuid: INSTANCE.to_owned() };
        self.site.issue(&vm, json!({"type": "novnc"})).await
    }

    pub(crate) async fn token(&self) -> String {
        Site::token_of(&self.issue().await).to_owned()
    }

    /// The log lines that follow from `question`.
    async fn log_of(&self, question: impl Future<Output = Answer>) -> (Answer, String) {
        let before = self.site.authority.log().len();
        let answer = question.await;
        (answer, self.site.authority.log()[before..].to_owned())
    }

    /// Asserts that a check and an issue are refused when a machine is answered for so, and that the log has the reason.
    async fn assert_refused(&self, token: &str, what: &str, reply: Reply, logged: &str) {
        self.vcenter.answer("RetrievePropertiesEx", reply);
        let (refusal, log) = self.log_of(self.site.check(token)).await;
        refusal.assert_refused(503, "vcenter_unavailable");
        assert!(log.contains(logged), "{what}: {log}");
        assert!(log.contains("vcenter-a"), "{what}: which vCenter? {log}");
        assert!(log.contains("r-1"), "{what}: which request? {log}");

        let (answer, log) = self.log_of(self.issue()).await;
        answer.nova_error(503, "serviceUnavailable");
        assert!(log.contains(logged), "{what}: {log}");
    }
}

#[tokio::test]
async fn nonsense_is_a_refusal_whose_log_line_says_what_it_was() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    let good = "<RetrievePropertiesExResponse xmlns=\"urn:vim25\">";
    let huge = format!("<x>{}</x>", " ".repeat(5 * 1024 * 1024));
    let raw = |text: &str| Reply::Raw(text.to_owned());

    for (what, reply, logged) in [
        ("an HTML page", Reply::html(200), "html where a SOAP envelope belongs"),
        ("an HTML error", Reply::html(503), "HTTP status 503"),
        ("a redirect", Reply::html(302), "HTTP status 302"),
        ("a login page", Reply::html(401), "HTTP status 401"),
        ("text", Reply::Http(200, "text/plain", "no".to_owned()), "no root element"),
        ("nothing", Reply::Http(200, "text/xml", String::new()), "no root element"),
        ("broken XML", Reply::soap(&format!("{good}<a></b>")), "not well-formed"),
        (
            "half a document",
            Reply::Http(200, "text/xml", "<a><b>".to_owned()),
            "a where a SOAP envelope",
        ),
        ("too much", Reply::soap(&huge), "larger than"),
        ("an empty body", Reply::soap(""), "no response in the SOAP body"),
        (
            "another answer",
            Reply::soap("<LoginResponse xmlns=\"urn:vim25\"/>"),
            "LoginResponse of namespace urn:vim25 where",
        ),
        (
            "a wrong namespace",
            Reply::soap(&format!(
                "{}</RetrievePropertiesExResponse>",
                good.replace("vim25", "vim24")
            )),
            "namespace urn:vim24 where",
        ),
        ("no HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n"), "cannot reach it"),
        (
            "a cut answer",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<soap"),
            "cannot reach it",
        ),
        ("a closed connection", raw(""), "cannot reach it"),
    ] {
        faulty.assert_refused(&token, what, reply, logged).await;
    }
    faulty.vcenter.recover("RetrievePropertiesEx");
    faulty.site.check(&token).await.assert_granted(IpAddr::V4(HOST), PORT);
}

#[tokio::test]
async fn silence_is_a_refusal_whose_log_line_says_so() {
    let faulty = Faulty::start_hasty().await;
    let token = faulty.token().await;
    faulty.assert_refused(&token, "silence", Reply::Silence, "no answer within 1s").await;
    faulty.vcenter.recover("RetrievePropertiesEx");
    faulty.site.check(&token).await.assert_granted(IpAddr::V4(HOST), PORT);
}

#[tokio::test]
async fn an_answer_that_refuses_is_not_reported_as_silence() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    for kind in ["RuntimeFault", "NoPermission", "RestrictedVersion"] {
        faulty.vcenter.answer("RetrievePropertiesEx", Reply::fault(kind));
        let (refusal, log) = faulty.log_of(faulty.site.check(&token)).await;
        refusal.assert_refused(502, "vcenter_refused");
        assert!(refusal.body["message"].as_str().expect("text").contains(kind), "{}", refusal.body);
        assert!(log.contains(&format!("fault {kind}")) && log.contains("vcenter-a"), "{log}");
        let answer = faulty.issue().await;
        answer.nova_error(502, "computeFault");
        assert!(answer.body.to_string().contains(kind), "{}", answer.body);
    }
}

/// A ticket is acquired at the check only, and the page asks for the status after it.
#[tokio::test]
async fn a_refused_ticket_is_remembered_for_the_page() {
    let faulty = Faulty::start_with(|config| {
        config
            .with("#host_certificates = \"pinned\"", "host_certificates = \"ca\"")
            .with("#console = \"auto\"", "console = \"webmks\"")
    })
    .await;
    let token = faulty.token().await;
    faulty.vcenter.answer("AcquireTicket", Reply::fault("RestrictedVersion"));
    assert_eq!(faulty.site.status(&token).await.status, 200);
    for answer in [faulty.site.check(&token).await, faulty.site.status(&token).await] {
        answer.assert_refused(502, "vcenter_refused");
        assert!(answer.body.to_string().contains("RestrictedVersion"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_state_that_vsphere_does_not_have_is_unknown() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    let body = machine("vm-1", "x").replace("poweredOn", "maybe");
    faulty.vcenter.answer("RetrievePropertiesEx", read(&body));
    let (refusal, log) = faulty.log_of(faulty.site.check(&token)).await;
    refusal.assert_refused(409, "console_unavailable");
    assert!(log.contains("maybe") && log.contains("vcenter-a"), "{log}");
}

/// Foreign text with a line feed and an escape sequence.
#[tokio::test]
async fn a_fault_forges_no_log_line_and_commands_no_terminal() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    let fault = Reply::soap(
        "<soapenv:Fault><faultcode>x</faultcode><faultstring>no&#10;2026-01-01T00:00:00Z  INFO forged \
         &#27;[2J</faultstring><detail><RuntimeFaultFault xmlns=\"urn:vim25\" \
         xsi:type=\"Runtime&#10;Fault\"/></detail></soapenv:Fault>",
    );
    faulty.vcenter.answer("RetrievePropertiesEx", fault);
    let (refusal, log) = faulty.log_of(faulty.site.check(&token)).await;
    refusal.assert_refused(502, "vcenter_refused");
    assert!(!refusal.body["message"].as_str().expect("text").contains('\n'), "{}", refusal.body);
    assert!(log.contains("forged"), "it is told: {log}");
    assert!(log.lines().all(|line| !line.starts_with("2026-01-01")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// What `RetrievePropertiesEx` answers with these objects.
fn read(objects: &str) -> Reply {
    Reply::soap(&format!(
        "<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>{objects}</returnval>\
         </RetrievePropertiesExResponse>"
    ))
}

#[tokio::test]
async fn a_machine_that_is_deleted_between_two_pages_takes_no_listing_down() {
    let faulty = Faulty::start().await;
    let first = format!("<token>more</token>{}", machine("vm-1", "stays"));
    faulty.vcenter.answer("RetrievePropertiesEx", read(&first));
    let continued = "ContinueRetrievePropertiesEx";
    let rest = format!(
        "<{continued}Response xmlns=\"urn:vim25\"><returnval>{}<objects>\
         <obj type=\"VirtualMachine\">vm-3</obj><missingSet><path>summary.config.name</path>\
         <fault><fault xsi:type=\"ManagedObjectNotFound\"/></fault></missingSet></objects></returnval>\
         </{continued}Response>",
        machine("vm-2", "stays-too")
    );
    let rest = Reply::soap(&rest);
    let deleted = Reply::fault("ManagedObjectNotFound");
    faulty.vcenter.answer(continued, Reply::Then(Box::new(deleted.clone()), Box::new(rest)));
    for (name, count) in [("stays", 1), ("stays-too", 1), ("vm-3", 0)] {
        let listed = faulty.site.machines_named(name).await;
        assert_eq!(listed.status, 200, "{}", listed.body);
        assert_eq!(listed.body["vms"].as_array().expect("a list").len(), count, "{}", listed.body);
    }
    faulty.vcenter.answer(continued, deleted);
    assert_eq!(faulty.site.machines_named("stays").await.status, 502, "it always is");
}

#[tokio::test]
async fn pages_without_end_cost_bounded_memory() {
    let mut faulty = Faulty::start().await;
    let machines: String =
        (0..200).map(|number| machine(&format!("vm-{number}"), &"x".repeat(5_000))).collect();
    let page = |method: &str| {
        Reply::soap(&format!(
            "<{method}Response xmlns=\"urn:vim25\"><returnval><token>more</token>{machines}</returnval>\
             </{method}Response>"
        ))
    };
    for method in ["RetrievePropertiesEx", "ContinueRetrievePropertiesEx"] {
        faulty.vcenter.answer(method, page(method));
    }
    let before = resident_mib(faulty.site.authority.process().id());
    let (answer, log) = {
        let from = faulty.site.authority.log().len();
        let answer = faulty.site.machines_named("x").await;
        (answer, faulty.site.authority.log()[from..].to_owned())
    };
    let grown = resident_mib(faulty.site.authority.process().id()).saturating_sub(before);
    assert_eq!(answer.status, 503);
    assert!(log.contains("more pages or bytes"), "{log}");
    println!("pages without end: {grown} MiB more");
    // The list of machines and, beside it, that of the clusters keep 64 MiB at most; the allocator keeps some more.
    assert!(grown < 256, "{grown} MiB");
}

/// The largest memory that a process has had, in MiB.
fn resident_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

#[tokio::test]
async fn a_kept_alive_connection_that_vcenter_closes_costs_nobody_a_console() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    faulty.vcenter.answer("RetrievePropertiesEx", Reply::CloseOnce);
    faulty.site.check(&token).await.assert_granted(IpAddr::V4(HOST), PORT);
}

#[tokio::test]
async fn a_session_that_always_has_expired_is_not_renewed_for_ever() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    faulty.vcenter.answer("RetrievePropertiesEx", Reply::fault("NotAuthenticated"));
    let before = faulty.vcenter.calls().len();
    faulty.site.check(&token).await.assert_refused(503, "vcenter_unavailable");
    let calls = &faulty.vcenter.calls()[before..];
    let count = |method| calls.iter().filter(|call| *call == method).count();
    assert_eq!(count("Login"), 1, "{calls:?}");
    // Each of the two requests, and again.
    assert!(count("RetrievePropertiesEx") <= 4, "{calls:?}");
}

/// vCenter answers some calls of an expired session with a fault for each property.
#[tokio::test]
async fn an_expired_session_in_place_of_properties_is_renewed() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    faulty.vcenter.answer(
        "RetrievePropertiesEx",
        Reply::soap(
            "<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval><objects>\
             <obj type=\"VirtualMachine\">vm-1</obj><missingSet><path>summary.config.name</path><fault>\
             <fault xsi:type=\"NotAuthenticated\"/></fault></missingSet></objects></returnval>\
             </RetrievePropertiesExResponse>",
        ),
    );
    let logins = || faulty.vcenter.calls().iter().filter(|call| *call == "Login").count();
    let before = logins();
    faulty.site.check(&token).await.assert_refused(503, "vcenter_unavailable");
    assert_eq!(logins() - before, 1);
}

#[tokio::test]
async fn a_slow_login_is_there_for_the_next_who_asks() {
    let faulty = Faulty::start_hasty().await;
    let token = faulty.token().await;
    faulty.vcenter.answer("RetrievePropertiesEx", Reply::fault("NotAuthenticated"));
    faulty.vcenter.answer("Login", Reply::Silence);
    let checks = (0..5).map(|_| faulty.site.check(&token));
    for refusal in futures_util::future::join_all(checks).await {
        refusal.assert_refused(503, "vcenter_unavailable");
    }
    let logins = faulty.vcenter.calls().iter().filter(|call| *call == "Login").count();
    assert_eq!(logins, 2, "the first and one for all who wait");
}

#[tokio::test]
async fn a_property_that_is_withheld_is_named_in_the_log() {
    let faulty = Faulty::start().await;
    let withheld = machine("vm-1", "web-1").replace(
        &format!("<propSet><name>name</name><val xsi:type=\"xsd:string\">{HOST}</val></propSet>"),
        "<missingSet><path>name</path><fault><fault xsi:type=\"NoPermission\"/></fault></missingSet>",
    );
    faulty.vcenter.answer(
        "RetrievePropertiesEx",
        Reply::soap(&format!(
            "<RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>{withheld}</returnval>\
             </RetrievePropertiesExResponse>"
        )),
    );
    let (answer, log) = faulty.log_of(faulty.issue()).await;
    answer.nova_error(409, "conflictingRequest");
    assert!(log.contains("NoPermission") && log.contains("host-1"), "{log}");
}

#[tokio::test]
async fn a_large_inventory_is_read_page_by_page() {
    let faulty = Faulty::start().await;
    let page = |method: &str, id: &str, token: &str| {
        let machine = machine(id, &format!("name-of-{id}"));
        Reply::soap(&format!(
            "<{method}Response xmlns=\"urn:vim25\"><returnval>{token}{machine}</returnval></{method}Response>"
        ))
    };
    faulty.vcenter.answer(
        "RetrievePropertiesEx",
        page("RetrievePropertiesEx", "vm-1", "<token>more</token>"),
    );
    let continued = "ContinueRetrievePropertiesEx";
    faulty.vcenter.answer(continued, page(continued, "vm-2", ""));
    for name in ["name-of-vm-1", "name-of-vm-2"] {
        let listed = faulty.site.machines_named(name).await;
        assert_eq!(listed.body["vms"][0]["host"], HOST.to_string(), "{}", listed.body);
    }
    assert!(faulty.vcenter.calls().contains(&"DestroyView".to_owned()));
    let log = faulty.site.authority.log();
    assert!(!log.contains("fake-session"), "neither cookie nor key of the session: {log}");
}

#[tokio::test]
async fn an_old_vcenter_gets_no_password() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    let content = "<returnval><rootFolder type=\"Folder\">r</rootFolder>\
         <propertyCollector type=\"PropertyCollector\">p</propertyCollector>\
         <viewManager type=\"ViewManager\">v</viewManager><about><apiVersion>6.0</apiVersion></about>\
         <sessionManager type=\"SessionManager\">s</sessionManager>\
         <searchIndex type=\"SearchIndex\">i</searchIndex></returnval>";
    let method = "RetrieveServiceContent";
    faulty.vcenter.answer(
        method,
        Reply::soap(&format!("<{method}Response xmlns=\"urn:vim25\">{content}</{method}Response>")),
    );
    faulty.vcenter.answer("RetrievePropertiesEx", Reply::fault("NotAuthenticated"));
    let logins = || faulty.vcenter.calls().iter().filter(|call| *call == "Login").count();
    let before = logins();
    let (refusal, log) = faulty.log_of(faulty.site.check(&token)).await;
    refusal.assert_refused(503, "vcenter_unavailable");
    assert!(log.contains("version 6.0; vCenter 6.5 is the oldest"), "{log}");
    assert_eq!(logins(), before);
}

#[tokio::test]
async fn a_compressed_reply_is_named() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    let head = faulty.vcenter.head().to_ascii_lowercase();
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    let reply =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".to_owned();
    faulty.vcenter.answer("RetrievePropertiesEx", Reply::Raw(reply));
    let (refusal, log) = faulty.log_of(faulty.site.check(&token)).await;
    refusal.assert_refused(503, "vcenter_unavailable");
    assert!(log.contains("content encoding gzip"), "{log}");
}

#[tokio::test]
async fn an_expired_password_is_tried_once() {
    let faulty = Faulty::start().await;
    let token = faulty.token().await;
    faulty.vcenter.answer("RetrievePropertiesEx", Reply::fault("NotAuthenticated"));
    faulty.vcenter.answer("Login", Reply::fault("PasswordExpired"));
    let logins = || faulty.vcenter.calls().iter().filter(|call| *call == "Login").count();
    let before = logins();
    for _ in 0..5 {
        let refusal = faulty.site.check(&token).await;
        refusal.assert_refused(503, "vcenter_unavailable");
        assert!(refusal.body.to_string().contains("cannot log in"), "{}", refusal.body);
    }
    assert_eq!(logins() - before, 1, "or vCenter locks the account");
}
