//! A connection that speaks HTTP/1: probes, metrics, versions.
//!
//! Invariants: one request at a time, answers in the order of requests.

use net::http1::Http1;

use super::Context;
use super::probe::{self, HttpReply, Probe};
use crate::input::{ConnectionId, Door};
use crate::message::{Answer, Call, Outcome};

/// The stream number of calls made here: there is one at a time.
const ONLY_STREAM: u64 = 0;

/// An HTTP/1 session.
pub(super) struct HttpSession {
    http: Http1,
    /// On the peers' port there are members and versions only.
    is_peers_port: bool,
    /// What waits for an answer.
    asked: Option<Probe>,
}

impl HttpSession {
    pub fn new(door: Door) -> HttpSession {
        let is_peers_port = door == Door::Peer;
        HttpSession { http: Http1::new(), is_peers_port, asked: None }
    }

    pub fn feed(&mut self, connection: ConnectionId, bytes: &[u8], context: &mut Context) {
        self.http.feed(bytes);
        self.run(connection, context);
    }

    /// Takes requests until one has to wait.
    fn run(&mut self, connection: ConnectionId, context: &mut Context) {
        while self.asked.is_none() {
            let Some(request) = self.http.next_request() else { return };
            let verb = request.verb.as_bytes();
            let target = match request.query {
                "" => request.path.to_string(),
                query => format!("{}?{query}", request.path),
            };
            match probe::parse(verb, target.as_bytes()) {
                Probe::Version => {
                    let reply = probe::version_reply(&context.config.server_version);
                    self.respond(&reply);
                }
                Probe::Members if self.is_peers_port => {
                    let call = Call::MemberList { serializable: true };
                    context.call(connection, ONLY_STREAM, call);
                    self.asked = Some(Probe::Members);
                }
                Probe::Members | Probe::NotFound => self.respond(&probe::not_found_reply()),
                Probe::MethodNotAllowed => self.respond(&probe::method_not_allowed_reply()),
                _ if self.is_peers_port => self.respond(&probe::not_found_reply()),
                asked => {
                    if asked == Probe::Metrics {
                        context.metrics_reads.push(connection.0);
                    } else {
                        let serializable = !asked.needs_linearizable_read();
                        context.call(connection, ONLY_STREAM, Call::Health { serializable });
                    }
                    self.asked = Some(asked);
                }
            }
        }
    }

    pub fn on_answer(&mut self, answer: Answer, context: &mut Context) {
        let reply = match (self.asked.take(), answer.outcome) {
            (Some(Probe::Members), Outcome::MemberList(members)) => {
                let cluster_id = format!("{:x}", context.config.cluster_id);
                self.http.set_header("X-Etcd-Cluster-Id", cluster_id);
                probe::members_reply(&members)
            }
            (Some(Probe::Members), Outcome::Failed(why)) => probe::failed_reply(why),
            (Some(Probe::Health { exclude, serializable }), Outcome::Health(report)) => {
                let reply = probe::health_reply(&exclude, !serializable, &report);
                context.metrics.add(probe::health_scalar(&reply), 1);
                reply
            }
            (Some(Probe::Checks(checks)), Outcome::Health(report)) => {
                probe::checks_reply(&checks, &report)
            }
            (asked, outcome) => unreachable!("{outcome:?} is no answer to {asked:?}"),
        };
        self.respond(&reply);
        self.run(answer.origin.connection, context);
    }

    pub fn on_metrics(&mut self, connection: ConnectionId, text: Vec<u8>, context: &mut Context) {
        if self.asked == Some(Probe::Metrics) {
            self.asked = None;
            self.respond(&probe::metrics_reply(text));
            self.run(connection, context);
        }
    }

    pub fn take_output(&mut self, connection: ConnectionId, context: &mut Context) -> Vec<u8> {
        let bytes = std::mem::take(self.http.output());
        if !bytes.is_empty() {
            // Requests behind the one that was answered may have waited for room.
            self.run(connection, context);
        }
        bytes
    }

    pub fn tick(&mut self, now_ms: u64) {
        self.http.tick(now_ms);
    }

    pub fn drain(&mut self) {
        self.http.drain();
    }

    pub fn is_finished(&self) -> bool {
        self.asked.is_none() && self.http.is_finished()
    }

    pub fn wants_input(&self) -> bool {
        self.http.wants_input()
    }

    fn respond(&mut self, reply: &HttpReply) {
        self.http.respond(reply.status, reply.content_type, &reply.body);
    }
}
