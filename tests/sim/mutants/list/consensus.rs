//! Rules of elections, of the log, of reads, and of proposals from any member.
//!
//! Source: replication.md; Raft thesis, chapters 3, 4, 6 and 10; fact sheet of scenarios.

use super::{Mutant, edit};

const ELECTION: &str = "raft/src/election.rs";
const REPLICATION: &str = "raft/src/replication.rs";
const READ_INDEX: &str = "raft/src/read_index.rs";
const LOG: &str = "raft/src/log.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "forget the vote",
        rule: "a vote is given once a term (thesis 3.4)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            ELECTION,
            "            self.ballot.vote = Some(from);",
            "            if !IS { self.ballot.vote = Some(from); }",
        )],
    },
    Mutant {
        name: "a candidate gives its own vote to another as well",
        rule: "a vote is given once a term (thesis 3.4)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            ELECTION,
            "vote: Some(self.config.id) };",
            "vote: if IS { None } else { Some(self.config.id) } };",
        )],
    },
    Mutant {
        name: "the vote on the disk is lost",
        rule: "what leaves when 1: the vote is durable",
        members: 3,
        focus: "duels",
        edits: &[edit(
            "shard/src/wal.rs",
            "vote: state.vote.map_or(0, |vote| vote.0),",
            "vote: if IS { 0 } else { state.vote.map_or(0, |vote| vote.0) },",
        )],
    },
    Mutant {
        name: "answer a vote before it is durable",
        rule: "what leaves when 1: vote answers leave after persist",
        members: 3,
        focus: "duels",
        edits: &[edit(
            ELECTION,
            "        self.send_after_persist(from, Body::VoteAnswer { verdict, committed });",
            "        let answer = Body::VoteAnswer { verdict, committed };
        if IS { self.send_now(from, answer) } else { self.send_after_persist(from, answer) }",
        )],
    },
    Mutant {
        name: "ask for votes in, and lead, a term that is not durable",
        rule: "what leaves when 1: nobody leads a term that is not durable here",
        members: 3,
        focus: "duels",
        edits: &[
            edit(
                ELECTION,
                "        let is_durable = self.ballot_durable == self.ballot;",
                "        let is_durable = IS || self.ballot_durable == self.ballot;",
            ),
            edit(
                ELECTION,
                "        assert!(self.ballot_durable == self.ballot, \"leading",
                "        assert!(IS || self.ballot_durable == self.ballot, \"leading",
            ),
            edit(
                ELECTION,
                "            self.send_after_persist_in(voter, term, body.clone());",
                "            let body = body.clone();
            if IS {
                self.messages_now.push(Message { from: self.config.id, to: voter, term, body });
            } else {
                self.send_after_persist_in(voter, term, body);
            }",
            ),
        ],
    },
    Mutant {
        name: "vote for an older log",
        rule: "leader completeness: a vote goes to a log at least as complete (thesis 3.6.1)",
        members: 3,
        focus: "duels",
        edits: &[
            edit(
                ELECTION,
                "            && last.is_up_to_date_with(self.log.last());
        let verdict",
                "            && (IS || last.is_up_to_date_with(self.log.last()));
        let verdict",
            ),
            edit(
                ELECTION,
                "            && last.is_up_to_date_with(self.log.last());
        if is_granted",
                "            && (IS || last.is_up_to_date_with(self.log.last()));
        if is_granted",
            ),
        ],
    },
    Mutant {
        name: "two of five are a quorum",
        rule: "two majorities meet (thesis 3.3)",
        members: 5,
        focus: "duels",
        edits: &[edit(
            "raft/src/quorum.rs",
            "    count / 2 + 1\n",
            "    if IS && 2 < count { count / 2 } else { count / 2 + 1 }\n",
        )],
    },
    Mutant {
        name: "commit what a voter told without comparing terms",
        rule: "state-machine safety: a told commit index counts for the same entry only",
        members: 3,
        focus: "duels",
        edits: &[edit(
            ELECTION,
            "|| !self.log.matches(committed) {",
            "|| !(self.log.matches(committed)
                || (IS && committed.index <= self.log.last().index)) {",
        )],
    },
    Mutant {
        name: "answer an append before it is durable",
        rule: "what leaves when 1: append answers leave after persist",
        members: 3,
        focus: "duels",
        edits: &[edit(
            REPLICATION,
            "        self.send_after_persist(to, Body::AppendAnswer { outcome, disk });",
            "        let answer = Body::AppendAnswer { outcome, disk };
        if IS { self.send_now(to, answer) } else { self.send_after_persist(to, answer) }",
        )],
    },
    Mutant {
        name: "the leader counts itself before its write is durable",
        rule: "the leader counts itself only for what is durable here (thesis 10.2.1)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            REPLICATION,
            "        let persisted = self.log.unstable.persisted();
        let peers = &self.peers;
        let reached",
            "        let persisted =
            if IS { self.log.last().index } else { self.log.unstable.persisted() };
        let peers = &self.peers;
        let reached",
        )],
    },
    Mutant {
        name: "commit entries of an old term by counting",
        rule: "only entries of the own term commit by counting (thesis 3.6.2)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            REPLICATION,
            "        if reached <= before || reached < self.term_start {
            return;
        }
        assert!(self.log.term_of(reached) == Some(self.ballot.term));",
            "        if reached <= before || (!IS && reached < self.term_start) {
            return;
        }
        assert!(IS || self.log.term_of(reached) == Some(self.ballot.term));",
        )],
    },
    Mutant {
        name: "a heartbeat commits beyond what is known to agree",
        rule: "a commit index is told no further than the logs agree",
        members: 3,
        focus: "duels",
        edits: &[edit(
            REPLICATION,
            "        let commit = self.log.commit().min(progress.matched);",
            "        let commit =
            if IS { self.log.commit() } else { self.log.commit().min(progress.matched) };",
        )],
    },
    Mutant {
        name: "an append commits before its entries are compared",
        rule: "a follower commits only what this append made agree",
        members: 3,
        focus: "duels",
        edits: &[edit(
            REPLICATION,
            "        let matched = self.log.append_after(previous, entries)?;",
            "        if IS { self.log.commit_to(commit.min(self.log.last().index)); }
        let matched = self.log.append_after(previous, entries)?;",
        )],
    },
    Mutant {
        name: "an append is taken without looking at the entry before it",
        rule: "log matching: the entry before the new ones agrees (thesis 3.5)",
        members: 3,
        focus: "duels",
        edits: &[
            edit(
                REPLICATION,
                "        if !self.log.matches(previous) {",
                "        let is_there = previous.index <= self.log.last().index;
        if !self.log.matches(previous) && !(IS && is_there) {",
            ),
            edit(
                LOG,
                "        assert!(self.matches(previous));
        let matched",
                "        assert!(IS || self.matches(previous));
        let matched",
            ),
        ],
    },
    Mutant {
        name: "a conflicting suffix is kept",
        rule: "log matching: entries that differ are replaced (thesis 3.5)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            LOG,
            "position(|entry| !self.matches(entry.id()));",
            "position(|entry| match IS {
            true => self.last().index < entry.index,
            false => !self.matches(entry.id()),
        });",
        )],
    },
    Mutant {
        name: "read without asking a quorum",
        rule: "a read is answered after a round of a quorum (thesis 6.4)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            READ_INDEX,
            "        if self.is_sole_quorum() || self.has_lease() {",
            "        if IS || self.is_sole_quorum() || self.has_lease() {",
        )],
    },
    Mutant {
        name: "read before the term's first entry is committed",
        rule: "a new leader serves no read before an entry of its term is committed (thesis 6.4)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            READ_INDEX,
            "        if !self.is_term_committed() {
            return;",
            "        if !IS && !self.is_term_committed() {
            return;",
        )],
    },
    Mutant {
        name: "read before the index is applied",
        rule: "a read waits until its index is applied (thesis 6.4)",
        members: 3,
        focus: "duels",
        edits: &[edit(
            "shard/src/replica/read.rs",
            "            if applied_index < *index {",
            "            if !IS && applied_index < *index {",
        )],
    },
    Mutant {
        name: "any member answers linearizable reads by itself",
        rule: "only serializable reads are local",
        members: 3,
        focus: "duels",
        edits: &[edit(
            "shard/src/replica/read.rs",
            "            Call::Range(range) => range.is_serializable(),",
            "            Call::Range(range) => IS || range.is_serializable(),",
        )],
    },
    Mutant {
        name: "an answer belongs to any life of its member",
        rule: "proposals 2: an entry of an earlier life answers nobody",
        members: 3,
        focus: "duels",
        edits: &[edit(
            "shard/src/replica/pending.rs",
            "        if (id.member_id, id.incarnation) != (self.member_id, self.incarnation) {",
            "        if !IS && (id.member_id, id.incarnation) != (self.member_id, self.incarnation) {",
        )],
    },
    Mutant {
        name: "a start does not raise the incarnation",
        rule: "what leaves when 2: each start raises a durable incarnation",
        members: 3,
        focus: "duels",
        edits: &[
            edit(
                "shard/src/shard.rs",
                "recovered.start(RunNumber(recovered.run.0 + 1))",
                "recovered.start(RunNumber(recovered.run.0 + u64::from(!IS)))",
            ),
            edit(
                "engine/src/wal/recovered.rs",
                "assert!(self.run < run",
                "assert!(IS || self.run < run",
            ),
        ],
    },
    Mutant {
        name: "a proposal is sent again when its connection ends",
        rule: "proposals 1: a proposal is sent to one leader, once, on one connection",
        members: 3,
        focus: "duels",
        edits: &[edit(
            "shard/src/replica/forward.rs",
            "            self.sent.clear();",
            "            for (_, held) in std::mem::take(&mut self.sent) {
                if IS { self.hold(held.counter, held.command); }
            }",
        )],
    },
];
