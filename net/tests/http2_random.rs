//! Random input: any split of the same bytes has the same effect, and nothing panics.
#![allow(clippy::unwrap_used)]

mod http2_support;

use http2_support::*;
use net::http2::frame::{PREFACE, flag, kind};
use net::http2::{Connection, Limits, fuzz_feed};
use proptest::prelude::*;

/// One thing a client does on one of a few streams.
#[derive(Clone, Debug)]
enum Act {
    Call { path: usize, size_bytes: usize },
    Headers { path: usize, pieces: usize },
    Data { stream: u32, size_bytes: usize, flags: u8 },
    Reset { stream: u32 },
    Widen { stream: u32, increment: u32 },
    Settings { identifier: u16, value: u32 },
    Ping,
    Raw { kind: u8, flags: u8, stream: u32, payload: Vec<u8> },
}

fn act() -> impl Strategy<Value = Act> {
    let stream = (0u32..12).prop_map(|n| 2 * n + 1);
    let path = 0..PATHS.len();
    prop_oneof![
        6 => (path.clone(), 0usize..40_000)
            .prop_map(|(path, size_bytes)| Act::Call { path, size_bytes }),
        3 => (path, 1usize..4).prop_map(|(path, pieces)| Act::Headers { path, pieces }),
        4 => (stream.clone(), 0usize..3000, 0u8..2)
            .prop_map(|(stream, size_bytes, flags)| Act::Data { stream, size_bytes, flags }),
        1 => stream.clone().prop_map(|stream| Act::Reset { stream }),
        3 => (prop_oneof![Just(0), stream.clone()], 1u32..100_000)
            .prop_map(|(stream, increment)| Act::Widen { stream, increment }),
        1 => (1u16..7, prop_oneof![Just(0u32), Just(100_000), 16_384u32..70_000])
            .prop_map(|(identifier, value)| Act::Settings { identifier, value }),
        1 => Just(Act::Ping),
        1 => (
            0u8..12,
            any::<u8>(),
            prop_oneof![Just(0), stream],
            prop::collection::vec(any::<u8>(), 0..40),
        )
            .prop_map(|(kind, flags, stream, payload)| Act::Raw { kind, flags, stream, payload }),
    ]
}

/// The bytes of a client that does all this.
fn bytes_of(acts: &[Act]) -> Vec<u8> {
    let mut bytes = hello(&[]);
    let mut next = 1;
    for act in acts {
        match act {
            Act::Call { path, size_bytes } => {
                let mut body = blob(*size_bytes);
                // The first bytes are counts and sizes to some methods: small ones.
                body.iter_mut().take(2).for_each(|byte| *byte = 0);
                bytes.extend(call(next, PATHS[*path].0, &body));
                next += 2;
            }
            Act::Headers { path, pieces } => {
                let block = call_block(PATHS[*path].0, &[("grpc-timeout", "3S")]);
                let size_bytes = block.len().div_ceil(*pieces);
                for (number, piece) in block.chunks(size_bytes).enumerate() {
                    let is_last = (number + 1) * size_bytes >= block.len();
                    let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
                    let flags = if is_last { flag::END_HEADERS } else { 0 };
                    bytes.extend(frame(kind, flags, next, piece));
                }
                next += 2;
            }
            Act::Data { stream, size_bytes, flags } => {
                let mut payload = message(&blob(*size_bytes));
                if 9 < payload.len() {
                    payload[5..7].fill(0);
                }
                bytes.extend(frame(kind::DATA, *flags, *stream, &payload));
            }
            Act::Reset { stream } => {
                bytes.extend(frame(kind::RST_STREAM, 0, *stream, &8u32.to_be_bytes()));
            }
            Act::Widen { stream, increment } => {
                let increment = increment.to_be_bytes();
                bytes.extend(frame(kind::WINDOW_UPDATE, 0, *stream, &increment));
            }
            Act::Settings { identifier, value } => {
                let entry = [&identifier.to_be_bytes()[..], &value.to_be_bytes()].concat();
                bytes.extend(frame(kind::SETTINGS, 0, 0, &entry));
            }
            Act::Ping => bytes.extend(frame(kind::PING, 0, 0, b"12345678")),
            Act::Raw { kind, flags, stream, payload } => {
                bytes.extend(frame(*kind, *flags, *stream, payload));
            }
        }
    }
    bytes
}

/// Everything that happened, and everything that was sent, for bytes cut at `cuts`.
fn effect(bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Vec<u8>, bool) {
    let limits = Limits { output_bytes_max: 200_000, ..Limits::default() };
    let mut connection = Connection::new(limits);
    let mut app = Echo::default();
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let size_bytes = cuts.next().map_or(rest.len(), |cut| *cut).clamp(1, rest.len());
        connection.feed(&rest[..size_bytes], &mut app);
        rest = &rest[size_bytes..];
    }
    (app.log, std::mem::take(connection.output()), connection.is_finished())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_same_bytes_has_the_same_effect(
        acts in prop::collection::vec(act(), 1..40),
        cuts in prop::collection::vec(prop_oneof![1usize..10, 1usize..20_000], 1..20),
    ) {
        let bytes = bytes_of(&acts);
        let whole = effect(&bytes, &[]);
        let split = effect(&bytes, &cuts);
        prop_assert!(whole.0 == split.0, "{:?} {:?}", whole.0, split.0);
        prop_assert!(whole.1 == split.1, "output differs");
        prop_assert_eq!(whole.2, split.2);
        parse(&whole.1);
    }

    #[test]
    fn mutated_streams_never_panic(
        acts in prop::collection::vec(act(), 1..30),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        controls in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let mut bytes = bytes_of(&acts);
        for (place, value) in &mutations {
            // The preface stays: behind it is where the parser is.
            let place = PREFACE.len() + place.index(bytes.len() - PREFACE.len());
            bytes[place] = *value;
        }
        let mut controlled = Vec::new();
        let mut rest = &bytes[..];
        for control in controls.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            // As `fuzz_feed` reads it; 7 would be all the rest.
            let control = if control & 7 == 7 { control - 1 } else { *control };
            let size_bytes = if control & 7 == 0 { 1 } else { 1 << (2 * (control & 7)) };
            let (piece, behind) = rest.split_at(size_bytes.min(rest.len()));
            controlled.push(control);
            controlled.extend_from_slice(piece);
            rest = behind;
        }
        fuzz_feed(&controlled);
    }

    #[test]
    fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_feed(&bytes);
        let behind = [&[7][..], &hello(&[]), &bytes].concat();
        fuzz_feed(&behind);
    }
}
