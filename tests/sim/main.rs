//! `sim`: runs seeds of the simulated cluster, on all cores, until one is wrong or all are done.
//!
//!     cargo run --release -p tests --bin sim -- [--seed N] [--seeds A..B] [--hours H]
//!         [--members M] [--threads T] [--trace none|faults|calls|all]
//!         [--keep-going] [--except CHECK] [--steady]
//!         [--focus swarm|duels|power|leases|watches|rot|disk|members]
//!
//! A seed alone prints its trace. The first seed that is wrong is printed with the command that
//! shows it again, and ends the program with status 1; `--keep-going` goes on to the others,
//! `--except` past complaints of one checker. `--steady` measures: a minute of load
//! without faults, and how long it took.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::sim::coverage::Coverage;
use tests::sim::focus::Focus;
use tests::sim::plan::Plan;
use tests::sim::run::{Report, run};
use tests::sim::trace::Level;

/// What the command line says.
#[derive(Clone, Debug)]
struct Options {
    seeds: std::ops::Range<u64>,
    hours: Option<f64>,
    members: Option<usize>,
    threads: Option<usize>,
    level: Level,
    is_keeping_going: bool,
    except: Option<String>,
    is_steady: bool,
    focus: Focus,
}

/// What all threads have done.
#[derive(Default)]
struct Totals {
    seeds: AtomicU64,
    virtual_us: AtomicU64,
    calls: AtomicU64,
    /// Complaints that are not to be looked at.
    excepted: AtomicU64,
    is_wrong: AtomicBool,
    /// Also whose turn it is to print.
    coverage: Mutex<Coverage>,
}

thread_local! {
    /// What runs on this thread, for whoever looks at a panic.
    static RUNNING: Cell<(u64, usize, Focus)> = const { Cell::new((0, 0, Focus::Swarm)) };
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        let (seed, members, focus) = RUNNING.get();
        eprintln!("seed {seed} panicked; again: {}", command(seed, members, focus));
    }));
    if options.is_steady {
        return measure(&options);
    }
    let totals = Totals::default();
    let next = AtomicU64::new(options.seeds.start);
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores).max(1);
    let threads =
        threads.min(usize::try_from(options.seeds.end - options.seeds.start).unwrap_or(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&options, &next, &totals, began));
        }
    });
    let hours = totals.virtual_us.load(Ordering::Relaxed) as f64 / 3.6e9;
    println!(
        "{} seeds from {}, {} of them excepted, {hours:.2} virtual hours, {} calls, {:.1} s",
        totals.seeds.load(Ordering::Relaxed),
        options.seeds.start,
        totals.excepted.load(Ordering::Relaxed),
        totals.calls.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64()
    );
    println!("{}", totals.coverage.lock().expect("a panic ends the program"));
    ExitCode::from(u8::from(totals.is_wrong.load(Ordering::Relaxed)))
}

fn work(options: &Options, next: &AtomicU64, totals: &Totals, began: Instant) {
    let limit = options.hours.map(|hours| Duration::from_secs_f64(hours * 3_600.0));
    while options.is_keeping_going || !totals.is_wrong.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if options.seeds.end <= seed || limit.is_some_and(|limit| limit <= began.elapsed()) {
            return;
        }
        let members = options.members.unwrap_or_else(|| members_of(seed));
        RUNNING.set((seed, members, options.focus));
        let is_alone = options.seeds.end - options.seeds.start == 1;
        // A panic ends the program, unless it was built to unwind.
        let plan = Plan::focused(seed, members, options.focus);
        let ran = std::panic::catch_unwind(|| run(plan, options.level, is_alone));
        let Ok(report) = ran else {
            totals.is_wrong.store(true, Ordering::Relaxed);
            continue;
        };
        totals.seeds.fetch_add(1, Ordering::Relaxed);
        totals.virtual_us.fetch_add(report.virtual_us, Ordering::Relaxed);
        totals.calls.fetch_add(report.calls.0 as u64, Ordering::Relaxed);
        let mut coverage = totals.coverage.lock().expect("a panic ends the program");
        coverage.merge(&report.coverage);
        let check = report.complaint.as_ref().map(|complaint| complaint.check);
        let is_wrong = check.is_some() && check != options.except.as_deref();
        totals.excepted.fetch_add(u64::from(check.is_some() && !is_wrong), Ordering::Relaxed);
        if is_alone || is_wrong {
            describe(seed, members, options.focus, &report);
        }
        if is_wrong {
            totals.is_wrong.store(true, Ordering::Relaxed);
        }
    }
}

/// Most seeds are of three members; of ten, two are of one, and one is of five.
fn members_of(seed: u64) -> usize {
    match seed % 10 {
        0 | 5 => 1,
        7 => 5,
        _ => 3,
    }
}

fn describe(seed: u64, members: usize, focus: Focus, report: &Report) {
    let Report { trace_hash, events, calls, revision, starts, sights, .. } = report;
    println!(
        "seed {seed}: {members} members, hash {trace_hash:016x}, {events} events, \
         {:.1} virtual s, {} of {} calls answered, revision {revision}, {starts} starts, \
         {} checkpoints and {} committed entries compared",
        report.virtual_us as f64 / 1e6,
        calls.1,
        calls.0,
        sights.0,
        sights.1
    );
    println!("{}", report.coverage);
    if let Some(complaint) = &report.complaint {
        println!("{complaint}\nagain: {}", command(seed, members, focus));
    }
}

fn command(seed: u64, members: usize, focus: Focus) -> String {
    let focus = match focus {
        Focus::Swarm => String::new(),
        focus => format!(" --focus {focus:?}").to_lowercase(),
    };
    format!(
        "cargo run --release -p tests --bin sim -- --seed {seed} --members {members}{focus} \
         --trace faults"
    )
}

fn measure(options: &Options) -> ExitCode {
    let members = options.members.unwrap_or(3);
    let (began, began_cpu_s) = (Instant::now(), cpu_s());
    let report = run(Plan::steady(options.seeds.start, members), options.level, true);
    let (elapsed_s, took_cpu_s) = (began.elapsed().as_secs_f64(), cpu_s() - began_cpu_s);
    describe(options.seeds.start, members, options.focus, &report);
    let virtual_s = report.virtual_us as f64 / 1e6;
    println!(
        "{virtual_s:.1} virtual s took {took_cpu_s:.2} s of one core ({elapsed_s:.2} s by the \
         clock): {:.1} to 1",
        virtual_s / took_cpu_s
    );
    ExitCode::from(u8::from(report.complaint.is_some()))
}

/// What this process has used of the cores.
fn cpu_s() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seeds: 0..100,
        hours: None,
        members: None,
        threads: None,
        level: Level::Silent,
        is_keeping_going: false,
        except: None,
        is_steady: false,
        focus: Focus::default(),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                options.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds is A..B")?;
                options.seeds = number(from)?..number(to)?;
            }
            "--hours" => {
                let text = value()?;
                let hours = text.parse().map_err(|_| format!("{text} is no number"))?;
                options.hours = Some(hours);
                options.seeds.end = u64::MAX;
            }
            "--members" => options.members = Some(number(&value()?)? as usize),
            "--threads" => options.threads = Some(number(&value()?)? as usize),
            "--trace" => {
                options.level = match value()?.as_str() {
                    "none" => Level::Silent,
                    "faults" => Level::Faults,
                    "calls" => Level::Calls,
                    "all" => Level::All,
                    other => return Err(format!("{other} is no level")),
                }
            }
            "--keep-going" => options.is_keeping_going = true,
            "--except" => options.except = Some(value()?),
            "--steady" => options.is_steady = true,
            "--focus" => {
                let name = value()?;
                let focus = Focus::of_name(&name);
                options.focus = focus.ok_or_else(|| format!("{name} is no focus"))?;
            }
            other => {
                return Err(format!("{other} is not known; see the head of tests/sim/main.rs"));
            }
        }
    }
    if options.seeds.is_empty() {
        return Err("there are no seeds".to_string());
    }
    Ok(options)
}
