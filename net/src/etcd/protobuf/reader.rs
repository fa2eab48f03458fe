//! Reading protobuf without copying: a message is a run of fields, each a number and a value.
//!
//! The caller takes the numbers it knows, in any order and repeated as they come, and passes over
//! the others. Every length is checked against what is there, so no input makes this panic or
//! allocate.
//! Source: the protocol buffers encoding specification.

use std::fmt;

use super::{
    VARINT_SIZE_BYTES_MAX, WIRE_FIXED32, WIRE_FIXED64, WIRE_GROUP_END, WIRE_GROUP_START,
    WIRE_LENGTH, WIRE_VARINT,
};
use crate::etcd::status::{Code, Status};

/// Groups within groups that an unknown field may hold.
const GROUP_DEPTH_MAX: u32 = 64;

/// Bytes that are no protobuf message, or not of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end inside a field.
    Truncated,
    /// A varint of more than 64 bits.
    VarintTooLong,
    /// A field number of 0 or over 29 bits, or a wire type that does not exist.
    BadKey,
    /// A known field whose value is not of the field's type.
    WrongWireType,
    /// A group ends that did not begin, or does not end.
    BadGroup,
    /// Messages or groups nested more deeply than is allowed.
    TooDeep,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "unexpected end of message",
            Malformed::VarintTooLong => "variable length integer overflow",
            Malformed::BadKey => "invalid field number or wire type",
            Malformed::WrongWireType => "unexpected wire type",
            Malformed::BadGroup => "mismatching group",
            Malformed::TooDeep => "exceeded maximum recursion depth",
        })
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Status {
        let message = format!("grpc: error unmarshalling request: proto: {malformed}");
        Status::new(Code::Internal, message)
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, a boolean or an enum.
    Varint(u64),
    /// Eight bytes; the services have no such field.
    Fixed64,
    /// Bytes, a string, a message or packed numbers.
    Length(&'a [u8]),
    /// Four bytes; the services have no such field.
    Fixed32,
    /// A group, passed over.
    Group,
}

impl<'a> Value<'a> {
    /// Bytes or an embedded message.
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Length(bytes) => Ok(bytes),
            _ => Err(Malformed::WrongWireType),
        }
    }

    /// A 64-bit integer without a sign.
    pub fn uint64(self) -> Result<u64, Malformed> {
        match self {
            Value::Varint(number) => Ok(number),
            _ => Err(Malformed::WrongWireType),
        }
    }

    /// A 64-bit integer in two's complement.
    pub fn int64(self) -> Result<i64, Malformed> {
        self.uint64().map(u64::cast_signed)
    }

    /// An enum's number: the low 32 bits.
    pub fn enumeration(self) -> Result<i32, Malformed> {
        self.uint64().map(|number| number as i32)
    }

    /// A boolean: anything but 0 is true.
    pub fn boolean(self) -> Result<bool, Malformed> {
        self.uint64().map(|number| number != 0)
    }
}

/// The fields of a message, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of the bytes of one message.
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            WIRE_VARINT => Value::Varint(self.varint()?),
            WIRE_LENGTH => Value::Length(self.length_delimited()?),
            WIRE_FIXED64 => self.skip(8).map(|()| Value::Fixed64)?,
            WIRE_FIXED32 => self.skip(4).map(|()| Value::Fixed32)?,
            WIRE_GROUP_START => self.skip_group(number, GROUP_DEPTH_MAX).map(|()| Value::Group)?,
            WIRE_GROUP_END => return Err(Malformed::BadGroup),
            _ => return Err(Malformed::BadKey),
        };
        Ok(Some((number, value)))
    }

    /// The rest as bare varints: the content of a packed repeated field.
    pub fn next_packed(&mut self) -> Result<Option<u64>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    fn key(&mut self) -> Result<(u32, u32), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::BadKey)?;
        if key >> 3 == 0 {
            return Err(Malformed::BadKey);
        }
        Ok((key >> 3, key & 7))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (position, byte) in self.rest.iter().take(VARINT_SIZE_BYTES_MAX).enumerate() {
            number |= u64::from(byte & 0x7f) << (position * 7);
            if *byte < 0x80 {
                // The tenth byte has room for the last of the 64 bits only.
                if position + 1 == VARINT_SIZE_BYTES_MAX && 1 < *byte {
                    return Err(Malformed::VarintTooLong);
                }
                self.rest = &self.rest[position + 1..];
                return Ok(number);
            }
        }
        if self.rest.len() < VARINT_SIZE_BYTES_MAX {
            return Err(Malformed::Truncated);
        }
        Err(Malformed::VarintTooLong)
    }

    #[inline]
    fn length_delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let size = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn skip(&mut self, size_bytes: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(size_bytes..).ok_or(Malformed::Truncated)?;
        Ok(())
    }

    /// Passes over a group up to its end, which must name the same field.
    fn skip_group(&mut self, number: u32, depth_left: u32) -> Result<(), Malformed> {
        if depth_left == 0 {
            return Err(Malformed::TooDeep);
        }
        loop {
            let (inner, wire_type) = self.key()?;
            match wire_type {
                WIRE_VARINT => self.varint().map(|_| ())?,
                WIRE_LENGTH => self.length_delimited().map(|_| ())?,
                WIRE_FIXED64 => self.skip(8)?,
                WIRE_FIXED32 => self.skip(4)?,
                WIRE_GROUP_START => self.skip_group(inner, depth_left - 1)?,
                WIRE_GROUP_END if inner == number => return Ok(()),
                WIRE_GROUP_END => return Err(Malformed::BadGroup),
                _ => return Err(Malformed::BadKey),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        let mut fields = Fields::new(bytes);
        let mut all = Vec::new();
        while let Some(field) = fields.next_field()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn every_wire_type_is_read_or_passed_over() {
        let bytes = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 2, b'h', b'i'],
            &[0x19, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x25, 1, 2, 3, 4],
            // Group 5 with a varint and group 6 inside.
            &[0x2b, 0x08, 1, 0x33, 0x12, 1, 9, 0x34, 0x2c],
            &[0x80, 0x04, 1],
        ]
        .concat();
        let all = fields(&bytes).unwrap();
        assert_eq!(
            all,
            [
                (1, Value::Varint(150)),
                (2, Value::Length(b"hi")),
                (3, Value::Fixed64),
                (4, Value::Fixed32),
                (5, Value::Group),
                (64, Value::Varint(1)),
            ]
        );
        for cut in [1, 2, 4, 5, 6, 9, 17, 22, 23, 30] {
            assert!(fields(&bytes[..cut]).is_err() || fields(&bytes[..cut]).unwrap().len() < 6);
        }
    }

    #[test]
    fn the_largest_varint_is_read_and_a_larger_one_refused() {
        let mut bytes = vec![0x08];
        bytes.extend_from_slice(&[0xff; 9]);
        bytes.push(1);
        let all = fields(&bytes).unwrap();
        assert_eq!(all, [(1, Value::Varint(u64::MAX))]);
        assert_eq!(all[0].1.int64(), Ok(-1));
        assert_eq!(all[0].1.enumeration(), Ok(-1));
        bytes[10] = 2;
        assert_eq!(fields(&bytes), Err(Malformed::VarintTooLong));
        bytes[10] = 0x80;
        bytes.push(0);
        assert_eq!(fields(&bytes), Err(Malformed::VarintTooLong));
    }

    #[test]
    fn bad_keys_lengths_and_groups_are_errors() {
        assert_eq!(fields(&[0x00]), Err(Malformed::BadKey));
        assert_eq!(fields(&[0x0e]), Err(Malformed::BadKey));
        assert_eq!(fields(&[0x0a, 5, 1]), Err(Malformed::Truncated));
        assert_eq!(fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]), Err(Malformed::Truncated));
        assert_eq!(fields(&[0x0c]), Err(Malformed::BadGroup));
        assert_eq!(fields(&[0x0b, 0x14]), Err(Malformed::BadGroup));
        assert_eq!(fields(&[0x0b]), Err(Malformed::Truncated));
        let deep = [vec![0x0b; 100], vec![0x0c; 100]].concat();
        assert_eq!(fields(&deep), Err(Malformed::TooDeep));
        assert_eq!(Value::Varint(1).bytes(), Err(Malformed::WrongWireType));
        assert_eq!(Value::Length(b"").uint64(), Err(Malformed::WrongWireType));
    }
}
