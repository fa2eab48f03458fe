//! The pages of one group's file: copy-on-write once an interval, allocation, checkpoints.
//!
//! A durable page is read through the [`PageMap`]; a page made in this interval, or in the last one
//! while its checkpoint is not durable, is read from its image in the arena. A page of an earlier
//! interval is never changed: it is touched (copied to a new number) first.
//! Invariants: the pages of this interval hang together, a page of this interval has a parent of
//! this interval; one checkpoint at most is on its way to the disk; what is allocated is a function
//! of the sequence of calls, so that replicas that apply one log have the same pages.
//! Source: `docs/format/page.md`; the shape is that of LMDB's copy-on-write pages.

use super::arena::Arena;
use super::cells::CellList;
use super::checkpoint::CheckpointPlan;
use super::freelist::Freelist;
use super::layout::{PAGE_HEADER_BYTES, PageKind, RunRef, start_page};
use super::limits::{PUNCH_PAGES_MIN, RUN_SIZE_BYTES_MAX, TREES};
use super::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};
use super::meta::{Meta, Tree};
use super::seal::{self, Sealing};
use std::sync::Arc;
use zerocopy::little_endian::U64;

/// The page file of one group, with the changes of the current interval in its arena.
#[derive(Debug)]
pub struct Store<M> {
    map: M,
    pub(super) group: u64,
    pub(super) interval: u64,
    /// The last interval whose checkpoint is durable; the current one or the one before is next.
    pub(super) durable: u64,
    pub(super) arena: Arena,
    pub(super) freelist: Freelist,
    /// First pages allocated in this interval, in order; some were freed since.
    pub(super) dirty: Vec<PageNumber>,
    /// Pages of trees among them that are still in use, and pages of runs.
    pub(super) dirty_tree_pages: u64,
    pub(super) dirty_run_pages: u64,
    /// The sealing of this interval's pages, once begun.
    pub(super) sealing: Option<Sealing>,
    /// Images that the last plan shares.
    pub(super) in_flight: Vec<PageNumber>,
    /// Images that a durable checkpoint has on disk: they are let go little by little.
    leaving: Vec<PageNumber>,
    /// Buffers of the trees' operations, kept so that they are not allocated for each.
    pub(crate) scratch: [CellList; 2],
}

/// Sizes of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Pages of the file, meta pages and free ones included.
    pub pages: u64,
    /// Pages that may be taken now.
    pub pages_free: u64,
    /// Pages freed in the last two intervals, not yet to be taken.
    pub pages_pending: u64,
    /// Pages of this interval in use, the freelist's own included: what its end will write, but for
    /// the list of freed pages. The same on every replica that applied the same log.
    pub pages_dirty: u64,
    /// Bytes of page images in the arena.
    pub arena_bytes: u64,
}

impl<M: PageMap> Store<M> {
    /// An empty page file of `group`; its first interval is 1.
    pub fn create(map: M, group: u64) -> Store<M> {
        Store {
            map,
            group,
            interval: 1,
            durable: 0,
            arena: Arena::default(),
            freelist: Freelist::new(),
            dirty: Vec::new(),
            dirty_tree_pages: 0,
            dirty_run_pages: 0,
            sealing: None,
            in_flight: Vec::new(),
            leaving: Vec::new(),
            scratch: Default::default(),
        }
    }

    /// The page file as the checkpoint `meta` left it. Reads and verifies the freelist and roots.
    pub fn open(map: M, meta: &Meta) -> Result<Store<M>, Corruption> {
        let freelist = check_checkpoint(&map, meta)?;
        let mut store = Store::create(map, meta.group);
        store.freelist = freelist;
        store.interval = meta.interval + 1;
        store.durable = meta.interval;
        Ok(store)
    }

    /// The group whose pages these are.
    pub fn group(&self) -> u64 {
        self.group
    }

    /// Durable pages.
    pub fn map(&self) -> &M {
        &self.map
    }

    /// Durable pages, to write a plan into a map that lives on the heap.
    pub fn map_mut(&mut self) -> &mut M {
        &mut self.map
    }

    /// The current interval, from 1.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// The newest interval whose checkpoint is durable; 0 before the first.
    pub fn durable_interval(&self) -> u64 {
        self.durable
    }

    /// Goes on from another checkpoint of the same group, whose pages lie in the file by now, or
    /// from the newest durable one again. What was changed since the last one is given up.
    ///
    /// # Errors
    /// A page of the freelist, or a root, is not what its parent says: the store stays as it was.
    pub fn reopen(&mut self, meta: &Meta) -> Result<(), Corruption> {
        assert!(meta.group == self.group);
        assert!(self.durable <= meta.interval, "what is durable is not given up");
        self.map.refresh();
        let freelist = check_checkpoint(&self.map, meta)?;
        self.freelist = freelist;
        self.interval = meta.interval + 1;
        self.durable = meta.interval;
        self.arena = Arena::default();
        self.dirty.clear();
        self.dirty_tree_pages = 0;
        self.dirty_run_pages = 0;
        self.sealing = None;
        self.in_flight.clear();
        self.leaving.clear();
        Ok(())
    }

    /// The bytes of one page: its image in the arena, else from the map, verified there.
    #[inline]
    pub fn page(&self, page: PageNumber, checksum: Checksum) -> Result<&[u8], Corruption> {
        match self.arena.image(page) {
            Some(image) => Ok(image),
            None => self.map.pages(page, 1, checksum),
        }
    }

    /// Whether the page (or the run that begins there) is of this interval.
    #[inline]
    pub fn is_own(&self, page: PageNumber) -> bool {
        self.arena.birth(page) == Some(self.interval)
    }

    /// Makes the page this interval's own and returns its number: the same one if it is already,
    /// else that of a copy (the original is freed).
    pub fn touch(
        &mut self,
        page: PageNumber,
        checksum: Checksum,
    ) -> Result<PageNumber, Corruption> {
        if self.is_own(page) {
            return Ok(page);
        }
        let image = match self.arena.take_spare() {
            Some(mut memory) => {
                let bytes = Arc::get_mut(&mut memory).expect("nobody else has it");
                bytes.copy_from_slice(self.page(page, checksum)?);
                memory
            }
            None => Arc::from(self.page(page, checksum)?),
        };
        let copy = self.freelist.take_one();
        self.insert(copy, image);
        self.dirty_tree_pages += 1;
        let bytes = self.arena.image_mut(copy, self.interval);
        let before = super::layout::header(bytes);
        assert!(before.page.get() == page.0, "a page carries its own number");
        assert!(before.birth.get() < self.interval);
        let (kind, level) = (before.kind, before.level);
        seal::renew_header(bytes, copy, self.interval);
        assert!((kind, level) == (super::layout::header(bytes).kind, level));
        self.freelist.free_later(page, 1);
        Ok(copy)
    }

    /// A tree's page of this interval, to change it in place. One that was sealed ahead no longer is.
    #[inline]
    pub fn image_mut(&mut self, page: PageNumber) -> &mut [u8] {
        assert!(self.sealing.is_none(), "nothing changes while an interval is sealed");
        let image = self.arena.image_mut(page, self.interval);
        super::layout::header_mut(image).checksum = U64::ZERO;
        image
    }

    /// A page of this interval, to read it.
    #[inline]
    pub fn own_image(&self, page: PageNumber) -> &[u8] {
        self.arena.image(page).expect("a page of this interval has an image")
    }

    /// Seals a leaf of this interval ahead of the interval's end; its checksum belongs into its
    /// parent. To be called when the leaf is not expected to change again: a change undoes it.
    pub(crate) fn seal_ahead(&mut self, page: PageNumber) -> Checksum {
        let image = self.arena.image_mut(page, self.interval);
        assert!(super::layout::header(image).level == 0, "only leaves are sealed ahead");
        super::layout::header_mut(image).checksum = U64::ZERO;
        seal::seal_page(image)
    }

    /// A fresh page with its header.
    pub fn allocate(&mut self, kind: PageKind, level: u8) -> PageNumber {
        let page = self.freelist.take_one();
        let spare = self.arena.take_spare();
        let is_zero = spare.is_none();
        let mut image = spare.unwrap_or_else(|| zeros(PAGE_SIZE_BYTES));
        let bytes = Arc::get_mut(&mut image).expect("nobody else has it");
        if !is_zero {
            bytes.fill(0);
        }
        start_page(bytes, page, self.interval, kind, level);
        self.insert(page, image);
        self.dirty_tree_pages += 1;
        page
    }

    fn insert(&mut self, first: PageNumber, image: Arc<[u8]>) {
        assert!(self.sealing.is_none(), "nothing changes while an interval is sealed");
        self.let_go(LEAVING_PER_PAGE);
        self.arena.insert(first, image, self.interval);
        self.dirty.push(first);
    }

    /// Gives a page back: at once if it is of this interval, else for the interval after the next.
    pub fn free(&mut self, page: PageNumber) {
        if self.is_own(page) {
            self.dirty_tree_pages -= 1;
        }
        self.free_pages(page, 1);
    }

    fn free_pages(&mut self, first: PageNumber, pages: u32) {
        if !self.is_own(first) {
            self.freelist.free_later(first, pages);
            return;
        }
        let image = self.arena.image(first).expect("what is this interval's own has an image");
        assert!(image.len() == pages as usize * PAGE_SIZE_BYTES);
        self.arena.remove(first);
        self.freelist.free_now(first, pages);
    }

    /// Writes a new overflow run of up to `RUN_SIZE_BYTES_MAX`.
    pub fn write_run(&mut self, bytes: &[u8]) -> RunRef {
        self.write_run_parts(&[bytes])
    }

    /// Writes a new overflow run that holds `parts` one after the other.
    pub fn write_run_parts(&mut self, parts: &[&[u8]]) -> RunRef {
        let size_bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert!(size_bytes <= RUN_SIZE_BYTES_MAX);
        let pages = size_bytes.div_ceil(PAGE_SIZE_BYTES).max(1);
        let mut image = zeros(pages * PAGE_SIZE_BYTES);
        let content = Arc::get_mut(&mut image).expect("made on the line above");
        let mut at = 0;
        for part in parts {
            content[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let sum = checksum(content);
        let first = self.freelist.take_run(pages as u32);
        self.insert(first, image);
        self.dirty_run_pages += pages as u64;
        let run = RunRef::new(first, size_bytes, sum);
        assert!(run.pages() as usize == pages);
        run
    }

    /// The bytes of a run.
    pub fn read_run(&self, run: &RunRef) -> Result<&[u8], Corruption> {
        let pages = match self.arena.image(run.first()) {
            Some(image) => image,
            None => self.map.pages(run.first(), run.pages(), run.checksum())?,
        };
        assert!(pages.len() == run.pages() as usize * PAGE_SIZE_BYTES);
        Ok(&pages[..run.size_bytes()])
    }

    /// Gives a run's pages back, by the rule of [`Store::free`]; reads nothing.
    pub fn free_run(&mut self, run: &RunRef) {
        if self.is_own(run.first()) {
            self.dirty_run_pages -= run.pages() as u64;
        }
        self.free_pages(run.first(), run.pages());
    }

    /// Whether the interval may end: not before the checkpoint of the last one is durable.
    pub fn may_end_interval(&self) -> bool {
        self.durable + 1 == self.interval
    }

    /// Seals up to `pages_max` pages of the interval, so that its end is short; true when all are.
    /// From the first call to [`Store::end_interval`] nothing may be changed.
    pub fn seal_some(&mut self, trees: &[Tree; TREES], pages_max: u64) -> bool {
        seal::seal_some(self, trees, pages_max)
    }

    /// Ends the interval: seals its pages bottom-up, puts the roots' checksums into `trees`, and
    /// returns what is to be written. The next interval begins at once.
    ///
    /// `trees` are all trees of the group, `applied_index` and `state` (up to
    /// `META_STATE_BYTES_MAX`) are kept in the meta page. Panics unless
    /// [`Store::may_end_interval`].
    pub fn end_interval(
        &mut self,
        trees: &mut [Tree; TREES],
        applied_index: u64,
        state: &[u8],
    ) -> CheckpointPlan {
        assert!(self.may_end_interval(), "the last checkpoint is not durable yet");
        self.let_go(usize::MAX);
        let plan = seal::end_interval(self, trees, applied_index, state);
        for write in &plan.writes {
            self.map.forget(write.first, (write.bytes.len() / PAGE_SIZE_BYTES) as u32);
        }
        self.interval += 1;
        plan
    }

    /// The plan of `interval` is on disk, its meta page too: the arena lets its images go.
    pub fn checkpoint_durable(&mut self, interval: u64) {
        assert!(interval + 1 == self.interval && self.durable + 1 == interval);
        self.durable = interval;
        assert!(self.leaving.is_empty(), "the end of the interval let all of the last one go");
        std::mem::swap(&mut self.leaving, &mut self.in_flight);
        self.arena.keep_spare(self.leaving.len());
        self.let_go(LEAVING_AT_ONCE);
    }

    /// Lets go of up to `pages_max` images that are on disk. A store that is changed lets them go by
    /// and by: all at once would be a long step.
    fn let_go(&mut self, pages_max: usize) {
        for _ in 0..pages_max.min(self.leaving.len()) {
            let page = self.leaving.pop().expect("as many as there are");
            let size_bytes = self.arena.remove(page);
            self.map.wrote(page, (size_bytes / PAGE_SIZE_BYTES) as u32);
        }
    }

    /// Sizes.
    pub fn counters(&self) -> StoreCounters {
        StoreCounters {
            pages: self.freelist.page_count,
            pages_free: self.freelist.free,
            pages_pending: self.freelist.pages_pending(),
            pages_dirty: self.dirty_pages() + self.freelist.pages_touched(),
            arena_bytes: self.arena.bytes(),
        }
    }

    /// Pages of this interval in use, without the freelist's: cheap, for the interval's bound.
    pub fn dirty_pages(&self) -> u64 {
        self.dirty_tree_pages + self.dirty_run_pages
    }

    /// Pages of trees that are of this interval.
    pub(crate) fn own_tree_pages(&self) -> u64 {
        self.dirty_tree_pages
    }

    /// Shows every page that is neither a meta page, nor in a tree, nor in a run.
    pub(crate) fn for_each_other_page(&self, show: &mut dyn FnMut(PageNumber, u64)) {
        self.freelist.for_each_page(show);
    }

    /// Next free run at or after `from` that neither meta page reaches, however short: its memory is
    /// let go. A run of `PUNCH_PAGES_MIN` pages and more is worth a hole in the file too; see
    /// [`Store::punchable_run`].
    pub fn release_free_run(&self, from: PageNumber) -> Option<(PageNumber, u64)> {
        if !self.may_end_interval() {
            return None;
        }
        let (first, pages) = self.freelist.free_run(from, 1)?;
        self.map.release(first, pages);
        Some((first, pages))
    }

    /// Next free run of at least `PUNCH_PAGES_MIN` pages at or after `from` that neither meta page
    /// reaches; `None` at the end, or while a checkpoint is not durable. A hole must be punched
    /// before anything of the next plan is written: its pages may be taken at any time.
    pub fn punchable_run(&self, from: PageNumber) -> Option<(PageNumber, u64)> {
        if !self.may_end_interval() {
            return None;
        }
        self.freelist.free_run(from, PUNCH_PAGES_MIN as u64)
    }
}

/// Reads the freelist of a checkpoint, and its roots.
fn check_checkpoint<M: PageMap>(map: &M, meta: &Meta) -> Result<Freelist, Corruption> {
    let freelist = seal::read_freelist(map, meta)?;
    for tree in &meta.trees {
        if 0 < tree.height {
            map.pages(tree.root, 1, tree.checksum)?;
        }
    }
    Ok(freelist)
}

/// Images of a durable checkpoint that are let go at once.
const LEAVING_AT_ONCE: usize = 4096;

/// And with every new page.
const LEAVING_PER_PAGE: usize = 4;

/// A shared buffer of zeros.
fn zeros(size_bytes: usize) -> Arc<[u8]> {
    assert!(PAGE_HEADER_BYTES < size_bytes);
    std::iter::repeat_n(0, size_bytes).collect()
}
