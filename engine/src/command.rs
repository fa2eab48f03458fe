//! The bytes of a log entry: a version byte, a kind, who proposed it, then the command's fields,
//! little-endian, byte strings with a u32 length before them.
//!
//! Laid out once at proposal; the same bytes are written, replicated and applied, so decoding
//! borrows from them. Invariants: what `encode` wrote, `decode` reads back, and nothing follows it;
//! any other bytes are refused with [`Malformed`], never by a panic.
//! Source: this layout is our own; the meaning of the fields is etcd's.

use crate::api::{
    AlarmAction, AlarmType, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    Founder, Operand, ProposalId, PutRequest, RangeRequest, RequestOp, RevokeCause, SortOrder,
    SortTarget, TxnRequest,
};
use crate::limits::TXN_DEPTH_MAX;
use std::fmt;

/// Version of the layout, the first byte of every entry.
pub const COMMAND_VERSION: u8 = 1;

/// Size of what stands before a command's own fields: version, kind, proposal id.
pub const COMMAND_HEADER_SIZE_BYTES: usize = 26;

const KIND_GENESIS: u8 = 1;
const KIND_PUT: u8 = 2;
const KIND_DELETE_RANGE: u8 = 3;
const KIND_TXN: u8 = 4;
const KIND_COMPACT: u8 = 5;
const KIND_COMPACT_STEP: u8 = 6;
const KIND_LEASE_GRANT: u8 = 7;
const KIND_LEASE_REVOKE: u8 = 8;
const KIND_ALARM: u8 = 9;
const KIND_MEMBER_PUBLISH: u8 = 10;
const KIND_CHECKPOINT: u8 = 11;
const KIND_MEMBERS_FOUND: u8 = 12;
const KIND_MEMBER_ADD: u8 = 13;
const KIND_MEMBER_REMOVE: u8 = 14;
const KIND_MEMBER_PROMOTE: u8 = 15;
const KIND_MEMBER_UPDATE: u8 = 16;
/// A publish with URLs of the binary protocol; without them it keeps its older kind.
const KIND_MEMBER_PUBLISH_BINARY: u8 = 17;

/// A founder's id and two sizes.
const FOUNDER_SIZE_BYTES_MIN: usize = 16;

const OP_RANGE: u8 = 1;
const OP_PUT: u8 = 2;
const OP_DELETE_RANGE: u8 = 3;
const OP_TXN: u8 = 4;

/// Why bytes are not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end in the middle of a field.
    Truncated,
    /// Something follows the last field.
    TrailingBytes,
    /// A layout this binary does not know.
    Version(u8),
    /// A command this binary does not know.
    Kind(u8),
    /// A field with a value outside of its range, by name.
    Field(&'static str),
    /// Transactions nested deeper than [`TXN_DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Truncated => write!(f, "the entry ends in the middle of a field"),
            Malformed::TrailingBytes => write!(f, "bytes follow the entry's last field"),
            Malformed::Version(version) => write!(f, "entry version {version} is unknown"),
            Malformed::Kind(kind) => write!(f, "command kind {kind} is unknown"),
            Malformed::Field(name) => write!(f, "the entry's field {name} is out of range"),
            Malformed::TooDeep => write!(f, "transactions are nested too deep"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Appends the entry for `command` to `out`. Fields longer than `u32::MAX` are the caller's error.
pub fn encode(command: &Command<'_>, proposal: ProposalId, out: &mut Vec<u8>) {
    let start = out.len();
    put_header(kind_of(command), proposal, out);
    match command {
        Command::Genesis {
            page_size_bytes,
            value_inline_bytes_max,
            interval_pages_max,
            interval_bytes_max,
        } => {
            for field in [page_size_bytes, value_inline_bytes_max, interval_pages_max] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&interval_bytes_max.to_le_bytes());
        }
        Command::Put(put) => put_put(put, out),
        Command::DeleteRange(delete) => put_delete_range(delete, out),
        Command::Txn(txn) => put_txn(txn, out),
        Command::Compact { revision } => put_i64s(&[*revision], out),
        Command::CompactStep { mark_main, mark_sub } => put_i64s(&[*mark_main, *mark_sub], out),
        Command::LeaseGrant { id, ttl_s } => put_i64s(&[*id, *ttl_s], out),
        Command::LeaseRevoke { id, cause } => {
            put_i64s(&[*id], out);
            out.push(*cause as u8);
        }
        Command::Alarm { action, member_id, alarm } => {
            out.push(*action as u8);
            out.push(*alarm as u8);
            out.extend_from_slice(&member_id.to_le_bytes());
        }
        Command::MembersFound { founders } => {
            put_size(founders.len(), out);
            for founder in founders {
                out.extend_from_slice(&founder.member_id.to_le_bytes());
                put_bytes(founder.name.as_bytes(), out);
                put_texts(&founder.peer_urls, out);
            }
        }
        Command::MemberPublish { member_id, name, client_urls, binary_urls } => {
            out.extend_from_slice(&member_id.to_le_bytes());
            put_bytes(name.as_bytes(), out);
            put_texts(client_urls, out);
            if !binary_urls.is_empty() {
                put_texts(binary_urls, out);
            }
        }
        Command::MemberAdd { member_id, peer_urls, is_learner } => {
            out.extend_from_slice(&member_id.to_le_bytes());
            out.push(u8::from(*is_learner));
            put_texts(peer_urls, out);
        }
        Command::MemberRemove { member_id } | Command::MemberPromote { member_id } => {
            out.extend_from_slice(&member_id.to_le_bytes());
        }
        Command::MemberUpdate { member_id, peer_urls } => {
            out.extend_from_slice(&member_id.to_le_bytes());
            put_texts(peer_urls, out);
        }
        Command::Checkpoint => {}
    }
    assert!(out.len() >= start + COMMAND_HEADER_SIZE_BYTES);
}

/// Appends the entry of a single put, the hot case, without a [`Command`] around it.
pub fn encode_put(put: &PutRequest<'_>, proposal: ProposalId, out: &mut Vec<u8>) {
    out.reserve(COMMAND_HEADER_SIZE_BYTES + 17 + put.key.len() + put.value.len());
    put_header(KIND_PUT, proposal, out);
    put_put(put, out);
}

/// Who proposed the entry, without looking at the rest of it.
pub fn proposal_id(entry: &[u8]) -> Result<ProposalId, Malformed> {
    let mut reader = Reader { rest: entry };
    take_header(&mut reader).map(|(_, proposal)| proposal)
}

/// The key of an entry that is a put, without looking at the rest of it.
pub fn put_key(entry: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { rest: entry };
    let (kind, _) = take_header(&mut reader).ok()?;
    if kind != KIND_PUT {
        return None;
    }
    // Flags and lease stand before it.
    reader.u8().ok()?;
    reader.i64().ok()?;
    reader.bytes().ok()
}

/// Reads an entry. The command borrows from `entry`.
pub fn decode(entry: &[u8]) -> Result<(ProposalId, Command<'_>), Malformed> {
    let mut reader = Reader { rest: entry };
    let (kind, proposal) = take_header(&mut reader)?;
    let command = match kind {
        KIND_GENESIS => Command::Genesis {
            page_size_bytes: reader.u32()?,
            value_inline_bytes_max: reader.u32()?,
            interval_pages_max: reader.u32()?,
            interval_bytes_max: reader.u64()?,
        },
        KIND_PUT => Command::Put(take_put(&mut reader)?),
        KIND_DELETE_RANGE => Command::DeleteRange(take_delete_range(&mut reader)?),
        KIND_TXN => Command::Txn(take_txn(&mut reader, 1)?),
        KIND_COMPACT => Command::Compact { revision: reader.i64()? },
        KIND_COMPACT_STEP => {
            Command::CompactStep { mark_main: reader.i64()?, mark_sub: reader.i64()? }
        }
        KIND_LEASE_GRANT => Command::LeaseGrant { id: reader.i64()?, ttl_s: reader.i64()? },
        KIND_LEASE_REVOKE => {
            let id = reader.i64()?;
            let cause = match reader.u8()? {
                0 => RevokeCause::Client,
                1 => RevokeCause::Expired,
                _ => return Err(Malformed::Field("cause")),
            };
            Command::LeaseRevoke { id, cause }
        }
        KIND_ALARM => take_alarm(&mut reader)?,
        KIND_MEMBER_PUBLISH | KIND_MEMBER_PUBLISH_BINARY => Command::MemberPublish {
            member_id: reader.u64()?,
            name: reader.text("name")?,
            client_urls: reader.texts("client_urls")?,
            binary_urls: match kind {
                KIND_MEMBER_PUBLISH => Vec::new(),
                _ => take_binary_urls(&mut reader)?,
            },
        },
        KIND_MEMBERS_FOUND => Command::MembersFound { founders: take_founders(&mut reader)? },
        KIND_MEMBER_ADD => Command::MemberAdd {
            member_id: reader.u64()?,
            is_learner: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed::Field("is_learner")),
            },
            peer_urls: reader.texts("peer_urls")?,
        },
        KIND_MEMBER_REMOVE => Command::MemberRemove { member_id: reader.u64()? },
        KIND_MEMBER_PROMOTE => Command::MemberPromote { member_id: reader.u64()? },
        KIND_MEMBER_UPDATE => Command::MemberUpdate {
            member_id: reader.u64()?,
            peer_urls: reader.texts("peer_urls")?,
        },
        KIND_CHECKPOINT => Command::Checkpoint,
        other => return Err(Malformed::Kind(other)),
    };
    if reader.rest.is_empty() { Ok((proposal, command)) } else { Err(Malformed::TrailingBytes) }
}

/// None would be the other kind: an entry has one form.
fn take_binary_urls<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, Malformed> {
    match reader.texts("binary_urls")? {
        urls if urls.is_empty() => Err(Malformed::Field("binary_urls")),
        urls => Ok(urls),
    }
}

fn kind_of(command: &Command<'_>) -> u8 {
    match command {
        Command::Genesis { .. } => KIND_GENESIS,
        Command::Put(_) => KIND_PUT,
        Command::DeleteRange(_) => KIND_DELETE_RANGE,
        Command::Txn(_) => KIND_TXN,
        Command::Compact { .. } => KIND_COMPACT,
        Command::CompactStep { .. } => KIND_COMPACT_STEP,
        Command::LeaseGrant { .. } => KIND_LEASE_GRANT,
        Command::LeaseRevoke { .. } => KIND_LEASE_REVOKE,
        Command::Alarm { .. } => KIND_ALARM,
        Command::MemberPublish { binary_urls, .. } if !binary_urls.is_empty() => {
            KIND_MEMBER_PUBLISH_BINARY
        }
        Command::MemberPublish { .. } => KIND_MEMBER_PUBLISH,
        Command::MembersFound { .. } => KIND_MEMBERS_FOUND,
        Command::MemberAdd { .. } => KIND_MEMBER_ADD,
        Command::MemberRemove { .. } => KIND_MEMBER_REMOVE,
        Command::MemberPromote { .. } => KIND_MEMBER_PROMOTE,
        Command::MemberUpdate { .. } => KIND_MEMBER_UPDATE,
        Command::Checkpoint => KIND_CHECKPOINT,
    }
}

/// Whether an entry changes who votes or learns, and is to be proposed as such. Bytes that are no
/// entry do not.
pub fn changes_configuration(entry: &[u8]) -> bool {
    let kinds = [KIND_MEMBER_ADD, KIND_MEMBER_REMOVE, KIND_MEMBER_PROMOTE];
    COMMAND_HEADER_SIZE_BYTES <= entry.len() && kinds.contains(&entry[1])
}

/// Whether an entry ends an interval and changes nothing else.
pub fn is_checkpoint(entry: &[u8]) -> bool {
    COMMAND_HEADER_SIZE_BYTES <= entry.len() && entry[1] == KIND_CHECKPOINT
}

/// Writes another proposal id over that of an entry, in place: who receives a request lays the
/// entry out, who proposes it gives the id.
pub fn stamp(entry: &mut [u8], proposal: ProposalId) {
    assert!(COMMAND_HEADER_SIZE_BYTES <= entry.len());
    assert!(entry[0] == COMMAND_VERSION);
    let fields = [proposal.member_id, proposal.incarnation, proposal.counter];
    for (place, field) in entry[2..COMMAND_HEADER_SIZE_BYTES].chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    debug_assert!(proposal_id(entry) == Ok(proposal));
}

fn put_header(kind: u8, proposal: ProposalId, out: &mut Vec<u8>) {
    out.extend_from_slice(&[COMMAND_VERSION, kind]);
    for field in [proposal.member_id, proposal.incarnation, proposal.counter] {
        out.extend_from_slice(&field.to_le_bytes());
    }
}

fn put_size(size: usize, out: &mut Vec<u8>) {
    let size = u32::try_from(size).expect("fields are bounded by the request limit");
    out.extend_from_slice(&size.to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_size(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_texts(texts: &[&str], out: &mut Vec<u8>) {
    put_size(texts.len(), out);
    texts.iter().for_each(|text| put_bytes(text.as_bytes(), out));
}

fn put_i64s(fields: &[i64], out: &mut Vec<u8>) {
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
}

fn put_put(put: &PutRequest<'_>, out: &mut Vec<u8>) {
    out.push(flags(&[put.prev_kv, put.ignore_value, put.ignore_lease]));
    put_i64s(&[put.lease], out);
    put_bytes(put.key, out);
    put_bytes(put.value, out);
}

fn put_delete_range(delete: &DeleteRangeRequest<'_>, out: &mut Vec<u8>) {
    out.push(flags(&[delete.prev_kv]));
    put_bytes(delete.key, out);
    put_bytes(delete.range_end, out);
}

fn put_range(range: &RangeRequest<'_>, out: &mut Vec<u8>) {
    out.push(flags(&[range.serializable, range.keys_only, range.count_only]));
    out.push(match range.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    });
    out.push(match range.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    });
    let revisions = [
        range.limit,
        range.revision,
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    put_i64s(&revisions, out);
    put_bytes(range.key, out);
    put_bytes(range.range_end, out);
}

fn put_txn(txn: &TxnRequest<'_>, out: &mut Vec<u8>) {
    put_size(txn.compare.len(), out);
    txn.compare.iter().for_each(|compare| put_compare(compare, out));
    for branch in [&txn.success, &txn.failure] {
        put_size(branch.len(), out);
        for op in branch {
            match op {
                RequestOp::Range(range) => {
                    out.push(OP_RANGE);
                    put_range(range, out);
                }
                RequestOp::Put(put) => {
                    out.push(OP_PUT);
                    put_put(put, out);
                }
                RequestOp::DeleteRange(delete) => {
                    out.push(OP_DELETE_RANGE);
                    put_delete_range(delete, out);
                }
                RequestOp::Txn(nested) => {
                    out.push(OP_TXN);
                    put_txn(nested, out);
                }
            }
        }
    }
}

fn put_compare(compare: &Compare<'_>, out: &mut Vec<u8>) {
    out.push(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
        CompareResult::Unknown => 4,
    });
    out.push(match compare.target {
        CompareTarget::Version => 0,
        CompareTarget::Create => 1,
        CompareTarget::Mod => 2,
        CompareTarget::Value => 3,
        CompareTarget::Lease => 4,
        CompareTarget::Unknown => 5,
    });
    put_bytes(compare.key, out);
    put_bytes(compare.range_end, out);
    let (tag, number) = match compare.operand {
        Operand::Missing => (0, 0),
        Operand::Version(version) => (1, version),
        Operand::CreateRevision(revision) => (2, revision),
        Operand::ModRevision(revision) => (3, revision),
        Operand::Value(_) => (4, 0),
        Operand::Lease(lease) => (5, lease),
    };
    out.push(tag);
    match compare.operand {
        Operand::Value(value) => put_bytes(value, out),
        _ => put_i64s(&[number], out),
    }
}

fn flags(bits: &[bool]) -> u8 {
    bits.iter().enumerate().fold(0, |all, (slot, bit)| all | u8::from(*bit) << slot)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(size).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let size = self.u32()? as usize;
        self.take(size)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Field(field))
    }

    fn texts(&mut self, field: &'static str) -> Result<Vec<&'a str>, Malformed> {
        let count = self.count(4)?;
        (0..count).map(|_| self.text(field)).collect()
    }

    /// How many items of at least `item_size_bytes` follow; refused before any memory is taken
    /// for items that cannot be there.
    fn count(&mut self, item_size_bytes: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count <= self.rest.len() / item_size_bytes {
            Ok(count)
        } else {
            Err(Malformed::Truncated)
        }
    }

    fn flags<const N: usize>(&mut self, field: &'static str) -> Result<[bool; N], Malformed> {
        let bits = self.u8()?;
        if bits >> N == 0 {
            Ok(std::array::from_fn(|slot| bits >> slot & 1 == 1))
        } else {
            Err(Malformed::Field(field))
        }
    }
}

fn take_header(reader: &mut Reader<'_>) -> Result<(u8, ProposalId), Malformed> {
    let version = *reader.rest.first().ok_or(Malformed::Truncated)?;
    if version != COMMAND_VERSION {
        return Err(Malformed::Version(version));
    }
    let header: [u8; COMMAND_HEADER_SIZE_BYTES] = reader.array()?;
    let field = |at: usize| {
        let bytes = header[at..].first_chunk().expect("the header holds three after its kind");
        u64::from_le_bytes(*bytes)
    };
    let proposal = ProposalId { member_id: field(2), incarnation: field(10), counter: field(18) };
    Ok((header[1], proposal))
}

fn take_put<'a>(reader: &mut Reader<'a>) -> Result<PutRequest<'a>, Malformed> {
    let [prev_kv, ignore_value, ignore_lease] = reader.flags("put flags")?;
    let lease = reader.i64()?;
    let (key, value) = (reader.bytes()?, reader.bytes()?);
    check_key(key)?;
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn take_delete_range<'a>(reader: &mut Reader<'a>) -> Result<DeleteRangeRequest<'a>, Malformed> {
    let [prev_kv] = reader.flags("delete flags")?;
    let (key, range_end) = (reader.bytes()?, reader.bytes()?);
    check_key(key)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv })
}

fn take_range<'a>(reader: &mut Reader<'a>) -> Result<RangeRequest<'a>, Malformed> {
    let [serializable, keys_only, count_only] = reader.flags("range flags")?;
    let sort_order = match reader.u8()? {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(Malformed::Field("sort_order")),
    };
    let sort_target = match reader.u8()? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        _ => return Err(Malformed::Field("sort_target")),
    };
    let range = RangeRequest {
        limit: reader.i64()?,
        revision: reader.i64()?,
        min_mod_revision: reader.i64()?,
        max_mod_revision: reader.i64()?,
        min_create_revision: reader.i64()?,
        max_create_revision: reader.i64()?,
        key: reader.bytes()?,
        range_end: reader.bytes()?,
        sort_order,
        sort_target,
        serializable,
        keys_only,
        count_only,
    };
    check_key(range.key)?;
    Ok(range)
}

fn take_txn<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<TxnRequest<'a>, Malformed> {
    if depth > TXN_DEPTH_MAX {
        return Err(Malformed::TooDeep);
    }
    let count = reader.count(COMPARE_SIZE_BYTES_MIN)?;
    let compare = (0..count).map(|_| take_compare(reader)).collect::<Result<_, _>>()?;
    let (success, failure) = (take_branch(reader, depth)?, take_branch(reader, depth)?);
    Ok(TxnRequest { compare, success, failure })
}

fn take_branch<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Vec<RequestOp<'a>>, Malformed> {
    let count = reader.count(OP_SIZE_BYTES_MIN)?;
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        ops.push(match reader.u8()? {
            OP_RANGE => RequestOp::Range(take_range(reader)?),
            OP_PUT => RequestOp::Put(take_put(reader)?),
            OP_DELETE_RANGE => RequestOp::DeleteRange(take_delete_range(reader)?),
            OP_TXN => RequestOp::Txn(take_txn(reader, depth + 1)?),
            _ => return Err(Malformed::Field("operation")),
        });
    }
    Ok(ops)
}

fn take_compare<'a>(reader: &mut Reader<'a>) -> Result<Compare<'a>, Malformed> {
    let result = match reader.u8()? {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        4 => CompareResult::Unknown,
        _ => return Err(Malformed::Field("compare result")),
    };
    let target = match reader.u8()? {
        0 => CompareTarget::Version,
        1 => CompareTarget::Create,
        2 => CompareTarget::Mod,
        3 => CompareTarget::Value,
        4 => CompareTarget::Lease,
        5 => CompareTarget::Unknown,
        _ => return Err(Malformed::Field("compare target")),
    };
    let (key, range_end) = (reader.bytes()?, reader.bytes()?);
    check_key(key)?;
    let operand = match reader.u8()? {
        0 if reader.i64()? == 0 => Operand::Missing,
        1 => Operand::Version(reader.i64()?),
        2 => Operand::CreateRevision(reader.i64()?),
        3 => Operand::ModRevision(reader.i64()?),
        4 => Operand::Value(reader.bytes()?),
        5 => Operand::Lease(reader.i64()?),
        _ => return Err(Malformed::Field("compare operand")),
    };
    Ok(Compare { result, target, key, range_end, operand })
}

fn take_founders<'a>(reader: &mut Reader<'a>) -> Result<Vec<Founder<'a>>, Malformed> {
    let count = reader.count(FOUNDER_SIZE_BYTES_MIN)?;
    let founders = (0..count).map(|_| {
        Ok(Founder {
            member_id: reader.u64()?,
            name: reader.text("name")?,
            peer_urls: reader.texts("peer_urls")?,
        })
    });
    founders.collect()
}

fn take_alarm<'a>(reader: &mut Reader<'a>) -> Result<Command<'a>, Malformed> {
    let action = match reader.u8()? {
        1 => AlarmAction::Activate,
        2 => AlarmAction::Deactivate,
        _ => return Err(Malformed::Field("alarm action")),
    };
    let alarm = match reader.u8()? {
        1 => AlarmType::NoSpace,
        2 => AlarmType::Corrupt,
        _ => return Err(Malformed::Field("alarm")),
    };
    Ok(Command::Alarm { action, alarm, member_id: reader.u64()? })
}

/// An empty key never reaches the trees: it is refused before a proposal, and again here.
fn check_key(key: &[u8]) -> Result<(), Malformed> {
    if key.is_empty() { Err(Malformed::Field("key")) } else { Ok(()) }
}

/// Result, target, two lengths, operand tag and its shortest form.
const COMPARE_SIZE_BYTES_MIN: usize = 2 + 8 + 1 + 4;
/// Kind, flags and two lengths: a delete.
const OP_SIZE_BYTES_MIN: usize = 2 + 8;

#[cfg(test)]
#[path = "command_test.rs"]
mod tests;
