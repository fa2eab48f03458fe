//! What cores of one member say to each other, and the front of a core to its own replica: calls
//! to the owner of a group, answers and watch events back. To the driver a message is opaque.
//!
//! Invariants: a call names where its answer goes; every call but the watch and stream notices gets
//! exactly one answer; progress travels behind the events it covers, in the same queue.

use bytes::BytesMut;
use engine::api::{self, AlarmType, Event, EventList};

use crate::input::{ConnectionId, CoreId};

/// One message between a front and a replica.
#[derive(Debug)]
pub enum Message {
    /// To the owner of the group: do something.
    Call(Origin, Call),
    /// Back to the front: what came of it.
    Answer(Answer),
    /// Back to the front: events of watches.
    Events(WatchBatch),
    /// Back to the front: something about a watch that is not an event.
    Watch(WatchNotice),
    /// To every other front: what is known of the leader has changed.
    Leader(LeaderNews),
}

/// What the owner of the keyspace knows of the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderNews {
    /// Whether one is known.
    pub has_leader: bool,
    /// Raft term.
    pub raft_term: u64,
    /// Store revision at the time.
    pub revision: i64,
    /// This member is a learner: it answers little.
    pub is_learner: bool,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The core that holds the connection.
    pub core: CoreId,
    /// The connection.
    pub connection: ConnectionId,
    /// HTTP/2 stream, or request id of the binary protocol.
    pub stream: u64,
}

/// What a front asks of a replica.
#[derive(Debug)]
pub enum Call {
    /// Replicate this encoded command; its proposal id is stamped by the replica.
    Propose {
        /// Bytes of `engine::command`, with an empty proposal id.
        command: BytesMut,
        /// What the proposal is, for quota and waiting rules.
        class: ProposalClass,
    },
    /// A range read.
    Range(OwnedRange),
    /// A transaction without writes: an encoded `Txn` command, read only.
    ReadTxn {
        /// Bytes of `engine::command`.
        command: Vec<u8>,
        /// All its ranges are serializable.
        serializable: bool,
    },
    /// A keep-alive of a lease.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
    },
    /// Remaining time of a lease.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// List its keys.
        keys: bool,
    },
    /// All leases.
    LeaseLeases,
    /// Status of this member.
    Status,
    /// Whether authentication is on (it never is yet).
    AuthStatus,
    /// Hash of the whole state.
    Hash,
    /// Hash of the key-value history up to a revision; 0 is the newest.
    HashKv {
        /// Main revision.
        revision: i64,
    },
    /// Alarms that are up.
    AlarmList {
        /// Only these; `None` is all.
        alarm: Option<AlarmType>,
    },
    /// The member list.
    MemberList {
        /// A local, possibly stale one will do.
        serializable: bool,
    },
    /// Change who belongs to the cluster.
    MemberChange(MemberChange),
    /// Hand leadership over; for the leader.
    MoveLeader {
        /// To this member.
        target: u64,
    },
    /// How is this member: alarms, leader, and whether a read works.
    Health {
        /// A local read is enough, no leader needed.
        serializable: bool,
    },
    /// Watch a range. Answered by `WatchNotice::Created` or `Refused`.
    WatchCreate(WatchCreate),
    /// End a watch. Answered by `WatchNotice::Canceled` if it was there.
    WatchCancel {
        /// Id within the stream.
        watch_id: i64,
    },
    /// A progress notice for the whole stream, if all its watches are synced.
    WatchProgress {
        /// If they are not, tell it later; else the stream has to ask again.
        waits: bool,
    },
    /// The stream took this many bytes: it may be sent as many again.
    WatchCredit {
        /// Bytes.
        size_bytes: usize,
    },
    /// The stream is gone with all its watches.
    WatchStreamClosed,
    /// The caller is gone: an answer is no longer wanted (a hint: one may still come).
    Abandon,
}

impl Call {
    /// Whether it gets one answer of its own; what concerns watches is told by notices.
    pub fn is_answered(&self) -> bool {
        !matches!(
            self,
            Call::WatchCreate(_)
                | Call::WatchCancel { .. }
                | Call::WatchProgress { .. }
                | Call::WatchCredit { .. }
                | Call::WatchStreamClosed
                | Call::Abandon
        )
    }
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// One more.
    Add {
        /// Where it is reached by the others.
        peer_urls: Vec<String>,
        /// It does not vote.
        is_learner: bool,
    },
    /// One less.
    Remove {
        /// Which one.
        id: u64,
    },
    /// One is reached elsewhere.
    Update {
        /// Which one.
        id: u64,
        /// Where.
        peer_urls: Vec<String>,
    },
    /// A learner becomes a voter.
    Promote {
        /// Which one.
        id: u64,
    },
}

/// Which change of the members it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MemberChangeKind {
    /// The id was given here.
    Added {
        id: u64,
    },
    Removed,
    Updated,
    Promoted,
}

/// What a proposal is, as far as admission cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalClass {
    /// Grows the store by about this much: refused above the quota.
    Write {
        /// Cost as etcd counts it.
        cost_bytes: u64,
    },
    /// Never refused for space.
    Other,
    /// A compaction whose answer waits until old versions are removed.
    PhysicalCompaction,
    /// A change of the members, answered by `MembersChanged`.
    Members(MemberChangeKind),
}

impl Call {
    /// Whether a learner does it.
    pub fn is_for_learners(&self) -> bool {
        match self {
            Call::Range(range) => range.is_serializable(),
            Call::Status
            | Call::Health { .. }
            | Call::WatchCredit { .. }
            | Call::WatchStreamClosed
            | Call::Abandon => true,
            _ => false,
        }
    }
}

/// A range request that owns its keys.
#[derive(Clone, Debug, Default)]
pub struct OwnedRange {
    /// Key, then range end, in one buffer.
    keys: Vec<u8>,
    key_size_bytes: usize,
    /// The rest of the request, with empty keys.
    request: RangeOptions,
}

type RangeOptions = api::RangeRequest<'static>;

impl OwnedRange {
    /// Copies the keys of a request.
    pub fn new(request: &api::RangeRequest<'_>) -> OwnedRange {
        let mut keys = Vec::with_capacity(request.key.len() + request.range_end.len());
        keys.extend_from_slice(request.key);
        keys.extend_from_slice(request.range_end);
        let options = RangeOptions { key: &[], range_end: &[], ..static_options(request) };
        OwnedRange { keys, key_size_bytes: request.key.len(), request: options }
    }

    /// The request again.
    pub fn request(&self) -> api::RangeRequest<'_> {
        let (key, range_end) = self.keys.split_at(self.key_size_bytes);
        api::RangeRequest { key, range_end, ..self.request }
    }

    /// Whether a local, possibly stale answer is wanted.
    pub fn is_serializable(&self) -> bool {
        self.request.serializable
    }
}

fn static_options(request: &api::RangeRequest<'_>) -> RangeOptions {
    RangeOptions {
        key: &[],
        range_end: &[],
        limit: request.limit,
        revision: request.revision,
        sort_order: request.sort_order,
        sort_target: request.sort_target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// A watch to create.
#[derive(Clone, Debug, Default)]
pub struct WatchCreate {
    /// First key; never empty.
    pub key: Vec<u8>,
    /// etcd's range end.
    pub range_end: Vec<u8>,
    /// 0 is from the next revision on.
    pub start_revision: i64,
    /// 0 lets the owner of the stream choose.
    pub watch_id: i64,
    /// Periodic notices when idle.
    pub progress_notify: bool,
    /// Drop put events.
    pub no_put: bool,
    /// Drop delete events.
    pub no_delete: bool,
    /// Fill in the state before.
    pub prev_kv: bool,
    /// Split big responses.
    pub fragment: bool,
}

/// Where the answers to other members' questions go: the connection is theirs, the stream their
/// number of the question.
pub const REMOTE_CORE: CoreId = CoreId(u16::MAX);

/// What came of a call.
#[derive(Debug)]
pub struct Answer {
    /// Where it goes.
    pub origin: Origin,
    /// Raft term of the answering member.
    pub raft_term: u64,
    /// What.
    pub outcome: Outcome,
}

/// The kinds of answers.
#[derive(Debug)]
pub enum Outcome {
    /// A command was applied.
    Applied(api::Response),
    /// A range was read, or refused.
    Range(Result<api::RangeResponse, api::Reject>),
    /// A read-only transaction was read, or refused.
    ReadTxn(Result<api::TxnResponse, api::Reject>),
    /// A keep-alive: the new TTL, 0 for an unknown lease.
    LeaseKeepAlive {
        /// Store revision before the renewal.
        revision: i64,
        /// The lease.
        id: i64,
        /// Seconds.
        ttl_s: i64,
    },
    /// Remaining time of a lease.
    LeaseTimeToLive(LeaseTimeToLive),
    /// All leases.
    LeaseLeases {
        /// Store revision.
        revision: i64,
        /// Ids.
        ids: Vec<i64>,
    },
    /// Status.
    Status(Box<Status>),
    /// Authentication is off.
    AuthStatus {
        /// Store revision.
        revision: i64,
    },
    /// Hash of everything.
    Hash {
        /// Store revision.
        revision: i64,
        /// The hash.
        hash: u32,
    },
    /// Hash of the history.
    HashKv(Result<HashKv, api::Reject>),
    /// Alarms that are up.
    AlarmList {
        /// Store revision.
        revision: i64,
        /// Member and alarm.
        alarms: Vec<(u64, AlarmType)>,
    },
    /// Members.
    MemberList(Vec<Member>),
    /// The members after a change.
    MembersChanged {
        /// What changed.
        kind: MemberChangeKind,
        /// All of them.
        members: Vec<Member>,
    },
    /// Leadership was handed over.
    LeaderMoved,
    /// How the member is.
    Health(HealthReport),
    /// Not done, and the store knows no more: etcd's errors for that.
    Failed(Unavailable),
}

/// Why a call was not done, or nobody knows whether it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// More in flight than the bounds allow; nothing was done.
    TooManyRequests,
    /// Not done in time; a write may still happen.
    TimedOut,
    /// No leader is known.
    NoLeader,
    /// The leader changed while a read waited.
    LeaderChanged,
    /// The member is stopping.
    Stopped,
    /// The quota is used up.
    NoSpace,
    /// A page that the answer needs is broken.
    Corrupt,
    /// The answer is larger than what a core may hold for answers.
    AnswerTooLarge,
    /// The leader that had it is not the leader any more, and the next one did not find it.
    LeaderFailed,
    /// Only the leader does this.
    NotLeader,
    /// The member that was to lead cannot.
    BadTransferee,
    /// The leadership was not handed over in time.
    TransferTimedOut,
    /// The change of members would leave too few that ever started.
    NotEnoughStarted,
    /// The change of members would leave too few that can be reached.
    Unhealthy,
    /// No more learners are allowed.
    TooManyLearners,
    /// More members than a group may have.
    TooManyMembers,
    /// No member has the id.
    MemberNotFound,
    /// A learner to be promoted has not caught up.
    LearnerNotReady,
    /// A learner does not do this.
    Learner,
}

/// Remaining time of a lease; `ttl_s` is -1 for an unknown one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LeaseTimeToLive {
    pub revision: i64,
    pub id: i64,
    pub ttl_s: i64,
    pub granted_ttl_s: i64,
    pub keys: Vec<Vec<u8>>,
}

/// Figures of this member, as etcd's Status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Status {
    pub revision: i64,
    pub db_size_bytes: i64,
    pub db_size_in_use_bytes: i64,
    pub db_size_quota_bytes: i64,
    pub leader: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub alarms: Vec<(u64, AlarmType)>,
    pub is_learner: bool,
}

/// Hash of the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HashKv {
    pub revision: i64,
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

/// How a member is, for /health, /livez and /readyz.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// Alarms that are up, in the order of etcd's numbers.
    pub alarms: Vec<AlarmType>,
    /// Whether a leader is known.
    pub has_leader: bool,
    /// The member is a learner.
    pub is_learner: bool,
    /// Why the read that was asked for failed.
    pub read_failure: Option<Unavailable>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// Told by the binary protocol alone.
    pub binary_urls: Vec<String>,
    pub is_learner: bool,
}

/// Events for watches of one core: they cross once, with the list of who gets which.
#[derive(Debug, Default)]
pub struct WatchBatch {
    /// Raft term, for headers.
    pub raft_term: u64,
    /// Revision for headers: the store's when these events were read.
    pub header_revision: i64,
    /// The events.
    pub events: EventList,
    /// Slots of events, delivery after delivery.
    pub slots: Vec<u32>,
    /// Who gets what.
    pub deliveries: Vec<WatchDelivery>,
}

/// One watch's share of a batch.
#[derive(Clone, Copy, Debug)]
pub struct WatchDelivery {
    /// Where the stream is.
    pub origin: Origin,
    /// Id within the stream.
    pub watch_id: i64,
    /// First of its entries in `slots`.
    pub slots_start: u32,
    /// How many.
    pub slots_count: u32,
    /// What it takes of the stream's credit, to be given back by `WatchCredit`.
    pub size_bytes: usize,
    /// Fill in previous states.
    pub prev_kv: bool,
    /// Split if big.
    pub fragment: bool,
}

impl WatchDelivery {
    /// This watch's events of the batch, in order.
    pub fn events<'a>(&self, batch: &'a WatchBatch) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let start = self.slots_start as usize;
        let slots = &batch.slots[start..start + self.slots_count as usize];
        slots.iter().map(|slot| batch.events.event(*slot as usize))
    }
}

/// What a watch stream is told besides events.
#[derive(Debug)]
pub struct WatchNotice {
    /// The stream.
    pub origin: Origin,
    /// Id within the stream; -1 for the whole stream or a refused watch.
    pub watch_id: i64,
    /// Raft term, for the header.
    pub raft_term: u64,
    /// Revision for the header.
    pub revision: i64,
    /// What.
    pub kind: WatchNoticeKind,
}

/// The kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchNoticeKind {
    /// The watch is there; nothing of it came before.
    Created,
    /// Not created: the id is taken.
    RefusedDuplicateId,
    /// Not created: the start revision is negative.
    RefusedNegativeStart,
    /// Not created: the range holds no key.
    RefusedEmptyRange,
    /// Ended by the client.
    Canceled,
    /// Ended because its next revision was compacted.
    Compacted {
        /// Smallest revision still watchable.
        compact_revision: i64,
    },
    /// Everything up to the header's revision was delivered.
    Progress,
    /// No more watches fit on this member or stream.
    RefusedTooMany,
    /// Not created: the member was removed, and hears of no more changes.
    RefusedStopped,
}
