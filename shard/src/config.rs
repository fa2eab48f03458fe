//! What a shard is told at its start; the server maps flags to it one to one.

use crate::input::CoreId;

/// Automatic compaction, as etcd's two modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// Keep this much time.
    Periodic {
        /// Microseconds.
        retention_us: u64,
    },
    /// Keep this many revisions.
    Revision {
        /// How many.
        retention: i64,
    },
}

/// Configuration of one shard. All cores of a member get the same but for `core`.
#[derive(Clone, Debug)]
pub struct Config {
    /// This core.
    pub core: CoreId,
    /// Cores of this member, at least 1; core 0 owns the default keyspace.
    pub cores: u16,
    /// Cluster id.
    pub cluster_id: u64,
    /// Member id.
    pub member_id: u64,
    /// Member name.
    pub name: String,
    /// Advertised peer URLs.
    pub peer_urls: Vec<String>,
    /// Advertised client URLs.
    pub client_urls: Vec<String>,
    /// Seed of everything that looks random (lease ids, timeouts).
    pub seed: u64,
    /// Operations of one transaction list.
    pub max_txn_ops: usize,
    /// Largest replicated request.
    pub max_request_bytes: usize,
    /// Quota; 0 is 2 GiB, negative is none.
    pub quota_backend_bytes: i64,
    /// Automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// Leader heartbeat, which is also the length of a tick.
    pub heartbeat_interval_us: u64,
    /// Election timeout.
    pub election_timeout_us: u64,
    /// Period of watch progress notices.
    pub watch_progress_interval_us: u64,
    /// Memory for range answers under way, per core.
    pub answer_budget_bytes: usize,
    /// etcd version whose API is served, as in `3.7.0`.
    pub server_version: String,
    /// Bytes of the page file that may be in use by pages of two intervals (see engine limits).
    pub interval_bytes_max: u64,
    /// Dirty pages after which a checkpoint interval ends.
    pub interval_pages_max: u32,
}
