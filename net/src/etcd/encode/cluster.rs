//! Answers about the member and the cluster that are asked for often enough, or are simple
//! enough, to be written without their generated types.

use engine::api::AlarmType;

use super::Header;
use crate::etcd::protobuf::writer;

/// An alarm that is up, and on which member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmMember {
    /// The member; 0 if nobody knows which one is corrupt.
    pub member_id: u64,
    /// What is wrong.
    pub alarm: AlarmType,
}

/// Writes an answer that is a header and nothing else, or nothing at all: `None` is how
/// Defragment and MoveLeader answer.
pub fn encode_header_only(out: &mut Vec<u8>, header: Option<&Header>) {
    if let Some(header) = header {
        header.encode(out);
    }
}

/// Writes an `etcdserverpb.AlarmResponse`.
pub fn encode_alarms(
    out: &mut Vec<u8>,
    header: &Header,
    alarms: impl IntoIterator<Item = AlarmMember>,
) {
    header.encode(out);
    for AlarmMember { member_id, alarm } in alarms {
        let alarm = alarm as u64;
        let size = writer::uint64_size_bytes(1, member_id) + writer::uint64_size_bytes(2, alarm);
        writer::message_head(out, 2, size);
        writer::uint64(out, 1, member_id);
        writer::uint64(out, 2, alarm);
    }
}

/// Writes an `etcdserverpb.HashResponse`.
pub fn encode_hash(out: &mut Vec<u8>, header: &Header, hash: u32) {
    header.encode(out);
    writer::uint64(out, 2, u64::from(hash));
}

/// Writes an `etcdserverpb.HashKVResponse`: the hash of what was stored up to `hash_revision`.
pub fn encode_hash_kv(
    out: &mut Vec<u8>,
    header: &Header,
    hash: u32,
    compact_revision: i64,
    hash_revision: i64,
) {
    header.encode(out);
    writer::uint64(out, 2, u64::from(hash));
    writer::int64(out, 3, compact_revision);
    writer::int64(out, 4, hash_revision);
}

/// Writes an `etcdserverpb.SnapshotResponse`, which has no header: bytes still to come after
/// these, a piece, and the version of the storage it comes from.
pub fn encode_snapshot(out: &mut Vec<u8>, remaining_bytes: u64, blob: &[u8], version: &str) {
    out.reserve(blob.len() + version.len() + 32);
    writer::uint64(out, 2, remaining_bytes);
    writer::bytes(out, 3, blob);
    writer::bytes(out, 4, version.as_bytes());
}

/// Writes a `grpc.health.v1.HealthCheckResponse`.
pub fn encode_health_check(out: &mut Vec<u8>, is_serving: bool) {
    writer::uint64(out, 1, if is_serving { 1 } else { 2 });
}

/// Writes the `grpc.health.v1.HealthCheckResponse` of a watch on a service that is not there.
pub fn encode_health_unknown_service(out: &mut Vec<u8>) {
    writer::uint64(out, 1, 3);
}
