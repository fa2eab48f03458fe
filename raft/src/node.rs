//! One replica of the group: the whole surface of this crate.
//!
//! Invariants: nobody leads a term that is not durable here; a message that depends on durable
//! state stands only in `messages_after_persist`; time is counted in ticks, randomness comes from
//! the configured seed. The handlers stand in election.rs, transfer.rs, replication.rs,
//! read_index.rs, snapshot.rs and membership.rs.
//! Source: architecture.md section 7; Raft thesis figure 3.1.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::config::{Config, Random};
use crate::election::{Hint, VoteFloor};
use crate::error::{LogError, ProposeError, StartError, StepError};
use crate::log::RaftLog;
use crate::membership;
use crate::message::{Body, LeaseReads, Message, Verdict};
use crate::progress::Progress;
use crate::quorum;
use crate::read_index::ReadQueue;
use crate::ready::Ready;
use crate::transfer::Transfer;
use crate::types::{
    Configuration, Entry, EntryId, EntryKind, HardState, Index, LocalHealth, ReadyNumber,
    ReplicaId, Restored, Role, Snapshot, SoftState, Term,
};
use crate::unstable::Ballot;

/// One replica of a Raft group, as a pure state machine.
#[derive(Debug)]
pub struct RaftNode {
    pub(crate) config: Config,
    pub(crate) log: RaftLog,
    pub(crate) random: Random,

    pub(crate) ballot: Ballot,
    /// Term and vote that are durable.
    pub(crate) ballot_durable: Ballot,
    /// Term and vote that were handed over last.
    pub(crate) ballot_handed: Ballot,
    pub(crate) vote_floor: VoteFloor,

    pub(crate) role: Role,
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) soft_state_handed: SoftState,
    pub(crate) votes: BTreeMap<ReplicaId, Verdict>,

    pub(crate) ticks: u64,
    pub(crate) election_elapsed_ticks: u32,
    pub(crate) election_timeout_ticks: u32,
    pub(crate) heartbeat_elapsed_ticks: u32,
    /// No vote and no campaign before this tick, but at the leader's own wish: a leader that serves
    /// lease reads was heard, or may have been heard before a restart.
    pub(crate) promised_until_tick: u64,
    pub(crate) hint: Option<Hint>,
    /// Term whose leader told that it serves lease reads.
    pub(crate) lease_term: Option<Term>,

    pub(crate) configuration: Configuration,
    /// Everybody but this replica, voters and learners.
    pub(crate) peers: BTreeMap<ReplicaId, Progress>,
    /// The next change of the configuration may be proposed once this is applied.
    pub(crate) pending_configuration: Index,
    /// A leader's first entry: it commits nothing before this one.
    pub(crate) term_start: Index,
    pub(crate) uncommitted_size_bytes: usize,
    pub(crate) transfer: Option<Transfer>,
    /// A leader that sent TimeoutNow serves no lease read for the rest of its term.
    pub(crate) is_timeout_now_sent: bool,
    /// Something may have to be sent to the followers.
    pub(crate) is_flush_due: bool,

    pub(crate) reads: ReadQueue,
    pub(crate) round: u64,
    /// (first round, tick at which it was sent), one a tick, oldest first.
    pub(crate) round_ticks: VecDeque<(u64, u64)>,
    /// Rounds sent before this tick prove nothing for a lease: the process may have been stopped.
    pub(crate) lease_from_tick: u64,

    pub(crate) health: LocalHealth,
    /// The newest checkpoint that the caller could transfer.
    pub(crate) checkpoint: Snapshot,
    pub(crate) snapshot_received: Option<Snapshot>,
    pub(crate) messages_now: Vec<Message>,
    pub(crate) messages_after_persist: Vec<Message>,
}

impl RaftNode {
    /// A follower that continues from what recovery found. Everything in `restored` is durable.
    ///
    /// # Errors
    /// [`StartError`] when the configuration or what was found contradicts itself.
    pub fn new(config: Config, restored: Restored) -> Result<RaftNode, StartError> {
        config.check()?;
        membership::check_configuration(&restored.configuration)
            .map_err(StartError::Configuration)?;
        let Restored {
            hard_state,
            applied,
            configuration,
            entries,
            log_base,
            incarnation,
            vote_memory,
        } = restored;
        let log = restore_log(&hard_state, log_base, applied, entries)?;
        let ballot = Ballot { term: hard_state.term, vote: hard_state.vote };
        let mut node = RaftNode {
            random: Random::new(config.seed),
            reads: ReadQueue::new(incarnation),
            log,
            ballot,
            ballot_durable: ballot,
            ballot_handed: ballot,
            vote_floor: VoteFloor::new(vote_memory),
            role: Role::Follower,
            leader: None,
            soft_state_handed: SoftState { term: ballot.term, ..SoftState::default() },
            votes: BTreeMap::new(),
            ticks: 0,
            election_elapsed_ticks: 0,
            election_timeout_ticks: config.election_timeout_ticks,
            heartbeat_elapsed_ticks: 0,
            promised_until_tick: 0,
            hint: None,
            lease_term: None,
            configuration: Configuration::default(),
            peers: BTreeMap::new(),
            pending_configuration: Index(0),
            term_start: Index(0),
            uncommitted_size_bytes: 0,
            transfer: None,
            is_timeout_now_sent: false,
            is_flush_due: false,
            round: 0,
            round_ticks: VecDeque::new(),
            lease_from_tick: 0,
            health: LocalHealth::default(),
            checkpoint: Snapshot { last: applied, configuration: configuration.clone() },
            snapshot_received: None,
            messages_now: Vec::new(),
            messages_after_persist: Vec::new(),
            config,
        };
        if Term(0) < ballot.term {
            node.promised_until_tick = u64::from(node.config.restart_quiet_ticks);
        }
        node.install_configuration(configuration);
        node.draw_election_timeout();
        Ok(node)
    }

    /// Takes one message of another replica. A message of an earlier life of its sender, or for
    /// an earlier life of this one, must not come here.
    ///
    /// # Errors
    /// [`StepError`]; only [`StepError::CommittedConflict`] means that this replica must stop.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        self.check_message(&message)?;
        self.hear_term_of(&message);
        if !self.take_term_of(&message) {
            return Ok(());
        }
        self.learn_committed(&message.body);
        let Message { from, term, body, .. } = message;
        match body {
            Body::PreVoteRequest { last, .. } => self.on_pre_vote_request(from, term, last),
            Body::PreVoteAnswer { verdict, .. } => self.on_pre_vote_answer(from, term, verdict),
            Body::VoteRequest { last, cause, .. } => self.on_vote_request(from, last, cause),
            Body::VoteAnswer { verdict, .. } => self.on_vote_answer(from, verdict),
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::TransferRequest { target } => self.on_transfer_request(from, target),
            Body::Append { previous, commit, lease, entries } => {
                self.follow(from, lease)?;
                return self.on_append(from, previous, commit, entries);
            }
            Body::Commit { previous, commit, lease } => {
                self.follow(from, lease)?;
                return self.on_commit(from, previous, commit);
            }
            Body::AppendAnswer { outcome, disk } => self.on_append_answer(from, outcome, disk)?,
            Body::Heartbeat { commit, round, lease, disk: _ } => {
                self.follow(from, lease)?;
                self.on_heartbeat(from, commit, round);
            }
            Body::HeartbeatAnswer { round, disk } => self.on_heartbeat_answer(from, round, disk),
            Body::Snapshot { snapshot } => {
                self.follow(from, LeaseReads::NotServed)?;
                self.on_snapshot(from, snapshot);
            }
            Body::ReadIndexRequest { round } => self.on_read_index_request(from, round),
            Body::ReadIndexAnswer { round, index } => {
                self.on_read_index_answer(from, round, index);
            }
            Body::StaleTerm => {}
        }
        Ok(())
    }

    /// One tick of time passed. A jump of the clock is one tick, whatever its length.
    pub fn tick(&mut self) {
        self.ticks += 1;
        match self.role {
            Role::Leader => self.tick_leader(),
            Role::Follower | Role::PreCandidate | Role::Candidate => self.tick_follower(),
        }
    }

    /// Proposes an entry. It is in the log under the answered (term, index) only if the entry
    /// committed there has that term.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was appended.
    pub fn propose(&mut self, kind: EntryKind, data: Bytes) -> Result<EntryId, ProposeError> {
        assert!(kind != EntryKind::ConfigChange, "propose_configuration does that");
        self.check_may_propose()?;
        let size_bytes = data.len() + crate::types::ENTRY_OVERHEAD_BYTES;
        let total = self.uncommitted_size_bytes + size_bytes;
        if 0 < self.uncommitted_size_bytes && self.config.uncommitted_size_bytes_max < total {
            return Err(ProposeError::TooManyUncommitted);
        }
        Ok(self.append_own(kind, data))
    }

    pub(crate) fn check_may_propose(&self) -> Result<(), ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader { leader: self.leader });
        }
        if self.transfer.is_some() {
            return Err(ProposeError::TransferRunning);
        }
        if self.health.disk.is_stuck {
            return Err(ProposeError::DiskStuck);
        }
        Ok(())
    }

    /// Whether [`RaftNode::ready`] has something to say. It may still turn out empty.
    pub fn has_ready(&self) -> bool {
        self.is_flush_due
            || self.reads.is_flush_due()
            || self.ballot != self.ballot_handed
            || self.snapshot_received.is_some()
            || self.log.has_unhanded()
            || !self.messages_now.is_empty()
            || !self.messages_after_persist.is_empty()
            || self.log.has_committed(self.config.applying_size_bytes_max)
            || self.reads.has_answers()
            || self.soft_state() != self.soft_state_handed
    }

    /// Fills `ready` with what is owed since the last call; see the contract in lib.rs.
    pub fn ready(&mut self, ready: &mut Ready) {
        ready.clear();
        self.flush();
        self.reads.take_answers(&mut ready.read_states, &mut ready.reads_lost);
        if self.ballot != self.ballot_handed {
            ready.hard_state = Some(HardState {
                term: self.ballot.term,
                vote: self.ballot.vote,
                commit: self.log.commit(),
            });
            self.ballot_handed = self.ballot;
        }
        ready.snapshot = self.snapshot_received.take();
        let last = self.log.take_unhanded(&mut ready.entries);
        if ready.must_persist() {
            let ballot = ready.hard_state.map(|_| self.ballot);
            let snapshot = ready.snapshot.as_ref().map(|snapshot| snapshot.last.index);
            self.log.unstable.hand_over(ballot, last, snapshot);
        }
        std::mem::swap(&mut ready.messages_now, &mut self.messages_now);
        std::mem::swap(&mut ready.messages_after_persist, &mut self.messages_after_persist);
        if !self.log.unstable.has_outstanding() {
            ready.messages_now.append(&mut ready.messages_after_persist);
        }
        let size_bytes_max = self.config.applying_size_bytes_max;
        self.log.take_committed(size_bytes_max, &mut ready.committed);
        if self.soft_state() != self.soft_state_handed {
            self.soft_state_handed = self.soft_state();
            ready.soft_state = Some(self.soft_state_handed);
        }
        ready.number = self.log.unstable.number();
        ready.commit = self.log.commit();
        assert!(self.messages_now.is_empty());
        assert!(self.messages_after_persist.is_empty());
    }

    /// Everything that the Ready `number` and all before it asked to persist is durable.
    /// Confirming twice does nothing.
    pub fn persisted(&mut self, number: ReadyNumber) {
        while let Some(hand_over) = self.log.unstable.confirm(number) {
            if let Some(ballot) = hand_over.ballot {
                assert!(self.ballot_durable.term <= ballot.term);
                self.ballot_durable = ballot;
            }
            if let Some(snapshot) = hand_over.snapshot {
                self.log.unstable.persist_to(snapshot);
            }
            if let Some(last) = hand_over.last {
                assert!(self.log.matches(last), "a replaced entry was confirmed");
                self.log.unstable.persist_to(last.index);
            }
        }
        match self.role {
            Role::Leader => self.maybe_commit(),
            Role::Candidate => self.count_votes(),
            Role::Follower | Role::PreCandidate => {}
        }
    }

    /// The state machine contains everything up to `index`. Changes of the configuration among it
    /// were given to [`RaftNode::apply_configuration`] before.
    pub fn applied(&mut self, index: Index) {
        let was_capped = self.log.applied() < self.pending_configuration;
        self.log.apply_to(index);
        self.on_applied(was_capped);
    }

    /// More is applied than before, when a change was not yet if `was_capped`.
    pub(crate) fn on_applied(&mut self, was_capped: bool) {
        if self.role == Role::Leader && was_capped {
            // What follows a change waited for it, and a smaller quorum may have it already.
            self.maybe_commit();
        }
        self.maybe_leave_joint();
    }

    /// Drops entries up to `up_to` from memory, as far as they are durable here; they are applied.
    pub fn compact_log(&mut self, up_to: Index) {
        self.log.compact(up_to.min(self.log.unstable.persisted()));
    }

    /// Bytes of the entries in memory, for the caller's bound on what it keeps.
    pub fn log_size_bytes(&self) -> usize {
        self.log.size_bytes()
    }

    /// Appends entries from `from` on to `out`: at least one, then up to `size_bytes_max`.
    ///
    /// # Errors
    /// [`LogError`] when `from` is not in memory.
    pub fn entries(
        &self,
        from: Index,
        size_bytes_max: usize,
        out: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        self.log.read(from, size_bytes_max, out).map(|_| ())
    }

    /// Term of the entry at `index`; none when it was dropped or does not exist.
    pub fn term_of(&self, index: Index) -> Option<Term> {
        self.log.term_of(index)
    }

    /// Tells how this replica is doing.
    pub fn set_health(&mut self, health: LocalHealth) {
        self.health = health;
    }

    /// This replica.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// Role, leader and term.
    pub fn soft_state(&self) -> SoftState {
        SoftState { role: self.role, leader: self.leader, term: self.ballot.term }
    }

    /// Commit index.
    pub fn commit(&self) -> Index {
        self.log.commit()
    }

    /// Term, vote and commit index as they are now, durable or not.
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.ballot.term, vote: self.ballot.vote, commit: self.log.commit() }
    }

    /// The configuration in effect: that of the last applied change.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Checks what no correct peer gets wrong, before anything is changed.
    fn check_message(&self, message: &Message) -> Result<(), StepError> {
        if message.to != self.config.id || message.from == self.config.id {
            return Err(StepError::Misaddressed);
        }
        if message.from == ReplicaId(0) || TERM_MAX < message.term {
            return Err(StepError::Malformed);
        }
        // Only the answer of a newborn replica may carry term 0.
        let is_answer = matches!(message.body, Body::PreVoteAnswer { .. } | Body::StaleTerm);
        if message.term == Term(0) && !is_answer {
            return Err(StepError::Malformed);
        }
        let is_sound = match &message.body {
            Body::Append { previous, entries, .. } => {
                is_contiguous(*previous, entries, message.term)
            }
            Body::Commit { previous, .. } => is_contiguous(*previous, &[], message.term),
            Body::Snapshot { snapshot } => {
                Index(0) < snapshot.last.index
                    && snapshot.last.index <= INDEX_MAX
                    && snapshot.last.term <= message.term
                    && !snapshot.configuration.voters.is_empty()
                    && membership::check_configuration(&snapshot.configuration).is_ok()
            }
            Body::PreVoteRequest { last, .. } | Body::VoteRequest { last, .. } => {
                last.term < message.term && last.index <= INDEX_MAX
            }
            _ => true,
        };
        if is_sound { Ok(()) } else { Err(StepError::Malformed) }
    }

    pub(crate) fn send_now(&mut self, to: ReplicaId, body: Body) {
        let message = Message { from: self.config.id, to, term: self.ballot.term, body };
        self.messages_now.push(message);
    }

    pub(crate) fn send_after_persist(&mut self, to: ReplicaId, body: Body) {
        self.send_after_persist_in(to, self.ballot.term, body);
    }

    pub(crate) fn send_after_persist_in(&mut self, to: ReplicaId, term: Term, body: Body) {
        assert!(to != self.config.id);
        self.messages_after_persist.push(Message { from: self.config.id, to, term, body });
    }

    pub(crate) fn is_voter(&self, id: ReplicaId) -> bool {
        membership::is_voter(&self.configuration, id)
    }

    /// Whether this replica alone is a quorum.
    pub(crate) fn is_sole_quorum(&self) -> bool {
        let own = self.config.id;
        0 < quorum::joint_reached(&self.configuration, |id| u64::from(id == own))
    }
}

/// Whether entries follow `previous` without a gap, in terms that never decrease.
fn is_contiguous(previous: EntryId, entries: &[Entry], term: Term) -> bool {
    let mut before = previous;
    if INDEX_MAX < before.index || (before.index == Index(0)) != (before.term == Term(0)) {
        return false;
    }
    for entry in entries {
        let follows = entry.index.0 == before.index.0 + 1 && entry.index <= INDEX_MAX;
        if !follows || entry.term < before.term || entry.term == Term(0) {
            return false;
        }
        before = entry.id();
    }
    before.term <= term
}

/// Checks what recovery found and makes the log of it.
fn restore_log(
    hard_state: &HardState,
    log_base: EntryId,
    applied: EntryId,
    entries: Vec<Entry>,
) -> Result<RaftLog, StartError> {
    let is_whole = log_base.index < applied.index
        && entries.first().is_some_and(|first| first.index == log_base.index.next())
        && entries.iter().any(|entry| entry.id() == applied);
    let base = if is_whole { log_base } else { applied };
    let mut before = base;
    if hard_state.term < applied.term || INDEX_MAX < applied.index {
        return Err(StartError::TermOrder { index: applied.index });
    }
    let mut kept = VecDeque::new();
    for entry in entries {
        if entry.index <= base.index {
            continue;
        }
        if entry.index.0 != before.index.0 + 1 || INDEX_MAX < entry.index {
            let expected = Index(before.index.0 + 1);
            return Err(StartError::LogGap { expected, found: entry.index });
        }
        if entry.term < before.term || hard_state.term < entry.term {
            return Err(StartError::TermOrder { index: entry.index });
        }
        before = entry.id();
        kept.push_back(entry);
    }
    // A leader proposes a change only after it has applied the one before: so every change but the
    // last one in a log is committed. Without this a replica that forgot its commit index could
    // campaign, and win, two configurations behind the quorum that commits now.
    let changes = kept.iter().rev().filter(|entry| entry.kind == EntryKind::ConfigChange);
    let changes = changes.filter(|entry| applied.index < entry.index);
    let change_committed = changes.map(|entry| entry.index).nth(1).unwrap_or_default();
    let commit = hard_state.commit.max(change_committed).clamp(applied.index, before.index);
    Ok(RaftLog::new(base, kept, applied.index, commit))
}

/// Greatest term and index that are believed: far from where adding one could overflow, and even
/// 2^20 forced elections (see `--force-new-cluster`) a second would take half a million years.
pub const TERM_MAX: Term = Term(1 << 62);
/// See [`TERM_MAX`].
pub const INDEX_MAX: Index = Index(1 << 62);
