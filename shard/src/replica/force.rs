//! A cluster that lost its quorum for good goes on with one member: etcd's --force-new-cluster.
//!
//! Invariants: the whole log is kept, what was not known to be committed too, since cutting it at
//! the commit index would lose acknowledged writes; the others are removed by entries after it, in a
//! term far above any that they may have reached; until that is applied no entry changes who votes
//! here. Members of the old cluster are kept away by the epoch in the handshake, which the driver
//! raised before. Source: replication.md, Membership 5.

use engine::api::Command;
use engine::page::map::PageMap;
use raft::{Configuration, EntryId, Index, ReplicaId, Restored, Term};

use super::Replica;
use super::pending::Waiter;
use crate::config::Config;
use crate::effect::{Effect, Effects, LogLevel};

/// Distance of the forced term from any that the old cluster may still reach.
const TERM_DISTANCE: u64 = 1 << 20;

/// Makes this member the only voter, with everything in its log committed.
pub(super) fn force(config: &Config, restored: &mut Restored) {
    assert!(config.is_force_new_cluster);
    restored.configuration = Configuration::of_voters([ReplicaId(config.member_id)]);
    let last = restored
        .entries
        .last()
        .map_or(restored.applied, |entry| EntryId { index: entry.index, term: entry.term });
    let hard_state = &mut restored.hard_state;
    hard_state.commit = Index(hard_state.commit.0.max(last.index.0));
    hard_state.term = Term(hard_state.term.0 + TERM_DISTANCE);
    hard_state.vote = None;
}

impl<M: PageMap> Replica<M> {
    /// Removes the members of the old cluster, one at a time.
    pub(super) fn run_force(&mut self, fx: &mut Effects) {
        if !self.is_forcing || !self.is_leader() || !self.has_applied_own_term() {
            return;
        }
        if self.background.is_own_pending() {
            return;
        }
        let own = self.config.member_id;
        let command = match self.members.iter().find(|member| member.id != own) {
            Some(other) => Command::MemberRemove { member_id: other.id },
            None if self.is_learner() => Command::MemberPromote { member_id: own },
            None => {
                self.is_forcing = false;
                let message = "the cluster goes on with this member alone".to_string();
                let fields = vec![("member-id", format!("\"{own:x}\""))];
                return fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
            }
        };
        let is_proposed = self.propose_own(&command, Waiter::Background);
        self.background.set_own_pending(is_proposed);
    }
}
