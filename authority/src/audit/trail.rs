//! The queue of records, and the thread that writes them.

use super::AuditConfig;
use super::event::Event;
use super::output::{Output, Target};
use crate::telemetry::Metrics;
use serde::Serialize;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info};
use uuid::Uuid;

/// The version of the schema, `docs/audit.schema.json`.
const SCHEMA_VERSION: u32 = 1;

/// Records that wait to be written, at most. All sessions of a large site that end in the same second are fewer, and
/// take some 10 MB.
const QUEUE_LIMIT: usize = 16_384;

/// How long a console waits for its record. A disk takes milliseconds; the filter waits for seconds.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// How long after a failure the next write is tried.
const RETRY: Duration = Duration::from_secs(1);

/// How long the process waits at its end for what is still in the queue.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Name and version of the program, for [`Event::TrailOpened`].
const SOFTWARE: &str = concat!("vncgate-authority ", env!("CARGO_PKG_VERSION"));

/// A record was not written, so what it would tell must not happen.
#[derive(Debug, Error)]
#[error("its audit record cannot be written: {0}")]
pub struct NotRecorded(String);

/// The audit trail. It outlives every configuration.
pub struct AuditTrail {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    state: Mutex<State>,
    is_on: AtomicBool,
    is_required: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Entries that are not written yet, here and in the writer's hands.
    unwritten: usize,
    /// Records that found no room.
    lost: u64,
    is_running: bool,
}

enum Item {
    Entry(Box<Entry>),
    Reopen,
    Configure(AuditConfig),
    Stop(oneshot::Sender<()>),
}

struct Entry {
    time: SystemTime,
    event: Event,
    /// Told when the record is written; dropped when it is not.
    written: Option<oneshot::Sender<()>>,
}

/// What the writer is doing.
#[derive(Default)]
struct State {
    failure: Option<String>,
    /// Since when it is in a call of the kernel. A pipe that is not read blocks it.
    writing_since: Option<Instant>,
}

impl AuditTrail {
    /// A trail that is off.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                changed: Condvar::new(),
                state: Mutex::default(),
                is_on: AtomicBool::new(false),
                is_required: AtomicBool::new(false),
                metrics,
            }),
        }
    }

    /// Writes by this configuration from now on. Records that were made before go where they belonged. The target is
    /// opened by the trail's own thread: if that fails, [`Self::health`] and the log say so, and it is tried again.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn configure(&self, config: AuditConfig) -> io::Result<()> {
        let mut queue = self.shared.queue();
        if !queue.is_running && config.target.is_some() {
            let shared = Arc::clone(&self.shared);
            let run = || Writer::new(shared).run();
            thread::Builder::new().name("audit".to_owned()).spawn(run)?;
            queue.is_running = true;
        }
        self.shared.is_on.store(config.target.is_some(), Ordering::Relaxed);
        self.shared.is_required.store(config.required, Ordering::Relaxed);
        if queue.is_running {
            queue.items.push_back(Item::Configure(config));
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    /// Opens the target again: its file was renamed. Records that were made before go to the renamed file.
    pub fn reopen(&self) {
        let mut queue = self.shared.queue();
        if queue.is_running {
            queue.items.push_back(Item::Reopen);
            self.shared.changed.notify_one();
        }
    }

    /// Makes a record, which is written soon. If there is no room for it, it is lost and counted.
    pub fn record(&self, event: impl FnOnce() -> Event) {
        self.record_any(|| Some(event()));
    }

    /// [`Self::record`] of what may not be worth one.
    pub fn record_any(&self, event: impl FnOnce() -> Option<Event>) {
        if self.shared.is_on.load(Ordering::Relaxed)
            && let Some(event) = event()
        {
            self.shared.push(event, None);
        }
    }

    /// Makes a record of something that must not happen without it, if the configuration says so: waits until the record is
    /// written, and until the disk has it.
    ///
    /// # Errors
    ///
    /// The record is not written within a second. If it is written later all the same, which a stuck disk may cause, the
    /// record of the refusal follows it with the same session.
    pub async fn record_first(&self, event: impl FnOnce() -> Event) -> Result<(), NotRecorded> {
        if !self.shared.is_required.load(Ordering::Relaxed) {
            self.record(event);
            return Ok(());
        }
        let (written, told) = oneshot::channel();
        self.shared.push(event(), Some(written));
        match timeout(WRITE_LIMIT, told).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(NotRecorded(match self.health() {
                Err(reason) => reason,
                Ok(()) => "the queue is full".to_owned(),
            })),
        }
    }

    /// Whether records are written, or why not.
    pub fn health(&self) -> Result<(), String> {
        let state = self.shared.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        match state.writing_since.map(|since| since.elapsed()) {
            Some(took) if took >= WRITE_LIMIT => Err(format!("a write has not ended for {took:?}")),
            _ => Ok(()),
        }
    }

    /// Whether the trail is on.
    pub fn is_on(&self) -> bool {
        self.shared.is_on.load(Ordering::Relaxed)
    }

    /// Whether no console opens without its record.
    pub fn is_required(&self) -> bool {
        self.shared.is_required.load(Ordering::Relaxed)
    }

    /// Writes what is in the queue and closes the trail. Gives up after two seconds.
    pub async fn stop(&self) {
        let (stopped, told) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            if !queue.is_running {
                return;
            }
            queue.items.push_back(Item::Stop(stopped));
            self.shared.changed.notify_one();
        }
        if timeout(STOP_LIMIT, told).await.is_err() {
            error!("the last audit records were not written in time");
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event, written: Option<oneshot::Sender<()>>) {
        let mut queue = self.queue();
        if queue.unwritten >= QUEUE_LIMIT {
            queue.lost += 1;
            self.metrics.audit_record_lost();
            return;
        }
        queue.unwritten += 1;
        let entry = Entry { time: SystemTime::now(), event, written };
        queue.items.push_back(Item::Entry(Box::new(entry)));
        self.changed.notify_one();
    }

    /// What is in the queue. Waits until there is something, or for the time limit.
    fn take(&self, limit: Option<Duration>) -> VecDeque<Item> {
        let queue = self.queue();
        let is_empty = |queue: &mut Queue| queue.items.is_empty();
        let mut queue = match limit {
            None => {
                self.changed.wait_while(queue, is_empty).unwrap_or_else(PoisonError::into_inner)
            }
            Some(limit) => {
                let waited = self.changed.wait_timeout_while(queue, limit, is_empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        mem::take(&mut queue.items)
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    config: AuditConfig,
    output: Option<Output>,
    /// Why the target has to be opened, if it has.
    open_due: Option<&'static str>,
    waiting: VecDeque<Box<Entry>>,
    interruption: Option<Interruption>,
    /// When what failed is tried again.
    retry_at: Option<Instant>,
    /// Which process wrote a record: a sequence begins anew with each.
    writer: Uuid,
    sequence: u64,
    authority: String,
}

/// Since when nothing is written, and why.
struct Interruption {
    since: SystemTime,
    error: String,
}

/// A record as it is written.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    timestamp: String,
    authority: &'a str,
    writer: Uuid,
    sequence: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Writer {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            config: AuditConfig::default(),
            output: None,
            open_due: None,
            waiting: VecDeque::new(),
            interruption: None,
            retry_at: None,
            writer: Uuid::new_v4(),
            sequence: 0,
            authority: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    fn run(mut self) {
        loop {
            let limit = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
            for item in self.shared.take(limit) {
                match item {
                    Item::Entry(entry) => self.waiting.push_back(entry),
                    Item::Reopen => {
                        self.write();
                        self.open("reopened");
                    }
                    Item::Configure(config) => self.configure(config),
                    Item::Stop(stopped) => {
                        self.retry_at = None;
                        if self.config.target.is_some() {
                            let closed = self.own(Event::TrailClosed {});
                            self.waiting.push_back(closed);
                        }
                        self.write();
                        self.drop_waiting();
                        // The process may have stopped waiting.
                        let _ = stopped.send(());
                    }
                }
            }
            self.write();
        }
    }

    fn configure(&mut self, config: AuditConfig) {
        self.write();
        let before = mem::replace(&mut self.config, config).target;
        if self.config.target == before {
            return;
        }
        self.output = None;
        if self.config.target.is_some() {
            self.open(if before.is_none() { "started" } else { "configured" });
        } else {
            (self.open_due, self.retry_at) = (None, None);
            self.interruption = None;
            self.shared.state().failure = None;
            self.shared.metrics.audit_writable(true);
            self.drop_waiting();
        }
    }

    /// Opens the target with the next write.
    fn open(&mut self, reason: &'static str) {
        if self.config.target.is_some() {
            (self.open_due, self.retry_at) = (Some(reason), None);
        }
    }

    /// An entry of the trail's own.
    fn own(&self, event: Event) -> Box<Entry> {
        self.shared.queue().unwritten += 1;
        Box::new(Entry { time: SystemTime::now(), event, written: None })
    }

    /// Opens the target if that is due, and writes what waits.
    fn write(&mut self) {
        if self.retry_at.is_some_and(|at| Instant::now() >= at) {
            self.retry_at = None;
        }
        if self.output.as_ref().is_some_and(Output::is_removed) {
            (self.output, self.open_due) = (None, Some("reopened"));
        }
        if let (Some(reason), Some(target), None) =
            (self.open_due, &self.config.target, self.retry_at)
        {
            match Output::open(target) {
                Ok(output) => {
                    (self.output, self.open_due) = (Some(output), None);
                    let opened = self.own(Event::TrailOpened { software: SOFTWARE, reason });
                    self.waiting.push_front(opened);
                }
                Err(error) => return self.failed(&error),
            }
        }
        let nothing = self.waiting.is_empty() && self.interruption.is_none();
        if self.output.is_none() || self.retry_at.is_some() || nothing {
            return self.refuse();
        }
        self.shared.state().writing_since = Some(Instant::now());
        let mut told = Vec::new();
        let outcome = self.write_lines(&mut told).and_then(|()| match &self.output {
            Some(output) if !told.is_empty() => output.sync(),
            _ => Ok(()),
        });
        self.shared.state().writing_since = None;
        match outcome {
            Ok(()) => {
                self.written();
                for written in told {
                    // A console that has stopped waiting was refused, and a record of that follows.
                    let _ = written.send(());
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn write_lines(&mut self, told: &mut Vec<oneshot::Sender<()>>) -> io::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        output.finish_line()?;
        let mut line = |time, event: &Event| {
            let timestamp = humantime::format_rfc3339_millis(time).to_string();
            let sequence = self.sequence + 1;
            let (version, authority, writer) = (SCHEMA_VERSION, &self.authority, self.writer);
            let line = Line { version, timestamp, authority, writer, sequence, event };
            let mut line = serde_json::to_vec(&line).map_err(io::Error::other)?;
            line.push(b'\n');
            let outcome = output.write_line(&line);
            // A line that was begun will be finished.
            if !matches!(outcome, Err((_, false))) {
                self.sequence = sequence;
                self.shared.metrics.audit_record(event.name());
            }
            io::Result::Ok(outcome)
        };
        let lost = self.shared.queue().lost;
        if lost > 0 || self.interruption.is_some() {
            let interruption = self.interruption.as_ref();
            let since = |it: &Interruption| humantime::format_rfc3339_millis(it.since).to_string();
            let event = Event::TrailInterrupted {
                lost,
                since: interruption.map(since),
                error: interruption.map(|it| it.error.clone()),
            };
            match line(SystemTime::now(), &event)? {
                Err((error, false)) => return Err(error),
                outcome => {
                    self.shared.queue().lost -= lost;
                    self.interruption = None;
                    outcome.map_err(|(error, _)| error)?;
                }
            }
        }
        while let Some(entry) = self.waiting.pop_front() {
            // What was given up must not be told as if it had happened.
            if !entry.written.as_ref().is_some_and(oneshot::Sender::is_closed) {
                let outcome = line(entry.time, &entry.event)?;
                if let Err((error, false)) = outcome {
                    self.waiting.push_front(entry);
                    return Err(error);
                }
                self.shared.queue().unwritten -= 1;
                // Dropped after the failure is known, if there is one.
                told.extend(entry.written);
                outcome.map_err(|(error, _)| error)?;
            } else {
                self.shared.queue().unwritten -= 1;
            }
        }
        Ok(())
    }

    /// Gives up the entries that wait, for good.
    fn drop_waiting(&mut self) {
        let records = mem::take(&mut self.waiting).len();
        self.shared.queue().unwritten -= records;
        if records > 0 {
            error!(records, "audit records are lost: they could not be written until the end");
            (0..records).for_each(|_| self.shared.metrics.audit_record_lost());
        }
    }

    /// Drops the entries that must not wait.
    fn refuse(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|entry| entry.written.is_none());
        self.shared.queue().unwritten -= before - self.waiting.len();
    }

    fn failed(&mut self, error: &io::Error) {
        self.retry_at = Some(Instant::now() + RETRY);
        let file = match &self.config.target {
            Some(Target::File(path)) => path.display().to_string(),
            Some(Target::Stdout) | None => "standard output".to_owned(),
        };
        self.shared.state().failure = Some(format!("{file}: {error}"));
        self.shared.metrics.audit_writable(false);
        if self.interruption.is_none() {
            error!(file, %error, "audit records cannot be written; they are kept, and tried again each second");
            let (since, error) = (SystemTime::now(), error.to_string());
            self.interruption = Some(Interruption { since, error });
        }
        self.refuse();
    }

    fn written(&mut self) {
        self.shared.metrics.audit_writable(true);
        if self.shared.state().failure.take().is_some() {
            info!("audit records are written again");
        }
    }
}
