//! A load: what is called, how often, by how many, and what came of it. It runs on a thread of its
//! own until it is stopped or has made its calls; windows are cut out of it while it runs.

use crate::error::{BenchError, io_error};
use crate::member::cpu_time_of;
pub use crate::recorder::Tally;
use crate::recorder::{Recorder, Shared};
use crate::workload::Workload;
use crate::{binary, grpc};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the member is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// etcd's, by a tonic client.
    Grpc,
    /// corestone's own, pipelined.
    Binary,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// Writes one key.
    Put,
    /// Reads one key, linearizably.
    Get,
    /// Writes a key if its revision is the one last seen, else reads it.
    Txn,
}

/// When calls begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// So many are always outstanding: a new one begins as soon as one was answered.
    Closed {
        /// Calls outstanding, over all connections.
        outstanding: usize,
    },
    /// At a fixed rate, whether the earlier ones were answered or not.
    Open {
        /// Calls that fall due in a second.
        per_s: u32,
    },
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the member is spoken to.
    pub protocol: Protocol,
    /// `host:port` of that protocol; of several members, connections take them in turn.
    pub addresses: Vec<String>,
    /// What is called.
    pub operation: Operation,
    /// Keys and values.
    pub workload: Workload,
    /// Connections the calls are spread over.
    pub connections: usize,
    /// When calls begin.
    pub pacing: Pacing,
    /// Calls to make; without a number until stopped.
    pub calls: Option<u64>,
}

/// What a window of a load showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The window's length.
    pub elapsed: Duration,
    /// Its calls.
    pub tally: Tally,
    /// Processor time all members took in it, if their processes are known.
    pub member_cpu: Option<Duration>,
}

impl Outcome {
    /// Calls answered a second.
    pub fn per_s(&self) -> f64 {
        self.tally.calls() as f64 / self.elapsed.as_secs_f64()
    }

    /// The member's processor time a call, in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        let calls = self.tally.calls().max(1) as f64;
        self.member_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / calls)
    }
}

/// A load on its thread.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), BenchError>>,
}

impl Running {
    /// Forgets what was counted so far.
    pub fn begin_window(&self) -> Instant {
        drop(self.shared.take());
        Instant::now()
    }

    /// What was counted since the window began.
    pub fn end_window(&self) -> Tally {
        self.shared.take()
    }

    /// Runs for `warmup`, then for `measured`, which is counted.
    ///
    /// # Errors
    /// When the load ended early, or the member's process is gone.
    pub fn measure(
        &self,
        [warmup, measured]: [Duration; 2],
        processes: &[u32],
    ) -> Result<Outcome, BenchError> {
        std::thread::sleep(warmup);
        let cpu_before = cpu_time_of_all(processes)?;
        let begin = self.begin_window();
        std::thread::sleep(measured);
        let tally = self.end_window();
        let elapsed = begin.elapsed();
        let cpu_after = cpu_time_of_all(processes)?;
        if self.thread.is_finished() {
            return Err(BenchError::Call("the load ended before its window".to_owned()));
        }
        let member_cpu = (!processes.is_empty()).then(|| cpu_after - cpu_before);
        Ok(Outcome { elapsed, tally, member_cpu })
    }

    /// Ends the load: what is outstanding is still waited for.
    ///
    /// # Errors
    /// What ended it early.
    pub fn stop(self) -> Result<Tally, BenchError> {
        self.shared.stop();
        self.join()
    }

    /// Waits until the plan's calls are made.
    ///
    /// # Errors
    /// What ended it early.
    pub fn join(self) -> Result<Tally, BenchError> {
        self.thread.join().expect("a load reports errors, it does not panic")?;
        Ok(self.shared.take())
    }
}

impl Plan {
    /// Starts the load on a thread; it inherits the calling thread's cores.
    ///
    /// # Errors
    /// When the plan makes no sense or there is no thread to be had.
    pub fn start(self) -> Result<Running, BenchError> {
        let calls = match self.pacing {
            Pacing::Closed { outstanding } => outstanding,
            Pacing::Open { per_s } => per_s as usize,
        };
        if self.addresses.is_empty() || self.connections == 0 || calls < self.connections {
            return Err(BenchError::Usage("give each connection at least one call".to_owned()));
        }
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || self.run_here(theirs))
            .map_err(io_error("starting the load's thread"))?;
        Ok(Running { shared, thread })
    }

    /// Starts the load and runs it for `warmup`, then for `measured`, which is counted.
    ///
    /// # Errors
    /// What ended it early.
    pub fn run(self, windows: [Duration; 2], processes: &[u32]) -> Result<Outcome, BenchError> {
        let running = self.start()?;
        let outcome = running.measure(windows, processes);
        // What ended the load says more than that it ended.
        running.stop()?;
        outcome
    }

    /// Where a connection goes.
    pub(crate) fn address_of(&self, connection: usize) -> &str {
        &self.addresses[connection % self.addresses.len()]
    }

    fn run_here(self, shared: Arc<Shared>) -> Result<(), BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error("building the load's runtime"))?;
        let local = tokio::task::LocalSet::new();
        let recorder = Rc::new(Recorder::new(shared, self.workload.clone(), self.calls));
        runtime.block_on(local.run_until(async move {
            match self.protocol {
                Protocol::Binary => binary::run(&self, &recorder).await,
                Protocol::Grpc => grpc::run(&self, &recorder).await,
            }
        }))
    }
}

fn cpu_time_of_all(processes: &[u32]) -> Result<Duration, BenchError> {
    processes.iter().map(|process| cpu_time_of(*process)).sum()
}
