//! The direct writers against the generated types: the same answer, the same bytes.

use engine::api::{self, Event, EventList, EventType, KeyValue, KvList};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::etcd::decode::WatchFilters;
use crate::etcd::proto::etcdserverpb as pb;
use crate::etcd::proto::{health, mvccpb};
use pb::response_op::Response;

const RESPONDER: Responder =
    Responder { cluster_id: 0xcdf8_181e_3277_8642, member_id: 0x8e9e_05c5_2164_694d, raft_term: 3 };

fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(any::<u8>(), 0..4),
        1 => vec(any::<u8>(), 100..140),
        1 => (0_usize..40_000).prop_map(|size| vec![7; size]),
    ]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![0_i64..3, 100_i64..300, any::<i64>()]
}

type OwnedKv = (Vec<u8>, Vec<u8>, i64, i64, i64, i64);

fn owned_kv() -> impl Strategy<Value = OwnedKv> {
    (some_bytes(), some_bytes(), number(), number(), number(), number())
}

fn borrowed(kv: &OwnedKv) -> KeyValue<'_> {
    KeyValue {
        key: &kv.0,
        value: &kv.1,
        create_revision: kv.2,
        mod_revision: kv.3,
        version: kv.4,
        lease: kv.5,
    }
}

fn kv_list(count_max: usize) -> impl Strategy<Value = KvList> {
    vec(owned_kv(), 0..=count_max).prop_map(|kvs| {
        let mut list = KvList::default();
        kvs.iter().for_each(|kv| list.push(borrowed(kv)));
        list
    })
}

fn range_answer() -> impl Strategy<Value = api::RangeResponse> {
    (number(), kv_list(4), any::<bool>(), number())
        .prop_map(|(revision, kvs, more, count)| api::RangeResponse { revision, kvs, more, count })
}

fn put_answer() -> impl Strategy<Value = api::PutResponse> {
    (number(), kv_list(1)).prop_map(|(revision, prev_kv)| api::PutResponse { revision, prev_kv })
}

fn delete_answer() -> impl Strategy<Value = api::DeleteRangeResponse> {
    (number(), number(), kv_list(3)).prop_map(|(revision, deleted, prev_kvs)| {
        api::DeleteRangeResponse { revision, deleted, prev_kvs }
    })
}

fn txn_answer() -> impl Strategy<Value = api::TxnResponse> {
    let leaf = (number(), any::<bool>()).prop_map(|(revision, succeeded)| api::TxnResponse {
        revision,
        succeeded,
        responses: Vec::new(),
    });
    leaf.prop_recursive(4, 24, 4, |inner| {
        let op = prop_oneof![
            range_answer().prop_map(api::ResponseOp::Range),
            put_answer().prop_map(api::ResponseOp::Put),
            delete_answer().prop_map(api::ResponseOp::DeleteRange),
            inner.prop_map(api::ResponseOp::Txn),
        ];
        (number(), any::<bool>(), vec(op, 0..4)).prop_map(|(revision, succeeded, responses)| {
            api::TxnResponse { revision, succeeded, responses }
        })
    })
}

fn kvs_of(kvs: &KvList) -> Vec<mvccpb::KeyValue> {
    kvs.iter().map(mvccpb::KeyValue::from).collect()
}

fn range_of(header: Header, answer: &api::RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header.into()),
        kvs: kvs_of(&answer.kvs),
        more: answer.more,
        count: answer.count,
    }
}

fn put_of(header: Header, answer: &api::PutResponse) -> pb::PutResponse {
    pb::PutResponse {
        header: Some(header.into()),
        prev_kv: answer.prev_kv.first().map(mvccpb::KeyValue::from),
    }
}

fn delete_of(header: Header, answer: &api::DeleteRangeResponse) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header.into()),
        deleted: answer.deleted,
        prev_kvs: kvs_of(&answer.prev_kvs),
    }
}

fn txn_of(header: Header, answer: &api::TxnResponse) -> pb::TxnResponse {
    let revision_only = |revision| Header { revision, ..Header::default() };
    let response_of = |op: &api::ResponseOp| match op {
        api::ResponseOp::Range(range) => {
            Response::ResponseRange(range_of(revision_only(range.revision), range))
        }
        api::ResponseOp::Put(put) => {
            Response::ResponsePut(put_of(revision_only(put.revision), put))
        }
        api::ResponseOp::DeleteRange(delete) => {
            Response::ResponseDeleteRange(delete_of(revision_only(delete.revision), delete))
        }
        api::ResponseOp::Txn(txn) => Response::ResponseTxn(txn_of(Header::default(), txn)),
    };
    pb::TxnResponse {
        header: Some(header.into()),
        succeeded: answer.succeeded,
        responses: answer
            .responses
            .iter()
            .map(|op| pb::ResponseOp { response: Some(response_of(op)) })
            .collect(),
    }
}

/// What a writer adds behind bytes that are there already.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"there".to_vec();
    write(&mut out);
    assert!(out.starts_with(b"there"));
    out.split_off(5)
}

fn event_list() -> impl Strategy<Value = EventList> {
    let event = (any::<bool>(), owned_kv(), proptest::option::of(owned_kv()));
    vec(event, 0..8).prop_map(|events| {
        let mut list = EventList::default();
        for (is_delete, kv, prev_kv) in &events {
            let event_type = if *is_delete { EventType::Delete } else { EventType::Put };
            let prev_kv = prev_kv.as_ref().map(borrowed);
            list.push(Event { event_type, kv: borrowed(kv), prev_kv });
        }
        list
    })
}

fn filters() -> impl Strategy<Value = WatchFilters> {
    let wanted = any::<(bool, bool)>();
    wanted.prop_map(|(no_put, no_delete)| WatchFilters { no_put, no_delete })
}

fn events_of(list: &EventList, filters: WatchFilters, prev_kv: bool) -> Vec<mvccpb::Event> {
    list.iter()
        .filter(|event| match event.event_type {
            EventType::Put => !filters.no_put,
            EventType::Delete => !filters.no_delete,
        })
        .map(|event| mvccpb::Event {
            r#type: i32::from(event.event_type == EventType::Delete),
            kv: Some(event.kv.into()),
            prev_kv: event.prev_kv.filter(|_| prev_kv).map(mvccpb::KeyValue::from),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn ranges(answer in range_answer(), is_last in any::<bool>()) {
        let header = RESPONDER.at(answer.revision);
        let wanted = range_of(header, &answer);
        prop_assert_eq!(
            written(|out| encode_range(out, &RESPONDER, &answer)), wanted.encode_to_vec());
        let piece = if is_last {
            wanted
        } else {
            pb::RangeResponse { kvs: wanted.kvs, ..pb::RangeResponse::default() }
        };
        let wanted = pb::RangeStreamResponse { range_response: Some(piece) };
        let bytes =
            written(|out| encode_range_stream(out, is_last.then_some(&header), &answer));
        prop_assert_eq!(bytes, wanted.encode_to_vec());
    }

    #[test]
    fn puts_and_deletions(put in put_answer(), delete in delete_answer()) {
        let wanted = put_of(RESPONDER.at(put.revision), &put);
        prop_assert_eq!(
            written(|out| encode_put(out, &RESPONDER, &put)), wanted.encode_to_vec());
        let wanted = delete_of(RESPONDER.at(delete.revision), &delete);
        prop_assert_eq!(
            written(|out| encode_delete_range(out, &RESPONDER, &delete)),
            wanted.encode_to_vec());
    }

    #[test]
    fn transactions(answer in txn_answer()) {
        let wanted = txn_of(RESPONDER.at(answer.revision), &answer);
        prop_assert_eq!(
            written(|out| encode_txn(out, &RESPONDER, &answer)), wanted.encode_to_vec());
    }

    #[test]
    fn answers_in_pieces(
        range in range_answer(), delete in delete_answer(), txn in txn_answer(),
        piece_size_bytes in prop_oneof![1_usize..300, 1_usize..100_000],
    ) {
        let whole = [
            written(|out| encode_range(out, &RESPONDER, &range)),
            written(|out| encode_delete_range(out, &RESPONDER, &delete)),
            written(|out| encode_txn(out, &RESPONDER, &txn)),
        ];
        let pieces = [
            AnswerPieces::of_range(&RESPONDER, range),
            AnswerPieces::of_delete_range(&RESPONDER, delete),
            AnswerPieces::of_txn(&RESPONDER, txn),
        ];
        for (whole, mut pieces) in whole.iter().zip(pieces) {
            prop_assert_eq!(pieces.size_bytes(), whole.len());
            let mut joined = Vec::new();
            while 0 < pieces.size_bytes() {
                let before = joined.len();
                pieces.encode_some(&mut joined, piece_size_bytes);
                prop_assert!(before < joined.len());
            }
            prop_assert!(&joined == whole);
        }
    }

    #[test]
    fn leases(id in number(), ttl_s in number(), granted_ttl_s in number(), at in number(),
        keys in vec(some_bytes(), 0..4), ids in vec(number(), 0..5))
    {
        let header = RESPONDER.at(at);
        let wanted = pb::LeaseGrantResponse {
            header: Some(header.into()), id, ttl: ttl_s, error: String::new() };
        prop_assert_eq!(
            written(|out| encode_lease_grant(out, &header, id, ttl_s)), wanted.encode_to_vec());
        let wanted = pb::LeaseKeepAliveResponse { header: Some(header.into()), id, ttl: ttl_s };
        prop_assert_eq!(
            written(|out| encode_lease_keep_alive(out, &header, id, ttl_s)),
            wanted.encode_to_vec());
        let wanted = pb::LeaseTimeToLiveResponse {
            header: Some(header.into()), id, ttl: ttl_s, granted_ttl: granted_ttl_s,
            keys: keys.iter().map(|key| bytes::Bytes::copy_from_slice(key)).collect() };
        let lease = LeaseTimeToLive { id, ttl_s, granted_ttl_s };
        prop_assert_eq!(
            written(|out| encode_lease_time_to_live(
                out, &header, &lease, keys.iter().map(Vec::as_slice))),
            wanted.encode_to_vec());
        let wanted = pb::LeaseLeasesResponse {
            header: Some(header.into()),
            leases: ids.iter().map(|&id| pb::LeaseStatus { id }).collect() };
        prop_assert_eq!(
            written(|out| encode_lease_leases(out, &header, ids.iter().copied())),
            wanted.encode_to_vec());
        let wanted = pb::LeaseRevokeResponse { header: Some(header.into()) };
        prop_assert_eq!(
            written(|out| encode_lease_revoke(out, &header)), wanted.encode_to_vec());
    }

    #[test]
    fn watch_heads(watch_id in number(), created in any::<bool>(), canceled in any::<bool>(),
        compact_revision in number(), cancel_reason in "[a-z :]{0,20}", at in number())
    {
        let header = RESPONDER.at(at);
        let head = WatchHead {
            watch_id, created, canceled, compact_revision, cancel_reason: &cancel_reason };
        let bytes = written(|out| encode_watch(out, &header, &head));
        let wanted = pb::WatchResponse {
            header: Some(header.into()), watch_id, created, canceled, compact_revision,
            cancel_reason, fragment: false, events: Vec::new() };
        prop_assert_eq!(bytes, wanted.encode_to_vec());
    }

    #[test]
    fn watch_events(list in event_list(), filters in filters(), prev_kv in any::<bool>(),
        watch_id in number())
    {
        let header = RESPONDER.at(9);
        let mut count = 0;
        let bytes = written(|out| {
            count = encode_watch_events(out, &header, watch_id, filters, prev_kv, list.iter());
        });
        let events = events_of(&list, filters, prev_kv);
        prop_assert_eq!(count, events.len());
        if events.is_empty() {
            prop_assert!(bytes.is_empty());
        } else {
            let wanted = pb::WatchResponse {
                header: Some(header.into()), watch_id, events, ..pb::WatchResponse::default() };
            prop_assert_eq!(bytes, wanted.encode_to_vec());
        }
    }

    #[test]
    fn watch_fragments(list in event_list(), filters in filters(), prev_kv in any::<bool>(),
        size_max in prop_oneof![0_usize..400, 1000_usize..100_000])
    {
        let header = RESPONDER.at(9);
        let mut pieces =
            WatchFragments::new(header, 4, filters, prev_kv, size_max, list.iter());
        let mut messages = Vec::new();
        loop {
            let mut out = Vec::new();
            if !pieces.encode_next(&mut out) {
                prop_assert!(out.is_empty());
                break;
            }
            messages.push(out);
        }
        let mut events = Vec::new();
        for (position, message) in messages.iter().enumerate() {
            let response = pb::WatchResponse::decode(&message[..]).unwrap();
            prop_assert_eq!(response.fragment, position + 1 < messages.len());
            prop_assert_eq!(response.header, Some(header.into()));
            prop_assert_eq!(response.watch_id, 4);
            prop_assert!(message.len() < size_max || response.events.len() == 1);
            // The next event would not have fitted.
            if let Some(next) = messages.get(position + 1) {
                let next = pb::WatchResponse::decode(&next[..]).unwrap();
                let mut longer = response.clone();
                longer.events.push(next.events[0].clone());
                prop_assert!(size_max <= longer.encoded_len());
            }
            events.extend(response.events);
        }
        prop_assert_eq!(events, events_of(&list, filters, prev_kv));
    }

    #[test]
    fn maintenance(hash in any::<u32>(), compact_revision in number(), hash_revision in number(),
        alarms in vec((any::<u64>(), any::<bool>()), 0..4), blob in some_bytes(), at in number())
    {
        let header = RESPONDER.at(at);
        let wanted = pb::HashResponse { header: Some(header.into()), hash };
        prop_assert_eq!(written(|out| encode_hash(out, &header, hash)), wanted.encode_to_vec());
        let wanted = pb::HashKvResponse {
            header: Some(header.into()), hash, compact_revision, hash_revision };
        prop_assert_eq!(
            written(|out| encode_hash_kv(out, &header, hash, compact_revision, hash_revision)),
            wanted.encode_to_vec());
        let alarm_of = |&(member_id, is_corrupt): &(u64, bool)| AlarmMember {
            member_id,
            alarm: if is_corrupt { api::AlarmType::Corrupt } else { api::AlarmType::NoSpace },
        };
        let wanted = pb::AlarmResponse {
            header: Some(header.into()),
            alarms: alarms.iter().map(alarm_of).map(pb::AlarmMember::from).collect() };
        prop_assert_eq!(
            written(|out| encode_alarms(out, &header, alarms.iter().map(alarm_of))),
            wanted.encode_to_vec());
        let wanted = pb::SnapshotResponse {
            header: None, remaining_bytes: at.cast_unsigned(), version: "3.6.0".to_owned(),
            blob: bytes::Bytes::copy_from_slice(&blob) };
        prop_assert_eq!(
            written(|out| encode_snapshot(out, at.cast_unsigned(), &blob, "3.6.0")),
            wanted.encode_to_vec());
    }
}

#[test]
fn headers_are_there_even_if_zero_and_left_out_where_etcd_leaves_them_out() {
    assert_eq!(written(|out| encode_compaction(out, &Header::default())), [0x0a, 0]);
    assert!(written(|out| encode_header_only(out, None)).is_empty());
    let header = RESPONDER.at(5);
    let wanted = pb::CompactionResponse { header: Some(header.into()) };
    let bytes = written(|out| encode_header_only(out, Some(&header)));
    assert_eq!(bytes, wanted.encode_to_vec());
    let read = pb::CompactionResponse::decode(&bytes[..]).unwrap().header.unwrap();
    assert_eq!(Header::from(&read), header);
}

#[test]
fn health_and_cold_answers() {
    use health::health_check_response::ServingStatus;
    for (is_serving, status) in [(true, ServingStatus::Serving), (false, ServingStatus::NotServing)]
    {
        let wanted = health::HealthCheckResponse { status: status.into() };
        let bytes = written(|out| encode_health_check(out, is_serving));
        assert_eq!(bytes, wanted.encode_to_vec());
    }
    let wanted = health::HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
    assert_eq!(written(encode_health_unknown_service), wanted.encode_to_vec());
    let status = pb::StatusResponse { version: "3.6.4".to_owned(), ..Default::default() };
    assert_eq!(written(|out| encode_message(out, &status)), status.encode_to_vec());
}
