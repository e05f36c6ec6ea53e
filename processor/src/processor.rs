//! The processor role: its lanes and the follower of `weir.graphs`, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use topics::Log;

use crate::ProcessorConfig;
use crate::definitions::Definitions;
use crate::error::ProcessorError;
use crate::follow::follow;
use crate::lane::Lane;

/// Running lanes. Dropping it stops them without waiting; `stop` waits.
pub struct Processor {
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Result<(), ProcessorError>>>,
    follower: Option<JoinHandle<()>>,
}

impl Processor {
    /// Starts the lanes. The topics must exist. `now_ms`: milliseconds since 1970 UTC, for the timestamps of what is written.
    pub fn start(
        log: Arc<dyn Log>,
        definitions: Arc<Definitions>,
        config: &ProcessorConfig,
        now_ms: fn() -> i64,
    ) -> Result<Self, ProcessorError> {
        let stop = Arc::new(AtomicBool::new(false));
        let follower = {
            let (log, definitions, stop) = (log.clone(), definitions.clone(), stop.clone());
            std::thread::Builder::new()
                .name("graphs-follower".into())
                .spawn(move || follow(&*log, &|change| definitions.follow(change), &stop))
                .map_err(ProcessorError::Thread)?
        };
        let mut processor = Self {
            stop: stop.clone(),
            lanes: Vec::new(),
            follower: Some(follower),
        };
        for number in 0..config.lanes.max(1) {
            let lane = Lane::open(
                number,
                log.clone(),
                definitions.clone(),
                config.clone(),
                stop.clone(),
                now_ms,
            )?;
            let thread = std::thread::Builder::new()
                .name(format!("lane-{number}"))
                .spawn(move || lane.run())
                .map_err(ProcessorError::Thread)?;
            processor.lanes.push(thread);
        }
        Ok(processor)
    }

    /// Whether every lane is still running; a lane ends by itself only for a reason that needs somebody to look.
    pub fn healthy(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_finished())
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
        if let Some(follower) = self.follower.take()
            && follower.join().is_err()
        {
            tracing::error!("the follower of the graphs panicked");
        }
        outcome
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
