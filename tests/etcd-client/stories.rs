//! What programs do with a store through this client, each put to corestone and, where it is found,
//! to the real etcd.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use etcd_client_tests::process::{IoDriver, Member, Program, etcd_binary};

/// Runs a story against a fresh member of each program.
async fn with_members<S>(story: impl Fn(Client) -> S)
where
    S: Future<Output = Result<(), Error>>,
{
    let mut programs = vec![Program::Corestone(IoDriver::Auto)];
    match etcd_binary() {
        Some(path) => programs.push(Program::Etcd(path)),
        None => println!("skipped: no etcd on the path, nor in CORESTONE_TEST_ETCD"),
    }
    for program in programs {
        let member = Member::start(&program, &[]);
        let options = ConnectOptions::new().with_require_leader(true).with_timeout(PATIENCE);
        let client = Client::connect([member.client_url()], Some(options)).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, story(client)).await;
        ended.expect("a story takes less").unwrap_or_else(|error| panic!("{program:?}: {error}"));
    }
}

/// A configuration is read, changed only as it was read, and listed.
#[tokio::test]
async fn configuration() {
    with_members(|mut client| async move {
        for name in ["b", "a", "c"] {
            client.put(format!("/config/{name}"), name.repeat(3), None).await?;
        }
        let read = client.get("/config/a", None).await?;
        let kv = &read.kvs()[0];
        assert_eq!((kv.value(), kv.version()), (&b"aaa"[..], 1));
        for (value, is_first) in [("changed", true), ("again", false)] {
            let change = Txn::new()
                .when([Compare::mod_revision("/config/a", CompareOp::Equal, kv.mod_revision())])
                .and_then([TxnOp::put("/config/a", value, Some(PutOptions::new().with_prev_key()))])
                .or_else([TxnOp::get("/config/a", None)]);
            let changed = client.txn(change).await?;
            assert_eq!(changed.succeeded(), is_first);
            match &changed.op_responses()[..] {
                [TxnOpResponse::Put(put)] => {
                    assert!(is_first);
                    assert_eq!(put.prev_key().unwrap().value(), b"aaa");
                }
                [TxnOpResponse::Get(get)] => assert_eq!(get.kvs()[0].value(), b"changed"),
                other => panic!("{other:?}"),
            }
        }
        let newest = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Mod, SortOrder::Descend)
            .with_limit(2);
        let newest = client.get("/config/", Some(newest)).await?;
        let keys: Vec<_> = newest.kvs().iter().map(|kv| kv.key_str().unwrap()).collect();
        assert_eq!(keys, ["/config/a", "/config/c"]);
        assert!(newest.more());
        assert_eq!(newest.count(), 3);
        let all = DeleteOptions::new().with_prefix().with_prev_key();
        let deleted = client.delete("/config/", Some(all)).await?;
        assert_eq!(deleted.deleted(), 3);
        assert_eq!(deleted.prev_kvs().len(), 3);
        Ok(())
    })
    .await;
}

/// A cache is filled by a list and kept by a watch from the list's revision.
#[tokio::test]
async fn cache() {
    with_members(|mut client| async move {
        client.put("/cache/a", "1", None).await?;
        let list = client.get("/cache/", Some(GetOptions::new().with_prefix())).await?;
        let revision = list.header().unwrap().revision();
        client.put("/cache/b", "2", None).await?;
        client.delete("/cache/a", None).await?;
        let options =
            WatchOptions::new().with_prefix().with_prev_key().with_start_revision(revision + 1);
        let mut watch = client.watch("/cache/", Some(options)).await?;
        let created = watch.message().await?.unwrap();
        assert!(created.created());
        let mut events = Vec::new();
        while events.len() < 2 {
            events.extend_from_slice(watch.message().await?.unwrap().events());
        }
        assert_eq!(events[0].event_type(), EventType::Put);
        assert_eq!(events[0].kv().unwrap().mod_revision(), revision + 1);
        assert!(events[0].prev_kv().is_none());
        assert_eq!(events[1].event_type(), EventType::Delete);
        assert_eq!(events[1].prev_kv().unwrap().value(), b"1");
        watch.request_progress().await?;
        let progress = watch.message().await?.unwrap();
        assert_eq!(progress.header().unwrap().revision(), revision + 2);
        watch.cancel(created.watch_id()).await?;
        assert!(watch.message().await?.unwrap().canceled());
        Ok(())
    })
    .await;
}

/// A service registers itself for as long as it lives.
#[tokio::test]
async fn registration() {
    with_members(|mut client| async move {
        let lease = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(4711))).await?;
        let with_lease = PutOptions::new().with_lease(lease.id());
        client.put("/services/one", "127.0.0.1", Some(with_lease)).await?;
        let (mut keeper, mut answers) = client.lease_keep_alive(lease.id()).await?;
        for _ in 0..3 {
            keeper.keep_alive().await?;
            let answer = answers.message().await?.unwrap();
            assert_eq!((answer.id(), answer.ttl()), (4711, 60));
        }
        let left = client.lease_time_to_live(lease.id(), None).await?;
        assert_eq!(left.granted_ttl(), 60);
        let all: Vec<i64> = client.leases().await?.leases().iter().map(|one| one.id()).collect();
        assert_eq!(all, [4711]);
        client.lease_revoke(lease.id()).await?;
        assert_eq!(client.get("/services/one", None).await?.count(), 0);
        let gone = client.lease_revoke(lease.id()).await.unwrap_err();
        assert_status(&gone, "etcdserver: requested lease not found");
        Ok(())
    })
    .await;
}

/// History ends where it was compacted, for readers and for watchers.
#[tokio::test]
async fn compacted_history() {
    with_members(|mut client| async move {
        let mut revisions = Vec::new();
        for value in ["1", "2", "3"] {
            let put = client.put("a", value, None).await?;
            revisions.push(put.header().unwrap().revision());
        }
        let at = |revision| Some(GetOptions::new().with_revision(revision));
        assert_eq!(client.get("a", at(revisions[0])).await?.kvs()[0].value(), b"1");
        client.compact(revisions[1], None).await?;
        let old = client.get("a", at(revisions[0])).await.unwrap_err();
        assert_status(&old, "etcdserver: mvcc: required revision has been compacted");
        let future = client.get("a", at(revisions[2] + 1)).await.unwrap_err();
        assert_status(&future, "etcdserver: mvcc: required revision is a future revision");
        assert_eq!(client.get("a", at(revisions[1])).await?.kvs()[0].value(), b"2");
        let old = WatchOptions::new().with_start_revision(revisions[0]);
        let mut watch = client.watch("a", Some(old)).await?;
        assert!(watch.message().await?.unwrap().created());
        let canceled = watch.message().await?.unwrap();
        assert!(canceled.canceled());
        assert_eq!(canceled.compact_revision(), revisions[1]);
        Ok(())
    })
    .await;
}

/// What an operator looks at.
#[tokio::test]
async fn maintenance() {
    with_members(|mut client| async move {
        let put = client.put("a", "1", None).await?;
        let revision = put.header().unwrap().revision();
        let status = client.status().await?;
        assert_eq!(status.leader(), status.header().unwrap().member_id());
        assert!(0 < status.db_size() && 0 < status.raft_index() && 0 < status.raft_term());
        let members = client.member_list().await?;
        assert_eq!(members.members().len(), 1);
        assert_eq!(members.members()[0].id(), status.leader());
        let (one, two) = (client.hash_kv(0).await?, client.hash_kv(revision).await?);
        assert_eq!(one.hash(), two.hash());
        client.put("a", "2", None).await?;
        assert_ne!(one.hash(), client.hash_kv(0).await?.hash());
        assert_eq!(one.hash(), client.hash_kv(revision).await?.hash());
        client.defragment().await?;
        assert_eq!(client.get("a", None).await?.kvs()[0].value(), b"2");
        Ok(())
    })
    .await;
}

fn assert_status(error: &Error, message: &str) {
    match error {
        Error::GRpcStatus(status) => assert_eq!(status.message(), message),
        other => panic!("{other}"),
    }
}

/// For one story.
const PATIENCE: Duration = Duration::from_secs(30);
