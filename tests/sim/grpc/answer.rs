//! etcd's messages, as what a client is answered.
//!
//! Invariant: a message that does not decode, lacks its header or answers something else ends the
//! run: a member wrote it.
//! Source: fact sheet of the etcd v3 API, section 2.

use engine::api::{Event, EventType, KeyValue, KvList};
use net::etcd::method::Method;
use net::etcd::proto::{etcdserverpb as pb, mvccpb};
use pb::response_op::Response as OneOp;
use prost::Message;

use crate::model::{Answer, OpAnswer, RangeAnswer};

/// Revision and answer in the message of a call.
pub fn answer_of(method: Method, message: &[u8]) -> (i64, Answer) {
    match method {
        Method::Range => {
            let told: pb::RangeResponse = decode(message);
            (revision(&told.header), Answer::Range(range(told)))
        }
        Method::Put => {
            let told: pb::PutResponse = decode(message);
            (revision(&told.header), Answer::Put { previous: kvs(&told.prev_kv) })
        }
        Method::DeleteRange => {
            let told: pb::DeleteRangeResponse = decode(message);
            let previous = kvs(&told.prev_kvs);
            (revision(&told.header), Answer::Delete { deleted: told.deleted, previous })
        }
        Method::Txn => {
            let told: pb::TxnResponse = decode(message);
            let answers = told.responses.into_iter().map(op).collect();
            (revision(&told.header), Answer::Txn { is_success: told.succeeded, answers })
        }
        Method::Compact => {
            let told: pb::CompactionResponse = decode(message);
            (revision(&told.header), Answer::Compact)
        }
        lease => lease_answer(lease, message),
    }
}

fn lease_answer(method: Method, message: &[u8]) -> (i64, Answer) {
    match method {
        Method::LeaseGrant => {
            let told: pb::LeaseGrantResponse = decode(message);
            assert_eq!(told.error, "", "never set");
            (revision(&told.header), Answer::LeaseGrant { id: told.id, ttl_s: told.ttl })
        }
        Method::LeaseRevoke => {
            let told: pb::LeaseRevokeResponse = decode(message);
            (revision(&told.header), Answer::LeaseRevoke)
        }
        Method::LeaseKeepAlive => {
            let told: pb::LeaseKeepAliveResponse = decode(message);
            (revision(&told.header), Answer::LeaseKeepAlive { id: told.id, ttl_s: told.ttl })
        }
        Method::LeaseTimeToLive => {
            let told: pb::LeaseTimeToLiveResponse = decode(message);
            let (id, ttl_s, granted_ttl_s) = (told.id, told.ttl, told.granted_ttl);
            (revision(&told.header), Answer::LeaseTimeToLive { id, ttl_s, granted_ttl_s })
        }
        Method::LeaseLeases => {
            let told: pb::LeaseLeasesResponse = decode(message);
            let ids = told.leases.iter().map(|lease| lease.id).collect();
            (revision(&told.header), Answer::Leases(ids))
        }
        other => panic!("nobody calls {other:?}"),
    }
}

/// A message of a watch stream.
pub fn watch(message: &[u8]) -> pb::WatchResponse {
    decode(message)
}

/// The revision that a watch's message stands at.
pub fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    let header = header.as_ref().expect("every answer has a header");
    assert_ne!((header.cluster_id, header.member_id), (0, 0), "somebody answers");
    header.revision
}

/// An event of a watch.
pub fn event(event: &mvccpb::Event) -> Event<'_> {
    let event_type = match event.r#type() {
        mvccpb::event::EventType::Put => EventType::Put,
        mvccpb::event::EventType::Delete => EventType::Delete,
    };
    let kv = kv(event.kv.as_ref().expect("an event is about a key"));
    Event { event_type, kv, prev_kv: event.prev_kv.as_ref().map(self::kv) }
}

fn decode<M: Message + Default>(message: &[u8]) -> M {
    M::decode(message).expect("members' messages decode")
}

fn kvs<'a>(told: impl IntoIterator<Item = &'a mvccpb::KeyValue>) -> KvList {
    told.into_iter().map(kv).collect()
}

fn kv(kv: &mvccpb::KeyValue) -> KeyValue<'_> {
    KeyValue {
        key: &kv.key,
        value: &kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn range(told: pb::RangeResponse) -> RangeAnswer {
    RangeAnswer { kvs: kvs(&told.kvs), is_more: told.more, count: told.count }
}

/// Headers of single operations name a revision and nobody.
fn op_revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("every answer has a header").revision
}

fn op(told: pb::ResponseOp) -> OpAnswer {
    match told.response.expect("an answer of one kind") {
        OneOp::ResponseRange(told) => {
            OpAnswer::Range { revision: op_revision(&told.header), range: range(told) }
        }
        OneOp::ResponsePut(told) => {
            let revision = op_revision(&told.header);
            OpAnswer::Put { revision, previous: kvs(&told.prev_kv) }
        }
        OneOp::ResponseDeleteRange(told) => OpAnswer::Delete {
            revision: op_revision(&told.header),
            deleted: told.deleted,
            previous: kvs(&told.prev_kvs),
        },
        OneOp::ResponseTxn(told) => OpAnswer::Txn {
            is_success: told.succeeded,
            answers: told.responses.into_iter().map(op).collect(),
        },
    }
}
