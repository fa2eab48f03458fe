//! Replicas are equal page by page: the checkpoint of one interval is the same bytes everywhere.
//!
//! A meta page names all it reaches by checksum, so equal meta pages are equal trees, freelists and
//! histories. A member that comes back writes its interval's checkpoint again, to the same bytes.
//! Source: architecture.md section 6; storage.md, Pages and checkpoints.

use std::collections::BTreeMap;

use engine::page::meta::check_meta;

use super::history::Complaint;

const CHECK: &str = "replicas";

/// Checkpoints seen so far, of any member.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    first: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Checkpoints {
    /// A member writes a meta page.
    ///
    /// # Errors
    /// It is none, or another one than the first member's of this interval.
    pub fn on_meta_page(
        &mut self,
        member: u64,
        interval: u64,
        slot: u64,
        bytes: &[u8],
    ) -> Result<(), Complaint> {
        let Some(meta) = check_meta(bytes, slot) else {
            let what = format!("member {member} writes no meta page for interval {interval}");
            return Err(Complaint::new(CHECK, what));
        };
        if meta.interval != interval {
            let what = format!("member {member} writes {} as {interval}", meta.interval);
            return Err(Complaint::new(CHECK, what));
        }
        let (first, known) = self.first.entry(interval).or_insert((member, bytes.to_vec()));
        if known != bytes {
            let other = check_meta(known, slot);
            let what = format!(
                "interval {interval} differs: member {first} wrote {other:?}, \
                 member {member} writes {meta:?}"
            );
            return Err(Complaint::new(CHECK, what));
        }
        Ok(())
    }

    /// How many intervals were seen.
    pub fn count(&self) -> usize {
        self.first.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::page::layout::PageRef;
    use engine::page::limits::META_INDEXES_MAX;
    use engine::page::meta::{Meta, Tree};

    fn meta(applied_index: u64) -> Vec<u8> {
        let meta = Meta {
            group: 1,
            interval: 3,
            applied_index,
            page_count: 9,
            trees: [Tree::default(); 3],
            state: vec![1, 2],
            pending: PageRef::default(),
            indexes: [PageRef::default(); META_INDEXES_MAX],
        };
        meta.encode()
    }

    #[test]
    fn different_pages_are_complained_about() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.on_meta_page(1, 3, 1, &meta(7)).expect("the first");
        checkpoints.on_meta_page(2, 3, 1, &meta(7)).expect("the same");
        checkpoints.on_meta_page(2, 3, 1, &meta(8)).expect_err("another one");
        checkpoints.on_meta_page(2, 5, 1, &meta(7)).expect_err("another interval");
        checkpoints.on_meta_page(2, 3, 1, &[7; 4096]).expect_err("no meta page");
        assert_eq!(checkpoints.count(), 1);
    }
}
