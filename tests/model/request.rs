//! What a client may ask, owned: a history outlives the buffers that its requests were sent from.

use engine::api::{
    self, CompareResult, CompareTarget, DeleteRangeRequest, Operand, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use net::wire;

/// A read of `[key, range_end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Range {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub limit: i64,
    pub revision: i64,
    pub is_serializable: bool,
    pub is_keys_only: bool,
    pub is_count_only: bool,
    /// Newest key first.
    pub is_descending: bool,
    pub min_mod_revision: i64,
    pub max_create_revision: i64,
}

/// A write of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Put {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub lease: i64,
    pub wants_previous: bool,
    pub ignores_value: bool,
    pub ignores_lease: bool,
}

/// A deletion of `[key, range_end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Delete {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub wants_previous: bool,
}

/// What a guard looks at and compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    Version(i64),
    Create(i64),
    Mod(i64),
    Lease(i64),
    Bytes(Vec<u8>),
}

/// Relation of a guard: current RELATION given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    Greater,
}

/// One guard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Compare {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub relation: Relation,
    pub value: Value,
}

/// One operation of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

/// Guards, then one of two branches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Request {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Compact { revision: i64, is_physical: bool },
    LeaseGrant { id: i64, ttl_s: i64 },
    LeaseRevoke { id: i64 },
    LeaseKeepAlive { id: i64 },
    LeaseTimeToLive { id: i64 },
    Leases,
}

impl Range {
    /// One key.
    pub fn key(key: &[u8]) -> Range {
        Range { key: key.to_vec(), ..Range::default() }
    }

    /// Every key there is.
    pub fn everything() -> Range {
        Range { key: vec![0], range_end: vec![0], ..Range::default() }
    }

    fn wire(&self) -> RangeRequest<'_> {
        RangeRequest {
            key: &self.key,
            range_end: &self.range_end,
            limit: self.limit,
            revision: self.revision,
            serializable: self.is_serializable,
            keys_only: self.is_keys_only,
            count_only: self.is_count_only,
            sort_order: match self.is_descending {
                true => api::SortOrder::Descend,
                false => api::SortOrder::None,
            },
            min_mod_revision: self.min_mod_revision,
            max_create_revision: self.max_create_revision,
            ..RangeRequest::default()
        }
    }
}

impl Put {
    fn wire(&self) -> PutRequest<'_> {
        PutRequest {
            key: &self.key,
            value: &self.value,
            lease: self.lease,
            prev_kv: self.wants_previous,
            ignore_value: self.ignores_value,
            ignore_lease: self.ignores_lease,
        }
    }
}

impl Delete {
    fn wire(&self) -> DeleteRangeRequest<'_> {
        DeleteRangeRequest {
            key: &self.key,
            range_end: &self.range_end,
            prev_kv: self.wants_previous,
        }
    }
}

impl Compare {
    fn wire(&self) -> api::Compare<'_> {
        let (target, operand) = match &self.value {
            Value::Version(number) => (CompareTarget::Version, Operand::Version(*number)),
            Value::Create(number) => (CompareTarget::Create, Operand::CreateRevision(*number)),
            Value::Mod(number) => (CompareTarget::Mod, Operand::ModRevision(*number)),
            Value::Lease(number) => (CompareTarget::Lease, Operand::Lease(*number)),
            Value::Bytes(bytes) => (CompareTarget::Value, Operand::Value(bytes)),
        };
        let result = match self.relation {
            Relation::Equal => CompareResult::Equal,
            Relation::NotEqual => CompareResult::NotEqual,
            Relation::Less => CompareResult::Less,
            Relation::Greater => CompareResult::Greater,
        };
        api::Compare { result, target, key: &self.key, range_end: &self.range_end, operand }
    }
}

impl Txn {
    fn wire(&self) -> TxnRequest<'_> {
        TxnRequest {
            compare: self.compare.iter().map(Compare::wire).collect(),
            success: self.success.iter().map(Op::wire).collect(),
            failure: self.failure.iter().map(Op::wire).collect(),
        }
    }

    /// Whether it may change something.
    pub fn may_write(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Range(_) => false,
            Op::Put(_) | Op::Delete(_) => true,
            Op::Txn(nested) => nested.may_write(),
        })
    }

    fn has_nested(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| matches!(op, Op::Txn(_)))
    }
}

impl Op {
    fn wire(&self) -> RequestOp<'_> {
        match self {
            Op::Range(range) => RequestOp::Range(range.wire()),
            Op::Put(put) => RequestOp::Put(put.wire()),
            Op::Delete(delete) => RequestOp::DeleteRange(delete.wire()),
            Op::Txn(txn) => RequestOp::Txn(txn.wire()),
        }
    }
}

impl Request {
    /// The request as the binary protocol takes it.
    pub fn wire(&self) -> wire::Request<'_> {
        match self {
            Request::Range(range) => wire::Request::Range(range.wire()),
            Request::Put(put) => wire::Request::Put(put.wire()),
            Request::Delete(delete) => wire::Request::DeleteRange(delete.wire()),
            Request::Txn(txn) => wire::Request::Txn(txn.wire()),
            Request::Compact { revision, is_physical } => {
                wire::Request::Compact { revision: *revision, physical: *is_physical }
            }
            Request::LeaseGrant { id, ttl_s } => {
                wire::Request::LeaseGrant { id: *id, ttl_s: *ttl_s }
            }
            Request::LeaseRevoke { id } => wire::Request::LeaseRevoke { id: *id },
            Request::LeaseKeepAlive { id } => wire::Request::LeaseKeepAlive { id: *id },
            Request::LeaseTimeToLive { id } => {
                wire::Request::LeaseTimeToLive { id: *id, keys: false }
            }
            Request::Leases => wire::Request::Leases,
        }
    }

    /// Whether a lost answer leaves open what was done.
    pub fn may_write(&self) -> bool {
        match self {
            Request::Put(_)
            | Request::Delete(_)
            | Request::Compact { .. }
            | Request::LeaseGrant { .. }
            | Request::LeaseRevoke { .. }
            | Request::LeaseKeepAlive { .. } => true,
            Request::Txn(txn) => txn.may_write(),
            Request::Range(_) | Request::LeaseTimeToLive { .. } | Request::Leases => false,
        }
    }

    /// Whether a local, possibly stale answer was asked for.
    pub fn is_serializable(&self) -> bool {
        let is_stale = |op: &Op| matches!(op, Op::Range(range) if range.is_serializable);
        match self {
            Request::Range(range) => range.is_serializable,
            Request::Txn(txn) if !txn.may_write() && !txn.has_nested() => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                let has_ops = 0 < txn.success.len() + txn.failure.len();
                has_ops && ops.all(is_stale)
            }
            Request::Leases => true,
            _ => false,
        }
    }
}
