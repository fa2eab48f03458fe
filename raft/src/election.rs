//! Elections: the candidate's and the voter's half side by side, with pre-vote and check-quorum.
//!
//! Invariants: a vote is given once a term, to a log at least as complete; requests and answers
//! leave only when the term, the vote and the entries they claim are durable; a replica leads only
//! a term that is durable here; a pre-vote changes no term and no vote.
//! Source: Raft thesis sections 3.4, 3.6, 4.2.3, 9.6; replication.md, "Elections and slow
//! disks", "Damage".

use std::collections::BTreeMap;

use crate::error::{CampaignError, StepError};
use crate::message::{Body, CampaignCause, LeaseReads, Message, Verdict};
use crate::node::RaftNode;
use crate::quorum::{VoteResult, joint_reached, joint_vote};
use crate::types::{EntryId, EntryKind, Index, ReplicaId, Role, Term, VoteMemory};
use crate::unstable::Ballot;

/// A word from outside that the leader is gone, and the pre-votes it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    /// Ticks until the next pre-vote.
    pub ticks_left: u32,
    pub attempts_left: u32,
}

/// What a replica may still vote in after its disk lost records.
#[derive(Clone, Debug)]
pub(crate) enum VoteFloor {
    /// Nothing was lost.
    None,
    /// Terms told so far; every other voter has to tell one.
    Collecting(BTreeMap<ReplicaId, Term>),
    /// No vote in this term or an earlier one.
    Above(Term),
}

impl VoteFloor {
    pub(crate) fn new(memory: VoteMemory) -> VoteFloor {
        match memory {
            VoteMemory::Kept => VoteFloor::None,
            VoteMemory::Lost => VoteFloor::Collecting(BTreeMap::new()),
        }
    }

    fn allows(&self, term: Term) -> bool {
        match self {
            VoteFloor::None => true,
            VoteFloor::Collecting(_) => false,
            VoteFloor::Above(floor) => *floor < term,
        }
    }
}

// The candidate.
impl RaftNode {
    /// Campaigns now. A single voter leads as soon as its new term is durable.
    ///
    /// # Errors
    /// [`CampaignError`]: this replica must not, or need not.
    pub fn campaign(&mut self) -> Result<(), CampaignError> {
        self.check_may_campaign()?;
        if self.is_promised() && !self.is_sole_quorum() {
            return Err(CampaignError::LeaderHeard);
        }
        if self.config.is_pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(CampaignCause::Timeout);
        }
        Ok(())
    }

    /// Whether this replica may try to lead.
    ///
    /// # Errors
    /// [`CampaignError`] names what is in the way.
    pub fn check_may_campaign(&self) -> Result<(), CampaignError> {
        if self.role == Role::Leader {
            return Err(CampaignError::AlreadyLeader);
        }
        if !self.is_voter(self.config.id) {
            return Err(CampaignError::NotVoter);
        }
        let is_restoring = self.snapshot_received.is_some() || self.log.unstable.has_snapshot();
        if is_restoring || self.health.is_tree_incomplete {
            return Err(CampaignError::TreeIncomplete);
        }
        let is_floor_unknown = matches!(self.vote_floor, VoteFloor::Collecting(_));
        if self.health.disk.is_stuck || self.health.is_log_damaged || is_floor_unknown {
            return Err(CampaignError::Unhealthy);
        }
        if self.first_unapplied_change().is_some() {
            return Err(CampaignError::ConfigurationPending);
        }
        Ok(())
    }

    fn become_pre_candidate(&mut self) {
        assert!(self.role != Role::Leader);
        self.role = Role::PreCandidate;
        self.set_leader(None);
        self.start_round_of_votes();
        let last = self.log.last();
        let term = self.ballot.term.next();
        let committed = self.log.committed();
        self.ask_voters(term, Body::PreVoteRequest { last, committed });
        self.count_votes();
    }

    pub(crate) fn become_candidate(&mut self, cause: CampaignCause) {
        assert!(self.role != Role::Leader);
        self.role = Role::Candidate;
        self.set_leader(None);
        self.ballot = Ballot { term: self.ballot.term.next(), vote: Some(self.config.id) };
        self.start_round_of_votes();
        let last = self.log.last();
        let committed = self.log.committed();
        self.ask_voters(self.ballot.term, Body::VoteRequest { last, committed, cause });
        self.count_votes();
    }

    fn start_round_of_votes(&mut self) {
        self.votes.clear();
        self.election_elapsed_ticks = 0;
        self.draw_election_timeout();
    }

    fn ask_voters(&mut self, term: Term, body: Body) {
        let voters: Vec<ReplicaId> =
            self.peers.keys().copied().filter(|id| self.is_voter(*id)).collect();
        for voter in voters {
            self.send_after_persist_in(voter, term, body.clone());
        }
    }

    pub(crate) fn on_pre_vote_answer(&mut self, from: ReplicaId, term: Term, verdict: Verdict) {
        let is_for_this_round = match verdict {
            Verdict::Granted => term == self.ballot.term.next(),
            Verdict::Refused => term <= self.ballot.term,
        };
        if self.role == Role::PreCandidate && is_for_this_round {
            self.votes.entry(from).or_insert(verdict);
            self.count_votes();
        }
    }

    pub(crate) fn on_vote_answer(&mut self, from: ReplicaId, verdict: Verdict) {
        if self.role == Role::Candidate {
            self.votes.entry(from).or_insert(verdict);
            self.count_votes();
        }
    }

    /// Looks at where the election stands; called whenever a vote, or the own one's durability,
    /// arrives.
    pub(crate) fn count_votes(&mut self) {
        let own = self.config.id;
        let is_durable = self.ballot_durable == self.ballot;
        let is_own_counted = match self.role {
            Role::PreCandidate => true,
            Role::Candidate => is_durable,
            Role::Follower | Role::Leader => return,
        };
        let votes = &self.votes;
        let result = joint_vote(&self.configuration, |id| {
            if id == own {
                is_own_counted.then_some(Verdict::Granted)
            } else {
                votes.get(&id).copied()
            }
        });
        match result {
            VoteResult::Pending => {}
            VoteResult::Lost => self.become_follower(self.ballot.term, None),
            VoteResult::Won if self.role == Role::PreCandidate => {
                self.become_candidate(CampaignCause::Timeout);
            }
            VoteResult::Won if is_durable => self.become_leader(),
            VoteResult::Won => {}
        }
    }

    fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate);
        assert!(self.ballot_durable == self.ballot, "leading a term that is not durable");
        self.role = Role::Leader;
        self.set_leader(Some(self.config.id));
        self.hint = None;
        self.votes.clear();
        self.election_elapsed_ticks = 0;
        self.heartbeat_elapsed_ticks = 0;
        self.uncommitted_size_bytes = 0;
        self.is_timeout_now_sent = false;
        self.round = 0;
        self.round_ticks.clear();
        self.reset_peers();
        // An entry of this term lets the older ones commit (thesis 3.6.2), and a change of the
        // configuration may stand among those.
        self.term_start = self.log.last().index.next();
        self.pending_configuration = self.term_start;
        let first = self.append_own(EntryKind::Empty, bytes::Bytes::new());
        assert!(first.index == self.term_start);
    }
}

// The voter.
impl RaftNode {
    /// Compares the message's term with the own one. Answers false when the message is done with.
    pub(crate) fn take_term_of(&mut self, message: &Message) -> bool {
        let from = message.from;
        if self.ballot.term < message.term {
            match message.body {
                Body::PreVoteRequest { .. } => {}
                Body::PreVoteAnswer { verdict: Verdict::Granted, .. } => {}
                // A live leader was heard: this request may not even raise the term.
                Body::VoteRequest { cause: CampaignCause::Timeout, .. } if self.is_sticky() => {
                    return false;
                }
                Body::Append { .. }
                | Body::Commit { .. }
                | Body::Heartbeat { .. }
                | Body::Snapshot { .. } => {
                    self.become_follower(message.term, Some(from));
                }
                _ => self.become_follower(message.term, None),
            }
            return true;
        }
        if message.term < self.ballot.term {
            match message.body {
                // Frees a leader, or a candidate, that is stuck in an earlier term.
                Body::Append { .. }
                | Body::Commit { .. }
                | Body::Heartbeat { .. }
                | Body::Snapshot { .. } => {
                    self.send_after_persist(from, Body::StaleTerm);
                }
                Body::PreVoteRequest { .. } => self.refuse_pre_vote(from),
                Body::PreVoteAnswer { verdict: Verdict::Refused, .. } => return true,
                _ => {}
            }
            return false;
        }
        true
    }

    /// Whether votes are withheld because a leader lives, or may live (thesis section 4.2.3).
    fn is_sticky(&self) -> bool {
        let is_leader_heard = self.config.is_check_quorum
            && self.leader.is_some()
            && self.election_elapsed_ticks < self.config.election_timeout_ticks;
        is_leader_heard || self.is_promised()
    }

    /// Whether a leader may still serve reads in the belief that this replica votes for nobody
    /// else, itself included. Outlasts a change of term: that alone ends no lease.
    fn is_promised(&self) -> bool {
        self.ticks < self.promised_until_tick
    }

    pub(crate) fn on_pre_vote_request(&mut self, from: ReplicaId, term: Term, last: EntryId) {
        assert!(self.ballot.term <= term);
        let is_free = self.ballot.term < term || self.has_vote_for(from);
        let is_granted = is_free
            && !self.is_sticky()
            && self.vote_floor.allows(term)
            && last.is_up_to_date_with(self.log.last());
        if is_granted {
            self.postpone_hint();
            let (verdict, committed) = (Verdict::Granted, self.log.committed());
            self.send_after_persist_in(from, term, Body::PreVoteAnswer { verdict, committed });
        } else {
            self.refuse_pre_vote(from);
        }
    }

    fn refuse_pre_vote(&mut self, from: ReplicaId) {
        let (verdict, committed) = (Verdict::Refused, self.log.committed());
        self.send_after_persist(from, Body::PreVoteAnswer { verdict, committed });
    }

    /// The sender of a vote, or of a wish for one, told an entry that is committed. A replica that
    /// does not know so may hold on to a configuration in which nobody can win: the one voter of
    /// the next configuration asks a replica that votes no more and whose log is longer.
    pub(crate) fn learn_committed(&mut self, body: &Body) {
        let committed = match body {
            Body::PreVoteRequest { committed, .. }
            | Body::PreVoteAnswer { committed, .. }
            | Body::VoteRequest { committed, .. }
            | Body::VoteAnswer { committed, .. } => *committed,
            _ => return,
        };
        if self.role == Role::Leader || self.is_term_unsure() || !self.log.matches(committed) {
            return;
        }
        self.log.commit_to(committed.index);
        let is_candidate = self.role != Role::Follower;
        if is_candidate && self.first_unapplied_change().is_some() {
            self.become_follower(self.ballot.term, None);
        }
    }

    fn first_unapplied_change(&self) -> Option<Index> {
        self.log.first_unapplied_change(self.log.commit())
    }

    pub(crate) fn on_vote_request(&mut self, from: ReplicaId, last: EntryId, cause: CampaignCause) {
        let term = self.ballot.term;
        let is_granted = self.has_vote_for(from)
            && (cause == CampaignCause::Transfer || !self.is_promised())
            && self.vote_floor.allows(term)
            && last.is_up_to_date_with(self.log.last());
        let verdict = if is_granted { Verdict::Granted } else { Verdict::Refused };
        if is_granted {
            assert!(self.ballot.vote.is_none_or(|vote| vote == from));
            self.ballot.vote = Some(from);
            self.election_elapsed_ticks = 0;
            self.postpone_hint();
        }
        let committed = self.log.committed();
        self.send_after_persist(from, Body::VoteAnswer { verdict, committed });
    }

    /// Whether the vote of the present term could go to `from`.
    fn has_vote_for(&self, from: ReplicaId) -> bool {
        match self.ballot.vote {
            Some(vote) => vote == from,
            None => self.leader.is_none(),
        }
    }

    /// A message that only the term's leader sends came from `from`.
    pub(crate) fn follow(&mut self, from: ReplicaId, lease: LeaseReads) -> Result<(), StepError> {
        let is_other = self.leader.is_some_and(|leader| leader != from);
        if self.role == Role::Leader || is_other {
            return Err(StepError::TwoLeaders);
        }
        if self.role != Role::Follower {
            self.become_follower(self.ballot.term, Some(from));
        }
        self.set_leader(Some(from));
        self.election_elapsed_ticks = 0;
        self.hint = None;
        if lease == LeaseReads::Served {
            self.lease_term = Some(self.ballot.term);
            let until = self.ticks + u64::from(self.config.election_timeout_ticks);
            self.promised_until_tick = self.promised_until_tick.max(until);
        }
        Ok(())
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<ReplicaId>) {
        assert!(self.ballot.term <= term);
        if self.ballot.term < term {
            self.ballot = Ballot { term, vote: None };
        }
        if self.role == Role::Leader {
            self.transfer = None;
            self.uncommitted_size_bytes = 0;
        }
        self.role = Role::Follower;
        self.set_leader(leader);
        self.votes.clear();
        self.election_elapsed_ticks = 0;
        self.draw_election_timeout();
    }

    pub(crate) fn set_leader(&mut self, leader: Option<ReplicaId>) {
        if self.leader != leader {
            self.leader = leader;
            self.reads.lose_all();
        }
    }

    /// Forgets the leader but not the term: votes are free again, the own timeout goes on. Does
    /// nothing where the leader's lease relies on this replica.
    pub fn forget_leader(&mut self) {
        if self.role == Role::Follower && self.lease_term != Some(self.ballot.term) {
            self.set_leader(None);
        }
    }

    /// Another voter told its term, in a handshake or a message (see [`VoteMemory::Lost`]).
    pub fn term_told(&mut self, from: ReplicaId, term: Term) {
        let VoteFloor::Collecting(told) = &mut self.vote_floor else {
            return;
        };
        let newest = told.entry(from).or_insert(term);
        *newest = term.max(*newest);
        self.maybe_know_vote_floor();
    }

    /// Once every other voter has told its term: whom this replica ever voted for is one of them,
    /// and has that term on its disk.
    pub(crate) fn maybe_know_vote_floor(&mut self) {
        let VoteFloor::Collecting(told) = &self.vote_floor else {
            return;
        };
        let is_told = |id: &ReplicaId| *id == self.config.id || told.contains_key(id);
        let voters = &self.configuration.voters;
        if voters.iter().chain(&self.configuration.voters_outgoing).all(is_told) {
            let floor = told.values().copied().max().unwrap_or_default().max(self.ballot.term);
            self.vote_floor = VoteFloor::Above(floor);
            if self.ballot.term < floor {
                self.become_follower(floor, None);
            }
        }
    }

    pub(crate) fn hear_term_of(&mut self, message: &Message) {
        match message.body {
            // These carry a term that nobody may be in.
            Body::PreVoteRequest { .. } | Body::PreVoteAnswer { .. } => {}
            _ => self.term_told(message.from, message.term),
        }
    }

    /// Whether the term may be older than what this replica once promised.
    pub(crate) fn is_term_unsure(&self) -> bool {
        matches!(self.vote_floor, VoteFloor::Collecting(_))
    }
}

// Time.
impl RaftNode {
    pub(crate) fn draw_election_timeout(&mut self) {
        let spread = self.random.below(self.config.election_spread_ticks());
        self.election_timeout_ticks = self.config.election_timeout_ticks + spread;
    }

    pub(crate) fn tick_follower(&mut self) {
        self.election_elapsed_ticks = self.election_elapsed_ticks.saturating_add(1);
        self.heartbeat_elapsed_ticks = self.heartbeat_elapsed_ticks.saturating_add(1);
        if self.config.heartbeat_interval_ticks <= self.heartbeat_elapsed_ticks {
            self.heartbeat_elapsed_ticks = 0;
            self.reads.ask_again();
        }
        if self.election_timeout_ticks <= self.election_elapsed_ticks {
            // Who may not campaign goes on waiting, and its stickiness stays ended.
            let _ = self.campaign();
        } else {
            self.tick_hint();
        }
    }

    pub(crate) fn tick_leader(&mut self) {
        self.election_elapsed_ticks += 1;
        self.heartbeat_elapsed_ticks += 1;
        if self.config.election_timeout_ticks <= self.election_elapsed_ticks {
            self.election_elapsed_ticks = 0;
            if self.config.is_check_quorum && !self.is_quorum_active() {
                self.become_follower(self.ballot.term, None);
                return;
            }
        }
        self.tick_transfer();
        if self.config.heartbeat_interval_ticks <= self.heartbeat_elapsed_ticks {
            self.broadcast_heartbeat();
        }
        // Not only with the heartbeats: proposals are refused until somebody else leads.
        self.maybe_hand_over();
    }

    /// Whether a quorum was heard of since the last call; starts the next period.
    fn is_quorum_active(&mut self) -> bool {
        let own = self.config.id;
        let peers = &self.peers;
        let active = joint_reached(&self.configuration, |id| {
            let is_active = id == own || peers.get(&id).is_some_and(|p| p.is_recently_active);
            u64::from(is_active)
        });
        for progress in self.peers.values_mut() {
            progress.is_recently_active = false;
        }
        0 < active
    }

    /// The connection to `peer` closed, and dialling it again was refused, or closed before the
    /// handshake's answer, or was answered by a new incarnation. If that was the leader the wait
    /// for it ends here; nothing is decided by it.
    pub fn peer_unreachable_hint(&mut self, peer: ReplicaId) {
        self.report_unreachable(peer);
        let is_promised = self.lease_term == Some(self.ballot.term);
        if self.role != Role::Follower || self.leader != Some(peer) || is_promised {
            return;
        }
        self.set_leader(None);
        if 0 < self.config.hint_attempts_count_max {
            self.hint = Some(Hint {
                ticks_left: self.random.within(0, self.config.hint_delay_ticks_max),
                attempts_left: self.config.hint_attempts_count_max,
            });
        }
    }

    fn tick_hint(&mut self) {
        let Some(hint) = &mut self.hint else {
            return;
        };
        if 0 < hint.ticks_left {
            hint.ticks_left -= 1;
            return;
        }
        assert!(0 < hint.attempts_left);
        hint.attempts_left -= 1;
        let attempts_left = hint.attempts_left;
        if attempts_left == 0 {
            self.hint = None;
        }
        self.postpone_hint();
        // A hint only ever asks: without pre-vote it would raise terms on a rumour.
        let may_campaign = self.check_may_campaign().is_ok() && !self.is_promised();
        if self.role != Role::Candidate && may_campaign {
            self.become_pre_candidate();
        }
    }

    fn postpone_hint(&mut self) {
        let low = self.config.hint_retry_ticks_min;
        let high = self.config.hint_retry_ticks_max;
        if let Some(hint) = &mut self.hint {
            hint.ticks_left = self.random.within(low, high);
        }
    }
}
