//! The seam between a program and its driver, the same suite on both drivers: what a shard is
//! promised about its inputs and effects holds whoever turns the loop.
//!
//! Each case is a script of effects run by a `Program`; the world outside is real sockets and
//! files.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails ends it")]

/// Each case as a test of its own on either driver.
macro_rules! on_both_drivers {
    ($($case:ident)*) => {
        mod on_portable {
            use crate::running::Driver;
            $(#[test] fn $case() { super::$case(Driver::Portable) })*
        }
        mod on_uring {
            use crate::running::{Driver, is_uring_refused};
            $(#[test] fn $case() { if !is_uring_refused() { super::$case(Driver::Uring) } })*
        }
    };
}

mod dials;
mod pages;
mod running;
mod sockets;
mod wal;
