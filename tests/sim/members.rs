//! Members that come and go in the world: who is started, whose directory is wiped, who is left.
//!
//! Fault model: a wiped directory is lost for good, with every entry and every vote that was in it.
//! So that what was acknowledged keeps one copy, one is wiped at a time, never one of two voters,
//! and only one that every other voter has met, as a disk that was wiped before anybody knew it
//! cannot be told from a new one; nor one whose command line names no other member. The process
//! that is started in the empty directory, under its old id, is let in by nobody; the machine serves
//! again as a new member.
//! Source: replication.md, Membership 2 and 4; issue 5.

use engine::wal::recovery::recover;
use net::wire::ClusterMember;
use raft::{Configuration, Role};
use shard::config::{InitialMember, Origin};

use super::clients::Program;
use super::coverage::Sight;
use super::process::{Member, Standing, host_of};
use super::queue::Happening;
use super::sectors::Survival;
use super::trace::Level;
use super::world::World;
use crate::check::Complaint;
use crate::check::members::{Ledger, View};

impl World {
    /// Where a peer URL leads: to the newest member there.
    pub(super) fn slot_at(&self, url: &str) -> Option<usize> {
        let is_there = |member: &Member| member.config.peer_urls.iter().any(|own| own == url);
        self.members.iter().rposition(is_there)
    }

    /// The members of a list are to run: who is new among them gets an empty directory.
    pub(super) fn enroll(&mut self, list: &[ClusterMember]) {
        for new in list {
            if self.members.iter().any(|member| member.config.member_id == new.id) {
                continue;
            }
            // One host runs one member.
            if let Some(before) = self.slot_at(&new.peer_urls[0]) {
                self.dismiss(before);
                self.end_process(before, false);
            }
            let own = named(new);
            let others = list.iter().filter(|other| other.id != new.id).map(named);
            let origin = Origin::Joiner { members: others.collect() };
            let (now_us, random) = (self.now_us, &mut self.random);
            let member = Member::born(&self.plan, now_us, own, origin, random);
            self.trace.say(Level::Faults, now_us, || {
                format!("member {} is {:x}, a new one", self.members.len(), new.id)
            });
            self.begin(member);
        }
    }

    fn begin(&mut self, member: Member) {
        let slot = self.members.len();
        if member.standing == Standing::Present {
            self.present.push(slot);
        }
        self.members.push(member);
        let at_us = self.now_us + self.random.between(1_000, 400_000);
        self.queue.push(at_us, Happening::Starts { member: slot });
    }

    /// A member is not started again.
    pub(super) fn dismiss(&mut self, slot: usize) {
        self.members[slot].standing = Standing::Gone;
        self.present.retain(|known| *known != slot);
    }

    /// A member that was removed ended; some are started again by whoever looks after processes.
    pub(super) fn on_removed_ended(&mut self, slot: usize) {
        self.coverage.add(Sight::RemovedEnded);
        let is_over = self.phase != super::session::Phase::Faults;
        if is_over || self.random.chance(700) {
            self.dismiss(slot);
        }
    }

    /// A member says that it was removed.
    pub(super) fn on_removal_told(&mut self, slot: usize) {
        self.members[slot].is_removed = true;
        if self.members[slot].is_leading {
            self.coverage.add(Sight::LeaderRemoved);
        }
    }

    /// The directory of a member is wiped, if that is within the fault model.
    pub(super) fn maybe_wipe(&mut self, client: usize, id: u64, expected: &[u64]) {
        let Some(slot) = self.wipeable(id, expected) else { return };
        self.coverage.add(Sight::DirectoryWiped);
        self.trace.say(Level::Faults, self.now_us, || {
            format!("the directory of member {slot} is wiped; {} starts there", self.members.len())
        });
        self.dismiss(slot);
        self.end_process(slot, true);
        self.members[slot].disk.lose_power(Survival::Nothing, &mut self.random);
        let wiped = &self.members[slot].config;
        let own = InitialMember {
            id: wiped.member_id,
            name: wiped.name.clone(),
            peer_urls: wiped.peer_urls.clone(),
        };
        let host = host_of(&wiped.peer_urls[0]).expect("URLs are the world's");
        let origin = wiped.origin.clone();
        let mut impostor = Member::born(&self.plan, self.now_us, own, origin, &mut self.random);
        impostor.standing = Standing::Impostor;
        self.begin(impostor);
        if let Program::Steward(steward) = &mut self.clients[client].program {
            steward.on_wiped(id);
            steward.on_host_free(host);
        }
    }

    fn wipeable(&self, id: u64, expected: &[u64]) -> Option<usize> {
        let slot = self.members.iter().rposition(|member| member.config.member_id == id)?;
        if matches!(&self.members[slot].config.origin, Origin::Founder { members } if members.len() < 2)
        {
            // Told that it is alone, it founds a cluster of its own, as etcd does: nobody is asked.
            return None;
        }
        let configuration = self.configuration()?;
        let members: Vec<u64> = configuration.members().map(|member| member.0).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let voters: Vec<u64> = configuration.voters.iter().map(|voter| voter.0).collect();
        let is_small = voters.len() < 3 || !configuration.voters_outgoing.is_empty();
        if is_small || members != expected || !voters.contains(&id) {
            return None;
        }
        let is_met = |other: &u64| {
            let is_other = |slot: &&usize| self.members[**slot].config.member_id == *other;
            let other = self.present.iter().find(is_other);
            let recovered = other.and_then(|other| recover(&self.members[*other].disk).ok());
            recovered.is_some_and(|recovered| recovered.notes.contains_key(&id))
        };
        let is_known = voters.iter().filter(|voter| **voter != id).all(is_met);
        (self.present.contains(&slot) && is_known).then_some(slot)
    }

    /// The newest configuration that a running member has applied.
    fn configuration(&self) -> Option<Configuration> {
        let statuses = self.members.iter().filter_map(|member| {
            let status = member.raft_status()?;
            (member.standing != Standing::Impostor).then_some(status)
        });
        statuses.max_by_key(|status| status.applied).map(|status| status.configuration)
    }

    /// Faults and changes are over: the members that belong to the cluster are those that count.
    pub(super) fn settle_members(&mut self) {
        let Some(configuration) = self.configuration() else { return };
        let members = &self.members;
        self.present.retain(|slot| {
            let id = members[*slot].config.member_id;
            configuration.members().any(|member| member.0 == id)
        });
    }

    /// An impostor says something of itself.
    ///
    /// # Errors
    /// It leads, or serves.
    pub(super) fn judge_impostor(&self, slot: usize, is_serving: bool) -> Result<(), Complaint> {
        if self.members[slot].standing != Standing::Impostor {
            return Ok(());
        }
        let status = self.members[slot].raft_status();
        if is_serving || status.is_some_and(|status| status.role == Role::Leader) {
            let what = format!("member {slot}, wiped, was let in under its old id");
            return Err(Complaint::new("members", what));
        }
        Ok(())
    }

    /// Judges who is there in the end.
    ///
    /// # Errors
    /// See `check::members`.
    pub fn judge_members(&self, ledger: &Ledger) -> Result<(), Complaint> {
        let view = |slot: usize| {
            let member = &self.members[slot];
            let status = member.raft_status()?;
            Some(View {
                id: member.config.member_id,
                voters: status.configuration.voters.iter().map(|voter| voter.0).collect(),
                learners: status.configuration.learners.iter().map(|member| member.0).collect(),
            })
        };
        let views: Vec<View> = self.present.iter().filter_map(|slot| view(*slot)).collect();
        let others = (0..self.members.len()).filter(|slot| !self.present.contains(slot));
        let others: Vec<View> = others.filter_map(view).collect();
        ledger.check(&views, &others)
    }
}

fn named(member: &ClusterMember) -> InitialMember {
    let peer_urls = member.peer_urls.clone();
    let host = host_of(&peer_urls[0]).expect("URLs are the world's");
    InitialMember { id: member.id, name: format!("m{host}"), peer_urls }
}
