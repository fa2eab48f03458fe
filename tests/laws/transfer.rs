//! Storage, "State transfer": a member that lags behind the log is given pages, and then the log.

use engine::api::PutRequest;
use engine::page::map::PAGE_SIZE_BYTES;
use engine::page::meta::{check_meta, choose_meta};
use net::wire::Request;
use raft::{Body, Configuration, EntryId, Index, ReplicaId, Snapshot, Term};
use tests::sim::client::SimClient;
use tests::sim::member::{Deed, Storage};

use super::group::Group;
use super::scripted::{Scripted, acknowledges, append, start};

/// Puts by the hundred, all answered.
pub fn puts(group: &mut Group, slot: usize, client: &mut SimClient, hundreds: usize) {
    for hundred in 0..hundreds {
        let value = vec![hundred as u8; 200];
        for number in 0..100 {
            let key = format!("key-{:03}-{number:02}", hundred % 7);
            let put = PutRequest { key: key.as_bytes(), value: &value, ..PutRequest::default() };
            client.send(&Request::Put(put));
        }
        client.flush(group.member(slot));
        group.pump();
        client.fetch(group.member(slot));
        while client.outcomes.len() < 100 {
            group.advance(2_000);
            client.fetch(group.member(slot));
        }
        assert!(client.outcomes.drain(..).all(|(_, outcome)| outcome.is_ok()));
    }
}

#[test]
fn storage_transfer_2_a_member_that_lags_gets_pages_and_then_the_entries_written_meanwhile() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    group.kill(follower);
    puts(&mut group, leader, &mut client, 70);
    group.start(follower);
    // Writes go on while the pages travel.
    puts(&mut group, leader, &mut client, 10);
    let caught_up = |group: &mut Group| {
        group.member(follower).raft_status().applied == group.member(leader).raft_status().applied
    };
    group.run_until("it has caught up", caught_up);
    assert!(group.member(follower).deeds.contains(&Deed::PagesInstall), "by entries alone");
    puts(&mut group, leader, &mut client, 1);
    group.advance(6_000_000);
    group.run_until("it follows", caught_up);
    let metas = [leader, follower].map(|slot| group.member(slot).storage().pages.meta_slots());
    assert!(metas[0] == metas[1], "the same pages at the same checkpoints");
}

#[test]
fn storage_transfer_1_the_meta_page_from_before_an_install_is_never_chosen() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    // A checkpoint of its own first, in both slots.
    puts(&mut group, leader, &mut client, 20);
    group.kill(follower);
    puts(&mut group, leader, &mut client, 70);
    group.start(follower);
    group.run_until("it is installed", |group| {
        let deeds = &group.member(follower).deeds;
        let installed = deeds.iter().position(|deed| *deed == Deed::PagesInstall);
        installed.is_some_and(|at| matches!(deeds[at..], [_, Deed::MetaWrite { .. }, ..]))
    });
    group.kill(follower);
    let mut storage = group.stored(follower).clone();
    let [first, second] = storage.pages.meta_slots();
    let newest = choose_meta(&first, &second).unwrap().unwrap();
    let other = check_meta([&first, &second][1 - newest.slot() as usize], 1 - newest.slot());
    let other = other.expect("the other slot holds an own checkpoint, whose pages are gone");
    assert!(other.interval < newest.interval);
    let at = newest.slot() as usize * PAGE_SIZE_BYTES;
    storage.pages.bytes_mut()[at..at + PAGE_SIZE_BYTES].fill(0);
    group.restore(follower, storage);
    group.start(follower);
    // Another member's state is given to it, instead of what is left under the other meta page.
    let caught_up = |group: &mut Group| {
        group.member(follower).raft_status().applied == group.member(leader).raft_status().applied
    };
    group.run_until("it has caught up", caught_up);
    let complaints = &group.member(follower).complaints;
    assert!(complaints[0].contains("the store is lost"), "{complaints:?}");
    assert!(complaints[0].contains("the WAL begins at entry"), "{complaints:?}");
}

#[test]
fn storage_transfer_2_a_state_that_is_known_already_is_answered_for() {
    let mut member = start(Storage::default(), 1_000_000);
    let mut leader = Scripted::join(&mut member, 2);
    leader.say(&mut member, 1, append(EntryId::default(), &[1, 1], 2));
    assert_eq!(member.raft_status().commit, Index(2));
    // Its answer to the state, or to these entries, was lost: the leader offers what it has.
    let last = EntryId { index: Index(2), term: Term(1) };
    let configuration = Configuration::of_voters([1, 2, 3].map(ReplicaId));
    let offer = Body::Snapshot { snapshot: Snapshot { last, configuration } };
    let said = leader.say(&mut member, 1, offer);
    assert!(said.iter().any(|body| acknowledges(body, 2)), "{said:?}");
}

#[test]
fn storage_transfer_1_what_was_copied_and_is_not_there_is_copied_once_more() {
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    puts(&mut group, leader, &mut client, 20);
    group.kill(follower);
    puts(&mut group, leader, &mut client, 70);
    group.start(follower);
    group.member(follower).lose_installs(1);
    let caught_up = |group: &mut Group| {
        group.member(follower).raft_status().applied == group.member(leader).raft_status().applied
    };
    group.run_until("it has caught up", caught_up);
    let member = group.member(follower);
    let installs = member.deeds.iter().filter(|deed| **deed == Deed::PagesInstall).count();
    assert_eq!((installs, member.is_over), (2, false));
    assert!(member.complaints[0].contains("copying it again"), "{:?}", member.complaints);
}

#[test]
fn storage_transfer_1_a_copy_that_fails_twice_ends_the_process_and_the_next_start_asks_the_others()
{
    let mut group = Group::serving(3);
    let (leader, follower) = (group.leader().unwrap(), group.follower());
    let mut client = group.connect(leader);
    puts(&mut group, leader, &mut client, 20);
    group.kill(follower);
    puts(&mut group, leader, &mut client, 70);
    group.start(follower);
    group.member(follower).lose_installs(2);
    group.run_until("it ends", |group| group.member(follower).is_over);
    let complaints = group.member(follower).complaints.join("\n");
    assert!(complaints.contains("the installed state cannot be opened"), "{complaints}");
    group.kill(follower);
    group.start(follower);
    let caught_up = |group: &mut Group| {
        group.member(follower).raft_status().applied == group.member(leader).raft_status().applied
    };
    group.run_until("it has caught up", caught_up);
    puts(&mut group, leader, &mut client, 1);
    group.run_until("it follows", caught_up);
}
