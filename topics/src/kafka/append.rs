//! Writes outside a transaction: one idempotent producer for the process, acknowledged by all replicas.

use std::sync::Arc;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use tokio::sync::oneshot;

use super::client::{MESSAGE_BYTES_MAX, Shared, logged};
use super::revive::{LOOK_MS, Revival};
use super::transaction::record;
use crate::error::LogError;
use crate::log::{Append, Appended, Outgoing, Result};

type Acknowledged = Result<i64>;

#[derive(Default)]
struct Acknowledging(Revival);

impl ClientContext for Acknowledging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.take(statistics);
    }
}

impl ProducerContext for Acknowledging {
    type DeliveryOpaque = Box<oneshot::Sender<Acknowledged>>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, to: Self::DeliveryOpaque) {
        let answer = match delivery {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => Err(failed(error, message.topic(), message.payload_len())),
        };
        // who no longer waits does not want to know
        drop(to.send(answer));
    }
}

fn failed(error: &KafkaError, topic: &str, bytes: usize) -> LogError {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge) => LogError::TooLarge {
            topic: topic.to_owned(),
            bytes,
            bytes_max: MESSAGE_BYTES_MAX,
        },
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            LogError::missing_topic(topic)
        }
        Some(Code::TopicAuthorizationFailed) => LogError::denied(topic, "WRITE"),
        Some(Code::ClusterAuthorizationFailed) => LogError::invalid(
            "kafka refuses idempotent writes; grant WRITE on a topic, or before Kafka 2.8 IDEMPOTENT_WRITE on the cluster",
        ),
        _ => LogError::unavailable(error),
    }
}

pub(super) struct Appender {
    shared: Arc<Shared>,
    /// Settings that librdkafka refuses are told by the first append: making an appender cannot fail.
    producer: Result<ThreadedProducer<Acknowledging>>,
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let config = shared.settings(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "1"),
            ("message.max.bytes", &MESSAGE_BYTES_MAX.to_string()),
            ("delivery.timeout.ms", "30000"),
            ("statistics.interval.ms", LOOK_MS),
        ]);
        let producer: Result<ThreadedProducer<Acknowledging>> = config
            .create_with_context(Acknowledging::default())
            .map_err(|e| LogError::invalid(format!("kafka settings: {e}")));
        if let Ok(producer) = &producer {
            let client = producer.client().native_ptr();
            producer.context().0.of(client, shared.brokers());
        }
        Self { shared, producer }
    }

    fn send(&self, outgoing: &Outgoing) -> Result<oneshot::Receiver<Acknowledged>> {
        let producer = self.producer.as_ref().map_err(Clone::clone)?;
        let partition = self.shared.route(outgoing)?;
        let (to, answer) = oneshot::channel();
        let BaseRecord {
            topic,
            partition,
            payload,
            key,
            timestamp,
            headers,
            ..
        } = record(outgoing, partition);
        let record = BaseRecord {
            topic,
            partition,
            payload,
            key,
            timestamp,
            headers,
            delivery_opaque: Box::new(to),
        };
        match producer.send(record) {
            Ok(()) => Ok(answer),
            Err((error, _)) => Err(failed(
                &error,
                &outgoing.topic,
                outgoing.record.value.as_ref().map_or(0, |v| v.len()),
            )),
        }
    }
}

impl Append for Appender {
    fn append(&self, records: Vec<Outgoing>) -> Appended<'_> {
        Box::pin(async move {
            // all or none is not promised, but what can be refused beforehand is
            let sent = records
                .iter()
                .map(|outgoing| self.send(outgoing))
                .collect::<Result<Vec<_>>>()?;
            drop(records);
            let mut offsets = Vec::with_capacity(sent.len());
            for answer in sent {
                offsets.push(
                    answer
                        .await
                        .map_err(|_| LogError::unavailable("the producer has ended"))??,
                );
            }
            Ok(offsets)
        })
    }
}
