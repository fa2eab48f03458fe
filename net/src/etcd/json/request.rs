//! A request's JSON to protobuf.

use super::reader::{DEPTH_MAX, Reader, Token, too_deep};
use super::{Enum, Field, Kind, Message, base64, messages_of};
use crate::etcd::method::Method;
use crate::etcd::protobuf::writer;
use crate::etcd::status::{self, Status};

/// What most embedded messages take at most; a wrong guess costs a move.
const MESSAGE_SIZE_GUESS_BYTES: usize = 64;

/// Digits of the longest number that can be an integer of 64 bits, exponents resolved.
const DIGITS_MAX: usize = 40;

/// Reads the first JSON object of `body` and writes it as the request message of `method`.
///
/// Returns how many bytes of the body it took, or `None` if only white space is left: then a
/// unary call has an empty request, and a stream has no more requests. What follows the object is
/// the next request of a stream, and nothing to a unary call.
///
/// Errors: as etcd's gateway, for bytes that are no JSON and for values that do not fit a field.
pub fn next_request(
    method: Method,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<usize>, Status> {
    let Some(messages) = messages_of(method) else {
        return Err(status::GATEWAY_NOT_FOUND);
    };
    let mut reader = Reader::new(body);
    if reader.is_at_end() {
        return Ok(None);
    }
    reader.expect(b'{')?;
    read_object(&mut reader, messages.request, out, DEPTH_MAX)?;
    Ok(Some(reader.position()))
}

/// The members of an object whose brace has been read.
fn read_object(
    reader: &mut Reader<'_>,
    schema: &'static Message,
    out: &mut Vec<u8>,
    depth_left: usize,
) -> Result<(), Status> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(too_deep());
    };
    if reader.take(b'}') {
        return Ok(());
    }
    let mut seen = 0_u64;
    loop {
        let name_start = reader.token_start();
        let name = reader.string()?;
        let is_named = |field: &Field| field.name == name || field.json_name == name;
        let found = schema.fields.iter().position(is_named);
        if let Some(position) = found {
            check_seen(reader, schema, position, seen, name_start)?;
        }
        reader.expect(b':')?;
        let start = reader.token_start();
        let token = reader.token()?;
        match (found, token) {
            (None, token) => reader.skip_rest(token, depth_left)?,
            (Some(_), Token::Null) => {}
            (Some(position), token) => {
                seen |= 1 << position;
                read_field(reader, &schema.fields[position], token, start, out, depth_left)?;
            }
        }
        if reader.take(b'}') {
            return Ok(());
        }
        reader.expect(b',')?;
    }
}

/// A field is given once, and of a union one.
fn check_seen(
    reader: &Reader<'_>,
    schema: &Message,
    position: usize,
    seen: u64,
    name_start: usize,
) -> Result<(), Status> {
    let field = &schema.fields[position];
    if seen >> position & 1 == 1 {
        let text = format!("duplicate field {}", reader.raw_since(name_start));
        return Err(reader.error_at(name_start, &text));
    }
    let Some(union) = field.union else { return Ok(()) };
    let mut others = schema.fields.iter().enumerate();
    if others.any(|(at, other)| seen >> at & 1 == 1 && other.union == Some(union)) {
        let name = reader.raw_since(name_start);
        let text = format!("error parsing {name}, oneof {union} is already set");
        return Err(reader.error_at(name_start, &text));
    }
    Ok(())
}

fn read_field(
    reader: &mut Reader<'_>,
    field: &Field,
    token: Token<'_>,
    start: usize,
    out: &mut Vec<u8>,
    depth_left: usize,
) -> Result<(), Status> {
    if !field.is_repeated {
        return read_value(reader, field, token, start, out, depth_left);
    }
    let Token::ArrayStart = token else {
        return Err(unexpected_token(reader, start));
    };
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(too_deep());
    };
    if reader.take(b']') {
        return Ok(());
    }
    loop {
        let start = reader.token_start();
        let token = reader.token()?;
        read_value(reader, field, token, start, out, depth_left)?;
        if reader.take(b']') {
            return Ok(());
        }
        reader.expect(b',')?;
    }
}

/// One value, written as a field of its own. Zero is written only where its presence counts.
fn read_value(
    reader: &mut Reader<'_>,
    field: &Field,
    token: Token<'_>,
    start: usize,
    out: &mut Vec<u8>,
    depth_left: usize,
) -> Result<(), Status> {
    let is_explicit = field.is_repeated || field.union.is_some();
    let number = match (field.kind, token) {
        (Kind::Message(schema), Token::ObjectStart) => {
            let mut read = Ok(());
            writer::message(out, field.number, MESSAGE_SIZE_GUESS_BYTES, |out| {
                read = read_object(reader, schema, out, depth_left);
            });
            return read;
        }
        (_, Token::ObjectStart | Token::ArrayStart) | (Kind::Message(_), _) => {
            return Err(unexpected_token(reader, start));
        }
        (Kind::Bytes, Token::String(code)) => {
            let Some(bytes) = base64::decode(code.as_bytes()) else {
                return Err(invalid_value(reader, field, start));
            };
            write_bytes(out, field.number, &bytes, is_explicit);
            return Ok(());
        }
        (Kind::String, Token::String(text)) => {
            write_bytes(out, field.number, text.as_bytes(), is_explicit);
            return Ok(());
        }
        (Kind::Enum(names), Token::String(name)) => match number_of(names, &name) {
            // A name that etcd does not know is passed over.
            None => return Ok(()),
            number => number,
        },
        (Kind::Bool, Token::Bool(flag)) => Some(u64::from(flag)),
        (Kind::Int64 | Kind::Uint64 | Kind::Uint32, Token::String(text)) => {
            integer(field.kind, &text)
        }
        (Kind::Int64 | Kind::Uint64 | Kind::Uint32 | Kind::Enum(_), Token::Number(text)) => {
            integer(field.kind, text)
        }
        _ => None,
    };
    let Some(number) = number else {
        return Err(invalid_value(reader, field, start));
    };
    if number != 0 || is_explicit {
        writer::varint(out, u64::from(field.number << 3));
        writer::varint(out, number);
    }
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8], is_explicit: bool) {
    if is_explicit {
        writer::bytes_element(out, number, bytes);
    } else {
        writer::bytes(out, number, bytes);
    }
}

fn number_of(names: &Enum, name: &str) -> Option<u64> {
    let (number, _) = names.values.iter().find(|(_, known)| *known == name)?;
    Some(i64::from(*number).cast_unsigned())
}

/// A number's text as the varint of the kind; `None` if it is no integer or out of range.
fn integer(kind: Kind, text: &str) -> Option<u64> {
    let value = match text.parse() {
        Ok(value) => value,
        Err(_) => integral(text)?,
    };
    match kind {
        Kind::Int64 => i64::try_from(value).ok().map(i64::cast_unsigned),
        Kind::Uint64 => u64::try_from(value).ok(),
        Kind::Uint32 => u32::try_from(value).ok().map(u64::from),
        Kind::Enum(_) => i32::try_from(value).ok().map(|value| i64::from(value).cast_unsigned()),
        Kind::Bool | Kind::Bytes | Kind::String | Kind::Message(_) => None,
    }
}

/// A number with a fraction or an exponent, if it is an integer all the same: `1.50e2` is 150.
fn integral(text: &str) -> Option<i128> {
    let mut reader = Reader::new(text.as_bytes());
    let Ok(Token::Number(whole_text)) = reader.token() else { return None };
    if whole_text.len() != text.len() {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let scale = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let digits = if scale < 0 {
        let cut = digits.len().checked_sub(usize::try_from(scale.unsigned_abs()).ok()?)?;
        let (kept, gone) = digits.split_at(cut);
        if !gone.bytes().all(|digit| digit == b'0') {
            return None;
        }
        kept.to_owned()
    } else {
        let zeros = usize::try_from(scale).ok().filter(|zeros| *zeros <= DIGITS_MAX)?;
        format!("{digits}{}", "0".repeat(zeros))
    };
    format!("{sign}{digits}").parse().ok()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int64 => "int64",
        Kind::Uint64 => "uint64",
        Kind::Uint32 => "uint32",
        Kind::Bytes => "bytes",
        Kind::String => "string",
        Kind::Enum(_) => "enum",
        Kind::Message(_) => "message",
    }
}

fn invalid_value(reader: &Reader<'_>, field: &Field, start: usize) -> Status {
    let raw = reader.raw_since(start);
    let (kind, name) = (kind_name(field.kind), field.json_name);
    reader.error_at(start, &format!("invalid value for {kind} field {name}: {raw}"))
}

fn unexpected_token(reader: &Reader<'_>, start: usize) -> Status {
    let raw = reader.raw_since(start);
    reader.syntax_error_at(start, &format!("unexpected token {raw}"))
}
