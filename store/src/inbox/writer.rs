//! The one task that writes the inbox: takes what waits, writes it in one transaction, answers.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::ExecutionId;
use tokio::sync::{mpsc, oneshot, watch};

use super::{BATCH_RECORDS_MAX, Entry, Key, Put, batch};
use crate::database::{Database, Transaction};
use crate::{Result, StoreError};

/// A row of `inbox_batches` does not grow beyond this, but for a single record.
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(super) enum Command {
    Put { entry: Entry, reply: oneshot::Sender<Result<Put>> },
    Emitted { shard: u32, up_to: i64, reply: oneshot::Sender<Result<()>> },
    Stop,
}

/// The counter row of a shard's numbers.
pub(super) fn counter(shard: u32) -> String {
    format!("inbox-{shard}")
}

/// Runs until it is told to stop, or nobody is left who could tell it anything.
pub(super) async fn run(database: Arc<Database>, mut waiting: mpsc::Receiver<Command>, committed: watch::Sender<u64>) {
    let mut commands = Vec::with_capacity(BATCH_RECORDS_MAX);
    let mut stop = false;
    while !stop && waiting.recv_many(&mut commands, BATCH_RECORDS_MAX).await > 0 {
        let mut group = Group::default();
        for command in commands.drain(..) {
            match command {
                Command::Put { entry, reply } => {
                    let size = batch::size(&entry);
                    if !group.puts.is_empty() && group.bytes + size > BATCH_BYTES_MAX {
                        std::mem::take(&mut group).commit(&database, &committed).await;
                    }
                    group.bytes += size;
                    group.puts.push((entry, reply));
                }
                Command::Emitted { shard, up_to, reply } => group.emitted.push((shard, up_to, reply)),
                Command::Stop => stop = true,
            }
        }
        group.commit(&database, &committed).await;
    }
}

/// What one transaction does.
#[derive(Default)]
struct Group {
    puts: Vec<(Entry, oneshot::Sender<Result<Put>>)>,
    emitted: Vec<(u32, i64, oneshot::Sender<Result<()>>)>,
    bytes: usize,
}

impl Group {
    async fn commit(self, database: &Database, committed: &watch::Sender<u64>) {
        if self.puts.is_empty() && self.emitted.is_empty() {
            return;
        }
        let (entries, replies): (Vec<_>, Vec<_>) = self.puts.into_iter().unzip();
        let marks: Vec<(u32, i64)> = self.emitted.iter().map(|(shard, up_to, _)| (*shard, *up_to)).collect();
        let outcome = write(database, &entries, &marks).await;
        if matches!(&outcome, Ok(puts) if puts.contains(&Put::New)) {
            committed.send_modify(|commits| *commits += 1);
        }
        // Who does not wait for the answer any more gets none.
        for (index, reply) in replies.into_iter().enumerate() {
            drop(reply.send(outcome.as_ref().map(|puts| puts[index]).map_err(StoreError::clone)));
        }
        for (_, _, reply) in self.emitted {
            drop(reply.send(outcome.as_ref().map(|_| ()).map_err(StoreError::clone)));
        }
    }
}

async fn write(database: &Database, entries: &[Entry], marks: &[(u32, i64)]) -> Result<Vec<Put>> {
    let mut transaction = database.begin().await?;
    let puts = if entries.is_empty() { Vec::new() } else { put(&mut transaction, entries).await? };
    for (shard, up_to) in marks {
        let delete = sqlx::query("delete from inbox_batches where shard = $1 and first_number <= $2 and first_number + n <= $3");
        transaction.execute(delete.bind(shard).bind(up_to).bind(up_to + 1)).await?;
    }
    transaction.commit().await?;
    Ok(puts)
}

async fn put(transaction: &mut Transaction<'_>, entries: &[Entry]) -> Result<Vec<Put>> {
    let mut known = known(transaction, entries).await?;
    let mut puts = Vec::with_capacity(entries.len());
    let mut fresh = Vec::with_capacity(entries.len());
    for entry in entries {
        // An entry of this group counts as known to those behind it: they are answered when it is durable, too.
        let put = match known.get(&entry.key) {
            Some((_, body)) if *body != entry.body_sha256 => Put::Conflict,
            Some((execution, _)) => Put::Duplicate { execution: *execution },
            None => {
                known.insert(entry.key, (entry.execution, entry.body_sha256));
                fresh.push(entry);
                Put::New
            }
        };
        puts.push(put);
    }
    if fresh.is_empty() {
        return Ok(puts);
    }

    remember(transaction, &fresh).await?;
    let mut shards: Vec<u32> = fresh.iter().map(|entry| entry.shard).collect();
    shards.sort_unstable();
    shards.dedup();
    for shard in shards {
        let of_shard = fresh.iter().copied().filter(|entry| entry.shard == shard);
        let n = of_shard.clone().count() as i64;
        let last = transaction.count(&counter(shard), n).await?;
        let insert = sqlx::query("insert into inbox_batches (shard, first_number, n, data) values ($1, $2, $3, $4)");
        let insert = insert.bind(shard).bind(last - n + 1).bind(n);
        transaction.execute(insert.bind(batch::encode(of_shard))).await?;
    }
    Ok(puts)
}

/// Which of the keys are in already, with their execution and body.
async fn known(transaction: &mut Transaction<'_>, entries: &[Entry]) -> Result<HashMap<Key, (ExecutionId, [u8; 32])>> {
    let hashes: Vec<u8> = entries.iter().flat_map(|entry| entry.key.0).collect();
    // One statement for any number of keys: they lie in one blob, 16 bytes each. (Postgres: unnest of an array.)
    let select = sqlx::query_as(
        "select hash, execution, body_sha256 from inbox_keys
         where hash in (select substr($1, 1 + 16 * value, 16) from json_each($2))",
    );
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = transaction.all(select.bind(hashes).bind(indices(entries.len()))).await?;
    let mut known = HashMap::with_capacity(entries.len());
    for (hash, execution, body) in rows {
        let row = (<[u8; 16]>::try_from(hash), <[u8; 16]>::try_from(execution), <[u8; 32]>::try_from(body));
        let (Ok(hash), Ok(execution), Ok(body)) = row else {
            return Err(StoreError::Corrupt { place: "inbox".to_owned(), reason: "a key's row has the wrong size".to_owned() });
        };
        known.insert(Key(hash), (ExecutionId(execution), body));
    }
    Ok(known)
}

async fn remember(transaction: &mut Transaction<'_>, fresh: &[&Entry]) -> Result<()> {
    let mut rows = Vec::with_capacity(64 * fresh.len());
    for entry in fresh {
        rows.extend_from_slice(&entry.key.0);
        rows.extend_from_slice(&entry.execution.0);
        rows.extend_from_slice(&entry.body_sha256);
    }
    // The group's latest time stands for all: keys are kept longer by it, never shorter.
    let at_ms = fresh.iter().map(|entry| entry.at_ms).max().unwrap_or(0);
    let insert = sqlx::query(
        "insert into inbox_keys (hash, execution, body_sha256, at_ms)
         select substr($1, 1 + 64 * value, 16), substr($1, 17 + 64 * value, 16), substr($1, 33 + 64 * value, 32), $3
         from json_each($2)",
    );
    transaction.execute(insert.bind(rows).bind(indices(fresh.len())).bind(at_ms)).await?;
    Ok(())
}

/// `[0,1,2,…]`
fn indices(n: usize) -> String {
    let mut json = String::with_capacity(2 + 4 * n);
    json.push('[');
    for i in 0..n {
        if i > 0 {
            json.push(',');
        }
        json.push_str(&i.to_string());
    }
    json.push(']');
    json
}
