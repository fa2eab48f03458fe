//! Pauses between attempts to connect: doubling up to a bound, spread so that many clients of one
//! server do not come back at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        assert!(min <= max);
        Backoff { min, max, next: min }
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next pause: between half and the whole of what it doubles to.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        let random = RandomState::new().build_hasher().finish();
        let part = u32::try_from(random % 1024).expect("below 1024");
        whole / 2 + whole / 2 * part / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_again() {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(70));
        let mut backoff = Backoff::new(min, max);
        for whole_ms in [10, 20, 40, 70, 70] {
            let pause = backoff.pause();
            let whole = Duration::from_millis(whole_ms);
            assert!(whole / 2 <= pause && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= min);
    }
}
