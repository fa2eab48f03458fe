//! What is to happen, by time: the only order of the world.
//!
//! Invariant: two events of one time happen in the order in which they were pushed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use engine::wal::position::SegmentId;
use shard::input::DialId;

use super::ambush::Blow;
use super::network::LinkId;

/// One thing to happen. What names a life is forgotten if the process has ended since.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Happening {
    Step {
        member: usize,
        life: u64,
        core: usize,
    },
    /// The next of what one core said to another is heard.
    Crosses {
        member: usize,
        life: u64,
        from: usize,
        to: usize,
    },
    WalSynced {
        member: usize,
        life: u64,
    },
    /// `fresh_size_bytes` is 0 for a file that was renamed.
    SegmentReady {
        member: usize,
        life: u64,
        segment: SegmentId,
        fresh_size_bytes: u64,
    },
    PagesSynced {
        member: usize,
        life: u64,
        interval: u64,
    },
    MetaSynced {
        member: usize,
        life: u64,
        interval: u64,
    },
    SideSynced {
        member: usize,
        life: u64,
        number: u64,
    },
    PagesInstalled {
        member: usize,
        life: u64,
    },
    DialEnds {
        member: usize,
        life: u64,
        dial: DialId,
        url: String,
    },
    DialFails {
        member: usize,
        life: u64,
        dial: DialId,
    },
    /// Bytes of one direction of a link may have arrived.
    Arrives {
        link: LinkId,
        from_end: usize,
    },
    /// A link breaks, whatever is on it.
    Breaks {
        link: LinkId,
    },
    /// A closing end waits no longer for its unsent bytes.
    CloseEnds {
        link: LinkId,
        end: usize,
    },
    Client {
        client: usize,
    },
    ConnectEnds {
        client: usize,
        member: usize,
        attempt: u64,
    },
    PowerGoes {
        member: usize,
        life: u64,
    },
    Starts {
        member: usize,
    },
    Fault {
        kind: usize,
    },
    Heals {
        cut: u64,
    },
    /// A part of an ambush.
    Struck {
        blow: Blow,
    },
    Phase,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Due>,
    pushed: u64,
}

/// Something and its place: time, then the order of pushing. The heap's greatest is the first.
#[derive(Debug)]
struct Due {
    place: Reverse<(u64, u64)>,
    happening: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.place == other.place
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl Queue {
    /// Something is to happen at a time.
    pub fn push(&mut self, at_us: u64, happening: Happening) {
        self.pushed += 1;
        self.heap.push(Due { place: Reverse((at_us, self.pushed)), happening });
    }

    /// The next thing.
    pub fn pop(&mut self) -> Option<(u64, Happening)> {
        let Due { place: Reverse((at_us, _)), happening } = self.heap.pop()?;
        Some((at_us, happening))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_then_the_order_of_pushing() {
        let mut queue = Queue::default();
        let client = |client| Happening::Client { client };
        queue.push(5, client(1));
        queue.push(3, client(2));
        queue.push(5, client(0));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(3, client(2)), (5, client(1)), (5, client(0))]);
    }
}
