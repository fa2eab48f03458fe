//! Bounds of pages, of the page store and of the trees, with their units and relations.
//!
//! Invariant: what shapes pages stands here as constants; a change of any of them is a change of
//! the page format and needs a version switch of the group.

use super::layout::{BRANCH_CELL_FIXED_BYTES, PAGE_CONTENT_BYTES, RUN_REF_BYTES, SLOT_BYTES};
use super::map::PAGE_SIZE_BYTES;

/// Version of the page format written by this program.
pub const PAGE_FORMAT_VERSION: u32 = 1;

/// Trees of a group: keys, history, system.
pub const TREES: usize = 3;

/// Levels of a tree, leaves included.
pub const TREE_HEIGHT_MAX: usize = 24;

/// Longest key of any tree.
pub const KEY_SIZE_BYTES_MAX: usize = 2 << 20;

/// A key up to this long stands whole in its page; a longer one is a prefix and an overflow run.
pub const KEY_INLINE_BYTES_MAX: usize = 512;

/// What of a long key stands in its page.
pub const LONG_KEY_PREFIX_BYTES: usize = 64;

/// Longest value that a caller may give a key: what its owner adds fits beside it into a run.
pub const VALUE_SIZE_BYTES_MAX: usize = 2 << 20;

/// Longest prefix that a page's keys are known to share: a key's head follows it and must stand in
/// the page even when the key is long.
pub const PREFIX_BYTES_MAX: usize = LONG_KEY_PREFIX_BYTES - 2;

/// Longest value an entry may hold; a longer one is the caller's overflow run.
pub const VALUE_INLINE_BYTES_MAX: usize = 1_960;

/// Longest overflow run: a value of 2 MiB with up to a page of its owner's own header.
pub const RUN_SIZE_BYTES_MAX: usize = (2 << 20) + PAGE_SIZE_BYTES;

/// Pages of the longest overflow run.
pub const RUN_PAGES_MAX: u32 = (RUN_SIZE_BYTES_MAX / PAGE_SIZE_BYTES) as u32;

/// The caller's own bytes in a meta page.
pub const META_STATE_BYTES_MAX: usize = 1_024;

/// Shortest free run worth a hole in the file: 64 KiB.
pub const PUNCH_PAGES_MIN: u32 = 16;

/// Pages one bitmap page of the freelist tells about.
pub const BITMAP_PAGES: u64 = (PAGE_CONTENT_BYTES * 8) as u64;

/// Bitmap pages below one index page of the freelist.
pub const INDEX_BITMAPS: usize = PAGE_CONTENT_BYTES / 16;

/// Index pages of the freelist that a meta page can name.
pub const META_INDEXES_MAX: usize = 64;

/// Most pages of a page file: about 2 TB.
pub const PAGES_MAX: u64 = BITMAP_PAGES * INDEX_BITMAPS as u64 * META_INDEXES_MAX as u64;

/// Bytes of content below which a page tries to merge with a neighbour.
pub const MERGE_BELOW_BYTES: usize = PAGE_CONTENT_BYTES * 2 / 5;

/// A neighbour with this much room takes over cells before a full page splits.
pub const SPREAD_ROOM_BYTES_MIN: usize = PAGE_CONTENT_BYTES / 5;

const _: () = {
    assert!(KEY_SIZE_BYTES_MAX <= RUN_SIZE_BYTES_MAX);
    assert!(VALUE_SIZE_BYTES_MAX + PAGE_SIZE_BYTES <= RUN_SIZE_BYTES_MAX);
    assert!(RUN_SIZE_BYTES_MAX.is_multiple_of(PAGE_SIZE_BYTES));
    assert!(LONG_KEY_PREFIX_BYTES + RUN_REF_BYTES <= KEY_INLINE_BYTES_MAX);
    // Two entries with short keys, or any single entry, fit a leaf.
    assert!(2 * (VALUE_INLINE_BYTES_MAX + 32) <= PAGE_CONTENT_BYTES);
    assert!(VALUE_INLINE_BYTES_MAX + KEY_INLINE_BYTES_MAX + 16 <= PAGE_CONTENT_BYTES);
    // A branch has at least four children whatever its separators are.
    assert!(
        4 * (BRANCH_CELL_FIXED_BYTES + KEY_INLINE_BYTES_MAX + SLOT_BYTES) <= PAGE_CONTENT_BYTES
    );
    assert!(PREFIX_BYTES_MAX <= u8::MAX as usize);
    // A key's size leaves two bits of its word in a branch cell for flags.
    assert!(KEY_INLINE_BYTES_MAX < 1 << 14);
    // A page number fits 48 bits.
    assert!(PAGES_MAX < 1 << 48);
    // A run never spans more than two bitmap pages.
    assert!((RUN_PAGES_MAX as u64) < BITMAP_PAGES);
    assert!(MERGE_BELOW_BYTES < PAGE_CONTENT_BYTES / 2);
    // Offsets inside a page are 16 bits wide.
    assert!(PAGE_SIZE_BYTES <= u16::MAX as usize);
};
