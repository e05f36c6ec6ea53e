//! One lane: one consumer, one transactional producer, their partitions, one owner thread. The only place that commits
//! outputs together with consumed offsets.
//!
//! Batches are run by `workers`; meanwhile the owner keeps polling. A batch's outputs are sent only when all of them are
//! ready, so no transaction is open while steps run. Whatever goes wrong, the lane drops what it holds and goes on from
//! the group's committed offsets: they are the only memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{counter, histogram};
use topics::catalog::{GROUP_PROCESSORS, HOPS, TRIGGERS};
use topics::{
    Assigned, Disposition, Fetched, Join, Log, LogError, Outgoing, Partition, Polled, Position,
};

use crate::ProcessorConfig;
use crate::definitions::Definitions;
use crate::error::ProcessorError;
use crate::started;
use crate::workers::Workers;

/// How long an idle lane waits for records; also how soon it sees `stop`.
const IDLE: Duration = Duration::from_millis(200);
/// How often a lane polls while its workers are busy.
const BUSY_POLL: Duration = Duration::from_millis(50);
/// How long a partition that leaves waits for the running batch.
const REVOKE: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Lane {
    log: Arc<dyn Log>,
    port: Box<dyn topics::Lane>,
    slot: String,
    config: ProcessorConfig,
    definitions: Arc<Definitions>,
    workers: Workers,
    stop: Arc<AtomicBool>,
    now_ms: fn() -> i64,
    /// Fetched and not yet handed out.
    pending: VecDeque<Fetched>,
    assigned: Vec<Partition>,
    paused: bool,
    /// The offsets that the running batch comes to.
    positions: Vec<Position>,
    committed_at: Instant,
    backoff: Duration,
}

impl Lane {
    pub(crate) fn open(
        number: usize,
        log: Arc<dyn Log>,
        definitions: Arc<Definitions>,
        config: ProcessorConfig,
        stop: Arc<AtomicBool>,
        now_ms: fn() -> i64,
    ) -> Result<Self, ProcessorError> {
        let slot = number.to_string();
        let workers = Workers::start(number, &definitions, &config)?;
        let port = log.lane(join(&config), &slot)?;
        Ok(Self {
            log,
            port,
            slot,
            config,
            definitions,
            workers,
            stop,
            now_ms,
            pending: VecDeque::new(),
            assigned: Vec::new(),
            paused: false,
            positions: Vec::new(),
            committed_at: Instant::now(),
            backoff: BACKOFF_MIN,
        })
    }

    /// Runs until `stop`, then finishes the batch under way. An `Err` is nothing that this process can repair.
    pub(crate) fn run(mut self) -> Result<(), ProcessorError> {
        while !self.stop.load(Ordering::Acquire) {
            if let Err(trouble) = self.turn() {
                self.recover(trouble)?;
            }
        }
        // A bound: a step may hold its worker for as long as its time limit.
        match self.workers.wait(REVOKE) {
            Some(Ok(outgoing)) if !self.positions.is_empty() => self.commit(outgoing),
            _ => Ok(()),
        }
    }

    /// One step of the loop: hand out a batch, commit one that is ready, or wait for records.
    fn turn(&mut self) -> Result<(), ProcessorError> {
        if !self.workers.busy() && !self.pending.is_empty() && self.due().is_zero() {
            let batch = self.cut();
            self.workers.run(batch, (self.now_ms)())?;
        }
        if self.workers.busy() {
            return match self.workers.wait(BUSY_POLL) {
                Some(outgoing) => self.commit(outgoing?),
                None => self.poll(Duration::ZERO),
            };
        }
        let wait = if self.pending.is_empty() {
            IDLE
        } else {
            self.due()
        };
        self.poll(wait)
    }

    /// How long until the next batch may be handed out. A full one need not wait.
    fn due(&self) -> Duration {
        if self.pending.len() >= self.config.batch_records_max {
            return Duration::ZERO;
        }
        self.config
            .commit_interval
            .saturating_sub(self.committed_at.elapsed())
    }

    fn poll(&mut self, wait: Duration) -> Result<(), ProcessorError> {
        match self.port.poll(wait)? {
            Polled::Records(records) => {
                self.pending.extend(records);
                self.pause_while_full()
            }
            Polled::Assigned(assigned) => self.assign(assigned),
            Polled::Revoked { partitions, lost } => self.revoke(&partitions, lost),
        }
    }

    /// Bounds what waits: two batches ahead of the one that runs.
    fn pause_while_full(&mut self) -> Result<(), ProcessorError> {
        let full = self.pending.len() >= 2 * self.config.batch_records_max;
        if full != self.paused {
            if full {
                self.port.pause(&self.assigned)?;
            } else {
                self.port.resume(&self.assigned)?;
            }
            self.paused = full;
        }
        Ok(())
    }

    fn assign(&mut self, assigned: Vec<Assigned>) -> Result<(), ProcessorError> {
        counter!("weir_lane_partitions_assigned_total").increment(assigned.len() as u64);
        let mut unstarted = Vec::new();
        for Assigned {
            partition,
            committed,
        } in assigned
        {
            if committed.is_none() {
                unstarted.push(partition.clone());
            }
            self.assigned.push(partition);
        }
        if self.paused {
            self.port.pause(&self.assigned)?;
        }
        // Before its first record a partition gets its start offset and a mark, in one transaction. A started partition
        // whose offset is missing would be run all over again, or skipped: it stops the lane with an alarm instead.
        if !unstarted.is_empty() {
            started::check(&*self.log, &unstarted)?;
        }
        let (mut marks, mut starts) = (Vec::new(), Vec::new());
        for partition in unstarted {
            let (start, _) = self.log.offsets(&partition)?;
            marks.push(started::mark(&partition, start, (self.now_ms)()));
            starts.push(Position {
                partition,
                next_offset: start,
                metadata: self.metadata(),
            });
        }
        if !starts.is_empty() {
            self.port.send(marks)?;
            self.port.commit(starts)?;
        }
        Ok(())
    }

    /// The note beside a committed offset: the highest epoch of a graph's change that this lane has followed.
    fn metadata(&self) -> String {
        format!("e={}", self.definitions.epoch())
    }

    /// Partitions leave with the next poll: until then what runs may still be committed.
    fn revoke(&mut self, partitions: &[Partition], lost: bool) -> Result<(), ProcessorError> {
        counter!("weir_lane_partitions_revoked_total").increment(partitions.len() as u64);
        self.assigned.retain(|p| !partitions.contains(p));
        self.pending.retain(|r| !partitions.contains(&r.partition));
        if !self.workers.busy() {
            return Ok(());
        }
        match self.workers.wait(REVOKE) {
            Some(Ok(outgoing)) if !lost => self.commit(outgoing),
            Some(Err(trouble)) => Err(trouble),
            // Nothing was sent yet: the batch is dropped, and whoever owns its partitions runs it again.
            _ => Err(LogError::Moved {
                group: GROUP_PROCESSORS.into(),
            }
            .into()),
        }
    }

    /// Takes the next batch off `pending` and notes the offsets that it comes to.
    fn cut(&mut self) -> Vec<Fetched> {
        let (mut count, mut bytes) = (0, 0);
        for record in &self.pending {
            bytes += size(record);
            if count > 0
                && (count >= self.config.batch_records_max || bytes > self.config.batch_bytes_max)
            {
                break;
            }
            count += 1;
        }
        let batch: Vec<Fetched> = self.pending.drain(..count).collect();
        self.positions = positions(&batch, &self.metadata());
        batch
    }

    /// Invariant (1): outputs and input offsets become visible together or not at all.
    fn commit(&mut self, outgoing: Vec<Outgoing>) -> Result<(), ProcessorError> {
        histogram!("weir_lane_batch_outputs").record(outgoing.len() as f64);
        let begun = Instant::now();
        #[cfg(feature = "broken")]
        let outgoing =
            crate::broken::before_commit(&mut *self.port, outgoing, &mut self.positions)?;
        self.port.send(outgoing)?;
        self.port.commit(std::mem::take(&mut self.positions))?;
        histogram!("weir_lane_commit_seconds").record(begun.elapsed().as_secs_f64());
        counter!("weir_lane_commits_total").increment(1);
        self.committed_at = Instant::now();
        self.backoff = BACKOFF_MIN;
        self.pause_while_full()
    }

    /// The error rule: abort and rewind, open anew, or stop.
    fn recover(&mut self, mut trouble: ProcessorError) -> Result<(), ProcessorError> {
        loop {
            let disposition = match &trouble {
                ProcessorError::Log(e) => e.disposition(),
                ProcessorError::Worker { .. }
                | ProcessorError::Thread(_)
                | ProcessorError::OffsetMissing { .. } => {
                    tracing::error!("lane {} stops: {trouble}", self.slot);
                    return Err(trouble);
                }
                // The store, the engine: whatever it is, the records are still there.
                _ => Disposition::Retry,
            };
            counter!("weir_lane_aborts_total", "cause" => cause(&trouble)).increment(1);
            self.drop_everything();
            let again = match disposition {
                Disposition::Reject | Disposition::Invalid => {
                    tracing::error!("lane {} stops: {trouble}", self.slot);
                    return Err(trouble);
                }
                Disposition::Retry => {
                    tracing::warn!(
                        "lane {} aborts and runs its batch again: {trouble}",
                        self.slot
                    );
                    self.rewind()
                }
                Disposition::Fenced => {
                    tracing::warn!("lane {} starts over: {trouble}", self.slot);
                    self.assigned.clear();
                    self.log
                        .lane(join(&self.config), &self.slot)
                        .map(|port| self.port = port)
                }
            };
            std::thread::sleep(self.backoff);
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            match again {
                Ok(()) => return Ok(()),
                Err(_) if self.stop.load(Ordering::Acquire) => return Ok(()),
                Err(e) => trouble = e.into(),
            }
        }
    }

    /// Aborts, and reads on from the group's committed offsets.
    fn rewind(&mut self) -> Result<(), LogError> {
        self.assigned = self
            .port
            .abort()?
            .into_iter()
            .map(|a| a.partition)
            .collect();
        self.port.resume(&self.assigned)
    }

    /// A lane that lost its footing keeps nothing: not the batch that runs, not what it had fetched.
    fn drop_everything(&mut self) {
        while self.workers.busy() {
            drop(self.workers.wait(REVOKE));
        }
        self.pending.clear();
        self.positions.clear();
        self.paused = false;
    }
}

fn join(config: &ProcessorConfig) -> Join {
    Join {
        group: GROUP_PROCESSORS.into(),
        topics: vec![TRIGGERS.into(), HOPS.into()],
        records_max: config.batch_records_max,
        bytes_max: config.batch_bytes_max,
    }
}

fn cause(trouble: &ProcessorError) -> &'static str {
    match trouble {
        ProcessorError::Log(LogError::Fenced { .. }) => "fenced",
        ProcessorError::Log(LogError::Moved { .. }) => "rebalance",
        ProcessorError::Log(LogError::Full { .. }) => "disk-full",
        ProcessorError::Log(LogError::Uncertain { .. }) => "uncertain",
        ProcessorError::Log(_) => "log",
        ProcessorError::Store(_) => "store",
        ProcessorError::Busy { .. } => "busy",
        _ => "other",
    }
}

fn size(record: &Fetched) -> usize {
    record.record.key.as_ref().map_or(0, Bytes::len)
        + record.record.value.as_ref().map_or(0, Bytes::len)
}

/// The next offset of each partition in the batch.
fn positions(batch: &[Fetched], metadata: &str) -> Vec<Position> {
    let mut positions: Vec<Position> = Vec::new();
    for record in batch {
        let next_offset = record.offset + 1;
        match positions
            .iter_mut()
            .find(|p| p.partition == record.partition)
        {
            Some(position) => position.next_offset = next_offset,
            None => positions.push(Position {
                partition: record.partition.clone(),
                next_offset,
                metadata: metadata.to_owned(),
            }),
        }
    }
    positions
}
