//! Who belongs to the group: the founding, and what was applied of it since.
//!
//! Invariants: the member records are the configuration, so the two never differ at an applied
//! index; before the founders are applied the configuration is the one the member was born with.
//! Source: replication.md, Membership; fact sheet of semantics, section 11.

use bytes::Bytes;
use engine::api::{Command, Founder, ProposalId};
use engine::command;
use engine::engine::Member;
use engine::page::map::PageMap;
use raft::{
    ChangeError, ChangeStep, Configuration, ConfigurationChange, ProposeError, ReplicaId,
    Transition,
};

use super::growth::NotInLog;
use super::pending::Waiter;
use super::recovery::StartError;
use super::{DEFAULT_GROUP, Replica};
use crate::config::{Config, Origin as Birth};
use crate::effect::{Effect, Effects, LogLevel};
use crate::message::{MemberChange, MemberChangeKind, Origin, Outcome, ProposalClass, Unavailable};
use crate::peers::Peers;
use crate::wal::ShardWal;

/// A member counts as reachable when it is connected for so long: etcd's 5 s.
const CONNECTED_US_MIN: u64 = 5_000_000;
/// A learner may be promoted when it has this share of what the leader has, in percent.
const LEARNER_READY_PERCENT: u64 = 90;

impl<M: PageMap> Replica<M> {
    /// Reads who belongs to the group at a start.
    pub(super) fn read_members(&mut self) -> Result<(), StartError> {
        self.members = self.engine.members().map_err(StartError::Members)?;
        self.removed_ids = self.engine.removed_ids().map_err(StartError::Members)?;
        self.are_removals_told = self.told_removed_ids == self.removed_ids;
        Ok(())
    }

    /// An entry about members was applied: its pages are in memory.
    pub(super) fn on_members_changed(&mut self) {
        self.read_members().expect("the records that an entry just changed are read");
        self.are_members_new = true;
    }

    /// Who is to be connected: the members as applied, before that those of the beginning.
    pub fn tell_members(&mut self, wal: &ShardWal, peers: &mut Peers, fx: &mut Effects) {
        self.part_from_removed(wal, peers, fx);
        if !std::mem::take(&mut self.are_members_new) {
            return;
        }
        if self.members.is_empty() {
            let (Birth::Founder { members } | Birth::Joiner { members }) = &self.config.origin;
            let urls = members.iter().map(|member| (member.id, member.peer_urls.as_slice()));
            return peers.set_members(urls);
        }
        let urls = self.members.iter().map(|member| (member.id, member.peer_urls.as_slice()));
        peers.set_members(urls);
    }

    /// Who was removed is parted from, and told so when it comes back; not before a restart here
    /// could forget that the removal is committed: who was told that somebody knows ends, and its
    /// vote with it, which this member would need to find out again.
    fn part_from_removed(&mut self, wal: &ShardWal, peers: &mut Peers, fx: &mut Effects) {
        if self.are_removals_told {
            return;
        }
        // The step that applies a removal writes down that it is committed.
        let note = || (wal.commit_note(DEFAULT_GROUP), self.removed_ids.clone());
        let (note, removed_ids) = self.removals_noted.take().unwrap_or_else(note);
        if !wal.is_note_durable(note) {
            self.removals_noted = Some((note, removed_ids));
            return;
        }
        self.told_removed_ids = removed_ids;
        self.are_removals_told = self.told_removed_ids == self.removed_ids;
        peers.part_from(&self.told_removed_ids, fx);
    }

    /// Members that were removed, as far as they may be told, ascending.
    pub fn told_removed_ids(&self) -> &[u64] {
        &self.told_removed_ids
    }

    /// A change asked for by a client: checked as etcd does, then proposed.
    pub(super) fn on_member_change(&mut self, origin: Origin, change: MemberChange, added: u64) {
        if let Err(why) = self.check_change(&change) {
            if let MemberChange::Promote { .. } = change {
                self.figures.on_promotion_refused(why);
            }
            return self.fail(origin, why);
        }
        let texts = |urls: &[String]| -> Vec<String> { urls.to_vec() };
        let (urls, is_learner) = match &change {
            MemberChange::Add { peer_urls, is_learner } => (texts(peer_urls), *is_learner),
            MemberChange::Update { peer_urls, .. } => (texts(peer_urls), false),
            MemberChange::Remove { .. } | MemberChange::Promote { .. } => (Vec::new(), false),
        };
        let peer_urls = urls.iter().map(String::as_str).collect();
        let command = match change {
            MemberChange::Add { .. } => {
                Command::MemberAdd { member_id: added, peer_urls, is_learner }
            }
            MemberChange::Update { id, .. } => Command::MemberUpdate { member_id: id, peer_urls },
            MemberChange::Remove { id } => Command::MemberRemove { member_id: id },
            MemberChange::Promote { id } => Command::MemberPromote { member_id: id },
        };
        let mut bytes = Vec::new();
        command::encode(&command, ProposalId::default(), &mut bytes);
        let kind = match command {
            Command::MemberAdd { .. } => MemberChangeKind::Added { id: added },
            Command::MemberUpdate { .. } => MemberChangeKind::Updated,
            Command::MemberPromote { .. } => MemberChangeKind::Promoted,
            _ => MemberChangeKind::Removed,
        };
        let command = Bytes::from(bytes).into();
        self.on_propose(origin, command, ProposalClass::Members(kind));
    }

    /// What etcd checks before it proposes; the rest is checked at apply.
    fn check_change(&self, change: &MemberChange) -> Result<(), Unavailable> {
        if let MemberChange::Remove { id: 0 } | MemberChange::Promote { id: 0 } = change {
            // Nobody has this id, and Raft takes no change that names it.
            return Err(Unavailable::MemberNotFound);
        }
        let started = |member: &&Member| !member.name.is_empty();
        let voters = || self.members.iter().filter(|member| !member.is_learner);
        let learners = self.members.len() - voters().count();
        match change {
            MemberChange::Add { is_learner: true, .. } if self.config.learners_max <= learners => {
                return Err(Unavailable::TooManyLearners);
            }
            // etcd asks this first. Who does not lead cannot know it: the leader says it at last.
            MemberChange::Promote { id } if self.is_leader() && self.lags_as_learner(*id) => {
                return Err(Unavailable::LearnerNotReady);
            }
            _ if !self.config.is_strict_reconfig => return Ok(()),
            MemberChange::Add { is_learner, .. } => {
                let grown = voters().count() + usize::from(!is_learner);
                let started_count = voters().filter(started).count();
                let is_first_growth = started_count == 1 && grown == 2;
                if !is_first_growth && started_count < grown / 2 + 1 {
                    return Err(Unavailable::NotEnoughStarted);
                }
                if self.connected_count() < grown.div_ceil(2) {
                    return Err(Unavailable::Unhealthy);
                }
            }
            MemberChange::Remove { id } => {
                let is_voter = voters().any(|member| member.id == *id);
                if !is_voter {
                    return Ok(());
                }
                let left = voters().filter(|member| member.id != *id);
                let (count, started_count) = (left.clone().count(), left.filter(started).count());
                if count == 0 || started_count < count / 2 + 1 {
                    return Err(Unavailable::NotEnoughStarted);
                }
                if self.is_connected(*id) && self.connected_count() - 1 < count / 2 + 1 {
                    return Err(Unavailable::Unhealthy);
                }
            }
            MemberChange::Promote { id } => {
                let promoted = |member: &&Member| member.id == *id;
                let is_learner = self.members.iter().find(promoted).is_some_and(|m| m.is_learner);
                let started_count = self.members.iter().filter(started).count() - learners
                    + usize::from(self.members.iter().filter(promoted).any(|m| started(&m)));
                if is_learner && started_count < voters().count().div_ceil(2) + 1 {
                    return Err(Unavailable::NotEnoughStarted);
                }
            }
            MemberChange::Update { .. } => {}
        }
        Ok(())
    }

    /// Voters that this member reaches, itself among them.
    fn connected_count(&self) -> usize {
        let voters = self.members.iter().filter(|member| !member.is_learner);
        voters.filter(|member| self.is_connected(member.id)).count()
    }

    fn is_connected(&self, id: u64) -> bool {
        id == self.config.member_id
            || self.connected_since_us.get(&id).is_some_and(|since_us| {
                since_us + CONNECTED_US_MIN.min(self.now_us - self.started_us) <= self.now_us
            })
    }

    /// Proposes a change of the configuration to this leader's own log.
    pub(super) fn append_change(&mut self, command: Bytes) -> Result<(), NotInLog> {
        let Some(change) = change_of(&command) else {
            unreachable!("a change of the configuration was decoded before");
        };
        // Only a leader knows how far a learner is.
        if self.is_leader()
            && let ConfigurationChange::Change { steps, .. } = &change
            && let [ChangeStep::AddVoter(id)] = steps[..]
            && self.raft.configuration().learners.contains(&id)
            && !self.is_learner_ready(id)
        {
            return Err(ProposeError::Change(ChangeError::Inconsistent).into());
        }
        if self.is_leader() && self.is_too_early(&change) {
            return Err(NotInLog::TooEarly);
        }
        self.raft.propose_configuration(&change, command)?;
        Ok(())
    }

    /// A learner that has not caught up; of any other member nothing is said here.
    fn lags_as_learner(&self, id: u64) -> bool {
        let id = ReplicaId(id);
        self.raft.configuration().learners.contains(&id) && !self.is_learner_ready(id)
    }

    fn is_learner_ready(&self, id: ReplicaId) -> bool {
        let status = self.raft.status();
        let learner = status.peers.iter().find(|peer| peer.id == id);
        learner
            .is_some_and(|peer| LEARNER_READY_PERCENT * status.last.index.0 <= 100 * peer.matched.0)
    }

    /// A change of the configuration was applied by the store: it takes effect now.
    pub(super) fn apply_configuration(&mut self, entry: &[u8], fx: &mut Effects) {
        if self.is_forcing {
            return;
        }
        let change = change_of(entry).expect("the store just applied it");
        if self.raft.apply_configuration(&change).is_err() {
            // Refused by Raft's own rules, which every replica checks alike.
            return;
        }
        self.is_configuration_new = true;
        let voters = self.raft.configuration().voters.len();
        let fields = vec![
            ("voters", voters.to_string()),
            ("learners", self.raft.configuration().learners.len().to_string()),
        ];
        let message = "the configuration of the cluster changed".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
        if self.removed_ids.contains(&self.config.member_id) {
            // It may be the only one to know that this is committed: who led then, or whose leader
            // forgot it in a restart. Who remains may need its vote to learn it.
            let is_anybody_left = self.raft.configuration().members().next().is_some();
            self.is_removal_known_here_only |= is_anybody_left;
            self.on_removed(fx);
        }
    }

    /// Hands leadership over because a client asked for it.
    pub(super) fn on_move_leader(&mut self, origin: Origin, target: u64) {
        if !self.is_leader() {
            return self.fail(origin, Unavailable::NotLeader);
        }
        if target == self.config.member_id {
            return self.answer(origin, Outcome::LeaderMoved);
        }
        match self.raft.transfer_leader(ReplicaId(target)) {
            Ok(()) => {
                let deadline_us = self.now_us + self.config.election_timeout_us;
                self.moves.push((origin, target, deadline_us));
            }
            Err(_) => self.fail(origin, Unavailable::BadTransferee),
        }
    }

    /// Answers who waits for a transfer of leadership.
    pub(super) fn run_moves(&mut self) {
        if self.moves.is_empty() {
            return;
        }
        let leader = self.raft.soft_state().leader.map(|leader| leader.0);
        for (origin, target, deadline_us) in std::mem::take(&mut self.moves) {
            if leader == Some(target) {
                self.answer(origin, Outcome::LeaderMoved);
            } else if deadline_us <= self.now_us {
                self.fail(origin, Unavailable::TransferTimedOut);
            } else {
                self.moves.push((origin, target, deadline_us));
            }
        }
    }

    /// Proposes the members that the cluster begins with.
    pub(super) fn found_members(&mut self) {
        let Birth::Founder { members } = self.config.origin.clone() else {
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

/// The change that an entry asks for, if it is one of the configuration.
fn change_of(entry: &[u8]) -> Option<ConfigurationChange> {
    let (_, command) = command::decode(entry).ok()?;
    let step = match command {
        Command::MemberAdd { member_id, is_learner: true, .. } => {
            ChangeStep::AddLearner(ReplicaId(member_id))
        }
        Command::MemberAdd { member_id, .. } | Command::MemberPromote { member_id } => {
            ChangeStep::AddVoter(ReplicaId(member_id))
        }
        Command::MemberRemove { member_id } => ChangeStep::Remove(ReplicaId(member_id)),
        _ => return None,
    };
    Some(ConfigurationChange::Change { steps: vec![step], transition: Transition::Auto })
}

/// What a client is told of a change that fits no configuration: not now, and not later either, but
/// for a learner that catches up.
pub(super) fn refusal_of(error: ChangeError) -> Unavailable {
    match error {
        ChangeError::Inconsistent => Unavailable::LearnerNotReady,
        ChangeError::TooManyMembers => Unavailable::TooManyMembers,
        ChangeError::InvalidReplica => Unavailable::MemberNotFound,
        ChangeError::NoVoters | ChangeError::AlreadyJoint | ChangeError::NotJoint => {
            Unavailable::NotEnoughStarted
        }
    }
}

/// As [`refusal_of`], where only the leader knows the reason: a change takes members away, or there
/// are too many of them.
pub(super) fn refusal_of_command(entry: &[u8]) -> Unavailable {
    match command::decode(entry) {
        Ok((_, Command::MemberRemove { .. })) => Unavailable::NotEnoughStarted,
        _ => Unavailable::TooManyMembers,
    }
}

/// The configuration at an applied index with these member records.
pub(super) fn configuration_of(config: &Config, members: &[Member]) -> Configuration {
    let mut configuration = Configuration::default();
    if members.is_empty()
        && let Birth::Founder { members } = &config.origin
    {
        configuration.voters = members.iter().map(|member| ReplicaId(member.id)).collect();
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
