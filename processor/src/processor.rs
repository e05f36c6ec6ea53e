//! The processor role: its lanes, what watches them, and the follower of `weir.graphs`, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use topics::Log;
use topics::catalog::PARKED;

use crate::ProcessorConfig;
use crate::clock::SystemClock;
use crate::definitions::Definitions;
use crate::error::ProcessorError;
use crate::execute::Notes;
use crate::follow::follow;
use crate::lane::{Lane, Surroundings};
use crate::settle::Settler;
use crate::topic_ids::TopicIds;
use crate::watch::Watch;
use crate::workers::Workers;

const LOOK: Duration = Duration::from_millis(500);
/// How soon it is seen that a topic was made anew.
const LOOK_IDS: Duration = Duration::from_secs(3);
/// How soon it is seen that all lanes of all processes have run what a graph's pause had parked.
const SETTLE: Duration = Duration::from_millis(500);

/// Running lanes. Dropping it stops them without waiting; `stop` waits.
pub struct Processor {
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Result<(), ProcessorError>>>,
    watches: Vec<Arc<Watch>>,
    others: Vec<JoinHandle<()>>,
    /// Why the first lane that ended by itself did.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Processor {
    /// Starts the lanes. The topics must exist. Returns once every lane has its producer; they join their group by
    /// themselves, see [`Self::joined`].
    pub fn start(
        log: Arc<dyn Log>,
        definitions: Arc<Definitions>,
        config: &ProcessorConfig,
    ) -> Result<Self, ProcessorError> {
        let config = &ProcessorConfig {
            parked_partitions: log.partitions(PARKED)?,
            ..config.clone()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut processor = Self {
            stop: stop.clone(),
            lanes: Vec::new(),
            watches: Vec::new(),
            others: Vec::new(),
            trouble: Arc::default(),
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.into());
            builder.spawn(run).map_err(ProcessorError::Thread)
        };
        let every = |wait: Duration, name: &str, look: Box<dyn Fn() + Send>| {
            let stop = stop.clone();
            let run = move || {
                while !stop.load(Ordering::Acquire) {
                    look();
                    std::thread::park_timeout(wait);
                }
            };
            spawn(name, Box::new(run))
        };
        let following = (log.clone(), definitions.clone(), stop.clone());
        let follower = spawn(
            "graphs-follower",
            Box::new(move || {
                let (log, definitions, stop) = following;
                follow(&*log, &|change| definitions.follow(change), &stop);
            }),
        )?;
        processor.others.push(follower);
        let settler = Settler {
            log: log.clone(),
            definitions: definitions.clone(),
        };
        let settle = every(SETTLE, "releases", Box::new(move || settler.look()))?;
        processor.others.push(settle);
        let ids = Arc::new(TopicIds::new(log.clone()));
        let looked = ids.clone();
        let looker = every(LOOK_IDS, "topic-ids", Box::new(move || looked.look()))?;
        processor.others.push(looker);
        let notes = Arc::new(Notes::default());
        let around = Surroundings {
            log,
            ids,
            streams: definitions.clone(),
            notes: notes.clone(),
            alone: Arc::new(AtomicBool::new(false)),
            stop: stop.clone(),
        };
        for (number, (slot, reads)) in config.lanes().into_iter().enumerate() {
            let work = Workers::start(number, &definitions, config, &notes)?;
            let lane = Lane::open(
                &slot,
                reads,
                around.clone(),
                config.clone(),
                Box::new(work),
                Box::new(SystemClock),
            )?;
            processor.watches.push(lane.watch());
            let trouble = processor.trouble.clone();
            let run = move || {
                let ended = lane.run();
                if let Err(error) = &ended {
                    trouble.lock().get_or_insert_with(|| error.to_string());
                }
                ended
            };
            let thread = std::thread::Builder::new()
                .name(format!("lane-{number}"))
                .spawn(run)
                .map_err(ProcessorError::Thread)?;
            processor.lanes.push(thread);
        }
        let watches = processor.watches.clone();
        let watch = move || watches.iter().for_each(|watch| watch.look());
        processor
            .others
            .push(every(LOOK, "lanes-watch", Box::new(watch))?);
        Ok(processor)
    }

    /// Whether every lane is still running; a lane ends by itself only for a reason that needs somebody to look.
    pub fn healthy(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_finished())
    }

    /// Why a lane has ended by itself, if one has told.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Whether every lane has heard from its group.
    pub fn joined(&self) -> bool {
        self.watches.iter().all(|watch| watch.joined())
    }

    /// Finishes what runs, commits it, and gives the first error that ended a lane.
    pub fn stop(mut self) -> Result<(), ProcessorError> {
        self.stop.store(true, Ordering::Release);
        let mut outcome = Ok(());
        for (number, lane) in self.lanes.drain(..).enumerate() {
            let ended = lane
                .join()
                .unwrap_or(Err(ProcessorError::Worker { lane: number }));
            outcome = outcome.and(ended);
        }
        for other in self.others.drain(..) {
            other.thread().unpark();
            if other.join().is_err() {
                tracing::error!("a thread beside the lanes panicked");
            }
        }
        outcome
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
