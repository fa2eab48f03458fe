//! The simulated world: production shards on simulated disks, connections and time.

pub mod client;
pub mod disk;
pub mod member;
