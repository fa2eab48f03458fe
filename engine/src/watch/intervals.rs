//! Which of many intervals of keys contain a key: a treap by start, that knows the farthest end
//! below each node.
//!
//! Invariants: nodes are unique by (start, end); parents have higher priorities than children; the
//! priorities come from the numbers of the nodes, so the shape is a function of the history of
//! calls. A key costs O(log n) for each interval found, whatever lies beside them.

use std::cmp::Ordering;

/// Number of an interval: the caller's, small and reused.
pub(crate) type IntervalSlot = u32;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    start: Box<[u8]>,
    /// `None` is open.
    end: Option<Box<[u8]>>,
    priority: u64,
    left: u32,
    right: u32,
    /// The node below (or this) whose interval ends last.
    farthest: u32,
}

/// The set of intervals.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    nodes: Vec<Option<Node>>,
    root: u32,
    /// Feeds the priorities.
    inserted: u64,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals { nodes: Vec::new(), root: NONE, inserted: 0 }
    }
}

fn compare_ends(one: Option<&[u8]>, other: Option<&[u8]>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

/// splitmix64's finish: neighbours in, strangers out.
fn priority(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Intervals {
    fn node(&self, slot: u32) -> &Node {
        self.nodes[slot as usize].as_ref().expect("links lead to nodes")
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node {
        self.nodes[slot as usize].as_mut().expect("links lead to nodes")
    }

    fn compare(&self, start: &[u8], end: Option<&[u8]>, slot: u32) -> Ordering {
        let node = self.node(slot);
        start.cmp(&node.start).then_with(|| compare_ends(end, node.end.as_deref()))
    }

    /// The interval with exactly these bounds.
    pub(crate) fn find(&self, start: &[u8], end: Option<&[u8]>) -> Option<IntervalSlot> {
        let mut at = self.root;
        while at != NONE {
            match self.compare(start, end, at) {
                Ordering::Equal => return Some(at),
                Ordering::Less => at = self.node(at).left,
                Ordering::Greater => at = self.node(at).right,
            }
        }
        None
    }

    /// Adds an interval that is not there under a free number.
    pub(crate) fn insert(&mut self, slot: IntervalSlot, start: &[u8], end: Option<&[u8]>) {
        let index = slot as usize;
        if self.nodes.len() <= index {
            self.nodes.resize(index + 1, None);
        }
        assert!(self.nodes[index].is_none());
        self.inserted += 1;
        self.nodes[index] = Some(Node {
            start: start.into(),
            end: end.map(Box::from),
            priority: priority(self.inserted),
            left: NONE,
            right: NONE,
            farthest: slot,
        });
        let (left, right) = self.split(self.root, start, end);
        let left = self.merge(left, slot);
        self.root = self.merge(left, right);
    }

    /// Removes an interval.
    pub(crate) fn remove(&mut self, slot: IntervalSlot) {
        let node = self.node(slot);
        let (start, end) = (node.start.clone(), node.end.clone());
        let (left, rest) = self.split(self.root, &start, end.as_deref());
        let (removed, rest) = self.pop_first(rest);
        assert!(removed == slot);
        self.root = self.merge(left, rest);
        self.nodes[slot as usize] = None;
    }

    /// Calls `found` for every interval that contains `key`, by start and end.
    pub(crate) fn containing(&self, key: &[u8], found: &mut dyn FnMut(IntervalSlot)) {
        self.visit(self.root, key, found);
    }

    fn visit(&self, slot: u32, key: &[u8], found: &mut dyn FnMut(IntervalSlot)) {
        if slot == NONE {
            return;
        }
        let node = self.node(slot);
        let ends_behind = |end: Option<&[u8]>| end.is_none_or(|end| key < end);
        if !ends_behind(self.node(node.farthest).end.as_deref()) {
            return;
        }
        self.visit(node.left, key, found);
        if *node.start <= *key {
            if ends_behind(node.end.as_deref()) {
                found(slot);
            }
            self.visit(node.right, key, found);
        }
    }

    /// Parts a subtree into what sorts before (start, end), and the rest.
    fn split(&mut self, slot: u32, start: &[u8], end: Option<&[u8]>) -> (u32, u32) {
        if slot == NONE {
            return (NONE, NONE);
        }
        if self.compare(start, end, slot) == Ordering::Greater {
            let (middle, right) = self.split(self.node(slot).right, start, end);
            self.node_mut(slot).right = middle;
            self.refresh(slot);
            (slot, right)
        } else {
            let (left, middle) = self.split(self.node(slot).left, start, end);
            self.node_mut(slot).left = middle;
            self.refresh(slot);
            (left, slot)
        }
    }

    /// Joins two subtrees, all of the first before all of the second.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.node(right).priority < self.node(left).priority {
            let joined = self.merge(self.node(left).right, right);
            self.node_mut(left).right = joined;
            self.refresh(left);
            left
        } else {
            let joined = self.merge(left, self.node(right).left);
            self.node_mut(right).left = joined;
            self.refresh(right);
            right
        }
    }

    /// Takes the first node out of a subtree.
    fn pop_first(&mut self, slot: u32) -> (u32, u32) {
        assert!(slot != NONE);
        let (left, right) = (self.node(slot).left, self.node(slot).right);
        if left == NONE {
            return (slot, right);
        }
        let (first, left) = self.pop_first(left);
        self.node_mut(slot).left = left;
        self.refresh(slot);
        (first, slot)
    }

    fn refresh(&mut self, slot: u32) {
        let node = self.node(slot);
        let mut farthest = slot;
        for child in [node.left, node.right] {
            if child == NONE {
                continue;
            }
            let candidate = self.node(child).farthest;
            let (one, other) = (&self.node(candidate).end, &self.node(farthest).end);
            if compare_ends(other.as_deref(), one.as_deref()) == Ordering::Less {
                farthest = candidate;
            }
        }
        self.node_mut(slot).farthest = farthest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Bounds = (Vec<u8>, Option<Vec<u8>>);

    fn check(steps: Vec<(bool, Vec<u8>, Option<Vec<u8>>)>, probes: &[Vec<u8>]) {
        let mut tree = Intervals::default();
        let mut model: Vec<Option<Bounds>> = Vec::new();
        for (is_insert, start, end) in steps {
            let found = tree.find(&start, end.as_deref());
            let known = model.iter().position(|bounds| {
                bounds.as_ref().is_some_and(|(one, other)| (one, other) == (&start, &end))
            });
            assert_eq!(found.map(|slot| slot as usize), known);
            match found {
                None if is_insert => {
                    let slot = model.iter().position(Option::is_none).unwrap_or(model.len());
                    model.resize(model.len().max(slot + 1), None);
                    tree.insert(slot as u32, &start, end.as_deref());
                    model[slot] = Some((start, end));
                }
                Some(slot) if !is_insert => {
                    tree.remove(slot);
                    model[slot as usize] = None;
                }
                _ => {}
            }
            for probe in probes {
                let mut found = Vec::new();
                tree.containing(probe, &mut |slot| found.push(slot as usize));
                found.sort_unstable();
                let contains = |bounds: &Option<Bounds>| {
                    bounds.as_ref().is_some_and(|(start, end)| {
                        start <= probe && end.as_ref().is_none_or(|end| probe < end)
                    })
                };
                let expected: Vec<usize> =
                    (0..model.len()).filter(|slot| contains(&model[*slot])).collect();
                assert_eq!(found, expected);
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_scan_finds(
            steps in proptest::collection::vec(
                (
                    any::<bool>(),
                    proptest::collection::vec(0_u8..4, 0..3),
                    proptest::option::of(proptest::collection::vec(0_u8..4, 0..3)),
                ),
                0..60,
            ),
            probes in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..4), 1..6),
        ) {
            check(steps, &probes);
        }
    }

    #[test]
    fn a_sorted_history_makes_no_list_of_it() {
        let mut tree = Intervals::default();
        for slot in 0..20_000_u32 {
            tree.insert(slot, &slot.to_be_bytes(), Some(&(slot + 1).to_be_bytes()));
        }
        fn depth(tree: &Intervals, slot: u32) -> usize {
            if slot == NONE {
                return 0;
            }
            let node = tree.node(slot);
            1 + depth(tree, node.left).max(depth(tree, node.right))
        }
        assert!(depth(&tree, tree.root) < 60);
    }
}
