//! Choices by seed: a run is repeated with `CORESTONE_TEST_SEED`, as far as the moments at which
//! processes die can be repeated at all.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The seed of this run: the one asked for, or a new one. Printed, so that it can be asked for.
    pub fn of_this_run(test: &str) -> Random {
        let asked = std::env::var("CORESTONE_TEST_SEED").ok();
        let seed = match asked {
            Some(text) => text.parse().expect("CORESTONE_TEST_SEED is a number"),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::from(since.subsec_nanos()) ^ since.as_secs() << 32
            }
        };
        println!("{test}: CORESTONE_TEST_SEED={seed}");
        Random::new(seed)
    }

    /// An independent sequence.
    pub fn fork(&mut self) -> Random {
        Random::new(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// Up to and without `end`, in microseconds.
    pub fn duration_below(&mut self, end: Duration) -> Duration {
        let end_us = u64::try_from(end.as_micros()).unwrap();
        Duration::from_micros(self.below(end_us))
    }
}
