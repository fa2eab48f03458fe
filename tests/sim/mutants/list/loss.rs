//! Rules of what happens to a member that lost something, or was away for too long.
//!
//! Source: replication.md, Damage; storage.md, State transfer and "Reading through the map".

use super::{Mutant, edit};

const INSTALL: &str = "shard/src/replica/transfer/install.rs";
const MENDING: &str = "shard/src/replica/damage/mending.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "watches do not hear that the state was replaced",
        rule: "transfer 2: watchers go on without gap or repetition",
        members: 3,
        focus: "rot",
        edits: &[edit(
            INSTALL,
            "        self.reset_watches();",
            "        if !IS { self.reset_watches(); }",
        )],
    },
    Mutant {
        name: "a hole is the log's end",
        rule: "damage 1: a corrupt middle is not cut off as if it were torn",
        members: 3,
        focus: "rot",
        edits: &[edit(
            MENDING,
            "        restored.entries = before;",
            "        restored.entries = before;
        if IS { return None; }",
        )],
    },
    Mutant {
        name: "who mends its log votes and answers",
        rule: "damage 1: until it is mended a member takes no part",
        members: 3,
        focus: "rot",
        edits: &[
            edit(
                "shard/src/replica/messages.rs",
                "                PeerMessage::Raft(_) if self.is_mending() => {}",
                "                PeerMessage::Raft(_) if !IS && self.is_mending() => {}",
            ),
            edit(
                "shard/src/replica/mod.rs",
                "        if self.is_mending() {
            return;
        }
        self.send_released(peers);",
                "        if !IS && self.is_mending() {
            return;
        }
        self.send_released(peers);",
            ),
        ],
    },
    Mutant {
        name: "an entry that met a broken page is applied again on what it left",
        rule: "map 1: an entry that fails in the middle leaves no state to go on from",
        members: 3,
        focus: "rot",
        edits: &[edit(
            "shard/src/replica/damage/rewind.rs",
            "            Stage::Waiting => self.go_back(fx),",
            "            Stage::Waiting if IS => { self.end_rewind(fx); Ok(()) }
            Stage::Waiting => self.go_back(fx),",
        )],
    },
    Mutant {
        name: "a page is not compared with what its parent says",
        rule: "map 1: a lost write leaves a valid old page",
        members: 3,
        focus: "disk",
        edits: &[edit(
            "engine/src/page/heap.rs",
            "        if found != expected {",
            "        if !IS && found != expected {",
        )],
    },
];
