//! The threads of a lane that run steps. Records of one key go to the same thread, so they run in order; the answers
//! come back by their place in the batch, so what a partition becomes stays in its order too.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use topics::{Fetched, Outgoing};

use crate::ProcessorConfig;
use crate::definitions::Definitions;
use crate::error::ProcessorError;
use crate::execute::Executor;

/// Places in the batch and their records.
type Share = Vec<(usize, Fetched)>;
type Answer = Result<Vec<(usize, Vec<Outgoing>)>, ProcessorError>;

struct Job {
    share: Share,
    now_ms: i64,
}

/// The worker threads of one lane, and the batch that they run at the moment.
pub(crate) struct Workers {
    lane: usize,
    jobs: Vec<Sender<Job>>,
    answers: Receiver<Answer>,
    threads: Vec<JoinHandle<()>>,
    /// Shares of the running batch that are still out.
    out: usize,
    gathered: Vec<(usize, Vec<Outgoing>)>,
    failed: Option<ProcessorError>,
}

impl Workers {
    pub(crate) fn start(
        lane: usize,
        definitions: &Arc<Definitions>,
        config: &ProcessorConfig,
    ) -> Result<Self, ProcessorError> {
        let count = config.workers.max(1);
        let (answer, answers) = bounded(count);
        let (mut jobs, mut threads) = (Vec::new(), Vec::new());
        for worker in 0..count {
            // One share at a time: a batch is cut only when the last one has been gathered.
            let (job, shares) = bounded::<Job>(1);
            let (answer, definitions, config) =
                (answer.clone(), definitions.clone(), config.clone());
            let thread = std::thread::Builder::new()
                .name(format!("lane-{lane}-worker-{worker}"))
                .spawn(move || work(Executor::new(definitions, config), &shares, &answer))
                .map_err(ProcessorError::Thread)?;
            jobs.push(job);
            threads.push(thread);
        }
        Ok(Self {
            lane,
            jobs,
            answers,
            threads,
            out: 0,
            gathered: Vec::new(),
            failed: None,
        })
    }

    pub(crate) fn busy(&self) -> bool {
        self.out > 0
    }

    /// Hands a batch out; none may be running.
    pub(crate) fn run(&mut self, batch: Vec<Fetched>, now_ms: i64) -> Result<(), ProcessorError> {
        assert!(self.out == 0, "a lane runs one batch at a time");
        let mut shares: Vec<Share> = (0..self.jobs.len()).map(|_| Vec::new()).collect();
        for (place, record) in batch.into_iter().enumerate() {
            shares[worker_of(&record, self.jobs.len())].push((place, record));
        }
        for (job, share) in self.jobs.iter().zip(shares) {
            if !share.is_empty() {
                job.send(Job { share, now_ms })
                    .map_err(|_| ProcessorError::Worker { lane: self.lane })?;
                self.out += 1;
            }
        }
        Ok(())
    }

    /// Waits for the batch. `None`: not ready yet. Otherwise everything it became, in the batch's order, or our trouble.
    pub(crate) fn wait(&mut self, wait: Duration) -> Option<Result<Vec<Outgoing>, ProcessorError>> {
        while self.out > 0 {
            match self.answers.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.out = 0;
                    return Some(Err(ProcessorError::Worker { lane: self.lane }));
                }
                Ok(Ok(outgoing)) => self.gathered.extend(outgoing),
                Ok(Err(trouble)) => self.failed = Some(trouble),
            }
            self.out -= 1;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        if let Some(trouble) = self.failed.take() {
            return Some(Err(trouble));
        }
        gathered.sort_unstable_by_key(|(place, _)| *place);
        Some(Ok(gathered
            .into_iter()
            .flat_map(|(_, outgoing)| outgoing)
            .collect()))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs.clear(); // the threads end when their channel closes
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of lane {} panicked", self.lane);
            }
        }
    }
}

fn work(mut executor: Executor, shares: &Receiver<Job>, answers: &Sender<Answer>) {
    for Job { share, now_ms } in shares {
        let answer = share
            .into_iter()
            .map(|(place, record)| Ok((place, executor.execute(&record, now_ms)?)))
            .collect();
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// Equal keys, same thread. Records without a key have no order to keep among them but their partition's: they go by it.
fn worker_of(record: &Fetched, workers: usize) -> usize {
    if workers == 1 {
        return 0;
    }
    // Not the partitioner's hash: all keys of one partition would meet in one thread.
    let mut hash = DefaultHasher::new();
    match &record.record.key {
        Some(key) => key.hash(&mut hash),
        None => record.partition.number.hash(&mut hash),
    }
    (hash.finish() % workers as u64) as usize
}
