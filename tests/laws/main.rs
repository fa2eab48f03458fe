//! The rules of consensus, storage and runtime, each with a test that bears its name.
//!
//! docs/laws.md says which test stands for which rule; `listed` keeps that page true. Members here
//! are the shipped shards: a `group` of them, or one whose peers are `scripted`.
#![allow(clippy::unwrap_used)]

mod damage;
mod elections;
mod group;
mod leaves;
mod listed;
mod membership;
mod proposals;
mod reads;
mod runtime;
mod scripted;
mod start_over;
mod storage;
mod stray;
mod transfer;
