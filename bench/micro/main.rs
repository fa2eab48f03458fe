//! Microbenchmarks of the pure parts of a put's path: `cargo bench -p bench`.
//!
//! Each measures one room on heap memory, without a driver: what stands here is what the processor
//! must spend on a put before any system call.

mod storage;
mod wire;

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

fn configured() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
}

criterion_group! {
    name = micro;
    config = configured();
    targets = storage::puts, storage::gets, storage::seal, wire::http2, wire::binary
}
criterion_main!(micro);

/// Size of a key and of a value, in bytes.
const KEY_SIZE_BYTES: usize = 16;
const VALUE_SIZE_BYTES: usize = 256;
