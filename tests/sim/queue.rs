//! What is to happen, by time: the only order of the world.
//!
//! Invariants: two events of one time happen in the order in which they were pushed; of the steps
//! of one core only the one that was pushed last is there.

use std::cmp::Reverse;
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

/// When something happens: time, then the order of pushing.
type Place = (u64, u64);

/// See the file's head.
#[derive(Debug, Default)]
pub struct Queue {
    /// Places, and slots of `happenings`; the heap's greatest is the first.
    heap: BinaryHeap<Reverse<(Place, u32)>>,
    happenings: Vec<Option<Happening>>,
    /// Slots that hold nothing.
    free: Vec<u32>,
    /// Every other thing that happens is a step, and most of them are put off or hurried before
    /// they happen: there are few cores, so they stand beside the heap.
    steps: Vec<(Place, CoreOf)>,
    pushed: u64,
}

/// A core of a life.
#[derive(Clone, Copy, Debug)]
struct CoreOf {
    member: usize,
    life: u64,
    core: usize,
}

impl Queue {
    /// Something is to happen at a time. A step takes the place of another one of its core.
    pub fn push(&mut self, at_us: u64, happening: Happening) {
        self.pushed += 1;
        let place = (at_us, self.pushed);
        if let Happening::Step { member, life, core } = happening {
            return self.push_step(place, CoreOf { member, life, core });
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            u32::try_from(self.happenings.len() - 1).expect("so much does not fit in memory")
        });
        let empty = self.happenings[slot as usize].replace(happening);
        assert!(empty.is_none(), "the slot was free");
        self.heap.push(Reverse((place, slot)));
    }

    fn push_step(&mut self, place: Place, of: CoreOf) {
        let is_of =
            |(_, other): &&mut (Place, CoreOf)| (other.member, other.core) == (of.member, of.core);
        match self.steps.iter_mut().find(is_of) {
            Some(step) => *step = (place, of),
            None => self.steps.push((place, of)),
        }
    }

    /// The next thing.
    pub fn pop(&mut self) -> Option<(u64, Happening)> {
        let first = self.heap.peek().map(|Reverse((place, _))| *place);
        let step = self.steps.iter().enumerate().min_by_key(|(_, (place, _))| *place);
        if let Some((number, (place, _))) = step
            && first.is_none_or(|first| *place < first)
        {
            let ((at_us, _), CoreOf { member, life, core }) = self.steps.swap_remove(number);
            return Some((at_us, Happening::Step { member, life, core }));
        }
        let Reverse(((at_us, _), slot)) = self.heap.pop()?;
        self.free.push(slot);
        let happening = self.happenings[slot as usize].take();
        Some((at_us, happening.expect("a place has something to happen")))
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

    #[test]
    fn a_step_stands_in_the_order_of_all_and_once_for_each_core() {
        let mut queue = Queue::default();
        let client = |client| Happening::Client { client };
        let step = |member, life, core| Happening::Step { member, life, core };
        queue.push(5, step(0, 1, 0));
        queue.push(5, client(1));
        queue.push(9, step(1, 1, 0));
        queue.push(5, step(1, 2, 0));
        queue.push(5, step(1, 2, 1));
        queue.push(4, client(2));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            order,
            [
                (4, client(2)),
                (5, step(0, 1, 0)),
                (5, client(1)),
                (5, step(1, 2, 0)),
                (5, step(1, 2, 1))
            ]
        );
        queue.push(7, client(3));
        assert_eq!(queue.pop(), Some((7, client(3))));
        assert_eq!(queue.happenings.len(), 2, "slots are used again");
    }
}
