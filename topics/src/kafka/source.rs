//! The owner of one shard of a re-readable source: its position is a record in the compacted topic of positions, keyed
//! by the shard, written in the transaction of the records.

use std::sync::Arc;

use bytes::Bytes;

use super::client::Shared;
use super::last::last;
use super::transaction::Transaction;
use crate::catalog::{POSITIONS, SOURCE_PREFIX};
use crate::error::LogError;
use crate::log::{Outgoing, Record, Result, Source, Topic};

pub(super) struct KafkaSource {
    transaction: Transaction,
    shard: Bytes,
    /// An error left it open what was committed, or the transaction could not be aborted.
    unsettled: bool,
}

impl KafkaSource {
    pub(super) fn open(shared: Arc<Shared>, shard: &str) -> Result<(Self, Option<Bytes>)> {
        let transaction = Transaction::take(shared.clone(), format!("{SOURCE_PREFIX}{shard}"))?;
        let shard = Bytes::copy_from_slice(shard.as_bytes());
        // the last owner's transaction is settled: what it has committed can be read
        let position = last(&shared, POSITIONS, std::slice::from_ref(&shard))?.remove(0);
        Ok((
            Self {
                transaction,
                shard,
                unsettled: false,
            },
            position,
        ))
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
