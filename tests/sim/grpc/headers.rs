//! Header blocks of calls, as clients write them: with a table, as grpc-go does, or without.
//!
//! Invariant: `table` is what the member's decoder holds after all blocks so far, newest first.
//! Source: RFC 7541 sections 2.3 and 6; gRPC over HTTP/2, "Requests".

use std::collections::VecDeque;

use net::http2::hpack::decode::FIELD_OVERHEAD_BYTES;
use net::http2::hpack::encode;
use net::http2::limits::HEADER_TABLE_SIZE_BYTES_MAX;

type Field = (&'static str, String);

/// Writes the blocks of one connection.
#[derive(Debug)]
pub struct CallHeaders {
    uses_table: bool,
    table: VecDeque<Field>,
    table_bytes: usize,
}

/// `:method: POST`, `:scheme: http` and the name `:path` in the static table.
const INDEX_METHOD_POST: usize = 3;
const INDEX_SCHEME_HTTP: usize = 6;
const INDEX_PATH: usize = 4;
/// Index of the newest entry of a dynamic table.
const DYNAMIC_NEWEST: usize = 62;

impl CallHeaders {
    /// The blocks of a client that keeps fields in the member's table, or does not.
    pub fn new(uses_table: bool) -> CallHeaders {
        CallHeaders { uses_table, table: VecDeque::new(), table_bytes: 0 }
    }

    /// Appends the block of a call.
    pub fn write(&mut self, path: &str, metadata: &[Field], block: &mut Vec<u8>) {
        encode::indexed(INDEX_METHOD_POST, block);
        encode::indexed(INDEX_SCHEME_HTTP, block);
        if self.uses_table {
            self.field(":path", path, block);
        } else {
            encode::literal(INDEX_PATH, path.as_bytes(), block);
        }
        self.field(":authority", "member:2379", block);
        self.field("content-type", "application/grpc", block);
        self.field("te", "trailers", block);
        for (name, value) in metadata {
            self.field(name, value, block);
        }
    }

    fn field(&mut self, name: &'static str, value: &str, block: &mut Vec<u8>) {
        if !self.uses_table {
            return encode::literal_new(name.as_bytes(), value.as_bytes(), block);
        }
        let known = self.table.iter().position(|field| field.0 == name && field.1 == value);
        if let Some(place) = known {
            return encode::indexed(DYNAMIC_NEWEST + place, block);
        }
        encode::literal_indexed_new(name.as_bytes(), value.as_bytes(), block);
        self.table_bytes += size_bytes(name, value);
        self.table.push_front((name, value.to_string()));
        while HEADER_TABLE_SIZE_BYTES_MAX < self.table_bytes {
            let (name, value) = self.table.pop_back().expect("what has a size has entries");
            self.table_bytes -= size_bytes(name, &value);
        }
    }
}

fn size_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::http2::hpack::Decoder;

    #[test]
    fn blocks_are_what_a_decoder_reads_while_its_table_turns_over() {
        for uses_table in [false, true] {
            let mut headers = CallHeaders::new(uses_table);
            let mut decoder = Decoder::new(HEADER_TABLE_SIZE_BYTES_MAX, 1);
            for number in 0..200 {
                let timeout = ("grpc-timeout", format!("{}m", number % 150));
                let mut block = Vec::new();
                headers.write("/etcdserverpb.KV/Put", std::slice::from_ref(&timeout), &mut block);
                let mut read = Vec::new();
                decoder
                    .decode(&block, |name, value, _| {
                        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                        read.push((text(name), text(value)));
                    })
                    .unwrap();
                assert_eq!(read.len(), 7);
                assert_eq!(read[2], (":path".to_string(), "/etcdserverpb.KV/Put".to_string()));
                assert_eq!(read[6], (timeout.0.to_string(), timeout.1));
            }
        }
    }
}
