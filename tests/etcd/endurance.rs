//! What outlives a process, and what happens with time: restarts, quota, leases kept alive,
//! progress notices.

use std::time::{Duration, Instant};

use ::tests::process::{Member, Program};
use tonic::Code;

use crate::client::{Client, Method};
use crate::load::created;
use crate::read::{is_set, list, number, text};
use crate::{block_on, within};

/// Everything that was acknowledged is there after SIGKILL, and after SIGTERM: keys with their
/// revisions, leases with their keys, what was compacted.
pub fn restart(program: &Program) {
    let mut member = Member::start(program, &[]);
    let before = block_on(async {
        let client = Client::connect(&member.client_url()).await;
        client.ask("Lease.LeaseGrant", "ID: 77 TTL: 600").await.unwrap();
        for index in 0..KEYS {
            let put = format!(r#"key: "k{index:03}" value: "{index}" lease: 77"#);
            client.ask("KV.Put", &put).await.unwrap();
        }
        client.ask("KV.DeleteRange", r#"key: "k000" range_end: "k005""#).await.unwrap();
        client.ask("KV.Compact", "revision: 20").await.unwrap();
        client.ask("KV.Range", EVERYTHING).await.unwrap()
    });
    for is_killed in [true, false] {
        if is_killed {
            member.kill();
        } else {
            member.terminate();
        }
        member.restart();
        block_on(async {
            let client = Client::connect(&member.client_url()).await;
            let after = client.ask("KV.Range", EVERYTHING).await.unwrap();
            assert_eq!(list(&before, "kvs"), list(&after, "kvs"));
            let revision = number(&before, "header.revision");
            assert_eq!(revision, number(&after, "header.revision"));
            let lease = client.ask("Lease.LeaseTimeToLive", "ID: 77 keys: true").await.unwrap();
            assert_eq!(number(&lease, "grantedTTL"), 600);
            assert!(590 <= number(&lease, "TTL"), "{lease:?}");
            let old = client.ask("KV.Range", r#"key: "k010" revision: 19"#).await.unwrap_err();
            assert_eq!(old.message(), "etcdserver: mvcc: required revision has been compacted");
            // What follows the compaction is still to be watched.
            let mut watch = created(&client, r#"key: "k" range_end: "l" start_revision: 20"#).await;
            let message = within(watch.receive()).await.unwrap().unwrap();
            let events = list(&message, "events");
            assert_eq!(number(&events[0], "kv.mod_revision"), 20);
        });
    }
}

/// A full store refuses what would grow it, says so in its alarms, and takes it again when there
/// is room and the alarm is cleared.
pub fn quota(program: &Program) {
    let member = Member::start(program, &["--quota-backend-bytes=16777216"]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let value = "x".repeat(500_000);
        let mut refused = None;
        for index in 0..QUOTA_PUTS_MAX {
            let put = format!(r#"key: "k{:02}" value: "{value}""#, index % 20);
            if let Err(status) = client.ask("KV.Put", &put).await {
                refused = Some(status);
                break;
            }
        }
        let refused = refused.expect("a store of 16 MiB does not take 100 MB");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
        // corestone refuses while the alarm is on its way through the log.
        let alarmed = async {
            loop {
                let answer = client.ask("Maintenance.Alarm", "").await.unwrap();
                match list(&answer, "alarms").as_slice() {
                    [] => tokio::time::sleep(POLL_INTERVAL).await,
                    alarms => return alarms.len(),
                }
            }
        };
        assert_eq!(within(alarmed).await, 1);
        let status = client.ask("Maintenance.Status", "").await.unwrap();
        assert_eq!(number(&status, "dbSizeQuota"), 16_777_216);
        let revision = number(&status, "header.revision");
        // Small ones too, and leases.
        for (call, request) in [
            ("KV.Put", r#"key: "a" value: "1""#),
            ("KV.Txn", r#"success { request_put { key: "a" } }"#),
            ("Lease.LeaseGrant", "TTL: 10"),
        ] {
            let refused = client.ask(call, request).await.unwrap_err();
            assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded", "{call}");
        }
        // What shrinks it is taken; the alarm stays until it is cleared.
        client.ask("KV.DeleteRange", r#"key: "k" range_end: "l""#).await.unwrap();
        client
            .ask("KV.Compact", &format!("revision: {} physical: true", revision + 1))
            .await
            .unwrap();
        client.ask("Maintenance.Defragment", "").await.unwrap();
        client.ask("KV.Put", r#"key: "a" value: "1""#).await.unwrap_err();
        let member_id = crate::read::id(&status, "header.member_id");
        let clear = format!("action: DEACTIVATE memberID: {member_id} alarm: NOSPACE");
        client.ask("Maintenance.Alarm", &clear).await.unwrap();
        client.ask("KV.Put", r#"key: "a" value: "1""#).await.unwrap();
    });
}

/// A lease that is kept alive outlives its time to live, and ends after the last keep-alive, never
/// before its time.
pub fn keep_alive(program: &Program) {
    let member = Member::start(program, &[]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        client.ask("Lease.LeaseGrant", "ID: 5 TTL: 2").await.unwrap();
        client.ask("KV.Put", r#"key: "a" lease: 5"#).await.unwrap();
        let mut watch = created(&client, r#"key: "a""#).await;
        let mut keeper = client.open(&Method::named("Lease.LeaseKeepAlive"), &Vec::new());
        let granted = Instant::now();
        let mut renewed = Instant::now();
        while granted.elapsed() < Duration::from_secs(4) {
            renewed = Instant::now();
            keeper.send("ID: 5").await;
            let answer = within(keeper.receive()).await.unwrap().unwrap();
            assert_eq!(number(&answer, "TTL"), 2);
            let pause = tokio::time::timeout(Duration::from_millis(500), watch.receive()).await;
            assert!(pause.is_err(), "it ended while it was kept alive");
        }
        let message = within(watch.receive()).await.unwrap().unwrap();
        assert_eq!(list(&message, "events").len(), 1);
        assert!(Duration::from_secs(2) <= renewed.elapsed(), "{:?}", renewed.elapsed());
    });
}

/// An idle watch that asked for them gets notices of the store's revision, as often as the member
/// was told.
pub fn progress_notices(program: &Program) {
    let member = Member::start(program, &["--watch-progress-notify-interval=200ms"]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let mut watch = created(&client, r#"key: "a" progress_notify: true"#).await;
        for expected in [2, 3] {
            client.ask("KV.Put", r#"key: "another" value: "1""#).await.unwrap();
            let mut revision = 0;
            while revision < expected {
                let notice = within(watch.receive()).await.unwrap().unwrap();
                assert_eq!(number(&notice, "watch_id"), 0);
                assert!(list(&notice, "events").is_empty() && !is_set(&notice, "created"));
                assert!(revision <= number(&notice, "header.revision"), "backwards");
                revision = number(&notice, "header.revision");
            }
            assert_eq!(revision, expected);
        }
    });
}

/// A member that was stopped and goes on has lost nothing, nor the streams that were open.
pub fn pause(program: &Program) {
    let member = Member::start(program, &[]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let mut watch = created(&client, r#"key: "a""#).await;
        member.pause();
        let put = client.ask("KV.Put", r#"key: "a" value: "1""#);
        let mut put = std::pin::pin!(put);
        let early = tokio::time::timeout(Duration::from_millis(300), put.as_mut()).await;
        assert!(early.is_err(), "a stopped process answered");
        member.resume();
        within(put).await.unwrap();
        let message = within(watch.receive()).await.unwrap().unwrap();
        assert_eq!(text(&list(&message, "events")[0], "kv.value"), "1");
    });
}

/// More than the transport takes is refused by the transport; the connection lives on.
pub fn oversized(program: &Program) {
    let member = Member::start(program, &[]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let value = "x".repeat(2 << 20);
        let refused = client.ask("KV.Put", &format!(r#"key: "a" value: "{value}""#)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert!(
            refused.message().contains("received message larger than max (2097160 vs. 2097152)"),
            "{refused:?}"
        );
        let answer = client.ask("KV.Range", r#"key: "a""#).await.unwrap();
        assert_eq!(number(&answer, "header.revision"), 1);
    });
}

const EVERYTHING: &str = r#"key: "\000" range_end: "\000""#;
/// Between looks for an alarm.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const KEYS: usize = 30;
const QUOTA_PUTS_MAX: usize = 200;
