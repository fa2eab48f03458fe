//! The messages of the etcd v3 API as owned structs, generated from `net/proto/*.proto` and
//! committed, so that a build needs no generator; `tests/proto_generated.rs` keeps them equal.
//!
//! For the cold paths and as the oracle in tests: the hot requests and answers have readers and
//! writers of their own ([`super::decode`], [`super::encode`]). What a field means stands in the
//! `.proto` files.
#![allow(missing_docs)]

#[rustfmt::skip]
pub mod authpb;
#[rustfmt::skip]
pub mod etcdserverpb;
#[rustfmt::skip]
pub mod health;
#[rustfmt::skip]
pub mod mvccpb;
#[rustfmt::skip]
pub mod v3electionpb;
#[rustfmt::skip]
pub mod v3lockpb;
