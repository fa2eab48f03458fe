//! The JSON gateway: proto3's JSON to the bytes of a gRPC message and back, so that an HTTP call
//! takes the same way as a gRPC call from there on.
//!
//! Names of fields are etcd's own, either spelling is read; zero values are left out; unknown
//! fields and names of enum values are passed over; 64-bit integers are written as strings, bytes
//! as base64. The tables of fields are generated (`schema.rs`).
//! Source: fact sheets of the etcd v3 API (section 1, gateway) and of etcd's behaviour (seen with
//! real clients and applications); proto3's mapping to JSON.

mod base64;
mod command;
mod reader;
mod request;
mod response;
mod route;
#[rustfmt::skip]
mod schema;

pub use command::write_command;
pub use request::next_request;
pub use response::{write_error, write_response, write_stream_error, write_stream_response};
pub use route::method_of_path;

use crate::etcd::method::Method;

/// A message's fields, in the order of declaration.
#[derive(Debug)]
struct Message {
    fields: &'static [Field],
}

/// The names of an enum's numbers.
#[derive(Debug)]
struct Enum {
    values: &'static [(i32, &'static str)],
}

/// A field of a message.
#[derive(Debug)]
struct Field {
    number: u32,
    /// As declared; what is written.
    name: &'static str,
    /// The other spelling that is read, without underscores.
    json_name: &'static str,
    kind: Kind,
    is_repeated: bool,
    /// The full name of the union it belongs to: there a zero value means something.
    union: Option<&'static str>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    Int64,
    Uint64,
    Uint32,
    Bytes,
    String,
    Enum(&'static Enum),
    Message(&'static Message),
}

/// What a method is asked and how it answers.
#[derive(Debug)]
struct MethodMessages {
    path: &'static str,
    request: &'static Message,
    response: &'static Message,
}

/// The messages of a method; `None` for the health service, which has no JSON.
fn messages_of(method: Method) -> Option<&'static MethodMessages> {
    let position = usize::try_from(method.id()).ok()?.checked_sub(1)?;
    schema::METHODS.get(position).inspect(|messages| assert!(messages.path == method.path()))
}

#[cfg(test)]
mod round_trip_test;
