//! Settings, callbacks, questions that need no group, and what librdkafka's errors mean here.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::ids::topic_id;
use super::revive::Revival;
use super::{Asking, KafkaConfig, METADATA_WAIT, Timeouts};
use crate::error::LogError;
use crate::log::{Outgoing, Partition, Record, Result, TopicId};
use crate::partitioner::partition_of;

/// A batch on the wire, and so a topic's `max.message.bytes`: the largest record of the catalog and what surrounds it.
pub(super) const MESSAGE_BYTES_MAX: usize = (2 << 20) + (64 << 10);
/// The largest key, value and headers.
pub(super) const RECORD_BYTES_MAX: usize = 2 << 20;

/// A topic may get more partitions while Weir runs: keys are spread over them from the next time on that it is asked.
const PARTITIONS_KNOWN: Duration = Duration::from_secs(60);
const REFRESH_WAIT: Duration = Duration::from_secs(1);

/// What all clients of one cluster share.
pub(super) struct Shared {
    config: KafkaConfig,
    asking: Asking,
    /// How many each topic has, and when that was asked.
    partitions: Mutex<HashMap<String, (u32, Instant)>>,
    limits: Mutex<HashMap<String, u64>>,
    keyless: AtomicU32,
}

/// The callbacks of clients that have nothing to remember, and that nobody polls.
#[derive(Default)]
pub(super) struct Kept(Revival);

impl Kept {
    /// A question without an answer may be one of a client without brokers.
    fn answered<T>(&self, answer: KafkaResult<T>) -> KafkaResult<T> {
        if answer.is_err() {
            self.0.again();
        }
        answer
    }
}

impl ClientContext for Kept {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Kept {}

pub(super) fn logged(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, "{message}");
        }
        _ => tracing::debug!(facility, "{message}"),
    }
}

impl Shared {
    pub(super) fn new(config: KafkaConfig) -> Result<Self> {
        let asking: Asking = configured(
            &config,
            &[
                ("isolation.level", "read_committed"),
                ("allow.auto.create.topics", "false"),
            ],
        )
        .create_with_context(Kept::default())
        .map_err(|e| LogError::invalid(format!("kafka settings: {e}")))?;
        let client = asking.client().native_ptr();
        asking.context().0.of(client, &config.brokers);
        Ok(Self {
            config,
            asking,
            partitions: Mutex::default(),
            limits: Mutex::default(),
            keyless: AtomicU32::new(0),
        })
    }

    pub(super) fn config(&self) -> &KafkaConfig {
        &self.config
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.config.timeouts
    }

    /// The user's settings below ours.
    pub(super) fn settings(&self, ours: &[(&str, &str)]) -> ClientConfig {
        configured(&self.config, ours)
    }

    pub(super) fn consumer_settings(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.settings(&[
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            (
                "isolation.level",
                if super::broken::is("read-uncommitted") {
                    "read_uncommitted"
                } else {
                    "read_committed"
                },
            ),
            ("allow.auto.create.topics", "false"),
        ]);
        for (name, value) in ours {
            config.set(*name, *value);
        }
        config
    }

    pub(super) fn remember_limit(&self, topic: &str, record_bytes_max: u64) {
        self.limits
            .lock()
            .insert(topic.to_owned(), record_bytes_max);
    }

    pub(super) fn partitions(&self, topic: &str) -> Result<u32> {
        let known = self.partitions.lock().get(topic).copied();
        if let Some((count, asked)) = known
            && asked.elapsed() < PARTITIONS_KNOWN
        {
            return Ok(count);
        }
        if let Some((count, _)) = known {
            // Asked again by one caller, in a moment; the others go on with what is known.
            self.know(topic, count);
            // One that is gone is noticed by whoever reads or writes it.
            let asked = self.metadata(topic, REFRESH_WAIT).ok();
            let Some(Ok(count)) = asked.map(|metadata| counted(&metadata, topic)) else {
                return Ok(count);
            };
            self.know(topic, count);
            return Ok(count);
        }
        let deadline = Instant::now() + METADATA_WAIT;
        let metadata = loop {
            match self.metadata(topic, METADATA_WAIT) {
                Ok(metadata) => break metadata,
                Err(error) if Instant::now() > deadline => {
                    return Err(LogError::unavailable(error));
                }
                // refused at once while there is no connection; librdkafka makes a new one meanwhile
                Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
            }
        };
        let count = counted(&metadata, topic)?;
        self.know(topic, count);
        Ok(count)
    }

    fn metadata(&self, topic: &str, wait: Duration) -> KafkaResult<Metadata> {
        let asked = self.asking.fetch_metadata(Some(topic), wait);
        self.asking.context().answered(asked)
    }

    pub(super) fn topic_id(&self, topic: &str) -> Result<TopicId> {
        let client = self.asking.client().native_ptr();
        topic_id(client, topic, METADATA_WAIT)
    }

    /// The addresses of the settings.
    pub(super) fn brokers(&self) -> &str {
        &self.config.brokers
    }

    fn know(&self, topic: &str, partitions: u32) {
        self.partitions
            .lock()
            .insert(topic.to_owned(), (partitions, Instant::now()));
    }

    pub(super) fn check(&self, partition: &Partition) -> Result<()> {
        if partition.number < self.partitions(&partition.topic)? {
            Ok(())
        } else {
            Err(LogError::missing_partition(partition))
        }
    }

    /// First offset kept and last stable offset.
    pub(super) fn offsets(&self, partition: &Partition) -> Result<(i64, i64)> {
        watermarks(&self.asking, partition)
    }

    /// The first offset at or after this time; the last stable offset where there is none.
    pub(super) fn offset_at(&self, partition: &Partition, time_ms: i64) -> Result<i64> {
        let (start, end) = watermarks(&self.asking, partition)?;
        // negative ones are not times to Kafka
        if time_ms <= 0 {
            return Ok(start);
        }
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset(
                &partition.topic,
                partition.number.cast_signed(),
                Offset::Offset(time_ms),
            )
            .map_err(LogError::unavailable)?;
        let found = self.asking.offsets_for_times(asked, METADATA_WAIT);
        let found = self
            .asking
            .context()
            .answered(found)
            .map_err(LogError::unavailable)?;
        let found = found.find_partition(&partition.topic, partition.number.cast_signed());
        let found = found.ok_or_else(|| LogError::missing_partition(partition))?;
        found.error().map_err(LogError::unavailable)?;
        Ok(match found.offset() {
            Offset::Offset(offset) => offset.clamp(start, end),
            _ => end,
        })
    }

    /// The next offset to be written of each, be what lies before it committed or not.
    pub(super) fn ends(&self, partitions: &[Partition]) -> Result<Vec<i64>> {
        let asking: Asking = self
            .settings(&[("isolation.level", "read_uncommitted")])
            .create_with_context(Kept::default())
            .map_err(LogError::unavailable)?;
        let end = |partition| watermarks(&asking, partition).map(|(_, end)| end);
        partitions.iter().map(end).collect()
    }

    /// The partition that a record goes to, once it is known that it may.
    pub(super) fn route(&self, outgoing: &Outgoing) -> Result<i32> {
        let partitions = self.partitions(&outgoing.topic)?;
        let limit = self
            .limits
            .lock()
            .get(&*outgoing.topic)
            .map_or(RECORD_BYTES_MAX, |limit| *limit as usize);
        let bytes = weight(&outgoing.record);
        if bytes > limit {
            return Err(LogError::TooLarge {
                topic: outgoing.topic.to_string(),
                bytes,
                bytes_max: limit,
            });
        }
        let number = match (outgoing.partition, &outgoing.record.key) {
            (Some(number), _) if number < partitions => number,
            (Some(number), _) => {
                return Err(LogError::missing_partition(&Partition {
                    topic: outgoing.topic.clone(),
                    number,
                }));
            }
            (None, Some(key)) => partition_of(key, partitions),
            (None, None) => self.keyless.fetch_add(1, Ordering::Relaxed) % partitions,
        };
        Ok(number.cast_signed())
    }
}

/// How many partitions the topic has.
fn counted(metadata: &Metadata, topic: &str) -> Result<u32> {
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let refused = Response::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    if found.is_some_and(|found| found.error() == Some(refused)) {
        return Err(LogError::denied(topic, "DESCRIBE"));
    }
    let found = found.filter(|found| found.error().is_none() && !found.partitions().is_empty());
    found
        .map(|found| found.partitions().len() as u32)
        .ok_or_else(|| LogError::missing_topic(topic))
}

fn weight(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    record.key.as_ref().map_or(0, |key| key.len())
        + record.value.as_ref().map_or(0, |value| value.len())
        + headers
}

pub(super) fn configured(config: &KafkaConfig, ours: &[(&str, &str)]) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &config.brokers);
    settings.set(
        "socket.timeout.ms",
        config.timeouts.socket.as_millis().to_string(),
    );
    settings.set("socket.nagle.disable", "true");
    for (name, value) in &config.properties {
        settings.set(name, value);
    }
    for (name, value) in ours {
        settings.set(*name, *value);
    }
    settings
}

fn watermarks(asking: &Asking, partition: &Partition) -> Result<(i64, i64)> {
    let found = asking.fetch_watermarks(
        &partition.topic,
        partition.number.cast_signed(),
        METADATA_WAIT,
    );
    asking
        .context()
        .answered(found)
        .map_err(|error| match error {
            KafkaError::MetadataFetch(
                Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopic,
            ) => LogError::missing_partition(partition),
            error => LogError::unavailable(error),
        })
}

/// Waits for a future of librdkafka's admin client, which completes on a thread of its own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
