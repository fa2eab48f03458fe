//! The log as lines of JSON: what clients asked for, in order, whatever became of the member.

use std::path::Path;
use std::time::Instant;

use corestone_client::{Compare, PutRequest, Txn};

use crate::files::wait_until_quiet;
use crate::{PATIENCE, Report, block_on, connect, inspect, start};

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
    let mut member = start();
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
    let (running, _) = looked_at(&directory);
    assert!(expected[..9].ends_with(&running), "{running:?}");
    let deadline = Instant::now() + PATIENCE;
    let expired = expected.last().unwrap();
    while looked_at(&directory).0.last() != Some(expired) {
        assert!(Instant::now() < deadline, "a lease that nobody renews expires");
    }
    wait_until_quiet(&member);
    member.kill();
    let (killed, _) = looked_at(&directory);
    assert!(expected.ends_with(&killed), "{killed:?}");
    let text = inspect(&["log"], &directory).text;
    assert_eq!(inspect(&["log"], &directory).text, text, "nothing changes it");
    member.restart();
    member.terminate();
    let (stopped, commit) = looked_at(&directory);
    assert!(expected.ends_with(&stopped), "{stopped:?}");
    assert!(0 < commit, "the second run knew what the first had committed");
}

/// The requests and the commit index of a log that is whole. What two checkpoints hold is not in it
/// any more, so it may begin late.
fn looked_at(directory: &Path) -> (Vec<String>, u64) {
    let report = inspect(&["log"], directory);
    assert_eq!((report.status, &report.notes[..]), (0, ""));
    let (left, commit) = requests(&report, first_index(&report));
    (left.into_iter().map(str::to_owned).collect(), commit)
}

/// The index of the first line.
fn first_index(report: &Report) -> u64 {
    let Some(rest) = report.text.strip_prefix("{\"index\":") else { return 1 };
    rest[..rest.find(',').unwrap()].parse().unwrap()
}
