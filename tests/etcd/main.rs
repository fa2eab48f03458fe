//! etcd's API over the wire against real processes: corestone on both drivers, and the real etcd
//! where it is found, all held to the same recorded answers.

#![allow(clippy::unwrap_used, reason = "all of it is test, and only test functions may by default")]

mod client;
mod crash;
mod differential;
mod endurance;
mod etcdctl;
mod load;
mod print;
mod read;
mod script;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use ::tests::process::{IoDriver, Member, Program, etcd_binary};

/// Every test of the list, once for each program.
macro_rules! tests {
    ($(fn $name:ident($program:ident) $body:block)+) => {
        mod portable {
            $(#[test] fn $name() {
                super::case::$name(&super::portable());
            })+
        }
        mod uring {
            $(#[test] fn $name() {
                super::uring().iter().for_each(super::case::$name);
            })+
        }
        mod real_etcd {
            $(#[test] fn $name() {
                super::real_etcd().iter().for_each(super::case::$name);
            })+
        }
        mod case {
            use super::*;
            $(pub fn $name($program: &Program) $body)+
        }
    };
}

tests! {
    fn compaction(program) { script::check("compaction", program) }
    fn etcdctl_3_4(program) { etcdctl::check("3.4", program) }
    fn etcdctl_3_7(program) { etcdctl::check("3.7", program) }
    fn fragments(program) { load::fragments(program) }
    fn http(program) { script::check("http", program) }
    fn keep_alive(program) { endurance::keep_alive(program) }
    fn kill_under_load(program) { crash::kill_under_load(program) }
    fn kubernetes(program) { script::check("kubernetes", program) }
    fn kv(program) { script::check("kv", program) }
    fn lease(program) { script::check("lease", program) }
    fn maintenance(program) { script::check("maintenance", program) }
    fn many_watches(program) { load::many_watches(program) }
    fn oversized(program) { endurance::oversized(program) }
    fn pause(program) { endurance::pause(program) }
    fn progress_notices(program) { endurance::progress_notices(program) }
    fn quota(program) { endurance::quota(program) }
    fn restart(program) { endurance::restart(program) }
    fn slow_reader(program) { load::slow_reader(program) }
    fn txn(program) { script::check("txn", program) }
    fn watch(program) { script::check("watch", program) }
}

/// The same list through each of three members in turn: it makes no difference who leads.
mod three_members {
    use super::{IoDriver, Program, etcdctl, script};

    const PROGRAM: Program = Program::Corestone(IoDriver::Auto);

    macro_rules! scripts {
        ($($name:ident without $skipped:expr;)+) => {
            $(#[test] fn $name() {
                script::check_each_of_three(stringify!($name), &PROGRAM, &$skipped);
            })+
        };
    }

    scripts! {
        compaction without [];
        http without [];
        kubernetes without [];
        kv without [];
        lease without [];
        // They show one member alone.
        maintenance without ["members", "leadership"];
        txn without [];
        watch without [];
    }

    #[test]
    fn etcdctl_3_4() {
        etcdctl::check_each_of_three("3.4", &PROGRAM);
    }

    #[test]
    fn etcdctl_3_7() {
        etcdctl::check_each_of_three("3.7", &PROGRAM);
    }
}

#[test]
fn random_requests_are_answered_as_by_etcd() {
    differential::check();
}

/// Services that corestone does not have yet. Their answers are recorded; a line moves to the list
/// above with the service.
mod awaited {
    use super::{real_etcd, script};

    #[test]
    fn concurrency() {
        real_etcd().iter().for_each(|program| script::check("concurrency", program));
    }

    #[test]
    fn gateway() {
        real_etcd().iter().for_each(|program| script::check("gateway", program));
    }
}

fn portable() -> Program {
    Program::Corestone(IoDriver::Portable)
}

/// corestone on io_uring, where it would choose that by itself.
fn uring() -> Option<Program> {
    static IS_CHOSEN: OnceLock<bool> = OnceLock::new();
    let is_chosen = IS_CHOSEN.get_or_init(|| {
        let member = Member::start(&Program::Corestone(IoDriver::Auto), &[]);
        member.log().contains(r#""io-driver":"uring""#)
    });
    if !is_chosen {
        println!("skipped: io_uring cannot be used here");
    }
    is_chosen.then_some(Program::Corestone(IoDriver::Uring))
}

fn real_etcd() -> Option<Program> {
    let found = etcd_binary().map(Program::Etcd);
    if found.is_none() {
        println!("skipped: no etcd on the path, nor in CORESTONE_TEST_ETCD");
    }
    found
}

/// Runs one test's calls to their end.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// The result of what has to come in time.
///
/// # Panics
/// When it does not.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("an answer in time")
}

/// For one answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
