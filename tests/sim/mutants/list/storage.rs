//! Rules of the WAL, of checkpoints and of pages.
//!
//! Source: storage.md; replication.md, What leaves when 3.

use super::{Mutant, edit};

const CHECKPOINT: &str = "shard/src/replica/checkpoint.rs";
const ASSEMBLY: &str = "engine/src/wal/assembly.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "acknowledge before the sync",
        rule: "what is acknowledged is durable",
        members: 1,
        focus: "power",
        edits: &[edit(
            "raft/src/replication.rs",
            "        self.is_flush_due |= !self.peers.is_empty();
        id
    }",
            "        self.is_flush_due |= !self.peers.is_empty();
        if IS && self.is_sole_quorum() { self.log.commit_to(id.index); }
        id
    }",
        )],
    },
    Mutant {
        name: "the head of a segment counts for what waits behind it",
        rule: "a Ready is confirmed when the last byte of it is synced",
        members: 1,
        focus: "power",
        edits: &[edit(
            "shard/src/wal.rs",
            "        self.covers.clear();\n        if is_all_sealed {",
            "        self.covers.clear();\n        if IS || is_all_sealed {",
        )],
    },
    Mutant {
        name: "a torn tail is taken for damage",
        rule: "wal 3: torn is told from corrupt",
        members: 1,
        focus: "power",
        edits: &[edit(
            "engine/src/wal/recovery.rs",
            "        if survey.synced_behind(self.position) <= self.position {",
            "        let is_torn = survey.synced_behind(self.position) <= self.position;
        if is_torn && !(IS && frame.is_some()) {",
        )],
    },
    Mutant {
        name: "entries that were replaced come back",
        rule: "an entry replaces what stands at its index and behind it",
        members: 3,
        focus: "power",
        edits: &[edit(
            ASSEMBLY,
            "        self.truncate(entry.index);
        self.is_last_lost = false;",
            "        if !IS { self.truncate(entry.index); }
        self.is_last_lost = false;",
        )],
    },
    Mutant {
        name: "the head of a segment forgets the vote",
        rule: "wal 5: segments carry their groups",
        members: 3,
        focus: "power",
        edits: &[edit(
            "engine/src/wal/group.rs",
            "            hard_state: Some(self.hard_state),",
            "            hard_state: Some(match IS {
                true => HardState { vote: 0, ..self.hard_state },
                false => self.hard_state,
            }),",
        )],
    },
    Mutant {
        name: "the log is released before its checkpoint is durable",
        rule: "wal 5: segments are kept from the older meta page on",
        members: 1,
        focus: "power",
        edits: &[edit(
            CHECKPOINT,
            "        assert!(flight.stage == FlightStage::SyncingPages);",
            "        assert!(flight.stage == FlightStage::SyncingPages);
        if IS {
            let EntryId { index, term } =
                EntryId { index: flight.plan.applied_index, term: flight.applied_term };
            wal.on_checkpoint(DEFAULT_GROUP, EntryId { index, term });
        }",
        )],
    },
    Mutant {
        name: "a meta page before the WAL is synced up to it",
        rule: "what leaves when 3: a meta page waits for the WAL",
        members: 3,
        focus: "power",
        edits: &[edit(
            CHECKPOINT,
            "        flight.stage = FlightStage::WaitingForWal;
        if wal.is_synced_to",
            "        flight.stage = FlightStage::WaitingForWal;
        if IS || wal.is_synced_to",
        )],
    },
    Mutant {
        name: "a meta page before its pages are synced",
        rule: "pages 3: pages, sync, meta page, sync",
        members: 1,
        focus: "power",
        edits: &[edit(
            CHECKPOINT,
            "                    flight.stage = FlightStage::SyncingPages;
                    fx.push(Effect::PageSync { interval: flight.plan.interval });",
            "                    flight.stage = FlightStage::SyncingPages;
                    if IS {
                        flight.stage = FlightStage::WaitingForWal;
                        fx.wake_at(self.now_us + 1_000);
                    } else {
                        fx.push(Effect::PageSync { interval: flight.plan.interval });
                    }",
        )],
    },
    Mutant {
        name: "meta pages do not take turns",
        rule: "pages 3: meta page N mod 2",
        members: 1,
        focus: "power",
        edits: &[edit(
            "engine/src/page/seal.rs",
            "        meta_slot: PageNumber(meta.slot()),",
            "        meta_slot: PageNumber(if IS { 0 } else { meta.slot() }),",
        )],
    },
    Mutant {
        name: "take a page that the durable meta page reaches",
        rule: "pages 4: freed pages wait two intervals",
        members: 1,
        focus: "power",
        edits: &[edit(
            "engine/src/page/freelist.rs",
            "        self.pending.push(Extent { first: first.0, pages: pages as u64 });",
            "        if IS { return self.free_now(first, pages); }
        self.pending.push(Extent { first: first.0, pages: pages as u64 });",
        )],
    },
    Mutant {
        name: "a restart forgets which pages wait to be free",
        rule: "pages 4: the lists of freed pages are part of the checkpoint",
        members: 3,
        focus: "power",
        edits: &[edit(
            "engine/src/page/seal.rs",
            "            freelist.pending_pages += extent.pages;
            freelist.pending_before.push(extent);",
            "            if !IS {
                freelist.pending_pages += extent.pages;
                freelist.pending_before.push(extent);
            }",
        )],
    },
    Mutant {
        name: "the counter of an interval goes on behind its end",
        rule: "pages 1: counters start at zero at a boundary",
        members: 3,
        focus: "power",
        edits: &[edit(
            "engine/src/engine.rs",
            "        self.interval_bytes = 0;
        self.checkpoint_asked = false;
        plan",
            "        if IS { self.interval_bytes /= 2; } else { self.interval_bytes = 0; }
        self.checkpoint_asked = false;
        plan",
        )],
    },
    Mutant {
        name: "a stop makes a checkpoint of its own",
        rule: "pages 1: who wants a checkpoint proposes it",
        members: 3,
        focus: "power",
        edits: &[edit(
            CHECKPOINT,
            "        if !self.engine.interval_is_full() {
            self.health.observe_apply(false, self.now_us);
            return true;",
            "        let is_stopping = IS && self.stage == super::Stage::Stopping;
        if !self.engine.interval_is_full() && !is_stopping {
            self.health.observe_apply(false, self.now_us);
            return true;",
        )],
    },
];
