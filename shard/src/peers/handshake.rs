//! Who is let in: the checks of a hello, and what has to be durable before anything is heard.
//!
//! Invariants: another cluster, another epoch, a removed id, a second birth of a known id and an
//! earlier start of it are refused with a log line; who is unknown yet is admitted on the addresses
//! it brings. Source: replication.md, "Membership" 2 and 4.

use net::peer::{Event, Hello, MessageKind, PeerMessage, Purpose, Refusal};

use super::link::{Link, Phase};
use super::{Acquaintance, Dialing, Peer, PeerEvent, Peers, Roll, STRANGERS_MAX};
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::ConnectionId;
use crate::wal::ShardWal;

/// A connection on which nothing came for so long may be replaced by another of the same member.
const SILENCE_US: u64 = 1_000_000;

impl Peers {
    pub(super) fn on_event(
        &mut self,
        connection: ConnectionId,
        event: Event,
        roll: &Roll<'_>,
        wal: &mut ShardWal,
        fx: &mut Effects,
    ) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        match event {
            Event::Hello(hello) => self.on_hello(connection, hello, roll, wal, fx),
            Event::Refused(refusal) => self.on_refused(connection, refusal, fx),
            Event::Message { group, message } if !link.expects(group, &message) => {
                self.complain_of_message(connection, group, &message, fx);
                self.close(connection, fx);
            }
            Event::Message { group, message } => match &mut link.phase {
                Phase::Noting { held, .. } => held.push(Event::Message { group, message }),
                Phase::Open => {
                    let member = link.member.expect("an open link has its member");
                    self.events.push(PeerEvent::Message { member, connection, message });
                }
                Phase::Sniffing(_) | Phase::Handshake => {
                    unreachable!("the protocol lets nothing through before its handshake")
                }
            },
        }
    }

    fn on_hello(
        &mut self,
        connection: ConnectionId,
        hello: Hello,
        roll: &Roll<'_>,
        wal: &mut ShardWal,
        fx: &mut Effects,
    ) {
        let link = &self.links[&connection];
        let is_other = link.member != Some(hello.from_member) || link.purpose != hello.purpose;
        if link.is_dialed && is_other {
            // Somebody else answers at that address, or for something else.
            let refusal = Refusal::NotMe { member_id: hello.from_member };
            self.complain("a peer's answer is another's", hello.from_member, refusal, fx);
            return self.close(connection, fx);
        }
        if let Err(refusal) = self.check_hello(&hello, roll) {
            return self.refuse(connection, &hello, refusal, fx);
        }
        let link = self.links.get_mut(&connection).expect("its hello just came");
        link.purpose = hello.purpose;
        link.member = Some(hello.from_member);
        let peer = self.peers.entry(hello.from_member).or_default();
        if !peer.is_member && peer.urls != hello.peer_urls {
            peer.urls.clone_from(&hello.peer_urls);
            peer.url_next = 0;
        }
        let met = Acquaintance { birth_id: hello.birth_id, incarnation: hello.incarnation };
        if peer.met == Some(met) && !std::mem::take(&mut peer.is_note_stale) {
            return self.admit(connection, &hello, fx);
        }
        let note = wal.append_note(hello.from_member, &encode_note(met));
        self.close_earlier(connection, hello.from_member, met, fx);
        let peer = self.peers.get_mut(&hello.from_member).expect("just made");
        if peer.met != Some(met) && (peer.is_missed || peer.link.is_some()) {
            // Answered by a later life of it.
            peer.is_missed = false;
            self.events.push(PeerEvent::Gone { member: hello.from_member });
        }
        peer.met = Some(met);
        fx.push(Effect::PauseReceive { connection });
        let link = self.links.get_mut(&connection).expect("its hello just came");
        link.phase = Phase::Noting { note, hello: Box::new(hello), held: Vec::new() };
    }

    /// What belongs to an earlier start of a member ends before the new one is heard.
    fn close_earlier(
        &mut self,
        connection: ConnectionId,
        member: u64,
        met: Acquaintance,
        fx: &mut Effects,
    ) {
        if self.peers.get(&member).is_none_or(|peer| peer.met == Some(met)) {
            return;
        }
        let is_earlier = |(id, link): &(&ConnectionId, &Link)| {
            **id != connection && link.member == Some(member) && link.is_open()
        };
        let earlier = self.links.iter().filter(is_earlier).map(|(id, _)| *id);
        for connection in earlier.collect::<Vec<_>>() {
            self.close(connection, fx);
        }
    }

    fn complain_of_message(
        &self,
        connection: ConnectionId,
        group: u64,
        message: &PeerMessage,
        fx: &mut Effects,
    ) {
        let link = &self.links[&connection];
        let fields = vec![
            ("remote-peer-id", format!("\"{:x}\"", link.member.unwrap_or(0))),
            ("group", group.to_string()),
            ("kind", format!("\"{:?}\"", MessageKind::of(message))),
            ("purpose", format!("\"{:?}\"", link.purpose)),
        ];
        let message = "closing a peer's connection: it is not for such a message".to_string();
        fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
    }

    fn check_hello(&self, hello: &Hello, roll: &Roll<'_>) -> Result<(), Refusal> {
        self.own.check(hello)?;
        if roll.removed_ids.binary_search(&hello.from_member).is_ok() {
            return Err(Refusal::Removed);
        }
        let Some(peer) = self.peers.get(&hello.from_member) else {
            // Who was removed is refused above, and takes nobody's place.
            let is_removed = |member: &u64| roll.removed_ids.binary_search(member).is_ok();
            let strangers = self.peers.iter().filter(|(id, it)| !it.is_member && !is_removed(id));
            let strangers = strangers.count();
            return if strangers < STRANGERS_MAX { Ok(()) } else { Err(Refusal::Busy) };
        };
        let Some(met) = peer.met else { return Ok(()) };
        if met.birth_id != hello.birth_id {
            return Err(Refusal::Birth);
        }
        if hello.incarnation < met.incarnation {
            return Err(Refusal::Incarnation { known: met.incarnation });
        }
        Ok(())
    }

    /// Notes that became durable let their connections in.
    pub fn on_notes_durable(&mut self, wal: &ShardWal, fx: &mut Effects) {
        let durable = |phase: &Phase| match phase {
            Phase::Noting { note, .. } => wal.is_note_durable(*note),
            _ => false,
        };
        let ready: Vec<_> = self.links.iter().filter(|(_, link)| durable(&link.phase)).collect();
        let ready: Vec<_> = ready.into_iter().map(|(connection, _)| *connection).collect();
        for connection in ready {
            let link = self.links.get_mut(&connection).expect("just listed");
            let phase = std::mem::replace(&mut link.phase, Phase::Handshake);
            let Phase::Noting { hello, held, .. } = phase else { unreachable!("just checked") };
            fx.push(Effect::ResumeReceive { connection });
            self.admit(connection, &hello, fx);
            let is_open = self.links.get(&connection).is_some_and(|link| link.is_open());
            let member = hello.from_member;
            for event in held {
                if let (true, Event::Message { message, .. }) = (is_open, event) {
                    self.events.push(PeerEvent::Message { member, connection, message });
                }
            }
        }
    }

    /// The other side is who it says: the connection opens, unless another one is kept.
    fn admit(&mut self, connection: ConnectionId, hello: &Hello, fx: &mut Effects) {
        let member = hello.from_member;
        let link = self.links.get_mut(&connection).expect("it is being admitted");
        let is_dialed = link.is_dialed;
        if hello.purpose == Purpose::Transfer {
            self.open(connection, hello);
            return self.events.push(PeerEvent::TransferOpened { member, connection });
        }
        let peer = self.peers.get_mut(&member).expect("a link's member is known");
        if peer.dialing == Some(Dialing::Handshake(connection)) {
            peer.dialing = None;
        }
        if let Some(other) = peer.link
            && !self.gives_way(other, is_dialed, member)
        {
            return self.refuse(connection, hello, Refusal::Busy, fx);
        }
        let peer = self.peers.get_mut(&member).expect("a link's member is known");
        if let Some(other) = peer.link.take() {
            let replaced = self.links.remove(&other);
            assert!(replaced.is_some(), "an open connection is in the table");
            self.touched.remove(&other);
            fx.push(Effect::Close { connection: other });
            self.events.push(PeerEvent::Closed { member });
        }
        self.open(connection, hello);
        let peer = self.peers.get_mut(&member).expect("a link's member is known");
        peer.link = Some(connection);
        peer.is_missed = false;
        peer.backoff_us = 0;
        peer.last_complaint = None;
        self.events.push(PeerEvent::Opened { member });
        let fields = vec![("remote-peer-id", format!("\"{member:x}\""))];
        let message = "established a connection with a peer".to_string();
        fx.push(Effect::Log { level: LogLevel::Info, message, fields });
    }

    /// Whether the open connection with `member` is given up for a new one. Both sides decide
    /// alike: what the smaller id dialed is kept, unless it says nothing any more.
    fn gives_way(&self, open: ConnectionId, is_new_dialed: bool, member: u64) -> bool {
        let link = &self.links[&open];
        let is_own_smaller = self.own.from_member < member;
        let is_new_preferred = is_new_dialed == is_own_smaller;
        let is_open_preferred = link.is_dialed == is_own_smaller;
        let is_silent = link.received_us + SILENCE_US <= self.now_us;
        is_new_preferred || !is_open_preferred || is_silent
    }

    fn open(&mut self, connection: ConnectionId, hello: &Hello) {
        let link = self.links.get_mut(&connection).expect("it is being admitted");
        if !link.is_dialed {
            let mine =
                Hello { to_member: hello.from_member, purpose: hello.purpose, ..self.own.clone() };
            link.peer.accept(&mine);
        }
        link.phase = Phase::Open;
        link.opened_us = self.now_us;
        self.touched.insert(connection);
    }

    /// This side does not want the connection.
    fn refuse(
        &mut self,
        connection: ConnectionId,
        hello: &Hello,
        refusal: Refusal,
        fx: &mut Effects,
    ) {
        self.complain("refused a peer's connection", hello.from_member, refusal, fx);
        let link = self.links.get_mut(&connection).expect("its hello just came");
        link.member = None;
        if !link.is_dialed {
            link.peer.refuse(refusal);
            self.flush_link(connection, fx);
        }
        let peer = self.peers.get_mut(&hello.from_member);
        if let Some(peer) = peer.filter(|peer| peer.dialing == Some(Dialing::Handshake(connection)))
        {
            peer.dialing = None;
            peer.back_off(self.now_us, &mut self.random);
        }
        self.close(connection, fx);
    }

    /// The other side does not want the connection.
    fn on_refused(&mut self, connection: ConnectionId, refusal: Refusal, fx: &mut Effects) {
        let link = self.links.get_mut(&connection).expect("its refusal just came");
        let member = link.member.take().expect("a dialed link has its member");
        if link.purpose == Purpose::Transfer {
            let connection = Some(connection);
            self.events.push(PeerEvent::TransferClosed { member, connection });
        } else {
            let peer = self.peers.get_mut(&member).expect("a dialed member is known");
            peer.dialing = None;
            peer.back_off(self.now_us, &mut self.random);
        }
        if refusal == Refusal::Removed {
            self.events.push(PeerEvent::Removed);
        }
        self.complain("a peer refused the connection", member, refusal, fx);
        self.close(connection, fx);
    }

    /// One line for each new reason.
    fn complain(&mut self, what: &str, member: u64, refusal: Refusal, fx: &mut Effects) {
        let peer: &mut Peer = match self.peers.get_mut(&member) {
            Some(peer) => peer,
            None => return self.log_refusal(what, member, refusal, fx),
        };
        if peer.last_complaint == Some(refusal) {
            return;
        }
        peer.last_complaint = Some(refusal);
        self.log_refusal(what, member, refusal, fx);
    }

    fn log_refusal(&self, what: &str, member: u64, refusal: Refusal, fx: &mut Effects) {
        let level = match refusal {
            Refusal::Busy | Refusal::Itself => LogLevel::Debug,
            _ => LogLevel::Warn,
        };
        let fields = vec![
            ("remote-peer-id", format!("\"{member:x}\"")),
            ("reason", format!("\"{refusal:?}\"")),
        ];
        fx.push(Effect::Log { level, message: what.to_string(), fields });
    }
}

fn encode_note(met: Acquaintance) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&met.birth_id.to_le_bytes());
    value[8..].copy_from_slice(&met.incarnation.to_le_bytes());
    value
}

/// What a note of the WAL says of a member; `None` if it is not one of ours.
pub(super) fn decode_note(value: &[u8]) -> Option<Acquaintance> {
    let (birth_id, incarnation) = value.split_first_chunk()?;
    let incarnation = incarnation.try_into().ok()?;
    Some(Acquaintance {
        birth_id: u64::from_le_bytes(*birth_id),
        incarnation: u64::from_le_bytes(incarnation),
    })
}
