//! B+tree over pages: ordered entries with weights and flags summed up in the branches.
//!
//! A [`Tree`] is a small value; every operation takes the store of its pages. Entries are {key,
//! value, mark}; keys are ordered as byte strings. After an operation that changes the tree
//! returned `Corruption`, the tree and the store may be in the middle of a change and must be
//! opened again from their checkpoint. [`Tree::warm`] reads beforehand what a change of a key may
//! read, so that the change itself cannot fail.
//!
//! Floors: `change` and `trim` find what is to be changed (`search`) and change a page; `regroup`
//! moves cells between pages where one is too full or too empty.

mod approach;
mod change;
pub mod cursor;
mod regroup;
mod search;
mod trim;
pub mod verify;

pub use crate::page::meta::Tree;
pub use crate::page::node::{Mark, Summary};
pub use approach::APPROACH_KEYS_MAX;
pub(crate) use approach::Trail;
pub use search::Place;
pub use trim::Trimmed;

use crate::page::map::{Checksum, PageMap, PageNumber};
use crate::page::store::Store;
use cursor::Cursor;

impl Tree {
    /// A tree without entries.
    pub const EMPTY: Tree = Tree {
        root: PageNumber(0),
        checksum: Checksum(0),
        height: 0,
        visit: false,
        entries: 0,
        weight: 0,
    };

    /// A cursor that stands nowhere yet.
    pub fn cursor<'s, M: PageMap>(&self, store: &'s Store<M>) -> Cursor<'s, M> {
        Cursor::new(store, *self)
    }
}
