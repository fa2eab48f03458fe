//! Why a watch was cancelled, in etcd's words: the texts of `WatchResponse.cancel_reason`.
//!
//! The first seven come with `created` and `canceled` set and watch id -1, on a stream that
//! stays open. A watch overtaken by compaction gets no text but `compact_revision`; one that the
//! client cancelled gets neither, and nothing else may: Go clients read such an answer as "future
//! revision".
//! Source: fact sheet of etcd's behaviour, sections 5.2, 5.3 and 17.

/// `start_revision` is negative.
pub const START_REVISION_NEGATIVE: &str = "etcdserver: mvcc: required revision has been compacted";
/// The range is empty or upside down.
pub const RANGE_EMPTY: &str = "mvcc: watcher range is empty";
/// The client chose an id that its stream uses already.
pub const WATCH_ID_DUPLICATE: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// No read permission on the range, or the user is gone.
pub const PERMISSION_DENIED: &str =
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
/// The token is unknown or has expired.
pub const INVALID_AUTH_TOKEN: &str =
    "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
/// The token was issued before the last change of users and roles.
pub const AUTH_OLD_REVISION: &str =
    "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old";
/// Authentication is on, and the call names no user.
pub const USER_EMPTY: &str =
    "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";

/// The watch id of a creation that failed, and of a progress answer for a whole stream.
pub const WATCH_ID_NONE: i64 = -1;
/// The member was removed, and hears of no more changes.
pub const SERVER_STOPPED: &str = "etcdserver: server stopped";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status;

    #[test]
    fn reasons_repeat_the_table_of_errors() {
        assert_eq!(PERMISSION_DENIED, status::PERMISSION_DENIED.to_string());
        assert_eq!(INVALID_AUTH_TOKEN, status::INVALID_AUTH_TOKEN.to_string());
        assert_eq!(AUTH_OLD_REVISION, status::AUTH_OLD_REVISION.to_string());
        assert_eq!(USER_EMPTY, status::USER_EMPTY.to_string());
        assert_eq!(START_REVISION_NEGATIVE, status::COMPACTED.message);
        assert_eq!(SERVER_STOPPED, status::STOPPED.message);
    }
}
