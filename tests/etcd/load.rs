//! Watches under load: a reader far behind the writers, answers too big for one message.
//!
//! What a watch owes (semantics.md 5.4 of the API's facts): every event once, in the order of
//! revisions, a revision never in two answers unless the watch allowed fragments.

use ::tests::process::{Member, Program};

use crate::client::{Client, Method, Stream};
use crate::read::{is_set, list, number, text};
use crate::{block_on, within};

/// Thousands of small events reach a reader that takes its first one after the last was written.
pub fn slow_reader(program: &Program) {
    let member = Member::start(program, &[]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let mut watch = created(&client, r#"key: "k" range_end: "l""#).await;
        let method = Method::named("KV.Txn");
        for batch in 0..EVENTS / BATCH {
            let ops: Vec<String> = (0..BATCH)
                .map(|index| {
                    let number = batch * BATCH + index;
                    format!(
                        r#"success {{ request_put {{ key: "k{number:06}" value: "{number}" }} }}"#
                    )
                })
                .collect();
            let request = method.request(&ops.join(" "));
            client.call(&method, request, &Vec::new()).await.unwrap();
        }
        let mut seen = 0;
        let mut newest = 0;
        while seen < EVENTS {
            let message = within(watch.receive()).await.unwrap().unwrap();
            let events = list(&message, "events");
            let revision = number(events.first().unwrap(), "kv.mod_revision");
            assert!(newest < revision, "revision {revision} came again or was split");
            for event in &events {
                assert_eq!(text(event, "kv.value"), seen.to_string());
                newest = number(event, "kv.mod_revision");
                seen += 1;
            }
            assert!(newest <= number(&message, "header.revision"), "a header behind its events");
        }
    });
}

/// A revision too big for one message comes in pieces to a watch that allows it, of which the last
/// does not say that more follow; to one that does not, it comes whole.
pub fn fragments(program: &Program) {
    let member = Member::start(program, &[]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let range = r#"key: "big" range_end: "bih""#;
        let value = "x".repeat(BIG_VALUE_BYTES);
        for index in 0..BIG_VALUES {
            let put = format!(r#"key: "big{index}" value: "{value}""#);
            client.ask("KV.Put", &put).await.unwrap();
        }
        // Each event carries the value that was deleted, all of one revision.
        let live = format!("{range} prev_kv: true fragment: true");
        let mut watch = created(&client, &live).await;
        let deleted = client.ask("KV.DeleteRange", range).await.unwrap();
        let revision = number(&deleted, "header.revision");
        assert!(1 < deletions(&mut watch).await);
        for allowed in [true, false] {
            let past = format!("{live} fragment: {allowed} start_revision: {revision}");
            let past = past.replacen(" fragment: true", "", 1);
            let mut watch = created(&client, &past).await;
            assert_eq!(allowed, 1 < deletions(&mut watch).await);
        }
    });
}

/// Takes the deletions of one revision, and answers in how many messages they came.
async fn deletions(watch: &mut Stream) -> usize {
    let mut seen = 0;
    let mut pieces = 0;
    while seen < BIG_VALUES {
        let message = within(watch.receive()).await.unwrap().unwrap();
        for event in list(&message, "events") {
            assert_eq!(text(&event, "kv.key"), format!("big{seen}"));
            assert_eq!(text(&event, "prev_kv.value").len(), BIG_VALUE_BYTES);
            seen += 1;
        }
        pieces += 1;
        assert_eq!(is_set(&message, "fragment"), seen < BIG_VALUES);
    }
    pieces
}

/// Hundreds of watches on one stream, each told of its own key and no other.
pub fn many_watches(program: &Program) {
    let member = Member::start(program, &[]);
    block_on(async {
        let client = Client::connect(&member.client_url()).await;
        let mut watch = client.open(&Method::named("Watch.Watch"), &Vec::new());
        for index in 0..WATCHES {
            watch.send(&format!(r#"create_request {{ key: "k{index:03}" }}"#)).await;
            let created = within(watch.receive()).await.unwrap().unwrap();
            assert_eq!(number(&created, "watch_id"), index);
        }
        for index in (0..WATCHES).rev() {
            client.ask("KV.Put", &format!(r#"key: "k{index:03}" value: "1""#)).await.unwrap();
            let message = within(watch.receive()).await.unwrap().unwrap();
            assert_eq!(number(&message, "watch_id"), index);
            assert_eq!(list(&message, "events").len(), 1);
        }
    });
}

/// A stream with one watch, whose `created` was read.
pub async fn created(client: &Client, request: &str) -> Stream {
    let mut watch = client.open(&Method::named("Watch.Watch"), &Vec::new());
    watch.send(&format!("create_request {{ {request} }}")).await;
    let created = within(watch.receive()).await.unwrap().unwrap();
    assert!(is_set(&created, "created") && !is_set(&created, "canceled"), "{created:?}");
    watch
}

const EVENTS: usize = 6_400;
/// Events of one revision.
const BATCH: usize = 8;
const WATCHES: i64 = 300;
const BIG_VALUES: usize = 6;
const BIG_VALUE_BYTES: usize = 900_000;
