//! Values out of messages that are known only by the names of their fields.

use prost_reflect::{DynamicMessage, Value};

/// The value at a path of field names, `header.revision`.
///
/// # Panics
/// When there is no such field: the test is wrong.
pub fn value(message: &DynamicMessage, path: &str) -> Value {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let value = message.get_field_by_name(name).unwrap_or_else(|| panic!("no field {name}"));
    match rest {
        "" => value.into_owned(),
        rest => self::value(value.as_message().unwrap(), rest),
    }
}

/// A whole number of any kind.
pub fn number(message: &DynamicMessage, path: &str) -> i64 {
    match value(message, path) {
        Value::I64(number) => number,
        Value::U64(number) => i64::try_from(number).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

/// An id, which may be any 64 bits.
pub fn id(message: &DynamicMessage, path: &str) -> u64 {
    value(message, path).as_u64().unwrap()
}

pub fn is_set(message: &DynamicMessage, path: &str) -> bool {
    value(message, path).as_bool().unwrap()
}

pub fn text(message: &DynamicMessage, path: &str) -> String {
    match value(message, path) {
        Value::String(text) => text,
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

/// The messages of a repeated field.
pub fn list(message: &DynamicMessage, path: &str) -> Vec<DynamicMessage> {
    let list = value(message, path);
    let elements = list.as_list().unwrap().iter();
    elements.map(|element| element.as_message().unwrap().clone()).collect()
}
