//! Members: in the end the cluster consists of whom its operator was told it does, every member knows
//! the same ones, and who was removed does not run any more.
//!
//! What cannot be seen here: a change whose outcome nobody was told may have been made or not.
//! Source: etcd, Runtime reconfiguration; replication.md, Membership.

use std::collections::BTreeSet;

use net::wire::ClusterMember;

use super::history::Complaint;

const CHECK: &str = "members";

/// What an operator was told of the members.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Founders, and those whose addition was confirmed.
    added: BTreeSet<u64>,
    /// Their removal was confirmed.
    removed: BTreeSet<u64>,
    /// Their removal was asked for, and nothing is known of it.
    maybe_removed: BTreeSet<u64>,
    /// Additions of which nothing is known.
    open_additions: usize,
}

/// A member as it sees itself in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its id.
    pub id: u64,
    /// The voters it knows, ascending.
    pub voters: Vec<u64>,
    /// The learners.
    pub learners: Vec<u64>,
}

impl Ledger {
    /// A cluster of founders.
    pub fn new(founders: &[u64]) -> Ledger {
        Ledger { added: founders.iter().copied().collect(), ..Ledger::default() }
    }

    /// An addition was confirmed.
    pub fn on_added(&mut self, id: u64) {
        assert!(self.added.insert(id), "member {id:x} was added twice");
    }

    /// A removal was confirmed.
    pub fn on_removed(&mut self, id: u64) {
        self.removed.insert(id);
        self.maybe_removed.remove(&id);
    }

    /// Nobody knows what came of a removal.
    pub fn on_removal_open(&mut self, id: u64) {
        if !self.removed.contains(&id) {
            self.maybe_removed.insert(id);
        }
    }

    /// Nobody knows what came of an addition.
    pub fn on_addition_open(&mut self) {
        self.open_additions += 1;
    }

    /// Whether a removal may have been made, or may still be.
    pub fn has_open_removals(&self) -> bool {
        !self.maybe_removed.is_empty()
    }

    /// Whether a list is older than a removal that was confirmed.
    pub fn is_overtaken(&self, members: &[ClusterMember]) -> bool {
        members.iter().any(|member| self.removed.contains(&member.id))
    }

    /// A change was confirmed with this list.
    ///
    /// # Panics
    /// It names who is removed.
    pub fn check_told(&self, members: &[ClusterMember]) {
        let is_overtaken = self.is_overtaken(members);
        assert!(!is_overtaken, "a list that follows a change names who was removed: {members:?}");
    }

    /// Judges the end: all views of those that belong to the cluster, and the views of all others
    /// whose processes still run.
    ///
    /// # Errors
    /// They do not agree with each other, or with what the operator was told.
    pub fn check(&self, views: &[View], others: &[View]) -> Result<(), Complaint> {
        let complain = |what: String| Err(Complaint::new(CHECK, what));
        let Some(first) = views.first() else { return complain("nobody is there".to_string()) };
        for view in views {
            if (&view.voters, &view.learners) != (&first.voters, &first.learners) {
                return complain(format!("{view:x?} knows other members than {first:x?}"));
            }
        }
        let present: BTreeSet<u64> = first.voters.iter().chain(&first.learners).copied().collect();
        let running: BTreeSet<u64> = views.iter().map(|view| view.id).collect();
        if present != running {
            return complain(format!("{present:x?} are members, {running:x?} run as such"));
        }
        if let Some(id) = present.intersection(&self.removed).next() {
            return complain(format!("member {id:x} was removed and is still there"));
        }
        let is_lost = |id: &&u64| {
            !present.contains(id) && !self.removed.contains(id) && !self.maybe_removed.contains(id)
        };
        if let Some(id) = self.added.iter().find(is_lost) {
            return complain(format!("nobody removed member {id:x}, and it is not there"));
        }
        let strangers = present.difference(&self.added).count();
        if self.open_additions < strangers {
            return complain(format!("of {present:x?} {strangers} were never added"));
        }
        for other in others {
            // Who knows nobody that is still there hears of its removal from nobody.
            let knows = other.voters.iter().chain(&other.learners);
            if let Some(id) = knows.clone().find(|id| present.contains(id)) {
                return complain(format!("member {:x} was removed, knows {id:x}, runs", other.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: u64, voters: &[u64]) -> View {
        View { id, voters: voters.to_vec(), learners: Vec::new() }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(&[1, 2, 3]);
        ledger.on_added(4);
        ledger.on_removal_open(2);
        ledger.on_removed(3);
        ledger
    }

    #[test]
    fn what_an_operator_was_told_is_so() {
        let with = |ids: &[u64]| -> Vec<View> { ids.iter().map(|id| view(*id, ids)).collect() };
        ledger().check(&with(&[1, 2, 4]), &[]).expect("the removal of 2 was not made");
        ledger().check(&with(&[1, 4]), &[]).expect("it was made");
        ledger().check(&with(&[1, 4]), &[view(3, &[2, 3])]).expect("3 knows nobody");
        let told = |views: &[View], others: &[View]| {
            ledger().check(views, others).expect_err("it is wrong").what
        };
        assert!(told(&with(&[1, 3, 4]), &[]).contains("still there"));
        assert!(told(&with(&[1]), &[]).contains("nobody removed"));
        assert!(told(&with(&[1, 4, 5]), &[]).contains("never added"));
        assert!(told(&with(&[1, 4]), &[view(3, &[1, 3])]).contains("runs"));
        assert!(told(&[view(1, &[1, 4]), view(4, &[1, 2, 4])], &[]).contains("knows other"));
        assert!(told(&[view(1, &[1, 4])], &[]).contains("run as such"));
        let mut open = ledger();
        open.on_addition_open();
        open.check(&with(&[1, 4, 5]), &[]).expect("an addition whose outcome was not told");
        assert!(open.has_open_removals());
        open.on_removed(2);
        open.on_removal_open(2);
        assert!(!open.has_open_removals(), "it is known");
    }
}
