//! Trees and freelist of a checkpoint are well-formed: what the page file holds when its meta page is
//! durable opens, every page is what its parent says, keys are in order, sums are right, and each
//! page is reached exactly once, as a part of a tree, a value, or free space.
//!
//! What is broken in the form of a tree ends the run by a panic of the walk that finds it. The walk
//! comes to a page many times: it is verified against what each parent says, but not twice against
//! the same. Bytes that were found well-formed are so again.
//! Source: storage.md, Pages and checkpoints; architecture.md section 6.

use std::cell::Cell;

use engine::engine::Engine;
use engine::page::heap::HeapPages;
use engine::page::map::{Checksum, Corruption, PAGE_SIZE_BYTES, PageMap, PageNumber};
use engine::page::meta::{SlotState, choose_meta};

use super::history::Complaint;

const CHECK: &str = "trees";

/// Page files seen so far, of any member.
#[derive(Clone, Debug, Default)]
pub struct Trees {
    /// The last one that was found well-formed.
    sound: HeapPages,
    /// Reused.
    image: HeapPages,
}

impl Trees {
    /// Judges the newest checkpoint of the page file that `read` puts into the memory it is given.
    ///
    /// # Errors
    /// It does not open, or a page is not what its parent says.
    pub fn on_pages(
        &mut self,
        member: u64,
        read: impl FnOnce(&mut HeapPages),
    ) -> Result<(), Complaint> {
        read(&mut self.image);
        if self.image.bytes() != self.sound.bytes() && check(member, &self.image)? {
            std::mem::swap(&mut self.image, &mut self.sound);
        }
        Ok(())
    }
}

/// Judges the newest checkpoint of a page file; true if there is one.
///
/// # Errors
/// It does not open, or a page is not what its parent says.
pub fn check(member: u64, pages: &HeapPages) -> Result<bool, Complaint> {
    let complain = |what: String| Complaint::new(CHECK, format!("member {member}: {what}"));
    let [zero, one] = pages.meta_slots();
    let meta = match choose_meta(&zero, &one) {
        Ok(Some(meta)) => meta,
        Ok(None) => return Ok(false),
        // The first one was torn by a power cut: the log still says everything.
        Err(broken) if broken.slots.contains(&SlotState::NeverWritten) => return Ok(false),
        Err(broken) => return Err(complain(format!("no meta page is whole: {broken:?}"))),
    };
    let interval = meta.interval;
    let engine = Engine::open(VerifiedOnce::new(pages), &meta)
        .map_err(|failure| complain(format!("interval {interval} does not open: {failure:?}")))?;
    engine
        .verify()
        .map_err(|corruption| complain(format!("interval {interval}: {corruption:?}")))?;
    Ok(true)
}

/// Pages that do not change while they are looked at.
#[derive(Debug)]
struct VerifiedOnce<'a> {
    pages: &'a HeapPages,
    /// By the first page of a run: what its bytes were found to be, and how many pages.
    known: Vec<Cell<Option<(Checksum, u32)>>>,
}

impl VerifiedOnce<'_> {
    fn new(pages: &HeapPages) -> VerifiedOnce<'_> {
        let count = pages.bytes().len() / PAGE_SIZE_BYTES;
        VerifiedOnce { pages, known: vec![Cell::new(None); count] }
    }
}

impl PageMap for VerifiedOnce<'_> {
    fn pages(
        &self,
        first: PageNumber,
        count: u32,
        expected: Checksum,
    ) -> Result<&[u8], Corruption> {
        let known = self.known.get(first.0 as usize);
        if known.is_some_and(|known| known.get() == Some((expected, count))) {
            let start = first.0 as usize * PAGE_SIZE_BYTES;
            return Ok(&self.pages.bytes()[start..start + count as usize * PAGE_SIZE_BYTES]);
        }
        let bytes = self.pages.pages(first, count, expected)?;
        self.known[first.0 as usize].set(Some((expected, count)));
        Ok(bytes)
    }

    fn forget(&self, _first: PageNumber, _count: u32) {
        unreachable!("a check writes nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::client::SimClient;
    use crate::sim::member::{SimMember, Storage, config};
    use engine::api::PutRequest;
    use engine::page::map::checksum;
    use net::wire::Request;

    fn written() -> HeapPages {
        let mut member = SimMember::start(config(), Storage::default(), 1).expect("a fresh start");
        member.advance(5_000_000);
        let mut client = SimClient::connect(&mut member);
        for number in 0..2_000 {
            let key = format!("key-{number:05}");
            let put = PutRequest { key: key.as_bytes(), value: &[7; 200], ..PutRequest::default() };
            client.call(&mut member, &Request::Put(put)).expect("it is stored");
        }
        member.advance(2_000_000);
        member.kill().pages
    }

    #[test]
    fn a_page_that_is_not_what_its_parent_says_is_complained_about() {
        assert_eq!(check(1, &HeapPages::new()), Ok(false));
        let pages = written();
        assert_eq!(check(1, &pages), Ok(true));
        let count = pages.bytes().len() / PAGE_SIZE_BYTES;
        let broken = (2..count).filter(|page| {
            let mut pages = pages.clone();
            pages.bytes_mut()[page * PAGE_SIZE_BYTES + 100] ^= 1;
            check(1, &pages).is_err()
        });
        // The others are free.
        assert!(10 < broken.count());
    }

    #[test]
    fn what_was_found_well_formed_excuses_nothing_else() {
        let pages = written();
        let copy = |image: &mut HeapPages| image.clone_from(&pages);
        let mut trees = Trees::default();
        trees.on_pages(1, copy).expect("it is as it was written");
        assert_eq!(trees.sound.bytes(), pages.bytes());
        trees.on_pages(2, copy).expect("the same bytes");
        let count = pages.bytes().len() / PAGE_SIZE_BYTES;
        let is_broken = |page: usize| {
            let breaks = |image: &mut HeapPages| {
                copy(image);
                image.bytes_mut()[page * PAGE_SIZE_BYTES + 100] ^= 1;
            };
            trees.clone().on_pages(2, breaks).is_err()
        };
        assert!(10 < (2..count).filter(|page| is_broken(*page)).count());
    }

    #[test]
    fn a_page_is_verified_against_each_parent() {
        let pages = written();
        let map = VerifiedOnce::new(&pages);
        let page = &pages.bytes()[2 * PAGE_SIZE_BYTES..3 * PAGE_SIZE_BYTES];
        let right = checksum(page);
        for _ in 0..2 {
            assert_eq!(map.pages(PageNumber(2), 1, right), Ok(page));
            assert!(map.pages(PageNumber(2), 1, Checksum(right.0 ^ 1)).is_err());
            assert!(map.pages(PageNumber(2), 2, right).is_err(), "a run, not its first page");
            assert!(map.pages(PageNumber(1 << 40), 1, right).is_err(), "outside");
        }
    }
}
