//! A range read that may take several steps.

use crate::api::{KvList, RangeRequest, RangeResponse};

/// A range read under way: it holds a revision and a key, never a page.
#[derive(Clone, Debug)]
pub struct RangeRead {
    response: RangeResponse,
}

impl RangeRead {
    pub(crate) fn new(_request: &RangeRequest<'_>) -> RangeRead {
        RangeRead { response: RangeResponse::default() }
    }

    /// The revision read at.
    pub fn revision(&self) -> i64 {
        self.response.revision
    }

    /// Hands out what has been gathered so far, for a stream; `None` while nothing can be sent yet
    /// (a sorted answer comes at its end). From then on the read never starts again at a newer
    /// revision: overtaken by compaction it is refused.
    pub fn take_chunk(&mut self) -> Option<KvList> {
        panic!("lands next")
    }
}
