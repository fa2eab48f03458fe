//! Scripts: requests as text with the answers the real etcd gives to them, put to either program.
//!
//! ```text
//! == name of a case                 every key and lease is removed first; revisions count from here
//! KV.Put key: "a" value: "1"        one call; lines that begin with two spaces continue it
//! < header: +1                      what etcd answered, recorded
//! ! why corestone answers otherwise on purpose
//! !< header: +1                     and what it answers
//! ```
//!
//! Calls on streams: `open NAME Watch.Watch`, `send NAME ...`, `receive NAME`, `events NAME COUNT`,
//! `progress NAME`, `half-close NAME`, `end NAME`, `drop NAME`. Over HTTP/1.1: `http POST /path body`. A call may begin with
//! `with name=value`, which is metadata. In requests `$+3` is the third revision of the case,
//! `$member` the member's id, `$x(5)` five letters, and `@3{... % ...}` three copies with numbers.
//!
//! `UPDATE=1 CORESTONE_TEST_ETCD=path cargo test -p tests --test etcd real_etcd` records anew. Only
//! commit the change if you understand what caused it.

mod expand;
mod http;
mod parse;
mod run;

use std::path::PathBuf;

use tests::process::{Cluster, Member, Program};

pub use parse::{Case, Script, Step};
pub use run::Runner;

/// Where a script lies.
pub fn script_path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/etcd/scripts")).join(format!("{name}.txt"))
}

/// Puts the script to a fresh member of `program` and compares every answer.
///
/// # Panics
/// With all differences, when there are any.
pub fn check(name: &str, program: &Program) {
    let text = std::fs::read_to_string(script_path(name)).unwrap();
    let mut script = Script::parse(&text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let differences = runtime.block_on(run_script(&mut script, program));
    runtime.shutdown_background();
    conclude(name, program, &script, &differences);
}

/// Writes the answers into the script where that was asked for, or fails when any differed.
///
/// # Panics
/// With all differences, when there are any.
pub fn conclude(name: &str, program: &Program, script: &Script, differences: &[String]) {
    let path = script_path(name);
    if matches!(program, Program::Etcd(_)) && std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, script.text()).unwrap();
        return;
    }
    assert!(
        differences.is_empty(),
        "{} answers of {program:?} differ from {}:\n{}",
        differences.len(),
        path.display(),
        differences.join("\n")
    );
}

/// Puts the script to each of three members in turn and compares every answer. Left out is what one
/// member alone can answer: cases for a fresh store, and those of `skipped`.
///
/// # Panics
/// With all differences, when there are any.
pub fn check_each_of_three(name: &str, program: &Program, skipped: &[&str]) {
    let text = std::fs::read_to_string(script_path(name)).unwrap();
    let mut script = Script::parse(&text);
    script.leave_out(skipped);
    let flags: Vec<&str> = script.flags.iter().map(String::as_str).collect();
    let mut cluster = Cluster::start(program, 3, &flags);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut differences = Vec::new();
    for number in 0..cluster.size() {
        let found = runtime.block_on(async {
            let mut runner = Runner::connect(&cluster.members()[number], true).await;
            let mut found = Vec::new();
            for case in script.cases_mut() {
                runner.begin().await;
                found.extend(run_case(case, &mut runner, cluster.member(number), program).await);
            }
            found
        });
        differences
            .extend(found.into_iter().map(|text| format!("through member {number}: {text}")));
    }
    runtime.shutdown_background();
    conclude(name, program, &script, &differences);
}

async fn run_script(script: &mut Script, program: &Program) -> Vec<String> {
    let flags: Vec<String> = script.flags.clone();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut member = Member::start(program, &flags);
    let mut runner = Runner::connect(&member, false).await;
    let mut differences = Vec::new();
    for case in script.cases_mut() {
        if !member.is_running() {
            member = Member::start(program, &flags);
            runner = Runner::connect(&member, false).await;
        }
        if !case.is_absolute {
            runner.begin().await;
        }
        differences.extend(run_case(case, &mut runner, &mut member, program).await);
    }
    differences
}

/// The steps of one case, to its end or to that of the process.
async fn run_case(
    case: Case<'_>,
    runner: &mut Runner,
    member: &mut Member,
    program: &Program,
) -> Vec<String> {
    let mut differences = Vec::new();
    for step in case.steps {
        let answer = runner.run(&step.command).await;
        let expected = step.expected(program);
        if *expected != answer {
            differences.push(format!("case {}, {}", case.name, step.difference(expected, &answer)));
        }
        step.recorded = answer;
        if !member.is_running() {
            let log = member.log().tail(12);
            differences.push(format!("case {}: the process ended:\n{log}", case.name));
            break;
        }
    }
    differences
}
