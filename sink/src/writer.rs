//! The thread that owns a destination. It lands one batch while the loop reads the next, and tries again while the
//! destination is down, so that reading, and being a member of the group, never wait for a database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Gauge, counter, gauge, histogram};
use topics::{Log, Partition};

use crate::batch::Batch;
use crate::destination::{Destination, Stored};
use crate::error::{Disposition, SinkError};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How soon a writer that waits to try again hears that it need not.
const NAP: Duration = Duration::from_millis(20);
const TIDY: Duration = Duration::from_secs(600);

enum Work {
    /// These partitions have come: where do they start?
    Assign(Vec<Partition>),
    Revoke(Vec<Partition>),
    Land(Batch),
}

enum Done {
    Assigned(Result<Vec<(Partition, i64)>, SinkError>),
    /// With the batch: who made it lets it go, while the next one is written.
    Landed(Result<(), SinkError>, Batch),
}

/// The loop's end of it. Dropping it ends the thread once it has finished what it does.
pub(crate) struct Writer {
    work: Option<Sender<Work>>,
    done: Receiver<Done>,
    /// Give up what fails, instead of trying again.
    abandon: Arc<AtomicBool>,
    /// A batch is under way.
    landing: bool,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `name`: the destination's.
    pub(crate) fn start(
        name: &str,
        log: Arc<dyn Log>,
        destination: Destination,
    ) -> std::io::Result<Self> {
        let (work, taken) = channel();
        let (told, done) = channel();
        let abandon = Arc::new(AtomicBool::new(false));
        let owner = Owner {
            name: name.to_owned(),
            log,
            destination,
            stored: Stored::new(),
            abandon: abandon.clone(),
            tidied: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("sink-{name}-writer"))
            .spawn(move || owner.run(&taken, &told))?;
        Ok(Self {
            work: Some(work),
            done,
            abandon,
            landing: false,
            thread: Some(thread),
        })
    }

    pub(crate) fn is_landing(&self) -> bool {
        self.landing
    }

    /// Hands a batch over. Only when none is under way.
    pub(crate) fn land(&mut self, batch: Batch) {
        debug_assert!(!self.landing, "one batch at a time");
        self.landing = true;
        self.send(Work::Land(batch));
    }

    /// `Ok(true)`: nothing is under way (any more).
    pub(crate) fn wait(&mut self, wait: Duration) -> Result<bool, SinkError> {
        if !self.landing {
            return Ok(true);
        }
        let done = if wait.is_zero() {
            self.done.try_recv().map_err(|e| match e {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            self.done.recv_timeout(wait)
        };
        match done {
            Ok(Done::Landed(outcome, batch)) => {
                drop(batch);
                self.landing = false;
                outcome.map(|()| true)
            }
            // only asked for while nothing is under way
            Ok(Done::Assigned(_)) | Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(SinkError::Panicked),
        }
    }

    /// Where partitions that have come start. Only when nothing is under way.
    pub(crate) fn assign(
        &mut self,
        partitions: Vec<Partition>,
    ) -> Result<Vec<(Partition, i64)>, SinkError> {
        self.send(Work::Assign(partitions));
        match self.done.recv() {
            Ok(Done::Assigned(starts)) => starts,
            Ok(Done::Landed(..)) | Err(_) => Err(SinkError::Panicked),
        }
    }

    pub(crate) fn revoke(&mut self, partitions: Vec<Partition>) {
        self.send(Work::Revoke(partitions));
    }

    /// Waits for what is under way to end, one way or the other, trying nothing again.
    pub(crate) fn settle(&mut self) -> Result<(), SinkError> {
        self.abandon.store(true, Ordering::Release);
        let mut ended = Ok(());
        while self.landing {
            match self.wait(Duration::from_secs(1)) {
                Ok(_) => {}
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        self.abandon.store(false, Ordering::Release);
        ended
    }

    fn send(&self, work: Work) {
        // a thread that is gone is noticed when its answer is missing
        let sent = self.work.as_ref().map(|to| to.send(work));
        drop(sent);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.abandon.store(true, Ordering::Release);
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes to a destination panicked");
        }
    }
}

struct Owner {
    name: String,
    log: Arc<dyn Log>,
    destination: Destination,
    stored: Stored,
    abandon: Arc<AtomicBool>,
    tidied: Option<Instant>,
}

impl Owner {
    fn run(mut self, work: &Receiver<Work>, done: &Sender<Done>) {
        loop {
            let told = match work.recv_timeout(TIDY) {
                Ok(Work::Land(batch)) => {
                    let outcome = self.land(&batch);
                    done.send(Done::Landed(outcome, batch))
                }
                Ok(Work::Assign(partitions)) => done.send(Done::Assigned(self.assign(partitions))),
                Ok(Work::Revoke(partitions)) => {
                    self.stored
                        .retain(|partition, _| !partitions.contains(partition));
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if told.is_err() {
                return;
            }
            self.tidy();
        }
    }

    /// Whether it has answered the last time it was asked.
    fn up(&self) -> Gauge {
        gauge!("weir_sink_up", "destination" => self.name.clone())
    }

    fn assign(&mut self, partitions: Vec<Partition>) -> Result<Vec<(Partition, i64)>, SinkError> {
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let position = self.destination.0.position(&partition);
            self.up().set(if position.is_ok() { 1.0 } else { 0.0 });
            let position = match position? {
                Some(position) => position,
                None => self.log.offsets(&partition)?.0,
            };
            self.stored.insert(partition.clone(), position);
            starts.push((partition, position));
        }
        Ok(starts)
    }

    /// Until the destination has taken it.
    fn land(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let name = || self.name.clone();
        let up = self.up();
        let retries = counter!("weir_sink_retries_total", "destination" => name());
        let seconds = histogram!("weir_sink_write_seconds", "destination" => name());
        let records = histogram!("weir_sink_batch_records", "destination" => name());
        let rows = counter!("weir_sink_rows_total", "destination" => name());
        let dead = counter!("weir_sink_dead_total", "destination" => name());
        let fenced = counter!("weir_sink_fenced_total", "destination" => name());
        let mut backoff = BACKOFF_MIN;
        loop {
            let begun = Instant::now();
            match self.destination.0.land(batch, &mut self.stored) {
                Ok(landed) => {
                    up.set(1.0);
                    seconds.record(begun.elapsed().as_secs_f64());
                    records.record(batch.landings.len() as f64);
                    rows.increment(landed.rows);
                    dead.increment(landed.dead);
                    return Ok(());
                }
                Err(error) if error.disposition() == Disposition::Retry => {
                    up.set(0.0);
                    retries.increment(1);
                    tracing::warn!("{error}");
                    let until = Instant::now() + backoff;
                    while Instant::now() < until {
                        if self.abandon.load(Ordering::Acquire) {
                            return Err(error);
                        }
                        std::thread::sleep(NAP.min(backoff));
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                Err(error) => {
                    if error.disposition() == Disposition::Fenced {
                        fenced.increment(1);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn tidy(&mut self) {
        if self.tidied.is_some_and(|at| at.elapsed() < TIDY) {
            return;
        }
        self.tidied = Some(Instant::now());
        if let Err(error) = self.destination.0.tidy(crate::clock::now_ms()) {
            tracing::warn!("{error}");
        }
    }
}
