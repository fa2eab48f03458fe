//! Alarms in the system tree, and the state of the group in the meta page.
//!
//! Source: fact sheet of etcd's behaviour, section 13; `docs/format/versions.md`.

use super::version::Position;
use crate::api::AlarmType;
use crate::engine::Genesis;
use crate::page::map::{Corruption, PageMap};
use crate::page::store::Store;
use crate::tree::{Mark, Tree};

const ALARM_PREFIX: u8 = b'A';

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
