//! Postgres: how a group of one shard is written, while other processes write theirs.
//!
//! The unique key decides who is first: an insert of a key that another transaction has put and not committed waits for
//! its end. Keys are inserted in their order, so that two groups cannot wait for each other; the shard's counter row comes
//! last, and is held for one statement and the commit. Number order is commit order: who takes a number holds the row
//! until its commit, and whoever comes behind waits for that.
//!
//! After a commit whose outcome is unknown nobody is told that it is in; who tries again finds it, or puts it.

use std::collections::{BTreeMap, HashMap};

use super::writer::counter;
use super::{Entry, Key, Put, Sharding, batch, file};
use crate::database::{Database, Query, Transaction};
use crate::{Result, StoreError};

pub(super) async fn write(
    database: &Database,
    sharding: Sharding,
    entries: &[Entry],
    marks: &[(u32, i64)],
) -> Result<Vec<Put>> {
    let mut transaction = database.begin().await?;
    for (shard, up_to) in marks {
        transaction.execute(file::delete(*shard, *up_to)).await?;
    }
    let puts = if entries.is_empty() {
        Vec::new()
    } else {
        put(&mut transaction, sharding, entries).await?
    };
    transaction.commit().await?;
    Ok(puts)
}

async fn put(
    transaction: &mut Transaction<'_>,
    sharding: Sharding,
    entries: &[Entry],
) -> Result<Vec<Put>> {
    // the first of each key in this group, by key
    let mut firsts: BTreeMap<Key, &Entry> = BTreeMap::new();
    for entry in entries {
        firsts.entry(entry.key).or_insert(entry);
    }
    let mut known = insert_keys(transaction, &firsts).await?;
    let mut fresh = Vec::new();
    let mut puts = Vec::with_capacity(entries.len());
    for entry in entries {
        let put = match known.get(&entry.key) {
            Some((_, body)) if *body != entry.body_sha256 => Put::Conflict,
            Some((execution, _)) => Put::Duplicate {
                execution: *execution,
            },
            None => {
                // those behind it in this group are answered when it is durable, too
                known.insert(entry.key, (entry.execution, entry.body_sha256));
                fresh.push(entry);
                Put::New
            }
        };
        puts.push(put);
    }
    if let Some(first) = fresh.first() {
        // one writer per shard: all of the group are in one
        let shard = sharding.shard_of(&first.key);
        let oldest = fresh.iter().map(|entry| entry.at_ms).min();
        let insert = Query::each(
            "",
            "with taken as (
                 insert into counters (name, value) values ($1, $2)
                 on conflict (name) do update set value = counters.value + excluded.value returning value)
             insert into inbox_batches (shard, first_number, n, at_ms, data)
             select $3, value - $2 + 1, $2, $4, $5 from taken",
        );
        let insert = insert
            .bind(counter(shard))
            .bind(fresh.len() as i64)
            .bind(shard)
            .bind(oldest.unwrap_or_default())
            .bind(batch::encode(fresh.iter().copied()));
        transaction.execute(insert).await?;
    }
    Ok(puts)
}

/// What is remembered of a key: its execution, and its body's sha256.
type Known = (schemas::ExecutionId, [u8; 32]);

/// Inserts those that are new; gives the others.
async fn insert_keys(
    transaction: &mut Transaction<'_>,
    firsts: &BTreeMap<Key, &Entry>,
) -> Result<HashMap<Key, Known>> {
    let hashes = |keys: &mut dyn Iterator<Item = &Key>| -> Vec<Vec<u8>> {
        keys.map(|key| key.0.to_vec()).collect()
    };
    let insert = Query::each(
        "",
        "insert into inbox_keys (hash, execution, body_sha256, at_ms)
         select * from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[])
         on conflict (hash) do nothing returning hash",
    );
    let entries = || firsts.values();
    let insert = insert
        .bind(hashes(&mut firsts.keys()))
        .bind(
            entries()
                .map(|entry| entry.execution.0.to_vec())
                .collect::<Vec<_>>(),
        )
        .bind(
            entries()
                .map(|entry| entry.body_sha256.to_vec())
                .collect::<Vec<_>>(),
        )
        .bind(entries().map(|entry| entry.at_ms).collect::<Vec<_>>());
    let inserted: Vec<(Vec<u8>,)> = transaction.all(insert).await?;
    let mut known = HashMap::with_capacity(firsts.len());
    if inserted.len() == firsts.len() {
        return Ok(known);
    }
    let new: std::collections::HashSet<&[u8]> =
        inserted.iter().map(|(hash,)| hash.as_slice()).collect();
    let old: Vec<&Key> = firsts
        .keys()
        .filter(|key| !new.contains(key.0.as_slice()))
        .collect();
    let select = Query::each(
        "",
        "select hash, execution, body_sha256 from inbox_keys where hash = any($1)",
    );
    let select = select.bind(hashes(&mut old.iter().copied()));
    for row in transaction.all(select).await? {
        let (key, execution, body) = file::key_row(row)?;
        known.insert(key, (execution, body));
    }
    if known.len() < old.len() {
        return Err(StoreError::Unavailable {
            place: "inbox".to_owned(),
            reason: "a key was forgotten while it was looked up".to_owned(),
        });
    }
    Ok(known)
}
