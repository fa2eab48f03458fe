//! What happened in a run: a hash of all of it, and lines of as much as is wanted.
//!
//! Invariant: the hash covers every event with its time, whatever level is printed, so two runs of
//! one seed are the same run if and only if their hashes agree (up to collisions).

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

/// How much is kept as lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Silent,
    /// Faults, lives of members, roles.
    Faults,
    /// And calls of clients.
    Calls,
    /// And everything that members and network do.
    All,
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    level: Level,
    lines: String,
    is_printed: bool,
}

impl Trace {
    /// A trace that keeps lines up to a level, or prints them as they come.
    pub fn new(level: Level, is_printed: bool) -> Trace {
        Trace { level, is_printed, ..Trace::default() }
    }

    /// Something happened.
    pub fn mix(&mut self, at_us: u64, kind: u64, number: u64, bytes: &[u8]) {
        let mut mixed = self.hash;
        for part in [at_us, kind, number, if bytes.is_empty() { 0 } else { xxh3_64(bytes) }] {
            mixed = (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        self.hash = mixed;
        self.events += 1;
    }

    /// A line for people. Made only if the level asks for it.
    pub fn say(&mut self, level: Level, at_us: u64, line: impl FnOnce() -> String) {
        if self.level < level {
            return;
        }
        let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
        let text = line();
        if self.is_printed {
            eprintln!("{seconds:4}.{micros:06} {text}");
        } else {
            writeln!(self.lines, "{seconds:4}.{micros:06} {text}").expect("memory takes all");
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events it covers.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept.
    pub fn lines(&self) -> &str {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_changes_the_hash() {
        let hash = |at_us, bytes: &[u8]| {
            let mut trace = Trace::new(Level::Silent, false);
            trace.mix(at_us, 1, 2, bytes);
            trace.mix(9, 1, 2, &[]);
            trace.hash()
        };
        assert_eq!(hash(5, b"a"), hash(5, b"a"));
        assert_ne!(hash(5, b"a"), hash(6, b"a"));
        assert_ne!(hash(5, b"a"), hash(5, b"b"));
    }

    #[test]
    fn lines_above_the_level_are_not_even_made() {
        let mut trace = Trace::new(Level::Faults, false);
        trace.say(Level::Faults, 1_500_000, || "a crash".to_string());
        trace.say(Level::All, 1_500_000, || panic!("not wanted"));
        assert_eq!(trace.lines(), "   1.500000 a crash\n");
    }
}
