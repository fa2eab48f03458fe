//! One core's whole program, pure: `Shard::step(now, inputs, &mut effects)`.
#![forbid(unsafe_code)]
