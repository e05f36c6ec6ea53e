//! The marks of started partitions on `weir.positions`: which partitions a group has ever begun to read. A user's topic is
//! begun once in each of its generations: it may be left by all graphs and read again later, from elsewhere.

use bytes::Bytes;
use topics::catalog::POSITIONS;
use topics::{Log, Outgoing, Partition, Record};

use crate::error::ProcessorError;

/// A partition that may be started.
pub(crate) struct Start {
    pub(crate) partition: Partition,
    /// Of a user's topic.
    pub(crate) topic_id: Option<String>,
    pub(crate) generation: i64,
}

impl Start {
    fn key(&self, group: &str) -> Bytes {
        let Partition { topic, number } = &self.partition;
        let mut key = format!("started/{group}/{topic}/{number}");
        if let Some(id) = &self.topic_id {
            key.push_str(&format!("/{id}/{}", self.generation));
        }
        Bytes::from(key)
    }
}

/// The mark of a partition that is about to be read from `start` on.
pub(crate) fn mark(group: &str, of: &Start, start: i64, now_ms: i64) -> Outgoing {
    let record = Record {
        key: Some(of.key(group)),
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

/// Those of these partitions, which have no committed offset, that were started before.
pub(crate) fn marked(
    log: &dyn Log,
    group: &str,
    starts: &[Start],
) -> Result<Vec<Partition>, ProcessorError> {
    let keys: Vec<Bytes> = starts.iter().map(|start| start.key(group)).collect();
    let marks = log.last(POSITIONS, &keys)?;
    let marked = starts.iter().zip(marks).filter(|(_, mark)| mark.is_some());
    Ok(marked.map(|(start, _)| start.partition.clone()).collect())
}
