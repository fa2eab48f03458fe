//! Client.
#![forbid(unsafe_code)]
