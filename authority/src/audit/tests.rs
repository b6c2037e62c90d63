//! The trail on files, pipes and disks that fail.

use super::*;
use crate::sessions::{
    Description, EndCode, EndReason, Session, SessionChange, SessionEvent, time,
};
use crate::telemetry::Metrics;
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::sleep;
use uuid::Uuid;
use vncgate_api::{Access, Traffic};

struct Fixture {
    trail: AuditTrail,
    metrics: Arc<Metrics>,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let trail = AuditTrail::new(Arc::clone(&metrics));
        Self { trail, metrics, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_to(&self, path: &Path, required: bool) {
        let target = Some(Target::File(path.to_owned()));
        self.trail.configure(AuditConfig { target, required, vcenter_events: false }).unwrap();
    }

    /// The metric's value.
    fn count(&self, metric: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(metric)).unwrap();
        line.trim().parse().unwrap()
    }

    async fn first(&self, session: Uuid) -> bool {
        self.trail.record_first(|| granted(session)).await.is_ok()
    }
}

fn granted(session: Uuid) -> Event {
    let address = SocketAddr::from(([192, 0, 2, 5], 5901));
    let (token, origin) = (TokenFields::default(), OriginFields::default());
    Event::SessionGranted { session, token, origin, address, site: None }
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(path: &Path) -> Vec<String> {
    records(path).iter().map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_record_has_its_number_and_its_time_and_follows_the_one_before() {
    let it = Fixture::new();
    let path = it.path("audit.jsonl");
    it.trail.record(|| unreachable!("it is off"));
    it.write_to(&path, false);
    let sessions: Vec<_> = (0..100).map(|_| Uuid::new_v4()).collect();
    for session in &sessions {
        it.trail.record(|| granted(*session));
    }
    it.trail.stop().await;
    let records = records(&path);
    assert_eq!(records.len(), sessions.len() + 2);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["version"], 1);
        assert_eq!(record["sequence"], index + 1);
        assert_eq!(record["writer"], records[0]["writer"]);
        assert!(humantime::parse_rfc3339(record["timestamp"].as_str().unwrap()).is_ok());
    }
    assert_eq!(
        (&records[0]["event"], &records[0]["reason"]),
        (&"trail_opened".into(), &"started".into())
    );
    let told: Vec<_> = records[1..101].iter().map(|record| record["session"].clone()).collect();
    assert_eq!(told, sessions.iter().map(|session| session.to_string()).collect::<Vec<_>>());
    assert_eq!(records[101]["event"], "trail_closed");
    assert_eq!(it.count(r#"vncgate_audit_records_total{event="session_granted"}"#), 100);
}

#[tokio::test]
async fn a_required_record_is_in_the_file_before_the_console_opens() {
    let it = Fixture::new();
    let path = it.path("audit.jsonl");
    it.write_to(&path, true);
    for _ in 0..50 {
        let session = Uuid::new_v4();
        assert!(it.first(session).await);
        assert_eq!(records(&path).last().unwrap()["session"], session.to_string());
    }
}

#[tokio::test]
async fn a_rotation_loses_no_record_and_doubles_none() {
    let it = Fixture::new();
    let path = it.path("audit.jsonl");
    it.write_to(&path, false);
    for round in 0..20 {
        for _ in 0..50 {
            it.trail.record(|| granted(Uuid::new_v4()));
        }
        if round == 0 {
            until("the file", || path.exists()).await;
        }
        fs::rename(&path, it.path(&format!("audit.jsonl.{round}"))).unwrap();
        it.trail.reopen();
        until("the new file", || path.exists()).await;
    }
    it.trail.stop().await;
    let mut sequences = Vec::new();
    for round in 0..20 {
        sequences.extend(records(&it.path(&format!("audit.jsonl.{round}"))));
    }
    sequences.extend(records(&path));
    let sequences: Vec<_> =
        sequences.iter().map(|record| record["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=20 * 50 + 20 + 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_disk_opens_no_console_that_needs_its_record_and_keeps_the_others() {
    let it = Fixture::new();
    let path = it.path("link");
    // Every write fails with ENOSPC (full(4)).
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    it.write_to(&path, true);
    let refused = it.trail.record_first(|| granted(Uuid::new_v4())).await.unwrap_err();
    assert!(refused.to_string().contains("No space left on device"), "{refused}");
    assert!(it.trail.health().unwrap_err().contains("No space left on device"));
    assert_eq!(it.count("vncgate_audit_writable"), 0);
    let started = Instant::now();
    assert!(!it.first(Uuid::new_v4()).await);
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    let kept = Uuid::new_v4();
    it.trail.record(|| granted(kept));
    // There is room again.
    let file = it.path("audit.jsonl");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&file, &path).unwrap();
    it.trail.reopen();
    until("the record that was kept", || !records(&file).is_empty() && it.trail.health().is_ok())
        .await;
    let records = records(&file);
    assert_eq!(
        events(&file),
        ["trail_interrupted", "trail_opened", "trail_opened", "session_granted"]
    );
    assert!(records[0]["error"].as_str().unwrap().contains("No space left on device"));
    assert_eq!(records[0]["lost"], 0);
    assert_eq!(records[3]["session"], kept.to_string());
    assert!(it.first(Uuid::new_v4()).await);
    assert_eq!(it.count("vncgate_audit_writable"), 1);
}

#[tokio::test]
async fn without_a_request_the_trail_recovers_by_itself() {
    let it = Fixture::new();
    let path = it.path("gone/audit.jsonl");
    it.write_to(&path, true);
    until("the failure", || it.trail.health().is_err()).await;
    assert!(!it.first(Uuid::new_v4()).await);
    fs::create_dir(it.path("gone")).unwrap();
    until("the file", || it.trail.health().is_ok()).await;
    assert_eq!(events(&path), ["trail_interrupted", "trail_opened"]);
    // The folder goes while the file is open.
    fs::remove_dir_all(it.path("gone")).unwrap();
    assert!(!it.first(Uuid::new_v4()).await, "what is written to a removed file is lost");
    fs::create_dir(it.path("gone")).unwrap();
    until("the file", || it.trail.health().is_ok()).await;
    assert!(it.first(Uuid::new_v4()).await);
    assert_eq!(events(&path).last().unwrap(), "session_granted");
}

#[tokio::test]
async fn a_pipe_without_a_reader_or_with_a_slow_one_blocks_nothing() {
    let it = Fixture::new();
    let path = it.path("pipe");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    it.write_to(&path, true);
    assert!(!it.first(Uuid::new_v4()).await, "without a reader");
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), flags);
    let mut reader = options.open(&path).unwrap();
    until("the pipe", || it.trail.health().is_ok()).await;
    let mut granted_ones = 0;
    let started = Instant::now();
    while it.first(Uuid::new_v4()).await {
        granted_ones += 1;
    }
    assert!(granted_ones > 50, "{granted_ones}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(it.trail.health().is_err());
    let mut read = Vec::new();
    until("the reader", || {
        let mut part = vec![0; 1 << 20];
        if let Ok(length) = reader.read(&mut part) {
            read.extend_from_slice(&part[..length]);
        }
        it.trail.health().is_ok()
    })
    .await;
    drop(reader);
    // Whole lines, but for what the pipe still held.
    let text = String::from_utf8(read).unwrap();
    for line in text.lines().take(granted_ones) {
        let _: Value = serde_json::from_str(line).unwrap();
    }
    assert!(!it.first(Uuid::new_v4()).await, "the reader has gone");
}

#[tokio::test]
async fn beyond_the_room_for_them_records_are_lost_and_the_trail_says_how_many() {
    let it = Fixture::new();
    let path = it.path("gone/audit.jsonl");
    it.write_to(&path, false);
    for _ in 0..20_000 {
        it.trail.record(|| granted(Uuid::new_v4()));
    }
    let lost = it.count("vncgate_audit_lost_records_total");
    assert_eq!(lost, 20_000 - 16_384);
    fs::create_dir(it.path("gone")).unwrap();
    until("the records", || records_of(&path) >= 16_384 + 2).await;
    let records = records(&path);
    assert_eq!(
        (&records[0]["event"], &records[0]["lost"]),
        (&"trail_interrupted".into(), &lost.into())
    );
    assert_eq!(records.len(), 16_384 + 2);
}

fn records_of(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn a_reload_moves_the_trail_to_another_file_or_ends_it() {
    let it = Fixture::new();
    let (old, new) = (it.path("old.jsonl"), it.path("new.jsonl"));
    it.write_to(&old, false);
    it.trail.record(|| granted(Uuid::new_v4()));
    it.write_to(&new, false);
    it.trail.record(|| granted(Uuid::new_v4()));
    until("the new file", || records_of(&new) == 2).await;
    assert_eq!(events(&old), ["trail_opened", "session_granted"]);
    assert_eq!(records(&new)[0]["reason"], "configured");
    it.trail.configure(AuditConfig::default()).unwrap();
    it.trail.record(|| unreachable!("it is off"));
    assert!(it.first(Uuid::new_v4()).await, "nothing is required");
    it.trail.stop().await;
    assert_eq!(events(&new), ["trail_opened", "session_granted"]);
}

/// The thread of a test's trail writes while other tests fork: no child gets its file.
#[tokio::test]
async fn no_child_process_inherits_the_file() {
    let it = Fixture::new();
    let path = it.path("audit.jsonl");
    it.write_to(&path, false);
    until("the file", || records_of(&path) == 1).await;
    let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("audit.jsonl"));
}

/// A session of the register, as its events tell of it.
fn session(reported_here: bool, change: SessionChange) -> SessionEvent {
    let description = Description {
        instance: Uuid::from_u128(1),
        caller: "keystone:4f1f".into(),
        user: Some("alice@Default".into()),
        client: Some("203.0.113.7".into()),
        access: Access::View,
        no_clipboard: true,
        label: Some("for the auditor".into()),
        ..Description::default()
    };
    let reason =
        EndReason::new(EndCode::EndedByOperator).with_words("Maintenance.").by("api_token:ops");
    let session = Session {
        id: Uuid::from_u128(2),
        gateway: "envoy-1".into(),
        worker: Uuid::from_u128(3),
        opened_at: time(1_000_000),
        description,
        traffic: Traffic {
            from_browser: 5,
            to_browser: 7,
            last_message_at: Some(1_060_000),
            last_input_at: None,
        },
        ending: Some(Arc::new(reason)),
        known_since: None,
        input_known_since: tokio::time::Instant::now(),
    };
    SessionEvent { session: Arc::new(session), change, reported_here }
}

#[tokio::test]
async fn each_end_has_one_record_on_the_authority_that_was_told_of_it() {
    let it = Fixture::new();
    let path = it.path("audit.jsonl");
    it.write_to(&path, false);
    let (sender, receiver) = unbounded_channel();
    let ended = |cause: &str| SessionChange::Ended { at: time(1_061_500), cause: cause.to_owned() };
    for (here, change) in [
        (true, SessionChange::Opened { resumed: false }),
        (false, SessionChange::Opened { resumed: false }),
        (true, SessionChange::Opened { resumed: true }),
        (true, SessionChange::Ordered),
        (false, SessionChange::Ordered),
        (true, ended("ordered")),
        (false, ended("ordered")),
        (true, ended("worker_gone")),
    ] {
        sender.send([session(here, change)].into()).unwrap();
    }
    drop(sender);
    it.trail.follow(receiver).await;
    it.trail.stop().await;
    let told = events(&path);
    assert_eq!(
        told[1..5],
        ["session_opened", "session_end_ordered", "session_ended", "session_ended"]
    );
    let records = records(&path);
    let text = |index: usize, field: &str| records[index][field].as_str().map(str::to_owned);
    for record in &records[1..5] {
        assert_eq!(record["caller"], "keystone:4f1f");
        assert_eq!((&record["access"], &record["clipboard"]), (&"view".into(), &false.into()));
        assert_eq!(record["label"], "for the auditor");
        assert_eq!(record["session"], Uuid::from_u128(2).to_string());
        assert!(
            !record.to_string().contains(&Uuid::from_u128(3).to_string()),
            "the worker's secret"
        );
    }
    assert_eq!(text(1, "opened_at").unwrap(), "1970-01-01T00:16:40.000Z");
    assert_eq!(
        (text(2, "by").unwrap(), text(2, "reason").unwrap()),
        ("api_token:ops".to_owned(), "Maintenance.".to_owned())
    );
    assert_eq!(text(3, "cause").unwrap(), "ended_by_operator");
    assert_eq!(text(3, "by").unwrap(), "api_token:ops");
    assert_eq!(records[3]["duration_seconds"], 61.5);
    assert_eq!(
        (&records[3]["bytes_from_browser"], &records[3]["bytes_to_browser"]),
        (&5.into(), &7.into())
    );
    assert_eq!(text(3, "last_message_at").unwrap(), "1970-01-01T00:17:40.000Z");
    assert_eq!(text(3, "last_input_at"), None);
    // The order did not cause it.
    assert_eq!((text(4, "cause").unwrap(), text(4, "by")), ("worker_gone".to_owned(), None));
}
