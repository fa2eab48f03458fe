//! What a client is answered, in the model's own words.

use engine::api::{self, KvList, ResponseOp};
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
    pub kvs: Vec<Kv>,
    pub is_more: bool,
    pub count: i64,
}

/// The answer of one operation in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OpAnswer {
    Range { revision: i64, range: RangeAnswer },
    Put { revision: i64, previous: Option<Kv> },
    Delete { revision: i64, deleted: i64, previous: Vec<Kv> },
    Txn { is_success: bool, answers: Vec<OpAnswer> },
}

/// The answer of a request; its revision stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    Range(RangeAnswer),
    Put { previous: Option<Kv> },
    Delete { deleted: i64, previous: Vec<Kv> },
    Txn { is_success: bool, answers: Vec<OpAnswer> },
    Compact,
    LeaseGrant { id: i64, ttl_s: i64 },
    LeaseRevoke,
    LeaseKeepAlive { id: i64, ttl_s: i64 },
    LeaseTimeToLive { id: i64, ttl_s: i64, granted_ttl_s: i64 },
    Leases(Vec<i64>),
}

impl Kv {
    /// A key's state as it came over the wire.
    pub fn of(kv: &api::KeyValue<'_>) -> Kv {
        Kv {
            key: kv.key.to_vec(),
            value: kv.value.to_vec(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

fn kvs(list: &KvList) -> Vec<Kv> {
    list.iter().map(|kv| Kv::of(&kv)).collect()
}

impl RangeAnswer {
    fn of(range: &api::RangeResponse) -> RangeAnswer {
        RangeAnswer { kvs: kvs(&range.kvs), is_more: range.more, count: range.count }
    }
}

impl OpAnswer {
    fn of(response: &ResponseOp) -> OpAnswer {
        match response {
            ResponseOp::Range(range) => {
                OpAnswer::Range { revision: range.revision, range: RangeAnswer::of(range) }
            }
            ResponseOp::Put(put) => {
                OpAnswer::Put { revision: put.revision, previous: kvs(&put.prev_kv).pop() }
            }
            ResponseOp::DeleteRange(delete) => OpAnswer::Delete {
                revision: delete.revision,
                deleted: delete.deleted,
                previous: kvs(&delete.prev_kvs),
            },
            ResponseOp::Txn(txn) => OpAnswer::Txn {
                is_success: txn.succeeded,
                answers: txn.responses.iter().map(OpAnswer::of).collect(),
            },
        }
    }
}

impl Answer {
    /// An answer as it came over the wire; `None` for one that the model does not know.
    pub fn of(answer: &wire::Answer) -> Option<Answer> {
        Some(match answer {
            wire::Answer::Range(range) => Answer::Range(RangeAnswer::of(range)),
            wire::Answer::Put(put) => Answer::Put { previous: kvs(&put.prev_kv).pop() },
            wire::Answer::DeleteRange(delete) => {
                Answer::Delete { deleted: delete.deleted, previous: kvs(&delete.prev_kvs) }
            }
            wire::Answer::Txn(txn) => Answer::Txn {
                is_success: txn.succeeded,
                answers: txn.responses.iter().map(OpAnswer::of).collect(),
            },
            wire::Answer::Compact => Answer::Compact,
            wire::Answer::LeaseGrant { id, ttl_s } => Answer::LeaseGrant { id: *id, ttl_s: *ttl_s },
            wire::Answer::LeaseRevoke => Answer::LeaseRevoke,
            wire::Answer::LeaseKeepAlive { id, ttl_s } => {
                Answer::LeaseKeepAlive { id: *id, ttl_s: *ttl_s }
            }
            wire::Answer::LeaseTimeToLive(lease) => Answer::LeaseTimeToLive {
                id: lease.id,
                ttl_s: lease.ttl_s,
                granted_ttl_s: lease.granted_ttl_s,
            },
            wire::Answer::Leases(ids) => Answer::Leases(ids.clone()),
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
