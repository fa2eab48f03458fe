//! What a client is answered, in the model's own words.
//!
//! Key-values stay packed as they came: a run keeps those of every answer to its end.

use engine::api::{self, KeyValue, KvList, ResponseOp};
use net::wire;

/// A key's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Kv {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// The answer of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RangeAnswer {
    pub kvs: KvList,
    pub is_more: bool,
    pub count: i64,
}

/// The answer of one operation in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OpAnswer {
    Range { revision: i64, range: RangeAnswer },
    Put { revision: i64, previous: KvList },
    Delete { revision: i64, deleted: i64, previous: KvList },
    Txn { is_success: bool, answers: Vec<OpAnswer> },
}

/// The answer of a request; its revision stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    Range(RangeAnswer),
    Put { previous: KvList },
    Delete { deleted: i64, previous: KvList },
    Txn { is_success: bool, answers: Vec<OpAnswer> },
    Compact,
    LeaseGrant { id: i64, ttl_s: i64 },
    LeaseRevoke,
    LeaseKeepAlive { id: i64, ttl_s: i64 },
    LeaseTimeToLive { id: i64, ttl_s: i64, granted_ttl_s: i64 },
    Leases(Vec<i64>),
}

impl Kv {
    /// As it is told.
    pub fn told(&self) -> KeyValue<'_> {
        KeyValue {
            key: &self.key,
            value: &self.value,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }

    /// The state that was told so.
    pub fn of(told: &KeyValue<'_>) -> Kv {
        Kv {
            key: told.key.to_vec(),
            value: told.value.to_vec(),
            create_revision: told.create_revision,
            mod_revision: told.mod_revision,
            version: told.version,
            lease: told.lease,
        }
    }
}

impl RangeAnswer {
    fn of(range: api::RangeResponse) -> RangeAnswer {
        RangeAnswer { kvs: range.kvs, is_more: range.more, count: range.count }
    }
}

impl OpAnswer {
    fn of(response: ResponseOp) -> OpAnswer {
        match response {
            ResponseOp::Range(range) => {
                OpAnswer::Range { revision: range.revision, range: RangeAnswer::of(range) }
            }
            ResponseOp::Put(put) => OpAnswer::Put { revision: put.revision, previous: put.prev_kv },
            ResponseOp::DeleteRange(delete) => OpAnswer::Delete {
                revision: delete.revision,
                deleted: delete.deleted,
                previous: delete.prev_kvs,
            },
            ResponseOp::Txn(txn) => OpAnswer::Txn {
                is_success: txn.succeeded,
                answers: txn.responses.into_iter().map(OpAnswer::of).collect(),
            },
        }
    }
}

impl Answer {
    /// An answer as it came over the wire; `None` for one that the model does not know.
    pub fn of(answer: wire::Answer) -> Option<Answer> {
        Some(match answer {
            wire::Answer::Range(range) => Answer::Range(RangeAnswer::of(range)),
            wire::Answer::Put(put) => Answer::Put { previous: put.prev_kv },
            wire::Answer::DeleteRange(delete) => {
                Answer::Delete { deleted: delete.deleted, previous: delete.prev_kvs }
            }
            wire::Answer::Txn(txn) => Answer::Txn {
                is_success: txn.succeeded,
                answers: txn.responses.into_iter().map(OpAnswer::of).collect(),
            },
            wire::Answer::Compact => Answer::Compact,
            wire::Answer::LeaseGrant { id, ttl_s } => Answer::LeaseGrant { id, ttl_s },
            wire::Answer::LeaseRevoke => Answer::LeaseRevoke,
            wire::Answer::LeaseKeepAlive { id, ttl_s } => Answer::LeaseKeepAlive { id, ttl_s },
            wire::Answer::LeaseTimeToLive(lease) => Answer::LeaseTimeToLive {
                id: lease.id,
                ttl_s: lease.ttl_s,
                granted_ttl_s: lease.granted_ttl_s,
            },
            wire::Answer::Leases(ids) => Answer::Leases(ids),
            wire::Answer::Ping
            | wire::Answer::Status(_)
            | wire::Answer::MemberList(_)
            | wire::Answer::MemberAdd { .. }
            | wire::Answer::MemberRemove(_)
            | wire::Answer::MemberUpdate(_)
            | wire::Answer::MemberPromote(_)
            | wire::Answer::MoveLeader => return None,
        })
    }
}
