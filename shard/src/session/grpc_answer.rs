//! What a replica says, as gRPC messages.
//!
//! Invariants: headers as etcd fills them (fact sheet of semantics, section 9); an outcome is
//! encoded straight into the connection's output, a big one piece by piece as the peer takes it.

use engine::api::{EventList, KvList, RangeResponse, Response, ResponseOp, TxnResponse};
use net::etcd::cancel_reason;
use net::etcd::decode::WatchFilters;
use net::etcd::encode::{
    self, AlarmMember, AnswerPieces, Header, Responder, WatchFragments, WatchHead,
};
use net::etcd::method::Method;
use net::etcd::proto::etcdserverpb;
use net::etcd::status::{self, Status};
use net::http2::{StreamId, Transmit};

use super::grpc::{Stream, finish, respond, responder};
use super::probe::{self, Probe};
use super::{Context, status_of};
use crate::message::{
    Answer, HealthReport, Member, MemberChangeKind, Outcome, Unavailable, WatchBatch,
    WatchDelivery, WatchNotice, WatchNoticeKind,
};

/// A piece of a streamed range is about this big.
const STREAM_PIECE_BYTES: usize = 512 << 10;
/// An answer with this much of key-values is sent in pieces.
const BIG_ANSWER_BYTES_MIN: usize = 256 << 10;
/// Such a piece.
const PIECE_BYTES: usize = 64 << 10;
const OK: Status = Status::fixed(status::Code::Ok, "");

/// Sends an answer, or as much of a big one as has room. True when the stream is over.
pub(super) fn send(
    transmit: &mut Transmit,
    id: u32,
    stream: &mut Stream,
    mut answer: Answer,
    context: &mut Context,
) -> bool {
    stream.owed = stream.owed.saturating_sub(1);
    let method = stream.method;
    if let Some(pieces) = big_answer(method, &mut answer, context) {
        if transmit.begin(StreamId(id), pieces.size_bytes()) {
            stream.rest = Some(Box::new(pieces));
            return go_on(transmit, id, stream, context);
        }
        finish(transmit, id, stream, &OK, context);
        return true;
    }
    if let Outcome::Health(report) = &answer.outcome {
        send_health(transmit, id, stream, report, context);
        return true;
    }
    let method = method.expect("plain HTTP asks for health only");
    let responder = responder(context, answer.raft_term);
    if let (Method::RangeStream, Outcome::Range(Ok(response))) = (method, &answer.outcome) {
        send_pieces(transmit, id, &responder, response);
    } else {
        if let Some(status) = refusal(&answer.outcome) {
            finish(transmit, id, stream, &status, context);
            return true;
        }
        let stream_id = StreamId(id);
        transmit.send(stream_id, |out| encode(out, &responder, &answer.outcome, context));
    }
    context.metrics.grpc_sent(method.id() as usize - 1);
    if method == Method::LeaseKeepAlive {
        return false;
    }
    finish(transmit, id, stream, &OK, context);
    true
}

/// The answer in pieces, if it is a big one: encoded at once it would be a long step, and it would
/// stand twice in memory.
fn big_answer(
    method: Option<Method>,
    answer: &mut Answer,
    context: &Context,
) -> Option<AnswerPieces> {
    let size_bytes = match &answer.outcome {
        Outcome::Range(Ok(range)) if method != Some(Method::RangeStream) => range.kvs.size_bytes(),
        Outcome::Applied(Response::DeleteRange(delete)) => delete.prev_kvs.size_bytes(),
        Outcome::ReadTxn(Ok(txn)) | Outcome::Applied(Response::Txn(txn)) => key_values_bytes(txn),
        _ => 0,
    };
    if size_bytes < BIG_ANSWER_BYTES_MIN {
        return None;
    }
    let responder = responder(context, answer.raft_term);
    let outcome = std::mem::replace(&mut answer.outcome, Outcome::Failed(Unavailable::Stopped));
    Some(match outcome {
        Outcome::Range(Ok(range)) => AnswerPieces::of_range(&responder, range),
        Outcome::Applied(Response::DeleteRange(delete)) => {
            AnswerPieces::of_delete_range(&responder, delete)
        }
        Outcome::ReadTxn(Ok(txn)) | Outcome::Applied(Response::Txn(txn)) => {
            AnswerPieces::of_txn(&responder, txn)
        }
        _ => unreachable!("measured above"),
    })
}

/// Bytes of all key-values in a transaction's answer.
fn key_values_bytes(txn: &TxnResponse) -> usize {
    let size_bytes = |op: &ResponseOp| match op {
        ResponseOp::Range(range) => range.kvs.size_bytes(),
        ResponseOp::Put(put) => put.prev_kv.size_bytes(),
        ResponseOp::DeleteRange(delete) => delete.prev_kvs.size_bytes(),
        ResponseOp::Txn(txn) => key_values_bytes(txn),
    };
    txn.responses.iter().map(size_bytes).sum()
}

/// Sends more of a big answer, as much as has room. True when all of it is sent and the stream over.
pub(super) fn go_on(
    transmit: &mut Transmit,
    id: u32,
    stream: &mut Stream,
    context: &mut Context,
) -> bool {
    let pieces = stream.rest.as_mut().expect("a big answer is on its way");
    while 0 < pieces.size_bytes() {
        if transmit.congested(StreamId(id)) {
            return false;
        }
        let encode = |out: &mut Vec<u8>| pieces.encode_some(out, PIECE_BYTES);
        if !transmit.go_on(StreamId(id), encode) {
            break;
        }
    }
    stream.rest = None;
    let method = stream.method.expect("plain HTTP asks for health only");
    context.metrics.grpc_sent(method.id() as usize - 1);
    finish(transmit, id, stream, &OK, context);
    true
}

/// The status of an outcome that is none.
fn refusal(outcome: &Outcome) -> Option<Status> {
    match outcome {
        Outcome::Applied(Response::Rejected { reject, .. })
        | Outcome::Range(Err(reject))
        | Outcome::ReadTxn(Err(reject))
        | Outcome::HashKv(Err(reject)) => Some(status::from_reject(*reject)),
        Outcome::Failed(why) => Some(status_of(*why)),
        _ => None,
    }
}

fn encode(out: &mut Vec<u8>, responder: &Responder, outcome: &Outcome, context: &Context) {
    match outcome {
        Outcome::Applied(response) => encode_applied(out, responder, response),
        Outcome::Range(Ok(response)) => encode::encode_range(out, responder, response),
        Outcome::ReadTxn(Ok(response)) => encode::encode_txn(out, responder, response),
        Outcome::LeaseKeepAlive { revision, id, ttl_s } => {
            encode::encode_lease_keep_alive(out, &responder.at(*revision), *id, *ttl_s);
        }
        Outcome::LeaseTimeToLive(lease) => {
            let answer = encode::LeaseTimeToLive {
                id: lease.id,
                ttl_s: lease.ttl_s,
                granted_ttl_s: lease.granted_ttl_s,
            };
            let keys = lease.keys.iter().map(Vec::as_slice);
            let header = responder.at(lease.revision);
            encode::encode_lease_time_to_live(out, &header, &answer, keys);
        }
        Outcome::LeaseLeases { revision, ids } => {
            encode::encode_lease_leases(out, &responder.at(*revision), ids.iter().copied());
        }
        Outcome::Status(status) => encode_status(out, responder, status, context),
        Outcome::AuthStatus { revision } => {
            let message = etcdserverpb::AuthStatusResponse {
                header: Some(responder.at(*revision).into()),
                enabled: false,
                auth_revision: 1,
            };
            encode::encode_message(out, &message);
        }
        Outcome::Hash { revision, hash } => {
            encode::encode_hash(out, &responder.at(*revision), *hash);
        }
        Outcome::HashKv(Ok(hash)) => encode::encode_hash_kv(
            out,
            &responder.at(hash.revision),
            hash.hash,
            hash.compact_revision,
            hash.hash_revision,
        ),
        Outcome::AlarmList { revision, alarms } => {
            let alarms = alarms
                .iter()
                .map(|(member_id, alarm)| AlarmMember { member_id: *member_id, alarm: *alarm });
            encode::encode_alarms(out, &responder.at(*revision), alarms);
        }
        Outcome::MemberList(members) => {
            let message = etcdserverpb::MemberListResponse {
                header: Some(responder.at(0).into()),
                members: told(members),
            };
            encode::encode_message(out, &message);
        }
        Outcome::MembersChanged { kind, members } => {
            encode_members_changed(out, responder, *kind, members);
        }
        Outcome::LeaderMoved => encode::encode_header_only(out, None),
        Outcome::Range(Err(_))
        | Outcome::ReadTxn(Err(_))
        | Outcome::HashKv(Err(_))
        | Outcome::Failed(_)
        | Outcome::Health(_) => unreachable!("refusals and health go another way"),
    }
}

fn encode_applied(out: &mut Vec<u8>, responder: &Responder, response: &Response) {
    match response {
        Response::Put(put) => encode::encode_put(out, responder, put),
        Response::DeleteRange(delete) => encode::encode_delete_range(out, responder, delete),
        Response::Txn(txn) => encode::encode_txn(out, responder, txn),
        Response::Compact { revision } => {
            encode::encode_compaction(out, &responder.at(*revision));
        }
        Response::LeaseGrant { revision, id, ttl_s } => {
            encode::encode_lease_grant(out, &responder.at(*revision), *id, *ttl_s);
        }
        Response::LeaseRevoke { revision } => {
            encode::encode_lease_revoke(out, &responder.at(*revision));
        }
        Response::Alarm { revision, touched } => {
            let alarms = touched
                .iter()
                .map(|(member_id, alarm)| AlarmMember { member_id: *member_id, alarm: *alarm });
            encode::encode_alarms(out, &responder.at(*revision), alarms);
        }
        Response::Done { .. } | Response::Rejected { .. } => {
            unreachable!("no client proposes these, and refusals go another way")
        }
    }
}

fn encode_status(
    out: &mut Vec<u8>,
    responder: &Responder,
    status: &crate::message::Status,
    context: &Context,
) {
    let mut errors = Vec::new();
    if status.leader == 0 {
        errors.push(status::NO_LEADER.message.to_string());
    }
    for (member_id, alarm) in &status.alarms {
        let name = match alarm {
            engine::api::AlarmType::NoSpace => "NOSPACE",
            engine::api::AlarmType::Corrupt => "CORRUPT",
        };
        errors.push(format!("memberID:{member_id} alarm:{name} "));
    }
    let storage_version = crate::metrics::cluster_version(&context.config.server_version);
    let message = etcdserverpb::StatusResponse {
        header: Some(responder.at(status.revision).into()),
        version: context.config.server_version.clone(),
        db_size: status.db_size_bytes,
        leader: status.leader,
        raft_index: status.raft_index,
        raft_term: responder.raft_term,
        raft_applied_index: status.raft_applied_index,
        errors,
        db_size_in_use: status.db_size_in_use_bytes,
        is_learner: status.is_learner,
        storage_version,
        db_size_quota: status.db_size_quota_bytes,
        downgrade_info: Some(etcdserverpb::DowngradeInfo::default()),
    };
    encode::encode_message(out, &message);
}

fn told(members: &[Member]) -> Vec<etcdserverpb::Member> {
    let members = members.iter().map(|member| etcdserverpb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    });
    members.collect()
}

fn encode_members_changed(
    out: &mut Vec<u8>,
    responder: &Responder,
    kind: MemberChangeKind,
    members: &[Member],
) {
    let header = Some(responder.at(0).into());
    let members = told(members);
    match kind {
        MemberChangeKind::Added { id } => {
            let member = members.iter().find(|member| member.id == id).cloned();
            let message = etcdserverpb::MemberAddResponse { header, member, members };
            encode::encode_message(out, &message);
        }
        MemberChangeKind::Removed => {
            encode::encode_message(out, &etcdserverpb::MemberRemoveResponse { header, members });
        }
        MemberChangeKind::Updated => {
            encode::encode_message(out, &etcdserverpb::MemberUpdateResponse { header, members });
        }
        MemberChangeKind::Promoted => {
            encode::encode_message(out, &etcdserverpb::MemberPromoteResponse { header, members });
        }
    }
}

/// All pieces but the last carry keys only; the last one tells header, count and more.
fn send_pieces(transmit: &mut Transmit, id: u32, responder: &Responder, answer: &RangeResponse) {
    let stream = StreamId(id);
    let mut piece = RangeResponse::default();
    for kv in answer.kvs.iter() {
        if STREAM_PIECE_BYTES <= piece.kvs.size_bytes() {
            transmit.send(stream, |out| encode::encode_range_stream(out, None, &piece));
            piece.kvs = KvList::default();
        }
        piece.kvs.push(kv);
    }
    let RangeResponse { revision, more, count, .. } = *answer;
    let last = RangeResponse { revision, more, count, ..piece };
    let header = responder.at(revision);
    transmit.send(stream, |out| encode::encode_range_stream(out, Some(&header), &last));
}

fn send_health(
    transmit: &mut Transmit,
    id: u32,
    stream: &Stream,
    report: &HealthReport,
    context: &mut Context,
) {
    let reply = match stream.probe.as_ref().expect("health was asked by a probe") {
        Probe::Health { exclude, serializable } => {
            let reply = probe::health_reply(exclude, !serializable, report);
            context.metrics.add(probe::health_scalar(&reply), 1);
            reply
        }
        Probe::Checks(checks) => probe::checks_reply(checks, report),
        _ => unreachable!("other probes do not ask a replica"),
    };
    respond(transmit, id, &reply);
}

/// Sends one watch's share of a batch.
pub(super) fn send_events(
    transmit: &mut Transmit,
    id: u32,
    batch: &WatchBatch,
    delivery: &WatchDelivery,
    context: &mut Context,
) {
    let header = responder(context, batch.raft_term).at(batch.header_revision);
    let events = delivery.events(batch);
    let stream = StreamId(id);
    let filters = WatchFilters::default();
    let method = Method::Watch.id() as usize - 1;
    if !delivery.fragment {
        context.metrics.grpc_sent(method);
        return transmit.send(stream, |out| {
            let (watch_id, prev_kv) = (delivery.watch_id, delivery.prev_kv);
            let sent =
                encode::encode_watch_events(out, &header, watch_id, filters, prev_kv, events);
            assert!(0 < sent, "a delivery holds events of its watch");
        });
    }
    let size_bytes_max = context.config.max_request_bytes + FRAGMENT_SLACK_BYTES;
    let (watch_id, prev_kv) = (delivery.watch_id, delivery.prev_kv);
    let mut pieces =
        WatchFragments::new(header, watch_id, filters, prev_kv, size_bytes_max, events);
    let mut piece = Vec::new();
    while pieces.encode_next(&mut piece) {
        context.metrics.grpc_sent(method);
        transmit.send(stream, |out| out.extend_from_slice(&piece));
        piece.clear();
    }
}

/// etcd splits a response at its receive limit: the request limit and this.
const FRAGMENT_SLACK_BYTES: usize = 512 << 10;

const TOO_MANY: &str = "etcdserver: too many requests";

/// Tells a stream something about a watch.
pub(super) fn send_notice(
    transmit: &mut Transmit,
    id: u32,
    notice: &WatchNotice,
    context: &mut Context,
) {
    let header = responder(context, notice.raft_term).at(notice.revision);
    let refused = |cancel_reason| WatchHead {
        watch_id: cancel_reason::WATCH_ID_NONE,
        created: true,
        canceled: true,
        cancel_reason,
        ..WatchHead::default()
    };
    let watch_id = notice.watch_id;
    let head = match notice.kind {
        WatchNoticeKind::Created => WatchHead { watch_id, created: true, ..WatchHead::default() },
        WatchNoticeKind::RefusedDuplicateId => refused(cancel_reason::WATCH_ID_DUPLICATE),
        WatchNoticeKind::RefusedNegativeStart => refused(cancel_reason::START_REVISION_NEGATIVE),
        WatchNoticeKind::RefusedEmptyRange => refused(cancel_reason::RANGE_EMPTY),
        WatchNoticeKind::RefusedTooMany => refused(TOO_MANY),
        WatchNoticeKind::RefusedStopped => refused(cancel_reason::SERVER_STOPPED),
        WatchNoticeKind::Canceled => WatchHead { watch_id, canceled: true, ..WatchHead::default() },
        WatchNoticeKind::Compacted { compact_revision } => {
            WatchHead { watch_id, canceled: true, compact_revision, ..WatchHead::default() }
        }
        WatchNoticeKind::Progress => WatchHead { watch_id, ..WatchHead::default() },
    };
    let is_compacted = matches!(notice.kind, WatchNoticeKind::Compacted { .. });
    let header = if is_compacted { Header { revision: 0, ..header } } else { header };
    context.metrics.grpc_sent(Method::Watch.id() as usize - 1);
    transmit.send(StreamId(id), |out| encode::encode_watch(out, &header, &head));
}

/// The events of a delivery as a list of their own.
pub(super) fn events_of(batch: &WatchBatch, delivery: &WatchDelivery) -> EventList {
    let mut events = EventList::default();
    for mut event in delivery.events(batch) {
        if !delivery.prev_kv {
            event.prev_kv = None;
        }
        events.push(event);
    }
    events
}
