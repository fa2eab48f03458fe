//! Pages that somebody else wrote: whether a tree's page can be read at all.
//!
//! A checksum says that bytes are those that a parent names, not that they are a page: a member with
//! a fault, or one that lies, can name anything. So what comes from another member, and what
//! `inspect` is given, passes here before [`Node`] trusts its offsets. Invariant: every cell of a
//! page that passed lies within the heap, the cells and the garbage fill it, and all keys begin with
//! the prefix; the order of keys, heads and sums are not looked at.
//! Source: `docs/format/page.md`.

use super::layout::{
    BRANCH_CELL_FIXED_BYTES, LEAF_CELL_FIXED_BYTES, PAGE_HEADER_BYTES, PageKind, RUN_REF_BYTES,
    RunRef, SLOT_BYTES, header,
};
use super::limits::{KEY_INLINE_BYTES_MAX, PREFIX_BYTES_MAX, VALUE_INLINE_BYTES_MAX};
use super::map::PAGE_SIZE_BYTES;
use super::node::{BRANCH_KEY_AT, BRANCH_LONG, BRANCH_VISIT, FLAG_LONG, Node};

/// A page whose bytes are none of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A cell, as far as it has to be known here.
struct Cell<'p> {
    key: &'p [u8],
    size_bytes: usize,
}

/// Reads a tree's page that may be anything.
///
/// # Errors
/// [`Malformed`]: it is no page that could be read.
pub fn check_node(page: &[u8]) -> Result<Node<'_>, Malformed> {
    if page.len() != PAGE_SIZE_BYTES {
        return Err(Malformed);
    }
    is_readable(page).filter(|is| *is).map(|_| Node::new(page)).ok_or(Malformed)
}

/// `None` where bytes are missing.
fn is_readable(page: &[u8]) -> Option<bool> {
    let header = header(page);
    let is_leaf = header.kind == PageKind::Leaf as u8 && header.level == 0;
    let is_branch = header.kind == PageKind::Branch as u8 && 0 < header.level;
    let count = usize::from(header.count.get());
    let heap_start = usize::from(header.heap_start.get());
    let prefix_size = usize::from(header.prefix_size);
    if !is_leaf && !is_branch
        || is_branch && count == 0
        || PREFIX_BYTES_MAX < prefix_size
        || PAGE_SIZE_BYTES < heap_start
        || heap_start < PAGE_HEADER_BYTES + SLOT_BYTES * count
    {
        return Some(false);
    }
    let slots = page[PAGE_HEADER_BYTES..].chunks_exact(SLOT_BYTES).take(count);
    let (mut used_bytes, mut prefix) = (usize::from(header.garbage.get()), None);
    for (slot, bytes) in slots.enumerate() {
        let start = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        if start < heap_start {
            return Some(false);
        }
        let bytes = page.get(start..)?;
        let cell = if is_leaf { leaf_cell(bytes)? } else { branch_cell(bytes)? };
        used_bytes += cell.size_bytes;
        if is_branch && slot == 0 {
            if cell.size_bytes != BRANCH_CELL_FIXED_BYTES {
                // The first child's key stands for everything below the second.
                return Some(false);
            }
            continue;
        }
        let begins = cell.key.get(..prefix_size)?;
        if *prefix.get_or_insert(begins) != begins {
            return Some(false);
        }
    }
    Some(used_bytes == PAGE_SIZE_BYTES - heap_start)
}

fn leaf_cell(bytes: &[u8]) -> Option<Cell<'_>> {
    let (fixed, rest) = bytes.split_first_chunk::<LEAF_CELL_FIXED_BYTES>()?;
    let key_size = usize::from(u16::from_le_bytes([fixed[0], fixed[1]]));
    let value_size = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
    let (key, run_size) = checked_key(rest, key_size, fixed[4] & FLAG_LONG != 0)?;
    let content_size = key_size + run_size + value_size;
    let is_whole = value_size <= VALUE_INLINE_BYTES_MAX && content_size <= rest.len();
    is_whole.then_some(Cell { key, size_bytes: LEAF_CELL_FIXED_BYTES + content_size })
}

fn branch_cell(bytes: &[u8]) -> Option<Cell<'_>> {
    let (fixed, rest) = bytes.split_first_chunk::<BRANCH_CELL_FIXED_BYTES>()?;
    let word = usize::from(u16::from_le_bytes([fixed[BRANCH_KEY_AT], fixed[BRANCH_KEY_AT + 1]]));
    let key_size = word & !(BRANCH_VISIT | BRANCH_LONG);
    let (key, run_size) = checked_key(rest, key_size, word & BRANCH_LONG != 0)?;
    Some(Cell { key, size_bytes: BRANCH_CELL_FIXED_BYTES + key_size + run_size })
}

/// The bytes of a key that stand in its cell, and the size of the reference to its run.
fn checked_key(bytes: &[u8], key_size: usize, is_long: bool) -> Option<(&[u8], usize)> {
    let (key, rest) = bytes.split_at_checked(key_size)?;
    if KEY_INLINE_BYTES_MAX < key_size {
        return None;
    }
    if !is_long {
        return Some((key, 0));
    }
    RunRef::decode(rest.get(..RUN_REF_BYTES)?).map(|_| (key, RUN_REF_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::layout::{header_mut, start_page};
    use crate::page::map::{Checksum, PageNumber};
    use crate::page::node::{
        BranchCell, LeafCell, Mark, StoredKey, Summary, insert_first_child, maybe_insert_bytes,
        maybe_insert_leaf, remove_cell,
    };
    use proptest::prelude::*;

    fn page(kind: PageKind, level: u8) -> Vec<u8> {
        let mut page = vec![0; PAGE_SIZE_BYTES];
        start_page(&mut page, PageNumber(9), 3, kind, level);
        page
    }

    fn leaf() -> Vec<u8> {
        let mut page = page(PageKind::Leaf, 0);
        let run = Some(RunRef::new(PageNumber(40), 5_000, Checksum(7)));
        for number in 0..30_u8 {
            let inline = [b"prefix-".as_slice(), &[number; 20]].concat();
            let key = StoredKey { inline: &inline, run: run.filter(|_| number % 5 == 0) };
            let cell = LeafCell { key, value: &[number; 40], mark: Mark::default() };
            assert!(maybe_insert_leaf(&mut page, usize::from(number), &cell));
        }
        remove_cell(&mut page, 11);
        page
    }

    fn branch() -> Vec<u8> {
        let mut page = page(PageKind::Branch, 2);
        for number in 0..30_u8 {
            let inline = [b"pre-".as_slice(), &[number; 9]].concat();
            let cell = BranchCell {
                key: StoredKey { inline: &inline, run: None },
                child: PageNumber(100 + u64::from(number)),
                checksum: Checksum(8),
                summary: Summary { entries: 3, weight: 2, visit: true },
            };
            if number == 0 {
                insert_first_child(&mut page, &cell);
                continue;
            }
            let mut bytes = vec![0; cell.size_bytes()];
            cell.write(&mut bytes);
            assert!(maybe_insert_bytes(&mut page, usize::from(number), &bytes));
        }
        page
    }

    /// Everything that a reader does with a page that passed.
    fn read_all(node: Node<'_>) {
        assert!(node.used_bytes() <= PAGE_SIZE_BYTES - PAGE_HEADER_BYTES);
        node.summary();
        for slot in 0..node.count() {
            node.cell_bytes(slot);
            let first = usize::from(0 < node.level());
            assert!(slot < first || node.key(slot).inline.starts_with(node.prefix()));
            if node.level() == 0 {
                node.leaf_cell(slot);
            } else {
                node.branch_cell(slot);
                node.child(slot);
            }
        }
    }

    #[test]
    fn what_was_made_here_passes_and_what_is_no_page_does_not() {
        for page in [leaf(), branch(), page(PageKind::Leaf, 0)] {
            read_all(check_node(&page).expect("it is a page"));
            assert!(check_node(&page[..4_095]).is_err());
        }
        assert!(check_node(&page(PageKind::Branch, 1)).is_err(), "a branch has a child");
        assert!(check_node(&page(PageKind::Index, 0)).is_err());
        let mut long = leaf();
        header_mut(&mut long).count.set(u16::MAX);
        assert!(check_node(&long).is_err());
        let mut free = leaf();
        header_mut(&mut free).garbage.set(0);
        assert!(check_node(&free).is_err(), "it would be said to have room that it has not");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_a_reader_panic(
            changes in proptest::collection::vec((0_usize..PAGE_SIZE_BYTES, any::<u8>()), 0..4),
            in_head in proptest::collection::vec((24_usize..240, any::<u8>()), 0..3),
            is_branch in any::<bool>(),
        ) {
            let mut page = if is_branch { branch() } else { leaf() };
            for (at, byte) in changes.into_iter().chain(in_head) {
                page[at] = byte;
            }
            if let Ok(node) = check_node(&page) {
                read_all(node);
            }
        }

        #[test]
        fn nor_does_noise(bytes in proptest::collection::vec(any::<u8>(), PAGE_SIZE_BYTES)) {
            let mut bytes = bytes;
            for (kind, level) in [(PageKind::Leaf, 0), (PageKind::Branch, 1)] {
                (bytes[24], bytes[25]) = (kind as u8, level);
                if let Ok(node) = check_node(&bytes) {
                    read_all(node);
                }
            }
        }
    }
}
