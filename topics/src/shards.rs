//! Which shards of a source are this process's, and a thread for each of them.
//!
//! All processes that run a kind of source are members of one consumer group over the topic of positions. Shard `s`
//! belongs to whoever has the partition that `s` hashes to, the one its position lies in. So the group's coordinator
//! spreads the shards, and gives those of a dead process to others.
//!
//! Invariants: a shard's thread starts when its partition comes, and is told to end when the partition leaves; the
//! partition is given up when the thread has ended, or after `END_WAIT`. The group only says who *should* own a shard:
//! what keeps a second owner from doing harm is `Log::source`, which fences the first. Nothing is ever read from the topic.
//!
//! It does not open sources: the threads do, again and again as they need. A thread that was fenced has to wait a moment
//! before it opens its shard anew: if this process was frozen, it is about to learn that the shard is another's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::catalog::{GROUP_SOURCES_PREFIX, POSITIONS};
use crate::log::{Join, Log, Partition, Polled, Result, Topic};
use crate::partitioner::partition_of;

/// How long one poll waits; a stop is noticed as late as that.
const POLL: Duration = Duration::from_millis(100);
/// How long a thread may take to end what it is doing. Much less than the longest time between two polls.
const END_WAIT: Duration = Duration::from_secs(8);
const END_LOOK: Duration = Duration::from_millis(2);
/// A process that got nothing for so long is one too many for now.
const SETTLE: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a shard's thread holds: whether the shard is still this process's.
#[derive(Clone)]
pub struct Mine(watch::Receiver<bool>);

impl Mine {
    /// The thread is to end soon.
    pub fn is_over(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Resolves when the thread is to end.
    pub async fn over(&mut self) {
        // an end of the sender is an end, too
        drop(self.0.wait_for(|over| *over).await);
    }
}

/// What a shard's thread does: given the shard's number, until it is over.
pub type Work = dyn Fn(u32, Mine) + Send + Sync;

/// A process's part in a kind of source. Dropping it ends its threads and leaves the group.
pub struct Shards {
    stop: Arc<AtomicBool>,
    mine: watch::Receiver<Option<BTreeSet<u32>>>,
    thread: Option<JoinHandle<()>>,
}

/// The name of a shard, as `Log::source` knows it.
pub fn name(kind: &str, number: u32) -> String {
    format!("{kind}-{number}")
}

impl Shards {
    /// Joins the group of the kind, which has the shards `0..count`; for each that comes, `work` runs on a new thread.
    pub fn start(
        log: Arc<dyn Log>,
        kind: &str,
        count: u32,
        work: Arc<Work>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (telling, mine) = watch::channel(None);
        let group = Group {
            log,
            kind: kind.to_owned(),
            count,
            work,
            stop: stop.clone(),
            mine: telling,
        };
        let thread = std::thread::Builder::new()
            .name(format!("{kind}-shards"))
            .spawn(move || group.run())?;
        Ok(Self {
            stop,
            mine,
            thread: Some(thread),
        })
    }

    /// The shards that are this process's just now; `None` until the group has said so for the first time.
    pub fn mine(&self) -> watch::Receiver<Option<BTreeSet<u32>>> {
        self.mine.clone()
    }

    /// Lets the threads end what they are doing, then leaves the group.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that spreads shards panicked");
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.end();
    }
}

/// The member of the group.
struct Group {
    log: Arc<dyn Log>,
    kind: String,
    count: u32,
    work: Arc<Work>,
    stop: Arc<AtomicBool>,
    mine: watch::Sender<Option<BTreeSet<u32>>>,
}

/// A shard's thread.
struct Worker {
    over: watch::Sender<bool>,
    thread: JoinHandle<()>,
    started: Instant,
}

type Workers = BTreeMap<u32, Worker>;

impl Group {
    fn run(&self) {
        let mut backoff = BACKOFF_MIN;
        while !self.stopped() {
            let started = Instant::now();
            let mut workers = Workers::new();
            let ended = self.belong(&mut workers);
            // whatever happened: nothing of it goes on without the group
            self.finish(std::mem::take(&mut workers));
            self.tell(&workers);
            if let Err(error) = ended {
                if started.elapsed() > BACKOFF_MAX {
                    backoff = BACKOFF_MIN;
                }
                tracing::warn!(kind = self.kind, %error, "the shards of a source cannot be shared; trying again");
                let until = Instant::now() + backoff;
                while !self.stopped() && Instant::now() < until {
                    std::thread::park_timeout(POLL.min(backoff));
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Is a member until told to stop, or until something breaks.
    fn belong(&self, workers: &mut Workers) -> Result<()> {
        let partitions = self.log.partitions(POSITIONS)?;
        let mut member = self.log.consumer(Join {
            group: format!("{GROUP_SOURCES_PREFIX}{}", self.kind),
            topics: vec![Topic::from(POSITIONS)],
            records_max: 1,
            bytes_max: 1,
        })?;
        let joined = Instant::now();
        while !self.stopped() {
            match member.poll(POLL)? {
                Polled::Records(_) => {}
                Polled::Assigned(assigned) => {
                    let came: Vec<Partition> =
                        assigned.into_iter().map(|found| found.partition).collect();
                    member.pause(&came)?;
                    for shard in self.shards_of(&came, partitions) {
                        self.start(workers, shard);
                    }
                    self.tell(workers);
                }
                Polled::Revoked {
                    partitions: go,
                    lost,
                } => {
                    let shards = self.shards_of(&go, partitions);
                    tracing::info!(kind = self.kind, ?shards, lost, "shards leave");
                    let leaving = shards
                        .iter()
                        .filter_map(|shard| Some((*shard, workers.remove(shard)?)))
                        .collect();
                    self.finish(leaving);
                    self.tell(workers);
                }
            }
            self.start_again(workers);
            if self.mine.borrow().is_none() && joined.elapsed() > SETTLE {
                self.tell(workers);
            }
        }
        // in this order: what is given up is not worked on any more
        self.finish(std::mem::take(workers));
        drop(member);
        Ok(())
    }

    fn shards_of(&self, came: &[Partition], partitions: u32) -> Vec<u32> {
        let here = |shard: &u32| {
            let number = partition_of(name(&self.kind, *shard).as_bytes(), partitions);
            came.iter().any(|partition| partition.number == number)
        };
        (0..self.count).filter(here).collect()
    }

    fn start(&self, workers: &mut Workers, shard: u32) {
        let (over, mine) = watch::channel(false);
        let work = self.work.clone();
        let spawned = std::thread::Builder::new()
            .name(name(&self.kind, shard))
            .spawn(move || work(shard, Mine(mine)));
        match spawned {
            Ok(thread) => {
                tracing::debug!(kind = self.kind, shard, "a shard has come");
                let started = Instant::now();
                workers.insert(
                    shard,
                    Worker {
                        over,
                        thread,
                        started,
                    },
                );
            }
            Err(error) => {
                tracing::error!(kind = self.kind, shard, %error, "no thread for a shard")
            }
        }
    }

    /// A thread that panicked is started again, not faster than it can be read about.
    fn start_again(&self, workers: &mut Workers) {
        let died: Vec<u32> = workers
            .iter()
            .filter(|(_, worker)| {
                worker.thread.is_finished() && worker.started.elapsed() > BACKOFF_MAX
            })
            .map(|(shard, _)| *shard)
            .collect();
        for shard in died {
            tracing::error!(kind = self.kind, shard, "a shard's thread died");
            self.start(workers, shard);
        }
    }

    /// Tells them to end, and waits for it, but not for ever: one that hangs in a call is fenced by the next owner.
    fn finish(&self, workers: Workers) {
        for worker in workers.values() {
            worker.over.send_replace(true);
        }
        let deadline = Instant::now() + END_WAIT;
        for (shard, worker) in workers {
            while !worker.thread.is_finished() && Instant::now() < deadline {
                std::thread::park_timeout(END_LOOK);
            }
            if !worker.thread.is_finished() {
                tracing::warn!(
                    kind = self.kind,
                    shard,
                    "a shard's thread does not end; it will be fenced"
                );
            } else if worker.thread.join().is_err() {
                tracing::error!(kind = self.kind, shard, "a shard's thread panicked");
            }
        }
    }

    fn tell(&self, workers: &Workers) {
        metrics::gauge!("weir_source_shards", "kind" => self.kind.clone())
            .set(workers.len() as f64);
        let mine: BTreeSet<u32> = workers.keys().copied().collect();
        self.mine.send_replace(Some(mine));
    }
}
