//! The replicated part of leases: records and attached keys, in the system tree. Time is the
//! shard's: it decides when a lease has expired and proposes the revoke.
//!
//! Invariants: a key is attached to at most one lease, the one in its newest version; an attached
//! key is live; a lease's keys stand in key order.
//! Source: fact sheet of etcd's behaviour, section 7.

use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;
use crate::tree::{Mark, Tree};

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

/// First byte of a lease's record in the system tree.
const LEASE_PREFIX: u8 = b'L';
/// First byte of an attachment in the system tree.
const ATTACHED_PREFIX: u8 = b'K';
const LEASE_KEY_SIZE_BYTES: usize = 9;

fn lease_key(prefix: u8, id: i64) -> [u8; LEASE_KEY_SIZE_BYTES] {
    assert!(id != 0);
    let mut key = [prefix; LEASE_KEY_SIZE_BYTES];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

fn attached_key(id: i64, key: &[u8]) -> Vec<u8> {
    assert!(!key.is_empty());
    [&lease_key(ATTACHED_PREFIX, id)[..], key].concat()
}

fn decode_lease(key: &[u8], value: &[u8]) -> Lease {
    assert!(key[0] == LEASE_PREFIX);
    Lease {
        id: i64::from_be_bytes(key[1..].try_into().expect("a lease's key has 9 bytes")),
        ttl_s: i64::from_le_bytes(value.try_into().expect("a lease's record has 8 bytes")),
    }
}

/// Adds a lease that is not there.
pub(crate) fn grant<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    lease: Lease,
) -> Result<(), Corruption> {
    let key = lease_key(LEASE_PREFIX, lease.id);
    let known = system.insert(store, &key, &lease.ttl_s.to_le_bytes(), Mark::default())?;
    assert!(!known);
    Ok(())
}

/// Removes a lease that has no keys any more.
pub(crate) fn remove<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: i64,
) -> Result<(), Corruption> {
    assert!(first_key(store, system, id)?.is_none());
    let known = system.remove(store, &lease_key(LEASE_PREFIX, id))?;
    assert!(known);
    Ok(())
}

/// A lease by id.
pub(crate) fn lookup<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
    id: i64,
) -> Result<Option<Lease>, Corruption> {
    if id == 0 {
        return Ok(None);
    }
    let key = lease_key(LEASE_PREFIX, id);
    Ok(system.get(store, &key)?.map(|value| decode_lease(&key, value)))
}

/// All leases.
pub(crate) fn all<M: PageMap>(store: &Store<M>, system: &Tree) -> Result<Vec<Lease>, Corruption> {
    let mut leases = Vec::new();
    let mut cursor = system.cursor(store);
    let mut on_entry = cursor.seek_at_or_after(&[LEASE_PREFIX])?;
    while on_entry {
        let key = cursor.key()?;
        if key[0] != LEASE_PREFIX {
            break;
        }
        leases.push(decode_lease(key, cursor.value()));
        on_entry = cursor.next()?;
    }
    Ok(leases)
}

/// Attaches a key to a lease that is there.
pub(crate) fn attach<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: i64,
    key: &[u8],
) -> Result<(), Corruption> {
    let known = system.insert(store, &attached_key(id, key), &[], Mark::default())?;
    assert!(!known);
    Ok(())
}

/// Detaches a key from the lease it is attached to.
pub(crate) fn detach<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: i64,
    key: &[u8],
) -> Result<(), Corruption> {
    let known = system.remove(store, &attached_key(id, key))?;
    assert!(known);
    Ok(())
}

/// Reads the pages that attaching or detaching a key may read.
pub(crate) fn warm<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
    id: i64,
    key: &[u8],
) -> Result<(), Corruption> {
    system.warm(store, &lease_key(LEASE_PREFIX, id))?;
    system.warm(store, &attached_key(id, key))?;
    Ok(())
}

/// Whether a key is attached to a lease.
pub(crate) fn is_attached<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
    id: i64,
    key: &[u8],
) -> Result<bool, Corruption> {
    Ok(system.get(store, &attached_key(id, key))?.is_some())
}

/// The first key attached to a lease.
pub(crate) fn first_key<'s, M: PageMap>(
    store: &'s Store<M>,
    system: &Tree,
    id: i64,
) -> Result<Option<&'s [u8]>, Corruption> {
    let prefix = lease_key(ATTACHED_PREFIX, id);
    let mut cursor = system.cursor(store);
    if !cursor.seek_at_or_after(&prefix)? {
        return Ok(None);
    }
    Ok(cursor.key()?.strip_prefix(&prefix))
}

/// The first key at or after `key` that is attached to a lease.
pub(crate) fn key_at_or_after<'s, M: PageMap>(
    store: &'s Store<M>,
    system: &Tree,
    id: i64,
    key: &[u8],
) -> Result<Option<&'s [u8]>, Corruption> {
    let prefix = lease_key(ATTACHED_PREFIX, id);
    let mut cursor = system.cursor(store);
    if !cursor.seek_at_or_after(&attached_key(id, key))? {
        return Ok(None);
    }
    Ok(cursor.key()?.strip_prefix(&prefix))
}

/// Shows the keys attached to a lease in key order.
pub(crate) fn for_each_key<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
    id: i64,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), Corruption> {
    let prefix = lease_key(ATTACHED_PREFIX, id);
    let mut cursor = system.cursor(store);
    let mut on_entry = cursor.seek_at_or_after(&prefix)?;
    while on_entry {
        let Some(key) = cursor.key()?.strip_prefix(&prefix) else { break };
        sink(key);
        on_entry = cursor.next()?;
    }
    Ok(())
}
