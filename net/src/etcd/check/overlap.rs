//! The rule that a transaction changes a key once, as etcd has it.
//!
//! In one branch no key is put twice, nor put and deleted, in whatever order; a nested
//! transaction's puts and deletions count as its parent's. Two things are allowed: the two
//! branches of one nested transaction may put the same key, since only one of them runs; and a
//! nested transaction may delete what an *earlier* sibling puts (the reverse is refused), since
//! etcd looks at siblings in order and compares puts with the deletions seen so far. Deletions may
//! overlap one another.
//!
//! Sets of sorted keys and of disjoint intervals, merged from the smaller into the larger: the
//! cost is n log^2 n for n operations, however deeply nested.
//! Source: fact sheet of etcd's behaviour, section 4.3.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Bound;

use engine::api::{DeleteRangeRequest, RequestOp, TxnRequest};

use crate::etcd::status::{self, Status};

/// Refuses a transaction one of whose branches changes a key twice.
pub(super) fn check_overlap(txn: &TxnRequest<'_>) -> Result<(), Status> {
    if is_read_only(&txn.success) && is_read_only(&txn.failure) {
        return Ok(());
    }
    changes_of(&txn.success)?;
    changes_of(&txn.failure)?;
    Ok(())
}

fn is_read_only(branch: &[RequestOp<'_>]) -> bool {
    branch.iter().all(|op| matches!(op, RequestOp::Range(_)))
}

/// What a branch may put and delete, nested transactions included.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

fn changes_of<'a>(branch: &[RequestOp<'a>]) -> Result<Changes<'a>, Status> {
    let mut changes = Changes::default();
    // This level's deletions first: they count against every put, nested or not.
    for op in branch {
        if let RequestOp::DeleteRange(delete) = op {
            changes.deletes.insert_request(delete);
        }
    }
    for op in branch {
        if let RequestOp::Txn(nested) = op {
            changes.absorb(changes_of(&nested.success)?, changes_of(&nested.failure)?)?;
        }
    }
    for op in branch {
        if let RequestOp::Put(put) = op
            && (changes.deletes.contains(put.key) || !changes.puts.insert(put.key))
        {
            return Err(status::DUPLICATE_KEY);
        }
    }
    Ok(changes)
}

impl<'a> Changes<'a> {
    /// Takes in the two branches of a nested transaction.
    fn absorb(&mut self, then: Changes<'a>, otherwise: Changes<'a>) -> Result<(), Status> {
        let mut puts = then.puts;
        union(&mut puts, otherwise.puts);
        if intersects(&self.puts, &puts) || self.deletes.contains_any(&puts) {
            return Err(status::DUPLICATE_KEY);
        }
        union(&mut self.puts, puts);
        // Only now: a deletion does not count against the puts of earlier siblings.
        self.deletes.union(then.deletes);
        self.deletes.union(otherwise.deletes);
        Ok(())
    }
}

fn union<'a>(into: &mut BTreeSet<&'a [u8]>, mut from: BTreeSet<&'a [u8]>) {
    if into.len() < from.len() {
        mem::swap(into, &mut from);
    }
    into.extend(from);
}

fn intersects(one: &BTreeSet<&[u8]>, other: &BTreeSet<&[u8]>) -> bool {
    let (small, large) = if one.len() < other.len() { (one, other) } else { (other, one) };
    small.iter().any(|key| large.contains(key))
}

/// A bound between keys: before a key or right behind it, or behind all keys. The derived order
/// is that of the keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge<'a> {
    At { key: &'a [u8], is_behind: bool },
    Open,
}

impl<'a> Edge<'a> {
    fn before(key: &'a [u8]) -> Edge<'a> {
        Edge::At { key, is_behind: false }
    }

    fn behind(key: &'a [u8]) -> Edge<'a> {
        Edge::At { key, is_behind: true }
    }
}

/// Disjoint intervals of keys: first key to end.
///
/// Invariant: no interval is empty, and of two neighbours the first ends before the second
/// starts.
#[derive(Default)]
struct Intervals<'a> {
    ends: BTreeMap<&'a [u8], Edge<'a>>,
}

impl<'a> Intervals<'a> {
    fn insert_request(&mut self, delete: &DeleteRangeRequest<'a>) {
        let end = match delete.range_end {
            [] => Edge::behind(delete.key),
            [0] => Edge::Open,
            range_end => Edge::before(range_end),
        };
        self.insert(delete.key, end);
    }

    fn insert(&mut self, start: &'a [u8], end: Edge<'a>) {
        if end <= Edge::before(start) {
            return;
        }
        let (mut start, mut end) = (start, end);
        if let Some((&earlier, &earlier_end)) = self.ends.range(..=start).next_back()
            && Edge::before(start) <= earlier_end
        {
            start = earlier;
            end = end.max(earlier_end);
        }
        // Each interval swallowed here was inserted once, so this is constant on average.
        while let Some((&later, &later_end)) = self.ends.range(start..).next()
            && Edge::before(later) <= end
        {
            end = end.max(later_end);
            self.ends.remove(later);
        }
        self.ends.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before_or_at = (Bound::Unbounded, Bound::Included(key));
        match self.ends.range::<[u8], _>(before_or_at).next_back() {
            Some((_, end)) => Edge::before(key) < *end,
            None => false,
        }
    }

    fn contains_any(&self, keys: &BTreeSet<&'a [u8]>) -> bool {
        if keys.len() < self.ends.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        self.ends.iter().any(|(start, end)| {
            keys.range::<&[u8], _>(*start..).next().is_some_and(|key| Edge::before(key) < *end)
        })
    }

    fn union(&mut self, mut other: Intervals<'a>) {
        if self.ends.len() < other.ends.len() {
            mem::swap(&mut self.ends, &mut other.ends);
        }
        for (start, end) in other.ends {
            self.insert(start, end);
        }
    }
}
