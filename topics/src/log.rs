//! The `Log` port: what Weir asks of a log, shaped by the transaction and not by "publish".
//!
//! Two implementations, `kafka.rs` and `embedded/`; one contract suite runs against both. Blocking calls are made from a
//! thread that owns the handle (a lane, a source, a reader); only `Append` is asynchronous, because ingest is.
//!
//! Promises that the contract suite holds both to:
//! 1. *Lane*: the records sent since the last commit and the offsets given to `commit` become visible together or not at all.
//! 2. *Source*: the records and the new position become visible together or not at all; opening a source fences its last owner.
//! 3. A fenced owner's call returns `LogError::Fenced`, and nothing of it is ever visible.
//! 4. Consumers see committed records only, in offset order within a partition.
//! 5. What was acknowledged survives `kill -9`.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::LogError;
use crate::partitioner::partition_of;

pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// A topic's name; shared, because every record carries one.
pub type Topic = Arc<str>;

/// What a topic was given when it was made: one that was deleted and made anew has another. As Kafka prints it; where a
/// log gives none, the topic's name.
pub type TopicId = Arc<str>;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    pub topic: Topic,
    pub number: u32,
}

/// What is written or read. `value: None` is a tombstone on a compacted topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; names may repeat. A value may be any bytes.
    pub headers: Vec<(String, Bytes)>,
    /// Milliseconds since 1970 UTC, given by the writer.
    pub timestamp_ms: i64,
}

/// A record on its way to a topic. `partition: None`: by `partitioner::partition_of(key)`, keyless round robin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: Topic,
    pub partition: Option<u32>,
    pub record: Record,
}

/// A committed record read from a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub partition: Partition,
    pub offset: i64,
    pub record: Record,
}

/// The next offset to read of one partition, and a note that travels with it (≤ 4 KiB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: Partition,
    /// Next to read, not last read.
    pub next_offset: i64,
    pub metadata: String,
}

/// A partition that has just come to this consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub partition: Partition,
    /// What the group has committed; `None`: nothing. Reading starts there, or at the log's start where there is none,
    /// unless `seek` says otherwise before the next `poll`.
    pub committed: Option<Position>,
}

/// What `poll` brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Records, in offset order within each partition; may be empty when the wait ran out.
    Records(Vec<Fetched>),
    /// Partitions that have come.
    Assigned(Vec<Assigned>),
    /// Partitions that leave with the next `poll`. Until then a lane may still commit what it has done for them;
    /// not if `lost`: then they belong to somebody else already.
    Revoked {
        partitions: Vec<Partition>,
        lost: bool,
    },
}

/// A member of a consumer group, reading committed records.
pub trait Consumer: Send {
    /// Waits up to `wait` for something to happen. Must be called regularly, also while everything is paused.
    fn poll(&mut self, wait: Duration) -> Result<Polled>;
    /// The next record of the partition that `poll` brings is the first one at or after `offset`; records already
    /// fetched are dropped.
    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()>;
    fn pause(&mut self, partitions: &[Partition]) -> Result<()>;
    fn resume(&mut self, partitions: &[Partition]) -> Result<()>;
}

/// A consumer with a transactional producer: the only way to write records together with consumed offsets.
pub trait Lane: Consumer {
    /// Reads these topics from now on; what that changes about its partitions comes by `poll`. A topic that does not exist
    /// is an error, and nothing is changed. None: it owns nothing.
    fn subscribe(&mut self, topics: &[Topic]) -> Result<()>;
    /// Adds records to the open transaction; opens one if none is. After an error some of them may be in it: call `abort`.
    fn send(&mut self, records: Vec<Outgoing>) -> Result<()>;
    /// Commits what was sent together with the offsets. On any error nothing is known to be committed: call `abort`.
    fn commit(&mut self, positions: Vec<Position>) -> Result<()>;
    /// Drops what was sent, settles an uncertain commit, and rewinds every assigned partition to the group's committed
    /// offsets, which it returns: they are the oracle of what has been committed.
    fn abort(&mut self) -> Result<Vec<Assigned>>;
}

/// The owner of one shard of a re-readable source (transactional id `weir-source-<shard>`).
pub trait Source: Send {
    /// Commits the records together with the shard's new position. After an error nothing of it is visible and the
    /// call may be made again; only after `Uncertain` and `Fenced` the source has to be opened anew: its position tells.
    fn commit(&mut self, records: Vec<Outgoing>, position: Bytes) -> Result<()>;
}

pub type Appended<'a> = Pin<Box<dyn Future<Output = Result<Vec<i64>>> + Send + 'a>>;

/// Durable writes outside a transaction (acks=all).
pub trait Append: Send + Sync {
    /// Resolves to the records' offsets, in order, once all of them are durable. An error does not say that none of them
    /// was written: whoever sends again needs an id by which the reader knows the second one.
    fn append(&self, records: Vec<Outgoing>) -> Appended<'_>;
}

/// How a consumer joins.
#[derive(Clone, Debug)]
pub struct Join {
    pub group: String,
    /// May be empty for a lane, which can `subscribe` later.
    pub topics: Vec<Topic>,
    /// Records that one `poll` returns at most, and the bytes of their keys and values (at least one record is returned).
    pub records_max: usize,
    pub bytes_max: usize,
}

/// A log: Kafka, or the embedded one.
pub trait Log: Send + Sync {
    /// Creates the topics that are missing; leaves the others as they are.
    fn create_topics(&self, topics: &[crate::catalog::TopicSpec]) -> Result<()>;
    /// How many partitions the topic has; `LogError::Missing` where it does not exist.
    fn partitions(&self, topic: &str) -> Result<u32>;
    /// Asks the log each time.
    fn topic_id(&self, topic: &str) -> Result<TopicId>;
    /// The most bytes that the topic takes at once, records and what is around them; `None` where it is not known: there is
    /// no such limit, or this user may not ask (DESCRIBE_CONFIGS).
    fn batch_bytes_max(&self, _topic: &str) -> Result<Option<u64>> {
        Ok(None)
    }
    /// First offset kept, and the next one that a reader of committed records would reach (the last stable offset).
    fn offsets(&self, partition: &Partition) -> Result<(i64, i64)>;
    /// The first offset whose record's timestamp is this one or later; the next one to come where there is none. What is
    /// read here, a log may know.
    fn offset_at(&self, partition: &Partition, time_ms: i64) -> Result<i64> {
        let (start, end) = self.offsets(partition)?;
        let mut reader = self.reader(vec![(partition.clone(), start)], LAST_RECORDS)?;
        let (mut at, mut empty) = (start, 0);
        while at < end && empty < LAST_EMPTY_MAX {
            let Polled::Records(records) = reader.poll(LAST_WAIT)? else {
                continue;
            };
            let late = |fetched: &&Fetched| fetched.record.timestamp_ms >= time_ms;
            if let Some(found) = records.iter().find(late) {
                return Ok(found.offset.min(end));
            }
            empty = if records.is_empty() { empty + 1 } else { 0 };
            at = records.last().map_or(at, |last| last.offset + 1);
        }
        Ok(end)
    }
    /// `slot`: which of the process's lanes this is; its transactional id is made of the group and it, and stays the
    /// same over restarts. A second lane with the same slot fences the first.
    fn lane(&self, join: Join, slot: &str) -> Result<Box<dyn Lane>>;
    /// A group member that commits nothing: sinks keep their positions in their destination.
    fn consumer(&self, join: Join) -> Result<Box<dyn Consumer>>;
    /// Reads given partitions from given offsets, in no group. `poll` never brings `Assigned` or `Revoked`.
    fn reader(&self, from: Vec<(Partition, i64)>, records_max: usize) -> Result<Box<dyn Consumer>>;
    /// Opens the shard, fences its last owner, and returns the committed position.
    fn source(&self, shard: &str) -> Result<(Box<dyn Source>, Option<Bytes>)>;
    fn appender(&self) -> Arc<dyn Append>;
    /// The last committed value of each key, in the keys' order. For topics that hold little, such as compacted ones:
    /// each partition that has one of the keys is read from its start.
    fn last(&self, topic: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let mut last = Last::of(keys);
        for partition in last.partitions(topic, self.partitions(topic)?) {
            let (start, end) = self.offsets(&partition)?;
            let mut reader = self.reader(vec![(partition, start)], LAST_RECORDS)?;
            // the last offsets may be those of transactions' own marks, which no reader sees: patience ends the wait
            let (mut at, mut empty) = (start, 0);
            while at < end && empty < LAST_EMPTY_MAX {
                let Polled::Records(records) = reader.poll(LAST_WAIT)? else {
                    continue;
                };
                empty = if records.is_empty() { empty + 1 } else { 0 };
                at = records.last().map_or(at, |last| last.offset + 1);
                last.take(records);
            }
        }
        Ok(last.values)
    }
}

const LAST_RECORDS: usize = 1_000;
const LAST_WAIT: Duration = Duration::from_millis(200);
const LAST_EMPTY_MAX: u32 = 10;

/// The last value of each key, as far as it has been read.
pub(crate) struct Last<'k> {
    keys: &'k [Bytes],
    pub(crate) values: Vec<Option<Bytes>>,
}

impl<'k> Last<'k> {
    pub(crate) fn of(keys: &'k [Bytes]) -> Self {
        let values = vec![None; keys.len()];
        Self { keys, values }
    }

    /// The partitions that the keys belong to.
    pub(crate) fn partitions(&self, topic: &str, count: u32) -> Vec<Partition> {
        let numbers: BTreeSet<u32> = self
            .keys
            .iter()
            .map(|key| partition_of(key, count))
            .collect();
        let topic = Topic::from(topic);
        let partition = |number| Partition {
            topic: topic.clone(),
            number,
        };
        numbers.into_iter().map(partition).collect()
    }

    pub(crate) fn take(&mut self, records: Vec<Fetched>) {
        for Fetched { record, .. } in records {
            if let Some(at) = self
                .keys
                .iter()
                .position(|key| record.key.as_ref() == Some(key))
            {
                self.values[at] = record.value;
            }
        }
    }
}
