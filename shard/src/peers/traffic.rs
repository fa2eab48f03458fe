//! What goes to and comes from each member, on its way to the core's figures.
//!
//! Invariant: counted where it happens, told once a step; what is told is zero again.

use super::Peers;
use crate::metrics::Metrics;
use crate::peer_metrics::PeerScalar;

/// Since it was last told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub sent_bytes: u64,
    pub sent_failures: u64,
    pub received_bytes: u64,
    pub received_failures: u64,
    pub disconnects: u64,
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
            metrics.set_peer_active(*member, peer.link.is_some());
        }
    }

    /// The traffic of a member that is known.
    pub(super) fn traffic(&mut self, member: Option<u64>) -> Option<&mut Traffic> {
        self.peers.get_mut(&member?).map(|peer| &mut peer.traffic)
    }
}
