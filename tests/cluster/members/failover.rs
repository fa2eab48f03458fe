//! How long writes stall when the leader goes: killed, standing still, or asked to stop.
//!
//! Default timeouts; the data lies in memory, so that no stall of the machine's own disk is counted.

use std::time::{Duration, Instant};

use crate::ask::{assert_equal, insist, leader, median, without};
use crate::spray::{Spray, longest_gap};
use crate::{alone, three_in_memory};

const ALL: [usize; 3] = [0, 1, 2];
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The sockets close and the port refuses: nobody waits for the election timeout.
#[test]
fn a_killed_leader_is_replaced_in_300_ms() {
    let _turn = alone();
    let mut cluster = three_in_memory();
    let mut stalls = Vec::new();
    for round in 0..10 {
        let old = leader(&cluster, &ALL);
        let others = without(&ALL, old);
        let url = cluster.client_url(others[round % 2]);
        insist(&url, "KV.Put", r#"key: "before" value: "1""#);
        let spray = Spray::start(&url);
        spray.first_success(Instant::now());
        let begin = Instant::now();
        cluster.member(old).kill();
        stalls.push(spray.first_success(begin));
        spray.stop();
        cluster.member(old).restart();
    }
    println!("writes again after SIGKILL of the leader: {stalls:?}");
    assert!(median(stalls.clone()) < Duration::from_millis(300), "{stalls:?}");
    assert_equal(&cluster, &ALL);
}

/// Nothing closes: the followers have to wait for the timeout.
#[test]
fn a_paused_leader_is_replaced_in_one_and_a_half_election_timeouts() {
    let _turn = alone();
    let cluster = three_in_memory();
    let mut stalls = Vec::new();
    for round in 0..5 {
        let old = leader(&cluster, &ALL);
        let others = without(&ALL, old);
        let url = cluster.client_url(others[round % 2]);
        let spray = Spray::start(&url);
        spray.first_success(Instant::now());
        let begin = Instant::now();
        cluster.members()[old].pause();
        stalls.push(spray.first_success(begin));
        spray.stop();
        cluster.members()[old].resume();
        insist(&cluster.client_url(old), "KV.Range", r#"key: "any""#);
    }
    println!("writes again after SIGSTOP of the leader: {stalls:?}");
    assert!(median(stalls.clone()) < ELECTION_TIMEOUT * 3 / 2, "{stalls:?}");
    assert_equal(&cluster, &ALL);
}

/// It hands over before it ends: no write fails, none waits long.
#[test]
fn a_leader_that_is_asked_to_stop_hands_over_in_50_ms() {
    let _turn = alone();
    let mut cluster = three_in_memory();
    let mut stalls = Vec::new();
    for round in 0..5 {
        let old = leader(&cluster, &ALL);
        let others = without(&ALL, old);
        let spray = Spray::start(&cluster.client_url(others[round % 2]));
        spray.first_success(Instant::now());
        let begin = Instant::now();
        cluster.member(old).terminate();
        spray.first_success(Instant::now());
        let end = Instant::now();
        let shots = spray.stop();
        stalls.push(longest_gap(&shots, [begin, end]));
        let failed: Vec<_> = shots.iter().filter_map(|shot| shot.error.as_ref()).collect();
        assert!(failed.is_empty(), "round {round}: {failed:?}");
        cluster.member(old).restart();
    }
    println!("writes stall when the leader stops: {stalls:?}");
    assert!(median(stalls.clone()) < Duration::from_millis(50), "{stalls:?}");
    assert_equal(&cluster, &ALL);
}
