//! The prefix of a gRPC message: a compression flag and a big-endian length.
//!
//! Invariant: a prefix is five bytes, the flag 0 (plain) or 1 (compressed), the length that of the
//! message alone.
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message".

/// Size of the prefix.
pub const PREFIX_SIZE_BYTES: usize = 5;

/// Flag and length of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// 0 plain, 1 compressed; anything else is an error of the sender.
    pub flag: u8,
    /// Bytes of the message after the prefix.
    pub size_bytes: usize,
}

/// The prefix at the front of `bytes`, None while there are fewer than five.
pub fn decode_prefix(bytes: &[u8]) -> Option<Prefix> {
    let &[flag, a, b, c, d] = bytes.first_chunk::<PREFIX_SIZE_BYTES>()?;
    Some(Prefix { flag, size_bytes: u32::from_be_bytes([a, b, c, d]) as usize })
}

/// The prefix of a plain message of `size_bytes`.
pub fn message_prefix(size_bytes: usize) -> [u8; PREFIX_SIZE_BYTES] {
    let size_bytes = u32::try_from(size_bytes).expect("bounded by the response limit");
    let [a, b, c, d] = size_bytes.to_be_bytes();
    [0, a, b, c, d]
}

/// Writes the prefix of a plain message over the five bytes at the front of `message`, which has
/// been encoded behind them.
pub fn patch_prefix(message: &mut [u8]) {
    let size_bytes = message.len().checked_sub(PREFIX_SIZE_BYTES).expect("room was reserved");
    message[..PREFIX_SIZE_BYTES].copy_from_slice(&message_prefix(size_bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_round_trips() {
        let mut message = vec![7; PREFIX_SIZE_BYTES + 300];
        patch_prefix(&mut message);
        assert_eq!(message[..5], [0, 0, 0, 1, 44]);
        assert_eq!(decode_prefix(&message), Some(Prefix { flag: 0, size_bytes: 300 }));
        assert_eq!(decode_prefix(&message[..4]), None);
    }
}
