//! A command of the log as the JSON of the etcd message that asked for it: for checkers, which read
//! a log and replay it.
//!
//! One line's worth of proto3 JSON under the name of the request: `put`, `delete_range`, `txn`,
//! `compaction`, `lease_grant` (with the id that was given), `lease_revoke` (for an expiry too).
//! Names are etcd's own; a field that tells nothing by its absence is left out when it is zero, key,
//! value and lease of a put stand always. What etcd has no request for has no JSON.
//! Source: proto3's mapping to JSON; fact sheet of the etcd v3 API.

use super::base64;
use super::response::write_string;
use engine::api::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operand, PutRequest,
    RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
};
use std::fmt::Display;
use std::io::Write;

/// Writes `{"put":{...}}` or another request; `false`, and nothing, for a command that is no
/// request of etcd's.
pub fn write_command(out: &mut Vec<u8>, command: &Command<'_>) -> bool {
    match command {
        Command::Put(put) => named(out, "put", |out| write_put(out, put)),
        Command::DeleteRange(delete) => {
            named(out, "delete_range", |out| write_delete_range(out, delete))
        }
        Command::Txn(txn) => named(out, "txn", |out| write_txn(out, txn)),
        Command::Compact { revision } => named(out, "compaction", |out| {
            let mut object = Object::begin(out);
            object.integer("revision", *revision);
            object.end();
        }),
        Command::LeaseGrant { id, ttl_s } => named(out, "lease_grant", |out| {
            let mut object = Object::begin(out);
            object.integer("TTL", *ttl_s);
            object.integer("ID", *id);
            object.end();
        }),
        Command::LeaseRevoke { id, .. } => named(out, "lease_revoke", |out| {
            let mut object = Object::begin(out);
            object.integer("ID", *id);
            object.end();
        }),
        _ => return false,
    }
    true
}

/// An object under way: its brace is closed by `end`.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        write_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    /// 64 bits travel as text.
    fn integer(&mut self, name: &str, number: i64) {
        write_text(self.name(name), format_args!("\"{number}\""));
    }

    fn maybe_integer(&mut self, name: &str, number: i64) {
        if number != 0 {
            self.integer(name, number);
        }
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let out = self.name(name);
        out.push(b'"');
        base64::encode(out, bytes);
        out.push(b'"');
    }

    fn maybe_bytes(&mut self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes(name, bytes);
        }
    }

    fn maybe_switch(&mut self, name: &str, condition: bool) {
        if condition {
            self.name(name).extend_from_slice(b"true");
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        let out = self.name(name);
        out.push(b'[');
        for (slot, item) in items.iter().enumerate() {
            if 0 < slot {
                out.push(b',');
            }
            write(out, item);
        }
        out.push(b']');
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

fn named(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    let mut object = Object::begin(out);
    write(object.name(name));
    object.end();
}

fn write_text(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "{text}").expect("a Vec grows as it is written to");
}

fn write_put(out: &mut Vec<u8>, put: &PutRequest<'_>) {
    let mut object = Object::begin(out);
    object.bytes("key", put.key);
    object.bytes("value", put.value);
    object.integer("lease", put.lease);
    object.maybe_switch("prev_kv", put.prev_kv);
    object.maybe_switch("ignore_value", put.ignore_value);
    object.maybe_switch("ignore_lease", put.ignore_lease);
    object.end();
}

fn write_delete_range(out: &mut Vec<u8>, delete: &DeleteRangeRequest<'_>) {
    let mut object = Object::begin(out);
    object.bytes("key", delete.key);
    object.maybe_bytes("range_end", delete.range_end);
    object.maybe_switch("prev_kv", delete.prev_kv);
    object.end();
}

fn write_range(out: &mut Vec<u8>, range: &RangeRequest<'_>) {
    let mut object = Object::begin(out);
    object.bytes("key", range.key);
    object.maybe_bytes("range_end", range.range_end);
    object.maybe_integer("limit", range.limit);
    object.maybe_integer("revision", range.revision);
    let order = match range.sort_order {
        SortOrder::None => None,
        SortOrder::Ascend => Some("ASCEND"),
        SortOrder::Descend => Some("DESCEND"),
    };
    let target = match range.sort_target {
        SortTarget::Key => None,
        SortTarget::Version => Some("VERSION"),
        SortTarget::Create => Some("CREATE"),
        SortTarget::Mod => Some("MOD"),
        SortTarget::Value => Some("VALUE"),
    };
    for (name, value) in [("sort_order", order), ("sort_target", target)] {
        if let Some(value) = value {
            write_string(object.name(name), value);
        }
    }
    object.maybe_switch("serializable", range.serializable);
    object.maybe_switch("keys_only", range.keys_only);
    object.maybe_switch("count_only", range.count_only);
    object.maybe_integer("min_mod_revision", range.min_mod_revision);
    object.maybe_integer("max_mod_revision", range.max_mod_revision);
    object.maybe_integer("min_create_revision", range.min_create_revision);
    object.maybe_integer("max_create_revision", range.max_create_revision);
    object.end();
}

/// Transactions nest no more deeply than the entry's decoder lets them.
fn write_txn(out: &mut Vec<u8>, txn: &TxnRequest<'_>) {
    let mut object = Object::begin(out);
    object.list("compare", &txn.compare, write_compare);
    object.list("success", &txn.success, write_op);
    object.list("failure", &txn.failure, write_op);
    object.end();
}

fn write_op(out: &mut Vec<u8>, op: &RequestOp<'_>) {
    match op {
        RequestOp::Range(range) => named(out, "request_range", |out| write_range(out, range)),
        RequestOp::Put(put) => named(out, "request_put", |out| write_put(out, put)),
        RequestOp::DeleteRange(delete) => {
            named(out, "request_delete_range", |out| write_delete_range(out, delete))
        }
        RequestOp::Txn(txn) => named(out, "request_txn", |out| write_txn(out, txn)),
    }
}

fn write_compare(out: &mut Vec<u8>, compare: &Compare<'_>) {
    let mut object = Object::begin(out);
    // The log keeps of a number that etcd does not know only that it is one: the first such.
    match compare.result {
        CompareResult::Equal => write_string(object.name("result"), "EQUAL"),
        CompareResult::Greater => write_string(object.name("result"), "GREATER"),
        CompareResult::Less => write_string(object.name("result"), "LESS"),
        CompareResult::NotEqual => write_string(object.name("result"), "NOT_EQUAL"),
        CompareResult::Unknown => write_text(object.name("result"), RESULT_UNKNOWN),
    }
    match compare.target {
        CompareTarget::Version => write_string(object.name("target"), "VERSION"),
        CompareTarget::Create => write_string(object.name("target"), "CREATE"),
        CompareTarget::Mod => write_string(object.name("target"), "MOD"),
        CompareTarget::Value => write_string(object.name("target"), "VALUE"),
        CompareTarget::Lease => write_string(object.name("target"), "LEASE"),
        CompareTarget::Unknown => write_text(object.name("target"), TARGET_UNKNOWN),
    }
    object.bytes("key", compare.key);
    match compare.operand {
        Operand::Missing => {}
        Operand::Version(version) => object.integer("version", version),
        Operand::CreateRevision(revision) => object.integer("create_revision", revision),
        Operand::ModRevision(revision) => object.integer("mod_revision", revision),
        Operand::Value(value) => object.bytes("value", value),
        Operand::Lease(lease) => object.integer("lease", lease),
    }
    object.maybe_bytes("range_end", compare.range_end);
    object.end();
}

/// The lowest number of a result that etcd has no name for.
const RESULT_UNKNOWN: i32 = 4;
/// The lowest number of a target that etcd has no name for.
const TARGET_UNKNOWN: i32 = 5;

#[cfg(test)]
#[path = "command_test.rs"]
mod tests;
