//! Limits on a register whose sessions are reported by a script.

use super::*;
use crate::sessions::{Description, SessionEvents, milliseconds};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use vncgate_api::{EndedSession, OpenedSession, Order, SessionReport, Traffic};

fn record(instance: u128, caller: &str) -> Record {
    Record { instance: Uuid::from_u128(instance), caller: caller.to_owned(), ..Record::for_tests() }
}

fn token(name: &str) -> TokenHash {
    TokenHash::of(name)
}

/// Limits, their register, and a gateway's worker.
struct Fixture {
    limits: SessionLimits,
    sessions: Arc<Sessions>,
    events: UnboundedReceiver<SessionEvents>,
    worker: Option<String>,
}

impl Fixture {
    fn new(config: SessionLimitsConfig) -> Self {
        let sessions = Arc::new(Sessions::new(None, Arc::default()));
        let limits = SessionLimits::new(config, Arc::clone(&sessions));
        let events = sessions.subscribe();
        Self { limits, sessions, events, worker: None }
    }

    async fn report(&mut self, report: SessionReport<'_>) -> Vec<Order> {
        let worker = self.worker.clone().map(Into::into);
        let report = SessionReport { worker, gateway: "envoy".into(), ..report };
        let reply = self.sessions.report(report, &CancellationToken::new()).await.unwrap();
        self.worker = Some(reply.worker);
        while let Ok(event) = self.events.try_recv() {
            self.limits.follow(&event).await;
        }
        reply.orders
    }

    /// Opens a session that was granted at `opened_at`.
    async fn open(
        &mut self,
        id: Uuid,
        shown: &str,
        record: &Record,
        traffic: Traffic,
        must_end_at: Option<SystemTime>,
    ) {
        let opened = vec![opened(id, shown, record, traffic, must_end_at)];
        self.report(SessionReport { opened, ..SessionReport::default() }).await;
    }

    async fn end(&mut self, id: Uuid) {
        let ended = EndedSession {
            session: id.to_string().into(),
            ended_at: milliseconds(SystemTime::now()),
            cause: "browser_closed".into(),
            traffic: Traffic::default(),
        };
        self.report(SessionReport { ended: vec![ended], ..SessionReport::default() }).await;
    }

    /// Grants and opens a session.
    async fn grant(&mut self, shown: &str, record: &Record) -> Result<Uuid, SessionLimitReached> {
        let id = Uuid::new_v4();
        let reserved = self.limits.reserve(id, token(shown), record)?;
        let limits = &self.limits;
        // The worker that would end what is replaced does not answer meanwhile.
        limits.take_over(reserved).await;
        self.open(id, shown, record, Traffic::default(), None).await;
        Ok(id)
    }

    fn ending(&self, id: Uuid) -> Option<EndCode> {
        self.sessions.get(id).unwrap().ending.as_ref().map(|reason| reason.code)
    }
}

fn opened(
    id: Uuid,
    shown: &str,
    record: &Record,
    traffic: Traffic,
    must_end_at: Option<SystemTime>,
) -> OpenedSession<'static> {
    let target = "10.0.0.5:5901".parse().unwrap();
    let mut description = Description::new(Some(token(shown)), record, "203.0.113.7", target);
    description.must_end_at = must_end_at.map(milliseconds);
    let opened_at = milliseconds(SystemTime::now());
    // Times of openings differ.
    std::thread::sleep(Duration::from_millis(2));
    let (session, description) = (id.to_string().into(), description.to_text().into());
    OpenedSession { session, opened_at, description, traffic, known: false }
}

fn limit(limit: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(limit)
}

#[tokio::test]
async fn without_limits_there_are_none() {
    let mut it = Fixture::new(SessionLimitsConfig::default());
    let record = record(1, "a");
    for _ in 0..50 {
        it.grant("t", &record).await.unwrap();
    }
    it.limits.enforce().await;
    assert!(it.sessions.live().iter().all(|session| session.ending.is_none()));
    let reserved = it.limits.reserve(Uuid::new_v4(), token("t"), &record).unwrap();
    assert_eq!(reserved, Reserved::default());
}

#[tokio::test]
async fn one_more_than_there_may_be_is_refused_until_one_ends() {
    let mut it = Fixture::new(SessionLimitsConfig { per_machine: limit(2), ..Default::default() });
    let (first, second) = (record(1, "a"), record(2, "a"));
    let one = it.grant("t1", &first).await.unwrap();
    it.grant("t2", &first).await.unwrap();
    let refused = it.grant("t3", &first).await.unwrap_err();
    assert_eq!((refused.of, refused.limit.get()), (LimitOf::Machine, 2));
    assert_eq!(it.limits.check(token("t3"), &first), Err(refused));
    it.grant("t3", &second).await.unwrap();
    it.end(one).await;
    it.grant("t3", &first).await.unwrap();
}

#[tokio::test]
async fn a_session_counts_from_its_grant_on() {
    let it = Fixture::new(SessionLimitsConfig { per_caller: limit(2), ..Default::default() });
    let ids = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    for (index, id) in ids.iter().enumerate() {
        let granted =
            it.limits.reserve(*id, token(&index.to_string()), &record(index as u128, "a"));
        assert_eq!(granted.is_ok(), index < 2, "{index}");
    }
    it.limits.release(ids[0]);
    it.limits.reserve(ids[2], token("2"), &record(2, "a")).unwrap();
    assert_eq!(it.limits.check(token("x"), &record(3, "a")).unwrap_err().of, LimitOf::Caller);
    it.limits.check(token("x"), &record(3, "b")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_that_never_opens_does_not_count_for_long() {
    let it = Fixture::new(SessionLimitsConfig { per_machine: limit(1), ..Default::default() });
    it.limits.reserve(Uuid::new_v4(), token("1"), &record(1, "a")).unwrap();
    assert!(it.limits.check(token("2"), &record(1, "a")).is_err());
    tokio::time::advance(RESERVED_FOR).await;
    it.limits.check(token("2"), &record(1, "a")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_a_link_takes_over_what_it_has_opened() {
    let mut it = Fixture::new(SessionLimitsConfig { per_machine: limit(1), ..Default::default() });
    let record = record(1, "a");
    let before = it.grant("t", &record).await.unwrap();
    assert!(it.grant("other", &record).await.is_err());
    let after = it.grant("t", &record).await.unwrap();
    assert_eq!(it.ending(before), Some(EndCode::ReplacedByNewer));
    assert_eq!(it.ending(after), None);
}

#[tokio::test(start_paused = true)]
async fn the_newest_takes_over_and_the_oldest_is_told() {
    let config = SessionLimitsConfig {
        per_machine: limit(2),
        at_limit: AtLimit::Replace,
        ..Default::default()
    };
    let mut it = Fixture::new(config);
    let record = record(1, "a");
    let one = it.grant("t1", &record).await.unwrap();
    let two = it.grant("t2", &record).await.unwrap();
    it.limits.check(token("t3"), &record).unwrap();
    let three = it.grant("t3", &record).await.unwrap();
    assert_eq!(it.ending(one), Some(EndCode::ReplacedByNewer));
    assert_eq!([it.ending(two), it.ending(three)], [None, None]);
    // One that is ending has made room already.
    it.end(one).await;
    let four = it.grant("t4", &record).await.unwrap();
    assert_eq!(it.ending(two), Some(EndCode::ReplacedByNewer));
    assert_eq!([it.ending(three), it.ending(four)], [None, None]);
}

/// Two authorities grant at the same moment, and neither knows of the other's grants. When the sessions open there are as
/// many as there may be, whichever authority their gateways report to.
#[tokio::test(start_paused = true)]
async fn what_several_authorities_grant_at_the_same_moment_does_not_pass_a_limit_for_long() {
    for (at_limit, expected) in [
        (AtLimit::Refuse, [None, None, Some(EndCode::SessionLimit), Some(EndCode::SessionLimit)]),
        (
            AtLimit::Replace,
            [Some(EndCode::ReplacedByNewer), Some(EndCode::ReplacedByNewer), None, None],
        ),
    ] {
        let config = SessionLimitsConfig { per_caller: limit(2), at_limit, ..Default::default() };
        let mut it = Fixture::new(config.clone());
        let other = SessionLimits::new(config, Arc::clone(&it.sessions));
        let mut events = it.sessions.subscribe();
        let granted: Vec<_> = (0..4).map(|number| (number, Uuid::new_v4())).collect();
        let link = |number: usize| (format!("t{number}"), record(1 + number as u128, "a"));
        for (number, id) in &granted {
            let (shown, record) = link(*number);
            let limits = if number % 2 == 0 { &it.limits } else { &other };
            limits.reserve(*id, token(&shown), &record).unwrap();
        }
        for (number, id) in &granted {
            let (shown, record) = link(*number);
            it.open(*id, &shown, &record, Traffic::default(), None).await;
            while let Ok(event) = events.try_recv() {
                other.follow(&event).await;
            }
        }
        let endings: Vec<_> = granted.iter().map(|(_, id)| it.ending(*id)).collect();
        assert_eq!(endings, expected, "{at_limit:?}");
    }
}

/// Whoever reaches the internal listener can report sessions that no authority has granted.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_made_up_ends_no_other() {
    for at_limit in [AtLimit::Refuse, AtLimit::Replace] {
        let config = SessionLimitsConfig { per_machine: limit(1), at_limit, ..Default::default() };
        let mut it = Fixture::new(config);
        let record = record(1, "a");
        let live = it.grant("t", &record).await.unwrap();
        for shown in ["t", "u"] {
            it.open(Uuid::new_v4(), shown, &record, Traffic::default(), None).await;
        }
        assert_eq!(it.ending(live), None, "{at_limit:?}");
    }
}

/// A page that connects twice before the first session is reported.
#[tokio::test(start_paused = true)]
async fn of_one_link_s_sessions_the_newest_stays_although_none_was_known_at_its_grant() {
    for at_once in [false, true] {
        let config = SessionLimitsConfig { per_machine: limit(1), ..Default::default() };
        let mut it = Fixture::new(config);
        let record = record(1, "a");
        let ids = [Uuid::new_v4(), Uuid::new_v4()];
        for id in ids {
            it.limits.reserve(id, token("t"), &record).unwrap();
        }
        let mut openings =
            ids.map(|id| opened(id, "t", &record, Traffic::default(), None)).to_vec();
        let second = openings.split_off(if at_once { 2 } else { 1 });
        for opened in [openings, second] {
            it.report(SessionReport { opened, ..SessionReport::default() }).await;
        }
        let endings = ids.map(|id| it.ending(id));
        assert_eq!(endings, [Some(EndCode::ReplacedByNewer), None], "at once: {at_once}");
        // Another link's that was granted elsewhere at the same moment stays.
        let other = Uuid::new_v4();
        it.open(other, "u", &record, Traffic::default(), None).await;
        assert_eq!(it.ending(ids[1]), None);
    }
}

#[tokio::test]
async fn a_session_ends_when_it_was_open_for_long_enough() {
    let longest = Duration::from_secs(3600);
    let mut it =
        Fixture::new(SessionLimitsConfig { max_duration: Some(longest), ..Default::default() });
    let record = record(1, "a");
    let now = SystemTime::now();
    let must_end_at = it.limits.reserve(Uuid::new_v4(), token("t"), &record).unwrap().must_end_at;
    let left = must_end_at.unwrap().duration_since(now).unwrap();
    assert!(left >= longest && left < longest + Duration::from_secs(10), "{left:?}");
    let (over, open) = (Uuid::new_v4(), Uuid::new_v4());
    it.open(over, "t", &record, Traffic::default(), Some(now)).await;
    it.open(open, "t", &record, Traffic::default(), must_end_at).await;
    it.limits.enforce().await;
    assert_eq!([it.ending(over), it.ending(open)], [Some(EndCode::SessionTooLong), None]);
    // What a session was granted for counts, also after a reload without the limit.
    let later = it.limits.with_config(SessionLimitsConfig::default());
    let next = Uuid::new_v4();
    it.open(next, "t", &record, Traffic::default(), Some(now)).await;
    later.enforce().await;
    assert_eq!(it.ending(next), Some(EndCode::SessionTooLong));
}

#[tokio::test]
async fn a_session_ends_whose_user_does_nothing() {
    let idle_timeout = Duration::from_secs(600);
    let config = SessionLimitsConfig { idle_timeout: Some(idle_timeout), ..Default::default() };
    let it = Fixture::new(config);
    let now = SystemTime::now();
    let ago = |seconds| Some(milliseconds(now - Duration::from_secs(seconds)));
    let session = |opened: u64, input: Option<u64>| Session {
        id: Uuid::new_v4(),
        gateway: "envoy".into(),
        worker: Uuid::new_v4(),
        opened_at: now - Duration::from_secs(opened),
        description: Description::default(),
        // Messages that are no input do not count: the screen is asked for all the time.
        traffic: Traffic { last_message_at: ago(0), last_input_at: input, ..Traffic::default() },
        ending: None,
        known_since: None,
        input_known_since: Instant::now() - Duration::from_secs(20_000),
    };
    let reported = INPUT_REPORTED_WITHIN.as_secs();
    for (opened, input, idle) in [
        (599, None, false),
        (600, None, false),
        (600 + reported, None, true),
        (10_000, ago(1), false),
        (10_000, ago(600), false),
        (10_000, ago(600 + reported), true),
        (1, ago(10_000), false),
    ] {
        assert_eq!(it.limits.is_idle(&session(opened, input), now), idle, "{opened} {input:?}");
    }
    let without = it.limits.with_config(SessionLimitsConfig::default());
    assert!(!without.is_idle(&session(100_000, None), now));
}

/// The clock of one of several authorities is an hour ahead, as one is that was never set.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_ends_no_session() {
    const HOUR: Duration = Duration::from_secs(3600);
    let config = SessionLimitsConfig { idle_timeout: Some(HOUR / 2), ..Default::default() };
    let it = Fixture::new(config);
    let now = SystemTime::now();
    let description = Description {
        must_end_at: Some(milliseconds(now + HOUR / 2)),
        lasts: Some(u64::try_from((HOUR / 2).as_millis()).unwrap()),
        ..Description::default()
    };
    let session = Session {
        id: Uuid::new_v4(),
        gateway: "envoy".into(),
        worker: Uuid::new_v4(),
        opened_at: now,
        description,
        traffic: Traffic::default(),
        ending: None,
        known_since: Some(Instant::now()),
        input_known_since: Instant::now(),
    };
    let state = |now| (is_over(&session, now), it.limits.is_idle(&session, now));
    assert_eq!(state(now + HOUR), (false, false));
    tokio::time::advance(HOUR / 2 + INPUT_REPORTED_WITHIN).await;
    assert_eq!(state(now), (false, false), "one that is behind");
    assert_eq!(state(now + HOUR), (true, true));
    // Of one that was open before this process, nothing else is known.
    let resumed = Session { known_since: None, ..session };
    assert!(is_over(&resumed, now + HOUR));
}
