//! Logs and pages that were altered on disk while no process had them open: a member of several
//! fetches what is lost from the others, before it takes part again or when it needs it, and nothing
//! acknowledged is lost even when every member lacks something else.
//! Source: replication.md, Damage 1; storage.md, "Reading through the map" 4.

use std::process::Command;

use ::tests::process::wal_frames::{Frame, flip, newest_segment, wait_until_quiet};
use ::tests::process::{Cluster, corestone_binary};

use crate::ask::{assert_equal, insist, leader, member_id, wait_for_metric, without};
use crate::load::{Load, verify};
use crate::{alone, three};

const ALL: [usize; 3] = [0, 1, 2];
/// Acknowledged, of all writers together, before the damage and after it.
const WRITES: usize = 400;

#[test]
fn logs_damaged_in_different_places_mend_each_other() {
    let _turn = alone();
    let mut cluster = three();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    load.wait_for_new(WRITES);
    let mut records = load.stop();
    for round in 0..3 {
        // One of them, two, then all.
        for member in 0..=round {
            wait_until_quiet(cluster.member(member));
        }
        ALL.iter().for_each(|&member| cluster.member(member).kill());
        for member in 0..=round {
            // Each somewhere else in its log: no entry is lost by two.
            alter(&mut cluster, member, 4 + 4 * member + round);
        }
        ALL.iter().for_each(|&member| cluster.member(member).spawn());
        for member in ALL {
            cluster.member(member).wait_until_ready().unwrap();
        }
        for member in 0..=round {
            let log = cluster.member(member).log();
            assert!(log.contains("the WAL is mended"), "{}", log.tail(20));
        }
        verify(&cluster, &ALL, &records);
        assert_equal(&cluster, &ALL);
        let load = Load::start(&urls, records);
        load.wait_for_new(WRITES);
        records = load.stop();
    }
    // What was mended stays so: the holes were written again.
    ALL.iter().for_each(|&member| cluster.member(member).kill());
    ALL.iter().for_each(|&member| cluster.member(member).spawn());
    for member in ALL {
        cluster.member(member).wait_until_ready().unwrap();
    }
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}

#[test]
fn pages_damaged_on_a_follower_and_on_a_leader_are_repaired_from_the_others() {
    let _turn = alone();
    let mut cluster = three();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    load.wait_for_new(4 * WRITES);
    let mut records = load.stop();
    let follower = without(&ALL, leader(&cluster, &ALL))[0];
    for (member, leads) in [(follower, false), (leader(&cluster, &ALL), true)] {
        // A store at rest brings all of it to its pages.
        urls.iter().for_each(|url| wait_for_metric(url, "corestone_checkpoints_total", 3));
        wait_until_quiet(cluster.member(member));
        cluster.member(member).kill();
        let altered = alter_pages(&mut cluster, member);
        assert!(10 < altered, "only {altered} pages");
        assert!(!is_clean(&mut cluster, member), "inspect sees the damage");
        cluster.member(member).spawn();
        cluster.member(member).wait_until_ready().unwrap();
        if leads {
            hand_over_to(&cluster, member);
        }
        // Everything is read, and written again, by the member with the damage too.
        verify(&cluster, &[member], &records);
        assert_equal(&cluster, &ALL);
        let load = Load::start(&urls, records);
        load.wait_for_new(WRITES);
        records = load.stop();
        verify(&cluster, &ALL, &records);
        assert_equal(&cluster, &ALL);
        wait_for_metric(&urls[member], "corestone_pages_repaired_total", 1);
        let log = cluster.member(member).log();
        assert!(log.contains("a broken page was repaired from another member"));
        assert!(cluster.member(member).is_running());
        wait_until_quiet(cluster.member(member));
        cluster.member(member).kill();
        assert!(is_clean(&mut cluster, member), "the pages are whole on the disk");
        cluster.member(member).spawn();
        cluster.member(member).wait_until_ready().unwrap();
    }
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}

/// Lets a member lead.
fn hand_over_to(cluster: &Cluster, member: usize) {
    let old = leader(cluster, &ALL);
    if old != member {
        let target = format!("targetID: {}", member_id(&cluster.client_url(member)));
        insist(&cluster.client_url(old), "Maintenance.MoveLeader", &target);
    }
    assert_eq!(leader(cluster, &ALL), member);
}

/// Inverts a byte of every second leaf in a page file; says of how many.
fn alter_pages(cluster: &mut Cluster, member: usize) -> usize {
    let path = cluster.member(member).data_directory().join("default.pages");
    let pages = std::fs::read(&path).unwrap();
    let leaves = pages.chunks_exact(PAGE_BYTES).enumerate().skip(2);
    let leaves = leaves.filter(|(_, page)| page[PAGE_KIND_AT] == PAGE_KIND_LEAF);
    let altered: Vec<usize> = leaves.map(|(number, _)| number).step_by(2).collect();
    altered.iter().for_each(|page| flip(&path, (page * PAGE_BYTES + 3000) as u64));
    altered.len()
}

/// Whether `corestone inspect pages` finds nothing wrong.
fn is_clean(cluster: &mut Cluster, member: usize) -> bool {
    let directory = cluster.member(member).data_directory();
    let mut inspect = Command::new(corestone_binary());
    let output = inspect.args(["inspect", "pages"]).arg(directory).output().unwrap();
    output.status.success()
}

const PAGE_BYTES: usize = 4096;
/// Where a page tells what it is, and what a leaf says (docs/format/page.md).
const PAGE_KIND_AT: usize = 24;
const PAGE_KIND_LEAF: u8 = 1;

/// Inverts a byte in the payload of a frame, `part` sixteenths from the begin of the newest segment.
fn alter(cluster: &mut Cluster, member: usize, part: usize) {
    let (segment, frames) = newest_segment(cluster.member(member));
    let frames: Vec<&Frame> = frames.iter().filter(|one| 0 < one.payload_size).collect();
    let frame = frames[frames.len() * part / 16];
    flip(&segment, frame.offset + frame.payload_offset + frame.payload_size / 2);
}
