//! Puts the calls of a script to a member, one at a time, and prints the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::process::Member;
use tokio::time::{Instant, timeout};

use super::expand::expand;
use super::http;
use crate::client::{Client, Metadata, Method, Stream};
use crate::print::{Frame, error_line};
use crate::read::{id, list, number, value};

/// A connection, the streams a case has opened, and what its answers are told relative to.
pub struct Runner {
    url: String,
    client: Client,
    frame: Frame,
    streams: BTreeMap<String, Stream>,
}

impl Runner {
    /// To a member that is alone, or to one of several.
    pub async fn connect(member: &Member, is_of_several: bool) -> Runner {
        let client = Client::connect(&member.client_url()).await;
        let status = client.ask("Maintenance.Status", "").await.unwrap();
        let frame = Frame {
            cluster_id: id(&status, "header.cluster_id"),
            member_id: id(&status, "header.member_id"),
            base_revision: 0,
            is_of_several,
        };
        Runner { url: member.client_url(), client, frame, streams: BTreeMap::new() }
    }

    /// Begins a case: no streams, no keys, no leases; revisions count from here.
    pub async fn begin(&mut self) {
        self.streams.clear();
        let leases = self.client.ask("Lease.LeaseLeases", "").await;
        for lease in leases.iter().flat_map(|leases| list(leases, "leases")) {
            let revoke = format!("ID: {}", number(&lease, "ID"));
            // It may have expired on its own meanwhile.
            let _ = self.client.ask("Lease.LeaseRevoke", &revoke).await;
        }
        let everything = r#"key: "\000" range_end: "\000""#;
        match self.client.ask("KV.DeleteRange", everything).await {
            Ok(answer) => self.frame.base_revision = number(&answer, "header.revision"),
            Err(status) => eprintln!("the store was not emptied: {status:?}"),
        }
    }

    /// The hash over all versions of all keys, which scripts leave out.
    pub async fn hash(&self) -> u64 {
        let answer = self.client.ask("Maintenance.HashKV", "").await.unwrap();
        value(&answer, "hash").as_u32().unwrap().into()
    }

    /// One line of a script; its answer as lines.
    pub async fn run(&mut self, command: &str) -> Vec<String> {
        let command = expand(command, &self.frame);
        match timeout(PATIENCE, self.run_expanded(&command)).await {
            Ok(lines) => lines,
            Err(_) => vec![format!("no answer in {PATIENCE:?}")],
        }
    }

    async fn run_expanded(&mut self, command: &str) -> Vec<String> {
        let mut metadata = Metadata::new();
        let mut command = command;
        while let Some(form) = command.strip_prefix("with ") {
            let (pair, rest) = form.split_once(' ').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            metadata.push((name.to_owned(), value.to_owned()));
            command = rest;
        }
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        if word.contains('.') {
            return self.call(word, rest, &metadata).await;
        }
        if word == "http" {
            return vec![http::ask(&self.url, rest, &self.frame).await];
        }
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if word == "open" {
            let stream = self.client.open(&Method::named(rest), &metadata);
            self.streams.insert(name.to_owned(), stream);
            return Vec::new();
        }
        let frame = self.frame;
        let stream = self.streams.get_mut(name).unwrap_or_else(|| panic!("{command}: not open"));
        match word {
            "send" => stream.send(rest).await,
            "half-close" => stream.half_close(),
            "drop" => drop(self.streams.remove(name)),
            "receive" => return receive(&frame, stream).await,
            "events" => return events(&frame, stream, rest.parse().unwrap()).await,
            "progress" => return progress(&frame, stream).await,
            "end" => return end(&frame, stream).await,
            _ => panic!("{command}: no such call"),
        }
        Vec::new()
    }

    async fn call(&self, name: &str, text: &str, metadata: &Metadata) -> Vec<String> {
        let method = Method::named(name);
        let request = method.request(text);
        match self.client.call(&method, request, metadata).await {
            Ok(answer) => self.frame.lines(&answer),
            Err(status) => vec![error_line(&status)],
        }
    }
}

async fn receive(frame: &Frame, stream: &mut Stream) -> Vec<String> {
    match stream.receive().await {
        Some(Ok(message)) => frame.lines(&message),
        Some(Err(status)) => vec![error_line(&status)],
        None => vec!["end of the stream".to_owned()],
    }
}

/// Takes messages until `count` events came, however they were spread over messages, and checks
/// that no revision was split and no header was behind its events.
async fn events(frame: &Frame, stream: &mut Stream, count: usize) -> Vec<String> {
    let mut lines: Vec<(i64, String)> = Vec::new();
    let mut others = Vec::new();
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    while lines.len() < count {
        let message = match stream.receive().await {
            Some(Ok(message)) => message,
            Some(Err(status)) => return vec![error_line(&status)],
            None => return vec!["end of the stream".to_owned()],
        };
        let events = list(&message, "events");
        if events.is_empty() {
            others.extend(frame.lines(&message));
            continue;
        }
        let watch = number(&message, "watch_id");
        let before = newest.get(&watch).copied().unwrap_or(0);
        for event in &events {
            let revision = number(event, "kv.mod_revision");
            if revision <= before {
                others.push(format!("revision {revision} came split or twice"));
            }
            if number(&message, "header.revision") < revision {
                others.push("a header behind its events".to_owned());
            }
            newest.insert(watch, revision);
            lines.push((watch, format!("watch {watch}: {}", frame.inline(event).trim_end())));
        }
    }
    lines.sort_by_key(|(watch, _)| *watch);
    lines.into_iter().map(|(_, line)| line).chain(others).collect()
}

/// Asks for the stream's progress until it is told: a member says nothing while it is behind.
async fn progress(frame: &Frame, stream: &mut Stream) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        stream.send("progress_request { }").await;
        if let Ok(lines) = timeout(PROGRESS_INTERVAL, receive(frame, stream)).await {
            return lines;
        }
    }
    vec!["no progress".to_owned()]
}

async fn end(frame: &Frame, stream: &mut Stream) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match stream.receive().await {
            Some(Ok(message)) => lines.extend(frame.lines(&message)),
            Some(Err(status)) => lines.push(error_line(&status)),
            None => {
                lines.push("end of the stream".to_owned());
                return lines;
            }
        }
    }
}

/// For one line of a script; leases of two seconds expire within it.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two requests for progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
