//! An answer's protobuf to JSON, and errors.

use super::{Enum, Field, Kind, Message, base64, messages_of};
use crate::etcd::method::Method;
use crate::etcd::protobuf::reader::{Fields, Malformed, Value};
use crate::etcd::status::Status;

/// Writes an answer of `method` as one JSON object. The message is one that this crate wrote.
///
/// Errors: bytes that are no such message.
pub fn write_response(out: &mut Vec<u8>, method: Method, message: &[u8]) -> Result<(), Malformed> {
    match messages_of(method) {
        Some(messages) => write_object(out, messages.response, message),
        None => Err(Malformed::WrongWireType),
    }
}

/// Writes one answer of a stream: a line of its own.
///
/// Errors: bytes that are no such message.
pub fn write_stream_response(
    out: &mut Vec<u8>,
    method: Method,
    message: &[u8],
) -> Result<(), Malformed> {
    out.extend_from_slice(b"{\"result\":");
    write_response(out, method, message)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// Writes the body of an answer that is an error; its HTTP status is the code's.
pub fn write_error(out: &mut Vec<u8>, status: &Status) {
    out.extend_from_slice(b"{\"code\":");
    write_number(out, status.code as u32);
    out.extend_from_slice(b",\"message\":");
    write_string(out, &status.message);
    out.push(b'}');
}

/// Writes the last line of a stream that ends with an error.
pub fn write_stream_error(out: &mut Vec<u8>, status: &Status) {
    out.extend_from_slice(b"{\"error\":");
    write_error(out, status);
    out.extend_from_slice(b"}\n");
}

/// Recursion ends with the schema: only transactions nest, and no more deeply than they came.
pub(super) fn write_object(
    out: &mut Vec<u8>,
    schema: &'static Message,
    message: &[u8],
) -> Result<(), Malformed> {
    out.push(b'{');
    let empty_size = out.len();
    for field in schema.fields {
        if field.is_repeated {
            write_list(out, field, message, empty_size)?;
            continue;
        }
        let mut fields = Fields::new(message);
        let mut last = None;
        while let Some((number, value)) = fields.next_field()? {
            if number == field.number {
                last = Some(value);
            }
        }
        if let Some(value) = last {
            write_name(out, field, empty_size);
            write_value(out, field.kind, value)?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_list(
    out: &mut Vec<u8>,
    field: &Field,
    message: &[u8],
    empty_size: usize,
) -> Result<(), Malformed> {
    let mut count = 0;
    let mut write_element = |out: &mut Vec<u8>, value| {
        if count == 0 {
            write_name(out, field, empty_size);
        }
        out.push(if count == 0 { b'[' } else { b',' });
        count += 1;
        write_value(out, field.kind, value)
    };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match (field.kind, value) {
            _ if number != field.number => {}
            (Kind::Bytes | Kind::String | Kind::Message(_), value) => write_element(out, value)?,
            (_, Value::Length(packed)) => {
                let mut numbers = Fields::new(packed);
                while let Some(number) = numbers.next_packed()? {
                    write_element(out, Value::Varint(number))?;
                }
            }
            (_, value) => write_element(out, value)?,
        }
    }
    if 0 < count {
        out.push(b']');
    }
    Ok(())
}

fn write_name(out: &mut Vec<u8>, field: &Field, empty_size: usize) {
    if empty_size < out.len() {
        out.push(b',');
    }
    write_string(out, field.name);
    out.push(b':');
}

fn write_value(out: &mut Vec<u8>, kind: Kind, value: Value<'_>) -> Result<(), Malformed> {
    match kind {
        Kind::Bool => {
            out.extend_from_slice(if value.boolean()? { b"true" } else { b"false" });
        }
        // JSON's numbers are floats to many a reader, so 64 bits travel as strings.
        Kind::Int64 => {
            out.push(b'"');
            write_number(out, value.int64()?);
            out.push(b'"');
        }
        Kind::Uint64 => {
            out.push(b'"');
            write_number(out, value.uint64()?);
            out.push(b'"');
        }
        Kind::Uint32 => write_number(out, value.uint64()? as u32),
        Kind::Bytes => {
            out.push(b'"');
            base64::encode(out, value.bytes()?);
            out.push(b'"');
        }
        Kind::String => write_string(out, &String::from_utf8_lossy(value.bytes()?)),
        Kind::Enum(names) => write_enum(out, names, value.enumeration()?),
        Kind::Message(schema) => write_object(out, schema, value.bytes()?)?,
    }
    Ok(())
}

fn write_enum(out: &mut Vec<u8>, names: &Enum, number: i32) {
    match names.values.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => write_string(out, name),
        None => write_number(out, number),
    }
}

fn write_number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    use std::io::Write;
    write!(out, "{number}").expect("a Vec grows as it is written to");
}

pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
