//! Durations as Go writes them: `1h30m`, `100ms`, `1.5s`; a bare `0` has no unit.

/// Microseconds of a duration; `None` when it is not one.
pub fn parse_us(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        total_ns = total_ns.checked_add(scaled(number, unit_ns(unit)?)?)?;
        rest = next;
    }
    u64::try_from(total_ns / 1000).ok()
}

fn unit_ns(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || 18 < fraction.len() {
        return None;
    }
    let mut ns =
        if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()?.checked_mul(unit)? };
    if !fraction.is_empty() {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        ns = ns.checked_add(fraction.parse::<u128>().ok()?.checked_mul(unit)? / scale)?;
    }
    Some(ns)
}

#[cfg(test)]
mod tests {
    use super::parse_us;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, us) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("100ms", Some(100_000)),
            ("1h30m", Some(5_400_000_000)),
            ("1.5s", Some(1_500_000)),
            (".5s", Some(500_000)),
            ("5000000000ns", Some(5_000_000)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1x", None),
            ("-1s", None),
            ("99999999999999999999999h", None),
        ] {
            assert_eq!(parse_us(text), us, "{text:?}");
        }
    }
}
