//! A WAL that was cut or altered while no process had it open. The end of the log may be torn: a
//! crash leaves that. What was synced may not be damaged: a single member must not start without
//! it, and must not change what is left.
//! Source: docs/format/wal.md.

use std::path::Path;

use ::tests::process::wal_frames::{Frame, flip, newest_segment, wait_until_quiet};
use ::tests::process::{Member, Program};

use crate::directory::{refused, tree};
use crate::witness::Witness;

/// The log's end, behind everything acknowledged, is torn in every way: a clean recovery.
pub fn tail(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    for tear in [Tear::Zeros, Tear::Noise, Tear::Flip] {
        wait_until_quiet(&member);
        member.kill();
        let (segment, frames) = newest_segment(&member);
        let last = frames.last().unwrap();
        assert_eq!(last.payload_size, 0, "a quiet log ends with an empty frame");
        tear.apply(&segment, last);
        member.restart();
        witness.check(&mut member);
    }
}

enum Tear {
    Zeros,
    Noise,
    Flip,
}

impl Tear {
    fn apply(&self, segment: &Path, frame: &Frame) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(segment).unwrap();
        let size = usize::try_from(frame.size).unwrap();
        match self {
            Tear::Zeros => file.write_all_at(&vec![0; size], frame.offset).unwrap(),
            Tear::Noise => {
                let noise: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
                file.write_all_at(&noise, frame.offset).unwrap();
            }
            Tear::Flip => {
                flip(segment, frame.offset + 40);
                flip(segment, frame.offset + frame.size - 96 + 40);
            }
        }
    }
}

/// A byte of a synced frame is flipped, or the file is cut: the start is refused, nothing is changed,
/// and with the bytes put right everything is there. No crash makes a segment's file shorter, so a
/// short one has lost what nobody can name.
pub fn middle(program: &Program) {
    let mut member = Member::start(program, &[]);
    let mut witness = Witness::start(&member);
    wait_until_quiet(&member);
    member.kill();
    let (segment, frames) = newest_segment(&member);
    let with_payload: Vec<&Frame> = frames.iter().filter(|one| 0 < one.payload_size).collect();
    let middle = with_payload[with_payload.len() / 2];
    let whole = std::fs::read(&segment).unwrap();
    let damages: [(&str, &dyn Fn()); 3] = [
        ("a flipped byte in a payload", &|| {
            flip(&segment, middle.offset + middle.payload_offset + middle.payload_size / 2);
        }),
        ("a lost block", &|| {
            use std::os::unix::fs::FileExt;
            let file = std::fs::File::options().write(true).open(&segment).unwrap();
            file.write_all_at(&[0; 4096], middle.offset).unwrap();
        }),
        ("a cut file", &|| {
            let file = std::fs::File::options().write(true).open(&segment).unwrap();
            file.set_len(middle.offset).unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage();
        let before = contents(&member);
        let log = refused(&mut member);
        let is_clear = log.contains("WAL") && log.contains(r#""level":"error""#);
        assert!(is_clear, "{what}: {log}");
        assert_eq!(contents(&member), before, "{what}: a refused start changed something");
        std::fs::write(&segment, &whole).unwrap();
    }
    member.restart();
    witness.check(&mut member);
}

/// Content by name, of all but the lock, in which each process writes its number.
fn contents(member: &Member) -> Vec<(String, Vec<u8>)> {
    let files = tree(&member.data_directory()).into_iter();
    let files = files.filter(|(name, _)| !name.ends_with("/lock"));
    files.map(|(name, (content, _))| (name, content)).collect()
}
