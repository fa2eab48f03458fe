//! The replicated part of leases: records and attached keys. Time is the shard's: it decides when a
//! lease has expired and proposes the revoke.

/// A lease as it is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id, never 0.
    pub id: i64,
    /// What was granted, in seconds.
    pub ttl_s: i64,
}

/// What an entry did to the set of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A new lease.
    Granted(Lease),
    /// The lease is gone, its keys with it.
    Revoked(i64),
}
