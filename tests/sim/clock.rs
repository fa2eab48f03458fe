//! A member's own clock: monotonic, with its own zero and its own rate.
//!
//! Invariant: it never goes back in a process, whatever the world's time does to it.

/// Rates are in parts of this.
pub const RATE_ONE: u64 = 1_000_000;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    since_us: u64,
    base_us: u64,
    rate: u64,
}

impl Clock {
    /// A clock that shows `base_us` at `since_us`, and runs at `rate` millionths of the world's.
    pub fn new(since_us: u64, base_us: u64, rate: u64) -> Clock {
        assert!(RATE_ONE / 2 <= rate && rate <= 2 * RATE_ONE);
        Clock { since_us, base_us, rate }
    }

    /// What it shows.
    pub fn local_us(&self, now_us: u64) -> u64 {
        assert!(self.since_us <= now_us);
        self.base_us + scale(now_us - self.since_us, self.rate, RATE_ONE)
    }

    /// The first time of the world at which it shows `local_us` or more.
    pub fn world_us(&self, local_us: u64) -> u64 {
        let passed_us = local_us.saturating_sub(self.base_us);
        self.since_us + scale(passed_us, RATE_ONE, self.rate) + 1
    }

    /// It jumps ahead.
    pub fn jump(&mut self, by_us: u64) {
        self.base_us += by_us;
    }
}

fn scale(value_us: u64, by: u64, of: u64) -> u64 {
    let scaled = u128::from(value_us) * u128::from(by) / u128::from(of);
    u64::try_from(scaled).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_both_ways_agree() {
        let mut clock = Clock::new(1_000, 500_000, 1_100_000);
        assert_eq!(clock.local_us(1_000), 500_000);
        assert_eq!(clock.local_us(2_000), 501_100);
        for local_us in [500_000, 501_099, 600_007] {
            assert!(local_us <= clock.local_us(clock.world_us(local_us)));
        }
        clock.jump(7);
        assert_eq!(clock.local_us(2_000), 501_107);
    }
}
