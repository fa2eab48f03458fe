//! A member's /metrics: the histograms in it, and what was added to one between two looks.

use crate::error::{BenchError, io_error};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The number `name`, one without labels, of the member at `host:port`; `None` if it has none.
///
/// # Errors
/// When nobody listens there.
pub fn fetch_number(address: &str, name: &str) -> Result<Option<f64>, BenchError> {
    let text = fetch(address)?;
    Ok(text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
}

/// The whole text of the member at `host:port`.
///
/// # Errors
/// When nobody answers there.
pub fn fetch(address: &str) -> Result<String, BenchError> {
    let fetch = || {
        let mut socket = TcpStream::connect(address)?;
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok::<String, std::io::Error>(text)
    };
    fetch().map_err(io_error("reading /metrics"))
}

/// A histogram in Prometheus' text form: bounds and how many values lay below each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    below: Vec<(f64, u64)>,
}

impl Buckets {
    /// Reads the histogram `name` from `host:port`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn fetch(address: &str, name: &str) -> Result<Buckets, BenchError> {
        Ok(Buckets::parse(&fetch(address)?, name))
    }

    fn parse(text: &str, name: &str) -> Buckets {
        let mut below = Vec::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{"))
            else {
                continue;
            };
            let bound = rest.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"'));
            let count = rest.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
            if let (Some((bound, _)), Some(count)) = (bound, count) {
                below.push((bound.parse().unwrap_or(f64::INFINITY), count as u64));
            }
        }
        Buckets { below }
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Buckets) -> Buckets {
        let then = |slot: usize| before.below.get(slot).map_or(0, |(_, count)| *count);
        let below = self.below.iter().enumerate();
        let below = below.map(|(slot, (bound, count))| (*bound, count.saturating_sub(then(slot))));
        Buckets { below: below.collect() }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.below.last().map_or(0, |(_, count)| *count)
    }

    /// The bound that `part` of the values lie below, in milliseconds; infinite if beyond the last.
    pub fn bound_ms(&self, part: f64) -> f64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let bound = self.below.iter().find(|(_, count)| wanted <= *count);
        bound.map_or(f64::INFINITY, |(bound, _)| bound * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_added() {
        let text = "# HELP t_seconds x\nt_seconds_bucket{le=\"0.001\"} 10\n\
                    t_seconds_bucket{le=\"0.002\"} 12\nt_seconds_bucket{le=\"+Inf\"} 12\n\
                    t_seconds_sum 1\nother_bucket{le=\"0.001\"} 7\n";
        let before = Buckets::parse(text, "t_seconds");
        assert_eq!(before.count(), 12);
        assert_eq!((before.bound_ms(0.5), before.bound_ms(0.99)), (1.0, 2.0));
        let after = Buckets::parse(&text.replace("} 12", "} 112"), "t_seconds");
        let added = after.since(&before);
        assert_eq!((added.count(), added.bound_ms(0.01)), (100, 2.0));
    }
}
