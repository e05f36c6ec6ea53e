//! The loop of one destination: read committed records, hand them to the writer, go on.
//!
//! A destination that is down holds up itself alone: its batch is kept and written again, while the consumer stays in its
//! group. Positions live in the destination, so a sink that dies between reading and writing reads again and no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use parking_lot::Mutex;
use topics::catalog::{DEAD_LETTERS, GROUP_SINKS_PREFIX, RESULTS};
use topics::{Consumer, Fetched, Join, Log, Partition, Polled};

use crate::batch::{Batch, Landing, Progress, Row, decode};
use crate::destination::Destination;
use crate::error::{Disposition, SinkError};
use crate::writer::Writer;
use crate::writes::Definitions;

/// A write that takes longer pauses the partitions; what was fetched of them has to be fetched again then.
const HOLD_AFTER: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_millis(200);
/// How long a poll may keep the loop from noticing that the writer is free again.
const GLANCE: Duration = Duration::from_millis(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long partitions that leave wait for what has been read of them to land.
const PARTING: Duration = Duration::from_secs(3);
const MEASURE: Duration = Duration::from_secs(10);

/// Settings of one sink.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The destination's name; its group is `weir.sink.<name>`.
    pub destination: String,
    /// It takes `weir.dead-letters`, too.
    pub history: bool,
    /// The largest write, in records.
    pub batch_records_max: usize,
    /// How long a write waits for more records after its first one; zero: not at all.
    pub interval: Duration,
}

impl SinkConfig {
    pub fn new(destination: &str) -> Self {
        Self {
            destination: destination.to_owned(),
            history: true,
            batch_records_max: 1_000,
            interval: Duration::from_millis(25),
        }
    }
}

/// A running sink. Dropping it stops it without waiting; `stop` waits.
pub struct Sink {
    destination: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), SinkError>>>,
    /// Why it has ended by itself.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Sink {
    /// `definitions`: what graphs write to users' own tables there; `None`: nothing. `landed` is called after each write,
    /// from the sink's thread.
    pub fn start(
        log: Arc<dyn Log>,
        destination: impl Into<Destination>,
        definitions: Option<Definitions>,
        config: SinkConfig,
        landed: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, SinkError> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let trouble: Arc<Mutex<Option<String>>> = Arc::default();
        let told = trouble.clone();
        let name = config.destination.clone();
        let writer = Writer::start(&name, log.clone(), destination.into());
        let writer = writer.map_err(SinkError::Thread)?;
        let thread = std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || {
                let ended = Loop {
                    log,
                    writer,
                    definitions,
                    config,
                    stop: flag,
                    landed,
                }
                .run();
                if let Err(error) = &ended {
                    *told.lock() = Some(error.to_string());
                }
                ended
            })
            .map_err(SinkError::Thread)?;
        Ok(Self {
            destination: name,
            stop,
            thread: Some(thread),
            trouble,
        })
    }

    /// The destination's name.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// Whether it is still running; it ends by itself only for a reason that needs somebody to look.
    pub fn healthy(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Why it has ended by itself, if it has.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Lets the write under way finish.
    pub fn stop(mut self) -> Result<(), SinkError> {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct Loop {
    log: Arc<dyn Log>,
    writer: Writer,
    definitions: Option<Definitions>,
    config: SinkConfig,
    stop: Arc<AtomicBool>,
    landed: Arc<dyn Fn() + Send + Sync>,
}

impl Loop {
    fn run(mut self) -> Result<(), SinkError> {
        let name = self.config.destination.clone();
        let restarts = counter!("weir_sink_restarts_total", "destination" => name.clone());
        let mut backoff = BACKOFF_MIN;
        while !self.stopped() {
            let begun = Instant::now();
            let outcome = self.consume();
            // what is under way may still land; a failure of it is read again like the rest
            let settled = self.writer.settle();
            let Err(trouble) = outcome.and(settled) else {
                continue;
            };
            if self.stopped() && trouble.disposition() == Disposition::Retry {
                break;
            }
            restarts.increment(1);
            if trouble.disposition() == Disposition::Invalid {
                tracing::error!("sink \"{name}\" stops: {trouble}");
                return Err(trouble);
            }
            tracing::warn!("sink \"{name}\" starts over: {trouble}");
            if begun.elapsed() > BACKOFF_MAX * 2 {
                backoff = BACKOFF_MIN;
            }
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Joins the group and lands what comes, until `stop` or an error that wants a new start.
    fn consume(&mut self) -> Result<(), SinkError> {
        let mut topics = vec![RESULTS.into()];
        if self.config.history {
            topics.push(DEAD_LETTERS.into());
        }
        let join = Join {
            group: format!("{GROUP_SINKS_PREFIX}{}", self.config.destination),
            topics,
            records_max: self.config.batch_records_max,
            bytes_max: 16 << 20,
        };
        let mut consumer = self.log.consumer(join)?;
        let mut reading = Reading::default();
        while !self.stopped() {
            let is_full = reading.batch.landings.len() >= self.config.batch_records_max;
            // A full batch waits for the writer; else records are waited for.
            let wait = match (is_full, reading.held.is_empty()) {
                (false, _) => Duration::ZERO,
                (true, true) => HOLD_AFTER,
                (true, false) => IDLE,
            };
            if self.landed(&mut reading, wait)? {
                let due = reading.since.elapsed() >= self.config.interval;
                if is_full || due {
                    self.hand_over(&mut reading);
                }
            }
            reading.hold(&mut *consumer, self.config.batch_records_max)?;
            let polled = consumer.poll(self.patience(&reading))?;
            self.take(&mut *consumer, &mut reading, polled)?;
            self.measure(&mut reading);
        }
        Ok(())
    }

    /// Waits for the writer; whether it is free.
    fn landed(&mut self, reading: &mut Reading, wait: Duration) -> Result<bool, SinkError> {
        let was_landing = self.writer.is_landing();
        let is_free = self.writer.wait(wait)?;
        if was_landing && is_free {
            for progress in reading.under_way.drain(..) {
                reading.next.insert(progress.partition, progress.next);
            }
            (self.landed)();
        }
        Ok(is_free)
    }

    fn hand_over(&mut self, reading: &mut Reading) {
        if reading.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut reading.batch);
        reading.under_way.clone_from(&batch.progress);
        self.writer.land(batch);
    }

    /// How long to wait for records.
    fn patience(&self, reading: &Reading) -> Duration {
        if !reading.held.is_empty() {
            return Duration::ZERO;
        }
        let due = self.config.interval.saturating_sub(reading.since.elapsed());
        match (self.writer.is_landing(), reading.batch.is_empty()) {
            (true, _) => GLANCE,
            (false, false) => due,
            (false, true) => IDLE,
        }
    }

    fn take(
        &mut self,
        consumer: &mut dyn Consumer,
        reading: &mut Reading,
        polled: Polled,
    ) -> Result<(), SinkError> {
        match polled {
            Polled::Records(records) => {
                if reading.batch.is_empty() {
                    reading.since = Instant::now();
                }
                for record in records {
                    let landing = self.read(record)?;
                    reading.batch.push(landing);
                }
            }
            Polled::Assigned(assigned) => {
                // what is under way of partitions that went and come back is known by its position
                self.part(reading)?;
                let partitions: Vec<_> = assigned.into_iter().map(|a| a.partition).collect();
                for (partition, position) in self.writer.assign(partitions)? {
                    consumer.seek(&partition, position)?;
                    reading.next.insert(partition, position);
                }
            }
            Polled::Revoked { partitions, lost } => {
                if lost {
                    // the position in the destination keeps out what is under way, if somebody else has moved it
                    self.writer.settle()?;
                    reading.batch.forget(&partitions);
                } else {
                    self.part(reading)?;
                }
                reading.next.retain(|next, _| !partitions.contains(next));
                reading.held.retain(|held| !partitions.contains(held));
                self.writer.revoke(partitions);
            }
        }
        Ok(())
    }

    /// Lands what has been read, within bounds: partitions are about to change hands.
    fn part(&mut self, reading: &mut Reading) -> Result<(), SinkError> {
        let deadline = Instant::now() + PARTING;
        let left = || deadline.saturating_duration_since(Instant::now());
        if self.landed(reading, left())? {
            self.hand_over(reading);
        }
        if self.landed(reading, left())? && reading.batch.is_empty() {
            return Ok(());
        }
        self.writer.settle()?;
        // it did land, late; what came after it is read again
        Err(SinkError::Unavailable {
            destination: self.config.destination.clone(),
            reason: "partitions change hands while it does not take rows".into(),
        })
    }

    fn read(&mut self, from: Fetched) -> Result<Landing, SinkError> {
        let row = decode(&from);
        let writes = match (&row, &mut self.definitions) {
            (Row::Result(result), Some(definitions)) => definitions.writes(result)?,
            _ => Vec::new(),
        };
        Ok(Landing { row, writes, from })
    }

    /// How far the destination is behind the log.
    fn measure(&self, reading: &mut Reading) {
        if reading.measured.elapsed() < MEASURE {
            return;
        }
        reading.measured = Instant::now();
        let mut lag = 0;
        for (partition, next) in &reading.next {
            let Ok((_, end)) = self.log.offsets(partition) else {
                return;
            };
            lag += (end - next).max(0);
        }
        gauge!("weir_sink_lag_records", "destination" => self.config.destination.clone())
            .set(lag as f64);
    }
}

/// What the loop has in hand.
struct Reading {
    batch: Batch,
    /// When the batch got its first record.
    since: Instant,
    /// What the writer has.
    under_way: Vec<Progress>,
    /// Our partitions, and what lands next of each.
    next: HashMap<Partition, i64>,
    /// Paused, because the batch is full.
    held: Vec<Partition>,
    measured: Instant,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            batch: Batch::default(),
            since: Instant::now(),
            under_way: Vec::new(),
            next: HashMap::new(),
            held: Vec::new(),
            measured: Instant::now(),
        }
    }
}

impl Reading {
    /// Takes nothing more while the batch is full.
    fn hold(&mut self, consumer: &mut dyn Consumer, records_max: usize) -> Result<(), SinkError> {
        let is_full = self.batch.landings.len() >= records_max;
        if is_full && self.held.is_empty() {
            self.held = self.next.keys().cloned().collect();
            consumer.pause(&self.held)?;
        } else if !is_full && !self.held.is_empty() {
            consumer.resume(&std::mem::take(&mut self.held))?;
        }
        Ok(())
    }
}
