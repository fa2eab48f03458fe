//! When the driver may let clients' bytes gather: many clients write, nobody reads, and a write of
//! the WAL is in flight with more waiting behind it. What comes meanwhile cannot be answered before
//! that write ends, so a turn of the loop for each few bytes would be spent for nothing.
//!
//! Invariants: only where this member's disk alone decides what is committed; never while anybody
//! could be answered sooner; for [`GATHER_US_MAX`] at most, since what is gathered is still to be
//! decoded, and a read may come.
//! Source: architecture.md section 4, the step; measured in bench/results.

use engine::page::map::PageMap;

use super::{Replica, Stage};
use crate::message::Call;
use crate::wal::ShardWal;

/// When something was asked last that needs no write.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    asked_us: Option<u64>,
    /// Proposals of this step.
    proposals: usize,
}

impl Gathering {
    /// A step begins.
    pub fn begin_step(&mut self) {
        self.proposals = 0;
    }

    /// A call came.
    pub fn on_call(&mut self, call: &Call, now_us: u64) {
        match call {
            Call::Propose { .. } => self.proposals += 1,
            Call::WatchCredit { .. } | Call::WatchStreamClosed | Call::Abandon => {}
            _ => self.asked_us = Some(now_us),
        }
    }

    /// Whether only writes came for a while.
    fn is_write_only(&self, now_us: u64) -> bool {
        self.asked_us.is_none_or(|asked_us| asked_us + READ_QUIET_US <= now_us)
    }
}

impl<M: PageMap> Replica<M> {
    /// Until when what clients send may stay where it is, if that is worth it.
    pub fn gather_until_us(&self, wal: &ShardWal) -> Option<u64> {
        let is_worth_it = self.stage == Stage::Serving
            && self.is_leader()
            && wal.is_gathering()
            && OUTSTANDING_MIN <= self.pending.len()
            && self.gathering.proposals < STEP_PROPOSALS_MAX
            && self.gathering.is_write_only(self.now_us)
            && self.raft.configuration().voters.len() == 1;
        is_worth_it.then_some(self.now_us + GATHER_US_MAX)
    }
}

/// Proposals that wait for their answers: with fewer every turn brings an answer sooner.
const OUTSTANDING_MIN: usize = 16;
/// A step that brought this many was worth its turn: they come together by themselves.
const STEP_PROPOSALS_MAX: usize = 32;
/// A read, a watch or a keep-alive as recent as this may be followed by another.
const READ_QUIET_US: u64 = 10_000;
/// Gathered for this long at most: some 5 to 20 puts of a busy core.
const GATHER_US_MAX: u64 = 100;
