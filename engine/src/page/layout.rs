//! Bytes of a page's header and of the references that name pages: `docs/format/page.md`.
//!
//! Invariants: integers are little-endian; reserved bytes are zero; a page's own checksum covers
//! everything after itself, a reference's checksum covers whole pages.

use super::limits::RUN_SIZE_BYTES_MAX;
use super::map::{Checksum, PAGE_SIZE_BYTES, PageNumber, checksum};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of the header of a tree or freelist page.
pub const PAGE_HEADER_BYTES: usize = 72;

/// What a header leaves of a page.
pub const PAGE_CONTENT_BYTES: usize = PAGE_SIZE_BYTES - PAGE_HEADER_BYTES;

/// Size of an encoded [`RunRef`].
pub const RUN_REF_BYTES: usize = 24;

/// Size of a branch cell without its key.
pub const BRANCH_CELL_FIXED_BYTES: usize = 28;

/// Size of a tree page's slot: a cell's offset and the head of its key.
pub const SLOT_BYTES: usize = 4;

/// Size of a leaf cell without its key and value.
pub const LEAF_CELL_FIXED_BYTES: usize = 5;

/// What a page holds. Overflow runs have no header and so no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// Entries of a tree.
    Leaf = 1,
    /// Children of a tree's page.
    Branch = 2,
    /// One bit a page: 1 is free.
    Bitmap = 3,
    /// References to bitmap pages.
    Index = 4,
    /// Pages freed in the interval that the checkpoint ended.
    Pending = 5,
}

/// First bytes of every page but the meta pages and overflow runs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PageHeader {
    /// xxh3 of all bytes after this field; zero until the page is sealed.
    pub checksum: U64,
    /// The page's own number.
    pub page: U64,
    /// Interval in which the page was allocated.
    pub birth: U64,
    /// A [`PageKind`].
    pub kind: u8,
    /// Height over the leaves; 0 in a leaf.
    pub level: u8,
    /// Cells of a tree page, entries of a freelist page.
    pub count: U16,
    /// Lowest offset used by a cell of a tree page.
    pub heap_start: U16,
    /// Bytes of removed cells above `heap_start`.
    pub garbage: U16,
    /// Bytes that all keys of a tree page begin with; their heads are what follows.
    pub prefix_size: u8,
    /// Zero.
    pub reserved_more: [u8; 7],
    /// For a key id, a nonce and a tag.
    pub reserved: [u8; 32],
}

const _: () = assert!(size_of::<PageHeader>() == PAGE_HEADER_BYTES);

/// Names a page and its content, as a parent does.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct PageRef {
    page: U64,
    checksum: U64,
}

const _: () = assert!(size_of::<PageRef>() == 16);

impl PageRef {
    /// No page.
    pub const NONE: PageRef = PageRef { page: U64::ZERO, checksum: U64::ZERO };

    /// Names `page` with content `checksum`.
    pub fn new(page: PageNumber, checksum: Checksum) -> PageRef {
        PageRef { page: U64::new(page.0), checksum: U64::new(checksum.0) }
    }

    /// The page; 0 in [`PageRef::NONE`].
    pub fn page(&self) -> PageNumber {
        PageNumber(self.page.get())
    }

    /// Its content.
    pub fn checksum(&self) -> Checksum {
        Checksum(self.checksum.get())
    }

    /// Whether it names no page.
    pub fn is_none(&self) -> bool {
        self.page.get() == 0
    }
}

/// Names an overflow run: contiguous pages that hold one byte string, zeros up to the page's end.
///
/// The encoding is 24 bytes and may stand anywhere in an entry's value.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct RunRef {
    first: U64,
    checksum: U64,
    size_bytes: U32,
    pages: U32,
}

const _: () = assert!(size_of::<RunRef>() == RUN_REF_BYTES);

impl RunRef {
    /// Names the run of `size_bytes` from `first` whose pages have `checksum`.
    pub fn new(first: PageNumber, size_bytes: usize, checksum: Checksum) -> RunRef {
        assert!(size_bytes <= RUN_SIZE_BYTES_MAX);
        let pages = size_bytes.div_ceil(PAGE_SIZE_BYTES).max(1) as u32;
        RunRef {
            first: U64::new(first.0),
            checksum: U64::new(checksum.0),
            size_bytes: U32::new(size_bytes as u32),
            pages: U32::new(pages),
        }
    }

    /// Its first page.
    pub fn first(&self) -> PageNumber {
        PageNumber(self.first.get())
    }

    /// Its length in pages.
    pub fn pages(&self) -> u32 {
        self.pages.get()
    }

    /// Its length in bytes, without the zeros at the end.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes.get() as usize
    }

    /// xxh3 of its pages.
    pub fn checksum(&self) -> Checksum {
        Checksum(self.checksum.get())
    }

    /// Its encoding.
    pub fn encode(&self) -> [u8; RUN_REF_BYTES] {
        let mut bytes = [0; RUN_REF_BYTES];
        bytes.copy_from_slice(self.as_bytes());
        bytes
    }

    /// Reads an encoding; `None` unless it is one of [`RUN_REF_BYTES`] with a length that agrees.
    pub fn decode(bytes: &[u8]) -> Option<RunRef> {
        let run = RunRef::read_from_bytes(bytes).ok()?;
        let agrees = run.size_bytes() <= RUN_SIZE_BYTES_MAX
            && run.pages() as usize == run.size_bytes().div_ceil(PAGE_SIZE_BYTES).max(1);
        agrees.then_some(run)
    }
}

/// The header of a page's bytes.
pub fn header(page: &[u8]) -> &PageHeader {
    let (header, _) = PageHeader::ref_from_prefix(page).expect("a page is longer than its header");
    header
}

/// The header of a page's bytes, to change it.
pub fn header_mut(page: &mut [u8]) -> &mut PageHeader {
    let (header, _) = PageHeader::mut_from_prefix(page).expect("a page is longer than its header");
    header
}

/// Writes a fresh header into a page of zeros.
pub fn start_page(page: &mut [u8], number: PageNumber, birth: u64, kind: PageKind, level: u8) {
    assert!(page.len() == PAGE_SIZE_BYTES);
    let header = header_mut(page);
    header.page = U64::new(number.0);
    header.birth = U64::new(birth);
    header.kind = kind as u8;
    header.level = level;
    header.heap_start = U16::new(PAGE_SIZE_BYTES as u16);
}

/// Writes the page's own checksum and returns the one its parent keeps.
pub fn seal_page(page: &mut [u8]) -> Checksum {
    assert!(page.len() == PAGE_SIZE_BYTES);
    let own = checksum(&page[8..]);
    header_mut(page).checksum = U64::new(own.0);
    checksum(page)
}
