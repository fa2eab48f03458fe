//! The protobuf wire format, as much of it as the services need: fields in, fields out.
//!
//! Source: the protocol buffers encoding specification.

pub mod reader;
pub mod writer;

/// Low three bits of a field's key: how long the value is.
const WIRE_VARINT: u32 = 0;
const WIRE_FIXED64: u32 = 1;
const WIRE_LENGTH: u32 = 2;
const WIRE_GROUP_START: u32 = 3;
const WIRE_GROUP_END: u32 = 4;
const WIRE_FIXED32: u32 = 5;

/// A varint carries seven bits a byte, so 64 bits take at most this many.
const VARINT_SIZE_BYTES_MAX: usize = 10;
