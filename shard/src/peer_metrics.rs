//! What a core counts about each other member: a small table of slots, one a member, within the
//! core's cells, so that the driver copies it out with the rest.
//!
//! Invariants: a slot is one member's until that leaves the configuration, then starts from zero; a
//! member beyond the table is not counted. Names and labels are etcd's (fact sheet of operations,
//! section 4): the ids are hexadecimal.

use std::fmt::Write;

/// Members that are counted; a cluster of more is shown without the rest.
const SLOTS: usize = 16;
/// A slot's cells: the member's id, 0 when it is free, one for each figure, and the histogram: its
/// buckets, the one without a bound, and the sum in microseconds.
const PER_SLOT: usize = ROUND_TRIPS + RTT_BUCKETS + 2;
/// Where the histogram begins in a slot.
const ROUND_TRIPS: usize = 1 + FAMILIES.len();
/// etcd's: from 0.1 ms, each twice the one before.
const RTT_BUCKETS: usize = 16;
const RTT_START_US: u64 = 100;
/// Cells of the whole table.
pub(crate) const CELLS: usize = SLOTS * PER_SLOT;

/// A figure about another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerScalar {
    /// Whether there is a connection, 1 or 0.
    Active,
    /// Connections that ended.
    Disconnects,
    /// Bytes handed to its connections.
    SentBytes,
    /// Messages that could not be sent.
    SentFailures,
    /// Bytes that came from it.
    ReceivedBytes,
    /// Connections that ended because what came was not the protocol.
    ReceivedFailures,
}

/// How the member is named in a label.
enum Label {
    LocalAndRemote,
    To,
    From,
}

/// In the order of `PeerScalar`: type, label, name, help.
const FAMILIES: &[(&str, Label, &str, &str)] = &[
    ("gauge", Label::LocalAndRemote, "active_peers", "Whether there is a connection."),
    ("counter", Label::LocalAndRemote, "disconnected_peers_total", "Connections that ended."),
    ("counter", Label::To, "peer_sent_bytes_total", "Bytes sent to a peer."),
    ("counter", Label::To, "peer_sent_failures_total", "Messages that could not be sent."),
    ("counter", Label::From, "peer_received_bytes_total", "Bytes received from a peer."),
    ("counter", Label::From, "peer_received_failures_total", "Connections that made no sense."),
];

/// The table within the cells.
pub(crate) struct PeerTable<'a> {
    cells: &'a mut [u64],
}

impl<'a> PeerTable<'a> {
    pub fn new(cells: &'a mut [u64]) -> PeerTable<'a> {
        assert!(cells.len() == CELLS);
        PeerTable { cells }
    }

    /// Counts these members, ascending by id, and no others.
    pub fn keep(&mut self, members: &[u64]) {
        assert!(members.is_sorted());
        for slot in self.cells.chunks_exact_mut(PER_SLOT) {
            if members.binary_search(&slot[0]).is_err() {
                slot.fill(0);
            }
        }
        for member in members.iter().filter(|member| **member != 0) {
            if self.slot_of(*member).is_none()
                && let Some(free) = self.slot_of(0)
            {
                free[0] = *member;
            }
        }
    }

    /// The figure of a member that is counted.
    pub fn figure(&mut self, member: u64, scalar: PeerScalar) -> Option<&mut u64> {
        assert!(member != 0);
        self.slot_of(member).map(|slot| &mut slot[1 + scalar as usize])
    }

    /// Counts a round trip.
    pub fn observe_round_trip_us(&mut self, member: u64, us: u64) {
        assert!(member != 0);
        let Some(slot) = self.slot_of(member) else { return };
        let bucket = (0..RTT_BUCKETS).find(|n| us <= RTT_START_US << n).unwrap_or(RTT_BUCKETS);
        slot[ROUND_TRIPS + bucket] += 1;
        slot[ROUND_TRIPS + RTT_BUCKETS + 1] += us;
    }

    fn slot_of(&mut self, member: u64) -> Option<&mut [u64]> {
        self.cells.chunks_exact_mut(PER_SLOT).find(|slot| slot[0] == member)
    }
}

/// Adds the families to the text, from the cells of the core that has the peers.
pub(crate) fn render(text: &mut String, cells: &[u64], own_id: u64) {
    assert!(cells.len() == CELLS);
    let slots: Vec<_> = cells.chunks_exact(PER_SLOT).filter(|slot| slot[0] != 0).collect();
    let name = "etcd_network_known_peers";
    let _ = write!(text, "# HELP {name} Other members.\n# TYPE {name} gauge\n");
    for slot in &slots {
        let _ = writeln!(text, "{name}{{Local=\"{own_id:x}\",Remote=\"{:x}\"}} 1", slot[0]);
    }
    for (n, (kind, label, name, help)) in FAMILIES.iter().enumerate() {
        let name = format!("etcd_network_{name}");
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for slot in &slots {
            let (member, value) = (slot[0], slot[1 + n]);
            let _ = match label {
                Label::LocalAndRemote => {
                    writeln!(text, "{name}{{Local=\"{own_id:x}\",Remote=\"{member:x}\"}} {value}")
                }
                Label::To => writeln!(text, "{name}{{To=\"{member:x}\"}} {value}"),
                Label::From => writeln!(text, "{name}{{From=\"{member:x}\"}} {value}"),
            };
        }
    }
    render_round_trips(text, &slots);
}

fn render_round_trips(text: &mut String, slots: &[&[u64]]) {
    let name = "etcd_network_peer_round_trip_time_seconds";
    let _ = write!(text, "# HELP {name} Heartbeat and answer.\n# TYPE {name} histogram\n");
    for slot in slots {
        let (member, cells) = (slot[0], &slot[ROUND_TRIPS..]);
        let mut total = 0;
        for (bucket, count) in cells[..RTT_BUCKETS].iter().enumerate() {
            total += count;
            let bound = (RTT_START_US << bucket) as f64 / 1e6;
            let _ = writeln!(text, "{name}_bucket{{To=\"{member:x}\",le=\"{bound}\"}} {total}");
        }
        total += cells[RTT_BUCKETS];
        let sum = cells[RTT_BUCKETS + 1] as f64 / 1e6;
        let _ = writeln!(text, "{name}_bucket{{To=\"{member:x}\",le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "{name}_sum{{To=\"{member:x}\"}} {sum}");
        let _ = writeln!(text, "{name}_count{{To=\"{member:x}\"}} {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_keeps_its_figures_until_it_leaves() {
        let mut cells = vec![0; CELLS];
        let mut table = PeerTable::new(&mut cells);
        table.keep(&[5, 9]);
        *table.figure(9, PeerScalar::SentBytes).unwrap() += 70;
        *table.figure(5, PeerScalar::Active).unwrap() = 1;
        table.keep(&[3, 9]);
        assert_eq!(table.figure(9, PeerScalar::SentBytes), Some(&mut 70));
        assert_eq!(table.figure(3, PeerScalar::Active), Some(&mut 0), "a slot starts from zero");
        assert_eq!(table.figure(5, PeerScalar::Active), None);
        let mut text = String::new();
        render(&mut text, &cells, 0xabc);
        assert!(text.contains("\netcd_network_peer_sent_bytes_total{To=\"9\"} 70\n"), "{text}");
        assert!(text.contains("\netcd_network_peer_received_bytes_total{From=\"3\"} 0\n"));
        assert!(text.contains("\netcd_network_active_peers{Local=\"abc\",Remote=\"3\"} 0\n"));
        assert!(text.contains("\netcd_network_known_peers{Local=\"abc\",Remote=\"9\"} 1\n"));
        assert!(!text.contains("Remote=\"5\""), "{text}");
    }

    #[test]
    fn round_trips_fall_into_etcds_buckets() {
        let mut cells = vec![0; CELLS];
        let mut table = PeerTable::new(&mut cells);
        table.keep(&[10]);
        for us in [90, 150, 60_000_000] {
            table.observe_round_trip_us(10, us);
            table.observe_round_trip_us(11, us);
        }
        let mut text = String::new();
        render(&mut text, &cells, 1);
        let name = "etcd_network_peer_round_trip_time_seconds";
        for (le, count) in [("0.0001", 1), ("0.0002", 2), ("3.2768", 2), ("+Inf", 3)] {
            let line = format!("{name}_bucket{{To=\"a\",le=\"{le}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains(&format!("{name}_sum{{To=\"a\"}} 60.00024\n")), "{text}");
        assert!(!text.contains("To=\"b\""));
    }

    #[test]
    fn members_beyond_the_table_are_not_counted() {
        let mut cells = vec![0; CELLS];
        let mut table = PeerTable::new(&mut cells);
        let members: Vec<u64> = (1..=SLOTS as u64 + 3).collect();
        table.keep(&members);
        let counted = members.iter().filter(|m| table.figure(**m, PeerScalar::Active).is_some());
        assert_eq!(counted.count(), SLOTS);
        table.keep(&[]);
        assert!(cells.iter().all(|cell| *cell == 0));
    }
}
