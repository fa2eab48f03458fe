//! The short forms in a request, written out.

use crate::print::Frame;

/// Writes out `@3{...%...}` (three copies, `%` is 000, 001, 002), `$x(5)`, `$+1` and `$member`.
///
/// # Panics
/// When a form is not closed: the script is wrong.
pub fn expand(text: &str, frame: &Frame) -> String {
    let text = expand_copies(text);
    let text = expand_letters(&text);
    let text = text.replace("$member", &frame.member_id.to_string());
    expand_revisions(&text, frame.base_revision)
}

fn expand_copies(text: &str) -> String {
    let Some((before, form)) = text.split_once('@') else { return text.to_owned() };
    let (count, body) = form.split_once('{').unwrap();
    let count: usize = count.parse().unwrap();
    let mut depth = 1;
    let end = body.find(|letter| {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    });
    let end = end.unwrap_or_else(|| panic!("{text}: not closed"));
    let mut out = before.to_owned();
    for number in 0..count {
        out.push_str(&body[..end].replace('%', &format!("{number:03}")));
        out.push(' ');
    }
    out + &expand_copies(&body[end + 1..])
}

fn expand_letters(text: &str) -> String {
    let Some((before, form)) = text.split_once("$x(") else { return text.to_owned() };
    let (count, after) = form.split_once(')').unwrap();
    format!("{before}{}{}", "x".repeat(count.parse().unwrap()), expand_letters(after))
}

fn expand_revisions(text: &str, base: i64) -> String {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_number = |letter: char| letter.is_ascii_digit() || letter == '+' || letter == '-';
        let end = part.find(|letter| !is_number(letter)).unwrap_or(part.len());
        let offset: i64 = part[..end].parse().unwrap();
        out.push_str(&(base + offset).to_string());
        out.push_str(&part[end..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_written_out() {
        let frame = Frame { member_id: 7, base_revision: 10, ..Frame::default() };
        let long = |text| expand(text, &frame);
        assert_eq!(long("a @2{b { % }} c"), "a b { 000 } b { 001 }  c");
        assert_eq!(long("v: \"$x(3)\" r: $+2 s: $-1 m: $member"), "v: \"xxx\" r: 12 s: 9 m: 7");
    }
}
