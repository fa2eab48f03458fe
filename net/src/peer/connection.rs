//! One connection between two members: bytes become messages, messages become bytes.
//!
//! The dialer says hello, the acceptor answers with its own hello or a refusal; from then on both
//! send frames of messages. Invariants: nothing but the handshake is understood before it is over;
//! a frame's messages come out all or not at all; after the first error nothing is taken any more;
//! how the stream was cut into pieces changes nothing.
//! Source: docs/format/peer.md; replication.md, "Proposals from any member", rule 2.

use super::assembly::{Assembled, Assembly};
use super::decode::decode;
use super::error::{PeerError, SendError};
use super::frame::{CheckedHeader, FrameKind};
use super::hello::{Hello, MAGIC, Refusal, VERSION_MAX, VERSION_MIN};
use super::kind::MessageKind;
use super::limits::{
    FRAME_HEADER_SIZE_BYTES, FRAME_SIZE_BYTES_MAX, HELLO_SIZE_BYTES_MAX, SHARED_SIZE_BYTES_MIN,
};
use super::message::{Lane, PeerMessage};
use super::outbox::Outbox;
use super::reader::Reader;
use bytes::Bytes;
use raft::ReplicaId;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other side's hello. An acceptor answers it with [`PeerConnection::accept`] or
    /// [`PeerConnection::refuse`]; for a dialer the connection is open now.
    Hello(Hello),
    /// The other side does not want this connection; it is at its end.
    Refused(Refusal),
    /// A message for the replica of `group`.
    Message {
        /// Which group.
        group: u64,
        /// What it says.
        message: PeerMessage,
    },
}

/// See the file's head.
#[derive(Debug)]
pub struct PeerConnection {
    phase: Phase,
    /// Bytes of the other side's magic that came.
    magic_size_bytes: usize,
    assembly: Assembly,
    outbox: Outbox,
    /// The version spoken; 0 before the handshake is over.
    version: u16,
    /// This side and the other one; 0 before they are known.
    own_member: u64,
    peer_member: u64,
    /// Sequence of the last proposal sent, and of the last one received.
    sequence_sent: u64,
    sequence_received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The dialer waits for the answer to its hello.
    AwaitAnswer,
    /// The acceptor waits for the dialer's hello.
    AwaitHello,
    /// The acceptor has the hello and has not answered it.
    Deciding,
    Open,
    /// After a refusal or an error; output may be left.
    Closed,
}

impl PeerConnection {
    /// A connection that this side dialed. Its hello is in the output at once.
    pub fn dialer(mine: &Hello) -> PeerConnection {
        let mut connection = PeerConnection::new(Phase::AwaitAnswer);
        connection.push_hello(mine);
        connection
    }

    /// A connection that this side accepted.
    pub fn acceptor() -> PeerConnection {
        PeerConnection::new(Phase::AwaitHello)
    }

    fn new(phase: Phase) -> PeerConnection {
        PeerConnection {
            phase,
            magic_size_bytes: 0,
            assembly: Assembly::default(),
            outbox: Outbox::new(),
            version: 0,
            own_member: 0,
            peer_member: 0,
            sequence_sent: 0,
            sequence_received: 0,
        }
    }

    /// Takes received bytes; what they mean is appended to `events`.
    ///
    /// # Errors
    /// The bytes are damaged or not meant here. Send what output there is and close; what was
    /// appended before is good.
    pub fn receive(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), PeerError> {
        if self.phase == Phase::Closed {
            return Err(PeerError::Phase);
        }
        let result = self.walk(bytes, events);
        if let Err(error) = result {
            self.on_error(error);
        }
        result
    }

    /// Accepts the connection, which is open then: an acceptor's answer to [`Event::Hello`].
    pub fn accept(&mut self, mine: &Hello) {
        assert!(self.phase == Phase::Deciding);
        self.push_hello(mine);
        self.phase = Phase::Open;
    }

    /// Refuses the connection: an acceptor's answer to [`Event::Hello`]. Send the output and close.
    pub fn refuse(&mut self, refusal: Refusal) {
        assert!(self.phase == Phase::Deciding);
        self.push_refusal(refusal);
        self.phase = Phase::Closed;
    }

    /// Takes a message for the replica of `group` on the other side; it leaves with
    /// [`PeerConnection::take_frame`]. A proposal carries [`PeerConnection::next_sequence`].
    ///
    /// # Errors
    /// It was not taken, and nothing changed.
    pub fn send(&mut self, group: u64, message: &PeerMessage) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::NotOpen);
        }
        if self.version < MessageKind::of(message).since() {
            return Err(SendError::Version);
        }
        if let PeerMessage::Raft(message) = message {
            assert!(message.from == ReplicaId(self.own_member));
            assert!(message.to == ReplicaId(self.peer_member));
        }
        if let PeerMessage::Propose { sequence, .. } = message {
            assert!(*sequence == self.next_sequence());
        }
        self.outbox.push(group, message)?;
        if let PeerMessage::Propose { sequence, .. } = message {
            self.sequence_sent = *sequence;
        }
        Ok(())
    }

    /// The sequence of the next proposal sent on this connection, from 1.
    pub fn next_sequence(&self) -> u64 {
        self.sequence_sent + 1
    }

    /// The next frame to be sent, if there is one: control frames first. `empty` is a buffer whose
    /// memory is used again.
    #[must_use]
    pub fn take_frame(&mut self, empty: Vec<u8>) -> Option<Vec<u8>> {
        self.outbox.take_frame(empty)
    }

    /// Whether [`PeerConnection::take_frame`] has something.
    pub fn has_output(&self) -> bool {
        self.outbox.has_output()
    }

    /// Bytes that wait for [`PeerConnection::take_frame`], without the headers of their frames.
    pub fn unsent_size_bytes(&self) -> usize {
        self.outbox.unsent_size_bytes()
    }

    /// Bytes of a frame that has not come to its end.
    pub fn pending_size_bytes(&self) -> usize {
        self.assembly.pending_size_bytes()
    }

    /// Whether a message of that lane would be refused with [`SendError::Full`].
    pub fn is_full(&self, lane: Lane) -> bool {
        self.outbox.is_full(lane)
    }

    /// Whether the handshake is over and the connection lives.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the connection is to be closed once its output is sent.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The version spoken, once the other side's hello is there.
    pub fn version(&self) -> Option<u16> {
        (self.version != 0).then_some(self.version)
    }

    fn walk(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), PeerError> {
        self.check_magic(&mut bytes)?;
        loop {
            let size_bytes_max = match self.phase {
                Phase::Open => FRAME_SIZE_BYTES_MAX,
                _ => HELLO_SIZE_BYTES_MAX,
            };
            match self.assembly.next_frame(&mut bytes, size_bytes_max)? {
                None => return Ok(()),
                Some(Assembled::Whole(header, frame)) => {
                    let body = header.check_body(frame)?;
                    self.on_frame(header, body, &mut None, events)?;
                }
                Some(Assembled::Pieced(header, frame)) => {
                    self.on_pieced_frame(header, frame, events)?;
                }
            }
        }
    }

    fn check_magic(&mut self, bytes: &mut &[u8]) -> Result<(), PeerError> {
        let missing = &MAGIC[self.magic_size_bytes..];
        let (taken, rest) = bytes.split_at(missing.len().min(bytes.len()));
        if !missing.starts_with(taken) {
            return Err(PeerError::Magic);
        }
        self.magic_size_bytes += taken.len();
        *bytes = rest;
        Ok(())
    }

    /// A large frame's buffer is handed to its messages as it is; a small one is used again.
    fn on_pieced_frame(
        &mut self,
        header: CheckedHeader,
        frame: Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), PeerError> {
        if frame.len() < SHARED_SIZE_BYTES_MIN {
            let body = header.check_body(&frame)?;
            self.on_frame(header, body, &mut None, events)?;
            self.assembly.give_back(frame);
            return Ok(());
        }
        header.check_body(&frame)?;
        let body = Bytes::from(frame).slice(FRAME_HEADER_SIZE_BYTES..);
        self.on_frame(header, &body, &mut Some(body.clone()), events)
    }

    fn on_frame(
        &mut self,
        header: CheckedHeader,
        body: &[u8],
        shared: &mut Option<Bytes>,
        events: &mut Vec<Event>,
    ) -> Result<(), PeerError> {
        match (header.kind, self.phase) {
            (FrameKind::Hello, Phase::AwaitHello) => self.on_hello(body, Phase::Deciding, events),
            (FrameKind::Hello, Phase::AwaitAnswer) => self.on_hello(body, Phase::Open, events),
            (FrameKind::Refusal, Phase::AwaitAnswer) => {
                events.push(Event::Refused(Refusal::decode(body)?));
                self.phase = Phase::Closed;
                Ok(())
            }
            (FrameKind::Messages { count }, Phase::Open) => {
                let before = events.len();
                let result = self.on_messages(count, body, shared, events);
                if result.is_err() {
                    events.truncate(before);
                }
                result
            }
            _ => Err(PeerError::Phase),
        }
    }

    fn on_hello(
        &mut self,
        body: &[u8],
        next: Phase,
        events: &mut Vec<Event>,
    ) -> Result<(), PeerError> {
        let (version, hello) = Hello::decode(body)?;
        assert!(VERSION_MIN <= version && version <= VERSION_MAX);
        self.version = version;
        self.peer_member = hello.from_member;
        self.phase = next;
        events.push(Event::Hello(hello));
        Ok(())
    }

    fn on_messages(
        &mut self,
        count: u16,
        body: &[u8],
        shared: &mut Option<Bytes>,
        events: &mut Vec<Event>,
    ) -> Result<(), PeerError> {
        let mut reader = Reader::new(body, shared);
        for _ in 0..count {
            let (group, message) = decode(&mut reader, self.version)?;
            if self.check_message(&message)? == Novelty::New {
                events.push(Event::Message { group, message });
            }
        }
        reader.finish()
    }

    /// Checks a message against what the connection knows.
    fn check_message(&mut self, message: &PeerMessage) -> Result<Novelty, PeerError> {
        match message {
            PeerMessage::Raft(message) => {
                let is_from_peer = message.from == ReplicaId(self.peer_member);
                if is_from_peer && message.to == ReplicaId(self.own_member) {
                    Ok(Novelty::New)
                } else {
                    Err(PeerError::Member)
                }
            }
            PeerMessage::Propose { sequence, .. } => {
                if *sequence <= self.sequence_received {
                    return Ok(Novelty::Repeated);
                }
                if *sequence != self.sequence_received + 1 {
                    return Err(PeerError::Sequence);
                }
                self.sequence_received = *sequence;
                Ok(Novelty::New)
            }
            _ => Ok(Novelty::New),
        }
    }

    fn on_error(&mut self, error: PeerError) {
        assert!(self.phase != Phase::Closed || error == PeerError::Phase);
        self.outbox.drop_messages();
        if error == PeerError::Version && self.phase == Phase::AwaitHello {
            self.push_refusal(Refusal::Version { min: VERSION_MIN, max: VERSION_MAX });
        }
        self.phase = Phase::Closed;
        self.assembly = Assembly::default();
    }

    fn push_hello(&mut self, mine: &Hello) {
        self.own_member = mine.from_member;
        self.outbox.push_handshake(&MAGIC, FrameKind::Hello, |output| mine.encode(output));
    }

    fn push_refusal(&mut self, refusal: Refusal) {
        self.outbox.push_handshake(&MAGIC, FrameKind::Refusal, |output| refusal.encode(output));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Novelty {
    New,
    Repeated,
}
