//! Images of pages that are not durable yet.
//!
//! Invariants: an image of the current interval has one owner and may be changed; a sealed one is
//! shared with its checkpoint's plan and never changes. The map is never iterated.

use super::map::{PAGE_SIZE_BYTES, PageNumber};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Images by the number of their first page.
#[derive(Debug, Default)]
pub(super) struct Arena {
    images: HashMap<PageNumber, Image, BuildHasherDefault<PageHasher>>,
    bytes: u64,
}

#[derive(Debug)]
struct Image {
    bytes: Arc<[u8]>,
    birth: u64,
}

impl Arena {
    /// The image that begins at `page`.
    #[inline]
    pub fn image(&self, page: PageNumber) -> Option<&[u8]> {
        self.images.get(&page).map(|image| &*image.bytes)
    }

    /// The interval in which the image at `page` was made.
    #[inline]
    pub fn birth(&self, page: PageNumber) -> Option<u64> {
        self.images.get(&page).map(|image| image.birth)
    }

    /// The image at `page`, to change it; it was made in `interval`, the current one.
    #[inline]
    pub fn image_mut(&mut self, page: PageNumber, interval: u64) -> &mut [u8] {
        let image = self.images.get_mut(&page).expect("a page to be changed was touched");
        assert!(image.birth == interval, "a sealed page is never changed");
        Arc::get_mut(&mut image.bytes).expect("an unsealed image has one owner")
    }

    /// The image at `page`, shared.
    pub fn share(&self, page: PageNumber) -> Option<(Arc<[u8]>, u64)> {
        self.images.get(&page).map(|image| (image.bytes.clone(), image.birth))
    }

    /// Puts an image in; there was none at its number.
    pub fn insert(&mut self, page: PageNumber, bytes: Arc<[u8]>, birth: u64) {
        assert!(bytes.len().is_multiple_of(PAGE_SIZE_BYTES));
        self.bytes += bytes.len() as u64;
        let before = self.images.insert(page, Image { bytes, birth });
        assert!(before.is_none(), "a page in use was allocated");
    }

    /// Lets an image go.
    pub fn remove(&mut self, page: PageNumber) -> usize {
        let image = self.images.remove(&page).expect("an image is removed once");
        self.bytes -= image.bytes.len() as u64;
        image.bytes.len()
    }

    /// Bytes of all images.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Spreads page numbers: they are small and dense, and nobody outside chooses them.
#[derive(Debug, Default)]
pub(super) struct PageHasher {
    hash: u64,
}

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte as u64);
        }
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        let product = (self.hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = product ^ (product >> 32);
    }
}
