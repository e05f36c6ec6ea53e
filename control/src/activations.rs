//! The source that copies the changes of graphs from the store to `weir.graphs`, each once, in the order of their epochs
//! (`copier`).

use std::sync::Arc;

use schemas::activation::{Activation, ActivationKind, ActivationState};
use store::{Change, ChangeKind, GraphState, Store};
use tokio::runtime::Handle;
use topics::{Log, Outgoing, Record, catalog};

use crate::copier::{Broken, Copier, Desk, Job};

/// The one shard is `graphs-0`.
pub const KIND: &str = "graphs";
/// Changes of one transaction.
const CHANGES_MAX: u32 = 500;

/// The running source. Dropping it stops its threads and waits for them.
pub struct Activations(Copier);

impl Activations {
    /// Starts the threads. `runtime` runs the store's calls.
    pub fn start(log: Arc<dyn Log>, store: Store, runtime: Handle) -> std::io::Result<Self> {
        Copier::start(Changes, log, store, runtime).map(Self)
    }

    /// There may be something to copy.
    pub fn wake(&self) {
        self.0.wake();
    }

    /// The epoch of the last change that this process copied.
    pub fn epoch(&self) -> i64 {
        self.0.position()
    }

    /// An error says why changes are not copied just now. Where another process copies them, all is well here.
    pub fn check(&self) -> Result<(), String> {
        self.0.check()
    }

    /// Ends after what is being copied.
    pub fn stop(&mut self) {
        self.0.stop();
    }
}

struct Changes;

impl Job for Changes {
    const KIND: &'static str = KIND;

    fn next(&self, desk: &Desk, after: i64) -> Result<Option<(Vec<Outgoing>, i64)>, Broken> {
        let changes = desk.ask(async |store| store.changes_after(after, CHANGES_MAX).await)?;
        let last = changes.last().map(|change| change.epoch);
        Ok(last.map(|last| (changes.iter().map(outgoing).collect(), last)))
    }
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
