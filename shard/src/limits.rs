//! Bounds of a shard, with their relations.

/// Quota when the flag is 0: etcd's 2 GiB.
pub const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
/// What a request may take besides two election timeouts: etcd's 5 s.
pub const REQUEST_TIMEOUT_BASE_US: u64 = 5_000_000;
/// Unsent bytes of a connection above which nothing more is handed to the driver.
pub const UNSENT_BYTES_MAX: usize = 1 << 20;
/// A dial is answered within this.
pub const DIAL_TIMEOUT_US: u64 = 1_000_000;
/// Applied entries that a server keeps in memory: etcd's --snapshot-catchup-entries.
pub const LOG_TAIL_ENTRIES: u64 = 5_000;
/// Calls that a core takes in one step; input beyond waits for the next.
pub const STEP_CALLS_MAX: usize = 4096;
/// Sessions of a core; more connections are closed at once.
pub const SESSIONS_MAX: usize = 100_000;
/// Reads that wait or run at a replica; more are refused.
pub const READS_MAX: usize = 64 * 1024;
/// Of them only for reads that need no quorum: those that wait for one leave so many places.
pub const READS_LOCAL_RESERVED: usize = 4 * 1024;
/// Watches of one member; more are refused.
pub const WATCHES_MAX: usize = 1 << 20;
/// Bytes of events that a watch stream may be owed before its watches fall back to history.
pub const WATCH_CREDIT_BYTES: usize = 1 << 20;
/// Leases whose expiry is proposed in one scan: etcd's 500 each half second.
pub const EXPIRIES_PER_SCAN_MAX: usize = 500;
/// Distance of those scans.
pub const EXPIRY_SCAN_US: u64 = 500_000;
/// Pages of an interval that are sealed in one call at its end: about 0.4 ms, twice a step at most.
pub const SEAL_PAGES_PER_STEP_MAX: u64 = 512;
/// Pages of a checkpoint handed to the driver in one step.
pub const CHECKPOINT_PAGES_PER_STEP_MAX: usize = 512;
/// Pages of a checkpoint per millisecond that passed.
pub const CHECKPOINT_PAGES_PER_MS: u64 = 128;

const _: () = {
    assert!(READS_LOCAL_RESERVED < READS_MAX);
    assert!(UNSENT_BYTES_MAX <= 8 << 20);
    assert!(WATCH_CREDIT_BYTES <= 8 << 20);
    assert!(0 < CHECKPOINT_PAGES_PER_MS);
};
