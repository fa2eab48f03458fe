//! What gRPC adds to HTTP/2: the five-byte message prefix, status in trailers, request metadata.
//!
//! Invariant: nothing here knows frames or streams; `http2` drives it.
//! Source: the gRPC over HTTP/2 protocol description; texts and codes as grpc-go servers send them
//! (fact sheet of the etcd v3 API, "Transport facts").

pub mod compression;
pub mod framing;
pub mod metadata;
pub mod status;

pub use metadata::Metadata;
