//! An answer as text, with what differs from run to run and from program to program taken out:
//! revisions are counted from where the case began, ids are compared with the member's own, sizes
//! and hashes are only there or not there.

use std::fmt::Write;

use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};
use tonic::{Code, Status};

use crate::read::{id, number};

/// What an answer is told relative to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Revision of the store when the case began.
    pub base_revision: i64,
    /// Any member may lead, not only the one that is asked.
    pub is_of_several: bool,
}

impl Frame {
    /// A message: a line of its plain fields, then a line for each message in it.
    pub fn lines(&self, message: &DynamicMessage) -> Vec<String> {
        let mut head = String::new();
        let mut inner = Vec::new();
        for (field, value) in fields(message) {
            let texts = self.texts(message, &field, &value);
            if is_nested(&value) {
                inner.extend(texts.into_iter().map(|text| format!("  {text}")));
            } else {
                texts.iter().for_each(|text| write!(head, "{text} ").unwrap());
            }
        }
        let head = if head.is_empty() { "(empty)" } else { head.trim_end() };
        std::iter::once(head.to_owned()).chain(inner).collect()
    }

    /// A whole message on one line.
    pub fn inline(&self, message: &DynamicMessage) -> String {
        let mut line = String::new();
        for (field, value) in fields(message) {
            for text in self.texts(message, &field, &value) {
                write!(line, "{text} ").unwrap();
            }
        }
        line
    }

    /// A field's elements, equal neighbours counted.
    fn texts(&self, of: &DynamicMessage, field: &FieldDescriptor, value: &Value) -> Vec<String> {
        let elements = match value {
            Value::List(list) => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        let print = |element: &Value| match element {
            Value::Message(part) if is_header(part) => format!("header: {}", self.header(part)),
            Value::Message(part) => format!("{} {{ {}}}", field.name(), self.inline(part)),
            Value::Map(map) => {
                let mut entries: Vec<String> = map.iter().map(|entry| self.entry(entry)).collect();
                entries.sort();
                format!("{} {{ {} }}", field.name(), entries.join(" "))
            }
            plain => self.field(of, field, plain),
        };
        let mut texts: Vec<String> = elements.iter().map(print).collect();
        if UNORDERED.contains(&field.full_name()) {
            texts.sort();
        }
        let runs = texts.chunk_by(|one, next| one == next);
        runs.map(|run| {
            if run.len() == 1 { run[0].clone() } else { format!("{} x {}", run.len(), run[0]) }
        })
        .collect()
    }

    fn entry(&self, (key, value): (&MapKey, &Value)) -> String {
        let value = value.as_message().map(|message| self.inline(message)).unwrap_or_default();
        format!("{:?}: {{ {value}}}", key.as_str().unwrap_or_default())
    }

    /// `+2` for revision base + 2 of this member in this cluster; a header inside a transaction's
    /// answer has a revision and nothing else: `+2 bare`.
    fn header(&self, header: &DynamicMessage) -> String {
        let (cluster, member) = (id(header, "cluster_id"), id(header, "member_id"));
        let term = id(header, "raft_term");
        let revision = self.revision(number(header, "revision"));
        match (cluster, member, term) {
            (0, 0, 0) => format!("{revision} bare"),
            (_, _, 0) => format!("{revision} (no term)"),
            _ if (cluster, member) == (self.cluster_id, self.member_id) => revision,
            _ => format!("{revision} (cluster {cluster:x}, member {member:x})"),
        }
    }

    fn revision(&self, revision: i64) -> String {
        match revision {
            ..=0 => revision.to_string(),
            _ => format!("{:+}", revision - self.base_revision),
        }
    }

    fn field(&self, of: &DynamicMessage, field: &FieldDescriptor, value: &Value) -> String {
        let text = match (field.full_name(), value) {
            (name, Value::I64(revision)) if REVISIONS.contains(&name) => self.revision(*revision),
            (name, Value::U64(id)) if MEMBER_IDS.contains(&name) => {
                let is_leader = name == LEADER && self.is_of_several && *id != 0;
                if *id == self.member_id || is_leader {
                    "this".to_owned()
                } else {
                    format!("other {id:x}")
                }
            }
            (name, _) if MEASURES.contains(&name) => "some".to_owned(),
            (name, Value::String(text)) if VERSIONS.contains(&name) => version(text),
            ("etcdserverpb.LeaseTimeToLiveResponse.TTL", Value::I64(left)) => {
                let granted = of.get_field_by_name("grantedTTL").and_then(|value| value.as_i64());
                let is_in_range = 0 <= *left && *left <= granted.unwrap();
                if is_in_range { "within grantedTTL".to_owned() } else { left.to_string() }
            }
            (_, Value::I64(id)) if SERVER_CHOSEN_FROM <= *id => "chosen by the server".to_owned(),
            ("etcdserverpb.StatusResponse.errors", Value::String(text)) => {
                // Written with one space or two, at the writer's whim.
                let text = text.replace(&self.member_id.to_string(), "this");
                format!("{:?}", text.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            (_, Value::String(text)) => format!("{:?}", without_ports(text)),
            (_, Value::Bytes(bytes)) => format!("\"{}\"", bytes.escape_ascii()),
            (_, Value::EnumNumber(number)) => match field.kind().as_enum() {
                Some(kind) => match kind.get_value(*number) {
                    Some(named) => named.name().to_owned(),
                    None => number.to_string(),
                },
                None => number.to_string(),
            },
            (_, other) => other.to_string(),
        };
        format!("{}: {text}", field.name())
    }
}

/// An error of a call: its code as gRPC spells it, and the text that clients compare.
pub fn error_line(status: &Status) -> String {
    let code = match status.code() {
        Code::Cancelled => "CANCELED".to_owned(),
        other => {
            let mut name = String::new();
            for letter in format!("{other:?}").chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            name
        }
    };
    format!("error {code} {:?}", status.message())
}

/// Fields that are there, by number.
fn fields(message: &DynamicMessage) -> Vec<(FieldDescriptor, Value)> {
    let mut fields: Vec<_> =
        message.fields().map(|(field, value)| (field, value.clone())).collect();
    fields.sort_by_key(|(field, _)| field.number());
    fields
}

/// Whether a field has lines of its own.
fn is_nested(value: &Value) -> bool {
    match value {
        Value::Message(message) => !is_header(message),
        Value::List(list) => list.first().is_some_and(is_nested),
        _ => false,
    }
}

fn is_header(message: &DynamicMessage) -> bool {
    message.descriptor().full_name() == "etcdserverpb.ResponseHeader"
}

/// Kubernetes parses it: three numbers, perhaps with a suffix.
pub fn version(text: &str) -> String {
    let numbers = text.split('-').next().unwrap_or_default();
    let parts: Vec<&str> = numbers.split('.').collect();
    let is_semantic = parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok());
    if is_semantic { "semantic".to_owned() } else { format!("{text:?}") }
}

/// `127.0.0.1:1234` as `127.0.0.1:PORT`.
pub fn without_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("127.0.0.1:PORT");
        out.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    out
}

const REVISIONS: [&str; 6] = [
    "mvccpb.KeyValue.create_revision",
    "mvccpb.KeyValue.mod_revision",
    "etcdserverpb.WatchResponse.compact_revision",
    "etcdserverpb.HashKVResponse.compact_revision",
    "etcdserverpb.HashKVResponse.hash_revision",
    "v3electionpb.LeaderKey.rev",
];
const LEADER: &str = "etcdserverpb.StatusResponse.leader";
const MEMBER_IDS: [&str; 3] =
    ["etcdserverpb.Member.ID", LEADER, "etcdserverpb.AlarmMember.memberID"];
/// Numbers of which only the presence is comparable.
const MEASURES: [&str; 8] = [
    "etcdserverpb.StatusResponse.dbSize",
    "etcdserverpb.StatusResponse.dbSizeInUse",
    "etcdserverpb.StatusResponse.raftIndex",
    "etcdserverpb.StatusResponse.raftTerm",
    "etcdserverpb.StatusResponse.raftAppliedIndex",
    "etcdserverpb.HashResponse.hash",
    "etcdserverpb.HashKVResponse.hash",
    "etcdserverpb.AuthenticateResponse.token",
];
const VERSIONS: [&str; 2] =
    ["etcdserverpb.StatusResponse.version", "etcdserverpb.StatusResponse.storageVersion"];
/// Repeated fields that are sets.
const UNORDERED: [&str; 2] =
    ["etcdserverpb.LeaseLeasesResponse.leases", "etcdserverpb.LeaseTimeToLiveResponse.keys"];
/// Lease ids from here on were not written by a test.
const SERVER_CHOSEN_FROM: i64 = 1 << 40;
