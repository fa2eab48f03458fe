//! The page file, for reading: meta pages, pages with the checksum that their parent names, and the
//! engine's view of it.
//!
//! Invariant: what is handed out is a copy that verified, so a running member that writes the file
//! changes no page that was handed out.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use engine::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};
use engine::page::meta::{Meta, check_meta};

use super::{InspectError, READ_ATTEMPTS_MAX};

/// What is in a slot of the meta pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    NeverWritten,
    Valid(Box<Meta>),
    /// Torn, altered, or of another format.
    Broken,
    Unreadable,
}

/// An open page file.
#[derive(Debug)]
pub(super) struct PageReader {
    file: File,
}

impl PageReader {
    /// Opens it; `None` where there is none yet.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Option<PageReader>, InspectError> {
        match File::open(path) {
            Ok(file) => Ok(Some(PageReader { file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(InspectError::Unreadable(path.to_path_buf(), error)),
        }
    }

    /// Both meta pages. One that a running member writes at the moment is read again.
    pub(super) fn slots(&self) -> [Slot; 2] {
        [0, 1].map(|number| {
            let mut slot = self.slot(number);
            for _ in 1..READ_ATTEMPTS_MAX {
                if slot != Slot::Broken {
                    break;
                }
                slot = self.slot(number);
            }
            slot
        })
    }

    fn slot(&self, number: u64) -> Slot {
        let mut bytes = vec![0; PAGE_SIZE_BYTES];
        match self.file.read_exact_at(&mut bytes, number * PAGE_SIZE_BYTES as u64) {
            // A file that ends before the slot was never written there.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Slot::NeverWritten,
            Err(_) => Slot::Unreadable,
            Ok(()) if bytes.iter().all(|byte| *byte == 0) => Slot::NeverWritten,
            Ok(()) => match check_meta(&bytes, number) {
                Some(meta) => Slot::Valid(Box::new(meta)),
                None => Slot::Broken,
            },
        }
    }

    /// The newest checkpoint.
    pub(super) fn newest(&self) -> Option<Meta> {
        let valid = self.slots().into_iter().filter_map(|slot| match slot {
            Slot::Valid(meta) => Some(*meta),
            _ => None,
        });
        valid.max_by_key(|meta| meta.interval)
    }

    /// `count` pages from `first`, if they are what their parent says.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<Box<[u8]>, Corruption> {
        let offset = first.0.checked_mul(PAGE_SIZE_BYTES as u64);
        let mut bytes = vec![0; count as usize * PAGE_SIZE_BYTES].into_boxed_slice();
        let read = offset.map(|offset| self.file.read_exact_at(&mut bytes, offset));
        let found = read.and_then(Result::ok).map(|()| checksum(&bytes));
        if found == Some(expected) {
            return Ok(bytes);
        }
        Err(Corruption { page: first, count, expected, found })
    }
}

/// The pages of one checkpoint, each copied when it is first asked for.
#[derive(Debug)]
pub(super) struct CopiedPages<'a> {
    reader: &'a PageReader,
    /// By first page.
    copies: Vec<OnceCell<(Checksum, Box<[u8]>)>>,
}

impl<'a> CopiedPages<'a> {
    pub(super) fn new(reader: &'a PageReader, meta: &Meta) -> CopiedPages<'a> {
        let pages = usize::try_from(meta.page_count).expect("checked against PAGES_MAX");
        let copies = std::iter::repeat_with(OnceCell::new).take(pages).collect();
        CopiedPages { reader, copies }
    }
}

impl PageMap for CopiedPages<'_> {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        let slot = usize::try_from(first.0).ok().and_then(|first| self.copies.get(first));
        let Some(slot) = slot else {
            return Err(Corruption { page: first, count, expected, found: None });
        };
        if slot.get().is_none() {
            let bytes = self.reader.pages(first, count, expected)?;
            // It was empty on the line before.
            let _ = slot.set((expected, bytes));
        }
        let (found, bytes) = slot.get().expect("set above");
        if *found != expected || bytes.len() != count as usize * PAGE_SIZE_BYTES {
            return Err(Corruption { page: first, count, expected, found: Some(*found) });
        }
        Ok(bytes)
    }

    fn forget(&self, _first: PageNumber, _count: u32) {
        unreachable!("nothing is written here");
    }
}
