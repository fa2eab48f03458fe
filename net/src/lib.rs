//! Bytes to meaning and back, pure: HTTP/2 and gRPC, the etcd services, the binary protocol, the
//! peer protocol.
//!
//! Invariant of absence: no time, no disk, no sockets; `feed` bytes in, take bytes out.
#![forbid(unsafe_code)]

pub mod etcd;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod peer;
pub mod wire;
