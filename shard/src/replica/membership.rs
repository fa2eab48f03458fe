//! Who belongs to the group: the founding, and what was applied of it since.
//!
//! Invariants: the member records are the configuration, so the two never differ at an applied
//! index; before the founders are applied the configuration is the one the member was born with.
//! Source: replication.md, Membership; fact sheet of semantics, section 11.

use engine::api::{Command, Founder};
use engine::page::map::PageMap;
use raft::{Configuration, ReplicaId};

use super::Replica;
use super::pending::Waiter;
use super::recovery::StartError;
use crate::config::{Config, Origin};

impl<M: PageMap> Replica<M> {
    /// Reads who belongs to the group at a start.
    pub(super) fn read_members(&mut self) -> Result<(), StartError> {
        self.members = self.engine.members().map_err(StartError::Members)?;
        self.removed_ids = self.engine.removed_ids().map_err(StartError::Members)?;
        Ok(())
    }

    /// An entry about members was applied: its pages are in memory.
    pub(super) fn on_members_changed(&mut self) {
        self.read_members().expect("the records that an entry just changed are read");
    }

    /// Proposes the members that the cluster begins with.
    pub(super) fn found_members(&mut self) {
        let Origin::Founder { members } = self.config.origin.clone() else {
            // Who joins a cluster finds its members in what it is sent.
            return;
        };
        let founders = members.iter().map(|member| Founder {
            member_id: member.id,
            name: &member.name,
            peer_urls: member.peer_urls.iter().map(String::as_str).collect(),
        });
        let found = Command::MembersFound { founders: founders.collect() };
        let is_proposed = self.propose_own(&found, Waiter::Background);
        self.background.set_own_pending(is_proposed);
    }
}

/// The configuration at an applied index with these member records.
pub(super) fn configuration_of(
    config: &Config,
    members: &[engine::engine::Member],
) -> Configuration {
    let mut configuration = Configuration::default();
    if members.is_empty() {
        if let Origin::Founder { members } = &config.origin {
            configuration.voters = members.iter().map(|member| ReplicaId(member.id)).collect();
        }
    }
    for member in members {
        let list = match member.is_learner {
            true => &mut configuration.learners,
            false => &mut configuration.voters,
        };
        list.push(ReplicaId(member.id));
    }
    configuration.voters.sort_unstable();
    assert!(configuration.learners.is_sorted(), "member records are read in order");
    configuration
}
