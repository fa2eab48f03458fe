//! The sender: pages out of a page file, in the state that is asked for or not at all.
//!
//! A checkpoint's pages stay as they are while it is the newest durable one and for two intervals
//! after that: what the next one frees is pending in it and in the one behind it. So a receiver that
//! is told of the newest checkpoint has at least two intervals for it, and is told of a newer one
//! when a page has gone. Invariant: what is handed out has the checksum that was asked for.

use super::Wanted;
use crate::page::checkpoint::PageWrite;
use crate::page::limits::RUN_PAGES_MAX;
use crate::page::map::{PAGE_SIZE_BYTES, PageMap, checksum};

/// The bytes of a run with the content that is asked for; `None` if the file does not hold it (any
/// more). `in_flight` are the pages that are being written now, by ascending number: they are not
/// read, whatever they held before.
pub fn read<M: PageMap>(map: &M, wanted: &Wanted, in_flight: &[PageWrite]) -> Option<Vec<u8>> {
    let Wanted { first, count, .. } = *wanted;
    if first.0 < 2 || count == 0 || RUN_PAGES_MAX < count {
        return None;
    }
    let end = first.0.checked_add(u64::from(count))?;
    let behind = in_flight.partition_point(|write| write.first.0 < end);
    let is_written =
        |write: &PageWrite| first.0 < write.first.0 + (write.bytes.len() / PAGE_SIZE_BYTES) as u64;
    if in_flight[..behind].last().is_some_and(is_written) {
        return None;
    }
    let bytes = map.pages(first, count, wanted.checksum).ok()?.to_vec();
    // A map looks at a page once, and may have done so for another content.
    (checksum(&bytes) == wanted.checksum).then_some(bytes)
}
