//! A transactional producer and its open transaction, as lanes and sources use it.
//!
//! What an error leaves behind decides what may be done next:
//! - *abortable*: nothing is committed; abort, go on with the same producer;
//! - *broken* (fatal, or a commit whose outcome is not known): only a successor with the same transactional id settles
//!   it; aborting instead could hit a later transaction (KAFKA-17754);
//! - *fenced*: somebody else has the id; this owner is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Kept, MESSAGE_BYTES_MAX, Shared, is_fenced, is_moved, logged};
use crate::error::LogError;
use crate::log::{Outgoing, Position, Record, Result};

const INIT_WAIT: Duration = Duration::from_secs(60);
/// Retried calls of one commit end well before the transaction does.
const FINISH_WAIT: Duration = Duration::from_secs(12);
const STEP_WAIT: Duration = Duration::from_secs(5);

/// The callbacks: the first delivery that failed, and whether the connection was disturbed.
#[derive(Default)]
struct Delivering {
    kept: Kept,
    failed: Mutex<Option<(Code, String)>>,
}

impl ClientContext for Delivering {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.kept.error(error, reason);
    }
}

impl ProducerContext for Delivering {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = delivery {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            let topic = rdkafka::Message::topic(message).to_owned();
            self.failed.lock().get_or_insert((code, topic));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Abortable,
    Broken,
    Fenced,
}

/// The producer of one transactional id.
pub(super) struct Transaction {
    shared: Arc<Shared>,
    id: String,
    producer: BaseProducer<Delivering>,
    health: Health,
    open: bool,
}

impl Transaction {
    /// Takes the id: fences its last owner and settles what that left open.
    pub(super) fn take(shared: Arc<Shared>, id: String) -> Result<Self> {
        let producer = producer(&shared, &id)?;
        Ok(Self {
            shared,
            id,
            producer,
            health: Health::Good,
            open: false,
        })
    }

    /// Adds a record; begins if need be.
    pub(super) fn send(&mut self, outgoing: &Outgoing) -> Result<()> {
        self.usable()?;
        let partition = self.shared.route(outgoing)?;
        self.begin()?;
        let mut record = record(outgoing, partition);
        let deadline = Instant::now() + FINISH_WAIT;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => {
                    self.health = Health::Abortable;
                    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                    if code == Code::MessageSizeTooLarge {
                        let bytes = outgoing
                            .record
                            .value
                            .as_ref()
                            .map_or(0, |value| value.len());
                        return Err(LogError::TooLarge {
                            topic: outgoing.topic.to_string(),
                            bytes,
                            bytes_max: MESSAGE_BYTES_MAX,
                        });
                    }
                    return Err(self.failed("send", code, &error));
                }
            }
        }
    }

    /// Commits what was sent, with the offsets if there are any. On an error: `settle`.
    pub(super) fn finish(
        &mut self,
        positions: &[Position],
        group: &str,
        metadata: impl Fn() -> Option<ConsumerGroupMetadata>,
    ) -> Result<()> {
        self.usable()?;
        if !self.open && positions.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let deadline = Instant::now() + FINISH_WAIT;
        self.drain(deadline)?;
        if !positions.is_empty() {
            self.send_offsets(positions, group, metadata, deadline)?;
        }
        self.commit(deadline)
    }

    fn usable(&self) -> Result<()> {
        match self.health {
            Health::Good => Ok(()),
            Health::Fenced => Err(self.fenced()),
            Health::Abortable | Health::Broken => Err(LogError::Uncertain {
                what: format!("the last transaction of \"{}\"", self.id),
            }),
        }
    }

    fn begin(&mut self) -> Result<()> {
        if !self.open {
            self.producer
                .context()
                .kept
                .disturbed
                .store(false, Ordering::Relaxed);
            self.producer
                .begin_transaction()
                .map_err(|error| self.transaction_failed("begin", &error))?;
            self.open = true;
        }
        Ok(())
    }

    /// Waits until every record has been acknowledged, or one has failed.
    fn drain(&mut self, deadline: Instant) -> Result<()> {
        while self.producer.in_flight_count() > 0 {
            // a flush makes librdkafka forget the linger; that it is not done at once is no error
            if self.producer.flush(Duration::ZERO).is_err() {
                self.producer.poll(Duration::from_millis(1));
            }
            if Instant::now() > deadline {
                self.health = Health::Abortable;
                return Err(LogError::unavailable(
                    "records were not acknowledged in time",
                ));
            }
        }
        self.producer.poll(Duration::ZERO);
        let failed = self.producer.context().failed.lock().take();
        let Some((code, topic)) = failed else {
            return Ok(());
        };
        self.health = Health::Abortable;
        Err(match code {
            Code::MessageSizeTooLarge => LogError::TooLarge {
                topic,
                bytes: MESSAGE_BYTES_MAX,
                bytes_max: MESSAGE_BYTES_MAX,
            },
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                LogError::missing_topic(&topic)
            }
            code => self.failed("delivery", code, &KafkaError::MessageProduction(code)),
        })
    }

    fn send_offsets(
        &mut self,
        positions: &[Position],
        group: &str,
        metadata: impl Fn() -> Option<ConsumerGroupMetadata>,
        deadline: Instant,
    ) -> Result<()> {
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let mut entry = offsets.add_partition(
                &position.partition.topic,
                position.partition.number.cast_signed(),
            );
            entry
                .set_offset(Offset::Offset(position.next_offset))
                .map_err(|e| LogError::invalid(format!("offset {}: {e}", position.next_offset)))?;
            entry.set_metadata(&position.metadata);
        }
        loop {
            let Some(metadata) = metadata() else {
                self.health = Health::Abortable;
                return Err(LogError::Moved {
                    group: group.to_owned(),
                });
            };
            match self
                .producer
                .send_offsets_to_transaction(&offsets, &metadata, STEP_WAIT)
            {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < deadline => {}
                Err(error) => {
                    let moved = error.rdkafka_error_code().is_some_and(is_moved);
                    let failed = self.transaction_failed("offsets", &error);
                    return Err(if moved && self.health == Health::Abortable {
                        LogError::Moved {
                            group: group.to_owned(),
                        }
                    } else {
                        failed
                    });
                }
            }
        }
    }

    fn commit(&mut self, deadline: Instant) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.producer.commit_transaction(STEP_WAIT) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < deadline => {}
                Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                    let error = KafkaError::Transaction(error);
                    return Err(self.transaction_failed("commit", &error));
                }
                Err(KafkaError::Flush(code)) => {
                    // before the commit was asked for
                    self.health = Health::Abortable;
                    return Err(LogError::unavailable(format!("flush: {code}")));
                }
                Err(error) => {
                    let code = self.fatal_code().or_else(|| error.rdkafka_error_code());
                    if code.is_some_and(is_fenced) {
                        self.health = Health::Fenced;
                        return Err(self.fenced());
                    }
                    self.health = Health::Broken;
                    return Err(LogError::Uncertain {
                        what: format!("a transaction of \"{}\" ({error})", self.id),
                    });
                }
            }
        }
        self.open = false;
        // librdkafka repeats requests by itself: a first copy may still be under way, and land in a later transaction
        let disturbed = self
            .producer
            .context()
            .kept
            .disturbed
            .load(Ordering::Relaxed);
        if disturbed || started.elapsed() > self.shared.timeouts().socket / 2 {
            self.health = Health::Broken;
            return Err(LogError::Uncertain {
                what: format!(
                    "a transaction of \"{}\" (the connection was disturbed)",
                    self.id
                ),
            });
        }
        Ok(())
    }

    /// After an error, or to drop what was sent: brings the producer back to where a new transaction may begin.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self.health {
            Health::Fenced => return Err(self.fenced()),
            Health::Broken => return self.rebuild(),
            Health::Good | Health::Abortable if !self.open => {
                self.health = Health::Good;
                return Ok(());
            }
            Health::Good | Health::Abortable => {}
        }
        // an abort with records in flight waits for deliveries that nobody polls: let them arrive first
        let deadline = Instant::now() + STEP_WAIT;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            if self.producer.flush(Duration::ZERO).is_err() {
                self.producer.poll(Duration::from_millis(1));
            }
        }
        let aborted = loop {
            match self.producer.abort_transaction(STEP_WAIT) {
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < deadline => {}
                other => break other,
            }
        };
        match aborted {
            Ok(()) => {
                self.producer.poll(Duration::ZERO);
                self.producer.context().failed.lock().take();
                (self.open, self.health) = (false, Health::Good);
                Ok(())
            }
            Err(error) => {
                self.transaction_failed("abort", &error);
                if self.health == Health::Fenced {
                    Err(self.fenced())
                } else {
                    self.rebuild()
                }
            }
        }
    }

    fn rebuild(&mut self) -> Result<()> {
        tracing::info!(id = %self.id, "a new transactional producer settles what the last one left open");
        self.producer = producer(&self.shared, &self.id)?;
        (self.open, self.health) = (false, Health::Good);
        Ok(())
    }

    fn fenced(&self) -> LogError {
        LogError::Fenced {
            owner: self.id.clone(),
        }
    }

    fn fatal_code(&self) -> Option<Code> {
        self.producer.client().fatal_error().map(|(code, _)| code)
    }

    /// Notes what a failed transactional call leaves behind, and says it.
    fn transaction_failed(&mut self, call: &str, error: &KafkaError) -> LogError {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        self.health = match error {
            KafkaError::Transaction(error) if error.txn_requires_abort() => Health::Abortable,
            _ => Health::Broken,
        };
        self.failed(call, code, error)
    }

    fn failed(&mut self, call: &str, code: Code, error: &KafkaError) -> LogError {
        if is_fenced(code) || self.fatal_code().is_some_and(is_fenced) {
            self.health = Health::Fenced;
            return self.fenced();
        }
        if self.fatal_code().is_some() {
            self.health = Health::Broken;
        }
        LogError::unavailable(format!("{call} of \"{}\": {error}", self.id))
    }
}

fn producer(shared: &Shared, id: &str) -> Result<BaseProducer<Delivering>> {
    let config = shared.settings(&[
        ("transactional.id", id),
        (
            "transaction.timeout.ms",
            &shared.timeouts().transaction.as_millis().to_string(),
        ),
        ("linger.ms", "5"),
        ("batch.size", "1000000"),
        ("message.max.bytes", &MESSAGE_BYTES_MAX.to_string()),
        ("queue.buffering.max.messages", "1000000"),
        ("delivery.report.only.error", "true"),
    ]);
    let producer: BaseProducer<Delivering> = config
        .create_with_context(Delivering::default())
        .map_err(|e| LogError::invalid(format!("kafka settings: {e}")))?;
    let deadline = Instant::now() + INIT_WAIT;
    loop {
        match producer.init_transactions(STEP_WAIT) {
            Ok(()) => return Ok(producer),
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline => {}
            Err(error) => return Err(LogError::unavailable(format!("taking \"{id}\": {error}"))),
        }
    }
}

/// A record as librdkafka takes it.
pub(super) fn record(outgoing: &Outgoing, partition: i32) -> BaseRecord<'_, [u8], [u8], ()> {
    let Record {
        key,
        value,
        headers,
        timestamp_ms,
    } = &outgoing.record;
    let mut record = BaseRecord::to(&outgoing.topic)
        .partition(partition)
        .timestamp(*timestamp_ms);
    if let Some(key) = key {
        record = record.key(&key[..]);
    }
    if let Some(value) = value {
        record = record.payload(&value[..]);
    }
    if !headers.is_empty() {
        let all = OwnedHeaders::new_with_capacity(headers.len());
        let add = |all: OwnedHeaders, (name, value): &(String, bytes::Bytes)| {
            all.insert(Header {
                key: name,
                value: Some(&value[..]),
            })
        };
        record = record.headers(headers.iter().fold(all, add));
    }
    record
}
