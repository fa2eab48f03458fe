//! `inspect pages`: every page of the newest checkpoint.
//!
//! First a walk that names every broken page; then, if there is none, the engine's own check of the
//! whole store, which keeps a copy of it in memory and is left out where that is too much.
//! Invariant: while a member runs, the pages of a checkpoint may be written again once two newer
//! ones are durable. So what is broken counts only if the checkpoint still is the newest.

use std::io::{self, Write};

use engine::engine::{Engine, OpenError};
use engine::page::map::PAGE_SIZE_BYTES;
use engine::page::meta::Meta;

use super::meta::TREE_NAMES;
use super::page_reader::{CopiedPages, PageReader, Slot};
use super::page_walk::{Fault, Found, walk};
use super::place::Place;
use super::{InspectError, READ_ATTEMPTS_MAX, Verdict};

/// What came of the engine's check.
enum Check {
    Whole(Summary),
    Broken(OpenError),
    /// The store has more bytes in use than [`COPY_SIZE_BYTES_MAX`].
    TooLarge(Summary),
}

/// What the store says of itself.
struct Summary {
    revision: i64,
    compact_revision: i64,
    keys: u64,
    leases: usize,
    in_use_size_bytes: u64,
}

pub(super) fn inspect(place: &Place, out: &mut impl Write) -> Result<Verdict, InspectError> {
    let Some(reader) = PageReader::open(place.page_file())? else {
        writeln!(out, "no page file yet")?;
        return Ok(Verdict::Whole);
    };
    for _ in 0..READ_ATTEMPTS_MAX {
        let Some(meta) = reader.newest() else {
            let is_fresh = reader.slots().iter().all(|slot| *slot == Slot::NeverWritten);
            let words =
                if is_fresh { "no checkpoint yet" } else { "DAMAGED: no meta page is whole" };
            writeln!(out, "{words}")?;
            return Ok(Verdict::damaged_if(!is_fresh));
        };
        let found = walk(&reader, &meta);
        let check = (found.faults_count == 0).then(|| check(&reader, &meta));
        let is_whole = matches!(check, Some(Check::Whole(_) | Check::TooLarge(_)));
        if is_whole || reader.newest().is_some_and(|newest| newest.interval == meta.interval) {
            show(&meta, &found, check.as_ref(), out)?;
            return Ok(Verdict::damaged_if(!is_whole));
        }
    }
    writeln!(
        out,
        "the member replaced each of {READ_ATTEMPTS_MAX} checkpoints while it was read: look at a \
         calmer or stopped member"
    )?;
    Ok(Verdict::Whole)
}

fn check(reader: &PageReader, meta: &Meta) -> Check {
    let opened = Engine::open(CopiedPages::new(reader, meta), meta);
    let (engine, leases) = match opened.and_then(|engine| {
        let leases = engine.leases()?.len();
        Ok((engine, leases))
    }) {
        Ok(opened) => opened,
        Err(error) => return Check::Broken(error),
    };
    let summary = Summary {
        revision: engine.revision(),
        compact_revision: engine.compact_revision(),
        keys: engine.keys_count(),
        leases,
        in_use_size_bytes: engine.in_use_size_bytes(),
    };
    if COPY_SIZE_BYTES_MAX < summary.in_use_size_bytes {
        return Check::TooLarge(summary);
    }
    match engine.verify() {
        Ok(()) => Check::Whole(summary),
        Err(corruption) => Check::Broken(OpenError::Corruption(corruption)),
    }
}

fn show(meta: &Meta, found: &Found, check: Option<&Check>, out: &mut impl Write) -> io::Result<()> {
    let (interval, applied_index, pages) = (meta.interval, meta.applied_index, meta.page_count);
    writeln!(out, "checkpoint: interval {interval}, applied index {applied_index}, {pages} pages")?;
    for (name, count) in TREE_NAMES.iter().zip(&found.trees) {
        writeln!(
            out,
            "{name}: {} entries, {} branches, {} leaves, {} pages of runs",
            count.entries, count.branches, count.leaves, count.run_pages
        )?;
    }
    writeln!(out, "freelist: {} pages", found.freelist_pages)?;
    for fault in &found.faults {
        writeln!(out, "DAMAGED: {fault}")?;
    }
    let unnamed = found.faults_count - found.faults.len() as u64;
    if 0 < unnamed {
        writeln!(out, "DAMAGED: {unnamed} more pages")?;
    }
    match check {
        None => {
            let hidden = "what lies below a broken page is not seen";
            writeln!(out, "{} broken pages; {hidden}", found.faults_count)
        }
        Some(Check::Broken(error)) => {
            let fault = match error {
                OpenError::Corruption(corruption) => Fault::Corrupt(*corruption).to_string(),
                OpenError::State => error.to_string(),
            };
            writeln!(out, "DAMAGED: {fault}")
        }
        Some(Check::Whole(summary)) => {
            show_summary(summary, out)?;
            writeln!(out, "every page is whole, reached once and in order")
        }
        Some(Check::TooLarge(summary)) => {
            show_summary(summary, out)?;
            let limit = COPY_SIZE_BYTES_MAX;
            writeln!(
                out,
                "every page is whole; order and owners are not checked above {limit} bytes"
            )
        }
    }
}

fn show_summary(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let Summary { revision, compact_revision, keys, leases, in_use_size_bytes } = summary;
    let pages = in_use_size_bytes / PAGE_SIZE_BYTES as u64;
    writeln!(
        out,
        "store: revision {revision}, compact revision {compact_revision}, {keys} keys, {leases} \
         leases, {pages} pages in use"
    )
}

/// The largest store that is copied to memory to be checked whole.
const COPY_SIZE_BYTES_MAX: u64 = 4 << 30;
