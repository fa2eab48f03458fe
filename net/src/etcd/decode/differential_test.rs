//! The borrowing readers against the generated types: the same bytes, the same meaning, the same
//! verdict on bytes that are no message.

use engine::api::{self, Compare, Operand, SortOrder, SortTarget};
use proptest::prelude::*;
use prost::Message;

use super::txn::{compare_result, compare_target};
use super::*;
use crate::etcd::check;
use crate::etcd::proto::etcdserverpb as pb;
use crate::etcd::proto::etcdserverpb::watch_request::RequestUnion;
use crate::etcd::status;
use crate::etcd::testing::{DELETE_RANGE, PUT, RANGE, TWO_INTEGERS, TXN, WATCH, damaged};

fn range_of(range: &pb::RangeRequest) -> Option<api::RangeRequest<'_>> {
    Some(api::RangeRequest {
        key: &range.key,
        range_end: &range.range_end,
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return None,
        },
        sort_target: match range.sort_target {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => return None,
        },
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    })
}

fn put_of(put: &pb::PutRequest) -> api::PutRequest<'_> {
    api::PutRequest {
        key: &put.key,
        value: &put.value,
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

fn delete_of(delete: &pb::DeleteRangeRequest) -> api::DeleteRangeRequest<'_> {
    api::DeleteRangeRequest {
        key: &delete.key,
        range_end: &delete.range_end,
        prev_kv: delete.prev_kv,
    }
}

fn compare_of(compare: &pb::Compare) -> Compare<'_> {
    use pb::compare::TargetUnion;
    Compare {
        result: compare_result(compare.result),
        target: compare_target(compare.target),
        key: &compare.key,
        range_end: &compare.range_end,
        operand: match &compare.target_union {
            None => Operand::Missing,
            Some(TargetUnion::Version(version)) => Operand::Version(*version),
            Some(TargetUnion::CreateRevision(revision)) => Operand::CreateRevision(*revision),
            Some(TargetUnion::ModRevision(revision)) => Operand::ModRevision(*revision),
            Some(TargetUnion::Value(value)) => Operand::Value(value),
            Some(TargetUnion::Lease(lease)) => Operand::Lease(*lease),
        },
    }
}

fn ops_of(ops: &[pb::RequestOp]) -> Vec<api::RequestOp<'_>> {
    use pb::request_op::Request;
    ops.iter()
        .map(|op| match op.request.as_ref().expect("a faultless transaction") {
            Request::RequestRange(range) => {
                api::RequestOp::Range(range_of(range).expect("a faultless transaction"))
            }
            Request::RequestPut(put) => api::RequestOp::Put(put_of(put)),
            Request::RequestDeleteRange(delete) => api::RequestOp::DeleteRange(delete_of(delete)),
            Request::RequestTxn(txn) => api::RequestOp::Txn(txn_of(txn)),
        })
        .collect()
}

fn txn_of(txn: &pb::TxnRequest) -> api::TxnRequest<'_> {
    api::TxnRequest {
        compare: txn.compare.iter().map(compare_of).collect(),
        success: ops_of(&txn.success),
        failure: ops_of(&txn.failure),
    }
}

/// etcd's static checks, written down a second time and plainly, on the generated types.
mod plainly {
    use super::pb;
    use super::status::{self, Status};
    use pb::request_op::Request;

    pub fn check(txn: &pb::TxnRequest, ops_max: usize) -> Result<(), Status> {
        ops(txn, ops_max)?;
        changes(&txn.success)?;
        changes(&txn.failure)?;
        Ok(())
    }

    fn ops(txn: &pb::TxnRequest, ops_max: usize) -> Result<(), Status> {
        let longest = *[txn.compare.len(), txn.success.len(), txn.failure.len()]
            .iter()
            .max()
            .expect("three numbers");
        if longest > ops_max {
            return Err(status::TOO_MANY_OPS);
        }
        for compare in &txn.compare {
            if compare.key.is_empty() {
                return Err(status::EMPTY_KEY);
            }
        }
        for op in [&txn.success[..], &txn.failure[..]].concat() {
            let key = match &op.request {
                None => return Err(status::KEY_NOT_FOUND),
                Some(Request::RequestTxn(nested)) => {
                    ops(nested, ops_max - longest)?;
                    continue;
                }
                Some(Request::RequestRange(range)) => &range.key,
                Some(Request::RequestPut(put)) => &put.key,
                Some(Request::RequestDeleteRange(delete)) => &delete.key,
            };
            if key.is_empty() {
                return Err(status::EMPTY_KEY);
            }
            match &op.request {
                Some(Request::RequestRange(range))
                    if !(0..=2).contains(&range.sort_order)
                        || !(0..=4).contains(&range.sort_target) =>
                {
                    return Err(status::INVALID_SORT_OPTION);
                }
                Some(Request::RequestPut(put)) => {
                    if put.ignore_value && !put.value.is_empty() {
                        return Err(status::VALUE_PROVIDED);
                    }
                    if put.ignore_lease && put.lease != 0 {
                        return Err(status::LEASE_PROVIDED);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    type Keys = Vec<Vec<u8>>;
    type Ranges = Vec<(Vec<u8>, Vec<u8>)>;

    fn covered(deletes: &Ranges, key: &[u8]) -> bool {
        deletes.iter().any(|(start, end)| engine::api::range_contains(start, end, key))
    }

    /// One list entry a put or deletion, compared each with each.
    fn changes(branch: &[pb::RequestOp]) -> Result<(Keys, Ranges), Status> {
        let requests = || branch.iter().filter_map(|op| op.request.as_ref());
        let mut deletes: Ranges = requests()
            .filter_map(|request| match request {
                Request::RequestDeleteRange(delete) => {
                    Some((delete.key.to_vec(), delete.range_end.to_vec()))
                }
                _ => None,
            })
            .collect();
        let mut puts = Keys::new();
        for request in requests() {
            let Request::RequestTxn(nested) = request else { continue };
            let then = changes(&nested.success)?;
            let otherwise = changes(&nested.failure)?;
            let nested_puts = [&then.0[..], &otherwise.0[..]].concat();
            for key in &nested_puts {
                if puts.contains(key) || covered(&deletes, key) {
                    return Err(status::DUPLICATE_KEY);
                }
            }
            puts.extend(nested_puts);
            deletes.extend(then.1);
            deletes.extend(otherwise.1);
        }
        for request in requests() {
            let Request::RequestPut(put) = request else { continue };
            if puts.contains(&put.key.to_vec()) || covered(&deletes, &put.key) {
                return Err(status::DUPLICATE_KEY);
            }
            puts.push(put.key.to_vec());
        }
        Ok((puts, deletes))
    }
}

/// The generated type's reading; `None` if the bytes are no such message.
fn oracle<M: Message + Default>(message: &[u8]) -> Option<M> {
    M::decode(message).ok()
}

fn is_malformed<T>(read: &Result<T, Status>) -> bool {
    matches!(read, Err(Status { code: Code::Internal, .. }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn ranges(message in damaged(&RANGE)) {
        let read = decode_range(&message);
        let Some(wanted) = oracle::<pb::RangeRequest>(&message) else {
            prop_assert!(is_malformed(&read));
            return Ok(());
        };
        match range_of(&wanted) {
            Some(wanted) => prop_assert_eq!(read, Ok(wanted)),
            None if wanted.key.is_empty() => prop_assert_eq!(read, Err(status::EMPTY_KEY)),
            None => prop_assert_eq!(read, Err(status::INVALID_SORT_OPTION)),
        }
    }

    #[test]
    fn puts(message in damaged(&PUT)) {
        let read = decode_put(&message);
        match oracle::<pb::PutRequest>(&message) {
            Some(wanted) => prop_assert_eq!(read, Ok(put_of(&wanted))),
            None => prop_assert!(is_malformed(&read)),
        }
    }

    #[test]
    fn deletions(message in damaged(&DELETE_RANGE)) {
        let read = decode_delete_range(&message);
        match oracle::<pb::DeleteRangeRequest>(&message) {
            Some(wanted) => prop_assert_eq!(read, Ok(delete_of(&wanted))),
            None => prop_assert!(is_malformed(&read)),
        }
    }

    #[test]
    fn small_requests(message in damaged(&TWO_INTEGERS)) {
        let wanted = oracle::<pb::CompactionRequest>(&message)
            .map(|r| CompactionRequest { revision: r.revision, physical: r.physical });
        prop_assert_eq!(decode_compaction(&message).ok(), wanted);
        let wanted = oracle::<pb::LeaseGrantRequest>(&message)
            .map(|r| LeaseGrantRequest { ttl_s: r.ttl, id: r.id });
        prop_assert_eq!(decode_lease_grant(&message).ok(), wanted);
        let wanted = oracle::<pb::LeaseTimeToLiveRequest>(&message)
            .map(|r| LeaseTimeToLiveRequest { id: r.id, keys: r.keys });
        prop_assert_eq!(decode_lease_time_to_live(&message).ok(), wanted);
        let wanted = oracle::<pb::LeaseRevokeRequest>(&message).map(|r| r.id);
        prop_assert_eq!(decode_lease_revoke(&message).ok(), wanted);
        let wanted = oracle::<pb::LeaseKeepAliveRequest>(&message).map(|r| r.id);
        prop_assert_eq!(decode_lease_keep_alive(&message).ok(), wanted);
    }

    #[test]
    fn watches(message in damaged(&WATCH)) {
        let read = decode_watch(&message);
        let Some(wanted) = oracle::<pb::WatchRequest>(&message) else {
            prop_assert!(is_malformed(&read));
            return Ok(());
        };
        let wanted = match &wanted.request_union {
            None => WatchRequest::Missing,
            Some(RequestUnion::CreateRequest(create)) => {
                WatchRequest::Create(WatchCreateRequest {
                    key: &create.key,
                    range_end: &create.range_end,
                    start_revision: create.start_revision,
                    progress_notify: create.progress_notify,
                    filters: WatchFilters {
                        no_put: create.filters.contains(&0),
                        no_delete: create.filters.contains(&1),
                    },
                    prev_kv: create.prev_kv,
                    watch_id: create.watch_id,
                    fragment: create.fragment,
                })
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                WatchRequest::Cancel { watch_id: cancel.watch_id }
            }
            Some(RequestUnion::ProgressRequest(_)) => WatchRequest::Progress,
        };
        prop_assert_eq!(read, Ok(wanted));
    }

    #[test]
    fn transactions(message in damaged(&TXN), ops_max in 0_usize..12) {
        let read = decode_txn(&message, ops_max);
        let Some(wanted) = oracle::<pb::TxnRequest>(&message) else {
            prop_assert!(is_malformed(&read));
            return Ok(());
        };
        let verdict = plainly::check(&wanted, ops_max);
        let ours = read.as_ref().map_err(Clone::clone);
        prop_assert_eq!(ours.and_then(|txn| check::check_txn(txn, ops_max)), verdict.clone());
        if verdict.is_ok() {
            prop_assert_eq!(read, Ok(txn_of(&wanted)));
        }
    }
}

#[test]
fn transactions_nest_so_deeply_and_no_deeper() {
    use crate::etcd::protobuf::writer;
    let nested = |levels: usize| {
        (1..levels).fold(Vec::new(), |inner, _| {
            let mut op = Vec::new();
            writer::bytes_element(&mut op, 4, &inner);
            let mut txn = Vec::new();
            writer::bytes_element(&mut txn, 2, &op);
            txn
        })
    };
    let deepest = nested(TXN_DEPTH_MAX);
    let txn = decode_txn(&deepest, TXN_DEPTH_MAX).unwrap();
    assert_eq!(check::check_txn(&txn, TXN_DEPTH_MAX - 1), Ok(()));
    assert_eq!(check::check_txn(&txn, TXN_DEPTH_MAX - 2), Err(status::TOO_MANY_OPS));
    let deeper = nested(TXN_DEPTH_MAX + 1);
    assert_eq!(decode_txn(&deeper, TXN_DEPTH_MAX).err(), Some(status::TOO_MANY_OPS));
}

#[test]
fn a_list_that_is_too_long_is_refused_and_not_kept() {
    use crate::etcd::protobuf::writer;
    for field in [1, 2, 3] {
        let mut element = Vec::new();
        match field {
            1 => writer::bytes(&mut element, 3, b"k"),
            _ => writer::bytes(&mut element, 2, b"\x0a\x01k"),
        }
        let mut txn = Vec::new();
        for _ in 0..4 {
            writer::bytes_element(&mut txn, field, &element);
        }
        assert!(decode_txn(&txn, 4).is_ok());
        assert_eq!(decode_txn(&txn, 3), Err(status::TOO_MANY_OPS));
        // Bytes behind the last one kept are still looked at.
        writer::bytes_element(&mut txn, field, &[0xff]);
        assert!(is_malformed(&decode_txn(&txn, 3)));
    }
}

#[test]
fn a_lone_fault_in_a_branch_not_taken_is_found() {
    use crate::etcd::protobuf::writer;
    let mut missing_op = Vec::new();
    writer::bytes_element(&mut missing_op, 3, b"");
    assert_eq!(decode_txn(&missing_op, 128).err(), Some(status::KEY_NOT_FOUND));
    assert_eq!(decode_txn(&missing_op, 0).err(), Some(status::TOO_MANY_OPS));

    let mut range = Vec::new();
    writer::bytes(&mut range, 1, b"k");
    writer::uint64(&mut range, 6, 5);
    let mut op = Vec::new();
    writer::bytes(&mut op, 1, &range);
    let mut txn = Vec::new();
    writer::bytes(&mut txn, 3, &op);
    assert_eq!(decode_txn(&txn, 128).err(), Some(status::INVALID_SORT_OPTION));
}

/// The random transactions above are worth something only if they meet every verdict.
#[test]
fn random_transactions_meet_every_verdict() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = damaged(&TXN);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..6000 {
        let message = strategy.new_tree(&mut runner).unwrap().current();
        let read = decode_txn(&message, 6);
        let verdict = read.and_then(|txn| {
            check::check_txn(&txn, 6)?;
            let has_nested = txn.success.iter().any(|op| matches!(op, api::RequestOp::Txn(_)));
            Ok(if has_nested { "nested" } else { "plain" })
        });
        let name = match &verdict {
            Ok(name) => (*name).to_owned(),
            Err(status) if status.code == Code::Internal => "malformed".to_owned(),
            Err(status) => status.message.clone().into_owned(),
        };
        *seen.entry(name).or_insert(0) += 1;
    }
    let refusals = [
        status::TOO_MANY_OPS,
        status::EMPTY_KEY,
        status::KEY_NOT_FOUND,
        status::INVALID_SORT_OPTION,
        status::VALUE_PROVIDED,
        status::LEASE_PROVIDED,
        status::DUPLICATE_KEY,
    ];
    let refusals = refusals.iter().map(|status| status.message.as_ref());
    for name in refusals.chain(["plain", "nested", "malformed"]) {
        let count = seen.get(name).copied().unwrap_or(0);
        assert!(20 <= count, "{name}: {count} of {seen:?}");
    }
}
