//! Random requests put to corestone and to the real etcd alike: every answer has to be the same, and
//! so have the hash of all versions and the history that a watch tells afterwards.
//!
//! Left out is what may differ by right: orders among equals, the lease of a key told without its
//! value, a put under a deletion to the open end, versions before a compaction. The scripts have
//! those. A failure names its seed; `CORESTONE_TEST_SEEDS=7..100` runs others.

use ::tests::process::{IoDriver, Member, Program, etcd_binary};

use crate::block_on;
use crate::script::Runner;

/// Puts each seed's requests to both programs.
///
/// # Panics
/// At the first answer that differs, with the requests before it.
pub fn check() {
    let Some(etcd) = etcd_binary() else {
        println!("skipped: no etcd on the path, nor in CORESTONE_TEST_ETCD");
        return;
    };
    let seeds = match std::env::var("CORESTONE_TEST_SEEDS") {
        Ok(named) => {
            let (first, end) = named.split_once("..").expect("CORESTONE_TEST_SEEDS is a range");
            first.parse().unwrap()..end.parse().unwrap()
        }
        Err(_) => SEEDS,
    };
    let members = [Program::Corestone(IoDriver::Auto), Program::Etcd(etcd)]
        .map(|program| Member::start(&program, &[]));
    for seed in seeds {
        block_on(compare(seed, &members));
    }
}

async fn compare(seed: u64, [corestone, etcd]: &[Member; 2]) {
    let mut runners = [Runner::connect(corestone, false).await, Runner::connect(etcd, false).await];
    for runner in &mut runners {
        runner.begin().await;
    }
    let mut requests = Requests::new(seed);
    let mut history = Vec::new();
    for step in 0..STEPS {
        let request = requests.next(step);
        let [ours, theirs] = answers(&mut runners, &request).await;
        history.push(request);
        let shown = history.len().saturating_sub(REQUESTS_SHOWN);
        assert!(
            ours == theirs,
            "seed {seed}, step {step}:\n{}\ncorestone:\n  {}\netcd:\n  {}",
            history[shown..].join("\n"),
            ours.join("\n  "),
            theirs.join("\n  ")
        );
        requests.learn(&theirs);
    }
    let [ours, theirs] = &runners;
    assert_eq!(ours.hash().await, theirs.hash().await, "seed {seed}: the hash of all versions");
    let first = requests.compacted + 1;
    let watch = format!(
        r#"send w create_request {{ key: "\000" range_end: "\000" start_revision: $+{first} }}"#
    );
    for command in ["open w Watch.Watch".to_owned(), watch, "receive w".to_owned()] {
        let [ours, theirs] = answers(&mut runners, &command).await;
        assert_eq!(ours, theirs, "seed {seed}: {command}");
    }
    let sentinel = r#"KV.Put key: "~last" value: "1""#;
    answers(&mut runners, sentinel).await;
    let [ours, theirs] = &mut runners;
    let (ours, theirs) = (told_history(ours).await, told_history(theirs).await);
    let differs = ours.iter().zip(&theirs).position(|(one, other)| one != other);
    let at = differs.unwrap_or(ours.len().min(theirs.len()));
    assert!(
        ours == theirs,
        "seed {seed}: event {at} of the history\n{:?}\n{:?}",
        ours.get(at),
        theirs.get(at)
    );
}

/// The events of the watch `w` up to the last, however they are spread over messages.
async fn told_history(runner: &mut Runner) -> Vec<String> {
    let mut events = Vec::new();
    while events.len() < EVENTS_MAX {
        let more = runner.run("events w 1").await;
        // Or an error, which is as much a difference.
        let is_last = more.iter().any(|line| line.contains("~last") || !line.starts_with("watch"));
        events.extend(more);
        if is_last {
            break;
        }
    }
    events
}

async fn answers([ours, theirs]: &mut [Runner; 2], command: &str) -> [Vec<String>; 2] {
    [ours.run(command).await, theirs.run(command).await]
}

/// Requests in the words of the scripts, from a seed.
struct Requests {
    state: u64,
    /// Revisions of the case so far, and the compacted one.
    revision: u64,
    compacted: u64,
    has_leases: bool,
}

impl Requests {
    fn new(seed: u64) -> Requests {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Requests { state, revision: 0, compacted: 0, has_leases: seed.is_multiple_of(2) }
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*, the upper half.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }

    /// What the answer tells of the store's revision.
    fn learn(&mut self, answer: &[String]) {
        let told = answer.first().and_then(|line| line.strip_prefix("header: +"));
        let number = told.and_then(|rest| rest.split(' ').next()).map(str::parse);
        if let Some(Ok(revision)) = number {
            self.revision = revision;
        }
    }

    fn next(&mut self, step: u64) -> String {
        if self.has_leases && step < LEASES {
            return format!("Lease.LeaseGrant ID: {} TTL: 1000", step + 1);
        }
        match self.below(100) {
            0..35 => format!("KV.Put {}", self.put()),
            35..45 => format!("KV.DeleteRange {}", self.delete(true)),
            45..65 => format!("KV.Range {}", self.range()),
            65..68 => format!("KV.RangeStream {}", self.streamed()),
            68..92 => format!("KV.Txn {}", self.transaction(0)),
            92..94 => self.compaction(),
            94..96 if self.has_leases => format!("Lease.LeaseRevoke ID: {}", self.lease()),
            96..98 if self.has_leases => {
                format!("Lease.LeaseTimeToLive ID: {} keys: true", self.lease())
            }
            98 if self.has_leases => format!("Lease.LeaseGrant ID: {} TTL: 1000", self.lease()),
            _ => format!("KV.Range {}", self.range()),
        }
    }

    fn lease(&mut self) -> u64 {
        self.below(LEASES + 1) + 1
    }

    fn key(&mut self) -> String {
        let length = 1 + self.below(2);
        (0..length).map(|_| char::from(b'a' + self.below(5) as u8)).collect()
    }

    /// `key` and perhaps `range_end`.
    fn interval(&mut self, may_be_open: bool) -> String {
        let key = self.key();
        match self.below(6) {
            0 | 1 => format!(r#"key: "{key}""#),
            2 if may_be_open => format!(r#"key: "{key}" range_end: "\000""#),
            3 if may_be_open => r#"key: "\000" range_end: "\000""#.to_owned(),
            _ => format!(r#"key: "{key}" range_end: "{}""#, self.key()),
        }
    }

    fn put(&mut self) -> String {
        let mut text = format!(r#"key: "{}""#, self.key());
        match self.below(10) {
            0 => text.push_str(" ignore_value: true"),
            1 => text.push_str(r#" value: "" "#),
            _ => text.push_str(&format!(r#" value: "{}""#, self.below(10))),
        }
        if self.has_leases {
            match self.below(10) {
                0..4 => text.push_str(&format!(" lease: {}", self.lease())),
                4 => text.push_str(" ignore_lease: true"),
                _ => {}
            }
        }
        if self.below(3) == 0 {
            text.push_str(" prev_kv: true");
        }
        text
    }

    fn delete(&mut self, may_be_open: bool) -> String {
        let prev_kv = self.below(2) == 0;
        // All of it at once, but rarely: little would be left to look at.
        let may_be_open = may_be_open && self.below(10) == 0;
        format!("{} prev_kv: {prev_kv}", self.interval(may_be_open))
    }

    fn streamed(&mut self) -> String {
        format!("{} limit: {}", self.interval(true), self.below(8))
    }

    fn range(&mut self) -> String {
        let mut text = self.interval(true);
        if self.below(2) == 0 {
            text.push_str(&format!(" limit: {}", self.below(6)));
        }
        if self.below(2) == 0 {
            text.push_str(&format!(" revision: $+{}", 1 + self.below(self.revision + 2)));
        }
        match self.below(8) {
            0 => text.push_str(" count_only: true"),
            1 if !self.has_leases => text.push_str(" keys_only: true"),
            2 => text.push_str(" sort_order: DESCEND"),
            3 => text.push_str(" serializable: true"),
            _ => {}
        }
        for filter in ["min_mod", "max_mod", "min_create", "max_create"] {
            if self.below(12) == 0 {
                let revision = 1 + self.below(self.revision + 2);
                text.push_str(&format!(" {filter}_revision: $+{revision}"));
            }
        }
        text
    }

    fn compaction(&mut self) -> String {
        let at = 1 + self.below(self.revision + 2);
        if self.compacted < at && at <= self.revision {
            self.compacted = at;
        }
        format!("KV.Compact revision: $+{at} physical: {}", self.below(2) == 0)
    }

    fn comparison(&mut self) -> String {
        let range = self.interval(true);
        let result = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"][self.below(4) as usize];
        let revision = self.below(self.revision + 2);
        let (target, value) = match self.below(5) {
            0 => ("VERSION", format!("version: {}", self.below(4))),
            1 => ("CREATE", format!("create_revision: $+{revision}")),
            2 => ("MOD", format!("mod_revision: $+{revision}")),
            3 => ("VALUE", format!(r#"value: "{}""#, self.below(10))),
            _ => ("LEASE", format!("lease: {}", self.below(3))),
        };
        format!("compare {{ {range} target: {target} result: {result} {value} }}")
    }

    fn operation(&mut self, depth: u64) -> String {
        match self.below(10) {
            0..5 => format!("request_put {{ {} }}", self.put()),
            5 | 6 => format!("request_delete_range {{ {} }}", self.delete(false)),
            7 if depth < DEPTH_MAX => format!("request_txn {{ {} }}", self.transaction(depth + 1)),
            _ => format!("request_range {{ {} }}", self.range()),
        }
    }

    fn transaction(&mut self, depth: u64) -> String {
        let mut parts = Vec::new();
        for _ in 0..self.below(3) {
            parts.push(self.comparison());
        }
        for branch in ["success", "failure"] {
            for _ in 0..self.below(4) {
                parts.push(format!("{branch} {{ {} }}", self.operation(depth)));
            }
        }
        parts.join(" ")
    }
}

const SEEDS: std::ops::Range<u64> = 1..7;
/// Requests of a seed.
const STEPS: u64 = 400;
const LEASES: u64 = 3;
/// Far more than the requests of a seed make.
const EVENTS_MAX: usize = 100_000;
/// Transactions within transactions.
const DEPTH_MAX: u64 = 2;
/// Requests before a failure that are shown.
const REQUESTS_SHOWN: usize = 12;
