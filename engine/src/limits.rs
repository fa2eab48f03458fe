//! Bounds of the store, with their units. What shapes pages is replicated in the group's first
//! entry and only checked against these.
//!
//! Invariant: the relations at the end hold at compile time.

/// Transactions nested deeper are refused. Each level takes at least one of the 128 operations
/// that etcd allows, so no valid transaction is deeper.
pub const TXN_DEPTH_MAX: usize = 128;

/// Largest value that may stand inline in a keys entry. A history record holds an inline key, the
/// event's value and the value it replaced, and has to fit into a leaf's cell.
pub const VALUE_INLINE_BYTES_MAX: usize = 640;

/// Largest key that stands inline in a history record; of a longer one the record borrows the run
/// that the keys tree owns.
pub const KEY_INLINE_BYTES_MAX: usize = 512;

/// Largest TTL of a lease, etcd's.
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;

/// Pages of history that one compaction step reads or frees, about: part of the log's meaning,
/// since it decides which pages a step changes.
pub const COMPACT_STEP_PAGES_MAX: usize = 32;

/// Work units of one slice of a long entry's apply; a unit is about one descent of a tree.
pub const APPLY_WORK_UNITS_MAX: u32 = 512;

/// Work units of one slice of a long read.
pub const READ_WORK_UNITS_MAX: u32 = 2048;

/// Packed events of one entry that are handed out; a larger entry's watchers read history.
pub const ENTRY_EVENTS_SIZE_BYTES_MAX: usize = 4 << 20;

/// Keys, with their overhead, that a pass of HashKV holds at once.
pub const HASH_WINDOW_KEYS_SIZE_BYTES_MAX: usize = 16 << 20;

/// Changes of a key since the last compaction from which on its versions carry jumps: below, going
/// back one by one is as cheap.
pub const CHAIN_JUMP_DEPTH_MIN: u32 = 4;

/// Bytes of a value that count as one work unit more.
pub const WORK_UNIT_SIZE_BYTES: usize = 16 << 10;
