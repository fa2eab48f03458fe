//! etcd's own command line tool against either program: what it prints is compared word by word.
//!
//! The scripts are those of [`crate::script`], with commands of etcdctl for calls: `ctl get a`, and
//! `ctl/4 watch a` for one that has to be ended after its fourth line. Lines that continue a command
//! are its standard input (`~` is an empty one). `$lease` is the last lease id that was printed, `$member` the member's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ::tests::process::{Cluster, LogCapture, Member, Program, find_on_path};

use crate::client::Client;
use crate::print::without_ports;
use crate::read::id;
use crate::script::{Script, Step, conclude, script_path};

/// etcdctl of a release: `3.4` is what Debian installs, `3.7` is named by the environment.
pub fn etcdctl_binary(release: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CORESTONE_TEST_ETCDCTL").map(PathBuf::from);
    let candidates = [named, find_on_path("etcdctl")];
    let wanted = format!("etcdctl version: {release}.");
    candidates.into_iter().flatten().find(|path| {
        let output = Command::new(path).arg("version").env("ETCDCTL_API", "3").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&wanted))
    })
}

/// Runs the release's script against a fresh member of `program`.
///
/// # Panics
/// With all differences, when there are any.
pub fn check(release: &str, program: &Program) {
    let Some(tool) = etcdctl_binary(release) else {
        println!("skipped: no etcdctl {release} on the path, nor in CORESTONE_TEST_ETCDCTL");
        return;
    };
    let name = format!("etcdctl-{release}");
    let text = std::fs::read_to_string(script_path(&name)).unwrap();
    let mut script = Script::parse(&text);
    let member = Member::start(program, &[]);
    let differences = run_script(&mut script, &mut Shell::new(tool, &member), program);
    conclude(&name, program, &script, &differences);
}

/// Runs the release's script through each of three members, each of a fresh cluster; what it prints
/// about members is left out.
///
/// # Panics
/// With all differences, when there are any.
pub fn check_each_of_three(release: &str, program: &Program) {
    let Some(tool) = etcdctl_binary(release) else {
        println!("skipped: no etcdctl {release} on the path, nor in CORESTONE_TEST_ETCDCTL");
        return;
    };
    let name = format!("etcdctl-{release}");
    let text = std::fs::read_to_string(script_path(&name)).unwrap();
    let mut script = Script::parse(&text);
    script.leave_out(&["the member"]);
    let mut differences = Vec::new();
    for number in 0..3 {
        let cluster = Cluster::start(program, 3, &[]);
        let mut shell = Shell::new(tool.clone(), &cluster.members()[number]);
        let found = run_script(&mut script, &mut shell, program);
        differences
            .extend(found.into_iter().map(|text| format!("through member {number}: {text}")));
    }
    conclude(&name, program, &script, &differences);
}

fn run_script(script: &mut Script, shell: &mut Shell, program: &Program) -> Vec<String> {
    let mut differences = Vec::new();
    for case in script.cases_mut() {
        for step in case.steps {
            let answer = shell.run(step);
            let expected = step.expected(program);
            if *expected != answer {
                let found = format!("case {}, {}", case.name, step.difference(expected, &answer));
                differences.push(found);
            }
            step.recorded = answer;
        }
    }
    differences
}

struct Shell {
    tool: PathBuf,
    endpoint: String,
    /// In hexadecimal, as the tool prints them.
    member_id: String,
    cluster_id: String,
    lease_id: String,
}

impl Shell {
    fn new(tool: PathBuf, member: &Member) -> Shell {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = member.client_url();
        let status = runtime.block_on(async {
            Client::connect(&endpoint).await.ask("Maintenance.Status", "").await.unwrap()
        });
        let hexadecimal = |path: &str| format!("{:x}", id(&status, path));
        Shell {
            tool,
            endpoint,
            member_id: hexadecimal("header.member_id"),
            cluster_id: hexadecimal("header.cluster_id"),
            lease_id: String::new(),
        }
    }

    fn run(&mut self, step: &Step) -> Vec<String> {
        let mut source = step.source();
        let command = source.next().unwrap();
        let input: String =
            source.map(|line| format!("{}\n", line.trim_start_matches('~'))).collect();
        let (word, arguments) = command.split_once(' ').unwrap();
        let lines_wanted = word.split_once('/').map(|(_, count)| count.parse().unwrap());
        let arguments =
            arguments.replace("$lease", &self.lease_id).replace("$member", &self.member_id);
        let lines = run(&self.tool, &self.endpoint, &arguments, &input, lines_wanted);
        lines.iter().map(|line| self.normalised(&arguments, line)).collect()
    }

    /// A line of output without what no two runs have in common.
    fn normalised(&mut self, arguments: &str, line: &str) -> String {
        let line = without_ports(line)
            .replace(&self.member_id, "MEMBER")
            .replace(&self.cluster_id, "CLUSTER")
            .replace(&decimal(&self.member_id), "MEMBER")
            .replace(&decimal(&self.cluster_id), "CLUSTER");
        // Times, which differ, stand at the end.
        for until in ["took = ", " took ", " took: "] {
            if let Some((before, _)) = line.split_once(until) {
                return before.trim_end().to_owned();
            }
        }
        if arguments.starts_with("endpoint status") || arguments.starts_with("endpoint hashkv") {
            return measured_columns(&line);
        }
        let mut line = line;
        for measure in ["\"RaftTerm\" : ", "\"raft_term\":"] {
            line = without_number(&line, measure);
        }
        if !line.ends_with(" 0") {
            line = without_number(&line, "\"Lease\" : ");
        }
        self.without_lease_ids(&line)
    }

    fn without_lease_ids(&mut self, line: &str) -> String {
        let is_lease = |word: &str| {
            (15..=16).contains(&word.len()) && word.chars().all(|letter| letter.is_ascii_hexdigit())
        };
        let mut words = Vec::new();
        for word in line.split(' ') {
            if is_lease(word) {
                self.lease_id = word.to_owned();
                words.push("LEASE");
            } else if word.starts_with("remaining(") {
                words.push("remaining(some),");
            } else {
                words.push(word);
            }
        }
        words.join(" ").trim_end().to_owned()
    }
}

/// What a command prints, then what it complains of, then how it ended if it failed; of a command
/// that does not end by itself, its first lines.
fn run(
    tool: &Path,
    endpoint: &str,
    arguments: &str,
    input: &str,
    lines_wanted: Option<usize>,
) -> Vec<String> {
    let mut child = Command::new(tool)
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoint}"))
        .args(words(arguments))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = LogCapture::start(child.stdout.take().unwrap());
    let complaints = LogCapture::start(child.stderr.take().unwrap());
    // Dropped at once: the end of the input. A tool that failed early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let mut lines = output.wait_for_count(lines_wanted.unwrap_or(usize::MAX), PATIENCE);
    if lines_wanted.is_some() {
        child.kill().unwrap();
        child.wait().unwrap();
        return lines;
    }
    // Both pipes are closed when it has ended; if it has not, it is told to.
    let complaints = complaints.wait_for_count(usize::MAX, PATIENCE);
    // Lines in braces are its log.
    lines.extend(complaints.into_iter().filter(|line| !line.starts_with('{')));
    let _ = child.kill();
    let status = child.wait().unwrap();
    if !status.success() {
        lines.push(format!("exit {}", status.code().unwrap_or(-1)));
    }
    lines
}

/// Words between spaces; `''` is an empty one.
fn words(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split(' ').map(|word| if word == "''" { "" } else { word })
}

/// The number after `label` as a word.
fn without_number(line: &str, label: &str) -> String {
    let Some((before, after)) = line.split_once(label) else { return line.to_owned() };
    let rest = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
    format!("{before}{label}some{rest}")
}

fn decimal(hexadecimal: &str) -> String {
    u64::from_str_radix(hexadecimal, 16).unwrap().to_string()
}

/// Columns whose values are sizes, versions, terms and hashes: whether they are there.
fn measured_columns(line: &str) -> String {
    let keep = |column: &&str| {
        ["", "true", "false", "MEMBER", "CLUSTER"].contains(column) || column.contains("127.0.0.1")
    };
    let columns = line.split(", ");
    let columns: Vec<&str> =
        columns.map(|column| if keep(&column) { column } else { "some" }).collect();
    columns.join(", ")
}

/// For a command that shows what happens.
const PATIENCE: Duration = Duration::from_secs(15);
