//! One follower's progress alone: the window, and what stale answers may do.
//! Source: fact sheet of scenarios 48 to 51, 54 to 57.

use super::*;

fn progress(matched: u64, next: u64, state: ProgressState) -> Progress {
    let mut progress = Progress::new(Index(next), Inflights::new(3, 100));
    progress.matched = Index(matched);
    progress.state = state;
    progress
}

#[test]
fn the_window_is_full_by_count_or_by_bytes_and_frees_what_is_answered() {
    let mut window = Inflights::new(3, 100);
    for last in [1, 3, 5] {
        assert!(!window.is_full());
        window.add(Index(last), 10);
    }
    assert!(window.is_full());
    window.free_to(Index(0));
    window.free_to(Index(0));
    assert_eq!(window.count(), 3, "a stale answer frees nothing");
    window.free_to(Index(4));
    assert_eq!(window.count(), 1);
    window.add(Index(9), 500);
    assert!(window.is_full(), "by bytes");
    window.free_to(Index(9));
    assert_eq!((window.count(), window.size_bytes), (0, 0));
}

#[test]
fn an_old_answer_never_moves_a_follower_back() {
    let mut progress = progress(5, 9, ProgressState::Replicate);
    assert!(!progress.maybe_match(Index(4)));
    assert!(!progress.maybe_match(Index(5)));
    assert_eq!((progress.matched, progress.next), (Index(5), Index(9)));
    assert!(progress.maybe_match(Index(8)));
    assert_eq!((progress.matched, progress.next), (Index(8), Index(9)));
    assert!(progress.maybe_match(Index(12)));
    assert_eq!(progress.next, Index(13));
}

#[test]
fn a_rejection_steps_back_once_and_not_below_what_matches() {
    // (state, matched, next, rejected, hint) -> next, or none when the answer is old
    let replicate = ProgressState::Replicate;
    let probe = ProgressState::Probe;
    let transfer = ProgressState::Snapshot { pending: Index(9) };
    let cases = [
        (replicate, 5, 10, 5, 5, None),
        (replicate, 5, 10, 4, 4, None),
        (replicate, 5, 10, 9, 9, Some(6)),
        (probe, 0, 10, 8, 8, None),
        (probe, 0, 10, 9, 3, Some(4)),
        (probe, 0, 10, 9, 99, Some(9)),
        (probe, 0, 10, 9, 0, Some(1)),
        (probe, 5, 10, 9, 2, Some(6)),
        (transfer, 0, 10, 9, 3, None),
    ];
    for (state, matched, next, rejected, hint, expected) in cases {
        let mut progress = progress(matched, next, state);
        progress.is_probe_sent = state == probe;
        let is_taken = progress.maybe_step_back(Index(rejected), Index(hint));
        assert_eq!(is_taken, expected.is_some(), "{state:?} {rejected} {hint}");
        assert_eq!(progress.next, Index(expected.unwrap_or(next)));
        assert!(progress.matched < progress.next);
        assert_eq!(progress.is_paused(), !is_taken && state != replicate);
    }
}

#[test]
fn a_transfer_ends_in_probing_after_what_it_brought() {
    let mut progress = progress(3, 4, ProgressState::Probe);
    progress.become_snapshot(Index(20));
    assert!(progress.is_paused());
    assert!(progress.maybe_match(Index(5)));
    progress.become_probe();
    assert_eq!(progress.next, Index(21));
    progress.become_replicate();
    assert_eq!(progress.next, Index(6), "only what is acknowledged counts");
}
