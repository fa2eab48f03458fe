//! Requests read from the bytes of a gRPC message.
//!
//! The hot ones borrow: nothing is copied, and only a transaction allocates (its lists). They
//! mean what any protobuf implementation reads: fields in any order, the last of a repeated
//! scalar wins, a message that comes twice is merged, unknown fields are passed over. What the
//! types of [`engine::api`] cannot say (a sort number that etcd does not know, an operation
//! without a request) is refused here with etcd's own error; all else is left to
//! [`super::check`].

mod kv;
mod lease;
mod txn;
mod watch;

#[cfg(test)]
mod differential_test;

pub use kv::{CompactionRequest, decode_compaction, decode_delete_range, decode_put, decode_range};
pub use lease::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, decode_lease_grant, decode_lease_keep_alive,
    decode_lease_revoke, decode_lease_time_to_live,
};
pub use txn::{TXN_DEPTH_MAX, decode_txn};
pub use watch::{WatchCreateRequest, WatchFilters, WatchRequest, decode_watch};

use super::status::{Code, Status};

/// Reads a request of a cold path into its generated type.
pub fn decode_message<M: prost::Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        let text = format!("grpc: error unmarshalling request: proto: {error}");
        Status::new(Code::Internal, text)
    })
}
