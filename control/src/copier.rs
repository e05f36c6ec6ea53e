//! A source that copies what the store has numbered to the log, each number once.
//!
//! Invariants: numbers are copied in their order; the shard's position is the last one copied, committed together with its
//! records. Of all processes that run this, one owns the shard (`topics::shards`); whoever opens it later fences the last
//! owner. After any error the shard is opened anew and its position read: no call whose outcome is in doubt is ever
//! repeated on a guess. Nothing is lost when a wake-up is: the owner also looks by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use topics::{Disposition, Log, LogError, Mine, Outgoing, Shards, shards};

/// Each kind has one shard, `KIND-0`.
const SHARD: u32 = 0;
/// How often the owner looks without having been told: other processes that share the store tell it nothing.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SHARED: Duration = Duration::from_millis(200);
/// How long it waits after a failure, and after another owner took over: two owners must not chase each other.
const RETRY: Duration = Duration::from_millis(200);
const FENCED: Duration = Duration::from_secs(5);

/// What is copied.
pub(crate) trait Job: Send + Sync + 'static {
    const KIND: &'static str;

    /// Where it goes on, from the shard's position.
    fn begin(&self, desk: &Desk, position: i64) -> Result<i64, Broken> {
        let _ = desk;
        Ok(position)
    }

    /// What comes after this number, and the last number of it; `None`: nothing yet.
    fn next(&self, desk: &Desk, after: i64) -> Result<Option<(Vec<Outgoing>, i64)>, Broken>;

    /// It has been committed.
    fn done(&self, desk: &Desk, position: i64) -> Result<(), Broken> {
        let _ = (desk, position);
        Ok(())
    }
}

/// The store, for the copier's thread.
pub(crate) struct Desk {
    store: Store,
    runtime: Handle,
}

impl Desk {
    pub(crate) fn ask<T>(
        &self,
        call: impl AsyncFnOnce(&Store) -> store::Result<T>,
    ) -> Result<T, Broken> {
        let answer = self.runtime.block_on(call(&self.store));
        answer.map_err(|error| Broken::failed(error.to_string()))
    }
}

/// Why the source has to be opened anew.
pub(crate) struct Broken {
    reason: String,
    wait: Duration,
}

impl Broken {
    pub(crate) fn failed(reason: String) -> Self {
        Self {
            reason,
            wait: RETRY,
        }
    }
}

impl From<LogError> for Broken {
    fn from(error: LogError) -> Self {
        let wait = match error.disposition() {
            Disposition::Retry => RETRY,
            // Rejected or invalid: only an operator can help, so there is no hurry.
            Disposition::Fenced | Disposition::Reject | Disposition::Invalid => FENCED,
        };
        Self {
            reason: error.to_string(),
            wait,
        }
    }
}

/// The running source. Dropping it stops its threads and waits for them.
pub(crate) struct Copier {
    /// Holds at most one wake-up: one is as good as many.
    wake: Arc<Notify>,
    mine: watch::Receiver<Option<BTreeSet<u32>>>,
    shards: Option<Shards>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The last number copied.
    position: i64,
    /// Why it cannot copy just now.
    failing: Option<String>,
}

impl Copier {
    /// Starts the threads. `runtime` runs the store's calls.
    pub(crate) fn start<J: Job>(
        job: J,
        log: Arc<dyn Log>,
        store: Store,
        runtime: Handle,
    ) -> std::io::Result<Self> {
        let wake = Arc::new(Notify::new());
        let state = Arc::new(Mutex::new(State {
            position: 0,
            failing: Some("not started yet".to_owned()),
        }));
        let (job, told) = (Arc::new(job), (log.clone(), wake.clone(), state.clone()));
        let work = move |_shard, mine| {
            let (log, woken, state) = told.clone();
            let copying = Copying {
                job: job.clone(),
                log,
                desk: Desk {
                    store: store.clone(),
                    runtime: runtime.clone(),
                },
                woken,
                mine,
                state,
            };
            copying.run();
        };
        let shards = Shards::start(log, J::KIND, SHARD + 1, Arc::new(work))?;
        Ok(Self {
            wake,
            mine: shards.mine(),
            shards: Some(shards),
            state,
        })
    }

    /// There may be something to copy.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The last number that this process copied.
    pub(crate) fn position(&self) -> i64 {
        lock(&self.state).position
    }

    /// An error says why nothing is copied just now. Where another process copies, all is well here.
    pub(crate) fn check(&self) -> Result<(), String> {
        let elsewhere = |mine: &BTreeSet<u32>| !mine.contains(&SHARD);
        if self.mine.borrow().as_ref().is_some_and(elsewhere) {
            return Ok(());
        }
        match &lock(&self.state).failing {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// Ends after what is being copied.
    pub(crate) fn stop(&mut self) {
        drop(self.shards.take());
    }
}

/// State that a panic elsewhere left behind is still the last one known.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Copying<J> {
    job: Arc<J>,
    log: Arc<dyn Log>,
    desk: Desk,
    woken: Arc<Notify>,
    mine: Mine,
    state: Arc<Mutex<State>>,
}

impl<J: Job> Copying<J> {
    fn run(mut self) {
        while !self.mine.is_over() {
            let Err(Broken { reason, wait }) = self.copy() else {
                continue;
            };
            tracing::warn!(
                reason,
                "source \"{}\" copies nothing; trying again",
                J::KIND
            );
            metrics::counter!("weir_source_reopened_total", "kind" => J::KIND).increment(1);
            lock(&self.state).failing = Some(reason);
            // not cut short by a wake-up: it is the failure that is waited for
            let mine = &mut self.mine;
            self.desk.runtime.block_on(async {
                tokio::select! {
                    () = mine.over() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            });
        }
    }

    /// Opens the shard and copies until it is over, or until something breaks.
    fn copy(&mut self) -> Result<(), Broken> {
        let name = shards::name(J::KIND, SHARD);
        let (mut source, position) = self.log.source(&name)?;
        let committed = match position {
            None => 0,
            Some(position) => number(&position).ok_or_else(|| {
                Broken::failed(format!("the position of source \"{name}\" is no number"))
            })?,
        };
        let mut position = self.job.begin(&self.desk, committed)?;
        let look = if self.desk.store.is_shared() {
            LOOK_SHARED
        } else {
            LOOK
        };
        while !self.mine.is_over() {
            let next = self.job.next(&self.desk, position)?;
            let idle = next.is_none();
            if let Some((records, last)) = next {
                let count = records.len() as u64;
                source.commit(records, Bytes::from(last.to_string()))?;
                position = last;
                metrics::counter!("weir_source_records_total", "kind" => J::KIND).increment(count);
                self.job.done(&self.desk, position)?;
            }
            *lock(&self.state) = State {
                position,
                failing: None,
            };
            if idle {
                let (mine, woken) = (&mut self.mine, &self.woken);
                self.desk.runtime.block_on(async {
                    tokio::select! {
                        () = mine.over() => {}
                        () = woken.notified() => {}
                        () = tokio::time::sleep(look) => {}
                    }
                });
            }
        }
        Ok(())
    }
}

fn number(position: &[u8]) -> Option<i64> {
    std::str::from_utf8(position).ok()?.parse().ok()
}
