//! A client of corestone's binary protocol for programs on tokio.
//!
//! ```no_run
//! use corestone_client::{Client, Compare, Error, Txn, WatchRequest};
//!
//! # async fn run() -> Result<(), Error> {
//! let client = Client::connect(["127.0.0.1:2378"]).await?;
//! client.put("greeting", "hello").await?;
//!
//! let answer = client.get("greeting").await?;
//! for kv in answer.kvs.iter() {
//!     println!("{:?} = {:?} at {}", kv.key, kv.value, kv.mod_revision);
//! }
//!
//! // Changes the value only if nobody else did since.
//! let swap = Txn::new()
//!     .when(Compare::mod_revision("greeting").equal(answer.header.revision))
//!     .then_put("greeting", "good morning")
//!     .or_else_get("greeting");
//! let swapped = client.txn(&swap).await?;
//! println!("swapped: {}", swapped.succeeded);
//!
//! let mut watch = client.watch(WatchRequest::prefix("greet")).await?;
//! let lease = client.lease_grant(60).await?;
//! let keeper = client.keep_lease(lease.id, lease.ttl_s);
//! while let Some(message) = watch.next().await {
//!     for event in message?.events.iter() {
//!         println!("{:?} {:?}", event.event_type, event.kv.key);
//!     }
//! }
//! keeper.stop();
//! # Ok(())
//! # }
//! ```
//!
//! One connection carries everything: calls made at the same time leave in one write and are
//! answered in any order. It is made again when it breaks. Reads are then repeated; a write whose
//! request may have left gets [`Error::Disconnected`], since it may or may not have happened; a
//! watch goes on at the revision after the last one it delivered.
//!
//! Invariants: every queue is bounded (calls by permits and bytes, watches by credit); a call ends
//! by its deadline. For load generators there is [`Pipeline`], one connection without a task.
#![forbid(unsafe_code)]

mod backoff;
mod client;
mod dial;
mod error;
mod keeper;
mod link;
mod link_task;
mod options;
mod pipeline;
mod shared;
mod txn;
mod watch;

pub use client::{Client, Granted, MemberAdded, Response, ResponseHeader};
pub use error::Error;
pub use keeper::{LeaseKeeper, LeaseState};
pub use options::Options;
pub use pipeline::{Completion, Pipeline, SubmitError};
pub use txn::{Compare, CompareColumn, Txn, prefix_end};
pub use watch::{WatchMessage, WatchRequest, WatchStream};

// The vocabulary of requests and answers. A user of this crate depends on no other one for it.
/// One guard of a transaction as plain fields; [`Compare`] builds the common ones.
pub use engine::api::Compare as Guard;
pub use engine::api::{
    CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Event, EventList,
    EventType, KeyValue, KvList, Operand, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseOp, SortOrder, SortTarget, TxnRequest, TxnResponse,
};
pub use net::wire::{
    Answer, ClusterMember, ClusterRequest, LeaseTimeToLive, MemberStatus, Request, ServerHello,
    WatchFilter,
};
