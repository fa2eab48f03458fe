//! How this member's disk is doing, for Raft to hand over in time.
//!
//! Invariants: a member in that state does not campaign, is no target of a transfer and takes no
//! proposals; nothing is decided here beyond the bounds. Source: replication.md, "Elections and
//! slow disks" 2.

use engine::page::map::PageMap;
use raft::{DiskHealth, LocalHealth};

use super::Replica;
use crate::wal::ShardWal;

/// An unsynced write older than this, and than a multiple of the median, is a stuck disk.
const STUCK_SYNC_AGE_US_MIN: u64 = 50_000;
const STUCK_SYNC_MEDIANS: u64 = 8;
/// Apply that waits this long for a checkpoint is a stuck disk too.
const STUCK_APPLY_US: u64 = 1_000_000;

/// What is remembered between ticks.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Since when apply waits for a checkpoint.
    apply_waits_since_us: Option<u64>,
    /// As told last.
    disk: DiskHealth,
}

impl Health {
    /// Whether apply waits for a checkpoint now.
    pub fn observe_apply(&mut self, is_waiting: bool, now_us: u64) {
        self.apply_waits_since_us = match self.apply_waits_since_us {
            _ if !is_waiting => None,
            None => Some(now_us),
            since => since,
        };
    }
}

impl<M: PageMap> Replica<M> {
    /// Tells Raft, once a tick.
    pub(super) fn observe_health(&mut self, wal: &ShardWal) {
        if self.raft.configuration().members().count() <= 1 {
            // With nobody to hand over to, a slow disk is only slow. What was said of it while there
            // were others must not outlive them: proposals would be held for ever.
            self.health.disk = DiskHealth::default();
            return self.tell_health(self.is_store_away());
        }
        let age_us = wal.sync_age_us(self.now_us);
        let bound_us = STUCK_SYNC_AGE_US_MIN.max(STUCK_SYNC_MEDIANS * wal.sync_median_us());
        let apply_waits = self
            .health
            .apply_waits_since_us
            .is_some_and(|since_us| since_us + STUCK_APPLY_US <= self.now_us);
        let is_stuck = bound_us < age_us || wal.is_half_full() || apply_waits;
        let sync_age_us = u32::try_from(age_us).unwrap_or(u32::MAX);
        self.health.disk = DiskHealth { sync_age_us, is_stuck };
        self.tell_health(self.is_store_away());
    }

    /// Tells Raft whether the tree is complete, with the disk as it was seen last.
    pub(super) fn tell_health(&mut self, is_tree_incomplete: bool) {
        let disk = self.health.disk;
        self.raft.set_health(LocalHealth { disk, is_tree_incomplete, ..LocalHealth::default() });
    }
}
