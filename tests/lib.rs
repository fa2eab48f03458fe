//! Models, the simulated world, and tests with real processes and real clients.
//!
//! Which harness finds which bug: README.md beside this file.

pub mod check;
pub mod model;
pub mod process;
pub mod sim;
