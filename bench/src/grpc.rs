//! The load through etcd's API: tonic channels on one thread, one task a worker in a closed loop,
//! one task a call in an open one.

use crate::calls::{connect, range_of};
use crate::error::{BenchError, io_error};
use crate::load::{Operation, Pacing, Plan};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{
    Compare, PutRequest, RequestOp, TxnRequest, compare, request_op, response_op,
};
use crate::recorder::{Recorder, Ticker};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) async fn run(plan: &Plan, recorder: &Rc<Recorder>) -> Result<(), BenchError> {
    let mut clients = Vec::with_capacity(plan.connections);
    for connection in 0..plan.connections {
        clients.push(KvClient::new(connect(plan.address_of(connection)).await?));
    }
    match plan.pacing {
        Pacing::Closed { outstanding } => run_closed(plan, recorder, &clients, outstanding).await,
        Pacing::Open { per_s } => run_open(plan, recorder, &clients, per_s).await,
    }
}

async fn run_closed(
    plan: &Plan,
    recorder: &Rc<Recorder>,
    clients: &[KvClient<Channel>],
    outstanding: usize,
) -> Result<(), BenchError> {
    let mut tasks = Vec::with_capacity(outstanding);
    for number in 0..outstanding {
        let client = clients[number % clients.len()].clone();
        let (recorder, operation) = (recorder.clone(), plan.operation);
        tasks.push(tokio::task::spawn_local(async move {
            let mut worker = Worker { client, recorder, number, revision: 0, key: Vec::new() };
            while worker.recorder.maybe_begin() {
                worker.call(operation, Instant::now()).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("a worker notes errors, it does not panic");
    }
    Ok(())
}

async fn run_open(
    plan: &Plan,
    recorder: &Rc<Recorder>,
    clients: &[KvClient<Channel>],
    per_s: u32,
) -> Result<(), BenchError> {
    let mut ticker = Ticker::new(per_s).map_err(io_error("making a timer"))?;
    let mut due = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut number = 0;
    while recorder.may_go_on() {
        ticker.tick(&mut due).await.map_err(io_error("waiting"))?;
        while tasks.try_join_next().is_some() {}
        for due in due.drain(..) {
            if !recorder.maybe_begin() {
                break;
            }
            if OPEN_IN_FLIGHT_MAX <= tasks.len() {
                recorder.failed(&"too many calls without an answer");
                continue;
            }
            number += 1;
            let client = clients[number % clients.len()].clone();
            let (recorder, operation) = (recorder.clone(), plan.operation);
            let mut worker = Worker { client, recorder, number, revision: 0, key: Vec::new() };
            tasks.spawn_local(async move { worker.call(operation, due).await });
        }
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

struct Worker {
    client: KvClient<Channel>,
    recorder: Rc<Recorder>,
    number: usize,
    /// Revision of the worker's key when last seen, for transactions.
    revision: i64,
    key: Vec<u8>,
}

impl Worker {
    async fn call(&mut self, operation: Operation, due: Instant) {
        let result = match operation {
            Operation::Put => {
                let value = self.recorder.next_put(&mut self.key);
                let key = Bytes::copy_from_slice(&self.key);
                let put = PutRequest { key, value, ..PutRequest::default() };
                self.client.put(put).await.map(drop)
            }
            Operation::Get => {
                self.recorder.next_key(&mut self.key);
                let key = Bytes::copy_from_slice(&self.key);
                self.client.range(range_of(key, Bytes::new())).await.map(drop)
            }
            Operation::Txn => self.swap().await,
        };
        match result {
            Ok(()) => self.recorder.succeeded(due),
            Err(status) => self.recorder.failed(&status.message()),
        }
    }

    async fn swap(&mut self) -> Result<(), Status> {
        let value = self.recorder.next_put(&mut self.key);
        self.recorder.worker_key(self.number, &mut self.key);
        let key = Bytes::copy_from_slice(&self.key);
        let guard = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(compare::TargetUnion::ModRevision(self.revision)),
            ..Compare::default()
        };
        let put = PutRequest { key: key.clone(), value, ..PutRequest::default() };
        let range = range_of(key, Bytes::new());
        let of = |request| vec![RequestOp { request: Some(request) }];
        let txn = TxnRequest {
            compare: vec![guard],
            success: of(request_op::Request::RequestPut(put)),
            failure: of(request_op::Request::RequestRange(range)),
        };
        let answer = self.client.txn(txn).await?.into_inner();
        if answer.succeeded {
            self.revision = answer.header.map_or(0, |header| header.revision);
            return Ok(());
        }
        self.recorder.guard_failed();
        let seen = answer.responses.iter().find_map(|response| match &response.response {
            Some(response_op::Response::ResponseRange(range)) => range.kvs.first(),
            _ => None,
        });
        self.revision = seen.map_or(0, |kv| kv.mod_revision);
        Ok(())
    }
}

/// Calls of an open loop without an answer before another one counts as failed.
const OPEN_IN_FLIGHT_MAX: usize = 100_000;
