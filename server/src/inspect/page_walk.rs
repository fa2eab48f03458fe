//! A walk over every page that a checkpoint reaches, one at a time: it goes on where a page is
//! broken, so that all of them are named.
//!
//! What it does not see is left to the engine's own check of a whole store ([`super::pages`]): the
//! order of keys, the owners of runs, and runs that a record of the system tree owns.
//! Source: docs/format/{page,versions}.md.

use engine::mvcc::version::{Record, Version, check_record, check_version};
use engine::page::check::check_node;
use engine::page::layout::{PAGE_HEADER_BYTES, PageKind, PageRef, RunRef, header};
use engine::page::limits::{BITMAP_PAGES, INDEX_BITMAPS, TREES};
use engine::page::map::{Checksum, Corruption, PageNumber};
use engine::page::meta::Meta;
use engine::page::node::{Node, Summary};
use std::fmt;

use super::page_reader::PageReader;

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not what its parent says.
    Corrupt(Corruption),
    /// It is, but it is another page than its place needs.
    Misplaced(PageNumber),
    /// It says other sums than its parent.
    WrongSum(PageNumber),
    /// It has the right checksum, but no tree's page has such bytes.
    Malformed(PageNumber),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Corrupt(corruption) => corruption.fmt(f),
            Fault::Misplaced(page) => write!(f, "page {} is of another kind or place", page.0),
            Fault::Malformed(page) => write!(f, "page {} cannot be read", page.0),
            Fault::WrongSum(page) => write!(f, "page {} has other sums than its parent", page.0),
        }
    }
}

/// Pages and entries of one tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TreeCount {
    pub(super) branches: u64,
    pub(super) leaves: u64,
    pub(super) run_pages: u64,
    pub(super) entries: u64,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) trees: [TreeCount; TREES],
    pub(super) freelist_pages: u64,
    /// The first [`FAULTS_KEPT_MAX`].
    pub(super) faults: Vec<Fault>,
    pub(super) faults_count: u64,
}

/// Walks over all of a checkpoint.
pub(super) fn walk(reader: &PageReader, meta: &Meta) -> Found {
    let mut walk = Walk { reader, found: Found::default(), tree: 0 };
    for (slot, tree) in meta.trees.iter().enumerate() {
        walk.tree = slot;
        if let Some(level) = tree.height.checked_sub(1) {
            let sum = Summary { entries: tree.entries, weight: tree.weight, visit: tree.visit };
            walk.subtree(tree.root, tree.checksum, level, sum);
        }
    }
    walk.freelist(meta);
    walk.pending(meta.pending);
    walk.found
}

struct Walk<'a> {
    reader: &'a PageReader,
    found: Found,
    tree: usize,
}

impl Walk<'_> {
    fn fault(&mut self, fault: Fault) {
        self.found.faults_count += 1;
        if self.found.faults.len() < FAULTS_KEPT_MAX {
            self.found.faults.push(fault);
        }
    }

    fn page(&mut self, page: PageNumber, checksum: Checksum) -> Option<Box<[u8]>> {
        match self.reader.pages(page, 1, checksum) {
            Ok(bytes) => Some(bytes),
            Err(corruption) => {
                self.fault(Fault::Corrupt(corruption));
                None
            }
        }
    }

    /// A page of a tree and what is below it; `level` falls to 0 at the leaves, so that is how deep
    /// it goes.
    fn subtree(&mut self, page: PageNumber, checksum: Checksum, level: u8, sum: Summary) {
        let Some(bytes) = self.page(page, checksum) else { return };
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Branch };
        if !is_page(&bytes, page, kind, level) {
            return self.fault(Fault::Misplaced(page));
        }
        let Ok(node) = check_node(&bytes) else { return self.fault(Fault::Malformed(page)) };
        if node.summary() != sum {
            self.fault(Fault::WrongSum(page));
        }
        if level == 0 {
            self.found.trees[self.tree].leaves += 1;
            return self.leaf(page, node);
        }
        self.found.trees[self.tree].branches += 1;
        for slot in 0..node.count() {
            let cell = node.branch_cell(slot);
            if let Some(run) = cell.key.run {
                self.run(&run);
            }
            self.subtree(cell.child, cell.checksum, level - 1, cell.summary);
        }
    }

    fn leaf(&mut self, page: PageNumber, leaf: Node<'_>) {
        for slot in 0..leaf.count() {
            let cell = leaf.leaf_cell(slot);
            self.found.trees[self.tree].entries += 1;
            if let Some(run) = cell.key.run {
                self.run(&run);
            }
            let is_whole = match self.tree {
                KEYS => check_version(cell.value),
                HISTORY => check_record(cell.value),
                _ => true,
            };
            if !is_whole {
                return self.fault(Fault::Malformed(page));
            }
            let owned = match self.tree {
                KEYS => Version::decode(cell.value).run(),
                HISTORY => Record::decode(cell.value).undo.and_then(|version| version.run()),
                _ => None,
            };
            if let Some(run) = owned {
                self.run(&run);
            }
        }
    }

    fn run(&mut self, run: &RunRef) {
        self.found.trees[self.tree].run_pages += u64::from(run.pages());
        if let Err(corruption) = self.reader.pages(run.first(), run.pages(), run.checksum()) {
            self.fault(Fault::Corrupt(corruption));
        }
    }

    /// A page of the freelist: what follows its header.
    fn content(&mut self, place: PageRef, kind: PageKind) -> Option<Box<[u8]>> {
        if place.is_none() {
            return None;
        }
        let bytes = self.page(place.page(), place.checksum())?;
        if !is_page(&bytes, place.page(), kind, 0) {
            self.fault(Fault::Misplaced(place.page()));
            return None;
        }
        self.found.freelist_pages += 1;
        Some(Box::from(&bytes[PAGE_HEADER_BYTES..]))
    }

    fn freelist(&mut self, meta: &Meta) {
        let bitmaps = meta.page_count.div_ceil(BITMAP_PAGES) as usize;
        for (slot, place) in meta.indexes[..bitmaps.div_ceil(INDEX_BITMAPS)].iter().enumerate() {
            let Some(content) = self.content(*place, PageKind::Index) else { continue };
            let count = INDEX_BITMAPS.min(bitmaps - slot * INDEX_BITMAPS);
            for bytes in content.chunks_exact(REFERENCE_SIZE_BYTES).take(count) {
                self.content(reference(bytes), PageKind::Bitmap);
            }
        }
    }

    /// The chain of pages that list what was freed. A page names the next one's content, so the
    /// chain ends.
    fn pending(&mut self, first: PageRef) {
        let mut next = first;
        while let Some(content) = self.content(next, PageKind::Pending) {
            next = reference(&content[..REFERENCE_SIZE_BYTES]);
        }
    }
}

fn is_page(bytes: &[u8], page: PageNumber, kind: PageKind, level: u8) -> bool {
    let header = header(bytes);
    header.page.get() == page.0 && header.kind == kind as u8 && header.level == level
}

fn reference(bytes: &[u8]) -> PageRef {
    let number = |at: usize| {
        let field: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(field)
    };
    PageRef::new(PageNumber(number(0)), Checksum(number(8)))
}

const KEYS: usize = 0;
const HISTORY: usize = 1;

/// A page's number and its checksum.
const REFERENCE_SIZE_BYTES: usize = 16;

/// Broken pages that are named; more are counted.
const FAULTS_KEPT_MAX: usize = 1_000;
