//! placeholder until http1 lands
use super::Context;
use crate::input::{ConnectionId, Door};
use crate::message::Answer;
pub(super) struct HttpSession;
impl HttpSession {
    pub fn new(_d: Door) -> HttpSession {
        HttpSession
    }
    pub fn feed(&mut self, _c: ConnectionId, _b: &[u8], _x: &mut Context) {}
    pub fn take_output(&mut self) -> Vec<u8> {
        Vec::new()
    }
    pub fn is_finished(&self) -> bool {
        false
    }
    pub fn wants_input(&self) -> bool {
        true
    }
    pub fn on_answer(&mut self, _a: Answer, _x: &mut Context) {}
    pub fn on_metrics(&mut self, _t: Vec<u8>) {}
}
