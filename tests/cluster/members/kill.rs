//! SIGKILL of the leader, of a follower, of all members in a row, while a writer writes through each
//! of them: what was acknowledged is there once, revisions never go back, all members hold the same.

use crate::ask::{assert_equal, leader, without};
use crate::load::{Load, verify};
use crate::{alone, three};

const ALL: [usize; 3] = [0, 1, 2];
/// Acknowledged, of all writers together, between two blows.
const WRITES: usize = 150;

#[test]
fn kill_9_of_leader_follower_and_all_in_a_row_loses_nothing() {
    let _turn = alone();
    let mut cluster = three();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    load.wait_for_new(WRITES);

    let first = leader(&cluster, &ALL);
    cluster.member(first).kill();
    load.wait_for_new(WRITES);
    cluster.member(first).restart();
    load.wait_for_new(WRITES);

    let second = leader(&cluster, &ALL);
    let follower = without(&ALL, second)[0];
    cluster.member(follower).kill();
    load.wait_for_new(WRITES);
    cluster.member(follower).restart();
    load.wait_for_new(WRITES);

    // One after the other with both others there, then all of them at once.
    for member in ALL {
        cluster.member(member).kill();
        load.wait_for_new(WRITES);
        cluster.member(member).restart();
    }
    for round in 0..2 {
        load.wait_for_new(WRITES);
        ALL.iter().for_each(|&member| cluster.member(member).kill());
        // In either order: the first to come back finds nobody.
        let order = if round == 0 { [0, 1, 2] } else { [2, 1, 0] };
        order.iter().for_each(|&member| cluster.member(member).spawn());
        for member in order {
            cluster.member(member).wait_until_ready().unwrap();
        }
    }
    load.wait_for_new(WRITES);
    let records = load.stop();
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}
