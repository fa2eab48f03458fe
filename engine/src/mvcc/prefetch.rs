//! Reading beforehand what applying a command may read, in slices.
//!
//! A committed entry that meets a broken page cannot be applied, at this start or any later one, so
//! who proposes looks first. Invariants: nothing is changed; a slice holds a key, never a page; what
//! is read covers what apply reads of the state as it is now (what is written later is not broken).
//! Source: storage.md, "Reading through the map" 1 and 4.

use super::budget::WorkBudget;
use super::range::{RangeRead, resolve_revision, upper_bound};
use super::trees::Trees;
use super::version::{KeyRef, Position, Record, Version};
use crate::api::{Command, RangeRequest, RequestOp, TxnRequest};
use crate::lease;
use crate::limits::COMPACT_STEP_PAGES_MAX;
use crate::page::map::{Corruption, PageMap};

/// How far the look ahead of one command came.
#[derive(Clone, Debug, Default)]
pub struct Prefetch {
    /// Parts of the command that are done.
    parts_done: usize,
    /// Where the part under way goes on; empty at its start.
    next_key: Vec<u8>,
    range: Option<Box<RangeRead>>,
}

impl Prefetch {
    /// One slice; true when all of the command was read.
    pub(crate) fn step<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        command: &Command<'_>,
        revision: i64,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        let mut walk = Walk { trees, run: self, revision, budget, part: 0 };
        match command {
            Command::Put(put) => walk.change(put.key, put.lease),
            Command::DeleteRange(delete) => walk.deletion(delete.key, delete.range_end),
            Command::Txn(txn) => walk.txn(txn),
            Command::LeaseRevoke { id, .. } => walk.lease(*id),
            Command::CompactStep { .. } => walk.compaction(),
            _ => Ok(true),
        }
    }
}

/// One pass over the parts of a command: those done before are passed by.
struct Walk<'w, M> {
    trees: &'w Trees<M>,
    run: &'w mut Prefetch,
    revision: i64,
    budget: &'w mut WorkBudget,
    /// Number of the next part.
    part: usize,
}

impl<M: PageMap> Walk<'_, M> {
    /// Whether the next part is still to be done.
    fn begin_part(&mut self) -> bool {
        self.part += 1;
        self.run.parts_done < self.part
    }

    fn end_part(&mut self) -> bool {
        assert!(self.run.parts_done + 1 == self.part);
        self.run.parts_done = self.part;
        self.run.next_key.clear();
        true
    }

    fn txn(&mut self, txn: &TxnRequest<'_>) -> Result<bool, Corruption> {
        for compare in &txn.compare {
            if !self.deletion(compare.key, compare.range_end)? {
                return Ok(false);
            }
        }
        for op in txn.success.iter().chain(&txn.failure) {
            let is_done = match op {
                RequestOp::Put(put) => self.change(put.key, put.lease)?,
                RequestOp::DeleteRange(delete) => self.deletion(delete.key, delete.range_end)?,
                RequestOp::Range(range) => self.range(range)?,
                RequestOp::Txn(nested) => self.txn(nested)?,
            };
            if !is_done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn change(&mut self, key: &[u8], lease: i64) -> Result<bool, Corruption> {
        if !self.begin_part() {
            return Ok(true);
        }
        self.trees.warm_change(key, lease)?;
        self.budget.spend(CHANGE_UNITS);
        Ok(self.end_part())
    }

    /// Every entry of a range, and what burying it reads.
    fn deletion(&mut self, key: &[u8], range_end: &[u8]) -> Result<bool, Corruption> {
        if range_end.is_empty() {
            return self.change(key, 0);
        }
        if !self.begin_part() {
            return Ok(true);
        }
        let trees = self.trees;
        if self.run.next_key.is_empty() {
            // Neighbours that a shrunken page may join.
            trees.warm_change(key, 0)?;
            self.run.next_key.extend_from_slice(key);
        }
        let end = upper_bound(key, range_end);
        let mut cursor = trees.keys.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(&self.run.next_key)?;
        let mut steps = 0_u32;
        while on_entry {
            let key = cursor.key()?;
            if end.as_deref().is_some_and(|end| end <= key) {
                trees.keys.warm(&trees.store, key)?;
                break;
            }
            let version = Version::decode(cursor.value());
            self.budget.spend(trees.warm_version(key, &version)?);
            on_entry = cursor.next()?;
            steps += 1;
            self.budget.spend(u32::from(steps.is_multiple_of(ENTRIES_PER_UNIT)));
            if on_entry && self.budget.is_spent() {
                self.run.next_key.clear();
                self.run.next_key.extend_from_slice(cursor.key()?);
                return Ok(false);
            }
        }
        Ok(self.end_part())
    }

    /// A range in a transaction that writes: the read itself, at the revision it will be made at.
    fn range(&mut self, range: &RangeRequest<'_>) -> Result<bool, Corruption> {
        if !self.begin_part() {
            return Ok(true);
        }
        let compacted = self.trees.compact_revision;
        // A refused one reads nothing.
        let Ok(at) = resolve_revision(range.revision, self.revision, compacted) else {
            return Ok(self.end_part());
        };
        let read = self.run.range.take();
        let mut read = read.unwrap_or_else(|| Box::new(RangeRead::new(range, at, self.revision)));
        let step = read.step(self.trees, self.revision, self.budget)?;
        if matches!(step, Ok(crate::engine::Step::More)) {
            read.take_chunk();
            self.run.range = Some(read);
            return Ok(false);
        }
        Ok(self.end_part())
    }

    /// One step of removal behind the compact revision, wherever the mark is.
    fn compaction(&mut self) -> Result<bool, Corruption> {
        if !self.begin_part() {
            return Ok(true);
        }
        let Trees { store, keys, history, compact_revision, .. } = self.trees;
        let bound = Position::first_of((*compact_revision).max(0)).to_key();
        let (mut buried, mut runs) = (Vec::new(), Vec::new());
        let mut on_flagged = |_: &[u8], value: &[u8]| {
            let record = Record::decode(value);
            match record.key {
                _ if record.content.is_some() => {}
                KeyRef::Inline(key) => buried.push(key.to_vec()),
                KeyRef::Run(run) => runs.push(run),
            }
        };
        history.warm_trim_before(store, &bound, COMPACT_STEP_PAGES_MAX, &mut on_flagged)?;
        self.budget.spend((COMPACT_STEP_PAGES_MAX + buried.len() + runs.len()) as u32);
        for key in &buried {
            keys.warm(store, key)?;
        }
        for run in &runs {
            keys.warm(store, store.read_run(run)?)?;
        }
        Ok(self.end_part())
    }

    /// A lease and every key attached to it.
    fn lease(&mut self, id: i64) -> Result<bool, Corruption> {
        if !self.begin_part() {
            return Ok(true);
        }
        let Trees { store, system, .. } = self.trees;
        if id == 0 || lease::lookup(store, system, id)?.is_none() {
            return Ok(self.end_part());
        }
        if self.run.next_key.is_empty() {
            // No key is before this one.
            self.run.next_key.push(0);
        }
        while let Some(key) = lease::key_at_or_after(store, system, id, &self.run.next_key)? {
            self.trees.warm_change(key, id)?;
            let key = key.to_vec();
            self.run.next_key = key;
            // The first key after it.
            self.run.next_key.push(0);
            self.budget.spend(CHANGE_UNITS);
            if self.budget.is_spent() {
                return Ok(false);
            }
        }
        Ok(self.end_part())
    }
}

/// Work units of looking at one changed key.
const CHANGE_UNITS: u32 = 2;
/// Neighbours read for one work unit.
const ENTRIES_PER_UNIT: u32 = 8;
