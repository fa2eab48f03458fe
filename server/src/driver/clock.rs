//! The driver's monotonic clock, in microseconds since the start of the process.

use std::time::{Duration, Instant};

/// A clock; copies show the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at one second, so that no time of a run is 0.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Now, in microseconds.
    pub fn now_us(&self) -> u64 {
        let elapsed = self.start.elapsed().as_micros();
        1_000_000 + u64::try_from(elapsed).expect("a process does not run for 500,000 years")
    }

    /// From now until `at_us`; nothing when that has passed.
    pub fn until(&self, at_us: u64) -> Duration {
        Duration::from_micros(at_us.saturating_sub(self.now_us()))
    }
}
