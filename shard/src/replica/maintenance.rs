//! Small questions to a replica: leases, members, alarms, status.
//!
//! Invariant: answered from published state; what depends on time is answered by the leader, after
//! a read-index round. Source: fact sheet of semantics, sections 7, 9 and 14.

use engine::page::map::{Corruption, PageMap};

use super::Replica;
use super::damage::page_repair::Need;
use crate::message::{Call, LeaseTimeToLive, Member, Origin, Outcome, Status};
use crate::metrics::{Metrics, Scalar};

impl<M: PageMap> Replica<M> {
    /// Answers what needs no slices.
    pub(super) fn small_read(&mut self, call: Call, metrics: &mut Metrics) -> Outcome {
        let revision = self.engine.revision();
        match call {
            Call::LeaseKeepAlive { id } => {
                let ttl_s = self.leases.renew(id, self.now_us);
                metrics.add(Scalar::LeasesRenewed, u64::from(ttl_s.is_some()));
                Outcome::LeaseKeepAlive { revision, id, ttl_s: ttl_s.unwrap_or(0) }
            }
            Call::LeaseLeases => {
                Outcome::LeaseLeases { revision, ids: self.leases.ids_by_deadline() }
            }
            Call::AuthStatus => Outcome::AuthStatus { revision },
            Call::AlarmList { alarm } => {
                let mut alarms = self.engine.alarms().to_vec();
                alarms.retain(|(_, known)| alarm.is_none_or(|wanted| wanted == *known));
                Outcome::AlarmList { revision, alarms }
            }
            Call::MemberList { .. } => Outcome::MemberList(self.member_list()),
            Call::Health { .. } => Outcome::Health(self.health(None)),
            other => unreachable!("{other:?} is not a small read"),
        }
    }

    /// The members as applied here.
    pub(super) fn member_list(&self) -> Vec<Member> {
        self.members.iter().map(member).collect()
    }

    /// A new leader keeps the leases from when it has applied the first entry of its term: each
    /// gets its full time again, as nobody knows when it was renewed last.
    pub(super) fn take_over_leases(&mut self) {
        let term = self.raft.soft_state().term.0;
        if !self.is_leader() || self.lease_term == term || !self.has_applied_own_term() {
            return;
        }
        if self.is_store_away() || (self.are_leases_stale && self.page_repair.holds_pages()) {
            return;
        }
        self.restart_leases();
        if self.are_leases_stale {
            return;
        }
        self.lease_term = term;
        self.needs_step = true;
    }

    /// All leases begin anew; as soon as they can be read, if a page of theirs is broken.
    pub(super) fn restart_leases(&mut self) {
        let leases = match self.engine.leases() {
            Ok(leases) => leases,
            Err(corruption) if self.has_others() => {
                self.on_broken_page(&corruption, Need::Read);
                self.are_leases_stale = true;
                // What is known belongs to another state: a lease of it may be granted again.
                self.leases.clear();
                return;
            }
            Err(corruption) => panic!("the leases cannot be read: {corruption}"),
        };
        self.are_leases_stale = false;
        let full = leases.iter().map(|lease| (lease.id, lease.ttl_s));
        self.leases.restart(full, self.now_us, self.config.election_timeout_us);
    }

    /// Leases that could not be read before.
    pub(super) fn restart_stale_leases(&mut self) {
        if self.are_leases_stale && !self.page_repair.holds_pages() {
            self.restart_leases();
        }
    }

    /// How long a lease lives, and its keys if they are asked for.
    pub(super) fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<Outcome, Corruption> {
        let revision = self.engine.revision();
        let Some((ttl_s, granted_ttl_s)) = self.leases.remaining_s(id, self.now_us) else {
            let unknown = LeaseTimeToLive { revision, id, ttl_s: -1, ..LeaseTimeToLive::default() };
            return Ok(Outcome::LeaseTimeToLive(unknown));
        };
        let mut listed = Vec::new();
        if keys {
            self.engine.lease_keys(id, &mut |key| listed.push(key.to_vec()))?;
        }
        Ok(Outcome::LeaseTimeToLive(LeaseTimeToLive {
            revision,
            id,
            ttl_s,
            granted_ttl_s,
            keys: listed,
        }))
    }

    pub(super) fn is_learner(&self) -> bool {
        let own = self.config.member_id;
        self.members.iter().any(|member| member.id == own && member.is_learner)
    }

    /// Status is local and never waits.
    pub(super) fn on_status(&mut self, origin: Origin) {
        let soft = self.raft.soft_state();
        let quota = match self.config.quota_backend_bytes {
            0 => crate::limits::QUOTA_DEFAULT_BYTES as i64,
            quota => quota,
        };
        let status = Status {
            revision: self.revision(),
            db_size_bytes: self.engine.db_size_bytes() as i64,
            db_size_in_use_bytes: self.engine.in_use_size_bytes() as i64,
            db_size_quota_bytes: quota,
            leader: soft.leader.map_or(0, |leader| leader.0),
            raft_index: self.raft.commit().0,
            raft_applied_index: self.engine.applied_index(),
            alarms: self.engine.alarms().to_vec(),
            is_learner: self.is_learner(),
        };
        self.answer(origin, Outcome::Status(Box::new(status)));
    }
}

fn member(member: &engine::engine::Member) -> Member {
    Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        binary_urls: member.binary_urls.clone(),
        is_learner: member.is_learner,
    }
}
