//! Which pages are free, which will be, and which is taken next.
//!
//! One bit a page (1 is free) in bitmap pages, named by index pages, named by the meta page. They
//! are copy-on-write like any page: the first bit that changes in an interval gives its bitmap page
//! (and that one's index page) a new number at once. So the end of an interval changes no bit for
//! the freelist's own sake and there is no fixed point to look for: taking the new number may touch
//! further bitmap pages, but each at most once an interval. The list of freed pages is the only
//! thing allocated at the end; it is given pages until it fits.
//!
//! Invariants: a page is in exactly one state: used, free (bit), or pending; pages freed in
//! interval k are pending in k and k + 1 and taken in k + 2 at the earliest; the lowest number is
//! taken first, a run within one bitmap page or else at the file's end. What is taken is a function
//! of the sequence of calls alone: hints only skip what cannot be taken.

use super::layout::{PAGE_CONTENT_BYTES, PageRef};
use super::limits::{BITMAP_PAGES, INDEX_BITMAPS, META_INDEXES_MAX, PAGES_MAX, RUN_PAGES_MAX};
use super::map::PageNumber;

/// Words of a bitmap page.
pub(super) const BITMAP_WORDS: usize = PAGE_CONTENT_BYTES / 8;

/// Most pages that one entry of a pending list names.
pub(super) const PENDING_RUN_PAGES_MAX: u64 = 1 << 16;

/// Entries of one page of a pending list, after the reference to the next page.
pub(super) const PENDING_ENTRIES: usize = (PAGE_CONTENT_BYTES - size_of::<PageRef>()) / 8;

/// Contiguous pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub first: u64,
    pub pages: u64,
}

/// Bits of [`BITMAP_PAGES`] pages.
#[derive(Debug)]
pub(super) struct Bitmap {
    /// Where it was sealed last, and when touched since, its new number.
    pub place: PageRef,
    /// Whether it has a number of this interval.
    pub touched: bool,
    pub words: Box<[u64; BITMAP_WORDS]>,
    pub free: u64,
    /// No bit is set in a word before this one.
    word_hint: usize,
    /// No run of free pages is longer than this.
    run_hint: u64,
}

/// An index page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Index {
    pub place: PageRef,
    pub touched: bool,
}

/// The free and pending pages of a store.
#[derive(Debug, Default)]
pub(super) struct Freelist {
    pub page_count: u64,
    pub free: u64,
    pub bitmaps: Vec<Bitmap>,
    pub indexes: Vec<Index>,
    /// Freed in this interval.
    pub pending: Vec<Extent>,
    /// Freed in the last interval: sorted, joined.
    pub pending_before: Vec<Extent>,
    /// Pages in both lists: asked for at every write.
    pub pending_pages: u64,
    /// Pages that hold `pending_before` in the last checkpoint.
    pub list_pages: Vec<PageNumber>,
    /// No bitmap before this one has a free page.
    pub bitmap_hint: usize,
}

impl Bitmap {
    /// All used.
    fn new() -> Bitmap {
        Bitmap::with_words(PageRef::NONE, Box::new([0; BITMAP_WORDS]))
    }

    /// As sealed at `place`.
    pub fn with_words(place: PageRef, words: Box<[u64; BITMAP_WORDS]>) -> Bitmap {
        let free = words.iter().map(|word| word.count_ones() as u64).sum();
        Bitmap { place, touched: false, words, free, word_hint: 0, run_hint: BITMAP_PAGES }
    }

    fn take_lowest(&mut self) -> u64 {
        assert!(0 < self.free);
        while self.words[self.word_hint] == 0 {
            self.word_hint += 1;
        }
        let word = &mut self.words[self.word_hint];
        let bit = word.trailing_zeros() as u64;
        *word &= *word - 1;
        self.free -= 1;
        self.word_hint as u64 * 64 + bit
    }

    /// The lowest run of `pages` free bits at or after bit `from`.
    fn run_from(&self, from: u64, pages: u64) -> Result<u64, u64> {
        let mut longest = 0;
        let mut bit = from;
        while let Some(start) = self.next_bit(bit, true) {
            let end = self.next_bit(start, false).unwrap_or(BITMAP_PAGES);
            if pages <= end - start {
                return Ok(start);
            }
            longest = longest.max(end - start);
            bit = end;
        }
        Err(longest)
    }

    /// The first bit at or after `from` that is `free`.
    fn next_bit(&self, from: u64, free: bool) -> Option<u64> {
        if BITMAP_PAGES <= from {
            return None;
        }
        let flip = if free { 0 } else { !0 };
        let mut slot = (from / 64) as usize;
        let mut word = (self.words[slot] ^ flip) & (!0 << (from % 64));
        while word == 0 {
            slot += 1;
            word = self.words.get(slot)? ^ flip;
        }
        Some(slot as u64 * 64 + word.trailing_zeros() as u64)
    }

    /// Changes `pages` bits from `start`, all of which are the other way.
    fn flip(&mut self, start: u64, pages: u64, free: bool) {
        assert!(start + pages <= BITMAP_PAGES);
        for bit in start..start + pages {
            let mask = 1 << (bit % 64);
            let word = &mut self.words[(bit / 64) as usize];
            assert!((*word & mask != 0) != free, "a page is freed once and taken once");
            *word ^= mask;
        }
        if free {
            self.free += pages;
            self.word_hint = self.word_hint.min((start / 64) as usize);
            self.run_hint = BITMAP_PAGES;
        } else {
            self.free -= pages;
        }
    }
}

impl Freelist {
    /// Of a file with the two meta pages only.
    pub fn new() -> Freelist {
        let mut freelist = Freelist::default();
        freelist.take_at_end(2);
        freelist
    }

    /// Takes one page.
    pub fn take_one(&mut self) -> PageNumber {
        loop {
            while self.bitmap_hint < self.bitmaps.len() && self.bitmaps[self.bitmap_hint].free == 0
            {
                self.bitmap_hint += 1;
            }
            let slot = self.bitmap_hint;
            if self.bitmaps.len() <= slot {
                return self.take_at_end(1);
            }
            if !self.bitmaps[slot].touched {
                // It takes a page itself, maybe the one just found: look again.
                self.touch(slot);
                continue;
            }
            self.free -= 1;
            return PageNumber(slot as u64 * BITMAP_PAGES + self.bitmaps[slot].take_lowest());
        }
    }

    /// Takes `pages` contiguous pages.
    pub fn take_run(&mut self, pages: u32) -> PageNumber {
        assert!(1 <= pages);
        assert!(pages <= RUN_PAGES_MAX);
        if pages == 1 {
            return self.take_one();
        }
        let pages = pages as u64;
        let mut slot = self.bitmap_hint;
        while slot < self.bitmaps.len() {
            let bitmap = &mut self.bitmaps[slot];
            if bitmap.free < pages || bitmap.run_hint < pages {
                slot += 1;
                continue;
            }
            match bitmap.run_from(bitmap.word_hint as u64 * 64, pages) {
                Ok(start) if bitmap.touched => {
                    bitmap.flip(start, pages, false);
                    self.free -= pages;
                    return PageNumber(slot as u64 * BITMAP_PAGES + start);
                }
                Ok(_) => self.touch(slot),
                Err(longest) => bitmap.run_hint = longest,
            }
        }
        self.take_at_end(pages)
    }

    fn take_at_end(&mut self, pages: u64) -> PageNumber {
        let first = self.page_count;
        self.page_count += pages;
        assert!(self.page_count <= PAGES_MAX, "the quota keeps the file below its limit");
        while (self.bitmaps.len() as u64) * BITMAP_PAGES < self.page_count {
            self.bitmaps.push(Bitmap::new());
        }
        while self.indexes.len() * INDEX_BITMAPS < self.bitmaps.len() {
            self.indexes.push(Index::default());
        }
        assert!(self.indexes.len() <= META_INDEXES_MAX);
        PageNumber(first)
    }

    /// Gives a bitmap page and its index page numbers of this interval.
    fn touch(&mut self, slot: usize) {
        if self.bitmaps[slot].touched {
            return;
        }
        self.bitmaps[slot].touched = true;
        let index = slot / INDEX_BITMAPS;
        if !self.indexes[index].touched {
            self.indexes[index].touched = true;
            let before = self.indexes[index].place;
            self.free_later_if_any(before);
            self.indexes[index].place = PageRef::new(self.take_one(), Default::default());
        }
        let before = self.bitmaps[slot].place;
        self.free_later_if_any(before);
        self.bitmaps[slot].place = PageRef::new(self.take_one(), Default::default());
    }

    fn free_later_if_any(&mut self, place: PageRef) {
        if !place.is_none() {
            self.free_later(place.page(), 1);
        }
    }

    /// Gives back pages that a checkpoint reaches: they are pending.
    pub fn free_later(&mut self, first: PageNumber, pages: u32) {
        assert!(2 <= first.0 && first.0 + pages as u64 <= self.page_count);
        self.pending.push(Extent { first: first.0, pages: pages as u64 });
        self.pending_pages += pages as u64;
    }

    /// Gives back pages taken in this interval.
    pub fn free_now(&mut self, first: PageNumber, pages: u32) {
        assert!(2 <= first.0 && first.0 + pages as u64 <= self.page_count);
        let extent = Extent { first: first.0, pages: pages as u64 };
        self.touch_extent(extent);
        self.release(extent);
    }

    fn touch_extent(&mut self, extent: Extent) {
        for part in parts(extent) {
            self.touch((part.first / BITMAP_PAGES) as usize);
        }
    }

    fn release(&mut self, extent: Extent) {
        for part in parts(extent) {
            let slot = (part.first / BITMAP_PAGES) as usize;
            assert!(self.bitmaps[slot].touched);
            self.bitmaps[slot].flip(part.first % BITMAP_PAGES, part.pages, true);
            self.free += part.pages;
            self.bitmap_hint = self.bitmap_hint.min(slot);
        }
    }

    /// Ends the interval. What was freed in the one before becomes free, but only after the last
    /// page of this interval was taken: the older meta page still reaches it.
    pub fn end_interval(&mut self) {
        for page in std::mem::take(&mut self.list_pages) {
            self.free_later(page, 1);
        }
        let released = std::mem::take(&mut self.pending_before);
        self.pending_pages -= released.iter().map(|extent| extent.pages).sum::<u64>();
        for &extent in &released {
            self.touch_extent(extent);
        }
        join(&mut self.pending);
        while self.list_pages.len() * PENDING_ENTRIES < self.pending.len() {
            let page = self.take_one();
            self.list_pages.push(page);
        }
        for &extent in &released {
            self.release(extent);
        }
        join(&mut self.pending);
        assert!(self.pending.len() <= self.list_pages.len() * PENDING_ENTRIES);
        std::mem::swap(&mut self.pending, &mut self.pending_before);
    }

    /// Pages freed and not free yet.
    pub fn pages_pending(&self) -> u64 {
        self.pending_pages
    }

    /// Pages of the freelist that have a number of this interval.
    pub fn pages_touched(&self) -> u64 {
        let bitmaps = self.bitmaps.iter().filter(|bitmap| bitmap.touched).count();
        let indexes = self.indexes.iter().filter(|index| index.touched).count();
        (bitmaps + indexes) as u64
    }

    /// Shows free and pending pages and the freelist's own.
    pub fn for_each_page(&self, show: &mut dyn FnMut(PageNumber, u64)) {
        for (slot, bitmap) in self.bitmaps.iter().enumerate() {
            let mut bit = 0;
            while let Some(start) = bitmap.next_bit(bit, true) {
                let end = bitmap.next_bit(start, false).unwrap_or(BITMAP_PAGES);
                show(PageNumber(slot as u64 * BITMAP_PAGES + start), end - start);
                bit = end;
            }
        }
        for extent in self.pending.iter().chain(&self.pending_before) {
            show(PageNumber(extent.first), extent.pages);
        }
        let bitmaps = self.bitmaps.iter().map(|bitmap| bitmap.place);
        let indexes = self.indexes.iter().map(|index| index.place);
        for place in bitmaps.chain(indexes).filter(|place| !place.is_none()) {
            show(place.page(), 1);
        }
        for &page in &self.list_pages {
            show(page, 1);
        }
    }

    /// The first run of at least `pages_min` free pages at or after `from`.
    pub fn free_run(&self, from: PageNumber, pages_min: u64) -> Option<(PageNumber, u64)> {
        let mut slot = (from.0 / BITMAP_PAGES) as usize;
        let mut bit = from.0 % BITMAP_PAGES;
        while let Some(bitmap) = self.bitmaps.get(slot) {
            if let Ok(start) = bitmap.run_from(bit, pages_min) {
                let end = bitmap.next_bit(start, false).unwrap_or(BITMAP_PAGES);
                return Some((PageNumber(slot as u64 * BITMAP_PAGES + start), end - start));
            }
            slot += 1;
            bit = 0;
        }
        None
    }
}

/// Cuts an extent where bitmap pages meet.
fn parts(extent: Extent) -> impl Iterator<Item = Extent> {
    let end = extent.first + extent.pages;
    let mut first = extent.first;
    std::iter::from_fn(move || {
        let part_end = end.min((first / BITMAP_PAGES + 1) * BITMAP_PAGES);
        let part = Extent { first, pages: part_end - first };
        first = part_end;
        (0 < part.pages).then_some(part)
    })
}

/// Sorts extents and joins neighbours.
fn join(extents: &mut Vec<Extent>) {
    extents.sort_unstable();
    extents.dedup_by(|next, last| {
        let end = last.first + last.pages;
        assert!(end <= next.first, "a page is freed once");
        let joins = end == next.first && last.pages + next.pages <= PENDING_RUN_PAGES_MAX;
        if joins {
            last.pages += next.pages;
        }
        joins
    });
}
