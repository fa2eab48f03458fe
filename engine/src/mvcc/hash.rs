//! HashKV: CRC-32C over the stored versions, equal to etcd's, in slices and bounded memory.
//!
//! etcd feeds its versions in revision order. Of those up to the compact revision it takes the ones
//! that are newest at the hashed revision (or, when no key is live there, the ones that compaction
//! left), of the later ones all. The former are spread over the keys, so they are gathered by passes
//! over all keys, each of which holds the next window of positions.
//! Source: fact sheet of etcd's behaviour, section 12.

use super::budget::WorkBudget;
use super::range::successor;
use super::trees::Trees;
use super::version::{Position, Record, Version};
use crate::api::{KeyValue, Reject};
use crate::engine::Step;
use crate::limits::{HASH_WINDOW_KEYS_SIZE_BYTES_MAX, WORK_UNIT_SIZE_BYTES};
use crate::page::map::{Corruption, PageMap};
use std::collections::BTreeMap;

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C as etcd computes it.
    pub hash: u32,
    /// Only hashes with equal compact revisions can be compared.
    pub compact_revision: i64,
    /// The revision hashed up to.
    pub hash_revision: i64,
    /// The store's revision.
    pub revision: i64,
}

/// A hash under way.
#[derive(Clone, Debug)]
pub struct HashRead {
    requested: i64,
    revision: i64,
    compact_revision: i64,
    crc: u32,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Gathers the next window of old versions.
    Window(Window),
    /// Feeds it.
    Feed(Window),
    /// Feeds history from here.
    Events(Position),
}

/// Versions up to the compact revision, in order, as far as the window reaches.
#[derive(Clone, Debug)]
struct Window {
    /// State whose versions are gathered: at the hashed or at the compact revision.
    at: i64,
    /// Versions up to here were fed.
    fed: Option<Position>,
    /// Where the pass over the keys goes on.
    next_key: Vec<u8>,
    versions: BTreeMap<Position, Vec<u8>>,
    keys_size_bytes: usize,
    /// Versions behind the window were met: another pass follows.
    cut: bool,
    met_live: bool,
}

impl Window {
    fn new(at: i64, fed: Option<Position>) -> Window {
        Window {
            at,
            fed,
            next_key: Vec::new(),
            versions: BTreeMap::new(),
            keys_size_bytes: 0,
            cut: false,
            met_live: false,
        }
    }

    fn add(&mut self, at: Position, key: &[u8], size_bytes_max: usize) {
        self.keys_size_bytes += key.len() + VERSION_OVERHEAD_SIZE_BYTES;
        let known = self.versions.insert(at, key.to_vec());
        assert!(known.is_none());
        while size_bytes_max < self.keys_size_bytes && 1 < self.versions.len() {
            let (_, key) = self.versions.pop_last().expect("more than one version is held");
            self.keys_size_bytes -= key.len() + VERSION_OVERHEAD_SIZE_BYTES;
            self.cut = true;
        }
    }
}

impl HashRead {
    pub(crate) fn new(requested: i64, revision: i64, compact_revision: i64) -> HashRead {
        let phase = if compact_revision <= 0 {
            Phase::Events(Position::default())
        } else {
            Phase::Window(Window::new(revision, None))
        };
        let crc = crc32c::crc32c(BUCKET_NAME);
        HashRead { requested, revision, compact_revision, crc, phase }
    }

    /// One slice; `current` is the newest revision.
    pub(crate) fn step<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        current: i64,
        budget: &mut WorkBudget,
    ) -> Result<Result<Step<KvHash>, Reject>, Corruption> {
        self.step_with(trees, current, budget, HASH_WINDOW_KEYS_SIZE_BYTES_MAX)
    }

    pub(crate) fn step_with<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        current: i64,
        budget: &mut WorkBudget,
        window_size_bytes_max: usize,
    ) -> Result<Result<Step<KvHash>, Reject>, Corruption> {
        if self.compact_revision < trees.compact_revision {
            let compacted = trees.compact_revision;
            match super::range::resolve_revision(self.requested, current, compacted) {
                Ok(revision) => *self = HashRead::new(self.requested, revision, compacted),
                Err(reject) => return Ok(Err(reject)),
            }
        }
        loop {
            let (phase, done) = match self.advance(trees, budget, window_size_bytes_max) {
                Ok(advanced) => advanced,
                Err(corruption) => {
                    // What was fed of the slice cannot be told: it begins anew.
                    let Self { requested, revision, compact_revision, .. } = *self;
                    *self = HashRead::new(requested, revision, compact_revision);
                    return Err(corruption);
                }
            };
            self.phase = phase;
            if done {
                return Ok(Ok(Step::Done(KvHash {
                    hash: self.crc,
                    compact_revision: self.compact_revision,
                    hash_revision: self.revision,
                    revision: current,
                })));
            }
            if budget.is_spent() {
                return Ok(Ok(Step::More));
            }
        }
    }

    /// One piece of the phase under way: the next phase, and whether it was the last.
    fn advance<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        budget: &mut WorkBudget,
        window_size_bytes_max: usize,
    ) -> Result<(Phase, bool), Corruption> {
        let start = Phase::Events(Position::default());
        Ok(match std::mem::replace(&mut self.phase, start) {
            Phase::Window(window) => {
                (self.gather(trees, window, budget, window_size_bytes_max)?, false)
            }
            Phase::Feed(window) => (self.feed_window(trees, window, budget)?, false),
            Phase::Events(next) => self.feed_events(trees, next, budget)?,
        })
    }

    fn gather<M: PageMap>(
        &self,
        trees: &Trees<M>,
        mut window: Window,
        budget: &mut WorkBudget,
        window_size_bytes_max: usize,
    ) -> Result<Phase, Corruption> {
        let mut cursor = trees.keys.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(&window.next_key)?;
        budget.spend(1);
        let mut steps = 0_u32;
        while on_entry {
            let key = cursor.key()?;
            let newest = Version::decode(cursor.value());
            steps += 1;
            if window.at < newest.at.main || steps.is_multiple_of(ENTRIES_PER_UNIT) {
                budget.spend(1);
            }
            if let Some(version) = trees.version_at(newest, window.at)? {
                window.met_live = true;
                let is_old = version.at.main <= self.compact_revision;
                if is_old && window.fed.is_none_or(|fed| fed < version.at) {
                    window.add(version.at, key, window_size_bytes_max);
                }
            }
            if budget.is_spent() {
                window.next_key = successor(key);
                return Ok(Phase::Window(window));
            }
            on_entry = cursor.next()?;
        }
        if !window.met_live && self.compact_revision < window.at {
            return Ok(Phase::Window(Window::new(self.compact_revision, None)));
        }
        Ok(Phase::Feed(window))
    }

    fn feed_window<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        mut window: Window,
        budget: &mut WorkBudget,
    ) -> Result<Phase, Corruption> {
        while let Some((at, key)) = window.versions.pop_first() {
            let newest = trees.newest(&key)?.expect("a key that is live there has an entry");
            let version = trees.version_at(newest, window.at)?.expect("it was live there before");
            assert!(version.at == at);
            self.feed(at, Some(trees.key_value(&key, &version)?), &key, budget);
            window.fed = Some(at);
            if budget.is_spent() {
                return Ok(Phase::Feed(window));
            }
        }
        Ok(if window.cut {
            Phase::Window(Window::new(window.at, window.fed))
        } else {
            Phase::Events(Position::first_of(self.compact_revision + 1))
        })
    }

    fn feed_events<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        next: Position,
        budget: &mut WorkBudget,
    ) -> Result<(Phase, bool), Corruption> {
        let mut cursor = trees.history.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(&next.to_key())?;
        let mut next = next;
        while on_entry {
            let at = Position::from_key(cursor.key()?);
            if self.revision < at.main {
                break;
            }
            if budget.is_spent() && next < at {
                return Ok((Phase::Events(at), false));
            }
            let record = Record::decode(cursor.value());
            let key = trees.event_key(record.key)?;
            let kv = match record.content {
                None => None,
                content => {
                    let version = Version { at, chain: Default::default(), content };
                    Some(trees.key_value(key, &version)?)
                }
            };
            self.feed(at, kv, key, budget);
            next = at;
            on_entry = cursor.next()?;
        }
        Ok((Phase::Events(next), true))
    }

    /// Feeds one stored version as etcd keeps it: its revision, then the marshalled key-value.
    fn feed(
        &mut self,
        at: Position,
        kv: Option<KeyValue<'_>>,
        key: &[u8],
        budget: &mut WorkBudget,
    ) {
        let mut head = [0; 18];
        head[..8].copy_from_slice(&at.main.to_be_bytes());
        head[8] = b'_';
        head[9..17].copy_from_slice(&i64::from(at.sub).to_be_bytes());
        head[17] = b't';
        self.append(if kv.is_some() { &head[..17] } else { &head });
        let kv = kv.unwrap_or(KeyValue { key, ..KeyValue::default() });
        self.append_bytes_field(1, kv.key);
        self.append_number_field(2, kv.create_revision);
        self.append_number_field(3, kv.mod_revision);
        self.append_number_field(4, kv.version);
        self.append_bytes_field(5, kv.value);
        self.append_number_field(6, kv.lease);
        budget.spend(1 + (kv.value.len() / WORK_UNIT_SIZE_BYTES) as u32);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }

    /// A length-delimited field of protobuf, left out when empty.
    fn append_bytes_field(&mut self, number: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.append(&[number << 3 | 2]);
            self.append_varint(bytes.len() as u64);
            self.append(bytes);
        }
    }

    /// A varint field of protobuf, left out when zero.
    fn append_number_field(&mut self, number: u8, value: i64) {
        if value != 0 {
            self.append(&[number << 3]);
            self.append_varint(value as u64);
        }
    }

    fn append_varint(&mut self, mut value: u64) {
        while 0x80 <= value {
            self.append(&[(value as u8) | 0x80]);
            value >>= 7;
        }
        self.append(&[value as u8]);
    }
}

/// The bucket's name, which etcd feeds first.
const BUCKET_NAME: &[u8] = b"key";
/// What a version in a window takes beside its key, about.
const VERSION_OVERHEAD_SIZE_BYTES: usize = 64;
/// Neighbours read for one work unit.
const ENTRIES_PER_UNIT: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Command, ProposalId, PutRequest};
    use crate::command;
    use crate::engine::{Applied, Engine};
    use crate::page::heap::HeapPages;

    fn apply(engine: &mut Engine<HeapPages>, command: &Command<'_>) {
        let mut entry = Vec::new();
        command::encode(command, ProposalId::default(), &mut entry);
        let index = engine.applied_index() + 1;
        let applied = engine.apply(index, 1, &entry, &mut WorkBudget::unlimited(), None).unwrap();
        assert!(matches!(applied, Applied::Done(_)));
    }

    /// The hash, and how many slices it took.
    fn hash(engine: &Engine<HeapPages>, window_size_bytes_max: usize, units: u32) -> (u32, u32) {
        let mut read = engine.hash_start(0).unwrap();
        let mut slices = 1;
        loop {
            let (mut budget, current) = (WorkBudget::new(units), engine.revision());
            let trees = engine.trees();
            let step = read.step_with(trees, current, &mut budget, window_size_bytes_max);
            match step.unwrap().unwrap() {
                Step::Done(hash) => return (hash.hash, slices),
                Step::More => slices += 1,
            }
        }
    }

    #[test]
    fn passes_over_small_windows_give_the_same_hash() {
        let mut engine = Engine::create(HeapPages::new(), 1);
        let genesis = Command::Genesis {
            page_size_bytes: 4096,
            value_inline_bytes_max: 640,
            interval_pages_max: 1 << 20,
            interval_bytes_max: 1 << 40,
        };
        apply(&mut engine, &genesis);
        let put = |engine: &mut Engine<HeapPages>, slot: u32| {
            // Written in an order that is not the keys'.
            let key = slot.wrapping_mul(0x9e37_79b1).to_be_bytes();
            apply(
                engine,
                &Command::Put(PutRequest { key: &key, value: &key, ..Default::default() }),
            );
        };
        (0..300).for_each(|slot| put(&mut engine, slot));
        apply(&mut engine, &Command::Compact { revision: 280 });
        (200..250).for_each(|slot| put(&mut engine, slot));
        let whole = hash(&engine, usize::MAX, u32::MAX);
        assert_eq!(whole.1, 1);
        // One version a pass, then a few, each in one slice and in many.
        for window_size_bytes_max in [1, 1000] {
            assert_eq!(hash(&engine, window_size_bytes_max, u32::MAX), whole);
            let (sliced, slices) = hash(&engine, window_size_bytes_max, 20);
            assert!(sliced == whole.0 && 10 < slices);
        }
    }

    #[test]
    fn a_compaction_starts_the_hash_again() {
        let mut engine = Engine::create(HeapPages::new(), 1);
        let genesis = Command::Genesis {
            page_size_bytes: 4096,
            value_inline_bytes_max: 640,
            interval_pages_max: 1 << 20,
            interval_bytes_max: 1 << 40,
        };
        apply(&mut engine, &genesis);
        for slot in 0..100_u8 {
            let key = [slot % 10 + 1];
            apply(&mut engine, &Command::Put(PutRequest { key: &key, ..Default::default() }));
        }
        let (mut newest, mut named) =
            (engine.hash_start(0).unwrap(), engine.hash_start(40).unwrap());
        for read in [&mut newest, &mut named] {
            let step = engine.hash_step(read, &mut WorkBudget::new(5)).unwrap();
            assert_eq!(step, Ok(Step::More));
        }
        apply(&mut engine, &Command::Compact { revision: 50 });
        let mut budget = WorkBudget::unlimited();
        let refused = engine.hash_step(&mut named, &mut budget).unwrap();
        assert_eq!(refused, Err(Reject::Compacted));
        let Ok(Step::Done(again)) = engine.hash_step(&mut newest, &mut budget).unwrap() else {
            panic!("the hash starts again")
        };
        assert_eq!(again, engine.hash_kv(0).unwrap().unwrap());
        assert_eq!(again.compact_revision, 50);
    }
}
