//! Reading the requests of the service KV, all but the transaction.
//!
//! Each `merge_x` reads the fields of one message into a request that may have some already:
//! protobuf merges a message that comes twice, and a default one is the empty message.

use engine::api::{DeleteRangeRequest, PutRequest, RangeRequest, SortOrder, SortTarget};

use crate::etcd::protobuf::reader::{Fields, Malformed};
use crate::etcd::status::{self, Status};

/// A compaction asked for by a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionRequest {
    /// Versions no longer needed to read at this revision or later go.
    pub revision: i64,
    /// Whether to answer only once they are gone.
    pub physical: bool,
}

/// A range whose sort numbers are not judged yet: a later field may still replace them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RangeDraft<'a> {
    pub(super) request: RangeRequest<'a>,
    sort_order: i32,
    sort_target: i32,
}

impl<'a> RangeDraft<'a> {
    /// The request; `None` if etcd does not know one of the sort numbers.
    pub(super) fn finish(self) -> Option<RangeRequest<'a>> {
        let sort_order = match self.sort_order {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return None,
        };
        let sort_target = match self.sort_target {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => return None,
        };
        Some(RangeRequest { sort_order, sort_target, ..self.request })
    }
}

pub(super) fn merge_range<'a>(
    draft: &mut RangeDraft<'a>,
    message: &'a [u8],
) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    let request = &mut draft.request;
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => request.key = value.bytes()?,
            2 => request.range_end = value.bytes()?,
            3 => request.limit = value.int64()?,
            4 => request.revision = value.int64()?,
            5 => draft.sort_order = value.enumeration()?,
            6 => draft.sort_target = value.enumeration()?,
            7 => request.serializable = value.boolean()?,
            8 => request.keys_only = value.boolean()?,
            9 => request.count_only = value.boolean()?,
            10 => request.min_mod_revision = value.int64()?,
            11 => request.max_mod_revision = value.int64()?,
            12 => request.min_create_revision = value.int64()?,
            13 => request.max_create_revision = value.int64()?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn merge_put<'a>(
    request: &mut PutRequest<'a>,
    message: &'a [u8],
) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => request.key = value.bytes()?,
            2 => request.value = value.bytes()?,
            3 => request.lease = value.int64()?,
            4 => request.prev_kv = value.boolean()?,
            5 => request.ignore_value = value.boolean()?,
            6 => request.ignore_lease = value.boolean()?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn merge_delete_range<'a>(
    request: &mut DeleteRangeRequest<'a>,
    message: &'a [u8],
) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => request.key = value.bytes()?,
            2 => request.range_end = value.bytes()?,
            3 => request.prev_kv = value.boolean()?,
            _ => {}
        }
    }
    Ok(())
}

/// Reads an `etcdserverpb.RangeRequest`.
///
/// Errors: malformed bytes; a sort number etcd does not know, unless the key is empty, which is
/// the error etcd finds first.
pub fn decode_range(message: &[u8]) -> Result<RangeRequest<'_>, Status> {
    let mut draft = RangeDraft::default();
    merge_range(&mut draft, message)?;
    draft.finish().ok_or(if draft.request.key.is_empty() {
        status::EMPTY_KEY
    } else {
        status::INVALID_SORT_OPTION
    })
}

/// Reads an `etcdserverpb.PutRequest`. Errors: malformed bytes.
pub fn decode_put(message: &[u8]) -> Result<PutRequest<'_>, Status> {
    let mut request = PutRequest::default();
    merge_put(&mut request, message)?;
    Ok(request)
}

/// Reads an `etcdserverpb.DeleteRangeRequest`. Errors: malformed bytes.
pub fn decode_delete_range(message: &[u8]) -> Result<DeleteRangeRequest<'_>, Status> {
    let mut request = DeleteRangeRequest::default();
    merge_delete_range(&mut request, message)?;
    Ok(request)
}

/// Reads an `etcdserverpb.CompactionRequest`. Errors: malformed bytes.
pub fn decode_compaction(message: &[u8]) -> Result<CompactionRequest, Status> {
    let mut request = CompactionRequest::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => request.revision = value.int64()?,
            2 => request.physical = value.boolean()?,
            _ => {}
        }
    }
    Ok(request)
}
