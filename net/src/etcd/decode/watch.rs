//! Reading what a client says on a watch stream.

use crate::etcd::protobuf::reader::{Fields, Malformed, Value};
use crate::etcd::status::Status;

/// Events a watch does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchFilters {
    /// Puts are left out.
    pub no_put: bool,
    /// Deletions are left out.
    pub no_delete: bool,
}

impl WatchFilters {
    fn add(&mut self, number: i32) {
        match number {
            0 => self.no_put = true,
            1 => self.no_delete = true,
            // etcd passes over filters that it does not know.
            _ => {}
        }
    }
}

/// A watch asked for, as it came: an empty key is not yet turned into a zero byte, nor are the
/// revision, range and id judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCreateRequest<'a> {
    /// First key of the range.
    pub key: &'a [u8],
    /// End of the range, by etcd's rules.
    pub range_end: &'a [u8],
    /// First revision wanted; 0 is the next one.
    pub start_revision: i64,
    /// Whether to send the progress of an idle watch from time to time.
    pub progress_notify: bool,
    /// Events left out.
    pub filters: WatchFilters,
    /// Whether events carry the state before.
    pub prev_kv: bool,
    /// Id wanted; 0 leaves the choice to the server.
    pub watch_id: i64,
    /// Whether one revision's events may come in several messages.
    pub fragment: bool,
}

/// One message on a watch stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchRequest<'a> {
    /// No request at all, or one of a kind not known here: nothing is done.
    #[default]
    Missing,
    /// A new watch.
    Create(WatchCreateRequest<'a>),
    /// The end of a watch.
    Cancel {
        /// The watch's id on this stream.
        watch_id: i64,
    },
    /// Asks how far the whole stream is.
    Progress,
}

/// Reads an `etcdserverpb.WatchRequest`. Errors: malformed bytes.
pub fn decode_watch(message: &[u8]) -> Result<WatchRequest<'_>, Status> {
    let mut request = WatchRequest::Missing;
    let mut fields = Fields::new(message);
    // Of a union the last kind stands; the same kind twice is merged.
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => {
                let mut create = match request {
                    WatchRequest::Create(create) => create,
                    _ => WatchCreateRequest::default(),
                };
                merge_create(&mut create, value.bytes()?)?;
                request = WatchRequest::Create(create);
            }
            2 => {
                let mut watch_id = match request {
                    WatchRequest::Cancel { watch_id } => watch_id,
                    _ => 0,
                };
                merge_cancel(&mut watch_id, value.bytes()?)?;
                request = WatchRequest::Cancel { watch_id };
            }
            3 => {
                merge_nothing(value.bytes()?)?;
                request = WatchRequest::Progress;
            }
            _ => {}
        }
    }
    Ok(request)
}

fn merge_create<'a>(
    create: &mut WatchCreateRequest<'a>,
    message: &'a [u8],
) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => create.key = value.bytes()?,
            2 => create.range_end = value.bytes()?,
            3 => create.start_revision = value.int64()?,
            4 => create.progress_notify = value.boolean()?,
            5 => merge_filters(&mut create.filters, value)?,
            6 => create.prev_kv = value.boolean()?,
            7 => create.watch_id = value.int64()?,
            8 => create.fragment = value.boolean()?,
            _ => {}
        }
    }
    Ok(())
}

/// A repeated number comes packed or one by one, whatever the schema says.
fn merge_filters(filters: &mut WatchFilters, value: Value<'_>) -> Result<(), Malformed> {
    let Value::Length(packed) = value else {
        filters.add(value.enumeration()?);
        return Ok(());
    };
    let mut numbers = Fields::new(packed);
    while let Some(number) = numbers.next_packed()? {
        filters.add(number as i32);
    }
    Ok(())
}

fn merge_cancel(watch_id: &mut i64, message: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        if number == 1 {
            *watch_id = value.int64()?;
        }
    }
    Ok(())
}

fn merge_nothing(message: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while fields.next_field()?.is_some() {}
    Ok(())
}
