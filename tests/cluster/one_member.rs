//! One member in the simulated world: writes, reads, leases, crashes, restarts, checkpoints.

use engine::api::{KvList, PutRequest, RangeRequest};
use net::wire::{Answer, Request};
use tests::sim::client::SimClient;
use tests::sim::member::{SimMember, Storage, config};

fn started(storage: Storage) -> (SimMember, SimClient) {
    let mut member = SimMember::start(config(), storage, 1_000_000).expect("the member starts");
    assert!(member.is_serving);
    let client = SimClient::connect(&mut member);
    (member, client)
}

fn put(client: &mut SimClient, member: &mut SimMember, key: &[u8], value: &[u8]) -> i64 {
    let request = Request::Put(PutRequest { key, value, ..PutRequest::default() });
    let (header, _) = client.call(member, &request).expect("the put succeeds");
    header.revision
}

fn get(client: &mut SimClient, member: &mut SimMember, key: &[u8]) -> KvList {
    let request = Request::Range(RangeRequest { key, ..RangeRequest::default() });
    match client.call(member, &request).expect("the range succeeds") {
        (_, Answer::Range(range)) => range.kvs,
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn what_is_put_is_read() {
    let (mut member, mut client) = started(Storage::default());
    assert_eq!(put(&mut client, &mut member, b"a", b"1"), 2);
    assert_eq!(put(&mut client, &mut member, b"a", b"2"), 3);
    let kvs = get(&mut client, &mut member, b"a");
    let kv = kvs.first().expect("the key is there");
    assert_eq!((kv.value, kv.create_revision, kv.mod_revision, kv.version), (&b"2"[..], 2, 3, 2));
    assert!(get(&mut client, &mut member, b"b").is_empty());
    assert_eq!(member.complaints, Vec::<String>::new());
}

#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let (mut member, mut client) = started(Storage::default());
    member.hold_disk(true);
    let request = Request::Put(PutRequest { key: b"a", value: b"1", ..PutRequest::default() });
    let id = client.send(&request);
    client.exchange(&mut member);
    assert_eq!(client.outcome(id), None);
    member.hold_disk(false);
    client.exchange(&mut member);
    assert!(client.outcome(id).expect("acknowledged now").is_ok());
}

#[test]
fn what_was_acknowledged_survives_kills_and_power_cuts() {
    let mut storage = Storage::default();
    let mut revision = 1;
    for life in 0..12 {
        let (mut member, mut client) = started(storage);
        for key in 0..life {
            let kvs = get(&mut client, &mut member, format!("life-{key}-99").as_bytes());
            assert_eq!(kvs.len(), 1, "life {life} lost what life {key} put");
        }
        for n in 0..100 {
            let key = format!("life-{life}-{n}");
            let value = vec![life as u8; 300 + 17 * n];
            let new = put(&mut client, &mut member, key.as_bytes(), &value);
            assert!(revision < new, "revisions never go back");
            revision = new;
        }
        assert_eq!(member.complaints, Vec::<String>::new());
        storage = if life % 2 == 0 {
            member.kill()
        } else {
            let mut coin = life;
            member.lose_power(|| {
                coin = coin * 1_103_515_245 + 12_345;
                coin & 0x1_0000 != 0
            })
        };
    }
}

#[test]
fn a_clean_stop_answers_what_is_pending() {
    let (mut member, mut client) = started(Storage::default());
    let request = Request::Put(PutRequest { key: b"a", value: b"1", ..PutRequest::default() });
    let id = client.send(&request);
    client.flush(&mut member);
    member.step();
    member.shut_down();
    member.settle();
    client.fetch(&mut member);
    assert!(client.outcome(id).expect("answered before the end").is_ok());
    member.advance(5_000_000);
    assert!(member.is_stopped);
    let (mut member, mut client) = started(member.kill());
    assert_eq!(get(&mut client, &mut member, b"a").len(), 1);
}

#[test]
fn a_lease_expires_with_its_keys() {
    let (mut member, mut client) = started(Storage::default());
    let granted = client.call(&mut member, &Request::LeaseGrant { id: 0, ttl_s: 5 });
    let Ok((_, Answer::LeaseGrant { id, ttl_s: 5 })) = granted else {
        panic!("not granted: {granted:?}");
    };
    let request = PutRequest { key: b"k", value: b"v", lease: id, ..PutRequest::default() };
    client.call(&mut member, &Request::Put(request)).expect("the put succeeds");
    member.advance(3_000_000);
    let kept = client.call(&mut member, &Request::LeaseKeepAlive { id });
    assert!(matches!(kept, Ok((_, Answer::LeaseKeepAlive { ttl_s: 5, .. }))), "{kept:?}");
    member.advance(4_000_000);
    assert_eq!(get(&mut client, &mut member, b"k").len(), 1);
    for _ in 0..20 {
        member.advance(100_000);
    }
    assert!(get(&mut client, &mut member, b"k").is_empty());
    let kept = client.call(&mut member, &Request::LeaseKeepAlive { id });
    assert!(matches!(kept, Ok((_, Answer::LeaseKeepAlive { ttl_s: 0, .. }))), "{kept:?}");
}
