//! Triggers that carry an idempotency key, from their acceptance until they are on the log.
//!
//! A trigger is put here with the hash of its key, and numbered by its shard's counter row in the same transaction: number
//! order is commit order, so a source that has emitted everything up to number N never misses a row that is committed
//! later. The key is remembered for at least 24 hours after the trigger itself has gone.
//!
//! A key belongs to one of the store's shards by its hash, so that the processes that put do not all queue for one row.
//! Puts that come at the same time share a transaction: one sync of the disk serves them all (`writer`). How it is written
//! is `file`'s in SQLite, whose one process remembers the last keys in memory (`recent`), and `server`'s in Postgres,
//! where the unique key decides between processes.
//!
//! It does not emit: `ingest` does, and keeps its position on the log, in the transaction that emits. `emitted` only
//! frees space, and may be late or never come.

mod batch;
mod file;
mod recent;
mod server;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use schemas::ExecutionId;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::database::{Database, Query, sql};
use crate::{Options, Result, StoreError};
use writer::{Command, Commits, Writer};

/// How many triggers one transaction takes at most, and so how many records one row of `inbox_batches` has at most.
pub const BATCH_RECORDS_MAX: usize = 512;
/// How many batches one call of `after` looks at.
const BATCHES_MAX: i64 = 512;
/// Triggers that wait for the writer; more than these wait at the door.
const WAITING_MAX: usize = 1024;
/// How many keys one call of `sweep` forgets at most.
pub const SWEEP_KEYS_MAX: u64 = 2_000;
/// Shards of a new store. SQLite has one writer anyway.
const SHARDS_SQLITE: u32 = 1;
const SHARDS_POSTGRES: u32 = 4;
/// The counter row that keeps how many there are.
const SHARDS: &str = "inbox-shards";

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

/// How many shards there are; a key belongs to one of them by its hash.
#[derive(Clone, Copy, Debug)]
struct Sharding(u32);

impl Sharding {
    fn shard_of(self, key: &Key) -> u32 {
        let [a, b, c, d, ..] = key.0;
        u32::from_be_bytes([a, b, c, d]) % self.0
    }

    /// As the store was made.
    async fn of(database: &Database, options: &Options) -> Result<Self> {
        let select = sql("select value from counters where name = $1").bind(SHARDS);
        let found: Option<(i64,)> = database.optional(select).await?;
        if let Some((shards,)) = found {
            let shards = u32::try_from(shards).ok().filter(|shards| *shards > 0);
            return shards
                .map(Self)
                .ok_or_else(|| database.corrupt("the number of inbox shards is no number"));
        }
        let (new, shared) = match database {
            // a store of before shards were counted has one
            Database::Sqlite(_) => (SHARDS_SQLITE, false),
            Database::Postgres(_) => (SHARDS_POSTGRES, true),
        };
        let shards = options.inbox_shards.unwrap_or(new).max(1);
        if shards == SHARDS_SQLITE && !shared {
            return Ok(Self(shards));
        }
        let insert = sql("insert into counters (name, value) values ($1, $2)
             on conflict (name) do update set value = counters.value returning value");
        let mut transaction = database.begin().await?;
        let kept: Option<(i64,)> = transaction
            .optional(insert.bind(SHARDS).bind(shards))
            .await?;
        transaction.commit().await?;
        Ok(Self(kept.map_or(shards, |(kept,)| kept as u32)))
    }
}

/// The inbox of a [`Store`](crate::Store).
#[derive(Clone)]
pub struct Inbox {
    database: Arc<Database>,
    sharding: Sharding,
    /// One, or one per shard.
    commands: Arc<[mpsc::Sender<Command>]>,
    commits: Commits,
    writers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Inbox {
    pub(crate) async fn start(database: Arc<Database>, options: &Options) -> Result<Self> {
        let sharding = Sharding::of(&database, options).await?;
        let commits: Commits = (0..sharding.0).map(|_| watch::Sender::new(0)).collect();
        let writers = match &*database {
            Database::Sqlite(_) => 1,
            Database::Postgres(_) => sharding.0,
        };
        let (commands, tasks) = (0..writers)
            .map(|_| {
                let (commands, waiting) = mpsc::channel(WAITING_MAX);
                let writer = Writer::new(database.clone(), sharding, commits.clone());
                (commands, tokio::spawn(writer.run(waiting)))
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Ok(Self {
            database,
            sharding,
            commands: commands.into(),
            commits,
            writers: Arc::new(Mutex::new(tasks)),
        })
    }

    /// How many shards it has; fixed when the store was made.
    pub fn shards(&self) -> u32 {
        self.sharding.0
    }

    /// The shard that the key belongs to.
    pub fn shard_of(&self, key: &Key) -> u32 {
        self.sharding.shard_of(key)
    }

    /// Whether other processes may put into it: `commits` does not tell of them, so their triggers have to be looked for.
    pub fn is_shared(&self) -> bool {
        matches!(&*self.database, Database::Postgres(_))
    }

    fn writer(&self, shard: u32) -> Result<&mpsc::Sender<Command>> {
        if shard >= self.sharding.0 {
            return Err(StoreError::invalid(format!(
                "the inbox has {} shards, but no shard {shard}",
                self.sharding.0
            )));
        }
        Ok(&self.commands[shard as usize % self.commands.len()])
    }

    /// Puts a trigger in, unless its key is in already. What it says is durable when it says it. A caller that goes
    /// away before that has put it in or not.
    pub async fn put(&self, entry: Entry) -> Result<Put> {
        let (reply, answer) = oneshot::channel();
        self.writer(self.shard_of(&entry.key))?
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
        let select = sql("select b.first_number, b.n, b.data
             from (select first_number,
                          sum(n) over (order by first_number) - n as records_before,
                          sum(bytes) over (order by first_number) - bytes as bytes_before
                   from (select first_number, n, length(data) as bytes from inbox_batches
                         where shard = $1 and first_number > $2 and first_number + n > $3
                         order by first_number limit $4) l) w
             join inbox_batches b on b.shard = $1 and b.first_number = w.first_number
             where w.records_before < $5 and w.bytes_before < $6
             order by b.first_number");
        let limit = i64::from(limit.max(1));
        let select = select
            .bind(shard)
            .bind(number - BATCH_RECORDS_MAX as i64)
            .bind(number + 1);
        let select = select
            .bind(limit.min(BATCHES_MAX))
            .bind(limit)
            .bind(bytes.clamp(1, i64::MAX as u64) as i64);
        let batches: Vec<(i64, i64, Vec<u8>)> = self.database.all(select).await?;
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
        self.writer(shard)?
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

    /// Forgets keys that are older than this, but none whose trigger still waits to be emitted; gives their number. One
    /// short transaction: call it again while it gives [`SWEEP_KEYS_MAX`]. Keep 24 hours at least.
    pub async fn sweep(&self, before_ms: i64) -> Result<u64> {
        // In SQLite the keys of what waits are not in the table.
        let delete = Query::each(
            "delete from inbox_keys
             where id in (select id from inbox_keys order by id limit $1) and at_ms < $2",
            "delete from inbox_keys
             where id in (select id from inbox_keys order by id limit $1)
               and at_ms < least($2, (select min(at_ms) from inbox_batches))",
        );
        let mut transaction = self.database.begin().await?;
        let swept = transaction
            .execute(delete.bind(SWEEP_KEYS_MAX as i64).bind(before_ms))
            .await?;
        transaction.commit().await?;
        Ok(swept)
    }

    /// Changes with every commit of this process that put something into the shard: what a source waits for. It has to
    /// read once before it waits.
    pub fn commits(&self, shard: u32) -> watch::Receiver<u64> {
        self.commits[shard as usize % self.commits.len()].subscribe()
    }

    /// Finishes what waits, then refuses the rest.
    pub(crate) async fn stop(&self) {
        for commands in &*self.commands {
            drop(commands.send(Command::Stop).await);
        }
        let writers = std::mem::take(&mut *self.writers.lock());
        for task in writers {
            if let Err(error) = task.await {
                tracing::error!(%error, "a writer of the inbox died");
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
