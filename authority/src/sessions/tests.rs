use super::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::advance;
use vncgate_api::{Order, Traffic};

/// A journal that several authorities share, as one on the network.
#[derive(Default)]
struct SharedJournal {
    entries: Mutex<VecDeque<String>>,
    down: AtomicBool,
}

impl SharedJournal {
    fn check(&self) -> Result<(), StoreUnavailable> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(StoreUnavailable("down".to_owned())),
            false => Ok(()),
        }
    }

    fn lose_everything(&self) {
        lock(&self.entries).clear();
    }
}

#[async_trait::async_trait]
impl SessionJournal for SharedJournal {
    async fn append(&self, entry: String) -> Result<(), StoreUnavailable> {
        self.check()?;
        lock(&self.entries).push_back(entry);
        Ok(())
    }

    async fn read(&self, after: Option<&Position>) -> Result<Read, StoreUnavailable> {
        self.check()?;
        let entries = lock(&self.entries);
        let after = after.map(|Position(at)| at.parse::<usize>().unwrap());
        let missed = after.is_none_or(|at| at > entries.len());
        let start = after.map_or(entries.len(), |at| if missed { 0 } else { at });
        // Two at a time.
        let read: Vec<String> = entries.iter().skip(start).take(2).cloned().collect();
        let end = start + read.len();
        let position = Position(end.to_string());
        Ok(Read { entries: read, position, more: end < entries.len(), missed })
    }
}

fn opened(id: Uuid) -> OpenedSession<'static> {
    let description =
        Description { instance: Uuid::from_u128(7), caller: "c".into(), ..Description::default() };
    OpenedSession {
        session: id.to_string().into(),
        opened_at: 1,
        description: description.to_text().into(),
        traffic: Traffic::default(),
        known: false,
    }
}

fn ended(id: Uuid, cause: &'static str) -> EndedSession<'static> {
    let traffic = Traffic::default();
    EndedSession { session: id.to_string().into(), ended_at: 2, cause: cause.into(), traffic }
}

/// An Envoy worker, as the filter is one.
struct Worker {
    name: Option<String>,
    live: Vec<Uuid>,
}

impl Worker {
    fn new() -> Self {
        Self { name: None, live: Vec::new() }
    }

    fn report(&self) -> SessionReport<'static> {
        let worker = self.name.clone().map(Into::into);
        SessionReport { worker, gateway: "envoy".into(), ..SessionReport::default() }
    }

    async fn call(&mut self, to: &Sessions, report: SessionReport<'_>) -> SessionReply {
        let reply = to.report(report, &CancellationToken::new()).await.unwrap();
        self.name = Some(reply.worker.clone());
        reply
    }

    async fn open(&mut self, to: &Sessions) -> Uuid {
        let id = Uuid::new_v4();
        self.live.push(id);
        let report = SessionReport { opened: vec![opened(id)], ..self.report() };
        self.call(to, report).await;
        id
    }

    /// Reports all sessions anew.
    async fn restart(&mut self, to: &Sessions) -> SessionReply {
        let opened = self.live.iter().copied().map(opened).collect();
        let report = SessionReport { restart: true, opened, ..self.report() };
        self.call(to, report).await
    }
}

fn memory() -> Arc<Sessions> {
    Arc::new(Sessions::new(None, Arc::default()))
}

fn on(journal: &Arc<SharedJournal>) -> Arc<Sessions> {
    let journal = Arc::clone(journal) as Arc<dyn SessionJournal>;
    Arc::new(Sessions::new(Some(journal), Arc::default()))
}

fn operator() -> EndReason {
    EndReason::new(EndCode::EndedByOperator)
}

#[tokio::test(start_paused = true)]
async fn a_held_call_is_answered_when_there_is_an_order_and_not_before() {
    let sessions = memory();
    let mut worker = Worker::new();
    let id = worker.open(&sessions).await;
    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    let call = tokio::spawn({
        let sessions = Arc::clone(&sessions);
        async move { sessions.report(held, &CancellationToken::new()).await.unwrap() }
    });
    advance(Duration::from_secs(10)).await;
    assert!(!call.is_finished());
    assert!(sessions.end(id, operator()).await.unwrap());
    let reply = call.await.unwrap();
    let [Order::End { session, code: 1001, .. }] = &reply.orders[..] else { panic!("{reply:?}") };
    assert_eq!(*session, id.to_string());

    // The worker is at it: its next call is held until the order has to be repeated.
    let started = Instant::now();
    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    assert_eq!(worker.call(&sessions, held).await.orders, reply.orders);
    assert_eq!(started.elapsed(), Duration::from_secs(1));

    let over = SessionReport { ended: vec![ended(id, "ordered")], ..worker.report() };
    assert_eq!(worker.call(&sessions, over).await.orders, []);
    assert!(!sessions.end(id, operator()).await.unwrap(), "it is gone");
    let started = Instant::now();
    let held = SessionReport { wait_seconds: 3600, ..worker.report() };
    let reply = worker.call(&sessions, held).await;
    assert_eq!((reply.restart, reply.orders.len()), (false, 0));
    assert_eq!(started.elapsed(), LONGEST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_held_call_is_answered_when_the_authority_stops() {
    let sessions = memory();
    let stop = CancellationToken::new();
    let held = SessionReport { wait_seconds: 20, ..Worker::new().report() };
    let call = tokio::spawn({
        let (sessions, stop) = (Arc::clone(&sessions), stop.clone());
        async move { sessions.report(held, &stop).await.unwrap() }
    });
    advance(Duration::from_secs(1)).await;
    stop.cancel();
    let started = Instant::now();
    call.await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn subscribers_are_told_of_openings_orders_and_ends() {
    let sessions = memory();
    let mut events = sessions.subscribe();
    drop(sessions.subscribe());
    let mut worker = Worker::new();
    let id = worker.open(&sessions).await;
    sessions.end_instance(Uuid::from_u128(7), operator()).await.unwrap();
    let over = SessionReport { ended: vec![ended(id, "ordered")], ..worker.report() };
    worker.call(&sessions, over).await;
    let mut changes = Vec::new();
    while let Ok(events) = events.try_recv() {
        for event in events.iter() {
            assert!(event.reported_here && event.session.id == id);
            changes.push(event.change.clone());
        }
    }
    let end = SessionChange::Ended { at: time(2), cause: "ordered".to_owned() };
    assert_eq!(changes, [SessionChange::Opened { resumed: false }, SessionChange::Ordered, end]);
    assert_eq!(lock(&sessions.subscribers).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_an_authority_before_this_one_is_asked_for_its_sessions() {
    let (before, after) = (memory(), memory());
    let mut worker = Worker::new();
    let id = worker.open(&before).await;
    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    let reply = worker.call(&after, held).await;
    assert_eq!((reply.restart, &reply.worker), (true, worker.name.as_ref().unwrap()));
    assert!(!worker.restart(&after).await.restart);
    assert_eq!(after.live()[0].id, id);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_is_told_that_ended_while_no_authority_was_there() {
    let mut worker = Worker::new();
    let id = worker.open(&memory()).await;
    worker.live.clear();
    let sessions = memory();
    let mut events = sessions.subscribe();
    let over = SessionReport { ended: vec![ended(id, "browser_gone")], ..worker.report() };
    assert!(worker.call(&sessions, over.clone()).await.restart);
    // The end comes again, with its opening, as often as it takes.
    let opened = OpenedSession { known: true, ..opened(id) };
    let anew = SessionReport { restart: true, opened: vec![opened], ..over };
    worker.call(&sessions, anew.clone()).await;
    worker.call(&sessions, anew).await;
    let told = std::iter::from_fn(|| events.try_recv().ok());
    let told: Vec<_> = told.flat_map(|events| events.to_vec()).map(|event| event.change).collect();
    let end = SessionChange::Ended { at: time(2), cause: "browser_gone".to_owned() };
    assert_eq!(told, [SessionChange::Opened { resumed: true }, end]);
}

#[tokio::test]
async fn names_that_no_authority_gives_are_refused() {
    let sessions = memory();
    let refused = async |report| {
        let refused = sessions.report(report, &CancellationToken::new()).await;
        matches!(refused, Err(ReportError::NoIdentifier(_)))
    };
    let report = || Worker::new().report();
    let nil = "00000000-0000-0000-0000-000000000000";
    for name in ["", "x", "5d93eed6-a1b7-5668-903c-b43c7c81d44c", nil] {
        assert!(refused(SessionReport { worker: Some(name.into()), ..report() }).await, "{name}");
    }
    let traffic = Traffic::default();
    let id = "not-a-uuid";
    let opened = OpenedSession { session: id.into(), ..opened(Uuid::nil()) };
    assert!(refused(SessionReport { opened: vec![opened], ..report() }).await);
    let active = SessionActivity { session: id.into(), traffic };
    assert!(refused(SessionReport { active: vec![active], ..report() }).await);
    let ended = EndedSession { session: id.into(), ..ended(Uuid::nil(), "x") };
    assert!(refused(SessionReport { ended: vec![ended], ..report() }).await);
    assert_eq!(sessions.register().workers(), 0);
}

/// Two authorities with one store: one takes the worker's reports, the other one has its held call.
#[tokio::test(start_paused = true)]
async fn every_authority_of_a_store_sees_all_sessions_and_ends_them() {
    let journal = Arc::new(SharedJournal::default());
    let authority = || on(&journal);
    let (a, b, c) = (authority(), authority(), authority());
    for sessions in [&a, &b, &c] {
        let sessions = Arc::clone(sessions);
        tokio::spawn(async move { sessions.run().await });
    }
    sleep(Duration::from_secs(1)).await;
    let (mut told_by_a, mut told_by_b) = (a.subscribe(), b.subscribe());
    let mut worker = Worker::new();
    let id = worker.open(&a).await;
    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    let call = tokio::spawn({
        let b = Arc::clone(&b);
        async move { b.report(held, &CancellationToken::new()).await.unwrap() }
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!((b.live()[0].id, c.live()[0].id), (id, id));
    let ordered = Instant::now();
    assert!(c.end(id, operator()).await.unwrap());
    assert_eq!(call.await.unwrap().orders.len(), 1);
    assert!(ordered.elapsed() < Duration::from_secs(1), "{:?}", ordered.elapsed());
    let over = SessionReport { ended: vec![ended(id, "ordered")], ..worker.report() };
    worker.call(&b, over).await;
    sleep(Duration::from_secs(1)).await;
    for sessions in [&a, &b, &c] {
        assert!(sessions.live().is_empty());
    }
    // Each change is one authority's to write down.
    let here = |told: &mut UnboundedReceiver<SessionEvents>| -> Vec<bool> {
        let told = std::iter::from_fn(|| told.try_recv().ok());
        told.flat_map(|events| events.to_vec()).map(|event| event.reported_here).collect()
    };
    assert_eq!(here(&mut told_by_a), [true, false, false]);
    assert_eq!(here(&mut told_by_b), [false, false, true]);

    // All of them take a worker for gone that reports no more, and one of them says so.
    worker.open(&a).await;
    sleep(Duration::from_secs(24)).await;
    assert_eq!(c.live().len(), 1);
    sleep(Duration::from_secs(3)).await;
    for sessions in [&a, &b, &c] {
        assert!(sessions.live().is_empty());
    }
    let ends = [here(&mut told_by_a), here(&mut told_by_b)].concat();
    assert!(ends.len() == 4 && ends.iter().filter(|here| **here).count() <= 2, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_ends_no_session_and_loses_none() {
    let journal = Arc::new(SharedJournal::default());
    let sessions = on(&journal);
    let running = Arc::clone(&sessions);
    tokio::spawn(async move { running.run().await });
    sleep(Duration::from_secs(1)).await;
    let mut worker = Worker::new();
    let id = worker.open(&sessions).await;
    journal.down.store(true, Ordering::Relaxed);
    for _ in 0..60 {
        let refused = sessions.report(worker.report(), &CancellationToken::new()).await;
        assert!(matches!(refused, Err(ReportError::Unavailable(_))));
        sleep(Duration::from_secs(1)).await;
    }
    assert!(sessions.end(id, operator()).await.is_err());
    assert_eq!(sessions.live().len(), 1);
    journal.down.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(sessions.live().len(), 1);

    // The store comes back empty.
    journal.lose_everything();
    sleep(Duration::from_secs(1)).await;
    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    assert!(worker.call(&sessions, held).await.restart);
    worker.restart(&sessions).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(sessions.live()[0].id, id);
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_joins_knows_all_sessions_within_seconds() {
    let journal = Arc::new(SharedJournal::default());
    let authority = || on(&journal);
    let run = |sessions: &Arc<Sessions>| {
        let sessions = Arc::clone(sessions);
        tokio::spawn(async move { sessions.run().await });
    };
    let first = authority();
    run(&first);
    sleep(Duration::from_secs(1)).await;
    let mut worker = Worker::new();
    let id = worker.open(&first).await;
    let mut events = first.subscribe();
    let held = SessionReport { wait_seconds: 20, ..worker.report() };
    let call = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.report(held, &CancellationToken::new()).await.unwrap() }
    });
    sleep(Duration::from_secs(1)).await;
    let joining = Instant::now();
    let second = authority();
    run(&second);
    assert!(call.await.unwrap().restart, "the authority that has the worker's call asks for it");
    worker.restart(&first).await;
    while second.live().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(joining.elapsed() < Duration::from_secs(3), "{:?}", joining.elapsed());
    assert_eq!(second.live()[0].id, id);
    assert!(events.try_recv().is_err(), "nothing became of the session");
}

#[tokio::test(start_paused = true)]
async fn entries_of_another_version_are_passed_over() {
    let journal = Arc::new(SharedJournal::default());
    let sessions = on(&journal);
    let mut worker = Worker::new();
    for entry in ["", "{}", r#"["5d93eed6-a1b7-4668-903c-b43c7c81d44c",{"entry":"dance"}]"#] {
        journal.append(entry.to_owned()).await.unwrap();
    }
    worker.open(&sessions).await;
    assert_eq!(sessions.live().len(), 1);
}
