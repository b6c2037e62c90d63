use super::*;
use crate::traffic::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use vncgate_api::SessionReport;

const ACTIVITY: Activity =
    Activity { bytes: Bytes { from_browser: 1, to_browser: 2 }, has_new_input: false };

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(1_000_000.0 + seconds)
}

fn session(stream: u32) -> String {
    format!("session-{stream}")
}

fn open(reports: &mut Reports, stream: u32, now: Duration) {
    reports.open(stream, session(stream).into(), format!("who {stream}").into(), now);
}

fn close(reports: &mut Reports, stream: u32, now: Duration) {
    let cause = Some(EndCause::ConsoleClosed);
    reports.close(stream, Ended { activity: ACTIVITY, cause }, now);
}

fn nothing(_: u32) -> Option<Activity> {
    Some(Activity::default())
}

fn next(reports: &mut Reports, now: Duration) -> Option<(CallKind, SessionReport<'static>)> {
    let call = reports.next_call(now, nothing)?;
    Some((call.kind, read(&call)))
}

fn read(call: &Call) -> SessionReport<'static> {
    let body: &'static [u8] = call.body.clone().leak();
    serde_json::from_slice(body).expect("a report")
}

fn answer(restart: bool, orders: &[(&str, u32)]) -> Vec<u8> {
    let orders = orders.iter().map(|(reason, stream)| Order::End {
        session: session(*stream),
        code: 1001,
        reason: (*reason).to_owned(),
    });
    let reply = SessionReply { worker: "w".to_owned(), restart, orders: orders.collect() };
    serde_json::to_vec(&reply).expect("JSON")
}

fn ok(reports: &mut Reports, kind: CallKind, now: Duration) {
    let reply = answer(false, &[]);
    reports.handle_reply(kind, Reply::Answer { status: 200, body: &reply }, now);
}

/// Reports that have a name, one open session that was reported, and a poll under way.
fn settled() -> Reports {
    let mut reports = Reports::default();
    open(&mut reports, 1, seconds(0.0));
    let (_, hello) = next(&mut reports, seconds(0.05)).expect("a call for a name");
    assert_eq!((hello.worker, hello.opened.len()), (None, 0));
    ok(&mut reports, CallKind::Report, seconds(0.06));
    let (_, report) = next(&mut reports, seconds(0.06)).expect("a report");
    assert_eq!((report.worker.as_deref(), report.opened.len()), (Some("w"), 1));
    ok(&mut reports, CallKind::Report, seconds(0.07));
    let (kind, poll) = next(&mut reports, seconds(0.07)).expect("a poll");
    assert_eq!((kind, poll.wait_seconds), (CallKind::Poll, POLL_WAIT_SECONDS));
    assert_eq!(next(&mut reports, seconds(0.07)), None);
    reports
}

#[test]
fn a_worker_without_sessions_is_silent() {
    let mut reports = Reports::default();
    assert_eq!(next(&mut reports, seconds(100.0)), None);
    assert_eq!(reports.next_due(), None);
    let mut reports = settled();
    close(&mut reports, 1, seconds(1.0));
    assert_eq!(reports.next_due(), Some(seconds(1.05)));
    let (_, report) = next(&mut reports, seconds(1.05)).expect("a report");
    assert_eq!((report.opened.len(), report.ended.len()), (0, 1));
    assert_eq!(
        (&*report.ended[0].cause, report.ended[0].traffic.to_browser),
        ("console_closed", 2)
    );
    ok(&mut reports, CallKind::Report, seconds(1.06));
    ok(&mut reports, CallKind::Poll, seconds(20.0));
    assert_eq!(reports.next_due(), None);
    assert_eq!(next(&mut reports, seconds(100.0)), None);
}

#[test]
fn idle_sessions_cost_one_call_in_20_seconds() {
    let mut reports = settled();
    let mut calls = 0;
    let mut held_since = seconds(0.07);
    for step in 1..=2000 {
        let now = seconds(f64::from(step) / 10.0);
        if now >= held_since + Duration::from_secs(20) {
            ok(&mut reports, CallKind::Poll, now);
        }
        if let Some((kind, _)) = next(&mut reports, now) {
            assert_eq!(kind, CallKind::Poll);
            held_since = now;
            calls += 1;
        }
    }
    assert!(calls <= 10, "{calls} in 200 s");
}

#[test]
fn changes_wait_for_each_other_and_for_the_answer() {
    let mut reports = settled();
    for stream in 2..=301 {
        open(&mut reports, stream, seconds(1.0));
    }
    assert_eq!(next(&mut reports, seconds(1.04)), None);
    let (_, first) = next(&mut reports, seconds(1.05)).expect("a report");
    assert_eq!(first.opened.len(), SESSIONS_MAX);
    close(&mut reports, 250, seconds(1.06));
    assert_eq!(next(&mut reports, seconds(1.2)), None, "one at a time");
    ok(&mut reports, CallKind::Report, seconds(1.2));
    let (_, second) = next(&mut reports, seconds(1.2)).expect("at once");
    assert_eq!((second.opened.len(), second.ended.len()), (100, 1));
    let ended = second.opened.last().expect("a session");
    assert_eq!(ended.session, session(250), "an end that comes with its opening");
}

#[test]
fn what_sessions_do_is_reported_where_they_do_something() {
    let mut reports = settled();
    open(&mut reports, 2, seconds(1.0));
    next(&mut reports, seconds(1.05)).expect("a report");
    ok(&mut reports, CallKind::Report, seconds(1.05));
    let look = |stream| Some(if stream == 2 { ACTIVITY } else { Activity::default() });
    assert_eq!(reports.next_due(), Some(seconds(10.0)));
    let call = reports.next_call(seconds(10.0), look).expect("a report");
    let report = read(&call);
    assert_eq!((report.active.len(), report.opened.len()), (1, 0));
    assert_eq!(report.active[0].session, session(2));
    assert_eq!(report.active[0].traffic.last_message_at, Some(1_000_010_000));
    ok(&mut reports, CallKind::Report, seconds(10.1));
    assert_eq!(reports.next_call(seconds(20.0), look), None, "nothing new");
}

#[test]
fn orders_are_for_open_sessions() {
    let mut reports = settled();
    let reply = answer(false, &[("ended_by_operator: ", 1), ("session_idle: ", 7), ("again", 1)]);
    let reply = Reply::Answer { status: 200, body: &reply };
    let handled = reports.handle_reply(CallKind::Poll, reply, seconds(2.0));
    assert_eq!(handled.orders.len(), 1);
    assert_eq!(handled.orders[0].0, 1);
    assert_eq!(next(&mut reports, seconds(2.0)).map(|(kind, _)| kind), Some(CallKind::Poll));
    ok(&mut reports, CallKind::Poll, seconds(2.01));
    assert_eq!(next(&mut reports, seconds(2.02)), None, "not in a loop");
    assert!(next(&mut reports, seconds(2.05)).is_some());
}

#[test]
fn pauses_after_failures_stay_short() {
    let mut reports = settled();
    reports.handle_reply(CallKind::Poll, Reply::Failed, seconds(1.0));
    let mut now = seconds(1.0);
    for expected in [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0] {
        let due = reports.retry_due.expect("another try");
        assert!((due - now).abs_diff(Duration::from_secs_f64(expected)) < RETRY_MIN / 100);
        now = due;
        assert!(next(&mut reports, now).is_some());
        let garbage = Reply::Answer { status: 200, body: b"<html>" };
        assert!(reports.handle_reply(CallKind::Poll, garbage, now).failed);
    }
    assert_eq!(reports.take_notice(), Some(Notice::Failing(200)));
    let due = reports.retry_due.expect("another try");
    assert!(next(&mut reports, due).is_some());
    ok(&mut reports, CallKind::Poll, now);
    assert_eq!(reports.take_notice(), Some(Notice::Working));
}

#[test]
fn an_authority_without_reports_is_asked_rarely() {
    let mut reports = settled();
    let mut tries = 0;
    let unknown = Reply::Answer { status: 404, body: b"" };
    reports.handle_reply(CallKind::Poll, unknown, seconds(1.0));
    while let Some(due) = reports.next_due().filter(|due| *due < seconds(600.0)) {
        if let Some((kind, _)) = next(&mut reports, due) {
            reports.handle_reply(kind, unknown, due);
            tries += 1;
        }
    }
    assert!((30..45).contains(&tries), "{tries} in ten minutes");
}

#[test]
fn the_ends_that_are_kept_are_bounded() {
    let mut reports = settled();
    let count = u32::try_from(UNREPORTED_ENDS_MAX).expect("a small number") + 5;
    for stream in 2..2 + count {
        open(&mut reports, stream, seconds(1.0));
        close(&mut reports, stream, seconds(1.0));
    }
    assert_eq!(reports.ended.len(), UNREPORTED_ENDS_MAX);
    assert!(reports.opened.len() <= 2 * SESSIONS_MAX);
    assert_eq!((reports.take_forgotten(), reports.take_forgotten()), (5, 0));
}

#[test]
fn an_authority_that_asks_for_everything_again_and_again_is_not_told_in_a_loop() {
    let mut reports = settled();
    let reply = answer(true, &[]);
    let reply = Reply::Answer { status: 200, body: &reply };
    reports.handle_reply(CallKind::Poll, reply, seconds(1.0));
    let (mut calls, mut now) = (0, seconds(1.0));
    while now < seconds(11.0) {
        if let Some((kind, report)) = next(&mut reports, now) {
            assert!(report.restart && report.opened.iter().all(|opened| opened.known));
            reports.handle_reply(kind, reply, now);
            calls += 1;
        }
        now += Duration::from_millis(1);
    }
    assert!(calls < 12, "{calls} in ten seconds");
}

#[test]
fn a_clock_that_is_set_back_delays_nothing() {
    let mut reports = settled();
    open(&mut reports, 2, seconds(1.0));
    assert_eq!(next(&mut reports, seconds(-5000.0)), None);
    assert!(next(&mut reports, seconds(-5000.0 + 0.06)).is_some(), "after the usual delay");
}

/// An authority as `vncgate_api` describes it.
#[derive(Default)]
struct Authority {
    workers: HashMap<String, BTreeSet<String>>,
    names: u32,
    /// What the audit has.
    opened: BTreeSet<String>,
    ended: BTreeSet<String>,
}

impl Authority {
    fn handle(&mut self, report: &SessionReport<'_>) -> Vec<u8> {
        let known = report.worker.as_deref().filter(|name| self.workers.contains_key(*name));
        let Some(name) = known.map(str::to_owned) else {
            self.names += 1;
            let worker = format!("worker-{}", self.names);
            self.workers.insert(worker.clone(), BTreeSet::new());
            let restart = report.worker.is_some();
            assert!(restart || report.opened.is_empty());
            let reply = SessionReply { worker, restart, orders: Vec::new() };
            return serde_json::to_vec(&reply).expect("JSON");
        };
        let sessions = self.workers.get_mut(&name).expect("known");
        if report.restart {
            sessions.clear();
        }
        for opened in &report.opened {
            assert!(!opened.description.is_empty());
            assert!(!opened.known || self.opened.contains(&*opened.session));
            self.opened.insert(opened.session.to_string());
            if !self.ended.contains(&*opened.session) {
                sessions.insert(opened.session.to_string());
            }
        }
        for ended in &report.ended {
            assert!(self.opened.contains(&*ended.session), "an end without an opening");
            sessions.remove(&*ended.session);
            self.ended.insert(ended.session.to_string());
        }
        let reply = SessionReply { worker: name, restart: false, orders: Vec::new() };
        serde_json::to_vec(&reply).expect("JSON")
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Open,
    Close(prop::sample::Index),
    /// A call reaches the authority, and its answer the worker.
    Answer(bool),
    /// A call does not reach the authority.
    Fail(bool),
    /// An answer does not reach the worker.
    LoseAnswer(bool),
    /// The authority forgets everything.
    Restart,
    Wait(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Open),
        2 => any::<prop::sample::Index>().prop_map(Event::Close),
        4 => any::<bool>().prop_map(Event::Answer),
        1 => any::<bool>().prop_map(Event::Fail),
        1 => any::<bool>().prop_map(Event::LoseAnswer),
        1 => Just(Event::Restart),
        4 => (0_u16..3000).prop_map(Event::Wait),
    ]
}

/// A worker, the authority, and the calls that are under way.
#[derive(Default)]
struct World {
    reports: Reports,
    authority: Authority,
    calls: Vec<Call>,
    now: Duration,
}

impl World {
    fn send(&mut self) {
        while let Some(call) = self.reports.next_call(self.now, nothing) {
            assert!(self.calls.iter().all(|other| other.kind != call.kind), "one of each kind");
            self.calls.push(call);
        }
    }

    /// Takes a call that is under way: the first or the last.
    fn take(&mut self, first: bool) -> Option<Call> {
        let at = if first { 0 } else { self.calls.len().checked_sub(1)? };
        (at < self.calls.len()).then(|| self.calls.remove(at))
    }

    fn answer(&mut self, call: &Call) {
        let body = self.authority.handle(&read(call));
        let reply = Reply::Answer { status: 200, body: &body };
        self.reports.handle_reply(call.kind, reply, self.now);
    }
}

proptest! {
    #[test]
    fn in_the_end_the_authority_knows_what_is_open(
        events in prop::collection::vec(event(), 0..150),
    ) {
        let mut world = World { now: seconds(0.0), ..World::default() };
        let (mut open_streams, mut streams) = (Vec::new(), 0_u32);
        for event in events {
            match event {
                Event::Open => {
                    streams += 1;
                    open(&mut world.reports, streams, world.now);
                    open_streams.push(streams);
                }
                Event::Close(index) if !open_streams.is_empty() => {
                    let stream = open_streams.remove(index.index(open_streams.len()));
                    close(&mut world.reports, stream, world.now);
                }
                Event::Close(_) => {}
                Event::Answer(first) => {
                    if let Some(call) = world.take(first) {
                        world.answer(&call);
                    }
                }
                Event::Fail(first) => {
                    if let Some(call) = world.take(first) {
                        world.reports.handle_reply(call.kind, Reply::Failed, world.now);
                    }
                }
                Event::LoseAnswer(first) => {
                    if let Some(call) = world.take(first) {
                        world.authority.handle(&read(&call));
                        world.reports.handle_reply(call.kind, Reply::Failed, world.now);
                    }
                }
                Event::Restart => world.authority.workers.clear(),
                Event::Wait(milliseconds) => {
                    world.now += Duration::from_millis(milliseconds.into());
                }
            }
            world.send();
        }
        // From here on everything works: within 5 s the authority knows.
        let end = world.now + Duration::from_secs(5);
        while world.now < end {
            while let Some(call) = world.take(true) {
                world.answer(&call);
                if call.kind == CallKind::Poll {
                    world.now += Duration::from_millis(1);
                }
                world.send();
            }
            world.now += Duration::from_millis(50);
            world.send();
        }
        let known: Vec<String> = world.authority.workers.values().flatten().cloned().collect();
        let expected: BTreeSet<String> = open_streams.iter().map(|it| session(*it)).collect();
        prop_assert_eq!(known.iter().cloned().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(known.len(), open_streams.len(), "none is there twice");
        let all: BTreeSet<String> = (1..=streams).map(session).collect();
        prop_assert_eq!(&world.authority.opened, &all);
        prop_assert_eq!(world.authority.ended.len(), all.len() - open_streams.len());
    }
}
