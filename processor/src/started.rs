//! The marks of started partitions on `weir.positions`: which partitions this group has ever begun to read.

use std::time::Duration;

use bytes::Bytes;
use topics::catalog::{GROUP_PROCESSORS, POSITIONS};
use topics::{Log, Outgoing, Partition, Polled, Record};

use crate::error::ProcessorError;

const WAIT: Duration = Duration::from_millis(200);
/// How many polls in a row may bring nothing before what was asked for counts as read.
const EMPTY_MAX: u32 = 10;

fn key(partition: &Partition) -> Bytes {
    Bytes::from(format!(
        "started/{GROUP_PROCESSORS}/{}/{}",
        partition.topic, partition.number
    ))
}

/// The mark of a partition that is about to be read from `start` on.
pub(crate) fn mark(partition: &Partition, start: i64, now_ms: i64) -> Outgoing {
    let record = Record {
        key: Some(key(partition)),
        value: Some(Bytes::from(start.to_string())),
        headers: Vec::new(),
        timestamp_ms: now_ms,
    };
    Outgoing {
        topic: POSITIONS.into(),
        partition: None,
        record,
    }
}

/// An error if one of these partitions, which have no committed offset, was started before.
pub(crate) fn check(log: &dyn Log, partitions: &[Partition]) -> Result<(), ProcessorError> {
    let wanted: Vec<(Bytes, &Partition)> = partitions
        .iter()
        .map(|partition| (key(partition), partition))
        .collect();
    for number in 0..log.partitions(POSITIONS)? {
        let positions = Partition {
            topic: POSITIONS.into(),
            number,
        };
        let (start, end) = log.offsets(&positions)?;
        let mut reader = log.reader(vec![(positions, start)], 1_000)?;
        // The last offsets may be transactions' own marks, which no reader sees: patience ends the wait for them.
        let (mut at, mut empty) = (start, 0);
        while at < end && empty < EMPTY_MAX {
            let Polled::Records(records) = reader.poll(WAIT)? else {
                continue;
            };
            empty = if records.is_empty() { empty + 1 } else { 0 };
            for fetched in records {
                at = fetched.offset + 1;
                if let Some((_, partition)) = wanted
                    .iter()
                    .find(|(key, _)| fetched.record.key.as_ref() == Some(key))
                {
                    return Err(ProcessorError::OffsetMissing {
                        partition: (*partition).clone(),
                    });
                }
            }
        }
    }
    Ok(())
}
