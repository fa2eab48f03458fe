//! Bad input against real processes: bytes, connections, directories, disks, kernels that refuse.
//!
//! Each case asks for the same three things: a clear error where the fault is, a member that goes
//! on serving everybody else (or says why it cannot), and nothing acknowledged lost or altered.

#![allow(clippy::unwrap_used, reason = "all of it is test, and only test functions may by default")]

mod bytes;
mod connections;
mod damaged_pages;
mod damaged_wal;
mod directory;
mod disk;
mod kernel;
mod witness;

use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

use ::tests::process::{IoDriver, Member, Program};

/// Every test of the list, on both drivers.
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
        mod case {
            use super::*;
            $(pub fn $name($program: &Program) $body)+
        }
    };
}

tests! {
    fn connections_by_the_thousand(program) { connections::thousands(program) }
    fn damaged_pages(program) { damaged_pages::flipped_bytes(program) }
    fn full_disk(program) { disk::full(program) }
    fn garbage(program) { bytes::garbage(program) }
    fn half_open_connections(program) { connections::half_open(program) }
    fn large_requests_allowed(program) { bytes::large_requests_allowed(program) }
    fn oversized_frames(program) { bytes::oversized(program) }
    fn slow_reader_of_a_big_watch(program) { connections::slow_reader(program) }
    fn wal_flipped_in_its_middle(program) { damaged_wal::middle(program) }
    fn wal_torn_at_its_end(program) { damaged_wal::tail(program) }
    fn writes_into_a_damaged_leaf(program) { damaged_pages::writes(program) }
    fn wrong_versions(program) { bytes::wrong_versions(program) }
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

/// `host:port` of the binary protocol.
fn binary_endpoint(member: &Member) -> String {
    let (host, port) = member.binary_address();
    format!("{host}:{port}")
}

/// `host:port` of etcd's API.
fn client_endpoint(member: &Member) -> String {
    member.client_url().trim_start_matches("http://").to_owned()
}

/// A connection on which no read waits for ever.
fn dial(endpoint: &str) -> TcpStream {
    let socket = TcpStream::connect(endpoint).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// For one answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
