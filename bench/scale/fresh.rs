//! A member without keys, on all cores as it is started by default.

use crate::Arguments;
use bench::error::BenchError;
use bench::member::{Member, MemberOptions, cpu_time_of};
use bench::report::{median, mib};
use bench::workload::SplitMix64;
use std::time::Duration;

pub(crate) fn measure(arguments: &Arguments, options: &MemberOptions) -> Result<(), BenchError> {
    let options = MemberOptions { cores: 0, ..options.clone() };
    let mut starts_ms = Vec::new();
    for _ in 0..STARTS {
        let member = Member::start(&options)?;
        starts_ms.push(member.ready_after.as_secs_f64() * 1e3);
    }
    println!("first start, from nothing to a read answered: {:.0} ms", median(starts_ms));
    measure_idle(&options)?;
    if 0 < arguments.kills {
        measure_kills(arguments.kills, &options)?;
    }
    Ok(())
}

fn measure_idle(options: &MemberOptions) -> Result<(), BenchError> {
    let member = Member::start(options)?;
    std::thread::sleep(SETTLE);
    let before = cpu_time_of(member.process())?;
    std::thread::sleep(IDLE);
    let cpu = cpu_time_of(member.process())? - before;
    let memory = member.memory()?;
    println!(
        "idle: {:.2} % of a core over {} s, resident {} (private {}, mapped {}), on disk {}",
        100.0 * cpu.as_secs_f64() / IDLE.as_secs_f64(),
        IDLE.as_secs(),
        mib(memory.resident_bytes()),
        mib(memory.anonymous_bytes),
        mib(memory.file_bytes),
        mib(member.disk_size_bytes()?)
    );
    Ok(())
}

/// Kills a member at a random moment of its first second and starts it again on what is there.
fn measure_kills(kills: u32, options: &MemberOptions) -> Result<(), BenchError> {
    let mut random = SplitMix64 { state: 1 };
    let (mut failed, mut slowest) = (0, Duration::ZERO);
    for number in 0..kills {
        let mut member = Member::launch(options)?;
        let moment = Duration::from_micros(random.next() % 1_000_000);
        std::thread::sleep(moment);
        member.kill()?;
        match member.restart() {
            Ok(elapsed) => slowest = slowest.max(elapsed),
            Err(error) => {
                failed += 1;
                println!("kill {number} after {} ms: {error}", moment.as_millis());
            }
        }
    }
    println!(
        "killed {kills} times in its first second: came up again {} times, at the latest after \
         {:.0} ms",
        kills - failed,
        slowest.as_secs_f64() * 1e3
    );
    Ok(())
}

const STARTS: usize = 5;

/// What a start leaves to be done is done by then.
const SETTLE: Duration = Duration::from_secs(2);

const IDLE: Duration = Duration::from_secs(10);
