//! The etcd v3 services: bytes of a gRPC message to [`engine::api`] types and back.
//!
//! [`method`] names the calls, [`decode`] reads hot requests without copying, [`encode`] writes
//! answers straight into an output buffer, [`check`] refuses what etcd refuses before a request
//! is replicated, [`status`] is the one table of errors. [`proto`] holds the generated types for
//! the cold paths, [`convert`] leads from and to them.
//! Source: fact sheets of the etcd v3 API and of etcd's behaviour.

pub mod cancel_reason;
pub mod check;
pub mod convert;
pub mod decode;
pub mod encode;
pub mod json;
pub mod method;
pub mod proto;
pub mod protobuf;
pub mod status;

#[cfg(test)]
mod testing;
