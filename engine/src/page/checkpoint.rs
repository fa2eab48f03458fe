//! What the end of an interval asks to be written.
//!
//! The caller's duty, in this order: all of `writes` (any order, any cutting), a sync of the page
//! file, `meta` at page `meta_slot`, a sync; then `Store::checkpoint_durable(interval)`. Nothing of
//! it may be written after a later plan was begun. A failed sync ends the process.

use super::map::PageNumber;
use std::sync::Arc;

/// Contiguous pages to write.
#[derive(Clone, Debug)]
pub struct PageWrite {
    /// Number of the first page; its place in the file is that many pages from the start.
    pub first: PageNumber,
    /// Whole pages.
    pub bytes: Arc<[u8]>,
}

/// One checkpoint: the sealed pages of an interval and the meta page that names them.
#[derive(Clone, Debug)]
pub struct CheckpointPlan {
    /// The interval that ended.
    pub interval: u64,
    /// Position of the log that it holds.
    pub applied_index: u64,
    /// Length the page file needs, in pages, before anything is written.
    pub page_count: u64,
    /// Pages by ascending number.
    pub writes: Vec<PageWrite>,
    /// Page number of `meta`: `interval` mod 2.
    pub meta_slot: PageNumber,
    /// The meta page.
    pub meta: Arc<[u8]>,
}
