//! A gateway worker: the filter's own account of its sessions, with this program in Envoy's place.

use crate::orders::Orders;
use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use reqwest::Client;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use vncgate_api::{Order, SESSIONS_PATH};
use vncgate_filter_core::check::Reply;
use vncgate_filter_core::end::EndCause;
use vncgate_filter_core::reports::{Call, CallKind, Reports};
use vncgate_filter_core::session::Ended;
use vncgate_filter_core::traffic::{Activity, Bytes};

/// A console's traffic while somebody works, in bytes a second.
const FROM_BROWSER: u64 = 200;
const TO_BROWSER: u64 = 50_000;

/// What happens to a worker.
#[derive(Debug)]
enum Event {
    Opened {
        session: Rc<str>,
        description: Box<str>,
    },
    /// The user of the session that has been open for longest leaves.
    OldestClosed,
}

/// A running worker. It and its sessions are gone without a word when it is dropped, as with a killed Envoy.
#[derive(Debug)]
pub struct Worker {
    events: mpsc::UnboundedSender<Event>,
    task: AbortHandle,
}

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The client of the internal listener.
    pub http: Client,
    /// `http://HOST:PORT` of the internal listener.
    pub internal: String,
    /// What the workers were ordered.
    pub orders: Rc<Orders>,
    /// Whether the users of the open sessions do something.
    pub users_are_active: Rc<Cell<bool>>,
}

impl Worker {
    /// Starts a worker without sessions. Needs a `LocalSet`.
    pub fn start(name: String, shared: Shared) -> Self {
        let (events, received) = mpsc::unbounded_channel();
        let mut reports = Reports::default();
        reports.set_gateway(name);
        let (streams, next_stream) = Default::default();
        let running = Running { reports, streams, next_stream, shared };
        let task = tokio::task::spawn_local(running.run(received)).abort_handle();
        Self { events, task }
    }

    /// A session has opened, with this description of the authority's.
    ///
    /// # Errors
    ///
    /// When the worker has ended.
    pub fn open(&self, session: Rc<str>, description: Box<str>) -> Result<()> {
        self.tell(Event::Opened { session, description })
    }

    /// The user of the session that has been open for longest leaves.
    ///
    /// # Errors
    ///
    /// When the worker has ended.
    pub fn close_oldest(&self) -> Result<()> {
        self.tell(Event::OldestClosed)
    }

    fn tell(&self, event: Event) -> Result<()> {
        self.events.send(event).ok().context("the worker has ended")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = (CallKind, Result<(u16, Vec<u8>), reqwest::Error>);

struct Running {
    reports: Reports,
    /// Open sessions, by the id of their stream.
    streams: BTreeMap<u32, Rc<str>>,
    next_stream: u32,
    shared: Shared,
}

impl Running {
    async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut calls: FuturesUnordered<LocalBoxFuture<'static, Answer>> = FuturesUnordered::new();
        let started = now();
        loop {
            let active = self.shared.users_are_active.get();
            let seconds = now().saturating_sub(started).as_secs();
            let look = |_| {
                let (from_browser, to_browser) = (FROM_BROWSER * seconds, TO_BROWSER * seconds);
                let bytes = Bytes { from_browser, to_browser };
                active.then_some(Activity { bytes, has_new_input: true })
            };
            while let Some(call) = self.reports.next_call(now(), look) {
                calls.push(self.make(call));
            }
            let due = self.reports.next_due().map(|due| due.saturating_sub(now()));
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                Some((kind, answer)) = calls.next() => self.answered(kind, answer),
                () = tokio::time::sleep(due.unwrap_or(Duration::from_secs(1))) => {}
            }
        }
    }

    fn make(&self, call: Call) -> LocalBoxFuture<'static, Answer> {
        let url = format!("{}{SESSIONS_PATH}", self.shared.internal);
        let request = self.shared.http.post(url).body(call.body).timeout(call.timeout);
        let request = request.header("content-type", "application/json");
        Box::pin(async move {
            let answer = async {
                let answer = request.send().await?;
                let status = answer.status().as_u16();
                Ok((status, answer.bytes().await?.to_vec()))
            };
            (call.kind, answer.await)
        })
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Opened { session, description } => {
                self.next_stream += 1;
                self.streams.insert(self.next_stream, Rc::clone(&session));
                self.reports.open(self.next_stream, session, description, now());
            }
            Event::OldestClosed => {
                if let Some((&stream, _)) = self.streams.first_key_value() {
                    self.close(stream, EndCause::BrowserClosed);
                }
            }
        }
    }

    fn answered(&mut self, kind: CallKind, answer: Result<(u16, Vec<u8>), reqwest::Error>) {
        let reply = match &answer {
            Ok((status, body)) => Reply::Answer { status: *status, body },
            Err(_) => Reply::Failed,
        };
        let handled = self.reports.handle_reply(kind, reply, now());
        self.shared.orders.count_call(handled.failed);
        for (stream, order) in handled.orders {
            let Order::End { session, .. } = order;
            self.shared.orders.arrived(&session);
            self.close(stream, EndCause::Ordered);
        }
    }

    fn close(&mut self, stream: u32, cause: EndCause) {
        if self.streams.remove(&stream).is_some() {
            let ended = Ended { activity: Activity::default(), cause: Some(cause) };
            self.reports.close(stream, ended, now());
        }
    }
}

/// Since the epoch, as the filter's clock.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
