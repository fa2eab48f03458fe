//! What a side file says about itself: which checkpoint its pages make, and where they belong.
//!
//! Pages 0 and 1 are those of a page file: the checkpoint's meta page in its slot, zeros in the
//! other. Behind the last page of the checkpoint lie a header and the list of the runs that were
//! received. So a side file to which the pages that were not received are added is a page file, as
//! it lies there. The directory is written and synced with the pages, before the record in the WAL
//! that names it by its checksum: a crash in the middle of an install finds everything it needs to
//! begin it again. Invariants: integers are little-endian; what is read back was checked as a whole.
//! Source: storage.md, State transfer 1.

use std::sync::Arc;

use crate::page::map::{PAGE_SIZE_BYTES, checksum};
use crate::page::meta::{Meta, check_meta};
use crate::wal::record::{EntryId, Install};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A side file's own description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The last entry that the checkpoint holds.
    pub last: EntryId,
    /// Its meta page.
    pub meta_page: Vec<u8>,
    /// Runs of pages to be copied: first page and count, ascending and disjoint.
    pub runs: Vec<(u64, u64)>,
}

impl Directory {
    /// The pages to write into the side file, each with the number of its place.
    ///
    /// Panics if the meta page is none.
    pub fn encode(&self) -> Vec<(u64, Arc<[u8]>)> {
        let meta = self.meta();
        let mut header = Header {
            checksum: U64::new(0),
            magic: U64::new(MAGIC),
            last_index: U64::new(self.last.index),
            last_term: U64::new(self.last.term),
            list_first: U64::new(meta.page_count + 1),
            runs_count: U64::new(self.runs.len() as u64),
            content_checksum: U64::new(self.checksum()),
        };
        header.checksum = U64::new(checksum(&header.as_bytes()[8..]).0);
        let mut slots = vec![0; 2 * PAGE_SIZE_BYTES];
        let slot = meta.slot() as usize * PAGE_SIZE_BYTES;
        slots[slot..slot + PAGE_SIZE_BYTES].copy_from_slice(&self.meta_page);
        let mut tail = header.as_bytes().to_vec();
        tail.resize(PAGE_SIZE_BYTES, 0);
        tail.extend(self.list_bytes());
        tail.resize(tail.len().next_multiple_of(PAGE_SIZE_BYTES), 0);
        vec![(0, slots.into()), (meta.page_count, tail.into())]
    }

    /// Names what is to be installed in the WAL.
    pub fn install(&self) -> Install {
        Install { last: self.last, checksum: self.checksum() }
    }

    /// The checkpoint's meta page, read.
    ///
    /// Panics if it is none.
    pub fn meta(&self) -> Meta {
        let meta = (0..2).find_map(|slot| check_meta(&self.meta_page, slot));
        meta.expect("a directory is made of a meta page that was checked")
    }

    /// Reads a side file back; `read` fills whole pages from a page number on and says whether it
    /// could. `None` if it is not the one that `install` names.
    pub fn decode(
        install: Install,
        read: &mut dyn FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<Directory> {
        let mut slots = vec![0; 2 * PAGE_SIZE_BYTES];
        if !read(0, &mut slots) {
            return None;
        }
        let (slot_0, slot_1) = slots.split_at(PAGE_SIZE_BYTES);
        let meta_page = if check_meta(slot_0, 0).is_some() { slot_0 } else { slot_1 }.to_vec();
        let meta = (0..2).find_map(|slot| check_meta(&meta_page, slot))?;
        let mut head = vec![0; PAGE_SIZE_BYTES];
        if !read(meta.page_count, &mut head) {
            return None;
        }
        let (header, _) = Header::read_from_prefix(&head).expect("a page is longer");
        let is_whole = header.magic.get() == MAGIC
            && header.checksum.get() == checksum(&header.as_bytes()[8..]).0
            && header.last_index.get() == install.last.index
            && header.last_term.get() == install.last.term
            && header.content_checksum.get() == install.checksum;
        let runs_count = header.runs_count.get();
        let list_first = meta.page_count + 1;
        if !is_whole || header.list_first.get() != list_first || meta.page_count < runs_count {
            return None;
        }
        let size_bytes = usize::try_from(runs_count).ok()?.checked_mul(RUN_SIZE_BYTES)?;
        let mut list = vec![0; size_bytes.next_multiple_of(PAGE_SIZE_BYTES)];
        if !list.is_empty() && !read(list_first, &mut list) {
            return None;
        }
        let word = |bytes: &[u8]| U64::read_from_bytes(bytes).expect("eight bytes").get();
        let runs = list[..size_bytes].chunks_exact(RUN_SIZE_BYTES);
        let runs = runs.map(|run| (word(&run[..8]), word(&run[8..]))).collect();
        let directory = Directory { last: install.last, meta_page, runs };
        (directory.checksum() == install.checksum).then_some(directory)
    }

    fn list_bytes(&self) -> Vec<u8> {
        let words = self.runs.iter().flat_map(|(first, count)| [*first, *count]);
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn checksum(&self) -> u64 {
        let mut content = self.meta_page.clone();
        content.extend_from_slice(&self.last.index.to_le_bytes());
        content.extend_from_slice(&self.last.term.to_le_bytes());
        content.extend(self.list_bytes());
        checksum(&content).0
    }
}

/// First bytes behind the checkpoint's pages.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    /// xxh3 of the fields after this one.
    checksum: U64,
    magic: U64,
    last_index: U64,
    last_term: U64,
    list_first: U64,
    runs_count: U64,
    content_checksum: U64,
}

/// "csside02" read as a little-endian number.
const MAGIC: u64 = 0x3230_6564_6973_7363;

/// A run in the list: first page and count.
const RUN_SIZE_BYTES: usize = 16;
