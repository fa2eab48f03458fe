//! `inspect wal`: what recovery would find in each WAL.

use std::io::{self, Write};

use engine::wal::position::GroupId;
use engine::wal::recovered::{RecoverError, Recovered, RecoveredGroup};

use super::place::Place;
use super::segments::{Segments, damage_of, is_cut, is_damaged};
use super::{InspectError, Verdict};

pub(super) fn inspect(place: &Place, out: &mut impl Write) -> Result<Verdict, InspectError> {
    let mut verdict = Verdict::Whole;
    for (core, path) in place.wals() {
        let segments = Segments::new(path);
        match segments.recover() {
            Ok(recovered) => {
                show(core, &recovered, out)?;
                verdict = verdict.and(Verdict::damaged_if(is_damaged(&recovered)));
            }
            Err(RecoverError::NoFrames) if segments.is_empty() => {
                writeln!(out, "wal-{core}: no segments yet")?;
            }
            Err(error) => {
                writeln!(out, "wal-{core}: DAMAGED: {error}")?;
                verdict = Verdict::Damaged;
            }
        }
    }
    Ok(verdict)
}

fn show(core: u16, recovered: &Recovered, out: &mut impl Write) -> io::Result<()> {
    let Recovered { log_id, run, end, frames, records, .. } = recovered;
    writeln!(out, "wal-{core}: log {:016x}, run {}, ends at {end}", log_id.0, run.0)?;
    writeln!(out, "  {frames} whole frames with {records} records")?;
    for file in &recovered.segments {
        let cut = if is_cut(file) { "; DAMAGED: no segment is made of this size" } else { "" };
        writeln!(out, "  segment {}: {} bytes{cut}", file.id.0, file.size_bytes)?;
    }
    for (id, group) in &recovered.groups {
        show_group(*id, group, out)?;
    }
    for (key, value) in &recovered.notes {
        writeln!(out, "  note {key}: {} bytes", value.len())?;
    }
    for gap in damage_of(recovered) {
        let what = if gap.has_directory {
            "its directory says what it held"
        } else {
            "what it held is not known"
        };
        writeln!(out, "  DAMAGED: synced frames from {} to {} are lost; {what}", gap.from, gap.to)?;
    }
    if recovered.has_torn_tail {
        writeln!(out, "  torn tail: behind {end} lie frames that were never acknowledged")?;
    }
    Ok(())
}

fn show_group(id: GroupId, group: &RecoveredGroup, out: &mut impl Write) -> io::Result<()> {
    let state = &group.state;
    let hard_state = &state.hard_state;
    writeln!(
        out,
        "  group {}: term {}, vote {:x}, commit {}, checkpoint {} of term {}, last entry {} of \
         term {}",
        id.0,
        hard_state.term,
        hard_state.vote,
        hard_state.commit,
        state.checkpoint.index,
        state.checkpoint.term,
        state.last.index,
        state.last.term
    )?;
    let size_bytes: usize = group.entries.iter().map(|entry| entry.data.len()).sum();
    writeln!(out, "    entries: {}, {size_bytes} bytes", group.entries.len())?;
    if let Some(install) = &state.install {
        let (index, checksum) = (install.last.index, install.checksum);
        writeln!(out, "    install of checkpoint {index} ({checksum:016x}) is not done")?;
    }
    for (first, last) in &group.missing {
        writeln!(out, "    DAMAGED: entries {first} to {last} are lost")?;
    }
    if state.is_damaged {
        writeln!(
            out,
            "    DAMAGED: hard state and end of the log may be older than what was synced"
        )?;
    }
    Ok(())
}
