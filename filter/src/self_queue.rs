//! Has Envoy call this VM again as soon as the running callback is over.
//!
//! Envoy has one way to do that: a value that is put into a shared queue is announced to the VM that registered
//! the queue, by an event that Envoy's dispatcher runs at its next turn. So each VM registers a queue of its own
//! and puts values into it itself. (A tick would do the same a millisecond later, and needs a timer.)

use crate::hostcalls::{self, HostError, LogLevel};
use std::cell::{Cell, RefCell};

/// Key of the shared data that counts the queues. Queues are shared by name, so each VM takes a number for its
/// own.
const QUEUE_COUNT_KEY: &str = "vncgate.queues";

/// A version that no shared value has, so that only an absent value can be set with it.
const VERSION_OF_ABSENT: u32 = u32::MAX;

/// Most attempts to take a number. Each fails only if another VM takes one at the same time, and each VM takes
/// one when it starts.
const ATTEMPTS_MAX: usize = 10_000;

/// The streams of one VM that wait for a wake-up.
#[derive(Default)]
pub(crate) struct SelfQueue {
    queue: Cell<Option<u32>>,
    waiting: RefCell<Vec<u32>>,
}

impl SelfQueue {
    /// Registers the queue, once.
    pub(crate) fn register(&self) -> Result<(), HostError> {
        if self.queue.get().is_none() {
            let name = format!("vncgate-{}", take_number()?);
            self.queue.set(Some(hostcalls::register_queue(&name)?));
        }
        Ok(())
    }

    /// Requests a wake-up for a stream. Repeated requests make one wake-up.
    pub(crate) fn request_wake_up(&self, context_id: u32) -> Result<(), HostError> {
        let Ok(mut waiting) = self.waiting.try_borrow_mut() else { return Ok(()) };
        if waiting.is_empty() {
            hostcalls::enqueue(self.queue.get().ok_or(HostError::NOT_FOUND)?)?;
        }
        if !waiting.contains(&context_id) {
            waiting.push(context_id);
        }
        Ok(())
    }

    /// Takes the streams that wait, in Envoy's call for the queue. A request that is made while they are woken
    /// up waits for the next call.
    pub(crate) fn take_waiting(&self) -> Vec<u32> {
        if let Err(error) = self.queue.get().map_or(Ok(()), hostcalls::dequeue) {
            hostcalls::log(LogLevel::Error, &format!("self-queue: {error}"));
        }
        let waiting =
            self.waiting.try_borrow_mut().map(|mut waiting| std::mem::take(&mut *waiting));
        waiting.unwrap_or_default()
    }
}

/// Takes a number that no other VM has.
fn take_number() -> Result<u64, HostError> {
    for _ in 0..ATTEMPTS_MAX {
        let (next, version) = match hostcalls::read_shared_data(QUEUE_COUNT_KEY) {
            Ok((value, version)) => {
                let value = value.try_into().map(u64::from_le_bytes).unwrap_or_default();
                (value.wrapping_add(1), version)
            }
            Err(HostError::NOT_FOUND) => (0, VERSION_OF_ABSENT),
            Err(error) => return Err(error),
        };
        match hostcalls::set_shared_data(QUEUE_COUNT_KEY, &next.to_le_bytes(), version) {
            Ok(()) => return Ok(next),
            Err(HostError::CAS_MISMATCH) => {}
            Err(error) => return Err(error),
        }
    }
    Err(HostError::CAS_MISMATCH)
}
