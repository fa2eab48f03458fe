//! Events in the order they happened, for watchers that catch up.

/// Where a scan of history stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryProgress {
    /// All events up to the upper bound were shown.
    Done,
    /// The budget is spent or the sink said stop: go on from this main revision. Events of one
    /// revision are never split between calls.
    More {
        /// Main revision to go on from.
        next: i64,
    },
}

/// What a sink answers to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Go on.
    Ready,
    /// Enough: stop at the end of this event's revision.
    Full,
}
