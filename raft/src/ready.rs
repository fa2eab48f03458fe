//! What a replica owes the world after some steps.
//!
//! Invariants: everything in one Ready was decided before it was filled; `number` names what
//! `messages_after_persist` wait for. Source: the contract in lib.rs; replication.md, "What leaves
//! when".

use crate::message::Message;
use crate::types::{Entry, HardState, Index, ReadState, ReadyNumber, Snapshot, SoftState};

/// A buffer that [`RaftNode::ready`](crate::RaftNode::ready) fills again and again.
#[derive(Debug, Default)]
pub struct Ready {
    /// Give this to `persisted` when everything of this and all earlier Readys is durable. A Ready
    /// with nothing to persist has the number of the last one that had.
    pub number: ReadyNumber,
    /// To be written if present: term or vote changed.
    pub hard_state: Option<HardState>,
    /// To be installed if present, before the entries: it replaces the whole log.
    pub snapshot: Option<Snapshot>,
    /// To be written, in order. The first one replaces what was written for its index and for
    /// every index after it.
    pub entries: Vec<Entry>,
    /// To be sent at once.
    pub messages_now: Vec<Message>,
    /// To be held until `persisted(number)` was called, then sent; forgotten in a crash.
    pub messages_after_persist: Vec<Message>,
    /// To be applied, in order, durable here or not.
    pub committed: Vec<Entry>,
    /// Reads that may be answered once their index is applied.
    pub read_states: Vec<ReadState>,
    /// Contexts of reads that will not be answered: the leader changed. Ask again.
    pub reads_lost: Vec<u64>,
    /// Role, leader or term changed to this.
    pub soft_state: Option<SoftState>,
    /// Commit index at this moment; worth writing along with something else, never alone.
    pub commit: Index,
}

impl Ready {
    /// Whether a sync is needed before `persisted(number)`.
    pub fn must_persist(&self) -> bool {
        self.hard_state.is_some() || !self.entries.is_empty() || self.snapshot.is_some()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        !self.must_persist()
            && self.messages_now.is_empty()
            && self.messages_after_persist.is_empty()
            && self.committed.is_empty()
            && self.read_states.is_empty()
            && self.reads_lost.is_empty()
            && self.soft_state.is_none()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.hard_state = None;
        self.snapshot = None;
        self.entries.clear();
        self.messages_now.clear();
        self.messages_after_persist.clear();
        self.committed.clear();
        self.read_states.clear();
        self.reads_lost.clear();
        self.soft_state = None;
        assert!(self.is_empty());
    }
}
