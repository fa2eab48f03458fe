//! Reading a transaction, nested ones within.
//!
//! What [`engine::api`] has no word for (an operation without a request, a sort number that etcd
//! does not know) must still be refused in etcd's order among the other faults. Such an operation
//! is kept as a *mark*, a range that no client can send ([`check::mark`]), and a transaction with
//! marks never leaves this file: every mark is a fault to the check, and the first is the answer.
//! So is a list that is too long anyway: one operation more than allowed is kept of it, so that a
//! message of empty operations does not take fifty times its size.

use engine::api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operand, PutRequest, RequestOp,
    TxnRequest,
};

use super::kv::{RangeDraft, merge_delete_range, merge_put, merge_range};
use crate::etcd::check;
use crate::etcd::protobuf::reader::{Fields, Malformed};
use crate::etcd::status::{self, Status};

/// Transactions within transactions, the outermost counted. Each level takes at least one
/// operation of the budget, so at etcd's default of 128 operations this refuses nothing more.
pub const TXN_DEPTH_MAX: usize = 256;

/// Guards and operations that a transaction may have in all, nested ones within; more where the
/// operations limit alone allows more. etcd's limit is one of a level: four bytes a nested
/// transaction would become a hundred in memory, and a million of them fit into a request.
pub const TXN_ELEMENTS_MAX: usize = 16 * 1024;

const _: () = assert!(TXN_ELEMENTS_MAX * size_of::<RequestOp<'_>>() <= 4 << 20);

/// Reads an `etcdserverpb.TxnRequest`. `ops_max` is the operations limit of
/// [`check::check_txn`], which the caller still has to ask.
///
/// Errors: malformed bytes; too many levels or elements in all, as too many operations; the first fault in etcd's
/// order if there is one that the result could not carry.
pub fn decode_txn(message: &[u8], ops_max: usize) -> Result<TxnRequest<'_>, Status> {
    let elements_left = TXN_ELEMENTS_MAX.max(ops_max.saturating_mul(LISTS));
    let mut reading = Reading { ops_max, elements_left, has_mark: false, is_too_large: false };
    let mut txn = TxnRequest::default();
    if let Err(malformed) = reading.merge_txn(&mut txn, message, TXN_DEPTH_MAX) {
        return Err(match malformed {
            Malformed::TooDeep if reading.is_too_large => status::TOO_MANY_OPS,
            _ => malformed.into(),
        });
    }
    if reading.has_mark {
        check::check_marked(&txn, ops_max)?;
    }
    Ok(txn)
}

struct Reading {
    ops_max: usize,
    /// Whether something was read that must be refused, if it still stands in the end.
    has_mark: bool,
    /// Guards and operations that may still be kept.
    elements_left: usize,
    is_too_large: bool,
}

/// An operation as far as it is read: of a union the last kind stands, the same kind is merged.
#[derive(Default)]
enum OpDraft<'a> {
    #[default]
    Missing,
    Range(RangeDraft<'a>),
    Put(PutRequest<'a>),
    DeleteRange(DeleteRangeRequest<'a>),
    Txn(TxnRequest<'a>),
}

impl Reading {
    fn merge_txn<'a>(
        &mut self,
        txn: &mut TxnRequest<'a>,
        message: &'a [u8],
        depth_left: usize,
    ) -> Result<(), Malformed> {
        if depth_left == 0 {
            self.is_too_large = true;
            return Err(Malformed::TooDeep);
        }
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => {
                    let compare = read_compare(value.bytes()?)?;
                    self.push(&mut txn.compare, compare)?;
                }
                2 => {
                    let op = self.read_op(value.bytes()?, depth_left)?;
                    self.push(&mut txn.success, op)?;
                }
                3 => {
                    let op = self.read_op(value.bytes()?, depth_left)?;
                    self.push(&mut txn.failure, op)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps an element of a list, up to the one that makes it too long.
    fn push<T>(&mut self, list: &mut Vec<T>, element: T) -> Result<(), Malformed> {
        self.has_mark |= self.ops_max <= list.len();
        if self.ops_max < list.len() {
            return Ok(());
        }
        let Some(elements_left) = self.elements_left.checked_sub(1) else {
            self.is_too_large = true;
            return Err(Malformed::TooDeep);
        };
        self.elements_left = elements_left;
        list.push(element);
        Ok(())
    }

    fn read_op<'a>(
        &mut self,
        message: &'a [u8],
        depth_left: usize,
    ) -> Result<RequestOp<'a>, Malformed> {
        let mut draft = OpDraft::Missing;
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field()? {
            draft = match (number, draft) {
                (1, OpDraft::Range(mut range)) => {
                    merge_range(&mut range, value.bytes()?)?;
                    OpDraft::Range(range)
                }
                (1, _) => {
                    let mut range = RangeDraft::default();
                    merge_range(&mut range, value.bytes()?)?;
                    OpDraft::Range(range)
                }
                (2, draft) => {
                    let mut put =
                        if let OpDraft::Put(put) = draft { put } else { PutRequest::default() };
                    merge_put(&mut put, value.bytes()?)?;
                    OpDraft::Put(put)
                }
                (3, draft) => {
                    let mut delete = match draft {
                        OpDraft::DeleteRange(delete) => delete,
                        _ => DeleteRangeRequest::default(),
                    };
                    merge_delete_range(&mut delete, value.bytes()?)?;
                    OpDraft::DeleteRange(delete)
                }
                (4, draft) => {
                    let mut txn =
                        if let OpDraft::Txn(txn) = draft { txn } else { TxnRequest::default() };
                    self.merge_txn(&mut txn, value.bytes()?, depth_left - 1)?;
                    OpDraft::Txn(txn)
                }
                (_, draft) => draft,
            };
        }
        Ok(self.finish_op(draft))
    }

    fn finish_op<'a>(&mut self, draft: OpDraft<'a>) -> RequestOp<'a> {
        match draft {
            OpDraft::Put(put) => RequestOp::Put(put),
            OpDraft::DeleteRange(delete) => RequestOp::DeleteRange(delete),
            OpDraft::Txn(txn) => RequestOp::Txn(txn),
            OpDraft::Missing => {
                self.has_mark = true;
                RequestOp::Range(check::mark::OP_MISSING)
            }
            // A range without a key is refused whatever else it says; made plain, it cannot be
            // taken for a mark.
            OpDraft::Range(range) if range.request.key.is_empty() => {
                RequestOp::Range(engine::api::RangeRequest::default())
            }
            OpDraft::Range(range) => RequestOp::Range(range.finish().unwrap_or_else(|| {
                self.has_mark = true;
                check::mark::SORT_UNKNOWN
            })),
        }
    }
}

fn read_compare(message: &[u8]) -> Result<Compare<'_>, Malformed> {
    let mut compare = Compare::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => compare.result = compare_result(value.enumeration()?),
            2 => compare.target = compare_target(value.enumeration()?),
            3 => compare.key = value.bytes()?,
            4 => compare.operand = Operand::Version(value.int64()?),
            5 => compare.operand = Operand::CreateRevision(value.int64()?),
            6 => compare.operand = Operand::ModRevision(value.int64()?),
            7 => compare.operand = Operand::Value(value.bytes()?),
            8 => compare.operand = Operand::Lease(value.int64()?),
            64 => compare.range_end = value.bytes()?,
            _ => {}
        }
    }
    Ok(compare)
}

pub(in crate::etcd) fn compare_result(number: i32) -> CompareResult {
    match number {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => CompareResult::Unknown,
    }
}

pub(in crate::etcd) fn compare_target(number: i32) -> CompareTarget {
    match number {
        0 => CompareTarget::Version,
        1 => CompareTarget::Create,
        2 => CompareTarget::Mod,
        3 => CompareTarget::Value,
        4 => CompareTarget::Lease,
        _ => CompareTarget::Unknown,
    }
}

/// Lists of a transaction: guards, and operations for either outcome.
const LISTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// A transaction of `width` nested ones, each of which is the same one level less.
    fn nested(width: usize, levels: usize) -> Vec<u8> {
        let inner = if levels == 0 { Vec::new() } else { nested(width, levels - 1) };
        let field = |number: u8, bytes: &[u8]| {
            let mut out = vec![number << 3 | 2];
            let mut size = bytes.len();
            while 0x7f < size {
                out.push(size as u8 | 0x80);
                size >>= 7;
            }
            out.push(size as u8);
            out.extend_from_slice(bytes);
            out
        };
        if levels == 0 { inner } else { field(2, &field(4, &inner)).repeat(width) }
    }

    #[test]
    fn nested_transactions_are_bounded_in_all() {
        let wide = nested(64, 2);
        assert_eq!(decode_txn(&wide, 128).expect("4,160 operations").success.len(), 64);
        // Each level keeps etcd's limit; all together are 27,930 operations in 115 KiB.
        let deep = nested(30, 3);
        assert!(deep.len() < 200_000);
        assert_eq!(decode_txn(&deep, 128), Err(status::TOO_MANY_OPS));
        // Who raises the limit of a level may send that many.
        let flat = nested(20_000, 1);
        assert_eq!(decode_txn(&flat, 20_000).expect("as many as asked for").success.len(), 20_000);
    }
}
