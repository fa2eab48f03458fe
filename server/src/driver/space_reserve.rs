//! Space on the disk that is held back: a file of blocks that were never written, given up piece by
//! piece when the disk is full, so that what the member has promised to store still fits.
//!
//! Invariants: `held_bytes` is the file's length, and all of it is allocated; a reserve that gave
//! something up is short until all of it is there again; a reserve that the file system cannot make
//! is none, and never short.
//! Source: storage.md, Pages 7.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use shard::input::Input;

use crate::error::is_disk_full;

/// The file's name in the data directory.
const NAME: &str = "reserve";
/// What two intervals, a compaction and a WAL segment take at most: pages of the tree are written
/// anew in every interval, segments are made in full.
const SIZE_BYTES_MAX: u64 = 320 << 20;
/// A segment and some pages.
const SIZE_BYTES_MIN: u64 = 96 << 20;
/// Between the two it is this part of the disk.
const DISK_SHARE: u64 = 32;
/// And never more than this part.
const DISK_SHARE_MAX: u64 = 8;
/// It is given up in pieces of this size.
const PIECE_SIZE_BYTES: u64 = 16 << 20;
/// Before it is made again this much more is free, in eighths of it: what is nearly full again at
/// once would only go back and forth.
const SLACK_EIGHTHS: u64 = 2;

/// See the file's head.
#[derive(Debug)]
pub struct SpaceReserve {
    file: File,
    size_bytes: u64,
    held_bytes: Mutex<u64>,
    is_short: AtomicBool,
}

/// Does what needs space, with a reserve where there is one.
///
/// # Errors
/// Those of `work`; see [`SpaceReserve::with_room`].
pub fn with_room<T>(
    reserve: Option<&Arc<SpaceReserve>>,
    mut work: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match reserve {
        Some(reserve) => reserve.with_room(work),
        None => work(),
    }
}

impl SpaceReserve {
    /// Makes the reserve of a data directory, of `size_bytes` or of the usual size; 0 is none. Where
    /// there is no room for it, it is short from the beginning.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(directory: &Path, size_bytes: Option<u64>) -> io::Result<SpaceReserve> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(directory.join(NAME))?;
        let disk = fstatvfs(&file)?;
        let disk_bytes = disk.f_blocks * disk.f_frsize;
        let usual_bytes = (disk_bytes / DISK_SHARE)
            .clamp(SIZE_BYTES_MIN, SIZE_BYTES_MAX)
            .min(disk_bytes / DISK_SHARE_MAX);
        let mut reserve = SpaceReserve {
            size_bytes: size_bytes.unwrap_or(usual_bytes),
            held_bytes: Mutex::new(0),
            is_short: AtomicBool::new(false),
            file,
        };
        let found = reserve.file.metadata()?;
        // Blocks that a copy of the directory left out are no reserve.
        let is_whole = found.len() <= found.blocks() * BLOCK_SIZE_BYTES;
        let held_bytes = if is_whole { found.len().min(reserve.size_bytes) } else { 0 };
        reserve.file.set_len(held_bytes)?;
        match reserve.extend(held_bytes) {
            Ok(()) => *reserve.held() = reserve.size_bytes,
            Err(error) if is_disk_full(&error) => {
                *reserve.held() = held_bytes;
                reserve.is_short.store(true, Ordering::Release);
            }
            Err(_) => {
                // The file system has no such thing: what is full ends the process, as ever.
                reserve.size_bytes = 0;
                reserve.file.set_len(0)?;
            }
        }
        Ok(reserve)
    }

    /// Whether something of it was given up, or never had.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Acquire)
    }

    /// Does what needs space; while the disk is full, gives up pieces of the reserve for it.
    ///
    /// # Errors
    /// Those of `work`; that the disk is full only when nothing is left to give up.
    pub fn with_room<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match work() {
                Err(error) if is_disk_full(&error) && self.give_up() => {}
                outcome => return outcome,
            }
        }
    }

    /// Makes it whole again if there is room for it and some more.
    ///
    /// # Errors
    /// The file system fails otherwise than by being full.
    pub fn restore(&self) -> io::Result<()> {
        let mut held_bytes = self.held();
        let missing_bytes = self.size_bytes - *held_bytes;
        let disk = fstatvfs(&self.file)?;
        let free_bytes = disk.f_bavail * disk.f_frsize;
        if !self.is_short() || free_bytes < missing_bytes + self.size_bytes / 8 * SLACK_EIGHTHS {
            return Ok(());
        }
        match self.extend(*held_bytes) {
            Ok(()) => {
                *held_bytes = self.size_bytes;
                self.is_short.store(false, Ordering::Release);
                Ok(())
            }
            Err(error) if is_disk_full(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A piece less; false when nothing is left.
    fn give_up(&self) -> bool {
        let mut held_bytes = self.held();
        if *held_bytes == 0 {
            return false;
        }
        let left_bytes = held_bytes.saturating_sub(PIECE_SIZE_BYTES);
        // Synced, since blocks may be taken again only when their file has let go of them for good.
        let given = self.file.set_len(left_bytes).and_then(|()| self.file.sync_all());
        if given.is_ok() {
            *held_bytes = left_bytes;
            self.is_short.store(true, Ordering::Release);
        }
        given.is_ok()
    }

    /// Allocates what is missing, all of it or nothing.
    fn extend(&self, held_bytes: u64) -> io::Result<()> {
        assert!(held_bytes <= self.size_bytes);
        let missing_bytes = self.size_bytes - held_bytes;
        if missing_bytes == 0 {
            return Ok(());
        }
        let allocated = loop {
            match fallocate(&self.file, FallocateFlags::empty(), held_bytes, missing_bytes) {
                Err(rustix::io::Errno::INTR) => {}
                allocated => break allocated,
            }
        };
        if allocated.is_err() {
            self.file.set_len(held_bytes)?;
        }
        Ok(allocated?)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, u64> {
        self.held_bytes.lock().expect("a panic ends the process")
    }
}

/// What a core knows of the reserve, and has told its program.
#[derive(Debug)]
pub struct SpaceWatch {
    reserve: Option<Arc<SpaceReserve>>,
    is_told_short: bool,
    next_restore_us: u64,
}

impl SpaceWatch {
    /// Nothing was told yet.
    pub fn new(reserve: Option<Arc<SpaceReserve>>) -> SpaceWatch {
        SpaceWatch { reserve, is_told_short: false, next_restore_us: 0 }
    }

    /// What is to be told, if that has changed.
    pub fn news(&mut self) -> Option<Input> {
        let is_short = self.reserve.as_ref().is_some_and(|reserve| reserve.is_short());
        if is_short == self.is_told_short {
            return None;
        }
        self.is_told_short = is_short;
        Some(Input::SpaceShort { is_short })
    }

    /// Whether it is time to try to make the reserve whole.
    pub fn wants_restore(&mut self, now_us: u64) -> bool {
        if !self.is_told_short || now_us < self.next_restore_us {
            return false;
        }
        self.next_restore_us = now_us + RESTORE_DISTANCE_US;
        true
    }
}

/// Distance of the attempts to make it whole again.
const RESTORE_DISTANCE_US: u64 = 2_000_000;
/// What `st_blocks` counts in (stat(2)).
const BLOCK_SIZE_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated_bytes(directory: &Path) -> u64 {
        std::fs::metadata(directory.join(NAME)).unwrap().blocks() * BLOCK_SIZE_BYTES
    }

    #[test]
    fn work_that_finds_the_disk_full_goes_on_with_the_reserve_until_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let size_bytes = 2 * PIECE_SIZE_BYTES + 4096;
        let reserve = SpaceReserve::open(directory.path(), Some(size_bytes)).unwrap();
        assert_eq!(allocated_bytes(directory.path()), size_bytes);
        assert!(!reserve.is_short());
        let full = || Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull));
        let mut tries = 0;
        let outcome = reserve.with_room(|| {
            tries += 1;
            if tries == 3 { Ok(()) } else { full() }
        });
        assert!(outcome.is_ok() && reserve.is_short());
        assert_eq!(allocated_bytes(directory.path()), 4096);
        let mut tries = 0;
        let outcome = reserve.with_room(|| {
            tries += 1;
            full()
        });
        assert_eq!(tries, 2, "one for the last piece, one without");
        assert!(is_disk_full(&outcome.unwrap_err()));
        assert_eq!(allocated_bytes(directory.path()), 0);
        reserve.restore().unwrap();
        assert!(!reserve.is_short(), "this disk is not full");
        assert_eq!(allocated_bytes(directory.path()), size_bytes);
    }

    #[test]
    fn other_errors_are_none_of_its_business() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = SpaceReserve::open(directory.path(), Some(PIECE_SIZE_BYTES)).unwrap();
        let mut tries = 0;
        let outcome = reserve.with_room(|| {
            tries += 1;
            Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied))
        });
        assert!(outcome.is_err() && tries == 1 && !reserve.is_short());
    }

    #[test]
    fn a_reserve_is_found_again_grown_shrunk_and_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for size_bytes in [4096, 1 << 20, 8192, 0] {
            let reserve = SpaceReserve::open(directory.path(), Some(size_bytes)).unwrap();
            assert!(!reserve.is_short());
            assert_eq!(allocated_bytes(directory.path()), size_bytes);
        }
        // A hole of the right length holds nothing.
        File::create(directory.path().join(NAME)).unwrap().set_len(1 << 20).unwrap();
        SpaceReserve::open(directory.path(), Some(1 << 20)).unwrap();
        assert_eq!(allocated_bytes(directory.path()), 1 << 20);
    }
}
