//! The words of the command line. What etcdctl checks after parsing is checked in `commands`.

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::time::Duration;

/// A command line client, in etcdctl's words.
#[derive(Debug, Parser)]
#[command(name = "corestone ctl", subcommand_required = true, arg_required_else_help = true)]
pub struct CtlArguments {
    /// Addresses of the binary port, separated by commas
    #[arg(long, global = true, value_delimiter = ',', default_value = "127.0.0.1:2378")]
    pub(super) endpoints: Vec<String>,
    /// Output format: simple, json, fields, or table for members and endpoints
    #[arg(long, short = 'w', global = true, default_value = "simple")]
    pub(super) write_out: String,
    /// Print byte strings as hex
    #[arg(long, global = true)]
    pub(super) hex: bool,
    /// How long one attempt to connect may take
    #[arg(long, global = true, default_value = "2s", value_parser = go_duration)]
    pub(super) dial_timeout: Duration,
    /// How long a command may take; a watch or keep-alive goes on
    #[arg(long, global = true, default_value = "5s", value_parser = go_duration)]
    pub(super) command_timeout: Duration,
    /// After how long a silence to ask whether the server is there
    #[arg(long, global = true, default_value = "2s", value_parser = go_duration)]
    pub(super) keepalive_time: Duration,
    /// How long the answer to that may take
    #[arg(long, global = true, default_value = "6s", value_parser = go_duration)]
    pub(super) keepalive_timeout: Duration,
    #[command(subcommand)]
    pub(super) command: CtlCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum CtlCommand {
    /// Puts the given key into the store; without a value, reads it from standard input
    Put(PutArguments),
    /// Gets the key or a range of keys
    Get(GetArguments),
    /// Removes the specified key or range of keys [key, range_end)
    Del(DelArguments),
    /// Processes all the requests read from standard input in one transaction
    Txn(TxnArguments),
    /// Watches events stream on keys or prefixes
    Watch(WatchArguments),
    /// Lease related commands
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Compacts the event history
    #[command(alias = "compact")]
    Compaction(CompactionArguments),
    /// Prints out the status of the endpoints
    Status,
    /// Endpoint related commands
    Endpoint(EndpointArguments),
    /// Membership related commands
    #[command(subcommand)]
    Member(MemberCommand),
    /// Transfers leadership to another member
    MoveLeader {
        /// ID of that member, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct PutArguments {
    /// Key, then value
    #[arg(num_args = 0.., value_name = "KEY VALUE")]
    pub(super) words: Vec<OsString>,
    /// Lease ID (in hexadecimal) to attach to the key
    #[arg(long, default_value = "0")]
    pub(super) lease: String,
    /// Return the previous key-value pair before modification
    #[arg(long)]
    pub(super) prev_kv: bool,
    /// Updates the key using its current value
    #[arg(long)]
    pub(super) ignore_value: bool,
    /// Updates the key using its current lease
    #[arg(long)]
    pub(super) ignore_lease: bool,
}

#[derive(Debug, Args)]
pub(super) struct GetArguments {
    /// Key, then optionally range end
    #[arg(num_args = 0.., value_name = "KEY RANGE_END")]
    pub(super) words: Vec<OsString>,
    /// Linearizable(l) or Serializable(s)
    #[arg(long, default_value = "l")]
    pub(super) consistency: String,
    /// Order of results; ASCEND or DESCEND
    #[arg(long, default_value = "")]
    pub(super) order: String,
    /// Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION
    #[arg(long, default_value = "")]
    pub(super) sort_by: String,
    /// Maximum number of results
    #[arg(long, default_value_t = 0)]
    pub(super) limit: i64,
    /// Get keys with matching prefix
    #[arg(long)]
    pub(super) prefix: bool,
    /// Get keys that are greater than or equal to the given key using byte compare
    #[arg(long)]
    pub(super) from_key: bool,
    /// Specify the kv revision
    #[arg(long, default_value_t = 0)]
    pub(super) rev: i64,
    /// Get only the keys
    #[arg(long)]
    pub(super) keys_only: bool,
    /// Get only the count; for `--write-out=fields`
    #[arg(long)]
    pub(super) count_only: bool,
    /// Only write values when using the "simple" output format
    #[arg(long)]
    pub(super) print_value_only: bool,
    /// Minimum create revision
    #[arg(long, default_value_t = 0)]
    pub(super) min_create_rev: i64,
    /// Maximum create revision
    #[arg(long, default_value_t = 0)]
    pub(super) max_create_rev: i64,
    /// Minimum modification revision
    #[arg(long, default_value_t = 0)]
    pub(super) min_mod_rev: i64,
    /// Maximum modification revision
    #[arg(long, default_value_t = 0)]
    pub(super) max_mod_rev: i64,
}

#[derive(Debug, Args)]
pub(super) struct DelArguments {
    /// Key, then optionally range end
    #[arg(num_args = 0.., value_name = "KEY RANGE_END")]
    pub(super) words: Vec<OsString>,
    /// Delete keys with matching prefix
    #[arg(long)]
    pub(super) prefix: bool,
    /// Delete keys that are greater than or equal to the given key using byte compare
    #[arg(long)]
    pub(super) from_key: bool,
    /// Delete a range of keys; says that a second argument is meant as its end
    #[arg(long)]
    pub(super) range: bool,
    /// Return deleted key-value pairs
    #[arg(long)]
    pub(super) prev_kv: bool,
}

#[derive(Debug, Args)]
pub(super) struct TxnArguments {
    /// Input transaction in interactive mode
    #[arg(long, short = 'i')]
    pub(super) interactive: bool,
}

#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    /// Key, then optionally range end
    #[arg(num_args = 0.., value_name = "KEY RANGE_END")]
    pub(super) words: Vec<OsString>,
    /// Watch on a prefix
    #[arg(long)]
    pub(super) prefix: bool,
    /// Revision to start watching
    #[arg(long, default_value_t = 0)]
    pub(super) rev: i64,
    /// Get the previous key-value pair before the event happens
    #[arg(long)]
    pub(super) prev_kv: bool,
    /// Get periodic watch progress notification from server
    #[arg(long)]
    pub(super) progress_notify: bool,
    /// A command to run for each event
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) exec: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(super) enum LeaseCommand {
    /// Creates leases
    Grant {
        /// Time to live, in seconds
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
    /// Revokes leases
    Revoke {
        /// Lease ID, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
    /// Get lease information
    Timetolive {
        /// Lease ID, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
        /// Get keys attached to this lease
        #[arg(long)]
        keys: bool,
    },
    /// Keeps leases alive (renew)
    KeepAlive {
        /// Lease ID, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
        /// Resets the keep-alive time to its original value and exits immediately
        #[arg(long)]
        once: bool,
    },
    /// List all active leases
    List,
}

#[derive(Debug, Args)]
pub(super) struct CompactionArguments {
    /// The revision
    #[arg(num_args = 0..)]
    pub(super) words: Vec<String>,
    /// Wait for compaction to physically remove all old revisions
    #[arg(long)]
    pub(super) physical: bool,
}

#[derive(Debug, Args)]
pub(super) struct EndpointArguments {
    /// Use all endpoints from the cluster member list
    #[arg(long, global = true)]
    pub(super) cluster: bool,
    #[command(subcommand)]
    pub(super) command: EndpointCommand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum EndpointCommand {
    /// Prints out the status of the endpoints
    Status,
    /// Checks the healthiness of the endpoints
    Health,
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Lists all members in the cluster
    List {
        /// Linearizable(l) or Serializable(s)
        #[arg(long, default_value = "l")]
        consistency: String,
    },
    /// Adds a member into the cluster
    Add {
        /// Its name
        #[arg(num_args = 0..)]
        words: Vec<String>,
        /// Comma separated peer URLs for the new member
        #[arg(long, default_value = "")]
        peer_urls: String,
        /// Indicates if the new member is raft learner
        #[arg(long)]
        learner: bool,
    },
    /// Removes a member from the cluster
    Remove {
        /// Member ID, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
    /// Updates a member in the cluster
    Update {
        /// Member ID, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
        /// Comma separated peer URLs for the updated member
        #[arg(long, default_value = "")]
        peer_urls: String,
    },
    /// Promotes a non-voting member in the cluster
    Promote {
        /// Member ID, in hexadecimal
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
}

/// One line of a transaction's branch: the same words as on the command line.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
pub(super) struct TxnLine {
    #[command(subcommand)]
    pub(super) op: TxnOp,
}

#[derive(Debug, Subcommand)]
pub(super) enum TxnOp {
    Put(PutArguments),
    Get(GetArguments),
    Del(DelArguments),
}

/// A duration as Go writes it, such as `1m30s`, `500ms` or `0`.
fn go_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    if rest == "0" {
        return Ok(sum);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit_size = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit_size] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        sum = sum.checked_add(part).ok_or_else(invalid)?;
        rest = &rest[unit_size..];
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        assert_eq!(go_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(go_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(go_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(go_duration("0"), Ok(Duration::ZERO));
        for text in ["", "5", "s", "1x", "-1s", "1s2"] {
            assert!(go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_stand_before_and_behind_the_command() {
        let words =
            ["ctl", "--endpoints=a:1,b:2", "get", "k", "--prefix", "-w", "json", "--limit=3"];
        let arguments = CtlArguments::try_parse_from(words).unwrap();
        assert_eq!(arguments.endpoints, ["a:1", "b:2"]);
        assert_eq!(arguments.write_out, "json");
        let CtlCommand::Get(get) = arguments.command else { panic!("a get") };
        assert!(get.prefix && get.limit == 3 && get.words == ["k"]);

        let words = ["ctl", "watch", "k", "l", "--rev", "3", "--", "sh", "-c", "env"];
        let arguments = CtlArguments::try_parse_from(words).unwrap();
        let CtlCommand::Watch(watch) = arguments.command else { panic!("a watch") };
        assert_eq!((watch.words.len(), watch.rev, watch.exec.len()), (2, 3, 3));
        assert_eq!(arguments.endpoints, ["127.0.0.1:2378"]);
        assert_eq!(arguments.command_timeout, Duration::from_secs(5));
    }
}
