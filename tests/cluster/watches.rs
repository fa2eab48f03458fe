//! Watches on one member in the simulated world, through the binary protocol.

use engine::api::{DeleteRangeRequest, PutRequest};
use net::wire::{Request, WatchCreateRequest};
use tests::sim::client::{SimClient, WatchSaid};
use tests::sim::member::{SimMember, Storage, config};

fn started() -> (SimMember, SimClient) {
    let mut member =
        SimMember::start(config(), Storage::default(), 1_000_000).expect("the member starts");
    let client = SimClient::connect(&mut member);
    (member, client)
}

fn put(client: &mut SimClient, member: &mut SimMember, key: &str, value_size_bytes: usize) -> i64 {
    let value = vec![b'v'; value_size_bytes];
    let request = PutRequest { key: key.as_bytes(), value: &value, ..PutRequest::default() };
    client.call(member, &Request::Put(request)).expect("the put succeeds").0.revision
}

fn watch(client: &mut SimClient, member: &mut SimMember, start_revision: i64, credit: i64) -> u64 {
    let create = WatchCreateRequest {
        key: b"k",
        range_end: b"l",
        start_revision,
        credit_bytes: credit,
        ..WatchCreateRequest::default()
    };
    let id = client.send(&Request::WatchCreate(create));
    client.exchange(member);
    id
}

/// Revisions of the events that a watch was told, in the order they came.
fn revisions(client: &SimClient, watch: u64) -> Vec<i64> {
    let said = client.watched.iter().filter(|(id, _)| *id == watch);
    said.flat_map(|(_, said)| match said {
        WatchSaid::Events(events) => events.iter().map(|(_, _, revision)| *revision).collect(),
        _ => Vec::new(),
    })
    .collect()
}

#[test]
fn a_watch_hears_what_comes_and_what_was() {
    let (mut member, mut client) = started();
    for n in 0..5 {
        put(&mut client, &mut member, &format!("k{n}"), 10);
    }
    let live = watch(&mut client, &mut member, 0, 1 << 20);
    let old = watch(&mut client, &mut member, 3, 1 << 20);
    assert_eq!(client.watched[0], (live, WatchSaid::Created(6)));
    assert_eq!(revisions(&client, old), [3, 4, 5, 6]);
    put(&mut client, &mut member, "k9", 10);
    put(&mut client, &mut member, "other", 10);
    let gone = DeleteRangeRequest { key: b"k9", ..DeleteRangeRequest::default() };
    client.call(&mut member, &Request::DeleteRange(gone)).expect("deleted");
    assert_eq!(revisions(&client, live), [7, 9]);
    assert_eq!(revisions(&client, old), [3, 4, 5, 6, 7, 9]);
    let last = client.watched.iter().rev().find(|(id, _)| *id == live).expect("told");
    assert_eq!(last.1, WatchSaid::Events(vec![(true, b"k9".to_vec(), 9)]));
}

#[test]
fn a_slow_watch_misses_nothing_and_is_told_progress_last() {
    let (mut member, mut client) = started();
    let slow = watch(&mut client, &mut member, 0, 1);
    for n in 0..3_000 {
        put(&mut client, &mut member, &format!("k{}", n % 100), 1_000);
    }
    let before = revisions(&client, slow).len();
    assert!(before < 3_000, "without credit not everything can have come");
    client.progress(slow);
    for _ in 0..200 {
        client.credit(slow, 1 << 20);
        client.exchange(&mut member);
        if revisions(&client, slow).len() == 3_000 {
            break;
        }
    }
    let expected: Vec<i64> = (2..3_002).collect();
    assert_eq!(revisions(&client, slow), expected, "in order, each once, none missing");
    assert_eq!(client.watched.last(), Some(&(slow, WatchSaid::Progress(3_001))));
}

#[test]
fn a_watch_of_compacted_history_is_told_where_it_begins() {
    let (mut member, mut client) = started();
    for n in 0..10 {
        put(&mut client, &mut member, &format!("k{n}"), 10);
    }
    client.call(&mut member, &Request::Compact { revision: 8, physical: true }).expect("compacted");
    let gone = watch(&mut client, &mut member, 5, 1 << 20);
    assert_eq!(
        client.watched.last(),
        Some(&(gone, WatchSaid::Canceled(8, String::new()))),
        "created, then canceled with the compact revision"
    );
    let first = watch(&mut client, &mut member, 8, 1 << 20);
    assert_eq!(revisions(&client, first), [8, 9, 10, 11]);
}

#[test]
fn a_future_watch_is_silent_until_its_revision() {
    let (mut member, mut client) = started();
    let future = watch(&mut client, &mut member, 5, 1 << 20);
    client.progress(future);
    client.exchange(&mut member);
    for n in 0..6 {
        put(&mut client, &mut member, &format!("k{n}"), 10);
    }
    assert_eq!(revisions(&client, future), [5, 6, 7]);
}
