//! Bytes written through the page cache leave for the disk as they come, little at a time.
//!
//! Whoever syncs something else on the same disk, the log first of all, stands behind what is being
//! written: a burst left to a sync at the end is felt there, the same bytes in small pieces are less
//! so. What lies side by side in the file goes in one request, whatever order it was written in.
//! Invariant: of one writer at most two pieces are on their way. This makes nothing durable: that
//! is what a sync is for.
//! Source: sync_file_range(2).

use std::{fs::File, io, os::fd::AsRawFd};

/// How much of a file has not begun to be written back; one writer, one file at a time.
#[derive(Debug, Default)]
pub struct WriteBack {
    waiting_size_bytes: usize,
}

impl WriteBack {
    /// Bytes were written: once there are enough of them, waits for the piece before and begins to
    /// write this one back. Says whether it did.
    ///
    /// # Errors
    /// What the disk says of bytes written before.
    pub fn wrote(&mut self, file: &File, size_bytes: usize) -> io::Result<bool> {
        self.waiting_size_bytes += size_bytes;
        if self.waiting_size_bytes < PIECE_SIZE_BYTES {
            return Ok(false);
        }
        self.waiting_size_bytes = 0;
        begin(file).map(|()| true)
    }
}

/// Waits for what of the file is on its way, and begins with all that is not.
fn begin(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the call touches no memory of this process, and the descriptor is open as long as
    // `file` is borrowed.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A file system without it writes back when it likes: slower for others, not wrong.
        Some(libc::ENOSYS | libc::ESPIPE | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

/// Bytes that are worth a request to the disk, and that it takes in well under a millisecond.
const PIECE_SIZE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_written_begins_to_leave_piece_by_piece() {
        let file = tempfile::tempfile().unwrap();
        let mut write_back = WriteBack::default();
        let page = vec![7; 4096];
        let pieces = (0..200_u64)
            .filter(|n| {
                // From the end to the beginning, with holes.
                file.write_all_at(&page, (200 - n) * 8192).unwrap();
                write_back.wrote(&file, page.len()).unwrap()
            })
            .count();
        assert_eq!(pieces, 200 * 4096 / PIECE_SIZE_BYTES);
        assert!(write_back.wrote(&file, PIECE_SIZE_BYTES).unwrap(), "more than a piece at once");
    }

    #[test]
    fn what_has_no_places_is_no_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(WriteBack::default().wrote(&file, 1 << 20).unwrap());
        drop(reader);
    }
}
