//! Between the cores of a member: bounded queues, one for each pair, and what a core must be told
//! besides messages: connections placed on it, and the wish to stop.
//!
//! Invariants: a queue for messages always has room, because a sender holds a slot of the receiver
//! before it sends (shard's law; a full queue is a broken invariant). A queue for connections may
//! be full: the connection then stays where it was accepted.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam::queue::ArrayQueue;
use shard::{
    input::{CoreId, Door, Input},
    message::Message,
};
use socket2::Socket;

use super::waker::Waker;

/// A connection on its way to the core that will serve it.
#[derive(Debug)]
pub struct Arrival {
    /// The socket, not blocking.
    pub socket: Socket,
    /// The door it came in by.
    pub door: Door,
    /// It was counted where connections are spread over the cores, and is to be counted out.
    pub is_placed: bool,
}

/// All cores of a member, as each of them sees the others.
#[derive(Debug)]
pub struct Mesh {
    cores: Vec<Mailbox>,
    shutdown: AtomicBool,
}

#[derive(Debug)]
struct Mailbox {
    waker: Waker,
    /// By sender.
    messages: Vec<ArrayQueue<Box<Message>>>,
    arrivals: ArrayQueue<Arrival>,
    /// Connections that ended here since the accepting core last asked.
    departures: AtomicU64,
    /// The last published figures of its shard.
    cells: Mutex<Vec<u64>>,
}

impl Mesh {
    /// The mesh of as many cores as there are wakers.
    pub fn new(wakers: Vec<Waker>) -> Arc<Mesh> {
        let count = wakers.len();
        assert!(1 <= count);
        let cores = wakers
            .into_iter()
            .map(|waker| Mailbox {
                waker,
                messages: (0..count).map(|_| ArrayQueue::new(MESSAGES_MAX)).collect(),
                arrivals: ArrayQueue::new(ARRIVALS_MAX),
                departures: AtomicU64::new(0),
                cells: Mutex::new(Vec::new()),
            })
            .collect();
        Arc::new(Mesh { cores, shutdown: AtomicBool::new(false) })
    }

    /// How many cores there are.
    pub fn core_count(&self) -> u16 {
        u16::try_from(self.cores.len()).expect("made from a u16 of cores")
    }

    /// The waker of a core.
    pub fn waker(&self, core: CoreId) -> &Waker {
        &self.mailbox(core).waker
    }

    fn mailbox(&self, core: CoreId) -> &Mailbox {
        &self.cores[usize::from(core.0)]
    }

    /// Hands a message over.
    pub fn forward(&self, from: CoreId, to: CoreId, message: Box<Message>) {
        let mailbox = self.mailbox(to);
        let sent = mailbox.messages[usize::from(from.0)].push(message);
        assert!(sent.is_ok(), "core {} sent to core {} without a slot", from.0, to.0);
        mailbox.waker.wake();
    }

    /// Hands a connection over; it comes back when the queue is full.
    pub fn place(&self, to: CoreId, arrival: Arrival) -> Result<(), Arrival> {
        let mailbox = self.mailbox(to);
        mailbox.arrivals.push(arrival)?;
        mailbox.waker.wake();
        Ok(())
    }

    /// Takes the messages that lie there for a core, as inputs.
    pub fn receive(&self, core: CoreId, inputs: &mut Vec<Input>) {
        let mailbox = self.mailbox(core);
        for (from, queue) in mailbox.messages.iter().enumerate() {
            let from = CoreId(u16::try_from(from).expect("made from a u16 of cores"));
            for _ in 0..MESSAGES_PER_STEP_MAX {
                let Some(message) = queue.pop() else { break };
                inputs.push(Input::Forwarded { from, message });
            }
        }
    }

    /// Takes one connection placed on a core.
    pub fn arrival(&self, core: CoreId) -> Option<Arrival> {
        self.mailbox(core).arrivals.pop()
    }

    /// Whether nothing lies there for a core.
    pub fn is_quiet(&self, core: CoreId) -> bool {
        let mailbox = self.mailbox(core);
        mailbox.arrivals.is_empty() && mailbox.messages.iter().all(ArrayQueue::is_empty)
    }

    /// Counts a connection that ended on a core.
    pub fn departed(&self, core: CoreId) {
        self.mailbox(core).departures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many ended on a core since the last call.
    pub fn take_departures(&self, core: CoreId) -> u64 {
        self.mailbox(core).departures.swap(0, Ordering::Relaxed)
    }

    /// Publishes a core's figures.
    pub fn publish(&self, core: CoreId, cells: &[u64]) {
        // A reader holds the lock for a copy at most; the next step publishes again.
        if let Ok(mut published) = self.mailbox(core).cells.try_lock() {
            published.clear();
            published.extend_from_slice(cells);
        }
    }

    /// Copies of all cores' figures.
    pub fn published(&self) -> Vec<Vec<u64>> {
        let copy = |mailbox: &Mailbox| {
            mailbox.cells.lock().expect("a panic ends the process, so no lock is poisoned").clone()
        };
        self.cores.iter().map(copy).collect()
    }

    /// Asks all cores to stop cleanly.
    pub fn request_shutdown(&self) {
        self.shutdown.store(true, Ordering::SeqCst);
        for mailbox in &self.cores {
            mailbox.waker.wake();
        }
    }

    /// Whether that was asked for.
    pub fn is_shutdown_requested(&self) -> bool {
        self.shutdown.load(Ordering::SeqCst)
    }
}

/// Messages from one core to another that wait; shard's slots are fewer.
pub const MESSAGES_MAX: usize = 16 * 1024;
const MESSAGES_PER_STEP_MAX: usize = 1024;
const ARRIVALS_MAX: usize = 1024;
