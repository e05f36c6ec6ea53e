//! SQLite: how a group is written.
//!
//! One process has the file, so it can know the keys of the last moments in memory (`recent`).

use std::collections::HashMap;

use schemas::ExecutionId;

use super::recent::{self, Known, Recent};
use super::writer::counter;
use super::{Entry, Key, Put, Sharding, batch};
use crate::database::{Database, Query, Transaction, sql};
use crate::{Result, StoreError};

/// Keys held in memory while nobody emits.
const RECENT_MAX: usize = 32_768;

/// What a transaction has put, not committed yet.
#[derive(Default)]
struct Written<'e> {
    puts: Vec<Put>,
    /// Of each shard: the last number and what is new.
    fresh: Vec<(u32, i64, Vec<&'e Entry>)>,
}

/// The keys of the last moments.
#[derive(Default)]
pub(super) struct Memory {
    /// `None`: to be read from the batches first, at the start and after a commit that failed or seemed to.
    recent: Option<Recent>,
}

impl Memory {
    pub(super) async fn write(
        &mut self,
        database: &Database,
        sharding: Sharding,
        entries: &[Entry],
        marks: &[(u32, i64)],
    ) -> Result<Vec<Put>> {
        // Taken out: any way out of here but the last one leaves it to be read again.
        let recent = self.recent.take();
        let mut transaction = database.begin().await?;
        let mut recent = match recent {
            Some(recent) => recent,
            None => Recent::load(&mut transaction).await?,
        };
        let index = !marks.is_empty() || recent.len() + entries.len() > RECENT_MAX;
        // Deletes first: in a full store the keys take the space that the records leave.
        for (shard, up_to) in marks {
            transaction.execute(delete(*shard, *up_to)).await?;
        }
        if index {
            recent.index(&mut transaction).await?;
        }
        let written = put(&mut transaction, sharding, &recent, entries).await?;
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
    sharding: Sharding,
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
                let shard = sharding.shard_of(&entry.key);
                match written.fresh.iter_mut().find(|(of, ..)| *of == shard) {
                    Some((_, _, fresh)) => fresh.push(entry),
                    None => written.fresh.push((shard, 0, vec![entry])),
                }
                Put::New
            }
        };
        written.puts.push(put);
    }
    for (shard, last, fresh) in &mut written.fresh {
        let n = fresh.len() as i64;
        *last = transaction.count(&counter(*shard), n).await?;
        let insert = sql(
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
    let select = sql("select hash, execution, body_sha256 from inbox_keys
         where hash in (select substr($1, 1 + 16 * value, 16) from json_each($2))");
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
        transaction.all(select.bind(hashes).bind(indices)).await?;
    for row in rows {
        let (key, execution, body) = key_row(row)?;
        known.insert(key, Known::of_row(execution, body));
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

/// Frees the batches whose records are all up to this number.
pub(super) fn delete(shard: u32, up_to: i64) -> Query {
    sql("delete from inbox_batches where shard = $1 and first_number <= $2 and first_number + n <= $3")
        .bind(shard)
        .bind(up_to)
        .bind(up_to + 1)
}

/// Hash, execution and body's sha256 of a row of `inbox_keys`.
pub(super) fn key_row(
    (hash, execution, body): (Vec<u8>, Vec<u8>, Vec<u8>),
) -> Result<(Key, ExecutionId, [u8; 32])> {
    let row = (
        <[u8; 16]>::try_from(hash),
        <[u8; 16]>::try_from(execution),
        <[u8; 32]>::try_from(body),
    );
    match row {
        (Ok(hash), Ok(execution), Ok(body)) => Ok((Key(hash), ExecutionId(execution), body)),
        _ => Err(StoreError::Corrupt {
            place: "inbox".to_owned(),
            reason: "a key's row has the wrong size".to_owned(),
        }),
    }
}
