//! Trees and freelist of a checkpoint are well-formed: what the page file holds when its meta page is
//! durable opens, every page is what its parent says, keys are in order, sums are right, and each
//! page is reached exactly once, as a part of a tree, a value, or free space.
//!
//! What is broken in the form of a tree ends the run by a panic of the walk that finds it. Bytes
//! that were found well-formed are so again.
//! Source: storage.md, Pages and checkpoints; architecture.md section 6.

use engine::engine::Engine;
use engine::page::heap::HeapPages;
use engine::page::meta::{SlotState, choose_meta};

use super::history::Complaint;

const CHECK: &str = "trees";

/// Page files seen so far, of any member.
#[derive(Clone, Debug, Default)]
pub struct Trees {
    /// The last one.
    image: HeapPages,
    /// It was found well-formed.
    is_sound: bool,
}

impl Trees {
    /// Judges the newest checkpoint of a page file: `read` puts it over the last one and says
    /// whether they differ.
    ///
    /// # Errors
    /// It does not open, or a page is not what its parent says.
    pub fn on_pages(
        &mut self,
        member: u64,
        read: impl FnOnce(&mut HeapPages) -> bool,
    ) -> Result<(), Complaint> {
        let has_changed = read(&mut self.image);
        if has_changed || !self.is_sound {
            self.is_sound = false;
            self.is_sound = check(member, &self.image)?;
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
    let engine = Engine::open(pages, &meta)
        .map_err(|failure| complain(format!("interval {interval} does not open: {failure:?}")))?;
    engine
        .verify()
        .map_err(|corruption| complain(format!("interval {interval}: {corruption:?}")))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::client::SimClient;
    use crate::sim::member::{SimMember, Storage, config};
    use engine::api::PutRequest;
    use engine::page::map::PAGE_SIZE_BYTES;
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
        let copy = |image: &mut HeapPages| {
            let has_changed = image.bytes() != pages.bytes();
            image.clone_from(&pages);
            has_changed
        };
        let mut trees = Trees::default();
        trees.on_pages(1, copy).expect("it is as it was written");
        assert!(trees.is_sound);
        trees.on_pages(2, copy).expect("the same bytes");
        let count = pages.bytes().len() / PAGE_SIZE_BYTES;
        let is_broken = |page: usize| {
            let breaks = |image: &mut HeapPages| {
                image.bytes_mut()[page * PAGE_SIZE_BYTES + 100] ^= 1;
                true
            };
            trees.clone().on_pages(2, breaks).is_err()
        };
        assert!(10 < (2..count).filter(|page| is_broken(*page)).count());
    }
}
