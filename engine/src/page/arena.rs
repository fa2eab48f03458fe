//! Images of pages that are not durable yet.
//!
//! Images are found by page number through a table of chunks, which exist only where there are
//! images. The memory of single pages is kept for the next interval, as much as the last one used:
//! a store at rest keeps next to none.
//! Invariants: an image of the current interval has one owner and may be changed; a sealed one is
//! shared with its checkpoint's plan and never changes; a chunk counts its images, and goes with the
//! last one.

use super::map::{PAGE_SIZE_BYTES, PageNumber};
use std::hint::black_box;
use std::sync::Arc;

/// Images by the number of their first page.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Option<Box<Chunk>>>,
    bytes: u64,
    /// Memory of pages that were let go.
    spare: Vec<Arc<[u8]>>,
    /// New pages for which the allocator holds memory ready.
    foreseen_pages: usize,
}

#[derive(Debug)]
struct Chunk {
    images: [Option<Image>; CHUNK_PAGES],
    count: usize,
}

#[derive(Debug)]
struct Image {
    bytes: Arc<[u8]>,
    birth: u64,
}

impl Arena {
    #[inline]
    fn find(&self, page: PageNumber) -> Option<&Image> {
        let (chunk, slot) = place(page);
        self.chunks.get(chunk)?.as_deref()?.images[slot].as_ref()
    }

    /// The image that begins at `page`.
    #[inline]
    pub fn image(&self, page: PageNumber) -> Option<&[u8]> {
        self.find(page).map(|image| &*image.bytes)
    }

    /// The interval in which the image at `page` was made.
    #[inline]
    pub fn birth(&self, page: PageNumber) -> Option<u64> {
        self.find(page).map(|image| image.birth)
    }

    /// The image at `page`, to change it; it was made in `interval`, the current one.
    #[inline]
    pub fn image_mut(&mut self, page: PageNumber, interval: u64) -> &mut [u8] {
        let (chunk, slot) = place(page);
        let chunk = self.chunks.get_mut(chunk).and_then(Option::as_deref_mut);
        let image = chunk.and_then(|chunk| chunk.images[slot].as_mut());
        let image = image.expect("a page to be changed was touched");
        assert!(image.birth == interval, "a sealed page is never changed");
        Arc::get_mut(&mut image.bytes).expect("an unsealed image has one owner")
    }

    /// The image at `page`, shared.
    pub fn share(&self, page: PageNumber) -> Option<(Arc<[u8]>, u64)> {
        self.find(page).map(|image| (image.bytes.clone(), image.birth))
    }

    /// Puts an image in; there was none at its number.
    pub fn insert(&mut self, page: PageNumber, bytes: Arc<[u8]>, birth: u64) {
        assert!(bytes.len().is_multiple_of(PAGE_SIZE_BYTES));
        self.bytes += bytes.len() as u64;
        let (chunk, slot) = place(page);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(Chunk::new);
        chunk.count += 1;
        let before = chunk.images[slot].replace(Image { bytes, birth });
        assert!(before.is_none(), "a page in use was allocated");
    }

    /// Lets an image go and returns its size.
    pub fn remove(&mut self, page: PageNumber) -> usize {
        let (number, slot) = place(page);
        let place = self.chunks.get_mut(number).expect("an image is removed once");
        let chunk = place.as_deref_mut().expect("an image is removed once");
        let image = chunk.images[slot].take().expect("an image is removed once");
        chunk.count -= 1;
        if chunk.count == 0 {
            *place = None;
        }
        let size_bytes = image.bytes.len();
        self.bytes -= size_bytes as u64;
        if size_bytes == PAGE_SIZE_BYTES && self.spare.len() < SPARE_PAGES_MAX {
            self.spare.push(image.bytes);
        }
        size_bytes
    }

    /// Memory for one page, with any content, if some was kept. Nobody else has it.
    pub fn take_spare(&mut self) -> Option<Arc<[u8]>> {
        // What a plan still shares is not ours yet: it is let go.
        let spare = self.spare.pop().filter(|page| Arc::strong_count(page) == 1);
        if spare.is_none() {
            self.foresee_pages();
        }
        spare
    }

    /// A thread's heap grows by what is missing, which for pages is one at a time, each by a call of
    /// the system. What was taken and given back stays with the heap: so it grows in strides.
    fn foresee_pages(&mut self) {
        if self.foreseen_pages == 0 {
            self.foreseen_pages = STRIDE_PAGES;
            let stride = Vec::<u8>::with_capacity(STRIDE_PAGES * (PAGE_SIZE_BYTES + SHARED_BYTES));
            drop(black_box(stride));
        }
        self.foreseen_pages -= 1;
    }

    /// Gives back the memory of all but so many pages.
    pub fn keep_spare(&mut self, pages_max: usize) {
        self.spare.truncate(pages_max);
        self.spare.shrink_to(pages_max);
    }

    /// Bytes of all images.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Chunk {
    fn new() -> Box<Chunk> {
        Box::new(Chunk { images: [const { None }; CHUNK_PAGES], count: 0 })
    }
}

/// The chunk of a page, and its place there.
#[inline]
fn place(page: PageNumber) -> (usize, usize) {
    (page.0 as usize / CHUNK_PAGES, page.0 as usize % CHUNK_PAGES)
}

/// New pages for which memory is had at once: below what allocators give straight back (128 KiB).
const STRIDE_PAGES: usize = 28;
/// What sharing and the allocator add to a page.
const SHARED_BYTES: usize = 32;

/// Pages of one chunk of the table: few, since the pages of an interval may lie far apart.
const CHUNK_PAGES: usize = 32;

/// Memory of single pages that is kept: an interval's and some more, 128 MiB.
const SPARE_PAGES_MAX: usize = 32 << 10;
