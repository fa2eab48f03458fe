//! The page file: mapped read-only, written through the page cache, verified before use.
//!
//! The argument for the map, made once:
//! 1. No slice over the whole map is ever formed; one over the pages asked for is formed from the
//!    base pointer, when they are asked for.
//! 2. A page of the file is written only while no reference to it can exist: it is free for every
//!    root, or its reader is served from the heap until `PagesSynced`; and no reference outlives a
//!    step, while effects are submitted after it.
//! 3. The file is never made shorter while it is mapped; it only grows. The map is reserved once,
//!    far larger than the file, and only pages within the file's length are touched. Another file
//!    with the state of a transfer takes its place as a whole, with a map of its own, while the map
//!    is borrowed for that alone.
//! 4. One process has the file: the data directory is locked.
//! 5. The file is written with pwrite through the page cache, never directly and never by the map,
//!    so the map shows what was written.
//!
//! Invariant: what is returned was read with pread and compared with its parent's checksum before
//! its first use. A page that cannot be read is an error with its number, not a signal; a signal
//! can still come when the kernel has dropped a page and the disk fails to give it back: it then
//! ends the process with the page's number.
//! Source: style rules, section on mapped memory; mmap(2), open(2).

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    num::NonZeroU64,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use engine::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};
use engine::wal::record::Install;
use memmap2::UncheckedAdvice;
use rustix::fs::{Advice, fadvise};

use super::{
    file_thread::Worker,
    mapped_file::{Exchange, Installs, MappedFile},
    side_file::{Placed, Received, SideFile},
    space_reserve::{SpaceReserve, with_room},
};
use crate::error::Fault;

/// A page file's map, its worker, and its two meta pages; one that is not there or cannot be read
/// is `None`.
pub type Opened = (PageFileMap, PageWorker, [Option<Vec<u8>>; 2]);

/// Whether an earlier process left a side file behind.
pub fn has_side_file(path: &Path) -> bool {
    SideFile::beside(path).exists()
}

/// Does what a crash left undone of an install (see [`SideFile::finish`]), and says whether there
/// was something. To be called before [`open`].
pub fn finish_install(path: &Path, install: Option<Install>) -> Result<bool, Fault> {
    let pages = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Fault::Pages { what: "open", first: 0, error })?;
    SideFile::beside(path).finish(&pages, install)
}

/// Opens the page file and reads its two meta pages.
pub fn open(path: &Path, reserve: Option<Arc<SpaceReserve>>) -> io::Result<Opened> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if let Some(parent) = path.parent() {
        crate::data_directory::sync_directory(parent)?;
    }
    let pages = file.metadata()?.len() / PAGE_SIZE_BYTES as u64;
    let length_pages = Arc::new(AtomicU64::new(pages));
    let meta = [0, 1].map(|slot: u64| {
        let mut bytes = vec![0; PAGE_SIZE_BYTES];
        file.read_exact_at(&mut bytes, slot * PAGE_SIZE_BYTES as u64).ok().map(|()| bytes)
    });
    let installs = Arc::new(Installs::default());
    let worker = PageWorker {
        file: file.try_clone()?,
        length_pages: Arc::clone(&length_pages),
        installs: Arc::clone(&installs),
        side: SideFile::beside(path),
        reserve,
    };
    Ok((PageFileMap::new(file, length_pages, installs)?, worker, meta))
}

/// The map, as the engine sees it.
#[derive(Debug)]
pub struct PageFileMap {
    mapped: MappedFile,
    /// Whole pages in the file; raised by the worker after it wrote.
    length_pages: Arc<AtomicU64>,
    /// What the worker put into its place.
    installs: Arc<Installs>,
    state: RefCell<Verified>,
}

/// Which pages were verified, one bit a page, and room to read into.
#[derive(Debug, Default)]
struct Verified {
    bits: Vec<u64>,
    scratch: Vec<u8>,
    /// Installs that are taken into account.
    installs: u64,
}

impl Verified {
    fn has_all(&self, first: u64, count: u32) -> bool {
        (first..first + u64::from(count)).all(|page| {
            let (word, bit) = bit_of(page);
            self.bits.get(word).is_some_and(|bits| bits & bit != 0)
        })
    }

    fn set_all(&mut self, first: u64, count: u32) {
        let end = first + u64::from(count);
        let (last_word, _) = bit_of(end - 1);
        if self.bits.len() <= last_word {
            self.bits.resize(last_word + 1, 0);
        }
        for page in first..end {
            let (word, bit) = bit_of(page);
            self.bits[word] |= bit;
        }
    }

    fn clear_all(&mut self, first: u64, count: u32) {
        for page in first..first + u64::from(count) {
            let (word, bit) = bit_of(page);
            if let Some(bits) = self.bits.get_mut(word) {
                *bits &= !bit;
            }
        }
    }
}

fn bit_of(page: u64) -> (usize, u64) {
    let word = usize::try_from(page / 64).expect("a page number within the map fits");
    (word, 1 << (page % 64))
}

impl PageFileMap {
    fn new(
        file: File,
        length_pages: Arc<AtomicU64>,
        installs: Arc<Installs>,
    ) -> io::Result<PageFileMap> {
        let mapped = MappedFile::new(file)?;
        fault_signal::watch(mapped.map.as_ptr(), mapped.map.len());
        let state = RefCell::new(Verified::default());
        Ok(PageFileMap { mapped, length_pages, installs, state })
    }

    /// Whether the pages were verified. Pages put there by a transfer were not: after one, nothing
    /// counts that was verified before it.
    fn is_verified(&self, first: u64, count: u32) -> bool {
        let installs = self.installs.count.load(Ordering::Acquire);
        let mut state = self.state.borrow_mut();
        if state.installs != installs {
            state.installs = installs;
            state.bits.clear();
        }
        state.has_all(first, count)
    }

    /// Whether the pages lie within the file and the map.
    fn is_within(&self, first: u64, count: u32) -> bool {
        let Some(end) = first.checked_add(u64::from(count)) else { return false };
        let reserved_pages = (self.mapped.map.len() / PAGE_SIZE_BYTES) as u64;
        end <= self.length_pages.load(Ordering::Acquire) && end <= reserved_pages
    }

    fn verify(&self, first: PageNumber, count: u32, expected: Checksum) -> Result<(), Corruption> {
        let mut state = self.state.borrow_mut();
        let size_bytes = count as usize * PAGE_SIZE_BYTES;
        let mut scratch = std::mem::take(&mut state.scratch);
        scratch.resize(size_bytes, 0);
        let offset = first.0 * PAGE_SIZE_BYTES as u64;
        let read = self.mapped.file.read_exact_at(&mut scratch, offset);
        let found = read.ok().map(|()| checksum(&scratch));
        scratch.truncate(SCRATCH_KEPT_BYTES_MAX);
        scratch.shrink_to(SCRATCH_KEPT_BYTES_MAX);
        state.scratch = scratch;
        if found == Some(expected) {
            state.set_all(first.0, count);
            return Ok(());
        }
        Err(Corruption { page: first, count, expected, found })
    }
}

impl PageMap for PageFileMap {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        assert!(1 <= count);
        if !self.is_within(first.0, count) {
            return Err(Corruption { page: first, count, expected, found: None });
        }
        if !self.is_verified(first.0, count) {
            self.verify(first, count, expected)?;
        }
        let offset = usize::try_from(first.0).expect("within the map") * PAGE_SIZE_BYTES;
        let size_bytes = count as usize * PAGE_SIZE_BYTES;
        let map = &self.mapped.map;
        assert!(offset + size_bytes <= map.len());
        // SAFETY: the range lies within the map (asserted) and within the file (`is_within`; the
        // file never gets shorter, point 3), the map lives as long as `self`, and nothing writes
        // these pages while the reference lives (point 2). Breaches of 2 are caught by the engine's
        // `forget` assertions, of 3 by `what_lies_beyond_the_file_is_an_error_not_a_signal`.
        Ok(unsafe { std::slice::from_raw_parts(map.as_ptr().add(offset), size_bytes) })
    }

    fn forget(&self, first: PageNumber, count: u32) {
        self.state.borrow_mut().clear_all(first.0, count);
    }

    fn wrote(&self, first: PageNumber, count: u32) {
        self.state.borrow_mut().set_all(first.0, count);
    }

    fn release(&self, first: PageNumber, count: u64) {
        let offset = usize::try_from(first.0).expect("within the map") * PAGE_SIZE_BYTES;
        let size_bytes = usize::try_from(count).expect("within the map") * PAGE_SIZE_BYTES;
        assert!(offset + size_bytes <= self.mapped.map.len());
        // SAFETY: the map is shared and read-only, so what is dropped is read from the file again;
        // the engine names free pages only, to which no reference lives (point 2).
        let advised = unsafe {
            self.mapped.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, size_bytes)
        };
        // Memory that is not let go is a cost, not a fault.
        drop(advised);
    }

    fn will_need(&self, first: PageNumber, count: u64) {
        let Some(end) = first.0.checked_add(count) else { return };
        if end <= self.length_pages.load(Ordering::Acquire) {
            let (offset, length) =
                (first.0 * PAGE_SIZE_BYTES as u64, count * PAGE_SIZE_BYTES as u64);
            // What is not read ahead is read when it is used.
            let _ = fadvise(&self.mapped.file, offset, NonZeroU64::new(length), Advice::WillNeed);
        }
    }

    fn refresh(&mut self) {
        let mut exchange = self.installs.exchange.lock().expect("a panic ends the process");
        *exchange = match std::mem::take(&mut *exchange) {
            Exchange::Coming(mapped) => {
                self.length_pages.store(mapped.length_pages, Ordering::Release);
                fault_signal::watch(mapped.map.as_ptr(), mapped.map.len());
                self.state.get_mut().bits.clear();
                // No reference into the old map lives: `self` is borrowed for this alone.
                Exchange::Going(std::mem::replace(&mut self.mapped, mapped))
            }
            other => other,
        };
    }
}

impl Drop for PageFileMap {
    fn drop(&mut self) {
        fault_signal::forget(self.mapped.map.as_ptr());
    }
}

/// What the page thread is told. Done in this order, so that a sync covers the writes before it.
#[derive(Debug)]
pub enum PageOrder {
    /// Write pages to their places: first page and whole pages of each.
    Write {
        /// In the order given.
        pages: Vec<(u64, Arc<[u8]>)>,
    },
    /// Sync what was written.
    Sync {
        /// The checkpoint's interval.
        interval: u64,
    },
    /// Make the space reserve whole again, if there is room.
    RestoreReserve,
    /// Write a meta page and sync.
    Meta {
        /// The checkpoint's interval.
        interval: u64,
        /// 0 or 1.
        slot: u64,
        /// One page.
        bytes: Arc<[u8]>,
    },
    /// Give the space of pages back.
    Punch {
        /// First page.
        first: u64,
        /// How many.
        pages: u64,
    },
    /// Write pages of a transfer into the side file.
    SideWrite {
        /// First page.
        first: u64,
        /// Whole pages.
        bytes: Arc<[u8]>,
    },
    /// Sync the side file.
    SideSync {
        /// Number of the sync.
        number: u64,
    },
    /// Put runs of pages from the side file into their places, durably.
    Install {
        /// First page and count of each, ascending.
        runs: Vec<(u64, u64)>,
        /// Pages of the checkpoint that is in the side file, if that has all that belongs to one.
        whole_pages: Option<u64>,
    },
    /// Delete the side file.
    SideDiscard,
}

/// What it reports.
#[derive(Debug, PartialEq, Eq)]
pub enum PageReport {
    /// All writes before the sync are durable.
    Synced {
        /// The checkpoint's interval.
        interval: u64,
    },
    /// The meta page is durable.
    MetaSynced {
        /// The checkpoint's interval.
        interval: u64,
    },
    /// What was written into the side file before is durable.
    SideSynced {
        /// Number of the sync.
        number: u64,
    },
    /// The runs lie in their places and are durable there.
    Installed,
}

/// Writes, syncs and punches, off the core.
#[derive(Debug)]
pub struct PageWorker {
    file: File,
    length_pages: Arc<AtomicU64>,
    installs: Arc<Installs>,
    side: SideFile,
    reserve: Option<Arc<SpaceReserve>>,
}

impl PageWorker {
    fn write(&self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        assert!(bytes.len().is_multiple_of(PAGE_SIZE_BYTES));
        let offset = first * PAGE_SIZE_BYTES as u64;
        with_room(self.reserve.as_ref(), || self.file.write_all_at(bytes, offset))
            .map_err(|error| Fault::Pages { what: "write", first, error })?;
        let end = first + (bytes.len() / PAGE_SIZE_BYTES) as u64;
        self.length_pages.fetch_max(end, Ordering::Release);
        Ok(())
    }

    /// Writes pages, those that lie side by side in one call.
    fn write_neighbours(&self, pages: &[(u64, Arc<[u8]>)]) -> Result<(), Fault> {
        let pages_of = |bytes: &Arc<[u8]>| (bytes.len() / PAGE_SIZE_BYTES) as u64;
        let mut rest = pages;
        while let Some(((first, bytes), _)) = rest.split_first() {
            assert!(2 <= *first, "pages 0 and 1 are the meta pages");
            let mut end = first + pages_of(bytes);
            let mut count = 1;
            while let Some((next, bytes)) = rest.get(count)
                && *next == end
                && count < NEIGHBOURS_MAX
            {
                end += pages_of(bytes);
                count += 1;
            }
            let (group, behind) = rest.split_at(count);
            self.write_group(*first, group)?;
            rest = behind;
        }
        Ok(())
    }

    fn write_group(&self, first: u64, group: &[(u64, Arc<[u8]>)]) -> Result<(), Fault> {
        let slices: Vec<_> = group.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
        let size_bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let offset = first * PAGE_SIZE_BYTES as u64;
        let written = loop {
            match rustix::io::pwritev(&self.file, &slices, offset) {
                Err(rustix::io::Errno::INTR) => {}
                // Page by page there is room, or the fault's place is named.
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => break 0,
                Err(error) => {
                    return Err(Fault::Pages { what: "write", first, error: error.into() });
                }
                Ok(written) => break written,
            }
        };
        if written < size_bytes {
            // What a signal or a full disk cut short goes page by page, which names the fault.
            for (first, bytes) in group {
                self.write(*first, bytes)?;
            }
        }
        let end = first + (size_bytes / PAGE_SIZE_BYTES) as u64;
        self.length_pages.fetch_max(end, Ordering::Release);
        Ok(())
    }

    fn sync(&self, first: u64) -> Result<(), Fault> {
        self.file.sync_data().map_err(|error| Fault::Pages { what: "sync", first, error })
    }

    fn install(&mut self, received: Received<'_>) -> Result<(), Fault> {
        match self.side.install(&self.file, received)? {
            Placed::Copied { end } if received.runs.is_empty() => assert!(end == 2),
            Placed::Copied { end } => {
                self.length_pages.fetch_max(end, Ordering::Release);
            }
            Placed::Renamed(file) => {
                let mapped = file.try_clone().and_then(MappedFile::new);
                let mapped = mapped.map_err(|error| {
                    let what = "map of what was received";
                    Fault::Pages { what, first: 2, error }
                })?;
                self.file = file;
                // The map takes it when the store is opened again.
                *self.exchange() = Exchange::Coming(mapped);
            }
        }
        self.installs.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.installs.exchange.lock().expect("a panic ends the process")
    }

    /// Ends what was the page file before another one took its place, on this thread.
    fn end_old_file(&self) {
        let old = self.exchange().take_going();
        drop(old);
    }

    fn punch(&self, first: u64, pages: u64) -> Result<(), Fault> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let page_size = PAGE_SIZE_BYTES as u64;
        match fallocate(&self.file, flags, first * page_size, pages * page_size) {
            // Space that is not given back is a cost, not a fault.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(Fault::Pages { what: "punch", first, error: error.into() }),
        }
    }
}

impl Worker for PageWorker {
    type Order = PageOrder;
    type Report = PageReport;
    const NAME: &'static str = "pages";

    /// After a checkpoint the arena's memory is free: the store has come to rest, so it is given
    /// back to the system.
    fn rest(&mut self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: the call has no precondition and touches free memory only.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    fn work(&mut self, order: PageOrder) -> Result<Option<PageReport>, Fault> {
        Ok(match order {
            PageOrder::Write { pages } => {
                self.write_neighbours(&pages)?;
                None
            }
            PageOrder::Sync { interval } => {
                self.sync(2)?;
                Some(PageReport::Synced { interval })
            }
            PageOrder::Meta { interval, slot, bytes } => {
                assert!(slot < 2);
                assert!(bytes.len() == PAGE_SIZE_BYTES);
                self.write(slot, &bytes)?;
                self.sync(slot)?;
                Some(PageReport::MetaSynced { interval })
            }
            PageOrder::Punch { first, pages } => {
                self.punch(first, pages)?;
                None
            }
            PageOrder::RestoreReserve => {
                if let Some(reserve) = &self.reserve {
                    let fault = |error| Fault::Pages { what: "reserve", first: 0, error };
                    reserve.restore().map_err(fault)?;
                }
                None
            }
            PageOrder::SideWrite { first, bytes } => {
                self.side.write(first, &bytes)?;
                None
            }
            PageOrder::SideSync { number } => {
                self.side.sync()?;
                Some(PageReport::SideSynced { number })
            }
            PageOrder::Install { runs, whole_pages } => {
                self.install(Received { runs: &runs, whole_pages })?;
                Some(PageReport::Installed)
            }
            PageOrder::SideDiscard => {
                self.side.discard()?;
                self.end_old_file();
                None
            }
        })
    }
}

/// Ends the process with the page's number when a mapped page cannot be read.
mod fault_signal {
    use super::{AtomicUsize, Ordering, PAGE_SIZE_BYTES};

    static BASE: AtomicUsize = AtomicUsize::new(0);
    static SIZE_BYTES: AtomicUsize = AtomicUsize::new(0);

    /// Faults within this map are named from now on.
    pub fn watch(base: *const u8, size_bytes: usize) {
        SIZE_BYTES.store(size_bytes, Ordering::SeqCst);
        BASE.store(base.addr(), Ordering::SeqCst);
        // SAFETY: an all-zero sigaction is a valid one.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        // SAFETY: the handler only reads atomics, writes to a file descriptor and ends the process,
        // all of which is allowed in a signal handler (signal-safety(7)).
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    }

    /// The map is about to go.
    pub fn forget(base: *const u8) {
        // Another map may have been made since.
        let _ = BASE.compare_exchange(base.addr(), 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; SIGBUS has an address.
        let address = unsafe { (*info).si_addr() }.addr();
        let base = BASE.load(Ordering::SeqCst);
        let is_ours =
            base != 0 && base <= address && address - base < SIZE_BYTES.load(Ordering::SeqCst);
        let mut line = [0_u8; 128];
        let page = if is_ours { (address - base) / PAGE_SIZE_BYTES } else { 0 };
        let size = super::render_fault(&mut line, is_ours.then_some(page));
        // SAFETY: the buffer is valid for `size` bytes; both calls are async-signal-safe.
        unsafe {
            libc::write(2, line.as_ptr().cast(), size);
            libc::_exit(1)
        }
    }
}

/// Writes the last words without allocating: a signal handler may not.
fn render_fault(line: &mut [u8; 128], page: Option<usize>) -> usize {
    let mut size = 0;
    let mut put = |bytes: &[u8]| {
        line[size..size + bytes.len()].copy_from_slice(bytes);
        size += bytes.len();
    };
    match page {
        Some(mut page) => {
            put(b"{\"level\":\"fatal\",\"msg\":\"a mapped page cannot be read\",\"page\":");
            let mut digits = [0_u8; 20];
            let mut start = digits.len();
            loop {
                start -= 1;
                digits[start] = b'0' + u8::try_from(page % 10).unwrap_or(0);
                page /= 10;
                if page == 0 {
                    break;
                }
            }
            put(&digits[start..]);
            put(b"}\n");
        }
        None => put(b"{\"level\":\"fatal\",\"msg\":\"SIGBUS outside of the page file\"}\n"),
    }
    size
}

/// Pages and runs written in one call: within what the kernel takes.
const NEIGHBOURS_MAX: usize = 256;
/// A run longer than this is read into memory that is given back.
const SCRATCH_KEPT_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    struct Opened {
        map: PageFileMap,
        worker: PageWorker,
        meta: [Option<Vec<u8>>; 2],
        path: std::path::PathBuf,
        _directory: tempfile::TempDir,
    }

    fn opened() -> Opened {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("default.pages");
        let (map, worker, meta) = open(&path, None).unwrap();
        Opened { map, worker, meta, path, _directory: directory }
    }

    fn page(fill: u8, count: usize) -> Arc<[u8]> {
        vec![fill; count * PAGE_SIZE_BYTES].into()
    }

    #[test]
    fn what_is_written_is_read_through_the_map_after_it_was_verified() {
        let mut file = opened();
        assert_eq!(file.meta, [None, None]);
        let bytes = page(7, 3);
        let order = PageOrder::Write { pages: vec![(10, Arc::clone(&bytes))] };
        assert_eq!(file.worker.work(order).unwrap(), None);
        let synced = file.worker.work(PageOrder::Sync { interval: 4 }).unwrap();
        assert_eq!(synced, Some(PageReport::Synced { interval: 4 }));
        let read = file.map.pages(PageNumber(10), 3, checksum(&bytes)).unwrap();
        assert_eq!(read, &bytes[..]);
        let wrong = file.map.pages(PageNumber(12), 1, Checksum(1));
        assert!(wrong.is_ok(), "a page that was verified is not read again");
        file.map.forget(PageNumber(10), 3);
        let corrupt = file.map.pages(PageNumber(10), 3, Checksum(1)).unwrap_err();
        assert_eq!(corrupt.found, Some(checksum(&bytes)));
    }

    #[test]
    fn a_page_altered_on_disk_is_an_error_before_its_first_use() {
        let mut file = opened();
        let bytes = page(1, 1);
        file.worker.work(PageOrder::Write { pages: vec![(2, Arc::clone(&bytes))] }).unwrap();
        let raw = OpenOptions::new().write(true).open(&file.path).unwrap();
        raw.write_all_at(&[9], 2 * PAGE_SIZE_BYTES as u64 + 100).unwrap();
        let error = file.map.pages(PageNumber(2), 1, checksum(&bytes)).unwrap_err();
        assert_eq!(error.page, PageNumber(2));
        assert!(error.found.is_some());
    }

    #[test]
    fn what_lies_beyond_the_file_is_an_error_not_a_signal() {
        let mut file = opened();
        file.worker.work(PageOrder::Write { pages: vec![(2, page(1, 1))] }).unwrap();
        for (first, count) in [(3, 1), (2, 2), (u64::MAX, 1), (1 << 40, 1)] {
            let error = file.map.pages(PageNumber(first), count, Checksum(0)).unwrap_err();
            assert_eq!(error.found, None);
        }
    }

    #[test]
    fn meta_pages_are_found_again() {
        let mut file = opened();
        let order = PageOrder::Meta { interval: 9, slot: 1, bytes: page(5, 1) };
        assert_eq!(file.worker.work(order).unwrap(), Some(PageReport::MetaSynced { interval: 9 }));
        let (_, _, meta) = open(&file.path, None).unwrap();
        assert_eq!(meta[0].as_deref(), Some(&page(0, 1)[..]));
        assert_eq!(meta[1].as_deref(), Some(&page(5, 1)[..]));
    }

    #[test]
    fn punched_pages_take_no_space_and_keep_the_length() {
        use std::os::unix::fs::MetadataExt;
        let mut file = opened();
        file.worker.work(PageOrder::Write { pages: vec![(2, page(1, 64))] }).unwrap();
        file.worker.work(PageOrder::Sync { interval: 1 }).unwrap();
        let before = std::fs::metadata(&file.path).unwrap();
        file.worker.work(PageOrder::Punch { first: 16, pages: 32 }).unwrap();
        let after = std::fs::metadata(&file.path).unwrap();
        assert_eq!(before.len(), after.len());
        assert!(after.blocks() < before.blocks());
    }

    #[test]
    fn installed_pages_are_shown_and_verified_anew() {
        let mut file = opened();
        let (old, new) = (page(1, 4), page(2, 4));
        file.worker.work(PageOrder::Write { pages: vec![(2, Arc::clone(&old))] }).unwrap();
        assert_eq!(file.map.pages(PageNumber(2), 4, checksum(&old)).unwrap(), &old[..]);
        for first in [2, 20] {
            let bytes = Arc::clone(&new);
            assert_eq!(file.worker.work(PageOrder::SideWrite { first, bytes }).unwrap(), None);
        }
        let synced = file.worker.work(PageOrder::SideSync { number: 8 }).unwrap();
        assert_eq!(synced, Some(PageReport::SideSynced { number: 8 }));
        // The old pages serve until the order to install.
        assert_eq!(file.map.pages(PageNumber(2), 4, checksum(&old)).unwrap(), &old[..]);
        let order = PageOrder::Install { runs: vec![(2, 4), (20, 4)], whole_pages: None };
        assert_eq!(file.worker.work(order).unwrap(), Some(PageReport::Installed));
        let error = file.map.pages(PageNumber(2), 4, checksum(&old)).unwrap_err();
        assert_eq!(error.found, Some(checksum(&new)));
        for first in [2, 20] {
            let read = file.map.pages(PageNumber(first), 4, checksum(&new)).unwrap();
            assert_eq!(read, &new[..]);
        }
        assert_eq!(file.worker.work(PageOrder::SideDiscard).unwrap(), None);
        let mut side = file.path.clone().into_os_string();
        side.push(".side");
        assert!(!std::path::Path::new(&side).exists());
    }

    #[test]
    fn a_whole_state_is_shown_through_a_map_of_its_own_once_the_store_is_opened_again() {
        let mut file = opened();
        let (old, new) = (page(1, 30), page(2, 20));
        file.worker.work(PageOrder::Write { pages: vec![(2, Arc::clone(&old))] }).unwrap();
        // 22 pages in all, a directory behind them.
        for (first, bytes) in [(2, Arc::clone(&new)), (22, page(0, 1))] {
            file.worker.work(PageOrder::SideWrite { first, bytes }).unwrap();
        }
        file.worker.work(PageOrder::SideSync { number: 1 }).unwrap();
        let order = PageOrder::Install { runs: vec![(2, 20)], whole_pages: Some(22) };
        assert_eq!(file.worker.work(order).unwrap(), Some(PageReport::Installed));
        let meta = PageOrder::Meta { interval: 9, slot: 1, bytes: page(5, 1) };
        file.worker.work(meta).unwrap();
        // Discarded before the map took it, it would be lost.
        assert_eq!(file.worker.work(PageOrder::SideDiscard).unwrap(), None);
        assert!(file.map.is_within(2, 30), "the old one is still there, and its length");
        file.map.refresh();
        assert_eq!(file.map.pages(PageNumber(2), 20, checksum(&new)).unwrap(), &new[..]);
        assert!(!file.map.is_within(2, 30));
        assert_eq!(file.worker.work(PageOrder::SideDiscard).unwrap(), None);
        assert!(matches!(*file.worker.exchange(), Exchange::None), "the old one has ended");
        // It grows as any page file does, and a start finds it.
        file.worker.work(PageOrder::Write { pages: vec![(22, Arc::clone(&old))] }).unwrap();
        assert_eq!(file.map.pages(PageNumber(22), 30, checksum(&old)).unwrap(), &old[..]);
        file.map.refresh();
        assert_eq!(file.map.pages(PageNumber(2), 20, checksum(&new)).unwrap(), &new[..]);
        let (map, _, meta) = open(&file.path, None).unwrap();
        assert_eq!(meta[1].as_deref(), Some(&page(5, 1)[..]));
        assert_eq!(map.pages(PageNumber(2), 20, checksum(&new)).unwrap(), &new[..]);
    }

    #[test]
    fn the_last_words_name_the_page() {
        let mut line = [0; 128];
        let size = render_fault(&mut line, Some(1_234_567_890));
        let value: serde_json::Value = serde_json::from_slice(&line[..size]).unwrap();
        assert_eq!(value["page"], 1_234_567_890);
        let size = render_fault(&mut line, Some(usize::MAX));
        assert!(line[..size].ends_with(b"18446744073709551615}\n"));
    }
}
