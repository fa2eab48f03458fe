//! The pages of one group's file: copy-on-write once an interval, allocation, checkpoints.

use super::checkpoint::CheckpointPlan;
use super::layout::{PageKind, RunRef};
use super::limits::TREES;
use super::map::{Checksum, Corruption, PageMap, PageNumber};
use super::meta::{Meta, Tree};

/// The page file of one group, with the changes of the current interval in its arena.
#[derive(Debug)]
pub struct Store<M> {
    map: M,
    interval: u64,
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
    /// Pages allocated in this interval and still in use: what its end will write.
    pub pages_dirty: u64,
    /// Bytes of page images in the arena.
    pub arena_bytes: u64,
}

impl<M: PageMap> Store<M> {
    /// An empty page file of `group`; its first interval is 1.
    pub fn create(_map: M, _group: u64) -> Store<M> {
        panic!("lands next")
    }

    /// The page file as the checkpoint `meta` left it. Reads and verifies the freelist and roots.
    pub fn open(_map: M, _meta: &Meta) -> Result<Store<M>, Corruption> {
        panic!("lands next")
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

    /// The bytes of one page: its image in the arena, else from the map, verified there.
    pub fn page(&self, _page: PageNumber, _checksum: Checksum) -> Result<&[u8], Corruption> {
        panic!("lands next")
    }

    /// Makes the page this interval's own and returns its number: the same one if it is already,
    /// else that of a copy (the original is freed).
    pub fn touch(&mut self, _page: PageNumber, _c: Checksum) -> Result<PageNumber, Corruption> {
        panic!("lands next")
    }

    /// A page of this interval, to change it in place.
    pub fn image_mut(&mut self, _page: PageNumber) -> &mut [u8] {
        panic!("lands next")
    }

    /// A fresh page with its header.
    pub fn allocate(&mut self, _kind: PageKind, _level: u8) -> PageNumber {
        panic!("lands next")
    }

    /// Gives a page back: at once if it is of this interval, else for the interval after the next.
    pub fn free(&mut self, _page: PageNumber) {
        panic!("lands next")
    }

    /// Writes a new overflow run of up to `RUN_SIZE_BYTES_MAX`.
    pub fn write_run(&mut self, _bytes: &[u8]) -> RunRef {
        panic!("lands next")
    }

    /// The bytes of a run.
    pub fn read_run(&self, _run: &RunRef) -> Result<&[u8], Corruption> {
        panic!("lands next")
    }

    /// Gives a run's pages back, by the rule of [`Store::free`]; reads nothing.
    pub fn free_run(&mut self, _run: &RunRef) {
        panic!("lands next")
    }

    /// Whether the interval may end: not before the checkpoint of the last one is durable.
    pub fn may_end_interval(&self) -> bool {
        panic!("lands next")
    }

    /// Ends the interval: seals its pages bottom-up, puts the roots' checksums into `trees`, and
    /// returns what is to be written. The next interval begins at once.
    ///
    /// `trees` are all trees of the group, `applied_index` and `state` (up to
    /// `META_STATE_BYTES_MAX`) are kept in the meta page. Panics unless
    /// [`Store::may_end_interval`].
    pub fn end_interval(
        &mut self,
        _trees: &mut [Tree; TREES],
        _applied_index: u64,
        _state: &[u8],
    ) -> CheckpointPlan {
        panic!("lands next")
    }

    /// The plan of `interval` is on disk, its meta page too: the arena lets its images go.
    pub fn checkpoint_durable(&mut self, _interval: u64) {
        panic!("lands next")
    }

    /// Sizes.
    pub fn counters(&self) -> StoreCounters {
        panic!("lands next")
    }

    /// Next free run of at least `PUNCH_PAGES_MIN` pages at or after `from` that neither meta page
    /// reaches; `None` at the end, or while a checkpoint is not durable. A hole must be punched
    /// before anything of the next plan is written.
    pub fn punchable_run(&self, _from: PageNumber) -> Option<(PageNumber, u64)> {
        panic!("lands next")
    }
}
