//! Removing what lies below a key from the left edge, in bounded pieces.
//!
//! One round works on the leftmost branch over leaves: its children below the key go together,
//! unread unless their visit flag is set. What is left is one leaf that holds the key's place.
//! Invariant: everything a round needs is read, and flagged entries are shown, before its first
//! change (but for neighbours that a shrunken page joins).

use super::change::Delta;
use super::regroup::Edit;
use super::search::{Path, Step, compare, search_branch, search_leaf, whole_key};
use super::{Summary, Tree};
use crate::page::cells::CellList;
use crate::page::layout::RunRef;
use crate::page::limits::TREE_HEIGHT_MAX;
use crate::page::map::{Checksum, Corruption, PageMap, PageNumber};
use crate::page::node::{Node, remove_cell};
use crate::page::store::Store;
use std::cmp::Ordering;

/// How far a bounded removal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// Nothing below the key is left.
    Done,
    /// The page budget was used up; call again.
    More,
}

impl Tree {
    /// Removes entries below `key` from the left edge, freeing or reading about `pages_max` pages.
    /// Entries with the visit flag (and only they) are shown to `on_flagged` (key, value) in order,
    /// before they go; leaves without one are freed unread. Runs of long keys are freed here, runs
    /// named by values are the caller's.
    pub fn trim_before<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        key: &[u8],
        pages_max: usize,
        on_flagged: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Trimmed, Corruption> {
        assert!(0 < pages_max);
        let mut pages_left = pages_max;
        while 0 < self.height {
            let mut path = self.left_edge(store)?;
            let leaves = match self.leaves_below(store, &path, key)? {
                0 => {
                    self.trim_leaf(store, &mut path, key, on_flagged)?;
                    return Ok(Trimmed::Done);
                }
                leaves => leaves.min(pages_left),
            };
            self.trim_leaves(store, &mut path, leaves, on_flagged)?;
            pages_left -= leaves;
            if pages_left == 0 {
                return Ok(Trimmed::More);
            }
        }
        Ok(Trimmed::Done)
    }

    /// Reads every page that [`Tree::trim_before`] may read, and shows the entries that it shows.
    pub fn warm_trim_before<M: PageMap>(
        &self,
        store: &Store<M>,
        key: &[u8],
        pages_max: usize,
        on_flagged: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Corruption> {
        if 0 < self.height {
            let mut look = Look { store, key, leaves_left: pages_max, on_flagged };
            look.visit(self.root, self.checksum, self.height - 1)?;
        }
        Ok(())
    }

    /// The way to the first leaf, which itself is not read.
    fn left_edge<M: PageMap>(&self, store: &Store<M>) -> Result<Path, Corruption> {
        let height = self.height as usize;
        let mut path = Path {
            steps: [Step::default(); TREE_HEIGHT_MAX],
            height,
            found: false,
            right_edge: false,
        };
        let (mut page, mut checksum) = (self.root, self.checksum);
        for depth in 0..height {
            path.steps[depth] = Step { page, slot: 0 };
            if depth + 1 < height {
                (page, checksum) = Node::new(store.page(page, checksum)?).child(0);
            }
        }
        Ok(path)
    }

    /// How many leaves of the leftmost branch lie wholly below `key`.
    fn leaves_below<M: PageMap>(
        &self,
        store: &Store<M>,
        path: &Path,
        key: &[u8],
    ) -> Result<usize, Corruption> {
        if path.height < 2 {
            return Ok(0);
        }
        let branch = self.edge_node(store, path, path.height - 2)?;
        let slot = search_branch(store, branch, key)?;
        if slot + 1 < branch.count() {
            return Ok(slot);
        }
        // The last child ends where the next branch begins: its separator is the first that a
        // higher branch has.
        for depth in (0..path.height - 2).rev() {
            let node = self.edge_node(store, path, depth)?;
            if 1 < node.count() {
                let below = compare(store, node.branch_key(1), key)? != Ordering::Greater;
                return Ok(slot + below as usize);
            }
        }
        Ok(slot)
    }

    fn edge_node<'s, M: PageMap>(
        &self,
        store: &'s Store<M>,
        path: &Path,
        depth: usize,
    ) -> Result<Node<'s>, Corruption> {
        let (mut page, mut checksum) = (self.root, self.checksum);
        for _ in 0..depth {
            (page, checksum) = Node::new(store.page(page, checksum)?).child(0);
        }
        assert!(page == path.steps[depth].page);
        Ok(Node::new(store.page(page, checksum)?))
    }

    /// Removes the first `leaves` leaves of the leftmost branch.
    fn trim_leaves<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        leaves: usize,
        on_flagged: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Corruption> {
        let depth = path.height - 2;
        let mut key_runs = Vec::new();
        let branch = self.edge_node(store, path, depth)?;
        for slot in 0..leaves {
            let cell = branch.branch_cell(slot);
            if cell.summary.visit {
                let leaf = Node::new(store.page(cell.child, cell.checksum)?);
                show_flagged(store, leaf, leaf.count(), &mut key_runs, on_flagged)?;
            }
        }
        let gone = branch.summary_before(leaves);
        // The way ends at the branch: the first leaf need not be touched to be freed.
        path.height = depth + 1;
        self.touch_path(store, path)?;
        path.height = depth + 2;
        let page = path.steps[depth].page;
        for slot in 0..leaves {
            let cell = Node::new(store.image_mut(page)).branch_cell(slot);
            let (child, separator) = (cell.child, cell.key.run);
            store.free(child);
            key_runs.extend(separator);
        }
        key_runs.iter().for_each(|run| store.free_run(run));
        let delta = Delta::between(gone, Summary::default());
        let edit = Edit { depth, at: 0, drop: leaves };
        let mut given: CellList = std::mem::take(&mut store.scratch[0]);
        given.clear();
        self.apply(store, path, edit, given, delta)
    }

    /// Removes what is below `key` from the first leaf, which holds the key's place.
    fn trim_leaf<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        key: &[u8],
        on_flagged: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Corruption> {
        let leaf = self.edge_node(store, path, path.height - 1)?;
        let (count, _) = search_leaf(store, leaf, key)?;
        if count == 0 {
            return Ok(());
        }
        let mut key_runs = Vec::new();
        show_flagged(store, leaf, count, &mut key_runs, on_flagged)?;
        let gone = leaf.summary_before(count);
        self.touch_path(store, path)?;
        let page = path.leaf().page;
        for _ in 0..count {
            remove_cell(store.image_mut(page), 0);
        }
        key_runs.iter().for_each(|run| store.free_run(run));
        // What is left may have a visit flag of its own: ask.
        let delta = Delta::between(gone, Summary::default());
        self.apply_low(store, path, delta)
    }
}

/// A removal from the left edge that changes nothing.
struct Look<'l, M> {
    store: &'l Store<M>,
    key: &'l [u8],
    /// Leaves that the removal may still free.
    leaves_left: usize,
    on_flagged: &'l mut dyn FnMut(&[u8], &[u8]),
}

impl<M: PageMap> Look<'_, M> {
    /// Reads what is removed below a page; false when that is all.
    fn visit(
        &mut self,
        page: PageNumber,
        checksum: Checksum,
        level: u8,
    ) -> Result<bool, Corruption> {
        let store = self.store;
        let node = Node::new(store.page(page, checksum)?);
        if level == 0 {
            let (count, _) = search_leaf(store, node, self.key)?;
            show_flagged(store, node, count, &mut Vec::new(), self.on_flagged)?;
            return Ok(count == node.count());
        }
        let last = search_branch(store, node, self.key)?;
        let mut goes_on = true;
        for slot in 0..node.count() {
            let cell = node.branch_cell(slot);
            if !goes_on || last < slot || (level == 1 && self.leaves_left == 0) {
                // What is left of the page before may join this one, or it is the first one left.
                store.page(cell.child, cell.checksum)?;
                return Ok(false);
            }
            if level == 1 {
                self.leaves_left -= 1;
                let is_read = cell.summary.visit || slot == last;
                goes_on = !is_read || self.visit(cell.child, cell.checksum, 0)?;
            } else {
                goes_on = self.visit(cell.child, cell.checksum, level - 1)?;
            }
        }
        Ok(goes_on)
    }
}

/// Shows the flagged ones of a leaf's first `count` entries and notes the runs of long keys.
fn show_flagged<M: PageMap>(
    store: &Store<M>,
    leaf: Node<'_>,
    count: usize,
    key_runs: &mut Vec<RunRef>,
    on_flagged: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), Corruption> {
    for slot in 0..count {
        let cell = leaf.leaf_cell(slot);
        if cell.mark.visit {
            on_flagged(whole_key(store, cell.key)?, cell.value);
        }
        key_runs.extend(cell.key.run);
    }
    Ok(())
}
