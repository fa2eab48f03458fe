//! Raft's invariants, as far as a member's log lines and its disk show them.
//!
//! Election safety: one leader a term. One vote a term, and terms never go back, in what is on the
//! disk. Log matching: who holds the same (index, term) holds the same entry, with the same one
//! before it. State-machine safety: what one member's disk knows to be committed, no other's knows
//! otherwise; and nobody's committed entry changes from one life to the next.
//! Leader completeness: who begins to lead has a log as long as all that was seen to be committed
//! in earlier terms; that it holds the same entries is what the others say.
//! Source: Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm, figure 3.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::history::Complaint;

const CHECK: &str = "raft log";

/// An entry on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DiskEntry {
    pub index: u64,
    pub term: u64,
    pub kind: u8,
    pub data: Vec<u8>,
}

/// What a disk holds of a group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DiskLog {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
    pub entries: Vec<DiskEntry>,
}

/// Everything seen of a group so far.
#[derive(Clone, Debug, Default)]
pub struct LogBook {
    leaders: BTreeMap<u64, u64>,
    /// Highest commit index seen in each term.
    commits: BTreeMap<u64, u64>,
    /// Term of each member's disk, and its vote there.
    ballots: BTreeMap<u64, (u64, u64)>,
    /// Hash of each (index, term), and the term before it where it was seen.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    /// Term of each committed index.
    committed: BTreeMap<u64, u64>,
}

impl LogBook {
    /// A member says that it leads.
    ///
    /// # Errors
    /// Another one led this term.
    pub fn on_leader(&mut self, member: u64, term: u64) -> Result<(), Complaint> {
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader != member {
            let what = format!("term {term} has two leaders: {leader} and {member}");
            return Err(Complaint::new(CHECK, what));
        }
        Ok(())
    }

    /// What a running member says of itself; `leads_to` is the end of its log if it has just begun
    /// to lead.
    ///
    /// # Errors
    /// Another one led its term, or its log lacks what was committed before.
    pub fn on_status(
        &mut self,
        member: u64,
        term: u64,
        commit: u64,
        leads_to: Option<u64>,
    ) -> Result<(), Complaint> {
        let newest = self.commits.entry(term).or_default();
        *newest = commit.max(*newest);
        let Some(last) = leads_to else { return Ok(()) };
        let before = self.commits.range(..term).map(|(_, commit)| *commit).max();
        if last < before.unwrap_or_default() {
            let what = format!(
                "member {member} leads term {term} with a log up to {last}; {before:?} were \
                 committed before"
            );
            return Err(Complaint::new(CHECK, what));
        }
        self.on_leader(member, term)
    }

    /// A disk was read: after a crash, or at the end.
    ///
    /// # Errors
    /// It contradicts itself as it was, or another disk.
    pub fn on_disk(&mut self, member: u64, log: &DiskLog) -> Result<(), Complaint> {
        let (term, vote) = self.ballots.get(&member).copied().unwrap_or_default();
        let is_other_vote = log.term == term && vote != 0 && log.vote != vote;
        if log.term < term || is_other_vote {
            let what = format!(
                "member {member} had term {term} and vote {vote:x}, now {} and {:x}",
                log.term, log.vote
            );
            return Err(Complaint::new(CHECK, what));
        }
        self.ballots.insert(member, (log.term, log.vote));
        let mut before: Option<&DiskEntry> = None;
        for entry in &log.entries {
            self.on_entry(member, entry, before)?;
            if entry.index <= log.commit {
                self.on_committed(member, entry)?;
            }
            before = Some(entry);
        }
        Ok(())
    }

    /// How many committed entries were seen.
    pub fn committed_count(&self) -> usize {
        self.committed.len()
    }

    fn on_entry(
        &mut self,
        member: u64,
        entry: &DiskEntry,
        before: Option<&DiskEntry>,
    ) -> Result<(), Complaint> {
        let term_before = match before {
            Some(before) if before.index + 1 != entry.index || entry.term < before.term => {
                let what = format!("member {member}: {entry:?} follows {before:?}");
                return Err(Complaint::new(CHECK, what));
            }
            before => before.map(|before| before.term),
        };
        let hash = xxh3_64_with_seed(&entry.data, u64::from(entry.kind));
        let place = (entry.index, entry.term);
        let known = self.entries.entry(place).or_insert((hash, term_before));
        let is_other_before = known.1.is_some() && term_before.is_some() && known.1 != term_before;
        if known.0 != hash || is_other_before {
            let what = format!("(index, term) {place:?} is another entry at member {member}");
            return Err(Complaint::new(CHECK, what));
        }
        known.1 = known.1.or(term_before);
        Ok(())
    }

    fn on_committed(&mut self, member: u64, entry: &DiskEntry) -> Result<(), Complaint> {
        let term = *self.committed.entry(entry.index).or_insert(entry.term);
        if term != entry.term {
            let what = format!(
                "entry {} was committed in term {term}, member {member} committed one of {}",
                entry.index, entry.term
            );
            return Err(Complaint::new(CHECK, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(term: u64, vote: u64, commit: u64, terms: &[u64]) -> DiskLog {
        let entry = |(slot, term): (usize, &u64)| DiskEntry {
            index: slot as u64 + 1,
            term: *term,
            kind: 1,
            data: vec![*term as u8, slot as u8],
        };
        DiskLog { term, vote, commit, entries: terms.iter().enumerate().map(entry).collect() }
    }

    #[test]
    fn logs_that_agree_where_they_must_pass() {
        let mut book = LogBook::default();
        book.on_disk(1, &log(2, 1, 2, &[1, 1, 2])).expect("the first");
        book.on_disk(2, &log(3, 2, 1, &[1, 1, 3])).expect("another uncommitted tail");
        book.on_disk(1, &log(3, 2, 3, &[1, 1, 3])).expect("the tail was replaced");
        assert_eq!(book.committed_count(), 3);
        book.on_leader(1, 2).expect("the first");
        book.on_leader(1, 2).expect("the same");
        book.on_leader(2, 3).expect("another term");
    }

    #[test]
    fn violations_are_complained_about() {
        let seen = || {
            let mut book = LogBook::default();
            book.on_leader(1, 2).expect("the first");
            book.on_disk(1, &log(2, 1, 2, &[1, 1, 2])).expect("the first");
            book
        };
        let told = |result: Result<(), Complaint>| result.expect_err("a violation").what;
        assert!(told(seen().on_leader(2, 2)).contains("two leaders"));
        let mut book = seen();
        book.on_status(1, 2, 3, None).expect("no leader");
        book.on_status(2, 3, 1, Some(3)).expect("it has all three");
        assert!(told(book.on_status(1, 4, 1, Some(2))).contains("committed before"));
        assert!(told(seen().on_disk(1, &log(2, 2, 2, &[1, 1, 2]))).contains("vote"));
        assert!(told(seen().on_disk(1, &log(1, 1, 2, &[1, 1]))).contains("had term 2"));
        assert!(told(seen().on_disk(2, &log(3, 1, 2, &[1, 3]))).contains("was committed"));
        let mut other = log(2, 1, 0, &[1, 1, 2]);
        other.entries[2].data.push(0);
        assert!(told(seen().on_disk(2, &other)).contains("another entry"));
        assert!(told(seen().on_disk(2, &log(3, 1, 0, &[1, 2, 2]))).contains("another entry"));
        assert!(told(seen().on_disk(2, &log(3, 1, 0, &[2, 1]))).contains("follows"));
        let mut gap = log(2, 1, 0, &[1, 1, 2]);
        gap.entries.remove(1);
        assert!(told(seen().on_disk(2, &gap)).contains("follows"));
    }
}
