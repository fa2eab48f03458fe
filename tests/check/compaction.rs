//! What is compacted is refused, what is not is served, and the mark only rises.
//!
//! The compact revision is a register that only grows, with calls that set it and calls that show
//! it. At any moment it is at least the highest mark whose call had returned, and at most the
//! highest whose call had been made; a compaction of unknown outcome counts for the second only.
//! Source: fact sheet of etcd's behaviour, sections 3 and 6.

use super::history::{Call, Complaint, History, Outcome};
use crate::model::failure::COMPACTED;
use crate::model::{Op, Request};

const CHECK: &str = "compaction";

/// Compactions of a run.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// (revision, made at, certain at) of every compaction that may have happened.
    marks: Vec<(i64, u64, u64)>,
}

impl Marks {
    /// Takes them out of a history.
    pub fn of(history: &History) -> Marks {
        let mark = |call: &Call| match (&call.request, &call.outcome) {
            (Request::Compact { .. }, Outcome::Refused(_)) => None,
            (Request::Compact { revision, .. }, Outcome::Done { .. }) => {
                Some((*revision, call.invoked_us, call.returned_us))
            }
            (Request::Compact { revision, .. }, Outcome::Unknown) => {
                Some((*revision, call.invoked_us, super::history::NEVER_US))
            }
            _ => None,
        };
        Marks { marks: history.calls.iter().filter_map(mark).collect() }
    }

    /// What the mark is at least, at a time.
    pub fn certain(&self, at_us: u64) -> i64 {
        let done = self.marks.iter().filter(|(_, _, certain_us)| *certain_us < at_us);
        done.map(|(revision, _, _)| *revision).fold(NONE, i64::max)
    }

    /// What the mark is at most, at a time.
    pub fn possible(&self, at_us: u64) -> i64 {
        let made = self.marks.iter().filter(|(_, made_us, _)| *made_us <= at_us);
        made.map(|(revision, _, _)| *revision).fold(NONE, i64::max)
    }
}

/// Judges every compaction, and every read of a named revision.
///
/// # Errors
/// The first call that contradicts the compactions.
pub fn check(history: &History, marks: &Marks) -> Result<(), Complaint> {
    for call in &history.calls {
        match &call.request {
            Request::Compact { revision, .. } => check_compaction(call, *revision, marks)?,
            Request::Range(range) if 0 < range.revision => {
                check_read(call, &[range.revision], marks)?;
            }
            Request::Txn(txn) => {
                let named = |op: &Op| match op {
                    Op::Range(range) if 0 < range.revision => Some(range.revision),
                    _ => None,
                };
                let ops = txn.success.iter().chain(&txn.failure);
                let revisions: Vec<i64> = ops.filter_map(named).collect();
                if !revisions.is_empty() {
                    check_read(call, &revisions, marks)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_compaction(call: &Call, revision: i64, marks: &Marks) -> Result<(), Complaint> {
    let is_wrong = match &call.outcome {
        Outcome::Done { .. } => revision <= marks.certain(call.invoked_us),
        Outcome::Refused(failure) if failure.is(COMPACTED) => {
            marks.possible(call.returned_us) < revision
        }
        _ => false,
    };
    if is_wrong {
        return Err(Complaint::new(CHECK, format!("{call:?} contradicts the others")));
    }
    Ok(())
}

fn check_read(call: &Call, revisions: &[i64], marks: &Marks) -> Result<(), Complaint> {
    let oldest = *revisions.iter().min().expect("the caller names some");
    let is_wrong = match &call.outcome {
        // A transaction may have taken its other branch.
        Outcome::Done { .. } if matches!(call.request, Request::Txn(_)) => false,
        Outcome::Done { .. } if call.request.is_serializable() => false,
        Outcome::Done { .. } => oldest < marks.certain(call.invoked_us),
        Outcome::Refused(failure) if failure.is(COMPACTED) => {
            marks.possible(call.returned_us) <= oldest
        }
        _ => false,
    };
    if is_wrong {
        let what = format!("{call:?}: the compact revision cannot have been so then");
        return Err(Complaint::new(CHECK, what));
    }
    Ok(())
}

/// Nothing was compacted.
const NONE: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Answer, Range, RangeAnswer};

    fn call(request: Request, times: (u64, u64), outcome: Outcome) -> Call {
        let (invoked_us, returned_us) = times;
        Call { connection: 1, invoked_us, returned_us, request, outcome }
    }

    fn compact(revision: i64, times: (u64, u64), is_done: bool) -> Call {
        let outcome = match is_done {
            true => Outcome::Done { revision: 9, answer: Answer::Compact },
            false => Outcome::Refused(COMPACTED.into()),
        };
        call(Request::Compact { revision, is_physical: false }, times, outcome)
    }

    fn read(revision: i64, times: (u64, u64), is_done: bool) -> Call {
        let answer = Answer::Range(RangeAnswer::default());
        let outcome = match is_done {
            true => Outcome::Done { revision: 9, answer },
            false => Outcome::Refused(COMPACTED.into()),
        };
        call(Request::Range(Range { revision, ..Range::key(b"a") }), times, outcome)
    }

    fn judge(calls: Vec<Call>) -> Result<(), Complaint> {
        let history = History { calls };
        check(&history, &Marks::of(&history))
    }

    #[test]
    fn right_histories_pass() {
        judge(vec![compact(5, (10, 20), true), compact(4, (15, 25), false)]).expect("right");
        judge(vec![compact(5, (10, 20), true), read(4, (15, 30), true), read(5, (21, 22), true)])
            .expect("right");
        judge(vec![compact(5, (10, 20), true), read(4, (15, 30), false)]).expect("right");
    }

    #[test]
    fn wrong_histories_are_complained_about() {
        let served = vec![compact(5, (10, 20), true), read(4, (21, 22), true)];
        judge(served).expect_err("a compacted revision was served");
        let refused = vec![compact(5, (10, 20), true), read(5, (21, 22), false)];
        judge(refused).expect_err("the compact revision itself is there");
        judge(vec![read(5, (1, 2), false)]).expect_err("nothing was compacted");
        judge(vec![compact(5, (10, 20), true), compact(5, (21, 22), true)]).expect_err("twice");
        judge(vec![compact(5, (10, 20), false)]).expect_err("nothing was compacted before");
    }
}
