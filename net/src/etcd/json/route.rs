//! Which call a path of the JSON gateway stands for.
//!
//! Source: fact sheet of the etcd v3 API, section 1.

use crate::etcd::method::Method;

/// The method of an HTTP path without its query. Only POST is served; `/v3beta/` means `/v3/`.
pub fn method_of_path(path: &str) -> Option<Method> {
    let name = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))?;
    Some(match name {
        "kv/range" => Method::Range,
        "kv/put" => Method::Put,
        "kv/deleterange" => Method::DeleteRange,
        "kv/txn" => Method::Txn,
        "kv/compaction" => Method::Compact,
        "watch" => Method::Watch,
        "lease/grant" => Method::LeaseGrant,
        "lease/revoke" => Method::LeaseRevoke,
        "kv/lease/revoke" => Method::LeaseRevoke,
        "lease/keepalive" => Method::LeaseKeepAlive,
        "lease/timetolive" => Method::LeaseTimeToLive,
        "kv/lease/timetolive" => Method::LeaseTimeToLive,
        "lease/leases" => Method::LeaseLeases,
        "kv/lease/leases" => Method::LeaseLeases,
        "cluster/member/add" => Method::MemberAdd,
        "cluster/member/remove" => Method::MemberRemove,
        "cluster/member/update" => Method::MemberUpdate,
        "cluster/member/list" => Method::MemberList,
        "cluster/member/promote" => Method::MemberPromote,
        "maintenance/alarm" => Method::Alarm,
        "maintenance/status" => Method::Status,
        "maintenance/defragment" => Method::Defragment,
        "maintenance/hash" => Method::Hash,
        "maintenance/hashkv" => Method::HashKv,
        "maintenance/snapshot" => Method::Snapshot,
        "maintenance/transfer-leadership" => Method::MoveLeader,
        "maintenance/downgrade" => Method::Downgrade,
        "auth/enable" => Method::AuthEnable,
        "auth/disable" => Method::AuthDisable,
        "auth/status" => Method::AuthStatus,
        "auth/authenticate" => Method::Authenticate,
        "auth/user/add" => Method::UserAdd,
        "auth/user/get" => Method::UserGet,
        "auth/user/list" => Method::UserList,
        "auth/user/delete" => Method::UserDelete,
        "auth/user/changepw" => Method::UserChangePassword,
        "auth/user/grant" => Method::UserGrantRole,
        "auth/user/revoke" => Method::UserRevokeRole,
        "auth/role/add" => Method::RoleAdd,
        "auth/role/get" => Method::RoleGet,
        "auth/role/list" => Method::RoleList,
        "auth/role/delete" => Method::RoleDelete,
        "auth/role/grant" => Method::RoleGrantPermission,
        "auth/role/revoke" => Method::RoleRevokePermission,
        "election/campaign" => Method::Campaign,
        "election/proclaim" => Method::Proclaim,
        "election/leader" => Method::Leader,
        "election/observe" => Method::Observe,
        "election/resign" => Method::Resign,
        "lock/lock" => Method::Lock,
        "lock/unlock" => Method::Unlock,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_but_the_streamed_range_and_health_has_a_path() {
        let names = [
            ("/v3/kv/range", Some(Method::Range)),
            ("/v3beta/kv/range", Some(Method::Range)),
            ("/v3/kv/lease/timetolive", Some(Method::LeaseTimeToLive)),
            ("/v3/maintenance/transfer-leadership", Some(Method::MoveLeader)),
            ("/v3alpha/kv/range", None),
            ("/v3/kv/range/", None),
            ("/v3/", None),
            ("/v2/keys", None),
        ];
        for (path, method) in names {
            assert_eq!(method_of_path(path), method, "{path}");
        }
    }
}
