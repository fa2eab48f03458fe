//! From flags to what a member is started with: every relation is checked here, before anything is
//! touched, with etcd's texts where etcd has one.
//!
//! Source: fact sheet of etcd's command line, section 1; ids after the section on membership.

pub mod duration;
pub mod flags;
mod identity;
pub mod initial_cluster;
pub mod url;
pub mod values;

use std::{fmt, path::PathBuf, time::Duration};

use engine::page::limits::VALUE_SIZE_BYTES_MAX;
use engine::wal::limits::ENTRY_DATA_BYTES_MAX;
use shard::config::AutoCompaction;

use flags::{FLAGS, Standing};
use initial_cluster::InitialCluster;
use url::ListenAddress;
use values::{Values, parse_switch};

use crate::driver::wal_faults::WalFaults;

pub use identity::{cluster_id, member_id};
pub use values::{Asked, read};

/// Why a member is not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The command line cannot be read: exit code 2.
    Usage(String),
    /// What it says is wrong or refused: exit code 1.
    Invalid(String),
}

impl ConfigError {
    /// A flag that promises safety which is not built.
    pub fn refused(flag: &str, value: &str) -> Self {
        let dashes = if flags::find(flag).is_some() { "--" } else { "" };
        ConfigError::Invalid(format!(
            "{dashes}{flag} ({value}) promises TLS, authentication, discovery or a check that \
             corestone does not build yet; it refuses to start without what was asked for"
        ))
    }

    /// etcd's exit code.
    pub fn exit_code(&self) -> i32 {
        match self {
            ConfigError::Usage(_) => 2,
            ConfigError::Invalid(_) => 1,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Usage(text) | ConfigError::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Which driver runs the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// io_uring where it works.
    Auto,
    /// io_uring or an error.
    Uring,
    /// Threads, epoll, pwrite.
    Portable,
}

/// Whether a new member founds a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It is one of those the cluster begins with.
    New,
    /// It was added to one that lives.
    Existing,
}

/// Everything a member is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Member name.
    pub name: String,
    /// Data directory.
    pub data_directory: PathBuf,
    /// Directory of the WALs, when it is another one.
    pub wal_directory: Option<PathBuf>,
    /// Milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds.
    pub election_timeout_ms: u64,
    /// gRPC and HTTP.
    pub listen_client: Vec<ListenAddress>,
    /// /metrics, /health.
    pub listen_metrics: Vec<ListenAddress>,
    /// The peer protocol.
    pub listen_peer: Vec<ListenAddress>,
    /// The peer URLs were named, so that a taken port is an error.
    pub is_peer_stated: bool,
    /// The binary protocol.
    pub listen_binary: Vec<ListenAddress>,
    /// The binary URLs were named, so that a taken port is an error.
    pub is_binary_stated: bool,
    /// Advertised.
    pub peer_urls: Vec<String>,
    /// Advertised.
    pub client_urls: Vec<String>,
    /// Where other machines speak the binary protocol with this one.
    pub binary_urls: Vec<String>,
    /// Learners of the cluster at one time.
    pub learners_max: usize,
    /// As named, or empty; read at a member's birth only.
    pub initial_cluster: String,
    /// Counts at a member's birth only.
    pub cluster_state: ClusterState,
    /// Goes into the ids.
    pub cluster_token: String,
    /// Refuse changes of members that would lose the quorum.
    pub is_strict_reconfig: bool,
    /// Ask for an election before raising the term.
    pub is_pre_vote: bool,
    /// Leave all other members behind.
    pub is_force_new_cluster: bool,
    /// Drop no entry of the log.
    pub is_log_retained: bool,
    /// Space held back on the disk; `None` is the usual size, 0 is none.
    pub space_reserve_bytes: Option<u64>,
    /// Bytes, as etcd: 0 is the default, negative none.
    pub quota_backend_bytes: i64,
    /// Operations of one transaction list.
    pub max_txn_ops: usize,
    /// Bytes.
    pub max_request_bytes: usize,
    /// Automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// Microseconds.
    pub watch_progress_interval_us: u64,
    /// SO_REUSEPORT, SO_REUSEADDR.
    pub reuse_port: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
    /// Log level by name.
    pub log_level: String,
    /// JSON lines, else text.
    pub is_log_json: bool,
    /// default, stderr, stdout or a path.
    pub log_outputs: Vec<String>,
    /// The driver asked for.
    pub io_driver: IoDriver,
    /// 0: as many as allowed, at most 4.
    pub cores: u16,
    /// Pin each core's thread.
    pub is_pinned: bool,
    /// What a test wants to be wrong with the WAL's disk.
    pub wal_faults: Option<WalFaults>,
    /// Lines to be logged as warnings at the start.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Checks everything that was set.
    pub fn check(values: Values) -> Result<Settings, ConfigError> {
        let mut warnings = values.warnings.clone();
        check_standing(&values, &mut warnings)?;
        check_gates(&values, &mut warnings)?;
        let (heartbeat_interval_ms, election_timeout_ms) = check_intervals(&values)?;
        let name = values.text("name").to_owned();
        if name == "default" && values.is_set("initial-cluster") {
            warnings.push("'default' is not a good name of a member of a cluster".to_owned());
        }
        let peer_urls = url::check_advertised(
            "initial-advertise-peer-urls",
            values.text("initial-advertise-peer-urls"),
        )?;
        let listen = |flag: &str| url::check_listen(flag, values.text(flag));
        let switch = |flag: &str| parse_switch(flag, values.text(flag));
        let mut listen_client = listen("listen-client-urls")?;
        listen_client.extend(listen("listen-client-http-urls")?);
        if values.is_set("listen-client-urls") && !values.is_set("advertise-client-urls") {
            return Err(ConfigError::Invalid(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                    .to_owned(),
            ));
        }
        let max_request_bytes = max_request_bytes(&values, &mut warnings)?;
        let client_urls =
            url::check_advertised("advertise-client-urls", values.text("advertise-client-urls"))?;
        let listen_binary = listen("listen-binary-urls")?;
        let binary_urls = match values.text("advertise-binary-urls") {
            "" => url::told_of(&listen_binary, &client_urls),
            stated => url::check_advertised("advertise-binary-urls", stated)?,
        };
        let directory = values.text("data-dir");
        let wal = values.text("wal-dir");
        Ok(Settings {
            data_directory: PathBuf::from(default_directory(directory, &values)),
            wal_directory: (!wal.is_empty()).then(|| PathBuf::from(wal)),
            heartbeat_interval_ms,
            election_timeout_ms,
            listen_client,
            listen_metrics: listen("listen-metrics-urls")?,
            listen_peer: listen("listen-peer-urls")?,
            is_peer_stated: values.is_set("listen-peer-urls"),
            listen_binary,
            is_binary_stated: values.is_set("listen-binary-urls"),
            client_urls,
            binary_urls,
            learners_max: number(&values, "max-learners", 0, i32::MAX as i64)? as usize,
            peer_urls,
            initial_cluster: values.text("initial-cluster").to_owned(),
            cluster_state: check_cluster_state(&values)?,
            cluster_token: values.text("initial-cluster-token").to_owned(),
            is_strict_reconfig: switch("strict-reconfig-check")?,
            is_pre_vote: switch("pre-vote")?,
            is_force_new_cluster: switch("force-new-cluster")?,
            is_log_retained: check_one_of(&values, "log-retention", &["bounded", "all"])? == "all",
            space_reserve_bytes: match values.text("space-reserve-bytes") {
                "" => None,
                _ => Some(number(&values, "space-reserve-bytes", 0, 1 << 50)? as u64),
            },
            quota_backend_bytes: number(&values, "quota-backend-bytes", i64::MIN, i64::MAX)?,
            max_txn_ops: number(&values, "max-txn-ops", 1, 1 << 20)? as usize,
            max_request_bytes,
            auto_compaction: check_auto_compaction(&values)?,
            watch_progress_interval_us: check_progress_interval(&values)?,
            reuse_port: switch("socket-reuse-port")?,
            reuse_address: switch("socket-reuse-address")?,
            log_level: check_one_of(
                &values,
                "log-level",
                &["debug", "info", "warn", "error", "panic", "fatal"],
            )?,
            is_log_json: check_one_of(&values, "log-format", &["json", "console"])? == "json",
            log_outputs: url::split(values.text("log-outputs")),
            io_driver: match values.text("io-driver") {
                "uring" => IoDriver::Uring,
                "portable" => IoDriver::Portable,
                "auto" => IoDriver::Auto,
                other => {
                    return Err(ConfigError::Invalid(format!(
                        "--io-driver={other} must be one of auto, uring, portable"
                    )));
                }
            },
            cores: number(&values, "cores", 0, CORES_MAX)? as u16,
            is_pinned: match values.text("pin") {
                "yes" => true,
                "no" => false,
                other => parse_switch("pin", other)?,
            },
            name,
            wal_faults: check_wal_faults(&values, &mut warnings)?,
            warnings,
        })
    }

    /// The members named, or this one alone; to be asked for at a member's birth only, because
    /// nothing of it counts later.
    pub fn initial_cluster(&self) -> Result<InitialCluster, ConfigError> {
        match self.initial_cluster.as_str() {
            "" => Ok(InitialCluster::of_one(&self.name, &self.peer_urls)),
            text => InitialCluster::parse(text),
        }
    }
}

fn default_directory(stated: &str, values: &Values) -> String {
    if !stated.is_empty() {
        return stated.to_owned();
    }
    match values.text("name") {
        "default" => "corestone.data".to_owned(),
        name => format!("{name}.corestone"),
    }
}

fn check_standing(values: &Values, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    for (name, value, _) in values.iter() {
        let flag = flags::find(name).expect("values holds only flags of the table");
        let is_switch = flag.form == flags::Form::Switch;
        let is_harmless = value == flag.default
            || value.is_empty()
            || (is_switch && parse_switch(name, value) == parse_switch(name, flag.default))
            || (flag.form == flags::Form::Duration && is_equal_duration(value, flag.default));
        match flag.standing {
            _ if is_harmless => {}
            Standing::Implemented => {}
            Standing::Tuning => {
                warnings.push(format!("--{name}={value} has no effect in corestone"));
            }
            Standing::Refused => return Err(ConfigError::refused(name, value)),
        }
    }
    check_one_of(values, "logger", &["zap"])?;
    Ok(())
}

fn is_equal_duration(one: &str, other: &str) -> bool {
    duration::parse_us(one).is_some_and(|us| Some(us) == duration::parse_us(other))
}

fn check_gates(values: &Values, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let mut gates = values.gates.clone();
    for pair in url::split(values.text("feature-gates")) {
        let (gate, truth) = pair.split_once('=').ok_or_else(|| {
            ConfigError::Invalid(format!("missing bool value for feature gate {pair}"))
        })?;
        gates.push((gate.to_owned(), parse_switch("feature-gates", truth)?));
    }
    for (gate, is_on) in gates {
        if flags::SAFETY_GATES.contains(&gate.as_str()) {
            if is_on {
                return Err(ConfigError::refused(&format!("feature gate {gate}"), "true"));
            }
        } else if flags::OTHER_GATES.contains(&gate.as_str()) {
            warnings.push(format!("feature gate {gate}={is_on} has no effect in corestone"));
        } else {
            return Err(ConfigError::Invalid(format!("unrecognized feature gate: {gate}")));
        }
    }
    Ok(())
}

fn check_intervals(values: &Values) -> Result<(u64, u64), ConfigError> {
    let heartbeat = number(values, "heartbeat-interval", i64::MIN, i64::MAX)?;
    let election = number(values, "election-timeout", i64::MIN, i64::MAX)?;
    let error = if heartbeat <= 0 {
        format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    } else if election <= 0 {
        format!("--election-timeout must be >0 (set to {election}ms)")
    } else if election / 5 < heartbeat {
        format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        )
    } else if ELECTION_TIMEOUT_MS_MAX < election {
        format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_TIMEOUT_MS_MAX}ms"
        )
    } else {
        return Ok((heartbeat as u64, election as u64));
    };
    Err(ConfigError::Invalid(error))
}

fn check_wal_faults(
    values: &Values,
    warnings: &mut Vec<String>,
) -> Result<Option<WalFaults>, ConfigError> {
    let delay_ms = number(values, "test-wal-sync-delay-ms", 0, TEST_DELAY_MS_MAX)? as u64;
    let hang_file = values.text("test-wal-hang-file");
    if delay_ms == 0 && hang_file.is_empty() {
        return Ok(None);
    }
    warnings.push("the disk of the WAL is made slow by test flags".to_owned());
    Ok(Some(WalFaults {
        sync_delay: Duration::from_millis(delay_ms),
        hang_file: (!hang_file.is_empty()).then(|| PathBuf::from(hang_file)),
    }))
}

fn check_cluster_state(values: &Values) -> Result<ClusterState, ConfigError> {
    match values.text("initial-cluster-state") {
        "new" => Ok(ClusterState::New),
        "existing" => Ok(ClusterState::Existing),
        other => Err(ConfigError::Usage(format!(
            "invalid value {other:?} for flag -initial-cluster-state: invalid value"
        ))),
    }
}

fn check_auto_compaction(values: &Values) -> Result<AutoCompaction, ConfigError> {
    let text = values.text("auto-compaction-retention");
    let failed =
        || ConfigError::Invalid(format!("failed to parse --auto-compaction-retention: {text:?}"));
    match values.text("auto-compaction-mode") {
        "periodic" => {
            let retention_us = match text.parse::<u64>() {
                Ok(hours) => hours.checked_mul(3_600_000_000).ok_or_else(failed)?,
                Err(_) => duration::parse_us(text).ok_or_else(failed)?,
            };
            Ok(match retention_us {
                0 => AutoCompaction::Off,
                retention_us => AutoCompaction::Periodic { retention_us },
            })
        }
        "revision" => match text.parse::<i64>().map_err(|_| failed())? {
            retention if retention < 0 => Err(failed()),
            0 => Ok(AutoCompaction::Off),
            retention => Ok(AutoCompaction::Revision { retention }),
        },
        other => Err(ConfigError::Invalid(format!("unknown auto-compaction-mode {other:?}"))),
    }
}

fn check_progress_interval(values: &Values) -> Result<u64, ConfigError> {
    let text = values.text("watch-progress-notify-interval");
    match duration::parse_us(text) {
        Some(0) => Ok(WATCH_PROGRESS_US_DEFAULT),
        Some(us) if us < WATCH_PROGRESS_US_MIN => Err(ConfigError::Invalid(format!(
            "--watch-progress-notify-interval={text} must be at least 100ms"
        ))),
        Some(us) => Ok(us),
        None => Err(ConfigError::Usage(format!(
            "invalid value {text:?} for flag -watch-progress-notify-interval: parse error"
        ))),
    }
}

fn check_one_of(values: &Values, name: &str, choices: &[&str]) -> Result<String, ConfigError> {
    let text = values.text(name);
    if choices.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(ConfigError::Invalid(format!("--{name}={text} must be one of {}", choices.join(", "))))
}

/// etcd's flag and its warning, and what is different here: no value is larger than a page file can
/// hold, and no request larger than an entry of the log.
fn max_request_bytes(values: &Values, warnings: &mut Vec<String>) -> Result<usize, ConfigError> {
    let stated = number(values, "max-request-bytes", 1, i32::MAX as i64)? as usize;
    if 10 << 20 < stated {
        warnings.push(format!("exceeded recommended request limit: --max-request-bytes={stated}"));
    }
    if VALUE_SIZE_BYTES_MAX < stated {
        warnings.push(format!(
            "--max-request-bytes={stated}: a key or a value larger than {VALUE_SIZE_BYTES_MAX} bytes \
             is refused all the same, and so is a request larger than {REQUEST_BYTES_MAX}"
        ));
    }
    Ok(stated.min(REQUEST_BYTES_MAX))
}

/// Half of the largest entry of the log: what a request becomes in it is no larger than twice that.
const REQUEST_BYTES_MAX: usize = ENTRY_DATA_BYTES_MAX / 2;

fn number(values: &Values, name: &str, min: i64, max: i64) -> Result<i64, ConfigError> {
    assert!(FLAGS.iter().any(|flag| flag.name == name));
    let text = values.text(name);
    let parsed = text.parse::<i64>().map_err(|_| {
        ConfigError::Usage(format!("invalid value {text:?} for flag -{name}: parse error"))
    })?;
    if parsed < min || max < parsed {
        return Err(ConfigError::Invalid(format!("--{name}={text} must be in {min}..={max}")));
    }
    Ok(parsed)
}

const ELECTION_TIMEOUT_MS_MAX: i64 = 50_000;
const WATCH_PROGRESS_US_DEFAULT: u64 = 600_000_000;
const WATCH_PROGRESS_US_MIN: u64 = 100_000;
const CORES_MAX: i64 = 64;
const TEST_DELAY_MS_MAX: i64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, ConfigError> {
        let arguments: Vec<_> = arguments.iter().map(|s| (*s).to_owned()).collect();
        match read(&arguments, &[])? {
            Asked::Run(values) => Settings::check(values),
            other => panic!("asked for {other:?}"),
        }
    }

    fn refusal(arguments: &[&str]) -> String {
        settings(arguments).expect_err("must be refused").to_string()
    }

    #[test]
    fn no_flag_at_all_is_a_member_on_the_usual_port() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.data_directory, PathBuf::from("corestone.data"));
        assert_eq!(settings.listen_client[0].to_string(), "127.0.0.1:2379");
        assert_eq!(settings.listen_binary[0].to_string(), "127.0.0.1:2378");
        assert!(!settings.is_binary_stated);
        assert_eq!(settings.auto_compaction, AutoCompaction::Off);
        assert_eq!(settings.watch_progress_interval_us, 600_000_000);
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    }

    #[test]
    fn a_promise_of_safety_is_never_broken_silently() {
        for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Refused) {
            let value = if flag.default == "true" { "false" } else { "true" };
            let text = refusal(&[&format!("--{}={value}", flag.name)]);
            assert!(text.contains(flag.name), "{text}");
            // What equals the default promises nothing.
            settings(&[&format!("--{}={}", flag.name, flag.default)]).unwrap();
        }
        assert!(refusal(&["--feature-gates=InitialCorruptCheck=true"]).contains("InitialCorrupt"));
        assert!(refusal(&["--experimental-initial-corrupt-check"]).contains("InitialCorrupt"));
        assert!(refusal(&["--auth-token=jwt,pub-key=x"]).contains("auth-token"));
        assert!(refusal(&["--listen-client-urls=https://127.0.0.1:2379"]).contains("TLS"));
    }

    #[test]
    fn each_tuning_flag_draws_one_warning_naming_it() {
        for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Tuning) {
            let value = if flag.default == "true" { "false" } else { "true" };
            let warnings = settings(&[&format!("--{}={value}", flag.name)]).unwrap().warnings;
            assert_eq!(warnings.len(), 1, "{}: {warnings:?}", flag.name);
            assert!(warnings[0].contains(flag.name));
        }
    }

    #[test]
    fn intervals_are_held_to_etcds_relations() {
        for (flags, text) in [
            (
                ["--heartbeat-interval=100", "--election-timeout=499"],
                "--election-timeout[499ms] should be at least as 5 times as \
                 --heartbeat-interval[100ms]",
            ),
            (
                ["--heartbeat-interval=0", "--election-timeout=1000"],
                "--heartbeat-interval must be >0 (set to 0ms)",
            ),
            (
                ["--heartbeat-interval=10", "--election-timeout=-1"],
                "--election-timeout must be >0 (set to -1ms)",
            ),
            (
                ["--heartbeat-interval=10", "--election-timeout=50001"],
                "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
            ),
        ] {
            assert_eq!(refusal(&flags), text);
        }
        settings(&["--heartbeat-interval=10", "--election-timeout=100"]).unwrap();
    }

    #[test]
    fn the_initial_cluster_is_read_only_when_it_is_asked_for() {
        let two = "--initial-cluster=m=http://localhost:2380,n=http://localhost:2381";
        let found = settings(&["--name=m", two]).unwrap();
        assert_eq!(found.initial_cluster().unwrap().count(), 2);
        assert_eq!(found.cluster_state, ClusterState::New);
        // A restart does not care what is in it.
        let odd = settings(&["--name=m", "--initial-cluster=n=nonsense"]).unwrap();
        assert!(odd.initial_cluster().is_err());
        let alone = settings(&["--name=m"]).unwrap().initial_cluster().unwrap();
        assert_eq!(alone.to_string(), "m=http://localhost:2380");
        let state = "--initial-cluster-state=old";
        let error = settings(&[state]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            error.to_string(),
            "invalid value \"old\" for flag -initial-cluster-state: invalid value"
        );
    }

    #[test]
    fn test_flags_say_that_they_are_there() {
        assert_eq!(settings(&[]).unwrap().wal_faults, None);
        let set =
            settings(&["--test-wal-sync-delay-ms=15", "--test-wal-hang-file=/tmp/h"]).unwrap();
        let faults = set.wal_faults.unwrap();
        assert_eq!(faults.sync_delay, Duration::from_millis(15));
        assert_eq!(faults.hang_file, Some(PathBuf::from("/tmp/h")));
        assert!(set.warnings[0].contains("test flags"), "{:?}", set.warnings);
    }

    #[test]
    fn flags_of_membership_reach_the_member() {
        let defaults = settings(&[]).unwrap();
        assert!(defaults.is_strict_reconfig && defaults.is_pre_vote);
        assert!(!defaults.is_force_new_cluster);
        let flags = ["--strict-reconfig-check=false", "--pre-vote=false", "--force-new-cluster"];
        let set = settings(&flags).unwrap();
        assert!(!set.is_strict_reconfig && !set.is_pre_vote);
        assert!(set.is_force_new_cluster);
        assert!(set.warnings.is_empty(), "{:?}", set.warnings);
    }

    #[test]
    fn the_log_is_bounded_unless_all_of_it_is_asked_for() {
        assert!(!settings(&[]).unwrap().is_log_retained);
        assert!(!settings(&["--log-retention=bounded"]).unwrap().is_log_retained);
        assert!(settings(&["--log-retention=all"]).unwrap().is_log_retained);
        let refused = settings(&["--log-retention=some"]).unwrap_err();
        assert!(refused.to_string().contains("must be one of bounded, all"), "{refused}");
    }

    #[test]
    fn retention_is_hours_a_duration_or_revisions() {
        let of = |arguments: &[&str]| settings(arguments).map(|found| found.auto_compaction);
        let retention = |text: &str| format!("--auto-compaction-retention={text}");
        assert_eq!(
            of(&[&retention("2")]),
            Ok(AutoCompaction::Periodic { retention_us: 7_200_000_000 })
        );
        assert_eq!(
            of(&[&retention("10m")]),
            Ok(AutoCompaction::Periodic { retention_us: 600_000_000 })
        );
        assert_eq!(
            of(&["--auto-compaction-mode=revision", &retention("1000")]),
            Ok(AutoCompaction::Revision { retention: 1000 })
        );
        assert!(of(&["--auto-compaction-mode=revision", &retention("5m")]).is_err());
        assert!(of(&["--auto-compaction-mode=hourly"]).is_err());
    }

    #[test]
    fn listening_where_told_needs_an_address_to_publish() {
        let text = refusal(&["--listen-client-urls=http://0.0.0.0:2379"]);
        assert!(text.contains("--advertise-client-urls is required"), "{text}");
    }
}
