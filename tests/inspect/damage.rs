//! Damage is found, named, and told from what a crash leaves.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ::tests::process::Member;

use crate::files::{flip, newest_segment, tree, wait_until_quiet};
use crate::{PATIENCE, fill, inspect, start};

/// A killed member with a checkpoint on its disk.
fn checkpointed() -> Member {
    let mut member = start();
    // Beyond 64 MiB of log there is a checkpoint.
    fill(&member, 900, 100_000);
    let directory = member.data_directory();
    let deadline = Instant::now() + PATIENCE;
    while inspect(&["pages"], &directory).text == "no checkpoint yet\n" {
        assert!(Instant::now() < deadline, "no checkpoint after 64 MiB");
    }
    wait_until_quiet(&member);
    member.kill();
    member
}

#[test]
fn a_flipped_byte_of_any_page_is_named() {
    let member = checkpointed();
    let directory = member.data_directory();
    let path = directory.join("default.pages");
    let whole = inspect(&["pages"], &directory);
    assert_eq!(whole.status, 0, "{whole:?}");
    let lines: Vec<&str> = whole.text.lines().collect();
    assert!(lines[0].starts_with("checkpoint: interval "), "{whole:?}");
    for (line, name) in lines[1..5].iter().zip(["keys", "history", "system", "freelist"]) {
        assert!(line.starts_with(&format!("{name}: ")), "{whole:?}");
    }
    assert!(lines[5].starts_with("store: revision "), "{whole:?}");
    assert_eq!(lines[6], "every page is whole, reached once and in order", "{whole:?}");
    let meta = inspect(&["meta"], &directory);
    assert_eq!(meta.status, 0, "{meta:?}");
    assert!(meta.text.contains("  keys: root ") && meta.text.contains("newest: slot "), "{meta:?}");

    let bytes = std::fs::read(&path).unwrap();
    let of_kind = |kind: u8| {
        let pages = bytes.chunks_exact(PAGE_BYTES as usize).enumerate().skip(2);
        // A free page may look like a leaf: one that is read is one whose damage is seen.
        let like = pages.filter(move |(number, page)| {
            page[24] == kind && page[8..16] == (*number as u64).to_le_bytes()
        });
        like.map(|(number, _)| number as u64).collect::<Vec<_>>()
    };
    let runs: Vec<u64> = bytes
        .chunks_exact(PAGE_BYTES as usize)
        .enumerate()
        .filter(|(_, page)| page.starts_with(b"value-of-000060-value-of-000060-"))
        .map(|(number, _)| number as u64)
        .collect();
    for (what, pages) in [("leaf", of_kind(1)), ("branch", of_kind(2)), ("run", runs)] {
        assert!(!pages.is_empty(), "there is a {what}");
        for page in &pages {
            flip(&path, page * PAGE_BYTES + 3000);
        }
        let report = inspect(&["pages"], &directory);
        assert_eq!(report.status, 1, "{what}: {report:?}");
        let is_named =
            |page: &u64| report.text.contains(&format!("DAMAGED: page {page} is corrupt"));
        assert!(pages.iter().any(is_named), "{what} {pages:?}: {report:?}");
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(inspect(&["pages"], &directory).text, whole.text);
    flipped_meta_pages(&directory, &path, &bytes);
}

/// With one of them the other counts; with both there is nothing to begin with.
fn flipped_meta_pages(directory: &Path, path: &Path, bytes: &[u8]) {
    flip(path, 100);
    let one = inspect(&["meta"], directory);
    flip(path, PAGE_BYTES + 100);
    let both = inspect(&["meta"], directory);
    // The younger file has one checkpoint only.
    assert!(one.status == 1 || one.text.contains("slot 0: never written"), "{one:?}");
    assert_eq!(both.status, 1, "{both:?}");
    assert!(both.text.contains("slot 1: DAMAGED: ") && both.text.contains("newest: none"));
    let pages = inspect(&["pages"], directory);
    assert_eq!((pages.status, &pages.text[..]), (1, "DAMAGED: no meta page is whole\n"));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_wal_damaged_in_its_middle_is_told_from_a_torn_one() {
    let mut member = start();
    fill(&member, 50, 200);
    wait_until_quiet(&member);
    member.kill();
    let directory = member.data_directory();
    let (segment, frames) = newest_segment(&member);
    let whole = std::fs::read(&segment).unwrap();
    let log = inspect(&["log"], &directory);
    let is_whole = |text: &str| !text.contains("DAMAGED") && !text.contains("torn");
    let report = inspect(&["wal"], &directory);
    assert!(report.status == 0 && is_whole(&report.text), "{report:?}");

    // The end is torn: what was acknowledged stands before it.
    let last = frames.last().unwrap();
    assert_eq!(last.payload_size, 0, "a quiet log ends with an empty frame");
    flip(&segment, last.offset + 40);
    flip(&segment, last.offset + last.size - 96 + 40);
    let torn = inspect(&["wal"], &directory);
    assert!(torn.status == 0 && !torn.text.contains("DAMAGED"), "{torn:?}");
    let cut = inspect(&["log"], &directory);
    assert_eq!((cut.status, &cut.text, &cut.notes[..]), (0, &log.text, ""));
    std::fs::write(&segment, &whole).unwrap();

    let with_payload: Vec<_> = frames.iter().filter(|one| 0 < one.payload_size).collect();
    let middle = with_payload[with_payload.len() / 2];
    flip(&segment, middle.offset + middle.payload_offset + middle.payload_size / 2);
    let before = tree(&directory);
    let report = inspect(&["wal"], &directory);
    assert_eq!(report.status, 1, "{report:?}");
    let number = u64::from_str_radix(&segment.file_stem().unwrap().to_string_lossy(), 16).unwrap();
    let gap = format!(
        "  DAMAGED: synced frames from {number}:{} to {number}:{} are lost; its directory says what \
         it held",
        middle.offset,
        middle.offset + middle.size
    );
    assert!(report.text.lines().any(|line| line == gap), "{gap}\n{}", report.text);
    assert!(report.text.contains("    DAMAGED: entries "), "{report:?}");
    let holed = inspect(&["log"], &directory);
    assert_eq!(holed.status, 1, "{holed:?}");
    assert!(holed.notes.contains("are lost"), "{holed:?}");
    // What is left stands there, and only that.
    let left: Vec<&str> = holed.text.lines().collect();
    assert!(left.len() < log.text.lines().count());
    assert!(left.iter().all(|line| line.contains("commit") || log.text.contains(line)));
    assert_eq!(tree(&directory), before, "something was written");
    std::fs::write(&segment, &whole).unwrap();

    let file = std::fs::File::options().write(true).open(&segment).unwrap();
    file.set_len(middle.offset).unwrap();
    let report = inspect(&["wal"], &directory);
    assert_eq!(report.status, 1, "{report:?}");
    assert!(report.text.contains("DAMAGED: no segment is made of this size"), "{report:?}");
    file.set_len(0).unwrap();
    let report = inspect(&["wal"], &directory);
    assert_eq!(report.status, 1, "{report:?}");
    assert!(report.text.contains("wal-0: DAMAGED: WAL segment"), "{report:?}");
    file.write_all_at(&whole, 0).unwrap();
    assert_eq!(inspect(&["log"], &directory).text, log.text);
}

const PAGE_BYTES: u64 = 4096;
