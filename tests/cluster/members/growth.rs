//! Members that come and go under load: 1, 3, 5 and back, a member that lost its disk.

use std::time::Duration;

use ::tests::process::{Cluster, Member};

use crate::ask::{ask, assert_equal, insist, leader, member_id};
use crate::load::{Load, verify};
use crate::read::{id, list, number};
use crate::{alone, corestone, three};

/// Writers write through the first member all the time, while four others come and go; among those
/// that go is the leader at that moment.
#[test]
fn a_cluster_grows_to_five_and_shrinks_back_under_load() {
    let _turn = alone();
    let mut cluster = Cluster::start(&corestone(), 1, &[]);
    // The second one is added in the first second, before anything came to rest.
    let urls = vec![cluster.client_url(0); WRITERS];
    let load = Load::start(&urls, Vec::new());
    load.wait_for_new(WRITES);
    let mut present = vec![0];
    while present.len() < 5 {
        let joiner = add(&mut cluster, &present);
        present.push(joiner);
        load.wait_for_new(WRITES);
        assert_eq!(member_count(&cluster, joiner), present.len());
    }
    assert_equal(&cluster, &present);
    // The first stays; leadership moves to it at last.
    while 1 < present.len() {
        let leading = leader(&cluster, &present);
        let leaver = if leading == 0 { present[1] } else { leading };
        let leaver_id = member_id(&cluster.client_url(leaver));
        insist(&cluster.client_url(0), "Cluster.MemberRemove", &format!("ID: {leaver_id}"));
        present.retain(|&member| member != leaver);
        load.wait_for_new(WRITES);
        assert_stopped(&mut cluster, leaver);
        assert_eq!(member_count(&cluster, 0), present.len());
    }
    let records = load.stop();
    verify(&cluster, &present, &records);
}

/// A wiped disk may have promised what it no longer knows: the process does not start with the id it
/// had, and comes back as a new member.
#[test]
fn a_member_that_lost_its_disk_comes_back_as_a_new_one() {
    let _turn = alone();
    let mut cluster = three();
    let urls: Vec<String> = (0..3).map(|member| cluster.client_url(member)).collect();
    let load = Load::start(&urls[..2], Vec::new());
    load.wait_for_new(WRITES);
    let lost = 2;
    let lost_id = member_id(&urls[lost]);
    cluster.member(lost).kill();
    std::fs::remove_dir_all(cluster.member(lost).data_directory()).unwrap();
    cluster.member(lost).spawn();
    let refusal = cluster.member(lost).log().wait_for(SECOND_BIRTH, REFUSED_PATIENCE);
    assert!(refusal.is_some(), "{}", cluster.member(lost).log().tail(5));
    let status = cluster.member(lost).wait_until_ended(REFUSED_PATIENCE);
    assert!(status.is_some_and(|status| !status.success()), "{status:?}");
    load.wait_for_new(WRITES);

    insist(&urls[0], "Cluster.MemberRemove", &format!("ID: {lost_id}"));
    let joiner = add(&mut cluster, &[0, 1]);
    assert_ne!(member_id(&cluster.client_url(joiner)), lost_id);
    load.wait_for_new(WRITES);
    let records = load.stop();
    verify(&cluster, &[0, 1, joiner], &records);
    assert_equal(&cluster, &[0, 1, joiner]);
}

/// Adds a member to the cluster and waits until it serves.
fn add(cluster: &mut Cluster, present: &[usize]) -> usize {
    let candidate = cluster.candidate();
    let urls = format!("peerURLs: {:?}", candidate.peer_url());
    let added = insist(&cluster.client_url(present[0]), "Cluster.MemberAdd", &urls);
    let joiner = cluster.join(present, candidate);
    cluster.member(joiner).wait_until_ready().unwrap();
    let wanted = id(&added, "member.ID");
    assert_eq!(member_id(&cluster.client_url(joiner)), wanted);
    joiner
}

fn member_count(cluster: &Cluster, through: usize) -> usize {
    let members = insist(&cluster.client_url(through), "Cluster.MemberList", "linearizable: true");
    assert!(0 <= number(&members, "header.revision"));
    list(&members, "members").len()
}

/// A removed member ends, as etcd's does, and takes no requests.
fn assert_stopped(cluster: &mut Cluster, removed: usize) {
    let url = cluster.client_url(removed);
    let member: &mut Member = cluster.member(removed);
    let ended = member.wait_until_ended(STOPPED_PATIENCE);
    assert!(ended.is_some(), "a removed member still runs:\n{}", member.log().tail(10));
    assert!(ask(&url, "KV.Put", r#"key: "late" value: "1""#).is_err());
}

const WRITERS: usize = 2;
/// Acknowledged between two changes.
const WRITES: usize = 60;
/// What a process says that finds its id among the members, and no data of its own.
const SECOND_BIRTH: &str = "has already been bootstrapped";
const REFUSED_PATIENCE: Duration = Duration::from_secs(10);
const STOPPED_PATIENCE: Duration = Duration::from_secs(15);
