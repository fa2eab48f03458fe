//! A transaction without writes, answered like a read: one state for guards and ranges.
//!
//! Source: fact sheet of etcd's behaviour, sections 4.1 and 4.4.

use super::budget::WorkBudget;
use super::range::{RangeRead, resolve_revision};
use super::trees::Trees;
use super::txn::{PathRun, assemble, flatten};
use crate::api::{RangeRequest, Reject, RequestOp, ResponseOp, TxnRequest, TxnResponse};
use crate::engine::Step;
use crate::page::map::{Corruption, PageMap};

/// A read-only transaction under way.
#[derive(Clone, Debug)]
pub struct TxnRead {
    /// The state all of it sees.
    revision: i64,
    path: PathRun,
    path_complete: bool,
    range: Option<RangeRead>,
    answers: Vec<ResponseOp>,
}

impl TxnRead {
    pub(crate) fn new(revision: i64) -> TxnRead {
        TxnRead {
            revision,
            path: PathRun::default(),
            path_complete: false,
            range: None,
            answers: Vec::new(),
        }
    }

    /// One slice; `current` is the newest revision.
    pub(crate) fn step<M: PageMap>(
        &mut self,
        trees: &Trees<M>,
        txn: &TxnRequest<'_>,
        current: i64,
        budget: &mut WorkBudget,
    ) -> Result<Result<Step<TxnResponse>, Reject>, Corruption> {
        if self.revision < trees.compact_revision {
            *self = TxnRead::new(current);
        }
        if !self.path_complete {
            self.path_complete = self.path.step(trees, txn, self.revision, budget)?;
            if !self.path_complete {
                return Ok(Ok(Step::More));
            }
            for op in flatten(txn, &self.path.path) {
                let compacted = trees.compact_revision;
                let checked = resolve_revision(range_of(op).revision, self.revision, compacted);
                if let Err(reject) = checked {
                    return Ok(Err(reject));
                }
            }
        }
        let ops = flatten(txn, &self.path.path);
        while let Some(op) = ops.get(self.answers.len()) {
            let range = range_of(op);
            let at = if 0 < range.revision { range.revision } else { self.revision };
            let mut read =
                self.range.take().unwrap_or_else(|| RangeRead::new(range, at, self.revision));
            match read.step(trees, self.revision, budget)? {
                Err(reject) => return Ok(Err(reject)),
                Ok(Step::Done(response)) => self.answers.push(ResponseOp::Range(response)),
                Ok(Step::More) => {
                    self.range = Some(read);
                    return Ok(Ok(Step::More));
                }
            }
            if budget.is_spent() && self.answers.len() < ops.len() {
                return Ok(Ok(Step::More));
            }
        }
        let answers = std::mem::take(&mut self.answers);
        Ok(Ok(Step::Done(assemble(txn, &self.path.path, answers, self.revision))))
    }
}

fn range_of<'t, 'a>(op: &'t RequestOp<'a>) -> &'t RangeRequest<'a> {
    match op {
        RequestOp::Range(range) => range,
        _ => panic!("a transaction that writes is proposed, not read"),
    }
}
