//! What happens to a stream outside of its own callbacks: wake-ups, beats, and the end of the time that a
//! console has to begin, all on Envoy's one tick per VM.

use super::host::{self, HostError, LogLevel};
use super::metrics::Metrics;
use super::stream::deliver;
use crate::config::Config;
use crate::session::Session;
use crate::tunnel::Outputs;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// How soon a wake-up comes: Envoy's shortest tick. It delays the first bytes of a console only.
const WAKE_UP: Duration = Duration::from_millis(1);

/// The sessions of one worker that wait for a tick.
#[derive(Default)]
pub(super) struct Timer {
    /// Open sessions, by the id of their stream.
    open: RefCell<BTreeMap<u32, Weak<RefCell<Session>>>>,
    /// Those of them to wake.
    wake_ups: RefCell<Vec<u32>>,
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
    pub(super) fn configure(&self, config: &Config) {
        self.patience.set(config.console_timeout);
        self.beat.set(config.ping_interval.map(|interval| interval.div_f32(2.0)));
    }

    /// A session opens on this stream.
    pub(super) fn add(
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
        // A wake-up comes before either.
        if is_next && read(&self.wake_ups, Vec::is_empty) { self.set_tick(now) } else { Ok(()) }
    }

    /// The stream is gone.
    pub(super) fn remove(&self, context_id: u32) {
        if let Ok(mut open) = self.open.try_borrow_mut() {
            open.remove(&context_id);
        }
    }

    /// Wakes the session of this stream on the next tick, once however often it asks: what one wake-up
    /// lets go leaves only after the tick. Without ticks the session cannot go on.
    pub(super) fn wake(&self, context_id: u32) -> Result<(), HostError> {
        let Ok(mut wake_ups) = self.wake_ups.try_borrow_mut() else { return Ok(()) };
        if wake_ups.is_empty() {
            host::set_tick_period(Some(WAKE_UP))?;
        }
        if !wake_ups.contains(&context_id) {
            wake_ups.push(context_id);
        }
        Ok(())
    }

    /// Envoy's tick.
    pub(super) fn tick(&self, metrics: &Metrics) -> Result<(), HostError> {
        let due = self.wake_ups.try_borrow_mut().map(|mut due| std::mem::take(&mut *due));
        for context_id in due.unwrap_or_default() {
            self.act(context_id, Session::wake);
        }
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
        let next = if read(&self.wake_ups, Vec::is_empty) {
            let end = read(&self.beginning, |beginning| beginning.front().map(|(end, _)| *end));
            let due = end.into_iter().chain(self.next_beat.get()).min();
            due.map(|due| due.saturating_sub(now).max(WAKE_UP))
        } else {
            Some(WAKE_UP)
        };
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
