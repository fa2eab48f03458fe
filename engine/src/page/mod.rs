//! Fixed-size pages: layout, checksums, allocation, and the seam to memory.

pub mod map;
