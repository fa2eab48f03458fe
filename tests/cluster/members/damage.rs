//! Logs that were altered on disk while no process had them open: a member of several fetches what
//! is lost from the others before it takes part again, and nothing acknowledged is lost even when
//! every member lacks something else.
//! Source: replication.md, Damage 1.

use ::tests::process::Cluster;
use ::tests::process::wal_frames::{Frame, flip, newest_segment, wait_until_quiet};

use crate::ask::assert_equal;
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

/// Inverts a byte in the payload of a frame, `part` sixteenths from the begin of the newest segment.
fn alter(cluster: &mut Cluster, member: usize, part: usize) {
    let (segment, frames) = newest_segment(cluster.member(member));
    let frames: Vec<&Frame> = frames.iter().filter(|one| 0 < one.payload_size).collect();
    let frame = frames[frames.len() * part / 16];
    flip(&segment, frame.offset + frame.payload_offset + frame.payload_size / 2);
}
