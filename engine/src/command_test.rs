//! Round trips, golden bytes and refusals of the entry codec.

use super::*;
use proptest::prelude::*;

fn proposal() -> ProposalId {
    ProposalId { member_id: 1, incarnation: 2, counter: 3 }
}

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(command, proposal(), &mut out);
    out
}

fn samples() -> Vec<Command<'static>> {
    let put = PutRequest { key: b"k", value: b"v", lease: 7, prev_kv: true, ..Default::default() };
    let delete = DeleteRangeRequest { key: b"a", range_end: b"\0", prev_kv: false };
    let range = RangeRequest {
        key: b"a",
        range_end: b"z",
        limit: 3,
        revision: 4,
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Value,
        keys_only: true,
        max_create_revision: 9,
        ..Default::default()
    };
    let compare = |target, operand| Compare {
        result: CompareResult::NotEqual,
        target,
        key: b"c",
        range_end: b"d",
        operand,
    };
    let nested = TxnRequest { success: vec![RequestOp::Put(put)], ..Default::default() };
    let txn = TxnRequest {
        compare: vec![
            compare(CompareTarget::Value, Operand::Value(b"x")),
            compare(CompareTarget::Lease, Operand::Lease(5)),
            compare(CompareTarget::Unknown, Operand::Missing),
            compare(CompareTarget::Version, Operand::Version(-1)),
            compare(CompareTarget::Create, Operand::CreateRevision(2)),
            compare(CompareTarget::Mod, Operand::ModRevision(i64::MAX)),
        ],
        success: vec![RequestOp::Range(range), RequestOp::Txn(nested)],
        failure: vec![RequestOp::DeleteRange(delete)],
    };
    vec![
        Command::Genesis {
            page_size_bytes: 4096,
            value_inline_bytes_max: 640,
            interval_pages_max: 10,
            interval_bytes_max: 1 << 33,
        },
        Command::Put(put),
        Command::DeleteRange(delete),
        Command::Txn(txn),
        Command::Compact { revision: -1 },
        Command::CompactStep { mark_main: 5, mark_sub: 6 },
        Command::LeaseGrant { id: 8, ttl_s: 60 },
        Command::LeaseRevoke { id: 8, cause: RevokeCause::Expired },
        Command::Alarm { action: AlarmAction::Activate, member_id: 77, alarm: AlarmType::Corrupt },
        Command::MemberPublish {
            member_id: 9,
            name: "m1",
            client_urls: vec!["http://a:2379", "http://b:2379"],
            binary_urls: vec!["http://a:2378"],
        },
        Command::MemberPublish {
            member_id: 9,
            name: "m1",
            client_urls: vec!["http://a:2379"],
            binary_urls: vec![],
        },
        Command::MembersFound {
            founders: vec![
                Founder { member_id: 9, name: "m1", peer_urls: vec!["http://a:2380"] },
                Founder { member_id: 10, name: "", peer_urls: vec![] },
            ],
        },
        Command::MemberAdd { member_id: 11, peer_urls: vec!["http://c:2380"], is_learner: true },
        Command::MemberRemove { member_id: 9 },
        Command::MemberPromote { member_id: 11 },
        Command::MemberUpdate { member_id: 11, peer_urls: vec!["http://d:2380"] },
        Command::Checkpoint,
    ]
}

#[test]
fn every_command_comes_back_as_it_went_in() {
    for command in samples() {
        let bytes = encoded(&command);
        assert_eq!(decode(&bytes), Ok((proposal(), command)));
        assert_eq!(proposal_id(&bytes), Ok(proposal()));
    }
}

#[test]
fn golden_bytes_of_a_put_and_a_txn() {
    let put = PutRequest { key: b"k", value: b"vw", lease: 7, prev_kv: true, ..Default::default() };
    let mut header = vec![1, KIND_PUT, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    header.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
    let body = [1, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'k', 2, 0, 0, 0, b'v', b'w'];
    let mut hot = Vec::new();
    encode_put(&put, proposal(), &mut hot);
    assert_eq!(hot, [&header[..], &body].concat());
    assert_eq!(hot, encoded(&Command::Put(put)));

    let compare = Compare {
        result: CompareResult::Greater,
        target: CompareTarget::Mod,
        key: b"c",
        range_end: b"",
        operand: Operand::ModRevision(258),
    };
    let delete = DeleteRangeRequest { key: b"d", range_end: b"e", prev_kv: true };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp::DeleteRange(delete)],
        failure: vec![],
    };
    header[1] = KIND_TXN;
    let mut want = header;
    want.extend_from_slice(&[1, 0, 0, 0, 1, 2, 1, 0, 0, 0, b'c', 0, 0, 0, 0]);
    want.extend_from_slice(&[3, 2, 1, 0, 0, 0, 0, 0, 0]);
    want.extend_from_slice(&[1, 0, 0, 0, 3, 1, 1, 0, 0, 0, b'd', 1, 0, 0, 0, b'e', 0, 0, 0, 0]);
    assert_eq!(encoded(&Command::Txn(txn)), want);
}

#[test]
fn a_publish_has_one_form() {
    let publish = |binary_urls| Command::MemberPublish {
        member_id: 1,
        name: "m",
        client_urls: vec!["c"],
        binary_urls,
    };
    let without = encoded(&publish(vec![]));
    let with = encoded(&publish(vec!["b"]));
    assert_eq!((without[1], with[1]), (10, 17));
    assert_eq!(
        with[COMMAND_HEADER_SIZE_BYTES..without.len()],
        without[COMMAND_HEADER_SIZE_BYTES..]
    );
    assert_eq!(with[without.len()..], [1, 0, 0, 0, 1, 0, 0, 0, b'b']);
    let mut none = with[..without.len()].to_vec();
    none.extend_from_slice(&[0; 4]);
    assert_eq!(decode(&none), Err(Malformed::Field("binary_urls")));
}

#[test]
fn every_prefix_and_every_suffix_is_refused() {
    for command in samples() {
        let mut bytes = encoded(&command);
        for size in 0..bytes.len() {
            assert!(decode(&bytes[..size]).is_err(), "{command:?} cut at {size}");
        }
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(Malformed::TrailingBytes));
    }
}

#[test]
fn unknown_versions_kinds_and_depths_are_refused() {
    let mut bytes = encoded(&Command::Checkpoint);
    bytes[1] = 200;
    assert_eq!(decode(&bytes), Err(Malformed::Kind(200)));
    bytes[0] = 2;
    assert_eq!(decode(&bytes), Err(Malformed::Version(2)));

    let nest = |depth: usize| {
        let mut txn = TxnRequest::default();
        for _ in 1..depth {
            txn = TxnRequest { success: vec![RequestOp::Txn(txn)], ..Default::default() };
        }
        encoded(&Command::Txn(txn))
    };
    assert!(decode(&nest(TXN_DEPTH_MAX)).is_ok());
    assert_eq!(decode(&nest(TXN_DEPTH_MAX + 1)), Err(Malformed::TooDeep));
    let put = PutRequest::default();
    assert_eq!(decode(&encoded(&Command::Put(put))), Err(Malformed::Field("key")));
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(kind in 0u8..20, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![COMMAND_VERSION, kind];
        bytes.extend_from_slice(&rest);
        if let Ok((proposal, command)) = decode(&bytes) {
            let mut again = Vec::new();
            encode(&command, proposal, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(slot in 0usize..samples().len(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encoded(&samples()[slot]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((proposal, command)) = decode(&bytes) {
            let mut again = Vec::new();
            encode(&command, proposal, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn the_key_of_a_put_is_read_alone_and_of_nothing_else() {
    for command in samples() {
        let entry = encoded(&command);
        let key = match &command {
            Command::Put(put) => Some(put.key),
            _ => None,
        };
        assert_eq!(put_key(&entry), key);
    }
    let put = PutRequest { key: b"key", value: b"v", ..Default::default() };
    let entry = encoded(&Command::Put(put));
    let key_end = entry.len() - 4 - put.value.len();
    for size in 0..entry.len() {
        assert_eq!(put_key(&entry[..size]), (key_end <= size).then_some(&b"key"[..]));
    }
}
