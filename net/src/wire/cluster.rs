//! What a client may ask about the cluster rather than the store: its members, and who leads.
//!
//! These are rare and small, so they stand apart from the requests of the store, and a server that
//! has nothing to say to them need not know them ([`super::WireApplication::on_cluster_request`]).
//! Source: docs/format/wire.md; the meanings are those of etcd's services Cluster and Maintenance.

use super::error::Malformed;
use super::limits::MEMBER_URLS_MAX;
use super::opcode::Opcode;
use super::reader::{Reader, check_flags, check_reserved, flag, push_text};
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A request about the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterRequest<'a> {
    /// Lists the members.
    MemberList {
        /// Whether the list is read through the leader; else it is the member's own.
        is_linearizable: bool,
    },
    /// Adds a member.
    MemberAdd {
        /// Whether it begins as a learner.
        is_learner: bool,
        /// Where the other members reach it.
        peer_urls: Vec<&'a str>,
    },
    /// Removes a member.
    MemberRemove {
        /// Who.
        id: u64,
    },
    /// Gives a member other peer URLs.
    MemberUpdate {
        /// Who.
        id: u64,
        /// Where the others reach it from now on.
        peer_urls: Vec<&'a str>,
    },
    /// Makes a learner a voter.
    MemberPromote {
        /// Who.
        id: u64,
    },
    /// Hands leadership to a member.
    MoveLeader {
        /// Who.
        target_id: u64,
    },
}

/// A member of the cluster, as the wire tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ClusterMember {
    pub id: u64,
    /// Empty before its first start.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Empty before its first start.
    pub client_urls: Vec<String>,
    /// Where it speaks this protocol; empty before its first start, or if it does not.
    pub binary_urls: Vec<String>,
    pub is_learner: bool,
}

impl<'a> ClusterRequest<'a> {
    /// The message's number.
    pub fn opcode(&self) -> Opcode {
        match self {
            ClusterRequest::MemberList { .. } => Opcode::MemberList,
            ClusterRequest::MemberAdd { .. } => Opcode::MemberAdd,
            ClusterRequest::MemberRemove { .. } => Opcode::MemberRemove,
            ClusterRequest::MemberUpdate { .. } => Opcode::MemberUpdate,
            ClusterRequest::MemberPromote { .. } => Opcode::MemberPromote,
            ClusterRequest::MoveLeader { .. } => Opcode::MoveLeader,
        }
    }

    /// Whether executing it twice may differ from executing it once.
    pub fn is_write(&self) -> bool {
        !matches!(self, ClusterRequest::MemberList { .. })
    }

    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        match self {
            ClusterRequest::MemberList { is_linearizable } => push_switch(*is_linearizable, output),
            ClusterRequest::MemberAdd { is_learner, peer_urls } => {
                push_switch(*is_learner, output);
                peer_urls.iter().for_each(|url| push_text(output, url));
            }
            ClusterRequest::MemberUpdate { id, peer_urls } => {
                output.extend_from_slice(&id.to_le_bytes());
                peer_urls.iter().for_each(|url| push_text(output, url));
            }
            ClusterRequest::MemberRemove { id }
            | ClusterRequest::MemberPromote { id }
            | ClusterRequest::MoveLeader { target_id: id } => {
                output.extend_from_slice(&id.to_le_bytes());
            }
        }
    }

    /// Decodes the body of a frame of a client; `None` if its opcode is none of these.
    pub(super) fn decode(
        opcode: Opcode,
        body: &'a [u8],
    ) -> Option<Result<ClusterRequest<'a>, Malformed>> {
        let reader = Reader::new(body);
        Some(match opcode {
            Opcode::MemberList => decode_list(reader),
            Opcode::MemberAdd => decode_add(reader),
            Opcode::MemberUpdate => decode_update(reader),
            Opcode::MemberRemove => only_id(reader).map(|id| ClusterRequest::MemberRemove { id }),
            Opcode::MemberPromote => only_id(reader).map(|id| ClusterRequest::MemberPromote { id }),
            Opcode::MoveLeader => {
                only_id(reader).map(|target_id| ClusterRequest::MoveLeader { target_id })
            }
            _ => return None,
        })
    }
}

fn push_switch(condition: bool, output: &mut Vec<u8>) {
    output.extend_from_slice(&i64::from(condition).to_le_bytes());
}

fn switch(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.fixed::<I64>()?.get() {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::Field("switch")),
    }
}

fn decode_list(mut reader: Reader<'_>) -> Result<ClusterRequest<'_>, Malformed> {
    let is_linearizable = switch(&mut reader)?;
    reader.finish()?;
    Ok(ClusterRequest::MemberList { is_linearizable })
}

fn decode_add(mut reader: Reader<'_>) -> Result<ClusterRequest<'_>, Malformed> {
    let is_learner = switch(&mut reader)?;
    Ok(ClusterRequest::MemberAdd { is_learner, peer_urls: rest_as_urls(reader)? })
}

fn decode_update(mut reader: Reader<'_>) -> Result<ClusterRequest<'_>, Malformed> {
    let id = reader.fixed::<U64>()?.get();
    Ok(ClusterRequest::MemberUpdate { id, peer_urls: rest_as_urls(reader)? })
}

fn only_id(mut reader: Reader<'_>) -> Result<u64, Malformed> {
    let id = reader.fixed::<U64>()?.get();
    reader.finish()?;
    Ok(id)
}

fn rest_as_urls(mut reader: Reader<'_>) -> Result<Vec<&str>, Malformed> {
    let mut urls = Vec::new();
    while !reader.is_empty() {
        if urls.len() == MEMBER_URLS_MAX {
            return Err(Malformed::Field("number of URLs"));
        }
        urls.push(reader.text()?);
    }
    Ok(urls)
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MemberFields {
    id: U64,
    peer_urls: U32,
    client_urls: U32,
    binary_urls: U32,
    flags: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<MemberFields>() == 24);

const MEMBER_IS_LEARNER: u8 = 1;

/// The fields of a member and the size of an empty name.
const MEMBER_SIZE_BYTES_MIN: usize = size_of::<MemberFields>() + 4;

/// The size of an empty text.
const TEXT_SIZE_BYTES_MIN: usize = 4;

pub(super) fn encode_members(members: &[ClusterMember], output: &mut Vec<u8>) {
    let count = |urls: &[String]| U32::new(urls.len().min(MEMBER_URLS_MAX) as u32);
    for member in members {
        let fields = MemberFields {
            id: U64::new(member.id),
            peer_urls: count(&member.peer_urls),
            client_urls: count(&member.client_urls),
            binary_urls: count(&member.binary_urls),
            flags: flag(member.is_learner, MEMBER_IS_LEARNER),
            reserved: [0; 3],
        };
        output.extend_from_slice(fields.as_bytes());
        push_text(output, &member.name);
        for urls in [&member.peer_urls, &member.client_urls, &member.binary_urls] {
            urls.iter().take(MEMBER_URLS_MAX).for_each(|url| push_text(output, url));
        }
    }
}

pub(super) fn decode_members(reader: &mut Reader<'_>) -> Result<Vec<ClusterMember>, Malformed> {
    let mut members = Vec::new();
    while !reader.is_empty() {
        reader.check_count(1, MEMBER_SIZE_BYTES_MIN)?;
        let fields: &MemberFields = reader.fixed()?;
        check_reserved(&fields.reserved)?;
        let is_learner = check_flags(fields.flags, MEMBER_IS_LEARNER)? != 0;
        let name = reader.text()?.to_owned();
        let peer_urls = urls(reader, fields.peer_urls.get())?;
        let client_urls = urls(reader, fields.client_urls.get())?;
        let binary_urls = urls(reader, fields.binary_urls.get())?;
        let id = fields.id.get();
        members.push(ClusterMember { id, name, peer_urls, client_urls, binary_urls, is_learner });
    }
    Ok(members)
}

fn urls(reader: &mut Reader<'_>, count: u32) -> Result<Vec<String>, Malformed> {
    let count = reader.check_count(count, TEXT_SIZE_BYTES_MIN)?;
    if MEMBER_URLS_MAX < count {
        return Err(Malformed::Field("number of URLs"));
    }
    (0..count).map(|_| reader.text().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(request: &ClusterRequest<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Option<String> {
        let mut body = Vec::new();
        request.encode(&mut body);
        change(&mut body);
        match ClusterRequest::decode(request.opcode(), &body).expect("an opcode of the cluster") {
            Ok(again) => Some(format!("{again:?}")),
            Err(_) => None,
        }
    }

    #[test]
    fn more_urls_than_the_bound_are_refused() {
        let urls = |count| ClusterRequest::MemberUpdate { id: 1, peer_urls: vec!["u"; count] };
        let largest = urls(MEMBER_URLS_MAX);
        assert_eq!(decoded(&largest, |_| {}), Some(format!("{largest:?}")));
        assert_eq!(decoded(&urls(MEMBER_URLS_MAX + 1), |_| {}), None);
    }

    #[test]
    fn a_switch_is_0_or_1() {
        let request = ClusterRequest::MemberAdd { is_learner: true, peer_urls: vec!["http://a:1"] };
        assert_eq!(decoded(&request, |_| {}), Some(format!("{request:?}")));
        assert_eq!(decoded(&request, |body| body[0] = 2), None);
    }

    #[test]
    fn a_count_of_urls_that_cannot_be_there_reserves_nothing() {
        let mut body = Vec::new();
        encode_members(&[ClusterMember { id: 3, ..ClusterMember::default() }], &mut body);
        body[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode_members(&mut Reader::new(&body)), Err(Malformed::Truncated));
    }
}
