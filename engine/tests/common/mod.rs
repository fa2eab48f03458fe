//! A replica on heap pages, a naive store with its whole history, and a generator of commands.
#![allow(dead_code, clippy::unwrap_used)]

pub mod naive;
pub mod random;

use engine::api::{Command, EventList, ProposalId};
use engine::command;
use engine::engine::{Applied, Engine, EventsState, Outcome};
use engine::mvcc::budget::WorkBudget;
use engine::page::heap::HeapPages;
use engine::page::meta::choose_meta;

/// An engine with its log; ends its intervals by itself, as a shard does.
pub struct Replica {
    pub engine: Engine<HeapPages>,
    pub log: Vec<Vec<u8>>,
    /// Work units of a slice.
    pub slice_units: u32,
    /// Slices of the last entry.
    pub slices: u32,
    /// Events of the last entry.
    pub events: EventList,
    pub checkpoints: u32,
    /// Verify the whole store before and after each checkpoint.
    pub verifies: bool,
}

pub const GENESIS: Command<'static> = Command::Genesis {
    page_size_bytes: 4096,
    value_inline_bytes_max: 640,
    interval_pages_max: 64,
    interval_bytes_max: 1 << 20,
};

impl Replica {
    pub fn new(slice_units: u32) -> Replica {
        let mut replica = Replica::empty(slice_units);
        replica.apply(&GENESIS);
        replica
    }

    pub fn empty(slice_units: u32) -> Replica {
        Replica {
            engine: Engine::create(HeapPages::new(), 7),
            log: Vec::new(),
            slice_units,
            slices: 0,
            events: EventList::default(),
            checkpoints: 0,
            verifies: true,
        }
    }

    /// Applies a command to its end.
    pub fn apply(&mut self, command: &Command<'_>) -> Outcome {
        self.apply_with(command, |_| {})
    }

    /// Applies a command, showing the engine between its slices.
    pub fn apply_with(
        &mut self,
        command: &Command<'_>,
        between: impl FnMut(&Engine<HeapPages>),
    ) -> Outcome {
        let proposal =
            ProposalId { member_id: 1, incarnation: 1, counter: self.log.len() as u64 + 1 };
        let mut entry = Vec::new();
        command::encode(command, proposal, &mut entry);
        let outcome = self.apply_entry(&entry, between);
        assert_eq!(outcome.proposal, proposal);
        self.log.push(entry);
        outcome
    }

    pub fn apply_entry(
        &mut self,
        entry: &[u8],
        mut between: impl FnMut(&Engine<HeapPages>),
    ) -> Outcome {
        let index = self.engine.applied_index() + 1;
        self.events.clear();
        self.slices = 1;
        self.engine.prefetch(entry).unwrap();
        let mut budget = WorkBudget::new(self.slice_units);
        let mut applied =
            self.engine.apply(index, 1, entry, &mut budget, Some(&mut self.events)).unwrap();
        let outcome = loop {
            match applied {
                Applied::Done(outcome) => break outcome,
                Applied::More => {
                    assert!(self.engine.is_applying() && !self.engine.may_end_interval());
                    between(&self.engine);
                    self.slices += 1;
                    let mut budget = WorkBudget::new(self.slice_units);
                    applied = self.engine.apply_more(&mut budget, Some(&mut self.events)).unwrap();
                }
            }
        };
        assert!(outcome.events == EventsState::Complete || self.events.is_empty());
        if self.engine.interval_is_full() {
            self.checkpoint();
        }
        outcome
    }

    fn checkpoint(&mut self) {
        if self.verifies {
            self.engine.verify().unwrap();
        }
        let plan = self.engine.end_interval();
        assert_eq!(plan.applied_index, self.engine.applied_index());
        self.engine.store_mut().map_mut().write_plan(&plan);
        self.engine.checkpoint_durable(plan.interval);
        if self.verifies {
            self.engine.verify().unwrap();
        }
        self.checkpoints += 1;
    }

    /// Opens the last checkpoint and replays the log after it.
    pub fn restarted(&self, slice_units: u32) -> Replica {
        let mut replica = Replica::empty(slice_units);
        let map = self.engine.store().map().clone();
        let [slot_0, slot_1] = map.meta_slots();
        if let Some(meta) = choose_meta(&slot_0, &slot_1).unwrap() {
            replica.engine = Engine::open(map, &meta).unwrap();
        }
        replica.engine.verify().unwrap();
        let from = replica.engine.applied_index() as usize;
        for entry in &self.log[from..] {
            replica.apply_entry(entry, |_| {});
        }
        replica.log = self.log.clone();
        replica
    }

    /// The page file with everything in it.
    pub fn pages(&mut self) -> Vec<u8> {
        self.apply(&Command::Checkpoint);
        self.engine.store().map().bytes().to_vec()
    }
}

/// A small generator with a seed, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
