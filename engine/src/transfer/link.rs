//! What a page names: its children, and what each of them has to be.
//!
//! Invariants: a link carries the checksum that its parent says, so a page that passed it is what
//! the sender's meta page names, which may still be anything: it is checked to be of the kind, the
//! level and the number that its parent needs, to be readable, and to name what lies within the
//! file. Source: `docs/format/{page,versions}.md`.

use crate::mvcc::verify::check_owned_run;
use crate::page::check::{Malformed, check_node};
use crate::page::layout::{PAGE_HEADER_BYTES, PageKind, PageRef, RunRef, header};
use crate::page::limits::{BITMAP_PAGES, INDEX_BITMAPS, RUN_PAGES_MAX, TREE_HEIGHT_MAX};
use crate::page::map::{Checksum, PAGE_SIZE_BYTES, PageNumber};
use crate::page::meta::Meta;
use crate::page::node::{Node, StoredKey};
use zerocopy::FromBytes;

/// A page, or a run of them, with the content that its parent names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its first page.
    pub first: PageNumber,
    /// Pages in it, at least 1.
    pub count: u32,
    /// xxh3 of all its bytes.
    pub checksum: Checksum,
}

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A page of one of the trees.
    Tree { tree: u8, level: u8 },
    /// Bytes only.
    Run,
    /// A page of the freelist that names so many bitmaps.
    Index { bitmaps: u16 },
    /// One bit a page.
    Bitmap,
    /// A page of the list of what was freed.
    Pending,
}

/// A page that is reached, and what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub wanted: Wanted,
    pub place: Place,
}

/// A page that passed its checksum, but is not what its place needs, or names what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misplaced;

impl Link {
    fn page(page: PageNumber, checksum: Checksum, place: Place) -> Link {
        Link { wanted: Wanted { first: page, count: 1, checksum }, place }
    }

    fn run(run: &RunRef) -> Link {
        let wanted = Wanted { first: run.first(), count: run.pages(), checksum: run.checksum() };
        Link { wanted, place: Place::Run }
    }

    /// Whether it lies within a file of so many pages.
    fn is_within(&self, page_count: u64) -> bool {
        let Wanted { first, count, .. } = self.wanted;
        2 <= first.0
            && 1 <= count
            && count <= RUN_PAGES_MAX
            && first.0 <= page_count
            && u64::from(count) <= page_count - first.0
    }

    /// The interval in which the page was made; a run does not say.
    pub fn birth(&self, bytes: &[u8]) -> Option<u64> {
        (self.place != Place::Run).then(|| header(bytes).birth.get())
    }

    /// What the page names. `bytes` passed the link's checksum.
    pub fn children(&self, bytes: &[u8], page_count: u64) -> Result<Vec<Link>, Misplaced> {
        assert!(bytes.len() == self.wanted.count as usize * PAGE_SIZE_BYTES);
        let mut links = Vec::new();
        match self.place {
            Place::Run | Place::Bitmap if self.is_sound(bytes) => {}
            Place::Tree { tree, level } if self.is_sound(bytes) => {
                let node = check_node(bytes).map_err(|Malformed| Misplaced)?;
                tree_children(node, tree, level, &mut links).map_err(|Malformed| Misplaced)?;
            }
            Place::Index { bitmaps } if self.is_sound(bytes) => {
                let content = &bytes[PAGE_HEADER_BYTES..];
                for reference in content.chunks_exact(PAGE_REF_BYTES).take(bitmaps.into()) {
                    push_reference(read_reference(reference), Place::Bitmap, &mut links);
                }
            }
            Place::Pending if self.is_sound(bytes) => {
                let content = &bytes[PAGE_HEADER_BYTES..];
                let next = read_reference(&content[..PAGE_REF_BYTES]);
                push_reference(next, Place::Pending, &mut links);
            }
            _ => return Err(Misplaced),
        }
        match links.iter().all(|link| link.is_within(page_count)) {
            true => Ok(links),
            false => Err(Misplaced),
        }
    }

    fn is_sound(&self, bytes: &[u8]) -> bool {
        let (kind, level) = match self.place {
            Place::Run => return true,
            Place::Tree { level: 0, .. } => (PageKind::Leaf, 0),
            Place::Tree { level, .. } => (PageKind::Branch, level),
            Place::Index { .. } => (PageKind::Index, 0),
            Place::Bitmap => (PageKind::Bitmap, 0),
            Place::Pending => (PageKind::Pending, 0),
        };
        let header = header(bytes);
        header.page.get() == self.wanted.first.0
            && header.kind == kind as u8
            && header.level == level
    }
}

/// What a meta page names: the roots of the trees and of the freelist.
pub(super) fn roots(meta: &Meta) -> Result<Vec<Link>, Misplaced> {
    let mut links = Vec::new();
    for (tree, root) in meta.trees.iter().enumerate() {
        let Some(level) = root.height.checked_sub(1) else { continue };
        if TREE_HEIGHT_MAX < root.height.into() {
            return Err(Misplaced);
        }
        let place = Place::Tree { tree: tree as u8, level };
        links.push(Link::page(root.root, root.checksum, place));
    }
    let bitmaps = meta.page_count.div_ceil(BITMAP_PAGES) as usize;
    for (slot, place) in meta.indexes[..bitmaps.div_ceil(INDEX_BITMAPS)].iter().enumerate() {
        let count = INDEX_BITMAPS.min(bitmaps - slot * INDEX_BITMAPS);
        push_reference(*place, Place::Index { bitmaps: count as u16 }, &mut links);
    }
    push_reference(meta.pending, Place::Pending, &mut links);
    match links.iter().all(|link| link.is_within(meta.page_count)) {
        true => Ok(links),
        false => Err(Misplaced),
    }
}

fn tree_children(
    node: Node<'_>,
    tree: u8,
    level: u8,
    links: &mut Vec<Link>,
) -> Result<(), Malformed> {
    let key_run = |key: StoredKey<'_>| key.run.map(|run| Link::run(&run));
    for slot in 0..node.count() {
        if level == 0 {
            let cell = node.leaf_cell(slot);
            links.extend(key_run(cell.key));
            let owned = check_owned_run(tree.into(), cell.key.inline, cell.value)?;
            links.extend(owned.map(|run| Link::run(&run)));
        } else {
            let cell = node.branch_cell(slot);
            links.extend(key_run(cell.key));
            let place = Place::Tree { tree, level: level - 1 };
            links.push(Link::page(cell.child, cell.checksum, place));
        }
    }
    Ok(())
}

fn push_reference(reference: PageRef, place: Place, links: &mut Vec<Link>) {
    if !reference.is_none() {
        links.push(Link::page(reference.page(), reference.checksum(), place));
    }
}

fn read_reference(bytes: &[u8]) -> PageRef {
    PageRef::read_from_bytes(bytes).expect("the caller cut a reference's size")
}

const PAGE_REF_BYTES: usize = size_of::<PageRef>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::layout::start_page;
    use crate::page::node::{LeafCell, Mark, maybe_insert_leaf};
    use proptest::prelude::*;

    fn link(place: Place) -> Link {
        Link::page(PageNumber(9), Checksum(0), place)
    }

    fn page(kind: PageKind, level: u8) -> Vec<u8> {
        let mut page = vec![0; PAGE_SIZE_BYTES];
        start_page(&mut page, PageNumber(9), 3, kind, level);
        page
    }

    /// A leaf that is one to the page, with values that are no tree's.
    fn leaf(values: &[Vec<u8>]) -> Vec<u8> {
        let mut page = page(PageKind::Leaf, 0);
        for (slot, value) in values.iter().enumerate() {
            let key = StoredKey { inline: &[b'M', slot as u8], run: None };
            let cell = LeafCell { key, value, mark: Mark::default() };
            assert!(maybe_insert_leaf(&mut page, slot, &cell));
        }
        page
    }

    #[test]
    fn entries_that_are_none_of_their_tree_are_misplaced() {
        let leaf = leaf(&[vec![3, 1, 2, 3]]);
        for tree in 0..3 {
            let found = link(Place::Tree { tree, level: 0 }).children(&leaf, 100);
            assert_eq!(found, Err(Misplaced), "tree {tree}");
        }
        assert_eq!(link(Place::Tree { tree: 0, level: 1 }).children(&leaf, 100), Err(Misplaced));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn no_entries_make_a_receiver_panic(
            values in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![0_u8..64, any::<u8>()], 0..120), 1..20),
            tree in 0_u8..3,
        ) {
            let _ = link(Place::Tree { tree, level: 0 }).children(&leaf(&values), 100);
        }

        #[test]
        fn nor_do_any_bytes_with_a_right_checksum(
            bytes in proptest::collection::vec(any::<u8>(), PAGE_SIZE_BYTES),
            place in 0_usize..5,
        ) {
            let (kind, level, place) = [
                (PageKind::Leaf, 0, Place::Tree { tree: 0, level: 0 }),
                (PageKind::Branch, 3, Place::Tree { tree: 1, level: 3 }),
                (PageKind::Index, 0, Place::Index { bitmaps: u16::MAX }),
                (PageKind::Bitmap, 0, Place::Bitmap),
                (PageKind::Pending, 0, Place::Pending),
            ][place];
            let mut bytes = bytes;
            bytes[8..26].copy_from_slice(&page(kind, level)[8..26]);
            let _ = link(place).children(&bytes, 100);
        }
    }
}
