//! The source of the inbox: emits what was put in, each row exactly once.
//!
//! The inbox's shards are spread over the processes that run this source (`topics::shards`). `emit` is what the owner of
//! one shard does.

mod emit;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use store::Store;
use tokio::runtime::Handle;
use tokio::sync::watch;
use topics::{Log, Shards};

use crate::{Clock, IngestConfig};
use emit::Emitter;

/// The shards are named `inbox-0`, `inbox-1`, …
pub const KIND: &str = "inbox";

/// This process's part in the source: a thread for each shard that it owns. Stop it with `stop`.
pub struct InboxSource {
    shards: Shards,
    opened: watch::Receiver<BTreeSet<u32>>,
}

impl InboxSource {
    /// Starts the threads; has to be called within a multi-threaded runtime.
    pub fn start(
        log: Arc<dyn Log>,
        store: &Store,
        clock: Clock,
        config: &IngestConfig,
    ) -> std::io::Result<Self> {
        let (opening, opened) = watch::channel(BTreeSet::new());
        let inbox = store.inbox().clone();
        let count = inbox.shards();
        let runtime = Handle::current();
        let key_ttl_ms = config.key_ttl_ms;
        let emitting = log.clone();
        let work = move |shard, mine| {
            let emitter = Emitter {
                log: emitting.clone(),
                inbox: inbox.clone(),
                shard,
                clock: clock.clone(),
                key_ttl_ms,
                mine,
                opening: opening.clone(),
                runtime: runtime.clone(),
                swept_ms: 0,
            };
            emitter.run();
        };
        Ok(Self {
            shards: Shards::start(log, KIND, count, Arc::new(work))?,
            opened,
        })
    }

    /// Waits until the shards that this process has are open. A process that waits for this before it takes requests is
    /// safe from a store that is younger than the log (see `Emitter::own`), if it is the only one. A store that several
    /// share and that was restored from a copy wants all of them stopped meanwhile.
    pub async fn opened(&self) {
        let (mut mine, mut opened) = (self.shards.mine(), self.opened.clone());
        loop {
            let all = mine
                .borrow_and_update()
                .as_ref()
                .is_some_and(|mine| mine.is_subset(&opened.borrow_and_update()));
            if all {
                return;
            }
            // An end of either is an end of the source.
            let changed = tokio::select! {
                changed = mine.changed() => changed,
                changed = opened.changed() => changed,
            };
            if changed.is_err() {
                tracing::debug!("the inbox's source ended before its shards were open");
                return;
            }
        }
    }

    /// Lets the threads finish the transactions they are in, and waits for their ends. What is not emitted stays in the
    /// inbox.
    pub async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(|| self.shards.stop()).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "the inbox's source died");
        }
    }
}

/// How long the owner of a shard waits after it was fenced: longer than a process that was frozen needs to learn that its
/// shards are another's, so that two owners do not chase each other.
const FENCED: Duration = Duration::from_secs(1);
