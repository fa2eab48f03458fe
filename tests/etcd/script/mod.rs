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

use tests::process::{Member, Program};

pub use parse::{Item, Script, Step};
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

async fn run_script(script: &mut Script, program: &Program) -> Vec<String> {
    let flags: Vec<String> = script.flags.clone();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut member = Member::start(program, &flags);
    let mut runner = Runner::connect(&member).await;
    let mut differences = Vec::new();
    let mut case = String::new();
    let mut is_lost = false;
    for item in &mut script.items {
        match item {
            Item::Text(_) => {}
            Item::Case { name, is_absolute } => {
                case.clone_from(name);
                if is_lost {
                    member = Member::start(program, &flags);
                    runner = Runner::connect(&member).await;
                    is_lost = false;
                }
                if !*is_absolute {
                    runner.begin().await;
                }
            }
            Item::Step(step) if !is_lost => {
                let answer = runner.run(&step.command).await;
                let expected = step.expected(program);
                if *expected != answer {
                    let found = format!("case {case}, {}", step.difference(expected, &answer));
                    differences.push(found);
                }
                step.recorded = answer;
                if !member.is_running() {
                    let log = member.log().tail(12);
                    differences.push(format!("case {case}: the process ended:\n{log}"));
                    is_lost = true;
                }
            }
            Item::Step(_) => {}
        }
    }
    differences
}
