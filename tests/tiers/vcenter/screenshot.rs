//! Pictures of what machines show, and who gets none.

use crate::fixture::Site;
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::sleep;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::audit::records;
use vncgate_test_support::authority::CONFIG_FILE;
use vncgate_test_support::tenant::Tenant;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::until_some;
use vncgate_test_support::workspace::authority;

/// The signature of a PNG file.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Longer than a picture is shared.
const LONGER: Duration = Duration::from_millis(1_200);

/// The audit trail.
const TRAIL: &str = "audit.jsonl";

/// A site whose administrators may see screens.
async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| {
        Site::start_with("screenshot", |config, _, _| {
            let config = config.with_audit(TRAIL, true);
            config.with("#screenshot = []", "screenshot = [\"admin\"]")
        })
    })
    .await
}

async fn picture(site: &Site, vm: &Vm) -> Response {
    let path = format!("/v1/instances/{}/screenshot", vm.instance_uuid);
    let request = site.authority.request(Method::GET, &path);
    request.send().await.expect("the API answers")
}

async fn pictures_of_vcenter(site: &Site) -> u64 {
    site.calls_by_method().await.get("Screen").copied().unwrap_or(0)
}

#[tokio::test]
async fn a_picture_is_png_that_no_cache_keeps_and_no_browser_takes_for_a_page() {
    let site = site().await;
    let (vm, _) = site.machine();
    let (other, _) = site.machine();
    let shown = picture(site, &vm).await;
    assert_eq!(shown.status(), 200);
    for (name, value) in [
        ("content-type", "image/png"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox; frame-ancestors 'none'"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(shown.headers()[name], value, "{name}");
    }
    let shown = shown.bytes().await.expect("a picture");
    assert!(shown.starts_with(PNG), "{shown:?}");
    let other = picture(site, &other).await.bytes().await.expect("a picture");
    assert_ne!(shown, other, "each machine has its own");
    let log = site.authority.log();
    let line =
        log.lines().find(|line| line.contains("screenshot shown") && line.contains(&vm.name));
    let line = line.expect("a log line");
    assert!(
        line.contains("caller=\"api_token:portal\"") && line.contains(&vm.instance_uuid),
        "{line}"
    );
    let of_machine = trail(site, &vm);
    let [record] = &of_machine[..] else { panic!("{of_machine:?}") };
    let who = (&record["event"], &record["caller"], &record["machine"]);
    assert_eq!(
        who,
        (&"screenshot_shown".into(), &"api_token:portal".into(), &vm.name.as_str().into())
    );
}

/// The records about a machine.
fn trail(site: &Site, vm: &Vm) -> Vec<Value> {
    let records = records(&site.run.path(TRAIL)).into_iter();
    records.filter(|record| record["instance"] == vm.instance_uuid.as_str()).collect()
}

#[tokio::test]
async fn no_picture_is_shown_without_its_record() {
    let site = Site::start_with("screenshot-unrecorded", |config, run, _| {
        std::os::unix::fs::symlink("/dev/full", run.path(TRAIL)).expect("a full disk");
        config.with_audit(TRAIL, true).with("#screenshot = []", "screenshot = [\"admin\"]")
    })
    .await;
    let (vm, _) = site.machine();
    let refused = Answer::of(picture(&site, &vm).await).await;
    let told = refused.nova_error(503, "serviceUnavailable");
    assert!(told.contains("audit record"), "{told}");
}

#[tokio::test]
async fn a_picture_is_shared_for_a_second() {
    // The only test here that counts, so it has a vCenter of its own.
    let site = Site::start_with("screenshot-shared", |config, _, _| {
        config.with("#screenshot = []", "screenshot = [\"admin\"]")
    })
    .await;
    let (vm, _) = site.machine();
    site.vcenter.set_screen(&vm.name, "", 0, Duration::from_millis(300)).await;
    let many = join_all((0..20).map(|_| picture(&site, &vm))).await;
    assert!(many.iter().all(|shown| shown.status() == 200));
    assert_eq!(pictures_of_vcenter(&site).await, 1);
    sleep(LONGER).await;
    assert_eq!(picture(&site, &vm).await.status(), 200);
    assert_eq!(pictures_of_vcenter(&site).await, 2);

    // The caller who asked first stops waiting, and the others get theirs.
    sleep(LONGER).await;
    site.vcenter.set_screen(&vm.name, "", 0, Duration::from_millis(900)).await;
    let path = format!("/v1/instances/{}/screenshot", vm.instance_uuid);
    let first = site.authority.request(Method::GET, &path).timeout(Duration::from_millis(400));
    let first = tokio::spawn(first.send());
    sleep(Duration::from_millis(200)).await;
    assert_eq!(picture(&site, &vm).await.status(), 200);
    assert!(first.await.expect("no panic").is_err_and(|error| error.is_timeout()));
    assert_eq!(pictures_of_vcenter(&site).await, 3);
}

#[tokio::test]
async fn what_is_no_picture_is_not_passed_on() {
    let site = site().await;
    let page = "<script>alert(1)</script>";
    let png = "\u{fffd}PNG\r\n";
    for (answer, bytes) in [(page, 0), (png, 0), ("x", 5 * 1024 * 1024)] {
        let (vm, _) = site.machine();
        site.vcenter.set_screen(&vm.name, answer, bytes, Duration::ZERO).await;
        let refused = Answer::of(picture(site, &vm).await).await;
        let told = refused.nova_error(502, "computeFault");
        assert!(told.starts_with("vCenter has no picture of instance "), "{told}");
        assert!(!refused.body.to_string().contains("alert"), "{}", refused.body);
    }
}

#[tokio::test]
async fn a_machine_that_is_off_and_a_screen_that_may_not_be_seen_have_no_picture() {
    let site = site().await;
    let (off, _) = site.machine();
    site.vcenter.power_off(&off.name);
    let refused = Answer::of(picture(site, &off).await).await;
    let told = format!("Instance {} is not ready", off.instance_uuid);
    assert_eq!(refused.nova_error(409, "conflictingRequest"), told);

    let (hidden, _) = site.machine();
    site.vcenter.restrict(&hidden.name, &["VirtualMachine.Interact.ConsoleInteract"]);
    let refused = Answer::of(picture(site, &hidden).await).await;
    let told = refused.nova_error(403, "forbidden");
    assert!(told.contains("VirtualMachine.Interact.CreateScreenshot"), "{told}");
    let record = until_some("a record", async || trail(site, &hidden).pop()).await;
    let what = (&record["event"], &record["refusal"]);
    assert_eq!(what, (&"screenshot_refused".into(), &"forbidden".into()), "{record}");

    for unknown in ["no-uuid".to_owned(), uuid::Uuid::nil().to_string()] {
        let vm = Vm { instance_uuid: unknown, ..off.clone() };
        Answer::of(picture(site, &vm).await).await.nova_error(404, "itemNotFound");
    }
}

#[tokio::test]
async fn an_ended_session_is_renewed_for_a_picture() {
    let site = Site::start_with("screenshot-session", |config, _, _| {
        config.with("#screenshot = []", "screenshot = [\"admin\"]")
    })
    .await;
    let (vm, _) = site.machine();
    assert_eq!(picture(&site, &vm).await.status(), 200);
    sleep(LONGER).await;
    assert!(site.vcenter.end_sessions() > 0);
    assert_eq!(picture(&site, &vm).await.status(), 200);
}

#[tokio::test]
async fn a_picture_is_for_callers_with_the_right_and_of_their_own_machines() {
    let tenant = Tenant::new("viewer");
    let site = Site::start_with("screenshot-right", |config, _, _| {
        tenant.known_in(config.with("#screenshot = []", "screenshot = [\"viewer\"]"))
    })
    .await;
    Tenant::create_folder(&site.vcenter);
    let (own, _) = site.machine();
    let (other, _) = site.machine();
    Tenant::take(&site.vcenter, &own);
    let refused = Answer::of(picture(&site, &own).await).await;
    let told = refused.nova_error(403, "forbidden");
    assert_eq!(told, "Policy doesn't allow screenshot to be performed.");
    for (vm, status) in [(&own, 200), (&other, 404)] {
        let path = format!("/v1/instances/{}/screenshot", vm.instance_uuid);
        let request = tenant.request(&site.authority, Method::GET, &path);
        assert_eq!(request.send().await.expect("an answer").status(), status);
    }
}

#[tokio::test]
async fn check_config_names_the_privileges_that_rights_lack() {
    let site = Site::start_with("privileges", |config, _, _| {
        config
            .with("#power = []", "power = [\"admin\"]")
            .with("#screenshot = []", "screenshot = [\"admin\"]")
    })
    .await;
    let (whole, _) = site.machine();
    let (other, _) = site.machine();
    let check = || {
        let mut command = Command::new(authority());
        command.args(["check-config", "--online", "--config"]).arg(site.run.path(CONFIG_FILE));
        let output = command.output().expect("run the authority");
        let said = String::from_utf8(output.stderr).expect("text");
        said + &String::from_utf8(output.stdout).expect("text")
    };
    assert!(!check().contains("lacks"), "{}", check());
    site.vcenter.restrict(
        &other.name,
        &["VirtualMachine.Interact.ConsoleInteract", "VirtualMachine.Interact.PowerOff"],
    );
    let said = check();
    for (right, privilege) in [
        ("power", "VirtualMachine.Interact.PowerOn"),
        ("power", "VirtualMachine.Interact.Reset"),
        ("screenshot", "VirtualMachine.Interact.CreateScreenshot"),
    ] {
        let found = format!(
            "vcenter-a: for the right {right}, the account lacks {privilege} on 1 of 2 machines, such as {}",
            other.name
        );
        assert!(said.contains(&found), "{found} in {said}");
    }
    assert_eq!(said.matches("the account lacks").count(), 3, "{said}");
    assert!(!said.contains(&whole.name), "{said}");
}
