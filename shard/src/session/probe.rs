//! The plain HTTP questions of probes and people: /version, /metrics, /health, /livez, /readyz.
//!
//! Invariant: parsing and rendering only; what is healthy is the replica's to say.
//! Source: fact sheet of operations, section 3.

use engine::api::AlarmType;

use crate::message::{HealthReport, Member, Unavailable};
use crate::metrics::Scalar;

/// A question on the client port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Versions as JSON.
    Version,
    /// Prometheus text.
    Metrics,
    /// etcd's oldest health check.
    Health {
        /// Alarms left out, by name.
        exclude: Vec<String>,
        /// No leader needed.
        serializable: bool,
    },
    /// Checks in the style of Kubernetes.
    Checks(Checks),
    /// The members, for one that is about to join; on the peers' port only.
    Members,
    /// Nothing of ours.
    NotFound,
    /// The path is ours, the method is not.
    MethodNotAllowed,
}

/// Which checks to run and how to show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// The checks, in the order in which they are shown.
    pub names: Vec<&'static str>,
    /// Left out by the query.
    pub exclude: Vec<String>,
    /// Show each check's line even if all are well.
    pub is_verbose: bool,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HttpReply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const LIVEZ: [&str; 1] = ["serializable_read"];
const READYZ: [&str; 4] =
    ["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

/// Reads a request line's verb and target.
pub fn parse(verb: &[u8], target: &[u8]) -> Probe {
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = || query.split('&').filter(|part| !part.is_empty());
    let values = |name: &str| {
        let named = pairs().filter_map(|pair| pair.split_once('=').or(Some((pair, ""))));
        named.filter(|(key, _)| *key == name).map(|(_, v)| v.to_string()).collect::<Vec<_>>()
    };
    let probe = match path {
        "/version" => Probe::Version,
        "/members" => Probe::Members,
        "/metrics" => Probe::Metrics,
        "/health" => Probe::Health {
            exclude: values("exclude"),
            serializable: values("serializable").iter().any(|value| value == "true"),
        },
        _ => match checks_of(path) {
            Some(names) => Probe::Checks(Checks {
                names,
                exclude: values("exclude"),
                is_verbose: pairs().any(|pair| pair == "verbose" || pair.starts_with("verbose=")),
            }),
            None => return Probe::NotFound,
        },
    };
    if verb == b"GET" { probe } else { Probe::MethodNotAllowed }
}

fn checks_of(path: &str) -> Option<Vec<&'static str>> {
    let (all, rest): (&[&'static str], &str) = if let Some(rest) = path.strip_prefix("/livez") {
        (&LIVEZ, rest)
    } else {
        (&READYZ, path.strip_prefix("/readyz")?)
    };
    match rest {
        "" | "/" => Some(all.to_vec()),
        one => {
            let name = one.strip_prefix('/')?;
            all.iter().find(|known| **known == name).map(|known| vec![*known])
        }
    }
}

impl Probe {
    /// Whether a linearizable read has to be tried for the answer.
    pub fn needs_linearizable_read(&self) -> bool {
        match self {
            Probe::Health { serializable, .. } => !serializable,
            Probe::Checks(checks) => {
                let name = "linearizable_read";
                checks.names.contains(&name) && !checks.exclude.iter().any(|e| e == name)
            }
            _ => false,
        }
    }
}

/// The answer of /version.
pub fn version_reply(server_version: &str) -> HttpReply {
    let cluster = crate::metrics::cluster_version(server_version);
    let body = format!(
        "{{\"etcdserver\":\"{server_version}\",\"etcdcluster\":\"{cluster}\",\
         \"storage\":\"{cluster}\"}}"
    );
    HttpReply { status: 200, content_type: JSON, body: body.into_bytes() }
}

/// The answer of /members.
pub fn members_reply(members: &[Member]) -> HttpReply {
    let listed: Vec<_> = members.iter().map(member_json).collect();
    let body = format!("[{}]\n", listed.join(","));
    HttpReply { status: 200, content_type: JSON, body: body.into_bytes() }
}

fn member_json(member: &Member) -> String {
    let texts = |urls: &[String]| {
        let quoted: Vec<_> = urls.iter().map(|url| quoted(url)).collect();
        quoted.join(",")
    };
    let mut json = format!("{{\"id\":{},\"peerURLs\":[{}]", member.id, texts(&member.peer_urls));
    if member.is_learner {
        json.push_str(",\"isLearner\":true");
    }
    if !member.name.is_empty() {
        json.push_str(&format!(",\"name\":{}", quoted(&member.name)));
    }
    if !member.client_urls.is_empty() {
        json.push_str(&format!(",\"clientURLs\":[{}]", texts(&member.client_urls)));
    }
    json.push('}');
    json
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The answer for a path that is not there.
pub fn not_found_reply() -> HttpReply {
    HttpReply { status: 404, content_type: TEXT, body: b"404 page not found\n".to_vec() }
}

/// The answer for what cannot be told now.
pub fn failed_reply(why: Unavailable) -> HttpReply {
    let body = format!("{}\n", super::status_of(why).message);
    HttpReply { status: 503, content_type: TEXT, body: body.into_bytes() }
}

/// The answer for another verb than GET.
pub fn method_not_allowed_reply() -> HttpReply {
    HttpReply { status: 405, content_type: TEXT, body: b"Method Not Allowed\n".to_vec() }
}

/// The answer of /metrics.
pub fn metrics_reply(text: Vec<u8>) -> HttpReply {
    HttpReply { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body: text }
}

/// What an answer of /health counts as.
pub fn health_scalar(reply: &HttpReply) -> Scalar {
    match reply.status {
        200 => Scalar::HealthSuccess,
        _ => Scalar::HealthFailures,
    }
}

/// The answer of /health: its value is a string, as in etcd.
pub fn health_reply(exclude: &[String], needs_leader: bool, report: &HealthReport) -> HttpReply {
    let alarm = report.alarms.iter().find(|alarm| {
        let name = alarm_name(**alarm);
        !exclude.iter().any(|excluded| excluded == name)
    });
    let reason = if let Some(alarm) = alarm {
        format!("ALARM {}", alarm_name(*alarm))
    } else if needs_leader && !report.has_leader {
        "RAFT NO LEADER".to_string()
    } else if let Some(failure) = report.read_failure {
        format!("RANGE ERROR:{}", super::status_of(failure).message)
    } else {
        String::new()
    };
    let is_well = reason.is_empty();
    let body = format!("{{\"health\":\"{is_well}\",\"reason\":\"{reason}\"}}");
    let status = if is_well { 200 } else { 503 };
    // etcd sends this JSON as text.
    HttpReply { status, content_type: TEXT, body: body.into_bytes() }
}

/// The answer of /livez and /readyz.
pub fn checks_reply(checks: &Checks, report: &HealthReport) -> HttpReply {
    let mut lines = String::new();
    let mut is_well = true;
    for name in &checks.names {
        if checks.exclude.iter().any(|excluded| excluded == name) {
            continue;
        }
        match check_failure(name, report) {
            None => lines.push_str(&format!("[+]{name} ok\n")),
            Some(failure) => {
                is_well = false;
                lines.push_str(&format!("[-]{name} failed: {failure}\n"));
            }
        }
    }
    let body = if !is_well {
        lines
    } else if checks.is_verbose {
        lines + "ok\n"
    } else {
        "ok\n".to_string()
    };
    let status = if is_well { 200 } else { 503 };
    HttpReply { status, content_type: TEXT, body: body.into_bytes() }
}

fn check_failure(name: &str, report: &HealthReport) -> Option<String> {
    match name {
        "non_learner" if report.is_learner => {
            Some(super::status_of(crate::message::Unavailable::Learner).message.to_string())
        }
        "data_corruption" if report.alarms.contains(&AlarmType::Corrupt) => {
            Some("alarm activated: CORRUPT".to_string())
        }
        "linearizable_read" => {
            report.read_failure.map(|failure| super::status_of(failure).message.to_string())
        }
        _ => None,
    }
}

fn alarm_name(alarm: AlarmType) -> &'static str {
    match alarm {
        AlarmType::NoSpace => "NOSPACE",
        AlarmType::Corrupt => "CORRUPT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(reply: &HttpReply) -> &str {
        std::str::from_utf8(&reply.body).unwrap()
    }

    #[test]
    fn health_names_the_first_reason() {
        let mut report = HealthReport { has_leader: true, ..HealthReport::default() };
        assert_eq!(body(&health_reply(&[], true, &report)), r#"{"health":"true","reason":""}"#);
        report.alarms.push(AlarmType::NoSpace);
        let reply = health_reply(&[], true, &report);
        assert_eq!(
            (reply.status, body(&reply)),
            (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#)
        );
        assert_eq!(health_reply(&["NOSPACE".to_string()], true, &report).status, 200);
    }

    #[test]
    fn checks_show_their_lines_when_asked_or_when_bad() {
        let Probe::Checks(checks) = parse(b"GET", b"/readyz?verbose&exclude=non_learner") else {
            panic!("a check");
        };
        let mut report = HealthReport { has_leader: true, ..HealthReport::default() };
        let well = checks_reply(&checks, &report);
        assert_eq!(
            body(&well),
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n"
        );
        report.alarms.push(AlarmType::Corrupt);
        let bad = checks_reply(&checks, &report);
        assert_eq!(bad.status, 503);
        assert!(body(&bad).starts_with("[-]data_corruption failed: "));
    }

    #[test]
    fn members_are_listed_as_etcd_lists_them() {
        let started = Member {
            id: 5,
            name: "a\"b".to_string(),
            peer_urls: vec!["http://a:1".to_string()],
            client_urls: vec!["http://a:2".to_string()],
            binary_urls: vec!["http://a:3".to_string()],
            is_learner: false,
        };
        let fresh = Member { id: 6, is_learner: true, ..Member::default() };
        assert_eq!(
            body(&members_reply(&[started, fresh])),
            "[{\"id\":5,\"peerURLs\":[\"http://a:1\"],\"name\":\"a\\\"b\",\
             \"clientURLs\":[\"http://a:2\"]},{\"id\":6,\"peerURLs\":[],\"isLearner\":true}]\n"
        );
    }

    #[test]
    fn other_paths_and_verbs_are_told_apart() {
        assert_eq!(parse(b"GET", b"/v2/keys"), Probe::NotFound);
        assert_eq!(parse(b"POST", b"/livez"), Probe::MethodNotAllowed);
        assert_eq!(parse(b"GET", b"/livez/nothing"), Probe::NotFound);
        assert_eq!(parse(b"GET", b"/version"), Probe::Version);
    }
}
