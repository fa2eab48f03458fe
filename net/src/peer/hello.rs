//! The first message of each side: who it is, of which cluster and life, and which versions it
//! speaks; and the refusal that may come in place of the second one.
//!
//! Invariants: the magic, the frame around a hello, its first four bytes (the versions) and the
//! whole of a refusal never change: an old member must be able to tell a new one that it is too
//! new. What a newer hello says behind what is known here is skipped.
//! Source: replication.md, "Membership", rules 2, 4 and 5, and "Cores".

use super::error::PeerError;
use super::limits::{PEER_URLS_MAX, TEXT_SIZE_BYTES_MAX};
use super::reader::{Reader, check_reserved};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What both sides send before anything else: the port is shared with HTTP/1.1.
pub const MAGIC: [u8; 8] = *b"corepeer";

/// Oldest version of the protocol that this code speaks.
pub const VERSION_MIN: u16 = 1;

/// Newest version of the protocol that this code speaks.
pub const VERSION_MAX: u16 = 1;

/// Whether a connection that was just accepted speaks the peer protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Too few bytes to tell.
    NeedMore,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Raft, forwarded proposals and questions: one connection for each pair of members.
    Raft,
    /// One state transfer, dialed by who receives it.
    Transfer,
}

/// Who one side of a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster that it belongs to.
    pub cluster_id: u64,
    /// Raised by each forced new cluster.
    pub epoch: u64,
    /// The sender.
    pub from_member: u64,
    /// Who the sender thinks it talks to.
    pub to_member: u64,
    /// Random number of the sender's data directory.
    pub birth_id: u64,
    /// Number of the sender's start.
    pub incarnation: u64,
    /// What the connection is for; the answer repeats it.
    pub purpose: Purpose,
    /// Cores of the sender, at least 1: which shard owns which group follows from it.
    pub cores: u16,
    /// The sender's name.
    pub name: String,
    /// Where the sender can be reached.
    pub peer_urls: Vec<String>,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The sender of the refusal belongs to another cluster.
    Cluster {
        /// That one.
        cluster_id: u64,
    },
    /// It lives in another epoch.
    Epoch {
        /// That one.
        epoch: u64,
    },
    /// It is not the member that was meant.
    NotMe {
        /// It is this one.
        member_id: u64,
    },
    /// The member that asks was removed from the cluster.
    Removed,
    /// The member that asks is known with another data directory.
    Birth,
    /// The member that asks is known in a later life: its data directory is an old copy.
    Incarnation {
        /// The highest one known.
        known: u64,
    },
    /// No version is spoken by both.
    Version {
        /// Oldest version that the sender of the refusal speaks.
        min: u16,
        /// Newest one.
        max: u16,
    },
    /// Both sides dialed, and the other connection is kept.
    Busy,
    /// The dialer reached itself.
    Itself,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HelloVersions {
    version_min: U16,
    version_max: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HelloFields {
    cores: U16,
    purpose: u8,
    reserved: u8,
    cluster_id: U64,
    epoch: U64,
    from_member: U64,
    to_member: U64,
    birth_id: U64,
    incarnation: U64,
}

const _: () = assert!(size_of::<HelloFields>() == 52);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RefusalFields {
    reason: u8,
    reserved: [u8; 7],
    first: U64,
    second: U64,
}

const _: () = assert!(size_of::<RefusalFields>() == 24);

/// Tells from a stream's first bytes whether it is a peer's.
pub fn is_hello(first_bytes: &[u8]) -> Sniff {
    let size = first_bytes.len().min(MAGIC.len());
    if first_bytes[..size] != MAGIC[..size] {
        Sniff::No
    } else if size < MAGIC.len() {
        Sniff::NeedMore
    } else {
        Sniff::Yes
    }
}

impl Hello {
    /// Compares what the other side says with what this side is; `self` is this side's own hello,
    /// whose `to_member` does not matter. What a member remembers of others (removals, births,
    /// incarnations) is for the caller to check.
    ///
    /// # Errors
    /// The refusal that `theirs` gets.
    pub fn check(&self, theirs: &Hello) -> Result<(), Refusal> {
        if theirs.cluster_id != self.cluster_id {
            return Err(Refusal::Cluster { cluster_id: self.cluster_id });
        }
        if theirs.epoch != self.epoch {
            return Err(Refusal::Epoch { epoch: self.epoch });
        }
        if theirs.from_member == self.from_member {
            let is_own_life = theirs.birth_id == self.birth_id;
            return Err(if is_own_life { Refusal::Itself } else { Refusal::Birth });
        }
        if theirs.to_member != self.from_member {
            return Err(Refusal::NotMe { member_id: self.from_member });
        }
        Ok(())
    }

    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        assert!(self.from_member != 0);
        assert!(0 < self.cores);
        let versions = HelloVersions {
            version_min: U16::new(VERSION_MIN),
            version_max: U16::new(VERSION_MAX),
        };
        output.extend_from_slice(versions.as_bytes());
        let fields = HelloFields {
            cores: U16::new(self.cores),
            purpose: purpose_number(self.purpose),
            reserved: 0,
            cluster_id: U64::new(self.cluster_id),
            epoch: U64::new(self.epoch),
            from_member: U64::new(self.from_member),
            to_member: U64::new(self.to_member),
            birth_id: U64::new(self.birth_id),
            incarnation: U64::new(self.incarnation),
        };
        output.extend_from_slice(fields.as_bytes());
        push_text(output, &self.name);
        let fits = |url: &&String| url.len() <= TEXT_SIZE_BYTES_MAX;
        let count = self.peer_urls.iter().filter(fits).take(PEER_URLS_MAX).count() as u32;
        output.extend_from_slice(&count.to_le_bytes());
        for url in self.peer_urls.iter().filter(fits).take(PEER_URLS_MAX) {
            push_text(output, url);
        }
    }

    /// The version that both sides speak, and who the other side is.
    pub(super) fn decode(body: &[u8]) -> Result<(u16, Hello), PeerError> {
        let mut nothing_shared = None;
        let mut reader = Reader::new(body, &mut nothing_shared);
        let versions: &HelloVersions = reader.fixed()?;
        let version = choose_version(versions.version_min.get(), versions.version_max.get())?;
        let fields: &HelloFields = reader.fixed()?;
        check_reserved(&[fields.reserved])?;
        if fields.from_member.get() == 0 {
            return Err(PeerError::Field("from_member"));
        }
        if fields.cores.get() == 0 {
            return Err(PeerError::Field("cores"));
        }
        let name = text(&mut reader)?;
        let count = reader.fixed::<U32>()?.get() as usize;
        if PEER_URLS_MAX < count {
            return Err(PeerError::Field("peer_urls"));
        }
        let peer_urls = (0..count).map(|_| text(&mut reader)).collect::<Result<_, _>>()?;
        let hello = Hello {
            cluster_id: fields.cluster_id.get(),
            epoch: fields.epoch.get(),
            from_member: fields.from_member.get(),
            to_member: fields.to_member.get(),
            birth_id: fields.birth_id.get(),
            incarnation: fields.incarnation.get(),
            purpose: purpose(fields.purpose)?,
            cores: fields.cores.get(),
            name,
            peer_urls,
        };
        Ok((version, hello))
    }
}

impl Refusal {
    pub(super) fn encode(self, output: &mut Vec<u8>) {
        let (reason, first, second) = match self {
            Refusal::Cluster { cluster_id } => (1, cluster_id, 0),
            Refusal::Epoch { epoch } => (2, epoch, 0),
            Refusal::NotMe { member_id } => (3, member_id, 0),
            Refusal::Removed => (4, 0, 0),
            Refusal::Birth => (5, 0, 0),
            Refusal::Incarnation { known } => (6, known, 0),
            Refusal::Version { min, max } => (7, u64::from(min), u64::from(max)),
            Refusal::Busy => (8, 0, 0),
            Refusal::Itself => (9, 0, 0),
        };
        let (first, second) = (U64::new(first), U64::new(second));
        let fields = RefusalFields { reason, reserved: [0; 7], first, second };
        output.extend_from_slice(fields.as_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Result<Refusal, PeerError> {
        let mut nothing_shared = None;
        let mut reader = Reader::new(body, &mut nothing_shared);
        let fields: &RefusalFields = reader.fixed()?;
        check_reserved(&fields.reserved)?;
        reader.finish()?;
        let (first, second) = (fields.first.get(), fields.second.get());
        let version =
            |number| u16::try_from(number).map_err(|_too_large| PeerError::Field("version"));
        let refusal = match fields.reason {
            1 => Refusal::Cluster { cluster_id: first },
            2 => Refusal::Epoch { epoch: first },
            3 => Refusal::NotMe { member_id: first },
            4 => Refusal::Removed,
            5 => Refusal::Birth,
            6 => Refusal::Incarnation { known: first },
            7 => Refusal::Version { min: version(first)?, max: version(second)? },
            8 => Refusal::Busy,
            9 => Refusal::Itself,
            _ => return Err(PeerError::Field("refusal")),
        };
        Ok(refusal)
    }
}

/// The newest version that both sides speak.
fn choose_version(min: u16, max: u16) -> Result<u16, PeerError> {
    if max < min {
        return Err(PeerError::Field("version"));
    }
    let newest = max.min(VERSION_MAX);
    if min.max(VERSION_MIN) <= newest { Ok(newest) } else { Err(PeerError::Version) }
}

fn purpose_number(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Raft => 1,
        Purpose::Transfer => 2,
    }
}

fn purpose(number: u8) -> Result<Purpose, PeerError> {
    match number {
        1 => Ok(Purpose::Raft),
        2 => Ok(Purpose::Transfer),
        _ => Err(PeerError::Field("purpose")),
    }
}

/// Appends a text that [`text`] takes back, cut to its bound at a character's edge.
fn push_text(output: &mut Vec<u8>, text: &str) {
    let mut size = text.len().min(TEXT_SIZE_BYTES_MAX);
    while !text.is_char_boundary(size) {
        size -= 1;
    }
    output.extend_from_slice(&(size as u32).to_le_bytes());
    output.extend_from_slice(&text.as_bytes()[..size]);
}

fn text(reader: &mut Reader<'_>) -> Result<String, PeerError> {
    let size = reader.fixed::<U32>()?.get() as usize;
    if TEXT_SIZE_BYTES_MAX < size {
        return Err(PeerError::Field("text size"));
    }
    let text = std::str::from_utf8(reader.bytes(size)?).map_err(|_| PeerError::Text)?;
    Ok(text.to_owned())
}
