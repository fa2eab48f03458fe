//! Answers of the service KV, all but the transaction's.
//!
//! Their header's revision is the answer's own; only a stream of ranges is told it, since all
//! its pieces speak of one pinned revision.

use engine::api::{DeleteRangeResponse, KeyValue, KvList, PutResponse, RangeResponse};

use super::{Header, Responder};
use crate::etcd::protobuf::writer;

/// Size of a `mvccpb.KeyValue`, without key and length.
fn key_value_size_bytes(kv: &KeyValue<'_>) -> usize {
    writer::bytes_size_bytes(1, kv.key)
        + writer::int64_size_bytes(2, kv.create_revision)
        + writer::int64_size_bytes(3, kv.mod_revision)
        + writer::int64_size_bytes(4, kv.version)
        + writer::bytes_size_bytes(5, kv.value)
        + writer::int64_size_bytes(6, kv.lease)
}

/// Size of what [`key_value`] writes.
pub(super) fn key_value_field_size_bytes(field: u32, kv: &KeyValue<'_>) -> usize {
    writer::length_delimited_size_bytes(field, key_value_size_bytes(kv))
}

/// Writes a `mvccpb.KeyValue` as a field.
pub(super) fn key_value(out: &mut Vec<u8>, field: u32, kv: &KeyValue<'_>) {
    writer::message_head(out, field, key_value_size_bytes(kv));
    writer::bytes(out, 1, kv.key);
    writer::int64(out, 2, kv.create_revision);
    writer::int64(out, 3, kv.mod_revision);
    writer::int64(out, 4, kv.version);
    writer::bytes(out, 5, kv.value);
    writer::int64(out, 6, kv.lease);
}

fn key_values(out: &mut Vec<u8>, field: u32, kvs: &KvList) {
    out.reserve(kvs.size_bytes());
    for kv in kvs.iter() {
        key_value(out, field, &kv);
    }
}

pub(super) fn range_body(out: &mut Vec<u8>, header: &Header, answer: &RangeResponse) {
    header.encode(out);
    key_values(out, 2, &answer.kvs);
    writer::boolean(out, 3, answer.more);
    writer::int64(out, 4, answer.count);
}

pub(super) fn put_body(out: &mut Vec<u8>, header: &Header, answer: &PutResponse) {
    assert!(answer.prev_kv.len() <= 1);
    header.encode(out);
    key_values(out, 2, &answer.prev_kv);
}

pub(super) fn delete_range_body(out: &mut Vec<u8>, header: &Header, answer: &DeleteRangeResponse) {
    header.encode(out);
    writer::int64(out, 2, answer.deleted);
    key_values(out, 3, &answer.prev_kvs);
}

/// Writes an `etcdserverpb.RangeResponse`.
pub fn encode_range(out: &mut Vec<u8>, responder: &Responder, answer: &RangeResponse) {
    range_body(out, &responder.at(answer.revision), answer);
}

/// Writes an `etcdserverpb.RangeStreamResponse`. Only the last piece has a `header`, and with it
/// count and `more`; of the others only the key-values are sent.
pub fn encode_range_stream(out: &mut Vec<u8>, header: Option<&Header>, piece: &RangeResponse) {
    writer::message(out, 1, piece.kvs.size_bytes(), |out| match header {
        Some(header) => range_body(out, header, piece),
        None => key_values(out, 2, &piece.kvs),
    });
}

/// Writes an `etcdserverpb.PutResponse`.
pub fn encode_put(out: &mut Vec<u8>, responder: &Responder, answer: &PutResponse) {
    put_body(out, &responder.at(answer.revision), answer);
}

/// Writes an `etcdserverpb.DeleteRangeResponse`.
pub fn encode_delete_range(out: &mut Vec<u8>, responder: &Responder, answer: &DeleteRangeResponse) {
    delete_range_body(out, &responder.at(answer.revision), answer);
}

/// Writes an `etcdserverpb.CompactionResponse`; its revision is the current one.
pub fn encode_compaction(out: &mut Vec<u8>, header: &Header) {
    header.encode(out);
}
