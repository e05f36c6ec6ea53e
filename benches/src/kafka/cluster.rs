//! The one broker of a run, and what the bench asks of it: topics, loading, counting, reading back. By librdkafka itself
//! and not by the `Log`: who is measured does not count.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use topics::{Kafka, KafkaConfig, Log as _, TopicSpec, catalog};
use xtask::services::kafka::Temporary;

/// Of every topic that the bench makes, Weir's own included.
pub(super) const PARTITIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Cluster {
    broker: Temporary,
}

/// Records that wait in a topic.
pub(super) struct Loaded {
    topic: String,
    /// The offset in each partition at which they begin.
    pub(super) from: Vec<i64>,
    pub(super) count: u64,
}

/// Started for the first row that needs it, and there until this process ends.
pub(super) fn cluster() -> Result<&'static Cluster> {
    static STARTED: Mutex<Option<&'static Cluster>> = Mutex::new(None);
    let mut started = STARTED.lock().expect("nobody panics with it");
    if let Some(cluster) = *started {
        return Ok(cluster);
    }
    crate::say("starting a Kafka broker …");
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start()?));
    *started = Some(cluster);
    Ok(cluster)
}

impl Cluster {
    /// One that ends with the value; most rows share one.
    pub(super) fn start() -> Result<Self> {
        let broker = Temporary::start()?;
        Ok(Self { broker })
    }

    pub(super) fn brokers(&self) -> &str {
        self.broker.brokers()
    }

    pub(super) fn settings(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.brokers());
        settings.set("allow.auto.create.topics", "false");
        settings
    }

    pub(super) fn log(&self) -> Result<Kafka> {
        Ok(Kafka::new(KafkaConfig {
            brokers: self.brokers().to_owned(),
            ..KafkaConfig::default()
        })?)
    }

    /// Weir's own topics, of the bench's partitions and without limits of size.
    pub(super) fn weir_topics(&self, partitions: u32) -> Result<()> {
        let mut topics = catalog::topics();
        for topic in &mut topics {
            topic.partitions = topic.partitions.min(partitions);
            topic.retention_bytes = None;
        }
        Ok(self.log()?.create_topics(&topics)?)
    }

    pub(super) fn topic(&self, name: &str, partitions: u32) -> Result<()> {
        Ok(self
            .log()?
            .create_topics(&[TopicSpec::new(name, partitions)])?)
    }

    /// Writes records 0 to `count`, in turns over the partitions, and makes sure that all of them are there.
    pub(super) fn load(
        &self,
        topic: &str,
        partitions: u32,
        count: u64,
        record: impl Fn(u64) -> (String, Vec<u8>),
    ) -> Result<Loaded> {
        let from = self.ends(topic, partitions)?;
        let producer: BaseProducer = self
            .settings()
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .set("delivery.report.only.error", "true")
            .create()?;
        for n in 0..count {
            let (key, value) = record(n);
            let partition = (n % u64::from(partitions)) as i32;
            let mut one = BaseRecord::to(topic)
                .partition(partition)
                .key(&key)
                .payload(&value);
            while let Err((error, back)) = producer.send(one) {
                ensure!(
                    error == KafkaError::MessageProduction(Code::QueueFull),
                    "loading {topic}: {error}"
                );
                one = back;
                producer.poll(Duration::from_millis(5));
            }
        }
        producer.flush(PATIENCE)?;
        let there: i64 = self
            .ends(topic, partitions)?
            .iter()
            .zip(&from)
            .map(|(end, from)| end - from)
            .sum();
        ensure!(
            there.cast_unsigned() == count,
            "{topic} got {there} records instead of {count}"
        );
        Ok(Loaded {
            topic: topic.to_owned(),
            from,
            count,
        })
    }

    pub(super) fn ends(&self, topic: &str, partitions: u32) -> Result<Vec<i64>> {
        let consumer: BaseConsumer = self
            .settings()
            .set("isolation.level", "read_uncommitted")
            .create()?;
        let deadline = Instant::now() + PATIENCE;
        let end = |partition: u32| loop {
            match consumer.fetch_watermarks(topic, partition.cast_signed(), PATIENCE) {
                Ok((_, end)) => return Ok(end),
                Err(error) => ensure!(
                    Instant::now() < deadline,
                    "asking for the end of {topic}: {error}"
                ),
            }
            // a new partition has no leader for a moment
            std::thread::sleep(Duration::from_millis(50));
        };
        (0..partitions).map(end).collect()
    }

    /// Sets an empty group to the start of what was loaded.
    pub(super) fn rewind(&self, group: &str, loaded: &Loaded) -> Result<()> {
        let consumer: BaseConsumer = self.settings().set("group.id", group).create()?;
        let mut start = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(&loaded.from) {
            start.add_partition_offset(&loaded.topic, partition, Offset::Offset(*offset))?;
        }
        let deadline = Instant::now() + PATIENCE;
        // the last member may not have left yet
        while let Err(error) = consumer.commit(&start, CommitMode::Sync) {
            ensure!(
                Instant::now() < deadline,
                "setting group {group} back: {error}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Every committed record from these offsets to the end.
    pub(super) fn read(
        &self,
        topic: &str,
        from: &[i64],
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        let consumer: BaseConsumer = self
            .settings()
            .set("group.id", "bench-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "10")
            .create()?;
        let mut start = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(from) {
            start.add_partition_offset(topic, partition, Offset::Offset(*offset))?;
        }
        consumer.assign(&start)?;
        let mut open = from.len();
        while open > 0 {
            match consumer
                .poll(PATIENCE)
                .with_context(|| format!("{topic} cannot be read to its end"))?
            {
                Ok(message) => each(&message)?,
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => bail!("reading {topic}: {error}"),
            }
        }
        Ok(())
    }

    /// Drops what lies in the topic, so that the disk does not fill up.
    pub(super) fn empty(&self, topic: &str, partitions: u32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.settings().create()?;
        let mut ends = TopicPartitionList::new();
        for partition in 0..partitions {
            ends.add_partition_offset(topic, partition.cast_signed(), Offset::End)?;
        }
        let done =
            crate::log::runtime()?.block_on(admin.delete_records(&ends, &AdminOptions::new()))?;
        for partition in done.elements() {
            partition
                .error()
                .with_context(|| format!("emptying {topic}"))?;
        }
        Ok(())
    }

    pub(super) fn counter(&self, group: &str, loaded: &Loaded) -> Result<Counter> {
        // committed offsets of finished transactions, without waiting for the open ones
        let consumer = self
            .settings()
            .set("group.id", group)
            .set("isolation.level", "read_uncommitted")
            .create()?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&loaded.topic, 0, loaded.from.len() as i32 - 1);
        Ok(Counter {
            consumer,
            asked,
            from: loaded.from.clone(),
        })
    }
}

/// How far a group has committed its way through what was loaded: plain records, so that offsets count them.
pub(super) struct Counter {
    consumer: BaseConsumer,
    asked: TopicPartitionList,
    from: Vec<i64>,
}

impl Counter {
    /// Inputs whose outputs are committed.
    pub(super) fn committed(&self) -> Result<u64> {
        let answer = self
            .consumer
            .committed_offsets(self.asked.clone(), PATIENCE)?;
        let mut sum = 0;
        for partition in answer.elements() {
            partition.error()?;
            let from = self
                .from
                .get(partition.partition() as usize)
                .copied()
                .unwrap_or_default();
            if let Offset::Offset(next) = partition.offset() {
                sum += (next - from).max(0).cast_unsigned();
            }
        }
        Ok(sum)
    }
}
