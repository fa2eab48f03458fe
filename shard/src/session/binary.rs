//! A connection of the binary protocol: requests to calls, answers to frames.
//!
//! Invariants: every request is answered once; events that a watch has no credit for wait here, in
//! order, bounded by the credit that the replica gave; a watch's end overtakes none of its events.
//! Source: docs/format/wire.md.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::api::EventList;
use net::etcd::cancel_reason;
use net::etcd::status::{self, Status};
use net::wire::{
    ClusterMember, ClusterRequest, Delivery, FeedOutcome, Flow, LeaseTimeToLive, MemberStatus,
    Outbox, Reply, ReplyHeader, Request, ServerIdentity, ServerLimits, WatchCanceled, WatchFilter,
    WireApplication, WireSession,
};

use super::{Context, admission, status_of};
use crate::input::ConnectionId;
use crate::message::{
    Answer, Call, Member, MemberChange, MemberChangeKind, Outcome, WatchBatch, WatchCreate,
    WatchDelivery, WatchNotice, WatchNoticeKind,
};
use crate::metrics::Scalar;

/// A binary session.
pub(super) struct BinarySession {
    session: WireSession,
    watches: Watches,
    /// Watches that wait for credit or room.
    backlogged: BTreeSet<u64>,
    /// The session stopped before the end of its input: it goes on when there is room.
    is_input_paused: bool,
}

type Watches = BTreeMap<u64, Watch>;

/// What one watch still has to be told.
#[derive(Default)]
struct Watch {
    backlog: VecDeque<Backlog>,
}

/// Where a watch stands after it was told what could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    /// Something waits for credit or room.
    Owed,
    /// Nothing is owed.
    Clear,
    /// It was told its end.
    Over,
}

enum Backlog {
    Events { header: ReplyHeader, events: EventList, credit_bytes: usize },
    Progress(ReplyHeader),
    Canceled { header: ReplyHeader, compact_revision: i64, reason: &'static str },
}

impl BinarySession {
    pub fn new(context: &Context) -> BinarySession {
        let identity = ServerIdentity {
            cluster_id: context.config.cluster_id,
            member_id: context.config.member_id,
            server_version: context.config.server_version.clone(),
        };
        let limits = ServerLimits {
            request_size_bytes_max: u32::try_from(context.config.max_request_bytes)
                .unwrap_or(u32::MAX),
            txn_ops_max: u32::try_from(context.config.max_txn_ops).unwrap_or(u32::MAX),
            ..ServerLimits::default()
        };
        BinarySession {
            session: WireSession::new(identity, limits),
            watches: Watches::new(),
            backlogged: BTreeSet::new(),
            is_input_paused: false,
        }
    }

    pub fn feed(&mut self, connection: ConnectionId, bytes: &[u8], context: &mut Context) {
        let BinarySession { session, watches, backlogged, .. } = self;
        let mut program = Program { connection, watches, backlogged, context };
        let outcome = session.feed(bytes, &mut program);
        self.is_input_paused = outcome == FeedOutcome::Paused;
    }

    /// Bytes to send, and input that waited for room.
    pub fn take_output(&mut self, connection: ConnectionId, context: &mut Context) -> Vec<u8> {
        let bytes = self.session.outbox().take_output(Vec::new());
        let backlogged: Vec<_> = self.backlogged.iter().copied().collect();
        for id in backlogged {
            let BinarySession { session, watches, backlogged, .. } = &mut *self;
            let mut program = Program { connection, watches, backlogged, context };
            program.drain(id, session.outbox());
        }
        if self.is_input_paused && !self.session.congested() {
            self.feed(connection, &[], context);
        }
        bytes
    }

    pub fn wants_input(&self) -> bool {
        !self.is_input_paused && !self.session.congested()
    }

    /// Whether hello is done.
    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }

    pub fn is_finished(&self) -> bool {
        self.session.is_closed()
    }

    pub fn drain(&mut self) {
        self.session.outbox().go_away(&status::STOPPED);
    }

    pub fn on_closed(&mut self, connection: ConnectionId, context: &mut Context) {
        for id in self.watches.keys() {
            context.metrics.subtract(Scalar::WatchStreams, 1);
            context.call(connection, *id, Call::WatchStreamClosed);
        }
        self.watches.clear();
    }

    pub fn on_answer(&mut self, answer: Answer, context: &mut Context) {
        let id = answer.origin.stream;
        let outbox = self.session.outbox();
        let term = answer.raft_term;
        match &answer.outcome {
            Outcome::Applied(response) => outbox.response(id, term, response),
            Outcome::Range(Ok(range)) => outbox.reply(id, term, Reply::Range(range)),
            Outcome::ReadTxn(Ok(txn)) => outbox.reply(id, term, Reply::Txn(txn)),
            Outcome::Range(Err(reject))
            | Outcome::ReadTxn(Err(reject))
            | Outcome::HashKv(Err(reject)) => outbox.error(id, &status::from_reject(*reject)),
            Outcome::LeaseKeepAlive { revision, id: lease, ttl_s } => {
                let (revision, ttl_s) = (*revision, *ttl_s);
                outbox.reply(id, term, Reply::LeaseKeepAlive { revision, id: *lease, ttl_s });
            }
            Outcome::LeaseTimeToLive(lease) => {
                let answer = LeaseTimeToLive {
                    id: lease.id,
                    ttl_s: lease.ttl_s,
                    granted_ttl_s: lease.granted_ttl_s,
                    keys: lease.keys.clone(),
                };
                let revision = lease.revision;
                outbox.reply(id, term, Reply::LeaseTimeToLive { revision, lease: &answer });
            }
            Outcome::LeaseLeases { revision, ids } => {
                outbox.reply(id, term, Reply::Leases { revision: *revision, ids });
            }
            Outcome::Status(status) => {
                let revision = status.revision;
                let status = member_status(status, context);
                outbox.reply(id, term, Reply::Status { revision, status: &status });
            }
            Outcome::Failed(why) => outbox.error(id, &status_of(*why)),
            Outcome::MemberList(members) => {
                outbox.reply(id, term, Reply::MemberList { members: &told(members) });
            }
            Outcome::MembersChanged { kind, members } => {
                let members = &told(members)[..];
                let reply = match *kind {
                    MemberChangeKind::Added { id } => Reply::MemberAdd { id, members },
                    MemberChangeKind::Removed => Reply::MemberRemove { members },
                    MemberChangeKind::Updated => Reply::MemberUpdate { members },
                    MemberChangeKind::Promoted => Reply::MemberPromote { members },
                };
                outbox.reply(id, term, reply);
            }
            Outcome::LeaderMoved => outbox.reply(id, term, Reply::MoveLeader),
            Outcome::AuthStatus { .. }
            | Outcome::Hash { .. }
            | Outcome::HashKv(Ok(_))
            | Outcome::AlarmList { .. }
            | Outcome::Health(_) => unreachable!("the binary protocol does not ask this"),
        }
    }

    pub fn on_events(
        &mut self,
        connection: ConnectionId,
        id: u64,
        batch: &WatchBatch,
        delivery: &WatchDelivery,
        context: &mut Context,
    ) {
        let BinarySession { session, watches, backlogged, .. } = self;
        let Some(watch) = watches.get_mut(&id) else { return };
        watch.backlog.push_back(Backlog::Events {
            header: ReplyHeader { revision: batch.header_revision, raft_term: batch.raft_term },
            events: super::grpc_answer::events_of(batch, delivery),
            credit_bytes: delivery.size_bytes,
        });
        let mut program = Program { connection, watches, backlogged, context };
        program.drain(id, session.outbox());
    }

    pub fn on_notice(&mut self, notice: &WatchNotice, context: &mut Context) {
        let id = notice.origin.stream;
        let connection = notice.origin.connection;
        let header = ReplyHeader { revision: notice.revision, raft_term: notice.raft_term };
        let BinarySession { session, watches, backlogged, .. } = self;
        let canceled =
            |compact_revision, reason| Backlog::Canceled { header, compact_revision, reason };
        let owed = match notice.kind {
            WatchNoticeKind::Created => return session.outbox().watch_created(id, header),
            WatchNoticeKind::Progress => Backlog::Progress(header),
            WatchNoticeKind::Canceled => canceled(0, ""),
            WatchNoticeKind::Compacted { compact_revision } => canceled(compact_revision, ""),
            WatchNoticeKind::RefusedDuplicateId => canceled(0, cancel_reason::WATCH_ID_DUPLICATE),
            WatchNoticeKind::RefusedNegativeStart => {
                canceled(0, cancel_reason::START_REVISION_NEGATIVE)
            }
            WatchNoticeKind::RefusedEmptyRange => canceled(0, cancel_reason::RANGE_EMPTY),
            WatchNoticeKind::RefusedTooMany => canceled(0, TOO_MANY),
            WatchNoticeKind::RefusedStopped => canceled(0, cancel_reason::SERVER_STOPPED),
        };
        let Some(watch) = watches.get_mut(&id) else { return };
        watch.backlog.push_back(owed);
        let mut program = Program { connection, watches, backlogged, context };
        program.drain(id, session.outbox());
    }
}

const TOO_MANY: &str = "etcdserver: too many requests";

impl Watch {
    /// Tells as much as credit and room allow; what was taken is credited to the replica.
    fn drain(
        &mut self,
        connection: ConnectionId,
        id: u64,
        outbox: &mut Outbox,
        context: &mut Context,
    ) -> WatchState {
        while let Some(first) = self.backlog.front() {
            match first {
                Backlog::Events { header, events, credit_bytes } => {
                    let is_over = outbox.watch_credit_bytes(id).is_none();
                    let sent = !is_over
                        && matches!(
                            outbox.watch_events(id, *header, events),
                            Delivery::Sent { .. }
                        );
                    if !is_over && !sent {
                        return WatchState::Owed;
                    }
                    let size_bytes = *credit_bytes;
                    context.call(connection, id, Call::WatchCredit { size_bytes });
                }
                Backlog::Progress(header) => outbox.watch_progress(id, *header),
                Backlog::Canceled { header, compact_revision, reason } => {
                    let (compact_revision, reason) = (*compact_revision, *reason);
                    let canceled = WatchCanceled { compact_revision, reason };
                    outbox.watch_canceled(id, *header, canceled);
                    context.metrics.subtract(Scalar::WatchStreams, 1);
                    context.call(connection, id, Call::WatchStreamClosed);
                    return WatchState::Over;
                }
            }
            self.backlog.pop_front();
        }
        WatchState::Clear
    }
}

struct Program<'a> {
    connection: ConnectionId,
    watches: &'a mut Watches,
    backlogged: &'a mut BTreeSet<u64>,
    context: &'a mut Context,
}

impl WireApplication for Program<'_> {
    fn on_request(&mut self, outbox: &mut Outbox, id: u64, request: Request<'_>) -> Flow {
        match self.call_of(id, request) {
            Ok(call) if self.context.is_learner && !call.is_for_learners() => {
                outbox.error(id, &status::NOT_SUPPORTED_FOR_LEARNER);
            }
            Ok(call) => self.context.call(self.connection, id, call),
            Err(status) => outbox.error(id, &status),
        }
        if self.context.calls.len() < crate::limits::STEP_CALLS_MAX {
            Flow::Continue
        } else {
            Flow::Pause
        }
    }

    fn on_cluster_request(
        &mut self,
        outbox: &mut Outbox,
        id: u64,
        request: ClusterRequest<'_>,
    ) -> Flow {
        if self.context.is_stopping {
            outbox.error(id, &status::STOPPED);
            return Flow::Continue;
        }
        match cluster_call(request) {
            Ok(call) => self.context.call(self.connection, id, call),
            Err(status) => outbox.error(id, &status),
        }
        Flow::Continue
    }

    fn on_watch_credit(&mut self, outbox: &mut Outbox, id: u64, _credit_bytes: i64) {
        self.drain(id, outbox);
    }
}

impl Program<'_> {
    /// Tells a watch what it is owed, and remembers whether anything is left.
    fn drain(&mut self, id: u64, outbox: &mut Outbox) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let state = watch.drain(self.connection, id, outbox, self.context);
        match state {
            WatchState::Owed => self.backlogged.insert(id),
            WatchState::Clear | WatchState::Over => self.backlogged.remove(&id),
        };
        if state == WatchState::Over {
            self.watches.remove(&id);
        }
    }

    fn call_of(&mut self, id: u64, request: Request<'_>) -> Result<Call, Status> {
        if self.context.is_stopping {
            return Err(status::STOPPED);
        }
        match request {
            Request::Range(range) => admission::range(&range),
            Request::Put(put) => admission::put(self.context, &put),
            Request::DeleteRange(delete) => admission::delete_range(self.context, &delete),
            Request::Txn(txn) => admission::txn(self.context, txn),
            Request::Compact { revision, physical } => {
                admission::compact(self.context, revision, physical)
            }
            Request::LeaseGrant { id, ttl_s } => admission::lease_grant(self.context, id, ttl_s),
            Request::LeaseRevoke { id } => admission::lease_revoke(self.context, id),
            Request::LeaseKeepAlive { id } => Ok(Call::LeaseKeepAlive { id }),
            Request::LeaseTimeToLive { id, keys } => Ok(Call::LeaseTimeToLive { id, keys }),
            Request::Leases => Ok(Call::LeaseLeases),
            Request::Status => Ok(Call::Status),
            Request::WatchCancel => Ok(Call::WatchCancel { watch_id: 0 }),
            Request::WatchProgress => Ok(Call::WatchProgress { waits: true }),
            Request::WatchCreate(create) => {
                let known = self.watches.insert(id, Watch::default());
                assert!(known.is_none(), "request ids rise");
                self.context.metrics.add(Scalar::WatchStreams, 1);
                let key = if create.key.is_empty() { vec![0] } else { create.key.to_vec() };
                Ok(Call::WatchCreate(WatchCreate {
                    key,
                    range_end: create.range_end.to_vec(),
                    start_revision: create.start_revision,
                    watch_id: 0,
                    progress_notify: create.progress_notify,
                    no_put: matches!(create.filter, WatchFilter::NoPut | WatchFilter::Nothing),
                    no_delete: matches!(
                        create.filter,
                        WatchFilter::NoDelete | WatchFilter::Nothing
                    ),
                    prev_kv: create.prev_kv,
                    fragment: false,
                }))
            }
        }
    }
}

fn cluster_call(request: ClusterRequest<'_>) -> Result<Call, Status> {
    let owned = |urls: Vec<&str>| {
        super::grpc_request::check_urls(urls.into_iter().map(str::to_string).collect())
    };
    Ok(Call::MemberChange(match request {
        ClusterRequest::MemberList { is_linearizable } => {
            return Ok(Call::MemberList { serializable: !is_linearizable });
        }
        ClusterRequest::MoveLeader { target_id } => {
            return Ok(Call::MoveLeader { target: target_id });
        }
        ClusterRequest::MemberAdd { is_learner, peer_urls } => {
            MemberChange::Add { peer_urls: owned(peer_urls)?, is_learner }
        }
        ClusterRequest::MemberRemove { id } => MemberChange::Remove { id },
        ClusterRequest::MemberUpdate { id, peer_urls } => {
            MemberChange::Update { id, peer_urls: owned(peer_urls)? }
        }
        ClusterRequest::MemberPromote { id } => MemberChange::Promote { id },
    }))
}

fn told(members: &[Member]) -> Vec<ClusterMember> {
    let members = members.iter().map(|member| ClusterMember {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        binary_urls: member.binary_urls.clone(),
        is_learner: member.is_learner,
    });
    members.collect()
}

fn member_status(status: &crate::message::Status, context: &Context) -> MemberStatus {
    let mut errors = Vec::new();
    if status.leader == 0 {
        errors.push(status::NO_LEADER.message.to_string());
    }
    MemberStatus {
        version: context.config.server_version.clone(),
        storage_version: crate::metrics::cluster_version(&context.config.server_version),
        db_size_bytes: status.db_size_bytes,
        db_size_in_use_bytes: status.db_size_in_use_bytes,
        db_size_quota_bytes: status.db_size_quota_bytes,
        leader: status.leader,
        raft_index: status.raft_index,
        raft_applied_index: status.raft_applied_index,
        is_learner: status.is_learner,
        errors,
    }
}
