//! A page file that was altered while no process had it open: what needs the page is refused, what
//! does not is served, and no answer is ever wrong.
//! Source: docs/format/page.md.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ::tests::process::wal_frames::flip;
use ::tests::process::{Member, Program, StartError};
use corestone_client::{DeleteRangeRequest, Error};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::witness::{Witness, block_on, connect};

/// Bytes of leaves, of an overflow run and of the newest meta page.
pub fn flipped_bytes(program: &Program) {
    let (mut member, witness) = checkpointed(program);
    let saved = Saved::of(&member);
    let path = member.data_directory().join("default.pages");
    let whole = std::fs::read(&path).unwrap();
    let leaves = places(&whole, |page| page[24] == 1 && holds(page, b"value-of-000003-"));
    assert!(!leaves.is_empty(), "a key of the first ones stands in some leaf");
    let run = places(&whole, |page| page.starts_with(b"value-of-000060-value-of-000060-"));
    assert!(!run.is_empty(), "a large value stands in a run");
    for (what, pages) in [("leaves", leaves), ("a run", run)] {
        for page in &pages {
            flip(&path, page * PAGE_BYTES + 3000);
        }
        match member.try_restart() {
            Ok(()) => {
                let refused = witness.refused_reads(&member);
                assert!(!refused.is_empty(), "nobody noticed {what} {pages:?}");
                assert!(refused.len() < witness.count() / 2, "{} of {what}", refused.len());
                assert!(refused.iter().all(|text| text.contains("corrupt")), "{refused:?}");
                assert!(member.is_running(), "reads ended the process");
                takes_other_writes(&mut member);
                member.kill();
            }
            Err(StartError::Ended(log)) => assert!(log.contains("page"), "{what}: {log}"),
            Err(StartError::NotReady(log)) => panic!("{what}: {log}"),
        }
        saved.restore(&member);
    }
    // The other one and the log behind it have everything, or the start is refused.
    let newest = u64::from(meta_interval(&whole, 0) < meta_interval(&whole, 1));
    flip(&path, newest * PAGE_BYTES + 100);
    match member.try_restart() {
        Ok(()) => {
            witness.check_reads(&member);
            member.kill();
        }
        Err(StartError::Ended(log)) => assert!(log.contains("page"), "{log}"),
        Err(StartError::NotReady(log)) => panic!("{log}"),
    }
    saved.restore(&member);
    member.restart();
    witness.check_reads(&member);
}

/// A copy of a data directory: page file and WAL fit together only as they were.
struct Saved {
    copy: TempDir,
}

impl Saved {
    fn of(member: &Member) -> Saved {
        let copy = TempDir::new().unwrap();
        copy_files(&member.data_directory(), copy.path());
        Saved { copy }
    }

    fn restore(&self, member: &Member) {
        std::fs::remove_dir_all(member.data_directory()).unwrap();
        copy_files(self.copy.path(), &member.data_directory());
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_files(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Keys far from the damage can be written.
fn takes_other_writes(member: &mut Member) {
    block_on(async {
        let client = connect(member).await;
        client.put("zebra", "1").await.unwrap();
    });
    assert!(member.is_running());
}

/// A write that needs a damaged page is refused; it must not end the process, since the entry would
/// end it again at every start.
pub fn writes(program: &Program) {
    let (mut member, witness) = checkpointed(program);
    let path = member.data_directory().join("default.pages");
    let whole = std::fs::read(&path).unwrap();
    for page in places(&whole, |page| page[24] == 1 && holds(page, b"value-of-000003-")) {
        flip(&path, page * PAGE_BYTES + 3000);
    }
    member.restart();
    let outcome = block_on(async {
        let client = connect(&member).await;
        client.put("witness/000003", "new").await
    });
    assert!(member.is_running(), "a write ended the process: {}", member.log().tail(3));
    assert!(matches!(outcome, Err(Error::Status { .. })), "{outcome:?}");
    takes_other_writes(&mut member);
    for range_end in [b"\0".as_slice(), b"witness/000900"] {
        let delete = DeleteRangeRequest { key: b"a", range_end, ..DeleteRangeRequest::default() };
        let outcome = block_on(async { connect(&member).await.delete_range(delete).await });
        assert!(member.is_running(), "a deletion ended the process: {}", member.log().tail(3));
        assert!(matches!(outcome, Err(Error::Status { .. })), "{outcome:?}");
    }
    takes_other_writes(&mut member);
    member.kill();
    member.restart();
    assert!(!witness.refused_reads(&member).is_empty());
}

/// A killed member with a checkpoint on its disk.
fn checkpointed(program: &Program) -> (Member, Witness) {
    let mut member = Member::start(program, &["--quota-backend-bytes=-1"]);
    let mut witness = Witness::start(&member);
    // Beyond 64 MiB of log there is a checkpoint.
    witness.write(&member, 900, 100_000);
    wait_for_checkpoint(&member);
    member.kill();
    (member, witness)
}

/// Numbers of the pages that are so.
fn places(bytes: &[u8], is_so: impl Fn(&[u8]) -> bool) -> Vec<u64> {
    let pages = bytes.chunks_exact(PAGE_BYTES as usize).enumerate().skip(2);
    pages.filter(|(_, page)| is_so(page)).map(|(number, _)| number as u64).collect()
}

fn holds(page: &[u8], part: &[u8]) -> bool {
    page.windows(part.len()).any(|window| window == part)
}

/// The interval of a meta page; 0 where there is none.
fn meta_interval(bytes: &[u8], slot: usize) -> u64 {
    let Some(page) = bytes.get(slot * PAGE_BYTES as usize..).and_then(|rest| rest.get(..40)) else {
        return 0;
    };
    if &page[8..16] != b"cspage01" {
        return 0;
    }
    u64::from_le_bytes(page[32..40].try_into().unwrap())
}

fn wait_for_checkpoint(member: &Member) {
    let path = member.data_directory().join("default.pages");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut head = vec![0; 2 * PAGE_BYTES as usize];
        let file = std::fs::File::open(&path).unwrap();
        let is_read = file.read_exact_at(&mut head, 0).is_ok();
        if is_read && (0..2).any(|slot| 0 < meta_interval(&head, slot)) {
            return;
        }
        assert!(Instant::now() < deadline, "no checkpoint after 64 MiB");
        std::thread::yield_now();
    }
}

const PAGE_BYTES: u64 = 4096;
