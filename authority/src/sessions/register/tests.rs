use super::*;
use crate::sessions::session::EndCode;

const WORKER: Uuid = Uuid::from_u128(0xaaaa);
const OTHER: Uuid = Uuid::from_u128(0xbbbb);

fn session(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Sessions whose numbers differ by ten have the same.
fn token(number: u128) -> TokenHash {
    TokenHash::of(&(number % 10).to_string())
}

fn entry_id() -> Uuid {
    Uuid::new_v4()
}

fn opened(number: u128) -> Opened {
    let description = Description {
        instance: Uuid::from_u128(1 + number % 2),
        caller: "api_token:portal".into(),
        token_id: Some(token(number)),
        ..Description::default()
    };
    Opened {
        session: session(number),
        opened_at: milliseconds(SystemTime::now()),
        description: description.to_text(),
        traffic: Traffic::default(),
        known: false,
    }
}

fn ended(number: u128) -> Ended {
    let traffic = Traffic { to_browser: 7, ..Traffic::default() };
    Ended { session: session(number), ended_at: 1, cause: "browser_closed".to_owned(), traffic }
}

fn report(worker: Uuid) -> Report {
    Report { worker, gateway: "envoy-1".to_owned(), ..Report::default() }
}

fn bytes(from_browser: u64) -> Traffic {
    Traffic { from_browser, ..Traffic::default() }
}

/// A register, and a clock that stands still until it is told to go on.
struct Tested {
    register: Register,
    now: Now,
}

impl Tested {
    fn new() -> Self {
        Self { register: Register::default(), now: Now::get() }
    }

    fn with(sessions: impl IntoIterator<Item = u128>) -> Self {
        let mut tested = Self::new();
        let opened = sessions.into_iter().map(opened).collect();
        tested.apply(Entry::Report(Report { first: true, opened, ..report(WORKER) }));
        tested
    }

    fn apply(&mut self, entry: Entry) -> Vec<Change> {
        self.register.apply(entry_id(), entry, self.now)
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now.instant += Duration::from_secs(seconds);
        self.now.system += Duration::from_secs(seconds);
        self
    }

    fn end(&mut self, sessions: &[u128]) -> Vec<Change> {
        let sessions = sessions.iter().copied().map(session).collect();
        self.apply(Entry::End { sessions, reason: EndReason::new(EndCode::EndedByOperator) })
    }

    /// Applies what time has brought about.
    fn pass(&mut self) -> Vec<Change> {
        let due = self.register.due(self.now.instant);
        due.into_iter().flat_map(|entry| self.apply(entry)).collect()
    }

    fn told(&mut self, worker: Uuid) -> Told {
        self.register.tell(worker, self.now.instant)
    }

    fn live(&self) -> Vec<u128> {
        let mut live: Vec<u128> =
            self.register.live().iter().map(|session| session.id.as_u128()).collect();
        live.sort_unstable();
        live
    }

    /// Every index agrees with the sessions.
    fn assert_consistent(&self) {
        let sessions: BTreeSet<Uuid> = self.register.sessions.keys().copied().collect();
        let of = |index: &mut dyn Iterator<Item = &Uuid>| index.copied().collect::<BTreeSet<_>>();
        assert_eq!(of(&mut self.register.by_instance.0.iter().map(|(_, id)| id)), sessions);
        assert_eq!(of(&mut self.register.by_caller.0.iter().map(|(_, id)| id)), sessions);
        assert_eq!(of(&mut self.register.by_token.0.iter().map(|(_, id)| id)), sessions);
        let workers = self.register.workers.values();
        assert_eq!(of(&mut workers.clone().flat_map(|worker| &worker.sessions)), sessions);
        for worker in workers {
            assert!(worker.ordered.iter().all(|id| worker.sessions.contains(id)));
        }
    }
}

fn causes(changes: &[Change]) -> Vec<(u128, &str)> {
    let cause = |(session, change): &'_ Change| match change {
        SessionChange::Ended { cause, .. } => Some((session.id.as_u128(), cause.clone())),
        _ => None,
    };
    let mut causes: Vec<(u128, String)> = changes.iter().filter_map(cause).collect();
    causes.sort_unstable();
    causes.into_iter().map(|(id, cause)| (id, &*cause.leak())).collect()
}

#[test]
fn a_session_is_listed_from_its_opening_to_its_end() {
    let mut tested = Tested::new();
    let first = Report { first: true, opened: vec![opened(1), opened(2)], ..report(WORKER) };
    let changes = tested.apply(Entry::Report(first));
    assert!(
        changes.iter().all(|(_, change)| *change == SessionChange::Opened { resumed: false }),
        "{changes:?}"
    );
    assert_eq!(tested.live(), [1, 2]);
    assert_eq!(tested.register.of_instance(Uuid::from_u128(2)).len(), 1);
    assert_eq!(tested.register.of_caller("api_token:portal").len(), 2);
    tested.assert_consistent();

    let active = vec![(session(1), bytes(5))];
    tested.apply(Entry::Report(Report { active, ..report(WORKER) }));
    assert_eq!(tested.register.get(session(1)).unwrap().traffic.from_browser, 5);

    let changes = tested.apply(Entry::Report(Report { ended: vec![ended(1)], ..report(WORKER) }));
    let [(gone, SessionChange::Ended { at, cause })] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((gone.id, &**cause, *at), (session(1), "browser_closed", time(1)));
    assert_eq!((gone.traffic.from_browser, gone.traffic.to_browser), (5, 7));
    assert_eq!(tested.live(), [2]);
    tested.assert_consistent();
    assert!(!tested.told(WORKER).restart);
}

#[test]
fn what_is_reported_twice_or_late_changes_nothing() {
    let mut tested = Tested::with([1]);
    let again = Entry::Report(Report { opened: vec![opened(1)], ..report(WORKER) });
    assert_eq!(tested.apply(again.clone()), []);
    let active = |bytes| vec![(session(1), self::bytes(bytes))];
    tested.apply(Entry::Report(Report { active: active(9), ..report(WORKER) }));
    tested.apply(Entry::Report(Report { active: active(3), ..report(WORKER) }));
    assert_eq!(tested.register.get(session(1)).unwrap().traffic.from_browser, 9);
    let end = Entry::Report(Report { ended: vec![ended(1)], ..report(WORKER) });
    assert_eq!(causes(&tested.apply(end.clone())), [(1, "browser_closed")]);
    assert_eq!(tested.apply(end), []);

    // The report of its opening overtook by that of its end, as one that waited for the store.
    assert_eq!(tested.apply(again.clone()), []);
    tested.apply(Entry::Report(Report { active: active(3), ..report(WORKER) }));
    assert_eq!(tested.live(), []);
    assert!(!tested.told(WORKER).restart);
    let never_known = Entry::Report(Report { ended: vec![ended(2)], ..report(WORKER) });
    tested.apply(never_known);
    tested.apply(Entry::Report(Report { opened: vec![opened(2)], ..report(WORKER) }));
    assert_eq!(tested.live(), []);
    tested.assert_consistent();

    // What is remembered of sessions that have ended does not grow.
    tested.after(61).apply(Entry::Resend);
    assert!(tested.register.ended.known.is_empty() && tested.register.ended.in_order.is_empty());
}

#[test]
fn no_worker_reports_for_another_one() {
    let mut tested = Tested::with([1]);
    let forged = Report {
        first: true,
        opened: vec![opened(1)],
        active: vec![(session(1), bytes(u64::MAX))],
        ended: vec![ended(1)],
        ..report(OTHER)
    };
    assert_eq!(tested.apply(Entry::Report(forged)), []);
    let session = tested.register.get(session(1)).unwrap();
    assert_eq!((session.worker, session.traffic.from_browser), (WORKER, 0));
    assert!(!tested.told(OTHER).restart, "asking again would not help");
    tested.end(&[1]);
    assert_eq!((tested.told(OTHER).orders.len(), tested.told(WORKER).orders.len()), (0, 1));
    tested.assert_consistent();
}

#[test]
fn an_order_is_repeated_until_the_session_has_ended_and_the_first_reason_counts() {
    let mut tested = Tested::with([1, 2]);
    let changes = tested.end(&[1, 3]);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1, SessionChange::Ordered);
    let expected = Order::End {
        session: session(1).to_string(),
        code: 1001,
        reason: "ended_by_operator: An operator ended this session.".to_owned(),
    };
    let told = tested.told(WORKER);
    assert_eq!(told.orders, std::slice::from_ref(&expected));
    let told = tested.told(WORKER);
    assert_eq!(told.orders, [], "not at once: the worker is at it");
    assert_eq!(told.repeat_at, Some(tested.now.instant + ORDER_REPEATED));
    let other = EndReason::new(EndCode::TokenRevoked);
    assert_eq!(tested.apply(Entry::End { sessions: vec![session(1)], reason: other }), []);
    tested.after(1);
    assert_eq!(tested.told(WORKER).orders, [expected]);

    let cause = "ordered".to_owned();
    let ended = vec![Ended { cause, ..ended(1) }];
    let changes = tested.apply(Entry::Report(Report { ended, ..report(WORKER) }));
    let ending = changes[0].0.ending.as_deref().map(|reason| reason.code);
    assert_eq!((causes(&changes), ending), (vec![(1, "ordered")], Some(EndCode::EndedByOperator)));
    tested.after(1);
    let told = tested.told(WORKER);
    assert!(told.orders.is_empty() && told.repeat_at.is_none());
    assert_eq!(tested.end(&[1]), [], "it is gone");
}

#[test]
fn ten_thousand_sessions_end_at_once() {
    let mut tested = Tested::with(1..=10_000);
    let all: Vec<u128> = (1..=10_000).collect();
    assert_eq!(tested.end(&all).len(), 10_000);
    let mut told = HashSet::new();
    for _ in 0..10_000 / ORDERS_IN_REPLY {
        for Order::End { session, .. } in tested.told(WORKER).orders {
            assert!(told.insert(session), "each is told once");
        }
    }
    assert_eq!(told.len(), 10_000);
    let ended = (1..=10_000).map(ended).collect();
    let changes = tested.apply(Entry::Report(Report { ended, ..report(WORKER) }));
    assert_eq!(changes.len(), 10_000);
    assert_eq!(tested.live(), []);
    tested.assert_consistent();
}

#[test]
fn a_worker_that_is_not_heard_of_takes_its_sessions_with_it() {
    let mut tested = Tested::with([1, 2]);
    tested.apply(Entry::Report(Report { first: true, opened: vec![opened(3)], ..report(OTHER) }));
    assert_eq!(tested.after(24).pass(), []);
    tested.apply(Entry::Report(report(OTHER)));
    tested.after(1);
    let due = tested.register.due(tested.now.instant);
    assert_eq!(due.len(), 1);
    // Its report came first after all.
    tested.apply(Entry::Report(report(WORKER)));
    assert_eq!(tested.apply(due.into_iter().next().unwrap()), []);
    assert_eq!(tested.live(), [1, 2, 3]);

    tested.after(24).apply(Entry::Report(report(OTHER)));
    assert_eq!(causes(&tested.after(1).pass()), [(1, WORKER_GONE), (2, WORKER_GONE)]);
    assert_eq!(tested.live(), [3]);
    tested.assert_consistent();

    // It was only slow.
    tested.apply(Entry::Report(report(WORKER)));
    assert!(tested.told(WORKER).restart);
    let all = Report { restart: true, opened: vec![opened(1), opened(2)], ..report(WORKER) };
    tested.apply(Entry::Report(all));
    assert!(!tested.told(WORKER).restart);
    assert_eq!(tested.live(), [1, 2, 3]);
}

#[test]
fn a_worker_that_reports_anew_loses_what_it_leaves_out_and_nothing_else() {
    let mut tested = Tested::with([1, 2, 3, 4]);
    tested.apply(Entry::Resend);
    assert!(tested.told(WORKER).restart);
    let known_before = Opened { known: true, ..opened(5) };
    let restart = Report { restart: true, opened: vec![opened(1)], ..report(WORKER) };
    tested.apply(Entry::Report(restart));
    let rest = Report {
        opened: vec![opened(2), known_before, opened(6)],
        active: vec![(session(3), bytes(1))],
        ..report(WORKER)
    };
    let changes = tested.apply(Entry::Report(rest));
    let resumed: Vec<_> = changes.iter().map(|(session, change)| (session.id, change)).collect();
    let expected = [
        (session(5), &SessionChange::Opened { resumed: true }),
        (session(6), &SessionChange::Opened { resumed: false }),
    ];
    assert_eq!(resumed, expected);
    assert_eq!(tested.live(), [1, 2, 3, 4, 5, 6], "none is gone before all are reported");
    assert_eq!(tested.after(9).pass(), []);
    assert_eq!(causes(&tested.after(1).pass()), [(4, NOT_RESUMED)]);
    assert_eq!(tested.live(), [1, 2, 3, 5, 6]);
    assert_eq!(tested.pass(), []);
    tested.assert_consistent();
}

#[test]
fn a_worker_that_begins_anew_twice_has_the_whole_time_again() {
    let mut tested = Tested::with([1]);
    tested.apply(Entry::Report(Report { restart: true, ..report(WORKER) }));
    tested.after(10);
    let due = tested.register.due(tested.now.instant);
    tested.apply(Entry::Report(Report { restart: true, ..report(WORKER) }));
    let changes: Vec<Change> = due.into_iter().flat_map(|entry| tested.apply(entry)).collect();
    assert_eq!(changes, []);
    assert_eq!(tested.live(), [1]);
}

#[test]
fn a_worker_that_reports_of_unknown_sessions_is_asked_for_all_of_them_now_and_then() {
    let mut tested = Tested::with([1]);
    let unknown = Entry::Report(Report { active: vec![(session(9), bytes(1))], ..report(WORKER) });
    tested.apply(unknown.clone());
    assert!(tested.told(WORKER).restart);
    tested.apply(Entry::Report(Report {
        restart: true,
        opened: vec![opened(1)],
        ..report(WORKER)
    }));
    tested.apply(unknown.clone());
    assert!(!tested.told(WORKER).restart, "not again and again");
    tested.after(5).apply(unknown);
    assert!(tested.told(WORKER).restart);
    assert!(tested.told(OTHER).restart, "a worker that nothing is known of");
}

#[test]
fn no_worker_is_gone_because_the_journal_was_not_read() {
    let mut tested = Tested::with([1]);
    tested.apply(Entry::Report(Report { restart: true, ..report(WORKER) }));
    tested.after(3600);
    tested.register.postpone(tested.now.instant);
    assert_eq!(tested.pass(), []);
    assert_eq!(causes(&tested.after(10).pass()), [(1, NOT_RESUMED)]);
    assert_eq!(tested.after(14).pass(), []);
    tested.after(1).pass();
    assert_eq!(tested.register.workers(), 0);
}

#[test]
fn what_a_report_says_wrongly_does_no_harm() {
    let mut tested = Tested::new();
    let odd = |number, opened_at, description: &str| {
        let description = description.to_owned();
        Opened { opened_at, description, ..opened(number) }
    };
    let huge = "x".repeat(60_000);
    let opened =
        vec![odd(1, u64::MAX, ""), odd(2, 0, "{"), odd(3, 1, &huge), odd(4, 1, "\"\u{1b}\"")];
    let gateway = "\u{1b}]0;".repeat(10_000);
    let first = Report { first: true, gateway, opened, ..report(WORKER) };
    tested.apply(Entry::Report(first));
    assert_eq!(tested.live(), [1, 2, 3, 4], "an open console is listed, whatever is said of it");
    let session = tested.register.get(session(1)).unwrap();
    assert_eq!(session.description, Description::default());
    assert!(
        milliseconds(session.opened_at) <= milliseconds(tested.now.system),
        "not in the future"
    );
    assert!(session.gateway.chars().count() <= GATEWAY_LIMIT + 1);
    assert!(!session.gateway.contains('\u{1b}'));
    for (number, cause) in [(1, ""), (2, "Ünknown"), (3, "a b"), (4, &*huge)] {
        let ended = vec![Ended { cause: cause.to_owned(), ended_at: u64::MAX, ..ended(number) }];
        let changes = tested.apply(Entry::Report(Report { ended, ..report(WORKER) }));
        assert_eq!(causes(&changes), [(number, "unknown")]);
    }
    tested.assert_consistent();
}

#[test]
fn workers_and_sessions_are_bounded() {
    let mut tested = Tested::new();
    for number in 0..=MOST_WORKERS as u128 {
        tested.apply(Entry::Report(Report { first: true, ..report(Uuid::from_u128(number)) }));
    }
    assert_eq!(tested.register.workers(), MOST_WORKERS);
    assert!(tested.told(Uuid::from_u128(MOST_WORKERS as u128)).restart);
    tested.after(25).pass();
    assert_eq!(tested.register.workers(), 0);

    let mut full = Tested::with(0..=MOST_SESSIONS as u128);
    assert_eq!(full.register.sessions.len(), MOST_SESSIONS);
    full.assert_consistent();
    let ended = (0..=MOST_SESSIONS as u128).map(ended).collect();
    full.apply(Entry::Report(Report { ended, ..report(WORKER) }));
    assert_eq!(full.live(), []);
    assert_eq!(full.register.ended.known.len(), MOST_SESSIONS);
    assert_eq!(full.register.ended.in_order.len(), MOST_SESSIONS);
}

#[test]
fn what_a_revoked_token_opens_ends_whenever_it_is_reported() {
    let mut tested = Tested::new();
    let open = |tested: &mut Tested, number| {
        let report = Report { opened: vec![opened(number)], first: true, ..report(WORKER) };
        tested.apply(Entry::Report(report))
    };
    let ordered = |tested: &mut Tested| {
        let mut sessions: Vec<_> = tested
            .told(WORKER)
            .orders
            .into_iter()
            .map(|Order::End { session, .. }| session)
            .collect();
        sessions.sort_unstable();
        sessions
    };
    open(&mut tested, 1);
    open(&mut tested, 2);
    let reason = EndReason::new(EndCode::TokenRevoked);
    let changes = tested.apply(Entry::Revoked { tokens: vec![token(1)], reason: reason.clone() });
    assert_eq!(changes.len(), 1);
    // Browsers that were let through before, and are reported after.
    let changes = open(&mut tested, 11);
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(changes[1].0.ending.as_deref(), Some(&reason));
    open(&mut tested, 12);
    assert_eq!(ordered(&mut tested), [session(1), session(11)].map(|id| id.to_string()));
    tested.assert_consistent();
    // By then no check from before is under way.
    tested.after(61);
    open(&mut tested, 21);
    tested.apply(Entry::Resend);
    assert_eq!(ordered(&mut tested), [session(1), session(11)].map(|id| id.to_string()));
}
