//! What happens to a stream outside of its own callbacks: wake-ups and beats, both on Envoy's one tick
//! per VM.

use super::host::{self, HostError};
use super::stream::deliver;
use crate::session::Session;
use crate::tunnel::Outputs;
use proxy_wasm::types::LogLevel;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
    /// Half the ping interval; `None`: no beats.
    beat: Cell<Option<Duration>>,
    /// When the next beat is due; `None` while no session is open.
    next_beat: Cell<Option<Duration>>,
}

impl Timer {
    /// Sets the ping interval, before any session opens.
    pub(super) fn set_ping_interval(&self, interval: Option<Duration>) {
        self.beat.set(interval.map(|interval| interval.div_f32(2.0)));
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
        if let (Some(beat), None) = (self.beat.get(), self.next_beat.get()) {
            self.next_beat.set(Some(host::now()?.saturating_add(beat)));
            host::set_tick_period(Some(beat))?;
        }
        Ok(())
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
    pub(super) fn tick(&self) -> Result<(), HostError> {
        let due = self.wake_ups.try_borrow_mut().map(|mut due| std::mem::take(&mut *due));
        for context_id in due.unwrap_or_default() {
            self.act(context_id, Session::wake);
        }
        let now = host::now()?;
        if self.next_beat.get().is_some_and(|due| now >= due) {
            let open: Vec<u32> = read(&self.open, |open| open.keys().copied().collect());
            self.next_beat.set(
                self.beat.get().filter(|_| !open.is_empty()).map(|beat| now.saturating_add(beat)),
            );
            for context_id in open {
                self.act(context_id, Session::beat);
            }
        }
        let next = if read(&self.wake_ups, |due| due.is_empty()) {
            self.next_beat.get().map(|due| due.saturating_sub(now).max(WAKE_UP))
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
        if let Err(error) = deliver(outputs, context_id, self) {
            host::log(LogLevel::Error, &format!("stream {context_id}: {error}"));
            let _ = host::reset_stream();
        }
    }
}

/// Reads what no callback holds on to; were one to, there would be nothing to read.
fn read<T, R: Default>(cell: &RefCell<T>, read: impl FnOnce(&T) -> R) -> R {
    cell.try_borrow().map(|value| read(&value)).unwrap_or_default()
}
