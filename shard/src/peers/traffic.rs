//! What goes to and comes from each member, on its way to the core's figures.
//!
//! Invariants: counted where it happens, told once a step; what is told is zero again. One heartbeat
//! a member is timed at a time: those behind it find out nothing more.

use super::Peers;
use crate::metrics::Metrics;
use crate::peer_metrics::{PeerHistogram, PeerScalar};

/// Since it was last told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub sent_bytes: u64,
    pub sent_failures: u64,
    pub received_bytes: u64,
    pub received_failures: u64,
    pub disconnects: u64,
    /// How long a heartbeat's answer took.
    pub round_trip_us: Option<u64>,
}

/// A heartbeat that is timed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    round: u64,
    sent_us: u64,
}

impl Peers {
    /// Tells the figures of the step.
    pub fn publish(&mut self, metrics: &mut Metrics) {
        if std::mem::take(&mut self.are_members_new) {
            let members = self.peers.iter().filter(|(_, peer)| peer.is_member);
            let members: Vec<_> = members.map(|(member, _)| *member).collect();
            metrics.keep_peers(&members);
        }
        for (member, peer) in &mut self.peers {
            let traffic = std::mem::take(&mut peer.traffic);
            for (scalar, n) in [
                (PeerScalar::SentBytes, traffic.sent_bytes),
                (PeerScalar::SentFailures, traffic.sent_failures),
                (PeerScalar::ReceivedBytes, traffic.received_bytes),
                (PeerScalar::ReceivedFailures, traffic.received_failures),
                (PeerScalar::Disconnects, traffic.disconnects),
            ] {
                if 0 < n {
                    metrics.add_of_peer(*member, scalar, n);
                }
            }
            if let Some(us) = traffic.round_trip_us {
                metrics.observe_of_peer_us(*member, PeerHistogram::RoundTrip, us);
            }
            metrics.set_of_peer(*member, PeerScalar::Active, u64::from(peer.link.is_some()));
        }
    }

    /// A heartbeat leaves; timed, unless one is already. One whose answer was lost gives way.
    pub fn on_heartbeat_sent(&mut self, member: u64, round: u64) {
        let now_us = self.now_us;
        let Some(peer) = self.peers.get_mut(&member) else { return };
        if peer.timed.is_none_or(|timed| timed.sent_us + ANSWER_US_MAX <= now_us) {
            peer.timed = Some(Timed { round, sent_us: now_us });
        }
    }

    /// The answer to a heartbeat came.
    pub fn on_heartbeat_answered(&mut self, member: u64, round: u64) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        if let Some(timed) = peer.timed.take_if(|timed| timed.round == round) {
            peer.traffic.round_trip_us = Some(self.now_us - timed.sent_us);
        }
    }

    /// The traffic of a member that is known.
    pub(super) fn traffic(&mut self, member: Option<u64>) -> Option<&mut Traffic> {
        self.peers.get_mut(&member?).map(|peer| &mut peer.traffic)
    }
}

/// An answer is waited for this long.
const ANSWER_US_MAX: u64 = 5_000_000;
