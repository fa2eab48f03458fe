//! Rules of replication.md and storage.md that need the engine alone: steps in the background.

#![allow(clippy::unwrap_used)]

mod common;

use common::Replica;
use engine::api::{Command, PutRequest};

/// A replica with a compaction that takes several steps.
fn compacting() -> Replica {
    let mut replica = Replica { verifies: false, ..Replica::new(512) };
    for round in 0..3 {
        for key in 0..1_500 {
            let key = format!("key/{key:08}");
            let value = [round; 100];
            let put = PutRequest { key: key.as_bytes(), value: &value, ..PutRequest::default() };
            replica.apply(&Command::Put(put));
        }
    }
    let revision = replica.engine.revision();
    replica.apply(&Command::Compact { revision });
    replica
}

#[test]
fn replication_proposals_4_a_step_from_another_cursor_changes_nothing() {
    let mut replica = compacting();
    let first = replica.engine.compact_pending().unwrap();
    let step = Command::CompactStep { mark_main: first.main, mark_sub: first.sub };
    replica.apply(&step);
    let second = replica.engine.compact_pending().expect("it takes more than one step");
    assert_ne!(first, second);
    let in_use = replica.engine.in_use_size_bytes();
    // The same step again, as a second leader may propose it.
    replica.apply(&step);
    assert_eq!(replica.engine.compact_pending(), Some(second));
    assert_eq!(replica.engine.in_use_size_bytes(), in_use);
    replica.engine.verify().unwrap();
}
