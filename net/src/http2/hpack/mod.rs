//! HPACK: header blocks to fields and back.
//!
//! Invariant: the decoder's table follows the peer's encoder through every block, also those of
//! streams that are refused or gone; the encoder side keeps two entries in the peer's table, or
//! none.
//! Source: RFC 7541.

pub mod decode;
pub mod encode;
pub mod huffman;
pub mod tables;

pub use decode::{DecodeError, Decoder, Tag};
