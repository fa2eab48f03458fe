//! From the generated types to those of [`engine::api`] and back, for the cold paths.

use engine::api::{AlarmAction, AlarmType, KeyValue};

use super::encode::{AlarmMember, Header};
use super::proto::{etcdserverpb, mvccpb};
use super::status::{Code, Status};

impl From<Header> for etcdserverpb::ResponseHeader {
    fn from(header: Header) -> Self {
        let Header { cluster_id, member_id, revision, raft_term } = header;
        Self { cluster_id, member_id, revision, raft_term }
    }
}

impl From<&etcdserverpb::ResponseHeader> for Header {
    fn from(header: &etcdserverpb::ResponseHeader) -> Self {
        let &etcdserverpb::ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
        Self { cluster_id, member_id, revision, raft_term }
    }
}

impl From<KeyValue<'_>> for mvccpb::KeyValue {
    fn from(kv: KeyValue<'_>) -> Self {
        Self {
            key: bytes::Bytes::copy_from_slice(kv.key),
            value: bytes::Bytes::copy_from_slice(kv.value),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

impl<'a> From<&'a mvccpb::KeyValue> for KeyValue<'a> {
    fn from(kv: &'a mvccpb::KeyValue) -> Self {
        Self {
            key: &kv.key,
            value: &kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

impl From<AlarmMember> for etcdserverpb::AlarmMember {
    fn from(alarm: AlarmMember) -> Self {
        Self { member_id: alarm.member_id, alarm: alarm.alarm as i32 }
    }
}

/// What a client asks about alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmRequest {
    /// The alarms that are up, all or of one type.
    Show {
        /// The type wanted; `None` is all.
        alarm: Option<AlarmType>,
    },
    /// An entry for the log.
    Change {
        /// Up or down.
        action: AlarmAction,
        /// The member concerned.
        member_id: u64,
        /// What is wrong, or no longer.
        alarm: AlarmType,
    },
    /// A change of the alarm NONE: nothing is touched.
    Nothing,
}

impl TryFrom<&etcdserverpb::AlarmRequest> for AlarmRequest {
    type Error = Status;

    fn try_from(request: &etcdserverpb::AlarmRequest) -> Result<Self, Status> {
        let alarm = match request.alarm {
            0 => None,
            1 => Some(AlarmType::NoSpace),
            2 => Some(AlarmType::Corrupt),
            _ => return Err(Status::fixed(Code::InvalidArgument, "etcdserver: unknown alarm")),
        };
        let action = match request.action {
            0 => return Ok(AlarmRequest::Show { alarm }),
            1 => AlarmAction::Activate,
            2 => AlarmAction::Deactivate,
            _ => {
                let message = "etcdserver: unknown alarm action";
                return Err(Status::fixed(Code::InvalidArgument, message));
            }
        };
        Ok(match alarm {
            Some(alarm) => AlarmRequest::Change { action, member_id: request.member_id, alarm },
            None => AlarmRequest::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(action: i32, member_id: u64, alarm: i32) -> Result<AlarmRequest, Status> {
        AlarmRequest::try_from(&etcdserverpb::AlarmRequest { action, member_id, alarm })
    }

    #[test]
    fn alarm_requests_are_read_by_action() {
        assert_eq!(read(0, 7, 0), Ok(AlarmRequest::Show { alarm: None }));
        let corrupt = Some(AlarmType::Corrupt);
        assert_eq!(read(0, 0, 2), Ok(AlarmRequest::Show { alarm: corrupt }));
        let change =
            |action| AlarmRequest::Change { action, member_id: 7, alarm: AlarmType::NoSpace };
        assert_eq!(read(1, 7, 1), Ok(change(AlarmAction::Activate)));
        assert_eq!(read(2, 7, 1), Ok(change(AlarmAction::Deactivate)));
        assert_eq!(read(2, 7, 0), Ok(AlarmRequest::Nothing));
        for (action, alarm) in [(3, 1), (-1, 0), (1, 3), (0, -1)] {
            let refusal = read(action, 7, alarm).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArgument);
        }
    }

    #[test]
    fn key_values_and_headers_come_back() {
        let kv = KeyValue {
            key: b"k",
            value: b"v",
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            lease: 4,
        };
        assert_eq!(KeyValue::from(&mvccpb::KeyValue::from(kv)), kv);
        let header = Header { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        assert_eq!(Header::from(&etcdserverpb::ResponseHeader::from(header)), header);
    }
}
