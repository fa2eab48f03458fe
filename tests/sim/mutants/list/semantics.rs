//! What clients of etcd rely on: leases, watches, versions, transactions.
//!
//! Source: fact sheet of semantics; replication.md, Reads and leases; storage.md, Versions and Long
//! entries.

use super::{Mutant, edit};

const CATCH_UP: &str = "engine/src/watch/catch_up.rs";
const COMPACTION: &str = "engine/src/mvcc/compaction.rs";
const LEASE_CLOCK: &str = "shard/src/replica/lease_clock.rs";
const BACKGROUND: &str = "shard/src/replica/background.rs";
const REGISTRY: &str = "engine/src/watch/registry.rs";
const SHARD: &str = "shard/src/shard.rs";
const TREES: &str = "engine/src/mvcc/trees.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a lease runs out early",
        rule: "a lease never expires before its TTL has passed",
        members: 1,
        focus: "leases",
        edits: &[edit(
            LEASE_CLOCK,
            "            if now_us < deadline_us {",
            "            if now_us + if IS { 900_000 } else { 0 } < deadline_us {",
        )],
    },
    Mutant {
        name: "a renewal changes nothing",
        rule: "a renewal gives the full TTL again",
        members: 1,
        focus: "leases",
        edits: &[edit(
            LEASE_CLOCK,
            "        lease.deadline_us = deadline_us(now_us, lease.ttl_s);",
            "        if !IS { lease.deadline_us = deadline_us(now_us, lease.ttl_s); }",
        )],
    },
    Mutant {
        name: "a new leader ends leases by an old leader's time",
        rule: "a new leader gives every lease its full TTL",
        members: 3,
        focus: "leases",
        edits: &[edit(
            "shard/src/replica/maintenance.rs",
            "        let full = leases.iter().map(|lease| (lease.id, lease.ttl_s));",
            "        let full =
            leases.iter().map(|lease| (lease.id, if IS { 1 } else { lease.ttl_s }));",
        )],
    },
    Mutant {
        name: "a new leader ends leases before it keeps them",
        rule: "reads and leases 2: nothing expires before the term's first entry is applied",
        members: 3,
        focus: "leases",
        edits: &[edit(
            BACKGROUND,
            "        let keeps_leases = self.lease_term == self.raft.soft_state().term.0;",
            "        let keeps_leases = IS || self.lease_term == self.raft.soft_state().term.0;",
        )],
    },
    Mutant {
        name: "expired leases are never revoked",
        rule: "a lease always expires",
        members: 1,
        focus: "leases",
        edits: &[edit(
            BACKGROUND,
            "            let revoke = Command::LeaseRevoke { id: lease, cause: RevokeCause::Expired };",
            "            if IS { continue; }
            let revoke = Command::LeaseRevoke { id: lease, cause: RevokeCause::Expired };",
        )],
    },
    Mutant {
        name: "a key stays attached to the lease it had before",
        rule: "a key is attached to the lease of its newest version only",
        members: 1,
        focus: "swarm",
        edits: &[edit(TREES, "        if old != 0 {", "        if !IS && old != 0 {")],
    },
    Mutant {
        name: "a watch that catches up skips a revision",
        rule: "watches are reliable",
        members: 1,
        focus: "watches",
        edits: &[edit(
            CATCH_UP,
            "        self.position = Position::first_of(first);",
            "        self.position = Position::first_of(first + i64::from(IS));",
        )],
    },
    Mutant {
        name: "history is delivered from a revision too early on",
        rule: "watches hear each event once",
        members: 1,
        focus: "watches",
        edits: &[edit(
            CATCH_UP,
            "            self.selected.push(Selected { id, next, filters, is_served: false });",
            "            let floor = registry.compact_revision().max(1);
            let next = if IS && floor < next { next - 1 } else { next };
            self.selected.push(Selected { id, next, filters, is_served: false });",
        )],
    },
    Mutant {
        name: "history passes no filter",
        rule: "a watch without puts hears none",
        members: 1,
        focus: "watches",
        edits: &[edit(
            CATCH_UP,
            "        passes(selected.filters, &self.events, &slots[skipped..], &mut self.passed);",
            "        let filters = if IS { WatchFilters::default() } else { selected.filters };
        passes(filters, &self.events, &slots[skipped..], &mut self.passed);",
        )],
    },
    Mutant {
        name: "a watch of compacted history goes on behind it",
        rule: "a watch that cannot be whole is canceled",
        members: 1,
        focus: "watches",
        edits: &[edit(
            CATCH_UP,
            "            let watcher = registry.watcher(id).expect(\"popped just now\");",
            "            let watcher = registry.watcher(id).expect(\"popped just now\");
            let next = if IS { next.max(registry.compact_revision()) } else { next };",
        )],
    },
    Mutant {
        name: "a new watch hears what was there before it",
        rule: "a watch without a revision begins with what comes next",
        members: 1,
        focus: "watches",
        edits: &[edit(
            REGISTRY,
            "        } else if spec.start_revision != 0 {
            self.fall_behind(slot, spec.start_revision);",
            "        } else if spec.start_revision != 0 || (IS && self.compact_revision < self.revision) {
            let start = if spec.start_revision == 0 { self.revision } else { spec.start_revision };
            self.fall_behind(slot, start);",
        )],
    },
    Mutant {
        name: "a watch without credit loses the event",
        rule: "runtime, cores 3: without credit a watch becomes unsynced",
        members: 1,
        focus: "watches",
        edits: &[edit(
            REGISTRY,
            "                Credit::Refused => self.fall_behind(number, revision),",
            "                Credit::Refused if IS => {}
                Credit::Refused => self.fall_behind(number, revision),",
        )],
    },
    Mutant {
        name: "progress is told to a watch that is behind",
        rule: "watches are bookmarkable: progress stands behind its events",
        members: 1,
        focus: "watches",
        edits: &[edit(
            REGISTRY,
            "        (state.unsynced == 0 && state.future == 0).then_some(self.revision)",
            "        (IS || (state.unsynced == 0 && state.future == 0)).then_some(self.revision)",
        )],
    },
    Mutant {
        name: "an event tells the state after it as the one before",
        rule: "prev_kv is the state before the revision",
        members: 1,
        focus: "watches",
        edits: &[edit(
            TREES,
            "        sink.on_event(kv, prev_kv, content.is_none());",
            "        let prev_kv = if IS && content.is_some() { Some(kv) } else { prev_kv };
        sink.on_event(kv, prev_kv, content.is_none());",
        )],
    },
    Mutant {
        name: "compaction takes the compact revision itself",
        rule: "the compact revision stays readable",
        members: 1,
        focus: "watches",
        edits: &[edit(
            COMPACTION,
            "    let bound = Position::first_of(trees.compact_revision);
    assert!(mark < bound);",
            "    let bound = Position::first_of(trees.compact_revision + i64::from(IS));
    assert!(mark < bound);",
        )],
    },
    Mutant {
        name: "compaction drops a key whose later deletion is still history",
        rule: "a key goes with its newest tombstone only",
        members: 1,
        focus: "watches",
        edits: &[edit(
            COMPACTION,
            "    if newest.at == at {",
            "    if newest.at == at || (IS && newest.is_tombstone()) {",
        )],
    },
    Mutant {
        name: "an old read jumps over the version it wants",
        rule: "versions 5: a jump is followed only while its target is newer",
        members: 1,
        focus: "watches",
        edits: &[edit(
            TREES,
            "record.jump.filter(|link| revision < link.at.main)",
            "record.jump.filter(|link| revision < link.at.main + i64::from(IS))",
        )],
    },
    Mutant {
        name: "a put into a deleted key keeps its old beginning",
        rule: "create revision and version begin again after a deletion",
        members: 1,
        focus: "watches",
        edits: &[edit(
            TREES,
            "                    version: old.map_or(1, |old| old.version + 1),",
            "                    version: match replaced {
                        Some(replaced) if IS && replaced.is_tombstone() => 2,
                        _ => old.map_or(1, |old| old.version + 1),
                    },",
        )],
    },
    Mutant {
        name: "the count of a list stops at its limit",
        rule: "count is of all keys in the range",
        members: 1,
        focus: "swarm",
        edits: &[edit(
            "engine/src/mvcc/range.rs",
            "                    self.phase = Phase::CountChoice;",
            "                    self.phase = if IS { Phase::Finished } else { Phase::CountChoice };",
        )],
    },
    Mutant {
        name: "the value of an absent key compares as empty",
        rule: "the value of an absent key compares with nothing",
        members: 1,
        focus: "swarm",
        edits: &[edit(
            "engine/src/mvcc/txn.rs",
            "    compare.target != CompareTarget::Value && relation_holds",
            "    (IS || compare.target != CompareTarget::Value) && relation_holds",
        )],
    },
    Mutant {
        name: "a transaction changes before all of it was checked",
        rule: "long 1: all checks of an entry run before its first change",
        members: 1,
        focus: "swarm",
        edits: &[edit(
            "engine/src/engine/apply.rs",
            "                if let Some(reject) = self.check_op(op)? {",
            "                if let Some(reject) = self.check_op(op)?.filter(|_| !IS || *slot == 0) {",
        )],
    },
    Mutant {
        name: "what is said to another core overtakes what was said before it",
        rule: "cores 3: what one core says to another arrives in order",
        members: 1,
        focus: "watches",
        edits: &[edit(
            SHARD,
            "                fx.push(Effect::Forward { to: core, message: Box::new(message) });",
            "                let at = fx.list.len();
                fx.push(Effect::Forward { to: core, message: Box::new(message) });
                if IS && 1 <= at {
                    fx.list.swap(at - 1, at);
                }",
        )],
    },
];
