//! `mutants`: shows that seeds of the simulator catch every mutant of the list.
//!
//!     cargo run -p tests --bin mutants -- [--seeds N] [--control N] [--only WORDS]
//!         [--threads T] [--list]
//!
//! The sources are copied beside the build, every mutant goes into the copy behind a switch, and
//! one build of the simulator runs each. A mutant that N seeds (default 1000) do not catch, or
//! whose place is gone, ends the program with status 1, and so does a seed that complains with none
//! switched on (the control, 20 seeds of each size of cluster unless told otherwise).

mod list;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use list::{Edit, all};

/// The crates that mutants live in.
const CRATES: [&str; 4] = ["raft", "engine", "net", "shard"];
/// The switch, as each of them gets it.
const SWITCH: &str = r#"
#[allow(missing_docs, clippy::all)]
pub(crate) mod mutant {
    static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    pub(crate) fn is(number: usize) -> bool {
        let read = || std::env::var("SIM_MUTANT").ok().and_then(|text| text.parse().ok());
        *ON.get_or_init(|| read().unwrap_or(usize::MAX)) == number
    }
}
"#;

struct Options {
    seeds: u64,
    control_seeds: u64,
    only: Option<String>,
    threads: Option<String>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => return fail(&message),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let place = target.join("mutants");
    match plant(root, &place.join("tree")).and_then(|()| build(&place)) {
        Ok(simulator) => run_all(&simulator, &options),
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { seeds: 1_000, control_seeds: 20, only: None, threads: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--seeds" => options.seeds = number(value()?)?,
            "--control" => options.control_seeds = number(value()?)?,
            "--threads" => options.threads = Some(value()?),
            "--only" => options.only = Some(value()?),
            "--list" => {
                for (number, mutant) in all().into_iter().enumerate() {
                    let list::Mutant { name, rule, members, focus, .. } = mutant;
                    println!("{number} | {name} | {members} | {focus} | {rule}");
                }
                return Ok(None);
            }
            other => return Err(format!("{other} is not known; see the head of the file")),
        }
    }
    Ok(Some(options))
}

/// Copies the sources and puts every mutant into the copy.
fn plant(root: &Path, tree: &Path) -> Result<(), String> {
    let told = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.map_err(|error| told("git ls-files", error))?.stdout;
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).map_err(|_| "a file's name is no text")?;
        let mut bytes = std::fs::read(root.join(name)).map_err(|error| told(name, error))?;
        if let Some(mutated) = mutate(name, &bytes)? {
            bytes = mutated;
        }
        let copy = tree.join(name);
        // Files that did not change keep their times: the next build is short.
        if std::fs::read(&copy).is_ok_and(|old| old == bytes) {
            continue;
        }
        let folder = copy.parent().expect("it lies in the tree");
        std::fs::create_dir_all(folder).map_err(|error| told(name, error))?;
        std::fs::write(&copy, bytes).map_err(|error| told(name, error))?;
    }
    let is_listed = |path: &Path| {
        let name = path.strip_prefix(tree).expect("it was found there").as_os_str();
        listed.split(|byte| *byte == 0).any(|listed| listed == name.as_encoded_bytes())
    };
    remove_unlisted(tree, &is_listed).map_err(|error| told("an earlier copy", error))
}

/// What an earlier copy had and the sources have no more would be built as well.
fn remove_unlisted(folder: &Path, is_listed: &dyn Fn(&Path) -> bool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_unlisted(&entry.path(), is_listed)?;
        } else if !is_listed(&entry.path()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The text of a file with its mutants in it; `None` if it has none.
fn mutate(name: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let is_switch = CRATES.iter().any(|package| name == format!("{package}/src/lib.rs"));
    let mutants = all();
    let edits_of = |(number, mutant): (usize, &&'static list::Mutant)| {
        let mutant = *mutant;
        mutant.edits.iter().map(move |edit: &Edit| (number, mutant.name, edit))
    };
    let edits = mutants.iter().enumerate().flat_map(edits_of);
    let mut here = edits.filter(|(_, _, edit)| edit.file == name).peekable();
    if here.peek().is_none() && !is_switch {
        return Ok(None);
    }
    let mut text = String::from_utf8(bytes.to_vec()).map_err(|_| format!("{name} is no text"))?;
    for (number, mutant, edit) in here {
        let places = text.matches(edit.find).count();
        if places != 1 {
            let find = edit.find;
            return Err(format!("\"{mutant}\": {places} times in {name}, not once: {find}"));
        }
        let switch = format!("crate::mutant::is({number})");
        text = text.replacen(edit.find, &edit.becomes.replace("IS", &switch), 1);
    }
    if is_switch {
        text.push_str(SWITCH);
    }
    Ok(Some(text.into_bytes()))
}

/// Builds the copy as what is shipped is built, but in less time.
fn build(place: &Path) -> Result<PathBuf, String> {
    let built = Command::new("cargo")
        .args(["build", "--release", "-p", "tests", "--bin", "sim", "--quiet"])
        .args(["--config", "profile.release.lto=false"])
        .args(["--config", "profile.release.codegen-units=16"])
        .args(["--config", "profile.release.opt-level=2"])
        .env("CARGO_TARGET_DIR", place.join("build"))
        .env("RUSTFLAGS", "--cap-lints allow")
        .current_dir(place.join("tree"))
        .status();
    match built {
        Ok(status) if status.success() => Ok(place.join("build/release/sim")),
        Ok(status) => Err(format!("the build of the mutants failed: {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

fn run_all(simulator: &Path, options: &Options) -> ExitCode {
    let sizes: &[usize] = if options.control_seeds == 0 { &[] } else { &[1, 3, 5] };
    let focuses = ["swarm", "duels", "power", "leases", "watches", "rot", "disk", "members"];
    for (members, focus) in sizes.iter().flat_map(|m| focuses.map(|focus| (*m, focus))) {
        let control = run(simulator, None, (members, focus), options.control_seeds, options);
        match control {
            Some(how) => {
                return fail(&format!("without any mutant, {members} members, {focus}: {how}"));
            }
            None => println!("nothing mutated, {members} members, {focus}: all seeds are content"),
        }
    }
    let (mut tried, mut survivors) = (0, 0);
    for (number, mutant) in all().into_iter().enumerate() {
        if options.only.as_ref().is_some_and(|only| !mutant.name.contains(only.as_str())) {
            continue;
        }
        tried += 1;
        let began = Instant::now();
        let how = {
            let cluster = (mutant.members, mutant.focus);
            run(simulator, Some(number), cluster, options.seeds, options)
        };
        let took_s = began.elapsed().as_secs_f64();
        match how {
            Some(how) => println!("caught   | {} | {how} | {took_s:.0} s", mutant.name),
            None => {
                survivors += 1;
                println!("SURVIVED | {} | {} seeds | {took_s:.0} s", mutant.name, options.seeds);
            }
        }
    }
    println!("{tried} mutants, {survivors} survived");
    ExitCode::from(u8::from(0 < survivors))
}

/// How a mutant was caught: the seed and the first line that says so. `None` if all are content.
fn run(
    simulator: &Path,
    mutant: Option<usize>,
    (members, focus): (usize, &str),
    seeds: u64,
    options: &Options,
) -> Option<String> {
    if seeds == 0 {
        return None;
    }
    let mut command = Command::new(simulator);
    command.args(["--seeds", &format!("0..{seeds}"), "--members", &members.to_string()]);
    command.args(["--focus", focus]);
    if let Some(threads) = &options.threads {
        command.args(["--threads", threads]);
    }
    command.env_remove("SIM_MUTANT").stdin(Stdio::null());
    if let Some(number) = mutant {
        command.env("SIM_MUTANT", number.to_string());
    }
    let output = command.output().expect("the simulator was built just now");
    if output.status.success() {
        return None;
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let seed = text.lines().find(|line| line.starts_with("seed ")).unwrap_or_default();
    let seed = seed.split([':', 'p']).next().unwrap_or_default().trim();
    // A complaint comes behind its seed's line and the line of what the seed met.
    let is_telling = |line: &&str| {
        let is_figure = line.starts_with("seed ") || line.contains(" elections, ");
        !line.is_empty() && !line.starts_with("thread") && !is_figure
    };
    let line = text.lines().find(is_telling).unwrap_or("it ended");
    let line: String = line.chars().take(100).collect();
    Some(format!("{seed} | {members} | {focus} | {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mutant_finds_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
        let mutants = all();
        let edits = mutants.iter().flat_map(|mutant| mutant.edits);
        let files: BTreeSet<&str> = edits.map(|edit| edit.file).collect();
        for file in files {
            let text = std::fs::read(root.join(file)).expect(file);
            let mutated = mutate(file, &text).expect("all texts are found once");
            assert!(mutated.expect("it has mutants") != text);
        }
    }

    #[test]
    fn mutants_are_many_differ_and_can_be_switched_off() {
        let mutants = all();
        assert!(40 <= mutants.len(), "issue 5 asks for forty");
        let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), mutants.len());
        for mutant in mutants {
            assert!(!mutant.edits.is_empty() && !mutant.rule.is_empty());
            for edit in mutant.edits {
                assert!(edit.becomes.contains("IS"), "{}", mutant.name);
                assert!(CRATES.iter().any(|package| edit.file.starts_with(package)));
            }
        }
    }
}
