//! The messages of a watch. It lives under the id of the request that opened it.
//!
//! Invariants: created comes before any event; the events of one revision are in one message
//! (which may be cut into frames); canceled is the last message of an id.

use super::error::Malformed;
use super::limits;
use super::reader::{Reader, check_flags, check_reserved, flag, push_text, size_field};
use super::reply::ReplyHeader;
use engine::api::{EventList, KvList};
use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Which events a watch leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchFilter {
    /// None.
    #[default]
    All,
    /// Puts.
    NoPut,
    /// Deletions.
    NoDelete,
    /// Everything: etcd allows it, the watch only reports progress.
    Nothing,
}

/// Opens a watch on `[key, range_end)`; meanings as in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCreateRequest<'a> {
    /// First key; empty is from the very first.
    pub key: &'a [u8],
    /// As in a range.
    pub range_end: &'a [u8],
    /// First revision wanted; 0 is what comes next.
    pub start_revision: i64,
    /// Bytes that may be sent before more credit comes.
    pub credit_bytes: i64,
    /// Whether to tell the revision from time to time while idle.
    pub progress_notify: bool,
    /// Whether to add the state before each change.
    pub prev_kv: bool,
    /// What to leave out.
    pub filter: WatchFilter,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct WatchCreateFields {
    start_revision: I64,
    credit_bytes: I64,
    key_size_bytes: U32,
    range_end_size_bytes: U32,
    flags: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<WatchCreateFields>() == 32);

const FLAG_PROGRESS_NOTIFY: u8 = 1;
const FLAG_PREV_KV: u8 = 2;
const FLAG_NO_PUT: u8 = 4;
const FLAG_NO_DELETE: u8 = 8;

impl<'a> WatchCreateRequest<'a> {
    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        let filter = match self.filter {
            WatchFilter::All => 0,
            WatchFilter::NoPut => FLAG_NO_PUT,
            WatchFilter::NoDelete => FLAG_NO_DELETE,
            WatchFilter::Nothing => FLAG_NO_PUT | FLAG_NO_DELETE,
        };
        let fields = WatchCreateFields {
            start_revision: I64::new(self.start_revision),
            credit_bytes: I64::new(self.credit_bytes),
            key_size_bytes: size_field(self.key),
            range_end_size_bytes: size_field(self.range_end),
            flags: filter
                | flag(self.progress_notify, FLAG_PROGRESS_NOTIFY)
                | flag(self.prev_kv, FLAG_PREV_KV),
            reserved: [0; 7],
        };
        output.extend_from_slice(fields.as_bytes());
        output.extend_from_slice(self.key);
        output.extend_from_slice(self.range_end);
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<WatchCreateRequest<'a>, Malformed> {
        let fields: &WatchCreateFields = reader.fixed()?;
        let known = FLAG_PROGRESS_NOTIFY | FLAG_PREV_KV | FLAG_NO_PUT | FLAG_NO_DELETE;
        let flags = check_flags(fields.flags, known)?;
        check_reserved(&fields.reserved)?;
        let filter = match (flags & FLAG_NO_PUT != 0, flags & FLAG_NO_DELETE != 0) {
            (false, false) => WatchFilter::All,
            (true, false) => WatchFilter::NoPut,
            (false, true) => WatchFilter::NoDelete,
            (true, true) => WatchFilter::Nothing,
        };
        Ok(WatchCreateRequest {
            key: reader.bytes(fields.key_size_bytes.get().into())?,
            range_end: reader.bytes(fields.range_end_size_bytes.get().into())?,
            start_revision: fields.start_revision.get(),
            credit_bytes: check_credit(fields.credit_bytes.get())?,
            progress_notify: flags & FLAG_PROGRESS_NOTIFY != 0,
            prev_kv: flags & FLAG_PREV_KV != 0,
            filter,
        })
    }
}

/// A grant of credit: not negative, and cut to the bound.
pub(super) fn check_credit(credit_bytes: i64) -> Result<i64, Malformed> {
    if credit_bytes < 0 {
        return Err(Malformed::Field("credit"));
    }
    Ok(credit_bytes.min(limits::WATCH_CREDIT_BYTES_MAX))
}

pub(super) fn decode_credit(body: &[u8]) -> Result<i64, Malformed> {
    let mut reader = Reader::new(body);
    let credit: &I64 = reader.fixed()?;
    let credit = check_credit(credit.get())?;
    reader.finish()?;
    Ok(credit)
}

/// Why a watch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchCanceled<'a> {
    /// Smallest revision that can still be watched, if compaction ended the watch; else 0.
    pub compact_revision: i64,
    /// etcd's text; empty for the client's own cancel and for compaction.
    pub reason: &'a str,
}

impl<'a> WatchCanceled<'a> {
    pub(super) fn encode(&self, header: ReplyHeader, output: &mut Vec<u8>) {
        header.encode(output);
        output.extend_from_slice(&self.compact_revision.to_le_bytes());
        push_text(output, self.reason);
    }

    pub(super) fn decode(body: &'a [u8]) -> Result<(ReplyHeader, WatchCanceled<'a>), Malformed> {
        let mut reader = Reader::new(body);
        let header = ReplyHeader::decode(&mut reader)?;
        let compact_revision = reader.fixed::<I64>()?.get();
        let reason = reader.text()?;
        reader.finish()?;
        Ok((header, WatchCanceled { compact_revision, reason }))
    }
}

/// Events: header, count of kinds as u32, the kinds, then the packed key-values to the end.
pub(super) fn encode_events(header: ReplyHeader, events: &EventList, output: &mut Vec<u8>) {
    let (kinds, kvs) = events.parts();
    header.encode(output);
    output.extend_from_slice(size_field(kinds).as_bytes());
    output.extend_from_slice(kinds);
    output.extend_from_slice(kvs.packed());
}

pub(super) fn decode_events(body: &[u8]) -> Result<(ReplyHeader, EventList), Malformed> {
    let mut reader = Reader::new(body);
    let header = ReplyHeader::decode(&mut reader)?;
    let kinds_count = reader.fixed::<U32>()?.get();
    let kinds = reader.bytes(kinds_count.into())?;
    let kvs = KvList::check_packed(reader.rest()).ok_or(Malformed::Truncated)?;
    let events = EventList::check_parts(kinds, kvs).ok_or(Malformed::Field("event kind"))?;
    Ok((header, events))
}
