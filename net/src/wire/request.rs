//! Requests on the wire: a fixed part, then the variable bytes whose sizes stand in it. What is
//! decoded borrows from the received bytes; only a transaction's lists are allocated.
//! Source: docs/format/wire.md; the fields are etcd's (`engine::api`).

use super::error::Malformed;
use super::opcode::Opcode;
use super::reader::{Reader, check_flags, check_reserved, flag, size_field};
use super::txn;
use super::watch::WatchCreateRequest;
use engine::api::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
};
use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a client may ask for after hello. Ping and credit are the session's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Reads keys.
    Range(RangeRequest<'a>),
    /// Writes a key.
    Put(PutRequest<'a>),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest<'a>),
    /// Guards and branches.
    Txn(TxnRequest<'a>),
    /// Drops revisions up to `revision`; `physical` waits until they are gone.
    Compact {
        /// The revision to compact at.
        revision: i64,
        /// Whether to wait for the removal.
        physical: bool,
    },
    /// Opens a watch.
    WatchCreate(WatchCreateRequest<'a>),
    /// Ends the watch of the same request id.
    WatchCancel,
    /// Asks the watch of the same request id for a progress notice.
    WatchProgress,
    /// Grants a lease; id 0 lets the server choose.
    LeaseGrant {
        /// The id wanted, or 0.
        id: i64,
        /// Time to live, in seconds.
        ttl_s: i64,
    },
    /// Revokes a lease.
    LeaseRevoke {
        /// The lease.
        id: i64,
    },
    /// Renews a lease.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
    },
    /// Asks for the remaining time of a lease.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Whether to list the attached keys.
        keys: bool,
    },
    /// Lists the leases.
    Leases,
    /// Asks the member for its state.
    Status,
}

impl<'a> Request<'a> {
    /// The message's number.
    pub fn opcode(&self) -> Opcode {
        match self {
            Request::Range(_) => Opcode::Range,
            Request::Put(_) => Opcode::Put,
            Request::DeleteRange(_) => Opcode::DeleteRange,
            Request::Txn(_) => Opcode::Txn,
            Request::Compact { .. } => Opcode::Compact,
            Request::WatchCreate(_) => Opcode::WatchCreate,
            Request::WatchCancel => Opcode::WatchCancel,
            Request::WatchProgress => Opcode::WatchProgress,
            Request::LeaseGrant { .. } => Opcode::LeaseGrant,
            Request::LeaseRevoke { .. } => Opcode::LeaseRevoke,
            Request::LeaseKeepAlive { .. } => Opcode::LeaseKeepAlive,
            Request::LeaseTimeToLive { .. } => Opcode::LeaseTimeToLive,
            Request::Leases => Opcode::Leases,
            Request::Status => Opcode::Status,
        }
    }

    /// Whether executing it twice may differ from executing it once. A renewal may be repeated.
    pub fn is_write(&self) -> bool {
        match self {
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Compact { .. }
            | Request::LeaseGrant { .. }
            | Request::LeaseRevoke { .. } => true,
            Request::Txn(txn) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                !ops.all(|op| matches!(op, RequestOp::Range(_)))
            }
            Request::Range(_)
            | Request::WatchCreate(_)
            | Request::WatchCancel
            | Request::WatchProgress
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseTimeToLive { .. }
            | Request::Leases
            | Request::Status => false,
        }
    }

    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        match self {
            Request::Range(range) => encode_range(range, output),
            Request::Put(put) => encode_put(put, output),
            Request::DeleteRange(delete) => encode_delete_range(delete, output),
            Request::Txn(txn) => txn::encode_request(txn, output),
            Request::WatchCreate(create) => create.encode(output),
            Request::Compact { revision, physical } => {
                push_numbers([*revision, i64::from(*physical)], output)
            }
            Request::LeaseGrant { id, ttl_s } => push_numbers([*id, *ttl_s], output),
            Request::LeaseTimeToLive { id, keys } => {
                push_numbers([*id, i64::from(*keys)], output);
            }
            Request::LeaseRevoke { id } | Request::LeaseKeepAlive { id } => {
                push_numbers([*id], output);
            }
            Request::WatchCancel | Request::WatchProgress | Request::Leases | Request::Status => {}
        }
    }

    /// Decodes the body of a client's frame other than hello, ping and credit.
    pub(super) fn decode(opcode: Opcode, body: &'a [u8]) -> Result<Request<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let request = match opcode {
            Opcode::Range => Request::Range(decode_range(&mut reader)?),
            Opcode::Put => Request::Put(decode_put(&mut reader)?),
            Opcode::DeleteRange => Request::DeleteRange(decode_delete_range(&mut reader)?),
            Opcode::Txn => Request::Txn(txn::decode_request(&mut reader)?),
            Opcode::Compact => {
                let revision = number(&mut reader)?;
                Request::Compact { revision, physical: switch(&mut reader)? }
            }
            Opcode::WatchCreate => Request::WatchCreate(WatchCreateRequest::decode(&mut reader)?),
            Opcode::WatchCancel => Request::WatchCancel,
            Opcode::WatchProgress => Request::WatchProgress,
            Opcode::LeaseGrant => {
                let id = number(&mut reader)?;
                Request::LeaseGrant { id, ttl_s: number(&mut reader)? }
            }
            Opcode::LeaseRevoke => Request::LeaseRevoke { id: number(&mut reader)? },
            Opcode::LeaseKeepAlive => Request::LeaseKeepAlive { id: number(&mut reader)? },
            Opcode::LeaseTimeToLive => {
                let id = number(&mut reader)?;
                Request::LeaseTimeToLive { id, keys: switch(&mut reader)? }
            }
            Opcode::Leases => Request::Leases,
            Opcode::Status => Request::Status,
            _ => return Err(Malformed::Opcode),
        };
        reader.finish()?;
        Ok(request)
    }
}

fn push_numbers<const COUNT: usize>(numbers: [i64; COUNT], output: &mut Vec<u8>) {
    for number in numbers {
        output.extend_from_slice(&number.to_le_bytes());
    }
}

fn number(reader: &mut Reader<'_>) -> Result<i64, Malformed> {
    Ok(reader.fixed::<I64>()?.get())
}

fn switch(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match number(reader)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::Field("switch")),
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PutFields {
    lease: I64,
    key_size_bytes: U32,
    value_size_bytes: U32,
    flags: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<PutFields>() == 24);

const PUT_PREV_KV: u8 = 1;
const PUT_IGNORE_VALUE: u8 = 2;
const PUT_IGNORE_LEASE: u8 = 4;

pub(super) fn encode_put(put: &PutRequest<'_>, output: &mut Vec<u8>) {
    let fields = PutFields {
        lease: I64::new(put.lease),
        key_size_bytes: size_field(put.key),
        value_size_bytes: size_field(put.value),
        flags: flag(put.prev_kv, PUT_PREV_KV)
            | flag(put.ignore_value, PUT_IGNORE_VALUE)
            | flag(put.ignore_lease, PUT_IGNORE_LEASE),
        reserved: [0; 7],
    };
    output.extend_from_slice(fields.as_bytes());
    output.extend_from_slice(put.key);
    output.extend_from_slice(put.value);
}

pub(super) fn decode_put<'a>(reader: &mut Reader<'a>) -> Result<PutRequest<'a>, Malformed> {
    let fields: &PutFields = reader.fixed()?;
    let flags = check_flags(fields.flags, PUT_PREV_KV | PUT_IGNORE_VALUE | PUT_IGNORE_LEASE)?;
    check_reserved(&fields.reserved)?;
    Ok(PutRequest {
        key: reader.bytes(fields.key_size_bytes.get().into())?,
        value: reader.bytes(fields.value_size_bytes.get().into())?,
        lease: fields.lease.get(),
        prev_kv: flags & PUT_PREV_KV != 0,
        ignore_value: flags & PUT_IGNORE_VALUE != 0,
        ignore_lease: flags & PUT_IGNORE_LEASE != 0,
    })
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RangeFields {
    limit: I64,
    revision: I64,
    min_mod_revision: I64,
    max_mod_revision: I64,
    min_create_revision: I64,
    max_create_revision: I64,
    key_size_bytes: U32,
    range_end_size_bytes: U32,
    sort_order: u8,
    sort_target: u8,
    flags: u8,
    reserved: [u8; 5],
}

const _: () = assert!(size_of::<RangeFields>() == 64);

const RANGE_SERIALIZABLE: u8 = 1;
const RANGE_KEYS_ONLY: u8 = 2;
const RANGE_COUNT_ONLY: u8 = 4;

pub(super) fn encode_range(range: &RangeRequest<'_>, output: &mut Vec<u8>) {
    let fields = RangeFields {
        limit: I64::new(range.limit),
        revision: I64::new(range.revision),
        min_mod_revision: I64::new(range.min_mod_revision),
        max_mod_revision: I64::new(range.max_mod_revision),
        min_create_revision: I64::new(range.min_create_revision),
        max_create_revision: I64::new(range.max_create_revision),
        key_size_bytes: size_field(range.key),
        range_end_size_bytes: size_field(range.range_end),
        sort_order: match range.sort_order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        },
        sort_target: match range.sort_target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        },
        flags: flag(range.serializable, RANGE_SERIALIZABLE)
            | flag(range.keys_only, RANGE_KEYS_ONLY)
            | flag(range.count_only, RANGE_COUNT_ONLY),
        reserved: [0; 5],
    };
    output.extend_from_slice(fields.as_bytes());
    output.extend_from_slice(range.key);
    output.extend_from_slice(range.range_end);
}

pub(super) fn decode_range<'a>(reader: &mut Reader<'a>) -> Result<RangeRequest<'a>, Malformed> {
    let fields: &RangeFields = reader.fixed()?;
    let known = RANGE_SERIALIZABLE | RANGE_KEYS_ONLY | RANGE_COUNT_ONLY;
    let flags = check_flags(fields.flags, known)?;
    check_reserved(&fields.reserved)?;
    Ok(RangeRequest {
        key: reader.bytes(fields.key_size_bytes.get().into())?,
        range_end: reader.bytes(fields.range_end_size_bytes.get().into())?,
        limit: fields.limit.get(),
        revision: fields.revision.get(),
        sort_order: match fields.sort_order {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return Err(Malformed::Field("sort order")),
        },
        sort_target: match fields.sort_target {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => return Err(Malformed::Field("sort target")),
        },
        serializable: flags & RANGE_SERIALIZABLE != 0,
        keys_only: flags & RANGE_KEYS_ONLY != 0,
        count_only: flags & RANGE_COUNT_ONLY != 0,
        min_mod_revision: fields.min_mod_revision.get(),
        max_mod_revision: fields.max_mod_revision.get(),
        min_create_revision: fields.min_create_revision.get(),
        max_create_revision: fields.max_create_revision.get(),
    })
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DeleteRangeFields {
    key_size_bytes: U32,
    range_end_size_bytes: U32,
    flags: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<DeleteRangeFields>() == 16);

const DELETE_PREV_KV: u8 = 1;

pub(super) fn encode_delete_range(delete: &DeleteRangeRequest<'_>, output: &mut Vec<u8>) {
    let fields = DeleteRangeFields {
        key_size_bytes: size_field(delete.key),
        range_end_size_bytes: size_field(delete.range_end),
        flags: flag(delete.prev_kv, DELETE_PREV_KV),
        reserved: [0; 7],
    };
    output.extend_from_slice(fields.as_bytes());
    output.extend_from_slice(delete.key);
    output.extend_from_slice(delete.range_end);
}

pub(super) fn decode_delete_range<'a>(
    reader: &mut Reader<'a>,
) -> Result<DeleteRangeRequest<'a>, Malformed> {
    let fields: &DeleteRangeFields = reader.fixed()?;
    let flags = check_flags(fields.flags, DELETE_PREV_KV)?;
    check_reserved(&fields.reserved)?;
    Ok(DeleteRangeRequest {
        key: reader.bytes(fields.key_size_bytes.get().into())?,
        range_end: reader.bytes(fields.range_end_size_bytes.get().into())?,
        prev_kv: flags & DELETE_PREV_KV != 0,
    })
}
