//! Where a load's thread notes what was answered and finds what to call next, and where others cut
//! windows out of it.

use crate::workload::Workload;
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was counted in a window.
#[derive(Clone, Debug)]
pub struct Tally {
    latencies_ns: Histogram<u64>,
    /// Calls that failed.
    pub failures: u64,
    /// What the first of them said.
    pub failure: Option<String>,
    /// Transactions whose guard did not hold.
    pub guards_failed: u64,
}

impl Tally {
    /// Calls that succeeded.
    pub fn calls(&self) -> u64 {
        self.latencies_ns.len()
    }

    /// The latency that `part` (0.99) of the calls stayed within.
    pub fn latency(&self, part: f64) -> Duration {
        Duration::from_nanos(self.latencies_ns.value_at_quantile(part))
    }

    /// The longest latency.
    pub fn latency_max(&self) -> Duration {
        Duration::from_nanos(self.latencies_ns.max())
    }
}

impl Default for Tally {
    fn default() -> Tally {
        let latencies_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("three digits of this range are allowed");
        Tally { latencies_ns, failures: 0, failure: None, guards_failed: 0 }
    }
}

/// A longer latency counts as this one.
const LATENCY_NS_MAX: u64 = 600 * 1_000_000_000;

/// What the load's thread and its owner both see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    stops: AtomicBool,
    tally: Mutex<Tally>,
}

impl Shared {
    pub(crate) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut self.tally())
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The load thread's side.
#[derive(Debug)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    workload: RefCell<Workload>,
    remaining: Cell<Option<u64>>,
}

impl Recorder {
    pub(crate) fn new(shared: Arc<Shared>, workload: Workload, calls: Option<u64>) -> Recorder {
        Recorder { shared, workload: RefCell::new(workload), remaining: Cell::new(calls) }
    }

    /// Whether more calls may begin.
    pub(crate) fn may_go_on(&self) -> bool {
        !self.shared.stops.load(Ordering::Relaxed) && self.remaining.get() != Some(0)
    }

    /// Whether one more call may begin; it is then counted as begun.
    pub(crate) fn maybe_begin(&self) -> bool {
        if !self.may_go_on() {
            return false;
        }
        self.remaining.set(self.remaining.get().map(|remaining| remaining - 1));
        true
    }

    pub(crate) fn next_put(&self, key: &mut Vec<u8>) -> Bytes {
        self.workload.borrow_mut().next_put(key)
    }

    pub(crate) fn next_key(&self, key: &mut Vec<u8>) {
        self.workload.borrow_mut().next_key(key);
    }

    /// The key that transactions of one worker go to: workers do not disturb each other.
    pub(crate) fn worker_key(&self, worker: usize, key: &mut Vec<u8>) {
        let workload = self.workload.borrow();
        workload.write_key(worker as u64 % workload.keys(), key);
    }

    pub(crate) fn succeeded(&self, due: Instant) {
        let elapsed = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.tally().latencies_ns.saturating_record(elapsed);
    }

    pub(crate) fn guard_failed(&self) {
        self.shared.tally().guards_failed += 1;
    }

    pub(crate) fn failed(&self, error: &dyn std::fmt::Display) {
        let mut tally = self.shared.tally();
        tally.failures += 1;
        if tally.failure.is_none() {
            tally.failure = Some(error.to_string());
        }
    }
}

/// Falls due at a fixed rate, to the microsecond: a timer of the kernel, since the runtime's own
/// goes by milliseconds.
pub(crate) struct Ticker {
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    due_next: Instant,
    period: Duration,
}

impl Ticker {
    pub(crate) fn new(per_s: u32) -> std::io::Result<Ticker> {
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        };
        assert!(0 < per_s);
        let period = Duration::from_secs(1) / per_s;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let every =
            Timespec { tv_sec: period.as_secs() as i64, tv_nsec: i64::from(period.subsec_nanos()) };
        let setting = Itimerspec { it_interval: every, it_value: every };
        let due_next = Instant::now() + period;
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and nobody
        // else closes it.
        let timer = unsafe { tokio::io::unix::AsyncFd::register(timer) }?;
        Ok(Ticker { timer, due_next, period })
    }

    /// Waits until calls are due and adds the instants they were due at. Dropping the future
    /// loses nothing.
    pub(crate) async fn tick(&mut self, due: &mut impl Extend<Instant>) -> std::io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // Which calls are due is read off the clock; the count only has to be taken.
            let mut count = [0; 8];
            match rustix::io::read(self.timer.get_ref(), &mut count) {
                Ok(_size) => {
                    let now = Instant::now();
                    while self.due_next <= now {
                        due.extend([self.due_next]);
                        self.due_next += self.period;
                    }
                    return Ok(());
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
