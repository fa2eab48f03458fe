//! What a client may be told, with defaults.

use std::time::Duration;

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct Options {
    /// Addresses, `host:port` or `http://host:port`; tried in turn. The port defaults to 2378.
    pub endpoints: Vec<String>,
    /// How long a call may take, waiting for a connection included.
    pub request_timeout: Duration,
    /// How long one attempt to connect may take, hello included.
    pub connect_timeout: Duration,
    /// After so long without a received byte a ping asks whether the server is there.
    pub keep_alive_interval: Duration,
    /// So long may its answer take before the connection counts as broken.
    pub keep_alive_timeout: Duration,
    /// First pause after an attempt that failed on all endpoints; it doubles with each.
    pub backoff_min: Duration,
    /// Longest such pause.
    pub backoff_max: Duration,
    /// Calls that may wait for their answer; more wait for a permit.
    pub requests_in_flight_max: usize,
    /// Bytes of requests that may wait for the socket; beyond it calls wait.
    pub output_bytes_max: usize,
    /// Bytes of events that one watch may have on the way and unread.
    pub watch_window_bytes: usize,
    /// What the client calls itself in the server's logs.
    pub client_name: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            endpoints: Vec::new(),
            request_timeout: Duration::from_secs(7),
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(6),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            requests_in_flight_max: 1024,
            output_bytes_max: 8 * 1024 * 1024,
            watch_window_bytes: 4 * 1024 * 1024,
            client_name: concat!("corestone-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Options {
    /// Defaults, with these endpoints.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Options {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Options { endpoints, ..Options::default() }
    }
}
