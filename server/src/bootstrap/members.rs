//! Asks a member of a living cluster who its members are: GET /members at a peer URL.
//!
//! Invariants: an answer is bounded in size and time; whatever comes back is an error or a list of
//! members with distinct ids.
//! Source: RFC 9112 sections 4 to 6 for the answer's form; the JSON is that of etcd 3.7.

use std::{
    fmt,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use serde::Deserialize;
use socket2::{Domain, Socket, Type};

use crate::driver::dialer;

/// A cluster as one of its members describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCluster {
    /// Cluster id.
    pub id: u64,
    /// All members, the ones that have not started too.
    pub members: Vec<RemoteMember>,
}

/// One of its members.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RemoteMember {
    /// Its id.
    pub id: u64,
    /// Where its peers find it.
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    /// Empty until it has started.
    #[serde(default)]
    pub name: String,
    /// Empty until it has started.
    #[serde(rename = "clientURLs", default)]
    pub client_urls: Vec<String>,
    /// It has no vote.
    #[serde(rename = "isLearner", default)]
    pub is_learner: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum FetchError {
    /// The URL leads nowhere, or nobody answers there.
    Io(io::Error),
    /// Something else than a list of members came back.
    Answer(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Io(error) => error.fmt(f),
            FetchError::Answer(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for FetchError {}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> FetchError {
        FetchError::Io(error)
    }
}

/// Asks at a peer URL, for at most `wait` once its name is resolved.
pub fn fetch(url: &str, wait: Duration) -> Result<RemoteCluster, FetchError> {
    let until = Instant::now() + wait;
    let mut socket = connect(url, until)?;
    let host = url.split_once("://").map_or(url, |(_, host)| host).trim_end_matches('/');
    let request = format!("GET /members HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.set_write_timeout(Some(left(until)?))?;
    socket.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(body) = whole_body(&bytes)? {
            return members_of(&bytes, body);
        }
        if ANSWER_SIZE_BYTES_MAX < bytes.len() {
            return Err(FetchError::Answer("the answer is too long".to_owned()));
        }
        socket.set_read_timeout(Some(left(until)?))?;
        match socket.read(&mut chunk) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(size) => bytes.extend_from_slice(&chunk[..size]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to the first address of a URL that takes a connection.
fn connect(url: &str, until: Instant) -> io::Result<Socket> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in dialer::resolve(url) {
        let domain = Domain::from(i32::from(address.family()));
        let socket = Socket::new(domain, Type::STREAM, None)?;
        match socket.connect_timeout(&address, left(until)?) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// Where the body lies, once all of it is there.
fn whole_body(bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, FetchError> {
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let size = field(&bytes[..head_end], "content-length")?
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|size| *size <= ANSWER_SIZE_BYTES_MAX)
        .ok_or_else(|| FetchError::Answer("the answer has no usable length".to_owned()))?;
    let start = head_end + 4;
    Ok((start + size <= bytes.len()).then_some(start..start + size))
}

/// The value of a header field of an answer whose status is 200.
fn field<'a>(head: &'a [u8], name: &str) -> Result<Option<&'a str>, FetchError> {
    let head = std::str::from_utf8(head)
        .map_err(|_| FetchError::Answer("the answer is not HTTP".to_owned()))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let after_version = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(1..));
    let is_ok = after_version.is_some_and(|rest| rest.starts_with(" 200"));
    if !is_ok {
        let start: String = status.chars().take(STATUS_CHARS_SHOWN).collect();
        return Err(FetchError::Answer(format!("the answer is {start:?}")));
    }
    Ok(lines
        .filter_map(|line| line.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim()))
}

fn members_of(bytes: &[u8], body: std::ops::Range<usize>) -> Result<RemoteCluster, FetchError> {
    let wrong = |reason: String| FetchError::Answer(reason);
    let id = field(&bytes[..body.start - 4], "x-etcd-cluster-id")?
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| wrong("the answer names no cluster id".to_owned()))?;
    let members: Vec<RemoteMember> = serde_json::from_slice(&bytes[body])
        .map_err(|error| wrong(format!("the answer is no list of members: {error}")))?;
    let mut ids: Vec<_> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if id == 0 || ids.first() == Some(&0) {
        return Err(wrong("the answer names an id 0".to_owned()));
    }
    if ids.len() != members.len() {
        return Err(wrong("the answer names a member twice".to_owned()));
    }
    Ok(RemoteCluster { id, members })
}

/// Far above what any cluster needs: a hundred members with long names.
const ANSWER_SIZE_BYTES_MAX: usize = 1 << 20;
const STATUS_CHARS_SHOWN: usize = 60;
