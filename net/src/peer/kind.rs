//! The numbers of the messages, and since which version of the protocol each is spoken.

use super::error::PeerError;
use super::message::PeerMessage;
use raft::Body;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal since $version:literal,)*) => {
        /// What a message is. A version is a row more here, or a new meaning under a new number:
        /// the meaning of a number never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum MessageKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl MessageKind {
            /// Every kind there is.
            pub const ALL: &'static [MessageKind] = &[$(MessageKind::$name,)*];

            /// The first version of the protocol that knows it.
            pub fn since(self) -> u16 {
                match self {
                    $(MessageKind::$name => $version,)*
                }
            }

            fn of_number(number: u8) -> Option<MessageKind> {
                match number {
                    $($number => Some(MessageKind::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Raft: would you vote for me?
    PreVoteRequest = 0x01 since 1,
    /// Raft: answer to that.
    PreVoteAnswer = 0x02 since 1,
    /// Raft: vote for me.
    VoteRequest = 0x03 since 1,
    /// Raft: answer to that.
    VoteAnswer = 0x04 since 1,
    /// Raft: entries.
    Append = 0x05 since 1,
    /// Raft: answer to entries or a snapshot.
    AppendAnswer = 0x06 since 1,
    /// Raft: heartbeat.
    Heartbeat = 0x07 since 1,
    /// Raft: answer to a heartbeat.
    HeartbeatAnswer = 0x08 since 1,
    /// Raft: a state is there to be transferred.
    Snapshot = 0x09 since 1,
    /// Raft: campaign at once.
    TimeoutNow = 0x0a since 1,
    /// Raft: hand leadership over.
    TransferRequest = 0x0b since 1,
    /// Raft: which commit index must my reads wait for?
    ReadIndexRequest = 0x0c since 1,
    /// Raft: answer to that.
    ReadIndexAnswer = 0x0d since 1,
    /// Raft: your term is over.
    StaleTerm = 0x0e since 1,
    /// Raft: the commit index alone, which needs no answer.
    Commit = 0x0f since 1,
    /// A forwarded proposal.
    Propose = 0x20 since 1,
    /// It was not appended.
    NotAppended = 0x21 since 1,
    /// A question to the leader.
    Ask = 0x22 since 1,
    /// Answer to a question.
    Reply = 0x23 since 1,
    /// Which checkpoint can be transferred?
    MetaRequest = 0x30 since 1,
    /// The newest checkpoint.
    Meta = 0x31 since 1,
    /// Request for pages.
    PageRequest = 0x32 since 1,
    /// Pages.
    Pages = 0x33 since 1,
    /// Request for entries of the log.
    EntriesRequest = 0x34 since 1,
    /// Entries of the log.
    Entries = 0x35 since 1,
}

impl MessageKind {
    /// The kind of a message.
    pub fn of(message: &PeerMessage) -> MessageKind {
        match message {
            PeerMessage::Raft(message) => MessageKind::of_raft(&message.body),
            PeerMessage::Propose { .. } => MessageKind::Propose,
            PeerMessage::NotAppended { .. } => MessageKind::NotAppended,
            PeerMessage::Ask { .. } => MessageKind::Ask,
            PeerMessage::Reply { .. } => MessageKind::Reply,
            PeerMessage::MetaRequest => MessageKind::MetaRequest,
            PeerMessage::Meta { .. } => MessageKind::Meta,
            PeerMessage::PageRequest { .. } => MessageKind::PageRequest,
            PeerMessage::Pages { .. } => MessageKind::Pages,
            PeerMessage::EntriesRequest { .. } => MessageKind::EntriesRequest,
            PeerMessage::Entries { .. } => MessageKind::Entries,
        }
    }

    fn of_raft(body: &Body) -> MessageKind {
        match body {
            Body::PreVoteRequest { .. } => MessageKind::PreVoteRequest,
            Body::PreVoteAnswer { .. } => MessageKind::PreVoteAnswer,
            Body::VoteRequest { .. } => MessageKind::VoteRequest,
            Body::VoteAnswer { .. } => MessageKind::VoteAnswer,
            Body::Append { .. } => MessageKind::Append,
            Body::AppendAnswer { .. } => MessageKind::AppendAnswer,
            Body::Heartbeat { .. } => MessageKind::Heartbeat,
            Body::HeartbeatAnswer { .. } => MessageKind::HeartbeatAnswer,
            Body::Snapshot { .. } => MessageKind::Snapshot,
            Body::TimeoutNow => MessageKind::TimeoutNow,
            Body::TransferRequest { .. } => MessageKind::TransferRequest,
            Body::ReadIndexRequest { .. } => MessageKind::ReadIndexRequest,
            Body::ReadIndexAnswer { .. } => MessageKind::ReadIndexAnswer,
            Body::StaleTerm => MessageKind::StaleTerm,
            Body::Commit { .. } => MessageKind::Commit,
        }
    }

    /// The kind of that number, if `version` knows it.
    pub(super) fn check(number: u8, version: u16) -> Result<MessageKind, PeerError> {
        let kind = MessageKind::of_number(number).ok_or(PeerError::Kind)?;
        if kind.since() <= version { Ok(kind) } else { Err(PeerError::Kind) }
    }
}
