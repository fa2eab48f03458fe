//! The other members as this core reaches them: one connection for each, dialed by either side.
//!
//! Invariants: nothing of a member is heard before its birth and its start are durable here
//! (replication.md, Membership 4); of two connections with one member the one that the smaller id
//! dialed is kept; what belongs to an earlier start of either side never comes through; a member
//! is dialed again and again, at a bounded rate. What is said is not looked at here.
//! Source: replication.md, "Elections and slow disks" 1, "Membership" 2 and 4.

mod dialing;
mod handshake;
mod link;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use net::peer::{
    Event, Hello, PeerConnection, PeerMessage, Purpose, Refusal, SendError, Sniff, is_hello,
};

use crate::config::Config;
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::{ConnectionId, DialId};
use crate::random::Random;
use crate::wal::ShardWal;
use link::{Link, Phase};
use traffic::{Timed, Traffic};

/// Members known here that the configuration does not name; more are refused until it does.
const STRANGERS_MAX: usize = 16;
/// Connections of peers in all, state transfers and handshakes too; more are closed.
const LINKS_MAX: usize = 128;
/// A handshake takes no longer than this.
const HANDSHAKE_US_MAX: u64 = 2_000_000;

/// What the peers bring to the replica.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// A member can be talked to.
    Opened { member: u64 },
    /// A member says that this one was removed from the cluster.
    Removed,
    /// The connection with a member ended: what was on its way is lost.
    Closed { member: u64 },
    /// A member's process seems to be gone (see replication.md, "Elections", 1).
    Gone { member: u64 },
    /// A message. It came by the connection of the member, or by one for a state transfer.
    Message { member: u64, connection: ConnectionId, message: PeerMessage },
    /// A connection for a state transfer is open.
    TransferOpened { member: u64, connection: ConnectionId },
    /// It ended, or came to nothing.
    TransferClosed { member: u64, connection: Option<ConnectionId> },
}

/// What the handshake has to know of the group.
pub(crate) struct Roll<'a> {
    /// Members that were removed.
    pub removed_ids: &'a [u64],
}

/// A member as it was last met; durable before it is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acquaintance {
    birth_id: u64,
    incarnation: u64,
}

/// One other member.
#[derive(Debug, Default)]
struct Peer {
    urls: Vec<String>,
    /// Which URL is dialed next.
    url_next: usize,
    /// The configuration names it.
    is_member: bool,
    met: Option<Acquaintance>,
    /// What is noted of it may be lost: it is noted again.
    is_note_stale: bool,
    /// The open connection.
    link: Option<ConnectionId>,
    /// A dial, or a dialed connection before its handshake is over.
    dialing: Option<Dialing>,
    redial_at_us: u64,
    backoff_us: u64,
    /// The connection was lost and the member not met since.
    is_missed: bool,
    /// The last thing logged about it, so that it is not said again and again.
    last_complaint: Option<Refusal>,
    traffic: Traffic,
    timed: Option<Timed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialing {
    Dial(DialId),
    Handshake(ConnectionId),
}

/// All other members.
pub(crate) struct Peers {
    own: Hello,
    peers: BTreeMap<u64, Peer>,
    links: BTreeMap<ConnectionId, Link>,
    /// What each dial is for.
    dials: BTreeMap<DialId, (u64, Purpose)>,
    next_dial: u64,
    touched: BTreeSet<ConnectionId>,
    events: Vec<PeerEvent>,
    /// Reused.
    received: Vec<Event>,
    /// What is known of the members may be older than what was noted.
    are_notes_lost: bool,
    /// The figures name other members than before.
    are_members_new: bool,
    random: Random,
    now_us: u64,
}

/// A connection on the peers' port that does not speak their protocol.
#[derive(Debug)]
pub(crate) struct Stranger {
    /// What it said so far.
    pub bytes: Vec<u8>,
}

impl Peers {
    /// Nobody is known yet but those whose birth is in the WAL's notes.
    /// `are_notes_lost` if some of these lay in a part of the WAL that cannot be read any more.
    pub fn new(config: &Config, incarnation: u64, wal: &ShardWal, are_notes_lost: bool) -> Peers {
        let own = Hello {
            cluster_id: config.cluster_id,
            epoch: config.epoch,
            from_member: config.member_id,
            to_member: 0,
            birth_id: config.birth_id,
            incarnation,
            purpose: Purpose::Raft,
            cores: config.cores,
            name: config.name.clone(),
            peer_urls: config.peer_urls.clone(),
        };
        let mut peers = BTreeMap::new();
        for (member, value) in wal.notes() {
            let met = handshake::decode_note(value);
            peers.insert(member, Peer { met, ..Peer::default() });
        }
        Peers {
            own,
            peers,
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_dial: 0,
            touched: BTreeSet::new(),
            events: Vec::new(),
            received: Vec::new(),
            are_notes_lost,
            are_members_new: false,
            random: Random::new(config.seed ^ 0x7065_6572),
            now_us: 0,
        }
    }

    /// Who belongs to the group and where each is reached.
    pub fn set_members<'a>(&mut self, members: impl Iterator<Item = (u64, &'a [String])>) {
        self.are_members_new = true;
        for peer in self.peers.values_mut() {
            peer.is_member = false;
        }
        for (member, urls) in members.filter(|(member, _)| *member != self.own.from_member) {
            let peer = self.peers.entry(member).or_default();
            peer.is_member = true;
            if peer.urls != urls {
                peer.urls = urls.to_vec();
                peer.url_next = 0;
                peer.redial_at_us = 0;
            }
        }
    }

    /// Ends the connections of members that were removed. Nothing is sent to them any more, so one
    /// that lagged would wait for ever; when it dials again it is told.
    pub fn part_from(&mut self, removed_ids: &[u64], fx: &mut Effects) {
        let is_removed =
            |link: &Link| link.member.is_some_and(|id| removed_ids.binary_search(&id).is_ok());
        let parted = self.links.iter().filter(|(_, link)| is_removed(link));
        let parted: Vec<_> = parted.map(|(connection, _)| *connection).collect();
        for connection in parted {
            // What it is still told may spare it the way by a refusal.
            self.flush_link(connection, fx);
            self.close(connection, fx);
        }
    }

    /// A connection came in by the peers' door.
    pub fn on_accepted(&mut self, connection: ConnectionId, fx: &mut Effects) {
        if LINKS_MAX <= self.links.len() {
            return fx.push(Effect::Close { connection });
        }
        let link = Link::accepted(self.now_us);
        let known = self.links.insert(connection, link);
        assert!(known.is_none(), "connection numbers are not used twice");
    }

    /// Whether a connection is one of a peer's.
    pub fn has(&self, connection: ConnectionId) -> bool {
        self.links.contains_key(&connection)
    }

    /// Bytes of a peer. Gives the connection back if it does not speak the peers' protocol.
    pub fn on_received(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        roll: &Roll<'_>,
        wal: &mut ShardWal,
        fx: &mut Effects,
    ) -> Option<Stranger> {
        let link = self.links.get_mut(&connection)?;
        link.received_us = self.now_us;
        if let Phase::Sniffing(sniffed) = &mut link.phase {
            sniffed.extend_from_slice(bytes);
            match is_hello(sniffed) {
                Sniff::NeedMore => return None,
                Sniff::No => {
                    let bytes = std::mem::take(sniffed);
                    self.links.remove(&connection);
                    return Some(Stranger { bytes });
                }
                Sniff::Yes => {
                    let bytes = std::mem::take(sniffed);
                    link.phase = Phase::Handshake;
                    self.feed(connection, &bytes, roll, wal, fx);
                    return None;
                }
            }
        }
        self.feed(connection, bytes, roll, wal, fx);
        None
    }

    /// The kernel took bytes.
    pub fn on_transmitted(&mut self, connection: ConnectionId, size_bytes: usize) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        assert!(size_bytes <= link.unsent_bytes);
        link.unsent_bytes -= size_bytes;
        self.touched.insert(connection);
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.remove(&connection) else { return };
        self.forget(connection, &link);
    }

    /// Sends a message to a member by its connection.
    ///
    /// # Errors
    /// It was not taken: there is no connection, or too much waits on it.
    pub fn send(
        &mut self,
        member: u64,
        group: u64,
        message: &PeerMessage,
    ) -> Result<(), SendError> {
        let connection = self.peers.get(&member).and_then(|peer| peer.link);
        let sent = connection
            .ok_or(SendError::NotOpen)
            .and_then(|connection| self.send_by(connection, group, message));
        if let (Err(_), Some(traffic)) = (&sent, self.traffic(Some(member))) {
            traffic.sent_failures += 1;
        }
        sent
    }

    /// Sends a message by a given connection, if that is still there.
    ///
    /// # Errors
    /// As [`Peers::send`].
    pub fn send_by(
        &mut self,
        connection: ConnectionId,
        group: u64,
        message: &PeerMessage,
    ) -> Result<(), SendError> {
        let link = self.links.get_mut(&connection).ok_or(SendError::NotOpen)?;
        if !matches!(link.phase, Phase::Open) {
            return Err(SendError::NotOpen);
        }
        link.peer.send(group, message)?;
        self.touched.insert(connection);
        Ok(())
    }

    /// The number of the next proposal sent to a member.
    pub fn next_sequence(&self, member: u64) -> Option<u64> {
        let link = self.links.get(&self.peers.get(&member)?.link?)?;
        Some(link.peer.next_sequence())
    }

    /// Whether this side dialed a connection.
    pub fn is_dialed(&self, connection: ConnectionId) -> bool {
        self.links.get(&connection).is_some_and(|link| link.is_dialed)
    }

    /// Whether a member can be talked to.
    pub fn is_open(&self, member: u64) -> bool {
        self.peers.get(&member).is_some_and(|peer| peer.link.is_some())
    }

    /// Ends a connection.
    pub fn close(&mut self, connection: ConnectionId, fx: &mut Effects) {
        if let Some(link) = self.links.remove(&connection) {
            fx.push(Effect::Close { connection });
            self.forget(connection, &link);
        }
    }

    /// What came since the last time, in order.
    pub fn take_events(&mut self) -> Vec<PeerEvent> {
        std::mem::take(&mut self.events)
    }

    /// Takes the list back, to be filled again.
    pub fn give_back(&mut self, events: Vec<PeerEvent>) {
        assert!(events.is_empty());
        if self.events.is_empty() {
            self.events = events;
        }
    }

    fn feed(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        roll: &Roll<'_>,
        wal: &mut ShardWal,
        fx: &mut Effects,
    ) {
        let link = self.links.get_mut(&connection).expect("the caller looked it up");
        let mut received = std::mem::take(&mut self.received);
        let result = link.peer.receive(bytes, &mut received);
        let (member, is_error) = (link.member, result.is_err());
        if let Some(traffic) = self.traffic(member) {
            traffic.received_bytes += bytes.len() as u64;
            traffic.received_failures += u64::from(is_error);
        }
        self.touched.insert(connection);
        for event in received.drain(..) {
            self.on_event(connection, event, roll, wal, fx);
        }
        self.received = received;
        if let Err(error) = result {
            let fields = vec![("error", format!("\"{error}\""))];
            let message = "closing a peer's connection: what came is not the protocol".to_string();
            fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
            self.flush_link(connection, fx);
            self.close(connection, fx);
        }
    }

    /// A link that is no longer in the table: what depended on it.
    fn forget(&mut self, connection: ConnectionId, link: &Link) {
        self.touched.remove(&connection);
        let Some(member) = link.member else { return };
        if link.purpose == Purpose::Transfer {
            let connection = Some(connection);
            return self.events.push(PeerEvent::TransferClosed { member, connection });
        }
        let peer = self.peers.get_mut(&member).expect("a link's member is known");
        if peer.dialing == Some(Dialing::Handshake(connection)) {
            peer.dialing = None;
            self.on_dial_over(member);
        } else if peer.link == Some(connection) {
            peer.link = None;
            peer.traffic.disconnects += 1;
            peer.timed = None;
            peer.is_missed = true;
            peer.redial_at_us = self.now_us;
            peer.backoff_us = 0;
            self.events.push(PeerEvent::Closed { member });
        }
    }

    /// A dial of a member came to nothing.
    fn on_dial_over(&mut self, member: u64) {
        let peer = self.peers.get_mut(&member).expect("a dialed member is known");
        peer.back_off(self.now_us, &mut self.random);
        if peer.is_missed && peer.link.is_none() {
            peer.is_missed = false;
            self.events.push(PeerEvent::Gone { member });
        }
    }

    /// Hands output over, as far as the bounds allow.
    pub fn flush(&mut self, fx: &mut Effects) {
        // One by one: the set's memory stays.
        while let Some(connection) = self.touched.pop_first() {
            self.flush_link(connection, fx);
        }
    }

    fn flush_link(&mut self, connection: ConnectionId, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        let sent_bytes = link.flush(connection, fx);
        let member = link.member;
        if let Some(traffic) = self.traffic(member) {
            traffic.sent_bytes += sent_bytes;
        }
        let Some(link) = self.links.get_mut(&connection) else { return };
        if link.peer.is_closed() && !link.peer.has_output() {
            self.close(connection, fx);
        }
    }

    fn dialed_connection(&self) -> PeerConnection {
        PeerConnection::dialer(&self.own)
    }
}
