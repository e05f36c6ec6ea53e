//! The marks of started partitions on `weir.positions`: which partitions this group has ever begun to read.

use bytes::Bytes;
use topics::catalog::{GROUP_PROCESSORS, POSITIONS};
use topics::{Log, Outgoing, Partition, Record};

use crate::error::ProcessorError;

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
    let keys: Vec<Bytes> = partitions.iter().map(key).collect();
    let marks = log.last(POSITIONS, &keys)?;
    let marked = partitions
        .iter()
        .zip(marks)
        .find(|(_, mark)| mark.is_some());
    marked.map_or(Ok(()), |(partition, _)| {
        Err(ProcessorError::OffsetMissing {
            partition: partition.clone(),
        })
    })
}
