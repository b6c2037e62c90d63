//! Who is to be called as soon as the callback that runs is over.
//!
//! Envoy has no call for that but one: what a VM puts into a shared queue is announced to whoever registered
//! the queue, by an event that Envoy's dispatcher posts and runs at its next turn. So each VM has a queue of
//! its own and writes to itself. (The tick would do, a millisecond later and with a timer for it.)

use crate::hostcalls::{self as host, HostError, LogLevel};
use std::cell::{Cell, RefCell};

/// Shared data: how many queues there are. Queues are shared by name, so each VM takes a number for its own.
const QUEUES: &str = "vncgate.queues";

/// A version that no shared value has, with which only an absent one can be set.
const ABSENT: u32 = u32::MAX;

/// Each attempt fails only if another VM has taken a number meanwhile, and each takes one when it starts.
const ATTEMPTS: usize = 10_000;

/// The streams of one VM that wait for a wake-up.
#[derive(Default)]
pub(crate) struct WakeUps {
    queue: Cell<Option<u32>>,
    waiting: RefCell<Vec<u32>>,
}

impl WakeUps {
    /// Registers the queue, once.
    pub(crate) fn configure(&self) -> Result<(), HostError> {
        if self.queue.get().is_none() {
            let name = format!("vncgate-{}", number()?);
            self.queue.set(Some(host::register_queue(&name)?));
        }
        Ok(())
    }

    /// A stream is to be woken, once however often it asks.
    pub(crate) fn add(&self, context_id: u32) -> Result<(), HostError> {
        let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return Ok(()) };
        if waiting.is_empty() {
            host::enqueue(self.queue.get().ok_or(HostError::NOT_FOUND)?)?;
        }
        if !waiting.contains(&context_id) {
            waiting.push(context_id);
        }
        Ok(())
    }

    /// Envoy has called: who waits. What one wake-up asks for comes with the next.
    pub(crate) fn take(&self) -> Vec<u32> {
        if let Err(error) = self.queue.get().map_or(Ok(()), host::dequeue) {
            host::log(LogLevel::Error, &format!("queue of wake-ups: {error}"));
        }
        let waiting =
            self.waiting.try_borrow_mut().map(|mut waiting| std::mem::take(&mut *waiting));
        waiting.unwrap_or_default()
    }
}

/// A number that no other VM takes.
fn number() -> Result<u64, HostError> {
    for _ in 0..ATTEMPTS {
        let (next, version) = match host::shared_data(QUEUES) {
            Ok((value, version)) => {
                let value = value.try_into().map(u64::from_le_bytes).unwrap_or_default();
                (value.wrapping_add(1), version)
            }
            Err(HostError::NOT_FOUND) => (0, ABSENT),
            Err(error) => return Err(error),
        };
        match host::set_shared_data(QUEUES, &next.to_le_bytes(), version) {
            Ok(()) => return Ok(next),
            Err(HostError::CAS_MISMATCH) => {}
            Err(error) => return Err(error),
        }
    }
    Err(HostError::CAS_MISMATCH)
}
