//! Every flag there is, defined once: command line, environment, configuration file, help and
//! warnings are all made from this table.
//!
//! A flag of etcd is *implemented*, or *tuning* (accepted; a value other than the default draws one
//! warning), or *refused*: it promises safety, and starting without what it promises would be a
//! silent breach. A refused flag that is set to its harmless default is accepted.
//! Source: fact sheet of etcd's command line, sections 1 and 2.

/// What becomes of a flag that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what etcd's documentation says.
    Implemented,
    /// Accepted without effect, with one warning.
    Tuning,
    /// It promises safety that is not built.
    Refused,
}

/// How a flag's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text, also numbers.
    Text,
    /// `--flag` alone means true; `--flag=false`.
    Switch,
    /// A duration (`100ms`); an integer in a configuration file is nanoseconds.
    Duration,
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Name without dashes, which is also the key in a configuration file.
    pub name: &'static str,
    /// Value when nothing sets it.
    pub default: &'static str,
    /// How it is written.
    pub form: Form,
    /// What becomes of it.
    pub standing: Standing,
    /// One line for `--help`.
    pub help: &'static str,
}

const fn flag(
    name: &'static str,
    default: &'static str,
    form: Form,
    standing: Standing,
    help: &'static str,
) -> Flag {
    Flag { name, default, form, standing, help }
}

use Form::{Duration, Switch, Text};
use Standing::{Implemented, Refused, Tuning};

/// The flags, in the order of `--help`.
pub const FLAGS: &[Flag] = &[
    // Member.
    flag("name", "default", Text, Implemented, "Human-readable name for this member."),
    flag("data-dir", "", Text, Implemented, "Path to the data directory [corestone.data]."),
    flag("wal-dir", "", Text, Implemented, "Path to a dedicated directory of the WAL."),
    flag("heartbeat-interval", "100", Text, Implemented, "Leader heartbeat (milliseconds)."),
    flag("election-timeout", "1000", Text, Implemented, "Election timeout (milliseconds)."),
    flag("listen-client-urls", DEFAULT_CLIENT, Text, Implemented, "Client URLs to listen on."),
    flag("listen-client-http-urls", "", Text, Implemented, "Further client URLs, for HTTP."),
    flag("listen-metrics-urls", "", Text, Implemented, "URLs for /metrics and /health only."),
    flag("listen-peer-urls", DEFAULT_PEER, Text, Implemented, "Peer URLs to listen on."),
    flag("quota-backend-bytes", "0", Text, Implemented, "Quota; 0 is 2 GiB, negative none."),
    flag("max-txn-ops", "128", Text, Implemented, "Operations permitted in a transaction list."),
    flag("max-request-bytes", "1572864", Text, Implemented, "Largest client request (bytes)."),
    flag("auto-compaction-mode", "periodic", Text, Implemented, "'periodic' or 'revision'."),
    flag("auto-compaction-retention", "0", Text, Implemented, "What is kept; 0 turns it off."),
    flag("watch-progress-notify-interval", "0", Duration, Implemented, "Period of progress."),
    // Clustering.
    flag("initial-advertise-peer-urls", DEFAULT_PEER, Text, Implemented, "Peer URLs told."),
    flag("initial-cluster", "", Text, Implemented, "name=peerURL of each first member."),
    flag("initial-cluster-state", "new", Text, Implemented, "'new' or 'existing'."),
    flag("initial-cluster-token", "etcd-cluster", Text, Implemented, "Goes into the ids."),
    flag("advertise-client-urls", DEFAULT_CLIENT, Text, Implemented, "Client URLs published."),
    flag("force-new-cluster", "false", Switch, Implemented, "Leave all other members behind."),
    flag("discovery-token", "", Text, Refused, "v3 discovery."),
    flag("discovery-endpoints", "", Text, Refused, "v3 discovery."),
    flag("discovery-dial-timeout", "2s", Duration, Refused, "v3 discovery."),
    flag("discovery-request-timeout", "5s", Duration, Refused, "v3 discovery."),
    flag("discovery-keepalive-time", "2s", Duration, Refused, "v3 discovery."),
    flag("discovery-keepalive-timeout", "6s", Duration, Refused, "v3 discovery."),
    flag("discovery-insecure-transport", "true", Switch, Refused, "v3 discovery."),
    flag("discovery-insecure-skip-tls-verify", "false", Switch, Refused, "v3 discovery."),
    flag("discovery-cert", "", Text, Refused, "v3 discovery."),
    flag("discovery-key", "", Text, Refused, "v3 discovery."),
    flag("discovery-cacert", "", Text, Refused, "v3 discovery."),
    flag("discovery-user", "", Text, Refused, "v3 discovery."),
    flag("discovery-password", "", Text, Refused, "v3 discovery."),
    flag("discovery-fallback", "exit", Text, Refused, "v3 discovery."),
    flag("discovery-srv", "", Text, Refused, "DNS discovery."),
    flag("discovery-srv-name", "", Text, Refused, "DNS discovery."),
    flag("strict-reconfig-check", "true", Switch, Implemented, "Refuse changes that risk quorum."),
    flag("pre-vote", "true", Switch, Implemented, "Raft pre-vote."),
    flag("max-learners", "1", Text, Implemented, "Learners permitted at one time."),
    flag("initial-election-tick-advance", "true", Switch, Tuning, "Shorten the first timeout."),
    flag("downgrade-check-time", "5s", Duration, Tuning, "Period of the downgrade check."),
    // Logging.
    flag("logger", "zap", Text, Implemented, "Only 'zap': JSON lines in its shape."),
    flag("log-outputs", "default", Text, Implemented, "default, stderr, stdout or a file."),
    flag("log-level", "info", Text, Implemented, "debug, info, warn, error, panic or fatal."),
    flag("log-format", "json", Text, Implemented, "json or console."),
    flag("enable-log-rotation", "false", Switch, Tuning, "Rotate a log file."),
    flag("log-rotation-config-json", LOG_ROTATION, Text, Tuning, "Settings of the rotation."),
    flag("warning-apply-duration", "100ms", Duration, Tuning, "Log applies slower than this."),
    flag("warning-unary-request-duration", "300ms", Duration, Tuning, "Log requests slower."),
    // Security.
    flag("cert-file", "", Text, Refused, "Client TLS."),
    flag("key-file", "", Text, Refused, "Client TLS."),
    flag("client-cert-auth", "false", Switch, Refused, "Client TLS."),
    flag("client-cert-file", "", Text, Refused, "Client TLS."),
    flag("client-key-file", "", Text, Refused, "Client TLS."),
    flag("client-crl-file", "", Text, Refused, "Client TLS."),
    flag("client-cert-allowed-hostname", "", Text, Refused, "Client TLS."),
    flag("trusted-ca-file", "", Text, Refused, "Client TLS."),
    flag("auto-tls", "false", Switch, Refused, "Client TLS."),
    flag("peer-cert-file", "", Text, Refused, "Peer TLS."),
    flag("peer-key-file", "", Text, Refused, "Peer TLS."),
    flag("peer-client-cert-auth", "false", Switch, Refused, "Peer TLS."),
    flag("peer-client-cert-file", "", Text, Refused, "Peer TLS."),
    flag("peer-client-key-file", "", Text, Refused, "Peer TLS."),
    flag("peer-trusted-ca-file", "", Text, Refused, "Peer TLS."),
    flag("peer-cert-allowed-cn", "", Text, Refused, "Peer TLS."),
    flag("peer-cert-allowed-hostname", "", Text, Refused, "Peer TLS."),
    flag("peer-auto-tls", "false", Switch, Refused, "Peer TLS."),
    flag("peer-crl-file", "", Text, Refused, "Peer TLS."),
    flag("peer-skip-client-san-verification", "false", Switch, Refused, "Peer TLS."),
    flag("self-signed-cert-validity", "1", Text, Refused, "Years of a self-made certificate."),
    flag("cipher-suites", "", Text, Tuning, "TLS cipher suites; no TLS without certificates."),
    flag("tls-min-version", "TLS1.2", Text, Tuning, "Lowest TLS version."),
    flag("tls-max-version", "", Text, Tuning, "Highest TLS version."),
    flag("cors", "*", Text, Refused, "Origins allowed, when narrower than all."),
    flag("host-whitelist", "*", Text, Refused, "Host headers allowed, when narrower than all."),
    flag("auth-token", "simple", Text, Refused, "Only 'simple'."),
    flag("bcrypt-cost", "10", Text, Tuning, "Cost of the password hash."),
    flag("auth-token-ttl", "300", Text, Tuning, "Life of a simple token (seconds)."),
    flag("corrupt-check-time", "0s", Duration, Refused, "Period of the hash check of peers."),
    flag("compact-hash-check-time", "1m", Duration, Refused, "Period of the compaction check."),
    flag("feature-gates", "", Text, Implemented, "Name=true,...; safety gates are refused."),
    // Tuning.
    flag("snapshot-count", "10000", Text, Tuning, "Entries between snapshots."),
    flag("snapshot-catchup-entries", "5000", Text, Tuning, "Entries kept for followers."),
    flag("max-wals", "5", Text, Tuning, "WAL files kept."),
    flag("memory-mlock", "false", Switch, Tuning, "Lock pages in memory."),
    flag("backend-bbolt-freelist-type", "map", Text, Tuning, "bbolt's free list."),
    flag("backend-batch-interval", "0", Duration, Tuning, "Time between backend commits."),
    flag("backend-batch-limit", "0", Text, Tuning, "Operations between backend commits."),
    flag("max-concurrent-streams", "4294967295", Text, Tuning, "Streams of a connection."),
    flag("grpc-keepalive-min-time", "5s", Duration, Tuning, "Least distance of pings."),
    flag("grpc-keepalive-interval", "2h", Duration, Tuning, "Period of the server's pings."),
    flag("grpc-keepalive-timeout", "20s", Duration, Tuning, "Wait for a ping's answer."),
    flag("socket-reuse-port", "false", Switch, Implemented, "SO_REUSEPORT on listeners."),
    flag("socket-reuse-address", "false", Switch, Implemented, "SO_REUSEADDR on listeners."),
    flag("enable-grpc-gateway", "true", Switch, Tuning, "JSON gateway."),
    flag("raft-read-timeout", "5s", Duration, Tuning, "Read timeout of peer connections."),
    flag("raft-write-timeout", "5s", Duration, Tuning, "Write timeout of peer connections."),
    flag("enable-pprof", "false", Switch, Tuning, "Go's profiles."),
    flag("metrics", "basic", Text, Tuning, "basic or extensive."),
    flag("enable-distributed-tracing", "false", Switch, Tuning, "OTLP tracing."),
    flag("distributed-tracing-address", "localhost:4317", Text, Tuning, "Its collector."),
    flag("distributed-tracing-service-name", "etcd", Text, Tuning, "Its service name."),
    flag("distributed-tracing-instance-id", "", Text, Tuning, "Its instance id."),
    flag("distributed-tracing-sampling-rate", "0", Text, Tuning, "Samples in a million."),
    flag("compaction-batch-limit", "0", Text, Tuning, "Revisions removed in a batch."),
    flag("compaction-sleep-interval", "0", Duration, Tuning, "Pause between batches."),
    flag("bootstrap-defrag-threshold-megabytes", "0", Text, Tuning, "Defragment at start."),
    flag("unsafe-no-fsync", "false", Switch, Tuning, "Ignored: every commit is synced."),
    // Our own.
    flag("listen-binary-urls", DEFAULT_BINARY, Text, Implemented, "URLs of the binary protocol."),
    flag("advertise-binary-urls", "", Text, Implemented, "Those published [as listened on]."),
    flag("io-driver", "auto", Text, Implemented, "auto, uring or portable."),
    flag("log-retention", "bounded", Text, Implemented, "bounded, or all: no entry is dropped."),
    flag("space-reserve-bytes", "", Text, Implemented, "Held back on the disk [320 MiB at most]."),
    flag("cores", "0", Text, Implemented, "Cores used; 0 is as many as allowed, at most 4."),
    flag("pin", "true", Switch, Implemented, "Pin each core's thread to its CPU."),
    // For tests, and left out of the help: docs/test-flags.md.
    flag("test-wal-sync-delay-ms", "0", Text, Implemented, "Each WAL write takes longer."),
    flag("test-wal-hang-file", "", Text, Implemented, "No WAL write ends while it exists."),
];

/// Flags whose names begin so are not shown by `--help`.
pub const HIDDEN_PREFIX: &str = "test-";

/// Spellings of old manifests: `--experimental-x` meant what the second name says now.
pub const ALIASES: &[(&str, &str)] = &[
    ("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    ("experimental-corrupt-check-time", "corrupt-check-time"),
    ("experimental-compact-hash-check-time", "compact-hash-check-time"),
    ("experimental-compaction-batch-limit", "compaction-batch-limit"),
    ("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    ("experimental-warning-apply-duration", "warning-apply-duration"),
    ("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    ("experimental-max-learners", "max-learners"),
    ("experimental-memory-mlock", "memory-mlock"),
    ("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    ("experimental-downgrade-check-time", "downgrade-check-time"),
    ("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    ("experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes"),
    ("experimental-initial-corrupt-check", INITIAL_CORRUPT_CHECK),
    ("experimental-compact-hash-check-enabled", COMPACT_HASH_CHECK),
];

/// Feature gates which promise a check that is not built.
pub const SAFETY_GATES: &[&str] = &["InitialCorruptCheck", "CompactHashCheck"];

/// The other feature gates that etcd knows.
pub const OTHER_GATES: &[&str] = &[
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "SetMemberLocalAddr",
    "FastLeaseKeepAlive",
    "PriorityRequest",
    "AllAlpha",
    "AllBeta",
];

/// The gate behind an old switch; written as a gate it is refused when true.
pub const INITIAL_CORRUPT_CHECK: &str = "feature-gates:InitialCorruptCheck";
/// The gate behind an old switch; written as a gate it is refused when true.
pub const COMPACT_HASH_CHECK: &str = "feature-gates:CompactHashCheck";

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Default client URL.
pub const DEFAULT_CLIENT: &str = "http://localhost:2379";
const DEFAULT_PEER: &str = "http://localhost:2380";
const DEFAULT_BINARY: &str = "http://127.0.0.1:2378";
const LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_aliases_lead_somewhere() {
        let names: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
        for (old, new) in ALIASES {
            assert!(!names.contains(old), "{old} is both an alias and a flag");
            assert!(names.contains(new) || new.starts_with("feature-gates:"), "{new}");
        }
    }

    #[test]
    fn switches_default_to_a_truth_value() {
        for flag in FLAGS.iter().filter(|flag| flag.form == Switch) {
            assert!(matches!(flag.default, "true" | "false"), "{}", flag.name);
        }
    }
}
