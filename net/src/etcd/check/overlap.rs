//! The rule that a transaction changes a key once, as etcd has it.
//!
//! In one branch no key is put twice, nor put and deleted, in whatever order; a nested
//! transaction's puts and deletions count as its parent's. Two things are allowed: the two
//! branches of one nested transaction may put the same key, since only one of them runs; and a
//! nested transaction may delete what an *earlier* sibling puts (the reverse is refused), since
//! etcd looks at siblings in order and compares puts with the deletions seen so far. Deletions may
//! overlap one another.
//!
//! A short branch without nested transactions is compared op by op, without memory of its own.
//! For others there are sets of sorted keys and of disjoint intervals, merged from the smaller
//! into the larger: the cost is n log^2 n for n operations, however deeply nested.
//! Source: fact sheet of etcd's behaviour, section 4.3.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Bound;

use engine::api::{DeleteRangeRequest, RequestOp, TxnRequest, range_contains};

use crate::etcd::status::{self, Status};

/// Operations of a branch that are compared each with each.
const SHORT_OPS_MAX: usize = 16;

/// Refuses a transaction one of whose branches changes a key twice.
pub(super) fn check_overlap(txn: &TxnRequest<'_>) -> Result<(), Status> {
    check_branch(&txn.success)?;
    check_branch(&txn.failure)
}

fn check_branch(branch: &[RequestOp<'_>]) -> Result<(), Status> {
    let is_nested = branch.iter().any(|op| matches!(op, RequestOp::Txn(_)));
    if is_nested || SHORT_OPS_MAX < branch.len() {
        return changes_of(branch).map(|_| ());
    }
    for (position, op) in branch.iter().enumerate() {
        let RequestOp::Put(put) = op else { continue };
        // A put meets each deletion, and each put once.
        let is_met = branch.iter().enumerate().any(|(at, other)| match other {
            RequestOp::Put(other) => at < position && other.key == put.key,
            RequestOp::DeleteRange(delete) => range_contains(delete.key, delete.range_end, put.key),
            RequestOp::Range(_) | RequestOp::Txn(_) => false,
        });
        if is_met {
            return Err(status::DUPLICATE_KEY);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use engine::api::{PutRequest, RangeRequest};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn put(key: &'static str) -> RequestOp<'static> {
        RequestOp::Put(PutRequest { key: key.as_bytes(), ..PutRequest::default() })
    }

    fn delete(key: &'static str, range_end: &'static str) -> RequestOp<'static> {
        RequestOp::DeleteRange(DeleteRangeRequest {
            key: key.as_bytes(),
            range_end: range_end.as_bytes(),
            prev_kv: false,
        })
    }

    fn txn(success: &[RequestOp<'static>], failure: &[RequestOp<'static>]) -> RequestOp<'static> {
        RequestOp::Txn(TxnRequest {
            compare: Vec::new(),
            success: success.to_vec(),
            failure: failure.to_vec(),
        })
    }

    fn is_accepted(branch: &[RequestOp<'static>]) -> bool {
        let [then, otherwise] = [(branch, &[][..]), (&[][..], branch)].map(|(success, failure)| {
            let RequestOp::Txn(txn) = txn(success, failure) else { unreachable!() };
            let verdict = check_overlap(&txn);
            assert!(verdict.is_ok() || verdict == Err(status::DUPLICATE_KEY));
            verdict.is_ok()
        });
        assert_eq!(then, otherwise, "both branches are checked alike");
        assert_eq!(then, changes_of(branch).is_ok(), "so are short and long ones");
        then
    }

    #[test]
    fn a_key_is_put_once_and_not_deleted_as_well() {
        assert!(is_accepted(&[put("a"), put("b"), delete("c", "")]));
        assert!(!is_accepted(&[put("a"), put("a")]));
        assert!(!is_accepted(&[put("a"), delete("a", "")]));
        assert!(!is_accepted(&[delete("a", "c"), put("b")]));
        assert!(is_accepted(&[delete("a", "c"), put("c")]));
        assert!(!is_accepted(&[put("z"), delete("b", "\0")]));
        assert!(is_accepted(&[put("a"), delete("b", "\0")]));
        assert!(is_accepted(&[put("b"), delete("c", "a")]), "an empty interval covers nothing");
        assert!(is_accepted(&[delete("a", "c"), delete("b", "d"), delete("a", "")]));
        assert!(is_accepted(&[
            put("a"),
            RequestOp::Range(RangeRequest { key: b"a", ..RangeRequest::default() })
        ]));
    }

    #[test]
    fn nested_changes_count_as_their_parents() {
        assert!(!is_accepted(&[put("a"), txn(&[put("a")], &[])]));
        assert!(!is_accepted(&[txn(&[], &[put("a")]), put("a")]));
        assert!(!is_accepted(&[delete("a", "b"), txn(&[put("a")], &[])]));
        assert!(!is_accepted(&[txn(&[put("a")], &[]), delete("a", "b")]));
        assert!(!is_accepted(&[put("a"), txn(&[delete("a", "b")], &[])]));
        assert!(!is_accepted(&[txn(&[txn(&[], &[put("a")])], &[]), put("a")]));
        assert!(is_accepted(&[txn(&[put("a")], &[put("a")])]), "only one of them runs");
        assert!(is_accepted(&[txn(&[put("a")], &[delete("a", "")])]));
        assert!(!is_accepted(&[txn(&[put("a")], &[]), txn(&[], &[put("a")])]));
    }

    #[test]
    fn a_later_sibling_may_delete_what_an_earlier_one_puts_but_not_the_reverse() {
        assert!(is_accepted(&[txn(&[put("a")], &[]), txn(&[delete("a", "")], &[])]));
        assert!(!is_accepted(&[txn(&[delete("a", "")], &[]), txn(&[put("a")], &[])]));
        assert!(is_accepted(&[txn(&[put("a")], &[]), txn(&[], &[delete("", "\0")])]));
    }

    type Named = (Vec<&'static [u8]>, Vec<(&'static [u8], &'static [u8])>);

    /// The same rule with lists, each compared with each.
    fn plainly(branch: &[RequestOp<'static>]) -> Option<Named> {
        let (mut puts, mut deletes): Named = Default::default();
        for op in branch {
            if let RequestOp::DeleteRange(delete) = op {
                deletes.push((delete.key, delete.range_end));
            }
        }
        for op in branch {
            let RequestOp::Txn(nested) = op else { continue };
            let (then, otherwise) = (plainly(&nested.success)?, plainly(&nested.failure)?);
            let inner: Vec<_> = then.0.into_iter().chain(otherwise.0).collect();
            let covered = |key| deletes.iter().any(|(start, end)| range_contains(start, end, key));
            if inner.iter().any(|key| puts.contains(key) || covered(key)) {
                return None;
            }
            puts.extend(inner);
            deletes.extend(then.1.into_iter().chain(otherwise.1));
        }
        for op in branch {
            let RequestOp::Put(put) = op else { continue };
            let covered = deletes.iter().any(|(start, end)| range_contains(start, end, put.key));
            if covered || puts.contains(&put.key) {
                return None;
            }
            puts.push(put.key);
        }
        Some((puts, deletes))
    }

    const KEYS: [&str; 14] =
        ["a", "a\0", "ab", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    const ENDS: [&str; 6] = ["", "\0", "b", "e", "d", "ab"];

    fn branch() -> impl Strategy<Value = Vec<RequestOp<'static>>> {
        let leaf = || {
            prop_oneof![
                3 => (0..KEYS.len()).prop_map(|key| put(KEYS[key])),
                1 => (0..KEYS.len(), 0..ENDS.len())
                    .prop_map(|(key, end)| delete(KEYS[key], ENDS[end])),
            ]
        };
        vec(leaf(), 0..4).prop_recursive(3, 20, 4, move |inner| {
            let nested =
                (inner.clone(), inner).prop_map(|(success, failure)| txn(&success, &failure));
            vec(prop_oneof![leaf(), nested], 0..4)
        })
    }

    #[test]
    fn random_branches_are_judged_as_by_the_plain_rule() {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = branch();
        let mut accepted = 0;
        let rounds = 4000;
        for _ in 0..rounds {
            let branch = strategy.new_tree(&mut runner).unwrap().current();
            let wanted = plainly(&branch).is_some();
            assert_eq!(is_accepted(&branch), wanted, "{branch:?}");
            accepted += usize::from(wanted);
        }
        assert!(rounds / 5 < accepted && accepted < rounds * 9 / 10, "{accepted} of {rounds}");
    }

    #[test]
    fn intervals_stay_disjoint_and_cover_what_was_inserted() {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let strategy = vec((0..KEYS.len(), 0..ENDS.len()), 0..8);
        for _ in 0..2000 {
            let picks = strategy.new_tree(&mut runner).unwrap().current();
            let mut intervals = Intervals::default();
            let mut requests = Vec::new();
            for (key, end) in picks {
                let (key, range_end) = (KEYS[key].as_bytes(), ENDS[end].as_bytes());
                let request = DeleteRangeRequest { key, range_end, prev_kv: false };
                intervals.insert_request(&request);
                requests.push(request);
            }
            let ends: Vec<_> = intervals.ends.iter().collect();
            assert!(ends.iter().all(|(start, end)| Edge::before(start) < **end));
            assert!(ends.windows(2).all(|pair| *pair[0].1 < Edge::before(pair[1].0)));
            for key in KEYS.map(str::as_bytes) {
                let covered = requests.iter().any(|r| range_contains(r.key, r.range_end, key));
                assert_eq!(intervals.contains(key), covered);
                let alone = BTreeSet::from([key]);
                assert_eq!(intervals.contains_any(&alone), covered);
            }
        }
    }
}
