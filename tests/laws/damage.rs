//! Storage, "Reading through the map" 4, in a group of several: a page that stays broken is fetched
//! from another member, and what needs it waits.

use std::collections::BTreeMap;

use engine::api::{DeleteRangeRequest, PutRequest, RangeRequest};
use engine::engine::Engine;
use engine::page::heap::HeapPages;
use engine::page::map::PAGE_SIZE_BYTES;
use engine::page::meta::choose_meta;
use engine::wal::recovery::recover;
use net::wire::{Answer, ClusterRequest, Request, WatchCreateRequest};
use tests::sim::client::{SimClient, WatchSaid};

use super::group::Group;

/// Keys of the store, small values but for one of many.
const KEYS: u32 = 700;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:04}").into_bytes()
}

/// Sends requests, a hundred at a time, and waits for their answers.
fn write(group: &mut Group, slot: usize, client: &mut SimClient, requests: &[Request<'_>]) {
    for some in requests.chunks(100) {
        some.iter().for_each(|request| {
            client.send(request);
        });
        client.flush(group.member(slot));
        group.pump();
        client.fetch(group.member(slot));
        let begin_us = group.now_us;
        while client.outcomes.len() < some.len() {
            assert!(group.now_us < begin_us + 20_000_000, "no answer came");
            group.advance(2_000);
            client.fetch(group.member(slot));
        }
        for (_, outcome) in client.outcomes.drain(..) {
            outcome.expect("it is done");
        }
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request::Put(PutRequest { key, value, ..PutRequest::default() })
}

/// Puts every key of the store, with values that tell `round`.
fn put_all(group: &mut Group, slot: usize, client: &mut SimClient, model: &mut Model, round: u8) {
    let pairs: Vec<_> = (0..KEYS)
        .map(|number| (key(number), vec![round; if number % 50 == 7 { 9_000 } else { 150 }]))
        .collect();
    let requests: Vec<_> = pairs.iter().map(|(key, value)| put(key, value)).collect();
    write(group, slot, client, &requests);
    model.extend(pairs);
}

/// A group at rest whose members have everything in equal pages.
fn written(count: usize) -> (Group, Model) {
    let mut group = Group::serving(count);
    let leader = group.leader().unwrap();
    let mut client = group.connect(leader);
    let mut model = Model::new();
    for round in 1..4 {
        put_all(&mut group, leader, &mut client, &mut model, round);
    }
    rest(&mut group);
    (group, model)
}

/// Waits until all members hold the same pages.
fn rest(group: &mut Group) {
    group.advance(6_000_000);
    group.run_until("all are equal", |group| {
        let metas = group.slots().into_iter().map(|slot| pages(group, slot).meta_slots());
        let metas: Vec<_> = metas.collect();
        metas.iter().all(|slots| *slots == metas[0])
    });
}

fn pages(group: &mut Group, slot: usize) -> HeapPages {
    group.member(slot).storage().pages.clone()
}

fn opened(pages: HeapPages) -> Option<Engine<HeapPages>> {
    let [first, second] = pages.meta_slots();
    let meta = choose_meta(&first, &second).unwrap().unwrap();
    Engine::open(pages, &meta).ok()
}

fn all() -> RangeRequest<'static> {
    RangeRequest { key: b"\0", range_end: b"\0", ..RangeRequest::default() }
}

/// Pages that `concerns` an open store when they are broken.
fn pages_that(pages: &HeapPages, concerns: impl Fn(&Engine<HeapPages>) -> bool) -> Vec<u64> {
    let count = pages.bytes().len() / PAGE_SIZE_BYTES;
    let is_concerned = |page: &u64| {
        let mut altered = pages.clone();
        altered.bytes_mut()[*page as usize * PAGE_SIZE_BYTES + 2_000] ^= 1;
        opened(altered).is_some_and(|engine| concerns(&engine))
    };
    (2..count as u64).filter(is_concerned).collect()
}

fn breaks_reads(engine: &Engine<HeapPages>) -> bool {
    engine.range(&all()).is_err()
}

/// Reads everything by a member and compares it.
fn assert_reads(group: &mut Group, slot: usize, model: &Model) {
    let mut client = group.connect(slot);
    let (_, answer) = group.call(slot, &mut client, &Request::Range(all())).expect("it is read");
    let Answer::Range(range) = answer else { panic!("{answer:?}") };
    let read: Model = range.kvs.iter().map(|kv| (kv.key.to_vec(), kv.value.to_vec())).collect();
    assert_eq!(range.count as usize, model.len());
    assert!(read == *model, "member {slot} reads something else");
}

fn repairs(group: &mut Group, slot: usize) -> usize {
    let complaints = &group.member(slot).complaints;
    complaints.iter().filter(|line| line.contains("a broken page was repaired")).count()
}

/// That the same pages are named everywhere, and that all that reads need is whole.
fn assert_equal_pages(group: &mut Group) {
    rest(group);
    for slot in group.slots() {
        let engine = opened(pages(group, slot)).expect("the checkpoint opens");
        assert!(!breaks_reads(&engine), "no page is broken");
    }
}

#[test]
fn storage_map_4_a_read_waits_until_its_page_is_repaired_from_a_peer() {
    let (mut group, model) = written(3);
    for slot in 0..3 {
        let whole = pages(&mut group, slot);
        let concerned = pages_that(&whole, breaks_reads);
        assert!(20 < concerned.len(), "only {} pages", concerned.len());
        // Leaves, branches and parts of long values.
        let broken: Vec<u64> = concerned.iter().step_by(9).copied().collect();
        broken.iter().for_each(|page| group.member(slot).alter_page(*page));
        assert_reads(&mut group, slot, &model);
        assert!(pages(&mut group, slot).bytes() == whole.bytes(), "repaired on the disk");
        let repaired = repairs(&mut group, slot);
        assert!(0 < repaired && repaired <= broken.len());
        assert_eq!(group.member(slot).complaints.len(), repaired, "one line a page");
        let written = group.member(slot).storage().side.bytes().len();
        assert_eq!(written, 0, "nothing is left in the side file");
    }
}

#[test]
fn storage_map_4_an_entry_that_meets_a_broken_page_is_applied_when_it_is_repaired() {
    let (mut group, mut model) = written(3);
    let leader = group.leader().unwrap();
    let follower = group.follower();
    let mut client = group.connect(leader);
    for (round, slot) in [(10, follower), (11, leader)] {
        rest(&mut group);
        // Not behind a fresh checkpoint: there is something to apply again.
        let last = key(KEYS - 1);
        let hundred: Vec<_> = (0..100).map(|_| put(&last, b"again")).collect();
        write(&mut group, leader, &mut client, &hundred);
        model.insert(last.clone(), b"again".to_vec());
        let whole = pages(&mut group, slot);
        let concerned = pages_that(&whole, breaks_reads);
        concerned.iter().step_by(3).for_each(|page| group.member(slot).alter_page(*page));
        // Fewer than would take the others on by two intervals.
        let some: Vec<_> =
            (0..KEYS).step_by(9).map(|number| (key(number), vec![round; 90])).collect();
        let requests: Vec<_> = some.iter().map(|(key, value)| put(key, value)).collect();
        write(&mut group, leader, &mut client, &requests);
        model.extend(some);
        let deletion =
            DeleteRangeRequest { key: b"key-0100", range_end: b"key-0300", prev_kv: false };
        write(&mut group, leader, &mut client, &[Request::DeleteRange(deletion)]);
        group.run_until("it is applied", |group| {
            let applied = [leader, slot].map(|slot| group.member(slot).raft_status().applied);
            applied[0] == applied[1]
        });
        model.retain(|key, _| !(b"key-0100".as_slice()..b"key-0300").contains(&key.as_slice()));
        // Nothing was read here yet: they were met in applying.
        assert!(0 < repairs(&mut group, slot));
        assert_reads(&mut group, slot, &model);
    }
    assert_equal_pages(&mut group);
}

#[test]
fn storage_map_4_what_no_other_member_has_is_refused_and_the_rest_is_served() {
    let (mut group, model) = written(3);
    let leader = group.leader().unwrap();
    let whole = pages(&mut group, leader);
    let concerned = pages_that(&whole, breaks_reads);
    let broken = concerned[concerned.len() / 2];
    // Broken everywhere, in the same way.
    (0..3).for_each(|slot| group.member(slot).alter_page(broken));
    let mut client = group.connect(leader);
    let failure = group.call(leader, &mut client, &Request::Range(all())).unwrap_err();
    assert!(failure.message.contains("corrupt cluster"), "{failure:?}");
    let complaints = &group.member(leader).complaints;
    assert!(complaints.iter().any(|line| line.contains("on no other member")), "{complaints:?}");
    let one = RangeRequest { key: b"key-0000", ..RangeRequest::default() };
    group.call(leader, &mut client, &Request::Range(one)).expect("that is on another page");
    // One member has it again: the others get it from there, when they ask again.
    group.member(0).alter_page(broken);
    group.advance(11_000_000);
    for slot in 0..3 {
        assert_reads(&mut group, slot, &model);
        assert!(pages(&mut group, slot).bytes() == whole.bytes());
    }
}

#[test]
fn storage_map_4_a_page_that_a_silent_member_may_have_is_not_called_lost() {
    let (mut group, model) = written(3);
    let follower = group.follower();
    let whole = pages(&mut group, follower);
    let concerned = pages_that(&whole, breaks_reads);
    let broken = concerned[concerned.len() / 2];
    group.isolate(follower, true);
    group.member(follower).alter_page(broken);
    let mut client = group.connect(follower);
    let read = Request::Range(RangeRequest { serializable: true, ..all() });
    // Refused when it was waited for, then at once.
    for _ in 0..2 {
        let failure = group.call(follower, &mut client, &read).unwrap_err();
        assert!(failure.message.contains("timed out"), "{failure:?}");
    }
    group.isolate(follower, false);
    group.advance(11_000_000);
    assert_reads(&mut group, follower, &model);
    assert!(pages(&mut group, follower).bytes() == whole.bytes());
}

#[test]
fn storage_map_4_a_start_that_needs_a_broken_page_waits_for_it_and_takes_no_part_before() {
    let (mut group, model) = written(3);
    let whole = pages(&mut group, 0);
    let count = whole.bytes().len() / PAGE_SIZE_BYTES;
    let is_needed = |page: &u64| {
        let mut altered = whole.clone();
        altered.bytes_mut()[*page as usize * PAGE_SIZE_BYTES + 2_000] ^= 1;
        opened(altered).is_none()
    };
    let needed: Vec<u64> = (2..count as u64).filter(is_needed).collect();
    assert!(4 <= needed.len(), "roots and freelist: {needed:?}");
    let follower = group.follower();
    group.kill(follower);
    let mut storage = group.stored(follower).clone();
    for page in &needed {
        storage.pages.bytes_mut()[*page as usize * PAGE_SIZE_BYTES + 2_000] ^= 1;
    }
    group.restore(follower, storage);
    group.isolate(follower, true);
    group.start(follower);
    group.advance(4_000_000);
    let status = group.member(follower).raft_status();
    assert!(!group.member(follower).is_serving && status.commit.0 == 0, "it takes no part");
    let leader = group.leader().unwrap();
    group.isolate(follower, false);
    group.run_until("it serves", |group| group.member(follower).is_serving);
    assert_eq!(repairs(&mut group, follower), needed.len());
    assert_eq!(group.leader(), Some(leader), "nobody was disturbed");
    assert_reads(&mut group, follower, &model);
    assert_equal_pages(&mut group);
}

#[test]
fn replication_membership_4_births_that_the_wal_lost_are_told_and_noted_again() {
    let mut group = Group::serving(3);
    let follower = group.follower();
    group.advance(100_000);
    group.kill(follower);
    let whole = group.stored(follower).clone();
    // A frame whose payload is lost while its directory is there.
    let loses_notes = |offset: &usize| {
        let mut altered = whole.clone();
        altered.wal.flip(*offset as u64);
        recover(&altered.wal).is_ok_and(|recovered| {
            let is_damaged = recovered.groups.values().any(|group| group.state.is_damaged);
            recovered.has_lost_notes && !is_damaged
        })
    };
    let offset = (0..1 << 20).step_by(128).find(loses_notes).expect("notes are in some frame");
    let mut altered = whole.clone();
    altered.wal.flip(offset as u64);
    group.restore(follower, altered);
    group.start(follower);
    group.run_until("it serves", |group| group.member(follower).is_serving);
    let complaints = group.member(follower).complaints.clone();
    assert!(complaints.iter().any(|line| line.contains("births")), "{complaints:?}");
    group.advance(100_000);
    let noted = recover(&group.member(follower).storage().wal).unwrap().notes;
    assert_eq!(noted.len(), 2, "each of the others is noted again");
}

/// A follower has broken pages, and `write` takes the others on by many intervals before it can ask
/// them. The leader and the follower, when that one caught up nevertheless.
fn left_without_pages(
    write_much: impl Fn(&mut Group, usize, &mut SimClient, &mut Model),
) -> (Group, Model, [usize; 2]) {
    let (mut group, mut model) = written(3);
    let leader = group.leader().unwrap();
    let follower = group.follower();
    let mut client = group.connect(leader);
    let last = key(KEYS - 1);
    let few: Vec<_> = (0..20).map(|_| put(&last, b"again")).collect();
    write(&mut group, leader, &mut client, &few);
    model.insert(last.clone(), b"again".to_vec());
    let whole = pages(&mut group, follower);
    let concerned = pages_that(&whole, breaks_reads);
    concerned.iter().step_by(2).for_each(|page| group.member(follower).alter_page(*page));
    let others = [leader, 3 - leader - follower];
    others.iter().for_each(|other| group.hold(follower, *other, true));
    write_much(&mut group, leader, &mut client, &mut model);
    others.iter().for_each(|other| group.hold(follower, *other, false));
    group.advance(4_000_000);
    group.run_until("it is where the others are", |group| caught_up(group, [leader, follower]));
    let complaints = &group.member(follower).complaints;
    assert!(complaints.iter().any(|line| line.contains("no entry is applied")), "{complaints:?}");
    assert_reads(&mut group, follower, &model);
    (group, model, [leader, follower])
}

fn caught_up(group: &mut Group, slots: [usize; 2]) -> bool {
    let [one, other] = slots.map(|slot| group.member(slot).raft_status());
    one.applied == other.applied
}

#[test]
fn storage_map_4_pages_that_no_member_has_any_more_are_replaced_by_a_newer_state() {
    let (mut group, mut model, slots) = left_without_pages(|group, leader, client, model| {
        for round in 20..24 {
            put_all(group, leader, client, model, round);
        }
    });
    let [leader, follower] = slots;
    let mut client = group.connect(leader);
    put_all(&mut group, leader, &mut client, &mut model, 30);
    assert_equal_pages(&mut group);
    // Its log is whole: it starts from what it has.
    group.kill(follower);
    group.start(follower);
    group.run_until("it is back", |group| caught_up(group, slots));
    assert_reads(&mut group, follower, &model);
}

#[test]
fn storage_map_4_a_state_is_taken_that_is_ahead_of_what_was_handed_out_and_of_a_change_of_members()
{
    // More bytes than Raft hands out while apply stands still.
    let long = vec![7; 120_000];
    let (mut group, mut model, slots) = left_without_pages(|group, leader, client, model| {
        let keys: Vec<_> = (0..200).map(key).collect();
        let puts: Vec<_> = keys.iter().map(|key| put(key, &long)).collect();
        puts.chunks(8).for_each(|few| write(group, leader, client, few));
        model.extend(keys.into_iter().map(|key| (key, long.clone())));
        let learner = "http://learner:2380";
        let add = ClusterRequest::MemberAdd { is_learner: true, peer_urls: vec![learner] };
        group.call(leader, client, &add).expect("it is added");
        put_all(group, leader, client, model, 20);
    });
    let [leader, follower] = slots;
    for slot in slots {
        let configuration = group.member(slot).raft_status().configuration;
        assert_eq!((configuration.voters.len(), configuration.learners.len()), (3, 1));
    }
    // It goes on, also as who leads.
    let mut client = group.connect(leader);
    put_all(&mut group, leader, &mut client, &mut model, 21);
    group.kill(leader);
    let next = group.next_leader(leader);
    let mut client = group.connect(next);
    put_all(&mut group, next, &mut client, &mut model, 22);
    group.start(leader);
    group.run_until("it is back", |group| caught_up(group, slots));
    assert_reads(&mut group, follower, &model);
    assert_equal_pages(&mut group);
}

/// Pages that only what is behind the newest versions needs.
fn history_pages(pages: &HeapPages) -> Vec<u64> {
    pages_that(pages, |engine| !breaks_reads(engine) && engine.hash_kv(0).is_err())
}

/// Deletes some keys and lets the group come to rest; says at which revision.
fn deleted(group: &mut Group, client: &mut SimClient, slot: usize, model: &mut Model) -> i64 {
    let deletion = DeleteRangeRequest { key: b"key-0200", range_end: b"key-0600", prev_kv: false };
    let (header, _) = group.call(slot, client, &Request::DeleteRange(deletion)).expect("deleted");
    model.retain(|key, _| !(b"key-0200".as_slice()..b"key-0600").contains(&key.as_slice()));
    rest(group);
    header.revision
}

#[test]
fn storage_map_4_a_removal_over_broken_pages_is_done_when_they_are_repaired() {
    let (mut group, mut model) = written(3);
    let leader = group.leader().unwrap();
    let follower = group.follower();
    let mut client = group.connect(leader);
    let revision = deleted(&mut group, &mut client, leader, &mut model);
    for slot in [leader, follower] {
        let concerned = history_pages(&pages(&mut group, slot));
        assert!(20 < concerned.len(), "only {} pages", concerned.len());
        concerned.iter().step_by(5).for_each(|page| group.member(slot).alter_page(*page));
    }
    let compact = Request::Compact { revision, physical: true };
    group.call(leader, &mut client, &compact).expect("it is removed");
    for slot in 0..3 {
        assert_reads(&mut group, slot, &model);
    }
    assert!(0 < repairs(&mut group, follower) && 0 < repairs(&mut group, leader));
    assert_equal_pages(&mut group);
}

#[test]
fn storage_map_4_a_removal_over_broken_pages_does_not_end_a_single_member() {
    let (mut group, mut model) = written(1);
    let mut client = group.connect(0);
    let revision = deleted(&mut group, &mut client, 0, &mut model);
    group.kill(0);
    let mut storage = group.stored(0).clone();
    for page in history_pages(&storage.pages) {
        storage.pages.bytes_mut()[page as usize * PAGE_SIZE_BYTES + 2_000] ^= 1;
    }
    group.restore(0, storage);
    group.start(0);
    group.run_until("it serves", |group| group.member(0).is_serving);
    let mut client = group.connect(0);
    let compact = Request::Compact { revision, physical: true };
    let asked = group.ask(0, &mut client, &compact);
    group.advance(5_000_000);
    assert_eq!(group.answer(0, &mut client, asked), None, "it waits for the removal");
    group.advance(5_000_000);
    let given_up = group.answer(0, &mut client, asked).expect("but not for ever");
    let message = given_up.expect_err("nothing was removed").message;
    assert_eq!(message, "etcdserver: request timed out");
    group.advance(20_000_000);
    assert_reads(&mut group, 0, &model);
    let complaints = &group.member(0).complaints;
    let said = complaints.iter().filter(|line| line.contains("is not removed")).count();
    assert!((2..=4).contains(&said), "{complaints:?}");
    // Neither at the next start.
    group.kill(0);
    group.start(0);
    group.advance(3_000_000);
    assert_reads(&mut group, 0, &model);
}

#[test]
fn storage_map_4_a_watch_over_broken_history_is_served_when_it_is_repaired() {
    for count in [3, 1] {
        let (mut group, _) = written(count);
        let slot = group.leader().unwrap();
        let concerned = history_pages(&pages(&mut group, slot));
        assert!(10 < concerned.len(), "only {} pages", concerned.len());
        concerned.iter().for_each(|page| group.member(slot).alter_page(*page));
        let mut client = group.connect(slot);
        let watch = WatchCreateRequest {
            key: b"\0",
            range_end: b"\0",
            start_revision: 2,
            ..WatchCreateRequest::default()
        };
        let id = group.ask(slot, &mut client, &Request::WatchCreate(watch));
        let mut told = Vec::new();
        for _ in 0..3_000 {
            client.credit(id, 1 << 20);
            client.flush(group.member(slot));
            group.advance(10_000);
            client.fetch(group.member(slot));
            for (_, said) in client.watched.drain(..) {
                if let WatchSaid::Events(events) = said {
                    told.extend(events.into_iter().map(|(_, _, revision)| revision));
                }
            }
            if 3 * KEYS as usize <= told.len() {
                break;
            }
        }
        if count == 1 {
            // Nobody else has the pages: the member goes on without, and says so.
            let complaints = &group.member(slot).complaints;
            assert!(complaints.iter().any(|line| line.contains("not served")), "{complaints:?}");
            continue;
        }
        assert!(0 < repairs(&mut group, slot));
        assert_eq!(told.len(), 3 * KEYS as usize, "every put of the three rounds");
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
    }
}
