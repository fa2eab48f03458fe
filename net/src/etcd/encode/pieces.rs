//! A big answer, encoded a piece at a time.
//!
//! The lengths inside a message come before what they measure, so all sizes are computed first, by
//! one walk over the key-values; then the message leaves in pieces, as far as its reader takes
//! them. Small fields are bytes already, lists of key-values are encoded when they are due.
//! Invariant: the pieces in a row are the bytes of the answer encoded at once, and as many as
//! `size_bytes` said.

use std::collections::VecDeque;

use engine::api::{DeleteRangeResponse, KvList, RangeResponse, ResponseOp, TxnResponse};

use super::kv::{delete_range_body, key_value, key_value_field_size_bytes, put_body};
use super::{Header, Responder};
use crate::etcd::protobuf::writer;

/// What is left to encode of an answer.
#[derive(Debug, Default)]
pub struct AnswerPieces {
    parts: VecDeque<Part>,
    size_bytes: usize,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    /// Key-values from the one at `offset` on, each a field of this number.
    KeyValues {
        field: u32,
        list: KvList,
        offset: usize,
    },
}

impl AnswerPieces {
    /// An `etcdserverpb.RangeResponse`.
    pub fn of_range(responder: &Responder, answer: RangeResponse) -> AnswerPieces {
        range(&responder.at(answer.revision), answer)
    }

    /// An `etcdserverpb.DeleteRangeResponse`.
    pub fn of_delete_range(responder: &Responder, answer: DeleteRangeResponse) -> AnswerPieces {
        delete_range(&responder.at(answer.revision), answer)
    }

    /// An `etcdserverpb.TxnResponse`.
    pub fn of_txn(responder: &Responder, answer: TxnResponse) -> AnswerPieces {
        txn(&responder.at(answer.revision), answer)
    }

    /// Bytes that are left.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Appends about `size_bytes_max` bytes, at least one part of the message unless it is at its
    /// end.
    pub fn encode_some(&mut self, out: &mut Vec<u8>, size_bytes_max: usize) {
        let begin = out.len();
        while out.len() - begin < size_bytes_max {
            match self.parts.front_mut() {
                None => break,
                Some(Part::Bytes(bytes)) => out.extend_from_slice(bytes),
                Some(Part::KeyValues { field, list, offset }) => {
                    while let Some((kv, next)) = list.at(*offset) {
                        if size_bytes_max <= out.len() - begin {
                            break;
                        }
                        key_value(out, *field, &kv);
                        *offset = next;
                    }
                    if list.at(*offset).is_some() {
                        break;
                    }
                }
            }
            self.parts.pop_front();
        }
        let encoded = out.len() - begin;
        assert!(encoded <= self.size_bytes, "sizes were computed before");
        self.size_bytes -= encoded;
        assert!(self.parts.is_empty() == (self.size_bytes == 0));
    }

    fn bytes(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        if !bytes.is_empty() {
            self.size_bytes += bytes.len();
            self.parts.push_back(Part::Bytes(bytes));
        }
    }

    fn key_values(&mut self, field: u32, list: KvList) {
        if !list.is_empty() {
            let sizes = list.iter().map(|kv| key_value_field_size_bytes(field, &kv));
            self.size_bytes += sizes.sum::<usize>();
            self.parts.push_back(Part::KeyValues { field, list, offset: 0 });
        }
    }

    /// Adds a message as a field.
    fn message(&mut self, field: u32, mut message: AnswerPieces) {
        self.bytes(|out| writer::message_head(out, field, message.size_bytes));
        self.size_bytes += message.size_bytes;
        self.parts.append(&mut message.parts);
    }
}

fn range(header: &Header, answer: RangeResponse) -> AnswerPieces {
    let mut pieces = AnswerPieces::default();
    pieces.bytes(|out| header.encode(out));
    pieces.key_values(2, answer.kvs);
    pieces.bytes(|out| {
        writer::boolean(out, 3, answer.more);
        writer::int64(out, 4, answer.count);
    });
    pieces
}

fn delete_range(header: &Header, mut answer: DeleteRangeResponse) -> AnswerPieces {
    let list = std::mem::take(&mut answer.prev_kvs);
    let mut pieces = AnswerPieces::default();
    pieces.bytes(|out| delete_range_body(out, header, &answer));
    pieces.key_values(3, list);
    pieces
}

fn txn(header: &Header, answer: TxnResponse) -> AnswerPieces {
    let mut pieces = AnswerPieces::default();
    pieces.bytes(|out| {
        header.encode(out);
        writer::boolean(out, 2, answer.succeeded);
    });
    for op in answer.responses {
        pieces.message(3, response_op(op));
    }
    pieces
}

fn response_op(op: ResponseOp) -> AnswerPieces {
    let mut pieces = AnswerPieces::default();
    match op {
        ResponseOp::Range(answer) => {
            let header = Header::inner(answer.revision);
            pieces.message(1, range(&header, answer));
        }
        ResponseOp::Put(answer) => {
            let mut put = AnswerPieces::default();
            put.bytes(|out| put_body(out, &Header::inner(answer.revision), &answer));
            pieces.message(2, put);
        }
        ResponseOp::DeleteRange(answer) => {
            let header = Header::inner(answer.revision);
            pieces.message(3, delete_range(&header, answer));
        }
        ResponseOp::Txn(answer) => pieces.message(4, txn(&Header::default(), answer)),
    }
    pieces
}
