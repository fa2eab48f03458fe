//! Keys, values and the order they are used in: the same for every server and every run.

use bytes::Bytes;

/// In which order keys are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyOrder {
    /// Ascending, each once a round.
    Ascending,
    /// Each once a round, in an order without pattern.
    Shuffled,
    /// Drawn anew each time.
    Drawn,
}

/// A row of keys and what is written to them.
#[derive(Clone, Debug)]
pub struct Workload {
    prefix: String,
    keys: u64,
    key_size_bytes: usize,
    order: KeyOrder,
    random: SplitMix64,
    values: Bytes,
    value_size_bytes: usize,
    taken: u64,
}

impl Workload {
    /// `keys` keys that begin with `prefix`, of `key_size_bytes` each, with values of
    /// `value_size_bytes`.
    ///
    /// # Panics
    /// If so many keys do not fit so few bytes.
    pub fn new(
        prefix: &str,
        keys: u64,
        [key_size_bytes, value_size_bytes]: [usize; 2],
        order: KeyOrder,
    ) -> Workload {
        let digits = key_size_bytes.saturating_sub(prefix.len());
        let digits_needed = 16 - (keys.max(2) - 1).leading_zeros() as usize / 4;
        assert!(digits_needed <= digits, "{keys} keys need {digits_needed} digits");
        let mut random = SplitMix64 { state: 0x0c0e_57e5 };
        let noise = VALUE_NOISE_SIZE_BYTES.max(2 * value_size_bytes);
        let values = (0..noise).map(|_| random.next() as u8).collect::<Vec<u8>>();
        Workload {
            prefix: prefix.to_owned(),
            keys,
            key_size_bytes,
            order,
            random,
            values: values.into(),
            value_size_bytes,
            taken: 0,
        }
    }

    /// The same keys and values in another order, from the start.
    #[must_use]
    pub fn ordered(&self, order: KeyOrder) -> Workload {
        Workload { order, taken: 0, ..self.clone() }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes of all keys and values.
    pub fn live_size_bytes(&self) -> u64 {
        self.keys * (self.key_size_bytes + self.value_size_bytes) as u64
    }

    /// Writes the next key into `key` and returns its value, which is the next noise.
    pub fn next_put(&mut self, key: &mut Vec<u8>) -> Bytes {
        let slot = self.next_slot();
        self.write_key(slot, key);
        let room = (self.values.len() - self.value_size_bytes) as u64;
        let begin = (self.random.next() % (room + 1)) as usize;
        self.values.slice(begin..begin + self.value_size_bytes)
    }

    /// Writes the next key into `key`.
    pub fn next_key(&mut self, key: &mut Vec<u8>) {
        let slot = self.next_slot();
        self.write_key(slot, key);
    }

    /// Writes key number `slot` in key order into `key`.
    pub fn write_key(&self, slot: u64, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix.as_bytes());
        let digits = self.key_size_bytes - self.prefix.len();
        for place in (0..digits).rev() {
            let digit = if place < 16 { (slot >> (4 * place)) & 15 } else { 0 };
            key.push(b"0123456789abcdef"[digit as usize]);
        }
        assert_eq!(key.len(), self.key_size_bytes);
    }

    fn next_slot(&mut self) -> u64 {
        let turn = self.taken % self.keys;
        self.taken += 1;
        match self.order {
            KeyOrder::Ascending => turn,
            KeyOrder::Shuffled => shuffled(turn, self.keys),
            KeyOrder::Drawn => self.random.next() % self.keys,
        }
    }
}

/// A permutation of `0..count` without a table: a bijection of the next power of two, walked until
/// it falls below `count`.
fn shuffled(turn: u64, count: u64) -> u64 {
    assert!(turn < count);
    let bits = 64 - (count.max(2) - 1).leading_zeros();
    let mask = u64::MAX >> (64 - bits);
    let mut at = turn;
    loop {
        for round in 0..3 {
            // Odd multiplication, addition and a shift down are bijections of `bits` bits.
            at = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round) & mask;
            at ^= at >> (bits / 2 + 1);
        }
        if at < count {
            return at;
        }
    }
}

/// A small seeded generator (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    /// Any value is a seed.
    pub state: u64,
}

impl SplitMix64 {
    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Values are windows of this much noise, so that making one costs nothing.
const VALUE_NOISE_SIZE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_takes_each_key_once_and_out_of_order() {
        for count in [1, 2, 7, 64, 1000, 4097] {
            let mut slots: Vec<u64> = (0..count).map(|turn| shuffled(turn, count)).collect();
            let neighbours = slots.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
            assert!(neighbours as u64 <= 1 + count / 10, "{count}: {neighbours}");
            slots.sort_unstable();
            assert!(slots.iter().copied().eq(0..count), "{count}");
        }
    }

    #[test]
    fn keys_have_their_size_and_sort_by_number() {
        let mut workload = Workload::new("p/", 300, [16, 256], KeyOrder::Ascending);
        let (mut key, mut before) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let value = workload.next_put(&mut key);
            assert_eq!((key.len(), value.len()), (16, 256));
            assert!(before < key);
            before.clone_from(&key);
        }
        assert_eq!(workload.live_size_bytes(), 300 * 272);
    }
}
