//! The methods of the services: paths, kinds, names for metrics, small numbers for tables.
//!
//! Invariant: ids run from 1 without a gap and never change their meaning within a release.
//! Source: fact sheet of the etcd v3 API, section 1.

/// How many messages a call carries, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl Kind {
    /// The value of the label `grpc_type` in metrics.
    pub fn grpc_type(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! methods {
    ($($name:ident = $id:literal, $service:literal, $method:literal, $kind:ident;)*) => {
        /// A method of one of the services.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        #[allow(missing_docs)]
        pub enum Method {
            $($name = $id,)*
        }

        impl Method {
            /// Every method, in the order of the ids.
            pub const ALL: &'static [Method] = &[$(Method::$name),*];

            /// The method of an HTTP/2 `:path`, e.g. `/etcdserverpb.KV/Range`.
            #[allow(non_upper_case_globals)]
            pub fn from_path(path: &[u8]) -> Option<Method> {
                $(
                    const $name: &[u8] = concat!("/", $service, "/", $method).as_bytes();
                )*
                match path {
                    $($name => Some(Method::$name),)*
                    _ => None,
                }
            }

            /// The HTTP/2 `:path`.
            pub fn path(self) -> &'static str {
                match self {
                    $(Method::$name => concat!("/", $service, "/", $method),)*
                }
            }

            /// The service's full name, e.g. `etcdserverpb.KV`.
            pub fn service(self) -> &'static str {
                match self {
                    $(Method::$name => $service,)*
                }
            }

            /// The name within the service, e.g. `Range`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Method::$name => $method,)*
                }
            }

            /// Which side sends how many messages.
            pub fn kind(self) -> Kind {
                match self {
                    $(Method::$name => Kind::$kind,)*
                }
            }
        }
    };
}

methods! {
    Range = 1, "etcdserverpb.KV", "Range", Unary;
    RangeStream = 2, "etcdserverpb.KV", "RangeStream", ServerStream;
    Put = 3, "etcdserverpb.KV", "Put", Unary;
    DeleteRange = 4, "etcdserverpb.KV", "DeleteRange", Unary;
    Txn = 5, "etcdserverpb.KV", "Txn", Unary;
    Compact = 6, "etcdserverpb.KV", "Compact", Unary;
    Watch = 7, "etcdserverpb.Watch", "Watch", BidiStream;
    LeaseGrant = 8, "etcdserverpb.Lease", "LeaseGrant", Unary;
    LeaseRevoke = 9, "etcdserverpb.Lease", "LeaseRevoke", Unary;
    LeaseKeepAlive = 10, "etcdserverpb.Lease", "LeaseKeepAlive", BidiStream;
    LeaseTimeToLive = 11, "etcdserverpb.Lease", "LeaseTimeToLive", Unary;
    LeaseLeases = 12, "etcdserverpb.Lease", "LeaseLeases", Unary;
    MemberAdd = 13, "etcdserverpb.Cluster", "MemberAdd", Unary;
    MemberRemove = 14, "etcdserverpb.Cluster", "MemberRemove", Unary;
    MemberUpdate = 15, "etcdserverpb.Cluster", "MemberUpdate", Unary;
    MemberList = 16, "etcdserverpb.Cluster", "MemberList", Unary;
    MemberPromote = 17, "etcdserverpb.Cluster", "MemberPromote", Unary;
    Alarm = 18, "etcdserverpb.Maintenance", "Alarm", Unary;
    Status = 19, "etcdserverpb.Maintenance", "Status", Unary;
    Defragment = 20, "etcdserverpb.Maintenance", "Defragment", Unary;
    Hash = 21, "etcdserverpb.Maintenance", "Hash", Unary;
    HashKv = 22, "etcdserverpb.Maintenance", "HashKV", Unary;
    Snapshot = 23, "etcdserverpb.Maintenance", "Snapshot", ServerStream;
    MoveLeader = 24, "etcdserverpb.Maintenance", "MoveLeader", Unary;
    Downgrade = 25, "etcdserverpb.Maintenance", "Downgrade", Unary;
    AuthEnable = 26, "etcdserverpb.Auth", "AuthEnable", Unary;
    AuthDisable = 27, "etcdserverpb.Auth", "AuthDisable", Unary;
    AuthStatus = 28, "etcdserverpb.Auth", "AuthStatus", Unary;
    Authenticate = 29, "etcdserverpb.Auth", "Authenticate", Unary;
    UserAdd = 30, "etcdserverpb.Auth", "UserAdd", Unary;
    UserGet = 31, "etcdserverpb.Auth", "UserGet", Unary;
    UserList = 32, "etcdserverpb.Auth", "UserList", Unary;
    UserDelete = 33, "etcdserverpb.Auth", "UserDelete", Unary;
    UserChangePassword = 34, "etcdserverpb.Auth", "UserChangePassword", Unary;
    UserGrantRole = 35, "etcdserverpb.Auth", "UserGrantRole", Unary;
    UserRevokeRole = 36, "etcdserverpb.Auth", "UserRevokeRole", Unary;
    RoleAdd = 37, "etcdserverpb.Auth", "RoleAdd", Unary;
    RoleGet = 38, "etcdserverpb.Auth", "RoleGet", Unary;
    RoleList = 39, "etcdserverpb.Auth", "RoleList", Unary;
    RoleDelete = 40, "etcdserverpb.Auth", "RoleDelete", Unary;
    RoleGrantPermission = 41, "etcdserverpb.Auth", "RoleGrantPermission", Unary;
    RoleRevokePermission = 42, "etcdserverpb.Auth", "RoleRevokePermission", Unary;
    Campaign = 43, "v3electionpb.Election", "Campaign", Unary;
    Proclaim = 44, "v3electionpb.Election", "Proclaim", Unary;
    Leader = 45, "v3electionpb.Election", "Leader", Unary;
    Observe = 46, "v3electionpb.Election", "Observe", ServerStream;
    Resign = 47, "v3electionpb.Election", "Resign", Unary;
    Lock = 48, "v3lockpb.Lock", "Lock", Unary;
    Unlock = 49, "v3lockpb.Lock", "Unlock", Unary;
    HealthCheck = 50, "grpc.health.v1.Health", "Check", Unary;
    HealthWatch = 51, "grpc.health.v1.Health", "Watch", ServerStream;
    HealthList = 52, "grpc.health.v1.Health", "List", Unary;
}

impl Method {
    /// The method's number, from 1.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The method of a number from [`Method::id`].
    pub fn from_id(id: u32) -> Option<Method> {
        let position = usize::try_from(id.checked_sub(1)?).ok()?;
        Method::ALL.get(position).copied()
    }

    /// Whether a learner answers it. A range it answers only if serializable, which the caller
    /// has to look at.
    pub fn is_served_by_learner(self) -> bool {
        matches!(self, Method::Range | Method::Status | Method::Snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_path_and_by_id() {
        assert_eq!(Method::ALL.len(), 49 + 3);
        for (position, method) in Method::ALL.iter().copied().enumerate() {
            assert_eq!(method.id() as usize, position + 1);
            assert_eq!(Method::from_id(method.id()), Some(method));
            assert_eq!(Method::from_path(method.path().as_bytes()), Some(method));
            assert_eq!(method.path(), format!("/{}/{}", method.service(), method.name()));
        }
        assert_eq!(Method::from_id(0), None);
        assert_eq!(Method::from_id(53), None);
        for path in ["", "/", "etcdserverpb.KV/Range", "/etcdserverpb.KV/range", "/x.Y/Range"] {
            assert_eq!(Method::from_path(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn streams_are_the_ones_etcd_has() {
        let of = |kind: Kind| Method::ALL.iter().copied().filter(move |m| m.kind() == kind);
        let bidi: Vec<_> = of(Kind::BidiStream).collect();
        assert_eq!(bidi, [Method::Watch, Method::LeaseKeepAlive]);
        let server: Vec<_> = of(Kind::ServerStream).collect();
        let wanted = [Method::RangeStream, Method::Snapshot, Method::Observe, Method::HealthWatch];
        assert_eq!(server, wanted);
    }
}
