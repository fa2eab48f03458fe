//! Bytes of version 1, written down: whoever changes one of these breaks clusters whose members
//! are of different age.

use super::connection::PeerConnection;
use super::encode::{check_size_bytes, encode};
use super::hello::Refusal;
use super::kind::MessageKind;
use super::message::PeerMessage;
use super::sample::{FROM, TO, hello};
use super::{
    Answer, AskFailure, KeysWanted, NotAppended, PageRun, PageWanted, Question, VERSION_MAX,
};
use bytes::Bytes;
use engine::page::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use raft::{
    AppendOutcome, Body, CampaignCause, Configuration, DiskHealth, Entry, EntryId, EntryKind,
    Index, LeaseReads, ReplicaId, Snapshot, Term, Verdict,
};
use std::fmt::Write;

/// One line a message or handshake: its name, then the bytes.
const GOLDEN: &str = include_str!("../../testdata/peer-v1.txt");

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index: Index(index), term: Term(term) }
}

fn configuration() -> Configuration {
    Configuration {
        voters: vec![ReplicaId(1), ReplicaId(2)],
        voters_outgoing: vec![ReplicaId(3)],
        learners: vec![ReplicaId(4)],
        learners_next: vec![ReplicaId(3)],
        is_auto_leave: true,
    }
}

fn entries() -> Vec<Entry> {
    let entry = |index, kind, data| Entry {
        term: Term(5),
        index: Index(index),
        kind,
        data: Bytes::from_static(data),
    };
    vec![
        entry(8, EntryKind::Empty, b""),
        entry(9, EntryKind::Command, b"command"),
        entry(10, EntryKind::ConfigChange, b"change"),
    ]
}

fn raft_bodies() -> Vec<Body> {
    let disk = DiskHealth { sync_age_us: 0x0102_0304, is_stuck: true };
    let (last, committed) = (id(7, 4), id(6, 3));
    let lease = LeaseReads::Served;
    let configuration = configuration();
    vec![
        Body::PreVoteRequest { last, committed },
        Body::PreVoteAnswer { verdict: Verdict::Granted, committed },
        Body::VoteRequest { last, committed, cause: CampaignCause::Timeout },
        Body::VoteRequest { last, committed, cause: CampaignCause::Transfer },
        Body::VoteAnswer { verdict: Verdict::Refused, committed },
        Body::Append { previous: last, commit: Index(6), lease, entries: entries() },
        Body::AppendAnswer { outcome: AppendOutcome::Accepted { matched: Index(9) }, disk },
        Body::AppendAnswer {
            outcome: AppendOutcome::Rejected { previous: Index(9), hint: last },
            disk: DiskHealth::default(),
        },
        Body::AppendAnswer { outcome: AppendOutcome::Blank, disk },
        Body::Heartbeat { commit: Index(6), round: 11, lease: LeaseReads::NotServed, disk },
        Body::HeartbeatAnswer { round: 11, disk },
        Body::Snapshot { snapshot: Snapshot { last, configuration } },
        Body::TimeoutNow,
        Body::TransferRequest { target: ReplicaId(2) },
        Body::ReadIndexRequest { round: 12 },
        Body::ReadIndexAnswer { round: 12, index: Index(6) },
        Body::StaleTerm,
        Body::Commit { previous: last, commit: Index(6), lease: LeaseReads::Served },
    ]
}

fn questions() -> Vec<PeerMessage> {
    let ask = |question| PeerMessage::Ask { sequence: 21, question };
    let reply = |answer| PeerMessage::Reply { sequence: 21, answer };
    let keys = vec![Bytes::from_static(b"k1"), Bytes::from_static(b"key2")];
    vec![
        ask(Question::LeaseKeepAlive { id: 77 }),
        ask(Question::LeaseTimeToLive { id: 77, keys: KeysWanted::Yes }),
        ask(Question::MoveLeader { target: ReplicaId(2) }),
        reply(Answer::KeepAlive { ttl_s: 60 }),
        reply(Answer::TimeToLive { ttl_s: -1, granted_ttl_s: 60, keys }),
        reply(Answer::Moved),
        reply(Answer::Failed { reason: AskFailure::NoLeader }),
        reply(Answer::Failed { reason: AskFailure::NotLeader }),
    ]
}

fn messages() -> Vec<PeerMessage> {
    let raft = |body| {
        let (from, to) = (ReplicaId(FROM), ReplicaId(TO));
        PeerMessage::Raft(raft::Message { from, to, term: Term(5), body })
    };
    let mut messages: Vec<PeerMessage> = raft_bodies().into_iter().map(raft).collect();
    let command = Bytes::from_static(b"command");
    messages.push(PeerMessage::Propose { sequence: 1, command });
    let leader = Some(ReplicaId(3));
    for reason in [
        NotAppended::NotLeader { leader },
        NotAppended::NotLeader { leader: None },
        NotAppended::TransferRunning,
        NotAppended::Full,
        NotAppended::Stopping,
    ] {
        messages.push(PeerMessage::NotAppended { sequence: 1, reason });
    }
    messages.extend(questions());
    messages.push(PeerMessage::MetaRequest);
    let page = Bytes::from(vec![0; PAGE_SIZE_BYTES]);
    let meta = page.clone();
    messages.push(PeerMessage::Meta { last: id(7, 4), configuration: configuration(), meta });
    let wanted = PageWanted { first: PageNumber(30), count: 1, checksum: Checksum(0xabcd) };
    messages.push(PeerMessage::PageRequest { sequence: 22, pages: vec![wanted] });
    let held = PageRun { first: PageNumber(30), bytes: Some(page) };
    let gone = PageRun { first: PageNumber(31), bytes: None };
    messages.push(PeerMessage::Pages { sequence: 22, pages: vec![held, gone] });
    let (first, last) = (Index(8), Index(10));
    messages.push(PeerMessage::EntriesRequest { sequence: 23, first, last });
    messages.push(PeerMessage::Entries { sequence: 23, entries: entries() });
    messages
}

fn line(text: &mut String, name: &str, bytes: &[u8]) {
    // A page of zeros is told by its length.
    let zeros = "00".repeat(PAGE_SIZE_BYTES);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(text, "{name} {}", hex.replace(&zeros, "(4096 zeros)")).unwrap();
}

#[test]
fn version_1_stays_as_it_is() {
    assert_eq!(VERSION_MAX, 1, "a new version needs golden bytes of its own, and keeps these");
    let mut text = String::new();
    let mut dialer = PeerConnection::dialer(&hello(TO, FROM));
    let first = dialer.take_frame(Vec::new()).unwrap();
    line(&mut text, "hello", &first);
    let mut acceptor = PeerConnection::acceptor();
    acceptor.receive(&first, &mut Vec::new()).unwrap();
    acceptor.refuse(Refusal::Incarnation { known: 4 });
    line(&mut text, "refusal", &acceptor.take_frame(Vec::new()).unwrap());

    let mut acceptor = PeerConnection::acceptor();
    acceptor.receive(&first, &mut Vec::new()).unwrap();
    acceptor.accept(&hello(FROM, TO));
    acceptor.take_frame(Vec::new()).unwrap();
    acceptor.send(1, &PeerMessage::MetaRequest).unwrap();
    acceptor.send(2, &PeerMessage::MetaRequest).unwrap();
    line(&mut text, "frame", &acceptor.take_frame(Vec::new()).unwrap());

    let messages = messages();
    for message in &messages {
        let mut bytes = Vec::new();
        encode(1, message, check_size_bytes(message).unwrap(), &mut bytes);
        line(&mut text, &format!("{:?}", MessageKind::of(message)), &bytes);
    }
    for kind in MessageKind::ALL {
        assert!(messages.iter().any(|message| MessageKind::of(message) == *kind), "{kind:?}");
    }
    assert_eq!(text, GOLDEN, "the bytes of the protocol changed; now they are:\n{text}");
}
