//! What `weir doctor` tries out: whether Weir's clients may do what they have to, and how the cluster answers.
//!
//! Only `write` writes: into a topic that it makes and removes. Everything else looks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::topics::{each, options};
use super::{Admin, Heard, POLL};
use crate::catalog::{DOCTOR_PREFIX, GROUP_READERS, LANE_PREFIX};
use crate::error::LogError;
use crate::kafka::client::{Kept, block_on};
use crate::log::Result;

/// What a group is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `Stable`, `Empty`, `PreparingRebalance`, …; `Dead`: there is none.
    pub state: String,
    pub members: usize,
}

/// A partition with a transaction that is open: readers see nothing of it and of what comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub topic: String,
    pub partition: u32,
    /// Where the first open transaction begins.
    pub stable: i64,
    /// What has been written behind it.
    pub behind: i64,
}

/// What a written record told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The broker's clock minus ours.
    pub ahead_ms: i64,
    /// How wrong that may be: half the time that the write took.
    pub error_ms: i64,
}

/// The version of librdkafka that is built in.
pub fn librdkafka() -> String {
    rdkafka::util::get_rdkafka_version().1
}

impl Admin {
    /// How many brokers were connected to, and the oldest TxnOffsetCommit among them.
    pub fn offset_commits(&self) -> (usize, Option<i16>) {
        let seen = self.client.context().offset_commits.lock();
        (seen.len(), seen.values().min().copied())
    }

    pub fn group(&self, name: &str, wait: Duration) -> Result<Group> {
        let list = self.client.client().fetch_group_list(Some(name), wait);
        let list = list.map_err(|error| may(error, &format!("DESCRIBE on the group {name}")))?;
        let found = list.groups().iter().find(|group| group.name() == name);
        Ok(Group {
            state: found.map_or("Dead", |group| group.state()).to_owned(),
            members: found.map_or(0, |group| group.members().len()),
        })
    }

    /// Opens a transactional producer as lanes or sources do, whose ids begin so, and writes nothing.
    pub fn transactional(&self, prefix: &str, wait: Duration) -> Result<()> {
        self.producer(prefix, wait).map(drop)
    }

    fn producer(&self, prefix: &str, wait: Duration) -> Result<BaseProducer<Heard>> {
        let id = format!("{prefix}doctor-{}", std::process::id());
        let mut settings = self.settings.clone();
        settings.set("transactional.id", &id);
        let producer: BaseProducer<Heard> = settings
            .create_with_context(Heard::default())
            .map_err(LogError::unavailable)?;
        producer.init_transactions(wait).map_err(|error| {
            may(
                error,
                &format!("WRITE on the transactional ids that begin with {prefix}"),
            )
        })?;
        Ok(producer)
    }

    /// Reads as a lane and a sink do, at the topics' ends: what is refused is said within `wait`.
    pub fn readable(&self, topics: &[&str], wait: Duration) -> Result<()> {
        let consumer = self.consumer("read_committed")?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            list.add_partition_offset(topic, 0, Offset::End)
                .map_err(LogError::unavailable)?;
        }
        // all at once: librdkafka takes a second to begin with one that it has not read before
        consumer.assign(&list).map_err(LogError::unavailable)?;
        let deadline = Instant::now() + wait;
        let mut ends = 0;
        while ends < topics.len() && Instant::now() < deadline {
            match consumer.poll(POLL) {
                None | Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
                Some(Err(error)) => {
                    let topics = topics.join(", ");
                    let rights =
                        format!("READ on each of {topics}, and READ on the group {GROUP_READERS}");
                    return Err(may(error, &rights));
                }
            }
        }
        Ok(())
    }

    /// The partitions of topics, given with how many they have, in which a transaction is open now.
    pub fn open_transactions(&self, topics: &[(&str, u32)], wait: Duration) -> Result<Vec<Open>> {
        let (committed, all) = (
            self.consumer("read_committed")?,
            self.consumer("read_uncommitted")?,
        );
        let mut open = Vec::new();
        let partitions = topics
            .iter()
            .flat_map(|(topic, partitions)| (0..*partitions).map(move |number| (*topic, number)));
        for (topic, partition) in partitions {
            let end = |consumer: &BaseConsumer<Kept>| {
                let found = consumer.fetch_watermarks(topic, partition.cast_signed(), wait);
                found
                    .map(|(_, end)| end)
                    .map_err(|error| may(error, &format!("DESCRIBE on the topic {topic}")))
            };
            let (stable, end) = (end(&committed)?, end(&all)?);
            if stable < end {
                open.push(Open {
                    topic: topic.to_owned(),
                    partition,
                    stable,
                    behind: end - stable,
                });
            }
        }
        Ok(open)
    }

    /// Makes a topic, writes a record to it in a transaction, reads it back and removes the topic. The topic takes the
    /// broker's time for its records, which tells how far the clocks are apart.
    pub fn write(&self, wait: Duration) -> Result<Clocks> {
        let topic = format!("{DOCTOR_PREFIX}{}", std::process::id());
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(-1))
            .set("message.timestamp.type", "LogAppendTime");
        let made = block_on(self.admin()?.create_topics([&new], &options()));
        each(made.map_err(LogError::unavailable)?, "creating", &topic)?;
        let told = self.written(&topic, wait);
        let removed = block_on(self.admin()?.delete_topics(&[&topic], &options()));
        each(removed.map_err(LogError::unavailable)?, "removing", &topic)?;
        told
    }

    fn written(&self, topic: &str, wait: Duration) -> Result<Clocks> {
        let writing = |error| {
            may(
                error,
                "WRITE and DESCRIBE on the topics that begin with weir.",
            )
        };
        let producer = self.producer(LANE_PREFIX, wait)?;
        // the first write also finds out where the partition is: it tells nothing about the clock
        let mut clocks = None;
        for round in 0..2 {
            producer.begin_transaction().map_err(writing)?;
            let before = now_ms();
            let record = BaseRecord::<(), [u8]>::to(topic)
                .partition(0)
                .payload(b"weir doctor");
            producer.send(record).map_err(|(error, _)| writing(error))?;
            let deadline = Instant::now() + wait;
            while producer.in_flight_count() > 0 && Instant::now() < deadline {
                producer.poll(Duration::from_millis(1));
            }
            let after = now_ms();
            producer.commit_transaction(wait).map_err(writing)?;
            if round == 1 {
                clocks = Some((before, after));
            }
        }
        let consumer = self.consumer("read_committed")?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning)
            .map_err(LogError::unavailable)?;
        consumer.assign(&list).map_err(LogError::unavailable)?;
        let mut stamped = None;
        let deadline = Instant::now() + wait;
        let mut seen = 0;
        while seen < 2 && Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    seen += 1;
                    stamped = message.timestamp().to_millis();
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => {
                    return Err(may(error, "READ on the topics that begin with weir."));
                }
            }
        }
        let ((before, after), Some(broker)) =
            (clocks.unwrap_or_default(), stamped.filter(|_| seen == 2))
        else {
            return Err(LogError::unavailable(format!(
                "what was committed to \"{topic}\" was not read within {wait:?}"
            )));
        };
        Ok(Clocks {
            ahead_ms: broker - i64::midpoint(before, after),
            error_ms: (after - before) / 2 + 1,
        })
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Kept>> {
        let mut settings = self.settings.clone();
        // librdkafka assigns only where there is a group id; it never joins
        settings
            .set("group.id", GROUP_READERS)
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        settings
            .create_with_context(Kept::default())
            .map_err(LogError::unavailable)
    }
}

/// What an error means where rights may be what is missing.
fn may(error: KafkaError, rights: &str) -> LogError {
    match error.rdkafka_error_code() {
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => LogError::invalid(format!("not allowed ({error}); grant {rights}")),
        _ => LogError::unavailable(error),
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
