//! The receiver: walks the pages of a checkpoint, says which it lacks, and takes them in.
//!
//! Invariants: a page is taken only with the checksum that its parent names, and what it names is
//! looked at before the walk is complete; the walk goes depth first, so what waits is bounded by the
//! height of the trees; a page of the receiver's own file that is as old as its own durable
//! checkpoint stands for all that is below it, since a page is never changed once it is sealed and
//! replicas are equal page by page; what was received for an earlier target is kept, and counts
//! where the new target names the same content. Source: storage.md, State transfer 1.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::Wanted;
use super::link::{Link, Place, roots};
use crate::page::limits::RUN_PAGES_MAX;
use crate::page::map::{PAGE_SIZE_BYTES, PageMap, PageNumber, checksum};
use crate::page::meta::{Meta, check_meta};

/// Why a transfer cannot go on from what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Not a meta page of this group.
    Meta,
    /// A page has other bytes than its parent says.
    Broken(PageNumber),
    /// A page is not what its place needs, or two parents name it.
    Misplaced(PageNumber),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Meta => write!(f, "what came is no meta page of this group"),
            TransferError::Broken(page) => {
                write!(f, "page {} came with other bytes than its parent says", page.0)
            }
            TransferError::Misplaced(page) => {
                write!(f, "page {} is not what its place needs", page.0)
            }
        }
    }
}

impl std::error::Error for TransferError {}

/// A run in the side file.
#[derive(Debug)]
struct Held {
    wanted: Wanted,
    children: Box<[Link]>,
}

/// What a receiver has of a checkpoint, and what it lacks.
#[derive(Debug, Default)]
pub struct Sink {
    target: Option<Target>,
    /// What lies in the side file, by first page.
    held: BTreeMap<u64, Held>,
    /// Reached and not looked at yet; the next one last. Children go in backwards: what was written
    /// side by side is asked for, read, sent and written in that order.
    stack: Vec<Link>,
    /// Lacking, to be asked for.
    lacking: VecDeque<Link>,
    /// Asked for, by first page.
    asked: BTreeMap<u64, Link>,
    /// What of the side file the target reaches: first page and count.
    reached: Vec<(u64, u64)>,
    reached_pages: u64,
}

#[derive(Debug)]
struct Target {
    meta: Meta,
    page: Vec<u8>,
    /// The newest checkpoint that is whole in the receiver's own file; 0 is none.
    own_interval: u64,
}

impl Sink {
    /// Begins the walk of a checkpoint, from its meta page. The receiver's own file is whole up to
    /// `own_interval` (0: nothing of it counts), and does not change until the walk is complete.
    ///
    /// # Errors
    /// [`TransferError::Meta`], [`TransferError::Misplaced`]: what was aimed at before stays.
    pub fn aim(&mut self, page: &[u8], group: u64, own_interval: u64) -> Result<(), TransferError> {
        let meta = (0..2).find_map(|slot| check_meta(page, slot));
        let meta = meta.filter(|meta| meta.group == group).ok_or(TransferError::Meta)?;
        let stack = roots(&meta).map_err(|_| TransferError::Meta)?;
        self.stack = stack;
        self.lacking.clear();
        self.asked.clear();
        self.reached.clear();
        self.reached_pages = 0;
        self.target = Some(Target { meta, page: page.to_vec(), own_interval });
        Ok(())
    }

    /// The checkpoint aimed at.
    pub fn meta(&self) -> Option<&Meta> {
        self.target.as_ref().map(|target| &target.meta)
    }

    /// Its meta page.
    pub fn meta_page(&self) -> Option<&[u8]> {
        self.target.as_ref().map(|target| target.page.as_slice())
    }

    /// Looks at up to `pages_max` pages that were reached; false when there is nothing to look at
    /// for now, because all is done or because enough is lacking.
    ///
    /// # Errors
    /// A page of the own file is not what its place needs.
    pub fn walk<M: PageMap>(&mut self, own: &M, pages_max: usize) -> Result<bool, TransferError> {
        let Some(target) = &self.target else { return Ok(false) };
        for _ in 0..pages_max {
            if LACKING_MAX <= self.lacking.len() {
                return Ok(false);
            }
            let Some(link) = self.stack.pop() else { return Ok(false) };
            let wanted = link.wanted;
            let held = self.held.get(&wanted.first.0).filter(|held| held.wanted == wanted);
            if let Some(held) = held {
                self.stack.extend(held.children.iter().rev());
                self.reached.push((wanted.first.0, u64::from(wanted.count)));
                self.reached_pages += u64::from(wanted.count);
                if target.meta.page_count < self.reached_pages {
                    return Err(TransferError::Misplaced(wanted.first));
                }
                continue;
            }
            match own_children(own, &link, target)? {
                Some(children) => self.stack.extend(children.into_iter().rev()),
                None => self.lacking.push_back(link),
            }
        }
        Ok(!self.stack.is_empty() && self.lacking.len() < LACKING_MAX)
    }

    /// Takes what is to be asked for: one run at least if there is any, then while it is no more
    /// than `pages_max` pages and `runs_max` runs. Each is asked for once.
    pub fn take_wanted(&mut self, pages_max: u32, runs_max: usize, out: &mut Vec<Wanted>) -> u32 {
        let mut pages = 0;
        while let Some(link) = self.lacking.front() {
            let count = link.wanted.count;
            if runs_max <= out.len() || (0 < pages && pages_max < pages + count) {
                break;
            }
            let link = self.lacking.pop_front().expect("just looked at");
            pages += count;
            out.push(link.wanted);
            self.asked.insert(link.wanted.first.0, link);
        }
        pages
    }

    /// Whether a run is awaited.
    pub fn is_asked(&self, first: PageNumber) -> bool {
        self.asked.contains_key(&first.0)
    }

    /// Takes a run in that was asked for: from now on it counts as lying in the side file.
    ///
    /// # Errors
    /// It is not what was asked for; nothing changes, and it is not asked for again by itself.
    pub fn receive(&mut self, first: PageNumber, bytes: &[u8]) -> Result<(), TransferError> {
        let (Some(target), Some(link)) = (&self.target, self.asked.get(&first.0).copied()) else {
            return Err(TransferError::Misplaced(first));
        };
        let size_bytes = link.wanted.count as usize * PAGE_SIZE_BYTES;
        if bytes.len() != size_bytes || checksum(bytes) != link.wanted.checksum {
            return Err(TransferError::Broken(first));
        }
        let children = link
            .children(bytes, target.meta.page_count)
            .map_err(|_| TransferError::Misplaced(first))?;
        self.asked.remove(&first.0);
        self.displace(link.wanted);
        self.held.insert(first.0, Held { wanted: link.wanted, children: children.into() });
        // Looked at again in the walk, which finds it held.
        self.stack.push(link);
        Ok(())
    }

    /// What lay in the side file where a run is written now is gone.
    fn displace(&mut self, wanted: Wanted) {
        let (first, end) = (wanted.first.0, wanted.first.0 + u64::from(wanted.count));
        let from = first.saturating_sub(u64::from(RUN_PAGES_MAX));
        let overlaps = |held: &Held| first < held.wanted.first.0 + u64::from(held.wanted.count);
        let gone: Vec<u64> = self
            .held
            .range(from..end)
            .filter(|(_, held)| overlaps(held))
            .map(|(page, _)| *page)
            .collect();
        for page in gone {
            self.held.remove(&page);
        }
    }

    /// Whether everything that the target reaches is held here.
    pub fn is_complete(&self) -> bool {
        let waits = !self.stack.is_empty() || !self.lacking.is_empty() || !self.asked.is_empty();
        self.target.is_some() && !waits
    }

    /// The runs of the side file that belong to the target, ascending and joined.
    ///
    /// # Errors
    /// Two parents name one page: it is no checkpoint.
    pub fn runs(&mut self) -> Result<Vec<(u64, u64)>, TransferError> {
        assert!(self.is_complete());
        self.reached.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (first, count) in self.reached.iter().copied() {
            match runs.last_mut() {
                Some((last, pages)) if first < *last + *pages => {
                    return Err(TransferError::Misplaced(PageNumber(first)));
                }
                Some((last, pages)) if first == *last + *pages => *pages += count,
                _ => runs.push((first, count)),
            }
        }
        Ok(runs)
    }

    /// Runs in the side file, those of earlier targets too.
    pub fn held_count(&self) -> usize {
        self.held.len()
    }
}

/// What is below a page that the own file holds: nothing to look at if all of it is there too;
/// `None` if the page itself is not.
fn own_children<M: PageMap>(
    own: &M,
    link: &Link,
    target: &Target,
) -> Result<Option<Vec<Link>>, TransferError> {
    let Wanted { first, count, checksum: expected } = link.wanted;
    if target.own_interval == 0 {
        return Ok(None);
    }
    let Ok(bytes) = own.pages(first, count, expected) else { return Ok(None) };
    // A map looks at a page once, and may have done so for another content.
    if checksum(bytes) != expected {
        return Ok(None);
    }
    let is_old = |birth: u64| birth <= target.own_interval;
    if link.place == Place::Run || link.birth(bytes).is_some_and(is_old) {
        return Ok(Some(Vec::new()));
    }
    // Of a checkpoint that was never completed here: what is below it may be missing.
    let children = link.children(bytes, target.meta.page_count);
    children.map(Some).map_err(|_| TransferError::Misplaced(first))
}

/// Runs that may wait to be asked for; the walk stops there.
const LACKING_MAX: usize = 1024;
