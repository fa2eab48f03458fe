//! Who belongs to the group, and how that changes: one step at a time, or through a joint
//! configuration.
//!
//! Invariants: a configuration takes effect when its entry is applied, on every replica after the
//! same entry; the next change is proposed only after that, and after the term's first entry is
//! applied; a refused change changes nothing. Lists are sorted, a replica stands in one role.
//! Source: Raft thesis section 4; fact sheet of scenarios F; replication.md, "Membership".

use bytes::Bytes;

use crate::error::{ChangeError, ProposeError};
use crate::node::RaftNode;
use crate::quorum::MEMBERS_COUNT_MAX;
use crate::types::{Configuration, EntryId, EntryKind, Index, ReplicaId, Role};

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigurationChange {
    /// Changes members. Goes through a joint configuration if `transition` says so.
    Change {
        /// In this order.
        steps: Vec<ChangeStep>,
        /// How to get there.
        transition: Transition,
    },
    /// Leaves a joint configuration; its entry has no data.
    LeaveJoint,
}

/// A part of a change. One that is already true changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStep {
    /// Adds a voter, or promotes a learner.
    AddVoter(ReplicaId),
    /// Adds a learner, or demotes a voter.
    AddLearner(ReplicaId),
    /// Removes a voter or a learner.
    Remove(ReplicaId),
}

/// Whether a change goes through a joint configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transition {
    /// Only if more than one voter changes; the leader then leaves it by itself.
    #[default]
    Auto,
    /// Always; the leader leaves it by itself.
    JointAutoLeave,
    /// Always; the caller proposes to leave it.
    JointExplicit,
}

impl Configuration {
    /// A configuration of voters alone.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Configuration {
        let mut configuration = Configuration::default();
        for id in voters {
            insert(&mut configuration.voters, id);
        }
        configuration
    }

    /// Whether two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// The configuration after `change`; a pure function, the same on every replica.
    ///
    /// # Errors
    /// [`ChangeError`]: the change does not fit.
    pub fn changed(&self, change: &ConfigurationChange) -> Result<Configuration, ChangeError> {
        let changed = match change {
            ConfigurationChange::LeaveJoint => self.left_joint()?,
            ConfigurationChange::Change { steps, transition } => {
                self.entered(steps, *transition)?
            }
        };
        check_configuration(&changed)?;
        if changed.voters.is_empty() { Err(ChangeError::NoVoters) } else { Ok(changed) }
    }

    fn left_joint(&self) -> Result<Configuration, ChangeError> {
        if !self.is_joint() {
            return Err(ChangeError::NotJoint);
        }
        let mut left = self.clone();
        left.voters_outgoing.clear();
        left.is_auto_leave = false;
        for id in std::mem::take(&mut left.learners_next) {
            insert(&mut left.learners, id);
        }
        Ok(left)
    }

    fn entered(
        &self,
        steps: &[ChangeStep],
        transition: Transition,
    ) -> Result<Configuration, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::AlreadyJoint);
        }
        let mut simple = self.clone();
        simple.take_steps(steps)?;
        let changed_count = difference_count(&self.voters, &simple.voters)
            + difference_count(&simple.voters, &self.voters);
        if transition == Transition::Auto && changed_count <= 1 {
            return Ok(simple);
        }
        let mut joint = self.clone();
        joint.voters_outgoing.clone_from(&self.voters);
        joint.is_auto_leave = transition != Transition::JointExplicit;
        joint.take_steps(steps)?;
        Ok(joint)
    }

    fn take_steps(&mut self, steps: &[ChangeStep]) -> Result<(), ChangeError> {
        for step in steps {
            let (ChangeStep::AddVoter(id) | ChangeStep::AddLearner(id) | ChangeStep::Remove(id)) =
                *step;
            if id == ReplicaId(0) {
                return Err(ChangeError::InvalidReplica);
            }
            remove(&mut self.voters, id);
            remove(&mut self.learners, id);
            remove(&mut self.learners_next, id);
            match step {
                ChangeStep::AddVoter(_) => insert(&mut self.voters, id),
                // It still votes in the outgoing half: a learner only once that is left.
                ChangeStep::AddLearner(_) if contains(&self.voters_outgoing, id) => {
                    insert(&mut self.learners_next, id);
                }
                ChangeStep::AddLearner(_) => insert(&mut self.learners, id),
                ChangeStep::Remove(_) => {}
            }
        }
        Ok(())
    }

    /// Everybody, in some role.
    pub fn members(&self) -> impl Iterator<Item = ReplicaId> {
        let lists = [&self.voters, &self.voters_outgoing, &self.learners, &self.learners_next];
        lists.into_iter().flatten().copied()
    }
}

/// Whether `id` votes, in either half.
pub(crate) fn is_voter(configuration: &Configuration, id: ReplicaId) -> bool {
    contains(&configuration.voters, id) || contains(&configuration.voters_outgoing, id)
}

/// Checks that a configuration is one that changes can lead to. A wholly empty one is that of a
/// replica which does not know its group yet.
pub(crate) fn check_configuration(configuration: &Configuration) -> Result<(), ChangeError> {
    let Configuration { voters, voters_outgoing, learners, learners_next, is_auto_leave } =
        configuration;
    let member_count = voters.len() + voters_outgoing.len() + learners.len();
    if 2 * MEMBERS_COUNT_MAX < member_count {
        return Err(ChangeError::TooManyMembers);
    }
    for list in [voters, voters_outgoing, learners, learners_next] {
        if MEMBERS_COUNT_MAX < list.len() {
            return Err(ChangeError::TooManyMembers);
        }
        if list.first() == Some(&ReplicaId(0)) {
            return Err(ChangeError::InvalidReplica);
        }
        if !list.is_sorted_by(|before, after| before < after) {
            return Err(ChangeError::Inconsistent);
        }
    }
    if voters.is_empty() && 0 < configuration.members().count() {
        return Err(ChangeError::NoVoters);
    }
    let is_learner_voter = learners.iter().any(|id| is_voter(configuration, *id));
    let is_next_wrong =
        learners_next.iter().any(|id| contains(voters, *id) || !contains(voters_outgoing, *id));
    let is_leave_wrong = *is_auto_leave && voters_outgoing.is_empty();
    if is_learner_voter || is_next_wrong || is_leave_wrong {
        return Err(ChangeError::Inconsistent);
    }
    Ok(())
}

fn contains(list: &[ReplicaId], id: ReplicaId) -> bool {
    list.binary_search(&id).is_ok()
}

fn insert(list: &mut Vec<ReplicaId>, id: ReplicaId) {
    if let Err(slot) = list.binary_search(&id) {
        list.insert(slot, id);
    }
}

fn remove(list: &mut Vec<ReplicaId>, id: ReplicaId) {
    if let Ok(slot) = list.binary_search(&id) {
        list.remove(slot);
    }
}

fn difference_count(from: &[ReplicaId], without: &[ReplicaId]) -> usize {
    from.iter().filter(|id| !contains(without, **id)).count()
}

impl RaftNode {
    /// Proposes a change. `data` is the caller's encoding of it, from which every replica reads
    /// the change again at apply; for [`ConfigurationChange::LeaveJoint`] it is empty.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was appended.
    pub fn propose_configuration(
        &mut self,
        change: &ConfigurationChange,
        data: Bytes,
    ) -> Result<EntryId, ProposeError> {
        assert!(data.is_empty() == (*change == ConfigurationChange::LeaveJoint));
        self.check_may_propose()?;
        if self.log.applied() < self.pending_configuration {
            return Err(ProposeError::ConfigurationPending);
        }
        self.configuration.changed(change).map_err(ProposeError::Change)?;
        Ok(self.append_change(data))
    }

    fn append_change(&mut self, data: Bytes) -> EntryId {
        let id = self.append_own(EntryKind::ConfigChange, data);
        assert!(self.pending_configuration < id.index);
        self.pending_configuration = id.index;
        id
    }

    /// A change is applied: called for each entry of that kind, in order, before
    /// [`RaftNode::applied`] names it. Empty data means [`ConfigurationChange::LeaveJoint`].
    ///
    /// # Errors
    /// [`ChangeError`]: the change is refused and nothing changed, here as on every replica.
    pub fn apply_configuration(
        &mut self,
        change: &ConfigurationChange,
    ) -> Result<&Configuration, ChangeError> {
        let changed = self.configuration.changed(change)?;
        self.change_configuration(changed);
        Ok(&self.configuration)
    }

    /// Puts a configuration into effect, and draws the consequences for the role.
    pub(crate) fn change_configuration(&mut self, configuration: Configuration) {
        self.install_configuration(configuration);
        let is_own_voter = self.is_voter(self.config.id);
        match self.role {
            Role::Leader if !is_own_voter && self.config.is_step_down_on_removal => {
                // Followers learn of the commit before they miss the leader.
                self.flush();
                self.become_follower(self.ballot.term, None);
            }
            Role::Leader => {
                let target = self.transfer.map(|transfer| transfer.target);
                if target.is_some_and(|target| !self.may_lead_next(target)) {
                    self.transfer = None;
                }
                self.confirm_reads();
                self.is_flush_due |= !self.peers.is_empty();
                self.reads.flush_again();
            }
            Role::Candidate | Role::PreCandidate if !is_own_voter => {
                self.become_follower(self.ballot.term, None);
            }
            Role::Candidate | Role::PreCandidate => self.count_votes(),
            Role::Follower => {}
        }
    }

    /// Puts a configuration into effect.
    pub(crate) fn install_configuration(&mut self, configuration: Configuration) {
        let own = self.config.id;
        self.peers.retain(|id, _| configuration.members().any(|member| member == *id));
        let next = self.log.last().index.next();
        for id in configuration.members().filter(|id| *id != own) {
            if !self.peers.contains_key(&id) {
                let mut progress = self.new_progress(next);
                // Else check-quorum might depose the leader before it could answer once.
                progress.is_recently_active = true;
                self.peers.insert(id, progress);
            }
        }
        self.configuration = configuration;
        self.maybe_know_vote_floor();
        assert!(!self.peers.contains_key(&own));
    }

    /// A leader leaves a joint configuration by itself, once nothing stands in the way.
    pub(crate) fn maybe_leave_joint(&mut self) {
        let is_due = self.role == Role::Leader
            && self.configuration.is_joint()
            && self.configuration.is_auto_leave
            && self.pending_configuration <= self.log.applied();
        if is_due {
            assert!(Index(0) < self.pending_configuration);
            self.append_change(Bytes::new());
        }
    }
}
