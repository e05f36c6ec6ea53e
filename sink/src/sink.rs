//! The loop of one destination: read committed records, write rows and positions in one database transaction, go on.
//!
//! A destination that is down holds up itself alone: the batch is kept and written again, while the consumer stays in its
//! group. Positions live in the destination, so a sink that dies between reading and writing reads again and no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use parking_lot::Mutex;
use topics::catalog::{DEAD_LETTERS, GROUP_SINKS_PREFIX, RESULTS};
use topics::{Consumer, Join, Log, Partition, Polled};

use crate::batch::Batch;
use crate::error::{Disposition, SinkError};
use crate::sqlite::Sqlite;

const IDLE: Duration = Duration::from_millis(200);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Settings of one sink.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The destination's name; its group is `weir.sink.<name>`.
    pub destination: String,
    /// The largest write, in records.
    pub batch_records_max: usize,
    /// How long a write waits for more records after the last one; zero: not at all.
    pub interval: Duration,
}

impl SinkConfig {
    pub fn new(destination: &str) -> Self {
        Self {
            destination: destination.to_owned(),
            batch_records_max: 1_000,
            interval: Duration::from_millis(25),
        }
    }
}

/// A running sink. Dropping it stops it without waiting; `stop` waits.
pub struct Sink {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), SinkError>>>,
    /// Why it has ended by itself.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Sink {
    /// `landed` is called after each write, from the sink's thread.
    pub fn start(
        log: Arc<dyn Log>,
        destination: Sqlite,
        config: SinkConfig,
        landed: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, SinkError> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let trouble: Arc<Mutex<Option<String>>> = Arc::default();
        let told = trouble.clone();
        let thread = std::thread::Builder::new()
            .name(format!("sink-{}", config.destination))
            .spawn(move || {
                let ended = Loop {
                    log,
                    destination,
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
            stop,
            thread: Some(thread),
            trouble,
        })
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
    destination: Sqlite,
    config: SinkConfig,
    stop: Arc<AtomicBool>,
    landed: Arc<dyn Fn() + Send + Sync>,
}

impl Loop {
    fn run(mut self) -> Result<(), SinkError> {
        let mut backoff = BACKOFF_MIN;
        while !self.stopped() {
            let outcome = self.consume();
            let Err(trouble) = outcome else { continue };
            counter!("weir_sink_restarts_total", "destination" => self.config.destination.clone())
                .increment(1);
            if trouble.disposition() == Disposition::Invalid {
                tracing::error!("sink \"{}\" stops: {trouble}", self.config.destination);
                return Err(trouble);
            }
            tracing::warn!(
                "sink \"{}\" starts over: {trouble}",
                self.config.destination
            );
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
        let join = Join {
            group: format!("{GROUP_SINKS_PREFIX}{}", self.config.destination),
            topics: vec![RESULTS.into(), DEAD_LETTERS.into()],
            records_max: self.config.batch_records_max,
            bytes_max: 16 << 20,
        };
        let mut consumer = self.log.consumer(join)?;
        // Where each of our partitions stands in the destination: the compare of the compare-and-set.
        let mut stored: HashMap<Partition, i64> = HashMap::new();
        let mut batch = Batch::default();
        let mut since = Instant::now();
        while !self.stopped() {
            let wait = if batch.landings.is_empty() {
                IDLE
            } else {
                self.config.interval.saturating_sub(since.elapsed())
            };
            match consumer.poll(wait)? {
                Polled::Records(records) => {
                    if batch.landings.is_empty() {
                        since = Instant::now();
                    }
                    records.into_iter().for_each(|record| batch.push(record));
                }
                Polled::Assigned(assigned) => {
                    for partition in assigned.into_iter().map(|a| a.partition) {
                        let position = match self.destination.position(&partition)? {
                            Some(position) => position,
                            None => self.log.offsets(&partition)?.0,
                        };
                        consumer.seek(&partition, position)?;
                        stored.insert(partition, position);
                    }
                }
                Polled::Revoked { partitions, lost } => {
                    if !lost {
                        self.land(&mut *consumer, &mut batch, &mut stored)?;
                    }
                    batch = Batch::default();
                    stored.retain(|partition, _| !partitions.contains(partition));
                }
            }
            let full = batch.landings.len() >= self.config.batch_records_max;
            if full || (!batch.landings.is_empty() && since.elapsed() >= self.config.interval) {
                self.land(&mut *consumer, &mut batch, &mut stored)?;
            }
        }
        Ok(())
    }

    /// Writes the batch until the destination has taken it.
    fn land(
        &mut self,
        consumer: &mut dyn Consumer,
        batch: &mut Batch,
        stored: &mut HashMap<Partition, i64>,
    ) -> Result<(), SinkError> {
        if batch.landings.is_empty() {
            return Ok(());
        }
        let mut backoff = BACKOFF_MIN;
        let mut paused: Vec<Partition> = Vec::new();
        loop {
            let begun = Instant::now();
            match self.destination.land(batch, stored) {
                Ok(()) => {
                    histogram!("weir_sink_write_seconds").record(begun.elapsed().as_secs_f64());
                    counter!("weir_sink_rows_total", "destination" => self.config.destination.clone())
                        .increment(batch.landings.len() as u64);
                    break;
                }
                Err(e) if e.disposition() == Disposition::Retry && !self.stopped() => {
                    counter!("weir_sink_retries_total", "destination" => self.config.destination.clone()).increment(1);
                    tracing::warn!("{e}");
                    if paused.is_empty() {
                        paused = stored.keys().cloned().collect();
                        consumer.pause(&paused)?;
                    }
                    // The consumer stays in its group while it waits. A partition that leaves meanwhile is the next
                    // owner's to write: start over from the stored positions.
                    match consumer.poll(backoff)? {
                        Polled::Records(_) => {}
                        Polled::Assigned(_) | Polled::Revoked { .. } => return Err(e),
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                Err(e) => return Err(e),
            }
        }
        if !paused.is_empty() {
            consumer.resume(&paused)?;
        }
        for progress in std::mem::take(batch).progress {
            stored.insert(progress.partition, progress.next);
        }
        (self.landed)();
        Ok(())
    }
}
