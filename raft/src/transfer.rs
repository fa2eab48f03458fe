//! Leader transfer: on wish, and by a leader whose disk is stuck.
//!
//! Invariants: one transfer at a time, given up after T, or as soon as the target says that it does
//! not campaign: proposals wait for nothing longer than they must; no proposal is taken while it
//! runs; the target holds the whole log when it is asked to campaign; a leader that asked serves no
//! lease read for the rest of its term. The transfer needs no write on the leader's side.
//! Source: Raft thesis section 3.10; replication.md, "Elections and slow disks", rule 2.

use crate::error::{CampaignError, TransferError};
use crate::message::{Body, CampaignCause};
use crate::node::RaftNode;
use crate::progress::ProgressState;
use crate::types::{ReplicaId, Role};

/// A leader transfer that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub target: ReplicaId,
    /// It is given up at 0.
    pub ticks_left: u32,
    /// Nobody asked for it: the own disk was stuck.
    is_for_disk: bool,
    /// The target was asked to campaign.
    is_target_asked: bool,
}

impl RaftNode {
    /// Hands leadership to `target`, catching it up first; given up after T. A follower passes the
    /// wish on to the leader.
    ///
    /// # Errors
    /// [`TransferError`]: no transfer was started.
    pub fn transfer_leader(&mut self, target: ReplicaId) -> Result<(), TransferError> {
        if self.role != Role::Leader {
            let leader = self.leader.ok_or(TransferError::NoLeader)?;
            if leader == target {
                return Err(TransferError::AlreadyLeader);
            }
            self.send_now(leader, Body::TransferRequest { target });
            return Ok(());
        }
        if target == self.config.id {
            return Err(TransferError::AlreadyLeader);
        }
        if !self.may_lead_next(target) {
            return Err(TransferError::NotVoter);
        }
        if self.peers.get(&target).is_none_or(|progress| progress.disk.is_stuck) {
            return Err(TransferError::TargetStuck);
        }
        if self.transfer.is_some_and(|transfer| transfer.target == target) {
            return Ok(());
        }
        let ticks_left = self.config.election_timeout_ticks;
        let (is_for_disk, is_target_asked) = (false, false);
        self.transfer = Some(Transfer { target, ticks_left, is_for_disk, is_target_asked });
        self.is_flush_due = true;
        self.maybe_send_timeout_now(target);
        Ok(())
    }

    pub(crate) fn may_lead_next(&self, id: ReplicaId) -> bool {
        self.configuration.voters.binary_search(&id).is_ok()
    }

    /// A wish for a transfer; one for the leader itself is how a target says that it does not
    /// campaign.
    pub(crate) fn on_transfer_request(&mut self, from: ReplicaId, target: ReplicaId) {
        if self.role != Role::Leader {
            return;
        }
        if target != self.config.id {
            // A wish that cannot be met is dropped, as a wish that was lost would be.
            let _ = self.transfer_leader(target);
        } else if self.transfer.is_some_and(|transfer| transfer.target == from) {
            self.transfer = None;
        }
    }

    /// Sends TimeoutNow once the target holds the whole log.
    pub(crate) fn maybe_send_timeout_now(&mut self, peer: ReplicaId) {
        let last = self.log.last().index;
        let is_caught_up = self.peers.get(&peer).is_some_and(|p| p.matched == last);
        if let Some(transfer) = &mut self.transfer
            && transfer.target == peer
            && is_caught_up
        {
            transfer.is_target_asked = true;
            self.is_timeout_now_sent = true;
            self.send_now(peer, Body::TimeoutNow);
        }
    }

    /// The leader asks this replica to campaign: no pre-vote, and voters do not wait. One that must
    /// not says so, since the leader holds back every proposal until it knows.
    pub(crate) fn on_timeout_now(&mut self, from: ReplicaId) {
        match self.check_may_campaign() {
            Ok(()) => self.become_candidate(CampaignCause::Transfer),
            Err(CampaignError::AlreadyLeader) => {}
            Err(_) => self.send_now(from, Body::TransferRequest { target: from }),
        }
    }

    pub(crate) fn tick_transfer(&mut self) {
        let is_disk_stuck = self.health.disk.is_stuck;
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.ticks_left -= 1;
        // The disk goes again before the target, slow as well, was as far as to be asked.
        let is_needless = transfer.is_for_disk && !transfer.is_target_asked && !is_disk_stuck;
        if transfer.ticks_left == 0 || is_needless {
            self.transfer = None;
        }
    }

    /// A leader whose disk is stuck hands over to the caught-up voter with the youngest unsynced
    /// write; with none better it stays. The transfer itself needs no write here.
    pub(crate) fn maybe_hand_over(&mut self) {
        if !self.health.disk.is_stuck || self.transfer.is_some() {
            return;
        }
        let commit = self.log.commit();
        let own_age_us = self.health.disk.sync_age_us;
        let best = self
            .peers
            .iter()
            .filter(|(id, progress)| {
                self.may_lead_next(**id)
                    && progress.is_recently_active
                    && progress.state == ProgressState::Replicate
                    && commit <= progress.matched
                    && !progress.disk.is_stuck
                    && progress.disk.sync_age_us < own_age_us
            })
            .min_by_key(|(id, progress)| (progress.disk.sync_age_us, **id))
            .map(|(id, _)| *id);
        if let Some(target) = best {
            let started = self.transfer_leader(target);
            assert!(started.is_ok(), "the filter above asks for more than a transfer does");
            let transfer = self.transfer.as_mut().expect("just started");
            transfer.is_for_disk = true;
        }
    }
}
