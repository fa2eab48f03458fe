//! `corestone inspect` against the files of real members: running, stopped, killed, torn, altered.
//!
//! Each case asks for the same: a report that is right, an exit status that tells damage from
//! wholeness, and files that are as they were.

#![allow(clippy::unwrap_used, reason = "all of it is test, and only test functions may by default")]

mod damage;
mod files;
mod log;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::tests::process::{IoDriver, Member, Program, corestone_binary};
use corestone_client::{Client, Options};

/// What a run of the command came to.
#[derive(Debug)]
struct Report {
    status: i32,
    text: String,
    /// Standard error.
    notes: String,
}

/// Runs `corestone inspect` with these words, then the directory.
fn inspect(words: &[&str], directory: &Path) -> Report {
    let output = Command::new(corestone_binary())
        .arg("inspect")
        .args(words)
        .arg(directory)
        .output()
        .unwrap();
    Report {
        status: output.status.code().expect("no signal ended it"),
        text: String::from_utf8(output.stdout).unwrap(),
        notes: String::from_utf8(output.stderr).unwrap(),
    }
}

fn start() -> Member {
    start_with(&[])
}

fn start_with(flags: &[&str]) -> Member {
    let flags = [&["--quota-backend-bytes=-1"], flags].concat();
    Member::start(&Program::Corestone(IoDriver::Portable), &flags)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

async fn connect(member: &Member) -> Client {
    let (host, port) = member.binary_address();
    let endpoint = format!("{host}:{port}");
    let options = Options { request_timeout: PATIENCE, ..Options::new([endpoint]) };
    Client::connect_with(options).await.unwrap()
}

/// Writes `count` keys with values of this size.
fn fill(member: &Member, count: usize, value_bytes: usize) {
    block_on(async {
        let client = connect(member).await;
        for slot in 0..count {
            client.put(format!("key/{slot:06}"), value_of(slot, value_bytes)).await.unwrap();
        }
    });
}

fn value_of(slot: usize, size_bytes: usize) -> Vec<u8> {
    let mark = format!("value-of-{slot:06}-");
    mark.bytes().cycle().take(size_bytes).collect()
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_is_no_data_directory_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    for question in ["meta", "wal", "pages", "log"] {
        let report = inspect(&[question], empty.path());
        assert_eq!(report.status, 2, "{question}: {report:?}");
        assert!(report.notes.contains("no data directory"), "{report:?}");
        assert_eq!(report.text, "");
        assert_eq!(files::tree(empty.path()).len(), 0, "{question} made a file");
    }
    assert_eq!(inspect(&["nothing"], empty.path()).status, 2);
    assert_eq!(inspect(&["log", "too", "many"], empty.path()).status, 2);
}

#[test]
fn a_young_member_is_told_in_full() {
    let mut member = start();
    block_on(async { connect(&member).await.put("foo", "bar").await.unwrap() });
    member.terminate();
    let directory = member.data_directory();
    let before = files::tree(&directory);
    let report = inspect(&["meta"], &directory);
    assert_eq!(report.text, "slot 0: never written\nslot 1: never written\nnewest: none\n");
    assert_eq!(report.status, 0);
    let report = inspect(&["pages"], &directory);
    assert_eq!((report.status, &report.text[..]), (0, "no checkpoint yet\n"));
    let report = inspect(&["wal"], &directory);
    assert_eq!(report.status, 0, "{report:?}");
    let lines: Vec<&str> = report.text.lines().collect();
    assert!(lines[0].starts_with("wal-0: log ") && lines[0].contains(", run 1, ends at 1:"));
    let is_counted = lines[1].starts_with("  ") && lines[1].contains(" whole frames with ");
    assert!(is_counted, "{report:?}");
    assert_eq!(&lines[2..4], ["  segment 1: 4194304 bytes", "  segment 2: 67108864 bytes"]);
    let of_group = "  group 1: term 1, vote ";
    assert!(lines[4].starts_with(of_group), "{report:?}");
    assert!(lines[4].contains(", checkpoint 0 of term 0, last entry "), "{report:?}");
    assert!(lines[5].starts_with("    entries: "), "{report:?}");
    assert_eq!(lines.len(), 6, "{report:?}");
    assert_eq!(inspect(&["log"], &directory).status, 0);
    assert_eq!(files::tree(&directory), before, "something was written");
}

#[test]
fn a_running_member_is_whole_whenever_one_looks() {
    let member = start();
    let directory = member.data_directory();
    let writer = std::thread::scope(|scope| {
        // Several segments are used up, released, used again and deleted meanwhile.
        let writer = scope.spawn(|| fill(&member, 2_500, 100_000));
        let mut looks = 0;
        while !writer.is_finished() || looks < 4 {
            for question in ["meta", "wal", "pages", "log"] {
                let report = inspect(&[question], &directory);
                assert_eq!(report.status, 0, "{question}: {} {}", report.text, report.notes);
                assert!(!report.text.contains("DAMAGED"), "{question}: {}", report.text);
            }
            looks += 1;
        }
        writer.join()
    });
    writer.unwrap();
    block_on(async { connect(&member).await.put("foo", "bar").await.unwrap() });
}
