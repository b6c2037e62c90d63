//! The audit trail: what it has, who did what; rotation under load; and a disk, a pipe or a folder that fails.

use crate::site::{ESXI, Site};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::process::Command;
use vncgate_test_support::audit::{events, parse, records};
use vncgate_test_support::process::run_to_end;
use vncgate_test_support::wait::{until, until_some};

const FILE: &str = "audit.jsonl";
const WRITABLE: &str = "vncgate_audit_writable ";

/// Waits until the trail of a run has so many records, and returns them.
async fn some(site: &Site, count: usize) -> Vec<Value> {
    let path = site.run.path(FILE);
    until_some("records", async || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() >= count && text.ends_with('\n')).then(|| parse(&text))
    })
    .await
}

async fn ready(site: &Site) -> (u16, Value) {
    let answer = site.authority.internal("/readyz").await;
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn each_thing_that_is_done_with_a_console_has_a_record() {
    let mut site = Site::start_with("audit", |config| config.with_audit(FILE, false)).await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    site.authority.check(&token).await.assert_granted(ESXI, port);
    site.authority
        .check("11111111-1111-4111-8111-111111111111")
        .await
        .assert_refused(403, "token_invalid");
    let unknown =
        site.authority.api().request_console("11111111-1111-4111-8111-111111111111").await;
    assert_eq!(unknown.status(), 404);
    let (issued, _) = (some(&site, 2).await[1].clone(), ());
    let id = issued["token_id"].as_str().expect("an id");
    let revoked = site.authority.request(Method::DELETE, &format!("/v1/tokens/{id}")).send().await;
    assert_eq!(revoked.expect("an answer").status(), 204);
    site.authority.check(&token).await.assert_refused(403, "token_invalid");
    let path = format!("/v1/instances/{}/tokens", vm.instance_uuid);
    let revoked = site.authority.request(Method::DELETE, &path).send().await;
    assert_eq!(revoked.expect("an answer").status(), 200);
    site.authority.signal(Signal::SIGTERM);
    until("the end", async || site.authority.process().exit_status().is_some()).await;

    let path = site.run.path(FILE);
    let records = records(&path);
    assert_eq!(
        events(&records),
        [
            "trail_opened",
            "token_issued",
            "session_granted",
            "session_refused",
            "token_refused",
            "token_revoked",
            "session_refused",
            "tokens_revoked",
            "trail_closed",
        ]
    );
    let common = json!({
        "caller": "api_token:portal", "instance": vm.instance_uuid, "machine": vm.name,
        "vcenter": "vcenter-a", "host": ESXI.to_string(), "console_type": "novnc", "protocol": "vnc",
        "token_id": id,
    });
    for index in [1, 2, 5] {
        for (field, value) in common.as_object().expect("an object") {
            assert_eq!(&records[index][field], value, "{field} of {}", records[index]);
        }
    }
    let granted = &records[2];
    assert_eq!(granted["client"], "203.0.113.7");
    assert_eq!(granted["request_id"], "r-1");
    assert_eq!(granted["address"], format!("{ESXI}:{port}"));
    assert_eq!(records[3]["refusal"], "token_invalid");
    assert_eq!(
        (&records[4]["refusal"], &records[4]["caller"]),
        (&json!("itemNotFound"), &json!("api_token:portal"))
    );
    assert_eq!(records[5]["by"], "api_token:portal");
    assert_eq!(records[6]["token_id"], id, "whose link it was");
    assert_eq!(records[7]["count"], 0);
    let host = run_to_end(&mut Command::new("hostname"));
    assert_eq!(records[0]["authority"], host.trim());
    let text = fs::read_to_string(&path).expect("the trail");
    assert!(!text.contains(&token), "a token");
    let mode = fs::metadata(&path).expect("the trail").permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "{mode:o}");
}

/// As logrotate does it: the file is renamed, the process is told, and nothing is lost or told twice.
#[tokio::test]
async fn a_rotation_under_load_loses_no_record() {
    const ROTATIONS: usize = 10;
    let site = Site::start_with("audit-rotation", |config| config.with_audit(FILE, true)).await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    let (path, authority) = (site.run.path(FILE), &site.authority);
    let rotated = |round: usize| site.run.path(&format!("{FILE}.{round}"));
    let checks = async {
        let mut sessions = Vec::new();
        while !rotated(ROTATIONS - 1).exists() || sessions.len() < 100 {
            let answer = authority.check(&token).await;
            answer.assert_granted(ESXI, port);
            sessions.push(answer.body["session"].clone());
        }
        sessions
    };
    let rotations = async {
        for round in 0..ROTATIONS {
            fs::rename(&path, rotated(round)).expect("rename");
            authority.signal(Signal::SIGHUP);
            until("the new file", async || path.exists()).await;
        }
    };
    let (sessions, ()) = tokio::join!(checks, rotations);
    let files = (0..ROTATIONS).map(rotated).chain([path.clone()]);
    let text: String = files.map(|file| fs::read_to_string(file).expect("a file")).collect();
    let records = parse(&text);
    let granted: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "session_granted")
        .map(|record| record["session"].clone())
        .collect();
    assert_eq!(granted, sessions);
    let opened = records.iter().filter(|record| record["event"] == "trail_opened").count();
    assert!(opened > ROTATIONS, "{opened}");
}

#[tokio::test]
async fn on_a_full_disk_no_console_opens_that_needs_its_record() {
    let site = Site::start_with("audit-full", |config| {
        config.with_audit(FILE, true).with("#token_use = \"reusable\"", "token_use = \"once\"")
    })
    .await;
    let (vm, port) = site.machine();
    let path = site.run.path(FILE);
    let token = site.authority.issue(&vm).await;
    some(&site, 2).await;
    assert_eq!(ready(&site).await.1["audit"], "ok");
    // Every write fails with ENOSPC (full(4)).
    fs::rename(&path, site.run.path("audit.jsonl.1")).expect("rename");
    symlink("/dev/full", &path).expect("a link");
    assert!(site.authority.hang_up().await);
    for _ in 0..3 {
        site.authority.check(&token).await.assert_refused(503, "authority_unavailable");
    }
    let (status, told) = ready(&site).await;
    assert_eq!(
        (status, &told["status"]),
        (503, &json!("the required audit records cannot be written"))
    );
    assert!(told["audit"].as_str().is_some_and(|told| told.contains("No space left")), "{told}");
    assert_eq!(site.authority.internal("/healthz").await.status(), 200);
    assert_eq!(site.authority.count(WRITABLE).await, 0);
    assert_eq!(site.authority.log().matches("audit records cannot be written").count(), 1);

    // There is room again.
    fs::remove_file(&path).expect("the link");
    assert!(site.authority.hang_up().await);
    site.authority.check(&token).await.assert_granted(ESXI, port);
    site.authority.check(&token).await.assert_refused(403, "token_invalid");
    assert_eq!(ready(&site).await.0, 200);
    assert_eq!(site.authority.count(WRITABLE).await, 1);
    let records = some(&site, 7).await;
    let told = events(&records);
    let interrupted = told.iter().position(|event| *event == "trail_interrupted").expect("it");
    assert!(
        records[interrupted]["error"].as_str().is_some_and(|error| error.contains("No space left"))
    );
    assert_eq!(told.iter().filter(|event| **event == "session_refused").count(), 4, "{told:?}");
    assert_eq!(told.iter().filter(|event| **event == "session_granted").count(), 1, "{told:?}");
}

/// Without `required` a console is worth more than its record.
#[tokio::test]
async fn a_pipe_without_a_reader_keeps_records_until_there_is_one() {
    let site = Site::start("audit-pipe").await;
    let path = site.run.path("audit.pipe");
    run_to_end(Command::new("mkfifo").arg(&path));
    let (vm, port) = site.machine();
    let config = site.authority.config().clone().with_audit("audit.pipe", false);
    assert!(site.authority.reload(&config).await);
    let token = site.authority.issue(&vm).await;
    for _ in 0..5 {
        site.authority.check(&token).await.assert_granted(ESXI, port);
    }
    assert_eq!(ready(&site).await.0, 200, "consoles open");
    assert!(ready(&site).await.1["audit"].as_str().is_some_and(|told| told != "ok"));
    assert_eq!(site.authority.count(WRITABLE).await, 0);
    let mut options = fs::OpenOptions::new();
    let nonblocking = nix::libc::O_NONBLOCK;
    let mut reader = options.read(true).custom_flags(nonblocking).open(&path).expect("the pipe");
    let mut text = String::new();
    until("the records", async || {
        let mut part = vec![0; 1 << 16];
        if let Ok(length) = reader.read(&mut part) {
            text.push_str(std::str::from_utf8(&part[..length]).expect("UTF-8"));
        }
        text.matches("session_granted").count() == 5
    })
    .await;
    assert_eq!(events(&parse(&text))[..3], ["trail_interrupted", "trail_opened", "token_issued"]);
}

#[tokio::test]
async fn a_folder_that_is_gone_is_known_and_waited_for() {
    let site = Site::start("audit-folder").await;
    let (vm, port) = site.machine();
    let folder = site.run.path("audit");
    let missing = site.authority.config().clone().with_audit("audit/trail.jsonl", true);
    assert!(!site.authority.reload(&missing).await, "check-config would say the same");
    assert!(
        site.authority.log().contains("audit.file: cannot be made in "),
        "{}",
        site.authority.log()
    );
    fs::create_dir(&folder).expect("a folder");
    assert!(site.authority.reload(&missing).await);
    let token = site.authority.issue(&vm).await;
    site.authority.check(&token).await.assert_granted(ESXI, port);
    fs::remove_dir_all(&folder).expect("remove it");
    site.authority.check(&token).await.assert_refused(503, "authority_unavailable");
    fs::create_dir(&folder).expect("a folder");
    until("records again", async || site.authority.count(WRITABLE).await == 1).await;
    site.authority.check(&token).await.assert_granted(ESXI, port);
    let records = records(&folder.join("trail.jsonl"));
    assert_eq!(events(&records).last(), Some(&"session_granted"));
}

/// For containers, whose log is on standard error.
#[tokio::test]
async fn standard_output_has_the_records_and_nothing_else() {
    let mut site =
        Site::start_with("audit-stdout", |config| config.with_audit("stdout", true)).await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    site.authority.check(&token).await.assert_granted(ESXI, port);
    let records = parse(&site.authority.process().stdout());
    assert_eq!(events(&records), ["trail_opened", "token_issued", "session_granted"]);
}
