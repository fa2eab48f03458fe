//! The side file of a state transfer: pages on their way into the page file, at the offsets that
//! their numbers have there.
//!
//! The old pages go on serving while it fills; when it is complete and synced, either its pages are
//! copied into their places, or what else the page file has is copied to it and it takes the page
//! file's name, whichever writes less. Invariants: what was received is only read then, so an
//! install can be done again from the start after a crash at any moment; a page that is not there is
//! a fault, never a hole of zeros in the page file; nothing is removed before the shard says so; all
//! is written back as it comes, so that no sync stands behind much.
//! Source: storage.md, State transfer 1.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::write_back::WriteBack;
use crate::{data_directory::sync_directory, error::Fault};
use engine::{page::map::PAGE_SIZE_BYTES, transfer::directory::Directory, wal::record::Install};
use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate, seek},
    io::Errno,
};

/// The file beside a page file; there may be none on the disk.
#[derive(Debug)]
pub struct SideFile {
    pages_path: PathBuf,
    path: PathBuf,
    file: Option<File>,
    write_back: WriteBack,
    /// The file's name is durable.
    is_name_synced: bool,
    /// Room for a copy, kept from one to the next.
    chunk: Vec<u8>,
}

/// How what was received came into the page file; it is durable there.
#[derive(Debug)]
pub enum Placed {
    /// By a copy; the page file has at least so many pages.
    Copied {
        /// First page number behind them.
        end: u64,
    },
    /// The side file is the page file from now on, its meta page included.
    Renamed(File),
}

/// What an install is made of.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Runs of pages that were received, `(first, count)` ascending.
    pub runs: &'a [(u64, u64)],
    /// Pages of the checkpoint, if the side file has its meta page and directory.
    pub whole_pages: Option<u64>,
}

impl SideFile {
    /// Names the one beside a page file; touches nothing.
    pub fn beside(pages_path: &Path) -> SideFile {
        let mut path = pages_path.as_os_str().to_owned();
        path.push(SIDE_SUFFIX);
        SideFile {
            pages_path: pages_path.to_path_buf(),
            path: path.into(),
            file: None,
            write_back: WriteBack::default(),
            is_name_synced: false,
            chunk: Vec::new(),
        }
    }

    /// Whether there is one on the disk.
    pub fn exists(&self) -> bool {
        self.path.exists()
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
        let write = |side: &mut SideFile| {
            side.open(true)?;
            let file = side.file.as_ref().expect("just opened");
            file.write_all_at(bytes, offset)?;
            side.write_back.wrote(file, bytes.len()).map(|_| ())
        };
        let written = write(self);
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

    /// Puts what was received into its places in the page file, `pages`, durably.
    pub fn install(&mut self, pages: &File, received: Received<'_>) -> Result<Placed, Fault> {
        let Received { runs, whole_pages } = received;
        if let Some(whole_pages) = whole_pages
            && let Some(file) = self.maybe_take_place(pages, runs, whole_pages)?
        {
            return Ok(Placed::Renamed(file));
        }
        let end = self.copy_to(pages, runs)?;
        let synced = pages.sync_data();
        synced.map_err(|error| Fault::Pages { what: "sync", first: 2, error })?;
        Ok(Placed::Copied { end })
    }

    /// Copies runs of pages to their places in `pages`; returns the first page number behind them.
    fn copy_to(&mut self, pages: &File, runs: &[(u64, u64)]) -> Result<u64, Fault> {
        let mut end = 2;
        let mut write_back = WriteBack::default();
        for (first, count) in runs.iter().copied() {
            assert!(end <= first, "runs are ascending and leave the meta pages out");
            end = first.checked_add(count).expect("page numbers are far below 2^64");
            let mut chunk = std::mem::take(&mut self.chunk);
            let copied = match self.open(false) {
                Ok(side) => copy_pages(side, pages, first..end, &mut chunk, &mut write_back),
                Err(error) => Err(NotCopied::Read(error)),
            };
            self.chunk = chunk;
            copied.map_err(|failed| match failed {
                NotCopied::Read(error) => Fault::SideFile { first, error },
                NotCopied::Write(error) => {
                    Fault::Pages { what: "copy from the side file", first, error }
                }
            })?;
        }
        Ok(end)
    }

    /// The side file becomes the page file, if less is written so: what `pages` has outside of
    /// `runs` is added to it first. `None` if it is not done; nothing has changed then.
    fn maybe_take_place(
        &mut self,
        pages: &File,
        runs: &[(u64, u64)],
        whole_pages: u64,
    ) -> Result<Option<File>, Fault> {
        let fault = |what: &'static str| move |error| Fault::Pages { what, first: 2, error };
        let length = pages.metadata().map_err(fault("length"))?.len() / PAGE_SIZE_BYTES as u64;
        let kept = gaps_of(runs, length.min(whole_pages));
        let kept_count: u64 = kept.iter().map(|gap| gap.end - gap.start).sum();
        let received_count: u64 = runs.iter().map(|(_, count)| count).sum();
        if received_count < kept_count {
            return Ok(None);
        }
        // What was received has to be there before the old pages are given up.
        let end = runs.last().map_or(2, |(first, count)| first + count);
        let side = self.open(false).map_err(fault("open of the side file"))?;
        let side_length = side.metadata().map_err(fault("length of the side file"))?.len();
        if side_length < end.max(whole_pages + 1) * PAGE_SIZE_BYTES as u64 {
            let error = io::ErrorKind::UnexpectedEof.into();
            return Err(fault("length of the side file")(error));
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        let side = self.open(false).map_err(fault("open of the side file"))?;
        let mut write_back = WriteBack::default();
        for gap in kept {
            if keep_pages(pages, side, gap, &mut chunk, &mut write_back).is_err() {
                // What cannot be read may be what nobody needs any more: copied in the other
                // direction it is not looked at.
                return Ok(None);
            }
        }
        side.sync_data().map_err(fault("sync of the side file"))?;
        std::fs::rename(&self.path, &self.pages_path).map_err(fault("rename of the side file"))?;
        let parent = self.path.parent().expect("it lies in the data directory");
        sync_directory(parent).map_err(fault("sync of the directory"))?;
        let file = self.file.take();
        self.forget();
        Ok(Some(file.expect("it was open")))
    }

    /// What a start does with the side file of an earlier process: if the WAL says that a state is
    /// being installed (`install`), and this is it, that is done from the beginning, the meta page
    /// last; then nothing is left to do, and the file is removed. Says whether it was done.
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
        let meta = directory.meta();
        let received = Received { runs: &directory.runs, whole_pages: Some(meta.page_count) };
        match self.install(pages, received) {
            Ok(Placed::Renamed(_)) => return Ok(true),
            Ok(Placed::Copied { .. }) => {}
            // It would not be read the next time either: the start goes on as if it were gone.
            Err(Fault::SideFile { .. }) => return Ok(false),
            Err(fault) => return Err(fault),
        }
        let slot = meta.slot();
        let write_meta = || {
            pages.write_all_at(&directory.meta_page, slot * PAGE_SIZE_BYTES as u64)?;
            pages.sync_data()
        };
        let written = write_meta();
        written.map_err(|error| Fault::Pages { what: "install", first: slot, error })?;
        self.discard().map(|()| true)
    }

    /// Deletes it, if it is there.
    pub fn discard(&mut self) -> Result<(), Fault> {
        self.forget();
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fault::Pages { what: "removal of the side file", first: 2, error })
            }
            _ => Ok(()),
        }
    }

    fn forget(&mut self) {
        self.file = None;
        self.write_back = WriteBack::default();
        self.is_name_synced = false;
        self.chunk = Vec::new();
    }
}

/// What lies between runs, from page 2 to `end`.
fn gaps_of(runs: &[(u64, u64)], end: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut from = 2;
    for (first, count) in runs.iter().copied().chain([(end, 0)]) {
        let until = first.min(end);
        if from < until {
            gaps.push(from..until);
        }
        from = first.checked_add(count).expect("page numbers are far below 2^64").max(from);
    }
    gaps
}

/// Why pages were not copied.
#[derive(Debug)]
enum NotCopied {
    /// They cannot be read.
    Read(io::Error),
    /// They cannot be written.
    Write(io::Error),
}

/// Copies pages from one file to the same place in another.
fn copy_pages(
    from: &File,
    to: &File,
    pages: Range<u64>,
    chunk: &mut Vec<u8>,
    write_back: &mut WriteBack,
) -> Result<(), NotCopied> {
    chunk.resize(COPY_CHUNK_PAGES * PAGE_SIZE_BYTES, 0);
    let mut page = pages.start;
    while page < pages.end {
        let left = usize::try_from(pages.end - page).unwrap_or(usize::MAX);
        let bytes = &mut chunk[..left.min(COPY_CHUNK_PAGES) * PAGE_SIZE_BYTES];
        let offset = page * PAGE_SIZE_BYTES as u64;
        from.read_exact_at(bytes, offset).map_err(NotCopied::Read)?;
        to.write_all_at(bytes, offset).map_err(NotCopied::Write)?;
        write_back.wrote(to, bytes.len()).map_err(NotCopied::Write)?;
        page += (bytes.len() / PAGE_SIZE_BYTES) as u64;
    }
    Ok(())
}

/// As [`copy_pages`], and holes stay holes: free pages whose space was given back.
fn keep_pages(
    from: &File,
    to: &File,
    pages: Range<u64>,
    chunk: &mut Vec<u8>,
    write_back: &mut WriteBack,
) -> Result<(), NotCopied> {
    let size = PAGE_SIZE_BYTES as u64;
    let mut page = pages.start;
    while page < pages.end {
        let data = match seek(from, SeekFrom::Data(page * size)) {
            Ok(at) => (at / size).clamp(page, pages.end),
            Err(Errno::NXIO) => pages.end,
            // A file system that does not tell: all of it is data.
            Err(_) => page,
        };
        if page < data {
            // Something of an earlier target may lie there.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(to, flags, page * size, (data - page) * size).is_err() {
                copy_pages(from, to, page..data, chunk, write_back)?;
            }
        }
        let hole = match seek(from, SeekFrom::Hole(data * size)) {
            Ok(at) => at.div_ceil(size).clamp(data, pages.end),
            Err(_) => pages.end,
        };
        copy_pages(from, to, data..hole, chunk, write_back)?;
        page = hole;
    }
    Ok(())
}

/// The side file is called as the page file with this at the end.
const SIDE_SUFFIX: &str = ".side";
const COPY_CHUNK_PAGES: usize = 16;

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
        let side = SideFile::beside(&directory.path().join("default.pages"));
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
            side = SideFile::beside(&directory.path().join("default.pages"));
        }
        side.discard().unwrap();
        side.discard().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_never_written_is_a_fault_not_zeros() {
        let (mut side, pages, _directory) = opened();
        let fault = side.copy_to(&pages, &[(2, 1)]).unwrap_err();
        assert!(fault.to_string().contains("side file: page 2"), "{fault}");
        side.write(2, &page(1, 1)).unwrap();
        assert!(side.copy_to(&pages, &[(2, 2)]).is_err());
        // Nothing to copy needs no file.
        side.discard().unwrap();
        assert_eq!(side.copy_to(&pages, &[]).unwrap(), 2);
    }

    /// Meta page of a checkpoint of 40 pages, its last entry, and the runs that were received.
    fn directory_of(runs: &[(u64, u64)]) -> Directory {
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
        Directory { last, meta_page: meta.encode(), runs: runs.to_vec() }
    }

    fn receive(side: &mut SideFile, directory: &Directory) {
        for (n, (first, count)) in directory.runs.iter().enumerate() {
            side.write(*first, &page(2 + n as u8, *count as usize)).unwrap();
        }
        for (first, bytes) in directory.encode() {
            side.write(first, &bytes).unwrap();
        }
        side.sync().unwrap();
    }

    fn meta_of(pages: &File) -> Option<Meta> {
        let mut slot = vec![0; PAGE_SIZE_BYTES];
        pages.read_exact_at(&mut slot, PAGE_SIZE_BYTES as u64).unwrap();
        check_meta(&slot, 1)
    }

    #[test]
    fn an_install_whose_pages_cannot_be_read_any_more_is_as_good_as_gone() {
        // The last run lies where the file has ended.
        let directory = directory_of(&[(4, 2), (50, 2)]);
        let (mut side, pages, opened) = opened();
        pages.write_all_at(&page(1, 40), 0).unwrap();
        side.write(4, &page(2, 2)).unwrap();
        for (first, bytes) in directory.encode() {
            side.write(first, &bytes).unwrap();
        }
        side.sync().unwrap();
        for _ in 0..2 {
            let mut next = SideFile::beside(&opened.path().join("default.pages"));
            assert!(!next.finish(&pages, Some(directory.install())).unwrap());
            assert!(next.exists() && meta_of(&pages).is_none(), "nothing counts of it");
        }
        // A page file that cannot be written is another matter.
        let path = opened.path().join("default.pages");
        let read_only = File::open(&path).unwrap();
        let fault = side.finish(&read_only, Some(directory.install())).unwrap_err();
        assert!(matches!(fault, Fault::Pages { .. }), "{fault}");
    }

    #[test]
    fn an_install_that_a_crash_interrupted_is_finished_by_the_next_start() {
        let directory = directory_of(&[(4, 2), (30, 9)]);
        let (mut side, pages, opened) = opened();
        let path = opened.path().join("default.pages");
        let side_path = side.path.clone();
        pages.write_all_at(&page(1, 40), 0).unwrap();
        receive(&mut side, &directory);
        // As far as a crash may have let it come, and not at all.
        for copied in [0, 1, 2] {
            side.copy_to(&pages, &directory.runs[..copied]).unwrap();
            let mut next = SideFile::beside(&path);
            let kept = std::fs::read(&side_path).unwrap();
            assert!(next.finish(&pages, Some(directory.install())).unwrap());
            let fills = [3, 4, 5, 6, 30, 38, 39].map(|number| fill_of(&pages, number));
            assert_eq!(fills, [1, 2, 2, 1, 3, 3, 1].map(Some));
            assert_eq!(meta_of(&pages), Some(directory.meta()));
            assert!(!next.exists(), "nothing is left to do");
            std::fs::write(&side_path, kept).unwrap();
            pages.write_all_at(&page(1, 40), 0).unwrap();
            side = SideFile::beside(&path);
        }
        // Another state than the WAL speaks of: nothing is touched, and the start is refused later.
        let install = directory.install();
        let other = Install { checksum: install.checksum ^ 1, ..install };
        assert!(!SideFile::beside(&path).finish(&pages, Some(other)).unwrap());
        assert!(side.exists() && fill_of(&pages, 4) == Some(1));
        // A transfer that never came to its install.
        assert!(!SideFile::beside(&path).finish(&pages, None).unwrap());
        assert!(!side.exists() && fill_of(&pages, 4) == Some(1));
    }

    #[test]
    fn where_most_of_a_state_was_received_it_takes_the_page_files_place() {
        let directory = directory_of(&[(4, 2), (10, 28)]);
        let expected = [2, 3, 4, 5, 6, 9, 10, 37, 38, 39];
        // How far a crash let an install come before: gaps that were added.
        for added in 0..=3 {
            for is_start in [false, true] {
                let (mut side, pages, opened) = opened();
                let path = opened.path().join("default.pages");
                pages.write_all_at(&page(1, 50), 0).unwrap();
                receive(&mut side, &directory);
                for (first, count) in [(2, 2), (6, 4), (38, 2)].into_iter().take(added) {
                    side.write(first, &page(1, count)).unwrap();
                }
                let mut side = SideFile::beside(&path);
                if is_start {
                    assert!(side.finish(&pages, Some(directory.install())).unwrap());
                } else {
                    let runs = &directory.runs;
                    let received = Received { runs, whole_pages: Some(40) };
                    let placed = side.install(&pages, received).unwrap();
                    assert!(matches!(placed, Placed::Renamed(_)), "{placed:?}");
                }
                assert!(!side.exists());
                let pages = File::open(&path).unwrap();
                let fills = expected.map(|number| fill_of(&pages, number));
                assert_eq!(fills, [1, 1, 2, 2, 1, 1, 3, 3, 1, 1].map(Some));
                assert_eq!(meta_of(&pages), Some(directory.meta()));
                assert_eq!(fill_of(&pages, 0), Some(0), "the other slot leads nowhere");
                side.discard().unwrap();
                assert!(path.exists(), "its name is another one now");
            }
        }
    }

    #[test]
    fn free_pages_without_space_have_none_afterwards() {
        use std::os::unix::fs::MetadataExt;
        let directory = directory_of(&[(2, 10), (25, 15)]);
        let (mut side, pages, opened) = opened();
        // Pages 14 to 21 are free.
        pages.write_all_at(&page(1, 14), 0).unwrap();
        pages.write_all_at(&page(1, 18), 22 * PAGE_SIZE_BYTES as u64).unwrap();
        // There an earlier target left something.
        side.write(16, &page(9, 2)).unwrap();
        receive(&mut side, &directory);
        let blocks_before = side.open(false).unwrap().metadata().unwrap().blocks();
        let received = Received { runs: &directory.runs, whole_pages: Some(40) };
        let placed = side.install(&pages, received).unwrap();
        assert!(matches!(placed, Placed::Renamed(_)), "{placed:?}");
        let pages = File::open(opened.path().join("default.pages")).unwrap();
        let fills = [11, 12, 13, 14, 16, 21, 22, 24, 25].map(|number| fill_of(&pages, number));
        assert_eq!(fills, [2, 1, 1, 0, 0, 0, 1, 1, 3].map(Some));
        let blocks = pages.metadata().unwrap().blocks();
        // 12, 13 and 22 to 24 came, 16 and 17 went, in units of 512 bytes.
        assert_eq!(blocks, blocks_before + 3 * 8);
    }

    #[test]
    fn what_would_take_the_place_of_a_page_file_is_all_there() {
        let (mut side, pages, _directory) = opened();
        pages.write_all_at(&page(1, 4), 0).unwrap();
        side.write(4, &page(2, 36)).unwrap();
        let runs = &[(4, 36)];
        let fault = side.install(&pages, Received { runs, whole_pages: Some(40) }).unwrap_err();
        assert!(fault.to_string().contains("length of the side file"), "{fault}");
        // Without a directory it is copied.
        let placed = side.install(&pages, Received { runs, whole_pages: None }).unwrap();
        assert!(matches!(placed, Placed::Copied { end: 40 }), "{placed:?}");
        assert_eq!(fill_of(&pages, 39), Some(2));
    }

    #[test]
    fn a_side_file_of_the_last_transfer_does_not_hold_the_next_one_up() {
        let (mut side, pages, directory) = opened();
        side.write(2, &page(9, 5)).unwrap();
        let mut next = SideFile::beside(&directory.path().join("default.pages"));
        next.discard().unwrap();
        next.write(3, &page(7, 1)).unwrap();
        next.sync().unwrap();
        next.copy_to(&pages, &[(3, 1)]).unwrap();
        assert_eq!(fill_of(&pages, 3), Some(7));
        assert!(next.copy_to(&pages, &[(4, 1)]).is_err(), "gone with the transfer before");
    }
}
