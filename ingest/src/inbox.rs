//! The source of the inbox: emits what was put in, each row exactly once.
//!
//! The position on the log, committed in one transaction with the records, is the oracle of what has been emitted. A
//! crash before that commit emits the rows again from the old position (nothing of them was visible); a crash after it,
//! before the rows are marked in the store, finds them behind the position and only marks them. After any error the
//! shard is opened anew and its position read: no call whose outcome is in doubt is ever repeated on a guess.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use store::{Inbox, Row, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use topics::{Log, LogError, Outgoing, Record, catalog};

use crate::{Clock, IngestConfig};

/// The only shard so far.
pub const SHARD: u32 = 0;

const BATCH_RECORDS: u32 = 4_096;
const BATCH_BYTES: u64 = 4 << 20;
/// Rows are marked when nothing has come for a while, or when so many wait to be: marking many at once is cheaper.
const MARK_ROWS: i64 = 8_192;
const QUIET: Duration = Duration::from_millis(100);
/// The store is asked at least so often, whoever forgot to say that something is there.
const IDLE: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const SWEEP_EVERY_MS: u64 = 600_000;

/// A running source: one thread, which owns the shard. Stop it with `stop`.
pub struct InboxSource {
    stop: watch::Sender<bool>,
    opened: watch::Receiver<bool>,
    thread: JoinHandle<()>,
}

impl InboxSource {
    /// Starts the thread; has to be called within a multi-threaded runtime.
    pub fn start(
        log: Arc<dyn Log>,
        store: &Store,
        clock: Clock,
        config: &IngestConfig,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (opening, opened) = watch::channel(false);
        let emitter = Emitter {
            log,
            inbox: store.inbox().clone(),
            clock,
            key_ttl_ms: config.key_ttl_ms,
            stopped,
            opening,
            runtime: Handle::current(),
            swept_ms: 0,
        };
        let thread = std::thread::Builder::new()
            .name(shard_name())
            .spawn(move || emitter.run())?;
        Ok(Self {
            stop,
            opened,
            thread,
        })
    }

    /// Waits until the shard is open. A process that waits for this before it takes requests is safe from a store that
    /// is younger than the log (see `Emitter::own`).
    pub async fn opened(&self) {
        if self
            .opened
            .clone()
            .wait_for(|opened| *opened)
            .await
            .is_err()
        {
            tracing::debug!("the inbox's source ended before its shard was open");
        }
    }

    /// Lets the thread finish the transaction it is in, and waits for its end. What is not emitted stays in the inbox.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the inbox's source died");
        }
    }
}

fn shard_name() -> String {
    format!("inbox-{SHARD}")
}

/// Why the shard has to be opened anew.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the inbox's position on the log is not one of ours; delete its record from \"{topic}\"", topic = catalog::POSITIONS)]
    Position,
}

struct Emitter {
    log: Arc<dyn Log>,
    inbox: Inbox,
    clock: Clock,
    key_ttl_ms: u64,
    stopped: watch::Receiver<bool>,
    opening: watch::Sender<bool>,
    runtime: Handle,
    swept_ms: u64,
}

impl Emitter {
    fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        while !*self.stopped.borrow() {
            let mut emitted = 0;
            if let Err(broken) = self.own(&mut emitted) {
                metrics::counter!("weir_inbox_reopened_total").increment(1);
                tracing::warn!(error = %broken, "the inbox's source starts over");
                backoff = if emitted > 0 {
                    BACKOFF_MIN
                } else {
                    (backoff * 2).min(BACKOFF_MAX)
                };
                self.wait_stopped(backoff);
            }
        }
    }

    /// Opens the shard and emits until told to stop, or until something breaks. `emitted` counts, also then.
    fn own(&mut self, emitted: &mut u64) -> Result<(), Broken> {
        let mut commits = self.inbox.commits();
        let (mut source, position) = self.log.source(&shard_name())?;
        let mut position = position
            .as_deref()
            .map_or(Some(0), decode)
            .ok_or(Broken::Position)?;
        // A store that is younger than the log (restored from a copy, or new) must not give numbers out again that the
        // position has passed: their rows would never be emitted.
        self.runtime
            .block_on(self.inbox.number_from(SHARD, position))?;
        self.opening.send_replace(true);
        let mut marked = 0;
        while !*self.stopped.borrow() {
            commits.mark_unchanged();
            let rows = self.runtime.block_on(self.inbox.after(
                SHARD,
                position,
                BATCH_RECORDS,
                BATCH_BYTES,
            ))?;
            let idle = rows.is_empty();
            if let Some(last) = rows.last().map(|row| row.number) {
                let triggers = rows.len() as u64;
                source.commit(rows.into_iter().map(outgoing).collect(), encode(last))?;
                position = last;
                *emitted += triggers;
                metrics::counter!("weir_inbox_emitted_total").increment(triggers);
            }
            let unmarked = position - marked;
            if unmarked >= MARK_ROWS || idle && unmarked > 0 && !self.wait(&mut commits, QUIET) {
                self.runtime.block_on(self.inbox.emitted(SHARD, position))?;
                marked = position;
            } else if idle && unmarked == 0 {
                self.sweep()?;
                self.wait(&mut commits, IDLE);
            }
        }
        self.runtime.block_on(self.inbox.emitted(SHARD, position))?;
        Ok(())
    }

    /// Forgets keys that are old enough, now and then.
    fn sweep(&mut self) -> Result<(), Broken> {
        let now_ms = self.clock.now_ms();
        if now_ms.saturating_sub(self.swept_ms) >= SWEEP_EVERY_MS {
            self.swept_ms = now_ms;
            let before_ms = now_ms.saturating_sub(self.key_ttl_ms) as i64;
            let swept = self.runtime.block_on(self.inbox.sweep(before_ms))?;
            tracing::debug!(swept, "old idempotency keys are forgotten");
        }
        Ok(())
    }

    /// Waits for something to emit; whether there may be something.
    fn wait(&mut self, commits: &mut watch::Receiver<u64>, at_most: Duration) -> bool {
        let stopped = &mut self.stopped;
        self.runtime.block_on(async {
            tokio::select! {
                // An end of either is seen by the loop.
                _ = commits.changed() => true,
                _ = stopped.changed() => true,
                () = tokio::time::sleep(at_most) => false,
            }
        })
    }

    fn wait_stopped(&mut self, at_most: Duration) {
        let stopped = &mut self.stopped;
        self.runtime.block_on(async {
            tokio::select! {
                _ = stopped.changed() => {}
                () = tokio::time::sleep(at_most) => {}
            }
        });
    }
}

fn outgoing(row: Row) -> Outgoing {
    let record = Record {
        key: row.record_key,
        value: Some(row.record),
        headers: Vec::new(),
        timestamp_ms: row.timestamp_ms,
    };
    Outgoing {
        topic: catalog::TRIGGERS.into(),
        partition: None,
        record,
    }
}

/// The position is the last number emitted, in decimal.
fn encode(number: i64) -> Bytes {
    Bytes::from(number.to_string())
}

fn decode(position: &[u8]) -> Option<i64> {
    std::str::from_utf8(position).ok()?.parse().ok()
}
