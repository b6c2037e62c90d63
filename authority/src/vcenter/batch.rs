//! Requests for machines' properties that go to vCenter together.
//!
//! A request goes out at once while fewer than [`CALLS`] calls are in progress. Requests that arrive meanwhile wait, and
//! the next call takes all of them along. So a calm authority reads one machine at a time; when a thousand browsers
//! come back after an outage, vCenter answers a sixteenth of the calls, and the authority pays for as many.
//!
//! A call begins after all of its requests were made, so no result is older than its request.

use super::error::VcenterError;
use super::machine::VirtualMachine;
use super::reference::MachineRef;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Semaphore, oneshot};

/// Calls in progress before requests wait for each other. More than one, so that a slow or lost reply does not delay
/// the requests after it.
const CALLS: usize = 4;

/// Machines in one call, at most. With the neighbours of each machine the reply is a few pages, which come one after
/// the other.
const MACHINES_MAX: usize = 16;

/// One machine's properties; `None` if vCenter no longer has it.
pub(super) type MachineResult = Result<Option<VirtualMachine>, VcenterError>;

/// The requests for one [`Detail`](super::machine::Detail).
pub(super) struct Batch {
    waiting: Mutex<Waiting>,
    calls: Semaphore,
}

/// Requests that no call has taken yet, in the order of their numbers.
#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    next: u64,
}

struct Request {
    number: u64,
    machine: MachineRef,
    response: oneshot::Sender<MachineResult>,
}

impl Batch {
    /// Creates an empty batch.
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), calls: Semaphore::new(CALLS) }
    }

    /// Requests one machine's properties. `call` reads several machines and returns a result for each, in their order;
    /// the request may also travel in another caller's call.
    pub(super) async fn request<F: Future<Output = Vec<MachineResult>>>(
        &self,
        machine: &MachineRef,
        call: impl Fn(Vec<MachineRef>) -> F,
    ) -> MachineResult {
        loop {
            let (number, response) = self.lock().push(machine.clone());
            // The caller that made the call may have been cancelled in the middle of it: then request again.
            if let Ok(result) = self.wait(number, response, &call).await {
                return result;
            }
        }
    }

    /// Waits for the response to a request. Makes calls until the request is in one.
    async fn wait<F: Future<Output = Vec<MachineResult>>>(
        &self,
        number: u64,
        mut response: oneshot::Receiver<MachineResult>,
        call: impl Fn(Vec<MachineRef>) -> F,
    ) -> Result<MachineResult, RecvError> {
        while self.lock().has(number) {
            tokio::select! {
                biased;
                result = &mut response => return result,
                Ok(_permit) = self.calls.acquire() => {
                    let requests = self.lock().take();
                    let (machines, responses): (Vec<_>, Vec<_>) = requests
                        .into_iter()
                        .map(|request| (request.machine, request.response))
                        .unzip();
                    if !machines.is_empty() {
                        for (response, result) in responses.into_iter().zip(call(machines).await) {
                            // A cancelled caller no longer waits for it.
                            let _ = response.send(result);
                        }
                    }
                }
            }
        }
        response.await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is complete even if a holder panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, machine: MachineRef) -> (u64, oneshot::Receiver<MachineResult>) {
        let number = self.next;
        self.next += 1;
        let (response, receiver) = oneshot::channel();
        self.requests.push_back(Request { number, machine, response });
        (number, receiver)
    }

    fn has(&self, number: u64) -> bool {
        self.requests.front().is_some_and(|first| first.number <= number)
    }

    /// Takes the requests of the next call, without those of cancelled callers.
    fn take(&mut self) -> Vec<Request> {
        let mut taken = Vec::new();
        while taken.len() < MACHINES_MAX
            && let Some(request) = self.requests.pop_front()
        {
            if !request.response.is_closed() {
                taken.push(request);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcenter::machine::tests::machine_on;
    use futures_util::future::join_all;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    /// How long vCenter takes.
    const CALL: Duration = Duration::from_millis(10);

    /// A vCenter that records which machines each call reads.
    #[derive(Clone, Default)]
    struct Calls(Rc<RefCell<Vec<Vec<String>>>>);

    impl Calls {
        async fn call(&self, machines: Vec<MachineRef>) -> Vec<MachineResult> {
            let names = machines.iter().map(|machine| machine.as_str().to_owned()).collect();
            self.0.borrow_mut().push(names);
            sleep(CALL).await;
            machines.iter().map(|machine| Ok(Some(named(machine)))).collect()
        }

        fn sizes(&self) -> Vec<usize> {
            self.0.borrow().iter().map(Vec::len).collect()
        }
    }

    fn reference(number: usize) -> MachineRef {
        MachineRef::from(format!("vm-{number}"))
    }

    fn named(machine: &MachineRef) -> VirtualMachine {
        VirtualMachine { reference: machine.clone(), ..machine_on("6.7.0", Some(5901)) }
    }

    async fn request(batch: &Batch, calls: &Calls, number: usize) {
        let machine = reference(number);
        let result = batch.request(&machine, |machines| calls.call(machines)).await;
        assert_eq!(result.unwrap().unwrap().reference, machine);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_request_goes_out_at_once() {
        let (batch, calls) = (Batch::new(), Calls::default());
        for number in 0..3 {
            request(&batch, &calls, number).await;
        }
        join_all((0..CALLS).map(|number| request(&batch, &calls, number))).await;
        assert_eq!(calls.sizes(), [1; 3 + CALLS]);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_calls_and_each_gets_its_own_result() {
        let (batch, calls) = (Batch::new(), Calls::default());
        join_all((0..100).map(|number| request(&batch, &calls, number))).await;
        let sizes = calls.sizes();
        assert_eq!(sizes[..CALLS], [1; CALLS]);
        assert_eq!(sizes[CALLS..], [16; 6], "the other 96");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_joins_no_call_that_has_begun() {
        let (batch, calls) = (Batch::new(), Calls::default());
        let late = async {
            sleep(CALL / 2).await;
            request(&batch, &calls, 0).await;
        };
        tokio::join!(request(&batch, &calls, 0), late);
        assert_eq!(calls.sizes(), [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_takes_no_result_from_the_others() {
        let (batch, calls) = (Batch::new(), Calls::default());
        let impatient = |number| {
            let request = request(&batch, &calls, number);
            async { assert!(timeout(CALL * 3 / 2, request).await.is_err()) }
        };
        // The first calls are over at 10 ms. The callers that carry the rest are cancelled at 15 ms.
        let busy = join_all((0..CALLS).map(|number| request(&batch, &calls, number)));
        let leaving = join_all((10..14).map(impatient));
        let patient = join_all((20..30).map(|number| request(&batch, &calls, number)));
        timeout(CALL * 4, async { tokio::join!(busy, leaving, patient) }).await.unwrap();
        let last = calls.0.borrow().last().cloned().unwrap_or_default();
        assert!(last.iter().all(|machine| machine.starts_with("vm-2")), "{last:?}");
    }
}
