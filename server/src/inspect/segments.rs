//! The segments of one WAL, read while their member may be writing them.
//!
//! Invariant: a gap that recovery finds counts only if it is found at the same place again: what a
//! running member wrote between two reads looks like one, and moves.

use std::path::Path;

use engine::wal::limits::{SEGMENT_FIRST_SIZE_BYTES, SEGMENT_SIZE_BYTES};
use engine::wal::position::{GroupId, WalPosition};
use engine::wal::recovered::{Gap, RecoverError, Recovered};
use engine::wal::recovery::recover_history;
use engine::wal::source::SegmentSource;
use engine::wal::writer::SegmentFile;

use super::READ_ATTEMPTS_MAX;
use crate::segment_files::SegmentFiles;

/// The files of one WAL, for reading.
#[derive(Debug)]
pub(super) struct Segments {
    files: SegmentFiles,
}

impl Segments {
    pub(super) fn new(path: &Path) -> Segments {
        Segments { files: SegmentFiles::new(path) }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.files.segments().is_empty()
    }

    /// What the WAL holds; what is damaged in it is damaged twice.
    ///
    /// # Errors
    /// As [`recover_history`]: none of it can be understood.
    pub(super) fn recover(&self) -> Result<Recovered, RecoverError> {
        let mut before = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let recovered = recover_history(&self.files);
            let damage = Damage::of(&recovered);
            let is_settled = damage == Damage::default() || before.as_ref() == Some(&damage);
            if is_settled || attempts == READ_ATTEMPTS_MAX {
                return recovered;
            }
            before = Some(damage);
        }
    }
}

/// What is wrong with a group's part of a WAL.
#[derive(Debug, PartialEq, Eq)]
struct GroupDamage {
    group: GroupId,
    missing: Vec<(u64, u64)>,
    is_damaged: bool,
}

/// What is wrong with a WAL, to be compared with another look at it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Damage {
    error: Option<RecoverError>,
    gaps: Vec<WalPosition>,
    cut: Vec<SegmentFile>,
    groups: Vec<GroupDamage>,
}

impl Damage {
    fn of(recovered: &Result<Recovered, RecoverError>) -> Damage {
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) => return Damage { error: Some(*error), ..Damage::default() },
        };
        let groups = recovered.groups.iter().filter_map(|(id, group)| {
            let is_damaged = group.state.is_damaged;
            let is_whole = !is_damaged && group.missing.is_empty();
            (!is_whole).then(|| GroupDamage {
                group: *id,
                missing: group.missing.clone(),
                is_damaged,
            })
        });
        Damage {
            error: None,
            gaps: damage_of(recovered).map(|gap| gap.from).collect(),
            cut: recovered.segments.iter().copied().filter(is_cut).collect(),
            groups: groups.collect(),
        }
    }
}

/// Whether something that was synced is not there any more.
pub(super) fn is_damaged(recovered: &Recovered) -> bool {
    let is_group_damaged =
        recovered.groups.values().any(|group| group.state.is_damaged || !group.missing.is_empty());
    is_group_damaged
        || damage_of(recovered).next().is_some()
        || recovered.segments.iter().any(is_cut)
}

/// The gaps that lie where the log is still needed: behind the last segment that was released. The
/// first ones to be released wait as files to be used again, and the chain between them and the
/// rest is broken on purpose.
pub(super) fn damage_of(recovered: &Recovered) -> impl Iterator<Item = &Gap> {
    let end = recovered.end.segment();
    let mut needed = end;
    for file in recovered.segments.iter().rev().filter(|file| file.id < end) {
        if file.id.next() != needed {
            break;
        }
        needed = file.id;
    }
    recovered.gaps.iter().filter(move |gap| needed <= gap.from.segment())
}

/// Whether a file has another size than those that segments are made of: no crash does that.
pub(super) fn is_cut(file: &SegmentFile) -> bool {
    ![SEGMENT_FIRST_SIZE_BYTES, SEGMENT_SIZE_BYTES].contains(&file.size_bytes)
}
