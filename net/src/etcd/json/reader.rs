//! Reading JSON one token after the other, with the place of each for error messages.
//!
//! Nesting is bounded by the callers, who descend one call a level.
//! Source: RFC 8259; texts of errors as the gateway's clients see them from etcd.

use std::borrow::Cow;

use crate::etcd::status::{Code, Status};

/// Objects and arrays within one another. A nested transaction takes three (list, operation,
/// transaction), so this is room for what etcd's default of 128 operations allows.
pub const DEPTH_MAX: usize = 400;

/// A JSON text and how far it is read.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// A value without parts, or the beginning of one with parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Token<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it stands there.
    Number(&'a str),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// `{`
    ObjectStart,
    /// `[`
    ArrayStart,
}

impl<'a> Reader<'a> {
    /// At the beginning of a text.
    pub fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether nothing but white space is left.
    pub fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.at == self.text.len()
    }

    /// Where the next token begins.
    pub fn token_start(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    /// An error about what was read from `start` on, with its place in front.
    pub fn error_at(&self, start: usize, text: &str) -> Status {
        let message = format!("proto: {}: {text}", self.place_of(start));
        Status::new(Code::InvalidArgument, message)
    }

    /// The same for a text that is not what JSON or the schema has in that place.
    pub fn syntax_error_at(&self, start: usize, text: &str) -> Status {
        let message = format!("proto: syntax error {}: {text}", self.place_of(start));
        Status::new(Code::InvalidArgument, message)
    }

    /// What was read from `start` on, as it stands there.
    pub fn raw_since(&self, start: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(&self.text[start..self.at])
    }

    /// A place as etcd prints it, lines and columns from 1.
    fn place_of(&self, at: usize) -> String {
        let before = &self.text[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        format!("(line {line}:{})", at - line_start + 1)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// An error about the next token.
    pub fn unexpected(&mut self) -> Status {
        self.skip_space();
        let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return Status::fixed(Code::InvalidArgument, "unexpected EOF");
        };
        let size = match rest[0] {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest.iter().position(|byte| b" \t\r\n,:{}[]".contains(byte)).unwrap_or(rest.len()),
        };
        let token = String::from_utf8_lossy(&rest[..size.clamp(1, 64)]).into_owned();
        self.syntax_error_at(self.at, &format!("unexpected token {token}"))
    }

    /// Takes a punctuation mark if it comes next.
    pub fn take(&mut self, mark: u8) -> bool {
        self.skip_space();
        let is_there = self.text.get(self.at) == Some(&mark);
        self.at += usize::from(is_there);
        is_there
    }

    /// Takes a punctuation mark that must come next.
    pub fn expect(&mut self, mark: u8) -> Result<(), Status> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The next token of a value.
    pub fn token(&mut self) -> Result<Token<'a>, Status> {
        self.skip_space();
        match self.text.get(self.at) {
            Some(b'{') => {
                self.at += 1;
                Ok(Token::ObjectStart)
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Token::ArrayStart)
            }
            Some(b'"') => self.string().map(Token::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Token::Number),
            Some(b'n') => self.word("null", Token::Null),
            Some(b't') => self.word("true", Token::Bool(true)),
            Some(b'f') => self.word("false", Token::Bool(false)),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, Status> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected());
        }
        self.at += word.len();
        Ok(token)
    }

    fn number(&mut self) -> Result<&'a str, Status> {
        let start = self.at;
        let mut at = start + usize::from(self.text[start] == b'-');
        let digits =
            |at: usize| self.text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(at);
        let mut is_valid = 0 < whole && !(1 < whole && self.text[at] == b'0');
        at += whole;
        if self.text.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            is_valid &= 0 < fraction;
            at += 1 + fraction;
        }
        if let Some(b'e' | b'E') = self.text.get(at) {
            at += 1 + usize::from(matches!(self.text.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at);
            is_valid &= 0 < exponent;
            at += exponent;
        }
        match std::str::from_utf8(&self.text[start..at]) {
            Ok(number) if is_valid => {
                self.at = at;
                Ok(number)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A string, which must come next.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Status> {
        self.skip_space();
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return Err(self.unexpected());
        }
        self.at += 1;
        let mut unescaped: Option<String> = None;
        loop {
            let piece = self.plain_piece(start)?;
            let is_end = self.text[self.at] == b'"';
            if is_end && unescaped.is_none() {
                self.at += 1;
                return Ok(Cow::Borrowed(piece));
            }
            let text = unescaped.get_or_insert_default();
            text.push_str(piece);
            self.at += 1;
            if is_end {
                return Ok(Cow::Owned(unescaped.unwrap_or_default()));
            }
            let character = self.escaped().ok_or_else(|| self.bad_string(start))?;
            text.push(character);
        }
    }

    /// What stands before the next quote or backslash.
    fn plain_piece(&mut self, string_start: usize) -> Result<&'a str, Status> {
        let rest = &self.text[self.at..];
        let size = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
        let Some(size) = size else {
            return Err(Status::fixed(Code::InvalidArgument, "unexpected EOF"));
        };
        let piece = std::str::from_utf8(&rest[..size]).ok().filter(|_| 0x20 <= rest[size]);
        let piece = piece.ok_or_else(|| self.bad_string(string_start))?;
        self.at += size;
        Ok(piece)
    }

    fn bad_string(&self, string_start: usize) -> Status {
        self.syntax_error_at(string_start, "invalid string")
    }

    /// The character behind a backslash; `None` for one that JSON does not know.
    fn escaped(&mut self) -> Option<char> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex_unit()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                // The first half of a pair stands for nothing alone.
                if self.text.get(self.at..self.at + 2)? != b"\\u" {
                    return None;
                }
                self.at += 2;
                let low = self.hex_unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low)?
            }
            _ => return None,
        })
    }

    fn hex_unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
    }

    /// Passes over a value whose first token has been read.
    pub fn skip_rest(&mut self, first: Token<'a>, depth_left: usize) -> Result<(), Status> {
        let is_object = match first {
            Token::ObjectStart => true,
            Token::ArrayStart => false,
            _ => return Ok(()),
        };
        let Some(depth_left) = depth_left.checked_sub(1) else {
            return Err(too_deep());
        };
        let end = if is_object { b'}' } else { b']' };
        if self.take(end) {
            return Ok(());
        }
        loop {
            if is_object {
                self.string()?;
                self.expect(b':')?;
            }
            let inner = self.token()?;
            self.skip_rest(inner, depth_left)?;
            if self.take(end) {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }
}

/// The error for more nesting than [`DEPTH_MAX`].
pub fn too_deep() -> Status {
    Status::fixed(Code::InvalidArgument, "proto: exceeded max recursion depth")
}
