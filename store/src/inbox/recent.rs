//! SQLite: the keys that are durable in their batches, but not in the table `inbox_keys` yet.
//!
//! Hashes fall anywhere in that table's index: to insert each with its own group would rewrite a page per key (measured:
//! 30 µs of it). So a group writes its keys as one blob beside its records; this memory knows them until thousands go
//! into the table at once, sorted, a page taking many.
//!
//! Invariant: a key of a committed batch is in the table, or its batch's number is above the shard's `indexed` counter and
//! it is here. After a commit whose outcome is unknown this memory is dropped and read again from the batches.

use std::collections::{BTreeMap, HashMap};

use schemas::ExecutionId;

use super::{Entry, Key};
use crate::database::{Transaction, sql};
use crate::{Result, StoreError};

/// The bytes of one key in `inbox_batches.keys`: hash, execution, body's sha256, time (little endian).
const KEY_BYTES: usize = 72;

/// What is remembered of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) execution: ExecutionId,
    pub(super) body_sha256: [u8; 32],
    at_ms: i64,
}

#[derive(Default)]
pub(super) struct Recent {
    keys: HashMap<Key, Known>,
    /// The last number of each shard among them.
    last: BTreeMap<u32, i64>,
}

impl Recent {
    /// What a process that ended before left.
    pub(super) async fn load(transaction: &mut Transaction<'_>) -> Result<Self> {
        let select = sql("select b.shard, b.first_number + b.n - 1, b.keys
             from inbox_batches b left join counters c on c.name = 'inbox-indexed-' || b.shard
             where b.first_number > coalesce(c.value, 0)");
        let rows: Vec<(i64, i64, Vec<u8>)> = transaction.all(select).await?;
        let mut recent = Self::default();
        for (shard, last, keys) in rows {
            let (keys, []) = keys.as_chunks::<KEY_BYTES>() else {
                let reason = format!("the keys up to number {last} of shard {shard} are cut");
                return Err(StoreError::Corrupt {
                    place: "inbox".to_owned(),
                    reason,
                });
            };
            recent.keys.extend(keys.iter().map(decode));
            let of_shard = recent.last.entry(shard as u32).or_default();
            *of_shard = last.max(*of_shard);
        }
        Ok(recent)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Known> {
        self.keys.get(key).copied()
    }

    /// To be called when the batch is committed.
    pub(super) fn extend<'e>(
        &mut self,
        shard: u32,
        last: i64,
        entries: impl Iterator<Item = &'e Entry>,
    ) {
        self.keys
            .extend(entries.map(|entry| (entry.key, known(entry))));
        self.last.insert(shard, last);
    }

    /// Writes all of them into the table; to be forgotten (`clear`) when that is committed.
    pub(super) async fn index(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<(&Key, &Known)> = self.keys.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| key.0);
        let mut rows = Vec::with_capacity(64 * sorted.len());
        let mut times = String::with_capacity(16 * sorted.len());
        times.push('[');
        for (key, known) in sorted {
            rows.extend_from_slice(&key.0);
            rows.extend_from_slice(&known.execution.0);
            rows.extend_from_slice(&known.body_sha256);
            if times.len() > 1 {
                times.push(',');
            }
            times.push_str(&known.at_ms.to_string());
        }
        times.push(']');
        // One statement for any number of keys: they lie in one blob, 64 bytes each, beside an array of their times.
        let insert = sql(
            "insert into inbox_keys (hash, execution, body_sha256, at_ms)
             select substr($1, 1 + 64 * key, 16), substr($1, 17 + 64 * key, 16), substr($1, 33 + 64 * key, 32), value
             from json_each($2)",
        );
        transaction.execute(insert.bind(rows).bind(times)).await?;
        for (shard, last) in &self.last {
            let update = sql(
                "insert into counters (name, value) values ('inbox-indexed-' || $1, $2)
                 on conflict (name) do update set value = excluded.value",
            );
            transaction.execute(update.bind(*shard).bind(*last)).await?;
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.last.clear();
    }
}

/// The entries' keys as a batch holds them.
pub(super) fn encode<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<u8> {
    let mut keys = Vec::with_capacity(KEY_BYTES * entries.size_hint().0.max(1));
    for entry in entries {
        keys.extend_from_slice(&entry.key.0);
        keys.extend_from_slice(&entry.execution.0);
        keys.extend_from_slice(&entry.body_sha256);
        keys.extend_from_slice(&entry.at_ms.to_le_bytes());
    }
    keys
}

pub(super) fn known(entry: &Entry) -> Known {
    Known {
        execution: entry.execution,
        body_sha256: entry.body_sha256,
        at_ms: entry.at_ms,
    }
}

fn decode(bytes: &[u8; KEY_BYTES]) -> (Key, Known) {
    fn part<const N: usize>(bytes: &[u8; KEY_BYTES], at: usize) -> [u8; N] {
        *bytes[at..]
            .first_chunk()
            .expect("the parts of a key add up to its size")
    }
    let known = Known {
        execution: ExecutionId(part(bytes, 16)),
        body_sha256: part(bytes, 32),
        at_ms: i64::from_le_bytes(part(bytes, 64)),
    };
    (Key(part(bytes, 0)), known)
}

impl Known {
    /// As the table holds it.
    pub(super) fn of_row(execution: ExecutionId, body_sha256: [u8; 32]) -> Self {
        Self {
            execution,
            body_sha256,
            at_ms: 0,
        }
    }
}
