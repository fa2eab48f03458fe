//! A page file with its map, and how another one takes its place.
//!
//! Invariants: the map is reserved once, far larger than the file; a file that became the page file
//! waits until the store takes it, and the one before it until the worker ends it: neither is lost
//! on its way. Source: page_file.rs, the argument for the map, 3.

use std::{
    fs::File,
    io,
    sync::{Mutex, atomic::AtomicU64},
};

use engine::page::map::PAGE_SIZE_BYTES;
use memmap2::{MmapOptions, MmapRaw};

/// What the worker tells the map of pages that a transfer brought.
#[derive(Debug, Default)]
pub struct Installs {
    /// How often pages were put into their places.
    pub count: AtomicU64,
    /// The file that a transfer exchanges.
    pub exchange: Mutex<Exchange>,
}

/// A page file on its way between the worker and the map.
#[derive(Debug, Default)]
pub enum Exchange {
    /// Nothing.
    #[default]
    None,
    /// It became the page file: the map takes it.
    Coming(MappedFile),
    /// It was the page file before: the worker ends it, since the end of a large file and of a
    /// large map takes its time.
    Going(MappedFile),
}

impl Exchange {
    /// What is to be ended, if there is something.
    pub fn take_going(&mut self) -> Option<MappedFile> {
        match std::mem::take(self) {
            Exchange::Going(mapped) => Some(mapped),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// A page file and its map.
#[derive(Debug)]
pub struct MappedFile {
    /// Address space far beyond the file's end, read-only.
    pub map: MmapRaw,
    /// The file.
    pub file: File,
    /// Pages in it when it was mapped.
    pub length_pages: u64,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// There is no address space to be had.
    pub fn new(file: File) -> io::Result<MappedFile> {
        let mut reserved_bytes = RESERVED_BYTES;
        let map = loop {
            match map(&file, reserved_bytes) {
                Ok(map) => break map,
                // Where address space is limited, half as much may still be had.
                Err(_) if RESERVED_BYTES_MIN < reserved_bytes => reserved_bytes /= 2,
                Err(error) => return Err(error),
            }
        };
        let length_pages = file.metadata()?.len() / PAGE_SIZE_BYTES as u64;
        Ok(MappedFile { map, file, length_pages })
    }
}

/// Reserves address space over the file, read-only. What is read through it is bounded by
/// the page file's `is_within`; that is tested by `what_lies_beyond_the_file`.
fn map(file: &File, size_bytes: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(size_bytes).no_reserve_swap().map_raw_read_only(file)
}

/// Address space reserved: as much as a page file may ever grow to.
const RESERVED_BYTES: usize = 1 << 40;
const RESERVED_BYTES_MIN: usize = 1 << 32;
