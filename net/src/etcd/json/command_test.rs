//! What is written of a command, read again by the gateway's own reader, is the command.

use super::super::next_request;
use super::write_command;
use crate::etcd::decode::{
    decode_compaction, decode_delete_range, decode_lease_grant, decode_lease_revoke, decode_put,
    decode_txn,
};
use crate::etcd::method::Method;
use engine::api::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operand, PutRequest,
    RangeRequest, RequestOp, RevokeCause, SortOrder, SortTarget, TxnRequest,
};

fn text(command: &Command<'_>) -> Option<String> {
    let mut out = Vec::new();
    let is_request = write_command(&mut out, command);
    assert_eq!(is_request, !out.is_empty());
    is_request.then(|| String::from_utf8(out).unwrap())
}

/// The message of the one request in `text`, by the gateway.
fn message(text: &str, name: &str, method: Method) -> Vec<u8> {
    let inner = text.strip_prefix(&format!("{{\"{name}\":")).unwrap();
    let body = inner.strip_suffix('}').unwrap();
    let mut message = Vec::new();
    let size = next_request(method, body.as_bytes(), &mut message).unwrap().unwrap();
    assert_eq!(size, body.len(), "the object is all there is");
    message
}

fn put(key: &'static [u8]) -> PutRequest<'static> {
    PutRequest { key, value: b"bar", ..PutRequest::default() }
}

fn all_compares() -> Vec<Compare<'static>> {
    let operands = [
        Operand::Missing,
        Operand::Version(0),
        Operand::CreateRevision(i64::MIN),
        Operand::ModRevision(7),
        Operand::Value(b"\xff\0"),
        Operand::Lease(i64::MAX),
    ];
    let results = [
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
        CompareResult::Unknown,
    ];
    let targets = [
        CompareTarget::Version,
        CompareTarget::Create,
        CompareTarget::Mod,
        CompareTarget::Value,
        CompareTarget::Lease,
        CompareTarget::Unknown,
    ];
    let mut compares = Vec::new();
    for (slot, operand) in operands.into_iter().enumerate() {
        for result in results {
            let range_end: &[u8] = if result == CompareResult::Less { b"l" } else { b"" };
            let target = targets[slot];
            compares.push(Compare { result, target, key: b"k", range_end, operand });
        }
    }
    compares
}

fn all_ops() -> Vec<RequestOp<'static>> {
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
    let mut ops = Vec::new();
    for sort_target in targets {
        for sort_order in orders {
            let range = RangeRequest { key: b"a", sort_target, sort_order, ..Default::default() };
            ops.push(RequestOp::Range(range));
        }
    }
    ops.push(RequestOp::Range(RangeRequest {
        key: b"a",
        range_end: b"\0",
        limit: 1,
        revision: -2,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 3,
        max_mod_revision: 4,
        min_create_revision: 5,
        max_create_revision: 6,
        ..RangeRequest::default()
    }));
    ops.push(RequestOp::Put(put(b"p")));
    let delete = DeleteRangeRequest { key: b"d", range_end: b"e", prev_kv: true };
    ops.push(RequestOp::DeleteRange(delete));
    ops
}

#[test]
fn the_lines_of_a_log_are_as_promised() {
    for (command, expected) in [
        (Command::Put(put(b"foo")), r#"{"put":{"key":"Zm9v","value":"YmFy","lease":"0"}}"#),
        (
            Command::DeleteRange(DeleteRangeRequest { key: b"foo", ..Default::default() }),
            r#"{"delete_range":{"key":"Zm9v"}}"#,
        ),
        (Command::Compact { revision: 5 }, r#"{"compaction":{"revision":"5"}}"#),
        (Command::LeaseGrant { id: 31, ttl_s: 60 }, r#"{"lease_grant":{"TTL":"60","ID":"31"}}"#),
        (
            Command::LeaseRevoke { id: 31, cause: RevokeCause::Expired },
            r#"{"lease_revoke":{"ID":"31"}}"#,
        ),
        (
            Command::Txn(TxnRequest {
                compare: vec![Compare {
                    target: CompareTarget::Mod,
                    key: b"foo",
                    operand: Operand::ModRevision(0),
                    ..Compare::default()
                }],
                success: vec![RequestOp::Put(put(b"foo"))],
                failure: Vec::new(),
            }),
            "{\"txn\":{\"compare\":[{\"result\":\"EQUAL\",\"target\":\"MOD\",\"key\":\"Zm9v\",\
             \"mod_revision\":\"0\"}],\"success\":[{\"request_put\":{\"key\":\"Zm9v\",\
             \"value\":\"YmFy\",\"lease\":\"0\"}}],\"failure\":[]}}",
        ),
    ] {
        assert_eq!(text(&command).as_deref(), Some(expected));
    }
    assert_eq!(text(&Command::Checkpoint), None);
    assert_eq!(text(&Command::CompactStep { mark_main: 1, mark_sub: 2 }), None);
}

#[test]
fn a_put_and_a_deletion_come_back() {
    for flags in 0..8 {
        let put = PutRequest {
            lease: i64::from(flags) - 4,
            prev_kv: flags & 1 != 0,
            ignore_value: flags & 2 != 0,
            ignore_lease: flags & 4 != 0,
            ..put(b"\x00\xfe")
        };
        let text = text(&Command::Put(put)).unwrap();
        let message = message(&text, "put", Method::Put);
        assert_eq!(decode_put(&message).unwrap(), put);
    }
    for range_end in [&b""[..], b"\0", b"z"] {
        let delete = DeleteRangeRequest { key: b"k", range_end, prev_kv: !range_end.is_empty() };
        let text = text(&Command::DeleteRange(delete)).unwrap();
        let message = message(&text, "delete_range", Method::DeleteRange);
        assert_eq!(decode_delete_range(&message).unwrap(), delete);
    }
}

#[test]
fn every_form_of_a_transaction_comes_back() {
    let inner = TxnRequest { compare: all_compares(), ..TxnRequest::default() };
    let txn = TxnRequest {
        compare: all_compares(),
        success: all_ops(),
        failure: vec![RequestOp::Txn(inner), RequestOp::Txn(TxnRequest::default())],
    };
    let text = text(&Command::Txn(txn.clone())).unwrap();
    let message = message(&text, "txn", Method::Txn);
    assert_eq!(decode_txn(&message, usize::MAX).unwrap(), txn);
}

#[test]
fn compactions_and_leases_come_back() {
    let compaction = text(&Command::Compact { revision: 77 }).unwrap();
    let compaction = message(&compaction, "compaction", Method::Compact);
    assert_eq!(decode_compaction(&compaction).unwrap().revision, 77);
    let grant = text(&Command::LeaseGrant { id: -9, ttl_s: 60 }).unwrap();
    let grant = message(&grant, "lease_grant", Method::LeaseGrant);
    let grant = decode_lease_grant(&grant).unwrap();
    assert_eq!((grant.id, grant.ttl_s), (-9, 60));
    let revoke = text(&Command::LeaseRevoke { id: 4, cause: RevokeCause::Client }).unwrap();
    let revoke = message(&revoke, "lease_revoke", Method::LeaseRevoke);
    assert_eq!(decode_lease_revoke(&revoke).unwrap(), 4);
}
