//! The session reports of a gateway, as a scripted authority takes them: a register that keeps everything it was told,
//! gives orders, and misbehaves.

use crate::wait::until_some;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How reports are answered.
#[derive(Clone, Debug, Default)]
pub enum Behavior {
    /// As `vncgate_api` describes it.
    #[default]
    Work,
    /// With this status and no body.
    Status(u16),
    /// With this status 200 and body.
    Body(Vec<u8>),
    /// Not at all. The connection ends with this behavior.
    Silence,
    /// With a body that ends, if at all, with this behavior.
    Endless,
}

/// A scripted authority's register.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    behavior: Behavior,
    names: usize,
    workers: BTreeMap<String, Worker>,
    /// Sessions that have ended, with the last report of them.
    ended: BTreeMap<String, Value>,
    orders: BTreeMap<String, (Value, Option<Instant>)>,
    calls: Vec<(Instant, Value)>,
}

#[derive(Debug, Default)]
struct Worker {
    gateway: String,
    sessions: BTreeMap<String, Value>,
}

/// An open session that was reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The worker's name.
    pub worker: String,
    /// `node.id` of its Envoy.
    pub gateway: String,
    /// `OpenedSession`, with the newest `traffic`.
    pub session: Value,
}

impl Reports {
    /// Answers in another way from the next call on. Calls that wait are answered so too.
    pub fn behave(&self, behavior: Behavior) {
        self.state().behavior = behavior;
        self.changed.notify_waiters();
    }

    /// Forgets all workers and sessions, as an authority with the memory store that was started again.
    pub fn forget(&self) {
        self.state().workers.clear();
        self.changed.notify_waiters();
    }

    /// Orders the end of a session.
    pub fn end(&self, session: &str, code: u16, reason: &str) {
        let order = json!({"order": "end", "session": session, "code": code, "reason": reason});
        self.state().orders.insert(session.to_owned(), (order, None));
        self.changed.notify_waiters();
    }

    /// Every call so far, and when it came.
    pub fn calls(&self) -> Vec<(Instant, Value)> {
        self.state().calls.clone()
    }

    /// The sessions that are open, by their id.
    pub fn open(&self) -> BTreeMap<String, Reported> {
        let state = self.state();
        let of_worker = |(name, worker): (&String, &Worker)| {
            let reported = |(id, session): (&String, &Value)| {
                let (worker, gateway) = (name.clone(), worker.gateway.clone());
                (id.clone(), Reported { worker, gateway, session: session.clone() })
            };
            worker.sessions.iter().map(reported).collect::<Vec<_>>()
        };
        state.workers.iter().flat_map(of_worker).collect()
    }

    /// `EndedSession` of a session, once it has ended.
    pub async fn end_of(&self, session: &str) -> Value {
        until_some("a report of the session's end", async || {
            self.state().ended.get(session).cloned()
        })
        .await
    }

    /// Answers a call. `None`: the connection ends.
    pub(crate) async fn answer(&self, report: Value) -> Option<(u16, Vec<u8>)> {
        let mut changed = std::pin::pin!(self.changed.notified());
        changed.as_mut().enable();
        let behavior = {
            let mut state = self.state();
            state.calls.push((Instant::now(), report.clone()));
            state.behavior.clone()
        };
        match behavior {
            Behavior::Work => {}
            Behavior::Status(status) => return Some((status, Vec::new())),
            Behavior::Body(body) => return Some((200, body)),
            Behavior::Silence | Behavior::Endless => {
                changed.await;
                return None;
            }
        }
        let (worker, restart) = self.take(&report);
        let waits = report["wait_seconds"].as_u64().unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(waits);
        loop {
            let changed = self.changed.notified();
            let orders = self.take_orders(&worker);
            let left = deadline.saturating_duration_since(Instant::now());
            let knows = self.state().workers.contains_key(&worker);
            if restart || !orders.is_empty() || left.is_zero() || !knows {
                let restart = restart || !knows;
                let reply = json!({"worker": worker, "restart": restart, "orders": orders});
                return Some((200, reply.to_string().into_bytes()));
            }
            let _ = tokio::time::timeout(left.min(Duration::from_secs(1)), changed).await;
            if !matches!(self.state().behavior, Behavior::Work) {
                return Some((503, Vec::new()));
            }
        }
    }

    /// Takes in what a report says. Returns the worker's name, and whether it has to begin anew.
    fn take(&self, report: &Value) -> (String, bool) {
        let mut state = self.state();
        let known = report["worker"].as_str().filter(|name| state.workers.contains_key(*name));
        let Some(name) = known.map(str::to_owned) else {
            let is_first = report["worker"].is_null();
            assert!(!is_first || report.get("opened").is_none(), "the first call says nothing");
            state.names += 1;
            let name = format!("worker-{}", state.names);
            let gateway = report["gateway"].as_str().expect("a gateway").to_owned();
            state.workers.insert(name.clone(), Worker { gateway, ..Worker::default() });
            return (name, !is_first);
        };
        let list = |key: &str| report[key].as_array().cloned().unwrap_or_default();
        let id = |session: &Value| session["session"].as_str().expect("an id").to_owned();
        let State { workers, ended, orders, .. } = &mut *state;
        let sessions = &mut workers.get_mut(&name).expect("a known worker").sessions;
        if report["restart"] == true {
            sessions.clear();
        }
        for session in list("opened") {
            if !ended.contains_key(&id(&session)) {
                sessions.insert(id(&session), session);
            }
        }
        for session in list("active") {
            sessions.get_mut(&id(&session)).expect("an open session")["traffic"] =
                session["traffic"].clone();
        }
        for session in list("ended") {
            sessions.remove(&id(&session));
            orders.remove(&id(&session));
            ended.insert(id(&session), session);
        }
        (name, false)
    }

    /// The orders for a worker that it was not given in the last second.
    fn take_orders(&self, worker: &str) -> Vec<Value> {
        let mut state = self.state();
        let State { workers, orders, .. } = &mut *state;
        let Some(worker) = workers.get(worker) else { return Vec::new() };
        let is_due = |(order, given): &mut (Value, Option<Instant>)| {
            let waits = given.is_some_and(|given| given.elapsed() < Duration::from_secs(1));
            (!waits).then(|| {
                *given = Some(Instant::now());
                order.clone()
            })
        };
        let of_worker = orders.iter_mut().filter(|(id, _)| worker.sessions.contains_key(*id));
        of_worker.filter_map(|(_, order)| is_due(order)).collect()
    }

    /// Whether it answers without end.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self.state().behavior, Behavior::Endless)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}
