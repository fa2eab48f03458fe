//! Kernels and containers that refuse io_uring: the member serves on the portable driver, and says
//! so once.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ::tests::process::{IoDriver, Member, Program};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::witness::Witness;

#[test]
fn a_seccomp_filter_without_io_uring_is_lived_with() {
    let mut member = Member::unstarted(&Program::Corestone(IoDriver::Auto), &[]);
    member.change_command(refuse_io_uring);
    member.restart();
    assert!(member.log().contains(WARNING), "{}", member.log().tail(10));
    assert!(member.log().contains("seccomp"), "the line names the remedy");
    let mut witness = Witness::start(&member);
    member.kill();
    member.restart();
    witness.check(&mut member);
    // Asked for by name it is an error, not another driver.
    member.terminate();
    member.change_program(Program::Corestone(IoDriver::Uring));
    let log = crate::directory::refused(&mut member);
    assert!(log.contains("the driver cannot run"), "{log}");
}

#[test]
fn little_lockable_memory_is_lived_with() {
    let mut member = Member::unstarted(&Program::Corestone(IoDriver::Auto), &[]);
    member.change_command(lock_little);
    member.restart();
    let is_uring = member.log().contains(r#""io-driver":"uring""#);
    assert!(is_uring || member.log().contains(WARNING), "{}", member.log().tail(10));
    if is_uring {
        println!("io_uring needs no lockable memory here");
    }
    let mut witness = Witness::start(&member);
    member.kill();
    member.restart();
    witness.check(&mut member);
}

/// io_uring_setup answers EPERM, as in the default profile of container runtimes.
fn refuse_io_uring(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl(2), twice.
    unsafe { command.pre_exec(install_filter) };
}

fn install_filter() -> io::Result<()> {
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let number = u32::try_from(libc::SYS_io_uring_setup).expect("numbers of calls are small");
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).expect("codes have 16 bits"),
        jt,
        jf,
        k,
    };
    // The number of the call is the first field of what a filter sees.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, refusal, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("four"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: both calls take integers, and the second a pointer to `filter`, which outlives it
    // and names `program`, as long as `len` says.
    let outcome = unsafe {
        match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) {
            0 => libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter),
            failed => failed,
        }
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `ulimit -l 64`, also for root.
fn lock_little(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are made: setrlimit and prctl.
    unsafe {
        command.pre_exec(|| {
            let limit = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
            setrlimit(Resource::Memlock, limit)?;
            // Who may not do this is held to the limit anyway.
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
            Ok(())
        });
    }
}

const WARNING: &str = "io_uring cannot be used: the portable driver runs instead";
const CAP_IPC_LOCK: libc::c_ulong = 14;
