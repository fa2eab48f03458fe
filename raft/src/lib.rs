//! Raft consensus, pure.
//!
//! Invariant of absence: no keys, files, sockets, encodings or clock in here.
#![forbid(unsafe_code)]
