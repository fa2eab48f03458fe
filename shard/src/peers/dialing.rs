//! When which member is dialed.
//!
//! Invariants: one dial of a member at a time; after a failure the next one waits longer, up to a
//! bound, and a lost connection is dialed again at once: that is how a dead process is told from a
//! slow one.

use net::peer::Purpose;

use super::link::{Link, Phase};
use super::{Dialing, HANDSHAKE_US_MAX, LINKS_MAX, Peer, PeerEvent, Peers};
use crate::effect::{Effect, Effects, LogLevel};
use crate::input::{ConnectionId, DialFailure, DialId};
use crate::random::Random;

/// First wait after a failed dial.
const BACKOFF_US_MIN: u64 = 50_000;
/// Longest wait between dials of a member.
const BACKOFF_US_MAX: u64 = 1_000_000;

impl Peer {
    pub(super) fn back_off(&mut self, now_us: u64, random: &mut Random) {
        self.backoff_us = (2 * self.backoff_us).clamp(BACKOFF_US_MIN, BACKOFF_US_MAX);
        self.redial_at_us = now_us + self.backoff_us / 2 + random.next() % (self.backoff_us / 2);
        self.url_next = (self.url_next + 1) % self.urls.len().max(1);
    }
}

impl Peers {
    /// A start that found notes lost says so, once: it still knows each member as it was noted
    /// before, and notes anew what it meets, but a disk that was wiped or put back meanwhile would
    /// not be told from the one it was.
    fn tell_lost_notes(&mut self, fx: &mut Effects) {
        if !std::mem::take(&mut self.are_notes_lost) {
            return;
        }
        let message = "the WAL is damaged: what was noted of other members' births and starts may \
                       be older than it was";
        let fields = vec![("members-known", self.peers.len().to_string())];
        let message = message.to_string();
        fx.push(Effect::Log { level: LogLevel::Warn, message, fields });
        for peer in self.peers.values_mut() {
            // Written down again with its next hello, whether it is news or not.
            peer.is_note_stale = true;
        }
    }

    /// Dials who is to be dialed, and ends handshakes that take too long.
    pub fn tick(&mut self, now_us: u64, fx: &mut Effects) {
        assert!(self.now_us <= now_us);
        self.now_us = now_us;
        self.tell_lost_notes(fx);
        let mut overdue = Vec::new();
        for (connection, link) in &self.links {
            if link.is_open() || matches!(link.phase, Phase::Noting { .. }) {
                continue;
            }
            let until_us = link.opened_us + HANDSHAKE_US_MAX;
            if until_us <= now_us {
                overdue.push(*connection);
            } else {
                fx.wake_at(until_us);
            }
        }
        for connection in overdue {
            self.close(connection, fx);
        }
        let members: Vec<_> = self.peers.iter().filter(|(_, peer)| peer.wants_dial()).collect();
        let members: Vec<_> = members.iter().map(|(id, peer)| (**id, peer.redial_at_us)).collect();
        for (member, redial_at_us) in members {
            if now_us < redial_at_us {
                fx.wake_at(redial_at_us);
                continue;
            }
            if let Some(dial) = self.dial(member, Purpose::Raft, fx) {
                let peer = self.peers.get_mut(&member).expect("just listed");
                peer.dialing = Some(Dialing::Dial(dial));
            }
        }
    }

    /// Dials a member for a state transfer. The answer is `TransferOpened` or `TransferClosed`.
    pub fn dial_transfer(&mut self, member: u64, fx: &mut Effects) -> bool {
        self.dial(member, Purpose::Transfer, fx).is_some()
    }

    fn dial(&mut self, member: u64, purpose: Purpose, fx: &mut Effects) -> Option<DialId> {
        if LINKS_MAX <= self.links.len() + self.dials.len() {
            return None;
        }
        let peer = self.peers.get_mut(&member)?;
        let url = peer.urls.get(peer.url_next)?.clone();
        self.next_dial += 1;
        let dial = DialId(self.next_dial);
        self.dials.insert(dial, (member, purpose));
        fx.push(Effect::Dial { dial, url });
        Some(dial)
    }

    /// A dial succeeded: the hello leaves at once.
    pub fn on_dialed(&mut self, dial: DialId, connection: ConnectionId) {
        let (member, purpose) = self.dials.remove(&dial).expect("a dial is answered once");
        self.own.to_member = member;
        self.own.purpose = purpose;
        let link = Link::dialed(member, purpose, self.dialed_connection(), self.now_us);
        let known = self.links.insert(connection, link);
        assert!(known.is_none(), "connection numbers are not used twice");
        self.touched.insert(connection);
        if purpose == Purpose::Raft {
            let peer = self.peers.get_mut(&member).expect("a dialed member is known");
            assert!(peer.dialing == Some(Dialing::Dial(dial)));
            peer.dialing = Some(Dialing::Handshake(connection));
        }
    }

    /// A dial failed.
    pub fn on_dial_failed(&mut self, dial: DialId, failure: DialFailure) {
        let (member, purpose) = self.dials.remove(&dial).expect("a dial is answered once");
        if purpose == Purpose::Transfer {
            if let Some(peer) = self.peers.get_mut(&member) {
                peer.url_next = (peer.url_next + 1) % peer.urls.len().max(1);
            }
            return self.events.push(PeerEvent::TransferClosed { member, connection: None });
        }
        let peer = self.peers.get_mut(&member).expect("a dialed member is known");
        assert!(peer.dialing == Some(Dialing::Dial(dial)));
        peer.dialing = None;
        match failure {
            DialFailure::Refused => self.on_dial_over(member),
            // Silence says nothing about the process: the election timeout decides.
            DialFailure::Unreachable => peer.back_off(self.now_us, &mut self.random),
        }
    }
}

impl Peer {
    fn wants_dial(&self) -> bool {
        self.is_member && self.link.is_none() && self.dialing.is_none() && !self.urls.is_empty()
    }
}
