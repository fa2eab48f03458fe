//! What a leader and a follower say to each other without end: heartbeats and answers allocate
//! nothing, an append two things: the list of its entries, and the one copy of the frame that the
//! entries share.
#![allow(clippy::unwrap_used)]

mod counting;

use bytes::Bytes;
use net::peer::{Event, Hello, PeerConnection, PeerMessage, Purpose};
use raft::{
    AppendOutcome, Body, DiskHealth, Entry, EntryId, EntryKind, Index, LeaseReads, ReplicaId, Term,
};

const LEADER: u64 = 1;
const FOLLOWER: u64 = 2;

fn hello(from_member: u64, to_member: u64) -> Hello {
    Hello {
        cluster_id: 1,
        epoch: 0,
        from_member,
        to_member,
        birth_id: from_member,
        incarnation: 1,
        purpose: Purpose::Raft,
        cores: 1,
        name: String::new(),
        peer_urls: Vec::new(),
    }
}

fn message(from: u64, to: u64, body: Body) -> PeerMessage {
    let (from, to) = (ReplicaId(from), ReplicaId(to));
    PeerMessage::Raft(raft::Message { from, to, term: Term(1), body })
}

fn append(entries: u64) -> PeerMessage {
    let data = Bytes::from(vec![7; 300]);
    let kind = EntryKind::Command;
    let entry = |index| Entry { term: Term(1), index: Index(index), kind, data: data.clone() };
    let body = Body::Append {
        previous: EntryId { index: Index(1), term: Term(1) },
        commit: Index(1),
        lease: LeaseReads::NotServed,
        entries: (2..2 + entries).map(entry).collect(),
    };
    message(LEADER, FOLLOWER, body)
}

/// One end, and what it needs again and again.
struct End {
    connection: PeerConnection,
    frame: Vec<u8>,
    events: Vec<Event>,
}

impl End {
    fn new(connection: PeerConnection) -> End {
        End { connection, frame: Vec::new(), events: Vec::new() }
    }

    /// Sends `messages` in frames to `other`, which takes them in pieces of `piece_size_bytes`.
    fn send(&mut self, messages: &[PeerMessage], other: &mut End, piece_size_bytes: usize) {
        for message in messages {
            self.connection.send(0, message).unwrap();
        }
        while self.connection.has_output() {
            let mut empty = std::mem::take(&mut self.frame);
            empty.clear();
            self.frame = self.connection.take_frame(empty).unwrap();
            for piece in self.frame.chunks(piece_size_bytes) {
                other.connection.receive(piece, &mut other.events).unwrap();
            }
        }
    }
}

fn open() -> (End, End) {
    let mut follower = End::new(PeerConnection::dialer(&hello(FOLLOWER, LEADER)));
    let mut leader = End::new(PeerConnection::acceptor());
    follower.send(&[], &mut leader, usize::MAX);
    leader.connection.accept(&hello(LEADER, FOLLOWER));
    leader.send(&[], &mut follower, usize::MAX);
    assert!(follower.connection.is_open());
    (leader, follower)
}

/// Allocations of a round after which both ends have forgotten its events, and the events of one.
fn round_allocations(
    to_follower: &[PeerMessage],
    to_leader: &[PeerMessage],
    piece_size_bytes: usize,
) -> (usize, usize) {
    const ROUNDS: usize = 100;
    let (mut leader, mut follower) = open();
    let (mut before, mut events) = (0, 0);
    // Some rounds warm every buffer.
    for round in 0..8 + ROUNDS {
        if round == 8 {
            before = counting::allocations();
        }
        leader.send(to_follower, &mut follower, piece_size_bytes);
        follower.send(to_leader, &mut leader, piece_size_bytes);
        events = leader.events.len() + follower.events.len();
        leader.events.clear();
        follower.events.clear();
    }
    let allocations = counting::allocations() - before;
    assert_eq!(allocations % ROUNDS, 0, "every round is like the one before");
    (allocations / ROUNDS, events)
}

#[test]
fn what_a_round_allocates() {
    let disk = DiskHealth::default();
    let lease = LeaseReads::NotServed;
    let heartbeat = Body::Heartbeat { commit: Index(1), round: 1, lease, disk };
    let heartbeats = vec![message(LEADER, FOLLOWER, heartbeat); 3];
    let outcome = AppendOutcome::Accepted { matched: Index(3) };
    let answers = [
        message(FOLLOWER, LEADER, Body::HeartbeatAnswer { round: 1, disk }),
        message(FOLLOWER, LEADER, Body::AppendAnswer { outcome, disk }),
    ];
    for piece_size_bytes in [10, usize::MAX] {
        assert_eq!(round_allocations(&heartbeats, &answers, piece_size_bytes), (0, 5));
        // An append that only tells the commit index holds no bytes.
        assert_eq!(round_allocations(&[append(0)], &answers, piece_size_bytes), (0, 3));
    }
    // Each append's list, and the frame: its bytes and their reference count.
    let appends = [append(20), append(1), append(5)];
    assert_eq!(round_allocations(&appends, &answers, usize::MAX), (3 + 2, 5));
    assert_eq!(round_allocations(&[append(200)], &answers, usize::MAX), (1 + 2, 3));
    // A large one that comes in pieces is put together in the buffer that the entries keep.
    assert_eq!(round_allocations(&[append(200)], &answers, 4096), (1 + 2, 3));
}
