//! Bytes to messages. The bytes passed their frame's checksum, yet another member may be of another
//! version, or hostile: everything is checked, nothing is guessed, nothing panics.
//!
//! What is checked here are bounds; whether a message makes sense is for Raft and the shard.
//! Invariant: a number that the encoder never writes is an error, so each message has one form.

use super::error::PeerError;
use super::kind::MessageKind;
use super::layout::*;
use super::limits::{PAGE_RUN_PAGES_MAX, PAGE_RUNS_MAX};
use super::message::{
    Answer, AskFailure, KeysWanted, NotAppended, PageRun, PageWanted, PeerMessage, Question,
};
use super::reader::{Reader, check_index, check_reserved, check_term};
use engine::page::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use raft::{
    AppendOutcome, Body, CampaignCause, Configuration, DiskHealth, Entry, EntryId, EntryKind,
    Index, LeaseReads, MEMBERS_COUNT_MAX, ReplicaId, Snapshot, Verdict,
};
use zerocopy::little_endian::{U16, U32, U64};

/// The next message in a frame's body, and its group.
pub(super) fn decode(body: &mut Reader<'_>, version: u16) -> Result<(u64, PeerMessage), PeerError> {
    let fields: &MessageFields = body.fixed()?;
    check_reserved(&fields.reserved)?;
    let size = fields.size_bytes.get() as usize;
    let rest = size.checked_sub(size_of::<MessageFields>()).ok_or(PeerError::Count)?;
    let kind = MessageKind::check(fields.kind, version)?;
    let group = fields.group.get();
    let mut part = body.part(rest)?;
    let message = decode_kind(kind, rest, &mut part)?;
    part.finish()?;
    Ok((group, message))
}

fn decode_kind(
    kind: MessageKind,
    size_bytes: usize,
    part: &mut Reader<'_>,
) -> Result<PeerMessage, PeerError> {
    Ok(match kind {
        MessageKind::Propose => {
            let sequence = part.fixed::<U64>()?.get();
            let command = part.kept(size_bytes - size_of::<U64>())?;
            PeerMessage::Propose { sequence, command }
        }
        MessageKind::NotAppended => decode_not_appended(part)?,
        MessageKind::Ask => decode_ask(part)?,
        MessageKind::Reply => decode_reply(part)?,
        MessageKind::MetaRequest => PeerMessage::MetaRequest,
        MessageKind::Meta => {
            let last = entry_id(part.fixed()?)?;
            let configuration = configuration(part)?;
            let meta = part.kept(PAGE_SIZE_BYTES)?;
            PeerMessage::Meta { last, configuration, meta }
        }
        MessageKind::PageRequest => decode_page_request(part)?,
        MessageKind::Pages => decode_pages(part)?,
        MessageKind::EntriesRequest => {
            let fields: &EntriesRequestFields = part.fixed()?;
            let (first, last) = (check_index(fields.first.get())?, check_index(fields.last.get())?);
            if first == Index(0) || last < first {
                return Err(PeerError::Field("entries"));
            }
            PeerMessage::EntriesRequest { sequence: fields.sequence.get(), first, last }
        }
        MessageKind::Entries => {
            let fields: &EntriesFields = part.fixed()?;
            check_reserved(&fields.reserved)?;
            let entries = entries(part, fields.count.get())?;
            PeerMessage::Entries { sequence: fields.sequence.get(), entries }
        }
        raft_kind => PeerMessage::Raft(decode_raft(raft_kind, part)?),
    })
}

fn decode_raft(kind: MessageKind, part: &mut Reader<'_>) -> Result<raft::Message, PeerError> {
    let fields: &RaftFields = part.fixed()?;
    let (from, to) = (ReplicaId(fields.from.get()), ReplicaId(fields.to.get()));
    let term = check_term(fields.term.get())?;
    let body = match kind {
        MessageKind::PreVoteRequest | MessageKind::VoteRequest => vote_request(kind, part)?,
        MessageKind::PreVoteAnswer | MessageKind::VoteAnswer => vote_answer(kind, part)?,
        MessageKind::Append => {
            let fields: &AppendFields = part.fixed()?;
            check_reserved(&fields.reserved)?;
            Body::Append {
                previous: entry_id(&fields.previous)?,
                commit: check_index(fields.commit.get())?,
                lease: lease(fields.lease)?,
                entries: entries(part, fields.count.get())?,
            }
        }
        MessageKind::Commit => {
            let fields: &CommitFields = part.fixed()?;
            check_reserved(&fields.reserved)?;
            Body::Commit {
                previous: entry_id(&fields.previous)?,
                commit: check_index(fields.commit.get())?,
                lease: lease(fields.lease)?,
            }
        }
        MessageKind::AppendAnswer => append_answer(part.fixed()?)?,
        MessageKind::Heartbeat => {
            let fields: &HeartbeatFields = part.fixed()?;
            check_reserved(&fields.reserved)?;
            Body::Heartbeat {
                commit: check_index(fields.commit.get())?,
                round: fields.round.get(),
                lease: lease(fields.lease)?,
                disk: disk(fields.sync_age_us, fields.is_stuck)?,
            }
        }
        MessageKind::HeartbeatAnswer => {
            let fields: &HeartbeatAnswerFields = part.fixed()?;
            check_reserved(&fields.reserved)?;
            let disk = disk(fields.sync_age_us, fields.is_stuck)?;
            Body::HeartbeatAnswer { round: fields.round.get(), disk }
        }
        MessageKind::Snapshot => {
            let last = entry_id(part.fixed()?)?;
            Body::Snapshot { snapshot: Snapshot { last, configuration: configuration(part)? } }
        }
        MessageKind::TimeoutNow => Body::TimeoutNow,
        MessageKind::StaleTerm => Body::StaleTerm,
        MessageKind::TransferRequest => {
            Body::TransferRequest { target: ReplicaId(part.fixed::<U64>()?.get()) }
        }
        MessageKind::ReadIndexRequest => {
            Body::ReadIndexRequest { round: part.fixed::<U64>()?.get() }
        }
        MessageKind::ReadIndexAnswer => {
            let fields: &ReadIndexAnswerFields = part.fixed()?;
            let index = check_index(fields.index.get())?;
            Body::ReadIndexAnswer { round: fields.round.get(), index }
        }
        _ => return Err(PeerError::Kind),
    };
    Ok(raft::Message { from, to, term, body })
}

fn vote_request(kind: MessageKind, part: &mut Reader<'_>) -> Result<Body, PeerError> {
    let fields: &VoteRequestFields = part.fixed()?;
    check_reserved(&fields.reserved)?;
    let (last, committed) = (entry_id(&fields.last)?, entry_id(&fields.committed)?);
    match (kind, fields.cause) {
        (MessageKind::PreVoteRequest, CAUSE_NONE) => Ok(Body::PreVoteRequest { last, committed }),
        (MessageKind::VoteRequest, CAUSE_TIMEOUT) => {
            Ok(Body::VoteRequest { last, committed, cause: CampaignCause::Timeout })
        }
        (MessageKind::VoteRequest, CAUSE_TRANSFER) => {
            Ok(Body::VoteRequest { last, committed, cause: CampaignCause::Transfer })
        }
        _ => Err(PeerError::Field("cause")),
    }
}

fn vote_answer(kind: MessageKind, part: &mut Reader<'_>) -> Result<Body, PeerError> {
    let fields: &VoteAnswerFields = part.fixed()?;
    check_reserved(&fields.reserved)?;
    let committed = entry_id(&fields.committed)?;
    let verdict = if flag(fields.verdict)? { Verdict::Granted } else { Verdict::Refused };
    Ok(if kind == MessageKind::PreVoteAnswer {
        Body::PreVoteAnswer { verdict, committed }
    } else {
        Body::VoteAnswer { verdict, committed }
    })
}

fn append_answer(fields: &AppendAnswerFields) -> Result<Body, PeerError> {
    check_reserved(&fields.reserved)?;
    let index = check_index(fields.index.get())?;
    let hint = entry_id(&fields.hint)?;
    let has_hint = hint != EntryId::default();
    let outcome = match fields.outcome {
        OUTCOME_ACCEPTED if !has_hint => AppendOutcome::Accepted { matched: index },
        OUTCOME_REJECTED => AppendOutcome::Rejected { previous: index, hint },
        OUTCOME_BLANK if !has_hint && index == Index(0) => AppendOutcome::Blank,
        _ => return Err(PeerError::Field("outcome")),
    };
    Ok(Body::AppendAnswer { outcome, disk: disk(fields.sync_age_us, fields.is_stuck)? })
}

fn entries(part: &mut Reader<'_>, count: u32) -> Result<Vec<Entry>, PeerError> {
    let count = part.check_count(count, size_of::<EntryFields>())?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let fields: &EntryFields = part.fixed()?;
        check_reserved(&fields.reserved)?;
        let kind = match fields.kind {
            0 => EntryKind::Empty,
            1 => EntryKind::Command,
            2 => EntryKind::ConfigChange,
            _ => return Err(PeerError::Field("entry kind")),
        };
        let (term, index) = (check_term(fields.term.get())?, check_index(fields.index.get())?);
        let data = part.kept(fields.size_bytes.get() as usize)?;
        entries.push(Entry { term, index, kind, data });
    }
    Ok(entries)
}

fn configuration(part: &mut Reader<'_>) -> Result<Configuration, PeerError> {
    let fields: &ConfigurationFields = part.fixed()?;
    check_reserved(&fields.reserved)?;
    Ok(Configuration {
        voters: members(part, fields.voters)?,
        voters_outgoing: members(part, fields.voters_outgoing)?,
        learners: members(part, fields.learners)?,
        learners_next: members(part, fields.learners_next)?,
        is_auto_leave: flag(fields.is_auto_leave)?,
    })
}

fn members(part: &mut Reader<'_>, count: U16) -> Result<Vec<ReplicaId>, PeerError> {
    if MEMBERS_COUNT_MAX < usize::from(count.get()) {
        return Err(PeerError::Field("configuration"));
    }
    let count = part.check_count(u32::from(count.get()), size_of::<U64>())?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ReplicaId(part.fixed::<U64>()?.get());
        if id == ReplicaId(0) || members.last().is_some_and(|last| id <= *last) {
            return Err(PeerError::Field("configuration"));
        }
        members.push(id);
    }
    Ok(members)
}

fn decode_not_appended(part: &mut Reader<'_>) -> Result<PeerMessage, PeerError> {
    let fields: &NotAppendedFields = part.fixed()?;
    check_reserved(&fields.reserved)?;
    let leader = Some(ReplicaId(fields.leader.get())).filter(|leader| *leader != ReplicaId(0));
    let reason = match (fields.reason, leader) {
        (NOT_LEADER, leader) => NotAppended::NotLeader { leader },
        (TRANSFER_RUNNING, None) => NotAppended::TransferRunning,
        (FULL, None) => NotAppended::Full,
        (STOPPING, None) => NotAppended::Stopping,
        (LEARNER_NOT_READY, None) => NotAppended::LearnerNotReady,
        (CHANGE_REFUSED, None) => NotAppended::ChangeRefused,
        _ => return Err(PeerError::Field("reason")),
    };
    Ok(PeerMessage::NotAppended { sequence: fields.sequence.get(), reason })
}

fn decode_ask(part: &mut Reader<'_>) -> Result<PeerMessage, PeerError> {
    let fields: &AskFields = part.fixed()?;
    check_reserved(&fields.reserved)?;
    let subject = fields.subject.get();
    let id = subject as i64;
    let question = match (fields.question, fields.keys) {
        (ASK_KEEP_ALIVE, NO) => Question::LeaseKeepAlive { id },
        (ASK_TIME_TO_LIVE, NO) => Question::LeaseTimeToLive { id, keys: KeysWanted::No },
        (ASK_TIME_TO_LIVE, YES) => Question::LeaseTimeToLive { id, keys: KeysWanted::Yes },
        (ASK_MOVE_LEADER, NO) => Question::MoveLeader { target: ReplicaId(subject) },
        _ => return Err(PeerError::Field("question")),
    };
    Ok(PeerMessage::Ask { sequence: fields.sequence.get(), question })
}

fn decode_reply(part: &mut Reader<'_>) -> Result<PeerMessage, PeerError> {
    let fields: &ReplyFields = part.fixed()?;
    check_reserved(&fields.reserved)?;
    let (ttl_s, granted_ttl_s) = (fields.ttl_s.get(), fields.granted_ttl_s.get());
    let count = fields.count.get();
    let is_timeless = ttl_s == 0 && granted_ttl_s == 0 && count == 0;
    let answer = match (fields.answer, fields.failure) {
        (ASK_KEEP_ALIVE, FAILURE_NONE) if granted_ttl_s == 0 && count == 0 => {
            Answer::KeepAlive { ttl_s }
        }
        (ASK_TIME_TO_LIVE, FAILURE_NONE) => {
            Answer::TimeToLive { ttl_s, granted_ttl_s, keys: keys(part, count)? }
        }
        (ASK_MOVE_LEADER, FAILURE_NONE) if is_timeless => Answer::Moved,
        (ASK_FAILED, failure) if is_timeless => Answer::Failed { reason: ask_failure(failure)? },
        _ => return Err(PeerError::Field("answer")),
    };
    Ok(PeerMessage::Reply { sequence: fields.sequence.get(), answer })
}

fn keys(part: &mut Reader<'_>, count: u32) -> Result<Vec<bytes::Bytes>, PeerError> {
    let count = part.check_count(count, size_of::<U32>())?;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        let size = part.fixed::<U32>()?.get() as usize;
        keys.push(part.kept(size)?);
    }
    Ok(keys)
}

fn ask_failure(number: u8) -> Result<AskFailure, PeerError> {
    match number {
        FAILURE_NO_LEADER => Ok(AskFailure::NoLeader),
        FAILURE_LEADER_CHANGED => Ok(AskFailure::LeaderChanged),
        FAILURE_TIMED_OUT => Ok(AskFailure::TimedOut),
        FAILURE_TOO_MANY => Ok(AskFailure::TooMany),
        FAILURE_STOPPED => Ok(AskFailure::Stopped),
        FAILURE_NOT_LEADER => Ok(AskFailure::NotLeader),
        _ => Err(PeerError::Field("failure")),
    }
}

fn decode_page_request(part: &mut Reader<'_>) -> Result<PeerMessage, PeerError> {
    let request: &PageRequestFields = part.fixed()?;
    check_reserved(&request.reserved)?;
    let count = part.check_count(request.count.get(), size_of::<PageWantedFields>())?;
    if PAGE_RUNS_MAX < count {
        return Err(PeerError::Field("pages"));
    }
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        let fields: &PageWantedFields = part.fixed()?;
        check_reserved(&fields.reserved)?;
        let run_pages = fields.count.get();
        if run_pages == 0 || PAGE_RUN_PAGES_MAX < run_pages {
            return Err(PeerError::Field("pages"));
        }
        let (first, checksum) = (PageNumber(fields.first.get()), Checksum(fields.checksum.get()));
        pages.push(PageWanted { first, count: run_pages, checksum });
    }
    Ok(PeerMessage::PageRequest { sequence: request.sequence.get(), pages })
}

fn decode_pages(part: &mut Reader<'_>) -> Result<PeerMessage, PeerError> {
    let answer: &PagesFields = part.fixed()?;
    check_reserved(&answer.reserved)?;
    let count = part.check_count(answer.count.get(), size_of::<PageRunFields>())?;
    if PAGE_RUNS_MAX < count {
        return Err(PeerError::Field("pages"));
    }
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        let fields: &PageRunFields = part.fixed()?;
        check_reserved(&fields.reserved)?;
        let size = fields.size_bytes.get() as usize;
        let bytes = match (fields.state, size) {
            (PAGES_GONE, 0) => None,
            (PAGES_HELD, size) if 0 < size && size.is_multiple_of(PAGE_SIZE_BYTES) => {
                Some(part.kept(size)?)
            }
            _ => return Err(PeerError::Field("pages")),
        };
        pages.push(PageRun { first: PageNumber(fields.first.get()), bytes });
    }
    Ok(PeerMessage::Pages { sequence: answer.sequence.get(), pages })
}

fn entry_id(fields: &EntryIdFields) -> Result<EntryId, PeerError> {
    Ok(EntryId { index: check_index(fields.index.get())?, term: check_term(fields.term.get())? })
}

fn disk(sync_age_us: U32, is_stuck: u8) -> Result<DiskHealth, PeerError> {
    Ok(DiskHealth { sync_age_us: sync_age_us.get(), is_stuck: flag(is_stuck)? })
}

fn lease(number: u8) -> Result<LeaseReads, PeerError> {
    Ok(if flag(number)? { LeaseReads::Served } else { LeaseReads::NotServed })
}

fn flag(number: u8) -> Result<bool, PeerError> {
    match number {
        NO => Ok(false),
        YES => Ok(true),
        _ => Err(PeerError::Field("flag")),
    }
}
