//! What a client asks, as etcd's messages.
//!
//! The generated messages encode here, so that the members' own readers meet another writer.
//! Source: fact sheet of the etcd v3 API, section 2.

use net::etcd::method::Method;
use net::etcd::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as OneOp;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use prost::Message;

use crate::model::watch::Interest;
use crate::model::{Compare, Delete, Op, Put, Range, Relation, Request, Txn, Value};

/// The method that a request calls, and its message.
pub fn message_of(request: &Request) -> (Method, Vec<u8>) {
    match request {
        Request::Range(one) => (Method::Range, range(one).encode_to_vec()),
        Request::Put(one) => (Method::Put, put(one).encode_to_vec()),
        Request::Delete(one) => (Method::DeleteRange, delete(one).encode_to_vec()),
        Request::Txn(one) => (Method::Txn, txn(one).encode_to_vec()),
        Request::Compact { revision, is_physical } => {
            let compact = pb::CompactionRequest { revision: *revision, physical: *is_physical };
            (Method::Compact, compact.encode_to_vec())
        }
        Request::LeaseGrant { id, ttl_s } => {
            let grant = pb::LeaseGrantRequest { ttl: *ttl_s, id: *id };
            (Method::LeaseGrant, grant.encode_to_vec())
        }
        Request::LeaseRevoke { id } => {
            (Method::LeaseRevoke, pb::LeaseRevokeRequest { id: *id }.encode_to_vec())
        }
        Request::LeaseKeepAlive { id } => {
            (Method::LeaseKeepAlive, pb::LeaseKeepAliveRequest { id: *id }.encode_to_vec())
        }
        Request::LeaseTimeToLive { id } => {
            let ask = pb::LeaseTimeToLiveRequest { id: *id, keys: false };
            (Method::LeaseTimeToLive, ask.encode_to_vec())
        }
        Request::Leases => (Method::LeaseLeases, pb::LeaseLeasesRequest {}.encode_to_vec()),
    }
}

/// A watch under a number.
pub fn watch(interest: &Interest, start_revision: i64, watch_id: i64) -> Vec<u8> {
    let mut filters = Vec::new();
    if interest.is_without_puts {
        filters.push(FilterType::Noput as i32);
    }
    if interest.is_without_deletes {
        filters.push(FilterType::Nodelete as i32);
    }
    let create = pb::WatchCreateRequest {
        key: interest.key.clone().into(),
        range_end: interest.range_end.clone().into(),
        start_revision,
        progress_notify: true,
        filters,
        prev_kv: interest.wants_previous,
        watch_id,
        fragment: false,
    };
    let request_union = Some(RequestUnion::CreateRequest(create));
    pb::WatchRequest { request_union }.encode_to_vec()
}

/// The question how far the watches of a stream are.
pub fn progress() -> Vec<u8> {
    let request_union = Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    pb::WatchRequest { request_union }.encode_to_vec()
}

fn range(range: &Range) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range.key.clone().into(),
        range_end: range.range_end.clone().into(),
        limit: range.limit,
        revision: range.revision,
        sort_order: if range.is_descending { 2 } else { 0 },
        serializable: range.is_serializable,
        keys_only: range.is_keys_only,
        count_only: range.is_count_only,
        min_mod_revision: range.min_mod_revision,
        max_create_revision: range.max_create_revision,
        ..pb::RangeRequest::default()
    }
}

fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.clone().into(),
        value: put.value.clone().into(),
        lease: put.lease,
        prev_kv: put.wants_previous,
        ignore_value: put.ignores_value,
        ignore_lease: put.ignores_lease,
    }
}

fn delete(delete: &Delete) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: delete.key.clone().into(),
        range_end: delete.range_end.clone().into(),
        prev_kv: delete.wants_previous,
    }
}

fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

fn op(op: &Op) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(match op {
            Op::Range(one) => OneOp::RequestRange(range(one)),
            Op::Put(one) => OneOp::RequestPut(put(one)),
            Op::Delete(one) => OneOp::RequestDeleteRange(delete(one)),
            Op::Txn(one) => OneOp::RequestTxn(txn(one)),
        }),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    let (target, union) = match &compare.value {
        Value::Version(number) => (CompareTarget::Version, TargetUnion::Version(*number)),
        Value::Create(number) => (CompareTarget::Create, TargetUnion::CreateRevision(*number)),
        Value::Mod(number) => (CompareTarget::Mod, TargetUnion::ModRevision(*number)),
        Value::Lease(number) => (CompareTarget::Lease, TargetUnion::Lease(*number)),
        Value::Bytes(bytes) => (CompareTarget::Value, TargetUnion::Value(bytes.clone().into())),
    };
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Less => CompareResult::Less,
        Relation::Greater => CompareResult::Greater,
    };
    pb::Compare {
        result: result as i32,
        target: target as i32,
        key: compare.key.clone().into(),
        range_end: compare.range_end.clone().into(),
        target_union: Some(union),
    }
}
