//! The JSON format: field names and their order are those of etcd's Go structures, byte strings
//! are base64, zeros are left out where Go leaves them out.

use super::printer::{EndpointHealth, EndpointStatus, Shown, Style};
use corestone_client::{
    ClusterMember, DeleteRangeResponse, EventType, KeyValue, KvList, MemberStatus, PutResponse,
    RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchMessage,
};
use serde::{Serialize, Serializer};
use std::io;

pub(super) fn show(
    out: &mut Vec<u8>,
    header: &ResponseHeader,
    shown: &Shown<'_>,
    style: Style,
) -> io::Result<()> {
    let header = Header::of(header);
    match shown {
        Shown::Put(put) => line(out, &Put::of(header, put)),
        Shown::Get(range) => line(out, &Range::of(header, range)),
        Shown::Del(delete) => line(out, &Delete::of(header, delete)),
        Shown::Txn(txn) => line(out, &Txn::of(header, txn)),
        Shown::Watch(message) => line(out, &Watch::of(header, message)),
        Shown::LeaseGrant(lease) => {
            let error = Some("");
            line(out, &Lease { header, id: lease.id, ttl_s: lease.ttl_s, error })
        }
        Shown::LeaseKeepAlive(lease) => {
            line(out, &Lease { header, id: lease.id, ttl_s: lease.ttl_s, error: None })
        }
        Shown::LeaseRevoke { .. } => line(out, &HeaderOnly { header }),
        Shown::LeaseTimeToLive { lease, .. } => {
            let keys: Vec<String> = lease.keys.iter().map(|key| base64(key)).collect();
            let keys = (!keys.is_empty()).then_some(keys);
            let (id, ttl_s, granted_ttl_s) = (lease.id, lease.ttl_s, lease.granted_ttl_s);
            line(out, &TimeToLive { header, id, ttl_s, granted_ttl_s, keys })
        }
        Shown::Leases(ids) => {
            let leases = ids.iter().map(|id| LeaseId { id: *id }).collect();
            line(out, &Leases { header, leases })
        }
        Shown::Statuses(statuses) => {
            let endpoints: Vec<Endpoint<'_>> = statuses.iter().map(Endpoint::of).collect();
            // etcdctl shows an empty list so.
            line(out, &(!endpoints.is_empty()).then_some(endpoints))
        }
        Shown::Healths(healths) => {
            line(out, &healths.iter().map(Health::of).collect::<Vec<Health<'_>>>())
        }
        Shown::Members(list) if style.hex => line(out, &Members::of(header, None, list, Id::Hex)),
        Shown::Members(list) => line(out, &Members::of(header, None, list, Id::Decimal)),
        Shown::MemberAdd { added, .. } => {
            line(out, &Members::of(header, Some(added.id), &added.members, Id::Decimal))
        }
        Shown::MemberChange { members, .. } => {
            line(out, &Members::of(header, None, members, Id::Decimal))
        }
    }
}

fn line(out: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.push(b'\n');
    Ok(())
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_zero_unsigned(number: &u64) -> bool {
    *number == 0
}

fn is_false(condition: &bool) -> bool {
    !*condition
}

#[derive(Clone, Copy, Serialize)]
struct Header {
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    raft_term: u64,
}

impl Header {
    fn of(header: &ResponseHeader) -> Header {
        let ResponseHeader { cluster_id, member_id, revision, raft_term } = *header;
        Header { cluster_id, member_id, revision, raft_term }
    }

    /// The header of an answer within a transaction: the revision alone.
    fn inner(revision: i64) -> Header {
        Header { cluster_id: 0, member_id: 0, revision, raft_term: 0 }
    }
}

#[derive(Serialize)]
struct HeaderOnly {
    header: Header,
}

#[derive(Serialize)]
struct Kv {
    key: String,
    #[serde(skip_serializing_if = "is_zero")]
    create_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    mod_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    version: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "is_zero")]
    lease: i64,
}

impl Kv {
    fn of(kv: KeyValue<'_>) -> Kv {
        Kv {
            key: base64(kv.key),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: base64(kv.value),
            lease: kv.lease,
        }
    }

    fn list(kvs: &KvList) -> Vec<Kv> {
        kvs.iter().map(Kv::of).collect()
    }
}

#[derive(Serialize)]
struct Put {
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<Kv>,
}

impl Put {
    fn of(header: Header, put: &PutResponse) -> Put {
        Put { header, prev_kv: put.prev_kv.first().map(Kv::of) }
    }
}

#[derive(Serialize)]
struct Range {
    header: Header,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<Kv>,
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
    #[serde(skip_serializing_if = "is_zero")]
    count: i64,
}

impl Range {
    fn of(header: Header, range: &RangeResponse) -> Range {
        Range { header, kvs: Kv::list(&range.kvs), more: range.more, count: range.count }
    }
}

#[derive(Serialize)]
struct Delete {
    header: Header,
    #[serde(skip_serializing_if = "is_zero")]
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<Kv>,
}

impl Delete {
    fn of(header: Header, delete: &DeleteRangeResponse) -> Delete {
        Delete { header, deleted: delete.deleted, prev_kvs: Kv::list(&delete.prev_kvs) }
    }
}

#[derive(Serialize)]
struct Txn {
    header: Header,
    #[serde(skip_serializing_if = "is_false")]
    succeeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<Op>,
}

#[derive(Serialize)]
struct Op {
    #[serde(rename = "Response")]
    response: OpKind,
}

#[derive(Serialize)]
enum OpKind {
    #[serde(rename = "response_range")]
    Range(Range),
    #[serde(rename = "response_put")]
    Put(Put),
    #[serde(rename = "response_delete_range")]
    Delete(Delete),
    #[serde(rename = "response_txn")]
    Txn(Txn),
}

impl Txn {
    fn of(header: Header, txn: &TxnResponse) -> Txn {
        let op = |op: &ResponseOp| Op {
            response: match op {
                ResponseOp::Range(range) => {
                    OpKind::Range(Range::of(Header::inner(range.revision), range))
                }
                ResponseOp::Put(put) => OpKind::Put(Put::of(Header::inner(put.revision), put)),
                ResponseOp::DeleteRange(delete) => {
                    OpKind::Delete(Delete::of(Header::inner(delete.revision), delete))
                }
                ResponseOp::Txn(txn) => OpKind::Txn(Txn::of(Header::inner(0), txn)),
            },
        };
        let responses = txn.responses.iter().map(op).collect();
        Txn { header, succeeded: txn.succeeded, responses }
    }
}

#[derive(Serialize)]
struct Watch {
    #[serde(rename = "Header")]
    header: Header,
    #[serde(rename = "Events")]
    events: Vec<WatchEvent>,
    #[serde(rename = "CompactRevision")]
    compact_revision: i64,
    #[serde(rename = "Canceled")]
    canceled: bool,
    #[serde(rename = "Created")]
    created: bool,
    #[serde(rename = "CancelReason")]
    cancel_reason: &'static str,
}

#[derive(Serialize)]
struct WatchEvent {
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    event_type: i64,
    kv: Kv,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<Kv>,
}

impl Watch {
    fn of(header: Header, message: &WatchMessage) -> Watch {
        let event = |event: corestone_client::Event<'_>| WatchEvent {
            event_type: match event.event_type {
                EventType::Put => 0,
                EventType::Delete => 1,
            },
            kv: Kv::of(event.kv),
            prev_kv: event.prev_kv.map(Kv::of),
        };
        Watch {
            header: Header { revision: message.revision, ..header },
            events: message.events.iter().map(event).collect(),
            compact_revision: 0,
            canceled: false,
            created: false,
            cancel_reason: "",
        }
    }
}

#[derive(Serialize)]
struct Lease<'a> {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl_s: i64,
    #[serde(rename = "Error", skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct TimeToLive {
    #[serde(flatten)]
    header: Header,
    id: i64,
    #[serde(rename = "ttl")]
    ttl_s: i64,
    #[serde(rename = "granted-ttl")]
    granted_ttl_s: i64,
    keys: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Leases {
    #[serde(flatten)]
    header: Header,
    leases: Vec<LeaseId>,
}

#[derive(Serialize)]
struct LeaseId {
    id: i64,
}

/// An id, in the style asked for.
#[derive(Clone, Copy)]
enum Id {
    Decimal(u64),
    Hex(u64),
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Id::Decimal(id) => to.serialize_u64(*id),
            Id::Hex(id) => to.collect_str(&format_args!("{id:x}")),
        }
    }
}

#[derive(Serialize)]
struct ClusterHeader {
    cluster_id: Id,
    member_id: Id,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    raft_term: u64,
}

#[derive(Serialize)]
struct Member<'a> {
    #[serde(rename = "ID")]
    id: Id,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "peerURLs", skip_serializing_if = "<[String]>::is_empty")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "is_false")]
    is_learner: bool,
}

#[derive(Serialize)]
struct Members<'a> {
    header: ClusterHeader,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<Member<'a>>,
    members: Vec<Member<'a>>,
}

impl<'a> Members<'a> {
    fn of(
        header: Header,
        added: Option<u64>,
        members: &'a [ClusterMember],
        id: fn(u64) -> Id,
    ) -> Members<'a> {
        let shown = |member: &'a ClusterMember| Member {
            id: id(member.id),
            name: &member.name,
            peer_urls: &member.peer_urls,
            client_urls: &member.client_urls,
            is_learner: member.is_learner,
        };
        let Header { cluster_id, member_id, raft_term, .. } = header;
        Members {
            header: ClusterHeader {
                cluster_id: id(cluster_id),
                member_id: id(member_id),
                raft_term,
            },
            member: members.iter().find(|member| Some(member.id) == added).map(shown),
            members: members.iter().map(shown).collect(),
        }
    }
}

#[derive(Serialize)]
struct Health<'a> {
    endpoint: &'a str,
    health: bool,
    took: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

impl<'a> Health<'a> {
    fn of(health: &'a EndpointHealth) -> Health<'a> {
        Health {
            endpoint: &health.endpoint,
            health: health.is_healthy(),
            took: format!("{:?}", health.took),
            error: &health.error,
        }
    }
}

impl<'a> Endpoint<'a> {
    fn of(one: &'a EndpointStatus) -> Endpoint<'a> {
        let status = Status::of(Header::of(&one.header), &one.status);
        Endpoint { endpoint: &one.endpoint, status }
    }
}

#[derive(Serialize)]
struct Endpoint<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "Status")]
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    header: Header,
    version: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    db_size: i64,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    leader: u64,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    raft_index: u64,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    raft_term: u64,
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    db_size_in_use: i64,
    #[serde(skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    storage_version: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    db_size_quota: i64,
    downgrade_info: DowngradeInfo,
}

/// There is no downgrade to tell of; etcdctl shows the empty structure.
#[derive(Serialize)]
struct DowngradeInfo {}

impl<'a> Status<'a> {
    fn of(header: Header, status: &'a MemberStatus) -> Status<'a> {
        Status {
            header,
            version: &status.version,
            db_size: status.db_size_bytes,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: header.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors: &status.errors,
            db_size_in_use: status.db_size_in_use_bytes,
            is_learner: status.is_learner,
            storage_version: &status.storage_version,
            db_size_quota: status.db_size_quota_bytes,
            downgrade_info: DowngradeInfo {},
        }
    }
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |slot: usize| u32::from(chunk.get(slot).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for slot in 0..4 {
            let sextet = group >> (18 - 6 * slot) & 0x3f;
            let padded = chunk.len() < slot;
            text.push(if padded { '=' } else { char::from(alphabet[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_rfcs() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
