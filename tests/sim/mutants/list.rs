//! The mutants: rules of storage.md, replication.md and etcd, each broken once.
//!
//! A mutant names a place by its exact text, which must stand there once, and what it becomes;
//! `mutant::is("name")` in it switches it on. So the shipped code knows nothing of them, and one
//! build holds all.
//! Source: issue 5; storage.md; replication.md; fact sheet of scenarios.

/// One rule broken.
pub struct Mutant {
    /// Its name, in words of the rule.
    pub name: &'static str,
    /// Members of the cluster that shows it.
    pub members: usize,
    /// The file, from the root of the repository.
    pub file: &'static str,
    /// What stands there.
    pub find: &'static str,
    /// What it becomes; `IS` stands for whether this mutant is switched on.
    pub becomes: &'static str,
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "forget the vote",
        members: 3,
        file: "raft/src/election.rs",
        find: "            self.ballot.vote = Some(from);",
        becomes: "            if !IS { self.ballot.vote = Some(from); }",
    },
    Mutant {
        name: "vote on the disk is lost",
        members: 3,
        file: "shard/src/wal.rs",
        find: "vote: state.vote.map_or(0, |vote| vote.0),",
        becomes: "vote: if IS { 0 } else { state.vote.map_or(0, |vote| vote.0) },",
    },
    Mutant {
        name: "answer a vote before it is durable",
        members: 3,
        file: "raft/src/election.rs",
        find: "        self.send_after_persist(from, Body::VoteAnswer { verdict, committed });",
        becomes: "        let answer = Body::VoteAnswer { verdict, committed };
        if IS { self.send_now(from, answer) } else { self.send_after_persist(from, answer) }",
    },
    Mutant {
        name: "answer an append before it is durable",
        members: 3,
        file: "raft/src/replication.rs",
        find: "        self.send_after_persist(to, Body::AppendAnswer { outcome, disk });",
        becomes: "        let answer = Body::AppendAnswer { outcome, disk };
        if IS { self.send_now(to, answer) } else { self.send_after_persist(to, answer) }",
    },
    Mutant {
        name: "vote for an older log",
        members: 3,
        file: "raft/src/election.rs",
        find: "            && last.is_up_to_date_with(self.log.last());
        let verdict",
        becomes: "            && (IS || last.is_up_to_date_with(self.log.last()));
        let verdict",
    },
    Mutant {
        name: "the leader counts itself before its write is durable",
        members: 3,
        file: "raft/src/replication.rs",
        find: "        let persisted = self.log.unstable.persisted();
        let peers = &self.peers;
        let reached",
        becomes: "        let persisted =
            if IS { self.log.last().index } else { self.log.unstable.persisted() };
        let peers = &self.peers;
        let reached",
    },
    Mutant {
        name: "commit entries of an old term by counting",
        members: 3,
        file: "raft/src/replication.rs",
        find: "        if reached <= before || reached < self.term_start {
            return;
        }
        assert!(self.log.term_of(reached) == Some(self.ballot.term));",
        becomes: "        if reached <= before || (!IS && reached < self.term_start) {
            return;
        }
        assert!(IS || self.log.term_of(reached) == Some(self.ballot.term));",
    },
    Mutant {
        name: "a heartbeat commits beyond what is known to agree",
        members: 3,
        file: "raft/src/replication.rs",
        find: "        let commit = self.log.commit().min(progress.matched);",
        becomes: "        let commit =
            if IS { self.log.commit() } else { self.log.commit().min(progress.matched) };",
    },
    Mutant {
        name: "an append commits beyond its own entries",
        members: 3,
        file: "raft/src/replication.rs",
        find: "        self.log.commit_to(commit.min(matched));",
        becomes: "        let end = if IS { self.log.last().index } else { matched };
        self.log.commit_to(commit.min(end));",
    },
    Mutant {
        name: "read without asking a quorum",
        members: 3,
        file: "raft/src/read_index.rs",
        find: "        if self.is_sole_quorum() || self.has_lease() {",
        becomes: "        if IS || self.is_sole_quorum() || self.has_lease() {",
    },
    Mutant {
        name: "read before the term's first entry is committed",
        members: 3,
        file: "raft/src/read_index.rs",
        find: "        if !self.is_term_committed() {
            return;",
        becomes: "        if !IS && !self.is_term_committed() {
            return;",
    },
    Mutant {
        name: "read before the index is applied",
        members: 3,
        file: "shard/src/replica/read.rs",
        find: "            if applied_index < *index {",
        becomes: "            if !IS && applied_index < *index {",
    },
    Mutant {
        name: "acknowledge before the sync",
        members: 1,
        file: "raft/src/replication.rs",
        find: "        self.is_flush_due |= !self.peers.is_empty();
        id
    }",
        becomes: "        self.is_flush_due |= !self.peers.is_empty();
        if IS && self.is_sole_quorum() { self.log.commit_to(id.index); }
        id
    }",
    },
    Mutant {
        name: "a meta page before the WAL is synced up to it",
        members: 3,
        file: "shard/src/replica/checkpoint.rs",
        find: "        flight.stage = FlightStage::WaitingForWal;
        if wal.is_synced_to",
        becomes: "        flight.stage = FlightStage::WaitingForWal;
        if IS || wal.is_synced_to",
    },
    Mutant {
        name: "take a page that the older meta page reaches",
        members: 1,
        file: "engine/src/page/freelist.rs",
        find: "        join(&mut self.pending);
        assert!(self.pending.len() <= self.list_pages.len() * PENDING_ENTRIES);
        std::mem::swap(&mut self.pending, &mut self.pending_before);",
        becomes: "        join(&mut self.pending);
        assert!(self.pending.len() <= self.list_pages.len() * PENDING_ENTRIES);
        if IS {
            let early = std::mem::take(&mut self.pending);
            self.pending_pages -= early.iter().map(|extent| extent.pages).sum::<u64>();
            for &extent in &early { self.touch_extent(extent); self.release(extent); }
        }
        std::mem::swap(&mut self.pending, &mut self.pending_before);",
    },
    Mutant {
        name: "an unsynced frame says that it is synced",
        members: 1,
        file: "engine/src/wal/writer.rs",
        find: "        self.sealed = end;",
        becomes: "        self.sealed = end;
        if IS { self.synced = end; }",
    },
    Mutant {
        name: "a lease runs out early",
        members: 1,
        file: "shard/src/replica/lease_clock.rs",
        find: "            if now_us < deadline_us {",
        becomes: "            if now_us + if IS { 900_000 } else { 0 } < deadline_us {",
    },
    Mutant {
        name: "a renewal changes nothing",
        members: 1,
        file: "shard/src/replica/lease_clock.rs",
        find: "        lease.deadline_us = deadline_us(now_us, lease.ttl_s);",
        becomes: "        if !IS { lease.deadline_us = deadline_us(now_us, lease.ttl_s); }",
    },
    Mutant {
        name: "a new leader ends leases by an old leader's time",
        members: 3,
        file: "shard/src/replica/maintenance.rs",
        find: "        let full = leases.iter().map(|lease| (lease.id, lease.ttl_s));",
        becomes: "        let full =
            leases.iter().map(|lease| (lease.id, if IS { 1 } else { lease.ttl_s }));",
    },
    Mutant {
        name: "expired leases are never revoked",
        members: 1,
        file: "shard/src/replica/background.rs",
        find: "            let revoke = Command::LeaseRevoke { id: lease, cause: RevokeCause::Expired };",
        becomes: "            if IS { continue; }
            let revoke = Command::LeaseRevoke { id: lease, cause: RevokeCause::Expired };",
    },
    Mutant {
        name: "a watch that catches up skips a revision",
        members: 1,
        file: "engine/src/watch/catch_up.rs",
        find: "        self.position = Position::first_of(first);",
        becomes: "        self.position = Position::first_of(first + i64::from(IS));",
    },
    Mutant {
        name: "history is delivered twice",
        members: 1,
        file: "engine/src/watch/catch_up.rs",
        find: "        let mut next = selected.next.max(self.complete + 1);",
        becomes: "        let mut next =
            if IS { selected.next.max(self.complete) } else { selected.next.max(self.complete + 1) };",
    },
    Mutant {
        name: "compaction takes the compact revision itself",
        members: 1,
        file: "engine/src/mvcc/compaction.rs",
        find: "    let bound = Position::first_of(trees.compact_revision);
    assert!(mark < bound);",
        becomes: "    let bound = Position::first_of(trees.compact_revision + i64::from(IS));
    assert!(mark < bound);",
    },
    Mutant {
        name: "an answer belongs to any life of its member",
        members: 3,
        file: "shard/src/replica/pending.rs",
        find: "        if (id.member_id, id.incarnation) != (self.member_id, self.incarnation) {",
        becomes: "        if !IS && (id.member_id, id.incarnation) != (self.member_id, self.incarnation) {",
    },
];
