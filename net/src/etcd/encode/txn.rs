//! A transaction's answer, nested ones within.
//!
//! The answers inside carry a header with the revision alone, which old API servers of
//! Kubernetes read; that of a nested transaction is there but all zero.

use engine::api::{ResponseOp, TxnResponse};

use super::kv::{delete_range_body, put_body, range_body};
use super::{Header, Responder};
use crate::etcd::protobuf::writer;

/// What a small answer takes at most: its length fits one byte then.
const SMALL_SIZE_BYTES: usize = 64;

/// Writes an `etcdserverpb.TxnResponse`.
pub fn encode_txn(out: &mut Vec<u8>, responder: &Responder, answer: &TxnResponse) {
    txn_body(out, &responder.at(answer.revision), answer);
}

fn txn_body(out: &mut Vec<u8>, header: &Header, answer: &TxnResponse) {
    header.encode(out);
    writer::boolean(out, 2, answer.succeeded);
    for op in &answer.responses {
        let guess = size_guess_bytes(op);
        writer::message(out, 3, guess, |out| response_op(out, guess, op));
    }
}

fn size_guess_bytes(op: &ResponseOp) -> usize {
    SMALL_SIZE_BYTES
        + match op {
            ResponseOp::Range(range) => range.kvs.size_bytes(),
            ResponseOp::Put(put) => put.prev_kv.size_bytes(),
            ResponseOp::DeleteRange(delete) => delete.prev_kvs.size_bytes(),
            ResponseOp::Txn(txn) => txn.responses.len() * SMALL_SIZE_BYTES,
        }
}

fn response_op(out: &mut Vec<u8>, guess: usize, op: &ResponseOp) {
    match op {
        ResponseOp::Range(range) => writer::message(out, 1, guess, |out| {
            range_body(out, &Header::inner(range.revision), range);
        }),
        ResponseOp::Put(put) => writer::message(out, 2, guess, |out| {
            put_body(out, &Header::inner(put.revision), put);
        }),
        ResponseOp::DeleteRange(delete) => writer::message(out, 3, guess, |out| {
            delete_range_body(out, &Header::inner(delete.revision), delete);
        }),
        ResponseOp::Txn(txn) => writer::message(out, 4, guess, |out| {
            txn_body(out, &Header::default(), txn);
        }),
    }
}
