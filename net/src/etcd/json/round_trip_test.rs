//! The gateway's JSON: to protobuf and back, and the texts that clients have seen from etcd.

use proptest::prelude::*;
use prost::Message as _;

use super::reader::{DEPTH_MAX, Reader};
use super::*;
use crate::etcd::cancel_reason;
use crate::etcd::encode::{self, Responder, WatchHead};
use crate::etcd::proto::etcdserverpb as pb;
use crate::etcd::status::{self, Code, Status};
use crate::etcd::testing;

fn request<M: prost::Message + Default>(method: Method, json: &str) -> Result<M, Status> {
    let mut out = Vec::new();
    next_request(method, json.as_bytes(), &mut out)?;
    Ok(M::decode(&out[..]).expect("the gateway writes well-formed messages"))
}

fn response(method: Method, message: &[u8]) -> String {
    let mut out = Vec::new();
    write_response(&mut out, method, message).unwrap();
    String::from_utf8(out).unwrap()
}

fn refusal(method: Method, json: &str) -> String {
    let mut out = Vec::new();
    let status = next_request(method, json.as_bytes(), &mut out).unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument);
    status.message.into_owned()
}

/// There and back by the schema of one message, through an independent reader of JSON.
fn check_round_trip<M>(method: Method, message: &[u8])
where
    M: prost::Message + Default + PartialEq,
{
    let message = M::decode(message).unwrap();
    // A method whose request is written as if it were an answer.
    let schema = messages_of(method).unwrap().request;
    let mut json = Vec::new();
    response::write_object(&mut json, schema, &message.encode_to_vec()).unwrap();
    let parsed: serde_json::Value = serde_json::from_slice(&json).unwrap();
    for json in [json, serde_json::to_vec_pretty(&parsed).unwrap()] {
        let mut out = Vec::new();
        let size = next_request(method, &json, &mut out).unwrap();
        assert_eq!(size, Some(json.len()));
        assert!(M::decode(&out[..]).unwrap() == message, "{}", String::from_utf8_lossy(&json));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn messages_come_back(range in testing::message(&testing::RANGE),
        txn in testing::message(&testing::TXN), watch in testing::message(&testing::WATCH))
    {
        check_round_trip::<pb::RangeRequest>(Method::Range, &range);
        check_round_trip::<pb::TxnRequest>(Method::Txn, &txn);
        check_round_trip::<pb::WatchRequest>(Method::Watch, &watch);
    }

    #[test]
    fn strings_come_back(text in any::<String>(), url in "[ -~]{0,20}") {
        let message = pb::AuthenticateRequest { name: text, password: url };
        check_round_trip::<pb::AuthenticateRequest>(
            Method::Authenticate, &message.encode_to_vec());
    }

    /// A reader that never fails on another's JSON and never passes what another refuses.
    #[test]
    fn arbitrary_text_is_judged_as_by_another_reader(
        text in "[\\[\\]{}:,\"a0-9.eE+ \\\\u-]{0,12}|(\"[a-z\\\\\"u0-9d]{0,6}\"|[0-9.eE-]{1,6})")
    {
        let json = format!("{{\"x\":{text}}}");
        let mut out = Vec::new();
        let read = next_request(Method::Range, json.as_bytes(), &mut out);
        let is_whole = matches!(read, Ok(Some(size)) if size == json.len());
        // The other reader's numbers are floats, which may overflow; ours are text here.
        let wanted = match serde_json::from_str::<serde_json::Value>(&json) {
            Ok(_) => true,
            Err(error) if error.to_string().contains("out of range") => return Ok(()),
            Err(_) => false,
        };
        prop_assert_eq!(is_whole, wanted, "{}", json);
        prop_assert!(out.is_empty());
    }
}

#[test]
fn both_spellings_of_names_numbers_and_bytes_are_read() {
    let wanted = pb::RangeRequest {
        key: "foo".into(),
        range_end: vec![0xfb, 0xff].into(),
        limit: 5,
        sort_order: pb::range_request::SortOrder::Descend.into(),
        sort_target: 2,
        keys_only: true,
        max_mod_revision: 1500,
        ..Default::default()
    };
    for json in [
        r#"{"key":"Zm9v","range_end":"+/8=","limit":"5","sort_order":"DESCEND",
            "sort_target":"CREATE","keys_only":true,"max_mod_revision":"1500"}"#,
        r#"{"key":"Zm9v","rangeEnd":"-_8","limit":5,"sortOrder":2,"sortTarget":2,
            "keysOnly":true,"maxModRevision":1.5e3,"serializable":null,"revision":0}"#,
        r#"{"new":{"a":[1,{"b":"c"}]},"key":"Zm9v","range_end":"+\/8","limit":5.0,
            "sort_order":"DESCEND","sort_target":"CREATE","keys_only":true,
            "max_mod_revision":"150000E-2"} and what follows"#,
    ] {
        assert_eq!(request(Method::Range, json), Ok(wanted.clone()), "{json}");
    }
    let unknown_name = request::<pb::RangeRequest>(Method::Range, r#"{"sort_order":"UP"}"#);
    assert_eq!(unknown_name, Ok(pb::RangeRequest::default()));
    let lists = request::<pb::MemberAddRequest>(Method::MemberAdd, r#"{"peerURLs":["a","b"]}"#);
    assert_eq!(lists.unwrap().peer_urls, ["a", "b"]);
}

#[test]
fn values_that_do_not_fit_are_refused_in_etcds_words() {
    assert_eq!(
        refusal(Method::Range, r#"{"key":"Zm9v","serializable":"true"}"#),
        "proto: (line 1:30): invalid value for bool field serializable: \"true\""
    );
    for (json, message) in [
        ("{\"limit\":\n  \"x\"}", "proto: (line 2:3): invalid value for int64 field limit: \"x\""),
        (r#"{"limit":1.5}"#, "proto: (line 1:10): invalid value for int64 field limit: 1.5"),
        (
            r#"{"limit":9223372036854775808}"#,
            "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808",
        ),
        (r#"{"key":"!"}"#, "proto: (line 1:8): invalid value for bytes field key: \"!\""),
        (r#"{"key":{}}"#, "proto: syntax error (line 1:8): unexpected token {"),
        (r#"{"key":"YQ==","key":"YQ=="}"#, "proto: (line 1:15): duplicate field \"key\""),
        ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        (r#"{"key" "YQ=="}"#, "proto: syntax error (line 1:8): unexpected token \"YQ==\""),
        (r#"{"key":"YQ=="#, "unexpected EOF"),
        (r#"{"key":"YQ==""#, "unexpected EOF"),
        (r#"{"key":"\x"}"#, "proto: syntax error (line 1:8): invalid string"),
    ] {
        assert_eq!(refusal(Method::Range, json), message, "{json}");
    }
    let guard = r#"{"compare":[{"version":"0","mod_revision":"1"}]}"#;
    assert_eq!(
        refusal(Method::Txn, guard),
        "proto: (line 1:28): error parsing \"mod_revision\", oneof \
         etcdserverpb.Compare.target_union is already set"
    );
}

#[test]
fn a_zero_counts_in_a_union() {
    use pb::compare::TargetUnion;
    let txn: pb::TxnRequest =
        request(Method::Txn, r#"{"compare":[{"createRevision":"0"},{"value":""}]}"#).unwrap();
    let unions: Vec<_> = txn.compare.into_iter().map(|compare| compare.target_union).collect();
    let wanted = [TargetUnion::CreateRevision(0), TargetUnion::Value("".into())];
    assert_eq!(unions, wanted.map(Some));
}

#[test]
fn nesting_is_bounded_by_the_same_number_for_known_and_unknown_fields() {
    for (open, middle, close) in [("[", "", "]"), ("{\"y\":", "1", "}")] {
        let unknown = |levels: usize| {
            format!("{{\"x\":{}{middle}{}}}", open.repeat(levels), close.repeat(levels))
        };
        let mut out = Vec::new();
        let deepest = unknown(DEPTH_MAX - 1);
        assert!(next_request(Method::Range, deepest.as_bytes(), &mut out).is_ok());
        assert!(refusal(Method::Range, &unknown(DEPTH_MAX)).contains("recursion depth"));
    }
    let txn = |levels: usize| {
        let open = "{\"success\":[{\"request_txn\":".repeat(levels);
        format!("{open}{{}}{}", "}]}".repeat(levels))
    };
    assert!(request::<pb::TxnRequest>(Method::Txn, &txn(40)).is_ok());
    let mut out = Vec::new();
    assert!(next_request(Method::Txn, txn(DEPTH_MAX / 3).as_bytes(), &mut out).is_ok());
    assert!(refusal(Method::Txn, &txn(DEPTH_MAX / 3 + 1)).contains("recursion depth"));
}

#[test]
fn answers_look_as_etcds_do() {
    let responder = Responder { cluster_id: 7, member_id: u64::MAX, raft_term: 2 };
    let mut message = Vec::new();
    encode::encode_lease_keep_alive(&mut message, &responder.at(4), 12345, 0);
    let header =
        r#"{"cluster_id":"7","member_id":"18446744073709551615","revision":"4","raft_term":"2"}"#;
    let mut line = Vec::new();
    write_stream_response(&mut line, Method::LeaseKeepAlive, &message).unwrap();
    let wanted = format!("{{\"result\":{{\"header\":{header},\"ID\":\"12345\"}}}}\n");
    assert_eq!(String::from_utf8(line).unwrap(), wanted);

    let mut message = Vec::new();
    let head = WatchHead {
        watch_id: cancel_reason::WATCH_ID_NONE,
        created: true,
        canceled: true,
        cancel_reason: cancel_reason::USER_EMPTY,
        ..WatchHead::default()
    };
    encode::encode_watch(&mut message, &responder.at(4), &head);
    let reason = cancel_reason::USER_EMPTY;
    let wanted = format!(
        "{{\"header\":{header},\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,\
         \"cancel_reason\":\"{reason}\"}}"
    );
    assert_eq!(response(Method::Watch, &message), wanted);

    let answer = pb::RangeResponse {
        kvs: vec![
            Default::default(),
            crate::etcd::proto::mvccpb::KeyValue {
                key: "foo".into(),
                mod_revision: 2,
                ..Default::default()
            },
        ],
        more: true,
        ..Default::default()
    };
    assert_eq!(
        response(Method::Range, &answer.encode_to_vec()),
        r#"{"kvs":[{},{"key":"Zm9v","mod_revision":"2"}],"more":true}"#
    );
    let alarms = pb::AlarmResponse {
        alarms: vec![
            pb::AlarmMember { member_id: 1, alarm: 1 },
            pb::AlarmMember { member_id: 0, alarm: 77 },
        ],
        ..Default::default()
    };
    assert_eq!(
        response(Method::Alarm, &alarms.encode_to_vec()),
        r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"},{"alarm":77}]}"#
    );
    let hash = pb::HashResponse { hash: 4_000_000_000, ..Default::default() };
    assert_eq!(response(Method::Hash, &hash.encode_to_vec()), r#"{"hash":4000000000}"#);
}

#[test]
fn errors_have_code_and_message() {
    let mut out = Vec::new();
    write_error(&mut out, &status::KEY_NOT_FOUND);
    out.push(b'\n');
    write_stream_error(&mut out, &status::LEADER_FIELD_MISSING);
    let wanted = concat!(
        "{\"code\":3,\"message\":\"etcdserver: key not found\"}\n",
        "{\"error\":{\"code\":2,\"message\":\"\\\"leader\\\" field must be provided\"}}\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
}

#[test]
fn a_stream_of_requests_is_read_one_by_one() {
    let body = b" {\"ID\":\"1\"}\n{\"ID\":2}{} \n";
    let mut ids = Vec::new();
    let mut rest = &body[..];
    loop {
        let mut out = Vec::new();
        let Some(size) = next_request(Method::LeaseKeepAlive, rest, &mut out).unwrap() else {
            break;
        };
        assert!(0 < size);
        rest = &rest[size..];
        ids.push(pb::LeaseKeepAliveRequest::decode(&out[..]).unwrap().id);
    }
    assert_eq!(ids, [1, 2, 0]);
    assert!(Reader::new(rest).is_at_end());
}

#[test]
fn every_method_but_healths_has_its_tables() {
    for method in Method::ALL.iter().copied() {
        let is_health = method.service() == "grpc.health.v1.Health";
        assert_eq!(messages_of(method).is_none(), is_health, "{method:?}");
        // One bit a field remembers which ones were seen.
        assert!(messages_of(method).is_none_or(|messages| messages.request.fields.len() <= 64));
    }
}
