//! A disk that runs full under one member of three: told as etcd tells it before anything ends,
//! and over when there is room and somebody says so.
//! Source: storage.md, Pages 7; fact sheet of etcd's behaviour, alarms.

use std::time::{Duration, Instant};

use tonic::Code;

use ::tests::process::{Cluster, Mount};

use crate::ask::{ask, assert_equal, insist, member_id};
use crate::{PATIENCE, alone, corestone};

const ALL: [usize; 3] = [0, 1, 2];
/// The disk, what is held back of it, and what it is made to hold later.
const DISK: &str = "400m";
const RESERVE: &str = "--space-reserve-bytes=157286400";
const LARGER_DISK: &str = "remount,size=1200m";
const VALUE_SIZE_BYTES: usize = 500_000;
const VALUES_MAX: usize = 2_000;

#[test]
fn a_disk_that_runs_full_stops_writes_and_nothing_else() {
    let _turn = alone();
    let mut cluster = Cluster::unstarted(&corestone(), 3, &[RESERVE]);
    let data = cluster.member(0).data_directory();
    std::fs::create_dir(&data).unwrap();
    let Some(mount) = Mount::memory(DISK, &data) else { return };
    cluster.found().unwrap();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let written = fill(&urls);
    assert!(50 < written, "{written} values before the disk was full");
    let log = cluster.member(0).log();
    assert!(log.contains("the member lives on its space reserve"), "{}", log.tail(20));
    let (full, other) = (member_id(&urls[0]), member_id(&urls[1]));
    assert_ne!(full, other);
    let is_up = |url: &str| alarms(url).contains(&format!("{full}"));
    for url in &urls {
        assert!(is_refused(url) && is_up(url));
        let read = insist(url, "KV.Range", "key: 'full/' range_end: 'full0' count_only: true");
        assert!(format!("{read:?}").contains(&format!("I64({written})")), "{read:?}");
    }
    // Deletions and compactions are what makes room.
    insist(&urls[1], "KV.DeleteRange", "key: 'full/0000' range_end: 'full/0010'");
    // Too early: it comes back.
    let disarm = format!("action: DEACTIVATE memberID: {full} alarm: NOSPACE");
    let answer = insist(&urls[2], "Maintenance.Alarm", &disarm);
    assert!(format!("{answer:?}").contains(&format!("{full}")), "it was up: {answer:?}");
    within_patience(|| is_up(&urls[2]));
    for member in ALL {
        assert!(cluster.member(member).is_running());
    }
    // Full as it is, it starts.
    cluster.member(0).kill();
    cluster.member(0).restart();
    assert!(is_refused(&urls[0]));
    mount.change(LARGER_DISK);
    within_patience(|| cluster.member(0).log().contains("the space reserve is whole"));
    insist(&urls[0], "Maintenance.Alarm", &disarm);
    for url in &urls {
        insist(url, "KV.Put", "key: 'after' value: 'room'");
    }
    assert_equal(&cluster, &ALL);
    drop(cluster);
    drop(mount);
}

/// Puts by turns through all members until one is refused; how many were taken.
fn fill(urls: &[String]) -> usize {
    let value = "v".repeat(VALUE_SIZE_BYTES);
    for slot in 0..VALUES_MAX {
        let put = format!("key: 'full/{slot:04}' value: '{value}'");
        match ask(&urls[slot % urls.len()], "KV.Put", &put) {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
                return slot;
            }
        }
    }
    panic!("{VALUES_MAX} values were all taken");
}

fn is_refused(url: &str) -> bool {
    let refused = ask(url, "KV.Put", "key: 'more' value: 'than fits'");
    refused.is_err_and(|status| status.code() == Code::ResourceExhausted)
}

fn alarms(url: &str) -> String {
    format!("{:?}", insist(url, "Maintenance.Alarm", "action: GET"))
}

/// # Panics
/// When it does not come about within [`PATIENCE`].
fn within_patience(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it did not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}
