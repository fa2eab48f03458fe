//! Messages of every kind from a seed, for the tests beside.

use super::hello::{Hello, Purpose};
use super::kind::MessageKind;
use super::message::{
    Answer, AskFailure, KeysWanted, NotAppended, PageRun, PageWanted, PeerMessage, Question,
};
use bytes::Bytes;
use engine::page::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use raft::{
    AppendOutcome, Body, CampaignCause, Configuration, DiskHealth, Entry, EntryId, EntryKind,
    Index, LeaseReads, ReplicaId, Snapshot, Term, Verdict,
};

/// Who sends in the tests, and who receives.
pub(super) const FROM: u64 = 0xf00;
pub(super) const TO: u64 = 0x70;

/// A stream of numbers that depends on the seed alone (splitmix64).
pub(super) struct Sample(pub(super) u64);

impl Sample {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn switch(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number that fits an index or a term: mostly small.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => self.next() >> 2,
            _ => self.below(1000) as u64,
        }
    }

    fn bytes(&mut self, size_max: usize) -> Bytes {
        let size = self.below(size_max);
        let first = self.next() as u8;
        (0..size).map(|slot| first.wrapping_add((slot * 7) as u8)).collect()
    }

    fn entry_id(&mut self) -> EntryId {
        EntryId { index: Index(self.number()), term: Term(self.number()) }
    }

    fn disk(&mut self) -> DiskHealth {
        DiskHealth { sync_age_us: self.next() as u32, is_stuck: self.switch() }
    }

    fn lease(&mut self) -> LeaseReads {
        self.pick(&[LeaseReads::Served, LeaseReads::NotServed])
    }

    pub(super) fn entries(&mut self) -> Vec<Entry> {
        let kinds = [EntryKind::Empty, EntryKind::Command, EntryKind::ConfigChange];
        let size_max = self.pick(&[2, 300, 3000]);
        let count = self.below(6);
        let entry = |_| Entry {
            term: Term(self.number()),
            index: Index(self.number()),
            kind: self.pick(&kinds),
            data: self.bytes(size_max),
        };
        (0..count).map(entry).collect()
    }

    fn members(&mut self) -> Vec<ReplicaId> {
        let mut id = 0;
        let count = self.below(8);
        let member = |_| {
            id += 1 + self.below(1000) as u64;
            ReplicaId(id)
        };
        (0..count).map(member).collect()
    }

    fn configuration(&mut self) -> Configuration {
        Configuration {
            voters: self.members(),
            voters_outgoing: self.members(),
            learners: self.members(),
            learners_next: self.members(),
            is_auto_leave: self.switch(),
        }
    }

    fn append_outcome(&mut self) -> AppendOutcome {
        match self.below(3) {
            0 => AppendOutcome::Accepted { matched: Index(self.number()) },
            1 => AppendOutcome::Rejected { previous: Index(self.number()), hint: self.entry_id() },
            _ => AppendOutcome::Blank,
        }
    }

    fn not_appended(&mut self) -> NotAppended {
        let leader = Some(ReplicaId(7)).filter(|_| self.switch());
        self.pick(&[
            NotAppended::NotLeader { leader },
            NotAppended::TransferRunning,
            NotAppended::Full,
            NotAppended::Stopping,
            NotAppended::LearnerNotReady,
            NotAppended::ChangeRefused,
        ])
    }

    fn question(&mut self) -> Question {
        let id = self.next() as i64;
        let keys = self.pick(&[KeysWanted::Yes, KeysWanted::No]);
        self.pick(&[
            Question::LeaseKeepAlive { id },
            Question::LeaseTimeToLive { id, keys },
            Question::MoveLeader { target: ReplicaId(self.0) },
        ])
    }

    fn answer(&mut self) -> Answer {
        let reasons = [
            AskFailure::NoLeader,
            AskFailure::LeaderChanged,
            AskFailure::TimedOut,
            AskFailure::TooMany,
            AskFailure::Stopped,
            AskFailure::NotLeader,
        ];
        match self.below(4) {
            0 => Answer::KeepAlive { ttl_s: self.next() as i64 },
            1 => Answer::TimeToLive {
                ttl_s: -1,
                granted_ttl_s: self.next() as i64,
                keys: (0..self.below(5)).map(|_| self.bytes(40)).collect(),
            },
            2 => Answer::Moved,
            _ => Answer::Failed { reason: self.pick(&reasons) },
        }
    }

    fn page_run(&mut self) -> PageRun {
        let size = (1 + self.below(3)) * PAGE_SIZE_BYTES;
        let byte = self.next() as u8;
        let bytes = self.switch().then(|| Bytes::from(vec![byte; size]));
        PageRun { first: PageNumber(self.next()), bytes }
    }

    fn page_wanted(&mut self) -> PageWanted {
        PageWanted {
            first: PageNumber(self.next()),
            count: 1 + self.below(100) as u32,
            checksum: Checksum(self.next()),
        }
    }

    fn raft_body(&mut self, kind: MessageKind) -> Option<Body> {
        let (last, committed) = (self.entry_id(), self.entry_id());
        let verdict = self.pick(&[Verdict::Granted, Verdict::Refused]);
        let round = self.next();
        Some(match kind {
            MessageKind::PreVoteRequest => Body::PreVoteRequest { last, committed },
            MessageKind::PreVoteAnswer => Body::PreVoteAnswer { verdict, committed },
            MessageKind::VoteRequest => {
                let cause = self.pick(&[CampaignCause::Timeout, CampaignCause::Transfer]);
                Body::VoteRequest { last, committed, cause }
            }
            MessageKind::VoteAnswer => Body::VoteAnswer { verdict, committed },
            MessageKind::Append => Body::Append {
                previous: last,
                commit: committed.index,
                lease: self.lease(),
                entries: self.entries(),
            },
            MessageKind::Commit => {
                Body::Commit { previous: last, commit: committed.index, lease: self.lease() }
            }
            MessageKind::AppendAnswer => {
                Body::AppendAnswer { outcome: self.append_outcome(), disk: self.disk() }
            }
            MessageKind::Heartbeat => Body::Heartbeat {
                commit: committed.index,
                round,
                lease: self.lease(),
                disk: self.disk(),
            },
            MessageKind::HeartbeatAnswer => Body::HeartbeatAnswer { round, disk: self.disk() },
            MessageKind::Snapshot => {
                Body::Snapshot { snapshot: Snapshot { last, configuration: self.configuration() } }
            }
            MessageKind::TimeoutNow => Body::TimeoutNow,
            MessageKind::TransferRequest => {
                Body::TransferRequest { target: ReplicaId(self.next()) }
            }
            MessageKind::ReadIndexRequest => Body::ReadIndexRequest { round },
            MessageKind::ReadIndexAnswer => Body::ReadIndexAnswer { round, index: last.index },
            MessageKind::StaleTerm => Body::StaleTerm,
            _ => return None,
        })
    }

    /// A message of that kind, from [`FROM`] to [`TO`]; a proposal has the sequence given.
    pub(super) fn message_of(&mut self, kind: MessageKind, proposal: u64) -> PeerMessage {
        if let Some(body) = self.raft_body(kind) {
            let (from, to) = (ReplicaId(FROM), ReplicaId(TO));
            return PeerMessage::Raft(raft::Message { from, to, term: Term(self.number()), body });
        }
        let sequence = self.next();
        match kind {
            MessageKind::Propose => {
                PeerMessage::Propose { sequence: proposal, command: self.bytes(500) }
            }
            MessageKind::NotAppended => {
                PeerMessage::NotAppended { sequence, reason: self.not_appended() }
            }
            MessageKind::Ask => PeerMessage::Ask { sequence, question: self.question() },
            MessageKind::Reply => PeerMessage::Reply { sequence, answer: self.answer() },
            MessageKind::MetaRequest => PeerMessage::MetaRequest,
            MessageKind::Meta => PeerMessage::Meta {
                last: self.entry_id(),
                configuration: self.configuration(),
                meta: Bytes::from(vec![sequence as u8; PAGE_SIZE_BYTES]),
            },
            MessageKind::PageRequest => {
                let pages = (0..self.below(5)).map(|_| self.page_wanted()).collect();
                PeerMessage::PageRequest { sequence, pages }
            }
            MessageKind::Pages => {
                let pages = (0..self.below(4)).map(|_| self.page_run()).collect();
                PeerMessage::Pages { sequence, pages }
            }
            MessageKind::EntriesRequest => {
                let first = 1 + self.number() / 2;
                let last = Index(first + self.number() / 2);
                PeerMessage::EntriesRequest { sequence, first: Index(first), last }
            }
            MessageKind::Entries => PeerMessage::Entries { sequence, entries: self.entries() },
            other => unreachable!("{other:?} is one of Raft's, made above"),
        }
    }

    /// A message of any kind.
    pub(super) fn message(&mut self, proposal: u64) -> PeerMessage {
        let kind = self.pick(MessageKind::ALL);
        self.message_of(kind, proposal)
    }
}

/// A hello of `from` to `to`.
pub(super) fn hello(from: u64, to: u64) -> Hello {
    Hello {
        cluster_id: 0xc1,
        epoch: 0,
        from_member: from,
        to_member: to,
        birth_id: from << 8,
        incarnation: 3,
        purpose: Purpose::Raft,
        cores: 2,
        name: "n1".to_owned(),
        peer_urls: vec!["http://127.0.0.1:2380".to_owned(), "http://[::1]:2380".to_owned()],
    }
}
