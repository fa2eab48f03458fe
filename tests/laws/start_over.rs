//! Replication, "Damage" 1 and 3: a start that what is left on the disk is not enough for, and what
//! the others have dropped is not either, goes on from another member's state.

use engine::engine::Engine;
use engine::page::heap::HeapPages;
use engine::page::map::PAGE_SIZE_BYTES;
use engine::page::meta::choose_meta;
use engine::wal::recovery::recover;
use tests::sim::client::SimClient;
use tests::sim::member::{Deed, Storage};

use super::group::Group;
use super::transfer::puts;

const GROUP: engine::wal::position::GroupId = engine::wal::position::GroupId(1);

/// A group whose follower is down, with entries behind its checkpoint, and the client of its leader.
fn written() -> (Group, [usize; 2], SimClient) {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    puts(&mut group, leader, &mut client, 5);
    group.advance(6_000_000);
    puts(&mut group, leader, &mut client, 2);
    group.run_until("the follower has it", |group| has_caught_up(group, [leader, follower]));
    group.kill(follower);
    (group, [leader, follower], client)
}

fn has_caught_up(group: &mut Group, slots: [usize; 2]) -> bool {
    let [one, other] = slots.map(|slot| group.member(slot).raft_status());
    one.applied == other.applied
}

/// The bits of a frame change so that entries are lost, and it is known which.
fn with_a_hole(whole: &Storage) -> Storage {
    let mut altered = whole.clone();
    let applied = applied_of(whole);
    for offset in (0..1 << 20).step_by(512) {
        altered.wal.flip(offset);
        if has_hole_behind(&altered, applied) {
            return altered;
        }
        altered.wal.flip(offset);
    }
    panic!("entries are in some frame");
}

fn applied_of(storage: &Storage) -> u64 {
    let [first, second] = storage.pages.meta_slots();
    choose_meta(&first, &second).unwrap().unwrap().applied_index
}

fn has_hole_behind(storage: &Storage, applied: u64) -> bool {
    let Ok(recovered) = recover(&storage.wal) else { return false };
    let group = &recovered.groups[&GROUP];
    group.missing.iter().any(|(_, last)| applied < *last) && !group.state.is_damaged
}

/// Pages without which the store does not open are broken.
fn without_roots(mut storage: Storage) -> Storage {
    let [first, second] = storage.pages.meta_slots();
    let meta = choose_meta(&first, &second).unwrap().unwrap();
    let count = storage.pages.bytes().len() / PAGE_SIZE_BYTES;
    for page in 2..count {
        let at = page * PAGE_SIZE_BYTES + 2_000;
        storage.pages.bytes_mut()[at] ^= 1;
        if Engine::open(storage.pages.clone(), &meta).is_ok() {
            storage.pages.bytes_mut()[at] ^= 1;
        }
    }
    storage
}

/// How a start ends that puts another member's state in place.
#[derive(Clone, Copy)]
enum Crash {
    /// It is killed when the copying was asked for, and nothing of it was done.
    Copying,
    /// It is killed when all is in place.
    Copied,
    /// The disk says twice that the pages are in their places, and they are not.
    PagesLost,
}

fn starts_over(storage: impl Fn(&Storage) -> Storage) {
    for crash in [Crash::Copying, Crash::Copied, Crash::PagesLost] {
        starts_over_after(&storage, crash);
    }
}

/// The follower starts with `storage` when the others have long dropped what it lacks; its first
/// start ends in the middle, and in the end it is a member like any other.
fn starts_over_after(storage: &impl Fn(&Storage) -> Storage, crash: Crash) {
    let (mut group, [leader, follower], _) = written();
    let altered = storage(group.stored(follower));
    group.restore(follower, altered);
    // Nor does it know of the others' term.
    group.kill(leader);
    group.start(leader);
    group.run_until("one of the two leads", |group| group.leader().is_some());
    let leader = group.leader().expect("just seen");
    let mut client = group.connect(leader);
    puts(&mut group, leader, &mut client, 70);
    group.start(follower);
    match crash {
        Crash::Copying => group.member(follower).stick_installs(),
        Crash::Copied => {}
        Crash::PagesLost => group.member(follower).lose_installs(2),
    }
    group.run_until("its pages are being replaced", |group| {
        let member = group.member(follower);
        match crash {
            Crash::Copying | Crash::Copied => member.deeds.contains(&Deed::PagesInstall),
            Crash::PagesLost => member.is_over,
        }
    });
    group.kill(follower);
    // The log goes on meanwhile.
    puts(&mut group, leader, &mut client, 3);
    group.start(follower);
    let slots = [leader, follower];
    group.run_until("it is where the others are", |group| has_caught_up(group, slots));
    assert!(group.member(follower).is_serving);
    puts(&mut group, leader, &mut client, 1);
    group.advance(6_000_000);
    group.run_until("it follows", |group| has_caught_up(group, slots));
    let metas = slots.map(|slot| group.member(slot).storage().pages.meta_slots());
    assert!(metas[0] == metas[1], "the same pages at the same checkpoints");
    // What it writes down now is whole: it starts from that, and may lead.
    group.kill(follower);
    group.start(follower);
    group.run_until("it is back", |group| has_caught_up(group, slots));
    let complaints = group.member(follower).complaints.clone();
    assert!(complaints.is_empty(), "{complaints:?}");
    group.hand_over(follower);
    let mut client = group.connect(follower);
    puts(&mut group, follower, &mut client, 1);
}

#[test]
fn replication_damage_1_a_hole_that_nobody_fills_any_more_is_replaced_by_a_state() {
    starts_over(with_a_hole);
}

#[test]
fn replication_damage_3_a_member_whose_meta_pages_are_broken_is_given_a_state() {
    starts_over(|storage| {
        let mut storage = storage.clone();
        for slot in 0..2 {
            storage.pages.bytes_mut()[slot * PAGE_SIZE_BYTES + 8] ^= 1;
        }
        storage
    });
}

#[test]
fn replication_damage_3_a_member_whose_page_file_is_gone_is_given_a_state() {
    starts_over(|storage| Storage { pages: HeapPages::default(), ..storage.clone() });
}

#[test]
fn replication_damage_3_a_store_is_given_again_while_nobody_writes() {
    let (mut group, [leader, follower], _) = written();
    group.start(follower);
    let slots = [leader, follower];
    // Its log begins where the newest checkpoint of all ends, and goes on a little.
    for _ in 0..2 {
        group.advance(6_000_000);
        group.run_until("the follower has it", |group| has_caught_up(group, slots));
        group.kill(follower);
        let gone = Storage { pages: HeapPages::default(), ..group.stored(follower).clone() };
        group.restore(follower, gone);
        group.start(follower);
        group.run_until("it serves", |group| group.member(follower).is_serving);
        assert!(has_caught_up(&mut group, slots));
    }
}

#[test]
fn replication_damage_3_a_start_whose_pages_nobody_has_any_more_is_given_a_state() {
    starts_over(|storage| without_roots(storage.clone()));
}
