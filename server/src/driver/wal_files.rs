//! The segment files of one WAL: found and read at the start, made, recycled and deleted while
//! running.
//!
//! Invariants: a segment file carries its number as its name from the moment it is complete: it is
//! written in full under another name, synced, renamed, and the directory synced; a recycled one is
//! renamed with its old frames in it. Nothing recovered counts before all files were synced once:
//! after a kill the page cache still shows what a power cut would lose.
//! Source: storage.md, WAL 4 and 8; runtime-facts.md, WAL writes (why every byte is written
//! before).

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use engine::wal::{
    buffer::WalBuffer,
    position::SegmentId,
    source::{ReadFailed, SegmentSource},
    writer::SegmentFile,
};
use shard::effect::SegmentOrigin;

use super::{
    file_thread::Worker,
    space_reserve::{SpaceReserve, with_room},
};
use crate::{data_directory::sync_directory, error::Fault, segment_files::SegmentFiles};

/// How segment files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache.
    Direct,
    /// Through it: the file system refuses direct I/O.
    Buffered,
}

/// The directory of one WAL.
#[derive(Clone, Debug)]
pub struct WalDirectory {
    files: SegmentFiles,
    access: Access,
}

impl WalDirectory {
    /// Opens it: clears what a cut-short start left, tries direct I/O, syncs every segment.
    pub fn open(path: &Path) -> io::Result<WalDirectory> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(PREPARING_PREFIX) {
                std::fs::remove_file(entry.path())?;
            }
        }
        let access = probe_access(path)?;
        let directory = WalDirectory { files: SegmentFiles::new(path), access };
        for segment in directory.segments() {
            File::open(directory.files.path_of(segment.id))?.sync_all()?;
        }
        sync_directory(path)?;
        Ok(directory)
    }

    /// How segments are written here.
    pub fn access(&self) -> Access {
        self.access
    }

    /// A worker that makes and deletes segments of this directory; with a reserve if that lies on
    /// the same disk.
    pub fn worker(&self, reserve: Option<Arc<SpaceReserve>>) -> SegmentWorker {
        SegmentWorker { directory: self.clone(), zeros: WalBuffer::new(), reserve }
    }

    fn open_for_writing(&self, path: &Path, is_new: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(is_new).mode(0o600);
        if self.access == Access::Direct {
            options.custom_flags(libc::O_DIRECT);
        }
        options.open(path)
    }
}

/// Writes one block past the page cache, which is what the WAL will do.
fn probe_access(path: &Path) -> io::Result<Access> {
    let probe_path = path.join(format!("{PREPARING_PREFIX}probe"));
    let direct = || -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_DIRECT)
            .open(&probe_path)?;
        let block = WalBuffer::zeroed(engine::wal::limits::BLOCK_SIZE_BYTES);
        file.write_all_at(block.as_bytes(), 0)?;
        file.sync_data()
    };
    let access = match direct() {
        Ok(()) => Access::Direct,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Access::Buffered,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Access::Buffered,
        Err(error) => return Err(error),
    };
    match std::fs::remove_file(&probe_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(access),
    }
}

impl SegmentSource for WalDirectory {
    fn segments(&self) -> Vec<SegmentFile> {
        self.files.segments()
    }

    fn read(
        &self,
        segment: SegmentId,
        offset_bytes: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadFailed> {
        self.files.read(segment, offset_bytes, bytes)
    }
}

/// What the segment thread is told.
#[derive(Debug)]
pub enum SegmentOrder {
    /// Make a file of full length, every byte written.
    Prepare {
        /// Its number.
        segment: SegmentId,
        /// Its length.
        size_bytes: u64,
        /// Where its file comes from.
        origin: SegmentOrigin,
    },
    /// Delete the file of a released segment.
    Delete {
        /// Its number.
        segment: SegmentId,
    },
}

/// A segment that may be written.
#[derive(Debug)]
pub struct SegmentReady {
    /// Its number.
    pub segment: SegmentId,
    /// Its file, open for writing.
    pub file: File,
}

/// Makes and deletes segments.
#[derive(Debug)]
pub struct SegmentWorker {
    directory: WalDirectory,
    zeros: WalBuffer,
    reserve: Option<Arc<SpaceReserve>>,
}

impl Worker for SegmentWorker {
    type Order = SegmentOrder;
    type Report = SegmentReady;
    const NAME: &'static str = "wal-segments";

    fn work(&mut self, order: SegmentOrder) -> Result<Option<SegmentReady>, Fault> {
        match order {
            SegmentOrder::Prepare { segment, size_bytes, origin } => {
                match self.prepare(segment, size_bytes, origin) {
                    Ok(file) => Ok(Some(SegmentReady { segment, file })),
                    Err(error) => Err(Fault::WalSegment { segment: segment.0, error }),
                }
            }
            SegmentOrder::Delete { segment } => {
                match std::fs::remove_file(self.directory.files.path_of(segment)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Fault::WalSegment { segment: segment.0, error })
                    }
                    _ => Ok(None),
                }
            }
        }
    }
}

impl SegmentWorker {
    fn prepare(
        &mut self,
        segment: SegmentId,
        size_bytes: u64,
        origin: SegmentOrigin,
    ) -> io::Result<File> {
        assert!(size_bytes.is_multiple_of(engine::wal::limits::BLOCK_SIZE_BYTES as u64));
        let path = self.directory.files.path_of(segment);
        assert!(!path.exists(), "a segment's number is used once");
        let file = match origin {
            SegmentOrigin::Fresh => {
                let name = format!("{PREPARING_PREFIX}{:016x}", segment.0);
                let preparing = self.directory.files.directory().join(name);
                let file = self.directory.open_for_writing(&preparing, true)?;
                self.fill(&file, 0, size_bytes)?;
                std::fs::rename(&preparing, &path)?;
                file
            }
            SegmentOrigin::Recycled(old) => {
                let old_path = self.directory.files.path_of(old);
                let file = self.directory.open_for_writing(&old_path, false)?;
                let old_size_bytes = file.metadata()?.len();
                self.fill(&file, old_size_bytes, size_bytes)?;
                std::fs::rename(&old_path, &path)?;
                file
            }
        };
        sync_directory(self.directory.files.directory())?;
        Ok(file)
    }

    /// Writes zeros from `start` to `end` and syncs: an extent that was never written would cost a
    /// journal commit at every sync of the WAL.
    fn fill(&mut self, file: &File, start: u64, end: u64) -> io::Result<()> {
        if self.zeros.size_bytes() == 0 {
            self.zeros.resize(FILL_CHUNK_BYTES);
        }
        let mut offset = start;
        while offset < end {
            let size = (end - offset).min(FILL_CHUNK_BYTES as u64);
            let size = usize::try_from(size).expect("at most one chunk");
            let zeros = &self.zeros.as_bytes()[..size];
            with_room(self.reserve.as_ref(), || file.write_all_at(zeros, offset))?;
            offset += size as u64;
        }
        file.sync_all()
    }
}

const PREPARING_PREFIX: &str = "preparing-";
const FILL_CHUNK_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn prepare(
        directory: &WalDirectory,
        segment: u64,
        size_bytes: u64,
        origin: SegmentOrigin,
    ) -> Result<SegmentReady, Fault> {
        let segment = SegmentId(segment);
        let order = SegmentOrder::Prepare { segment, size_bytes, origin };
        directory.worker(None).work(order).map(|ready| ready.unwrap())
    }

    #[test]
    fn a_segment_is_full_of_zeros_and_named_when_complete() {
        let base = tempfile::tempdir().unwrap();
        let directory = WalDirectory::open(base.path()).unwrap();
        let size_bytes = (FILL_CHUNK_BYTES + 8192) as u64;
        prepare(&directory, 26, size_bytes, SegmentOrigin::Fresh).unwrap();
        assert_eq!(names(base.path()), ["000000000000001a.wal"]);
        assert_eq!(directory.segments(), [SegmentFile { id: SegmentId(26), size_bytes }]);
        let mut bytes = vec![1; 4096];
        directory.read(SegmentId(26), size_bytes - 4096, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert_eq!(directory.read(SegmentId(26), size_bytes, &mut bytes), Err(ReadFailed));
        assert_eq!(directory.read(SegmentId(27), 0, &mut bytes), Err(ReadFailed));
    }

    #[test]
    fn a_recycled_segment_keeps_its_old_bytes_and_grows() {
        let base = tempfile::tempdir().unwrap();
        let directory = WalDirectory::open(base.path()).unwrap();
        let first = prepare(&directory, 1, 8192, SegmentOrigin::Fresh).unwrap();
        let mut block = WalBuffer::new();
        block.extend_from_slice(&[7; 4096]);
        first.file.write_all_at(block.as_bytes(), 4096).unwrap();
        prepare(&directory, 9, 16384, SegmentOrigin::Recycled(SegmentId(1))).unwrap();
        assert_eq!(names(base.path()), ["0000000000000009.wal"]);
        let mut bytes = vec![0; 16384];
        directory.read(SegmentId(9), 0, &mut bytes).unwrap();
        assert_eq!(bytes[4096], 7);
        assert_eq!(bytes[8192..], [0; 8192]);
    }

    #[test]
    fn leftovers_of_a_cut_short_start_are_cleared() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("preparing-0000000000000003"), [0; 100]).unwrap();
        let directory = WalDirectory::open(base.path()).unwrap();
        assert!(names(base.path()).is_empty());
        assert!(directory.segments().is_empty());
    }

    #[test]
    fn deleting_is_done_once_and_twice() {
        let base = tempfile::tempdir().unwrap();
        let directory = WalDirectory::open(base.path()).unwrap();
        prepare(&directory, 2, 4096, SegmentOrigin::Fresh).unwrap();
        for _ in 0..2 {
            let order = SegmentOrder::Delete { segment: SegmentId(2) };
            assert!(directory.worker(None).work(order).unwrap().is_none());
        }
        assert!(names(base.path()).is_empty());
    }

    #[test]
    fn a_file_system_without_direct_io_is_written_through_the_cache() {
        // A directory that cannot be written at all is an error, not a fallback.
        assert!(WalDirectory::open(Path::new("/proc/self/task")).is_err());
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            let base = tempfile::tempdir_in(shm).unwrap();
            let directory = WalDirectory::open(base.path()).unwrap();
            // tmpfs knows direct I/O from Linux 6.6 on: both answers must work.
            let ready = prepare(&directory, 1, 8192, SegmentOrigin::Fresh).unwrap();
            assert_eq!(ready.file.metadata().unwrap().len(), 8192);
        }
    }
}
