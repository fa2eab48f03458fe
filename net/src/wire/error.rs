//! What is wrong with received bytes. Each has a code and a text to send before closing.

use std::fmt;

/// Bytes that are no frame, or a frame that is no message. The connection ends with it: after it
/// nothing on the stream can be trusted to be where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The header's checksum is wrong: not this protocol, or a damaged stream.
    HeaderChecksum,
    /// The body's checksum is wrong.
    BodyChecksum,
    /// A frame larger than the bound, or smaller than its header.
    FrameSize,
    /// A byte that must be zero is not.
    Reserved,
    /// An opcode that this side does not know, or may not receive.
    Opcode,
    /// A flag that does not go with the opcode.
    Flags,
    /// A request id that is zero, not larger than the one before, or not open.
    RequestId,
    /// The body ends too early.
    Truncated,
    /// The body goes on after its end.
    Trailing,
    /// A field holds a number without a meaning; its name.
    Field(&'static str),
    /// A text is not UTF-8.
    Text,
    /// Something else than hello came first, or hello came again.
    Hello,
    /// Hello without the magic number.
    Magic,
    /// Transactions nest too deeply.
    TxnDepth,
    /// An answer in chunks exceeds what this side is willing to put together.
    ReplySize,
}

impl Malformed {
    /// The text for the peer.
    pub fn message(self) -> &'static str {
        match self {
            Malformed::HeaderChecksum => "wire: frame header checksum mismatch",
            Malformed::BodyChecksum => "wire: frame body checksum mismatch",
            Malformed::FrameSize => "wire: frame size out of bounds",
            Malformed::Reserved => "wire: reserved bytes are not zero",
            Malformed::Opcode => "wire: unknown opcode",
            Malformed::Flags => "wire: unknown flags",
            Malformed::RequestId => "wire: request id out of order",
            Malformed::Truncated => "wire: message is truncated",
            Malformed::Trailing => "wire: bytes after the end of the message",
            Malformed::Field(_) => "wire: field out of range",
            Malformed::Text => "wire: text is not UTF-8",
            Malformed::Hello => "wire: hello must come first, and once",
            Malformed::Magic => "wire: not a corestone client",
            Malformed::TxnDepth => "wire: transactions nest too deeply",
            Malformed::ReplySize => "wire: answer exceeds the client's limit",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Field(name) => write!(f, "{}: {name}", self.message()),
            other => f.write_str(other.message()),
        }
    }
}

impl std::error::Error for Malformed {}
