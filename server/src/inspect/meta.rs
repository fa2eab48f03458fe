//! `inspect meta`: what the two meta pages say.

use std::io::{self, Write};

use engine::page::meta::Meta;

use super::page_reader::{PageReader, Slot};
use super::place::Place;
use super::{InspectError, Verdict};

pub(super) fn inspect(place: &Place, out: &mut impl Write) -> Result<Verdict, InspectError> {
    let Some(reader) = PageReader::open(place.page_file())? else {
        writeln!(out, "no page file yet")?;
        return Ok(Verdict::Whole);
    };
    let slots = reader.slots();
    for (number, slot) in slots.iter().enumerate() {
        match slot {
            Slot::NeverWritten => writeln!(out, "slot {number}: never written")?,
            Slot::Unreadable => writeln!(out, "slot {number}: DAMAGED: it cannot be read")?,
            Slot::Broken => writeln!(
                out,
                "slot {number}: DAMAGED: torn, altered or of another format; a power cut in the \
                 middle of a checkpoint leaves this too"
            )?,
            Slot::Valid(meta) => show(number, meta, out)?,
        }
    }
    let newest = slots.iter().filter_map(|slot| match slot {
        Slot::Valid(meta) => Some(meta),
        _ => None,
    });
    match newest.max_by_key(|meta| meta.interval) {
        Some(meta) => writeln!(out, "newest: slot {}", meta.slot())?,
        None => writeln!(out, "newest: none")?,
    }
    let is_damaged = |slot: &Slot| matches!(slot, Slot::Broken | Slot::Unreadable);
    Ok(Verdict::damaged_if(slots.iter().any(is_damaged)))
}

fn show(number: usize, meta: &Meta, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "slot {number}: interval {}, applied index {}, group {}, {} pages, {} bytes of state",
        meta.interval,
        meta.applied_index,
        meta.group,
        meta.page_count,
        meta.state.len()
    )?;
    for (name, tree) in TREE_NAMES.iter().zip(&meta.trees) {
        if tree.height == 0 {
            writeln!(out, "  {name}: empty")?;
            continue;
        }
        writeln!(
            out,
            "  {name}: root {}, checksum {:016x}, height {}, entries {}, weight {}",
            tree.root.0, tree.checksum.0, tree.height, tree.entries, tree.weight
        )?;
    }
    Ok(())
}

/// In the order of their roots.
pub(super) const TREE_NAMES: [&str; 3] = ["keys", "history", "system"];
