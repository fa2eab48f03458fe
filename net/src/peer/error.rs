//! What can be wrong with received bytes, and why a message cannot be sent.

use std::fmt;

/// Bytes that do not belong to the protocol, or not here and now. The connection ends with it:
/// after it nothing on the stream can be trusted to be where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// The stream does not begin as this protocol does.
    Magic,
    /// The header's checksum is wrong: a damaged or displaced stream.
    HeaderChecksum,
    /// The body's checksum is wrong.
    BodyChecksum,
    /// A frame larger than the bound, or smaller than its header.
    FrameSize,
    /// A frame is missing or came again.
    FrameNumber,
    /// A frame or a message of a kind that is not known in the version spoken.
    Kind,
    /// A message's size or a frame's count does not fit the body.
    Count,
    /// A byte that must be zero is not.
    Reserved,
    /// A message ends too early.
    Truncated,
    /// A message goes on after its end.
    Trailing,
    /// A field holds a number without a meaning; its name.
    Field(&'static str),
    /// A text is not UTF-8.
    Text,
    /// Not the time for this: a second hello, a message before the handshake is over, anything
    /// after the end.
    Phase,
    /// Both sides speak no common version.
    Version,
    /// A Raft message from or to somebody else than the two ends.
    Member,
    /// A proposal is missing.
    Sequence,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The handshake is not over, or the connection is at its end.
    NotOpen,
    /// Too much waits to be sent in the message's lane.
    Full,
    /// The message exceeds a bound of the protocol.
    TooLarge,
    /// The other side speaks a version that does not know the message.
    Version,
}

impl PeerError {
    fn message(self) -> &'static str {
        match self {
            PeerError::Magic => "peer: not a corestone peer",
            PeerError::HeaderChecksum => "peer: frame header checksum mismatch",
            PeerError::BodyChecksum => "peer: frame body checksum mismatch",
            PeerError::FrameSize => "peer: frame size out of bounds",
            PeerError::FrameNumber => "peer: frame missing or repeated",
            PeerError::Kind => "peer: unknown kind of frame or message",
            PeerError::Count => "peer: sizes in a frame do not add up",
            PeerError::Reserved => "peer: reserved bytes are not zero",
            PeerError::Truncated => "peer: message is truncated",
            PeerError::Trailing => "peer: bytes after the end of a message",
            PeerError::Field(_) => "peer: field out of range",
            PeerError::Text => "peer: text is not UTF-8",
            PeerError::Phase => "peer: out of phase",
            PeerError::Version => "peer: no common version of the protocol",
            PeerError::Member => "peer: message of another member",
            PeerError::Sequence => "peer: proposal missing",
        }
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Field(name) => write!(f, "{}: {name}", self.message()),
            other => f.write_str(other.message()),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::NotOpen => "peer: connection is not open",
            SendError::Full => "peer: too much output pends",
            SendError::TooLarge => "peer: message too large",
            SendError::Version => "peer: the other side is too old for the message",
        })
    }
}

impl std::error::Error for PeerError {}
impl std::error::Error for SendError {}
