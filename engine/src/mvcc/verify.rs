//! The check of ownership over a whole store: slow, for simulations and tests.
//!
//! Invariants checked: every run has one owner and no page belongs to two; what events borrow is
//! owned; weights, flags, attachments and positions agree with the versions.

use super::system;
use super::trees::Trees;
use super::version::{Content, KeyRef, Position, Record, ValueRef, Version};
use crate::lease;
use crate::page::layout::RunRef;
use crate::page::map::{Corruption, PageMap};
use std::collections::BTreeMap;

/// Runs by their first page.
type Runs = BTreeMap<u64, RunRef>;

/// Panics if an invariant is broken; returns how many pages runs of values take.
pub(crate) fn verify<M: PageMap>(trees: &Trees<M>) -> Result<u64, Corruption> {
    let mut owned = Runs::new();
    let mut long_keys = Runs::new();
    for run in system::member_runs(&trees.store, &trees.system)? {
        own(&mut owned, run);
    }
    verify_keys(trees, &mut owned, &mut long_keys)?;
    let borrowed = verify_history(trees, &mut owned, &long_keys)?;
    for run in borrowed {
        assert!(owned.get(&run.first().0) == Some(&run), "an event borrows what no one owns");
    }
    let mut page_free = 0;
    for (first, run) in &owned {
        assert!(page_free <= *first, "two runs share a page");
        page_free = first + u64::from(run.pages());
        trees.store.read_run(run)?;
    }
    Ok(owned.values().map(|run| u64::from(run.pages())).sum())
}

fn own(owned: &mut Runs, run: RunRef) {
    let other = owned.insert(run.first().0, run);
    assert!(other.is_none(), "a run has two owners");
}

fn verify_keys<M: PageMap>(
    trees: &Trees<M>,
    owned: &mut Runs,
    long_keys: &mut Runs,
) -> Result<(), Corruption> {
    let mut attached = 0;
    let mut cursor = trees.keys.cursor(&trees.store);
    let mut on_entry = cursor.seek_first()?;
    while on_entry {
        let (key, version) = (cursor.key()?, Version::decode(cursor.value()));
        assert!(cursor.mark().weighs != version.is_tombstone() && !cursor.mark().visit);
        if let Some(run) = version.run() {
            own(owned, run);
        }
        if let Some(run) = cursor.key_run() {
            own(long_keys, run);
        }
        if let Some(Content { lease, .. }) = version.content.filter(|content| content.lease != 0) {
            attached += 1;
            let mut found = false;
            lease::for_each_key(&trees.store, &trees.system, lease, &mut |attached| {
                found |= attached == key;
            })?;
            assert!(found, "a leased key is attached");
        }
        if trees.compact_revision <= version.at.main {
            let record = trees.record(version.at)?;
            assert!(trees.event_key(record.key)? == key);
        } else {
            assert!(!version.is_tombstone() || may_still_be_trimmed(trees, version.at)?);
        }
        on_entry = cursor.next()?;
    }
    let mut known = 0;
    for lease in lease::all(&trees.store, &trees.system)? {
        lease::for_each_key(&trees.store, &trees.system, lease.id, &mut |_| known += 1)?;
    }
    assert!(known == attached, "an attached key is live and names its lease");
    Ok(())
}

/// A tombstone before the compact revision stays until the step that removes its event.
fn may_still_be_trimmed<M: PageMap>(trees: &Trees<M>, at: Position) -> Result<bool, Corruption> {
    Ok(trees.history.get(&trees.store, &at.to_key())?.is_some())
}

fn verify_history<M: PageMap>(
    trees: &Trees<M>,
    owned: &mut Runs,
    long_keys: &Runs,
) -> Result<Vec<RunRef>, Corruption> {
    let mut borrowed = Vec::new();
    let mut cursor = trees.history.cursor(&trees.store);
    let mut on_entry = cursor.seek_first()?;
    while on_entry {
        let at = Position::from_key(cursor.key()?);
        let record = Record::decode(cursor.value());
        let visit = Record::needs_visit(record.content.is_none(), record.undo.as_ref());
        assert!(cursor.mark().visit == visit && !cursor.mark().weighs);
        if let Some(Content { value: ValueRef::Run(run), .. }) = record.content {
            borrowed.push(run);
        }
        if let KeyRef::Run(run) = record.key {
            assert!(long_keys.get(&run.first().0) == Some(&run), "a long key is the keys tree's");
        }
        if let Some(undo) = record.undo {
            assert!(undo.at < at);
            if let Some(run) = undo.run() {
                own(owned, run);
            }
        }
        assert!(trees.newest(trees.event_key(record.key)?)?.is_some_and(|newest| at <= newest.at));
        on_entry = cursor.next()?;
    }
    Ok(borrowed)
}
