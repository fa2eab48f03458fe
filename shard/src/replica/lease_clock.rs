//! When leases run out, on the leader's clock. What a lease is (its keys, its TTL) is replicated
//! state of the engine; only the time is kept here.
//!
//! Invariants: a lease never expires before its TTL has passed since the confirmation of its last
//! renewal; a new leader gives every lease its full TTL; a lease whose revocation was proposed is
//! never renewed. Source: fact sheet of semantics, section 7; replication law "Reads and leases".

use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a lease lives at least, from the election timeout: etcd's ceil(1.5 timeouts).
pub fn ttl_s_min(election_timeout_us: u64) -> i64 {
    let us = election_timeout_us + election_timeout_us / 2;
    i64::try_from(us.div_ceil(1_000_000)).expect("an election timeout is at most minutes")
}

/// Longest TTL that etcd grants, seconds.
pub const TTL_S_MAX: i64 = 9_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_s: i64,
    deadline_us: u64,
    is_revoking: bool,
}

/// Deadlines of all leases.
#[derive(Clone, Debug, Default)]
pub struct LeaseClock {
    leases: BTreeMap<i64, Lease>,
    /// (deadline, id) of every lease that is not being revoked.
    deadlines: BTreeSet<(u64, i64)>,
}

impl LeaseClock {
    /// Starts over, as a new leader does: every lease gets its full TTL and `extra_us` on top.
    pub fn restart(
        &mut self,
        leases: impl Iterator<Item = (i64, i64)>,
        now_us: u64,
        extra_us: u64,
    ) {
        self.clear();
        for (id, ttl_s) in leases {
            self.start(id, ttl_s, now_us + extra_us);
        }
    }

    /// No lease is known any more: the records that say which there are cannot be read now.
    pub fn clear(&mut self) {
        self.leases.clear();
        self.deadlines.clear();
    }

    /// A lease was granted.
    pub fn start(&mut self, id: i64, ttl_s: i64, now_us: u64) {
        let deadline_us = deadline_us(now_us, ttl_s);
        let replaced = self.leases.insert(id, Lease { ttl_s, deadline_us, is_revoking: false });
        assert!(replaced.is_none(), "a lease id is granted once");
        self.deadlines.insert((deadline_us, id));
    }

    /// A lease was revoked.
    pub fn forget(&mut self, id: i64) {
        if let Some(lease) = self.leases.remove(&id) {
            self.deadlines.remove(&(lease.deadline_us, id));
        }
        assert!(self.deadlines.len() <= self.leases.len());
    }

    /// Renews: the TTL, or `None` for an unknown lease or one that is running out right now.
    pub fn renew(&mut self, id: i64, now_us: u64) -> Option<i64> {
        let lease = self.leases.get_mut(&id)?;
        if lease.is_revoking || lease.deadline_us <= now_us {
            return None;
        }
        let was_there = self.deadlines.remove(&(lease.deadline_us, id));
        assert!(was_there, "a lease that is not being revoked has its deadline listed");
        lease.deadline_us = deadline_us(now_us, lease.ttl_s);
        self.deadlines.insert((lease.deadline_us, id));
        Some(lease.ttl_s)
    }

    /// (remaining whole seconds, granted TTL); 0 remaining while a revocation is under way.
    pub fn remaining_s(&self, id: i64, now_us: u64) -> Option<(i64, i64)> {
        let lease = self.leases.get(&id)?;
        let remaining_us = lease.deadline_us.saturating_sub(now_us);
        Some(((remaining_us / 1_000_000) as i64, lease.ttl_s))
    }

    /// Ids by remaining time.
    pub fn ids_by_deadline(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.leases.iter().map(|(id, l)| (l.deadline_us, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Takes at most `count_max` leases that ran out: their revocation is to be proposed now.
    pub fn take_expired(&mut self, now_us: u64, count_max: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while expired.len() < count_max {
            let Some(&(deadline_us, id)) = self.deadlines.first() else { break };
            if now_us < deadline_us {
                break;
            }
            self.deadlines.pop_first();
            let lease = self.leases.get_mut(&id).expect("a listed deadline is a lease's");
            assert!(!lease.is_revoking);
            lease.is_revoking = true;
            expired.push(id);
        }
        expired
    }

    /// The proposal of a revocation was lost: it is to be proposed again.
    pub fn put_back(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.is_revoking = false;
            self.deadlines.insert((lease.deadline_us, id));
        }
    }
}

fn deadline_us(now_us: u64, ttl_s: i64) -> u64 {
    assert!(0 < ttl_s, "TTLs are clamped before they are proposed");
    now_us.saturating_add((ttl_s as u64).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn a_lease_runs_out_after_its_ttl_and_not_before() {
        let mut clock = LeaseClock::default();
        clock.start(7, 5, 0);
        assert!(clock.take_expired(5 * SECOND_US - 1, 10).is_empty());
        assert_eq!(clock.remaining_s(7, 4_500_000), Some((0, 5)));
        assert_eq!(clock.take_expired(5 * SECOND_US, 10), [7]);
        assert_eq!(clock.remaining_s(7, 6 * SECOND_US), Some((0, 5)));
        clock.forget(7);
        assert_eq!(clock.remaining_s(7, 6 * SECOND_US), None);
    }

    #[test]
    fn a_renewed_lease_lives_on_and_a_dying_one_is_not_raised() {
        let mut clock = LeaseClock::default();
        clock.start(7, 5, 0);
        assert_eq!(clock.renew(7, 3 * SECOND_US), Some(5));
        assert!(clock.take_expired(5 * SECOND_US, 10).is_empty());
        assert_eq!(clock.renew(7, 8 * SECOND_US), None, "it is past its time, though not revoked");
        assert_eq!(clock.take_expired(8 * SECOND_US, 10), [7]);
        assert_eq!(clock.renew(7, 8 * SECOND_US), None);
        clock.put_back(7);
        assert_eq!(clock.take_expired(8 * SECOND_US, 10), [7]);
    }

    #[test]
    fn a_new_leader_gives_the_full_ttl() {
        let mut clock = LeaseClock::default();
        clock.restart([(1, 5), (2, 3)].into_iter(), 100 * SECOND_US, SECOND_US);
        assert_eq!(clock.ids_by_deadline(), [2, 1]);
        assert!(clock.take_expired(104 * SECOND_US - 1, 10).is_empty());
        assert_eq!(clock.take_expired(200 * SECOND_US, 1), [2]);
        assert_eq!(clock.take_expired(200 * SECOND_US, 1), [1]);
    }

    #[test]
    fn a_clock_without_its_records_knows_nobody_until_it_begins_anew() {
        let mut clock = LeaseClock::default();
        clock.start(7, 5, 0);
        assert_eq!(clock.take_expired(5 * SECOND_US, 10), [7]);
        clock.clear();
        // The loss of a proposal that was made before is told now: it is nobody's.
        clock.put_back(7);
        assert!(clock.take_expired(9 * SECOND_US, 10).is_empty());
        // In a state that was installed, 7 was revoked; now it is granted again.
        clock.start(7, 5, 6 * SECOND_US);
        clock.restart([(1, 5), (7, 5)].into_iter(), 7 * SECOND_US, 0);
        assert_eq!(clock.ids_by_deadline(), [1, 7]);
    }

    #[test]
    fn the_shortest_ttl_follows_the_election_timeout() {
        assert_eq!(ttl_s_min(1_000_000), 2);
        assert_eq!(ttl_s_min(2_000_000), 3);
    }
}
