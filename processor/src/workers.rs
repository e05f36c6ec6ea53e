//! The threads of a lane that run steps. Records of one key go to the same thread, so they run in order; the answers
//! come back by their place in the chunk, so what a partition becomes stays in its order too.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use schemas::records::Trigger;
use topics::catalog::TRIGGERS;
use topics::{Fetched, Outgoing};

use crate::ProcessorConfig;
use crate::crew::Crew;
use crate::definitions::Definitions;
use crate::error::ProcessorError;
use crate::execute::{Executor, Notes, Way};

/// What runs a lane's records. Chunks are run in the order in which they come, and become ready in it.
pub trait Work: Send {
    /// Whether another chunk may be handed out.
    fn room(&self) -> bool;
    /// Hands a chunk out. `way`: what is done with its records. `now_ms`: the timestamp of what they become.
    fn run(&mut self, chunk: Vec<Fetched>, way: Way, now_ms: i64) -> Result<(), ProcessorError>;
    /// Waits for the oldest chunk that is out. `None`: not ready yet. Otherwise everything it became, in its order, or
    /// our trouble.
    fn ready(&mut self, wait: Duration) -> Option<Result<Vec<Outgoing>, ProcessorError>>;
    /// Everything that is out is given up: it will not become ready any more.
    fn forget(&mut self);
}

/// Chunks that are out at most: enough for the threads to go on while their lane commits, some 20 ms of fast steps.
const OUT_MAX: usize = 8;

/// Places in the chunk and their records.
type Share = Vec<(usize, Fetched)>;

struct Job {
    chunk: u64,
    share: Share,
    way: Way,
    now_ms: i64,
}

struct Answer {
    chunk: u64,
    became: Result<Vec<(usize, Vec<Outgoing>)>, ProcessorError>,
    /// Records of the share that the crew has taken over; each answers for itself.
    handed: usize,
}

/// A record for the crew.
struct Waiting {
    chunk: u64,
    place: usize,
    record: Fetched,
    way: Way,
    now_ms: i64,
    answers: Sender<Answer>,
}

/// A chunk that is out.
struct Out {
    chunk: u64,
    /// Shares that have not come back.
    shares: usize,
    became: Vec<(usize, Vec<Outgoing>)>,
    failed: Option<ProcessorError>,
}

/// The worker threads of one lane, and the chunks that they run at the moment.
pub(crate) struct Workers {
    lane: usize,
    jobs: Vec<Sender<Job>>,
    answers: Receiver<Answer>,
    threads: Vec<JoinHandle<()>>,
    crew: Arc<Crew<Waiting>>,
    out: VecDeque<Out>,
    next: u64,
}

impl Workers {
    pub(crate) fn start(
        lane: usize,
        definitions: &Arc<Definitions>,
        config: &ProcessorConfig,
        notes: &Arc<Notes>,
    ) -> Result<Self, ProcessorError> {
        let count = config.workers.max(1);
        // Bounded by OUT_MAX and what was forgotten.
        let (answer, answers) = unbounded();
        let (mut jobs, mut threads) = (Vec::new(), Vec::new());
        let crew = Arc::new(crew(lane, definitions, config, notes));
        for worker in 0..count {
            let (job, shares) = bounded::<Job>(OUT_MAX);
            let answer = answer.clone();
            let executor = Executor::new(definitions.clone(), config.clone(), notes.clone(), false);
            let crew = crew.clone();
            let thread = std::thread::Builder::new()
                .name(format!("lane-{lane}-worker-{worker}"))
                .spawn(move || work(executor, &shares, &answer, &crew))
                .map_err(ProcessorError::Thread)?;
            jobs.push(job);
            threads.push(thread);
        }
        Ok(Self {
            lane,
            jobs,
            answers,
            threads,
            crew,
            out: VecDeque::new(),
            next: 0,
        })
    }
}

impl Work for Workers {
    fn room(&self) -> bool {
        // A forgotten chunk may still fill a worker's queue.
        self.out.len() < OUT_MAX && self.jobs.iter().all(|job| !job.is_full())
    }

    fn run(&mut self, chunk: Vec<Fetched>, way: Way, now_ms: i64) -> Result<(), ProcessorError> {
        let mut shares: Vec<Share> = (0..self.jobs.len()).map(|_| Vec::new()).collect();
        for (place, record) in chunk.into_iter().enumerate() {
            shares[worker_of(&record, self.jobs.len())].push((place, record));
        }
        let chunk = self.next;
        self.next += 1;
        let mut out = Out {
            chunk,
            shares: 0,
            became: Vec::new(),
            failed: None,
        };
        for (job, share) in self.jobs.iter().zip(shares) {
            if !share.is_empty() {
                let share = Job {
                    chunk,
                    share,
                    way,
                    now_ms,
                };
                job.send(share)
                    .map_err(|_| ProcessorError::Worker { lane: self.lane })?;
                out.shares += 1;
            }
        }
        self.out.push_back(out);
        Ok(())
    }

    fn ready(&mut self, wait: Duration) -> Option<Result<Vec<Outgoing>, ProcessorError>> {
        while self.out.front()?.shares > 0 {
            let Answer {
                chunk,
                became,
                handed,
            } = match self.answers.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    return Some(Err(ProcessorError::Worker { lane: self.lane }));
                }
                Ok(answer) => answer,
            };
            // What was forgotten is nobody's.
            let Some(out) = self.out.iter_mut().find(|out| out.chunk == chunk) else {
                continue;
            };
            out.shares = out.shares + handed - 1;
            match became {
                Ok(became) if out.became.is_empty() => out.became = became,
                Ok(became) => out.became.extend(became),
                Err(trouble) => out.failed = Some(trouble),
            }
        }
        let mut out = self.out.pop_front()?;
        if let Some(trouble) = out.failed {
            return Some(Err(trouble));
        }
        if !out.became.is_sorted_by_key(|(place, _)| *place) {
            out.became.sort_unstable_by_key(|(place, _)| *place);
        }
        let mut all = Vec::with_capacity(out.became.len() + out.became.len() / 4);
        out.became
            .into_iter()
            .for_each(|(_, outgoing)| all.extend(outgoing));
        Some(Ok(all))
    }

    fn forget(&mut self) {
        self.out.clear();
        self.crew.forget();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs.clear(); // the threads end when their channel closes
        // A step may hold its thread for as long as its time limit; nothing of it is wanted any more.
        let until = std::time::Instant::now() + Duration::from_secs(1);
        while self.threads.iter().any(|thread| !thread.is_finished())
            && std::time::Instant::now() < until
        {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            if thread.join().is_err() {
                tracing::error!("a worker of lane {} panicked", self.lane);
            }
        }
    }
}

fn crew(
    lane: usize,
    definitions: &Arc<Definitions>,
    config: &ProcessorConfig,
    notes: &Arc<Notes>,
) -> Crew<Waiting> {
    let (definitions, notes) = (definitions.clone(), notes.clone());
    // each thread runs one record at a time
    let config = ProcessorConfig {
        instances_kept: config.instances_kept.min(1),
        ..config.clone()
    };
    let threads_max = config.waiting_max;
    let start = move || Executor::new(definitions.clone(), config.clone(), notes.clone(), true);
    Crew::new(
        format!("lane-{lane}-waiting"),
        threads_max,
        Box::new(start),
        |executor, waiting| {
            let became = executor.execute(&waiting.record, waiting.way, waiting.now_ms);
            let answer = Answer {
                chunk: waiting.chunk,
                became: became.map(|became| vec![(waiting.place, became)]),
                handed: 0,
            };
            drop(waiting.answers.send(answer)); // a lane that is gone wants nothing
        },
    )
}

fn work(
    mut executor: Executor,
    shares: &Receiver<Job>,
    answers: &Sender<Answer>,
    crew: &Crew<Waiting>,
) {
    for Job {
        chunk,
        share,
        way,
        now_ms,
    } in shares
    {
        let mut became = Vec::with_capacity(share.len());
        let share = by_graph(share);
        let (mut failed, mut handed) = (None, Vec::new());
        for (place, record) in share {
            #[cfg(feature = "broken")]
            if way != Way::Condemned {
                crate::broken::before_record(&record);
            }
            match executor.execute(&record, way, now_ms) {
                Ok(outgoing) => became.push((place, outgoing)),
                Err(ProcessorError::Waits) => handed.push((place, record)),
                Err(trouble) => {
                    failed = Some(trouble);
                    break;
                }
            }
        }
        if failed.is_some() {
            handed.clear();
        }
        // told first: what the crew answers is counted down from it
        let answer = Answer {
            chunk,
            became: failed.map_or(Ok(became), Err),
            handed: handed.len(),
        };
        if answers.send(answer).is_err() {
            return;
        }
        for (place, record) in handed {
            let key = record.clone();
            let waiting = Waiting {
                chunk,
                place,
                record,
                way,
                now_ms,
                answers: answers.clone(),
            };
            if let Err(error) = crew.push(&key, waiting) {
                let answer = Answer {
                    chunk,
                    became: Err(ProcessorError::Thread(error)),
                    handed: 0,
                };
                if answers.send(answer).is_err() {
                    return;
                }
            }
        }
    }
}

/// Records of a graph one after the other: its code and its instances are at hand then. Those of a graph keep their order; between graphs
/// there is none, and what becomes of them is put back into the chunk's.
fn by_graph(mut share: Share) -> Share {
    let graph = |record: &Fetched| {
        if &*record.partition.topic != TRIGGERS {
            return 0;
        }
        let mut hash = DefaultHasher::new();
        let value = record.record.value.as_ref();
        value.and_then(Trigger::subject).hash(&mut hash);
        hash.finish()
    };
    let mut graphs: Vec<(u64, u32)> = share
        .iter()
        .enumerate()
        .map(|(at, (_, record))| (graph(record), u32::try_from(at).unwrap_or(u32::MAX)))
        .collect();
    if graphs.iter().all(|(graph, _)| *graph == graphs[0].0) {
        return share;
    }
    graphs.sort_unstable();
    let mut taken: Vec<Option<(usize, Fetched)>> = share.drain(..).map(Some).collect();
    let taken = graphs
        .iter()
        .filter_map(|(_, at)| taken.get_mut(*at as usize)?.take());
    taken.collect()
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

#[cfg(test)]
mod tests {
    use schemas::records::Trigger;
    use topics::catalog::TRIGGERS;
    use topics::{Fetched, Partition, Record};

    use super::by_graph;

    #[test]
    fn records_of_a_graph_come_together_and_keep_their_order() {
        let record = |place: usize, graph: &str| {
            let trigger = Trigger {
                tenant: "t".into(),
                graph: graph.into(),
                trigger: "hand".into(),
                trigger_id: place.to_string(),
                execution: schemas::ExecutionId([0; 16]),
                time_us: 1,
                origin: None,
                key: None,
                content_type: String::new(),
                headers: Vec::new(),
                data: schemas::records::Payload::default(),
            };
            let fetched = Fetched {
                partition: Partition {
                    topic: TRIGGERS.into(),
                    number: 0,
                },
                offset: 0,
                record: Record {
                    value: Some(trigger.encode()),
                    ..Record::default()
                },
            };
            (place, fetched)
        };
        let graphs = ["a", "b", "a", "c", "b", "a"];
        let share = graphs
            .iter()
            .enumerate()
            .map(|(place, graph)| record(place, graph));
        let places: Vec<usize> = by_graph(share.collect())
            .iter()
            .map(|(place, _)| *place)
            .collect();
        let mut groups: Vec<Vec<usize>> = vec![vec![0, 2, 5], vec![1, 4], vec![3]];
        let mut at = 0;
        while at < places.len() {
            let group = groups.iter().position(|group| group[0] == places[at]);
            let group = groups.remove(group.expect("a group begins with its first record"));
            assert_eq!(places[at..at + group.len()], group);
            at += group.len();
        }
        assert!(groups.is_empty());
        let same = (0..4).map(|place| record(place, "a")).collect();
        assert!(
            by_graph(same)
                .iter()
                .enumerate()
                .all(|(at, (place, _))| at == *place)
        );
    }
}
