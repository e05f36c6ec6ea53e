//! The one task that writes the inbox: takes what waits, writes it in one transaction, answers.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::recent::{self, Known, Recent};
use super::{BATCH_RECORDS_MAX, Entry, Key, Put, batch};
use crate::database::{Database, Transaction};
use crate::{Result, StoreError};

/// A row of `inbox_batches` does not grow beyond this, but for a single record.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Keys held in memory while nobody emits.
const RECENT_MAX: usize = 32_768;

pub(super) enum Command {
    Put {
        entry: Entry,
        reply: oneshot::Sender<Result<Put>>,
    },
    Emitted {
        shard: u32,
        up_to: i64,
        reply: oneshot::Sender<Result<()>>,
    },
    Stop,
}

/// The counter row of a shard's numbers.
pub(super) fn counter(shard: u32) -> String {
    format!("inbox-{shard}")
}

/// Runs until it is told to stop, or nobody is left who could tell it anything.
pub(super) async fn run(
    database: Arc<Database>,
    mut waiting: mpsc::Receiver<Command>,
    committed: watch::Sender<u64>,
) {
    let mut writer = Writer {
        database,
        committed,
        recent: None,
    };
    let mut commands = Vec::with_capacity(BATCH_RECORDS_MAX);
    let mut stop = false;
    while !stop && waiting.recv_many(&mut commands, BATCH_RECORDS_MAX).await > 0 {
        let mut group = Group::default();
        for command in commands.drain(..) {
            match command {
                Command::Put { entry, reply } => {
                    let size = batch::size(&entry);
                    if !group.puts.is_empty() && group.bytes + size > BATCH_BYTES_MAX {
                        writer.commit(std::mem::take(&mut group)).await;
                    }
                    group.bytes += size;
                    group.puts.push((entry, reply));
                }
                Command::Emitted {
                    shard,
                    up_to,
                    reply,
                } => group.emitted.push((shard, up_to, reply)),
                Command::Stop => stop = true,
            }
        }
        writer.commit(group).await;
    }
}

/// What one transaction does.
#[derive(Default)]
struct Group {
    puts: Vec<(Entry, oneshot::Sender<Result<Put>>)>,
    emitted: Vec<(u32, i64, oneshot::Sender<Result<()>>)>,
    bytes: usize,
}

struct Writer {
    database: Arc<Database>,
    committed: watch::Sender<u64>,
    /// `None`: to be read from the batches first, at the start and after a commit that failed or seemed to.
    recent: Option<Recent>,
}

/// What a transaction has put, not committed yet.
#[derive(Default)]
struct Written<'e> {
    puts: Vec<Put>,
    /// Of each shard: the last number and what is new.
    fresh: Vec<(u32, i64, Vec<&'e Entry>)>,
}

impl Writer {
    async fn commit(&mut self, group: Group) {
        if group.puts.is_empty() && group.emitted.is_empty() {
            return;
        }
        let (entries, replies): (Vec<_>, Vec<_>) = group.puts.into_iter().unzip();
        let marks: Vec<(u32, i64)> = group
            .emitted
            .iter()
            .map(|(shard, up_to, _)| (*shard, *up_to))
            .collect();
        let outcome = self.write(&entries, &marks).await;
        if matches!(&outcome, Ok(puts) if puts.contains(&Put::New)) {
            self.committed.send_modify(|commits| *commits += 1);
        }
        // Who does not wait for the answer any more gets none.
        for (index, reply) in replies.into_iter().enumerate() {
            drop(
                reply.send(
                    outcome
                        .as_ref()
                        .map(|puts| puts[index])
                        .map_err(StoreError::clone),
                ),
            );
        }
        for (_, _, reply) in group.emitted {
            drop(reply.send(outcome.as_ref().map(|_| ()).map_err(StoreError::clone)));
        }
    }

    async fn write(&mut self, entries: &[Entry], marks: &[(u32, i64)]) -> Result<Vec<Put>> {
        // Taken out: any way out of here but the last one leaves it to be read again.
        let recent = self.recent.take();
        let mut transaction = self.database.begin().await?;
        let mut recent = match recent {
            Some(recent) => recent,
            None => Recent::load(&mut transaction).await?,
        };
        let index = !marks.is_empty() || recent.len() + entries.len() > RECENT_MAX;
        // Deletes first: in a full store the keys take the space that the records leave.
        for (shard, up_to) in marks {
            let delete = sqlx::query(
                "delete from inbox_batches where shard = $1 and first_number <= $2 and first_number + n <= $3",
            );
            transaction
                .execute(delete.bind(shard).bind(up_to).bind(up_to + 1))
                .await?;
        }
        if index {
            recent.index(&mut transaction).await?;
        }
        let written = put(&mut transaction, &recent, entries).await?;
        transaction.commit().await?;
        if index {
            recent.clear();
        }
        for (shard, last, entries) in written.fresh {
            recent.extend(shard, last, entries.into_iter());
        }
        self.recent = Some(recent);
        Ok(written.puts)
    }
}

async fn put<'e>(
    transaction: &mut Transaction<'_>,
    recent: &Recent,
    entries: &'e [Entry],
) -> Result<Written<'e>> {
    let mut known = known(transaction, recent, entries).await?;
    let mut written = Written {
        puts: Vec::with_capacity(entries.len()),
        fresh: Vec::new(),
    };
    for entry in entries {
        // An entry of this group counts as known to those behind it: they are answered when it is durable, too.
        let put = match known.get(&entry.key) {
            Some(known) if known.body_sha256 != entry.body_sha256 => Put::Conflict,
            Some(known) => Put::Duplicate {
                execution: known.execution,
            },
            None => {
                known.insert(entry.key, recent::known(entry));
                match written
                    .fresh
                    .iter_mut()
                    .find(|(shard, ..)| *shard == entry.shard)
                {
                    Some((_, _, fresh)) => fresh.push(entry),
                    None => written.fresh.push((entry.shard, 0, vec![entry])),
                }
                Put::New
            }
        };
        written.puts.push(put);
    }
    for (shard, last, fresh) in &mut written.fresh {
        let n = fresh.len() as i64;
        *last = transaction.count(&counter(*shard), n).await?;
        let insert = sqlx::query(
            "insert into inbox_batches (shard, first_number, n, keys, data) values ($1, $2, $3, $4, $5)",
        );
        let insert = insert.bind(*shard).bind(*last - n + 1).bind(n);
        let insert = insert
            .bind(recent::encode(fresh.iter().copied()))
            .bind(batch::encode(fresh.iter().copied()));
        transaction.execute(insert).await?;
    }
    Ok(written)
}

/// Which of the keys are in already.
async fn known(
    transaction: &mut Transaction<'_>,
    recent: &Recent,
    entries: &[Entry],
) -> Result<HashMap<Key, Known>> {
    let mut known = HashMap::with_capacity(entries.len());
    let mut hashes = Vec::with_capacity(16 * entries.len());
    for entry in entries {
        match recent.get(&entry.key) {
            Some(found) => drop(known.insert(entry.key, found)),
            None => hashes.extend_from_slice(&entry.key.0),
        }
    }
    if hashes.is_empty() {
        return Ok(known);
    }
    let indices = indices(hashes.len() / 16);
    // (Postgres: unnest of an array.)
    let select = sqlx::query_as(
        "select hash, execution, body_sha256 from inbox_keys
         where hash in (select substr($1, 1 + 16 * value, 16) from json_each($2))",
    );
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
        transaction.all(select.bind(hashes).bind(indices)).await?;
    for (hash, execution, body) in rows {
        let row = (
            <[u8; 16]>::try_from(hash),
            <[u8; 16]>::try_from(execution),
            <[u8; 32]>::try_from(body),
        );
        let (Ok(hash), Ok(execution), Ok(body)) = row else {
            return Err(StoreError::Corrupt {
                place: "inbox".to_owned(),
                reason: "a key's row has the wrong size".to_owned(),
            });
        };
        known.insert(Key(hash), Known::of_row(execution, body));
    }
    Ok(known)
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
