//! The log: JSON lines in the shape of etcd's, through a bounded queue to one writer thread.
//!
//! Invariant: a full pipe or a slow disk under the log never stops a core: when the queue is full a
//! line is dropped and counted, and the count is logged when there is room again.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
pub use shard::effect::LogLevel;

/// A line's fields: names and values that are JSON already.
pub type Fields<'a> = &'a [(&'static str, String)];

enum Line {
    Text(String),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// A handle on the log; clones write to the same one.
#[derive(Clone)]
pub struct Logger {
    level: LogLevel,
    is_json: bool,
    lines: Sender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Logger {
    /// Starts the writer thread. `outputs` are etcd's: default, stderr, stdout, or paths.
    pub fn start(level: &str, is_json: bool, outputs: &[String]) -> io::Result<Logger> {
        let mut targets: Vec<Box<dyn Write + Send>> = Vec::new();
        for output in outputs {
            targets.push(match output.as_str() {
                "default" | "stderr" | "systemd/journal" => Box::new(io::stderr()),
                "stdout" => Box::new(io::stdout()),
                path => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            });
        }
        Self::start_with(level, is_json, targets)
    }

    fn start_with(
        level: &str,
        is_json: bool,
        targets: Vec<Box<dyn Write + Send>>,
    ) -> io::Result<Logger> {
        let (lines, queue) = bounded(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&queue, targets))?;
        let level = match level {
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" => LogLevel::Warn,
            _ => LogLevel::Error,
        };
        Ok(Logger { level, is_json, lines, dropped })
    }

    /// Writes one line, or counts it as dropped.
    pub fn log(&self, level: LogLevel, message: &str, fields: Fields<'_>) {
        if level < self.level {
            return;
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if 0 < dropped {
            let fields = [("dropped", dropped.to_string())];
            self.enqueue(LogLevel::Warn, "log lines were dropped", &fields, dropped);
        }
        self.enqueue(level, message, fields, 1);
    }

    fn enqueue(&self, level: LogLevel, message: &str, fields: Fields<'_>, worth: u64) {
        let text = render(SystemTime::now(), level, message, fields, self.is_json);
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(text)) {
            self.dropped.fetch_add(worth, Ordering::Relaxed);
        }
    }

    /// Info.
    pub fn info(&self, message: &str, fields: Fields<'_>) {
        self.log(LogLevel::Info, message, fields);
    }

    /// Warning.
    pub fn warn(&self, message: &str, fields: Fields<'_>) {
        self.log(LogLevel::Warn, message, fields);
    }

    /// Waits until all earlier lines are written, but never longer than a second.
    pub fn flush(&self) {
        let (done, written) = bounded(1);
        if self.lines.send_timeout(Line::Flush(done), FLUSH_WAIT_MAX).is_ok() {
            // A writer that hangs must not keep the process.
            let _ = written.recv_timeout(FLUSH_WAIT_MAX);
        }
    }
}

fn write_lines(queue: &Receiver<Line>, mut targets: Vec<Box<dyn Write + Send>>) {
    while let Ok(line) = queue.recv() {
        match line {
            Line::Text(text) => {
                for target in &mut targets {
                    // A log that cannot be written has nowhere to say so.
                    let _ = target.write_all(text.as_bytes());
                }
            }
            Line::Flush(done) => {
                for target in &mut targets {
                    let _ = target.flush();
                }
                let _ = done.send(());
            }
        }
    }
}

/// A JSON string with its quotes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON list of strings.
pub fn quoted_list<T: AsRef<str>>(texts: &[T]) -> String {
    let items: Vec<_> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", items.join(","))
}

fn render(
    at: SystemTime,
    level: LogLevel,
    message: &str,
    fields: Fields<'_>,
    is_json: bool,
) -> String {
    let level = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = timestamp(since);
    let mut line = String::with_capacity(256);
    if is_json {
        let _ =
            write!(line, "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"msg\":{}", quoted(message));
        for (name, value) in fields {
            let _ = write!(line, ",\"{name}\":{value}");
        }
        line.push_str("}\n");
    } else {
        let _ = write!(line, "{time}\t{level}\t{message}");
        if !fields.is_empty() {
            let pairs: Vec<_> =
                fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let _ = write!(line, "\t{{{}}}", pairs.join(", "));
        }
        line.push('\n');
    }
    line
}

/// RFC 3339 in UTC, to the microsecond. The days are counted from the first of March of year 0, so
/// that the leap day is the last of a year.
fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let days = i64::try_from(seconds / 86_400).unwrap_or(0) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let clock = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        clock / 3600,
        clock / 60 % 60,
        clock % 60,
        since_epoch.subsec_micros()
    )
}

const LINES_MAX: usize = 8192;
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink {
        text: Arc<Mutex<Vec<u8>>>,
        gate: Arc<Mutex<()>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_795_366_800, "2026-11-22T17:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let time = timestamp(Duration::new(seconds, 123_456_789));
            assert_eq!(time, format!("{text}.123456Z"));
        }
    }

    #[test]
    fn a_line_is_json_whatever_the_message_holds() {
        let fields = [("count", "3".to_owned()), ("name", quoted("a\"b"))];
        let line = render(SystemTime::now(), LogLevel::Warn, "say \"x\"\n", &fields, true);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["msg"], "say \"x\"\n");
        assert_eq!(value["count"], 3);
        assert_eq!(value["name"], "a\"b");
    }

    #[test]
    fn a_blocked_target_costs_lines_but_no_time_and_the_loss_is_told() {
        let sink = Sink::default();
        let logger = Logger::start_with("info", true, vec![Box::new(sink.clone())]).unwrap();
        let gate = sink.gate.lock().unwrap();
        for n in 0..LINES_MAX + 100 {
            logger.info("line", &[("n", n.to_string())]);
        }
        assert!(0 < logger.dropped.load(Ordering::Relaxed));
        drop(gate);
        logger.flush();
        logger.info("after", &[]);
        logger.flush();
        let text = String::from_utf8(sink.text.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[lines.len() - 2].contains("log lines were dropped"), "{lines:?}");
        assert!(lines[lines.len() - 1].contains("after"));
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        let sink = Sink::default();
        let logger = Logger::start_with("warn", false, vec![Box::new(sink.clone())]).unwrap();
        logger.info("quiet", &[]);
        logger.warn("loud", &[("why", "1".to_owned())]);
        logger.flush();
        let text = String::from_utf8(sink.text.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with("\twarn\tloud\t{\"why\": 1}\n"), "{text}");
        assert!(!text.contains("quiet"));
    }
}
