//! What the two ends of one session know of each other, being in one process: the account of bytes, and
//! what the client wants the console to do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use vncgate_load::pattern::{Altered, Stream};

/// What a console is told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Send some bytes now.
    Send,
    /// Send nothing more by itself.
    Pause,
    /// Send some bytes and close.
    Close,
    /// Close with a TCP reset.
    Reset,
}

/// Bytes of one direction.
#[derive(Debug, Default)]
pub(crate) struct Count {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Count {
    /// Counts bytes that are about to be sent.
    pub(crate) fn send(&self, len: usize) {
        self.sent.fetch_add(len as u64, Ordering::SeqCst);
    }

    /// Counts bytes that have arrived unaltered.
    pub(crate) fn receive(&self, len: usize) {
        self.received.fetch_add(len as u64, Ordering::SeqCst);
    }

    /// How many have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// How many were sent and have not arrived.
    pub(crate) fn missing(&self) -> u64 {
        // In this order: what is sent meanwhile counts as missing.
        let received = self.received();
        self.sent.load(Ordering::SeqCst) - received
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// By this number the console knows it.
    pub(crate) number: u64,
    /// The mean time between two bursts of each side.
    pub(crate) gap: Duration,
    /// Client to console.
    pub(crate) up: Count,
    /// Console to client.
    pub(crate) down: Count,
    /// Called when the console has received something, obeyed, or ended.
    pub(crate) changed: Notify,
    orders: mpsc::UnboundedSender<Order>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Order>>>,
    given: AtomicU64,
    obeyed: AtomicU64,
    ended: AtomicBool,
    fault: Mutex<Option<Altered>>,
}

impl Exchange {
    fn new(number: u64, gap: Duration) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        Self {
            number,
            gap,
            up: Count::default(),
            down: Count::default(),
            changed: Notify::new(),
            orders,
            inbox: Mutex::new(Some(inbox)),
            given: AtomicU64::new(0),
            obeyed: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            fault: Mutex::new(None),
        }
    }

    /// The bytes that the client sends.
    pub(crate) fn up_stream(&self) -> Stream {
        Stream::new(2 * self.number)
    }

    /// The bytes that the console sends.
    pub(crate) fn down_stream(&self) -> Stream {
        Stream::new(2 * self.number + 1)
    }

    /// Tells the console to do something. One that is gone does nothing.
    pub(crate) fn order(&self, order: Order) {
        self.given.fetch_add(1, Ordering::SeqCst);
        // The account shows that it was not obeyed.
        let _ = self.orders.send(order);
    }

    /// The orders, for the console; once.
    pub(crate) fn inbox(&self) -> Option<mpsc::UnboundedReceiver<Order>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The console has done what an order says.
    pub(crate) fn obey(&self) {
        self.obeyed.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Every order is obeyed, and each side has what the other sent.
    pub(crate) fn is_settled(&self) -> bool {
        let obeyed = self.obeyed.load(Ordering::SeqCst) == self.given.load(Ordering::SeqCst);
        obeyed && self.up.missing() == 0 && self.down.missing() == 0
    }

    /// The console's connection is closed, after altered bytes if there were any.
    pub(crate) fn end(&self, fault: Option<Altered>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.ended.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Whether the console's connection is closed.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The altered bytes that the console got.
    pub(crate) fn fault(&self) -> Option<Altered> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All sessions that there are.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Arc<Exchange>>,
    /// Of sessions that are forgotten.
    received: Received,
}

/// Bytes that have arrived unaltered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// From clients to consoles.
    pub(crate) up: u64,
    /// From consoles to clients.
    pub(crate) down: u64,
}

impl Received {
    fn add(&mut self, exchange: &Exchange) {
        self.up += exchange.up.received();
        self.down += exchange.down.received();
    }
}

impl Exchanges {
    /// A new session, with this mean time between the bursts of each side.
    pub(crate) fn open(&self, gap: Duration) -> Arc<Exchange> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let exchange = Arc::new(Exchange::new(number, gap));
        self.state().open.insert(number, Arc::clone(&exchange));
        exchange
    }

    /// The session of this number.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Exchange>> {
        self.state().open.get(&number).cloned()
    }

    /// Forgets a session.
    pub(crate) fn close(&self, exchange: &Exchange) {
        let mut state = self.state();
        if state.open.remove(&exchange.number).is_some() {
            state.received.add(exchange);
        }
    }

    /// What has arrived in all sessions so far.
    pub(crate) fn received(&self) -> Received {
        let state = self.state();
        let mut received = state.received;
        state.open.values().for_each(|exchange| received.add(exchange));
        received
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
