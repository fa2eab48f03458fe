//! placeholder until the registry lands
use super::Replica;
use crate::message::{Origin, WatchCreate};
use crate::metrics::Metrics;
use engine::api::EventList;
use engine::page::map::PageMap;
#[derive(Debug)]
pub(super) struct Watches;
impl Watches {
    pub fn new(_p: u64, _now: u64) -> Watches {
        Watches
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn on_credit(&mut self, _o: Origin, _s: usize) {}
    pub fn on_stream_closed(&mut self, _o: Origin) {}
    pub fn next_wake_us(&self) -> Option<u64> {
        None
    }
}
impl<M: PageMap> Replica<M> {
    pub(super) fn on_watch_create(&mut self, _o: Origin, _c: WatchCreate) {}
    pub(super) fn on_watch_cancel(&mut self, _o: Origin, _id: i64) {}
    pub(super) fn on_watch_progress(&mut self, _o: Origin) {}
    pub(super) fn publish_events(&mut self, _r: i64, _e: &EventList, _c: bool) {}
    pub(super) fn run_watches(&mut self, _m: &mut Metrics) {}
}
