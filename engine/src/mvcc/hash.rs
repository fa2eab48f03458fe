//! HashKV: CRC-32C over the stored versions, equal to etcd's.

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C as etcd computes it.
    pub hash: u32,
    /// Only hashes with equal compact revisions can be compared.
    pub compact_revision: i64,
    /// The revision hashed up to.
    pub hash_revision: i64,
    /// The store's revision.
    pub revision: i64,
}

/// A hash under way.
#[derive(Clone, Debug)]
pub struct HashRead {
    pub(crate) revision: i64,
}
