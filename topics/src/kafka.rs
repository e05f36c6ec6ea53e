//! Kafka behind the `Log` port: the only place that knows rdkafka.
//!
//! - `consumer` reads: a group member that notes rebalances and carries them out when it is polled, and a plain reader.
//! - `transaction` is the one transactional producer of a lane or a source: begin, send, finish, abort, rebuild.
//! - `lag` reads librdkafka's statistics; `broken` are the variants that fault tests must catch.
//! - `rule` is the error rule of transactional calls, one table.
//! - `admin` is what operators ask of a cluster.
//! - `lane`, `source`, `append` are the port's handles; `client` has the settings, callbacks and what errors mean.
//!
//! Invariants: offsets are committed only inside a transaction, with the group's metadata taken at that moment; an
//! uncertain commit is never aborted but settled by a successor with the same transactional id, and then the group's
//! committed offsets say what happened; `auto.offset.reset` is `error`: nothing is ever skipped in silence.

pub mod admin;
mod append;
mod broken;
mod client;
mod consumer;
mod ids;
mod lag;
mod lane;
mod last;
mod revive;
mod rule;
mod source;
mod transaction;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::catalog::{Cleanup, TopicSpec};
use crate::error::LogError;
use crate::log::{Append, Consumer, Join, Lane, Log, Partition, Result, Source, TopicId};
use client::{Kept, Shared};

/// Where Kafka is, and how to talk to it.
#[derive(Clone, Default)]
pub struct KafkaConfig {
    /// `host:port,host:port`
    pub brokers: String,
    /// librdkafka settings for every client (security, time-outs); those that promises rest on cannot be changed.
    pub properties: Vec<(String, String)>,
    pub timeouts: Timeouts,
}

/// Without the properties' values: a password may be among them.
impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let properties: Vec<&str> = self.properties.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("properties", &properties)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

/// How long Kafka's clients wait before they give somebody up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A request that takes longer is given up; a transactional call that took half of it is uncertain.
    pub socket: Duration,
    /// A transaction that is open longer is aborted by the broker; until then it hides everything after it from readers.
    pub transaction: Duration,
    /// A group's member that has not been heard of for so long is dead.
    pub session: Duration,
    /// A group's member that has not polled for so long has hung.
    pub max_poll: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            socket: Duration::from_secs(10),
            transaction: Duration::from_secs(15),
            session: Duration::from_secs(10),
            max_poll: Duration::from_secs(300),
        }
    }
}

/// How long an answer about topics is waited for.
const METADATA_WAIT: Duration = Duration::from_secs(30);

/// A Kafka cluster.
pub struct Kafka {
    shared: Arc<Shared>,
    appender: Mutex<Option<Arc<dyn Append>>>,
}

impl Kafka {
    /// Connects lazily: a cluster that is not there is noticed by the first call.
    pub fn new(config: KafkaConfig) -> Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared::new(config)?),
            appender: Mutex::new(None),
        })
    }
}

impl Log for Kafka {
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        let admin: AdminClient<Kept> = self
            .shared
            .settings(&[])
            .create_with_context(Kept::default())
            .map_err(LogError::unavailable)?;
        let values: Vec<_> = topics.iter().map(settings_of).collect();
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .zip(&values)
            .map(|(spec, values)| new_topic(spec, values))
            .collect();
        let options = AdminOptions::new()
            .operation_timeout(Some(METADATA_WAIT))
            .request_timeout(Some(METADATA_WAIT));
        let done =
            client::block_on(admin.create_topics(&new, &options)).map_err(LogError::unavailable)?;
        for answer in done {
            match answer {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(LogError::unavailable(format!(
                        "creating topic \"{topic}\": {code}"
                    )));
                }
            }
        }
        // the controller knows them before the brokers do
        let deadline = Instant::now() + METADATA_WAIT;
        for spec in topics {
            self.shared
                .remember_limit(&spec.name, spec.record_max_bytes);
            while let Err(error) = self.shared.partitions(&spec.name) {
                if Instant::now() > deadline {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<u32> {
        self.shared.partitions(topic)
    }

    fn topic_id(&self, topic: &str) -> Result<TopicId> {
        self.shared.topic_id(topic)
    }

    fn batch_bytes_max(&self, topic: &str) -> Result<Option<u64>> {
        let found = admin::Admin::new(self.shared.config())?.topics(&[topic]);
        let found = match found {
            Err(LogError::Denied { .. }) => return Ok(None),
            found => found?,
        };
        let said = found
            .get(topic)
            .and_then(|t| t.settings.get("max.message.bytes"));
        Ok(said.and_then(|bytes| bytes.parse().ok()))
    }

    fn offsets(&self, partition: &Partition) -> Result<(i64, i64)> {
        self.shared.check(partition)?;
        self.shared.offsets(partition)
    }

    fn offset_at(&self, partition: &Partition, time_ms: i64) -> Result<i64> {
        self.shared.check(partition)?;
        self.shared.offset_at(partition, time_ms)
    }

    fn lane(&self, join: Join, slot: &str) -> Result<Box<dyn Lane>> {
        Ok(Box::new(lane::KafkaLane::open(
            self.shared.clone(),
            join,
            slot,
        )?))
    }

    fn consumer(&self, join: Join) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(consumer::Member::join(
            self.shared.clone(),
            &join,
        )?))
    }

    fn reader(&self, from: Vec<(Partition, i64)>, records_max: usize) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(consumer::Member::reader(
            self.shared.clone(),
            from,
            records_max,
        )?))
    }

    fn source(&self, shard: &str) -> Result<(Box<dyn Source>, Option<Bytes>)> {
        let (source, position) = source::KafkaSource::open(self.shared.clone(), shard)?;
        Ok((Box::new(source), position))
    }

    fn last(&self, topic: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        last::last(&self.shared, topic, keys)
    }

    fn appender(&self) -> Arc<dyn Append> {
        let mut appender = self.appender.lock();
        appender
            .get_or_insert_with(|| Arc::new(append::Appender::new(self.shared.clone())))
            .clone()
    }
}

fn settings_of(spec: &TopicSpec) -> [(&'static str, String); 4] {
    let cleanup = match spec.cleanup {
        Cleanup::Delete => "delete",
        Cleanup::Compact => "compact",
    };
    let number =
        |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
    [
        ("cleanup.policy", cleanup.to_owned()),
        ("retention.ms", number(spec.retention_ms)),
        ("retention.bytes", number(spec.retention_bytes)),
        ("max.message.bytes", client::MESSAGE_BYTES_MAX.to_string()),
    ]
}

fn new_topic<'a>(spec: &'a TopicSpec, settings: &'a [(&'static str, String); 4]) -> NewTopic<'a> {
    // -1: the broker's own replication factor
    let topic = NewTopic::new(
        &spec.name,
        spec.partitions.cast_signed(),
        TopicReplication::Fixed(-1),
    );
    settings
        .iter()
        .fold(topic, |topic, (name, value)| topic.set(name, value))
}

/// A consumer that only asks: metadata and watermarks.
type Asking = BaseConsumer<Kept>;
