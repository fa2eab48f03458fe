//! One bounded step of removal behind the compact revision.
//!
//! Events before it leave from history's left edge, whole subtrees unread where nothing below is a
//! tombstone or owns a run; a key whose newest version is a tombstone that leaves goes too. What it
//! costs is what was written since the last compaction, never the size of the store. Events at the
//! compact revision stay, so that a watch from there works.
//! Source: `docs/decisions/` on history; the model in `tests/model.rs`.

use super::budget::WorkBudget;
use super::trees::Trees;
use super::version::{KeyRef, Position, Record};
use crate::limits::COMPACT_STEP_PAGES_MAX;
use crate::page::layout::RunRef;
use crate::page::map::{Corruption, PageMap};
use crate::tree::Trimmed;

/// What a removed event leaves to be done.
enum Leftover {
    Run(RunRef),
    Tombstone(Position, Vec<u8>),
    TombstoneOfLongKey(Position, RunRef),
}

/// Removes some events before the compact revision; returns where what is left begins.
pub(crate) fn step<M: PageMap>(
    trees: &mut Trees<M>,
    mark: Position,
    budget: &mut WorkBudget,
) -> Result<Position, Corruption> {
    let bound = Position::first_of(trees.compact_revision);
    assert!(mark < bound);
    let mut leftovers = Vec::new();
    let mut on_flagged = |key: &[u8], value: &[u8]| {
        let at = Position::from_key(key);
        assert!(mark <= at && at < bound);
        let record = Record::decode(value);
        if let Some(run) = record.undo.and_then(|version| version.run()) {
            leftovers.push(Leftover::Run(run));
        }
        if record.content.is_none() {
            leftovers.push(match record.key {
                KeyRef::Inline(key) => Leftover::Tombstone(at, key.to_vec()),
                KeyRef::Run(run) => Leftover::TombstoneOfLongKey(at, run),
            });
        }
    };
    let Trees { store, history, .. } = trees;
    let pages_max = COMPACT_STEP_PAGES_MAX;
    let trimmed = history.trim_before(store, &bound.to_key(), pages_max, &mut on_flagged)?;
    // A step is not cut: what it did counts against whatever comes after it.
    budget.spend((pages_max + 2 * leftovers.len()) as u32);
    for leftover in leftovers {
        match leftover {
            Leftover::Run(run) => trees.store.free_run(&run),
            Leftover::Tombstone(at, key) => drop_key(trees, at, &key)?,
            Leftover::TombstoneOfLongKey(at, run) => {
                // The keys entry, which owns the run, goes with its newest tombstone only.
                let key = trees.store.read_run(&run)?.to_vec();
                drop_key(trees, at, &key)?;
            }
        }
    }
    match trimmed {
        Trimmed::Done => Ok(bound),
        Trimmed::More => {
            let mut cursor = trees.history.cursor(&trees.store);
            let left = cursor.seek_first()?;
            assert!(left);
            let first = Position::from_key(cursor.key()?);
            assert!(mark <= first);
            // The budget may end with the last leaf that lies below: then this was the last step.
            Ok(first.min(bound))
        }
    }
}

/// Removes a key whose newest version is the tombstone at `at`.
fn drop_key<M: PageMap>(trees: &mut Trees<M>, at: Position, key: &[u8]) -> Result<(), Corruption> {
    let newest = trees.newest(key)?.expect("a key has an entry while history speaks of it");
    if newest.at == at {
        assert!(newest.is_tombstone());
        let Trees { store, keys, .. } = trees;
        let removed = keys.remove(store, key)?;
        assert!(removed);
    }
    Ok(())
}
