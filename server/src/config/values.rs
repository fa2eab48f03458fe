//! From the world to one value a flag: command line over environment over default, or a
//! configuration file alone.
//!
//! Invariant: every key of the result is a flag of the table. The command line is read as Go's flag
//! package reads it: one dash or two, `-name=x` or `-name x`, a switch alone is true, the last of
//! several wins.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command, builder::Str};

use super::{
    ConfigError,
    flags::{self, ALIASES, FLAGS, Form, HIDDEN_PREFIX},
};

/// Who set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--flag`.
    CommandLine,
    /// `ETCD_FLAG`.
    Environment,
    /// A key of the configuration file.
    File,
}

/// What was set, and the warnings that reading it drew.
#[derive(Debug, Default)]
pub struct Values {
    set: BTreeMap<&'static str, (String, Origin)>,
    /// Gates named by old switches or by `--feature-gates`.
    pub gates: Vec<(String, bool)>,
    /// One line each, for the log.
    pub warnings: Vec<String>,
}

impl Values {
    /// The value of a flag, its default when it is not set.
    pub fn text(&self, name: &str) -> &str {
        let flag = flags::find(name).expect("only flags of the table are asked for");
        self.set.get(flag.name).map_or(flag.default, |(value, _)| value.as_str())
    }

    /// Whether anything set the flag.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// What is set, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, Origin)> {
        self.set.iter().map(|(name, (value, origin))| (*name, value.as_str(), *origin))
    }

    /// Takes one value; a value that is already there wins when it has a higher origin.
    fn put(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let target = ALIASES.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
        if let Some(gate) = target.strip_prefix("feature-gates:") {
            self.gates.push((gate.to_owned(), parse_switch(name, value)?));
            return Ok(());
        }
        let Some(flag) = flags::find(target) else {
            return Err(ConfigError::Usage(format!("flag provided but not defined: -{name}")));
        };
        if flag.form == Form::Switch {
            parse_switch(name, value)?;
        }
        if origin == Origin::Environment && self.set.contains_key(flag.name) {
            return Ok(());
        }
        self.set.insert(flag.name, (value.to_owned(), origin));
        Ok(())
    }
}

/// What the command line asks for besides running.
#[derive(Debug)]
pub enum Asked {
    /// Run with these values.
    Run(Values),
    /// `--version`.
    Version,
    /// `--help`, rendered.
    Help(String),
}

/// Reads arguments (without the program's name) and the environment.
pub fn read(arguments: &[String], environment: &[(String, String)]) -> Result<Asked, ConfigError> {
    let matches = match command().try_get_matches_from(doubled_dashes(arguments)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            return Ok(Asked::Help(error.render().to_string()));
        }
        Err(error) => return Err(ConfigError::Usage(error.render().to_string())),
    };
    if matches.get_flag("version") {
        return Ok(Asked::Version);
    }
    let file = matches.get_one::<String>("config-file").cloned().or_else(|| {
        environment.iter().find(|(key, _)| key == "ETCD_CONFIG_FILE").map(|(_, v)| v.clone())
    });
    let mut values = Values::default();
    if let Some(path) = file.filter(|path| !path.is_empty()) {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            ConfigError::Invalid(format!("cannot read the configuration file {path}: {error}"))
        })?;
        read_file(&mut values, &text)?;
        if !arguments.is_empty() {
            values.warnings.push(format!(
                "configuration file {path} is used: flags and environment are ignored"
            ));
        }
        return Ok(Asked::Run(values));
    }
    for name in all_names() {
        if let Some(value) = matches.get_one::<String>(name) {
            values.put(name, value, Origin::CommandLine)?;
        }
    }
    read_environment(&mut values, environment)?;
    Ok(Asked::Run(values))
}

fn all_names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|flag| flag.name).chain(ALIASES.iter().map(|(old, _)| *old))
}

/// Go's flag package takes `-name` and `--name` alike; clap only the latter.
fn doubled_dashes(arguments: &[String]) -> Vec<String> {
    let mut out = vec!["corestone".to_owned()];
    let mut value_follows = false;
    for argument in arguments {
        let name = argument.trim_start_matches('-');
        let dashes = argument.len() - name.len();
        if value_follows || dashes == 0 || 2 < dashes || name.is_empty() {
            out.push(argument.clone());
            value_follows = false;
            continue;
        }
        let is_switch = is_switch(name);
        value_follows = !name.contains('=') && !is_switch;
        out.push(format!("--{name}"));
    }
    out
}

fn is_switch(name: &str) -> bool {
    let old_gate = ALIASES.iter().any(|(old, new)| *old == name && new.starts_with("feature-"));
    let target = ALIASES.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
    old_gate
        || matches!(name, "version" | "help" | "h")
        || flags::find(target).is_some_and(|flag| flag.form == Form::Switch)
}

fn command() -> Command {
    let mut command = Command::new("corestone")
        .about("A key-value store for distributed systems that speaks the etcd v3 API")
        .disable_version_flag(true)
        .args_override_self(true)
        .max_term_width(100)
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Print it."))
        .arg(Arg::new("config-file").long("config-file").help("YAML; all else is then ignored."));
    for flag in FLAGS {
        let help = if flag.default.is_empty() {
            flag.help.to_owned()
        } else {
            format!("{} [{}]", flag.help, flag.default)
        };
        let argument = argument(flag.name, flag.form == Form::Switch).help(help);
        command = command.arg(argument.hide(flag.name.starts_with(HIDDEN_PREFIX)));
    }
    for (old, new) in ALIASES {
        let is_switch = is_switch(old) || new.starts_with("feature-gates:");
        command = command.arg(argument(old, is_switch).hide(true));
    }
    command
}

fn argument(name: &'static str, is_switch: bool) -> Arg {
    let base = Arg::new(Str::from(name)).long(name).value_name("VALUE");
    if is_switch {
        base.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        base.num_args(1).allow_hyphen_values(true)
    }
}

fn read_environment(
    values: &mut Values,
    environment: &[(String, String)],
) -> Result<(), ConfigError> {
    for (key, value) in environment {
        let Some(rest) = key.strip_prefix("ETCD_") else { continue };
        let name = rest.to_ascii_lowercase().replace('_', "-");
        if matches!(name.as_str(), "config-file" | "unsupported-arch" | "version") {
            continue;
        }
        if !all_names().any(|known| known == name) {
            values.warnings.push(format!("unrecognized environment variable {key}={value}"));
        } else if values.is_set(&name) {
            values.warnings.push(format!(
                "recognized environment variable {key} is shadowed by the flag --{name}"
            ));
        } else if !value.is_empty() {
            values.put(&name, value, Origin::Environment)?;
        }
    }
    Ok(())
}

/// Sections of the configuration file and what their keys are called as flags.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("allowed-hostnames", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("allowed-hostnames", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    (
        "socket-options",
        &[("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")],
    ),
];

fn read_file(values: &mut Values, text: &str) -> Result<(), ConfigError> {
    let invalid = |reason: String| ConfigError::Invalid(format!("configuration file: {reason}"));
    let document: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let mapping = match document {
        serde_yaml_ng::Value::Null => return Ok(()),
        serde_yaml_ng::Value::Mapping(mapping) => mapping,
        _ => return Err(invalid("it is not a mapping of keys to values".to_owned())),
    };
    for (key, value) in &mapping {
        let Some(key) = key.as_str() else {
            return Err(invalid("a key is not text".to_owned()));
        };
        if let Some((_, keys)) = SECTIONS.iter().find(|(section, _)| *section == key) {
            read_section(values, key, keys, value)?;
        } else if key == "discovery-config" {
            if !is_void(value) {
                return Err(ConfigError::refused("discovery-config", "set"));
            }
        } else if flags::find(key).is_some() {
            read_key(values, key, value)?;
        } else {
            values.warnings.push(format!("unknown key {key:?} of the configuration file"));
        }
    }
    Ok(())
}

fn read_section(
    values: &mut Values,
    section: &str,
    keys: &[(&str, &str)],
    value: &serde_yaml_ng::Value,
) -> Result<(), ConfigError> {
    let Some(mapping) = value.as_mapping() else {
        return if value.is_null() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(format!("configuration file: {section} is not a mapping")))
        };
    };
    for (key, value) in mapping {
        let key = key.as_str().unwrap_or_default();
        match keys.iter().find(|(known, _)| *known == key) {
            Some((_, name)) => read_key(values, name, value)?,
            // What a section on security does not let us understand, it may have promised.
            None if section != "socket-options" && !is_void(value) => {
                return Err(ConfigError::refused(&format!("{section}.{key}"), "set"));
            }
            None => values.warnings.push(format!("unknown key {section}.{key}")),
        }
    }
    Ok(())
}

fn is_void(value: &serde_yaml_ng::Value) -> bool {
    use serde_yaml_ng::Value;
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Sequence(list) => list.is_empty(),
        Value::Mapping(map) => map.values().all(is_void),
        _ => false,
    }
}

fn read_key(
    values: &mut Values,
    name: &str,
    value: &serde_yaml_ng::Value,
) -> Result<(), ConfigError> {
    use serde_yaml_ng::Value;
    let is_duration = flags::find(name).is_some_and(|flag| flag.form == Form::Duration);
    let text = match value {
        Value::Null => return Ok(()),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) if is_duration => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Sequence(list) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        _ => {
            return Err(ConfigError::Invalid(format!(
                "configuration file: {name} has a value of an unknown kind"
            )));
        }
    };
    values.put(name, &text, Origin::File)
}

/// A truth value as Go's strconv.ParseBool takes it.
pub fn parse_switch(name: &str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ConfigError::Usage(format!("invalid boolean value {value:?} for -{name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Values, ConfigError> {
        let arguments: Vec<_> = arguments.iter().map(|s| (*s).to_owned()).collect();
        let environment: Vec<_> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match read(&arguments, &environment)? {
            Asked::Run(values) => Ok(values),
            other => panic!("asked for {other:?}"),
        }
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let values = run(
            &[
                "-name",
                "one",
                "--data-dir=/d",
                "--pre-vote=false",
                "-socket-reuse-port",
                "--quota-backend-bytes",
                "-1",
                "--name",
                "two",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(values.text("name"), "two");
        assert_eq!(values.text("data-dir"), "/d");
        assert_eq!(values.text("pre-vote"), "false");
        assert_eq!(values.text("socket-reuse-port"), "true");
        assert_eq!(values.text("quota-backend-bytes"), "-1");
        assert_eq!(values.text("election-timeout"), "1000");
    }

    #[test]
    fn a_flag_beats_the_environment_and_strangers_are_named() {
        let values = run(
            &["--name=flag"],
            &[
                ("ETCD_NAME", "env"),
                ("ETCD_DATA_DIR", "/env"),
                ("ETCD_NONSENSE", "1"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(values.text("name"), "flag");
        assert_eq!(values.text("data-dir"), "/env");
        assert_eq!(values.warnings.len(), 2, "{:?}", values.warnings);
        assert!(values.warnings.iter().any(|line| line.contains("ETCD_NONSENSE=1")));
    }

    #[test]
    fn an_unknown_flag_is_a_usage_error_with_a_suggestion() {
        let error = run(&["--listen-client-url=http://x"], &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("listen-client-urls"), "{error}");
        assert_eq!(run(&["--pre-vote=maybe"], &[]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_configuration_file_stands_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etcd.yaml");
        let text = "name: 'filed'\ndata-dir:\nsnapshot-count: 10000\nlog-outputs: [stderr]\n\
                    watch-progress-notify-interval: 5000000000\nproxy: 'off'\n\
                    client-transport-security:\n  cert-file:\n  client-cert-auth: false\n";
        std::fs::write(&path, text).unwrap();
        let values = run(&["--name=flag", "--config-file", path.to_str().unwrap()], &[]).unwrap();
        assert_eq!(values.text("name"), "filed");
        assert_eq!(values.text("watch-progress-notify-interval"), "5000000000ns");
        assert_eq!(values.text("log-outputs"), "stderr");
        assert!(!values.is_set("data-dir"));
        assert!(values.warnings.iter().any(|line| line.contains("\"proxy\"")));
    }

    #[test]
    fn an_unknown_key_of_a_security_section_is_refused() {
        let mut values = Values::default();
        let text = "peer-transport-security:\n  new-promise: true\n";
        let error = read_file(&mut values, text).unwrap_err();
        assert!(error.to_string().contains("peer-transport-security.new-promise"), "{error}");
    }

    #[test]
    fn old_spellings_are_understood() {
        let values = run(
            &[
                "--experimental-watch-progress-notify-interval=5s",
                "--experimental-initial-corrupt-check=true",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(values.text("watch-progress-notify-interval"), "5s");
        assert_eq!(values.gates, [("InitialCorruptCheck".to_owned(), true)]);
    }

    #[test]
    fn version_and_help_are_asked_for() {
        let ask = |flag: &str| read(&[flag.to_owned()], &[]).unwrap();
        assert!(matches!(ask("-version"), Asked::Version));
        let Asked::Help(text) = ask("--help") else { panic!("asked for help") };
        assert!(text.contains("--data-dir") && !text.contains("--test-"), "{text}");
    }
}
