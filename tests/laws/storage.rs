//! Storage, as a whole member shows it: what its disk is asked for, and in which order.

use engine::api::{DeleteRangeRequest, PutRequest};
use net::wire::Request;
use shard::StartError;
use tests::sim::client::SimClient;
use tests::sim::member::{Deed, SimMember, Storage, config};

use super::group::Group;

fn started(storage: Storage) -> (SimMember, SimClient) {
    let mut member = SimMember::start(config(), storage, 1_000_000).expect("the member starts");
    let client = SimClient::connect(&mut member);
    (member, client)
}

fn puts(member: &mut SimMember, client: &mut SimClient, count: usize, size_bytes: usize) {
    let value = vec![5; size_bytes];
    for number in 0..count {
        let key = format!("key-{number:06}");
        let put = PutRequest { key: key.as_bytes(), value: &value, ..PutRequest::default() };
        client.call(member, &Request::Put(put)).expect("the put succeeds");
    }
}

fn count(member: &SimMember, wanted: impl Fn(&Deed) -> bool) -> usize {
    member.deeds.iter().filter(|deed| wanted(deed)).count()
}

#[test]
fn storage_wal_3_the_last_frame_is_covered_after_ten_milliseconds_and_then_rests() {
    let (mut member, mut client) = started(Storage::default());
    // At rest: no checkpoint is due any more.
    member.advance(5_000_000);
    for _ in 0..1_000 {
        member.advance(10_000);
    }
    puts(&mut member, &mut client, 1, 10);
    member.deeds.clear();
    for _ in 0..9 {
        member.advance(1_000);
    }
    let writes = |member: &SimMember| count(member, |deed| *deed == Deed::WalWrite);
    assert_eq!(writes(&member), 0);
    member.advance(2_000);
    assert_eq!(writes(&member), 1, "what was acknowledged is told from a torn tail now");
    for _ in 0..40 {
        member.advance(10_000);
    }
    // A cover that carries the commit index is covered once more, by an empty one.
    let covers = writes(&member);
    assert!(covers <= 2, "{covers} covers");
    for _ in 0..40 {
        member.advance(10_000);
    }
    assert_eq!(writes(&member), covers, "an empty cover needs none");
}

#[test]
fn storage_wal_5_a_log_that_begins_behind_the_checkpoint_refuses_the_start() {
    let (mut member, mut client) = started(Storage::default());
    puts(&mut member, &mut client, 400, 900);
    member.advance(3_000_000);
    let mut storage = member.kill();
    // The page file goes back to its beginning, the log does not.
    storage.pages = Default::default();
    let refused = SimMember::start(config(), storage, 9_000_000).err().expect("pages are missing");
    let is_named = matches!(refused, StartError::PagesLost | StartError::WalGap { .. });
    assert!(is_named, "{refused}");
}

#[test]
fn storage_pages_1_a_clean_stop_makes_no_checkpoint_of_its_own() {
    let (mut member, mut client) = started(Storage::default());
    puts(&mut member, &mut client, 5, 100);
    member.deeds.clear();
    member.shut_down();
    member.settle();
    for _ in 0..500 {
        member.advance(10_000);
    }
    assert!(member.is_stopped);
    let pages = count(&member, |deed| !matches!(deed, Deed::WalWrite | Deed::WalSynced));
    assert_eq!(pages, 0, "it would be a boundary of one member: {:?}", member.deeds);
    let (mut member, mut client) = started(member.kill());
    let (_, answer) = client.call(&mut member, &all_keys()).expect("the deletion succeeds");
    let net::wire::Answer::DeleteRange(deleted) = answer else { panic!("{answer:?}") };
    assert_eq!(deleted.deleted, 5, "everything is in the log");
}

#[test]
fn storage_pages_3_pages_are_synced_before_the_meta_page_and_meta_pages_take_turns() {
    let (mut member, mut client) = started(Storage::default());
    puts(&mut member, &mut client, 600, 900);
    member.advance(1_000_000);
    let deeds = member.deeds.iter().filter(|d| !matches!(d, Deed::WalWrite | Deed::WalSynced));
    let (mut unsynced, mut metas) = (0, Vec::new());
    for deed in deeds {
        match deed {
            Deed::PageWrite => unsynced += 1,
            Deed::PageSync => unsynced = 0,
            Deed::MetaWrite { slot } => {
                assert_eq!(unsynced, 0, "it would name pages that a power cut loses");
                metas.push(*slot);
            }
            _ => {}
        }
    }
    assert!(5 < metas.len(), "only {} checkpoints", metas.len());
    assert!(metas.windows(2).all(|pair| pair[0] != pair[1]), "{metas:?}");
}

#[test]
fn storage_pages_3_a_first_meta_page_that_was_torn_costs_nothing_while_the_log_is_whole() {
    let (mut member, mut client) = started(Storage::default());
    let mut written = 0;
    while count(&member, |deed| matches!(deed, Deed::MetaWrite { .. })) == 0 {
        let (key, value) = (format!("key-{written}"), [5; 2_000]);
        let put = PutRequest { key: key.as_bytes(), value: &value, ..PutRequest::default() };
        client.call(&mut member, &Request::Put(put)).expect("the put succeeds");
        written += 1;
    }
    let mut storage = member.kill();
    let slots = storage.pages.meta_slots();
    assert!(slots[0].iter().all(|byte| *byte == 0), "one checkpoint, in slot 1");
    // The power went while it was written: its first sectors are there.
    storage.pages.bytes_mut()[4_096 + 1_024..8_192].fill(0);
    let (mut member, mut client) = started(storage.clone());
    let (_, answer) = client.call(&mut member, &all_keys()).expect("the deletion succeeds");
    let net::wire::Answer::DeleteRange(deleted) = answer else { panic!("{answer:?}") };
    assert_eq!(deleted.deleted, written, "everything is in the log");
    // Without the log nothing says what the checkpoint held.
    storage.wal = Default::default();
    let refused = SimMember::start(config(), storage, 9_000_000).err().expect("all is lost");
    assert!(matches!(refused, StartError::Wal(_) | StartError::Meta(_)), "{refused}");
}

#[test]
fn storage_pages_1_a_store_is_idle_by_what_is_applied_whoever_was_asked() {
    let mut group = Group::serving(3);
    group.advance(5_000_000);
    let (leader, follower) = (group.leader().expect("it serves"), group.follower());
    let mut client = group.connect(follower);
    let metas = |group: &mut Group, slot: usize| {
        count(group.member(slot), |deed| matches!(deed, Deed::MetaWrite { .. }))
    };
    let put = PutRequest { key: b"key", value: b"v", ..PutRequest::default() };
    let before = metas(&mut group, leader);
    for _ in 0..20 {
        group.call(follower, &mut client, &Request::Put(put)).expect("put");
        group.advance(250_000);
    }
    assert_eq!(metas(&mut group, leader), before, "writes by a follower keep a store from rest");
    group.advance(5_000_000);
    let at_rest: Vec<usize> = (0..3).map(|slot| metas(&mut group, slot)).collect();
    assert_eq!(at_rest[leader], before + 3, "then it comes to rest");
    // Another leader knows that.
    group.isolate(leader, true);
    group.next_leader(leader);
    group.advance(5_000_000);
    for slot in (0..3).filter(|slot| *slot != leader) {
        assert_eq!(metas(&mut group, slot), at_rest[slot], "member {slot}");
    }
}

fn all_keys() -> Request<'static> {
    Request::DeleteRange(DeleteRangeRequest { key: b"key-", range_end: b"key.", prev_kv: false })
}

#[test]
fn storage_pages_6_every_member_gives_freed_space_back_at_rest() {
    let mut group = Group::serving(3);
    let leader = group.leader().expect("it serves");
    let mut client = group.connect(leader);
    for n in 0..600 {
        let key = format!("key-{n:03}");
        let put = PutRequest { key: key.as_bytes(), value: &[7; 4_000], ..PutRequest::default() };
        group.call(leader, &mut client, &Request::Put(put)).expect("put");
    }
    let everything = DeleteRangeRequest { key: b"key-", range_end: b"key.", prev_kv: false };
    group.call(leader, &mut client, &Request::DeleteRange(everything)).expect("deleted");
    // The events of the compact revision itself are kept: let it be another's.
    let mark = PutRequest { key: b"mark", ..PutRequest::default() };
    let (header, _) = group.call(leader, &mut client, &Request::Put(mark)).expect("put");
    let compact = Request::Compact { revision: header.revision, physical: true };
    group.call(leader, &mut client, &compact).expect("compacted");
    for slot in 0..3 {
        group.member(slot).deeds.clear();
    }
    group.advance(15_000_000);
    for slot in 0..3 {
        let given_back = group.member(slot).deeds.iter().map(|deed| match deed {
            Deed::PunchHole { pages } => *pages,
            _ => 0,
        });
        let pages: u64 = given_back.sum();
        assert!(500 < pages, "member {slot} gave {pages} pages back");
    }
}

#[test]
fn storage_pages_7_a_full_disk_is_foreseen_by_any_member_and_told_to_all() {
    let mut group = Group::serving(3);
    let leader = group.leader().expect("it serves");
    let follower = (leader + 1) % 3;
    let put = Request::Put(PutRequest { key: b"key-1", value: b"v", ..PutRequest::default() });
    let mut clients: Vec<_> = (0..3).map(|slot| group.connect(slot)).collect();
    group.call(follower, &mut clients[follower], &put).expect("there is room");
    group.member(follower).tell_space(true);
    group.advance(100_000);
    for (slot, client) in clients.iter_mut().enumerate() {
        let refused = group.call(slot, client, &put).expect_err("no room");
        assert_eq!(refused.message, "etcdserver: mvcc: database space exceeded");
        group.call(slot, client, &all_keys()).expect("what makes room is done");
    }
    // Room alone changes nothing: somebody has to say that it stays.
    group.member(follower).tell_space(false);
    group.advance(100_000);
    group.call(leader, &mut clients[leader], &put).expect_err("the alarm is up");
}
