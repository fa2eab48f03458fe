//! The door: a decoded request is checked as etcd checks it before replication, and becomes a call
//! to the owner of its group. Both protocols come through here, so that they cannot differ.
//!
//! Invariants: a call that leaves here is well-formed; refusals carry etcd's texts, in etcd's order
//! (fact sheet of semantics, sections 2 to 4 and 7); whatever apply needs (ids, clamped TTLs) is in
//! the command.

use bytes::Bytes;
use engine::api::{
    AlarmAction, AlarmType, Command, DeleteRangeRequest, ProposalId, PutRequest, RangeRequest,
    RequestOp, RevokeCause, TxnRequest,
};
use engine::command;
use engine::page::limits::{KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use net::etcd::check;
use net::etcd::status::{self, Status};

use super::Context;
use crate::message::{Call, OwnedRange, ProposalClass};
use crate::replica::lease_clock::{TTL_S_MAX, ttl_s_min};

/// What a put costs against the quota besides its key and value, as etcd counts.
const PUT_COST_BYTES: u64 = 256;
/// What a lease costs against the quota.
const LEASE_COST_BYTES: u64 = 64;

pub(super) fn range(request: &RangeRequest<'_>) -> Result<Call, Status> {
    check::check_range(request)?;
    Ok(Call::Range(OwnedRange::new(request)))
}

pub(super) fn put(context: &mut Context, request: &PutRequest<'_>) -> Result<Call, Status> {
    check::check_put(request)?;
    check_storable(request)?;
    let size_bytes = command::COMMAND_HEADER_SIZE_BYTES
        + request.key.len()
        + request.value.len()
        + COMMAND_SLACK_BYTES;
    let mut bytes = context.entries.take_scratch(size_bytes);
    command::encode_put(request, ProposalId::default(), &mut bytes);
    let checked = check_size(context, &bytes);
    let command = context.entries.lay_out(bytes);
    checked?;
    let class = ProposalClass::Write { cost_bytes: put_cost_bytes(request) };
    Ok(Call::Propose { command, class })
}

pub(super) fn delete_range(
    context: &Context,
    request: &DeleteRangeRequest<'_>,
) -> Result<Call, Status> {
    check::check_delete(request)?;
    encode(context, &Command::DeleteRange(*request), ProposalClass::Other)
}

pub(super) fn txn(context: &Context, request: TxnRequest<'_>) -> Result<Call, Status> {
    check::check_txn(&request, context.config.max_txn_ops)?;
    check_puts_storable(&request)?;
    if is_read_only(&request) {
        let ranges = || request.success.iter().chain(&request.failure);
        // A transaction of guards alone may be stale in etcd; here it is linearizable.
        let serializable = ranges().next().is_some()
            && ranges().all(|op| matches!(op, RequestOp::Range(range) if range.serializable));
        let mut bytes = Vec::new();
        command::encode(&Command::Txn(request), ProposalId::default(), &mut bytes);
        check_size(context, &bytes)?;
        return Ok(Call::ReadTxn { command: bytes, serializable });
    }
    let cost_bytes = txn_cost_bytes(&request);
    let class = match cost_bytes {
        0 => ProposalClass::Other,
        _ => ProposalClass::Write { cost_bytes },
    };
    encode(context, &Command::Txn(request), class)
}

pub(super) fn compact(context: &Context, revision: i64, physical: bool) -> Result<Call, Status> {
    let class = if physical { ProposalClass::PhysicalCompaction } else { ProposalClass::Other };
    encode(context, &Command::Compact { revision }, class)
}

pub(super) fn lease_grant(context: &mut Context, id: i64, ttl_s: i64) -> Result<Call, Status> {
    if TTL_S_MAX < ttl_s {
        return Err(status::LEASE_TTL_TOO_LARGE);
    }
    let ttl_s = ttl_s.max(ttl_s_min(context.config.election_timeout_us));
    let id = if id == 0 { context.random_lease_id() } else { id };
    let class = ProposalClass::Write { cost_bytes: LEASE_COST_BYTES };
    encode(context, &Command::LeaseGrant { id, ttl_s }, class)
}

pub(super) fn lease_revoke(context: &Context, id: i64) -> Result<Call, Status> {
    let command = Command::LeaseRevoke { id, cause: RevokeCause::Client };
    encode(context, &command, ProposalClass::Other)
}

pub(super) fn alarm_change(
    context: &Context,
    action: AlarmAction,
    member_id: u64,
    alarm: AlarmType,
) -> Result<Call, Status> {
    encode(context, &Command::Alarm { action, member_id, alarm }, ProposalClass::Other)
}

/// Fields of a put in an entry besides its key and value; only a hint for the allocation.
const COMMAND_SLACK_BYTES: usize = 24;

fn encode(context: &Context, command: &Command<'_>, class: ProposalClass) -> Result<Call, Status> {
    let mut bytes = Vec::new();
    command::encode(command, ProposalId::default(), &mut bytes);
    propose(context, bytes, class)
}

fn propose(context: &Context, command: Vec<u8>, class: ProposalClass) -> Result<Call, Status> {
    check_size(context, &command)?;
    // The only owner's bytes are taken over as they are.
    Ok(Call::Propose { command: Bytes::from(command).into(), class })
}

fn check_size(context: &Context, command: &[u8]) -> Result<(), Status> {
    if context.config.max_request_bytes < command.len() {
        return Err(status::REQUEST_TOO_LARGE);
    }
    Ok(())
}

/// What a page file can hold, however large a request the member takes: a larger one must not reach
/// the log, since every member would have to apply it.
fn check_storable(request: &PutRequest<'_>) -> Result<(), Status> {
    let fits =
        request.key.len() <= KEY_SIZE_BYTES_MAX && request.value.len() <= VALUE_SIZE_BYTES_MAX;
    if fits { Ok(()) } else { Err(status::REQUEST_TOO_LARGE) }
}

/// The same of all puts, nested ones included; decoding bounded the depth.
fn check_puts_storable(request: &TxnRequest<'_>) -> Result<(), Status> {
    for op in request.success.iter().chain(&request.failure) {
        match op {
            RequestOp::Put(put) => check_storable(put)?,
            RequestOp::Txn(nested) => check_puts_storable(nested)?,
            RequestOp::Range(_) | RequestOp::DeleteRange(_) => {}
        }
    }
    Ok(())
}

fn is_read_only(request: &TxnRequest<'_>) -> bool {
    request.success.iter().chain(&request.failure).all(|op| matches!(op, RequestOp::Range(_)))
}

fn put_cost_bytes(request: &PutRequest<'_>) -> u64 {
    PUT_COST_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// The larger branch counts, nested ones included; 0 when nothing is put.
fn txn_cost_bytes(request: &TxnRequest<'_>) -> u64 {
    let branch = |ops: &[RequestOp<'_>]| {
        ops.iter()
            .map(|op| match op {
                RequestOp::Put(put) => put_cost_bytes(put),
                RequestOp::Txn(nested) => txn_cost_bytes(nested),
                RequestOp::Range(_) | RequestOp::DeleteRange(_) => 0,
            })
            .sum::<u64>()
    };
    branch(&request.success).max(branch(&request.failure))
}
