//! Splitting, spreading and joining pages: one algorithm for leaves and branches.
//!
//! The cells of one page, or of it and a neighbour, are gathered in order with the change among
//! them, cut into one to three groups, and written back; their parent's cells for them are replaced
//! by new ones, which is the same kind of change one level up. So nothing here can fail half way
//! for lack of room: a separator that grew makes its branch regroup in turn.
//!
//! A full page first looks for room in a neighbour (which keeps pages fuller than splitting at
//! once), then splits; at the right edge an appended cell gets a page of its own and the full one
//! stays full. A low page joins a neighbour if both fit into nine tenths of a page.
//! Invariants: a separator is the shortest that separates two leaves; a separator's run moves with
//! it, and is freed when it is cut anew.
//! Source: B*-trees (Knuth, volume 3, 6.2.4).

use super::Tree;
use super::change::Delta;
use super::search::{Path, whole_key};
use crate::page::cells::CellList;
use crate::page::layout::{PAGE_CONTENT_BYTES, PageKind, SLOT_BYTES};
use crate::page::limits::{
    KEY_INLINE_BYTES_MAX, LONG_KEY_PREFIX_BYTES, MERGE_BELOW_BYTES, SPREAD_ROOM_BYTES_MIN,
    TREE_HEIGHT_MAX,
};
use crate::page::map::{Checksum, Corruption, PageMap, PageNumber};
use crate::page::node::{
    BranchCell, LeafCell, Node, StoredKey, clear_cells, fill_cells, insert_first_child,
    maybe_insert_bytes, remove_cell,
};
use crate::page::store::Store;

/// Cells `at..at + drop` of the page at `depth` of a way are replaced by given ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    pub depth: usize,
    pub at: usize,
    pub drop: usize,
}

/// Pages whose cells are gathered: children `first..first + count` of the parent.
#[derive(Clone, Copy, Debug)]
struct Group {
    first: usize,
    count: usize,
    /// Which of them is the page on the way.
    mine: usize,
    cut: Cut,
}

/// How gathered cells are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Into one page.
    Join,
    /// Into two of about equal size, if two are enough.
    Even,
    /// Into two of about equal size, or three.
    Split,
    /// The last cell apart.
    Append,
}

/// Ends of the groups that cells were cut into.
#[derive(Clone, Copy, Debug)]
struct Cuts {
    ends: [usize; 3],
    count: usize,
}

impl Tree {
    /// Carries out `edit` with the cells `given`, regrouping upwards as far as it takes; then
    /// corrects the sums above by `delta`.
    pub(super) fn apply<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        edit: Edit,
        mut given: CellList,
        delta: Delta,
    ) -> Result<(), Corruption> {
        let mut gathered = std::mem::take(&mut store.scratch[1]);
        let result = self.apply_upwards(store, path, edit, &mut given, &mut gathered, delta);
        store.scratch = [given, gathered];
        result
    }

    fn apply_upwards<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        mut edit: Edit,
        given: &mut CellList,
        gathered: &mut CellList,
        delta: Delta,
    ) -> Result<(), Corruption> {
        loop {
            let page = path.steps[edit.depth].page;
            let fits = maybe_edit_in_place(store, page, edit, given);
            let group = if fits {
                let node = Node::new(store.image_mut(page));
                let (count, used) = (node.count(), node.used_bytes());
                if edit.depth == 0 {
                    self.settle_tree(store, delta);
                    self.lower_root(store);
                    return Ok(());
                }
                if count == 0 {
                    edit = drop_page(store, path, edit.depth);
                    given.clear();
                    continue;
                }
                // A young page at the right edge is not low: nothing was taken from it.
                let shrank = edit.depth + 1 == path.height || given.len() < edit.drop;
                let low = shrank && used < MERGE_BELOW_BYTES;
                let group = if low { choose_join(store, path, edit.depth)? } else { None };
                let Some(group) = group else {
                    self.settle(store, path, edit.depth, delta);
                    return Ok(());
                };
                given.clear();
                // The edit is done: nothing is dropped or given while gathering.
                gather(store, path, edit.depth, group, None, given, gathered)?;
                let cuts = cut(gathered, group.cut).expect("a join was measured before");
                self.write_back(store, path, edit.depth, group, cuts, given, gathered)?;
                group
            } else {
                self.regroup_full(store, path, edit, given, gathered)?
            };
            if edit.depth == 0 {
                self.raise_root(store, given);
                self.settle_tree(store, delta);
                return Ok(());
            }
            edit = Edit { depth: edit.depth - 1, at: group.first, drop: group.count };
        }
    }

    /// Regroups a page that is too full for its edit.
    fn regroup_full<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &Path,
        edit: Edit,
        given: &mut CellList,
        gathered: &mut CellList,
    ) -> Result<Group, Corruption> {
        assert!(!given.is_empty(), "a removal always fits");
        if let Some(group) = choose_spread(store, path, edit, given)? {
            gather(store, path, edit.depth, group, Some(edit), given, gathered)?;
            if let Some(cuts) = cut(gathered, group.cut) {
                self.write_back(store, path, edit.depth, group, cuts, given, gathered)?;
                return Ok(group);
            }
        }
        let count = Node::new(store.image_mut(path.steps[edit.depth].page)).count();
        let appends = path.right_edge && edit.at + edit.drop == count;
        let first = if edit.depth == 0 { 0 } else { path.steps[edit.depth - 1].slot };
        let group =
            Group { first, count: 1, mine: 0, cut: if appends { Cut::Append } else { Cut::Split } };
        gather(store, path, edit.depth, group, Some(edit), given, gathered)?;
        let cuts = match cut(gathered, group.cut) {
            Some(cuts) => cuts,
            None => cut(gathered, Cut::Split).expect("a page and one change fit three pages"),
        };
        self.write_back(store, path, edit.depth, group, cuts, given, gathered)?;
        Ok(group)
    }

    /// Writes gathered cells to the group's pages, and more or fewer of them as `cuts` say; leaves
    /// the parent's cells for them in `parents`.
    #[allow(clippy::too_many_arguments)]
    fn write_back<M: PageMap>(
        &mut self,
        store: &mut Store<M>,
        path: &Path,
        depth: usize,
        group: Group,
        cuts: Cuts,
        parents: &mut CellList,
        gathered: &CellList,
    ) -> Result<(), Corruption> {
        parents.clear();
        let level = (path.height - 1 - depth) as u8;
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Branch };
        let mut pages = [PageNumber(0); 3];
        for (slot, page) in pages.iter_mut().enumerate().take(group.count) {
            *page = own_page(store, path, depth, group, slot)?;
        }
        for page in &mut pages[group.count.min(cuts.count)..group.count] {
            store.free(*page);
        }
        for page in &mut pages[group.count.min(cuts.count)..cuts.count] {
            *page = store.allocate(kind, level);
        }
        let mut from = 0;
        for (slot, &page) in pages.iter().enumerate().take(cuts.count) {
            let to = cuts.ends[slot];
            fill_page(store, page, gathered, from, to);
            let summary = Node::new(store.image_mut(page)).summary();
            let cell =
                BranchCell { key: StoredKey::EMPTY, child: page, checksum: Checksum(0), summary };
            if slot == 0 {
                push_first_parent(store, path, depth, group, &cell, parents)?;
            } else if level == 0 {
                let below = LeafCell::parse(gathered.cell(from - 1)).key;
                let above = LeafCell::parse(gathered.cell(from)).key;
                push_separated(store, below, above, &cell, parents)?;
            } else {
                let key = BranchCell::parse(gathered.cell(from)).key;
                parents.push_branch(&BranchCell { key, ..cell });
            }
            from = to;
        }
        assert!(from == gathered.len());
        if level == 0 {
            free_separators(store, path, depth, group.first + 1..group.first + group.count);
        }
        Ok(())
    }

    /// Puts a branch over what the root was cut into.
    fn raise_root<M: PageMap>(&mut self, store: &mut Store<M>, cells: &CellList) {
        assert!(2 <= cells.len() && (self.height as usize) < TREE_HEIGHT_MAX);
        self.root = store.allocate(PageKind::Branch, self.height);
        self.height += 1;
        push_cells(store.image_mut(self.root), cells);
    }

    /// Takes away roots with a single child, and an empty leaf.
    fn lower_root<M: PageMap>(&mut self, store: &mut Store<M>) {
        while 0 < self.height && store.is_own(self.root) {
            let node = Node::new(store.image_mut(self.root));
            let count = node.count();
            if count == 0 {
                assert!(self.entries == 0);
                store.free(self.root);
                *self = Tree::EMPTY;
                return;
            }
            if self.height == 1 || 1 < count {
                return;
            }
            let (child, checksum) = node.child(0);
            store.free(self.root);
            self.root = child;
            self.checksum = checksum;
            self.height -= 1;
        }
    }
}

/// Does an edit inside its page if there is room.
fn maybe_edit_in_place<M: PageMap>(
    store: &mut Store<M>,
    page: PageNumber,
    edit: Edit,
    given: &CellList,
) -> bool {
    let image = store.image_mut(page);
    let node = Node::new(image);
    let is_branch = 0 < node.level();
    let dropped: usize =
        (edit.at..edit.at + edit.drop).map(|slot| node.cell_size_bytes(slot) + SLOT_BYTES).sum();
    if PAGE_CONTENT_BYTES < node.used_bytes() - dropped + given.size_bytes(0, given.len()) {
        return false;
    }
    if !is_branch && 0 < edit.drop && edit.drop == node.count() && !given.is_empty() {
        clear_cells(image);
        fill_cells(image, given, 0, given.len());
        return true;
    }
    for _ in 0..edit.drop {
        remove_cell(image, edit.at);
    }
    for slot in 0..given.len() {
        let cell = given.cell(slot);
        assert!(maybe_insert_bytes(image, edit.at + slot, cell), "room was measured above");
    }
    let lost_first = is_branch && edit.at == 0 && given.is_empty() && 0 < edit.drop;
    if lost_first && 0 < Node::new(image).count() {
        clear_first_key(store, page);
    }
    true
}

/// The first cell of a branch has no separator.
fn clear_first_key<M: PageMap>(store: &mut Store<M>, page: PageNumber) {
    let image = store.image_mut(page);
    let before = Node::new(image).branch_cell(0);
    let run = before.key.run;
    let (child, checksum, summary) = (before.child, before.checksum, before.summary);
    let cell = BranchCell { key: StoredKey::EMPTY, child, checksum, summary };
    remove_cell(image, 0);
    insert_first_child(image, &cell);
    if let Some(run) = run {
        store.free_run(&run);
    }
}

/// Frees an empty page; the edit that takes it out of its parent.
fn drop_page<M: PageMap>(store: &mut Store<M>, path: &Path, depth: usize) -> Edit {
    let parent = path.steps[depth - 1];
    store.free(path.steps[depth].page);
    free_separators(store, path, depth, parent.slot..parent.slot + 1);
    Edit { depth: depth - 1, at: parent.slot, drop: 1 }
}

/// Frees the runs of separators that the parent of the page at `depth` is about to lose.
fn free_separators<M: PageMap>(
    store: &mut Store<M>,
    path: &Path,
    depth: usize,
    slots: std::ops::Range<usize>,
) {
    for slot in slots {
        let parent = Node::new(store.image_mut(path.steps[depth - 1].page));
        if let Some(run) = parent.branch_key(slot).run {
            store.free_run(&run);
        }
    }
}

/// The neighbours of the page at `depth`, left one first: slot and bytes in use, with the bytes
/// that the separator between them would take inside a branch.
fn neighbours<M: PageMap>(
    store: &Store<M>,
    path: &Path,
    depth: usize,
) -> Result<[Option<(usize, usize)>; 2], Corruption> {
    let parent_step = path.steps[depth - 1];
    let parent = Node::new(store.page(parent_step.page, Checksum(0))?);
    let mut found = [None; 2];
    let left = parent_step.slot.checked_sub(1);
    let right = Some(parent_step.slot + 1).filter(|&slot| slot < parent.count());
    for (place, slot) in found.iter_mut().zip([left, right]) {
        let Some(slot) = slot else { continue };
        let (page, checksum) = parent.child(slot);
        let node = Node::new(store.page(page, checksum)?);
        let separator = parent.branch_key(slot.max(parent_step.slot)).size_bytes();
        let extra = if node.level() == 0 { 0 } else { separator };
        *place = Some((slot, node.used_bytes() + extra));
    }
    Ok(found)
}

/// The group of a full page and the emptier of its neighbours, if that has room worth the work.
fn choose_spread<M: PageMap>(
    store: &mut Store<M>,
    path: &Path,
    edit: Edit,
    given: &CellList,
) -> Result<Option<Group>, Corruption> {
    let node = Node::new(store.page(path.steps[edit.depth].page, Checksum(0))?);
    let appends = path.right_edge && edit.at + edit.drop == node.count();
    if edit.depth == 0 || appends {
        return Ok(None);
    }
    let mine = path.steps[edit.depth - 1].slot;
    let dropped: usize =
        (edit.at..edit.at + edit.drop).map(|slot| node.cell_size_bytes(slot) + SLOT_BYTES).sum();
    let size_bytes = node.used_bytes() - dropped + given.size_bytes(0, given.len());
    let emptier = neighbours(store, path, edit.depth)?
        .into_iter()
        .flatten()
        .filter(|&(_, used)| used + SPREAD_ROOM_BYTES_MIN <= PAGE_CONTENT_BYTES)
        .filter(|&(_, used)| used + size_bytes <= 2 * PAGE_CONTENT_BYTES)
        .min_by_key(|&(_, used)| used);
    Ok(emptier.map(|(slot, _)| pair(mine, slot, Cut::Even)))
}

/// The group of a low page and a neighbour: to join them, or to even them out if it is very low.
fn choose_join<M: PageMap>(
    store: &mut Store<M>,
    path: &Path,
    depth: usize,
) -> Result<Option<Group>, Corruption> {
    let mine = path.steps[depth - 1].slot;
    let used = Node::new(store.image_mut(path.steps[depth].page)).used_bytes();
    let found = neighbours(store, path, depth)?;
    let emptier = found.into_iter().flatten().min_by_key(|&(_, used)| used);
    if let Some((slot, other)) = emptier.filter(|(_, other)| used + other <= JOIN_BYTES_MAX) {
        assert!(other <= PAGE_CONTENT_BYTES);
        return Ok(Some(pair(mine, slot, Cut::Join)));
    }
    if EVEN_BELOW_BYTES <= used {
        return Ok(None);
    }
    // Both neighbours are well filled: what is taken from one leaves neither low.
    Ok(emptier
        .filter(|(_, other)| used + other <= 2 * PAGE_CONTENT_BYTES - EVEN_BELOW_BYTES)
        .map(|(slot, _)| pair(mine, slot, Cut::Split)))
}

fn pair(mine: usize, other: usize, cut: Cut) -> Group {
    let first = mine.min(other);
    Group { first, count: 2, mine: mine - first, cut }
}

/// Gathers the cells of a group in order; with an edit, `given` instead of what it drops.
fn gather<M: PageMap>(
    store: &Store<M>,
    path: &Path,
    depth: usize,
    group: Group,
    edit: Option<Edit>,
    given: &CellList,
    gathered: &mut CellList,
) -> Result<(), Corruption> {
    gathered.clear();
    for member in 0..group.count {
        let mine = member == group.mine;
        let (page, checksum) = member_page(store, path, depth, group, member)?;
        let node = Node::new(store.page(page, checksum)?);
        let edit = edit.filter(|_| mine);
        let (drop_from, drop_to) = edit.map_or((0, 0), |edit| (edit.at, edit.at + edit.drop));
        let first = gathered.len();
        for slot in 0..node.count() {
            if edit.is_some_and(|edit| edit.at == slot) {
                gathered.push_list(given);
            }
            if slot < drop_from || drop_to <= slot {
                gathered.push(node.cell_bytes(slot));
            }
        }
        if edit.is_some_and(|edit| edit.at == node.count()) {
            gathered.push_list(given);
        }
        if 0 < node.level() && 0 < member {
            // In the middle of a page the first child needs its separator, which the parent has.
            let parent = Node::new(store.page(path.steps[depth - 1].page, Checksum(0))?);
            gathered.replace_branch_key(first, parent.branch_key(group.first + member));
        }
    }
    Ok(())
}

/// A page of a group and its content.
fn member_page<M: PageMap>(
    store: &Store<M>,
    path: &Path,
    depth: usize,
    group: Group,
    member: usize,
) -> Result<(PageNumber, Checksum), Corruption> {
    if member == group.mine {
        return Ok((path.steps[depth].page, Checksum(0)));
    }
    let parent = Node::new(store.page(path.steps[depth - 1].page, Checksum(0))?);
    Ok(parent.child(group.first + member))
}

/// A page of a group, made this interval's own. Its parent's cell will be replaced.
fn own_page<M: PageMap>(
    store: &mut Store<M>,
    path: &Path,
    depth: usize,
    group: Group,
    member: usize,
) -> Result<PageNumber, Corruption> {
    let (page, checksum) = member_page(store, path, depth, group, member)?;
    store.touch(page, checksum)
}

/// Where to cut; `None` if it cannot be cut that way.
fn cut(cells: &CellList, way: Cut) -> Option<Cuts> {
    let count = cells.len();
    let fits = |from, to| cells.size_bytes(from, to) <= PAGE_CONTENT_BYTES;
    let two = |end| Cuts { ends: [end, count, 0], count: 2 };
    match way {
        Cut::Join => fits(0, count).then_some(Cuts { ends: [count, 0, 0], count: 1 }),
        Cut::Append => fits(0, count - 1).then(|| two(count - 1)),
        Cut::Even | Cut::Split => {
            let even = (1..count)
                .filter(|&end| fits(0, end) && fits(end, count))
                .min_by_key(|&end| cells.size_bytes(0, end).abs_diff(cells.size_bytes(end, count)));
            if even.is_some() || way == Cut::Even {
                return even.map(two);
            }
            // Cells so big that two pages are not enough.
            let first = (1..count).rev().find(|&end| fits(0, end))?;
            let second = (first + 1..count).rev().find(|&end| fits(first, end))?;
            fits(second, count).then_some(Cuts { ends: [first, second, count], count: 3 })
        }
    }
}

/// Writes cells `from..to` to a page; a branch's first cell has lost its key to the parent, if it had
/// one.
fn fill_page<M: PageMap>(
    store: &mut Store<M>,
    page: PageNumber,
    cells: &CellList,
    from: usize,
    to: usize,
) {
    let image = store.image_mut(page);
    clear_cells(image);
    fill_cells(image, cells, from, to);
}

fn push_cells(image: &mut [u8], cells: &CellList) {
    for slot in 0..cells.len() {
        assert!(maybe_insert_bytes(image, slot, cells.cell(slot)), "three children fit a page");
    }
}

/// The parent's cell for a group's first page keeps its separator.
fn push_first_parent<M: PageMap>(
    store: &Store<M>,
    path: &Path,
    depth: usize,
    group: Group,
    cell: &BranchCell<'_>,
    parents: &mut CellList,
) -> Result<(), Corruption> {
    if depth == 0 {
        parents.push_branch(cell);
        return Ok(());
    }
    let parent = Node::new(store.page(path.steps[depth - 1].page, Checksum(0))?);
    parents.push_branch(&BranchCell { key: parent.branch_key(group.first), ..*cell });
    Ok(())
}

/// The parent's cell for a leaf whose first key is `above` and whose left neighbour ends with
/// `below`: the separator is `above` up to the first byte that differs.
fn push_separated<M: PageMap>(
    store: &mut Store<M>,
    below: StoredKey<'_>,
    above: StoredKey<'_>,
    cell: &BranchCell<'_>,
    parents: &mut CellList,
) -> Result<(), Corruption> {
    let common = common_prefix(below.inline, above.inline);
    let below_ends = common == below.inline.len();
    if common < above.inline.len() && (!below_ends || below.run.is_none()) {
        let key = StoredKey { inline: &above.inline[..common + 1], run: None };
        parents.push_branch(&BranchCell { key, ..*cell });
        return Ok(());
    }
    let above = whole_key(store, above)?;
    let size = common_prefix(whole_key(store, below)?, above) + 1;
    let separator = &above[..size];
    if size <= KEY_INLINE_BYTES_MAX {
        let key = StoredKey { inline: separator, run: None };
        parents.push_branch(&BranchCell { key, ..*cell });
        return Ok(());
    }
    let separator = separator.to_vec();
    let run = Some(store.write_run(&separator));
    let key = StoredKey { inline: &separator[..LONG_KEY_PREFIX_BYTES], run };
    parents.push_branch(&BranchCell { key, ..*cell });
    Ok(())
}

pub(super) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Two pages that fit this are joined: the rest is room for what comes next.
const JOIN_BYTES_MAX: usize = PAGE_CONTENT_BYTES * 9 / 10;

/// A page that cannot join takes cells from a neighbour below this.
const EVEN_BELOW_BYTES: usize = PAGE_CONTENT_BYTES / 5;

const _: () = assert!(EVEN_BELOW_BYTES < MERGE_BELOW_BYTES);
