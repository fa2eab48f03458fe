//! A member played by the test: it speaks the shipped peer protocol and says what it is told to.

use net::peer::{Event, Hello, PeerConnection, PeerMessage, Purpose, Refusal};
use raft::{
    AppendOutcome, Body, Entry, EntryId, EntryKind, Index, LeaseReads, Message, ReplicaId, Role,
    Term, Verdict,
};
use shard::input::{ConnectionId, DialFailure, Door};
use tests::sim::member::{SimMember, Storage};

use super::group::{founder_config, url_of};

/// The shipped member of a scene: slot 0 of three founders.
pub const MEMBER: u64 = 1;
const GROUP: u64 = 1;

/// The member that the others are played for.
pub fn start(storage: Storage, now_us: u64) -> SimMember {
    let mut member =
        SimMember::start(founder_config(0, 3), storage, now_us).expect("the member starts");
    refuse_dials(&mut member);
    member
}

/// Nobody is there when the member dials.
pub fn refuse_dials(member: &mut SimMember) {
    for (dial, _) in std::mem::take(&mut member.dials) {
        member.dial_failed(dial, DialFailure::Refused);
    }
    member.settle();
}

/// See the file's head.
pub struct Scripted {
    id: u64,
    pub connection: ConnectionId,
    peer: PeerConnection,
    /// What the member said when the connection opened.
    pub hello: Option<Hello>,
    /// Why it did not.
    pub refusal: Option<Refusal>,
    inbox: Vec<PeerMessage>,
}

/// What member `id` says of itself in its first life.
pub fn hello_of(id: u64) -> Hello {
    Hello {
        cluster_id: 0xcd,
        epoch: 0,
        from_member: id,
        to_member: MEMBER,
        birth_id: 0x1000 + id,
        incarnation: 1,
        purpose: Purpose::Raft,
        cores: 1,
        name: format!("scripted-{id}"),
        peer_urls: vec![url_of(id as usize - 1)],
    }
}

impl Scripted {
    /// Dials the member as `id`.
    pub fn join(member: &mut SimMember, id: u64) -> Scripted {
        let scripted = Scripted::dial(member, &hello_of(id));
        assert!(scripted.hello.is_some(), "the member lets it in: {:?}", scripted.refusal);
        scripted
    }

    pub fn dial(member: &mut SimMember, hello: &Hello) -> Scripted {
        let connection = member.connect(Door::Peer);
        let mut scripted = Scripted::of(connection, PeerConnection::dialer(hello), hello);
        scripted.exchange(member);
        scripted
    }

    /// Answers a dial of the member's as `hello` says.
    pub fn accept(member: &mut SimMember, hello: &Hello) -> Scripted {
        let url = &hello.peer_urls[0];
        let slot = member.dials.iter().position(|(_, dialed)| dialed == url);
        let (dial, _) = member.dials.remove(slot.expect("the member dials"));
        let connection = member.dialed(dial);
        let mut scripted = Scripted::of(connection, PeerConnection::acceptor(), hello);
        scripted.exchange(member);
        assert!(scripted.hello.is_some(), "who dials says hello");
        scripted.peer.accept(hello);
        scripted.exchange(member);
        scripted
    }

    fn of(connection: ConnectionId, peer: PeerConnection, hello: &Hello) -> Scripted {
        let (refusal, inbox) = (None, Vec::new());
        Scripted { id: hello.from_member, connection, peer, hello: None, refusal, inbox }
    }

    /// Hands bytes over both ways and lets the member run.
    pub fn exchange(&mut self, member: &mut SimMember) {
        self.flush(member);
        member.settle();
        self.fetch(member);
    }

    /// Hands over what is to be said without letting the member run.
    pub fn flush(&mut self, member: &mut SimMember) {
        while let Some(bytes) = self.peer.take_frame(Vec::new()) {
            member.receive(self.connection, bytes);
        }
    }

    pub fn fetch(&mut self, member: &mut SimMember) {
        let bytes = member.take_sent(self.connection);
        if bytes.is_empty() {
            return;
        }
        let mut events = Vec::new();
        self.peer.receive(&bytes, &mut events).expect("the member's bytes are well-formed");
        for event in events {
            match event {
                Event::Hello(hello) => self.hello = Some(hello),
                Event::Refused(refusal) => self.refusal = Some(refusal),
                Event::Message { message, .. } => self.inbox.push(message),
            }
        }
    }

    /// Follows the member: acknowledges everything, until it says nothing more.
    pub fn follow(&mut self, member: &mut SimMember) {
        self.exchange(member);
        loop {
            let heard = self.heard_in_terms(member);
            if heard.is_empty() {
                return;
            }
            for (term, body) in heard {
                self.acknowledge(term, body);
            }
            self.exchange(member);
        }
    }

    fn acknowledge(&mut self, term: u64, body: Body) {
        let (verdict, committed) = (Verdict::Granted, EntryId::default());
        let answer = match body {
            Body::PreVoteRequest { .. } => Body::PreVoteAnswer { verdict, committed },
            Body::VoteRequest { .. } => Body::VoteAnswer { verdict, committed },
            Body::Append { previous, entries, .. } => {
                accepted(previous.index.0 + entries.len() as u64)
            }
            Body::Heartbeat { round, .. } => {
                Body::HeartbeatAnswer { round, disk: Default::default() }
            }
            _ => return,
        };
        self.queue(term, answer);
    }

    /// Lets the member become the leader of those that follow it.
    pub fn elect(&mut self, member: &mut SimMember) {
        for _ in 0..300 {
            if member.raft_status().role == Role::Leader {
                return self.follow(member);
            }
            member.advance(10_000);
            self.follow(member);
        }
        panic!("the member does not lead");
    }

    /// Queues a message of Raft's.
    pub fn queue(&mut self, term: u64, body: Body) {
        let (from, to) = (ReplicaId(self.id), ReplicaId(MEMBER));
        let message = Message { from, to, term: Term(term), body };
        self.send(&PeerMessage::Raft(message));
    }

    pub fn send(&mut self, message: &PeerMessage) {
        self.send_in(GROUP, message);
    }

    /// Says something to the replica of a group.
    pub fn send_in(&mut self, group: u64, message: &PeerMessage) {
        self.peer.send(group, message).expect("the connection is open");
    }

    pub fn next_sequence(&self) -> u64 {
        self.peer.next_sequence()
    }

    /// Says something and gives back what the member says to it at once.
    pub fn say(&mut self, member: &mut SimMember, term: u64, body: Body) -> Vec<Body> {
        self.fetch(member);
        self.inbox.clear();
        self.queue(term, body);
        self.exchange(member);
        self.heard(member)
    }

    /// What the member said of Raft since the last time.
    pub fn heard(&mut self, member: &mut SimMember) -> Vec<Body> {
        self.heard_in_terms(member).into_iter().map(|(_, body)| body).collect()
    }

    pub fn heard_in_terms(&mut self, member: &mut SimMember) -> Vec<(u64, Body)> {
        let raft = self.heard_all(member).into_iter().filter_map(|message| match message {
            PeerMessage::Raft(message) => Some((message.term.0, message.body)),
            _ => None,
        });
        raft.collect()
    }

    pub fn heard_all(&mut self, member: &mut SimMember) -> Vec<PeerMessage> {
        self.fetch(member);
        std::mem::take(&mut self.inbox)
    }
}

/// (index, term).
pub fn entry_id(index: u64, term: u64) -> EntryId {
    EntryId { index: Index(index), term: Term(term) }
}

/// Empty entries after `previous`, one for each term.
pub fn append(previous: EntryId, terms: &[u64], commit: u64) -> Body {
    let entry = |(slot, term): (usize, &u64)| Entry {
        term: Term(*term),
        index: Index(previous.index.0 + 1 + slot as u64),
        kind: EntryKind::Empty,
        data: bytes::Bytes::new(),
    };
    Body::Append {
        previous,
        commit: Index(commit),
        lease: LeaseReads::NotServed,
        entries: terms.iter().enumerate().map(entry).collect(),
    }
}

pub fn heartbeat(round: u64) -> Body {
    let (commit, lease) = (Index(0), LeaseReads::NotServed);
    Body::Heartbeat { commit, round, lease, disk: Default::default() }
}

pub fn vote_request(last: EntryId) -> Body {
    let (committed, cause) = (EntryId::default(), raft::CampaignCause::Timeout);
    Body::VoteRequest { last, committed, cause }
}

pub fn accepted(matched: u64) -> Body {
    let outcome = AppendOutcome::Accepted { matched: Index(matched) };
    Body::AppendAnswer { outcome, disk: Default::default() }
}

/// Whether an append up to `index` is acknowledged.
pub fn acknowledges(body: &Body, index: u64) -> bool {
    let Body::AppendAnswer { outcome: AppendOutcome::Accepted { matched }, .. } = body else {
        return false;
    };
    index <= matched.0
}
