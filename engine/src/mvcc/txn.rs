//! The shape of a transaction: which branches run, the operations in order, and the answer put
//! together again.
//!
//! All guards, those of nested transactions on the chosen path too, are evaluated on the state
//! before the transaction. A path is one bit for each transaction on it, in the order in which
//! they are met.
//! Source: fact sheet of etcd's behaviour, sections 4.1 and 4.2.

use super::budget::WorkBudget;
use super::trees::Trees;
use super::version::Version;
use crate::api::{
    Compare, CompareResult, CompareTarget, KeyValue, Operand, RequestOp, ResponseOp, TxnRequest,
    TxnResponse, range_contains,
};
use crate::page::map::{Corruption, PageMap};
use std::cmp::Ordering;

/// The evaluation of all guards on the path, in slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathRun {
    /// Branches taken so far.
    pub(crate) path: Vec<bool>,
    /// The guard under way in the transaction that comes next.
    slot: usize,
    /// Where a guard over a range goes on; empty at its start.
    next_key: Vec<u8>,
    /// Whether the range has shown a key.
    met_key: bool,
}

impl PathRun {
    /// Evaluates guards at revision `at`; true when the path is complete.
    pub(crate) fn step<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        txn: &TxnRequest<'_>,
        at: i64,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        self.resolve(trees, txn, at, &mut 0, budget)
    }

    fn resolve<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        txn: &TxnRequest<'_>,
        at: i64,
        met: &mut usize,
        budget: &mut WorkBudget,
    ) -> Result<bool, Corruption> {
        if *met == self.path.len() {
            let Some(succeeded) = self.all_hold(trees, txn, at, budget)? else {
                return Ok(false);
            };
            self.path.push(succeeded);
            self.slot = 0;
        }
        let taken = self.path[*met];
        *met += 1;
        for op in branch(txn, taken) {
            if let RequestOp::Txn(nested) = op
                && !self.resolve(trees, nested, at, met, budget)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether all guards of one transaction hold; `None` when the budget is spent before.
    fn all_hold<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        txn: &TxnRequest<'_>,
        at: i64,
        budget: &mut WorkBudget,
    ) -> Result<Option<bool>, Corruption> {
        while let Some(compare) = txn.compare.get(self.slot) {
            let Some(holds) = self.holds(trees, compare, at, budget)? else {
                return Ok(None);
            };
            self.next_key.clear();
            self.met_key = false;
            if !holds {
                return Ok(Some(false));
            }
            self.slot += 1;
            if budget.is_spent() && self.slot < txn.compare.len() {
                return Ok(None);
            }
        }
        Ok(Some(true))
    }

    fn holds<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        compare: &Compare<'_>,
        at: i64,
        budget: &mut WorkBudget,
    ) -> Result<Option<bool>, Corruption> {
        budget.spend(1);
        if compare.range_end.is_empty() {
            let version = match trees.newest(compare.key)? {
                Some(newest) => trees.version_at(newest, at)?,
                None => None,
            };
            return Ok(Some(match version {
                Some(version) => holds_for(trees, compare, &version)?,
                None => holds_for_absent(compare),
            }));
        }
        let start = if self.next_key.is_empty() { compare.key } else { &self.next_key };
        let mut cursor = trees.keys.cursor(&trees.store);
        let mut on_entry = cursor.seek_at_or_after(start)?;
        let mut steps = 0_u32;
        while on_entry {
            let key = cursor.key()?;
            if !range_contains(compare.key, compare.range_end, key) {
                break;
            }
            if let Some(version) = trees.version_at(Version::decode(cursor.value()), at)? {
                self.met_key = true;
                if !holds_for(trees, compare, &version)? {
                    return Ok(Some(false));
                }
            }
            on_entry = cursor.next()?;
            steps += 1;
            if steps.is_multiple_of(ENTRIES_PER_UNIT) {
                budget.spend(1);
                if budget.is_spent() && on_entry {
                    let next = cursor.key()?;
                    self.next_key.clear();
                    self.next_key.extend_from_slice(next);
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.met_key || holds_for_absent(compare)))
    }
}

/// The branch of a transaction.
pub(crate) fn branch<'t, 'a>(txn: &'t TxnRequest<'a>, taken: bool) -> &'t [RequestOp<'a>] {
    if taken { &txn.success } else { &txn.failure }
}

/// The operations that run, nested ones in their place, without the transactions around them.
pub(crate) fn flatten<'t, 'a>(txn: &'t TxnRequest<'a>, path: &[bool]) -> Vec<&'t RequestOp<'a>> {
    fn walk<'t, 'a>(
        txn: &'t TxnRequest<'a>,
        path: &mut std::slice::Iter<'_, bool>,
        ops: &mut Vec<&'t RequestOp<'a>>,
    ) {
        let taken = *path.next().expect("a complete path has a bit for every transaction on it");
        for op in branch(txn, taken) {
            match op {
                RequestOp::Txn(nested) => walk(nested, path, ops),
                _ => ops.push(op),
            }
        }
    }
    let (mut ops, mut bits) = (Vec::new(), path.iter());
    walk(txn, &mut bits, &mut ops);
    assert!(bits.next().is_none());
    ops
}

/// Puts the answers of the flattened operations into the transaction's shape. A nested one has no
/// revision of its own in its header.
pub(crate) fn assemble(
    txn: &TxnRequest<'_>,
    path: &[bool],
    answers: Vec<ResponseOp>,
    revision: i64,
) -> TxnResponse {
    fn walk(
        txn: &TxnRequest<'_>,
        path: &mut std::slice::Iter<'_, bool>,
        answers: &mut std::vec::IntoIter<ResponseOp>,
        revision: i64,
    ) -> TxnResponse {
        let taken = *path.next().expect("a complete path has a bit for every transaction on it");
        let responses = branch(txn, taken)
            .iter()
            .map(|op| match op {
                RequestOp::Txn(nested) => ResponseOp::Txn(walk(nested, path, answers, 0)),
                _ => answers.next().expect("every operation has its answer"),
            })
            .collect();
        TxnResponse { revision, succeeded: taken, responses }
    }
    let mut answers = answers.into_iter();
    let response = walk(txn, &mut path.iter(), &mut answers, revision);
    assert!(answers.next().is_none());
    response
}

/// Whether either branch, at any depth, holds a put: such a transaction takes space.
pub(crate) fn has_put(txn: &TxnRequest<'_>) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Put(_) => true,
        RequestOp::Txn(nested) => has_put(nested),
        RequestOp::Range(_) | RequestOp::DeleteRange(_) => false,
    })
}

fn holds_for<M: PageMap>(
    trees: &Trees<M>,
    compare: &Compare<'_>,
    version: &Version<'_>,
) -> Result<bool, Corruption> {
    let content = version.content.expect("a guard looks at live versions");
    let value = match compare.target {
        CompareTarget::Value => trees.value(content.value)?,
        _ => &[],
    };
    let kv = KeyValue {
        key: compare.key,
        value,
        create_revision: content.create,
        mod_revision: version.at.main,
        version: content.version,
        lease: content.lease,
    };
    Ok(relation_holds(compare, &kv))
}

/// An absent key counts as zeros; its value compares with nothing.
fn holds_for_absent(compare: &Compare<'_>) -> bool {
    compare.target != CompareTarget::Value && relation_holds(compare, &KeyValue::default())
}

fn relation_holds(compare: &Compare<'_>, kv: &KeyValue<'_>) -> bool {
    let given = |number: Option<i64>| number.unwrap_or(0);
    let operand = compare.operand;
    let ordering = match compare.target {
        CompareTarget::Version => kv.version.cmp(&given(match operand {
            Operand::Version(version) => Some(version),
            _ => None,
        })),
        CompareTarget::Create => kv.create_revision.cmp(&given(match operand {
            Operand::CreateRevision(revision) => Some(revision),
            _ => None,
        })),
        CompareTarget::Mod => kv.mod_revision.cmp(&given(match operand {
            Operand::ModRevision(revision) => Some(revision),
            _ => None,
        })),
        CompareTarget::Lease => kv.lease.cmp(&given(match operand {
            Operand::Lease(lease) => Some(lease),
            _ => None,
        })),
        CompareTarget::Value => kv.value.cmp(match operand {
            Operand::Value(value) => value,
            _ => &[],
        }),
        CompareTarget::Unknown => Ordering::Equal,
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::Unknown => true,
    }
}

/// Neighbours read for one work unit.
const ENTRIES_PER_UNIT: u32 = 8;
