//! Raft consensus, pure: one [`RaftNode`] is one replica of one group, as a state machine.
//!
//! Invariant of absence: no keys, files, sockets, encodings or clock in here.
//!
//! # The contract with the caller
//! Inputs are [`RaftNode::step`] (a message), [`RaftNode::propose`], [`RaftNode::read_index`] and
//! [`RaftNode::tick`]; within one step of the caller in this order, ticks last. If `now` jumped
//! since the step before, [`RaftNode::paused`] comes first. Then, while [`RaftNode::has_ready`],
//! [`RaftNode::ready`] fills a reused [`Ready`], and the caller owes this:
//!
//! 1. **Persist** `hard_state`, `snapshot` and `entries`, in this order or as one piece; Readys in
//!    their order. An entry replaces what was written for its index and for every later one; a
//!    snapshot replaces everything before it. When all of a Ready and of its predecessors is
//!    synced, call [`RaftNode::persisted`] with its number. Several Readys may be outstanding. A
//!    sync that fails must end the process.
//! 2. **Send** `messages_now` at once, in parallel with the write. **Hold**
//!    `messages_after_persist` until `persisted(number)` has been called for that Ready's number,
//!    then send them; they are forgotten in a crash. Any message may be lost, repeated or
//!    reordered. A message with the body [`Body::Snapshot`] is not sent: transfer that state, tell
//!    [`RaftNode::report_snapshot`], and have the receiver `step` the message once it holds the
//!    state.
//! 3. **Install** `snapshot` before anything after it is applied. If a Snapshot message was stepped
//!    and no Ready carries it, the state is not needed. A caller that needs it all the same, since
//!    its own state is damaged, says so by [`RaftNode::adopted`].
//! 4. **Apply** `committed` in order, durable here or not. For each
//!    [`EntryKind::ConfigChange`] that the caller accepts call [`RaftNode::apply_configuration`],
//!    then call [`RaftNode::applied`]. The applied index is stored with the state, so that
//!    an entry is applied once.
//! 5. **Answer** the reads of `read_states` from a state that contains their index, and ask again
//!    for those in `reads_lost`. After a change of leader a proposal may still commit: its answer
//!    is known only when an entry is applied at its index, and it is its own only under its term.
//! 6. **Checkpoint**: tell each durable one by [`RaftNode::checkpointed`], then
//!    [`RaftNode::compact_log`] what need not stay in memory.
//!
//! A restart gives [`RaftNode::new`] the newest durable hard state, checkpoint and entries, after
//! one sync: what recovery reads is not yet durable; and a higher incarnation than any before.
//! Messages of earlier incarnations, of either side, must not reach `step`.
//!
//! A group of one voter is no special case: `campaign()`, one Ready with the term and vote, its
//! `persisted`, and it leads; each entry commits when it is persisted.
//!
//! # Where to look
//! [`RaftNode`] in node.rs is the surface; election.rs, transfer.rs, replication.rs,
//! read_index.rs, snapshot.rs and membership.rs hold the handlers; log.rs and unstable.rs the log;
//! progress.rs a leader's view of a follower; quorum.rs the arithmetic.
#![forbid(unsafe_code)]

mod config;
mod election;
mod error;
mod log;
mod membership;
mod message;
mod node;
mod progress;
pub mod quorum;
mod read_index;
mod ready;
mod replication;
mod snapshot;
mod status;
mod transfer;
mod types;
mod unstable;

pub use config::Config;
pub use error::{
    CampaignError, ChangeError, LogError, ProposeError, ReadError, StartError, StepError,
    TransferError,
};
pub use membership::{ChangeStep, ConfigurationChange, Transition};
pub use message::{AppendOutcome, Body, CampaignCause, LeaseReads, Message, Verdict};
pub use node::{INDEX_MAX, RaftNode, TERM_MAX};
pub use progress::ProgressState;
pub use quorum::MEMBERS_COUNT_MAX;
pub use ready::Ready;
pub use replication::SnapshotOutcome;
pub use status::{PeerStatus, Status};
pub use types::{
    Configuration, DiskHealth, ENTRY_OVERHEAD_BYTES, Entry, EntryId, EntryKind, HardState, Index,
    LocalHealth, ReadState, ReadyNumber, ReplicaId, Restored, Role, Snapshot, SoftState, Term,
    VoteMemory,
};
