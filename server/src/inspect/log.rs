//! `inspect log`: the replicated log as lines of JSON, for checkers.
//!
//! One line an entry, ascending, without a hole but for damage, the newest version of each index: `index`, `term`, and `request`
//! where a client's request made it. Last, `{"commit":N}`: the highest index that the files prove to
//! be committed, by the hard state or by a checkpoint. A torn tail is cut off without a word. What
//! is damaged is told beside the lines, so that they stay lines of JSON.

use std::io::Write;

use engine::command::decode;
use engine::wal::position::GroupId;
use engine::wal::recovered::{RecoverError, RecoveredEntry, RecoveredGroup};
use net::etcd::json::write_command;

use super::page_reader::PageReader;
use super::place::Place;
use super::segments::{Segments, is_damaged};
use super::{DEFAULT_GROUP, InspectError, Verdict};

pub(super) fn inspect(
    place: &Place,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<Verdict, InspectError> {
    // Before the WAL: of a running member, the log then reaches at least as far as the pages.
    let newest = PageReader::open(place.page_file())?.and_then(|reader| reader.newest());
    let applied_index = newest.map_or(0, |meta| meta.applied_index);
    let mut verdict = Verdict::Whole;
    let mut group: Option<RecoveredGroup> = None;
    for (core, path) in place.wals() {
        let segments = Segments::new(path);
        let recovered = match segments.recover() {
            Ok(recovered) => recovered,
            Err(RecoverError::NoFrames) if segments.is_empty() => continue,
            Err(error) => {
                writeln!(notes, "wal-{core}: {error}")?;
                verdict = Verdict::Damaged;
                continue;
            }
        };
        if is_damaged(&recovered) {
            writeln!(notes, "wal-{core} is damaged: see inspect wal")?;
            verdict = Verdict::Damaged;
        }
        let mut groups = recovered.groups;
        if let Some(found) = groups.remove(&GroupId(DEFAULT_GROUP))
            && group.as_ref().is_none_or(|known| known.run < found.run)
        {
            group = Some(found);
        }
    }
    let group = group.unwrap_or_default();
    for (first, last) in &group.missing {
        writeln!(notes, "entries {first} to {last} are lost")?;
    }
    let mut line = Vec::new();
    for entry in group.entries.range(first_shown(&group)..) {
        line.clear();
        if let Err(malformed) = write_entry(&mut line, entry) {
            writeln!(notes, "entry {} cannot be understood: {malformed}", entry.index)?;
            verdict = Verdict::Damaged;
        }
        out.write_all(&line)?;
    }
    let state = &group.state;
    let commit = state.hard_state.commit.max(state.checkpoint.index).max(applied_index);
    writeln!(out, "{{\"commit\":{commit}}}")?;
    Ok(verdict)
}

/// Where the lines begin: what lies at and before the checkpoint is shown as far as it hangs together
/// with what lies behind it; before that, segments were released.
fn first_shown(group: &RecoveredGroup) -> usize {
    let checkpoint = group.state.checkpoint.index;
    let mut first = group.entries.partition_point(|entry| entry.index <= checkpoint);
    let mut next = checkpoint + 1;
    while 0 < first && group.entries[first - 1].index + 1 == next {
        first -= 1;
        next -= 1;
    }
    first
}

/// A line for an entry. One whose command is not understood has a line all the same.
fn write_entry(
    line: &mut Vec<u8>,
    entry: &RecoveredEntry,
) -> Result<(), engine::command::Malformed> {
    let (index, term) = (entry.index, entry.term);
    line.extend_from_slice(format!("{{\"index\":{index},\"term\":{term}").as_bytes());
    let decoded = match entry.kind {
        KIND_COMMAND => decode(&entry.data).map(|(_, command)| Some(command)),
        _ => Ok(None),
    };
    let outcome = decoded.map(|command| {
        let before = line.len();
        line.extend_from_slice(b",\"request\":");
        let is_request = command.is_some_and(|command| write_command(line, &command));
        if !is_request {
            line.truncate(before);
        }
    });
    line.extend_from_slice(b"}\n");
    outcome
}

/// What the WAL calls an entry that holds a command.
const KIND_COMMAND: u8 = 1;
