//! What the load generator, the scale run and the comparison share: starting a member on a core of
//! its own, loading it through either protocol, reading what it costs, and the floor under it all.
//!
//! Invariants: the member and the load never share a core if there are two; what is counted was
//! answered inside the measured window; a latency begins when the call was due, not when the
//! client came round to it.

pub mod affinity;
mod binary;
pub mod calls;
pub mod error;
pub mod floor;
mod grpc;
pub mod load;
pub mod member;
pub mod metrics;
mod recorder;
pub mod report;
pub mod workload;

/// The etcd services as tonic sees them, made from `net/proto` by `build.rs`.
#[allow(missing_docs, clippy::all, rust_2018_idioms)]
pub mod proto {
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}
