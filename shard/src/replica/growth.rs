//! A member is added only when a newborn one could be sent the state.
//!
//! A newborn member begins with nothing: what the first entries of the log change is in a checkpoint
//! alone. Its vote counts as soon as its addition is applied. A group without a checkpoint that adds
//! a voter and then loses another one would stand still for ever: its quorum needs the newborn
//! member, that one a checkpoint, and a checkpoint is a command that needs the quorum. Invariants:
//! the leader appends no addition before a checkpoint of its own is durable that reaches to what its
//! log dropped; so who holds the addition holds the command of that checkpoint as committed too, and
//! makes it without a quorum; what waits for it is bounded, and nothing else waits with it.
//! Source: replication.md, Membership 1; storage.md, State transfer.

use bytes::Bytes;
use engine::api::Command;
use engine::page::map::PageMap;
use raft::{ChangeStep, ConfigurationChange, ProposeError};

use super::Replica;
use super::pending::Waiter;
use crate::input::ConnectionId;
use crate::peers::Peers;

/// Additions that may wait.
const HELD_MAX: usize = 16;

/// Additions that wait for a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Growth {
    held: Vec<Addition>,
}

#[derive(Debug)]
struct Addition {
    proposed_by: Proposer,
    command: Bytes,
}

/// Whose proposal it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proposer {
    /// This member's own.
    Own { counter: u64 },
    /// Another member's: its connection, and the number of the proposal on it.
    Peer { connection: ConnectionId, sequence: u64 },
}

/// Why a command is not in the leader's log.
#[derive(Debug)]
pub(super) enum NotInLog {
    /// Raft took it not.
    Refused(ProposeError),
    /// It adds a member, and there is no checkpoint yet.
    TooEarly,
}

impl From<ProposeError> for NotInLog {
    fn from(error: ProposeError) -> NotInLog {
        NotInLog::Refused(error)
    }
}

impl Growth {
    /// Keeps an addition until it may be appended. False if there is no room.
    pub fn hold(&mut self, proposed_by: Proposer, command: Bytes) -> bool {
        let has_room = self.held.len() < HELD_MAX;
        if has_room {
            self.held.push(Addition { proposed_by, command });
        }
        has_room
    }
}

impl<M: PageMap> Replica<M> {
    /// Whether this change of the leader's has to wait for a checkpoint.
    pub(super) fn is_too_early(&mut self, change: &ConfigurationChange) -> bool {
        let configuration = self.raft.configuration();
        let is_newborn = |step: &ChangeStep| match step {
            ChangeStep::AddVoter(id) | ChangeStep::AddLearner(id) => {
                !configuration.members().any(|member| member == *id)
            }
            ChangeStep::Remove(_) => false,
        };
        let ConfigurationChange::Change { steps, .. } = change else { return false };
        if !steps.iter().any(is_newborn) {
            return false;
        }
        self.checkpoint.keep_log();
        !self.checkpoint.serves_newborn()
    }

    /// Additions that wait: asks for the checkpoint, and goes on when it is durable, or when another
    /// member leads.
    pub(super) fn run_growth(&mut self, peers: &mut Peers) {
        if self.growth.held.is_empty() {
            return;
        }
        if self.is_leader() && !self.checkpoint.serves_newborn() {
            if !self.background.is_own_pending() && !self.checkpoint.is_under_way() {
                let is_proposed = self.propose_own(&Command::Checkpoint, Waiter::Background);
                self.background.set_own_pending(is_proposed);
            }
            return;
        }
        for Addition { proposed_by, command } in std::mem::take(&mut self.growth.held) {
            match proposed_by {
                Proposer::Own { counter } => self.forwarding.hold(counter, command),
                Proposer::Peer { connection, sequence } => {
                    self.on_remote_proposal(connection, sequence, command, peers);
                }
            }
        }
        self.needs_step = true;
    }
}
