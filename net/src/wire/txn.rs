//! Transactions on the wire: three counts, then guards and operations one after the other.
//!
//! Invariants: depth is bounded, and a list's memory is reserved only for items that the body can
//! still hold.

use super::error::Malformed;
use super::limits::TXN_DEPTH_MAX;
use super::reader::{Reader, check_reserved, size_field};
use super::reply;
use super::request::{
    decode_delete_range, decode_put, decode_range, encode_delete_range, encode_put, encode_range,
};
use engine::api::{
    Compare, CompareResult, CompareTarget, Operand, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TxnFields {
    compare_count: U32,
    success_count: U32,
    failure_count: U32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<TxnFields>() == 16);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CompareFields {
    number: I64,
    key_size_bytes: U32,
    range_end_size_bytes: U32,
    value_size_bytes: U32,
    result: u8,
    target: u8,
    operand: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<CompareFields>() == 24);

/// Stands before each operation and each answer in a transaction.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OpFields {
    kind: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<OpFields>() == 8);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TxnResponseFields {
    responses_count: U32,
    succeeded: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<TxnResponseFields>() == 8);

const KIND_RANGE: u8 = 1;
const KIND_PUT: u8 = 2;
const KIND_DELETE_RANGE: u8 = 3;
const KIND_TXN: u8 = 4;

/// A number that etcd does not know either: kept, since etcd has a rule for it.
const UNKNOWN: u8 = 255;

pub(super) fn encode_request(txn: &TxnRequest<'_>, output: &mut Vec<u8>) {
    let fields = TxnFields {
        compare_count: count_field(txn.compare.len()),
        success_count: count_field(txn.success.len()),
        failure_count: count_field(txn.failure.len()),
        reserved: [0; 4],
    };
    output.extend_from_slice(fields.as_bytes());
    for compare in &txn.compare {
        encode_compare(compare, output);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        encode_op(op, output);
    }
}

pub(super) fn decode_request<'a>(reader: &mut Reader<'a>) -> Result<TxnRequest<'a>, Malformed> {
    decode_level(reader, 1)
}

fn decode_level<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<TxnRequest<'a>, Malformed> {
    if TXN_DEPTH_MAX < depth {
        return Err(Malformed::TxnDepth);
    }
    let fields: &TxnFields = reader.fixed()?;
    check_reserved(&fields.reserved)?;
    let compare_count =
        reader.check_count(fields.compare_count.get(), size_of::<CompareFields>())?;
    let mut compare = Vec::with_capacity(compare_count);
    for _ in 0..compare_count {
        compare.push(decode_compare(reader)?);
    }
    Ok(TxnRequest {
        compare,
        success: decode_ops(reader, fields.success_count.get(), depth)?,
        failure: decode_ops(reader, fields.failure_count.get(), depth)?,
    })
}

fn decode_ops<'a>(
    reader: &mut Reader<'a>,
    count: u32,
    depth: usize,
) -> Result<Vec<RequestOp<'a>>, Malformed> {
    let count = reader.check_count(count, size_of::<OpFields>() + OP_BODY_SIZE_BYTES_MIN)?;
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let fields: &OpFields = reader.fixed()?;
        check_reserved(&fields.reserved)?;
        ops.push(match fields.kind {
            KIND_RANGE => RequestOp::Range(decode_range(reader)?),
            KIND_PUT => RequestOp::Put(decode_put(reader)?),
            KIND_DELETE_RANGE => RequestOp::DeleteRange(decode_delete_range(reader)?),
            KIND_TXN => RequestOp::Txn(decode_level(reader, depth + 1)?),
            _ => return Err(Malformed::Field("operation")),
        });
    }
    Ok(ops)
}

fn encode_op(op: &RequestOp<'_>, output: &mut Vec<u8>) {
    let kind = match op {
        RequestOp::Range(_) => KIND_RANGE,
        RequestOp::Put(_) => KIND_PUT,
        RequestOp::DeleteRange(_) => KIND_DELETE_RANGE,
        RequestOp::Txn(_) => KIND_TXN,
    };
    output.extend_from_slice(OpFields { kind, reserved: [0; 7] }.as_bytes());
    match op {
        RequestOp::Range(range) => encode_range(range, output),
        RequestOp::Put(put) => encode_put(put, output),
        RequestOp::DeleteRange(delete) => encode_delete_range(delete, output),
        RequestOp::Txn(txn) => encode_request(txn, output),
    }
}

fn encode_compare(compare: &Compare<'_>, output: &mut Vec<u8>) {
    let (operand, number, value): (u8, i64, &[u8]) = match compare.operand {
        Operand::Missing => (0, 0, b""),
        Operand::Version(number) => (1, number, b""),
        Operand::CreateRevision(number) => (2, number, b""),
        Operand::ModRevision(number) => (3, number, b""),
        Operand::Value(value) => (4, 0, value),
        Operand::Lease(number) => (5, number, b""),
    };
    let fields = CompareFields {
        number: I64::new(number),
        key_size_bytes: size_field(compare.key),
        range_end_size_bytes: size_field(compare.range_end),
        value_size_bytes: size_field(value),
        result: match compare.result {
            CompareResult::Equal => 0,
            CompareResult::Greater => 1,
            CompareResult::Less => 2,
            CompareResult::NotEqual => 3,
            CompareResult::Unknown => UNKNOWN,
        },
        target: match compare.target {
            CompareTarget::Version => 0,
            CompareTarget::Create => 1,
            CompareTarget::Mod => 2,
            CompareTarget::Value => 3,
            CompareTarget::Lease => 4,
            CompareTarget::Unknown => UNKNOWN,
        },
        operand,
        reserved: 0,
    };
    output.extend_from_slice(fields.as_bytes());
    for part in [compare.key, compare.range_end, value] {
        output.extend_from_slice(part);
    }
}

fn decode_compare<'a>(reader: &mut Reader<'a>) -> Result<Compare<'a>, Malformed> {
    let fields: &CompareFields = reader.fixed()?;
    check_reserved(&[fields.reserved])?;
    let key = reader.bytes(fields.key_size_bytes.get().into())?;
    let range_end = reader.bytes(fields.range_end_size_bytes.get().into())?;
    let value = reader.bytes(fields.value_size_bytes.get().into())?;
    let number = fields.number.get();
    let operand = match fields.operand {
        0 => Operand::Missing,
        1 => Operand::Version(number),
        2 => Operand::CreateRevision(number),
        3 => Operand::ModRevision(number),
        4 => Operand::Value(value),
        5 => Operand::Lease(number),
        _ => return Err(Malformed::Field("operand")),
    };
    let used = matches!(operand, Operand::Value(_));
    if !used && !value.is_empty() {
        return Err(Malformed::Field("operand size"));
    }
    if (used || operand == Operand::Missing) && number != 0 {
        return Err(Malformed::Field("operand number"));
    }
    let result = match fields.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        UNKNOWN => CompareResult::Unknown,
        _ => return Err(Malformed::Field("compare result")),
    };
    let target = match fields.target {
        0 => CompareTarget::Version,
        1 => CompareTarget::Create,
        2 => CompareTarget::Mod,
        3 => CompareTarget::Value,
        4 => CompareTarget::Lease,
        UNKNOWN => CompareTarget::Unknown,
        _ => return Err(Malformed::Field("compare target")),
    };
    Ok(Compare { result, target, key, range_end, operand })
}

/// A transaction's answer without its own revision, which its header or operation carries.
pub(super) fn encode_response(response: &TxnResponse, output: &mut Vec<u8>) {
    let fields = TxnResponseFields {
        responses_count: count_field(response.responses.len()),
        succeeded: u8::from(response.succeeded),
        reserved: [0; 3],
    };
    output.extend_from_slice(fields.as_bytes());
    for op in &response.responses {
        let (kind, revision) = match op {
            ResponseOp::Range(range) => (KIND_RANGE, range.revision),
            ResponseOp::Put(put) => (KIND_PUT, put.revision),
            ResponseOp::DeleteRange(delete) => (KIND_DELETE_RANGE, delete.revision),
            ResponseOp::Txn(txn) => (KIND_TXN, txn.revision),
        };
        output.extend_from_slice(OpFields { kind, reserved: [0; 7] }.as_bytes());
        output.extend_from_slice(&revision.to_le_bytes());
        match op {
            ResponseOp::Range(range) => reply::encode_range(range, output),
            ResponseOp::Put(put) => reply::encode_put(put, output),
            ResponseOp::DeleteRange(delete) => reply::encode_delete_range(delete, output),
            ResponseOp::Txn(txn) => encode_response(txn, output),
        }
    }
}

pub(super) fn decode_response(
    reader: &mut Reader<'_>,
    revision: i64,
) -> Result<TxnResponse, Malformed> {
    decode_response_level(reader, revision, 1)
}

fn decode_response_level(
    reader: &mut Reader<'_>,
    revision: i64,
    depth: usize,
) -> Result<TxnResponse, Malformed> {
    if TXN_DEPTH_MAX < depth {
        return Err(Malformed::TxnDepth);
    }
    let fields: &TxnResponseFields = reader.fixed()?;
    check_reserved(&fields.reserved)?;
    let succeeded = match fields.succeeded {
        0 => false,
        1 => true,
        _ => return Err(Malformed::Field("succeeded")),
    };
    let item_size_min = size_of::<OpFields>() + size_of::<I64>() + ANSWER_BODY_SIZE_BYTES_MIN;
    let count = reader.check_count(fields.responses_count.get(), item_size_min)?;
    let mut responses = Vec::with_capacity(count);
    for _ in 0..count {
        let fields: &OpFields = reader.fixed()?;
        check_reserved(&fields.reserved)?;
        let revision = reader.fixed::<I64>()?.get();
        responses.push(match fields.kind {
            KIND_RANGE => ResponseOp::Range(reply::decode_range(reader, revision)?),
            KIND_PUT => ResponseOp::Put(reply::decode_put(reader, revision)?),
            KIND_DELETE_RANGE => {
                ResponseOp::DeleteRange(reply::decode_delete_range(reader, revision)?)
            }
            KIND_TXN => ResponseOp::Txn(decode_response_level(reader, revision, depth + 1)?),
            _ => return Err(Malformed::Field("operation")),
        });
    }
    Ok(TxnResponse { revision, succeeded, responses })
}

fn count_field(count: usize) -> U32 {
    U32::new(u32::try_from(count).expect("lists are bounded by the frame"))
}

/// The smallest operation is a deletion's or a transaction's fixed part.
const OP_BODY_SIZE_BYTES_MIN: usize = size_of::<TxnFields>();

/// The smallest answer is a put's, or a transaction's without operations.
const ANSWER_BODY_SIZE_BYTES_MIN: usize = size_of::<TxnResponseFields>();
