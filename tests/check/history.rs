//! What clients did and were told, with the world's own time.

use std::fmt;

use crate::model::{Answer, Failure, Request};

/// What a call came to, as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Done {
        /// The header's revision.
        revision: i64,
        /// The answer.
        answer: Answer,
    },
    /// Refused: nothing was done, and nothing will be.
    Refused(Failure),
    /// Nobody knows: the connection broke, time ran out, or the refusal leaves it open.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Call {
    /// The connection it was made on, never used twice; answers of one member's life.
    pub connection: u64,
    /// When it left, microseconds.
    pub invoked_us: u64,
    /// When its answer came; the end of time if nobody knows its outcome.
    pub returned_us: u64,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// A violation, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The checker.
    pub check: &'static str,
    /// What it saw.
    pub what: String,
}

impl Complaint {
    /// A complaint of a checker.
    pub fn new(check: &'static str, what: impl Into<String>) -> Complaint {
        Complaint { check, what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

/// The calls of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In no particular order.
    pub calls: Vec<Call>,
}

impl Call {
    /// The revision in the answer's header.
    pub fn revision(&self) -> Option<i64> {
        match &self.outcome {
            Outcome::Done { revision, .. } => Some(*revision),
            _ => None,
        }
    }

    /// Whether the answer says that something was changed.
    pub fn is_effective(&self) -> bool {
        let Outcome::Done { answer, .. } = &self.outcome else { return false };
        match answer {
            Answer::Put { .. } => true,
            Answer::Delete { deleted, .. } => 0 < *deleted,
            Answer::Txn { answers, .. } => answers.iter().any(has_changed),
            _ => false,
        }
    }
}

fn has_changed(answer: &crate::model::OpAnswer) -> bool {
    use crate::model::OpAnswer;
    match answer {
        OpAnswer::Range { .. } => false,
        OpAnswer::Put { .. } => true,
        OpAnswer::Delete { deleted, .. } => 0 < *deleted,
        OpAnswer::Txn { answers, .. } => answers.iter().any(has_changed),
    }
}

/// A time that never comes.
pub const NEVER_US: u64 = u64::MAX;
