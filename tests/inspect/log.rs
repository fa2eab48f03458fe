//! The log as lines of JSON: what clients asked for, in order, whatever became of the member.

use std::path::Path;
use std::time::Instant;

use ::tests::process::Member;
use corestone_client::{Compare, PutRequest, Txn};

use crate::files::wait_until_quiet;
use crate::{PATIENCE, Report, block_on, connect, inspect, start_with};

/// The requests among the lines, in order, after the lines were checked: indexes ascend by one from
/// `first_index`, terms never fall, the commit index stands last.
fn requests(report: &Report, first_index: u64) -> (Vec<&str>, u64) {
    let mut requests = Vec::new();
    let mut lines: Vec<&str> = report.text.lines().collect();
    let commit = lines.pop().expect("the commit index");
    let commit = commit.strip_prefix("{\"commit\":").and_then(|rest| rest.strip_suffix('}'));
    let commit = commit.expect("the commit index stands last").parse().unwrap();
    let (mut index, mut term) = (first_index, 0_u64);
    for line in lines {
        let rest = line.strip_prefix(&format!("{{\"index\":{index},\"term\":"));
        let rest = rest.unwrap_or_else(|| panic!("entry {index} is expected: {line}"));
        let (number, rest) = rest.split_at(rest.find(['}', ',']).unwrap());
        let number: u64 = number.parse().unwrap();
        assert!(term <= number, "terms never fall: {line}");
        (index, term) = (index + 1, number);
        match rest.strip_prefix(",\"request\":") {
            Some(request) => requests.push(request.strip_suffix('}').unwrap()),
            None => assert_eq!(rest, "}", "{line}"),
        }
    }
    (requests, commit)
}

#[test]
fn every_request_is_a_line_until_the_member_is_killed_and_after() {
    let mut member = start_with(&["--log-retention=all"]);
    let granted_s = block_on(async {
        let client = connect(&member).await;
        client.put("foo", "bar").await.unwrap();
        client.delete("foo").await.unwrap();
        let revision = Compare::mod_revision("foo").equal(0);
        client
            .txn(&Txn::new().when(revision).then_put("foo", "1").or_else_get("foo"))
            .await
            .unwrap();
        client.lease_grant_with(31, 60).await.unwrap();
        let leased = PutRequest { key: b"k", value: b"v", lease: 31, ..PutRequest::default() };
        client.put_with(leased).await.unwrap();
        let refused = PutRequest { lease: 999, ..leased };
        client.put_with(refused).await.expect_err("there is no such lease");
        client.lease_revoke(31).await.unwrap();
        client.compact(2).await.unwrap();
        client.lease_grant_with(7, 1).await.unwrap().ttl_s
    });
    let expected = [
        r#"{"put":{"key":"Zm9v","value":"YmFy","lease":"0"}}"#.to_owned(),
        r#"{"delete_range":{"key":"Zm9v"}}"#.to_owned(),
        "{\"txn\":{\"compare\":[{\"result\":\"EQUAL\",\"target\":\"MOD\",\"key\":\"Zm9v\",\
         \"mod_revision\":\"0\"}],\"success\":[{\"request_put\":{\"key\":\"Zm9v\",\
         \"value\":\"MQ==\",\"lease\":\"0\"}}],\"failure\":[{\"request_range\":\
         {\"key\":\"Zm9v\"}}]}}"
            .to_owned(),
        r#"{"lease_grant":{"TTL":"60","ID":"31"}}"#.to_owned(),
        r#"{"put":{"key":"aw==","value":"dg==","lease":"31"}}"#.to_owned(),
        r#"{"put":{"key":"aw==","value":"dg==","lease":"999"}}"#.to_owned(),
        r#"{"lease_revoke":{"ID":"31"}}"#.to_owned(),
        r#"{"compaction":{"revision":"2"}}"#.to_owned(),
        format!("{{\"lease_grant\":{{\"TTL\":\"{granted_s}\",\"ID\":\"7\"}}}}"),
        // Nobody renewed it.
        r#"{"lease_revoke":{"ID":"7"}}"#.to_owned(),
    ];
    let directory = member.data_directory();
    assert_eq!(looked_at(&directory, 1).0, expected[..9]);
    let deadline = Instant::now() + PATIENCE;
    while looked_at(&directory, 1).0.len() < expected.len() {
        assert!(Instant::now() < deadline, "a lease that nobody renews expires");
    }
    wait_until_quiet(&member);
    member.kill();
    assert_eq!(looked_at(&directory, 1).0, expected);
    let text = inspect(&["log"], &directory).text;
    assert_eq!(inspect(&["log"], &directory).text, text, "nothing changes it");
    member.restart();
    member.terminate();
    let (stopped, commit) = looked_at(&directory, 1);
    assert_eq!(stopped, expected);
    assert!(0 < commit, "the second run knew what the first had committed");
}

#[test]
fn a_log_is_kept_whole_if_asked_for_and_cut_if_not() {
    let mut rounds = 0;
    let mut bounded = start_with(&[]);
    while first_index(&inspect(&["log"], &bounded.data_directory())) == 1 {
        assert!(rounds < ROUNDS_MAX, "segments that two checkpoints made dispensable go");
        checkpoint_and_restart(&mut bounded);
        rounds += 1;
    }
    let wal = inspect(&["wal"], &bounded.data_directory());
    assert!(wal.status == 0 && !wal.text.contains("DAMAGED"), "{}", wal.text);
    drop(bounded);

    let mut whole = start_with(&["--log-retention=all"]);
    for _ in 0..rounds {
        checkpoint_and_restart(&mut whole);
    }
    let (requests, commit) = looked_at(&whole.data_directory(), 1);
    assert_eq!(requests.len(), rounds, "one put a round");
    assert!(requests.len() < commit as usize, "{commit}");
}

/// A put, a checkpoint that holds it, and a new run, which begins a new segment.
fn checkpoint_and_restart(member: &mut Member) {
    block_on(async { connect(member).await.put("round", "1").await.unwrap() });
    let directory = member.data_directory();
    let last = inspect(&["log"], &directory).text.lines().count();
    let deadline = Instant::now() + PATIENCE;
    // Entries are counted from the first line on, so the newest index is at least so high.
    while applied_index(&inspect(&["meta"], &directory).text) < last as u64 - 1 {
        assert!(Instant::now() < deadline, "a store that came to rest is checkpointed");
    }
    member.kill();
    member.restart();
}

/// The applied index of the newest checkpoint; 0 before the first.
fn applied_index(meta: &str) -> u64 {
    let indexes = meta.lines().filter_map(|line| {
        let (_, rest) = line.split_once(", applied index ")?;
        rest.split(',').next()?.parse().ok()
    });
    indexes.max().unwrap_or(0)
}

/// The requests and the commit index of a log that is whole and begins at `first`.
fn looked_at(directory: &Path, first: u64) -> (Vec<String>, u64) {
    let report = inspect(&["log"], directory);
    assert_eq!((report.status, &report.notes[..]), (0, ""));
    let (left, commit) = requests(&report, first);
    (left.into_iter().map(str::to_owned).collect(), commit)
}

/// The index of the first line.
fn first_index(report: &Report) -> u64 {
    let Some(rest) = report.text.strip_prefix("{\"index\":") else { return 1 };
    rest[..rest.find(',').unwrap()].parse().unwrap()
}

/// Restarts until a segment must have gone.
const ROUNDS_MAX: usize = 20;
