//! Linearizable reads without a log entry.
//!
//! Invariants: a read joins only a round of heartbeats that is sent after it arrived; it is
//! answered with a commit index taken after it arrived, once a quorum has answered that round or a later
//! one; a leader answers nothing before an entry of its term is committed. All reads of a step
//! share a round, and those of a follower share a question.
//! Source: Raft thesis section 6.4; replication.md, "Reads and leases".

use std::collections::VecDeque;

use crate::error::ReadError;
use crate::message::Body;
use crate::node::RaftNode;
use crate::quorum::joint_reached;
use crate::types::{Index, ReadState, ReplicaId, Role};

/// Who waits for the read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The caller, under its context.
    Local(u64),
    /// Another replica, for its reads up to that number.
    Remote(ReplicaId, u64),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    round: u64,
    index: Index,
    origin: Origin,
}

/// Reads on their way through this replica.
#[derive(Debug, Default)]
pub(crate) struct ReadQueue {
    /// In no round yet.
    arrived: Vec<Origin>,
    /// A leader's reads whose round is on its way, oldest first.
    waiting: VecDeque<Waiting>,
    /// Rounds on their way.
    rounds: VecDeque<u64>,
    /// A follower's reads: (number of the question they went with, context), oldest first.
    asked: VecDeque<(u64, u64)>,
    /// Number of the newest question. Starts at the incarnation times 2^32: the leader may still
    /// answer, on today's connection, what an earlier life of this replica asked.
    asked_round: u64,
    is_ask_again: bool,
    is_flush_due: bool,
    answers: Vec<ReadState>,
    lost: Vec<u64>,
}

impl ReadQueue {
    pub(crate) fn new(incarnation: u64) -> ReadQueue {
        // What is cut off at the top only recurs after 2^32 starts.
        ReadQueue { asked_round: incarnation << 32, ..ReadQueue::default() }
    }

    fn count(&self) -> usize {
        self.arrived.len() + self.waiting.len() + self.asked.len()
    }

    fn arrive(&mut self, origin: Origin) {
        self.arrived.push(origin);
        self.is_flush_due = true;
    }

    pub(crate) fn is_flush_due(&self) -> bool {
        self.is_flush_due || self.is_ask_again
    }

    /// Something changed that reads may have waited for.
    pub(crate) fn flush_again(&mut self) {
        self.is_flush_due |= !self.arrived.is_empty();
    }

    /// A question or its answer may be lost.
    pub(crate) fn ask_again(&mut self) {
        self.is_ask_again |= !self.asked.is_empty();
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty() || !self.lost.is_empty()
    }

    pub(crate) fn take_answers(&mut self, states: &mut Vec<ReadState>, lost: &mut Vec<u64>) {
        states.append(&mut self.answers);
        lost.append(&mut self.lost);
    }

    /// The leader changed: what is on its way will not be answered. Others ask their new leader.
    pub(crate) fn lose_all(&mut self) {
        let waiting = self.waiting.drain(..).map(|waiting| waiting.origin);
        for origin in waiting.chain(self.arrived.drain(..)) {
            if let Origin::Local(context) = origin {
                self.lost.push(context);
            }
        }
        self.lost.extend(self.asked.drain(..).map(|(_, context)| context));
        self.rounds.clear();
        self.is_ask_again = false;
        self.is_flush_due = false;
        assert!(self.count() == 0);
    }
}

impl RaftNode {
    /// Asks for an index that a linearizable read has to wait for; answered in `read_states` of a
    /// later Ready, or in `reads_lost`. A follower asks its leader.
    ///
    /// # Errors
    /// [`ReadError`]: the read was not queued.
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadError> {
        if self.leader.is_none() {
            return Err(ReadError::NoLeader);
        }
        if self.config.reads_count_max <= self.reads.count() {
            return Err(ReadError::TooManyReads);
        }
        self.reads.arrive(Origin::Local(context));
        Ok(())
    }

    pub(crate) fn on_read_index_request(&mut self, from: ReplicaId, round: u64) {
        // Not the leader, or full: the asker asks again, or hears of another leader.
        if self.role == Role::Leader && self.reads.count() < self.config.reads_count_max {
            self.reads.arrive(Origin::Remote(from, round));
        }
    }

    pub(crate) fn on_read_index_answer(&mut self, from: ReplicaId, round: u64, index: Index) {
        if self.leader != Some(from) || self.role != Role::Follower {
            return;
        }
        while let Some((asked, context)) = self.reads.asked.front().copied() {
            if round < asked {
                break;
            }
            self.reads.asked.pop_front();
            self.reads.answers.push(ReadState { context, index });
        }
    }

    /// Starts what the reads that arrived need: a round, a question, or nothing.
    pub(crate) fn flush_reads(&mut self) {
        let is_ask_again = std::mem::take(&mut self.reads.is_ask_again);
        let is_flush_due = std::mem::take(&mut self.reads.is_flush_due);
        let has_arrived = is_flush_due && !self.reads.arrived.is_empty();
        match self.role {
            Role::Leader if has_arrived => self.flush_leader_reads(),
            Role::Follower if has_arrived || is_ask_again => self.flush_follower_reads(),
            _ => {}
        }
    }

    fn flush_leader_reads(&mut self) {
        // Before that its commit index may lag behind what its predecessor acknowledged.
        if !self.is_term_committed() {
            return;
        }
        let index = self.log.commit();
        if self.is_sole_quorum() || self.has_lease() {
            let mut arrived = std::mem::take(&mut self.reads.arrived);
            for origin in arrived.drain(..) {
                self.answer_read(origin, index);
            }
            self.reads.arrived = arrived;
            return;
        }
        if self.config.read_rounds_count_max <= self.reads.rounds.len() {
            return;
        }
        self.start_read_round();
        let round = self.round;
        let peers = std::mem::take(&mut self.peers);
        for (id, progress) in &peers {
            if self.is_voter(*id) {
                self.send_heartbeat(*id, progress);
            }
        }
        self.peers = peers;
        self.reads.rounds.push_back(round);
        let ReadQueue { arrived, waiting, .. } = &mut self.reads;
        waiting.extend(arrived.drain(..).map(|origin| Waiting { round, index, origin }));
    }

    fn flush_follower_reads(&mut self) {
        let Some(leader) = self.leader else {
            return;
        };
        self.reads.asked_round += 1;
        let round = self.reads.asked_round;
        let ReadQueue { arrived, asked, .. } = &mut self.reads;
        asked.extend(arrived.drain(..).filter_map(|origin| match origin {
            Origin::Local(context) => Some((round, context)),
            Origin::Remote(..) => None,
        }));
        self.send_now(leader, Body::ReadIndexRequest { round });
    }

    /// Whether an entry of the own term is committed.
    fn is_term_committed(&self) -> bool {
        assert!(self.role == Role::Leader);
        Index(0) < self.term_start && self.term_start <= self.log.commit()
    }

    fn answer_read(&mut self, origin: Origin, index: Index) {
        match origin {
            Origin::Local(context) => self.reads.answers.push(ReadState { context, index }),
            Origin::Remote(to, round) => {
                self.send_now(to, Body::ReadIndexAnswer { round, index });
            }
        }
    }

    /// Numbers a new round of heartbeats and remembers when it was sent.
    pub(crate) fn start_read_round(&mut self) {
        assert!(self.role == Role::Leader);
        self.round += 1;
        if self.round_ticks.back().is_none_or(|(_, tick)| *tick < self.ticks) {
            self.round_ticks.push_back((self.round, self.ticks));
        }
        if self.config.election_timeout_ticks as usize <= self.round_ticks.len() {
            self.round_ticks.pop_front();
        }
    }

    /// The tick in which a round was sent; 0 when that is too long ago to matter.
    pub(crate) fn tick_of_round(&self, round: u64) -> u64 {
        let sent = self.round_ticks.iter().rev().find(|(first, _)| *first <= round);
        sent.map_or(0, |(_, tick)| *tick)
    }

    /// Answers the reads whose round a quorum has answered.
    pub(crate) fn confirm_reads(&mut self) {
        assert!(self.role == Role::Leader);
        if self.reads.waiting.is_empty() {
            return;
        }
        let own = self.config.id;
        let peers = &self.peers;
        let round = self.round;
        let confirmed = joint_reached(&self.configuration, |id| {
            if id == own { round } else { peers.get(&id).map_or(0, |peer| peer.round) }
        });
        while self.reads.rounds.front().is_some_and(|round| *round <= confirmed) {
            self.reads.rounds.pop_front();
        }
        while let Some(waiting) = self.reads.waiting.front().copied() {
            if confirmed < waiting.round {
                break;
            }
            self.reads.waiting.pop_front();
            self.answer_read(waiting.origin, waiting.index);
        }
        self.reads.flush_again();
    }

    /// Whether a quorum promised, recently enough, to vote for nobody else. A round counts from the
    /// tick in which it was sent; the tick that runs now counts as over.
    fn has_lease(&self) -> bool {
        if !self.config.is_lease_reads || self.is_timeout_now_sent {
            return false;
        }
        let own = self.config.id;
        let (ticks, peers) = (self.ticks, &self.peers);
        let sent = joint_reached(&self.configuration, |id| {
            if id == own { ticks } else { peers.get(&id).map_or(0, |peer| peer.round_tick) }
        });
        let length = self.config.election_timeout_ticks - self.config.lease_margin_ticks;
        0 < sent && self.lease_from_tick <= sent && ticks < sent + u64::from(length)
    }

    /// `now` jumped: the process, or the machine, was stopped. To be called before anything else of
    /// that step, because ticks did not count the time and a lease may be over.
    pub fn paused(&mut self) {
        self.lease_from_tick = self.ticks + 1;
    }
}
