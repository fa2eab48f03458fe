//! Alarms and members in the system tree, and the state of the group in the meta page.
//!
//! Source: fact sheet of etcd's behaviour, sections 11 and 13; `docs/format/versions.md`.

use super::version::Position;
use crate::api::AlarmType;
use crate::engine::{Genesis, Member};
use crate::page::layout::{RUN_REF_BYTES, RunRef};
use crate::page::limits::VALUE_INLINE_BYTES_MAX;
use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;
use crate::tree::{Mark, Tree};

const ALARM_PREFIX: u8 = b'A';
const MEMBER_PREFIX: u8 = b'M';

fn alarm_key(member_id: u64, alarm: AlarmType) -> [u8; 10] {
    let mut key = [ALARM_PREFIX; 10];
    key[1..9].copy_from_slice(&member_id.to_be_bytes());
    key[9] = alarm as u8;
    key
}

/// Raises an alarm; whether it was down.
pub(crate) fn raise_alarm<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    member_id: u64,
    alarm: AlarmType,
) -> Result<bool, Corruption> {
    Ok(!system.insert(store, &alarm_key(member_id, alarm), &[], Mark::default())?)
}

/// Clears an alarm; whether it was up.
pub(crate) fn clear_alarm<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    member_id: u64,
    alarm: AlarmType,
) -> Result<bool, Corruption> {
    system.remove(store, &alarm_key(member_id, alarm))
}

/// All alarms, by member.
pub(crate) fn alarms<M: PageMap>(
    store: &Store<M>,
    system: &Tree,
) -> Result<Vec<(u64, AlarmType)>, Corruption> {
    let mut alarms = Vec::new();
    let mut cursor = system.cursor(store);
    let mut on_entry = cursor.seek_at_or_after(&[ALARM_PREFIX])?;
    while on_entry {
        let Some(key) = cursor.key()?.strip_prefix(&[ALARM_PREFIX]) else { break };
        let (member_id, alarm) = key.split_first_chunk().expect("an alarm's key has 10 bytes");
        let alarm = if alarm == [AlarmType::Corrupt as u8] {
            AlarmType::Corrupt
        } else {
            AlarmType::NoSpace
        };
        alarms.push((u64::from_be_bytes(*member_id), alarm));
        on_entry = cursor.next()?;
    }
    Ok(alarms)
}

fn member_key(id: u64) -> [u8; 9] {
    let mut key = [MEMBER_PREFIX; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

/// Keeps what a member told of itself: a byte for where it lies, then the texts or their run.
pub(crate) fn publish_member<M: PageMap>(
    store: &mut Store<M>,
    system: &mut Tree,
    member: &Member,
) -> Result<(), Corruption> {
    let key = member_key(member.id);
    let old_run = match system.get(store, &key)? {
        Some([IN_RUN, run @ ..]) => Some(RunRef::decode(run).expect("a stored run is whole")),
        _ => None,
    };
    let mut value = vec![IN_PLACE];
    put_text(&member.name, &mut value);
    for urls in [&member.peer_urls, &member.client_urls] {
        value.extend_from_slice(&(urls.len() as u32).to_le_bytes());
        urls.iter().for_each(|url| put_text(url, &mut value));
    }
    if VALUE_INLINE_BYTES_MAX < value.len() {
        let run = store.write_run(&value[1..]);
        value = [&[IN_RUN][..], &run.encode()].concat();
        assert!(value.len() == 1 + RUN_REF_BYTES);
    }
    system.insert(store, &key, &value, Mark::default())?;
    if let Some(run) = old_run {
        store.free_run(&run);
    }
    Ok(())
}

/// All members that told of themselves.
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
        let texts = match cursor.value() {
            [IN_RUN, run @ ..] => {
                store.read_run(&RunRef::decode(run).expect("a stored run is whole"))?
            }
            [_, texts @ ..] => texts,
            [] => panic!("a member's record begins with where it lies"),
        };
        let mut rest = texts;
        members.push(Member {
            id,
            name: take_text(&mut rest),
            peer_urls: take_texts(&mut rest),
            client_urls: take_texts(&mut rest),
        });
        assert!(rest.is_empty());
        on_entry = cursor.next()?;
    }
    Ok(members)
}

/// The run that an entry of the system tree owns.
pub(crate) fn owned_run(key: &[u8], value: &[u8]) -> Option<RunRef> {
    match (key, value) {
        ([MEMBER_PREFIX, ..], [IN_RUN, run @ ..]) => {
            Some(RunRef::decode(run).expect("a stored run is whole"))
        }
        _ => None,
    }
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

/// What the meta page keeps of a group beside its trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) compact_mark: Position,
    pub(crate) applied_term: u64,
    pub(crate) genesis: Option<Genesis>,
}

impl GroupState {
    /// A group of which nothing was applied.
    pub(crate) fn fresh() -> GroupState {
        GroupState {
            revision: 1,
            compact_revision: -1,
            compact_mark: Position::default(),
            applied_term: 0,
            genesis: None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![STATE_VERSION, u8::from(self.genesis.is_some())];
        for field in [self.revision, self.compact_revision, self.compact_mark.main] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.compact_mark.sub.to_le_bytes());
        out.extend_from_slice(&self.applied_term.to_le_bytes());
        if let Some(genesis) = self.genesis {
            let fields = [
                genesis.page_size_bytes,
                genesis.value_inline_bytes_max,
                genesis.interval_pages_max,
            ];
            fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
            out.extend_from_slice(&genesis.interval_bytes_max.to_le_bytes());
        }
        out
    }

    /// Reads what a verified meta page holds; `None` if it is of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<GroupState> {
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = rest.split_first_chunk()?;
            *rest = tail;
            Some(*head)
        }
        let mut rest = bytes;
        let [version, has_genesis] = take(&mut rest)?;
        if version != STATE_VERSION || 1 < has_genesis {
            return None;
        }
        let state = GroupState {
            revision: i64::from_le_bytes(take(&mut rest)?),
            compact_revision: i64::from_le_bytes(take(&mut rest)?),
            compact_mark: Position {
                main: i64::from_le_bytes(take(&mut rest)?),
                sub: u32::from_le_bytes(take(&mut rest)?),
            },
            applied_term: u64::from_le_bytes(take(&mut rest)?),
            genesis: match has_genesis {
                0 => None,
                _ => Some(Genesis {
                    page_size_bytes: u32::from_le_bytes(take(&mut rest)?),
                    value_inline_bytes_max: u32::from_le_bytes(take(&mut rest)?),
                    interval_pages_max: u32::from_le_bytes(take(&mut rest)?),
                    interval_bytes_max: u64::from_le_bytes(take(&mut rest)?),
                }),
            },
        };
        let sound = rest.is_empty()
            && 1 <= state.revision
            && -1 <= state.compact_revision
            && state.compact_revision <= state.revision;
        sound.then_some(state)
    }
}

const IN_PLACE: u8 = 0;
const IN_RUN: u8 = 1;
const STATE_VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_group_comes_back_and_other_bytes_do_not() {
        let genesis = Genesis {
            page_size_bytes: 4096,
            value_inline_bytes_max: 640,
            interval_pages_max: 3,
            interval_bytes_max: 1 << 40,
        };
        let mark = Position { main: 3, sub: 9 };
        let full = GroupState {
            revision: 7,
            compact_revision: 5,
            compact_mark: mark,
            applied_term: 4,
            genesis: Some(genesis),
        };
        for state in [GroupState::fresh(), full] {
            let bytes = state.encode();
            assert_eq!(GroupState::decode(&bytes), Some(state));
            for size in 0..bytes.len() {
                assert_eq!(GroupState::decode(&bytes[..size]), None);
            }
        }
        let ahead = GroupState { compact_revision: 8, ..full };
        assert_eq!(GroupState::decode(&ahead.encode()), None);
    }
}
