//! A slow disk and one that hangs: the group goes on without it.
//!
//! The member's driver holds back the news that a write is durable (docs/test-flags.md). The data
//! lies in memory, so that this is the only disk that is slow.

use std::time::{Duration, Instant};

use ::tests::process::Cluster;

use crate::ask::{assert_equal, insist, leader, median, member_id, without};
use crate::spray::{Spray, longest_gap};
use crate::{alone, corestone};

const ALL: [usize; 3] = [0, 1, 2];
const SLOW: usize = 0;
const SYNC_DELAY: Duration = Duration::from_millis(20);

/// 20 ms a sync at one member, as a follower and as the leader: commits follow the fastest quorum.
#[test]
fn a_member_with_a_slow_disk_does_not_slow_commits() {
    let _turn = alone();
    let mut cluster = Cluster::unstarted(&corestone(), 3, &[]);
    let flag = format!("--test-wal-sync-delay-ms={}", SYNC_DELAY.as_millis());
    cluster.member(SLOW).add_flag(&flag);
    cluster.keep_in_memory();
    cluster.found().unwrap();
    for slow_leads in [false, true] {
        move_leader(&cluster, if slow_leads { SLOW } else { 1 });
        for through in ALL {
            let url = cluster.client_url(through);
            let puts = (0..PUTS).map(|number| {
                let begin = Instant::now();
                insist(&url, "KV.Put", &format!(r#"key: "k" value: "{number}""#));
                begin.elapsed()
            });
            let middle = median(puts.collect());
            println!("slow leads: {slow_leads}, put through {through}: {middle:?}");
            assert!(middle < SYNC_DELAY, "slow leads: {slow_leads}, through {through}: {middle:?}");
        }
        assert_eq!(leader(&cluster, &ALL) == SLOW, slow_leads, "leadership moved meanwhile");
    }
    // Nor does it hold an election up: its vote has to be durable first.
    move_leader(&cluster, 1);
    let spray = Spray::start(&cluster.client_url(2));
    spray.first_success(Instant::now());
    let begin = Instant::now();
    cluster.member(1).kill();
    let stall = spray.first_success(begin);
    spray.stop();
    println!("an election with a slow voter: {stall:?}");
    assert!(stall < Duration::from_millis(600), "{stall:?}");
    cluster.member(1).restart();
    assert_equal(&cluster, &ALL);
}

/// The leader's disk hangs for 3 s: it hands over without a write of its own.
#[test]
fn a_leader_whose_disk_hangs_hands_over_in_200_ms() {
    let _turn = alone();
    let folder = tempfile::TempDir::new().unwrap();
    let hang_file = |member: usize| folder.path().join(format!("hang-{member}"));
    let mut cluster = Cluster::unstarted(&corestone(), 3, &[]);
    for member in ALL {
        let flag = format!("--test-wal-hang-file={}", hang_file(member).display());
        cluster.member(member).add_flag(&flag);
    }
    cluster.keep_in_memory();
    cluster.found().unwrap();
    let mut gaps = Vec::new();
    for _ in 0..ROUNDS {
        let old = leader(&cluster, &ALL);
        let sprays: Vec<Spray> = without(&ALL, old)
            .iter()
            .map(|&other| Spray::start(&cluster.client_url(other)))
            .collect();
        let all_write = || {
            for spray in &sprays {
                spray.first_success(Instant::now());
            }
        };
        all_write();
        let begin = Instant::now();
        std::fs::write(hang_file(old), "").unwrap();
        while begin.elapsed() < HANG {
            all_write();
        }
        let end = Instant::now();
        std::fs::remove_file(hang_file(old)).unwrap();
        let shots = sprays.into_iter().map(Spray::stop);
        let longest = shots.map(|shots| longest_gap(&shots, [begin, end])).max().unwrap();
        gaps.push(longest);
        assert_ne!(leader(&cluster, &without(&ALL, old)), old);
        assert_equal(&cluster, &ALL);
    }
    println!("longest write gap when the leader's disk hangs for {HANG:?}: {gaps:?}");
    assert!(median(gaps.clone()) < Duration::from_millis(200), "{gaps:?}");
}

/// Makes a member the leader.
fn move_leader(cluster: &Cluster, to: usize) {
    let old = leader(cluster, &ALL);
    if old != to {
        let target = member_id(&cluster.client_url(to));
        let target = format!("targetID: {target}");
        insist(&cluster.client_url(old), "Maintenance.MoveLeader", &target);
    }
    assert_eq!(leader(cluster, &ALL), to);
}

const PUTS: usize = 41;
const ROUNDS: usize = 3;
const HANG: Duration = Duration::from_secs(3);
