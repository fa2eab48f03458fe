//! What a leader knows of one follower, and how much it may send it.
//!
//! Invariants: matched < next. In `Probe` one append is on its way at most, and only a heartbeat's
//! answer allows the next try. In `Replicate` next runs ahead at sending, within the window. In
//! `Snapshot` no append is sent. Source: Raft thesis section 10.2.1; fact sheet of scenarios D, E.

use std::collections::VecDeque;

use crate::types::{DiskHealth, Index};

/// How entries are sent to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Where the logs agree is not known: one append at a time.
    Probe,
    /// Appends are sent one after the other without waiting.
    Replicate,
    /// It needs what was dropped here: a state transfer runs.
    Snapshot {
        /// Last index of the state that is transferred.
        pending: Index,
    },
}

/// Appends on their way: bounded in number and in bytes.
#[derive(Debug)]
pub(crate) struct Inflights {
    /// Last index and size of each append, oldest first.
    sent: VecDeque<(Index, usize)>,
    size_bytes: usize,
    count_max: usize,
    size_bytes_max: usize,
}

/// One follower or learner, as its leader sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    pub matched: Index,
    pub next: Index,
    pub state: ProgressState,
    /// In `Probe`: an append is on its way, or was lost.
    pub is_probe_sent: bool,
    /// A periodic heartbeat was sent: its answer may show that appends were lost.
    pub is_nudge_due: bool,
    /// Heard of since the last check of the quorum.
    pub is_recently_active: bool,
    /// Highest commit index that was sent along.
    pub commit_sent: Index,
    /// Newest round of heartbeats that it answered, and the leader's tick at which it was sent.
    pub round: u64,
    pub round_tick: u64,
    pub disk: DiskHealth,
    pub inflights: Inflights,
}

impl Inflights {
    pub(crate) fn new(count_max: usize, size_bytes_max: usize) -> Inflights {
        Inflights { sent: VecDeque::new(), size_bytes: 0, count_max, size_bytes_max }
    }

    /// Whether the window takes no further append. One that is larger than the window in bytes
    /// still goes out alone.
    pub(crate) fn is_full(&self) -> bool {
        self.sent.len() == self.count_max || self.size_bytes_max <= self.size_bytes
    }

    pub(crate) fn add(&mut self, last: Index, size_bytes: usize) {
        assert!(!self.is_full());
        assert!(self.sent.back().is_none_or(|(before, _)| *before < last));
        self.sent.push_back((last, size_bytes));
        self.size_bytes += size_bytes;
    }

    /// An answer for `matched` frees every append up to it.
    pub(crate) fn free_to(&mut self, matched: Index) {
        while let Some((last, size_bytes)) = self.sent.front() {
            if matched < *last {
                break;
            }
            self.size_bytes -= size_bytes;
            self.sent.pop_front();
        }
    }

    pub(crate) fn reset(&mut self) {
        self.sent.clear();
        self.size_bytes = 0;
    }

    pub(crate) fn count(&self) -> usize {
        self.sent.len()
    }
}

impl Progress {
    /// A follower of which nothing is known, at the end of the leader's log.
    pub(crate) fn new(next: Index, inflights: Inflights) -> Progress {
        assert!(Index(0) < next);
        Progress {
            matched: Index(0),
            next,
            state: ProgressState::Probe,
            is_probe_sent: false,
            is_nudge_due: false,
            is_recently_active: false,
            commit_sent: Index(0),
            round: 0,
            round_tick: 0,
            disk: DiskHealth::default(),
            inflights,
        }
    }

    pub(crate) fn become_probe(&mut self) {
        // After a transfer the follower holds the state, whatever its answers said before.
        self.next = match self.state {
            ProgressState::Snapshot { pending } => self.matched.next().max(pending.next()),
            ProgressState::Probe | ProgressState::Replicate => self.matched.next(),
        };
        self.reset(ProgressState::Probe);
        self.commit_sent = self.commit_sent.min(self.next.previous());
    }

    pub(crate) fn become_replicate(&mut self) {
        self.reset(ProgressState::Replicate);
        self.next = self.matched.next();
    }

    pub(crate) fn become_snapshot(&mut self, pending: Index) {
        assert!(self.matched < pending);
        self.reset(ProgressState::Snapshot { pending });
        self.next = pending.next();
        self.commit_sent = pending;
    }

    fn reset(&mut self, state: ProgressState) {
        self.is_probe_sent = false;
        self.state = state;
        self.inflights.reset();
    }

    /// Whether nothing may be sent now.
    pub(crate) fn is_paused(&self) -> bool {
        match self.state {
            ProgressState::Probe => self.is_probe_sent,
            ProgressState::Replicate => self.inflights.is_full(),
            ProgressState::Snapshot { .. } => true,
        }
    }

    /// An append with `size_bytes` of entries up to `last` was sent.
    pub(crate) fn on_sent(&mut self, last: Index, size_bytes: usize) {
        assert!(self.next <= last);
        match self.state {
            ProgressState::Replicate => {
                self.next = last.next();
                self.inflights.add(last, size_bytes);
            }
            ProgressState::Probe => self.is_probe_sent = true,
            ProgressState::Snapshot { .. } => panic!("an append during a state transfer"),
        }
    }

    /// The follower holds everything up to `matched`. Answers whether that is news.
    pub(crate) fn maybe_match(&mut self, matched: Index) -> bool {
        let is_news = self.matched < matched;
        if is_news {
            self.matched = matched;
            self.is_probe_sent = false;
        }
        self.next = self.next.max(self.matched.next());
        is_news
    }

    /// The follower does not hold the entry `rejected` that an append followed. `hint` is the last
    /// index that may agree. Answers false for an answer that is out of date.
    pub(crate) fn maybe_step_back(&mut self, rejected: Index, hint: Index) -> bool {
        match self.state {
            ProgressState::Replicate => {
                if rejected <= self.matched {
                    return false;
                }
                self.become_probe();
                true
            }
            ProgressState::Snapshot { .. } => false,
            ProgressState::Probe => {
                // One append at a time: anything but an answer to that one is old.
                if self.next.previous() != rejected {
                    return false;
                }
                let agreed = rejected.min(hint.next()).max(Index(1));
                self.next = agreed.max(self.matched.next());
                self.is_probe_sent = false;
                self.commit_sent = self.commit_sent.min(self.next.previous());
                true
            }
        }
    }
}

#[cfg(test)]
#[path = "progress_test.rs"]
mod tests;
