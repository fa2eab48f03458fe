//! Rules of members that come and go.
//!
//! Source: replication.md, Membership; Raft thesis, chapter 4; fact sheet of scenarios.

use super::{Mutant, edit};

const MEMBERSHIP: &str = "raft/src/membership.rs";
const GROWTH: &str = "shard/src/replica/growth.rs";
const HANDSHAKE: &str = "shard/src/peers/handshake.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "who was removed counts in the quorum for ever",
        rule: "membership 1: a change takes effect when it is applied",
        members: 3,
        focus: "members",
        edits: &[edit(
            MEMBERSHIP,
            "            remove(&mut self.voters, id);",
            "            if !(IS && matches!(step, ChangeStep::Remove(_))) {
                remove(&mut self.voters, id);
            }",
        )],
    },
    Mutant {
        name: "who was removed is talked to as before",
        rule: "membership 2: who was removed is told so",
        members: 3,
        focus: "members",
        edits: &[edit(
            HANDSHAKE,
            "            return Err(Refusal::Removed);",
            "            if !IS { return Err(Refusal::Removed); }",
        )],
    },
    Mutant {
        name: "a member is added before there is a checkpoint that it could be sent",
        rule: "membership 1: a group that adds a voter can still lose another one",
        members: 3,
        focus: "members",
        edits: &[edit(
            GROWTH,
            "        !self.checkpoint.serves_newborn()\n    }",
            "        !IS && !self.checkpoint.serves_newborn()\n    }",
        )],
    },
];
