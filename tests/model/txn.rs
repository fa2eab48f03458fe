//! Transactions: their form, their guards, the branches they take.
//!
//! Invariants: all guards on the chosen path look at the state before the transaction; a refusal
//! changes nothing.
//! Source: fact sheet of etcd's behaviour, section 4.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use engine::api::range_contains;

use super::answer::{Kv, OpAnswer};
use super::failure::{self, Failure};
use super::request::{Compare, Delete, Op, Relation, Txn, Value};
use super::store::{View, check_key, check_put};

/// The branch taken, and those of the transactions in it.
pub(super) struct Path<'a> {
    is_success: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Op(&'a Op),
    Txn(Path<'a>),
}

/// What a transaction's form refuses.
pub(super) fn check(txn: &Txn, ops_max: usize) -> Result<(), Failure> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops_max < longest {
        return Err(failure::TOO_MANY_OPS.into());
    }
    for compare in &txn.compare {
        check_key(&compare.key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) => check_key(&range.key)?,
            Op::Put(put) => check_put(put)?,
            Op::Delete(delete) => check_key(&delete.key)?,
            Op::Txn(nested) => check(nested, ops_max - longest)?,
        }
    }
    for branch in [&txn.success, &txn.failure] {
        changes(branch)?;
    }
    Ok(())
}

/// Keys put and ranges deleted by a branch, unless one key would be changed twice.
fn changes(branch: &[Op]) -> Result<(BTreeSet<&[u8]>, Vec<&Delete>), Failure> {
    let mut puts: BTreeSet<&[u8]> = BTreeSet::new();
    let mut deletes: Vec<&Delete> = branch
        .iter()
        .filter_map(|op| if let Op::Delete(delete) = op { Some(delete) } else { None })
        .collect();
    let is_deleted = |deletes: &[&Delete], key: &[u8]| {
        deletes.iter().any(|delete| range_contains(&delete.key, &delete.range_end, key))
    };
    for op in branch {
        let Op::Txn(nested) = op else { continue };
        let (then_puts, then_deletes) = changes(&nested.success)?;
        let (else_puts, else_deletes) = changes(&nested.failure)?;
        let both: BTreeSet<&[u8]> = then_puts.union(&else_puts).copied().collect();
        for key in both {
            if is_deleted(&deletes, key) || !puts.insert(key) {
                return Err(failure::DUPLICATE_KEY.into());
            }
        }
        deletes.extend(then_deletes);
        deletes.extend(else_deletes);
    }
    for op in branch {
        let Op::Put(put) = op else { continue };
        if is_deleted(&deletes, &put.key) || !puts.insert(&put.key) {
            return Err(failure::DUPLICATE_KEY.into());
        }
    }
    Ok((puts, deletes))
}

/// Looks at the guards.
pub(super) fn choose<'a>(view: &View<'_>, txn: &'a Txn) -> Path<'a> {
    let is_success = txn.compare.iter().all(|compare| holds(view, compare));
    let branch = if is_success { &txn.success } else { &txn.failure };
    let steps = branch.iter().map(|op| match op {
        Op::Txn(nested) => Step::Txn(choose(view, nested)),
        op => Step::Op(op),
    });
    Path { is_success, steps: steps.collect() }
}

/// Everything that may refuse, before anything is changed.
pub(super) fn check_path(view: &View<'_>, path: &Path<'_>) -> Result<(), Failure> {
    for step in &path.steps {
        match step {
            Step::Txn(nested) => check_path(view, nested)?,
            Step::Op(Op::Put(put)) => view.check_put(put)?,
            Step::Op(Op::Range(range)) => view.check_revision(range.revision)?,
            Step::Op(_) => {}
        }
    }
    Ok(())
}

/// Runs what was chosen.
pub(super) fn run(view: &mut View<'_>, path: &Path<'_>) -> Result<(bool, Vec<OpAnswer>), Failure> {
    let mut answers = Vec::new();
    for step in &path.steps {
        answers.push(match step {
            Step::Txn(nested) => {
                let (is_success, answers) = run(view, nested)?;
                OpAnswer::Txn { is_success, answers }
            }
            Step::Op(Op::Put(put)) => {
                let previous = view.put(put);
                OpAnswer::Put { revision: view.revision(), previous }
            }
            Step::Op(Op::Delete(delete)) => {
                let previous = view.delete(delete);
                let deleted = previous.len() as i64;
                let told = previous.iter().filter(|_| delete.wants_previous);
                let previous = told.map(|kv| kv.told()).collect();
                OpAnswer::Delete { revision: view.revision(), deleted, previous }
            }
            Step::Op(Op::Range(range)) => {
                OpAnswer::Range { revision: view.revision(), range: view.range(range)? }
            }
            Step::Op(Op::Txn(_)) => unreachable!("nested transactions are paths"),
        });
    }
    Ok((path.is_success, answers))
}

fn holds(view: &View<'_>, compare: &Compare) -> bool {
    let keys = view.keys(&compare.key, &compare.range_end, None);
    if keys.is_empty() {
        let is_value = matches!(compare.value, Value::Bytes(_));
        return !is_value && relates(&Kv::default(), compare);
    }
    keys.iter().all(|kv| relates(kv, compare))
}

fn relates(kv: &Kv, compare: &Compare) -> bool {
    let ordering = match &compare.value {
        Value::Version(number) => kv.version.cmp(number),
        Value::Create(number) => kv.create_revision.cmp(number),
        Value::Mod(number) => kv.mod_revision.cmp(number),
        Value::Lease(number) => kv.lease.cmp(number),
        Value::Bytes(bytes) => kv.value.cmp(bytes),
    };
    match compare.relation {
        Relation::Equal => ordering == Ordering::Equal,
        Relation::NotEqual => ordering != Ordering::Equal,
        Relation::Less => ordering == Ordering::Less,
        Relation::Greater => ordering == Ordering::Greater,
    }
}
