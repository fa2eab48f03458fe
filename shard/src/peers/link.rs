//! One connection with another member, from the first byte to the last.
//!
//! Invariants: unsent bytes handed to the driver are bounded; what is heard before the other side's
//! birth and start are durable here waits, and the connection is not read meanwhile.

use net::peer::{Event, Hello, PeerConnection, PeerMessage, Purpose};

use crate::effect::{Effect, Effects};
use crate::input::ConnectionId;
use crate::limits::UNSENT_BYTES_MAX;
use crate::replica::DEFAULT_GROUP;

#[derive(Debug)]
pub(super) struct Link {
    /// The other side, once it is known.
    pub member: Option<u64>,
    pub purpose: Purpose,
    pub is_dialed: bool,
    pub peer: PeerConnection,
    pub phase: Phase,
    pub opened_us: u64,
    pub received_us: u64,
    pub unsent_bytes: usize,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Accepted, and too few bytes came to tell what it speaks.
    Sniffing(Vec<u8>),
    /// Nobody has decided yet.
    Handshake,
    /// What the other side is has to become durable first.
    Noting {
        /// Number of the note in the WAL.
        note: u64,
        /// Its hello.
        hello: Box<Hello>,
        /// What it said since.
        held: Vec<Event>,
    },
    Open,
}

impl Link {
    pub fn accepted(now_us: u64) -> Link {
        Link {
            member: None,
            purpose: Purpose::Raft,
            is_dialed: false,
            peer: PeerConnection::acceptor(),
            phase: Phase::Sniffing(Vec::new()),
            opened_us: now_us,
            received_us: now_us,
            unsent_bytes: 0,
        }
    }

    pub fn dialed(member: u64, purpose: Purpose, peer: PeerConnection, now_us: u64) -> Link {
        Link {
            member: Some(member),
            purpose,
            is_dialed: true,
            peer,
            phase: Phase::Handshake,
            opened_us: now_us,
            received_us: now_us,
            unsent_bytes: 0,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether such a message may come by this connection: there is one group, and who transfers the
    /// state speaks of nothing else.
    pub fn expects(&self, group: u64, message: &PeerMessage) -> bool {
        let is_transfer = matches!(
            message,
            PeerMessage::MetaRequest
                | PeerMessage::Meta { .. }
                | PeerMessage::PageRequest { .. }
                | PeerMessage::Pages { .. }
        );
        group == DEFAULT_GROUP && (is_transfer || self.purpose == Purpose::Raft)
    }

    /// Hands frames to the driver while it takes them; says how many bytes.
    pub fn flush(&mut self, connection: ConnectionId, fx: &mut Effects) -> u64 {
        let before = self.unsent_bytes;
        while self.unsent_bytes < UNSENT_BYTES_MAX && self.peer.has_output() {
            let empty = fx.emptied.pop().unwrap_or_default();
            let bytes = self.peer.take_frame(empty).expect("it has output");
            assert!(!bytes.is_empty());
            self.unsent_bytes += bytes.len();
            fx.push(Effect::Transmit { connection, bytes });
        }
        (self.unsent_bytes - before) as u64
    }
}
