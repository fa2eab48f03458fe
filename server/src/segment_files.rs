//! The files of one WAL, by their names: found and read, by the member that writes them and by
//! `inspect`.
//!
//! Invariant: a segment's file has one name, sixteen lower-case hexadecimal digits and a suffix;
//! what is named in any other way is no segment, and is left alone.
//! Source: `docs/format/directory.md`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use engine::wal::position::SegmentId;
use engine::wal::source::{ReadFailed, SegmentSource};
use engine::wal::writer::SegmentFile;

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFiles {
    directory: PathBuf,
}

impl SegmentFiles {
    /// The segments that lie in `directory`.
    pub(crate) fn new(directory: &Path) -> SegmentFiles {
        SegmentFiles { directory: directory.to_path_buf() }
    }

    /// Where they lie.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a segment's file is, or would be.
    pub(crate) fn path_of(&self, segment: SegmentId) -> PathBuf {
        self.directory.join(name_of(segment))
    }
}

impl SegmentSource for SegmentFiles {
    fn segments(&self) -> Vec<SegmentFile> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let files = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let id = segment_of(entry.file_name().to_str()?)?;
            let size_bytes = entry.metadata().ok()?.len();
            Some(SegmentFile { id, size_bytes })
        });
        files.collect()
    }

    fn read(
        &self,
        segment: SegmentId,
        offset_bytes: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadFailed> {
        let file = File::open(self.path_of(segment)).map_err(|_| ReadFailed)?;
        file.read_exact_at(bytes, offset_bytes).map_err(|_| ReadFailed)
    }
}

fn name_of(segment: SegmentId) -> String {
    format!("{:016x}{SUFFIX}", segment.0)
}

/// The segment of a file's name; `None` unless it is the very name that [`name_of`] gives. The last
/// number is nobody's: no segment could follow it.
fn segment_of(name: &str) -> Option<SegmentId> {
    let number = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    let segment = SegmentId(number);
    (number < u64::MAX && name_of(segment) == name).then_some(segment)
}

const SUFFIX: &str = ".wal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_that_is_written_is_a_segments() {
        let directory = tempfile::tempdir().unwrap();
        let strangers = [
            "1.wal",
            "+1.wal",
            "00000000000001a.wal",
            "000000000000001A.wal",
            "+00000000000001a.wal",
            "0000000000000001a.wal",
            "ffffffffffffffff.wal",
            "000000000000001a.wal.old",
            "000000000000001a",
            ".wal",
            "preparing-000000000000001b",
        ];
        for name in strangers.iter().chain(&["000000000000001a.wal"]) {
            std::fs::write(directory.path().join(name), [7; 10]).unwrap();
        }
        let files = SegmentFiles::new(directory.path());
        assert_eq!(files.segments(), [SegmentFile { id: SegmentId(26), size_bytes: 10 }]);
        let mut bytes = [0; 4];
        files.read(SegmentId(26), 6, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 4]);
        assert_eq!(files.read(SegmentId(26), 7, &mut bytes), Err(ReadFailed));
        assert_eq!(files.read(SegmentId(1), 0, &mut bytes), Err(ReadFailed));
    }
}
