//! How figures are printed, and the machine they were measured on.

use crate::load::Outcome;
use std::fs::read_to_string;
use std::time::Duration;

/// Microseconds with one digit.
pub fn us(duration: Duration) -> String {
    format!("{:.1} us", duration.as_secs_f64() * 1e6)
}

/// Milliseconds with two digits.
pub fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// Mebibytes.
pub fn mib(size_bytes: u64) -> String {
    format!("{:.1} MiB", size_bytes as f64 / (1024.0 * 1024.0))
}

/// The middle of an uneven number of figures, the upper middle of an even one.
///
/// # Panics
/// If there is none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    assert!(!figures.is_empty());
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A load's figures on one line.
pub fn line(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let mut line = format!(
        "{:.0} ops/s, p50 {}, p99 {}",
        outcome.per_s(),
        us(tally.latency(0.5)),
        us(tally.latency(0.99))
    );
    if let Some(cpu_us) = outcome.cpu_us() {
        line += &format!(", server cpu {cpu_us:.2} us/op");
    }
    if 0 < tally.failures {
        let text = tally.failure.as_deref().unwrap_or("");
        line += &format!(", {} FAILED ({text})", tally.failures);
    }
    if 0 < tally.guards_failed {
        line += &format!(", {} guards failed", tally.guards_failed);
    }
    line
}

/// Processors, memory and kernel.
pub fn machine() -> String {
    let read = |path: &str| read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':'])).trim();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = read("/proc/meminfo");
    let memory_kib = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let release = read("/proc/sys/kernel/osrelease");
    // The part after the version names the machine's maker, which is of no interest.
    let kernel = release.trim().split('-').next().unwrap_or("").to_owned();
    format!(
        "{cores} cores ({model}), {:.0} GiB of memory, Linux {kernel}",
        memory_kib.unwrap_or(0) as f64 / (1024.0 * 1024.0)
    )
}
