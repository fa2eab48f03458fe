//! Leases and watches across a change of the leader, used through followers.

use std::time::{Duration, Instant};

use crate::ask::{assert_equal, insist, leader, without};
use crate::client::{Client, Method, Stream};
use crate::load::{Load, verify};
use crate::read::{is_set, list, number, text};
use crate::{PATIENCE, alone, block_on, three, within};

const ALL: [usize; 3] = [0, 1, 2];
const TTL_S: u64 = 3;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// Over the TTL: a leader that takes over grants it anew, and looks for what expired twice a second.
const EXPIRY_SLACK: Duration = Duration::from_secs(4);

/// Kept alive through a follower while the leader is killed, for longer than its time to live; then
/// left alone: it goes, not before its time.
#[test]
fn a_lease_is_kept_through_a_follower_across_a_change_of_the_leader() {
    let _turn = alone();
    let mut cluster = three();
    let old = leader(&cluster, &ALL);
    let others = without(&ALL, old);
    let [url, other_url] = [cluster.client_url(others[0]), cluster.client_url(others[1])];
    insist(&other_url, "Lease.LeaseGrant", &format!("ID: 77 TTL: {TTL_S}"));
    insist(&url, "KV.Put", r#"key: "leased" value: "1" lease: 77"#);
    let last_kept = block_on(async {
        let client = Client::lazy(&url);
        let mut stream = client.open(&Method::named("Lease.LeaseKeepAlive"), &Vec::new());
        let begin = Instant::now();
        let mut last_kept = begin;
        let mut is_killed = false;
        while begin.elapsed() < 3 * Duration::from_secs(TTL_S) {
            let sent = Instant::now();
            stream.send("ID: 77").await;
            let answer = within(stream.receive()).await.unwrap().unwrap();
            assert_eq!(number(&answer, "TTL"), i64::try_from(TTL_S).unwrap(), "{answer:?}");
            last_kept = sent;
            if !is_killed {
                cluster.member(old).kill();
                is_killed = true;
            }
            tokio::time::sleep(KEEP_ALIVE_INTERVAL).await;
        }
        last_kept
    });
    let left = insist(&other_url, "Lease.LeaseTimeToLive", "ID: 77 keys: true");
    assert!((1..=i64::try_from(TTL_S).unwrap()).contains(&number(&left, "TTL")), "{left:?}");
    let count = |url: &str| number(&insist(url, "KV.Range", r#"key: "leased""#), "count");
    while count(&url) != 0 {
        assert!(last_kept.elapsed() < Duration::from_secs(TTL_S) + EXPIRY_SLACK, "never expires");
        std::thread::sleep(Duration::from_millis(20));
    }
    let lived = last_kept.elapsed();
    println!("a lease of {TTL_S} s went {lived:?} after its last keep-alive");
    assert!(Duration::from_secs(TTL_S) <= lived, "expired {lived:?} after a keep-alive");
    let left = insist(&other_url, "Lease.LeaseTimeToLive", "ID: 77");
    assert_eq!(number(&left, "TTL"), -1);
    cluster.member(old).restart();
    assert_equal(&cluster, &ALL);
}

/// Watches at all members while leaders are killed: each that lives sees every event once, in order.
#[test]
fn watches_at_followers_miss_nothing_when_leaders_go() {
    let _turn = alone();
    let mut cluster = three();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    load.wait_for_new(50);
    let old = leader(&cluster, &ALL);
    let others = without(&ALL, old);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut watches: Vec<Stream> = runtime.block_on(async {
        let mut watches = Vec::new();
        for &member in &others {
            let mut watch = Client::lazy(&urls[member]).open(&watch_method(), &Vec::new());
            watch.send(EVERYTHING).await;
            let created = within(watch.receive()).await.unwrap().unwrap();
            assert!(is_set(&created, "created"), "{created:?}");
            watches.push(watch);
        }
        watches
    });
    cluster.member(old).kill();
    load.wait_for_new(200);
    cluster.member(old).restart();
    // Once more, if it is not the member of a watch: that would end with it.
    load.wait_for_new(100);
    let records = load.stop();
    let last = insist(&urls[old], "KV.Put", r#"key: "all/end" value: "end""#);
    let last = number(&last, "header.revision");
    for (watch, member) in watches.iter_mut().zip(&others) {
        let seen = runtime.block_on(until(watch, last));
        for record in &records {
            let key = format!("all/{}/", record.writer);
            let numbers: Vec<&String> = seen
                .iter()
                .filter(|(put, _)| put.starts_with(&key))
                .map(|(_, value)| value)
                .collect();
            let expected: Vec<String> =
                (1..=record.acknowledged).map(|number| number.to_string()).collect();
            assert!(numbers.iter().copied().eq(&expected), "member {member}: {numbers:?}");
        }
    }
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}

/// All events up to a revision: keys and values.
async fn until(watch: &mut Stream, last: i64) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    let mut newest = 0;
    while newest < last {
        let message = within(watch.receive()).await.unwrap().unwrap();
        for event in &list(&message, "events") {
            // Each transaction of the writers puts one of these keys.
            let revision = number(event, "kv.mod_revision");
            assert!(newest < revision, "revision {revision} after {newest}");
            newest = revision;
            seen.push((text(event, "kv.key"), text(event, "kv.value")));
        }
    }
    seen
}

fn watch_method() -> Method {
    Method::named("Watch.Watch")
}

const EVERYTHING: &str = r#"create_request { key: "all/" range_end: "all0" start_revision: 1 }"#;

const _: () = assert!(EXPIRY_SLACK.as_secs() < PATIENCE.as_secs());
