//! What happens to a stream outside of its own callbacks: beats and the end of the time that a console has to
//! begin, on Envoy's one tick per VM, and wake-ups, as soon as the stream's callback is over ([`wake_ups`]).
//!
//! [`wake_ups`]: crate::self_queue

use crate::hostcalls::{self as host, HostError, LogLevel};
use crate::metrics::Metrics;
use crate::self_queue::WakeUps;
use crate::stream::deliver;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::session::Session;
use vncgate_filter_core::tunnel::Outputs;

/// Envoy's shortest tick.
const TICK_MIN: Duration = Duration::from_millis(1);

/// The open sessions of one worker, and what each waits for.
#[derive(Default)]
pub(crate) struct Timer {
    /// Open sessions, by the id of their stream.
    open: RefCell<BTreeMap<u32, Weak<RefCell<Session>>>>,
    wake_ups: WakeUps,
    /// How long a console may take to begin.
    patience: Cell<Duration>,
    /// Sessions that have opened within this time, each with its end, the next first.
    beginning: RefCell<VecDeque<(Duration, u32)>>,
    /// Half the ping interval; `None`: no beats.
    beat: Cell<Option<Duration>>,
    /// When the next beat is due; `None` while no session is open.
    next_beat: Cell<Option<Duration>>,
}

impl Timer {
    /// Sets the times, before any session opens.
    pub(crate) fn configure(&self, config: &Config) -> Result<(), HostError> {
        self.patience.set(config.console_timeout);
        self.beat.set(config.ping_interval.map(|interval| interval.div_f32(2.0)));
        self.wake_ups.configure()
    }

    /// A session opens on this stream.
    pub(crate) fn add(
        &self,
        context_id: u32,
        session: &Rc<RefCell<Session>>,
    ) -> Result<(), HostError> {
        if let Ok(mut open) = self.open.try_borrow_mut() {
            open.insert(context_id, Rc::downgrade(session));
        }
        let now = host::now()?;
        let first_beat = self.beat.get().filter(|_| self.next_beat.get().is_none());
        if let Some(beat) = first_beat {
            self.next_beat.set(Some(now.saturating_add(beat)));
        }
        let Ok(mut beginning) = self.beginning.try_borrow_mut() else { return Ok(()) };
        // Of those that are there already, each has its end before this one's.
        let is_next = first_beat.is_some() || beginning.is_empty();
        beginning.push_back((now.saturating_add(self.patience.get()), context_id));
        drop(beginning);
        if is_next { self.set_tick(now) } else { Ok(()) }
    }

    /// The stream is gone.
    pub(crate) fn remove(&self, context_id: u32) {
        if let Ok(mut open) = self.open.try_borrow_mut() {
            open.remove(&context_id);
        }
    }

    /// Wakes the session of this stream soon. Without that it cannot go on.
    pub(crate) fn wake(&self, context_id: u32) -> Result<(), HostError> {
        self.wake_ups.add(context_id)
    }

    /// Envoy's call for the queue of wake-ups.
    pub(crate) fn wake_up(&self) {
        for context_id in self.wake_ups.take() {
            self.act(context_id, Session::wake);
        }
    }

    /// Envoy's tick.
    pub(crate) fn tick(&self, metrics: &Metrics) -> Result<(), HostError> {
        let now = host::now()?;
        while let Some(context_id) = self.next_of_beginning(now) {
            self.act(context_id, |session| {
                let outputs = session.give_up_unless_begun();
                if outputs.is_some() {
                    metrics.count_timeout();
                    record_timeout(context_id);
                }
                outputs.unwrap_or_default()
            });
        }
        if self.next_beat.get().is_some_and(|due| now >= due) {
            let open: Vec<u32> = read(&self.open, |open| open.keys().copied().collect());
            self.next_beat.set(
                self.beat.get().filter(|_| !open.is_empty()).map(|beat| now.saturating_add(beat)),
            );
            for context_id in open {
                self.act(context_id, Session::beat);
            }
        }
        self.set_tick(now)
    }

    /// The next session whose time to begin is over.
    fn next_of_beginning(&self, now: Duration) -> Option<u32> {
        let mut beginning = self.beginning.try_borrow_mut().ok()?;
        beginning.pop_front_if(|(end, _)| now >= *end).map(|(_, context_id)| context_id)
    }

    /// Has Envoy tick when something is due next.
    fn set_tick(&self, now: Duration) -> Result<(), HostError> {
        let end = read(&self.beginning, |beginning| beginning.front().map(|(end, _)| *end));
        let due = end.into_iter().chain(self.next_beat.get()).min();
        let next = due.map(|due| due.saturating_sub(now).max(TICK_MIN));
        host::set_tick_period(next)
    }

    /// Lets a session act on its stream. One that fails is ended: the browser sees a broken
    /// connection, never wrong bytes.
    fn act(&self, context_id: u32, step: impl FnOnce(&mut Session) -> Outputs) {
        let session = read(&self.open, |open| open.get(&context_id).and_then(Weak::upgrade));
        let Some(session) = session else { return };
        // First, since what the session answers is carried out only on a stream that Envoy still has.
        if host::set_effective_context(context_id).is_err() {
            return;
        }
        let Ok(outputs) = session.try_borrow_mut().map(|mut session| step(&mut session)) else {
            return;
        };
        if let Err(error) = deliver(outputs, context_id, &session, self) {
            host::log(LogLevel::Error, &format!("stream {context_id}: {error}"));
            let _ = host::reset_stream();
        }
    }
}

/// For the access log, which has the session's name too.
fn record_timeout(context_id: u32) {
    if let Err(error) = host::set_property("vncgate.timeout", "console") {
        host::log(LogLevel::Error, &format!("stream {context_id}: vncgate.timeout: {error}"));
    }
}

/// Reads what no callback holds on to; were one to, there would be nothing to read.
fn read<T, R: Default>(cell: &RefCell<T>, read: impl FnOnce(&T) -> R) -> R {
    cell.try_borrow().map(|value| read(&value)).unwrap_or_default()
}
