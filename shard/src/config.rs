//! What a shard is told at its start; the server maps flags to it one to one.

use engine::wal::writer::SegmentSizes;

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

/// A member that a new cluster begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialMember {
    /// Its id, by etcd's rule.
    pub id: u64,
    /// Its name in --initial-cluster.
    pub name: String,
    /// Its peer URLs there.
    pub peer_urls: Vec<String>,
}

/// How this member came into its cluster, decided once at its birth and kept in its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of those the cluster began with.
    Founder {
        /// All of them, this one too, ascending by id.
        members: Vec<InitialMember>,
    },
    /// Added to a cluster that lived already: whom to ask, as named by --initial-cluster.
    Joiner {
        /// The other members.
        members: Vec<InitialMember>,
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
    /// Random, drawn when the data directory was made: tells a member from another that was given
    /// its id.
    pub birth_id: u64,
    /// Raised by each forced new cluster; members of different epochs do not talk.
    pub epoch: u64,
    /// How the member was born.
    pub origin: Origin,
    /// Member name.
    pub name: String,
    /// Advertised peer URLs.
    pub peer_urls: Vec<String>,
    /// Advertised client URLs.
    pub client_urls: Vec<String>,
    /// Advertised URLs of the binary protocol; none when it is not served.
    pub binary_urls: Vec<String>,
    /// Learners of the cluster at one time (etcd's --max-learners); counts where one is added.
    pub learners_max: usize,
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
    /// Refuse changes of members that would lose the quorum (etcd's --strict-reconfig-check).
    pub is_strict_reconfig: bool,
    /// Ask for an election before raising the term (etcd's --pre-vote).
    pub is_pre_vote: bool,
    /// Hand the group on with this member as its only voter (etcd's --force-new-cluster).
    pub is_force_new_cluster: bool,
    /// Keep every entry since the first start (--log-retention=all), for checkers: disk use then
    /// has no bound but that of the WAL.
    pub is_log_retained: bool,
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
    /// Applied entries kept in memory for followers that lag (etcd's --snapshot-catchup-entries);
    /// who lags more is sent pages.
    pub log_tail_entries: u64,
    /// Sizes of WAL segments; files of another size are not started on.
    pub wal_segment_sizes: SegmentSizes,
}
