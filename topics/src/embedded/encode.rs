//! From records on their way to chunks per partition, on the thread that sends them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use super::batch::{Chunk, encoded_len, weight};
use super::state::{BATCH_BYTES_MAX, LogId, TopicState, Write};
use crate::error::LogError;
use crate::log::{Outgoing, Partition, Result, Topic};
use crate::partitioner::partition_of;

/// What writers have to know of the topics; a copy of the state's, so that encoding needs no lock of the state.
pub(super) type Topics = RwLock<HashMap<Topic, TopicState>>;

/// Records of several partitions, encoded, each partition's in order.
#[derive(Default, Debug)]
pub(super) struct Encoded {
    pub(super) writes: Vec<Write>,
    /// The write that is still filling up, of each partition.
    open: HashMap<LogId, usize>,
}

/// Where a record went: which write, and which record of it.
pub(super) type Place = (usize, u32);

impl Encoded {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds a record and says where it is.
    pub(super) fn push(
        &mut self,
        topics: &Topics,
        keyless: &AtomicU32,
        outgoing: &Outgoing,
    ) -> Result<Place> {
        let log = route(topics, keyless, outgoing)?;
        let needs = encoded_len(&outgoing.record);
        let at = match self.open.get(&log) {
            Some(at) if self.writes[*at].chunk.len() + needs <= BATCH_BYTES_MAX => *at,
            _ => {
                self.writes.push(Write {
                    log,
                    chunk: Chunk::new(needs),
                });
                self.open.insert(log, self.writes.len() - 1);
                self.writes.len() - 1
            }
        };
        let chunk = &mut self.writes[at].chunk;
        chunk.push(&outgoing.record);
        Ok((at, chunk.records - 1))
    }
}

fn route(topics: &Topics, keyless: &AtomicU32, outgoing: &Outgoing) -> Result<LogId> {
    let topic = *topics
        .read()
        .get(&outgoing.topic)
        .ok_or_else(|| LogError::missing_topic(&outgoing.topic))?;
    let record = &outgoing.record;
    let bytes = weight(record);
    if bytes as u64 > topic.record_bytes_max {
        let bytes_max = topic.record_bytes_max as usize;
        return Err(LogError::TooLarge {
            topic: outgoing.topic.to_string(),
            bytes,
            bytes_max,
        });
    }
    if record.headers.len() > usize::from(u16::MAX)
        || record
            .headers
            .iter()
            .any(|(name, _)| name.len() > usize::from(u16::MAX))
    {
        return Err(LogError::invalid(format!(
            "a record for \"{}\" has more than 65535 headers, or a header name longer than that",
            outgoing.topic
        )));
    }
    let number = match (outgoing.partition, &record.key) {
        (Some(number), _) if number < topic.partitions => number,
        (Some(number), _) => {
            return Err(LogError::missing_partition(&Partition {
                topic: outgoing.topic.clone(),
                number,
            }));
        }
        (None, Some(key)) => partition_of(key, topic.partitions),
        (None, None) => keyless.fetch_add(1, Ordering::Relaxed) % topic.partitions,
    };
    Ok(topic.first + number)
}
