//! What this member cannot do itself: proposals and questions for the leader, and those of others.
//!
//! Invariants: a proposal is sent to one leader, once, on one connection; after that its origin only
//! waits for it to be applied, or for the time-out. One that was not sent yet, or that the receiver
//! says it did not append, is held, bounded, for the next leader: clients see a pause, not an error.
//! The receiver never hands on. Source: replication.md, "Proposals from any member" 1 and 2.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use engine::command;
use engine::page::map::PageMap;
use net::peer::{Answer as PeerAnswer, AskFailure, KeysWanted, NotAppended, PeerMessage, Question};
use raft::{ChangeError, EntryKind, ProposeError, ReplicaId, Role};

use super::growth::{NotInLog, Proposer};
use super::membership::{refusal_of, refusal_of_command};
use super::{DEFAULT_GROUP, Replica, Stage};
use crate::input::ConnectionId;
use crate::message::{Call, LeaseTimeToLive, Origin, Outcome, REMOTE_CORE, Unavailable};
use crate::peers::Peers;

/// Bytes of proposals that wait for a leader; more are refused.
const HELD_SIZE_BYTES_MAX: usize = 64 << 20;
/// Questions on their way to the leader; more are refused.
const ASKS_MAX: usize = 64 * 1024;
/// What a leader refused is sent again after this long.
const RETRY_US: u64 = 10_000;

/// Proposals and questions on their way to another member.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// Not sent to anybody yet, by counter.
    held: VecDeque<Held>,
    held_size_bytes: usize,
    /// Sent, in the order of their sequence on the connection with `sent_to`.
    sent: VecDeque<(u64, Held)>,
    sent_to: Option<u64>,
    /// Questions not sent yet.
    asks: VecDeque<Ask>,
    /// Sent to `sent_to`, by their sequence.
    asked: BTreeMap<u64, Ask>,
    next_ask: u64,
    retry_at_us: u64,
}

#[derive(Clone, Debug)]
struct Held {
    counter: u64,
    command: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    origin: Origin,
    question: Question,
    deadline_us: u64,
}

impl Forwarding {
    /// Whether a proposal of this size may wait.
    pub fn has_room(&self, size_bytes: usize) -> bool {
        self.held.is_empty() || self.held_size_bytes + size_bytes <= HELD_SIZE_BYTES_MAX
    }

    /// Whether proposals wait: later ones must not overtake them.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Holds a proposal for the next leader.
    pub fn hold(&mut self, counter: u64, command: Bytes) {
        self.held_size_bytes += command.len();
        self.held.push_back(Held { counter, command });
    }

    fn take_held(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        assert!(held.command.len() <= self.held_size_bytes);
        self.held_size_bytes -= held.command.len();
        Some(held)
    }

    fn put_back(&mut self, held: Held) {
        self.held_size_bytes += held.command.len();
        self.held.push_front(held);
    }

    /// A connection ended. What was proposed by it may still commit; questions are asked again.
    pub fn on_closed(&mut self, member: u64) {
        if self.sent_to == Some(member) {
            self.sent.clear();
            self.asks.extend(std::mem::take(&mut self.asked).into_values());
            self.sent_to = None;
        }
    }
}

impl<M: PageMap> Replica<M> {
    /// A question that only the leader answers.
    pub(super) fn ask_leader(&mut self, origin: Origin, question: Question, deadline_us: u64) {
        let forwarding = &mut self.forwarding;
        if ASKS_MAX <= forwarding.asks.len() + forwarding.asked.len() {
            return self.fail(origin, Unavailable::TooManyRequests);
        }
        forwarding.asks.push_back(Ask { origin, question, deadline_us });
    }

    /// Sends what waits to the leader, if there is one and it is not this member.
    pub(super) fn run_forwarding(&mut self, peers: &mut Peers) {
        let soft = self.raft.soft_state();
        match soft.leader.map(|leader| leader.0) {
            Some(leader) if soft.role != Role::Leader => self.forward_to(leader, peers),
            Some(_) => self.propose_held(),
            None => {}
        }
        self.fail_overdue_asks();
    }

    fn forward_to(&mut self, leader: u64, peers: &mut Peers) {
        if self.forwarding.sent_to != Some(leader) {
            // What an earlier leader got it may still commit; what it was asked is asked again.
            if let Some(earlier) = self.forwarding.sent_to {
                self.forwarding.on_closed(earlier);
            }
            self.forwarding.sent_to = Some(leader);
        }
        if !peers.is_open(leader) || self.now_us < self.forwarding.retry_at_us {
            return;
        }
        while let Some(held) = self.forwarding.take_held() {
            if !self.pending.is_waiting(held.counter) {
                continue;
            }
            let sequence = peers.next_sequence(leader).expect("it is open");
            let message = PeerMessage::Propose { sequence, command: held.command.clone() };
            if peers.send(leader, DEFAULT_GROUP, &message).is_err() {
                self.forwarding.put_back(held);
                break;
            }
            self.pending.hand_to(held.counter, self.raft.soft_state().term.0);
            self.forwarding.sent.push_back((sequence, held));
        }
        let oldest = self.pending.counter_first();
        while self.forwarding.sent.front().is_some_and(|(_, held)| held.counter < oldest) {
            self.forwarding.sent.pop_front();
        }
        while let Some(ask) = self.forwarding.asks.pop_front() {
            self.forwarding.next_ask += 1;
            let sequence = self.forwarding.next_ask;
            let message = PeerMessage::Ask { sequence, question: ask.question };
            if peers.send(leader, DEFAULT_GROUP, &message).is_err() {
                self.forwarding.asks.push_front(ask);
                break;
            }
            self.forwarding.asked.insert(sequence, ask);
        }
    }

    /// This member leads: what it held for a leader it proposes itself.
    fn propose_held(&mut self) {
        if let Some(earlier) = self.forwarding.sent_to {
            self.forwarding.on_closed(earlier);
        }
        while let Some(held) = self.forwarding.take_held() {
            if !self.pending.is_waiting(held.counter) {
                continue;
            }
            match self.append(held.command.clone()) {
                Ok(()) => self.pending.hand_to(held.counter, self.raft.soft_state().term.0),
                Err(NotInLog::Refused(ProposeError::Change(error))) => {
                    self.refuse_held(&held, refusal_of(error));
                }
                Err(NotInLog::TooEarly) => {
                    let own = Proposer::Own { counter: held.counter };
                    if !self.growth.hold(own, held.command.clone()) {
                        self.refuse_held(&held, Unavailable::TooManyRequests);
                    }
                }
                Err(NotInLog::Refused(_)) => {
                    self.forwarding.put_back(held);
                    break;
                }
            }
        }
        for ask in std::mem::take(&mut self.forwarding.asks) {
            self.reads.arrive(ask.origin, call_of(ask.question), ask.deadline_us);
        }
    }

    /// A proposal that no leader will append.
    fn refuse_held(&mut self, held: &Held, why: Unavailable) {
        if let Some(waiter) = self.pending.take(held.counter) {
            self.on_proposal_lost(waiter, why);
        }
    }

    /// Appends to this leader's own log.
    pub(super) fn append(&mut self, command: Bytes) -> Result<(), NotInLog> {
        if command::changes_configuration(&command) {
            return self.append_change(command);
        }
        self.raft.propose(EntryKind::Command, command)?;
        Ok(())
    }

    fn fail_overdue_asks(&mut self) {
        let now_us = self.now_us;
        let mut overdue = Vec::new();
        let asks = &mut self.forwarding.asks;
        while asks.front().is_some_and(|ask| ask.deadline_us <= now_us) {
            overdue.extend(asks.pop_front());
        }
        while let Some(entry) = self.forwarding.asked.first_entry() {
            if now_us < entry.get().deadline_us {
                break;
            }
            overdue.push(entry.remove());
        }
        for ask in overdue {
            self.fail(ask.origin, Unavailable::TimedOut);
        }
    }

    /// When something here is to be looked at again.
    pub(super) fn next_forwarding_us(&self) -> Option<u64> {
        let asks = self.forwarding.asks.front().map(|ask| ask.deadline_us);
        let asked = self.forwarding.asked.first_key_value().map(|(_, ask)| ask.deadline_us);
        let waits = self.forwarding.is_holding() && self.now_us < self.forwarding.retry_at_us;
        let retry = waits.then_some(self.forwarding.retry_at_us);
        [asks, asked, retry].into_iter().flatten().min()
    }

    /// The leader says that it did not append a proposal of this member.
    pub(super) fn on_not_appended(&mut self, member: u64, sequence: u64, reason: NotAppended) {
        if self.forwarding.sent_to != Some(member) {
            return;
        }
        let slot = self.forwarding.sent.iter().position(|(sent, _)| *sent == sequence);
        let Some((_, held)) = slot.and_then(|slot| self.forwarding.sent.remove(slot)) else {
            return;
        };
        match reason {
            NotAppended::Full => self.refuse_held(&held, Unavailable::TooManyRequests),
            NotAppended::LearnerNotReady => self.refuse_held(&held, Unavailable::LearnerNotReady),
            NotAppended::ChangeRefused => {
                self.refuse_held(&held, refusal_of_command(&held.command));
            }
            NotAppended::NotLeader { .. }
            | NotAppended::TransferRunning
            | NotAppended::Stopping => {
                self.forwarding.retry_at_us = self.now_us + RETRY_US;
                self.pending.hand_to(held.counter, 0);
                self.forwarding.hold(held.counter, held.command);
            }
        }
    }

    /// Another member's proposal.
    pub(super) fn on_remote_proposal(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        command: Bytes,
        peers: &mut Peers,
    ) {
        let reason = if self.stage == Stage::Stopping {
            NotAppended::Stopping
        } else if self.is_wal_full || command::decode(&command).is_err() {
            // What this version cannot read it must not let into the log.
            NotAppended::Full
        } else {
            match self.append(command.clone()) {
                Ok(()) => return,
                Err(NotInLog::TooEarly) => {
                    let peer = Proposer::Peer { connection, sequence };
                    if self.growth.hold(peer, command) {
                        return;
                    }
                    NotAppended::Full
                }
                Err(NotInLog::Refused(error)) => reason_of(error),
            }
        };
        let message = PeerMessage::NotAppended { sequence, reason };
        // Lost with its connection: the origin waits for the time-out, as for any other loss.
        let _ = peers.send_by(connection, DEFAULT_GROUP, &message);
    }

    /// Another member's question: a read like any other, whose answer leaves by its connection.
    pub(super) fn on_remote_question(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        question: Question,
    ) {
        let origin = Origin { core: REMOTE_CORE, connection, stream: sequence };
        if !self.is_leader() {
            return self.fail(origin, Unavailable::NotLeader);
        }
        self.run_call(origin, call_of(question));
    }

    /// The leader's answer to a question of this member.
    pub(super) fn on_reply(&mut self, sequence: u64, answer: PeerAnswer) {
        let Some(ask) = self.forwarding.asked.remove(&sequence) else { return };
        let origin = ask.origin;
        let revision = self.engine.revision();
        match answer {
            PeerAnswer::KeepAlive { ttl_s } => {
                let Question::LeaseKeepAlive { id } = ask.question else { return };
                self.answer(origin, Outcome::LeaseKeepAlive { revision, id, ttl_s });
            }
            PeerAnswer::TimeToLive { ttl_s, granted_ttl_s, keys } => {
                let Question::LeaseTimeToLive { id, .. } = ask.question else { return };
                let keys = keys.iter().map(|key| key.to_vec()).collect();
                let lease = LeaseTimeToLive { revision, id, ttl_s, granted_ttl_s, keys };
                self.answer(origin, Outcome::LeaseTimeToLive(lease));
            }
            PeerAnswer::Moved => self.answer(origin, Outcome::LeaderMoved),
            PeerAnswer::Failed { reason } => match reason {
                AskFailure::NotLeader | AskFailure::NoLeader | AskFailure::LeaderChanged => {
                    self.forwarding.retry_at_us = self.now_us + RETRY_US;
                    self.forwarding.asks.push_back(ask);
                }
                AskFailure::TimedOut => self.fail(origin, Unavailable::TimedOut),
                AskFailure::TooMany => self.fail(origin, Unavailable::TooManyRequests),
                AskFailure::Stopped => self.fail(origin, Unavailable::Stopped),
            },
        }
    }
}

/// What the origin of a proposal is told of one that Raft did not take.
fn reason_of(error: ProposeError) -> NotAppended {
    match error {
        ProposeError::TooManyUncommitted => NotAppended::Full,
        ProposeError::Change(ChangeError::Inconsistent) => NotAppended::LearnerNotReady,
        ProposeError::Change(_) => NotAppended::ChangeRefused,
        ProposeError::NotLeader { leader } => NotAppended::NotLeader { leader },
        _ => NotAppended::TransferRunning,
    }
}

/// The call that a question stands for.
fn call_of(question: Question) -> Call {
    match question {
        Question::LeaseKeepAlive { id } => Call::LeaseKeepAlive { id },
        Question::LeaseTimeToLive { id, keys } => {
            Call::LeaseTimeToLive { id, keys: keys == KeysWanted::Yes }
        }
        Question::MoveLeader { target: ReplicaId(target) } => Call::MoveLeader { target },
    }
}

/// The question that stands for a call, if only the leader answers it.
pub(super) fn question_of(call: &Call) -> Option<Question> {
    match call {
        Call::LeaseKeepAlive { id } => Some(Question::LeaseKeepAlive { id: *id }),
        Call::LeaseTimeToLive { id, keys } => {
            let keys = if *keys { KeysWanted::Yes } else { KeysWanted::No };
            Some(Question::LeaseTimeToLive { id: *id, keys })
        }
        _ => None,
    }
}

/// An answer for another member, as it travels.
pub(crate) fn reply_of(outcome: Outcome) -> PeerAnswer {
    match outcome {
        Outcome::LeaseKeepAlive { ttl_s, .. } => PeerAnswer::KeepAlive { ttl_s },
        Outcome::LeaseTimeToLive(lease) => PeerAnswer::TimeToLive {
            ttl_s: lease.ttl_s,
            granted_ttl_s: lease.granted_ttl_s,
            keys: lease.keys.into_iter().map(Bytes::from).collect(),
        },
        Outcome::LeaderMoved => PeerAnswer::Moved,
        Outcome::Failed(why) => PeerAnswer::Failed {
            reason: match why {
                Unavailable::TooManyRequests | Unavailable::AnswerTooLarge => AskFailure::TooMany,
                Unavailable::NoLeader => AskFailure::NoLeader,
                Unavailable::LeaderChanged => AskFailure::LeaderChanged,
                Unavailable::NotLeader => AskFailure::NotLeader,
                Unavailable::Stopped => AskFailure::Stopped,
                _ => AskFailure::TimedOut,
            },
        },
        other => unreachable!("{other:?} answers no question of another member"),
    }
}
