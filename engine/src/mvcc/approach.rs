//! Fetching what the puts about to be applied will read.
//!
//! Invariant: nothing is changed, and what is applied does not depend on it.
//! Source: `docs/format/versions.md`.

use super::trees::Trees;
use super::version::{POSITION_SIZE_BYTES, Version};
use crate::limits::CHAIN_JUMP_DEPTH_MIN;
use crate::page::map::PageMap;
use crate::tree::{APPROACH_KEYS_MAX, Trail};

/// Trails to the keys of the puts that are applied next, in their order.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    trails: [Trail; APPROACH_KEYS_MAX],
    /// How many there are.
    count: usize,
    /// How many were taken.
    taken: usize,
}

impl Trails {
    /// The trail of the next change, if its entry is one of those that were looked at.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Trail> {
        let trail = self.trails[..self.count].get(self.taken).copied();
        self.taken += 1;
        trail
    }
}

impl<M: PageMap> Trees<M> {
    /// Fetches what puts of these keys, at most [`APPROACH_KEYS_MAX`], will read: the newest
    /// versions, and the events that their chains jump from.
    pub(crate) fn approach(&mut self, keys: &[&[u8]]) {
        (self.trails.count, self.trails.taken) = (0, 0);
        if self.keys.entries < ENTRIES_MIN {
            return;
        }
        let newest = self.keys.approach(&self.store, keys, &mut self.trails.trails);
        self.trails.count = keys.len();
        let mut events = [[0; POSITION_SIZE_BYTES]; APPROACH_KEYS_MAX];
        let mut count = 0;
        for value in newest.into_iter().flatten() {
            let chain = Version::decode(value).chain;
            let far = chain.equal_stretches().filter(|_| CHAIN_JUMP_DEPTH_MIN <= chain.depth + 1);
            if let Some(far) = far.filter(|far| self.compact_revision <= far.at.main) {
                events[count] = far.at.to_key();
                count += 1;
            }
        }
        let events: [&[u8]; APPROACH_KEYS_MAX] = std::array::from_fn(|slot| &events[slot][..]);
        let mut trails = Default::default();
        self.history.approach(&self.store, &events[..count], &mut trails);
    }
}

/// A smaller tree stays in the caches by itself.
const ENTRIES_MIN: u64 = 8_192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Command, ProposalId, PutRequest};
    use crate::command;
    use crate::engine::Engine;
    use crate::mvcc::budget::WorkBudget;
    use crate::page::heap::HeapPages;

    /// Puts with chains long enough to jump, and a compaction in between: what is applied
    /// with its way prepared has the pages of what is applied without.
    #[test]
    fn an_approach_changes_nothing() {
        let mut engines = [1, 1].map(|group| Engine::create(HeapPages::new(), group));
        let entries = entries();
        for (number, entry) in entries.iter().enumerate() {
            let [plain, prepared] = &mut engines;
            if number.is_multiple_of(7) {
                let next = entries[number..].iter().map(Vec::as_slice);
                let looked_at = prepared.approach(next);
                assert_eq!(looked_at, APPROACH_KEYS_MAX.min(entries.len() - number));
            }
            for engine in [plain, prepared] {
                let mut budget = WorkBudget::unlimited();
                engine.apply(number as u64 + 1, 1, entry, &mut budget, None).unwrap();
                if engine.interval_is_full() {
                    let plan = engine.end_interval();
                    engine.store_mut().map_mut().write_plan(&plan);
                    engine.checkpoint_durable(plan.interval);
                }
            }
        }
        let [plain, prepared] = &mut engines;
        assert!(ENTRIES_MIN < plain.keys_count() && 3 < plain.store().interval());
        assert_eq!(plain.end_interval().meta, prepared.end_interval().meta);
        assert_eq!(plain.store().map().bytes(), prepared.store().map().bytes());
    }

    fn entries() -> Vec<Vec<u8>> {
        let mut commands = vec![Command::Genesis {
            page_size_bytes: 4096,
            value_inline_bytes_max: 640,
            interval_pages_max: 200,
            interval_bytes_max: 64 << 20,
        }];
        let filling: Vec<Vec<u8>> = (0..ENTRIES_MIN + 500).map(key_of).collect();
        let changing: Vec<Vec<u8>> = (0..4_000).map(|round| key_of(round * 31 % 97)).collect();
        let put = |key| Command::Put(PutRequest { key, value: &[7; 60], ..PutRequest::default() });
        commands.extend(filling.iter().map(|key| put(key)));
        commands.extend(changing.iter().map(|key| put(key)));
        commands.insert(commands.len() - 1_000, Command::Compact { revision: 9_000 });
        let encoded = commands.iter().map(|command| {
            let mut entry = Vec::new();
            command::encode(command, ProposalId::default(), &mut entry);
            entry
        });
        encoded.collect()
    }

    fn key_of(number: u64) -> Vec<u8> {
        format!("{:06}", number * 7_919 % 1_000_003).into_bytes()
    }
}
