//! The Huffman code of header strings, decoded four bits at a time by an automaton that the
//! compiler computes.
//!
//! Invariants: a state is an inner node of the code's tree, state 0 its root; no code is shorter
//! than five bits, so that a nibble completes at most one symbol; a string ends at the root or
//! after at most seven one-bits of the end symbol's code, anything else is malformed.
//! Source: RFC 7541 section 5.2 and appendix B.

use super::tables::{CODE_BITS, SYMBOLS};

/// The string is not a Huffman code: the end symbol within it, or padding of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedString;

/// Appends what `coded` stands for to `out`; on an error `out` holds a part of it.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), MalformedString> {
    let mut state = 0;
    let mut flags = ACCEPTS;
    for &byte in coded {
        for nibble in [byte >> 4, byte & 15] {
            let step = &AUTOMATON[usize::from(state)][usize::from(nibble)];
            state = step.state;
            flags = step.flags;
            if flags & EMITS != 0 {
                out.push(step.symbol);
            }
            if flags & FAILS != 0 {
                return Err(MalformedString);
            }
        }
    }
    if flags & ACCEPTS == 0 { Err(MalformedString) } else { Ok(()) }
}

/// What four bits do in a state.
#[derive(Clone, Copy)]
struct Step {
    state: u8,
    symbol: u8,
    flags: u8,
}

/// The nibble completes `symbol`.
const EMITS: u8 = 1;
/// The nibble completes the end symbol.
const FAILS: u8 = 2;
/// The string may end here.
const ACCEPTS: u8 = 4;

/// Inner nodes of the code's tree: one less than its leaves.
const STATES: usize = SYMBOLS - 1;
/// Marks a child that is the leaf of `child - LEAF`.
const LEAF: u16 = 0x8000;

static AUTOMATON: [[Step; 16]; STATES] = automaton();

/// The tree by node and bit: a child node, or `LEAF` and a symbol. Codes are assigned in the order
/// of (bits, symbol), each the successor of the one before, widened to its length.
const fn tree() -> [[u16; 2]; STATES] {
    let mut tree = [[0u16; 2]; STATES];
    let mut nodes = 1;
    let mut code: u32 = 0;
    let mut bits = 5;
    while bits <= 30 {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if CODE_BITS[symbol] as usize == bits {
                let mut node = 0;
                let mut rest = bits - 1;
                while 0 < rest {
                    let bit = (code >> rest & 1) as usize;
                    if tree[node][bit] == 0 {
                        tree[node][bit] = nodes;
                        nodes += 1;
                    }
                    node = tree[node][bit] as usize;
                    rest -= 1;
                }
                assert!(tree[node][(code & 1) as usize] == 0);
                tree[node][(code & 1) as usize] = LEAF + symbol as u16;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    assert!(nodes as usize == STATES);
    tree
}

const fn automaton() -> [[Step; 16]; STATES] {
    let tree = tree();
    let mut accepts = [false; STATES];
    let mut node = 0;
    let mut ones = 0;
    while ones <= 7 {
        accepts[node] = true;
        node = tree[node][1] as usize;
        ones += 1;
    }
    let mut automaton = [[Step { state: 0, symbol: 0, flags: 0 }; 16]; STATES];
    let mut state = 0;
    while state < STATES {
        let mut nibble = 0;
        while nibble < 16 {
            automaton[state][nibble] = step(&tree, &accepts, state, nibble);
            nibble += 1;
        }
        state += 1;
    }
    automaton
}

const fn step(
    tree: &[[u16; 2]; STATES],
    accepts: &[bool; STATES],
    state: usize,
    nibble: usize,
) -> Step {
    let mut node = state;
    let mut symbol = 0;
    let mut flags = 0;
    let mut rest = 4;
    while 0 < rest {
        rest -= 1;
        let child = tree[node][nibble >> rest & 1];
        if child < LEAF {
            node = child as usize;
        } else if child - LEAF < 256 {
            symbol = (child - LEAF) as u8;
            flags |= EMITS;
            node = 0;
        } else {
            flags |= FAILS;
            node = 0;
        }
    }
    if accepts[node] {
        flags |= ACCEPTS;
    }
    Step { state: node as u8, symbol, flags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(coded: &[u8], expected: Result<&str, MalformedString>) {
        let mut out = Vec::new();
        let result = decode(coded, &mut out);
        assert_eq!(result.map(|()| std::str::from_utf8(&out).unwrap()), expected);
    }

    /// Codes of all symbols, assigned independently of the tree: sorted by (bits, symbol).
    fn codes() -> Vec<(u32, u8)> {
        let mut order: Vec<usize> = (0..SYMBOLS).collect();
        order.sort_by_key(|&symbol| (CODE_BITS[symbol], symbol));
        let mut codes = vec![(0, 0); SYMBOLS];
        let (mut code, mut bits) = (0u32, CODE_BITS[order[0]]);
        for symbol in order {
            code <<= CODE_BITS[symbol] - bits;
            bits = CODE_BITS[symbol];
            codes[symbol] = (code, bits);
            code += 1;
        }
        codes
    }

    fn encode(plain: &[u8]) -> Vec<u8> {
        let codes = codes();
        let mut bits: Vec<bool> = Vec::new();
        for &byte in plain {
            let (code, count) = codes[usize::from(byte)];
            bits.extend((0..count).rev().map(|bit| code >> bit & 1 == 1));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8).map(|octet| octet.iter().fold(0, |a, &bit| a << 1 | u8::from(bit))).collect()
    }

    #[test]
    fn appendix_b_landmarks() {
        let codes = codes();
        assert_eq!(codes[usize::from(b'0')], (0, 5));
        assert_eq!(codes[usize::from(b'a')], (0x3, 5));
        assert_eq!(codes[usize::from(b'&')], (0xf8, 8));
        assert_eq!(codes[0], (0x1ff8, 13));
        assert_eq!(codes[255], (0x3ff_ffee, 26));
        assert_eq!(codes[256], (0x3fff_ffff, 30));
    }

    #[test]
    fn every_byte_decodes_at_every_bit_offset() {
        for byte in 0..=255u8 {
            for lead in 0..8 {
                let mut plain = vec![b'0'; lead];
                plain.extend_from_slice(&[byte, b'w', byte]);
                let mut out = Vec::new();
                decode(&encode(&plain), &mut out).unwrap();
                assert_eq!(out, plain);
            }
        }
    }

    #[test]
    fn padding_is_at_most_seven_ones() {
        check(b"", Ok(""));
        check(&[0x1f], Ok("a"));
        check(&[0x1f, 0xff], Err(MalformedString));
        check(&[0x18], Err(MalformedString));
        check(&[0xff], Err(MalformedString));
        check(&[0xff, 0xff, 0xff, 0xff], Err(MalformedString));
    }
}
