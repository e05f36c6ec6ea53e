//! The owner of one shard of a re-readable source: its position is a record in the compacted topic of positions, keyed
//! by the shard, written in the transaction of the records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::Shared;
use super::consumer::Member;
use super::transaction::Transaction;
use crate::catalog::{POSITIONS, SOURCE_PREFIX};
use crate::error::LogError;
use crate::log::{Consumer as _, Outgoing, Partition, Polled, Record, Result, Source, Topic};
use crate::partitioner::partition_of;

/// Longer than a transaction of another shard may hide the end of the partition.
const READ_WAIT: Duration = Duration::from_secs(40);
const READ_STEP: Duration = Duration::from_millis(50);

pub(super) struct KafkaSource {
    transaction: Transaction,
    shard: Bytes,
    /// An error left it open what was committed, or the transaction could not be aborted.
    unsettled: bool,
}

impl KafkaSource {
    pub(super) fn open(shared: Arc<Shared>, shard: &str) -> Result<(Self, Option<Bytes>)> {
        let partitions = shared.partitions(POSITIONS)?;
        let transaction = Transaction::take(shared.clone(), format!("{SOURCE_PREFIX}{shard}"))?;
        let number = partition_of(shard.as_bytes(), partitions);
        let position = last_position(
            &shared,
            Partition {
                topic: Topic::from(POSITIONS),
                number,
            },
            shard.as_bytes(),
        )?;
        Ok((
            Self {
                transaction,
                shard: Bytes::copy_from_slice(shard.as_bytes()),
                unsettled: false,
            },
            position,
        ))
    }
}

/// Reads the shard's last committed position.
fn last_position(
    shared: &Arc<Shared>,
    partition: Partition,
    shard: &[u8],
) -> Result<Option<Bytes>> {
    // The last owner's transaction is settled, but it may lie behind an open one of another shard, where readers of
    // committed records do not come yet: wait until everything that was written before now is stable.
    let deadline = Instant::now() + READ_WAIT;
    let (_, written) = shared.offsets_uncommitted(&partition)?;
    let start = loop {
        let (start, stable) = shared.offsets(&partition)?;
        if stable >= written {
            break start;
        }
        if Instant::now() > deadline {
            return Err(LogError::unavailable(format!(
                "an open transaction hides the positions in \"{POSITIONS}\""
            )));
        }
        std::thread::park_timeout(READ_STEP);
    };
    let mut reader = Member::to_end(shared.clone(), partition, start)?;
    let mut position = None;
    loop {
        let Polled::Records(records) = reader.poll(READ_STEP)? else {
            continue;
        };
        for fetched in records {
            if fetched.record.key.as_deref() == Some(shard) {
                position = fetched.record.value;
            }
        }
        if reader.at_end() {
            return Ok(position);
        }
        if Instant::now() > deadline {
            return Err(LogError::unavailable(format!(
                "\"{POSITIONS}\" could not be read to its end in time"
            )));
        }
    }
}

impl Source for KafkaSource {
    fn commit(&mut self, records: Vec<Outgoing>, position: Bytes) -> Result<()> {
        if self.unsettled {
            return Err(LogError::Uncertain {
                what: "the source's last transaction; open the source again, its position tells"
                    .into(),
            });
        }
        let key = Some(self.shard.clone());
        let timestamp_ms = records.last().map_or(0, |last| last.record.timestamp_ms);
        let record = Record {
            key,
            value: Some(position),
            headers: Vec::new(),
            timestamp_ms,
        };
        let position = Outgoing {
            topic: Topic::from(POSITIONS),
            partition: None,
            record,
        };
        let mut records = records;
        records.push(position);
        let sent = self.transaction.send(records);
        let committed = sent.and_then(|()| self.transaction.finish(&[], "", || None));
        let Err(error) = committed else { return Ok(()) };
        // after an uncertain commit the position must be read anew; anything else is aborted, and may be tried again
        self.unsettled = matches!(error, LogError::Uncertain { .. } | LogError::Fenced { .. });
        if !self.unsettled && self.transaction.settle().is_err() {
            self.unsettled = true;
        }
        Err(error)
    }
}
