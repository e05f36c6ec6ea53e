//! The loop as one would write it with librdkafka alone, and as its documentation has it: whatever returned without an
//! error is done. It is the control: what harms it must not harm a lane.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use topics::{Outgoing, Position};

use super::late::Copier;
use super::timeouts;
use crate::weir::PATIENCE;

const WAIT: Duration = Duration::from_secs(5);

pub(super) struct Raw {
    producer: BaseProducer,
    consumer: BaseConsumer,
    brokers: String,
    input: String,
    id: String,
    open: bool,
}

fn producer(brokers: &str, id: &str) -> BaseProducer {
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", id)
        .set("socket.timeout.ms", milliseconds(timeouts().socket))
        .set(
            "transaction.timeout.ms",
            milliseconds(timeouts().transaction),
        )
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

impl Raw {
    /// Joins, and returns the committed position too.
    pub(super) fn open(brokers: &str, input: &str, group: &str) -> (Self, i64) {
        let id = format!("{group}-0");
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set(
                "session.timeout.ms",
                timeouts().session.as_millis().to_string(),
            )
            .create()
            .unwrap();
        let raw = Self {
            producer: producer(brokers, &id),
            consumer,
            brokers: brokers.to_owned(),
            input: input.to_owned(),
            id,
            open: false,
        };
        raw.consumer.subscribe(&[input]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while raw.consumer.assignment().unwrap().count() == 0 {
            assert!(Instant::now() < deadline, "no partition came");
            raw.consumer.poll(Duration::from_millis(100));
        }
        let from = raw.committed();
        (raw, from)
    }

    fn committed(&self) -> i64 {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.input, 0);
        let found = self.consumer.committed_offsets(asked, PATIENCE).unwrap();
        match found.elements()[0].offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        }
    }

    fn drain(&self) {
        let deadline = Instant::now() + WAIT;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::from_millis(1));
        }
    }
}

/// A call that may be repeated is.
fn retried(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            done => return done,
        }
    }
}

impl Copier for Raw {
    fn send(&mut self, result: Outgoing) -> bool {
        if !self.open {
            if self.producer.begin_transaction().is_err() {
                return false;
            }
            self.open = true;
        }
        let value = result.record.value.unwrap();
        let record = BaseRecord::<(), [u8]>::to(&result.topic)
            .partition(0)
            .payload(&value[..]);
        self.producer.send(record).is_ok()
    }

    fn commit(&mut self, position: Position) -> bool {
        self.consumer.poll(Duration::ZERO);
        self.drain();
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&self.input, 0, Offset::Offset(position.next_offset))
            .unwrap();
        let group = self.consumer.group_metadata().unwrap();
        let done = retried(|| {
            self.producer
                .send_offsets_to_transaction(&offsets, &group, WAIT)
        })
        .and_then(|()| retried(|| self.producer.commit_transaction(WAIT)));
        if let Err(error) = &done {
            eprintln!("{}: {error}", self.input);
        }
        self.open = done.is_err();
        done.is_ok()
    }

    fn abort(&mut self) -> Option<i64> {
        self.drain();
        if let Err(error) = retried(|| self.producer.abort_transaction(WAIT)) {
            eprintln!("{}: {error}", self.input);
            self.producer = producer(&self.brokers, &self.id);
        }
        self.open = false;
        Some(self.committed())
    }
}
