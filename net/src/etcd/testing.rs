//! Random protobuf for tests: messages that follow a schema loosely, with fields in any order,
//! repeated, missing and unknown, and keys from so few that they collide.

use proptest::prelude::*;

use super::protobuf::writer;

/// What a field holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// An integer, 64 bits.
    Integer,
    /// The number of an enum, known or not.
    Enumeration,
    /// Numbers of an enum, packed or one by one.
    Enumerations,
    Boolean,
    /// Bytes, a key more often than not.
    Bytes,
    /// A message of the same or another schema.
    Message(&'static Schema),
}

/// A message: its fields by number, and how many a random one has.
pub struct Schema {
    fields: &'static [(u32, Kind)],
    /// The field that most messages have, and a message without it is refused for.
    wanted: Option<u32>,
    fields_max: usize,
}

const fn schema(wanted: Option<u32>, fields_max: usize, fields: &'static [(u32, Kind)]) -> Schema {
    Schema { fields, wanted, fields_max }
}

pub static RANGE: Schema = schema(
    Some(1),
    4,
    &[
        (1, Kind::Bytes),
        (2, Kind::Bytes),
        (3, Kind::Integer),
        (4, Kind::Integer),
        (5, Kind::Enumeration),
        (6, Kind::Enumeration),
        (7, Kind::Boolean),
        (8, Kind::Boolean),
        (9, Kind::Boolean),
        (10, Kind::Integer),
        (11, Kind::Integer),
        (12, Kind::Integer),
        (13, Kind::Integer),
    ],
);
pub static PUT: Schema = schema(
    Some(1),
    3,
    &[
        (1, Kind::Bytes),
        (2, Kind::Bytes),
        (3, Kind::Integer),
        (4, Kind::Boolean),
        (5, Kind::Boolean),
        (6, Kind::Boolean),
    ],
);
pub static DELETE_RANGE: Schema =
    schema(Some(1), 2, &[(1, Kind::Bytes), (2, Kind::Bytes), (3, Kind::Boolean)]);
pub static TWO_INTEGERS: Schema = schema(None, 4, &[(1, Kind::Integer), (2, Kind::Integer)]);
static COMPARE: Schema = schema(
    Some(3),
    4,
    &[
        (1, Kind::Enumeration),
        (2, Kind::Enumeration),
        (3, Kind::Bytes),
        (4, Kind::Integer),
        (5, Kind::Integer),
        (6, Kind::Integer),
        (7, Kind::Bytes),
        (8, Kind::Integer),
        (64, Kind::Bytes),
    ],
);
pub static REQUEST_OP: Schema = schema(
    None,
    0,
    &[
        (1, Kind::Message(&RANGE)),
        (2, Kind::Message(&PUT)),
        (3, Kind::Message(&DELETE_RANGE)),
        (4, Kind::Message(&TXN)),
    ],
);
pub static TXN: Schema = schema(
    None,
    8,
    &[
        (1, Kind::Message(&COMPARE)),
        (2, Kind::Message(&REQUEST_OP)),
        (3, Kind::Message(&REQUEST_OP)),
    ],
);
static WATCH_CREATE: Schema = schema(
    None,
    8,
    &[
        (1, Kind::Bytes),
        (2, Kind::Bytes),
        (3, Kind::Integer),
        (4, Kind::Boolean),
        (5, Kind::Enumerations),
        (6, Kind::Boolean),
        (7, Kind::Integer),
        (8, Kind::Boolean),
    ],
);
static EMPTY: Schema = schema(None, 1, &[]);
pub static WATCH: Schema = schema(
    None,
    3,
    &[
        (1, Kind::Message(&WATCH_CREATE)),
        (2, Kind::Message(&TWO_INTEGERS)),
        (3, Kind::Message(&EMPTY)),
    ],
);

/// How deeply messages nest at most.
const DEPTH_MAX: usize = 9;

/// Random choices read from bytes, so that proptest can make them smaller. At the end of the
/// bytes every choice is 0.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % bound
    }

    fn integer(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::from(u32::MAX) + 2,
            4 => i64::MIN.cast_unsigned(),
            _ => self.below(256) as u64,
        }
    }

    fn bytes(&mut self) -> &'static [u8] {
        const KEYS: [&[u8]; 16] = [
            b"a", b"b", b"c", b"d", b"ab", b"b\0", b"\0", b"", b"\xff", b"f", b"e", b"bb", b"g",
            b"h", b"i", b"j",
        ];
        KEYS[self.below(KEYS.len())]
    }

    fn message(&mut self, schema: &Schema, depth: usize, out: &mut Vec<u8>) {
        for (field, kind) in schema.fields {
            if schema.wanted == Some(*field) && self.below(24) < 23 {
                self.field(*field, *kind, depth, out);
            }
        }
        for _ in 0..self.fields_count(schema) {
            if schema.fields.is_empty() || self.below(20) == 19 {
                self.unknown_field(out);
                continue;
            }
            let (field, kind) = schema.fields[self.below(schema.fields.len())];
            self.field(field, kind, depth, out);
        }
    }

    /// A union has one field but for a rare one, other messages have any number.
    fn fields_count(&mut self, schema: &Schema) -> usize {
        match schema.fields_max {
            0 => [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0][self.below(16)],
            fields_max => self.below(fields_max + 1),
        }
    }

    fn field(&mut self, field: u32, kind: Kind, depth: usize, out: &mut Vec<u8>) {
        let key = u64::from(field << 3);
        match kind {
            Kind::Integer => {
                writer::varint(out, key);
                writer::varint(out, self.integer());
            }
            Kind::Enumeration => {
                writer::varint(out, key);
                writer::varint(out, self.enumeration());
            }
            Kind::Enumerations if self.below(2) == 0 => {
                let mut packed = Vec::new();
                for _ in 0..self.below(4) {
                    writer::varint(&mut packed, self.enumeration());
                }
                writer::bytes_element(out, field, &packed);
            }
            Kind::Enumerations => self.field(field, Kind::Enumeration, depth, out),
            Kind::Boolean => {
                writer::varint(out, key);
                writer::varint(out, self.below(3) as u64);
            }
            Kind::Bytes => writer::bytes_element(out, field, self.bytes()),
            Kind::Message(schema) => {
                let mut inner = Vec::new();
                if depth < DEPTH_MAX {
                    self.message(schema, depth + 1, &mut inner);
                }
                writer::bytes_element(out, field, &inner);
            }
        }
    }

    fn enumeration(&mut self) -> u64 {
        match self.below(24) {
            0 => 9,
            1 => u64::MAX,
            // Only the low 32 bits count.
            2 => (1 << 32) + 1,
            number => (number % 5) as u64,
        }
    }

    fn unknown_field(&mut self, out: &mut Vec<u8>) {
        let field = 70 + self.below(3) as u32;
        match self.below(5) {
            0 => writer::uint64(out, field, 1 + self.integer() / 2),
            1 => writer::bytes(out, field, b"passed over"),
            2 => {
                writer::varint(out, u64::from(field << 3 | 1));
                out.extend_from_slice(&[1; 8]);
            }
            3 => {
                writer::varint(out, u64::from(field << 3 | 5));
                out.extend_from_slice(&[1; 4]);
            }
            _ => {
                writer::varint(out, u64::from(field << 3 | 3));
                writer::bytes(out, 2, b"in a group");
                writer::varint(out, u64::from(field << 3 | 4));
            }
        }
    }
}

/// A message by the schema, whole.
pub fn message(schema: &'static Schema) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600).prop_map(|choices| {
        let mut out = Vec::new();
        Choices(choices.iter()).message(schema, 0, &mut out);
        out
    })
}

/// A message by the schema: whole, cut off, or with a byte changed.
pub fn damaged(schema: &'static Schema) -> impl Strategy<Value = Vec<u8>> {
    let damage = (0_u8..6, any::<proptest::sample::Index>(), any::<u8>());
    (message(schema), damage).prop_map(|(mut message, (kind, place, byte))| {
        if !message.is_empty() {
            let place = place.index(message.len());
            match kind {
                0 => message.truncate(place),
                1 => message[place] = byte,
                _ => {}
            }
        }
        message
    })
}
