//! The request metadata that the store understands, out of a request's header fields.
//!
//! Invariant: nothing here outlives its request; a token in particular is never remembered, since
//! what it stands for can expire.
//! Source: fact sheet of the etcd v3 API, "Transport facts"; gRPC over HTTP/2, "Requests"
//! (Timeout); grpc-go's texts for timeouts.

use std::fmt;

/// What a request's header fields say, borrowed until the callback returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// `hasleader: true`: refuse, or cut, the call when there is no leader.
    pub has_leader: bool,
    /// `token`, else `authorization` without its `Bearer ` prefix; empty when neither was sent.
    pub token: &'a [u8],
    /// `grpc-timeout` in microseconds, rounded up; None is no deadline.
    pub timeout_us: Option<u64>,
}

/// What is wrong with a `grpc-timeout`; printed, the text that grpc-go answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTimeout {
    fault: Fault,
    /// The front of the value, for the text.
    value: [u8; QUOTED_BYTES_MAX],
    value_size_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooShort,
    TooLong,
    Unit,
    Digits,
}

/// A timeout has one to eight digits and a unit.
const TIMEOUT_SIZE_BYTES_MAX: usize = 9;
/// Bytes of a bad timeout that its answer quotes.
const QUOTED_BYTES_MAX: usize = 32;

impl fmt::Display for MalformedTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = String::from_utf8_lossy(&self.value[..self.value_size_bytes]);
        match self.fault {
            Fault::TooShort => write!(f, "transport: timeout string is too short: {value:?}"),
            Fault::TooLong => write!(f, "transport: timeout string is too long: {value:?}"),
            Fault::Unit => write!(f, "transport: timeout unit is not recognized: {value:?}"),
            Fault::Digits => {
                let mut digits = value.chars();
                digits.next_back();
                write!(f, "strconv.ParseUint: parsing {:?}: invalid syntax", digits.as_str())
            }
        }
    }
}

/// A `grpc-timeout` value in microseconds; parts of one count as a whole one.
pub fn decode_timeout(value: &[u8]) -> Result<u64, MalformedTimeout> {
    let malformed = |fault| {
        let value_size_bytes = value.len().min(QUOTED_BYTES_MAX);
        let mut quoted = [0; QUOTED_BYTES_MAX];
        quoted[..value_size_bytes].copy_from_slice(&value[..value_size_bytes]);
        MalformedTimeout { fault, value: quoted, value_size_bytes }
    };
    if value.len() < 2 {
        return Err(malformed(Fault::TooShort));
    }
    if TIMEOUT_SIZE_BYTES_MAX < value.len() {
        return Err(malformed(Fault::TooLong));
    }
    let (unit, digits) = value.split_last().ok_or(malformed(Fault::TooShort))?;
    let unit_ns: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return Err(malformed(Fault::Unit)),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed(Fault::Digits));
    }
    let count = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let time_ns = count.saturating_mul(unit_ns);
    Ok(time_ns.div_ceil(1000))
}

/// An `authorization` value without its optional `Bearer ` prefix.
pub fn strip_bearer(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"Bearer ").unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Result<u64, &str>) {
        let result = decode_timeout(value.as_bytes()).map_err(|fault| fault.to_string());
        assert_eq!(result, expected.map_err(str::to_owned));
    }

    #[test]
    fn timeouts_of_every_unit() {
        check("1H", Ok(3_600_000_000));
        check("2M", Ok(120_000_000));
        check("5S", Ok(5_000_000));
        check("99999999m", Ok(99_999_999_000));
        check("7u", Ok(7));
        check("1n", Ok(1));
        check("1001n", Ok(2));
        check("0S", Ok(0));
        check("99999999H", Ok(u64::MAX.div_ceil(1000)));
    }

    #[test]
    fn malformed_timeouts_get_their_texts() {
        check("", Err("transport: timeout string is too short: \"\""));
        check("S", Err("transport: timeout string is too short: \"S\""));
        check("123456789S", Err("transport: timeout string is too long: \"123456789S\""));
        check("1x", Err("transport: timeout unit is not recognized: \"1x\""));
        check("-1S", Err("strconv.ParseUint: parsing \"-1\": invalid syntax"));
    }

    #[test]
    fn bearer_is_optional() {
        assert_eq!(strip_bearer(b"Bearer abc"), b"abc");
        assert_eq!(strip_bearer(b"abc"), b"abc");
    }
}
