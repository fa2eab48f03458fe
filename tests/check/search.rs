//! Is there an order of these operations that respects their times and a sequential object?
//!
//! Wing and Gong's search: an operation may come next if no other one returned before it began;
//! states already tried with the same operations done are not tried again (Lowe's memory, as in
//! Porcupine). An operation that never returned may come anywhere after it began, or never.
//! Sources: Wing and Gong, Testing and Verifying Concurrent Objects (1993); Lowe, Testing for
//! Linearizability (2017).

use std::collections::BTreeSet;

use super::history::NEVER_US;

/// An operation with its times.
#[derive(Clone, Debug)]
pub struct Timed<O> {
    /// When it began.
    pub invoked_us: u64,
    /// When it returned; `NEVER_US` if it did not.
    pub returned_us: u64,
    /// What it did and what it was told.
    pub operation: O,
}

/// Whether `step` can take `initial` through all operations that returned. `step` answers the state
/// after an operation, or `None` where the operation cannot have been told what it was.
pub fn is_linearizable<S: Clone + Ord, O>(
    initial: S,
    operations: &[Timed<O>],
    step: impl Fn(&S, &Timed<O>) -> Option<S>,
) -> bool {
    let words = operations.len().div_ceil(64);
    let mut stack = vec![(vec![0u64; words], initial)];
    let mut tried = BTreeSet::new();
    while let Some((done, state)) = stack.pop() {
        let open = |slot: &usize| done[slot / 64] & (1 << (slot % 64)) == 0;
        let first_return_us = (0..operations.len())
            .filter(open)
            .map(|slot| operations[slot].returned_us)
            .min()
            .unwrap_or(NEVER_US);
        if first_return_us == NEVER_US {
            return true;
        }
        // The last one pushed is tried first: it is the earliest to return.
        let mut next: Vec<usize> = (0..operations.len())
            .filter(open)
            .filter(|slot| operations[*slot].invoked_us <= first_return_us)
            .collect();
        next.sort_by_key(|slot| std::cmp::Reverse(operations[*slot].returned_us));
        for slot in next {
            let Some(after) = step(&state, &operations[slot]) else { continue };
            let mut now_done = done.clone();
            now_done[slot / 64] |= 1 << (slot % 64);
            if tried.insert((now_done.clone(), after.clone())) {
                stack.push((now_done, after));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: writes, and reads of what was read.
    enum Operation {
        Write(u8),
        Read(u8),
    }

    fn step(state: &u8, timed: &Timed<Operation>) -> Option<u8> {
        match timed.operation {
            Operation::Write(value) => Some(value),
            Operation::Read(value) => (value == *state).then_some(value),
        }
    }

    fn judge(operations: Vec<(u64, u64, Operation)>) -> bool {
        let timed = operations.into_iter().map(|(invoked_us, returned_us, operation)| Timed {
            invoked_us,
            returned_us,
            operation,
        });
        is_linearizable(0, &timed.collect::<Vec<_>>(), step)
    }

    #[test]
    fn a_concurrent_write_may_be_seen_or_not() {
        use Operation::{Read, Write};
        assert!(judge(vec![(0, 10, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]));
        assert!(!judge(vec![(0, 10, Write(1)), (1, 2, Read(1)), (3, 4, Read(0))]));
        assert!(!judge(vec![(0, 10, Write(1)), (11, 12, Read(0))]));
    }

    #[test]
    fn what_never_returned_may_have_happened_late_or_never() {
        use Operation::{Read, Write};
        let lost = || (0, NEVER_US, Write(1));
        assert!(judge(vec![lost(), (5, 6, Read(0)), (7, 8, Read(1))]));
        assert!(judge(vec![lost(), (5, 6, Read(0)), (7, 8, Read(0))]));
        assert!(!judge(vec![lost(), (5, 6, Read(1)), (7, 8, Read(0))]));
        assert!(!judge(vec![(5, NEVER_US, Write(1)), (1, 2, Read(1))]));
    }
}
