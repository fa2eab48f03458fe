//! The first message of each side: who speaks which versions and within which bounds.
//!
//! Invariant: the bytes before `version_max` in the client's hello, and the frame around it, never
//! change: an old server must be able to tell a new client that it is too new.

use super::error::Malformed;
use super::limits;
use super::reader::{Reader, check_reserved, push_text};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First eight bytes of both hellos, little-endian: `corestne`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"corestne");

/// Oldest version of the protocol that this code speaks.
pub const VERSION_MIN: u16 = 1;

/// Newest version of the protocol that this code speaks.
pub const VERSION_MAX: u16 = 1;

/// Feature: the client follows [`Reconnect`](super::Opcode::Reconnect) hints.
pub const FEATURE_RECONNECT: u64 = 1;

/// All features that this code knows.
pub const FEATURES: u64 = FEATURE_RECONNECT;

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// Oldest version it speaks.
    pub version_min: u16,
    /// Newest version it speaks.
    pub version_max: u16,
    /// Its features; unknown bits are ignored.
    pub features: u64,
    /// Largest frame it takes, in bytes.
    pub frame_size_bytes_max: u32,
    /// Name and version of the client, for logs.
    pub client: &'a str,
}

impl Default for ClientHello<'_> {
    fn default() -> Self {
        ClientHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: FEATURES,
            frame_size_bytes_max: 2 * limits::CHUNK_SIZE_BYTES as u32,
            client: "",
        }
    }
}

/// Bounds that a server holds its clients to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Largest request, in bytes (etcd's max-request-bytes).
    pub request_size_bytes_max: u32,
    /// Most operations in each list of a transaction.
    pub txn_ops_max: u32,
    /// Requests that may wait for their answer on one connection.
    pub requests_in_flight_max: u32,
    /// Watches on one connection.
    pub watches_max: u32,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            request_size_bytes_max: limits::REQUEST_SIZE_BYTES_MAX as u32,
            txn_ops_max: 128,
            requests_in_flight_max: limits::REQUESTS_IN_FLIGHT_MAX as u32,
            watches_max: limits::WATCHES_MAX as u32,
        }
    }
}

impl ServerLimits {
    /// Largest frame the server takes: the largest request and what surrounds it.
    pub fn frame_size_bytes_max(&self) -> usize {
        let size = self.request_size_bytes_max as usize + limits::FRAME_SLACK_BYTES;
        size.min(limits::FRAME_SIZE_BYTES_MAX)
    }
}

/// Who answers on a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The answering member's id: that of every header on the connection.
    pub member_id: u64,
    /// The server's version.
    pub server_version: String,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version chosen: the newest that both speak.
    pub version: u16,
    /// The features that both know.
    pub features: u64,
    /// Largest frame the server takes, in bytes.
    pub frame_size_bytes_max: u32,
    /// Who it is.
    pub identity: ServerIdentity,
    /// What it allows.
    pub limits: ServerLimits,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ClientHelloFields {
    magic: U64,
    version_min: U16,
    version_max: U16,
    frame_size_bytes_max: U32,
    features: U64,
}

const _: () = assert!(size_of::<ClientHelloFields>() == 24);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ServerHelloFields {
    magic: U64,
    version: U16,
    reserved: [u8; 2],
    frame_size_bytes_max: U32,
    features: U64,
    cluster_id: U64,
    member_id: U64,
    request_size_bytes_max: U32,
    txn_ops_max: U32,
    requests_in_flight_max: U32,
    watches_max: U32,
}

const _: () = assert!(size_of::<ServerHelloFields>() == 56);

impl<'a> ClientHello<'a> {
    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        assert!(self.version_min <= self.version_max);
        let fields = ClientHelloFields {
            magic: U64::new(MAGIC),
            version_min: U16::new(self.version_min),
            version_max: U16::new(self.version_max),
            frame_size_bytes_max: U32::new(self.frame_size_bytes_max),
            features: U64::new(self.features),
        };
        output.extend_from_slice(fields.as_bytes());
        push_text(output, self.client);
    }

    /// A client newer than this code may say more behind what is known here; that is skipped.
    pub(super) fn decode(body: &'a [u8]) -> Result<ClientHello<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let fields: &ClientHelloFields = reader.fixed()?;
        if fields.magic.get() != MAGIC {
            return Err(Malformed::Magic);
        }
        let frame_size = fields.frame_size_bytes_max.get();
        let hello = ClientHello {
            version_min: fields.version_min.get(),
            version_max: fields.version_max.get(),
            features: fields.features.get(),
            frame_size_bytes_max: frame_size,
            client: reader.text()?,
        };
        if hello.version_max < hello.version_min {
            return Err(Malformed::Field("version"));
        }
        if (frame_size as usize) < limits::FRAME_SIZE_BYTES_MIN {
            return Err(Malformed::Field("frame size"));
        }
        Ok(hello)
    }

    /// The newest version that both sides speak.
    pub(super) fn version_chosen(&self) -> Option<u16> {
        let newest = self.version_max.min(VERSION_MAX);
        (self.version_min.max(VERSION_MIN) <= newest).then_some(newest)
    }
}

impl ServerHello {
    pub(super) fn encode(&self, output: &mut Vec<u8>) {
        let fields = ServerHelloFields {
            magic: U64::new(MAGIC),
            version: U16::new(self.version),
            reserved: [0; 2],
            frame_size_bytes_max: U32::new(self.frame_size_bytes_max),
            features: U64::new(self.features),
            cluster_id: U64::new(self.identity.cluster_id),
            member_id: U64::new(self.identity.member_id),
            request_size_bytes_max: U32::new(self.limits.request_size_bytes_max),
            txn_ops_max: U32::new(self.limits.txn_ops_max),
            requests_in_flight_max: U32::new(self.limits.requests_in_flight_max),
            watches_max: U32::new(self.limits.watches_max),
        };
        output.extend_from_slice(fields.as_bytes());
        push_text(output, &self.identity.server_version);
    }

    pub(super) fn decode(body: &[u8]) -> Result<ServerHello, Malformed> {
        let mut reader = Reader::new(body);
        let fields: &ServerHelloFields = reader.fixed()?;
        if fields.magic.get() != MAGIC {
            return Err(Malformed::Magic);
        }
        check_reserved(&fields.reserved)?;
        let version = fields.version.get();
        if version < VERSION_MIN || VERSION_MAX < version {
            return Err(Malformed::Field("version"));
        }
        if (fields.frame_size_bytes_max.get() as usize) < limits::FRAME_SIZE_BYTES_MIN {
            return Err(Malformed::Field("frame size"));
        }
        if fields.requests_in_flight_max.get() == 0 {
            return Err(Malformed::Field("requests in flight"));
        }
        Ok(ServerHello {
            version,
            features: fields.features.get(),
            frame_size_bytes_max: fields.frame_size_bytes_max.get(),
            identity: ServerIdentity {
                cluster_id: fields.cluster_id.get(),
                member_id: fields.member_id.get(),
                server_version: reader.text()?.to_owned(),
            },
            limits: ServerLimits {
                request_size_bytes_max: fields.request_size_bytes_max.get(),
                txn_ops_max: fields.txn_ops_max.get(),
                requests_in_flight_max: fields.requests_in_flight_max.get(),
                watches_max: fields.watches_max.get(),
            },
        })
    }
}
