//! Triggers that carry an idempotency key, from their acceptance until they are on the log.
//!
//! A trigger is put here with the hash of its key, and numbered by its shard's counter row in the same transaction: number
//! order is commit order, so a source that has emitted everything up to number N never misses a row that is committed
//! later. The key is remembered for at least 24 hours after the trigger itself has gone.
//!
//! Puts that come at the same time share a transaction: one sync of the disk serves them all (`writer`). Keys go into
//! their table in large parts (`recent`).
//!
//! It does not emit: `ingest` does, and keeps its position on the log, in the transaction that emits. `emitted` only
//! frees space, and may be late or never come.

mod batch;
mod recent;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use schemas::ExecutionId;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::database::Database;
use crate::{Result, StoreError};
use writer::Command;

/// How many triggers one transaction takes at most, and so how many records one row of `inbox_batches` has at most.
pub const BATCH_RECORDS_MAX: usize = 512;
/// How many batches one call of `after` looks at.
const BATCHES_MAX: i64 = 512;
/// Triggers that wait for the writer; more than these wait at the door.
const WAITING_MAX: usize = 1024;
/// How many rows one call of `sweep` deletes in one transaction.
const SWEEP_ROWS: i64 = 2_000;

/// An idempotency key's hash: 128 bits of sha256 over the key and all that it belongs to. Whoever finds two keys with
/// one hash has but shadowed their own trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of one trigger of one graph.
    pub fn new(tenant: &str, graph: &str, trigger: &str, key: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [tenant, graph, trigger, key] {
            // Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }
}

/// A trigger to put.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which source emits it.
    pub shard: u32,
    pub key: Key,
    /// Of the request's body: the same key with another body is a conflict.
    pub body_sha256: [u8; 32],
    pub execution: ExecutionId,
    /// Milliseconds since 1970 UTC; the record's time on the log, and what the key's age is counted from.
    pub at_ms: i64,
    /// The record's key on the log.
    pub record_key: Option<Bytes>,
    /// The record's value on the log.
    pub record: Bytes,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in, durably.
    New,
    /// It was in before, durably, as this execution.
    Duplicate { execution: ExecutionId },
    /// The key was used before, for another body.
    Conflict,
}

/// A trigger as its source reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub number: i64,
    pub timestamp_ms: i64,
    pub record_key: Option<Bytes>,
    pub record: Bytes,
}

/// The inbox of a [`Store`](crate::Store).
#[derive(Clone)]
pub struct Inbox {
    database: Arc<Database>,
    commands: mpsc::Sender<Command>,
    commits: watch::Receiver<u64>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Inbox {
    pub(crate) fn start(database: Arc<Database>) -> Self {
        let (commands, waiting) = mpsc::channel(WAITING_MAX);
        let (committed, commits) = watch::channel(0);
        let task = tokio::spawn(writer::run(database.clone(), waiting, committed));
        Self {
            database,
            commands,
            commits,
            writer: Arc::new(Mutex::new(Some(task))),
        }
    }

    /// Puts a trigger in, unless its key is in already. What it says is durable when it says it. A caller that goes
    /// away before that has put it in or not.
    pub async fn put(&self, entry: Entry) -> Result<Put> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Put { entry, reply })
            .await
            .map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// The triggers after this number, in the order of their numbers: about `limit` of them, at least one batch (if
    /// there is one). Cut at the borders of batches, and at about `bytes`.
    pub async fn after(&self, shard: u32, number: i64, limit: u32, bytes: u64) -> Result<Vec<Row>> {
        // A batch that holds `number` begins at most BATCH_RECORDS_MAX before it: that bound makes it a range of the
        // index. The lengths are taken innermost, or the sums would carry the data itself along.
        let select = sqlx::query_as(
            "select b.first_number, b.n, b.data
             from (select first_number,
                          sum(n) over (order by first_number) - n as records_before,
                          sum(bytes) over (order by first_number) - bytes as bytes_before
                   from (select first_number, n, length(data) as bytes from inbox_batches
                         where shard = $1 and first_number > $2 and first_number + n > $3
                         order by first_number limit $4) l) w
             join inbox_batches b on b.shard = $1 and b.first_number = w.first_number
             where w.records_before < $5 and w.bytes_before < $6
             order by b.first_number",
        );
        let limit = i64::from(limit.max(1));
        let select = select
            .bind(shard)
            .bind(number - BATCH_RECORDS_MAX as i64)
            .bind(number + 1);
        let select = select
            .bind(limit.min(BATCHES_MAX))
            .bind(limit)
            .bind(bytes.clamp(1, i64::MAX as u64) as i64);
        let batches: Vec<(i64, i64, Vec<u8>)> = self.database.read_all(select).await?;
        let mut rows = Vec::new();
        for (first_number, n, data) in batches {
            let records =
                batch::decode(&Bytes::from(data)).filter(|records| records.len() as i64 == n);
            let Some(records) = records else {
                return Err(self.database.corrupt(&format!(
                    "batch {first_number} of inbox shard {shard} is no batch"
                )));
            };
            let numbered = records
                .into_iter()
                .zip(first_number..)
                .map(|(record, number)| Row { number, ..record });
            rows.extend(numbered.skip_while(|row| row.number <= number));
        }
        Ok(rows)
    }

    /// Frees the space of the triggers up to this number: they are on the log. Also puts the keys of late into their
    /// table: best called for some thousands of triggers at once.
    pub async fn emitted(&self, shard: u32, up_to: i64) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Emitted {
                shard,
                up_to,
                reply,
            })
            .await
            .map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// The shard's next trigger gets a number greater than this one.
    pub async fn number_from(&self, shard: u32, number: i64) -> Result<()> {
        let mut transaction = self.database.begin().await?;
        let last = transaction.count(&writer::counter(shard), 0).await?;
        if last < number {
            transaction
                .count(&writer::counter(shard), number - last)
                .await?;
        }
        transaction.commit().await
    }

    /// Forgets keys that are older than this; gives their number. Keep 24 hours at least.
    pub async fn sweep(&self, before_ms: i64) -> Result<u64> {
        let mut swept = 0;
        loop {
            let mut transaction = self.database.begin().await?;
            let delete = sqlx::query(
                "delete from inbox_keys
                 where id in (select id from inbox_keys order by id limit $1) and at_ms < $2",
            );
            let deleted = transaction
                .execute(delete.bind(SWEEP_ROWS).bind(before_ms))
                .await?;
            transaction.commit().await?;
            swept += deleted;
            if (deleted as i64) < SWEEP_ROWS {
                return Ok(swept);
            }
        }
    }

    /// Changes with every commit that put something in: what a source waits for. It has to read once before it waits.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Finishes what waits, then refuses the rest.
    pub(crate) async fn stop(&self) {
        if self.commands.send(Command::Stop).await.is_ok() {
            let task = self.writer.lock().take();
            if let Some(task) = task
                && let Err(error) = task.await
            {
                tracing::error!(%error, "the inbox's writer died");
            }
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable {
        place: "inbox".to_owned(),
        reason: "it is closed".to_owned(),
    }
}
