//! Members in a simulated world: the shipped shards, no sockets, no disks, no clock.
//!
//! `member` and `client` are one member that does everything at once, for scripts. `world` is a
//! cluster with time, network, disks and faults, by seed.

pub mod admin;
pub mod ambush;
pub mod caller;
pub mod client;
pub mod clients;
pub mod clock;
pub mod cores;
pub mod coverage;
pub mod disk;
mod faults;
pub mod focus;
pub mod grpc;
mod latent;
pub mod member;
mod members;
pub mod network;
pub mod peers_port;
pub mod plan;
pub mod process;
pub mod queue;
pub mod random;
mod rot;
pub mod run;
pub mod sectors;
pub mod session;
pub mod speech;
pub mod steward;
pub mod storage;
pub mod stray;
mod submit;
pub mod trace;
pub mod watcher;
pub mod workload;
pub mod world;
