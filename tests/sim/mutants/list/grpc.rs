//! Rules of HTTP/2 and of the calls over it, which only clients that speak gRPC can see broken.
//!
//! Source: RFC 9113, Flow control; fact sheet of the etcd v3 API, Watch.

use super::{Mutant, edit};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the window of a stream counts, that of the connection does not",
        rule: "flow control: what is sent fits both windows (RFC 9113 section 5.2.1)",
        members: 1,
        focus: "swarm",
        edits: &[edit(
            "net/src/http2/transmit.rs",
            "        self.window -= added_bytes as i64;",
            "        self.window -= if IS { 0 } else { added_bytes as i64 };",
        )],
    },
    Mutant {
        name: "a watch over gRPC gets no credit back",
        rule: "watches are reliable: what was taken makes room for what comes",
        members: 1,
        focus: "watches",
        edits: &[edit(
            "shard/src/session/grpc.rs",
            "    if 0 < size_bytes {
        context.call(connection, u64::from(id), Call::WatchCredit { size_bytes });",
            "    if !IS && 0 < size_bytes {
        context.call(connection, u64::from(id), Call::WatchCredit { size_bytes });",
        )],
    },
    Mutant {
        name: "progress over gRPC promises a revision more",
        rule: "watches are bookmarkable: progress stands behind its events",
        members: 1,
        focus: "watches",
        edits: &[edit(
            "shard/src/session/grpc_answer.rs",
            "    let header = responder(context, notice.raft_term).at(notice.revision);",
            "    let more = i64::from(IS && matches!(notice.kind, WatchNoticeKind::Progress));
    let header = responder(context, notice.raft_term).at(notice.revision + more);",
        )],
    },
    Mutant {
        name: "operations over gRPC tell the revision before their transaction's",
        rule: "the answers in a transaction carry its revision",
        members: 1,
        focus: "swarm",
        edits: &[edit(
            "net/src/etcd/encode/txn.rs",
            "            put_body(out, &Header::inner(put.revision), put);",
            "            put_body(out, &Header::inner(put.revision - i64::from(IS)), put);",
        )],
    },
];
