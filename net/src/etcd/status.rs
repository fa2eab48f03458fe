//! The one table of errors: what a client of etcd is told, code and exact message.
//!
//! Clients match on the message, and retry by the code; so both are etcd's, to the letter. Where
//! etcd's server sends code UNKNOWN by an oversight ("too many requests", "re-configuration
//! failed due to not enough started members"), we send the code that its client knows them by.
//! Source: fact sheet of etcd's behaviour, sections 16 and 16.1; gateway codes from the API sheet.

use std::borrow::Cow;
use std::fmt;

use engine::api::Reject;

use super::method::Method;

/// A gRPC status code, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes, in the order of their numbers.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Canceled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The code of a number; `None` for a number gRPC does not define.
    pub fn from_u32(number: u32) -> Option<Code> {
        Code::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name as metrics and logs print it, e.g. `InvalidArgument`.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Canceled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        }
    }

    /// The HTTP status that the JSON gateway answers with.
    pub fn http_status(self) -> u16 {
        match self {
            Code::Ok => 200,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::ResourceExhausted => 429,
            Code::Canceled => 499,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
            Code::DeadlineExceeded => 504,
        }
    }
}

/// How a call ended that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The gRPC code.
    pub code: Code,
    /// The message, not yet percent-encoded.
    pub message: Cow<'static, str>,
}

impl fmt::Display for Status {
    /// In the form that Go clients print, and that etcd puts into a watch's cancel reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    /// A status with a message known at compile time.
    pub const fn fixed(code: Code, message: &'static str) -> Status {
        Status { code, message: Cow::Borrowed(message) }
    }

    /// A status with a message made for the occasion.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }
}

impl From<Reject> for Status {
    fn from(reject: Reject) -> Status {
        from_reject(reject)
    }
}

/// What a client is told of a refusal that every replica agreed on.
pub fn from_reject(reject: Reject) -> Status {
    match reject {
        Reject::Compacted => COMPACTED,
        Reject::FutureRevision => FUTURE_REVISION,
        Reject::KeyNotFound => KEY_NOT_FOUND,
        Reject::LeaseNotFound => LEASE_NOT_FOUND,
        Reject::LeaseExists => LEASE_EXISTS,
        Reject::LeaseTtlTooLarge => LEASE_TTL_TOO_LARGE,
        Reject::NoSpace => NO_SPACE,
        Reject::Corrupt => CORRUPT_CLUSTER,
        Reject::MemberNotFound | Reject::MemberRemoved => MEMBER_NOT_FOUND,
        Reject::MemberExists => MEMBER_EXISTS,
        Reject::PeerUrlExists => PEER_URL_EXISTS,
        Reject::MemberNotLearner => MEMBER_NOT_LEARNER,
    }
}

/// What a call to a path that is no method's ends with, as Go's gRPC words it.
pub fn unknown_path(path: &[u8]) -> Status {
    let path = String::from_utf8_lossy(path);
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
    else {
        let message = format!("malformed method name: {path:?}");
        return Status::new(Code::Unimplemented, message);
    };
    let message = if Method::ALL.iter().any(|known| known.service() == service) {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    };
    Status::new(Code::Unimplemented, message)
}

/// What a call ends with whose message is larger than the transport takes, as Go's gRPC words it.
pub fn message_too_large(size_bytes: usize, size_max_bytes: usize) -> Status {
    let message =
        format!("grpc: received message larger than max ({size_bytes} vs. {size_max_bytes})");
    Status::new(Code::ResourceExhausted, message)
}

macro_rules! statuses {
    ($list:ident: $($name:ident = $code:ident, $message:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($code), "`: ", $message)]
            pub const $name: Status = Status::fixed(Code::$code, $message);
        )*

        /// Every row of this table.
        pub const $list: &[Status] = &[$($name),*];
    };
}

statuses! {
    TYPED:
    EMPTY_KEY = InvalidArgument, "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument, "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument, "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument, "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument, "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument, "etcdserver: duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION = InvalidArgument, "etcdserver: invalid client api version";
    INVALID_SORT_OPTION = InvalidArgument, "etcdserver: invalid sort option";
    COMPACTED = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NO_SPACE = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    LEASE_NOT_FOUND = NotFound, "etcdserver: requested lease not found";
    LEASE_EXISTS = FailedPrecondition, "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE = OutOfRange, "etcdserver: too large lease TTL";
    WATCH_CANCELED = Canceled, "etcdserver: watch canceled";
    MEMBER_EXISTS = FailedPrecondition, "etcdserver: member ID already exist";
    PEER_URL_EXISTS = FailedPrecondition, "etcdserver: Peer URLs already exists";
    MEMBER_NOT_ENOUGH_STARTED = FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members";
    MEMBER_BAD_URLS = InvalidArgument, "etcdserver: given member URLs are invalid";
    MEMBER_NOT_FOUND = NotFound, "etcdserver: member not found";
    MEMBER_NOT_LEARNER = FailedPrecondition, "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS = FailedPrecondition, "etcdserver: too many learner members in cluster";
    CLUSTER_ID_MISMATCH = FailedPrecondition, "etcdserver: cluster ID mismatch";
    REQUEST_TOO_LARGE = InvalidArgument, "etcdserver: request is too large";
    TOO_MANY_REQUESTS = ResourceExhausted, "etcdserver: too many requests";
    ROOT_USER_MISSING = FailedPrecondition, "etcdserver: root user does not exist";
    ROOT_ROLE_MISSING = FailedPrecondition, "etcdserver: root user does not have root role";
    USER_EXISTS = FailedPrecondition, "etcdserver: user name already exists";
    USER_EMPTY = InvalidArgument, "etcdserver: user name is empty";
    USER_NOT_FOUND = FailedPrecondition, "etcdserver: user name not found";
    ROLE_EXISTS = FailedPrecondition, "etcdserver: role name already exists";
    ROLE_NOT_FOUND = FailedPrecondition, "etcdserver: role name not found";
    ROLE_EMPTY = InvalidArgument, "etcdserver: role name is empty";
    AUTH_FAILED = InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    PERMISSION_NOT_GIVEN = InvalidArgument, "etcdserver: permission not given";
    PERMISSION_DENIED = PermissionDenied, "etcdserver: permission denied";
    ROLE_NOT_GRANTED = FailedPrecondition, "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED = FailedPrecondition,
        "etcdserver: permission is not granted to the role";
    AUTH_NOT_ENABLED = FailedPrecondition, "etcdserver: authentication is not enabled";
    INVALID_AUTH_TOKEN = Unauthenticated, "etcdserver: invalid auth token";
    INVALID_AUTH_MANAGEMENT = InvalidArgument, "etcdserver: invalid auth management";
    AUTH_OLD_REVISION = InvalidArgument, "etcdserver: revision of auth store is old";
    NO_LEADER = Unavailable, "etcdserver: no leader";
    NOT_LEADER = FailedPrecondition, "etcdserver: not leader";
    LEADER_CHANGED = Unavailable, "etcdserver: leader changed";
    NOT_CAPABLE = FailedPrecondition, "etcdserver: not capable";
    STOPPED = Unavailable, "etcdserver: server stopped";
    TIMEOUT = Unavailable, "etcdserver: request timed out";
    TIMEOUT_DUE_TO_LEADER_FAIL = Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    TIMEOUT_DUE_TO_CONNECTION_LOST = Unavailable,
        "etcdserver: request timed out, possibly due to connection lost";
    TIMEOUT_WAIT_APPLIED_INDEX = Unavailable,
        "etcdserver: request timed out, waiting for the applied index took too long";
    UNHEALTHY = Unavailable, "etcdserver: unhealthy cluster";
    CORRUPT_CLUSTER = DataLoss, "etcdserver: corrupt cluster";
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition, "etcdserver: rpc not supported for learner";
    BAD_LEADER_TRANSFEREE = FailedPrecondition, "etcdserver: bad leader transferee";
    WRONG_DOWNGRADE_VERSION_FORMAT = InvalidArgument,
        "etcdserver: wrong downgrade target version format";
    INVALID_DOWNGRADE_TARGET_VERSION = InvalidArgument,
        "etcdserver: invalid downgrade target version";
    CLUSTER_VERSION_UNAVAILABLE = FailedPrecondition,
        "etcdserver: cluster version not found during downgrade";
    DOWNGRADE_IN_PROCESS = FailedPrecondition,
        "etcdserver: cluster has a downgrade job in progress";
    NO_INFLIGHT_DOWNGRADE = FailedPrecondition, "etcdserver: no inflight downgrade job";
    CANCELED = Canceled, "etcdserver: request canceled";
    DEADLINE_EXCEEDED = DeadlineExceeded, "etcdserver: context deadline exceeded";
}

statuses! {
    PLAIN:
    NOT_PRIMARY_LESSOR = Unknown, "not a primary lessor";
    TIMEOUT_LEADER_TRANSFER = Unknown,
        "etcdserver: request timed out, leader transfer took too long";
    UNKNOWN_METHOD = Unknown, "etcdserver: unknown method";
    PROPOSAL_DROPPED = Unknown, "raft proposal dropped";
    RAFT_STOPPED = Unknown, "raft: stopped";
    NO_PASSWORD_USER = Unknown,
        "auth: authentication failed, password was given for no password user";
    ELECTION_NO_LEADER = Unknown, "election: no leader";
    ELECTION_NOT_LEADER = Unknown, "election: not leader";
    SESSION_EXPIRED = Unknown, "mutex: session is expired";
    LEADER_FIELD_MISSING = Unknown, "\"leader\" field must be provided";
    RANGE_STREAM_SORT = Unimplemented, "RangeStream does not support custom sort orders";
    RANGE_STREAM_FILTER = Unimplemented, "RangeStream does not support revision filters";
    GATEWAY_NOT_FOUND = NotFound, "Not Found";
    GATEWAY_METHOD_NOT_ALLOWED = Unimplemented, "Method Not Allowed";
    HEALTH_UNKNOWN_SERVICE = NotFound, "unknown service";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_no_message_stands_twice() {
        assert_eq!(TYPED.len(), 63);
        let all: Vec<_> = TYPED.iter().chain(PLAIN).collect();
        for (position, status) in all.iter().enumerate() {
            assert_ne!(status.code, Code::Ok);
            assert!(!all[..position].iter().any(|earlier| earlier.message == status.message));
        }
        assert!(TYPED.iter().all(|status| status.message.starts_with("etcdserver: ")));
    }

    #[test]
    fn codes_have_their_numbers_names_and_http_statuses() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(Code::from_u32(number as u32), Some(code));
        }
        assert_eq!(Code::from_u32(17), None);
        assert_eq!(Code::ResourceExhausted.http_status(), 429);
        assert_eq!(Code::Unimplemented.http_status(), 501);
        assert_eq!(
            PERMISSION_DENIED.to_string(),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        );
    }

    #[test]
    fn rejects_speak_as_etcd_does() {
        let told = |reject: Reject| (from_reject(reject).code, from_reject(reject).message);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(told(Reject::Compacted), (Code::OutOfRange, compacted.into()));
        let no_space = "etcdserver: mvcc: database space exceeded";
        assert_eq!(told(Reject::NoSpace), (Code::ResourceExhausted, no_space.into()));
        assert_eq!(told(Reject::Corrupt).0, Code::DataLoss);
        assert_eq!(told(Reject::LeaseExists).0, Code::FailedPrecondition);
    }

    #[test]
    fn calls_that_lead_nowhere_are_told_so_as_by_go() {
        let told = |path: &str| unknown_path(path.as_bytes()).message.into_owned();
        assert_eq!(told("/etcdserverpb.KV/Get"), "unknown method Get for service etcdserverpb.KV");
        assert_eq!(told("/a.B/C"), "unknown service a.B");
        assert_eq!(told("KV"), "malformed method name: \"KV\"");
        let too_large = message_too_large(2_097_153, 2_097_152);
        assert_eq!(too_large.code, Code::ResourceExhausted);
        assert_eq!(
            too_large.message,
            "grpc: received message larger than max (2097153 vs. 2097152)"
        );
    }
}
