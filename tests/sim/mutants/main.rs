//! `mutants`: shows that seeds of the simulator catch every mutant of the list.
//!
//!     cargo run -p tests --bin mutants -- [--seeds N] [--only WORDS] [--list]
//!
//! The sources are copied beside the build, every mutant goes into the copy behind a switch, and
//! one build of the simulator runs each. A mutant that N seeds (default 1000) do not catch, or
//! whose place is gone, ends the program with status 1, and so does a seed that complains with none
//! switched on.

mod list;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use list::{MUTANTS, Mutant};

/// The crates that mutants live in.
const CRATES: [&str; 4] = ["raft", "engine", "net", "shard"];
/// The switch, as each of them gets it.
const SWITCH: &str = r#"
#[allow(missing_docs, clippy::all)]
pub(crate) mod mutant {
    static ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    pub(crate) fn is(name: &str) -> bool {
        ON.get_or_init(|| std::env::var("SIM_MUTANT").unwrap_or_default()) == name
    }
}
"#;

struct Options {
    seeds: u64,
    only: Option<String>,
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
    let mut options = Options { seeds: 1_000, only: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                options.seeds = text.parse().map_err(|_| format!("{text} is no number"))?;
            }
            "--only" => options.only = Some(value()?),
            "--list" => {
                for mutant in MUTANTS {
                    println!("{} ({} members): {}", mutant.name, mutant.members, mutant.file);
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
    Ok(())
}

fn mutate(name: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let is_switch = CRATES.iter().any(|package| name == format!("{package}/src/lib.rs"));
    let here: Vec<&Mutant> = MUTANTS.iter().filter(|mutant| mutant.file == name).collect();
    if here.is_empty() && !is_switch {
        return Ok(None);
    }
    let mut text = String::from_utf8(bytes.to_vec()).map_err(|_| format!("{name} is no text"))?;
    for mutant in here {
        let places = text.matches(mutant.find).count();
        if places != 1 {
            return Err(format!("\"{}\": its text stands {places} times in {name}", mutant.name));
        }
        let switch = format!("crate::mutant::is(\"{}\")", mutant.name);
        text = text.replacen(mutant.find, &mutant.becomes.replace("IS", &switch), 1);
    }
    if is_switch {
        text.push_str(SWITCH);
    }
    Ok(Some(text.into_bytes()))
}

fn build(place: &Path) -> Result<PathBuf, String> {
    let built = Command::new("cargo")
        .args(["build", "--profile", "test", "-p", "tests", "--bin", "sim", "--quiet"])
        .env("CARGO_TARGET_DIR", place.join("build"))
        .env("RUSTFLAGS", "--cap-lints allow")
        .current_dir(place.join("tree"))
        .status();
    match built {
        Ok(status) if status.success() => Ok(place.join("build/debug/sim")),
        Ok(status) => Err(format!("the build of the mutants failed: {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

fn run_all(simulator: &Path, options: &Options) -> ExitCode {
    let mut survivors = 0;
    for members in [1, 3] {
        if run(simulator, "", members, 20).is_some() {
            return fail("seeds complain without any mutant: nothing can be said of them");
        }
    }
    for mutant in MUTANTS {
        if options.only.as_ref().is_some_and(|only| !mutant.name.contains(only.as_str())) {
            continue;
        }
        match run(simulator, mutant.name, mutant.members, options.seeds) {
            Some(how) => println!("caught   {:55} {how}", mutant.name),
            None => {
                survivors += 1;
                println!("SURVIVED {:55} {} seeds", mutant.name, options.seeds);
            }
        }
    }
    println!("{} mutants, {survivors} survived", MUTANTS.len());
    ExitCode::from(u8::from(0 < survivors))
}

/// How a mutant was caught: the first line that says so. `None` if all seeds are content.
fn run(simulator: &Path, name: &str, members: usize, seeds: u64) -> Option<String> {
    let output = Command::new(simulator)
        .args(["--seeds", &format!("0..{seeds}"), "--members", &members.to_string()])
        .env("SIM_MUTANT", name)
        .stdin(Stdio::null())
        .output()
        .expect("the simulator was built just now");
    if output.status.success() {
        return None;
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_telling = |line: &&str| !line.is_empty() && !line.starts_with("thread");
    let seed = text.lines().find(|line| line.starts_with("seed ")).unwrap_or_default();
    let seed = seed.split([':', 'p']).next().unwrap_or_default();
    let mut lines = text.lines().filter(is_telling).filter(|line| !line.starts_with("seed "));
    let line: String = lines.next().unwrap_or("it ended").chars().take(90).collect();
    Some(format!("{seed}: {line}"))
}
