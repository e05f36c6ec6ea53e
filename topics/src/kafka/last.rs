//! The last values of keys, read from their partitions: what a compacted topic is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::Shared;
use super::consumer::Member;
use crate::error::LogError;
use crate::log::{Consumer as _, Last, Partition, Polled, Result};

/// Longer than a transaction of somebody else may hide the end of a partition.
const READ_WAIT: Duration = Duration::from_secs(40);
const READ_STEP: Duration = Duration::from_millis(50);

pub(super) fn last(
    shared: &Arc<Shared>,
    topic: &str,
    keys: &[Bytes],
) -> Result<Vec<Option<Bytes>>> {
    let deadline = Instant::now() + READ_WAIT;
    let mut last = Last::of(keys);
    let from = filled(
        shared,
        last.partitions(topic, shared.partitions(topic)?),
        deadline,
    )?;
    if from.is_empty() {
        return Ok(last.values);
    }
    let mut reader = Member::to_end(shared.clone(), from)?;
    while !reader.at_end() {
        if let Polled::Records(records) = reader.poll(READ_STEP)? {
            last.take(records);
        }
        if Instant::now() > deadline {
            return Err(LogError::unavailable(format!(
                "\"{topic}\" could not be read to its end in time"
            )));
        }
    }
    Ok(last.values)
}

/// The partitions that hold something, with where they start. What was written before now may lie behind an open
/// transaction, where readers of committed records do not come yet: waits until all of it is stable.
fn filled(
    shared: &Shared,
    partitions: Vec<Partition>,
    deadline: Instant,
) -> Result<Vec<(Partition, i64)>> {
    let ends = shared.ends(&partitions)?;
    let mut filled = Vec::new();
    for (partition, end) in partitions.into_iter().zip(ends) {
        loop {
            let (start, stable) = shared.offsets(&partition)?;
            if stable >= end {
                if start < end {
                    filled.push((partition, start));
                }
                break;
            }
            if Instant::now() > deadline {
                return Err(LogError::unavailable(format!(
                    "an open transaction hides the end of {}/{}",
                    partition.topic, partition.number
                )));
            }
            std::thread::park_timeout(READ_STEP);
        }
    }
    Ok(filled)
}
