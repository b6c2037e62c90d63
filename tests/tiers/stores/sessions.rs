//! The register of live sessions on stores that several authorities share: its journal, and what becomes of sessions when
//! the store goes, comes back, loses everything or fails over. No authority process: the authority's types are called.

use crate::fixture::{group_server, memcached, redis, redis_server};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vncgate_api::{EndedSession, OpenedSession, SessionReply, SessionReport, Traffic};
use vncgate_authority::sessions::{
    Description, EndCode, EndReason, MemcachedJournal, Position, RedisJournal, ReportError,
    SessionChange, SessionJournal, Sessions,
};
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::{RedisGroup, Store};
use vncgate_test_support::wait::{SLACK, within};

/// As the authority has it, but for a machine that is busy with a build.
const TIMEOUT: Duration = Duration::from_secs(2);

type Journal = Arc<dyn SessionJournal>;

/// A journal, for as many authorities as the test has.
macro_rules! on_each_store {
    ($($test:ident)*) => {
        mod on_memcached {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                let store = super::Store::memcached(&super::Run::new("sessions-memcached")).await;
                super::$test(&|| super::on_memcached(&store)).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                let store = super::Store::redis(&super::Run::new("sessions-redis")).await;
                super::$test(&|| super::on_redis(&store)).await;
            })*
        }
        mod on_cluster {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                let run = super::Run::new("sessions-cluster");
                let group = super::RedisGroup::cluster(&run, None).await;
                super::$test(&|| super::on_group(&group)).await;
            })*
        }
    };
}

on_each_store! {
    all_who_read_get_every_entry_in_one_order
    who_begins_or_was_stopped_is_told_that_entries_were_missed
    large_entries_are_read
    every_authority_sees_and_ends_sessions_within_two_seconds
    ten_thousand_sessions_open_and_end_in_a_storm
}

fn on_memcached(store: &Store) -> Journal {
    Arc::new(MemcachedJournal::new(Arc::new(memcached(store, TIMEOUT))))
}

fn on_redis(store: &Store) -> Journal {
    Arc::new(RedisJournal::new(Arc::new(redis(store, TIMEOUT))))
}

fn on_group(group: &RedisGroup) -> Journal {
    Arc::new(RedisJournal::new(Arc::new(redis_server(group_server(group), TIMEOUT))))
}

/// An authority's register, kept true until the result is dropped.
struct Authority {
    sessions: Arc<Sessions>,
    running: tokio::task::JoinHandle<()>,
}

impl Authority {
    /// Joins the others, and waits until it has asked all workers for their sessions.
    async fn on(journal: Journal) -> Self {
        let sessions = Arc::new(Sessions::new(Some(journal), Arc::default()));
        let running = Arc::clone(&sessions);
        let running = tokio::spawn(async move { running.run().await });
        let authority = Self { sessions, running };
        // Its own entry is answered when it has read all that was there before, and has asked.
        let mut worker = Worker::new();
        let report = worker.report();
        within("the journal is read", worker.call(&authority, report)).await.expect("an answer");
        authority
    }

    fn live(&self) -> HashSet<Uuid> {
        self.sessions.live().iter().map(|session| session.id).collect()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// An Envoy worker: what of it the register sees.
struct Worker {
    name: Option<String>,
    live: Vec<Uuid>,
}

impl Worker {
    const fn new() -> Self {
        Self { name: None, live: Vec::new() }
    }

    fn report(&self) -> SessionReport<'static> {
        let worker = self.name.clone().map(Into::into);
        SessionReport { worker, gateway: "envoy".into(), ..SessionReport::default() }
    }

    async fn call(
        &mut self,
        to: &Authority,
        report: SessionReport<'_>,
    ) -> Result<SessionReply, ReportError> {
        let reply = to.sessions.report(report, &CancellationToken::new()).await?;
        self.name = Some(reply.worker.clone());
        Ok(reply)
    }

    async fn open(&mut self, to: &Authority, count: usize) -> Vec<Uuid> {
        let new: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
        self.live.extend(&new);
        let opened = new.iter().copied().map(opened).collect();
        let report = SessionReport { opened, ..self.report() };
        self.call(to, report).await.expect("the report is taken");
        new
    }

    async fn end(&mut self, to: &Authority, sessions: &[Uuid]) {
        self.live.retain(|live| !sessions.contains(live));
        let ended = sessions.iter().copied().map(ended).collect();
        let report = SessionReport { ended, ..self.report() };
        self.call(to, report).await.expect("the report is taken");
    }

    /// Calls as the filter does until the authority asks for all sessions, and reports them.
    async fn report_anew_when_asked(&mut self, to: &Authority) {
        loop {
            let report = SessionReport { wait_seconds: 20, ..self.report() };
            match self.call(to, report).await {
                Ok(reply) if reply.restart => break,
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        self.report_anew(to).await;
    }

    async fn report_anew(&mut self, to: &Authority) {
        let opened = self.live.iter().copied().map(opened).collect();
        let report = SessionReport { restart: true, opened, ..self.report() };
        self.call(to, report).await.expect("the report is taken");
    }
}

fn opened(session: Uuid) -> OpenedSession<'static> {
    let description = Description {
        instance: Uuid::from_u128(1),
        machine: Some("web-1".into()),
        vcenter: "vcenter-a.example.com".into(),
        host: "esx-1.example.com".into(),
        caller: "keystone:4f1f8c1b2a7d4e0c9b3a5d6e7f809102".into(),
        user: Some("alice@Default".into()),
        project: Some("8d2f3a4b5c6d7e8f901a2b3c4d5e6f70".into()),
        client: Some("203.0.113.7".into()),
        target: Some("10.0.0.5:5901".parse().expect("an address")),
        ..Description::default()
    };
    OpenedSession {
        session: session.to_string().into(),
        opened_at: 1,
        description: description.to_text().into(),
        traffic: Traffic::default(),
        known: false,
    }
}

fn ended(session: Uuid) -> EndedSession<'static> {
    let session = session.to_string().into();
    EndedSession { session, ended_at: 2, cause: "ordered".into(), traffic: Traffic::default() }
}

async fn read_all(journal: &Journal, position: &mut Position) -> (Vec<String>, bool) {
    let (mut entries, mut missed) = (Vec::new(), false);
    loop {
        let read = journal.read(Some(position)).await.expect("the store answers");
        entries.extend(read.entries);
        missed |= read.missed;
        *position = read.position;
        if !read.more {
            return (entries, missed);
        }
    }
}

async fn all_who_read_get_every_entry_in_one_order(journal: &dyn Fn() -> Journal) {
    const WRITERS: usize = 8;
    const ENTRIES: usize = 50;
    let (one, other) = (journal(), journal());
    let begin = one.read(None).await.unwrap();
    assert!(begin.missed && begin.entries.is_empty() && !begin.more);
    let write = |writer: usize| {
        let journal = if writer.is_multiple_of(2) { &one } else { &other };
        async move {
            for number in 0..ENTRIES {
                journal.append(format!("{writer}-{number}-\"ü\"\r\n")).await.unwrap();
            }
        }
    };
    let reading = async {
        let (mut position, mut all) = (begin.position.clone(), Vec::new());
        while all.len() < WRITERS * ENTRIES {
            let (entries, missed) = read_all(&other, &mut position).await;
            assert!(!missed);
            all.extend(entries);
        }
        all
    };
    let (_, meanwhile) =
        within("all entries", async { tokio::join!(join_all((0..WRITERS).map(write)), reading) })
            .await;
    let mut position = begin.position;
    let (afterwards, missed) = read_all(&one, &mut position).await;
    assert!(!missed);
    assert_eq!(meanwhile, afterwards);
    assert_eq!(afterwards.iter().collect::<HashSet<_>>().len(), WRITERS * ENTRIES);
    for writer in 0..WRITERS {
        let own: Vec<&String> =
            afterwards.iter().filter(|entry| entry.starts_with(&format!("{writer}-"))).collect();
        let sorted = (0..ENTRIES).map(|number| format!("{writer}-{number}-\"ü\"\r\n"));
        assert!(own.into_iter().eq(sorted.collect::<Vec<_>>().iter()), "in the order of writing");
    }
    assert_eq!(read_all(&one, &mut position).await, (Vec::new(), false));
}

async fn who_begins_or_was_stopped_is_told_that_entries_were_missed(journal: &dyn Fn() -> Journal) {
    let journal = journal();
    let mut position = journal.read(None).await.unwrap().position;
    journal.append("a".to_owned()).await.unwrap();
    assert_eq!(read_all(&journal, &mut position).await, (vec!["a".to_owned()], false));
    let mut late = position.clone();
    journal.append("b".to_owned()).await.unwrap();
    let mut current = position;
    assert_eq!(read_all(&journal, &mut current).await, (vec!["b".to_owned()], false));
    // Longer than an entry is kept, while nothing is written: who has read the last one has missed nothing.
    sleep(Duration::from_secs(17)).await;
    assert_eq!(read_all(&journal, &mut current).await, (Vec::new(), false));
    journal.append("c".to_owned()).await.unwrap();
    assert_eq!(read_all(&journal, &mut current).await, (vec!["c".to_owned()], false));
    // One who has not read it has.
    let missed = async {
        let mut told = false;
        while !told {
            told = read_all(&journal, &mut late).await.1;
        }
    };
    within("entries are missed", missed).await;
    assert_eq!(read_all(&journal, &mut late).await, (Vec::new(), false));
}

async fn large_entries_are_read(journal: &dyn Fn() -> Journal) {
    let journal = journal();
    let mut position = journal.read(None).await.unwrap().position;
    let large: Vec<String> =
        (0..20).map(|number| format!("{number}{}", "\"x".repeat(150 * 1024))).collect();
    for entry in &large {
        journal.append(entry.clone()).await.unwrap();
    }
    assert_eq!(read_all(&journal, &mut position).await, (large, false));
}

async fn every_authority_sees_and_ends_sessions_within_two_seconds(journal: &dyn Fn() -> Journal) {
    let (one, other) = tokio::join!(Authority::on(journal()), Authority::on(journal()));
    let mut worker = Worker::new();
    let opened = Instant::now();
    let session = worker.open(&one, 1).await[0];
    while !other.live().contains(&session) {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(opened.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", opened.elapsed());

    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    let sessions = Arc::clone(&one.sessions);
    let call = tokio::spawn(async move {
        sessions.report(held, &CancellationToken::new()).await.map(|reply| reply.orders.len())
    });
    sleep(Duration::from_millis(700)).await;
    let ordered = Instant::now();
    let reason = EndReason::new(EndCode::EndedByOperator);
    assert!(other.sessions.end(session, reason).await.unwrap());
    assert_eq!(call.await.unwrap().unwrap(), 1);
    assert!(ordered.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", ordered.elapsed());

    let (mut told_one, mut told_other) = (one.sessions.subscribe(), other.sessions.subscribe());
    worker.end(&other, &[session]).await;
    while one.live().contains(&session) {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(other.live().is_empty());
    let (one, other) = (told_one.recv().await.unwrap(), told_other.recv().await.unwrap());
    let ([one], [other]) = (&*one, &*other) else { panic!("{one:?}, {other:?}") };
    assert!(!one.reported_here && other.reported_here);
    assert!(matches!(one.change, SessionChange::Ended { .. }) && one.change == other.change);
}

/// 2,000 openings a second for five seconds by four workers, each with one report at a time.
async fn ten_thousand_sessions_open_and_end_in_a_storm(journal: &dyn Fn() -> Journal) {
    const WORKERS: usize = 4;
    const PER_REPORT: usize = 200;
    let (one, other) = tokio::join!(Authority::on(journal()), Authority::on(journal()));
    let authorities = [&one, &other];
    let begun = Instant::now();
    let storm = |number: usize| async move {
        let mut worker = Worker::new();
        let mut due = tokio::time::interval(Duration::from_millis(400));
        for _ in 0..10_000 / WORKERS / PER_REPORT {
            due.tick().await;
            worker.open(authorities[number % 2], PER_REPORT).await;
        }
        worker.open(authorities[number % 2], 2500 % PER_REPORT).await;
        worker
    };
    let mut workers = join_all((0..WORKERS).map(storm)).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5) + SLACK * 2, "{took:?}");
    let both = async {
        while authorities.iter().any(|authority| authority.live().len() < 10_000) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = Instant::now();
    within("both see them", both).await;
    assert!(waited.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", waited.elapsed());

    // All of them end in the same second.
    let ends = workers.iter_mut().enumerate().map(|(number, worker)| async move {
        for part in std::mem::take(&mut worker.live).chunks(500) {
            worker.end(authorities[number % 2], part).await;
        }
    });
    join_all(ends).await;
    let none = async {
        while authorities.iter().any(|authority| !authority.live().is_empty()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = Instant::now();
    within("none is left", none).await;
    assert!(waited.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", waited.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memcached_that_loses_everything_has_all_sessions_again() {
    let store = Store::memcached(&Run::new("sessions-memcached")).await;
    a_store_comes_back_empty(store, on_memcached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loses_everything_has_all_sessions_again() {
    let store = Store::redis(&Run::new("sessions-redis")).await;
    a_store_comes_back_empty(store, on_redis).await;
}

async fn a_store_comes_back_empty(mut store: Store, journal: fn(&Store) -> Journal) {
    let (one, other) = tokio::join!(Authority::on(journal(&store)), Authority::on(journal(&store)));
    let mut worker = Worker::new();
    worker.open(&one, 10).await;
    let mut events = one.sessions.subscribe();
    store.kill();
    let refused = one.sessions.report(worker.report(), &CancellationToken::new()).await;
    assert!(matches!(refused, Err(ReportError::Unavailable(_))));
    // Longer than a worker may be silent.
    sleep(Duration::from_secs(27)).await;
    assert_eq!((one.live().len(), events.try_recv().ok()), (10, None));
    let reason = EndReason::new(EndCode::EndedByOperator);
    assert!(one.sessions.end(worker.live[0], reason).await.is_err());

    store.start_again().await;
    within("the worker is asked", worker.report_anew_when_asked(&other)).await;
    // Beyond the time in which those that were left out would be over.
    sleep(Duration::from_secs(12)).await;
    let expected: HashSet<Uuid> = worker.live.iter().copied().collect();
    assert_eq!((one.live(), other.live()), (expected.clone(), expected));
    assert_eq!(events.try_recv().ok(), None, "nothing became of any session");
}

/// A primary that dies may take its last entries with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_no_session() {
    let run = Run::new("sessions-sentinel");
    let mut group = RedisGroup::with_sentinels(&run, None).await;
    let (one, other) =
        tokio::join!(Authority::on(on_group(&group)), Authority::on(on_group(&group)));
    let mut worker = Worker::new();
    worker.open(&one, 10).await;
    group.primary().kill();
    let failing_over = async {
        while worker.call(&other, worker.report()).await.is_err() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    within("the failover", failing_over).await;
    worker.open(&other, 10).await;
    let expected: HashSet<Uuid> = worker.live.iter().copied().collect();
    let both = async {
        while [&one, &other].iter().any(|authority| authority.live() != expected) {
            // As the filter does. What was lost is reported anew.
            if worker.call(&other, worker.report()).await.is_ok_and(|reply| reply.restart) {
                worker.report_anew(&other).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    within("both see all of them", both).await;
}
