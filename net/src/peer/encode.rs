//! Messages to bytes. The data of entries and pages is copied once, as it is.
//!
//! Invariant: `check_size_bytes` says what `encode` appends, so that a message too large is refused
//! before a byte of it is copied, and the output grows once.

use super::kind::MessageKind;
use super::layout::*;
use super::limits::{MESSAGE_SIZE_BYTES_MAX, PAGE_RUN_PAGES_MAX, PAGE_RUNS_MAX};
use super::message::{
    Answer, AskFailure, KeysWanted, NotAppended, PageRun, PageWanted, PeerMessage, Question,
};
use engine::page::map::PAGE_SIZE_BYTES;
use raft::{
    AppendOutcome, Body, CampaignCause, Configuration, DiskHealth, Entry, EntryId, Index,
    LeaseReads, ReplicaId, Verdict,
};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// Bytes that a message takes in a frame, or `None` if it exceeds a bound of the protocol.
pub(super) fn check_size_bytes(message: &PeerMessage) -> Option<usize> {
    let runs_count = match message {
        PeerMessage::PageRequest { pages, .. } => pages.len(),
        PeerMessage::Pages { pages, .. } => pages.len(),
        _ => 0,
    };
    let size_bytes = size_bytes(message);
    (runs_count <= PAGE_RUNS_MAX && size_bytes <= MESSAGE_SIZE_BYTES_MAX).then_some(size_bytes)
}

fn size_bytes(message: &PeerMessage) -> usize {
    let body = match message {
        PeerMessage::Raft(message) => size_of::<RaftFields>() + raft_size_bytes(&message.body),
        PeerMessage::Propose { command, .. } => size_of::<U64>() + command.len(),
        PeerMessage::NotAppended { .. } => size_of::<NotAppendedFields>(),
        PeerMessage::Ask { .. } => size_of::<AskFields>(),
        PeerMessage::Reply { answer, .. } => size_of::<ReplyFields>() + keys_size_bytes(answer),
        PeerMessage::MetaRequest => 0,
        PeerMessage::Meta { configuration, meta, .. } => {
            size_of::<EntryIdFields>() + configuration_size_bytes(configuration) + meta.len()
        }
        PeerMessage::PageRequest { pages, .. } => {
            size_of::<PageRequestFields>() + pages.len() * size_of::<PageWantedFields>()
        }
        PeerMessage::Pages { pages, .. } => {
            let bytes = |run: &PageRun| run.bytes.as_ref().map_or(0, |bytes| bytes.len());
            let runs = pages.iter().map(|run| size_of::<PageRunFields>() + bytes(run));
            size_of::<PagesFields>() + runs.sum::<usize>()
        }
        PeerMessage::EntriesRequest { .. } => size_of::<EntriesRequestFields>(),
        PeerMessage::Entries { entries, .. } => {
            size_of::<EntriesFields>() + entries_size_bytes(entries)
        }
    };
    size_of::<MessageFields>() + body
}

fn raft_size_bytes(body: &Body) -> usize {
    match body {
        Body::PreVoteRequest { .. } | Body::VoteRequest { .. } => size_of::<VoteRequestFields>(),
        Body::PreVoteAnswer { .. } | Body::VoteAnswer { .. } => size_of::<VoteAnswerFields>(),
        Body::Append { entries, .. } => size_of::<AppendFields>() + entries_size_bytes(entries),
        Body::Commit { .. } => size_of::<CommitFields>(),
        Body::AppendAnswer { .. } => size_of::<AppendAnswerFields>(),
        Body::Heartbeat { .. } => size_of::<HeartbeatFields>(),
        Body::HeartbeatAnswer { .. } => size_of::<HeartbeatAnswerFields>(),
        Body::Snapshot { snapshot } => {
            size_of::<EntryIdFields>() + configuration_size_bytes(&snapshot.configuration)
        }
        Body::TimeoutNow | Body::StaleTerm => 0,
        Body::TransferRequest { .. } | Body::ReadIndexRequest { .. } => size_of::<U64>(),
        Body::ReadIndexAnswer { .. } => size_of::<ReadIndexAnswerFields>(),
    }
}

fn entries_size_bytes(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| size_of::<EntryFields>() + entry.data.len()).sum()
}

fn configuration_size_bytes(configuration: &Configuration) -> usize {
    let ids = lists(configuration).iter().map(|list| list.len()).sum::<usize>();
    size_of::<ConfigurationFields>() + ids * size_of::<U64>()
}

fn keys_size_bytes(answer: &Answer) -> usize {
    match answer {
        Answer::TimeToLive { keys, .. } => {
            keys.iter().map(|key| size_of::<U32>() + key.len()).sum()
        }
        Answer::KeepAlive { .. } | Answer::Moved | Answer::Failed { .. } => 0,
    }
}

/// Appends a message, `size_bytes` long, of which the caller made sure that it is in bounds.
pub(super) fn encode(group: u64, message: &PeerMessage, size_bytes: usize, output: &mut Vec<u8>) {
    let start = output.len();
    output.reserve(size_bytes);
    let kind = MessageKind::of(message) as u8;
    let group = U64::new(group);
    push(output, &MessageFields { size_bytes: count(size_bytes), kind, reserved: [0; 3], group });
    match message {
        PeerMessage::Raft(message) => encode_raft(message, output),
        PeerMessage::Propose { sequence, command } => {
            push(output, &U64::new(*sequence));
            output.extend_from_slice(command);
        }
        PeerMessage::NotAppended { sequence, reason } => {
            encode_not_appended(*sequence, *reason, output);
        }
        PeerMessage::Ask { sequence, question } => encode_ask(*sequence, *question, output),
        PeerMessage::Reply { sequence, answer } => encode_reply(*sequence, answer, output),
        PeerMessage::MetaRequest => {}
        PeerMessage::Meta { last, configuration, meta } => {
            assert!(meta.len() == PAGE_SIZE_BYTES);
            push(output, &EntryIdFields::from(*last));
            encode_configuration(configuration, output);
            output.extend_from_slice(meta);
        }
        PeerMessage::PageRequest { sequence, pages } => {
            let (sequence, count) = (U64::new(*sequence), count(pages.len()));
            push(output, &PageRequestFields { sequence, count, reserved: [0; 4] });
            pages.iter().for_each(|wanted| encode_page_wanted(wanted, output));
        }
        PeerMessage::Pages { sequence, pages } => {
            let (sequence, count) = (U64::new(*sequence), count(pages.len()));
            push(output, &PagesFields { sequence, count, reserved: [0; 4] });
            pages.iter().for_each(|run| encode_page_run(run, output));
        }
        PeerMessage::EntriesRequest { sequence, first, last } => {
            assert!(Index(0) < *first && first <= last);
            let (first, last) = (U64::new(first.0), U64::new(last.0));
            push(output, &EntriesRequestFields { sequence: U64::new(*sequence), first, last });
        }
        PeerMessage::Entries { sequence, entries } => {
            let (sequence, count) = (U64::new(*sequence), count(entries.len()));
            push(output, &EntriesFields { sequence, count, reserved: [0; 4] });
            encode_entries(entries, output);
        }
    }
    assert!(output.len() - start == size_bytes);
}

fn encode_raft(message: &raft::Message, output: &mut Vec<u8>) {
    let (from, to) = (U64::new(message.from.0), U64::new(message.to.0));
    push(output, &RaftFields { from, to, term: U64::new(message.term.0) });
    match &message.body {
        Body::PreVoteRequest { last, committed } => {
            push(output, &vote_request(*last, *committed, CAUSE_NONE));
        }
        Body::VoteRequest { last, committed, cause } => {
            let cause = match cause {
                CampaignCause::Timeout => CAUSE_TIMEOUT,
                CampaignCause::Transfer => CAUSE_TRANSFER,
            };
            push(output, &vote_request(*last, *committed, cause));
        }
        Body::PreVoteAnswer { verdict, committed } | Body::VoteAnswer { verdict, committed } => {
            let verdict = match verdict {
                Verdict::Granted => YES,
                Verdict::Refused => NO,
            };
            let committed = (*committed).into();
            push(output, &VoteAnswerFields { committed, verdict, reserved: [0; 7] });
        }
        Body::Append { previous, commit, lease, entries } => {
            let fields = AppendFields {
                previous: (*previous).into(),
                commit: U64::new(commit.0),
                count: count(entries.len()),
                lease: lease_number(*lease),
                reserved: [0; 3],
            };
            push(output, &fields);
            encode_entries(entries, output);
        }
        Body::Commit { previous, commit, lease } => {
            let fields = CommitFields {
                previous: (*previous).into(),
                commit: U64::new(commit.0),
                lease: lease_number(*lease),
                reserved: [0; 7],
            };
            push(output, &fields);
        }
        Body::AppendAnswer { outcome, disk } => push(output, &append_answer(*outcome, *disk)),
        Body::Heartbeat { commit, round, lease, disk } => {
            let fields = HeartbeatFields {
                commit: U64::new(commit.0),
                round: U64::new(*round),
                sync_age_us: U32::new(disk.sync_age_us),
                lease: lease_number(*lease),
                is_stuck: disk.is_stuck.into(),
                reserved: [0; 2],
            };
            push(output, &fields);
        }
        Body::HeartbeatAnswer { round, disk } => {
            let fields = HeartbeatAnswerFields {
                round: U64::new(*round),
                sync_age_us: U32::new(disk.sync_age_us),
                is_stuck: disk.is_stuck.into(),
                reserved: [0; 3],
            };
            push(output, &fields);
        }
        Body::Snapshot { snapshot } => {
            push(output, &EntryIdFields::from(snapshot.last));
            encode_configuration(&snapshot.configuration, output);
        }
        Body::TimeoutNow | Body::StaleTerm => {}
        Body::TransferRequest { target } => push(output, &U64::new(target.0)),
        Body::ReadIndexRequest { round } => push(output, &U64::new(*round)),
        Body::ReadIndexAnswer { round, index } => {
            let (round, index) = (U64::new(*round), U64::new(index.0));
            push(output, &ReadIndexAnswerFields { round, index });
        }
    }
}

fn vote_request(last: EntryId, committed: EntryId, cause: u8) -> VoteRequestFields {
    let (last, committed) = (last.into(), committed.into());
    VoteRequestFields { last, committed, cause, reserved: [0; 7] }
}

fn append_answer(outcome: AppendOutcome, disk: DiskHealth) -> AppendAnswerFields {
    let (outcome, index, hint) = match outcome {
        AppendOutcome::Accepted { matched } => (OUTCOME_ACCEPTED, matched.0, EntryId::default()),
        AppendOutcome::Rejected { previous, hint } => (OUTCOME_REJECTED, previous.0, hint),
        AppendOutcome::Blank => (OUTCOME_BLANK, 0, EntryId::default()),
    };
    AppendAnswerFields {
        index: U64::new(index),
        hint: hint.into(),
        sync_age_us: U32::new(disk.sync_age_us),
        outcome,
        is_stuck: disk.is_stuck.into(),
        reserved: [0; 2],
    }
}

fn encode_entries(entries: &[Entry], output: &mut Vec<u8>) {
    for entry in entries {
        let fields = EntryFields {
            term: U64::new(entry.term.0),
            index: U64::new(entry.index.0),
            size_bytes: count(entry.data.len()),
            kind: entry_kind_number(entry.kind),
            reserved: [0; 3],
        };
        push(output, &fields);
        output.extend_from_slice(&entry.data);
    }
}

fn encode_configuration(configuration: &Configuration, output: &mut Vec<u8>) {
    let counts = lists(configuration).map(|list| {
        U16::new(u16::try_from(list.len()).expect("a group has at most a few dozen members"))
    });
    let [voters, voters_outgoing, learners, learners_next] = counts;
    let is_auto_leave = configuration.is_auto_leave.into();
    let fields = ConfigurationFields {
        voters,
        voters_outgoing,
        learners,
        learners_next,
        is_auto_leave,
        reserved: [0; 7],
    };
    push(output, &fields);
    for list in lists(configuration) {
        list.iter().for_each(|id| push(output, &U64::new(id.0)));
    }
}

fn lists(configuration: &Configuration) -> [&[ReplicaId]; 4] {
    let Configuration { voters, voters_outgoing, learners, learners_next, is_auto_leave: _ } =
        configuration;
    [voters, voters_outgoing, learners, learners_next]
}

fn encode_not_appended(sequence: u64, reason: NotAppended, output: &mut Vec<u8>) {
    let (reason, leader) = match reason {
        NotAppended::NotLeader { leader } => (NOT_LEADER, leader.map_or(0, |leader| leader.0)),
        NotAppended::TransferRunning => (TRANSFER_RUNNING, 0),
        NotAppended::Full => (FULL, 0),
        NotAppended::Stopping => (STOPPING, 0),
        NotAppended::LearnerNotReady => (LEARNER_NOT_READY, 0),
        NotAppended::ChangeRefused => (CHANGE_REFUSED, 0),
    };
    let (sequence, leader) = (U64::new(sequence), U64::new(leader));
    push(output, &NotAppendedFields { sequence, leader, reason, reserved: [0; 7] });
}

fn encode_ask(sequence: u64, question: Question, output: &mut Vec<u8>) {
    let (question, subject, keys) = match question {
        Question::LeaseKeepAlive { id } => (ASK_KEEP_ALIVE, id as u64, NO),
        Question::LeaseTimeToLive { id, keys: KeysWanted::Yes } => {
            (ASK_TIME_TO_LIVE, id as u64, YES)
        }
        Question::LeaseTimeToLive { id, keys: KeysWanted::No } => (ASK_TIME_TO_LIVE, id as u64, NO),
        Question::MoveLeader { target } => (ASK_MOVE_LEADER, target.0, NO),
    };
    let (sequence, subject) = (U64::new(sequence), U64::new(subject));
    push(output, &AskFields { sequence, subject, question, keys, reserved: [0; 6] });
}

fn encode_reply(sequence: u64, answer: &Answer, output: &mut Vec<u8>) {
    let mut fields = ReplyFields {
        sequence: U64::new(sequence),
        ttl_s: I64::ZERO,
        granted_ttl_s: I64::ZERO,
        count: U32::ZERO,
        answer: 0,
        failure: FAILURE_NONE,
        reserved: [0; 2],
    };
    match answer {
        Answer::KeepAlive { ttl_s } => {
            fields.answer = ASK_KEEP_ALIVE;
            fields.ttl_s = I64::new(*ttl_s);
        }
        Answer::TimeToLive { ttl_s, granted_ttl_s, keys } => {
            fields.answer = ASK_TIME_TO_LIVE;
            fields.ttl_s = I64::new(*ttl_s);
            fields.granted_ttl_s = I64::new(*granted_ttl_s);
            fields.count = count(keys.len());
        }
        Answer::Moved => fields.answer = ASK_MOVE_LEADER,
        Answer::Failed { reason } => {
            fields.answer = ASK_FAILED;
            fields.failure = failure_number(*reason);
        }
    }
    push(output, &fields);
    if let Answer::TimeToLive { keys, .. } = answer {
        for key in keys {
            push(output, &count(key.len()));
            output.extend_from_slice(key);
        }
    }
}

fn failure_number(reason: AskFailure) -> u8 {
    match reason {
        AskFailure::NoLeader => FAILURE_NO_LEADER,
        AskFailure::LeaderChanged => FAILURE_LEADER_CHANGED,
        AskFailure::TimedOut => FAILURE_TIMED_OUT,
        AskFailure::TooMany => FAILURE_TOO_MANY,
        AskFailure::Stopped => FAILURE_STOPPED,
        AskFailure::NotLeader => FAILURE_NOT_LEADER,
    }
}

fn encode_page_wanted(wanted: &PageWanted, output: &mut Vec<u8>) {
    assert!(0 < wanted.count && wanted.count <= PAGE_RUN_PAGES_MAX);
    let fields = PageWantedFields {
        first: U64::new(wanted.first.0),
        checksum: U64::new(wanted.checksum.0),
        count: U32::new(wanted.count),
        reserved: [0; 4],
    };
    push(output, &fields);
}

fn encode_page_run(run: &PageRun, output: &mut Vec<u8>) {
    let bytes = run.bytes.as_deref().unwrap_or_default();
    assert!(bytes.len().is_multiple_of(PAGE_SIZE_BYTES));
    assert!(bytes.is_empty() == run.bytes.is_none());
    let fields = PageRunFields {
        first: U64::new(run.first.0),
        size_bytes: count(bytes.len()),
        state: if run.bytes.is_some() { PAGES_HELD } else { PAGES_GONE },
        reserved: [0; 3],
    };
    push(output, &fields);
    output.extend_from_slice(bytes);
}

fn lease_number(lease: LeaseReads) -> u8 {
    match lease {
        LeaseReads::Served => YES,
        LeaseReads::NotServed => NO,
    }
}

/// A count or size of something that lies in a message of bounded size.
fn count(number: usize) -> U32 {
    U32::new(u32::try_from(number).expect("messages are bounded far below 4 GiB"))
}

fn push<T: IntoBytes + Immutable>(output: &mut Vec<u8>, fields: &T) {
    output.extend_from_slice(fields.as_bytes());
}
