//! Answers on the wire: a header with revision and term, then what the opcode says. Cluster and
//! member stand in hello, once.
//!
//! Key-values go out as they are packed in memory (`engine::api::KvList`): one copy, no field by
//! field work. Source: docs/format/wire.md.

use super::cluster::{ClusterMember, decode_members, encode_members};
use super::error::Malformed;
use super::opcode::Opcode;
use super::reader::{Reader, check_flags, check_reserved, flag, push_text, size_field};
use super::txn;
use engine::api::{DeleteRangeResponse, KvList, PutResponse, RangeResponse, Response, TxnResponse};
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What every answer and every message of a watch begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The store's revision, by etcd's rules for the request.
    pub revision: i64,
    /// Raft term at the answering member.
    pub raft_term: u64,
}

/// A lease's remaining time, as etcd tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// The lease asked for.
    pub id: i64,
    /// Remaining whole seconds; -1 if there is no such lease.
    pub ttl_s: i64,
    /// What was granted; 0 if there is no such lease.
    pub granted_ttl_s: i64,
    /// Attached keys, if asked for.
    pub keys: Vec<Vec<u8>>,
}

/// A member's state, as etcd's status tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// Version of the server.
    pub version: String,
    /// Version of the stored formats; empty before it is decided.
    pub storage_version: String,
    /// Size of the page file, in bytes.
    pub db_size_bytes: i64,
    /// Of these, in use.
    pub db_size_in_use_bytes: i64,
    /// The quota, in bytes; negative when there is none.
    pub db_size_quota_bytes: i64,
    /// Id of the leader as seen here, 0 if there is none.
    pub leader: u64,
    /// The commit index.
    pub raft_index: u64,
    /// The applied index.
    pub raft_applied_index: u64,
    /// Whether the member is a learner.
    pub is_learner: bool,
    /// No leader, alarms: one text each.
    pub errors: Vec<String>,
}

/// An answer to encode, borrowed from whoever has it.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Reply<'a> {
    Range(&'a RangeResponse),
    Put(&'a PutResponse),
    DeleteRange(&'a DeleteRangeResponse),
    Txn(&'a TxnResponse),
    Compact { revision: i64 },
    LeaseGrant { revision: i64, id: i64, ttl_s: i64 },
    LeaseRevoke { revision: i64 },
    LeaseKeepAlive { revision: i64, id: i64, ttl_s: i64 },
    LeaseTimeToLive { revision: i64, lease: &'a LeaseTimeToLive },
    Leases { revision: i64, ids: &'a [i64] },
    Status { revision: i64, status: &'a MemberStatus },
    MemberList { members: &'a [ClusterMember] },
    MemberAdd { id: u64, members: &'a [ClusterMember] },
    MemberRemove { members: &'a [ClusterMember] },
    MemberUpdate { members: &'a [ClusterMember] },
    MemberPromote { members: &'a [ClusterMember] },
    MoveLeader,
}

impl<'a> Reply<'a> {
    /// The answer to a client in the answer of an applied command. `None` for a refusal, which is
    /// an error on the wire, and for commands that no client sends here.
    pub fn of(response: &'a Response) -> Option<Reply<'a>> {
        Some(match response {
            Response::Put(put) => Reply::Put(put),
            Response::DeleteRange(delete) => Reply::DeleteRange(delete),
            Response::Txn(txn) => Reply::Txn(txn),
            Response::Compact { revision } => Reply::Compact { revision: *revision },
            Response::LeaseGrant { revision, id, ttl_s } => {
                Reply::LeaseGrant { revision: *revision, id: *id, ttl_s: *ttl_s }
            }
            Response::LeaseRevoke { revision } => Reply::LeaseRevoke { revision: *revision },
            Response::Alarm { .. } | Response::Done { .. } | Response::Rejected { .. } => {
                return None;
            }
        })
    }

    pub(super) fn opcode(&self) -> Opcode {
        match self {
            Reply::Range(_) => Opcode::RangeReply,
            Reply::Put(_) => Opcode::PutReply,
            Reply::DeleteRange(_) => Opcode::DeleteRangeReply,
            Reply::Txn(_) => Opcode::TxnReply,
            Reply::Compact { .. } => Opcode::CompactReply,
            Reply::LeaseGrant { .. } => Opcode::LeaseGrantReply,
            Reply::LeaseRevoke { .. } => Opcode::LeaseRevokeReply,
            Reply::LeaseKeepAlive { .. } => Opcode::LeaseKeepAliveReply,
            Reply::LeaseTimeToLive { .. } => Opcode::LeaseTimeToLiveReply,
            Reply::Leases { .. } => Opcode::LeasesReply,
            Reply::Status { .. } => Opcode::StatusReply,
            Reply::MemberList { .. } => Opcode::MemberListReply,
            Reply::MemberAdd { .. } => Opcode::MemberAddReply,
            Reply::MemberRemove { .. } => Opcode::MemberRemoveReply,
            Reply::MemberUpdate { .. } => Opcode::MemberUpdateReply,
            Reply::MemberPromote { .. } => Opcode::MemberPromoteReply,
            Reply::MoveLeader => Opcode::MoveLeaderReply,
        }
    }

    fn revision(&self) -> i64 {
        match self {
            Reply::Range(range) => range.revision,
            Reply::Put(put) => put.revision,
            Reply::DeleteRange(delete) => delete.revision,
            Reply::Txn(txn) => txn.revision,
            Reply::Compact { revision }
            | Reply::LeaseGrant { revision, .. }
            | Reply::LeaseRevoke { revision }
            | Reply::LeaseKeepAlive { revision, .. }
            | Reply::LeaseTimeToLive { revision, .. }
            | Reply::Leases { revision, .. }
            | Reply::Status { revision, .. } => *revision,
            // As in etcd, what is said of the cluster is of no revision.
            Reply::MemberList { .. }
            | Reply::MemberAdd { .. }
            | Reply::MemberRemove { .. }
            | Reply::MemberUpdate { .. }
            | Reply::MemberPromote { .. }
            | Reply::MoveLeader => 0,
        }
    }

    pub(super) fn encode(&self, raft_term: u64, output: &mut Vec<u8>) {
        ReplyHeader { revision: self.revision(), raft_term }.encode(output);
        match self {
            Reply::Range(range) => encode_range(range, output),
            Reply::Put(put) => encode_put(put, output),
            Reply::DeleteRange(delete) => encode_delete_range(delete, output),
            Reply::Txn(txn) => txn::encode_response(txn, output),
            Reply::Compact { .. } | Reply::LeaseRevoke { .. } => {}
            Reply::LeaseGrant { id, ttl_s, .. } | Reply::LeaseKeepAlive { id, ttl_s, .. } => {
                output.extend_from_slice(&id.to_le_bytes());
                output.extend_from_slice(&ttl_s.to_le_bytes());
            }
            Reply::LeaseTimeToLive { lease, .. } => lease.encode(output),
            Reply::Leases { ids, .. } => {
                for id in *ids {
                    output.extend_from_slice(&id.to_le_bytes());
                }
            }
            Reply::Status { status, .. } => status.encode(output),
            Reply::MemberAdd { id, members } => {
                output.extend_from_slice(&id.to_le_bytes());
                encode_members(members, output);
            }
            Reply::MemberList { members }
            | Reply::MemberRemove { members }
            | Reply::MemberUpdate { members }
            | Reply::MemberPromote { members } => encode_members(members, output),
            Reply::MoveLeader => {}
        }
    }
}

impl ReplyHeader {
    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.revision.to_le_bytes());
        output.extend_from_slice(&self.raft_term.to_le_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<ReplyHeader, Malformed> {
        let revision = reader.fixed::<I64>()?.get();
        Ok(ReplyHeader { revision, raft_term: reader.fixed::<U64>()?.get() })
    }
}

/// The answers a client understands, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    Ping,
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact,
    LeaseGrant { id: i64, ttl_s: i64 },
    LeaseRevoke,
    LeaseKeepAlive { id: i64, ttl_s: i64 },
    LeaseTimeToLive(LeaseTimeToLive),
    Leases(Vec<i64>),
    Status(MemberStatus),
    MemberList(Vec<ClusterMember>),
    MemberAdd { id: u64, members: Vec<ClusterMember> },
    MemberRemove(Vec<ClusterMember>),
    MemberUpdate(Vec<ClusterMember>),
    MemberPromote(Vec<ClusterMember>),
    MoveLeader,
}

impl Answer {
    /// Decodes a whole answer's body.
    ///
    /// # Errors
    /// [`Malformed`] if the opcode is no answer's or the body is not one of it.
    pub fn decode(opcode: Opcode, body: &[u8]) -> Result<(ReplyHeader, Answer), Malformed> {
        let mut reader = Reader::new(body);
        let header = ReplyHeader::decode(&mut reader)?;
        let revision = header.revision;
        let answer = match opcode {
            Opcode::PingReply => Answer::Ping,
            Opcode::RangeReply => Answer::Range(decode_range(&mut reader, revision)?),
            Opcode::PutReply => Answer::Put(decode_put(&mut reader, revision)?),
            Opcode::DeleteRangeReply => {
                Answer::DeleteRange(decode_delete_range(&mut reader, revision)?)
            }
            Opcode::TxnReply => Answer::Txn(txn::decode_response(&mut reader, revision)?),
            Opcode::CompactReply => Answer::Compact,
            Opcode::LeaseRevokeReply => Answer::LeaseRevoke,
            Opcode::LeaseGrantReply => {
                let id = reader.fixed::<I64>()?.get();
                Answer::LeaseGrant { id, ttl_s: reader.fixed::<I64>()?.get() }
            }
            Opcode::LeaseKeepAliveReply => {
                let id = reader.fixed::<I64>()?.get();
                Answer::LeaseKeepAlive { id, ttl_s: reader.fixed::<I64>()?.get() }
            }
            Opcode::LeaseTimeToLiveReply => {
                Answer::LeaseTimeToLive(LeaseTimeToLive::decode(&mut reader)?)
            }
            Opcode::LeasesReply => {
                let mut ids = Vec::new();
                while !reader.is_empty() {
                    ids.push(reader.fixed::<I64>()?.get());
                }
                Answer::Leases(ids)
            }
            Opcode::StatusReply => Answer::Status(MemberStatus::decode(&mut reader)?),
            Opcode::MemberListReply => Answer::MemberList(decode_members(&mut reader)?),
            Opcode::MemberAddReply => {
                let id = reader.fixed::<U64>()?.get();
                Answer::MemberAdd { id, members: decode_members(&mut reader)? }
            }
            Opcode::MemberRemoveReply => Answer::MemberRemove(decode_members(&mut reader)?),
            Opcode::MemberUpdateReply => Answer::MemberUpdate(decode_members(&mut reader)?),
            Opcode::MemberPromoteReply => Answer::MemberPromote(decode_members(&mut reader)?),
            Opcode::MoveLeaderReply => Answer::MoveLeader,
            _ => return Err(Malformed::Opcode),
        };
        reader.finish()?;
        Ok((header, answer))
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RangeReplyFields {
    count: I64,
    kvs_size_bytes: U64,
    more: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<RangeReplyFields>() == 24);

pub(super) fn encode_range(range: &RangeResponse, output: &mut Vec<u8>) {
    let fields = RangeReplyFields {
        count: I64::new(range.count),
        kvs_size_bytes: U64::new(range.kvs.size_bytes() as u64),
        more: u8::from(range.more),
        reserved: [0; 7],
    };
    output.extend_from_slice(fields.as_bytes());
    output.extend_from_slice(range.kvs.packed());
}

pub(super) fn decode_range(
    reader: &mut Reader<'_>,
    revision: i64,
) -> Result<RangeResponse, Malformed> {
    let fields: &RangeReplyFields = reader.fixed()?;
    check_reserved(&fields.reserved)?;
    Ok(RangeResponse {
        revision,
        kvs: decode_kvs(reader, fields.kvs_size_bytes)?,
        more: check_flags(fields.more, 1)? != 0,
        count: fields.count.get(),
    })
}

pub(super) fn encode_put(put: &PutResponse, output: &mut Vec<u8>) {
    assert!(put.prev_kv.len() <= 1);
    output.extend_from_slice(&(put.prev_kv.size_bytes() as u64).to_le_bytes());
    output.extend_from_slice(put.prev_kv.packed());
}

pub(super) fn decode_put(reader: &mut Reader<'_>, revision: i64) -> Result<PutResponse, Malformed> {
    let size = *reader.fixed::<U64>()?;
    let prev_kv = decode_kvs(reader, size)?;
    if 1 < prev_kv.len() {
        return Err(Malformed::Field("previous states of a put"));
    }
    Ok(PutResponse { revision, prev_kv })
}

pub(super) fn encode_delete_range(delete: &DeleteRangeResponse, output: &mut Vec<u8>) {
    output.extend_from_slice(&delete.deleted.to_le_bytes());
    output.extend_from_slice(&(delete.prev_kvs.size_bytes() as u64).to_le_bytes());
    output.extend_from_slice(delete.prev_kvs.packed());
}

pub(super) fn decode_delete_range(
    reader: &mut Reader<'_>,
    revision: i64,
) -> Result<DeleteRangeResponse, Malformed> {
    let deleted = reader.fixed::<I64>()?.get();
    let size = *reader.fixed::<U64>()?;
    Ok(DeleteRangeResponse { revision, deleted, prev_kvs: decode_kvs(reader, size)? })
}

fn decode_kvs(reader: &mut Reader<'_>, size_bytes: U64) -> Result<KvList, Malformed> {
    KvList::check_packed(reader.bytes(size_bytes.get())?).ok_or(Malformed::Truncated)
}

impl LeaseTimeToLive {
    fn encode(&self, output: &mut Vec<u8>) {
        for number in [self.id, self.ttl_s, self.granted_ttl_s] {
            output.extend_from_slice(&number.to_le_bytes());
        }
        for key in &self.keys {
            output.extend_from_slice(size_field(key).as_bytes());
            output.extend_from_slice(key);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<LeaseTimeToLive, Malformed> {
        let mut lease = LeaseTimeToLive {
            id: reader.fixed::<I64>()?.get(),
            ttl_s: reader.fixed::<I64>()?.get(),
            granted_ttl_s: reader.fixed::<I64>()?.get(),
            keys: Vec::new(),
        };
        while !reader.is_empty() {
            let size = reader.fixed::<U32>()?.get();
            lease.keys.push(reader.bytes(size.into())?.to_vec());
        }
        Ok(lease)
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct StatusFields {
    db_size_bytes: I64,
    db_size_in_use_bytes: I64,
    db_size_quota_bytes: I64,
    leader: U64,
    raft_index: U64,
    raft_applied_index: U64,
    flags: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<StatusFields>() == 56);

const STATUS_IS_LEARNER: u8 = 1;

impl MemberStatus {
    fn encode(&self, output: &mut Vec<u8>) {
        let fields = StatusFields {
            db_size_bytes: I64::new(self.db_size_bytes),
            db_size_in_use_bytes: I64::new(self.db_size_in_use_bytes),
            db_size_quota_bytes: I64::new(self.db_size_quota_bytes),
            leader: U64::new(self.leader),
            raft_index: U64::new(self.raft_index),
            raft_applied_index: U64::new(self.raft_applied_index),
            flags: flag(self.is_learner, STATUS_IS_LEARNER),
            reserved: [0; 7],
        };
        output.extend_from_slice(fields.as_bytes());
        push_text(output, &self.version);
        push_text(output, &self.storage_version);
        for error in &self.errors {
            push_text(output, error);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<MemberStatus, Malformed> {
        let fields: &StatusFields = reader.fixed()?;
        check_reserved(&fields.reserved)?;
        let mut status = MemberStatus {
            version: reader.text()?.to_owned(),
            storage_version: reader.text()?.to_owned(),
            db_size_bytes: fields.db_size_bytes.get(),
            db_size_in_use_bytes: fields.db_size_in_use_bytes.get(),
            db_size_quota_bytes: fields.db_size_quota_bytes.get(),
            leader: fields.leader.get(),
            raft_index: fields.raft_index.get(),
            raft_applied_index: fields.raft_applied_index.get(),
            is_learner: check_flags(fields.flags, STATUS_IS_LEARNER)? != 0,
            errors: Vec::new(),
        };
        while !reader.is_empty() {
            status.errors.push(reader.text()?.to_owned());
        }
        Ok(status)
    }
}
