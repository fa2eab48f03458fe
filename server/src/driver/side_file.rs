//! The side file of a state transfer: pages on their way into the page file, at the offsets that
//! their numbers have there.
//!
//! The old pages go on serving while it fills; when it is complete and synced, its pages are copied
//! into their places. Invariants: the copy reads only what was written and synced before, so it can
//! be done again from the start after a crash at any moment; a page that is not there is a fault,
//! never a hole of zeros in the page file; nothing is removed before the shard says so.
//! Source: storage.md, State transfer 1.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
};

use engine::{page::map::PAGE_SIZE_BYTES, transfer::directory::Directory, wal::record::Install};

use crate::{data_directory::sync_directory, error::Fault};

/// The file beside a page file; there may be none on the disk.
#[derive(Debug)]
pub struct SideFile {
    path: PathBuf,
    file: Option<File>,
    /// The file's name is durable.
    is_name_synced: bool,
    /// Room for a copy, kept from one to the next.
    chunk: Vec<u8>,
}

impl SideFile {
    /// Names it; touches nothing.
    pub fn new(path: PathBuf) -> SideFile {
        SideFile { path, file: None, is_name_synced: false, chunk: Vec::new() }
    }

    fn open(&mut self, is_made: bool) -> io::Result<&File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(is_made).truncate(false).mode(0o600);
            self.file = Some(options.open(&self.path)?);
        }
        Ok(self.file.as_ref().expect("opened above"))
    }

    /// Writes whole pages, making the file where there is none.
    pub fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        assert!(bytes.len().is_multiple_of(PAGE_SIZE_BYTES));
        let offset = first * PAGE_SIZE_BYTES as u64;
        let written = self.open(true).and_then(|file| file.write_all_at(bytes, offset));
        written.map_err(|error| Fault::Pages { what: "write into the side file", first, error })
    }

    /// Makes everything written durable, and the file's name.
    pub fn sync(&mut self) -> Result<(), Fault> {
        let sync = |side: &mut SideFile| {
            side.open(true)?.sync_data()?;
            if !side.is_name_synced {
                sync_directory(side.path.parent().expect("it lies in the data directory"))?;
                side.is_name_synced = true;
            }
            Ok(())
        };
        sync(self).map_err(|error| Fault::Pages { what: "sync of the side file", first: 2, error })
    }

    /// Copies runs of pages, `(first, count)` ascending, to their places in `pages`; returns the
    /// first page number behind them.
    ///
    /// What was copied is synced again and again: whoever else writes to this disk, the log first of
    /// all, would stand behind a gigabyte if it were left to the end.
    pub fn copy_to(&mut self, pages: &File, runs: &[(u64, u64)]) -> Result<u64, Fault> {
        let mut end = 2;
        let mut unsynced_pages = 0;
        for (first, count) in runs.iter().copied() {
            assert!(end <= first, "runs are ascending and leave the meta pages out");
            end = first.checked_add(count).expect("page numbers are far below 2^64");
            self.copy_run(pages, first, end, &mut unsynced_pages).map_err(|error| {
                Fault::Pages { what: "copy out of the side file", first, error }
            })?;
        }
        Ok(end)
    }

    fn copy_run(
        &mut self,
        pages: &File,
        first: u64,
        end: u64,
        unsynced_pages: &mut usize,
    ) -> io::Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(COPY_CHUNK_PAGES * PAGE_SIZE_BYTES, 0);
        let mut page = first;
        while page < end {
            let count = usize::try_from(end - page).unwrap_or(usize::MAX).min(COPY_CHUNK_PAGES);
            let bytes = &mut chunk[..count * PAGE_SIZE_BYTES];
            let offset = page * PAGE_SIZE_BYTES as u64;
            self.open(false)?.read_exact_at(bytes, offset)?;
            pages.write_all_at(bytes, offset)?;
            page += count as u64;
            *unsynced_pages += count;
            if COPY_UNSYNCED_PAGES_MAX <= *unsynced_pages {
                pages.sync_data()?;
                *unsynced_pages = 0;
            }
        }
        self.chunk = chunk;
        Ok(())
    }

    /// What a start does with the side file of an earlier process: if the WAL says that a state is
    /// being installed (`install`), and this is it, the copying is done from the beginning, the meta
    /// page last; then nothing is left to do, and the file is removed. Says whether it was copied.
    pub fn finish(&mut self, pages: &File, install: Option<Install>) -> Result<bool, Fault> {
        let Some(install) = install else { return self.discard().map(|()| false) };
        let Ok(side) = self.open(false) else { return Ok(false) };
        let mut read = |first: u64, bytes: &mut [u8]| {
            let offset = first.checked_mul(PAGE_SIZE_BYTES as u64);
            offset.is_some_and(|offset| side.read_exact_at(bytes, offset).is_ok())
        };
        let Some(directory) = Directory::decode(install, &mut read) else {
            // Not the one: it stays for who wants to look at it, and the start is refused.
            return Ok(false);
        };
        self.copy_to(pages, &directory.runs)?;
        let slot = directory.meta().slot();
        let write_meta = || {
            pages.sync_data()?;
            pages.write_all_at(&directory.meta_page, slot * PAGE_SIZE_BYTES as u64)?;
            pages.sync_data()
        };
        let written = write_meta();
        written.map_err(|error| Fault::Pages { what: "install", first: slot, error })?;
        self.discard().map(|()| true)
    }

    /// Deletes it, if it is there.
    pub fn discard(&mut self) -> Result<(), Fault> {
        self.file = None;
        self.is_name_synced = false;
        self.chunk = Vec::new();
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::Pages { what: "removal of the side file", first: 2, error })
            }
            _ => Ok(()),
        }
    }
}

const COPY_CHUNK_PAGES: usize = 64;
/// Pages that are copied between two syncs: 1 MiB.
const COPY_UNSYNCED_PAGES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{
        page::{
            layout::PageRef,
            limits::META_INDEXES_MAX,
            meta::{Meta, check_meta},
        },
        wal::record::EntryId,
    };

    fn page(fill: u8, count: usize) -> Vec<u8> {
        vec![fill; count * PAGE_SIZE_BYTES]
    }

    fn opened() -> (SideFile, File, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let side = SideFile::new(directory.path().join("default.pages.side"));
        let pages = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(directory.path().join("default.pages"))
            .unwrap();
        (side, pages, directory)
    }

    fn fill_of(pages: &File, page: u64) -> Option<u8> {
        let mut bytes = vec![0; PAGE_SIZE_BYTES];
        pages.read_exact_at(&mut bytes, page * PAGE_SIZE_BYTES as u64).ok()?;
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "page {page} is of one write");
        Some(bytes[0])
    }

    #[test]
    fn only_the_runs_named_are_copied_and_again_after_a_crash() {
        let (mut side, pages, directory) = opened();
        pages.write_all_at(&page(1, 400), 0).unwrap();
        side.write(10, &page(2, 300)).unwrap();
        side.write(500, &page(3, 2)).unwrap();
        side.sync().unwrap();
        for _ in 0..2 {
            let runs = [(10, 3), (14, 200), (500, 2)];
            assert_eq!(side.copy_to(&pages, &runs).unwrap(), 502);
            let fills: Vec<_> =
                [9, 10, 12, 13, 14, 213, 214, 500, 501].map(|n| fill_of(&pages, n)).into();
            assert_eq!(fills, [1, 2, 2, 1, 2, 2, 1, 3, 3].map(Some));
            assert_eq!(fill_of(&pages, 502), None);
            // Another process finds what this one synced.
            side = SideFile::new(directory.path().join("default.pages.side"));
        }
        side.discard().unwrap();
        side.discard().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_never_written_is_a_fault_not_zeros() {
        let (mut side, pages, _directory) = opened();
        let fault = side.copy_to(&pages, &[(2, 1)]).unwrap_err();
        assert!(fault.to_string().contains("side file from page 2"), "{fault}");
        side.write(2, &page(1, 1)).unwrap();
        assert!(side.copy_to(&pages, &[(2, 2)]).is_err());
        // Nothing to copy needs no file.
        side.discard().unwrap();
        assert_eq!(side.copy_to(&pages, &[]).unwrap(), 2);
    }

    #[test]
    fn an_install_that_a_crash_interrupted_is_finished_by_the_next_start() {
        let meta = Meta {
            group: 1,
            interval: 5,
            applied_index: 70,
            page_count: 40,
            trees: Default::default(),
            state: Vec::new(),
            pending: PageRef::NONE,
            indexes: [PageRef::NONE; META_INDEXES_MAX],
        };
        let last = EntryId { index: 70, term: 3 };
        let runs = vec![(4, 2), (30, 9)];
        let directory = Directory { last, meta_page: meta.encode(), runs };
        let (mut side, pages, opened) = opened();
        let path = opened.path().join("default.pages.side");
        pages.write_all_at(&page(1, 40), 0).unwrap();
        side.write(4, &page(2, 3)).unwrap();
        side.write(30, &page(3, 9)).unwrap();
        for (first, bytes) in directory.encode() {
            side.write(first, &bytes).unwrap();
        }
        side.sync().unwrap();
        // As far as a crash may have let it come, and not at all.
        for copied in [0, 1, 2] {
            side.copy_to(&pages, &directory.runs[..copied]).unwrap();
            let mut next = SideFile::new(path.clone());
            let kept = std::fs::read(&path).unwrap();
            assert!(next.finish(&pages, Some(directory.install())).unwrap());
            let fills = [3, 4, 5, 6, 30, 38, 39].map(|number| fill_of(&pages, number));
            assert_eq!(fills, [1, 2, 2, 1, 3, 3, 1].map(Some));
            let mut slot = vec![0; PAGE_SIZE_BYTES];
            pages.read_exact_at(&mut slot, PAGE_SIZE_BYTES as u64).unwrap();
            assert_eq!(check_meta(&slot, 1), Some(meta.clone()));
            assert!(!path.exists(), "nothing is left to do");
            std::fs::write(&path, kept).unwrap();
            pages.write_all_at(&page(1, 40), 0).unwrap();
            side = SideFile::new(path.clone());
        }
        // Another state than the WAL speaks of: nothing is touched, and the start is refused later.
        let other = Install { checksum: directory.install().checksum ^ 1, last };
        assert!(!SideFile::new(path.clone()).finish(&pages, Some(other)).unwrap());
        assert!(path.exists() && fill_of(&pages, 4) == Some(1));
        // A transfer that never came to its install.
        assert!(!SideFile::new(path.clone()).finish(&pages, None).unwrap());
        assert!(!path.exists() && fill_of(&pages, 4) == Some(1));
    }

    #[test]
    fn a_side_file_of_the_last_transfer_does_not_hold_the_next_one_up() {
        let (mut side, pages, directory) = opened();
        side.write(2, &page(9, 5)).unwrap();
        let mut next = SideFile::new(directory.path().join("default.pages.side"));
        next.discard().unwrap();
        next.write(3, &page(7, 1)).unwrap();
        next.sync().unwrap();
        next.copy_to(&pages, &[(3, 1)]).unwrap();
        assert_eq!(fill_of(&pages, 3), Some(7));
        assert!(next.copy_to(&pages, &[(4, 1)]).is_err(), "gone with the transfer before");
    }
}
