//! The requests and answers of the store in etcd's vocabulary: plain data, no serialization.
//!
//! Requests borrow from the bytes they were parsed from; answers own what they carry, packed, so
//! that they can cross from one core to another. A replicated outcome is data: a [`Reject`] is part
//! of the answer and the same on every replica.
//! Source: fact sheet of the etcd v3 API; field names and meanings are etcd's.

use std::fmt;

/// One key's state, borrowed from a page, an entry or a packed list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The key; never empty in a stored version.
    pub key: &'a [u8],
    /// The value; empty in a tombstone.
    pub value: &'a [u8],
    /// Revision that created the key's current life; 0 in a tombstone.
    pub create_revision: i64,
    /// Main revision of the last change.
    pub mod_revision: i64,
    /// Changes since creation, from 1; 0 in a tombstone.
    pub version: i64,
    /// The lease attached, or 0.
    pub lease: i64,
}

/// Column by which a range answer is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// Direction of sorting; `None` with a target other than the key means ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// A read of `[key, range_end)`. An empty `range_end` is the single key, one zero byte is "from key".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RangeRequest<'a> {
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    /// Most kvs returned; 0 or less is unlimited.
    pub limit: i64,
    /// 0 or less is the newest.
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

/// A write of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PutRequest<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// A deletion of `[key, range_end)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DeleteRangeRequest<'a> {
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    pub prev_kv: bool,
}

/// Relation of a guard: current OP given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompareResult {
    #[default]
    Equal,
    Greater,
    Less,
    NotEqual,
    /// A number etcd does not know: such a guard holds.
    Unknown,
}

/// Column that a guard looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompareTarget {
    #[default]
    Version,
    Create,
    Mod,
    Value,
    Lease,
    /// A number etcd does not know: such a guard compares as equal.
    Unknown,
}

/// What a guard compares with. A kind other than the target's counts as 0 or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operand<'a> {
    #[default]
    Missing,
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(&'a [u8]),
    Lease(i64),
}

/// One guard of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Compare<'a> {
    pub result: CompareResult,
    pub target: CompareTarget,
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    pub operand: Operand<'a>,
}

/// One operation of a transaction's branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RequestOp<'a> {
    Range(RangeRequest<'a>),
    Put(PutRequest<'a>),
    DeleteRange(DeleteRangeRequest<'a>),
    Txn(TxnRequest<'a>),
}

/// Guards, then one of two branches, atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TxnRequest<'a> {
    pub compare: Vec<Compare<'a>>,
    pub success: Vec<RequestOp<'a>>,
    pub failure: Vec<RequestOp<'a>>,
}

/// The alarms of etcd, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum AlarmType {
    NoSpace = 1,
    Corrupt = 2,
}

/// What a replicated alarm entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AlarmAction {
    Activate = 1,
    Deactivate = 2,
}

/// Why a lease is revoked; the outcome is the same, logs and metrics tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RevokeCause {
    Client = 0,
    Expired = 1,
}

/// What a log entry asks of the state machine. Apply reads the command and the replicated state,
/// nothing else: whoever proposes puts clamped TTLs, chosen ids and the like into it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command<'a> {
    /// The group's first entry: what shapes pages is part of the log.
    Genesis {
        page_size_bytes: u32,
        value_inline_bytes_max: u32,
        interval_pages_max: u32,
        interval_bytes_max: u64,
    },
    Put(PutRequest<'a>),
    DeleteRange(DeleteRangeRequest<'a>),
    Txn(TxnRequest<'a>),
    /// Sets the compact revision; removal follows by `CompactStep` entries.
    Compact {
        revision: i64,
    },
    /// One bounded step of removal behind the compact revision, from the tree's own mark. It names
    /// the mark it starts from; at any other mark it changes nothing.
    CompactStep {
        mark_main: i64,
        mark_sub: i64,
    },
    LeaseGrant {
        id: i64,
        ttl_s: i64,
    },
    LeaseRevoke {
        id: i64,
        cause: RevokeCause,
    },
    Alarm {
        action: AlarmAction,
        member_id: u64,
        alarm: AlarmType,
    },
    /// The members that the group begins with; behind `Genesis`; the first of
    /// either counts.
    MembersFound {
        founders: Vec<Founder<'a>>,
    },
    /// A member tells its name, and where clients reach it: those of etcd's API and those of the
    /// binary protocol.
    MemberPublish {
        member_id: u64,
        name: &'a str,
        client_urls: Vec<&'a str>,
        binary_urls: Vec<&'a str>,
    },
    /// A member more. Its id was never used before.
    MemberAdd {
        member_id: u64,
        peer_urls: Vec<&'a str>,
        is_learner: bool,
    },
    /// A member less; its id is never used again.
    MemberRemove {
        member_id: u64,
    },
    /// A learner becomes a voter.
    MemberPromote {
        member_id: u64,
    },
    /// A member is reached elsewhere.
    MemberUpdate {
        member_id: u64,
        peer_urls: Vec<&'a str>,
    },
    /// Ends the checkpoint interval after this entry: who wants a checkpoint proposes it.
    Checkpoint,
}

/// A member that a group begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Founder<'a> {
    pub member_id: u64,
    pub name: &'a str,
    pub peer_urls: Vec<&'a str>,
}

/// Who proposed an entry: an entry of an earlier life never answers a request of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct ProposalId {
    pub member_id: u64,
    pub incarnation: u64,
    pub counter: u64,
}

/// A refusal that every replica agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reject {
    /// The revision asked for has been compacted.
    Compacted,
    /// The revision asked for is not there yet.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    LeaseNotFound,
    LeaseExists,
    LeaseTtlTooLarge,
    /// The NOSPACE alarm is up.
    NoSpace,
    /// The CORRUPT alarm is up.
    Corrupt,
    MemberNotFound,
    MemberExists,
    /// The id belonged to a member that was removed.
    MemberRemoved,
    PeerUrlExists,
    MemberNotLearner,
}

/// Key-values packed one after the other: one allocation however many there are, and it can cross
/// cores. Layout of an item: 4 x i64, key length u32, value length u32, key, value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KvList {
    bytes: Vec<u8>,
    count: usize,
}

const KV_HEADER_SIZE_BYTES: usize = 40;

impl KvList {
    /// How many key-values there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the packed bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The packed items, in the layout above: what crosses a wire as it is.
    pub fn packed(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes packed items from untrusted bytes; `None` unless they are a row of whole items.
    pub fn check_packed(bytes: &[u8]) -> Option<KvList> {
        let mut rest = bytes;
        let mut count = 0;
        while !rest.is_empty() {
            let sizes = rest.get(32..KV_HEADER_SIZE_BYTES)?;
            let size = |at: usize| {
                u32::from_le_bytes([sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]])
            };
            let item_size = KV_HEADER_SIZE_BYTES as u64 + u64::from(size(0)) + u64::from(size(4));
            rest = rest.get(usize::try_from(item_size).ok()?..)?;
            count += 1;
        }
        Some(KvList { bytes: bytes.to_vec(), count })
    }

    /// Adds one at the end.
    pub fn push(&mut self, kv: KeyValue<'_>) {
        self.bytes.reserve(KV_HEADER_SIZE_BYTES + kv.key.len() + kv.value.len());
        for field in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        for part in [kv.key, kv.value] {
            let size = u32::try_from(part.len())
                .expect("keys and values are bounded by the request limit");
            self.bytes.extend_from_slice(&size.to_le_bytes());
        }
        self.bytes.extend_from_slice(kv.key);
        self.bytes.extend_from_slice(kv.value);
        self.count += 1;
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// In the order of pushing.
    pub fn iter(&self) -> impl Iterator<Item = KeyValue<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (kv, size) = kv_at(rest);
            rest = &rest[size..];
            Some(kv)
        })
    }

    /// The one whose packed bytes begin at `offset`, and the offset of the next: 0 is that of the
    /// first, and the list ends where there is none.
    pub fn at(&self, offset: usize) -> Option<(KeyValue<'_>, usize)> {
        assert!(offset <= self.bytes.len());
        let rest = &self.bytes[offset..];
        (!rest.is_empty()).then(|| {
            let (kv, size) = kv_at(rest);
            (kv, offset + size)
        })
    }

    /// The first one.
    pub fn first(&self) -> Option<KeyValue<'_>> {
        self.iter().next()
    }
}

impl fmt::Debug for KvList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<KeyValue<'a>> for KvList {
    fn from_iter<I: IntoIterator<Item = KeyValue<'a>>>(kvs: I) -> KvList {
        let mut list = KvList::default();
        kvs.into_iter().for_each(|kv| list.push(kv));
        list
    }
}

fn kv_at(bytes: &[u8]) -> (KeyValue<'_>, usize) {
    assert!(bytes.len() >= KV_HEADER_SIZE_BYTES);
    let field = |slot: usize| {
        let at = slot * 8;
        i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    let size =
        |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let (key_size, value_size) = (size(32), size(36));
    let key_end = KV_HEADER_SIZE_BYTES + key_size;
    let kv = KeyValue {
        key: &bytes[KV_HEADER_SIZE_BYTES..key_end],
        value: &bytes[key_end..key_end + value_size],
        create_revision: field(0),
        mod_revision: field(1),
        version: field(2),
        lease: field(3),
    };
    (kv, key_end + value_size)
}

/// The answer of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision at the time of the read (in a write transaction: the revision its own
    /// writes are visible at).
    pub revision: i64,
    /// What was asked for, filtered, sorted, cut to the limit.
    pub kvs: KvList,
    /// Whether the limit cut something off.
    pub more: bool,
    /// Keys in the range at that revision, whatever limit and filters say.
    pub count: i64,
}

/// The answer of a put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// The new revision.
    pub revision: i64,
    /// What was there before, if asked for; at most one.
    pub prev_kv: KvList,
}

/// The answer of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// The new revision, or the current one if nothing was deleted.
    pub revision: i64,
    /// Keys deleted.
    pub deleted: i64,
    /// What was there before, in key order, if asked for.
    pub prev_kvs: KvList,
}

/// The answer of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// The new revision, or the current one if nothing changed.
    pub revision: i64,
    /// Which branch ran.
    pub succeeded: bool,
    /// One answer an operation, in order.
    pub responses: Vec<ResponseOp>,
}

/// The answer of one operation in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResponseOp {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
}

/// The answer of an applied command. `revision` is the store's revision after it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact {
        revision: i64,
    },
    LeaseGrant {
        revision: i64,
        id: i64,
        ttl_s: i64,
    },
    LeaseRevoke {
        revision: i64,
    },
    /// The alarm touched, if it was there (deactivate) or is now (activate).
    Alarm {
        revision: i64,
        touched: Option<(u64, AlarmType)>,
    },
    /// Genesis, steps in the background, publications, checkpoints.
    Done {
        revision: i64,
    },
    Rejected {
        revision: i64,
        reject: Reject,
    },
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventType {
    Put,
    Delete,
}

/// One change of one key, as a watcher sees it. A delete's `kv` has only key and mod_revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event<'a> {
    pub event_type: EventType,
    pub kv: KeyValue<'a>,
    /// The state before, when there was one and it is still known.
    pub prev_kv: Option<KeyValue<'a>>,
}

/// Events packed one after the other, in revision order; those of one revision are neighbours.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventList {
    kvs: KvList,
    /// Per event: bit 0 delete, bit 1 a previous state follows as the next key-value.
    kinds: Vec<u8>,
    /// Per event: where its key-value begins in the packed bytes.
    starts: Vec<usize>,
}

impl EventList {
    /// How many events there are.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Size of the packed bytes.
    pub fn size_bytes(&self) -> usize {
        self.kvs.size_bytes() + self.kinds.len()
    }

    /// The packed parts: one kind byte an event (bit 0 delete, bit 1 a previous state follows), and
    /// the key-values.
    pub fn parts(&self) -> (&[u8], &KvList) {
        (&self.kinds, &self.kvs)
    }

    /// Takes the parts from untrusted bytes; `None` unless they fit each other.
    pub fn check_parts(kinds: &[u8], kvs: KvList) -> Option<EventList> {
        let known = kinds.iter().all(|kind| *kind < 4);
        let kvs_count = kinds.len() + kinds.iter().filter(|kind| **kind & 2 != 0).count();
        if !known || kvs_count != kvs.len() {
            return None;
        }
        let mut starts = Vec::with_capacity(kinds.len());
        let mut at = 0;
        for kind in kinds {
            starts.push(at);
            at += kv_at(&kvs.bytes[at..]).1;
            if kind & 2 != 0 {
                at += kv_at(&kvs.bytes[at..]).1;
            }
        }
        Some(EventList { kvs, kinds: kinds.to_vec(), starts })
    }

    /// Adds one at the end.
    pub fn push(&mut self, event: Event<'_>) {
        let kind = match event.event_type {
            EventType::Put => 0,
            EventType::Delete => 1,
        };
        self.starts.push(self.kvs.size_bytes());
        self.kinds.push(kind | if event.prev_kv.is_some() { 2 } else { 0 });
        self.kvs.push(event.kv);
        if let Some(prev_kv) = event.prev_kv {
            self.kvs.push(prev_kv);
        }
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.kvs.clear();
        self.kinds.clear();
        self.starts.clear();
    }

    /// The event at `slot`, counted from 0 in the order of pushing.
    pub fn event(&self, slot: usize) -> Event<'_> {
        let kind = self.kinds[slot];
        let bytes = &self.kvs.bytes[self.starts[slot]..];
        let (kv, size) = kv_at(bytes);
        let prev_kv = (kind & 2 != 0).then(|| kv_at(&bytes[size..]).0);
        let event_type = if kind & 1 != 0 { EventType::Delete } else { EventType::Put };
        Event { event_type, kv, prev_kv }
    }

    /// Where the list ends now.
    pub fn mark(&self) -> EventListMark {
        EventListMark {
            kvs_size_bytes: self.kvs.bytes.len(),
            kvs: self.kvs.count,
            events: self.kinds.len(),
        }
    }

    /// Forgets what was pushed since `mark`.
    pub fn truncate(&mut self, mark: EventListMark) {
        assert!(mark.events <= self.kinds.len() && mark.kvs <= self.kvs.count);
        self.kvs.bytes.truncate(mark.kvs_size_bytes);
        self.kvs.count = mark.kvs;
        self.kinds.truncate(mark.events);
        self.starts.truncate(mark.events);
    }

    /// In the order of pushing.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        (0..self.len()).map(|slot| self.event(slot))
    }
}

impl fmt::Debug for EventList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<Event<'a>> for EventList {
    fn from_iter<I: IntoIterator<Item = Event<'a>>>(events: I) -> EventList {
        let mut list = EventList::default();
        events.into_iter().for_each(|event| list.push(event));
        list
    }
}

/// A place in an [`EventList`]: where it ended at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventListMark {
    kvs_size_bytes: usize,
    kvs: usize,
    events: usize,
}

impl EventListMark {
    /// Size of the packed bytes before it.
    pub fn size_bytes(&self) -> usize {
        self.kvs_size_bytes + self.events
    }
}

/// Whether `key` lies in `[start, end)` by etcd's rules for `end`: empty is the single key, one
/// zero byte is open.
pub fn range_contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => start <= key,
        _ => start <= key && key < end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_events_come_back_as_they_went_in() {
        let kv = KeyValue {
            key: b"k",
            value: b"v",
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 9,
        };
        let gone = KeyValue { key: b"k", mod_revision: 4, ..KeyValue::default() };
        let mut list = EventList::default();
        list.push(Event { event_type: EventType::Put, kv, prev_kv: None });
        list.push(Event { event_type: EventType::Delete, kv: gone, prev_kv: Some(kv) });
        let events: Vec<_> = list.iter().collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0], Event { event_type: EventType::Put, kv, prev_kv: None });
        assert_eq!(events[1], Event { event_type: EventType::Delete, kv: gone, prev_kv: Some(kv) });

        let (kinds, kvs) = list.parts();
        let taken = KvList::check_packed(kvs.packed()).unwrap();
        assert_eq!(EventList::check_parts(kinds, taken.clone()).unwrap(), list);
        assert_eq!(list.event(1), events[1]);
        assert_eq!(EventList::check_parts(&kinds[1..], taken), None);
        let cut = &kvs.packed()[..kvs.packed().len() - 1];
        assert_eq!(KvList::check_packed(cut), None);

        let (mark, before) = (list.mark(), list.clone());
        list.push(Event { event_type: EventType::Put, kv, prev_kv: Some(kv) });
        assert_eq!(mark.size_bytes(), before.size_bytes());
        list.truncate(mark);
        assert_eq!(list, before);
    }

    #[test]
    fn range_ends_follow_etcd() {
        assert!(range_contains(b"a", b"", b"a"));
        assert!(!range_contains(b"a", b"", b"ab"));
        assert!(range_contains(b"a", b"\0", b"zz"));
        assert!(range_contains(b"a", b"b", b"ab"));
        assert!(!range_contains(b"a", b"b", b"b"));
    }
}
