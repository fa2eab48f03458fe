//! The members of the group in the system tree, and the ids of those that were removed.
//!
//! Invariants: an id is a member's or a removed one's, never both, and a removed one never comes
//! back; no two members share a peer URL; a refused change changes nothing.
//! Source: fact sheet of etcd's behaviour, section 11; replication.md, Membership;
//! `docs/format/versions.md`.

use crate::api::{Founder, Reject};
use crate::engine::Member;
use crate::page::layout::{RUN_REF_BYTES, RunRef};
use crate::page::limits::VALUE_INLINE_BYTES_MAX;
use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;
use crate::tree::{Mark, Tree};

const MEMBER_PREFIX: u8 = b'M';
const REMOVED_PREFIX: u8 = b'R';

/// The group's first members. A second founding changes nothing.
pub(crate) fn found<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    founders: &[Founder<'_>],
) -> Result<(), Corruption> {
    if !members(store, system)?.is_empty() {
        return Ok(());
    }
    for founder in founders {
        let member = Member {
            id: founder.member_id,
            name: founder.name.to_string(),
            peer_urls: owned(&founder.peer_urls),
            ..Member::default()
        };
        store_member(store, system, &member)?;
    }
    Ok(())
}

/// What a member tells of itself.
pub(crate) struct Told<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it serves etcd's API.
    pub client_urls: &'a [&'a str],
    /// Where it speaks the binary protocol.
    pub binary_urls: &'a [&'a str],
}

/// Keeps what a member tells of itself.
pub(crate) fn publish<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: u64,
    told: &Told<'_>,
) -> Result<Result<(), Reject>, Corruption> {
    let Some(mut member) = member(store, system, id)? else {
        return Ok(Err(Reject::MemberNotFound));
    };
    member.name = told.name.to_string();
    member.client_urls = owned(told.client_urls);
    member.binary_urls = owned(told.binary_urls);
    store_member(store, system, &member)?;
    Ok(Ok(()))
}

/// A member more.
pub(crate) fn add<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: u64,
    peer_urls: &[&str],
    is_learner: bool,
) -> Result<Result<(), Reject>, Corruption> {
    if is_removed(store, system, id)? {
        return Ok(Err(Reject::MemberRemoved));
    }
    let others = members(store, system)?;
    if others.iter().any(|member| member.id == id) {
        return Ok(Err(Reject::MemberExists));
    }
    if takes_url(&others, id, peer_urls) {
        return Ok(Err(Reject::PeerUrlExists));
    }
    let peer_urls = owned(peer_urls);
    let member = Member { id, peer_urls, is_learner, ..Member::default() };
    store_member(store, system, &member)?;
    Ok(Ok(()))
}

/// A member less, for ever.
pub(crate) fn remove<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: u64,
) -> Result<Result<(), Reject>, Corruption> {
    if is_removed(store, system, id)? {
        return Ok(Err(Reject::MemberRemoved));
    }
    let key = member_key(id);
    let run = match system.get(store, &key)? {
        None => return Ok(Err(Reject::MemberNotFound)),
        Some(value) => owned_run(&key, value),
    };
    let was_there = system.remove(store, &key)?;
    assert!(was_there, "just read");
    if let Some(run) = run {
        store.free_run(&run);
    }
    system.insert(store, &removed_key(id), &[], Mark::default())?;
    Ok(Ok(()))
}

/// A learner becomes a voter.
pub(crate) fn promote<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: u64,
) -> Result<Result<(), Reject>, Corruption> {
    let Some(mut member) = member(store, system, id)? else {
        return Ok(Err(Reject::MemberNotFound));
    };
    if !member.is_learner {
        return Ok(Err(Reject::MemberNotLearner));
    }
    member.is_learner = false;
    store_member(store, system, &member)?;
    Ok(Ok(()))
}

/// A member is reached elsewhere.
pub(crate) fn update<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    id: u64,
    peer_urls: &[&str],
) -> Result<Result<(), Reject>, Corruption> {
    let others = members(store, system)?;
    let Some(member) = others.iter().find(|member| member.id == id) else {
        return Ok(Err(Reject::MemberNotFound));
    };
    if takes_url(&others, id, peer_urls) {
        return Ok(Err(Reject::PeerUrlExists));
    }
    let member = Member { peer_urls: owned(peer_urls), ..member.clone() };
    store_member(store, system, &member)?;
    Ok(Ok(()))
}

/// All members, by id.
pub(crate) fn members<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
) -> Result<Vec<Member>, Corruption> {
    let mut members = Vec::new();
    let mut cursor = system.cursor(store);
    let mut on_entry = cursor.seek_at_or_after(&[MEMBER_PREFIX])?;
    while on_entry {
        let Some(id) = cursor.key()?.strip_prefix(&[MEMBER_PREFIX]) else { break };
        let id = u64::from_be_bytes(id.try_into().expect("a member's key has 9 bytes"));
        members.push(decode(store, id, cursor.value())?);
        on_entry = cursor.next()?;
    }
    Ok(members)
}

/// Ids of members that were removed, ascending.
pub(crate) fn removed_ids<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
) -> Result<Vec<u64>, Corruption> {
    let mut ids = Vec::new();
    let mut cursor = system.cursor(store);
    let mut on_entry = cursor.seek_at_or_after(&[REMOVED_PREFIX])?;
    while on_entry {
        let Some(id) = cursor.key()?.strip_prefix(&[REMOVED_PREFIX]) else { break };
        ids.push(u64::from_be_bytes(id.try_into().expect("a removed id's key has 9 bytes")));
        on_entry = cursor.next()?;
    }
    Ok(ids)
}

/// The run that an entry of the system tree owns.
pub(crate) fn owned_run(key: &[u8], value: &[u8]) -> Option<RunRef> {
    match (key, value) {
        ([MEMBER_PREFIX, ..], [flags, run @ ..]) if flags & IN_RUN != 0 => {
            Some(RunRef::decode(run).expect("a stored run is whole"))
        }
        _ => None,
    }
}

/// Whether [`owned_run`] can read an entry that anybody may have made.
pub(crate) fn check_owned_run(key: &[u8], value: &[u8]) -> bool {
    match (key, value) {
        ([MEMBER_PREFIX, ..], [flags, run @ ..]) if flags & IN_RUN != 0 => {
            RunRef::decode(run).is_some()
        }
        _ => true,
    }
}

fn member<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
    id: u64,
) -> Result<Option<Member>, Corruption> {
    match system.get(store, &member_key(id))? {
        Some(value) => decode(store, id, value).map(Some),
        None => Ok(None),
    }
}

fn is_removed<M: PageMap>(store: &Store<M>, system: &Tree, id: u64) -> Result<bool, Corruption> {
    Ok(system.get(store, &removed_key(id))?.is_some())
}

fn takes_url(members: &[Member], id: u64, peer_urls: &[&str]) -> bool {
    let others = members.iter().filter(|member| member.id != id);
    others.flat_map(|member| &member.peer_urls).any(|url| peer_urls.contains(&url.as_str()))
}

/// Writes a member's record: a byte of flags, then the texts or their run.
fn store_member<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    member: &Member,
) -> Result<(), Corruption> {
    let key = member_key(member.id);
    let old_run = system.get(store, &key)?.and_then(|value| owned_run(&key, value));
    let flags = if member.is_learner { LEARNER } else { 0 };
    let mut value = vec![flags];
    put_text(&member.name, &mut value);
    for urls in [&member.peer_urls, &member.client_urls, &member.binary_urls] {
        value.extend_from_slice(&(urls.len() as u32).to_le_bytes());
        urls.iter().for_each(|url| put_text(url, &mut value));
    }
    if VALUE_INLINE_BYTES_MAX < value.len() {
        let run = store.write_run(&value[1..]);
        value = [&[flags | IN_RUN][..], &run.encode()].concat();
        assert!(value.len() == 1 + RUN_REF_BYTES);
    }
    system.insert(store, &key, &value, Mark::default())?;
    if let Some(run) = old_run {
        store.free_run(&run);
    }
    Ok(())
}

fn decode<M: PageMap>(store: &Store<M>, id: u64, value: &[u8]) -> Result<Member, Corruption> {
    let [flags, texts @ ..] = value else {
        panic!("a member's record begins with its flags");
    };
    let mut rest = match flags & IN_RUN {
        0 => texts,
        _ => store.read_run(&RunRef::decode(texts).expect("a stored run is whole"))?,
    };
    let member = Member {
        id,
        name: take_text(&mut rest),
        peer_urls: take_texts(&mut rest),
        client_urls: take_texts(&mut rest),
        // A record from before there were any ends here.
        binary_urls: if rest.is_empty() { Vec::new() } else { take_texts(&mut rest) },
        is_learner: flags & LEARNER != 0,
    };
    assert!(rest.is_empty());
    Ok(member)
}

fn member_key(id: u64) -> [u8; 9] {
    prefixed(MEMBER_PREFIX, id)
}

fn removed_key(id: u64) -> [u8; 9] {
    prefixed(REMOVED_PREFIX, id)
}

fn prefixed(prefix: u8, id: u64) -> [u8; 9] {
    let mut key = [prefix; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take_u32(rest: &mut &[u8]) -> usize {
    let (head, tail) = rest.split_first_chunk().expect("a member's record is whole");
    *rest = tail;
    u32::from_le_bytes(*head) as usize
}

fn take_text(rest: &mut &[u8]) -> String {
    let size = take_u32(rest);
    let (head, tail) = rest.split_at(size);
    *rest = tail;
    String::from_utf8(head.to_vec()).expect("a member's texts were checked when decoded")
}

fn take_texts(rest: &mut &[u8]) -> Vec<String> {
    (0..take_u32(rest)).map(|_| take_text(rest)).collect()
}

/// The texts lie in a run of their own.
const IN_RUN: u8 = 1;
/// The member is a learner.
const LEARNER: u8 = 2;
