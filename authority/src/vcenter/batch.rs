//! Questions about machines that go to vCenter together.
//!
//! A question goes out at once while fewer than [`CALLS`] calls are under way. What is asked meanwhile waits, and
//! the next call takes all of it along. So a calm authority asks about one machine at a time, and when a thousand
//! browsers come back after an outage, vCenter has a sixteenth of the calls to answer, and the authority the cost
//! of as many.
//!
//! A call begins after all of its questions were asked: no answer is older than the question.

use super::machine::{MachineRef, VirtualMachine};
use super::session::Error;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Semaphore, oneshot};

/// Calls that are under way at once before questions wait for each other. More than one, so that an answer that
/// is slow or lost holds up nobody who asks after it.
const CALLS: usize = 4;

/// Machines of one call. With the neighbours of each it is a few pages, which come one after the other.
const MACHINES_MAX: usize = 16;

/// What vCenter says of one machine: `None` if it is not there any more.
pub(super) type Answer = Result<Option<VirtualMachine>, Error>;

/// The questions of one kind.
pub(super) struct Batch {
    waiting: Mutex<Waiting>,
    calls: Semaphore,
}

/// Questions that no call has taken yet, in the order of their numbers.
#[derive(Default)]
struct Waiting {
    questions: VecDeque<Question>,
    next: u64,
}

struct Question {
    number: u64,
    machine: MachineRef,
    answer: oneshot::Sender<Answer>,
}

impl Batch {
    /// Nothing is asked.
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), calls: Semaphore::new(CALLS) }
    }

    /// Asks about one machine. `call` asks vCenter about several, and has an answer for each, in their order.
    /// Somebody else's may be called in its place.
    pub(super) async fn ask<F: Future<Output = Vec<Answer>>>(
        &self,
        machine: &MachineRef,
        call: impl Fn(Vec<MachineRef>) -> F,
    ) -> Answer {
        loop {
            let (number, answer) = self.lock().push(machine.clone());
            // Whoever made the call may have left in the middle of it: then it is made anew.
            if let Ok(answer) = self.answered(number, answer, &call).await {
                return answer;
            }
        }
    }

    /// Waits for the answer to a question, and makes calls while it waits to be put into one.
    async fn answered<F: Future<Output = Vec<Answer>>>(
        &self,
        number: u64,
        mut answer: oneshot::Receiver<Answer>,
        call: impl Fn(Vec<MachineRef>) -> F,
    ) -> Result<Answer, RecvError> {
        while self.lock().has(number) {
            tokio::select! {
                biased;
                answered = &mut answer => return answered,
                Ok(_turn) = self.calls.acquire() => {
                    let questions = self.lock().take();
                    let (machines, askers): (Vec<_>, Vec<_>) = questions
                        .into_iter()
                        .map(|question| (question.machine, question.answer))
                        .unzip();
                    if !machines.is_empty() {
                        for (asker, answer) in askers.into_iter().zip(call(machines).await) {
                            // One that has left is told nothing.
                            let _ = asker.send(answer);
                        }
                    }
                }
            }
        }
        answer.await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is whole even if a holder panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, machine: MachineRef) -> (u64, oneshot::Receiver<Answer>) {
        let number = self.next;
        self.next += 1;
        let (answer, answered) = oneshot::channel();
        self.questions.push_back(Question { number, machine, answer });
        (number, answered)
    }

    fn has(&self, number: u64) -> bool {
        self.questions.front().is_some_and(|first| first.number <= number)
    }

    /// The questions of the next call, without those of askers that have left.
    fn take(&mut self) -> Vec<Question> {
        let mut taken = Vec::new();
        while taken.len() < MACHINES_MAX
            && let Some(question) = self.questions.pop_front()
        {
            if !question.answer.is_closed() {
                taken.push(question);
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

    /// A vCenter that notes which machines each call is about.
    #[derive(Clone, Default)]
    struct Calls(Rc<RefCell<Vec<Vec<String>>>>);

    impl Calls {
        async fn call(&self, machines: Vec<MachineRef>) -> Vec<Answer> {
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

    async fn ask(batch: &Batch, calls: &Calls, number: usize) {
        let machine = reference(number);
        let answer = batch.ask(&machine, |machines| calls.call(machines)).await;
        assert_eq!(answer.unwrap().unwrap().reference, machine);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_alone_waits_for_nobody() {
        let (batch, calls) = (Batch::new(), Calls::default());
        for number in 0..3 {
            ask(&batch, &calls, number).await;
        }
        join_all((0..CALLS).map(|number| ask(&batch, &calls, number))).await;
        assert_eq!(calls.sizes(), [1; 3 + CALLS]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_share_calls_and_each_has_its_own_answer() {
        let (batch, calls) = (Batch::new(), Calls::default());
        join_all((0..100).map(|number| ask(&batch, &calls, number))).await;
        let sizes = calls.sizes();
        assert_eq!(sizes[..CALLS], [1; CALLS]);
        assert_eq!(sizes[CALLS..], [16; 6], "the other 96");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_put_into_no_call_that_has_begun() {
        let (batch, calls) = (Batch::new(), Calls::default());
        let late = async {
            sleep(CALL / 2).await;
            ask(&batch, &calls, 0).await;
        };
        tokio::join!(ask(&batch, &calls, 0), late);
        assert_eq!(calls.sizes(), [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_no_answer_from_the_others() {
        let (batch, calls) = (Batch::new(), Calls::default());
        let impatient = |number| {
            let asked = ask(&batch, &calls, number);
            async { assert!(timeout(CALL * 3 / 2, asked).await.is_err()) }
        };
        // The first calls are over at 10 ms. Who asks for the rest then leaves at 15 ms.
        let busy = join_all((0..CALLS).map(|number| ask(&batch, &calls, number)));
        let leaving = join_all((10..14).map(impatient));
        let patient = join_all((20..30).map(|number| ask(&batch, &calls, number)));
        timeout(CALL * 4, async { tokio::join!(busy, leaving, patient) }).await.unwrap();
        let last = calls.0.borrow().last().cloned().unwrap_or_default();
        assert!(last.iter().all(|machine| machine.starts_with("vm-2")), "{last:?}");
    }
}
