//! The processor with the slots that its lanes' transactional ids are made of.
//!
//! The slots are held by a session of the store, and that may be lost: then another process may claim them, and its lanes
//! fence ours, and ours theirs. So the lanes are stopped, slots are claimed anew, and lanes are started by their names.
//! Nothing is lost by it: what the lanes had not committed is run again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use metrics::counter;
use parking_lot::Mutex;
use processor::{Definitions, Processor, ProcessorConfig};
use store::{Claimed, Store, StoreError};
use tokio::runtime::Handle;
use topics::Log;

use super::Board;

/// How often it is looked whether the slots are still held, and whether to stop.
const LOOK: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What lanes are made of, again and again.
pub(super) struct Making {
    pub(super) log: Arc<dyn Log>,
    pub(super) store: Store,
    pub(super) definitions: Arc<Definitions>,
    pub(super) config: ProcessorConfig,
    pub(super) runtime: Handle,
}

/// A processor that keeps its slots.
pub(super) struct Processing {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    /// Gives the slots back when it ends, for they are held until the lanes have stopped.
    keeper: Option<JoinHandle<Option<Claimed>>>,
}

enum State {
    Runs(Processor),
    /// Between two processors, and why.
    Claims(String),
    /// No processor can be started any more.
    Ended(String),
}

impl Processing {
    /// Starts the lanes on slots that have been claimed; `None`: their names are nobody else's.
    pub(super) fn start(making: Making, claimed: Option<Claimed>) -> anyhow::Result<Self> {
        let processor = making.processor(claimed.as_ref())?;
        let state = Arc::new(Mutex::new(State::Runs(processor)));
        let stop = Arc::new(AtomicBool::new(false));
        let keeper = claimed
            .map(|claimed| {
                let keeper = Keeper {
                    making,
                    state: state.clone(),
                    stop: stop.clone(),
                };
                std::thread::Builder::new()
                    .name("slots".into())
                    .spawn(move || keeper.run(claimed))
            })
            .transpose()
            .context("cannot start a thread")?;
        Ok(Self {
            state,
            stop,
            keeper,
        })
    }

    /// Notes how the lanes are; whether they are ready.
    pub(super) fn look(&self, board: &Board) -> bool {
        match &*self.state.lock() {
            State::Runs(processor) => {
                let joined = processor.joined();
                let waiting =
                    || "waiting for the group to give the lanes their partitions".to_owned();
                board.note("lanes", joined.then_some(()).ok_or_else(waiting));
                if !processor.healthy() {
                    let why = processor
                        .trouble()
                        .unwrap_or_else(|| "the log says why".to_owned());
                    board.ended(
                        "lanes",
                        &format!("a lane of the processor has ended: {why}"),
                    );
                }
                joined
            }
            State::Claims(why) => {
                board.note("lanes", Err(why.clone()));
                false
            }
            State::Ended(why) => {
                board.ended("lanes", why);
                false
            }
        }
    }

    /// Finishes what runs, then lets the slots go.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        let claimed = self.keeper.take().and_then(|keeper| {
            keeper.thread().unpark();
            keeper.join().unwrap_or_else(|_| {
                tracing::error!("the thread that keeps the slots panicked");
                None
            })
        });
        let last = std::mem::replace(&mut *self.state.lock(), State::Claims(String::new()));
        let stopped = match last {
            State::Runs(processor) => processor
                .stop()
                .context("the processor did not stop cleanly"),
            State::Claims(_) | State::Ended(_) => Ok(()),
        };
        drop(claimed);
        stopped
    }
}

impl Making {
    fn processor(&self, claimed: Option<&Claimed>) -> anyhow::Result<Processor> {
        let mut config = self.config.clone();
        if let Some(claimed) = claimed {
            config.slots = claimed.numbers().iter().map(u32::to_string).collect();
        }
        Ok(Processor::start(
            self.log.clone(),
            self.definitions.clone(),
            &config,
        )?)
    }
}

/// Claims as many slots as there are lanes.
pub(crate) fn claim(store: &Store, lanes: usize, runtime: &Handle) -> Result<Claimed, StoreError> {
    runtime.block_on(store.slots().claim("processor", lanes.max(1)))
}

struct Keeper {
    making: Making,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Keeper {
    fn run(self, mut claimed: Claimed) -> Option<Claimed> {
        loop {
            while !claimed.is_lost() {
                if self.stopped() {
                    return Some(claimed);
                }
                std::thread::park_timeout(LOOK);
            }
            drop(claimed);
            claimed = self.again()?;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn now(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.lock(), state)
    }

    /// Stops the lanes and starts others on other slots. `None`: told to stop, or nothing more can be done.
    fn again(&self) -> Option<Claimed> {
        counter!("weir_slots_lost_total").increment(1);
        tracing::warn!(
            "the session that held the lanes' slots was lost: the lanes stop until others are claimed"
        );
        let why = "the session that held the lanes' slots was lost: claiming anew".to_owned();
        match self.now(State::Claims(why)) {
            // a lane that has ended for a reason of its own is for somebody to look at
            State::Runs(processor) if !processor.healthy() => {
                self.now(State::Runs(processor));
                return None;
            }
            State::Runs(processor) => {
                if let Err(error) = processor.stop() {
                    tracing::warn!(
                        "the lanes did not stop cleanly, what they had is run again: {error}"
                    );
                }
            }
            State::Claims(_) | State::Ended(_) => {}
        }
        let mut backoff = BACKOFF_MIN;
        while !self.stopped() {
            match self.attempt() {
                Ok((claimed, processor)) => {
                    self.now(State::Runs(processor));
                    counter!("weir_slots_reclaimed_total").increment(1);
                    tracing::info!(slots = ?claimed.numbers(), "the lanes run again");
                    return Some(claimed);
                }
                Err(error) if super::passes(&error) => {
                    let why = format!("cannot claim slots for the lanes: {error:#}");
                    tracing::warn!("{why}; trying again");
                    self.now(State::Claims(why));
                }
                Err(error) => {
                    let why = format!("the lanes cannot be started again: {error:#}");
                    tracing::error!("{why}");
                    self.now(State::Ended(why));
                    return None;
                }
            }
            std::thread::park_timeout(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        None
    }

    fn attempt(&self) -> anyhow::Result<(Claimed, Processor)> {
        let Making { store, config, .. } = &self.making;
        let claimed = claim(store, config.lanes, &self.making.runtime)?;
        let processor = self.making.processor(Some(&claimed))?;
        Ok((claimed, processor))
    }
}
