//! What etcd refuses by looking at a request alone, before anything is replicated: the same
//! faults, in the same order, with the same errors.
//!
//! Source: fact sheet of etcd's behaviour, sections 2, 3 and 4.3.

use engine::api::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
};

use crate::etcd::status::{self, Status};

mod overlap;

/// etcd's default for the operations of a transaction, per list and nested ones included.
pub const TXN_OPS_MAX: usize = 128;

/// etcd's default for the size of a request, in bytes.
pub const REQUEST_SIZE_BYTES_MAX: usize = 1_572_864;

/// What etcd's log entry adds to a request: an id and the field that holds the request. etcd's
/// limit is on that entry, so a value of exactly the limit is refused.
const ENTRY_OVERHEAD_SIZE_BYTES: usize = 18;

/// Placeholders for operations that [`engine::api`] has no word for: ranges without a key, told
/// apart by their limit. They live from the reading of a transaction to its refusal.
pub(in crate::etcd) mod mark {
    use engine::api::{RangeRequest, SortOrder, SortTarget};

    const PLAIN: RangeRequest<'static> = RangeRequest {
        key: &[],
        range_end: &[],
        limit: 0,
        revision: 0,
        sort_order: SortOrder::None,
        sort_target: SortTarget::Key,
        serializable: false,
        keys_only: false,
        count_only: false,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
    };

    /// A range that has a key but a sort number etcd does not know.
    pub const SORT_UNKNOWN: RangeRequest<'static> = RangeRequest { limit: 1, ..PLAIN };
    /// An operation with no request in it.
    pub const OP_MISSING: RangeRequest<'static> = RangeRequest { limit: 2, ..PLAIN };
}

/// Refuses a message that as a log entry of etcd would exceed `size_max_bytes`.
pub fn check_request_size(message_size_bytes: usize, size_max_bytes: usize) -> Result<(), Status> {
    if size_max_bytes < message_size_bytes.saturating_add(ENTRY_OVERHEAD_SIZE_BYTES) {
        return Err(status::REQUEST_TOO_LARGE);
    }
    Ok(())
}

/// The key; the rest of a range cannot be wrong once it is read.
pub fn check_range(request: &RangeRequest<'_>) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    Ok(())
}

/// A range to be answered as a stream: on top of [`check_range`], no order but by key, and no
/// filters by revision.
pub fn check_range_stream(request: &RangeRequest<'_>) -> Result<(), Status> {
    check_range(request)?;
    let is_default_order = match request.sort_order {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !is_default_order {
        return Err(status::RANGE_STREAM_SORT);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters != [0; 4] {
        return Err(status::RANGE_STREAM_FILTER);
    }
    Ok(())
}

/// The key, then that what is kept is not given as well.
pub fn check_put(request: &PutRequest<'_>) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(status::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(status::LEASE_PROVIDED);
    }
    Ok(())
}

/// The key.
pub fn check_delete(request: &DeleteRangeRequest<'_>) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    Ok(())
}

/// Both branches of a transaction and all nested in it: the number of operations, every guard
/// and operation, then that no key is changed twice where etcd does not allow it.
pub fn check_txn(txn: &TxnRequest<'_>, ops_max: usize) -> Result<(), Status> {
    check_ops(txn, ops_max, Marks::None)?;
    overlap::check_overlap(txn)
}

/// Whether a range without a key may stand for something else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    None,
    Some,
}

/// The refusal of a transaction that holds a mark. A mark may be gone again, with an operation
/// that a later one of its union replaced: then this is the first half of [`check_txn`].
pub(in crate::etcd) fn check_marked(txn: &TxnRequest<'_>, ops_max: usize) -> Result<(), Status> {
    check_ops(txn, ops_max, Marks::Some)
}

/// A nested transaction gets what its parent's longest list leaves of the budget, so the
/// recursion ends after `ops_max` levels.
fn check_ops(txn: &TxnRequest<'_>, ops_max: usize, marks: Marks) -> Result<(), Status> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let Some(ops_left) = ops_max.checked_sub(longest) else {
        return Err(status::TOO_MANY_OPS);
    };
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::EMPTY_KEY);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::Range(range) => match marks {
                Marks::Some if *range == mark::SORT_UNKNOWN => {
                    return Err(status::INVALID_SORT_OPTION);
                }
                Marks::Some if *range == mark::OP_MISSING => return Err(status::KEY_NOT_FOUND),
                _ => check_range(range)?,
            },
            RequestOp::Put(put) => check_put(put)?,
            RequestOp::DeleteRange(delete) => check_delete(delete)?,
            RequestOp::Txn(nested) => check_ops(nested, ops_left, marks)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use engine::api::Compare;

    use super::*;

    const KEY: &[u8] = b"k";

    fn range() -> RequestOp<'static> {
        RequestOp::Range(RangeRequest { key: KEY, ..RangeRequest::default() })
    }

    fn txn_of(success: Vec<RequestOp<'static>>) -> TxnRequest<'static> {
        TxnRequest { success, ..TxnRequest::default() }
    }

    #[test]
    fn puts_are_refused_for_the_first_fault() {
        let all_wrong = PutRequest {
            value: b"v",
            lease: 1,
            ignore_value: true,
            ignore_lease: true,
            ..PutRequest::default()
        };
        assert_eq!(check_put(&all_wrong), Err(status::EMPTY_KEY));
        let with_key = PutRequest { key: KEY, ..all_wrong };
        assert_eq!(check_put(&with_key), Err(status::VALUE_PROVIDED));
        let without_value = PutRequest { value: b"", ..with_key };
        assert_eq!(check_put(&without_value), Err(status::LEASE_PROVIDED));
        assert_eq!(check_put(&PutRequest { lease: 0, ..without_value }), Ok(()));
        assert_eq!(check_delete(&DeleteRangeRequest::default()), Err(status::EMPTY_KEY));
    }

    #[test]
    fn a_request_of_exactly_the_limit_is_too_large_already() {
        assert_eq!(check_request_size(1000, REQUEST_SIZE_BYTES_MAX), Ok(()));
        let whole = REQUEST_SIZE_BYTES_MAX;
        assert_eq!(check_request_size(whole, whole), Err(status::REQUEST_TOO_LARGE));
        assert_eq!(check_request_size(whole - ENTRY_OVERHEAD_SIZE_BYTES, whole), Ok(()));
        assert_eq!(check_request_size(usize::MAX, whole), Err(status::REQUEST_TOO_LARGE));
    }

    #[test]
    fn range_streams_take_the_default_order_and_no_filters() {
        let plain = RangeRequest { key: KEY, ..RangeRequest::default() };
        assert_eq!(check_range_stream(&RangeRequest::default()), Err(status::EMPTY_KEY));
        assert_eq!(check_range_stream(&plain), Ok(()));
        let by_value = RangeRequest { sort_target: SortTarget::Value, ..plain };
        assert_eq!(check_range_stream(&by_value), Ok(()));
        let ascending = RangeRequest { sort_order: SortOrder::Ascend, ..plain };
        assert_eq!(check_range_stream(&ascending), Ok(()));
        let descending = RangeRequest { sort_order: SortOrder::Descend, ..plain };
        assert_eq!(check_range_stream(&descending), Err(status::RANGE_STREAM_SORT));
        let ascending_by_value = RangeRequest { sort_order: SortOrder::Ascend, ..by_value };
        assert_eq!(check_range_stream(&ascending_by_value), Err(status::RANGE_STREAM_SORT));
        let filtered = RangeRequest { max_create_revision: 1, ..plain };
        assert_eq!(check_range_stream(&filtered), Err(status::RANGE_STREAM_FILTER));
    }

    #[test]
    fn the_budget_is_shared_with_nested_transactions() {
        assert_eq!(check_txn(&txn_of(vec![range(); 128]), TXN_OPS_MAX), Ok(()));
        let over = txn_of(vec![range(); 129]);
        assert_eq!(check_txn(&over, TXN_OPS_MAX), Err(status::TOO_MANY_OPS));
        // As seen with etcd: 126 operations and a nested one of one pass, 127 and it do not.
        let with_nested = |count: usize| {
            let mut ops = vec![range(); count];
            ops.push(RequestOp::Txn(txn_of(vec![range()])));
            txn_of(ops)
        };
        assert_eq!(check_txn(&with_nested(126), TXN_OPS_MAX), Ok(()));
        assert_eq!(check_txn(&with_nested(127), TXN_OPS_MAX), Err(status::TOO_MANY_OPS));
        let many_guards = TxnRequest {
            compare: vec![Compare { key: KEY, ..Compare::default() }; 129],
            ..TxnRequest::default()
        };
        assert_eq!(check_txn(&many_guards, TXN_OPS_MAX), Err(status::TOO_MANY_OPS));
    }

    #[test]
    fn guards_come_before_operations_and_operations_before_duplicates() {
        let put = RequestOp::Put(PutRequest { key: KEY, ..PutRequest::default() });
        let bad_put = RequestOp::Put(PutRequest {
            key: KEY,
            lease: 1,
            ignore_lease: true,
            ..PutRequest::default()
        });
        let mut txn = TxnRequest {
            compare: vec![Compare::default()],
            success: vec![put.clone(), put],
            failure: vec![bad_put],
        };
        assert_eq!(check_txn(&txn, TXN_OPS_MAX), Err(status::EMPTY_KEY));
        txn.compare.clear();
        assert_eq!(check_txn(&txn, TXN_OPS_MAX), Err(status::LEASE_PROVIDED));
        txn.failure.clear();
        assert_eq!(check_txn(&txn, TXN_OPS_MAX), Err(status::DUPLICATE_KEY));
        txn.success.pop();
        assert_eq!(check_txn(&txn, TXN_OPS_MAX), Ok(()));
    }
}
