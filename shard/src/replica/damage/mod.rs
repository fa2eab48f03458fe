//! What a member does about what its disk lost: entries, pages, or all of them.
//!
//! | lost | room |
//! |---|---|
//! | entries of the log, at its start | [`mending`]: asked of the others before it votes or answers |
//! | a page, while it runs | [`page_repair`]: fetched from a member that has the same one |
//! | a page that an entry needed | [`rewind`]: back to the checkpoint, and on from there |
//! | the pages a start needs | [`opening`]: waits for them |
//! | what nobody has any more | [`start_over`]: another member's state instead of the own |
//!
//! Invariant: what cannot be proven to be what it was is never served and never voted with.
//! Source: replication.md, Damage.

pub(super) mod mending;
pub(super) mod opening;
pub(super) mod page_repair;
pub(super) mod rewind;
pub(super) mod start_over;
