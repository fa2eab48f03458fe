//! Bytes of version 1, written down: whoever changes one of these breaks clients in the field.

use super::client::ClientSession;
use super::cluster::{ClusterMember, ClusterRequest};
use super::frame::check_frame;
use super::hello::{ClientHello, ServerIdentity, ServerLimits};
use super::opcode::Opcode;
use super::outbox::{Delivery, Outbox};
use super::reply::{LeaseTimeToLive, MemberStatus, Reply, ReplyHeader};
use super::request::Request;
use super::session::{FeedOutcome, Flow, WireApplication, WireSession};
use super::watch::{WatchCanceled, WatchCreateRequest, WatchFilter};
use crate::etcd::status::{NO_LEADER, STOPPED};
use engine::api::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Event,
    EventList, EventType, KeyValue, KvList, Operand, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};
use std::fmt::Write;

/// One line a frame: opcode, then the bytes.
const GOLDEN: &str = include_str!("../../testdata/wire-v1.txt");

/// As above, of the requests about the cluster.
const GOLDEN_CLUSTER: &str = "\
    MemberList \
    337168846f06254b2e79db643559bc2f280000004100000001000000000000000100000000000000\n\
    MemberAdd \
    937bec47de910335787b885ea62a9c654a00000042000000020000000000000001000000000000000d000000\
    687474703a2f2f613a323338300d000000687474703a2f2f623a32333830\n\
    MemberRemove \
    5ff393a453ad1e3d0821429316916c12280000004300000003000000000000001f00000000000000\n\
    MemberUpdate \
    393f15def9e7319d69e20e559887cc934a0000004400000004000000000000001f000000000000000d000000\
    687474703a2f2f613a323338300d000000687474703a2f2f623a32333830\n\
    MemberPromote \
    f0942c51637038180821429316916c12280000004500000005000000000000001f00000000000000\n\
    MoveLeader \
    7fda2e1cb5409d2f0821429316916c12280000004600000006000000000000001f00000000000000\n\
    MemberListReply \
    8873cf2803aa064450c3b9ec94ada0cf9d000000c10000000100000000000000000000000000000002000000\
    00000000020000000000000001000000010000000100000000000000020000006d310d000000687474703a2f\
    2f613a323338300d000000687474703a2f2f613a323337390d000000687474703a2f2f613a323337381f0000\
    00000000000000000000000000000000000100000000000000\n\
    MemberAddReply \
    4f9f48962bff9868227789dbe9ab0b75a5000000c20000000200000000000000000000000000000002000000\
    000000001f00000000000000020000000000000001000000010000000100000000000000020000006d310d00\
    0000687474703a2f2f613a323338300d000000687474703a2f2f613a323337390d000000687474703a2f2f61\
    3a323337381f000000000000000000000000000000000000000100000000000000\n\
    MemberRemoveReply \
    8c1f875e8c4b9a1b56a82bf3a9a6b12b81000000c30000000300000000000000000000000000000002000000\
    00000000020000000000000001000000010000000100000000000000020000006d310d000000687474703a2f\
    2f613a323338300d000000687474703a2f2f613a323337390d000000687474703a2f2f613a32333738\n\
    MemberUpdateReply \
    7c600ab92acbad3350c3b9ec94ada0cf9d000000c40000000400000000000000000000000000000002000000\
    00000000020000000000000001000000010000000100000000000000020000006d310d000000687474703a2f\
    2f613a323338300d000000687474703a2f2f613a323337390d000000687474703a2f2f613a323337381f0000\
    00000000000000000000000000000000000100000000000000\n\
    MemberPromoteReply \
    d07cd3d7cddf6f0c50c3b9ec94ada0cf9d000000c50000000500000000000000000000000000000002000000\
    00000000020000000000000001000000010000000100000000000000020000006d310d000000687474703a2f\
    2f613a323338300d000000687474703a2f2f613a323337390d000000687474703a2f2f613a323337381f0000\
    00000000000000000000000000000000000100000000000000\n\
    MoveLeaderReply \
    f29177130e712721c250c311c721ea5930000000c60000000600000000000000000000000000000002000000\
    00000000\n\
    ";

struct Nobody;

impl WireApplication for Nobody {
    fn on_request(&mut self, _: &mut Outbox, _: u64, _: Request<'_>) -> Flow {
        Flow::Continue
    }

    fn on_cluster_request(&mut self, _: &mut Outbox, _: u64, _: ClusterRequest<'_>) -> Flow {
        Flow::Continue
    }

    fn on_watch_credit(&mut self, _: &mut Outbox, _: u64, _: i64) {}
}

fn txn_request() -> Request<'static> {
    let compare = |result, target, operand| Compare {
        result,
        target,
        key: b"guard",
        range_end: b"h",
        operand,
    };
    Request::Txn(TxnRequest {
        compare: vec![
            compare(CompareResult::Greater, CompareTarget::Mod, Operand::ModRevision(7)),
            compare(CompareResult::NotEqual, CompareTarget::Value, Operand::Value(b"old")),
        ],
        success: vec![
            RequestOp::Put(PutRequest { key: b"k", value: b"v", ..Default::default() }),
            RequestOp::Txn(TxnRequest {
                success: vec![RequestOp::Range(RangeRequest { key: b"k", ..Default::default() })],
                ..Default::default()
            }),
        ],
        failure: vec![RequestOp::DeleteRange(DeleteRangeRequest {
            key: b"k",
            ..Default::default()
        })],
    })
}

/// In the order of their opcodes; the watch is request 6.
fn requests() -> Vec<Request<'static>> {
    vec![
        Request::Range(RangeRequest {
            key: b"a",
            range_end: b"b",
            limit: 10,
            revision: 3,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Mod,
            serializable: true,
            keys_only: true,
            count_only: false,
            min_mod_revision: 1,
            max_mod_revision: 2,
            min_create_revision: 3,
            max_create_revision: 4,
        }),
        Request::Put(PutRequest {
            key: b"key",
            value: b"value",
            lease: 0x0102_0304_0506_0708,
            prev_kv: true,
            ignore_value: false,
            ignore_lease: true,
        }),
        Request::DeleteRange(DeleteRangeRequest { key: b"key", range_end: b"\0", prev_kv: true }),
        txn_request(),
        Request::Compact { revision: 99, physical: true },
        Request::WatchCreate(WatchCreateRequest {
            key: b"k",
            range_end: b"l",
            start_revision: 5,
            credit_bytes: 65_536,
            progress_notify: true,
            prev_kv: true,
            filter: WatchFilter::NoDelete,
        }),
        Request::LeaseGrant { id: 0, ttl_s: 60 },
        Request::LeaseRevoke { id: 77 },
        Request::LeaseKeepAlive { id: 77 },
        Request::LeaseTimeToLive { id: 77, keys: true },
        Request::Leases,
        Request::Status,
    ]
}

/// On a connection of their own.
fn cluster_requests() -> Vec<ClusterRequest<'static>> {
    let peer_urls = vec!["http://a:2380", "http://b:2380"];
    vec![
        ClusterRequest::MemberList { is_linearizable: true },
        ClusterRequest::MemberAdd { is_learner: true, peer_urls: peer_urls.clone() },
        ClusterRequest::MemberRemove { id: 0x1f },
        ClusterRequest::MemberUpdate { id: 0x1f, peer_urls },
        ClusterRequest::MemberPromote { id: 0x1f },
        ClusterRequest::MoveLeader { target_id: 0x1f },
    ]
}

fn answer_cluster_requests(outbox: &mut Outbox) {
    let started = ClusterMember {
        id: 2,
        name: "m1".to_owned(),
        peer_urls: vec!["http://a:2380".to_owned()],
        client_urls: vec!["http://a:2379".to_owned()],
        binary_urls: vec!["http://a:2378".to_owned()],
        is_learner: false,
    };
    let added = ClusterMember { id: 0x1f, is_learner: true, ..ClusterMember::default() };
    let members = [started, added];
    outbox.reply(1, 2, Reply::MemberList { members: &members });
    outbox.reply(2, 2, Reply::MemberAdd { id: 0x1f, members: &members });
    outbox.reply(3, 2, Reply::MemberRemove { members: &members[..1] });
    outbox.reply(4, 2, Reply::MemberUpdate { members: &members });
    outbox.reply(5, 2, Reply::MemberPromote { members: &members });
    outbox.reply(6, 2, Reply::MoveLeader);
}

fn kvs() -> KvList {
    let mut kvs = KvList::default();
    kvs.push(KeyValue {
        key: b"key",
        value: b"value",
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: 77,
    });
    kvs
}

fn answer_all(outbox: &mut Outbox) {
    let header = ReplyHeader { revision: 8, raft_term: 2 };
    let range = RangeResponse { revision: 8, kvs: kvs(), more: true, count: 2 };
    let put = PutResponse { revision: 8, prev_kv: kvs() };
    let delete = DeleteRangeResponse { revision: 8, deleted: 1, prev_kvs: kvs() };
    let inner = TxnResponse { revision: 0, succeeded: true, responses: Vec::new() };
    let txn = TxnResponse {
        revision: 8,
        succeeded: true,
        responses: vec![
            ResponseOp::Range(range.clone()),
            ResponseOp::Put(put.clone()),
            ResponseOp::DeleteRange(delete.clone()),
            ResponseOp::Txn(inner),
        ],
    };
    outbox.reply(1, 2, Reply::Range(&range));
    outbox.reply(2, 2, Reply::Put(&put));
    outbox.reply(3, 2, Reply::DeleteRange(&delete));
    outbox.reply(4, 2, Reply::Txn(&txn));
    outbox.reply(5, 2, Reply::Compact { revision: 8 });
    outbox.watch_created(6, header);
    let mut events = EventList::default();
    let kv = KeyValue { key: b"k", mod_revision: 9, ..KeyValue::default() };
    let before = kvs();
    let event_type = EventType::Delete;
    events.push(Event { event_type, kv, prev_kv: before.first() });
    assert!(matches!(outbox.watch_events(6, header, &events), Delivery::Sent { .. }));
    outbox.watch_progress(6, header);
    outbox.watch_canceled(6, header, WatchCanceled { compact_revision: 4, reason: "why" });
    outbox.reply(7, 2, Reply::LeaseGrant { revision: 8, id: 77, ttl_s: 60 });
    outbox.reply(8, 2, Reply::LeaseRevoke { revision: 8 });
    outbox.reply(9, 2, Reply::LeaseKeepAlive { revision: 8, id: 77, ttl_s: 60 });
    let lease = LeaseTimeToLive {
        id: 77,
        ttl_s: 50,
        granted_ttl_s: 60,
        keys: vec![b"key".to_vec(), b"k2".to_vec()],
    };
    outbox.reply(10, 2, Reply::LeaseTimeToLive { revision: 8, lease: &lease });
    outbox.reply(11, 2, Reply::Leases { revision: 8, ids: &[77, 78] });
    let status = MemberStatus {
        version: "3.6.0".to_owned(),
        storage_version: "3.6.0".to_owned(),
        db_size_bytes: 1,
        db_size_in_use_bytes: 2,
        db_size_quota_bytes: 3,
        leader: 4,
        raft_index: 5,
        raft_applied_index: 6,
        is_learner: true,
        errors: vec!["etcdserver: no leader".to_owned()],
    };
    outbox.reply(12, 2, Reply::Status { revision: 8, status: &status });
    outbox.error(14, &NO_LEADER);
    outbox.reconnect("127.0.0.1:2378");
    outbox.go_away(&STOPPED);
}

fn lines(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let Some((frame, size)) = check_frame(bytes, 1 << 20).unwrap() {
        write!(text, "{:?} ", frame.opcode).unwrap();
        for byte in &bytes[..size] {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
        bytes = &bytes[size..];
    }
    assert_eq!(bytes, b"", "whole frames only");
    text
}

fn identity() -> ServerIdentity {
    ServerIdentity { cluster_id: 1, member_id: 2, server_version: "0.1.0".to_owned() }
}

fn cluster_lines() -> String {
    let mut client = ClientSession::new(&ClientHello { client: "c", ..ClientHello::default() });
    let mut server = WireSession::new(identity(), ServerLimits::default());
    let hello = client.take_output(Vec::new());
    assert_eq!(server.feed(&hello, &mut Nobody), FeedOutcome::Drained);
    client.feed(&server.outbox().take_output(Vec::new()), &mut |_hello| {}).unwrap();
    for request in cluster_requests() {
        client.request(&request).unwrap();
    }
    let sent = client.take_output(Vec::new());
    assert_eq!(server.feed(&sent, &mut Nobody), FeedOutcome::Drained);
    answer_cluster_requests(server.outbox());
    lines(&sent) + &lines(server.outbox().output())
}

#[test]
fn version_1_stays_as_it_is() {
    let mut client = ClientSession::new(&ClientHello { client: "c", ..ClientHello::default() });
    for request in requests() {
        client.request(&request).unwrap();
    }
    client.ping();
    client.request(&Request::Status).unwrap();
    client.watch_credit(6, 1000);
    client.watch_progress(6);
    client.watch_cancel(6);
    let sent = client.take_output(Vec::new());

    let mut server = WireSession::new(identity(), ServerLimits::default());
    assert_eq!(server.feed(&sent, &mut Nobody), FeedOutcome::Drained);
    answer_all(server.outbox());
    let answered = server.outbox().take_output(Vec::new());

    let actual = lines(&sent) + &lines(&answered);
    let cluster = cluster_lines();
    for opcode in Opcode::ALL {
        let line = format!("{opcode:?} ");
        let mut found = actual.lines().chain(cluster.lines());
        assert!(found.any(|found| found.starts_with(&line)), "no golden {line}");
    }
    assert_eq!(actual, GOLDEN, "the bytes of the protocol changed; now they are:\n{actual}");
    assert_eq!(cluster, GOLDEN_CLUSTER, "the bytes of the protocol changed");
}
