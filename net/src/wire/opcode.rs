//! The numbers of the messages. A reply has its request's number with bit 7 set.

use super::error::Malformed;

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a frame means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Opcode {
            $($(#[$doc])* $name = $number,)*
        }

        impl Opcode {
            /// Every opcode there is.
            pub const ALL: &'static [Opcode] = &[$(Opcode::$name,)*];
        }

        impl TryFrom<u8> for Opcode {
            type Error = Malformed;

            fn try_from(number: u8) -> Result<Opcode, Malformed> {
                match number {
                    $($number => Ok(Opcode::$name),)*
                    _ => Err(Malformed::Opcode),
                }
            }
        }
    };
}

opcodes! {
    /// Client: opens the connection.
    Hello = 0x01,
    /// Client: is anybody there; answered by the session itself.
    Ping = 0x02,
    /// Client: reads a range of keys.
    Range = 0x10,
    /// Client: writes one key.
    Put = 0x11,
    /// Client: deletes a range of keys.
    DeleteRange = 0x12,
    /// Client: a transaction.
    Txn = 0x13,
    /// Client: drops old revisions.
    Compact = 0x14,
    /// Client: opens a watch; its request id is the watch's id from then on.
    WatchCreate = 0x20,
    /// Client: ends a watch.
    WatchCancel = 0x21,
    /// Client: asks a watch for a progress notice.
    WatchProgress = 0x22,
    /// Client: lets a watch send so many bytes more.
    WatchCredit = 0x23,
    /// Client: grants a lease.
    LeaseGrant = 0x30,
    /// Client: revokes a lease.
    LeaseRevoke = 0x31,
    /// Client: renews a lease.
    LeaseKeepAlive = 0x32,
    /// Client: asks for a lease's remaining time.
    LeaseTimeToLive = 0x33,
    /// Client: lists the leases.
    Leases = 0x34,
    /// Client: asks the member for its state.
    Status = 0x40,
    /// Client: lists the members of the cluster.
    MemberList = 0x41,
    /// Client: adds a member.
    MemberAdd = 0x42,
    /// Client: removes a member.
    MemberRemove = 0x43,
    /// Client: gives a member other peer URLs.
    MemberUpdate = 0x44,
    /// Client: makes a learner a voter.
    MemberPromote = 0x45,
    /// Client: hands leadership to a member.
    MoveLeader = 0x46,
    /// Server: answers hello.
    HelloReply = 0x81,
    /// Server: answers a ping.
    PingReply = 0x82,
    /// Server: answers a range.
    RangeReply = 0x90,
    /// Server: answers a put.
    PutReply = 0x91,
    /// Server: answers a deletion.
    DeleteRangeReply = 0x92,
    /// Server: answers a transaction.
    TxnReply = 0x93,
    /// Server: answers a compaction.
    CompactReply = 0x94,
    /// Server: a watch is open.
    WatchCreated = 0xa0,
    /// Server: a watch is over.
    WatchCanceled = 0xa1,
    /// Server: a watch has delivered everything up to a revision.
    WatchProgressed = 0xa2,
    /// Server: events of a watch.
    WatchEvents = 0xa4,
    /// Server: answers a grant.
    LeaseGrantReply = 0xb0,
    /// Server: answers a revocation.
    LeaseRevokeReply = 0xb1,
    /// Server: answers a renewal.
    LeaseKeepAliveReply = 0xb2,
    /// Server: answers a question for the remaining time.
    LeaseTimeToLiveReply = 0xb3,
    /// Server: lists the leases.
    LeasesReply = 0xb4,
    /// Server: the member's state.
    StatusReply = 0xc0,
    /// Server: the members of the cluster.
    MemberListReply = 0xc1,
    /// Server: a member was added.
    MemberAddReply = 0xc2,
    /// Server: a member was removed.
    MemberRemoveReply = 0xc3,
    /// Server: a member has other peer URLs.
    MemberUpdateReply = 0xc4,
    /// Server: a learner became a voter.
    MemberPromoteReply = 0xc5,
    /// Server: leadership was handed over.
    MoveLeaderReply = 0xc6,
    /// Server: a request failed (its id), or the connection does (id 0).
    Error = 0xf0,
    /// Server: please open a new connection and move there; this one goes on meanwhile.
    Reconnect = 0xf1,
    /// Server: no request above the id given will be executed on this connection.
    GoAway = 0xf2,
}

impl Opcode {
    /// Whether it opens a request: the frame's id is a new one and gets exactly one answer.
    pub fn opens_request(self) -> bool {
        !matches!(self, Opcode::WatchCancel | Opcode::WatchProgress | Opcode::WatchCredit)
            && (self as u8) & SERVER_BIT == 0
    }

    /// Whether it is the answer to a request of its own opcode without bit 7.
    pub fn is_reply(self) -> bool {
        let request = Opcode::try_from(self as u8 & !SERVER_BIT);
        (self as u8) & SERVER_BIT != 0 && request.is_ok_and(Opcode::opens_request)
    }
}

const SERVER_BIT: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_reply_and_every_number_comes_back() {
        for opcode in Opcode::ALL {
            assert_eq!(Opcode::try_from(*opcode as u8), Ok(*opcode));
            if opcode.opens_request() {
                let reply = Opcode::try_from(*opcode as u8 | SERVER_BIT).unwrap();
                assert!(reply.is_reply(), "{opcode:?} -> {reply:?}");
            }
        }
        assert_eq!(Opcode::try_from(0), Err(Malformed::Opcode));
        assert!(!Opcode::WatchCanceled.is_reply());
        assert!(!Opcode::Error.is_reply());
    }
}
