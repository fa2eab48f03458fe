//! What a replica counts where the core's metrics are out of reach, until the end of the step.
//!
//! Invariants: nothing is lost and nothing counted twice; what gathers is bounded by the kinds of
//! figures there are, and for transfers by the members that take part. A transfer of state is
//! counted once: it is under way from the first request for its pages until its receiver has it,
//! or until nothing is heard of it for a while, however many connections it needs.
//! Source: fact sheet of operations, section 4.

use std::collections::BTreeMap;

use engine::api::{Reject, Response};
use engine::page::map::PageMap;

use super::Replica;
use crate::message::{MemberChangeKind, Unavailable};
use crate::metrics::{Metrics, Scalar};
use crate::peer_metrics::{PeerHistogram, PeerScalar};

/// A transfer of which nothing was heard for so long has failed: a receiver that lost its connection
/// comes back sooner.
const ABANDONED_US: u64 = 15_000_000;

/// Figures on their way into the metrics.
#[derive(Debug, Default)]
pub(super) struct Figures {
    scalars: Vec<(Scalar, u64)>,
    of_peers: Vec<(u64, PeerFigure)>,
    /// To others: whom, and what is known of it.
    sends: BTreeMap<u64, Send>,
    /// To this member: from whom, and since when.
    receipt: Option<(u64, u64)>,
    /// When each member was sent its last heartbeat in this term.
    heartbeats: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerFigure {
    Add(PeerScalar),
    Set(PeerScalar, u64),
    Took(PeerHistogram, u64),
}

#[derive(Clone, Copy, Debug)]
struct Send {
    started_us: u64,
    heard_us: u64,
    /// Who has applied or logged this has the state.
    index: u64,
}

impl Figures {
    /// One more.
    pub fn count(&mut self, scalar: Scalar) {
        match self.scalars.iter_mut().find(|(known, _)| *known == scalar) {
            Some((_, n)) => *n += 1,
            None => self.scalars.push((scalar, 1)),
        }
    }

    /// A leader's heartbeat leaves; after two intervals it is late, as etcd counts it.
    pub fn on_heartbeat(&mut self, member: u64, now_us: u64, interval_us: u64) {
        let last_us = self.heartbeats.insert(member, now_us);
        if last_us.is_some_and(|last_us| last_us + 2 * interval_us < now_us) {
            self.count(Scalar::HeartbeatFailures);
        }
    }

    /// Another term, or another role in it: what was before is no measure.
    pub fn on_role_change(&mut self) {
        self.heartbeats.clear();
    }

    /// A proposal of a client came to nothing.
    pub fn on_proposal_failed(&mut self) {
        self.count(Scalar::ProposalsFailed);
    }

    /// A learner was to be promoted and is not.
    pub fn on_promotion_refused(&mut self, why: Unavailable) {
        self.count(match why {
            Unavailable::LearnerNotReady => Scalar::PromotionsNotReady,
            Unavailable::NotEnoughStarted => Scalar::PromotionsNotEnoughStarted,
            _ => Scalar::PromotionsTimedOut,
        });
    }

    /// A change of a member was applied, or refused at apply.
    pub fn on_change_applied(&mut self, kind: MemberChangeKind, response: &Response) {
        if kind != MemberChangeKind::Promoted {
            return;
        }
        self.count(match response {
            Response::Rejected { reject: Reject::MemberNotLearner, .. } => {
                Scalar::PromotionsNotLearner
            }
            Response::Rejected { .. } => Scalar::PromotionsUnknown,
            _ => Scalar::Promotions,
        });
    }

    /// Pages of the checkpoint at `index` are asked for by a member.
    pub fn on_pages_wanted(&mut self, member: u64, index: u64, now_us: u64) {
        let of_peers = &mut self.of_peers;
        let send = self.sends.entry(member).or_insert_with(|| {
            of_peers.push((member, PeerFigure::Set(PeerScalar::SnapshotSendInflights, 1)));
            Send { started_us: now_us, heard_us: now_us, index }
        });
        (send.heard_us, send.index) = (now_us, index);
    }

    /// Looks at what `matched` says that members have: their transfers are over, or abandoned.
    pub fn settle_sends(&mut self, now_us: u64, matched: impl Fn(u64) -> u64) {
        let of_peers = &mut self.of_peers;
        self.sends.retain(|member, send| {
            let is_done = send.index <= matched(*member);
            let is_over = is_done || send.heard_us + ABANDONED_US <= now_us;
            if is_done {
                let took_us = now_us - send.started_us;
                of_peers.push((*member, PeerFigure::Add(PeerScalar::SnapshotSendSuccess)));
                of_peers.push((*member, PeerFigure::Took(PeerHistogram::SnapshotSend, took_us)));
            } else if is_over {
                of_peers.push((*member, PeerFigure::Add(PeerScalar::SnapshotSendFailures)));
            }
            if is_over {
                of_peers.push((*member, PeerFigure::Set(PeerScalar::SnapshotSendInflights, 0)));
            }
            !is_over
        });
    }

    /// This member begins to fetch the state from another one.
    pub fn on_receipt_begun(&mut self, from: u64, now_us: u64) {
        self.receipt = Some((from, now_us));
        self.of_peers.push((from, PeerFigure::Set(PeerScalar::SnapshotReceiveInflights, 1)));
    }

    /// It came to nothing.
    pub fn on_receipt_failed(&mut self) {
        if let Some(from) = self.end_receipt() {
            self.of_peers.push((from, PeerFigure::Add(PeerScalar::SnapshotReceiveFailures)));
        }
    }

    /// It is not needed any more.
    pub fn on_receipt_dropped(&mut self) {
        self.end_receipt();
    }

    /// It is in place.
    pub fn on_receipt_installed(&mut self, now_us: u64) {
        let Some((_, started_us)) = self.receipt else { return };
        let from = self.end_receipt().expect("there is one");
        let took = PeerFigure::Took(PeerHistogram::SnapshotReceive, now_us - started_us);
        self.of_peers.push((from, PeerFigure::Add(PeerScalar::SnapshotReceiveSuccess)));
        self.of_peers.push((from, took));
    }

    fn end_receipt(&mut self) -> Option<u64> {
        let (from, _) = self.receipt.take()?;
        self.of_peers.push((from, PeerFigure::Set(PeerScalar::SnapshotReceiveInflights, 0)));
        Some(from)
    }

    /// Hands everything over.
    fn publish(&mut self, metrics: &mut Metrics) {
        for (scalar, n) in self.scalars.drain(..) {
            metrics.add(scalar, n);
        }
        for (member, figure) in self.of_peers.drain(..) {
            match figure {
                PeerFigure::Add(scalar) => metrics.add_of_peer(member, scalar, 1),
                PeerFigure::Set(scalar, value) => metrics.set_of_peer(member, scalar, value),
                PeerFigure::Took(histogram, us) => {
                    metrics.observe_of_peer_us(member, histogram, us)
                }
            }
        }
    }
}

impl<M: PageMap> Replica<M> {
    /// Tells what the step counted.
    pub(super) fn publish_figures(&mut self, metrics: &mut Metrics) {
        if !self.figures.sends.is_empty() {
            let status = self.raft.status();
            self.figures.settle_sends(self.now_us, |member| {
                let peer = status.peers.iter().find(|peer| peer.id.0 == member);
                peer.map_or(0, |peer| peer.matched.0)
            });
        }
        self.figures.publish(metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, line: &str) -> Option<String> {
        let identity = crate::metrics::Identity {
            member_id: 1,
            server_version: "3.7.0",
            methods: &[],
            process: "",
        };
        let text = crate::metrics::render(&[metrics.cells().to_vec()], &identity);
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map(|rest| rest.trim().to_owned())
    }

    #[test]
    fn a_transfer_is_counted_once_however_often_it_is_asked_for() {
        let mut metrics = Metrics::new(0);
        metrics.keep_peers(&[7]);
        let mut figures = Figures::default();
        for now_us in [1_000_000, 2_000_000, 9_000_000] {
            figures.on_pages_wanted(7, 50, now_us);
            figures.settle_sends(now_us, |_| 49);
        }
        figures.publish(&mut metrics);
        let send = |metrics: &Metrics, name: &str| {
            value(metrics, &format!("etcd_network_snapshot_send_{name}{{To=\"7\"}}"))
        };
        assert_eq!(send(&metrics, "inflights_total").as_deref(), Some("1"));
        figures.settle_sends(9_500_000, |_| 50);
        figures.settle_sends(9_600_000, |_| 51);
        figures.publish(&mut metrics);
        assert_eq!(send(&metrics, "inflights_total").as_deref(), Some("0"));
        assert_eq!(send(&metrics, "success").as_deref(), Some("1"));
        assert_eq!(send(&metrics, "failures").as_deref(), Some("0"));
        assert_eq!(send(&metrics, "total_duration_seconds_sum").as_deref(), Some("8.5"));
        // One that goes silent has failed.
        figures.on_pages_wanted(7, 90, 10_000_000);
        figures.settle_sends(10_000_000 + ABANDONED_US - 1, |_| 51);
        figures.publish(&mut metrics);
        assert_eq!(send(&metrics, "failures").as_deref(), Some("0"));
        figures.settle_sends(10_000_000 + ABANDONED_US, |_| 51);
        figures.publish(&mut metrics);
        assert_eq!(send(&metrics, "failures").as_deref(), Some("1"));
        assert_eq!(send(&metrics, "total_duration_seconds_count").as_deref(), Some("1"));
    }

    #[test]
    fn what_is_received_ends_in_one_of_three_ways() {
        let mut metrics = Metrics::new(0);
        metrics.keep_peers(&[7]);
        let mut figures = Figures::default();
        figures.on_receipt_begun(7, 1_000_000);
        figures.on_receipt_failed();
        figures.on_receipt_failed();
        figures.on_receipt_begun(7, 2_000_000);
        figures.on_receipt_dropped();
        figures.on_receipt_begun(7, 3_000_000);
        figures.on_receipt_installed(5_000_000);
        figures.on_receipt_installed(6_000_000);
        figures.publish(&mut metrics);
        let receive = |name: &str| {
            value(&metrics, &format!("etcd_network_snapshot_receive_{name}{{From=\"7\"}}"))
        };
        assert_eq!(receive("failures").as_deref(), Some("1"));
        assert_eq!(receive("success").as_deref(), Some("1"));
        assert_eq!(receive("inflights_total").as_deref(), Some("0"));
        assert_eq!(receive("total_duration_seconds_sum").as_deref(), Some("2"));
    }

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let mut figures = Figures::default();
        for (member, now_us) in [(7, 0), (7, 200), (8, 900), (7, 401)] {
            figures.on_heartbeat(member, now_us, 100);
        }
        assert_eq!(figures.scalars, [(Scalar::HeartbeatFailures, 1)]);
        figures.on_role_change();
        figures.on_heartbeat(7, 9_000, 100);
        assert_eq!(figures.scalars, [(Scalar::HeartbeatFailures, 1)]);
    }

    #[test]
    fn promotions_are_counted_by_their_reason() {
        let mut metrics = Metrics::new(0);
        let mut figures = Figures::default();
        figures.on_promotion_refused(Unavailable::LearnerNotReady);
        figures.on_promotion_refused(Unavailable::LearnerNotReady);
        let rejected = |reject| Response::Rejected { revision: 1, reject };
        let kind = MemberChangeKind::Promoted;
        figures.on_change_applied(kind, &rejected(Reject::MemberNotLearner));
        figures.on_change_applied(kind, &Response::Done { revision: 1 });
        figures.on_change_applied(MemberChangeKind::Removed, &Response::Done { revision: 1 });
        figures.publish(&mut metrics);
        assert_eq!(metrics.value(Scalar::Promotions), 1);
        assert_eq!(metrics.value(Scalar::PromotionsNotLearner), 1);
        let not_ready = "etcd_server_learner_promote_failures{Reason=\"etcdserver: can only \
                         promote a learner member which is in sync with leader\"}";
        assert_eq!(value(&metrics, not_ready).as_deref(), Some("2"));
    }
}
