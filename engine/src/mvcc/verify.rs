//! The check of a whole store: slow, for simulations and tests.
//!
//! Invariants checked: every page is reached once, so every run has one owner; what events borrow is
//! owned; marks, attachments and positions agree with the versions.

use super::members;
use super::trees::Trees;
use super::version::{
    Content, KeyRef, Position, Record, ValueRef, Version, check_record, check_version,
};
use crate::lease;
use crate::page::check::Malformed;
use crate::page::layout::RunRef;
use crate::page::map::{Corruption, PageMap};
use crate::tree::verify;
use std::collections::BTreeMap;

/// Runs by their first page.
type Runs = BTreeMap<u64, RunRef>;

const KEYS: usize = 0;
const HISTORY: usize = 1;

/// Panics if an invariant is broken.
pub(crate) fn verify<M: PageMap>(trees: &Trees<M>) -> Result<(), Corruption> {
    let Trees { store, keys, history, system, .. } = trees;
    let mut owned = Runs::new();
    verify::verify(store, &[*keys, *history, *system], &mut |entry, runs| {
        let first = runs.len();
        match owned_run(entry.tree, entry.key, entry.value) {
            Some(run) => runs.push(run),
            None => assert!(entry.tree != KEYS || !entry.mark.visit),
        }
        for run in &runs[first..] {
            let other = owned.insert(run.first().0, *run);
            assert!(other.is_none(), "a run has two owners");
        }
    })?;
    let mut long_keys = Runs::new();
    let newest = verify_keys(trees, &mut long_keys)?;
    verify_history(trees, &owned, &long_keys, &newest)
}

/// The run that the value of an entry of a tree owns; the key's first bytes are enough.
pub(crate) fn owned_run(tree: usize, key: &[u8], value: &[u8]) -> Option<RunRef> {
    match tree {
        KEYS => Version::decode(value).run(),
        HISTORY => Record::decode(value).undo.and_then(|version| version.run()),
        _ => members::owned_run(key, value),
    }
}

/// As [`owned_run`], of a leaf's entry that anybody may have made.
///
/// # Errors
/// [`Malformed`]: it is no entry of that tree.
pub(crate) fn check_owned_run(
    tree: usize,
    key: &[u8],
    value: &[u8],
) -> Result<Option<RunRef>, Malformed> {
    let is_whole = match tree {
        KEYS => check_version(value),
        HISTORY => check_record(value),
        _ => members::check_owned_run(key, value),
    };
    if is_whole { Ok(owned_run(tree, key, value)) } else { Err(Malformed) }
}

/// The position of each key's newest version, by the key.
fn verify_keys<M: PageMap>(
    trees: &Trees<M>,
    long_keys: &mut Runs,
) -> Result<BTreeMap<Vec<u8>, Position>, Corruption> {
    let mut positions = BTreeMap::new();
    let mut attachments = 0;
    let mut cursor = trees.keys.cursor(&trees.store);
    let mut on_entry = cursor.seek_first()?;
    while on_entry {
        let (key, version) = (cursor.key()?, Version::decode(cursor.value()));
        assert!(cursor.mark().weighs != version.is_tombstone());
        let found = trees.newest(key)?;
        assert!(found.is_some_and(|found| found.at == version.at), "a search finds its key");
        positions.insert(key.to_vec(), version.at);
        if let Some(run) = cursor.key_run() {
            long_keys.insert(run.first().0, run);
        }
        if let Some(Content { lease, .. }) = version.content.filter(|content| content.lease != 0) {
            attachments += 1;
            let attached = lease::is_attached(&trees.store, &trees.system, lease, key)?;
            assert!(attached, "a key with a lease is attached to it");
        }
        if trees.compact_revision <= version.at.main {
            let record = trees.record(version.at)?;
            assert!(trees.event_key(record.key)? == key);
        } else if version.is_tombstone() {
            // It stays until the step that removes its event.
            let event = trees.history.get(&trees.store, &version.at.to_key())?;
            assert!(event.is_some(), "a tombstone outlived its event");
        }
        on_entry = cursor.next()?;
    }
    let mut attached = 0;
    for lease in lease::all(&trees.store, &trees.system)? {
        lease::for_each_key(&trees.store, &trees.system, lease.id, &mut |_| attached += 1)?;
    }
    assert!(attached == attachments, "an attached key is live and names its lease");
    Ok(positions)
}

fn verify_history<M: PageMap>(
    trees: &Trees<M>,
    owned: &Runs,
    long_keys: &Runs,
    newest: &BTreeMap<Vec<u8>, Position>,
) -> Result<(), Corruption> {
    let is_in = |runs: &Runs, run: RunRef| runs.get(&run.first().0) == Some(&run);
    let mut cursor = trees.history.cursor(&trees.store);
    let mut on_entry = cursor.seek_first()?;
    while on_entry {
        let at = Position::from_key(cursor.key()?);
        let record = Record::decode(cursor.value());
        let visit = Record::needs_visit(record.content.is_none(), record.undo.as_ref());
        assert!(cursor.mark().visit == visit && !cursor.mark().weighs);
        if let Some(Content { value: ValueRef::Run(run), .. }) = record.content {
            assert!(is_in(owned, run), "an event borrows a value that no one owns");
        }
        if let KeyRef::Run(run) = record.key {
            assert!(is_in(long_keys, run), "an event borrows a key that no one owns");
        }
        assert!(record.undo.is_none_or(|undo| undo.at < at));
        let newest = newest.get(trees.event_key(record.key)?);
        assert!(newest.is_some_and(|newest| at <= *newest), "an event's key has no entry");
        on_entry = cursor.next()?;
    }
    Ok(())
}
