//! Randomness of a run: everything drawn comes from its seed (SplitMix64).

/// A sequence of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another sequence, which what is drawn here later does not disturb.
    pub fn fork(&mut self) -> Random {
        Random::new(self.bits())
    }

    /// At least `from` and below `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        assert!(from < to);
        from + self.bits() % (to - from)
    }

    /// Below `to`, as a slot of something.
    pub fn slot(&mut self, to: usize) -> usize {
        self.between(0, to as u64) as usize
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.bits() % 1_000 < permille
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.slot(among.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_sequence_and_stays_in_bounds() {
        let (mut a, mut b, mut c) = (Random::new(7), Random::new(7), Random::new(8));
        assert_eq!(a.bits(), b.bits());
        assert_ne!(a.bits(), c.bits());
        for _ in 0..1_000 {
            assert!((5..9).contains(&a.between(5, 9)));
        }
        assert!(!a.chance(0) && a.chance(1_000));
    }
}
