//! A transaction without writes, answered like a read.

/// A read-only transaction under way.
#[derive(Clone, Debug)]
pub struct TxnRead {
    pub(crate) revision: i64,
}
