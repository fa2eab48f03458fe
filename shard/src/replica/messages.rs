//! What peers bring, and what Raft wants to tell them.
//!
//! Invariants: what waits for the disk leaves only when its Ready is durable here, and is forgotten
//! in a crash; an entry is replicated with the bytes that its proposal laid out; a message that
//! cannot be sent is lost, which Raft is told.
//! Source: the contract in raft/src/lib.rs; replication.md, "What leaves when".

use std::collections::VecDeque;

use engine::page::map::PageMap;
use net::peer::{PeerMessage, SendError};
use raft::{Body, Message, ReadyNumber, ReplicaId, StepError};

use super::{DEFAULT_GROUP, Replica};
use crate::effect::{Effect, Effects, LogLevel};
use crate::peers::{PeerEvent, Peers};

/// Raft's messages between a Ready and the wire.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Each waits for its Ready to be durable.
    held: VecDeque<(ReadyNumber, Message)>,
    /// Durable, to be sent in this step.
    released: Vec<Message>,
}

impl Messages {
    /// Holds what waits for a Ready.
    pub fn hold(&mut self, number: ReadyNumber, messages: &mut Vec<Message>) {
        assert!(self.held.back().is_none_or(|(last, _)| *last <= number));
        self.held.extend(messages.drain(..).map(|message| (number, message)));
    }

    /// A Ready and all before it are durable.
    pub fn release(&mut self, number: ReadyNumber) {
        while self.held.front().is_some_and(|(waits_for, _)| *waits_for <= number) {
            let (_, message) = self.held.pop_front().expect("just looked at");
            self.released.push(message);
        }
    }

    /// Whether something is to be sent.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }
}

impl<M: PageMap> Replica<M> {
    /// Something came from a peer, or happened to a connection with one.
    pub fn on_peer_event(&mut self, event: PeerEvent, peers: &mut Peers, fx: &mut Effects) {
        match event {
            PeerEvent::Opened { member } => {
                self.connected_since_us.insert(member, self.now_us);
            }
            PeerEvent::Closed { member } => {
                self.connected_since_us.remove(&member);
                self.raft.report_unreachable(ReplicaId(member));
                self.forwarding.on_closed(member);
            }
            PeerEvent::Removed => {
                self.is_removal_known_here_only = false;
                self.on_removed(fx);
            }
            PeerEvent::Gone { member } => self.raft.peer_unreachable_hint(ReplicaId(member)),
            PeerEvent::Message { member, connection, message } => match message {
                // For Raft, who mends its log is a member that is down.
                PeerMessage::Raft(_) if self.is_mending() => {}
                PeerMessage::Raft(Message { from, body: Body::Snapshot { snapshot }, .. })
                    if self.raft.commit() < snapshot.last.index =>
                {
                    self.on_snapshot_notice(from.0, &snapshot);
                }
                // What is known here already needs no pages: Raft says so to who offers it, and did
                // so before if that was lost.
                PeerMessage::Raft(message) => {
                    if let Body::HeartbeatAnswer { round, .. } = message.body {
                        peers.on_heartbeat_answered(member, round);
                    }
                    self.on_raft_message(message, fx);
                }
                PeerMessage::Propose { sequence, command } => {
                    self.on_remote_proposal(connection, sequence, command, peers);
                }
                PeerMessage::NotAppended { sequence, reason } => {
                    self.on_not_appended(member, sequence, reason);
                }
                PeerMessage::Ask { sequence, question } => {
                    self.on_remote_question(connection, sequence, question);
                }
                PeerMessage::Reply { sequence, answer } => self.on_reply(sequence, answer),
                PeerMessage::MetaRequest => self.on_meta_request(member, connection, peers, fx),
                PeerMessage::Meta { last, configuration, meta } => {
                    self.on_meta(connection, last, configuration, &meta, peers, fx);
                }
                PeerMessage::PageRequest { sequence, pages } => {
                    self.on_page_request(member, connection, sequence, pages, peers, fx);
                }
                PeerMessage::Pages { sequence, pages } if self.receiving.has(connection) => {
                    self.on_pages(connection, sequence, &pages, peers, fx);
                }
                PeerMessage::Pages { sequence, pages } => {
                    self.on_repair_pages(member, sequence, &pages);
                }
                PeerMessage::EntriesRequest { sequence, first, last } => {
                    self.on_entries_request(connection, sequence, [first, last], peers);
                }
                PeerMessage::Entries { sequence, entries } => {
                    self.on_entries(member, sequence, entries);
                }
            },
            PeerEvent::TransferOpened { member, connection } => {
                self.on_receiving_opened(member, connection, peers, fx);
            }
            PeerEvent::TransferClosed { member, connection } => {
                if self.receiving.is_own(member, connection) {
                    self.on_receiving_closed(peers, fx);
                } else {
                    self.on_sending_closed(member, connection);
                }
            }
        }
    }

    fn on_raft_message(&mut self, message: Message, fx: &mut Effects) {
        let from = message.from;
        match self.raft.step(message) {
            Ok(()) => {}
            Err(StepError::CommittedConflict { index }) => {
                panic!("entry {} was committed here and member {:x} replaces it", index.0, from.0)
            }
            Err(error) => {
                let fields = vec![
                    ("remote-peer-id", format!("\"{:x}\"", from.0)),
                    ("error", format!("\"{error}\"")),
                ];
                let message = "dropped a message of a peer".to_string();
                fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
            }
        }
    }

    /// Sends what no longer waits for the disk.
    pub(super) fn send_released(&mut self, peers: &mut Peers) {
        let mut released = std::mem::take(&mut self.messages.released);
        self.send_all(&mut released, peers);
        self.messages.released = released;
    }

    /// Sends messages of Raft's.
    pub(super) fn send_all(&mut self, messages: &mut Vec<Message>, peers: &mut Peers) {
        for message in messages.drain(..) {
            let to = message.to;
            if let Body::Snapshot { .. } = message.body {
                self.on_snapshot_wanted(message, peers);
                continue;
            }
            if let Body::Heartbeat { round, .. } = message.body {
                peers.on_heartbeat_sent(to.0, round);
                self.figures.on_heartbeat(to.0, self.now_us, self.config.heartbeat_interval_us);
            }
            match peers.send(to.0, DEFAULT_GROUP, &PeerMessage::Raft(message)) {
                Ok(()) | Err(SendError::NotOpen) => {}
                Err(_) => self.raft.report_unreachable(to),
            }
        }
    }
}
