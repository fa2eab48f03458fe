//! Who wants to hear of which changes: the watchers of one keyspace, on the core that owns it.
//!
//! Two states suffice, because credit is asked before events are counted as sent: a *synced*
//! watcher hears of each revision as it is published; an *unsynced* one reads history until it has
//! caught up, and nothing is buffered for it.
//! Floors: `registry` and `catch_up` over `index` over `intervals`.
//! Source: fact sheet of etcd's behaviour, section 5.

pub mod catch_up;
mod index;
mod intervals;
pub mod registry;
pub mod watcher;
