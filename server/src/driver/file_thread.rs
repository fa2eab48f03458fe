//! File work off the core: one thread that does what it is told, in order, and reports.
//!
//! Invariants: orders are done in the order given; each order is answered at most once; an error
//! ends the thread's work and is the last thing it reports. What finds the queue full waits in the
//! core's backlog, which the arena (pages) and the segment limit (WAL) bound.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::waker::Waker;
use crate::error::Fault;

/// Work for a thread: what an order does, and what is reported.
pub trait Worker: Send + 'static {
    /// What it is told.
    type Order: Send + 'static;
    /// What it reports.
    type Report: Send + 'static;
    /// Its name, for the thread and for errors.
    const NAME: &'static str;
    /// It rests after this long without orders.
    const REST_AFTER: Duration = Duration::from_secs(2);

    /// Does one order.
    fn work(&mut self, order: Self::Order) -> Result<Option<Self::Report>, Fault>;

    /// Nothing came for a while after work was done.
    fn rest(&mut self) {}
}

/// The core's end of a thread.
#[derive(Debug)]
pub struct FileThread<W: Worker> {
    orders: Option<Sender<W::Order>>,
    backlog: VecDeque<W::Order>,
    reports: Receiver<Result<W::Report, Fault>>,
    /// Orders given and not yet done.
    pending: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// The next order; `None` when the core is gone. The worker rests once while it waits. Before it
/// sleeps it lets the core run, which may share its processor and have the next order at once: under
/// load that saves a sleep. The queue's own way of waiting would spin besides, which saves nothing.
fn next_order<W: Worker>(queue: &Receiver<W::Order>, worker: &mut W) -> Option<W::Order> {
    let mut rest_at = None;
    let mut has_rested = false;
    let mut yields = 0;
    loop {
        match queue.try_recv() {
            Ok(order) => return Some(order),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if yields < YIELDS_MAX => {
                yields += 1;
                std::thread::yield_now();
            }
            // Who sends or hangs up after this wakes the thread, or keeps it from sleeping.
            Err(TryRecvError::Empty) if has_rested => std::thread::park(),
            Err(TryRecvError::Empty) => {
                let now = Instant::now();
                let rest_at = *rest_at.get_or_insert(now + W::REST_AFTER);
                if now < rest_at {
                    std::thread::park_timeout(rest_at - now);
                } else {
                    worker.rest();
                    has_rested = true;
                }
            }
        }
    }
}

/// So often the thread lets others run before it sleeps.
const YIELDS_MAX: u32 = 2;

impl<W: Worker> FileThread<W> {
    /// Starts the thread.
    pub fn start(mut worker: W, waker: Waker) -> io::Result<FileThread<W>> {
        let (orders, queue) = bounded::<W::Order>(ORDERS_MAX);
        let (report, reports) = bounded(ORDERS_MAX);
        let pending = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&pending);
        let thread = std::thread::Builder::new().name(W::NAME.to_owned()).spawn(move || {
            while let Some(order) = next_order(&queue, &mut worker) {
                let outcome = worker.work(order);
                let failed = outcome.is_err();
                let mut has_news = false;
                if let Some(outcome) = outcome.transpose() {
                    has_news = true;
                    if report.send(outcome).is_err() {
                        return;
                    }
                }
                // The core hears of reports, and of the end of all work: a stop waits for it.
                let is_last = done.fetch_sub(1, Ordering::SeqCst) == 1;
                if has_news || is_last {
                    waker.wake();
                }
                if failed {
                    return;
                }
            }
        })?;
        Ok(FileThread {
            orders: Some(orders),
            backlog: VecDeque::new(),
            reports,
            pending,
            thread: Some(thread),
        })
    }

    /// Gives an order; it waits in the backlog while the queue is full.
    pub fn order(&mut self, order: W::Order) {
        assert!(self.backlog.len() < BACKLOG_MAX);
        self.pending.fetch_add(1, Ordering::SeqCst);
        self.backlog.push_back(order);
        self.send_backlog();
    }

    fn send_backlog(&mut self) {
        let orders = self.orders.as_ref().expect("taken only when the thread is stopped");
        while let Some(order) = self.backlog.pop_front() {
            match orders.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(order)) => {
                    self.backlog.push_front(order);
                    break;
                }
                // The thread has reported why it ended, or `report` will say that it did.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
        self.wake();
    }

    /// The thread has something to do, or is to end.
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Takes one report.
    pub fn report(&mut self) -> Result<Option<W::Report>, Fault> {
        if !self.backlog.is_empty() {
            self.send_backlog();
        }
        match self.reports.try_recv() {
            Ok(report) => report.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Fault::ThreadEnded(W::NAME)),
        }
    }

    /// Whether there is nothing to report now.
    pub fn is_quiet(&self) -> bool {
        self.reports.is_empty()
    }

    /// Whether every order given is done and reported.
    pub fn is_idle(&self) -> bool {
        self.pending.load(Ordering::SeqCst) == 0 && self.reports.is_empty()
    }

    /// Lets the thread finish what it was told, and waits for it.
    pub fn stop(&mut self) {
        while !self.backlog.is_empty() && self.thread.as_ref().is_some_and(|t| !t.is_finished()) {
            while self.reports.try_recv().is_ok() {}
            self.send_backlog();
            std::thread::yield_now();
        }
        self.orders = None;
        self.wake();
        // Reports are taken until the thread has hung up, so that it never waits for room.
        while self.reports.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic ends the process");
        }
    }
}

impl<W: Worker> Drop for FileThread<W> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

const ORDERS_MAX: usize = 1024;
/// Orders that wait for room: two intervals of single pages.
const BACKLOG_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Worker for Echo {
        type Order = u64;
        type Report = u64;
        const NAME: &'static str = "echo";

        fn work(&mut self, order: u64) -> Result<Option<u64>, Fault> {
            match order {
                u64::MAX => Err(Fault::ThreadEnded("test")),
                odd if odd % 2 == 1 => Ok(None),
                even => Ok(Some(even)),
            }
        }
    }

    fn next(thread: &mut FileThread<Echo>) -> Result<u64, Fault> {
        loop {
            if let Some(report) = thread.report()? {
                return Ok(report);
            }
            std::thread::yield_now();
        }
    }

    /// Says when it rests.
    struct Idler(Sender<()>);

    impl Worker for Idler {
        type Order = u64;
        type Report = u64;
        const NAME: &'static str = "idler";
        const REST_AFTER: Duration = Duration::from_millis(1);

        fn work(&mut self, order: u64) -> Result<Option<u64>, Fault> {
            Ok(Some(order))
        }

        fn rest(&mut self) {
            self.0.send(()).expect("the test waits for it");
        }
    }

    #[test]
    fn a_thread_that_rests_is_woken_by_an_order_and_by_the_end() {
        let (rests, rested) = bounded(1);
        let mut thread = FileThread::start(Idler(rests), Waker::new().unwrap()).unwrap();
        for n in 0..20 {
            rested.recv().expect("it has nothing to do");
            assert!(rested.is_empty(), "once is enough");
            thread.order(n);
            let report = loop {
                if let Some(report) = thread.report().unwrap() {
                    break report;
                }
                std::thread::yield_now();
            };
            assert_eq!(report, n);
        }
        rested.recv().expect("it has nothing to do");
        thread.stop();
        assert!(rested.recv().is_err(), "it is gone");
    }

    #[test]
    fn orders_beyond_the_queue_are_done_in_order() {
        let mut thread = FileThread::start(Echo, Waker::new().unwrap()).unwrap();
        let count = 5 * ORDERS_MAX as u64;
        for n in 0..count {
            thread.order(n);
        }
        for n in (0..count).step_by(2) {
            assert_eq!(next(&mut thread).unwrap(), n);
        }
        while !thread.is_idle() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_error_is_reported_and_ends_the_work() {
        let mut thread = FileThread::start(Echo, Waker::new().unwrap()).unwrap();
        thread.order(2);
        thread.order(u64::MAX);
        thread.order(4);
        assert_eq!(next(&mut thread).unwrap(), 2);
        assert!(matches!(next(&mut thread), Err(Fault::ThreadEnded("test"))));
        assert!(matches!(next(&mut thread), Err(Fault::ThreadEnded("echo"))));
    }

    #[test]
    fn stopping_finishes_what_was_ordered() {
        let mut thread = FileThread::start(Echo, Waker::new().unwrap()).unwrap();
        for n in 0..3 * ORDERS_MAX as u64 {
            thread.order(n);
        }
        thread.stop();
        assert_eq!(thread.pending.load(Ordering::SeqCst), 0);
    }
}
