//! Members that lag behind what the leader still has of the log, or have nothing at all: they are
//! sent the state, and hold the same as the others.

use std::time::Duration;

use crate::ask::{assert_equal, insist, leader, member_id, without};
use crate::load::{Load, verify};
use crate::{alone, three};

const ALL: [usize; 3] = [0, 1, 2];
/// One of these many transactions is about a megabyte: together more than a leader keeps.
const LARGE_WRITES: usize = 150;
const KEYS_PER_WRITE: usize = 100;
const VALUE_SIZE_BYTES: usize = 11_000;
const INSTALLED: &str = "installed the state of the cluster";
const LOG_PATIENCE: Duration = Duration::from_secs(30);

/// Writes so much that what was there before leaves the leader's memory.
fn write_much(url: &str, round: usize) {
    let filling = "x".repeat(VALUE_SIZE_BYTES);
    for write in 0..LARGE_WRITES {
        let put = |key: usize| {
            let value = format!("{round}-{write}-{key}-{filling}");
            format!(r#"success {{ request_put {{ key: "big/{write}/{key}" value: "{value}" }} }}"#)
        };
        let text: String = (0..KEYS_PER_WRITE).map(put).collect();
        insist(url, "KV.Txn", &text);
    }
}

#[test]
fn a_member_that_lags_catches_up_by_pages_while_clients_write() {
    let _turn = alone();
    let mut cluster = three();
    let lagging = without(&ALL, leader(&cluster, &ALL))[0];
    let others = without(&ALL, lagging);
    let urls: Vec<String> = others.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    load.wait_for_new(20);
    cluster.member(lagging).kill();
    write_much(&urls[0], 0);
    cluster.member(lagging).restart();
    let log = cluster.members()[lagging].log();
    assert!(log.wait_for(INSTALLED, LOG_PATIENCE).is_some(), "it was sent the state");
    load.wait_for_new(100);
    // Once more, killed in the middle of it.
    cluster.member(lagging).kill();
    write_much(&urls[0], 1);
    cluster.member(lagging).spawn();
    cluster.members()[lagging].log().wait_for("fetching the state", LOG_PATIENCE);
    cluster.member(lagging).kill();
    cluster.member(lagging).restart();
    load.wait_for_new(20);
    let records = load.stop();
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}

#[test]
fn a_member_without_its_disk_is_refused_and_comes_back_as_a_new_one() {
    let _turn = alone();
    let mut cluster = three();
    write_much(&cluster.client_url(0), 0);
    let (lost, url) = (2, cluster.client_url(0));
    let lost_id = member_id(&cluster.client_url(lost));
    cluster.member(lost).kill();
    std::fs::remove_dir_all(cluster.member(lost).data_directory()).unwrap();
    // Who voted before must not vote again without knowing it.
    assert!(cluster.member(lost).try_restart().is_err(), "a second birth is refused");
    insist(&url, "Cluster.MemberRemove", &format!("ID: {lost_id}"));
    let candidate = cluster.candidate();
    let peer_url = candidate.peer_url();
    insist(&url, "Cluster.MemberAdd", &format!(r#"peerURLs: "{peer_url}""#));
    let joined = cluster.join(&[0, 1], candidate);
    cluster.member(joined).wait_until_ready().unwrap();
    assert!(cluster.members()[joined].log().wait_for(INSTALLED, LOG_PATIENCE).is_some());
    let revision = assert_equal(&cluster, &[0, 1, joined]);
    // It counts: with one of the others gone, the group goes on.
    cluster.member(1).kill();
    write_much(&cluster.client_url(joined), 1);
    cluster.member(1).restart();
    assert!(revision < assert_equal(&cluster, &[0, 1, joined]));
}
