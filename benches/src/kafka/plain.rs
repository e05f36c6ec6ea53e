//! The line without transactions, to tell what they cost: the same consumer, an idempotent producer with the same settings,
//! and the offsets committed by themselves once everything is acknowledged. In the bench only: a crash doubles.
//!
//! The offsets go to a group of their own, because the consumer's own group takes them from its members only; for the
//! broker it is the same work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use topics::log::{Append, Result};
use topics::partitioner::partition_of;
use topics::{
    Assigned, Consumer, Join, Kafka, Lane, Log, LogError, Outgoing, Partition, Polled, Position,
    Source, Topic, TopicId, TopicSpec,
};

use super::raw::flush;

/// Where the offsets are committed.
pub(super) const GROUP: &str = "bench-plain";
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Plain {
    kafka: Kafka,
    brokers: String,
}

impl Plain {
    pub(super) fn new(kafka: Kafka, brokers: String) -> Self {
        Self { kafka, brokers }
    }
}

impl Log for Plain {
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.kafka.create_topics(topics)
    }

    fn partitions(&self, topic: &str) -> Result<u32> {
        self.kafka.partitions(topic)
    }

    fn topic_id(&self, topic: &str) -> Result<TopicId> {
        self.kafka.topic_id(topic)
    }

    fn offsets(&self, partition: &Partition) -> Result<(i64, i64)> {
        self.kafka.offsets(partition)
    }

    fn lane(&self, join: Join, _slot: &str) -> Result<Box<dyn Lane>> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.brokers);
        let commits = settings
            .clone()
            .set("group.id", GROUP)
            .create()
            .map_err(broken)?;
        let producer = settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "1000000")
            .set("delivery.report.only.error", "true")
            .create()
            .map_err(broken)?;
        let partitions = self.kafka.partitions(topics::catalog::RESULTS)?;
        Ok(Box::new(PlainLane {
            member: self.kafka.consumer(join)?,
            producer,
            commits,
            partitions,
        }))
    }

    fn consumer(&self, join: Join) -> Result<Box<dyn Consumer>> {
        self.kafka.consumer(join)
    }

    fn reader(&self, from: Vec<(Partition, i64)>, records_max: usize) -> Result<Box<dyn Consumer>> {
        self.kafka.reader(from, records_max)
    }

    fn source(&self, shard: &str) -> Result<(Box<dyn Source>, Option<Bytes>)> {
        self.kafka.source(shard)
    }

    fn last(&self, topic: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.kafka.last(topic, keys)
    }

    fn appender(&self) -> Arc<dyn Append> {
        self.kafka.appender()
    }
}

struct PlainLane {
    member: Box<dyn Consumer>,
    producer: BaseProducer,
    commits: BaseConsumer,
    /// Of `weir.results`, the only topic that the bench's graphs write to, but for the marks.
    partitions: u32,
}

impl Consumer for PlainLane {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.member.poll(wait)
    }

    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        self.member.seek(partition, offset)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        self.member.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        self.member.resume(partitions)
    }
}

impl Lane for PlainLane {
    fn subscribe(&mut self, _: &[Topic]) -> Result<()> {
        Err(broken("the plain lane reads what it was opened with"))
    }

    fn send(&mut self, records: Vec<Outgoing>) -> Result<()> {
        for Outgoing { topic, record, .. } in &records {
            let key = record.key.as_deref().unwrap_or_default();
            let mut one = BaseRecord::to(topic)
                .key(key)
                .timestamp(record.timestamp_ms);
            if **topic == *topics::catalog::RESULTS {
                one = one.partition(partition_of(key, self.partitions).cast_signed());
            }
            if let Some(value) = &record.value {
                one = one.payload(&value[..]);
            }
            if !record.headers.is_empty() {
                let add = |all: OwnedHeaders, (name, value): &(String, Bytes)| {
                    all.insert(Header {
                        key: name,
                        value: Some(&value[..]),
                    })
                };
                one = one.headers(record.headers.iter().fold(OwnedHeaders::new(), add));
            }
            while let Err((error, back)) = self.producer.send(one) {
                if error != KafkaError::MessageProduction(Code::QueueFull) {
                    return Err(broken(error));
                }
                one = back;
                flush(&self.producer, Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn commit(&mut self, positions: Vec<Position>) -> Result<()> {
        if !flush(&self.producer, PATIENCE) {
            return Err(broken("records were not acknowledged in time"));
        }
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for Position {
            partition,
            next_offset,
            metadata,
        } in &positions
        {
            let mut entry = offsets.add_partition(&partition.topic, partition.number.cast_signed());
            entry
                .set_offset(Offset::Offset(*next_offset))
                .map_err(broken)?;
            entry.set_metadata(metadata);
        }
        self.commits
            .commit(&offsets, CommitMode::Sync)
            .map_err(broken)
    }

    /// There is nothing to rewind to: the pass has failed, and its check says so.
    fn abort(&mut self) -> Result<Vec<Assigned>> {
        Err(broken("the line without transactions cannot abort"))
    }
}

/// Whatever goes wrong ends the lane, and so the pass.
fn broken(why: impl ToString) -> LogError {
    LogError::Invalid {
        reason: why.to_string(),
    }
}
