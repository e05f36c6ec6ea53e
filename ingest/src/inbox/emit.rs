//! One shard of the inbox, while it is this process's.
//!
//! The position on the log, committed in one transaction with the records, is the oracle of what has been emitted. A
//! crash before that commit emits the rows again from the old position (nothing of them was visible); a crash after it,
//! before the rows are marked in the store, finds them behind the position and only marks them. After any error the
//! shard is opened anew and its position read: no call whose outcome is in doubt is ever repeated on a guess.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Inbox, Row, SWEEP_KEYS_MAX, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use topics::{Log, LogError, Mine, Outgoing, Record, catalog, shards};

use super::{FENCED, KIND};
use crate::Clock;

const BATCH_RECORDS: u32 = 4_096;
const BATCH_BYTES: u64 = 4 << 20;
/// Rows are marked when nothing has come for a while, or when so many wait to be: marking many at once is cheaper.
const MARK_ROWS: i64 = 8_192;
const QUIET: Duration = Duration::from_millis(100);
/// The store is asked at least so often, whoever forgot to say that something is there.
const IDLE: Duration = Duration::from_secs(1);
/// The same for a store that other processes put into, which say nothing: soon after the last trigger, and later.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(100);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const SWEEP_EVERY_MS: u64 = 600_000;

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

pub(super) struct Emitter {
    pub(super) log: Arc<dyn Log>,
    pub(super) inbox: Inbox,
    pub(super) shard: u32,
    pub(super) clock: Clock,
    pub(super) key_ttl_ms: u64,
    pub(super) mine: Mine,
    /// The shards that are open.
    pub(super) opening: watch::Sender<BTreeSet<u32>>,
    pub(super) runtime: Handle,
    pub(super) swept_ms: u64,
}

impl Emitter {
    /// Emits while the shard is this process's.
    pub(super) fn run(mut self) {
        let (mut backoff, mut fenced) = (BACKOFF_MIN, FENCED);
        while !self.mine.is_over() {
            let mut emitted = 0;
            let Err(broken) = self.own(&mut emitted) else {
                continue;
            };
            metrics::counter!("weir_inbox_reopened_total").increment(1);
            tracing::warn!(shard = self.shard, error = %broken, "the inbox's source starts over");
            if emitted > 0 {
                (backoff, fenced) = (BACKOFF_MIN, FENCED);
            }
            if matches!(broken, Broken::Log(LogError::Fenced { .. })) {
                self.wait_over(fenced);
                fenced = (fenced * 2).min(BACKOFF_MAX);
            } else {
                self.wait_over(backoff);
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
        self.opening.send_modify(|opened| {
            opened.remove(&self.shard);
        });
    }

    /// Opens the shard and emits until it is over, or until something breaks. `emitted` counts, also then.
    fn own(&mut self, emitted: &mut u64) -> Result<(), Broken> {
        let mut commits = self.inbox.commits(self.shard);
        let (mut source, position) = self.log.source(&shards::name(KIND, self.shard))?;
        let mut position = position
            .as_deref()
            .map_or(Some(0), decode)
            .ok_or(Broken::Position)?;
        // A store that is younger than the log (restored from a copy, or new) must not give numbers out again that the
        // position has passed: their rows would never be emitted.
        self.runtime
            .block_on(self.inbox.number_from(self.shard, position))?;
        self.opening.send_modify(|opened| {
            opened.insert(self.shard);
        });
        let mut marked = 0;
        let mut idle_for = LOOK_MIN;
        while !self.mine.is_over() {
            commits.mark_unchanged();
            let rows = self.runtime.block_on(self.inbox.after(
                self.shard,
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
            idle_for = if idle {
                (idle_for * 2).min(LOOK_MAX)
            } else {
                LOOK_MIN
            };
            let unmarked = position - marked;
            if unmarked >= MARK_ROWS || idle && unmarked > 0 && !self.wait(&mut commits, QUIET) {
                self.runtime
                    .block_on(self.inbox.emitted(self.shard, position))?;
                marked = position;
                self.sweep()?;
            } else if idle && unmarked == 0 {
                self.sweep()?;
                let at_most = if self.inbox.is_shared() {
                    idle_for
                } else {
                    IDLE
                };
                self.wait(&mut commits, at_most);
            }
        }
        self.runtime
            .block_on(self.inbox.emitted(self.shard, position))?;
        Ok(())
    }

    /// Forgets keys that are old enough, now and then, a few at a time. One shard's owner does it for all.
    fn sweep(&mut self) -> Result<(), Broken> {
        let now_ms = self.clock.now_ms();
        if self.shard == 0 && now_ms.saturating_sub(self.swept_ms) >= SWEEP_EVERY_MS {
            let before_ms = now_ms.saturating_sub(self.key_ttl_ms) as i64;
            let swept = self.runtime.block_on(self.inbox.sweep(before_ms))?;
            if swept < SWEEP_KEYS_MAX {
                self.swept_ms = now_ms;
            }
            tracing::debug!(swept, "old idempotency keys are forgotten");
        }
        Ok(())
    }

    /// Waits for something to emit; whether there may be something.
    fn wait(&mut self, commits: &mut watch::Receiver<u64>, at_most: Duration) -> bool {
        let mine = &mut self.mine;
        self.runtime.block_on(async {
            tokio::select! {
                // An end of either is seen by the loop.
                _ = commits.changed() => true,
                () = mine.over() => true,
                () = tokio::time::sleep(at_most) => false,
            }
        })
    }

    fn wait_over(&mut self, at_most: Duration) {
        let mine = &mut self.mine;
        self.runtime.block_on(async {
            tokio::select! {
                () = mine.over() => {}
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
