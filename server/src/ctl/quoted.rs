//! Quoted words as Go reads and writes them: etcdctl's text formats are made of these.

use super::{EXIT_INVALID_INPUT, Failure};

/// Splits a line into words: bare ones, "double quoted" with escapes, 'single quoted' as they are.
pub(super) fn words(line: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let mut rest = line.trim_start();
    let mut words = Vec::new();
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let (word, after) = unquote(rest).ok_or_else(|| invalid(line))?;
                words.push(word);
                rest = after;
            }
            '\'' => {
                let (word, after) = rest[1..].split_once('\'').ok_or_else(|| invalid(line))?;
                words.push(word.as_bytes().to_vec());
                rest = after;
            }
            _ => {
                let size = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest.as_bytes()[..size].to_vec());
                rest = &rest[size..];
            }
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

fn invalid(line: &str) -> Failure {
    Failure::new(EXIT_INVALID_INPUT, format!("invalid quoting: {line}"))
}

/// Takes a word in double quotes or backquotes off the front; the word and what follows it.
pub(super) fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (word, after) = raw.split_once('`')?;
        return Some((word.as_bytes().to_vec(), after));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut word = Vec::new();
    loop {
        let next = rest.chars().next()?;
        rest = &rest[next.len_utf8()..];
        match next {
            '"' => return Some((word, rest)),
            '\\' => rest = unescape(rest, &mut word)?,
            other => push_char(other, &mut word),
        }
    }
}

/// Takes what follows a backslash.
fn unescape<'a>(text: &'a str, word: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let number = |size: usize, radix: u32| {
        let digits = if radix == 8 { text.get(..size)? } else { rest.get(..size)? };
        u32::from_str_radix(digits, radix).ok()
    };
    match kind {
        'a' => word.push(7),
        'b' => word.push(8),
        'f' => word.push(12),
        'n' => word.push(b'\n'),
        'r' => word.push(b'\r'),
        't' => word.push(b'\t'),
        'v' => word.push(11),
        '\\' | '"' => push_char(kind, word),
        'x' => {
            word.push(u8::try_from(number(2, 16)?).ok()?);
            return rest.get(2..);
        }
        '0'..='7' => {
            word.push(u8::try_from(number(3, 8)?).ok()?);
            return text.get(3..);
        }
        'u' => {
            push_char(char::from_u32(number(4, 16)?)?, word);
            return rest.get(4..);
        }
        'U' => {
            push_char(char::from_u32(number(8, 16)?)?, word);
            return rest.get(8..);
        }
        _ => return None,
    }
    Some(rest)
}

fn push_char(character: char, word: &mut Vec<u8>) {
    word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes bytes in double quotes, with escapes for what does not print.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{7}' => quoted.push_str("\\a"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                '\u{b}' => quoted.push_str("\\v"),
                control if control.is_ascii_control() => {
                    quoted.push_str(&format!("\\x{:02x}", control as u32));
                }
                control if control.is_control() => {
                    quoted.push_str(&format!("\\u{:04x}", control as u32));
                }
                other => quoted.push(other),
            }
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_come_back() {
        for bytes in
            [&b""[..], b"plain", b"a \"b\" \\ c\n\t\x00\x7f\xff\xc3\xbc", "größer\u{85}".as_bytes()]
        {
            let text = quote(bytes) + " rest";
            assert_eq!(unquote(&text), Some((bytes.to_vec(), " rest")), "{text}");
        }
        assert_eq!(quote(b"\x00\xffa\n"), "\"\\x00\\xffa\\n\"");
        assert_eq!(unquote("\"\\u00fc\\101\\U0001f600\"").unwrap().0, "üA😀".as_bytes());
        assert_eq!(unquote("`raw \\n`x"), Some((b"raw \\n".to_vec(), "x")));
        for broken in ["", "bare", "\"open", "\"\\q\"", "\"\\x4\"", "`open"] {
            assert_eq!(unquote(broken), None, "{broken}");
        }
    }

    #[test]
    fn lines_split_into_words() {
        let split = |line: &str| words(line).map_err(|failure| failure.code);
        let expected = [&b"put"[..], b"k 1", b"v\"2", b"--lease=3"].map(<[u8]>::to_vec).to_vec();
        assert_eq!(split(" put 'k 1' \"v\\\"2\"  --lease=3 "), Ok(expected));
        assert_eq!(split(""), Ok(Vec::new()));
        assert_eq!(split("put 'open"), Err(EXIT_INVALID_INPUT));
        assert_eq!(split("put \"open"), Err(EXIT_INVALID_INPUT));
    }
}
