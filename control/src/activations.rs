//! The source that copies the changes of graphs from the store to `weir.graphs`.
//!
//! Invariants: changes are copied in the order of their epochs, each once; the shard's position is the epoch of the last
//! one copied, committed together with the record. Of all processes that run this, one owns the shard (`topics::shards`);
//! whoever opens it later fences the last owner. Nothing is lost when a wake-up is: the owner also looks by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use schemas::activation::{Activation, ActivationKind, ActivationState};
use store::{Change, ChangeKind, GraphState, Store};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use topics::{Disposition, Log, LogError, Mine, Outgoing, Record, Shards, Source, catalog, shards};

/// The one shard is `graphs-0`.
pub const KIND: &str = "graphs";
const SHARD: u32 = 0;
/// Changes of one transaction.
const CHANGES_MAX: u32 = 500;
/// How often the owner looks without having been told: other processes that share the store tell it nothing.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SHARED: Duration = Duration::from_millis(200);
/// How long it waits after a failure, and after another owner took over: two owners must not chase each other.
const RETRY: Duration = Duration::from_millis(200);
const FENCED: Duration = Duration::from_secs(5);

/// The running source. Dropping it stops its threads and waits for them.
pub struct Activations {
    /// Holds at most one wake-up: one is as good as many.
    wake: Arc<Notify>,
    mine: watch::Receiver<Option<BTreeSet<u32>>>,
    shards: Option<Shards>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The epoch of the last change copied.
    epoch: i64,
    /// Why it cannot copy just now.
    failing: Option<String>,
}

impl Activations {
    /// Starts the threads. `runtime` runs the store's calls.
    pub fn start(log: Arc<dyn Log>, store: Store, runtime: Handle) -> std::io::Result<Self> {
        let wake = Arc::new(Notify::new());
        let state = Arc::new(Mutex::new(State {
            epoch: 0,
            failing: Some("not started yet".to_owned()),
        }));
        let copying = (log.clone(), wake.clone(), state.clone());
        let work = move |_shard, mine| {
            let (log, woken, state) = copying.clone();
            let copier = Copier {
                log,
                store: store.clone(),
                runtime: runtime.clone(),
                woken,
                mine,
                state,
            };
            copier.run();
        };
        let shards = Shards::start(log, KIND, SHARD + 1, Arc::new(work))?;
        Ok(Self {
            wake,
            mine: shards.mine(),
            shards: Some(shards),
            state,
        })
    }

    /// There may be something to copy.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The epoch of the last change that this process copied.
    pub fn epoch(&self) -> i64 {
        lock(&self.state).epoch
    }

    /// An error says why changes are not copied just now. Where another process copies them, all is well here.
    pub fn check(&self) -> Result<(), String> {
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
    pub fn stop(&mut self) {
        drop(self.shards.take());
    }
}

/// State that a panic elsewhere left behind is still the last one known.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Copier {
    log: Arc<dyn Log>,
    store: Store,
    runtime: Handle,
    woken: Arc<Notify>,
    mine: Mine,
    state: Arc<Mutex<State>>,
}

/// Why it has to open the source anew.
struct Broken {
    reason: String,
    wait: Duration,
}

impl Copier {
    fn run(mut self) {
        while !self.mine.is_over() {
            let Err(Broken { reason, wait }) = self.copy() else {
                continue;
            };
            tracing::warn!(reason, "activations are not copied; trying again");
            lock(&self.state).failing = Some(reason);
            // not cut short by a wake-up: it is the failure that is waited for
            let mine = &mut self.mine;
            self.runtime.block_on(async {
                tokio::select! {
                    () = mine.over() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            });
        }
    }

    /// Opens the shard and copies until it is over, or until something breaks.
    fn copy(&mut self) -> Result<(), Broken> {
        let name = shards::name(KIND, SHARD);
        let (mut source, position) = self.log.source(&name)?;
        let mut epoch = match position {
            None => 0,
            Some(position) => epoch_of(&position).ok_or_else(|| {
                Broken::failed(format!("the position of source \"{name}\" is no epoch"))
            })?,
        };
        let look = if self.store.is_shared() {
            LOOK_SHARED
        } else {
            LOOK
        };
        while !self.mine.is_over() {
            let changes = self
                .runtime
                .block_on(self.store.changes_after(epoch, CHANGES_MAX));
            let changes = changes.map_err(|error| Broken::failed(error.to_string()))?;
            if let Some(last) = changes.last() {
                epoch = last.epoch;
                commit(&mut *source, &changes)?;
            }
            *lock(&self.state) = State {
                epoch,
                failing: None,
            };
            if changes.is_empty() {
                let (mine, woken) = (&mut self.mine, &self.woken);
                self.runtime.block_on(async {
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

/// After an error it is not known whether the changes were committed: the source opened next says.
fn commit(source: &mut dyn Source, changes: &[Change]) -> Result<(), LogError> {
    let Some(last) = changes.last() else {
        return Ok(());
    };
    let records = changes.iter().map(outgoing).collect();
    source.commit(records, Bytes::from(last.epoch.to_string()))
}

fn outgoing(change: &Change) -> Outgoing {
    let kind = match change.kind {
        ChangeKind::Applied => ActivationKind::Applied,
        ChangeKind::RolledBack => ActivationKind::RolledBack,
        ChangeKind::Paused => ActivationKind::Paused,
        ChangeKind::Resumed => ActivationKind::Resumed,
        ChangeKind::Deleted => ActivationKind::Deleted,
        ChangeKind::Settled => ActivationKind::Settled,
    };
    let state = match change.state {
        GraphState::Active => ActivationState::Active,
        GraphState::Paused => ActivationState::Paused,
        GraphState::Resuming => ActivationState::Resuming,
        GraphState::Deleted => ActivationState::Deleted,
    };
    let activation = Activation {
        tenant: change.tenant.clone(),
        graph: change.graph.clone(),
        version: change.version.clone(),
        epoch: change.epoch,
        kind,
        state,
    };
    Outgoing {
        topic: catalog::GRAPHS.into(),
        partition: Some(0),
        record: Record {
            key: Some(activation.key()),
            value: Some(activation.encode()),
            headers: Vec::new(),
            timestamp_ms: change.at_ms,
        },
    }
}

fn epoch_of(position: &[u8]) -> Option<i64> {
    std::str::from_utf8(position).ok()?.parse().ok()
}

impl Broken {
    fn failed(reason: String) -> Self {
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
