//! A log whose lanes fail by plan: before a commit, after it, in `send` and in `poll`. What is beneath stays a true log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use topics::{
    Append, Assigned, Consumer, Join, Lane, Log, LogError, Outgoing, Partition, Polled, Position,
    Source, TopicSpec,
};

/// Every how many calls something goes wrong, and how often it has.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) every: u64,
    calls: AtomicU64,
    pub(crate) done: AtomicU64,
}

impl Faults {
    pub(crate) fn every(every: u64) -> Arc<Self> {
        Arc::new(Self {
            every,
            ..Self::default()
        })
    }

    fn now(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        let fault = self.every > 0 && call.is_multiple_of(self.every);
        self.done.fetch_add(u64::from(fault), Ordering::AcqRel);
        fault
    }

    /// Which of the faults it is to be.
    fn kind(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

pub(crate) struct Faulty {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) faults: Arc<Faults>,
}

impl Log for Faulty {
    fn create_topics(&self, topics: &[TopicSpec]) -> topics::Result<()> {
        self.log.create_topics(topics)
    }
    fn partitions(&self, topic: &str) -> topics::Result<u32> {
        self.log.partitions(topic)
    }
    fn topic_id(&self, topic: &str) -> topics::Result<topics::TopicId> {
        self.log.topic_id(topic)
    }
    fn offsets(&self, partition: &Partition) -> topics::Result<(i64, i64)> {
        self.log.offsets(partition)
    }
    fn lane(&self, join: Join, slot: &str) -> topics::Result<Box<dyn Lane>> {
        Ok(Box::new(FaultyLane {
            lane: self.log.lane(join, slot)?,
            faults: self.faults.clone(),
        }))
    }
    fn consumer(&self, join: Join) -> topics::Result<Box<dyn Consumer>> {
        self.log.consumer(join)
    }
    fn reader(
        &self,
        from: Vec<(Partition, i64)>,
        records_max: usize,
    ) -> topics::Result<Box<dyn Consumer>> {
        self.log.reader(from, records_max)
    }
    fn source(&self, shard: &str) -> topics::Result<(Box<dyn Source>, Option<Bytes>)> {
        self.log.source(shard)
    }
    fn appender(&self) -> Arc<dyn Append> {
        self.log.appender()
    }
}

struct FaultyLane {
    lane: Box<dyn Lane>,
    faults: Arc<Faults>,
}

fn unavailable() -> LogError {
    LogError::Unavailable {
        reason: "a fault of the test".into(),
    }
}

impl Consumer for FaultyLane {
    fn poll(&mut self, wait: Duration) -> topics::Result<Polled> {
        self.lane.poll(wait)
    }
    fn seek(&mut self, partition: &Partition, offset: i64) -> topics::Result<()> {
        self.lane.seek(partition, offset)
    }
    fn pause(&mut self, partitions: &[Partition]) -> topics::Result<()> {
        self.lane.pause(partitions)
    }
    fn resume(&mut self, partitions: &[Partition]) -> topics::Result<()> {
        self.lane.resume(partitions)
    }
}

impl Lane for FaultyLane {
    fn subscribe(&mut self, topics: &[topics::Topic]) -> topics::Result<()> {
        self.lane.subscribe(topics)
    }

    fn send(&mut self, records: Vec<Outgoing>) -> topics::Result<()> {
        if self.faults.now() && self.faults.kind().is_multiple_of(4) {
            return Err(unavailable());
        }
        self.lane.send(records)
    }

    fn commit(&mut self, positions: Vec<Position>) -> topics::Result<()> {
        if !self.faults.now() {
            return self.lane.commit(positions);
        }
        match self.faults.kind() % 3 {
            0 => Err(unavailable()),
            // Done, and not known to be.
            1 => {
                self.lane.commit(positions)?;
                Err(LogError::Uncertain {
                    what: "a commit of the test".into(),
                })
            }
            _ => Err(LogError::Moved {
                group: "a rebalance of the test".into(),
            }),
        }
    }

    fn abort(&mut self) -> topics::Result<Vec<Assigned>> {
        self.lane.abort()
    }
}
