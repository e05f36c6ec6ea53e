//! The source that copies the changes of graphs from the store to `weir.graphs`.
//!
//! Invariants: changes are copied in the order of their epochs, each once; the shard's position is the epoch of the last
//! one copied, committed together with the record. One thread owns the source; whoever opens the shard later fences it.
//! Nothing is lost when a wake-up is: the thread also looks by itself.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use schemas::activation::{Activation, ActivationKind};
use store::{Change, ChangeKind, Store};
use tokio::runtime::Handle;
use topics::{Disposition, Log, LogError, Outgoing, Record, Source, catalog};

/// The one shard.
pub const SHARD: &str = "graphs-0";
/// Changes of one transaction.
const CHANGES_MAX: u32 = 500;
/// How often it looks without having been told.
const LOOK: Duration = Duration::from_secs(1);
/// How long it waits after a failure, and after another owner took over: two owners must not chase each other.
const RETRY: Duration = Duration::from_millis(200);
const FENCED: Duration = Duration::from_secs(5);

/// The running source. Dropping it stops the thread and waits for it.
pub struct Activations {
    /// Holds at most one wake-up: one is as good as many. `None` once it is to stop.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
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
    /// Starts the thread. `runtime` runs the store's calls.
    pub fn start(log: Arc<dyn Log>, store: Store, runtime: Handle) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let state = Arc::new(Mutex::new(State {
            epoch: 0,
            failing: Some("not started yet".to_owned()),
        }));
        let copier = Copier {
            log,
            store,
            runtime,
            woken,
            state: state.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("weir-activations".to_owned())
            .spawn(move || copier.run())?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            state,
        })
    }

    /// There may be something to copy.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake {
            match wake.try_send(()) {
                Ok(()) => {}
                Err(TrySendError::Full(())) => {} // it will look anyway
                Err(TrySendError::Disconnected(())) => {
                    tracing::warn!("the thread that copies activations has ended")
                }
            }
        }
    }

    /// The epoch of the last change copied.
    pub fn epoch(&self) -> i64 {
        lock(&self.state).epoch
    }

    /// An error says why changes are not copied just now.
    pub fn check(&self) -> Result<(), String> {
        match &lock(&self.state).failing {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// Ends after what is being copied.
    pub fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that copies activations panicked");
        }
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        self.stop();
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
    woken: Receiver<()>,
    state: Arc<Mutex<State>>,
}

/// Why it has to open the source anew.
enum Broken {
    Stopped,
    Failed { reason: String, wait: Duration },
}

impl Copier {
    fn run(self) {
        loop {
            let broken = match self.copy() {
                Ok(never) => match never {},
                Err(broken) => broken,
            };
            let Broken::Failed { reason, wait } = broken else {
                return;
            };
            tracing::warn!(reason, "activations are not copied; trying again");
            lock(&self.state).failing = Some(reason);
            if self.stopped_within(wait) {
                return;
            }
        }
    }

    /// Opens the shard and copies until something breaks.
    fn copy(&self) -> Result<std::convert::Infallible, Broken> {
        let (mut source, position) = self.log.source(SHARD)?;
        let mut epoch = match position {
            None => 0,
            Some(position) => epoch_of(&position).ok_or_else(|| {
                Broken::failed(format!("the position of source \"{SHARD}\" is no epoch"))
            })?,
        };
        loop {
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
            if changes.is_empty() && self.stopped_after_waiting() {
                return Err(Broken::Stopped);
            }
        }
    }

    fn stopped_after_waiting(&self) -> bool {
        matches!(
            self.woken.recv_timeout(LOOK),
            Err(RecvTimeoutError::Disconnected)
        )
    }

    /// As above, not cut short by a wake-up: it is the failure that is waited for.
    fn stopped_within(&self, wait: Duration) -> bool {
        let until = std::time::Instant::now() + wait;
        loop {
            match self
                .woken
                .recv_timeout(until.saturating_duration_since(std::time::Instant::now()))
            {
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
                Ok(()) => {}
            }
        }
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
    };
    let activation = Activation {
        tenant: change.tenant.clone(),
        graph: change.graph.clone(),
        version: change.version.clone(),
        epoch: change.epoch,
        kind,
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
        Self::Failed {
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
        Self::Failed {
            reason: error.to_string(),
            wait,
        }
    }
}
