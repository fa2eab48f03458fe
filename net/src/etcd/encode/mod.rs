//! Answers written straight into an output buffer, as the bytes of a gRPC message.
//!
//! Nothing is built in between: lengths of small messages are computed, those of big ones put
//! in afterwards. Fields come in the order of their numbers (one exception: a watch response's
//! `fragment`), so the bytes are those that etcd would send.
//! Source: fact sheets of the etcd v3 API and of etcd's behaviour (sections 5, 7, 9, 17).

mod cluster;
mod kv;
mod lease;
mod pieces;
mod txn;
mod watch;

#[cfg(test)]
mod differential_test;

pub use cluster::{
    AlarmMember, encode_alarms, encode_hash, encode_hash_kv, encode_header_only,
    encode_health_check, encode_health_unknown_service, encode_snapshot,
};
pub use kv::{
    encode_compaction, encode_delete_range, encode_put, encode_range, encode_range_stream,
};
pub use lease::{
    LeaseTimeToLive, encode_lease_grant, encode_lease_keep_alive, encode_lease_leases,
    encode_lease_revoke, encode_lease_time_to_live,
};
pub use pieces::AnswerPieces;
pub use txn::encode_txn;
pub use watch::{WatchFragments, WatchHead, encode_watch, encode_watch_events};

use super::protobuf::writer;

/// Number of the header in every answer that has one.
const HEADER_FIELD: u32 = 1;

/// Who answers: what all headers of a member have in common for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Responder {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The answering member's id, never the leader's.
    pub member_id: u64,
    /// The answering member's Raft term.
    pub raft_term: u64,
}

impl Responder {
    /// The header of an answer at a revision; 0 for answers of the service Cluster.
    pub fn at(self, revision: i64) -> Header {
        let Responder { cluster_id, member_id, raft_term } = self;
        Header { cluster_id, member_id, revision, raft_term }
    }
}

/// An `etcdserverpb.ResponseHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The answering member's id.
    pub member_id: u64,
    /// The store's revision, by the rules of each call.
    pub revision: i64,
    /// The answering member's Raft term.
    pub raft_term: u64,
}

impl Header {
    /// A header inside a transaction's answer: the revision and nothing else.
    fn inner(revision: i64) -> Header {
        Header { revision, ..Header::default() }
    }

    fn size_bytes(&self) -> usize {
        writer::uint64_size_bytes(1, self.cluster_id)
            + writer::uint64_size_bytes(2, self.member_id)
            + writer::int64_size_bytes(3, self.revision)
            + writer::uint64_size_bytes(4, self.raft_term)
    }

    /// Writes it as field 1; a header of zeros is there too, with nothing in it.
    fn encode(&self, out: &mut Vec<u8>) {
        writer::message_head(out, HEADER_FIELD, self.size_bytes());
        writer::uint64(out, 1, self.cluster_id);
        writer::uint64(out, 2, self.member_id);
        writer::int64(out, 3, self.revision);
        writer::uint64(out, 4, self.raft_term);
    }
}

/// Writes an answer of a cold path from its generated type.
pub fn encode_message(out: &mut Vec<u8>, message: &impl prost::Message) {
    message.encode(out).expect("a Vec grows as it is written to");
}
