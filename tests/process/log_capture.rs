//! What a process writes to its standard error, line by line, for those who wait for a line.
//!
//! Invariant: at most [`LINES_MAX`] lines are kept, the oldest go first; the pipe is always read,
//! so that a chatty process never stops at a full one.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Lines dropped from the front of `kept`.
    dropped: usize,
    is_closed: bool,
}

/// The lines so far. Clones see the same lines.
#[derive(Clone, Default)]
pub struct LogCapture {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

impl LogCapture {
    /// Reads `source` to its end on a thread of its own.
    pub fn start(source: impl Read + Send + 'static) -> LogCapture {
        let capture = LogCapture::default();
        let writer = capture.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(source);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| 0 < read) {
                writer.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            writer.close();
        });
        capture
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        if lines.kept.len() == LINES_MAX {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines.kept.push_back(line);
        self.shared.1.notify_all();
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.shared.1.notify_all();
    }

    /// Waits until a line holds `text`, and answers that line; `None` when the process closed its
    /// standard error, or `patience` ran out, without one.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut lines = self.lock();
        let mut seen = lines.dropped;
        loop {
            let unseen = seen.saturating_sub(lines.dropped);
            if let Some(line) = lines.kept.iter().skip(unseen).find(|line| line.contains(text)) {
                return Some(line.clone());
            }
            seen = lines.dropped + lines.kept.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.is_closed || left.is_zero() {
                return None;
            }
            let waited = self.shared.1.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for `count` lines, and answers the first so many that came within `patience`.
    pub fn wait_for_count(&self, count: usize, patience: Duration) -> Vec<String> {
        let is_short = |lines: &mut Lines| lines.kept.len() < count && !lines.is_closed;
        let waited = self.shared.1.wait_timeout_while(self.lock(), patience, is_short);
        let lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        lines.kept.iter().take(count).cloned().collect()
    }

    /// Whether a line so far holds `text`.
    pub fn contains(&self, text: &str) -> bool {
        self.lock().kept.iter().any(|line| line.contains(text))
    }

    /// Whether the process has closed its standard error.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// The last `count` lines, for the message of a failing test.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lock();
        let skipped = lines.kept.len().saturating_sub(count);
        lines.kept.iter().skip(skipped).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Lines kept of one process.
const LINES_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_whether_it_came_before_or_comes_after_the_wait() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let capture = LogCapture::start(reader);
        use std::io::Write;
        writer.write_all(b"first\nsecond ready\n").unwrap();
        assert_eq!(capture.wait_for("ready", LONG).unwrap(), "second ready");
        assert_eq!(capture.wait_for("first", LONG).unwrap(), "first");
        drop(writer);
        assert_eq!(capture.wait_for("never", LONG), None);
        assert_eq!(capture.tail(1), "second ready");
    }

    const LONG: Duration = Duration::from_secs(30);
}
