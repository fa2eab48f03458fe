//! What a core counts about each other member: a small table of slots, one a member, within the
//! core's cells, so that the driver copies it out with the rest.
//!
//! Invariants: a slot is one member's until that leaves the configuration, then starts from zero; a
//! member beyond the table is not counted. Names and labels are etcd's (fact sheet of operations,
//! section 4): the ids are hexadecimal.

use std::fmt::Write;

/// Members that are counted; a cluster of more is shown without the rest.
const SLOTS: usize = 16;
/// A slot's cells: the member's id, 0 when it is free, one for each figure, and the histograms: each
/// has its buckets, the one without a bound, and the sum in microseconds.
const PER_SLOT: usize = histogram_start(HISTOGRAMS.len());
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
    /// Transfers of the state to it.
    SnapshotSendSuccess,
    /// Those that came to nothing.
    SnapshotSendFailures,
    /// Those under way.
    SnapshotSendInflights,
    /// Transfers of the state from it.
    SnapshotReceiveSuccess,
    /// Those that came to nothing.
    SnapshotReceiveFailures,
    /// Those under way.
    SnapshotReceiveInflights,
}

/// How long something with another member takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerHistogram {
    /// A heartbeat and its answer.
    RoundTrip,
    /// Sending it the state.
    SnapshotSend,
    /// Receiving the state from it, until it is in place.
    SnapshotReceive,
}

struct Buckets {
    label: Label,
    name: &'static str,
    help: &'static str,
    /// The first bound; each is twice the one before.
    start_us: u64,
    count: usize,
}

/// In the order of `PeerHistogram`, with etcd's buckets.
const HISTOGRAMS: &[Buckets] = &[
    Buckets {
        label: Label::To,
        name: "peer_round_trip_time_seconds",
        help: "Heartbeat and answer.",
        start_us: 100,
        count: 16,
    },
    Buckets {
        label: Label::To,
        name: "snapshot_send_total_duration_seconds",
        help: "From the first page asked for until the receiver has the state.",
        start_us: 100_000,
        count: 10,
    },
    Buckets {
        label: Label::From,
        name: "snapshot_receive_total_duration_seconds",
        help: "From the leader's word until the state is in place.",
        start_us: 100_000,
        count: 10,
    },
];

/// Where a histogram begins in a slot; behind the last one, the slot's size.
const fn histogram_start(histogram: usize) -> usize {
    let mut start = 1 + FAMILIES.len();
    let mut before = 0;
    while before < histogram {
        start += HISTOGRAMS[before].count + 2;
        before += 1;
    }
    start
}

/// How the member is named in a label.
enum Label {
    LocalAndRemote,
    To,
    From,
}

impl Label {
    /// The labels of another member's figure, braces included.
    fn of(&self, own_id: u64, member: u64) -> String {
        match self {
            Label::LocalAndRemote => format!("{{Local=\"{own_id:x}\",Remote=\"{member:x}\"}}"),
            Label::To => format!("{{To=\"{member:x}\"}}"),
            Label::From => format!("{{From=\"{member:x}\"}}"),
        }
    }
}

/// In the order of `PeerScalar`: type, label, name, help.
const FAMILIES: &[(&str, Label, &str, &str)] = &[
    ("gauge", Label::LocalAndRemote, "active_peers", "Whether there is a connection."),
    ("counter", Label::LocalAndRemote, "disconnected_peers_total", "Connections that ended."),
    ("counter", Label::To, "peer_sent_bytes_total", "Bytes sent to a peer."),
    ("counter", Label::To, "peer_sent_failures_total", "Messages that could not be sent."),
    ("counter", Label::From, "peer_received_bytes_total", "Bytes received from a peer."),
    ("counter", Label::From, "peer_received_failures_total", "Connections that made no sense."),
    ("counter", Label::To, "snapshot_send_success", "States sent."),
    ("counter", Label::To, "snapshot_send_failures", "States sent in vain."),
    ("gauge", Label::To, "snapshot_send_inflights_total", "States being sent."),
    ("counter", Label::From, "snapshot_receive_success", "States received and put in place."),
    ("counter", Label::From, "snapshot_receive_failures", "States received in part."),
    ("gauge", Label::From, "snapshot_receive_inflights_total", "States being received."),
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

    /// Counts something that took so long.
    pub fn observe_us(&mut self, member: u64, histogram: PeerHistogram, us: u64) {
        assert!(member != 0);
        let Some(slot) = self.slot_of(member) else { return };
        let start = histogram_start(histogram as usize);
        let Buckets { start_us, count, .. } = HISTOGRAMS[histogram as usize];
        let bucket = (0..count).find(|n| us <= start_us << n).unwrap_or(count);
        slot[start + bucket] += 1;
        slot[start + count + 1] += us;
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
            let _ = writeln!(text, "{name}{} {value}", label.of(own_id, member));
        }
    }
    for n in 0..HISTOGRAMS.len() {
        render_histogram(text, n, &slots, own_id);
    }
}

fn render_histogram(text: &mut String, histogram: usize, slots: &[&[u64]], own_id: u64) {
    let Buckets { label, name, help, start_us, count } = &HISTOGRAMS[histogram];
    let name = format!("etcd_network_{name}");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    for slot in slots {
        let cells = &slot[histogram_start(histogram)..];
        let labels = label.of(own_id, slot[0]);
        let with_bound = labels.trim_end_matches('}');
        let mut total = 0;
        for (bucket, observed) in cells[..*count].iter().enumerate() {
            total += observed;
            let bound = (start_us << bucket) as f64 / 1e6;
            let _ = writeln!(text, "{name}_bucket{with_bound},le=\"{bound}\"}} {total}");
        }
        total += cells[*count];
        let sum = cells[count + 1] as f64 / 1e6;
        let _ = writeln!(text, "{name}_bucket{with_bound},le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "{name}_sum{labels} {sum}");
        let _ = writeln!(text, "{name}_count{labels} {total}");
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
            table.observe_us(10, PeerHistogram::RoundTrip, us);
            table.observe_us(11, PeerHistogram::RoundTrip, us);
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
