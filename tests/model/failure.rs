//! What a refused client is told: gRPC code and etcd's text, typed once more on purpose.

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// gRPC code.
    pub code: u32,
    /// etcd's text.
    pub message: String,
}

impl Failure {
    /// A refusal in etcd's words.
    pub fn new(code: u32, message: &str) -> Failure {
        Failure { code, message: message.to_string() }
    }

    /// Whether it says that nothing was done and nothing will be.
    ///
    /// UNAVAILABLE, CANCELED, DEADLINE_EXCEEDED and UNKNOWN leave open whether a write happens.
    pub fn is_certain(&self) -> bool {
        ![1, 2, 4, 14].contains(&self.code)
    }

    /// Whether this is the given one.
    pub fn is(&self, other: (u32, &str)) -> bool {
        self.code == other.0 && self.message == other.1
    }
}

impl From<(u32, &str)> for Failure {
    fn from((code, message): (u32, &str)) -> Failure {
        Failure::new(code, message)
    }
}

/// No key was given.
pub const EMPTY_KEY: (u32, &str) = (3, "etcdserver: key is not provided");
/// A value beside `ignore_value`.
pub const VALUE_PROVIDED: (u32, &str) = (3, "etcdserver: value is provided");
/// A lease beside `ignore_lease`.
pub const LEASE_PROVIDED: (u32, &str) = (3, "etcdserver: lease is provided");
/// One key changed twice in a transaction.
pub const DUPLICATE_KEY: (u32, &str) = (3, "etcdserver: duplicate key given in txn request");
/// A list of a transaction is too long.
pub const TOO_MANY_OPS: (u32, &str) = (3, "etcdserver: too many operations in txn request");
/// `ignore_value` or `ignore_lease` on a key that is not there.
pub const KEY_NOT_FOUND: (u32, &str) = (3, "etcdserver: key not found");
/// The revision is gone.
pub const COMPACTED: (u32, &str) = (11, "etcdserver: mvcc: required revision has been compacted");
/// The revision is not there yet.
pub const FUTURE_REVISION: (u32, &str) =
    (11, "etcdserver: mvcc: required revision is a future revision");
/// No such lease.
pub const LEASE_NOT_FOUND: (u32, &str) = (5, "etcdserver: requested lease not found");
/// The id is taken.
pub const LEASE_EXISTS: (u32, &str) = (9, "etcdserver: lease already exists");
/// Nothing was done: a learner does not serve this.
pub const LEARNER: (u32, &str) = (9, "etcdserver: rpc not supported for learner");
/// Nothing was done: too much is under way.
pub const TOO_MANY_REQUESTS: (u32, &str) = (8, "etcdserver: too many requests");
