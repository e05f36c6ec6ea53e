//! The source that writes what redrives and purges ask for, each letter exactly once.
//!
//! Invariants: letters are written in the order of their numbers, each once; the shard's position is the number of the last
//! one written, committed together with the records. Of all processes that run this, one owns the shard (`topics::shards`);
//! whoever opens it later fences the last owner. After any error the shard is opened anew and its position read: no call
//! whose outcome is in doubt is ever repeated on a guess. What the store says of progress is housekeeping behind that.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use store::{LetterRow, Store};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use topics::{Disposition, Log, LogError, Mine, Outgoing, Shards, shards};

use super::record;

/// The one shard is `redrives-0`.
pub const KIND: &str = "redrives";
const SHARD: u32 = 0;
/// Letters of one transaction. Few: what is redriven shall not stand in the way of what comes in.
const LETTERS: u32 = 200;
const BYTES: u64 = 2 << 20;
/// How often the owner looks without having been told: other processes that share the store tell it nothing.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SHARED: Duration = Duration::from_millis(200);
/// How long it waits after a failure, and after another owner took over: two owners must not chase each other.
const RETRY: Duration = Duration::from_millis(200);
const FENCED: Duration = Duration::from_secs(5);

/// The running source. Dropping it stops its threads and waits for them.
pub struct Redrives {
    /// Holds at most one wake-up: one is as good as many.
    wake: Arc<Notify>,
    mine: watch::Receiver<Option<BTreeSet<u32>>>,
    shards: Option<Shards>,
    /// Why it cannot write just now.
    failing: Arc<Mutex<Option<String>>>,
}

impl Redrives {
    /// Starts the threads. `runtime` runs the store's calls.
    pub fn start(log: Arc<dyn Log>, store: Store, runtime: Handle) -> std::io::Result<Self> {
        let wake = Arc::new(Notify::new());
        let failing = Arc::new(Mutex::new(Some("not started yet".to_owned())));
        let writing = (log.clone(), wake.clone(), failing.clone());
        let work = move |_shard, mine| {
            let (log, woken, failing) = writing.clone();
            let writer = Writer {
                log,
                store: store.clone(),
                runtime: runtime.clone(),
                woken,
                mine,
                failing,
            };
            writer.run();
        };
        let shards = Shards::start(log, KIND, SHARD + 1, Arc::new(work))?;
        Ok(Self {
            wake,
            mine: shards.mine(),
            shards: Some(shards),
            failing,
        })
    }

    /// There may be something to write.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// An error says why nothing is written just now. Where another process writes, all is well here.
    pub fn check(&self) -> Result<(), String> {
        let elsewhere = |mine: &BTreeSet<u32>| !mine.contains(&SHARD);
        if self.mine.borrow().as_ref().is_some_and(elsewhere) {
            return Ok(());
        }
        match &*lock(&self.failing) {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// Ends after what is being written.
    pub fn stop(&mut self) {
        drop(self.shards.take());
    }
}

/// State that a panic elsewhere left behind is still the last one known.
fn lock(failing: &Mutex<Option<String>>) -> std::sync::MutexGuard<'_, Option<String>> {
    failing.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    log: Arc<dyn Log>,
    store: Store,
    runtime: Handle,
    woken: Arc<Notify>,
    mine: Mine,
    failing: Arc<Mutex<Option<String>>>,
}

/// Why it has to open the source anew.
struct Broken {
    reason: String,
    wait: Duration,
}

impl Writer {
    fn run(mut self) {
        while !self.mine.is_over() {
            let Err(Broken { reason, wait }) = self.write() else {
                continue;
            };
            tracing::warn!(reason, "redrives are not written; trying again");
            metrics::counter!("weir_redrives_reopened_total").increment(1);
            *lock(&self.failing) = Some(reason);
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

    /// Opens the shard and writes until it is over, or until something breaks.
    fn write(&mut self) -> Result<(), Broken> {
        let name = shards::name(KIND, SHARD);
        let (mut source, position) = self.log.source(&name)?;
        let committed = match position {
            None => 0,
            Some(position) => number_of(&position).ok_or_else(|| {
                Broken::failed(format!("the position of source \"{name}\" is no number"))
            })?,
        };
        // A store that is younger than the log must not give numbers out again that the position has passed.
        self.ask(|store, runtime| runtime.block_on(store.redrives_number_from(committed)))?;
        // A log that is younger than the store gets nothing again that an older one has had.
        let emitted =
            self.ask(|store, runtime| runtime.block_on(store.redrives_emitted_up_to()))?;
        let mut position = committed.max(emitted);
        // What the last owner has written, and did not come to say.
        self.say(position)?;
        let look = if self.store.is_shared() {
            LOOK_SHARED
        } else {
            LOOK
        };
        while !self.mine.is_over() {
            let rows = self.ask(|store, runtime| {
                runtime.block_on(store.redrive_letters_after(position, LETTERS, BYTES))
            })?;
            *lock(&self.failing) = None;
            if let Some(last) = rows.last().map(|row| row.number) {
                let count = rows.len() as u64;
                let records = outgoing(rows)?;
                source.commit(records, Bytes::from(last.to_string()))?;
                position = last;
                metrics::counter!("weir_redrive_letters_total").increment(count);
                self.say(position)?;
                continue;
            }
            let (mine, woken) = (&mut self.mine, &self.woken);
            self.runtime.block_on(async {
                tokio::select! {
                    () = mine.over() => {}
                    () = woken.notified() => {}
                    () = tokio::time::sleep(look) => {}
                }
            });
        }
        Ok(())
    }

    fn say(&self, position: i64) -> Result<(), Broken> {
        self.ask(|store, runtime| runtime.block_on(store.redrives_emitted(position)))
    }

    fn ask<T>(&self, call: impl FnOnce(&Store, &Handle) -> store::Result<T>) -> Result<T, Broken> {
        call(&self.store, &self.runtime).map_err(|error| Broken::failed(error.to_string()))
    }
}

fn outgoing(rows: Vec<LetterRow>) -> Result<Vec<Outgoing>, Broken> {
    let one = |row: LetterRow| {
        record::decode(&row.record).ok_or_else(|| {
            Broken::failed(format!(
                "the store's record of redriven letter {} is damaged, or of a newer Weir",
                row.number
            ))
        })
    };
    rows.into_iter().map(one).collect()
}

fn number_of(position: &[u8]) -> Option<i64> {
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
