//! What a core counts, and how it is shown: one list of names, from which everything else follows.
//!
//! Invariants: plain integers, written by the core alone; the driver copies `cells` out after steps
//! and renders the copies of all cores without asking any. Names, labels and buckets are etcd's
//! (fact sheet of operations, section 4), so that its dashboards and alerts work.

use std::fmt::Write;

use crate::peer_metrics::{self, PeerHistogram, PeerScalar, PeerTable};

/// How the figures of several cores become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Rises only; summed.
    Counter,
    /// Summed.
    Gauge,
    /// Known to the owner of the default keyspace alone; the largest counts.
    OwnerGauge,
}

macro_rules! scalars {
    ($($variant:ident, $kind:ident, $name:literal, $help:expr;)*) => {
        /// The plain figures. A name may end in labels; those of a family stand together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Scalar { $($variant),* }
        const SCALARS: &[(Kind, &str, &str)] = &[$((Kind::$kind, $name, $help)),*];
    };
}

const PROMOTE_FAILURES: &str = "Promotions that were refused.";

scalars! {
    HasLeader, OwnerGauge, "etcd_server_has_leader", "Whether a leader is known, 1 or 0.";
    IsLeader, OwnerGauge, "etcd_server_is_leader", "Whether this member leads, 1 or 0.";
    IsLearner, OwnerGauge, "etcd_server_is_learner", "Whether this member is a learner.";
    LeaderChanges, Counter, "etcd_server_leader_changes_seen_total", "Leader changes seen.";
    ProposalsCommitted, OwnerGauge, "etcd_server_proposals_committed_total", "Commit index.";
    ProposalsApplied, OwnerGauge, "etcd_server_proposals_applied_total", "Applied index.";
    ProposalsPending, OwnerGauge, "etcd_server_proposals_pending", "Proposals in flight.";
    ProposalsFailed, Counter, "etcd_server_proposals_failed_total", "Proposals that failed.";
    QuotaBytes, OwnerGauge, "etcd_server_quota_backend_bytes", "Quota of the page file.";
    HealthSuccess, Counter, "etcd_server_health_success", "Good answers of /health.";
    HealthFailures, Counter, "etcd_server_health_failures", "Bad answers of /health.";
    SlowApply, Counter, "etcd_server_slow_apply_total", "Entries that needed more than a slice.";
    SlowReadIndexes, Counter, "etcd_server_slow_read_indexes_total", "Slow read-index rounds.";
    ReadIndexesFailed, Counter, "etcd_server_read_indexes_failed_total", "Failed rounds.";
    HeartbeatFailures, Counter, "etcd_server_heartbeat_send_failures_total", "Late heartbeats.";
    SnapshotApplying, OwnerGauge, "etcd_server_snapshot_apply_in_progress_total",
        "Whether a received state takes the place of the own one.";
    Promotions, Counter, "etcd_server_learner_promote_successes", "Learners that became voters.";
    PromotionsNotReady, Counter, "etcd_server_learner_promote_failures{Reason=\"etcdserver: \
        can only promote a learner member which is in sync with leader\"}", PROMOTE_FAILURES;
    PromotionsNotLearner, Counter, "etcd_server_learner_promote_failures{Reason=\"membership: \
        can only promote a learner member\"}", PROMOTE_FAILURES;
    PromotionsUnknown, Counter, "etcd_server_learner_promote_failures{Reason=\"membership: \
        ID not found\"}", PROMOTE_FAILURES;
    PromotionsNotEnoughStarted, Counter, "etcd_server_learner_promote_failures{Reason=\"\
        etcdserver: re-configuration failed due to not enough started members\"}",
        PROMOTE_FAILURES;
    PromotionsTimedOut, Counter, "etcd_server_learner_promote_failures{Reason=\"etcdserver: \
        request timed out\"}", PROMOTE_FAILURES;
    DbSize, OwnerGauge, "etcd_mvcc_db_total_size_in_bytes", "Allocated size of the page file.";
    DbSizeInUse, OwnerGauge, "etcd_mvcc_db_total_size_in_use_in_bytes", "Size in use.";
    Puts, Counter, "etcd_mvcc_put_total", "Puts applied.";
    Deletes, Counter, "etcd_mvcc_delete_total", "Deletions applied.";
    Txns, Counter, "etcd_mvcc_txn_total", "Transactions applied or read.";
    Ranges, Counter, "etcd_mvcc_range_total", "Ranges read.";
    Keys, OwnerGauge, "etcd_debugging_mvcc_keys_total", "Live keys.";
    Revision, OwnerGauge, "etcd_debugging_mvcc_current_revision", "Current revision.";
    CompactRevision, OwnerGauge, "etcd_debugging_mvcc_compact_revision", "Compact revision.";
    Events, Counter, "etcd_debugging_mvcc_events_total", "Events sent to watches.";
    WatchStreams, Gauge, "etcd_debugging_mvcc_watch_stream_total", "Open watch streams.";
    Watchers, OwnerGauge, "etcd_debugging_mvcc_watcher_total", "Watches.";
    SlowWatchers, OwnerGauge, "etcd_debugging_mvcc_slow_watcher_total", "Unsynced watches.";
    LeasesGranted, Counter, "etcd_debugging_lease_granted_total", "Leases granted.";
    LeasesRevoked, Counter, "etcd_debugging_lease_revoked_total", "Leases revoked.";
    LeasesRenewed, Counter, "etcd_debugging_lease_renewed_total", "Leases renewed.";
    LeasesExpired, Counter, "etcd_debugging_server_lease_expired_total", "Leases expired.";
    WalWriteBytes, OwnerGauge, "etcd_disk_wal_write_bytes_total", "Bytes written to the WAL.";
    GrpcReceivedBytes, Counter, "etcd_network_client_grpc_received_bytes_total", "From clients.";
    GrpcSentBytes, Counter, "etcd_network_client_grpc_sent_bytes_total", "To clients.";
    BinaryReceivedBytes, Counter, "corestone_binary_received_bytes_total", "Binary protocol, in.";
    BinarySentBytes, Counter, "corestone_binary_sent_bytes_total", "Binary protocol, out.";
    Connections, Gauge, "corestone_connections", "Open client connections.";
    Steps, Counter, "corestone_steps_total", "Steps of the shard loop.";
    WalWrites, Counter, "corestone_wal_writes_total", "WAL writes, each with its sync.";
    Checkpoints, Counter, "corestone_checkpoints_total", "Checkpoints made durable.";
    ApplyWaits, Counter, "corestone_apply_waits_total", "Steps that waited for a checkpoint.";
    PagesBroken, Counter, "corestone_pages_broken_total", "Broken pages found.";
    PagesRepaired, Counter, "corestone_pages_repaired_total", "Pages repaired from other members.";
}

/// The histograms, in microseconds, shown in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// Time of a WAL write with its sync.
    WalSync,
    /// Time from a checkpoint's boundary until it is durable.
    BackendCommit,
    /// Time of a step.
    Step,
}

struct Buckets {
    name: &'static str,
    help: &'static str,
    start_us: u64,
    count: usize,
}

const HISTOGRAMS: &[Buckets] = &[
    Buckets {
        name: "etcd_disk_wal_fsync_duration_seconds",
        help: "Time of a WAL write with its sync.",
        start_us: 1000,
        count: 14,
    },
    Buckets {
        name: "etcd_disk_backend_commit_duration_seconds",
        help: "Time from a checkpoint's boundary until it is durable.",
        start_us: 1000,
        count: 14,
    },
    Buckets {
        name: "corestone_step_duration_seconds",
        help: "Time of a step of the shard loop.",
        start_us: 16,
        count: 16,
    },
];

/// gRPC status codes, 0 to 16.
pub const GRPC_CODES: usize = 17;
const PER_METHOD: usize = 3 + GRPC_CODES;

/// A gRPC method, as its metrics are labelled.
#[derive(Clone, Copy, Debug)]
pub struct MethodLabels {
    /// `unary`, `server_stream` or `bidi_stream`.
    pub grpc_type: &'static str,
    /// Full service name.
    pub service: &'static str,
    /// Method name.
    pub method: &'static str,
}

/// The figures of one core.
#[derive(Clone, Debug)]
pub struct Metrics {
    cells: Vec<u64>,
}

fn histogram_start(histogram: usize) -> usize {
    SCALARS.len() + HISTOGRAMS[..histogram].iter().map(|h| h.count + 2).sum::<usize>()
}

fn peers_start() -> usize {
    histogram_start(HISTOGRAMS.len())
}

fn methods_start() -> usize {
    peers_start() + peer_metrics::CELLS
}

impl Metrics {
    /// All zero, for this many gRPC methods.
    pub fn new(methods: usize) -> Metrics {
        Metrics { cells: vec![0; methods_start() + methods * PER_METHOD] }
    }

    /// The raw figures, to be copied out.
    pub fn cells(&self) -> &[u64] {
        &self.cells
    }

    /// One more.
    pub fn add(&mut self, scalar: Scalar, n: u64) {
        self.cells[scalar as usize] += n;
    }

    /// One less, of a gauge.
    pub fn subtract(&mut self, scalar: Scalar, n: u64) {
        assert!(SCALARS[scalar as usize].0 != Kind::Counter);
        assert!(n <= self.cells[scalar as usize]);
        self.cells[scalar as usize] -= n;
    }

    /// Sets a gauge.
    pub fn set(&mut self, scalar: Scalar, value: u64) {
        assert!(SCALARS[scalar as usize].0 != Kind::Counter);
        self.cells[scalar as usize] = value;
    }

    /// The value now.
    pub fn value(&self, scalar: Scalar) -> u64 {
        self.cells[scalar as usize]
    }

    /// Counts these other members, ascending by id, and no others.
    pub fn keep_peers(&mut self, members: &[u64]) {
        self.peers().keep(members);
    }

    /// More of a figure about another member.
    pub fn add_of_peer(&mut self, member: u64, scalar: PeerScalar, n: u64) {
        if let Some(figure) = self.peers().figure(member, scalar) {
            *figure += n;
        }
    }

    /// Sets a gauge about another member.
    pub fn set_of_peer(&mut self, member: u64, scalar: PeerScalar, value: u64) {
        if let Some(figure) = self.peers().figure(member, scalar) {
            *figure = value;
        }
    }

    /// Adds how long something with another member took.
    pub fn observe_of_peer_us(&mut self, member: u64, histogram: PeerHistogram, us: u64) {
        self.peers().observe_us(member, histogram, us);
    }

    fn peers(&mut self) -> PeerTable<'_> {
        PeerTable::new(&mut self.cells[peers_start()..methods_start()])
    }

    /// Adds an observation.
    pub fn observe_us(&mut self, histogram: Histogram, us: u64) {
        let slot = histogram as usize;
        let buckets = &HISTOGRAMS[slot];
        let start = histogram_start(slot);
        let bucket =
            (0..buckets.count).find(|n| us <= buckets.start_us << n).unwrap_or(buckets.count);
        self.cells[start + bucket] += 1;
        self.cells[start + buckets.count + 1] += us;
    }

    /// A call of method `slot` began.
    pub fn grpc_started(&mut self, slot: usize) {
        self.cells[methods_start() + slot * PER_METHOD] += 1;
    }

    /// A message of it came in.
    pub fn grpc_received(&mut self, slot: usize) {
        self.cells[methods_start() + slot * PER_METHOD + 1] += 1;
    }

    /// A message of it went out.
    pub fn grpc_sent(&mut self, slot: usize) {
        self.cells[methods_start() + slot * PER_METHOD + 2] += 1;
    }

    /// A call of it ended with a code.
    pub fn grpc_handled(&mut self, slot: usize, code: u32) {
        let code = (code as usize).min(GRPC_CODES - 1);
        self.cells[methods_start() + slot * PER_METHOD + 3 + code] += 1;
    }
}

/// Names of the gRPC codes as grpc's Prometheus libraries write them.
const CODE_NAMES: [&str; GRPC_CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What is the same for all figures of a member.
#[derive(Clone, Debug)]
pub struct Identity<'a> {
    /// Member id.
    pub member_id: u64,
    /// Version served.
    pub server_version: &'a str,
    /// The gRPC methods, in the order of their slots.
    pub methods: &'a [MethodLabels],
    /// Further lines, rendered: figures of the process.
    pub process: &'a str,
}

/// Prometheus text of the copies of all cores' `cells`.
pub fn render(cores: &[Vec<u64>], identity: &Identity<'_>) -> String {
    assert!(!cores.is_empty());
    let mut text = String::with_capacity(64 * 1024);
    for (slot, (kind, name, help)) in SCALARS.iter().enumerate() {
        let values = cores.iter().map(|cells| cells[slot]);
        let (value, type_name) = match kind {
            Kind::Counter => (values.sum::<u64>(), "counter"),
            Kind::Gauge => (values.sum(), "gauge"),
            Kind::OwnerGauge => (values.max().unwrap_or(0), "gauge"),
        };
        let family = family_of(name);
        if slot == 0 || family_of(SCALARS[slot - 1].1) != family {
            let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {type_name}\n");
        }
        let _ = writeln!(text, "{name} {value}");
    }
    for slot in 0..HISTOGRAMS.len() {
        render_histogram(&mut text, slot, cores);
    }
    // Peers' connections are core 0's.
    let peers = &cores[0][peers_start()..methods_start()];
    peer_metrics::render(&mut text, peers, identity.member_id);
    render_grpc(&mut text, cores, identity.methods);
    let (id, version) = (identity.member_id, identity.server_version);
    let cluster_version = cluster_version(version);
    let _ = write!(
        text,
        "# TYPE etcd_server_id gauge\netcd_server_id{{server_id=\"{id:x}\"}} 1\n\
         # TYPE etcd_server_version gauge\netcd_server_version{{server_version=\"{version}\"}} 1\n\
         # TYPE etcd_cluster_version gauge\n\
         etcd_cluster_version{{cluster_version=\"{cluster_version}\"}} 1\n"
    );
    text.push_str(identity.process);
    text
}

/// A figure's name without its labels.
fn family_of(name: &str) -> &str {
    name.split_once('{').map_or(name, |(family, _)| family)
}

/// The cluster version of a server version: its patch level is left out.
pub fn cluster_version(server_version: &str) -> String {
    let mut parts = server_version.split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    format!("{major}.{minor}.0")
}

fn render_histogram(text: &mut String, slot: usize, cores: &[Vec<u64>]) {
    let Buckets { name, help, start_us, count } = &HISTOGRAMS[slot];
    let start = histogram_start(slot);
    let cell = |offset: usize| cores.iter().map(|cells| cells[start + offset]).sum::<u64>();
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    let mut total = 0;
    for bucket in 0..*count {
        total += cell(bucket);
        let bound = (start_us << bucket) as f64 / 1e6;
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {total}");
    }
    total += cell(*count);
    let sum = cell(count + 1) as f64 / 1e6;
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {total}");
    let _ = write!(text, "{name}_sum {sum}\n{name}_count {total}\n");
}

fn render_grpc(text: &mut String, cores: &[Vec<u64>], methods: &[MethodLabels]) {
    let families = [
        ("grpc_server_started_total", "RPCs started."),
        ("grpc_server_msg_received_total", "Messages received."),
        ("grpc_server_msg_sent_total", "Messages sent."),
    ];
    let cell = |slot: usize, offset: usize| {
        let at = methods_start() + slot * PER_METHOD + offset;
        cores.iter().map(|cells| cells[at]).sum::<u64>()
    };
    let labels = |m: &MethodLabels| {
        let MethodLabels { grpc_type, service, method } = m;
        format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{grpc_type}\"")
    };
    for (offset, (name, help)) in families.iter().enumerate() {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n");
        for (slot, method) in methods.iter().enumerate() {
            let _ = writeln!(text, "{name}{{{}}} {}", labels(method), cell(slot, offset));
        }
    }
    let name = "grpc_server_handled_total";
    let _ = write!(text, "# HELP {name} RPCs ended.\n# TYPE {name} counter\n");
    for (slot, method) in methods.iter().enumerate() {
        for (code, code_name) in CODE_NAMES.iter().enumerate() {
            let value = cell(slot, 3 + code);
            if value != 0 || code == 0 {
                let labels = labels(method);
                let _ = writeln!(text, "{name}{{grpc_code=\"{code_name}\",{labels}}} {value}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative_and_end_in_infinity() {
        let mut metrics = Metrics::new(0);
        metrics.observe_us(Histogram::WalSync, 900);
        metrics.observe_us(Histogram::WalSync, 1500);
        metrics.observe_us(Histogram::WalSync, 60_000_000);
        let identity =
            Identity { member_id: 1, server_version: "3.7.0", methods: &[], process: "" };
        let text = render(&[metrics.cells().to_vec()], &identity);
        let name = "etcd_disk_wal_fsync_duration_seconds";
        assert!(text.contains(&format!("{name}_bucket{{le=\"0.001\"}} 1\n")));
        assert!(text.contains(&format!("{name}_bucket{{le=\"0.002\"}} 2\n")));
        assert!(text.contains(&format!("{name}_bucket{{le=\"8.192\"}} 2\n")));
        assert!(text.contains(&format!("{name}_bucket{{le=\"+Inf\"}} 3\n{name}_sum 60.0024\n")));
    }

    #[test]
    fn a_family_has_one_head_and_all_its_labels() {
        let mut metrics = Metrics::new(0);
        metrics.add(Scalar::PromotionsNotReady, 3);
        let identity =
            Identity { member_id: 1, server_version: "3.7.0", methods: &[], process: "" };
        let text = render(&[metrics.cells().to_vec()], &identity);
        let name = "etcd_server_learner_promote_failures";
        assert_eq!(text.matches(&format!("# TYPE {name} counter\n")).count(), 1);
        assert_eq!(text.matches(&format!("\n{name}{{Reason=\"")).count(), 5);
        assert!(text.contains("which is in sync with leader\"} 3\n"), "{text}");
        // The text format allows a family once: no name heads two.
        let mut heads: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let count = heads.len();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), count);
    }

    #[test]
    fn counters_of_cores_add_up_and_owner_gauges_do_not() {
        let mut cores = [Metrics::new(1), Metrics::new(1)];
        for metrics in &mut cores {
            metrics.add(Scalar::Puts, 2);
            metrics.set(Scalar::Revision, 7);
            metrics.grpc_started(0);
            metrics.grpc_handled(0, 5);
        }
        let methods = [MethodLabels { grpc_type: "unary", service: "s", method: "m" }];
        let identity =
            Identity { member_id: 1, server_version: "3.7.1", methods: &methods, process: "" };
        let cells: Vec<_> = cores.iter().map(|m| m.cells().to_vec()).collect();
        let text = render(&cells, &identity);
        assert!(text.contains("\netcd_mvcc_put_total 4\n"));
        assert!(text.contains("\netcd_debugging_mvcc_current_revision 7\n"));
        assert!(text.contains("grpc_code=\"NotFound\",grpc_method=\"m\""));
        assert!(text.contains("cluster_version=\"3.7.0\""));
    }
}
