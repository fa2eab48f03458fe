//! The load through the binary protocol: one task a connection, each over a raw pipeline.

use crate::error::{BenchError, io_error};
use crate::load::{Operation, Pacing, Plan};
use crate::recorder::{Recorder, Ticker};
use corestone_client::{
    Answer, Compare, Completion, Pipeline, PutRequest, RangeRequest, Request, ResponseOp, Txn,
};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

pub(crate) async fn run(plan: &Plan, recorder: &Rc<Recorder>) -> Result<(), BenchError> {
    let mut tasks = Vec::new();
    for connection in 0..plan.connections {
        let pipeline = Pipeline::connect(plan.address_of(connection)).await?;
        let (slots, ticker) = match plan.pacing {
            Pacing::Closed { outstanding } => {
                let extra = usize::from(connection < outstanding % plan.connections);
                (outstanding / plan.connections + extra, None)
            }
            Pacing::Open { per_s } => {
                let rate = (per_s / plan.connections as u32).max(1);
                let ticker = Ticker::new(rate).map_err(io_error("making a timer"))?;
                (OPEN_IN_FLIGHT_MAX, Some(ticker))
            }
        };
        let worker_first = connection * slots;
        let caller = Caller {
            operation: plan.operation,
            recorder: recorder.clone(),
            slots: (0..slots).map(|slot| Slot::new(worker_first + slot)).collect(),
            free: (0..slots as u64).rev().collect(),
            backlog: VecDeque::new(),
            key: Vec::new(),
        };
        tasks.push(tokio::task::spawn_local(caller.run(pipeline, ticker)));
    }
    for task in tasks {
        task.await.expect("a connection's task reports errors, it does not panic")?;
    }
    Ok(())
}

/// A call that may be outstanding.
struct Slot {
    worker: usize,
    due: Instant,
    /// Revision of the worker's key when last seen, for transactions.
    revision: i64,
}

impl Slot {
    fn new(worker: usize) -> Slot {
        Slot { worker, due: Instant::now(), revision: 0 }
    }
}

struct Caller {
    operation: Operation,
    recorder: Rc<Recorder>,
    slots: Vec<Slot>,
    free: Vec<u64>,
    /// When calls fell due that found no free slot yet.
    backlog: VecDeque<Instant>,
    key: Vec<u8>,
}

impl Caller {
    async fn run(
        mut self,
        mut pipeline: Pipeline,
        mut ticker: Option<Ticker>,
    ) -> Result<(), BenchError> {
        loop {
            let goes_on = self.submit_due(&mut pipeline, ticker.is_none());
            if !goes_on && pipeline.in_flight() == 0 {
                return Ok(());
            }
            let (slots, free) = (&mut self.slots, &mut self.free);
            let noted = (&*self.recorder, self.operation);
            let mut on_completion =
                |completion: Completion<'_>| on_answer(noted, slots, free, &completion);
            match &mut ticker {
                Some(ticker) if goes_on && pipeline.in_flight() == 0 => {
                    ticker.tick(&mut self.backlog).await.map_err(io_error("waiting"))?;
                }
                Some(ticker) if goes_on => tokio::select! {
                    driven = pipeline.drive(&mut on_completion) => drop(driven?),
                    ticked = ticker.tick(&mut self.backlog) => {
                        ticked.map_err(io_error("waiting"))?;
                    }
                },
                _ => {
                    pipeline.drive(&mut on_completion).await?;
                    // A connection whose answers are always there already must let the others in.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Submits what is due, which in a closed loop is whatever is free; whether more may come.
    fn submit_due(&mut self, pipeline: &mut Pipeline, is_closed: bool) -> bool {
        while let Some(slot) = self.free.last().copied() {
            let due = match self.backlog.front() {
                Some(due) => *due,
                None if is_closed => Instant::now(),
                None => return self.recorder.may_go_on(),
            };
            if !self.recorder.maybe_begin() {
                return false;
            }
            self.backlog.pop_front();
            self.free.pop();
            self.slots[slot as usize].due = due;
            self.submit(pipeline, slot);
        }
        self.recorder.may_go_on()
    }

    fn submit(&mut self, pipeline: &mut Pipeline, token: u64) {
        let slot = &self.slots[token as usize];
        let submitted = match self.operation {
            Operation::Put => {
                let value = self.recorder.next_put(&mut self.key);
                let put = PutRequest { key: &self.key, value: &value, ..PutRequest::default() };
                pipeline.submit(&Request::Put(put), token)
            }
            Operation::Get => {
                self.recorder.next_key(&mut self.key);
                let range = RangeRequest { key: &self.key, ..RangeRequest::default() };
                pipeline.submit(&Request::Range(range), token)
            }
            Operation::Txn => {
                let value = self.recorder.next_put(&mut self.key);
                self.recorder.worker_key(slot.worker, &mut self.key);
                let swap = Txn::new()
                    .when(Compare::mod_revision(&self.key).equal(slot.revision))
                    .then_put(&self.key, &value)
                    .or_else_get(&self.key);
                pipeline.submit(&Request::Txn(swap.request().clone()), token)
            }
        };
        if let Err(error) = submitted {
            self.recorder.failed(&format!("{error:?}"));
            self.free.push(token);
        }
    }
}

fn on_answer(
    (recorder, operation): (&Recorder, Operation),
    slots: &mut [Slot],
    free: &mut Vec<u64>,
    completion: &Completion<'_>,
) {
    free.push(completion.token);
    let slot = &mut slots[completion.token as usize];
    if completion.is_ok() {
        recorder.succeeded(slot.due);
    }
    // Only errors, and what a later call depends on, are worth decoding.
    if completion.is_ok() && operation != Operation::Txn {
        return;
    }
    match completion.answer() {
        Ok((header, Answer::Txn(txn))) if txn.succeeded => slot.revision = header.revision,
        Ok((_, Answer::Txn(txn))) => {
            recorder.guard_failed();
            let seen = txn.responses.iter().find_map(|response| match response {
                ResponseOp::Range(range) => range.kvs.iter().next().map(|kv| kv.mod_revision),
                _ => None,
            });
            slot.revision = seen.unwrap_or(0);
        }
        Ok(_) => {}
        Err(error) => recorder.failed(&error),
    }
}

/// Calls outstanding on a connection of an open loop before more of them wait in line.
const OPEN_IN_FLIGHT_MAX: usize = 1024;
