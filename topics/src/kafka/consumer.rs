//! Reading: a group member, and a reader of given partitions.
//!
//! librdkafka calls back from within its poll when partitions come or go. The callback only notes it; `poll` carries it
//! out: partitions that come are given to librdkafka with the next `poll`, so that `seek` and `pause` can still say where
//! and whether they start; partitions that go are told as `Revoked` and given back with the next `poll`.

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::counter;
use parking_lot::Mutex;
use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{Shared, logged};
use super::lag::Lags;
use super::revive::{LOOK_MS, Revival};
use super::rule::is_fenced;
use crate::catalog::GROUP_READERS;
use crate::error::LogError;
use crate::log::{
    Assigned, Consumer, Fetched, Join, Partition, Polled, Position, Record, Result, Topic,
};

/// How long the group's committed offsets are waited for; longer than an open transaction may last.
const COMMITTED_WAIT: Duration = Duration::from_secs(20);
const SEEK_WAIT: Duration = Duration::from_secs(10);
/// A partition that cannot be sought for so long has been stopped.
const SEEK_RETRY_WAIT: Duration = Duration::from_millis(500);
/// What a reader brings in one poll at most.
const READER_BYTES_MAX: usize = 4 << 20;

/// What the callback noted.
enum Note {
    Came(Vec<Partition>),
    Leaves {
        partitions: Vec<Partition>,
        lost: bool,
    },
}

/// The callbacks.
#[derive(Default)]
struct Noting {
    notes: Mutex<VecDeque<Note>>,
    /// The consumer is being dropped: nobody polls any more, so the callback itself gives everything back.
    closing: AtomicBool,
    /// A member's; its group.
    lags: Mutex<Option<(String, Lags)>>,
    revival: Revival,
}

impl ClientContext for Noting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.revival.take(statistics);
        if let Some((group, lags)) = &mut *self.lags.lock() {
            lags.take(group, statistics);
        }
    }
}

impl ConsumerContext for Noting {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: Response,
        list: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Relaxed) {
            if let Err(error) = consumer.unassign() {
                tracing::debug!(%error, "giving back partitions at the end");
            }
            return;
        }
        let partitions = partitions_of(list);
        let note = match event {
            Response::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Note::Came(partitions),
            _ => Note::Leaves {
                partitions,
                lost: consumer.assignment_lost(),
            },
        };
        self.notes.lock().push_back(note);
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    let partition = |topic: &str, number: i32| Partition {
        topic: Topic::from(topic),
        number: number.cast_unsigned(),
    };
    list.elements()
        .iter()
        .map(|e| partition(e.topic(), e.partition()))
        .collect()
}

fn consumer(
    shared: &Shared,
    config: &ClientConfig,
    noting: Noting,
) -> Result<BaseConsumer<Noting>> {
    let consumer: BaseConsumer<Noting> = config
        .create_with_context(noting)
        .map_err(LogError::unavailable)?;
    let client = consumer.client().native_ptr();
    consumer.context().revival.of(client, shared.brokers());
    Ok(consumer)
}

/// Without topics it leaves its group, and librdkafka gives back what it had by the callback.
fn subscribe(consumer: &BaseConsumer<Noting>, topics: &[Topic]) -> Result<()> {
    if topics.is_empty() {
        consumer.unsubscribe();
        return Ok(());
    }
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    consumer.subscribe(&topics).map_err(LogError::unavailable)
}

/// One partition that this consumer has.
struct Cursor {
    partition: Partition,
    /// Next to be returned; `None`: wherever the log starts.
    next: Option<i64>,
    paused: bool,
    /// librdkafka has been given it.
    started: bool,
    /// Told to be given up: brings no records any more.
    leaving: bool,
}

/// A consumer, in a group or not.
pub(super) struct Member {
    shared: Arc<Shared>,
    consumer: BaseConsumer<Noting>,
    group: Option<String>,
    cursors: Vec<Cursor>,
    records_max: usize,
    bytes_max: usize,
    /// The partitions whose ends were reached; only noted by a reader that reads `to_end`.
    ended: BTreeSet<i32>,
}

impl Member {
    pub(super) fn join(shared: Arc<Shared>, join: &Join) -> Result<Self> {
        for topic in &join.topics {
            shared.partitions(topic)?;
        }
        let queued = (join.bytes_max / 512).clamp(1_024, 65_536).to_string();
        let milliseconds = |wait: Duration| wait.as_millis().to_string();
        let timeouts = shared.timeouts();
        let config = shared.consumer_settings(&[
            ("group.id", &join.group),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", &milliseconds(timeouts.session)),
            ("max.poll.interval.ms", &milliseconds(timeouts.max_poll)),
            ("heartbeat.interval.ms", "500"),
            // with the default of 1 s a lane starves once its queue was full (measured: 81k instead of 410k records/s)
            ("fetch.queue.backoff.ms", "10"),
            ("queued.max.messages.kbytes", &queued),
            ("fetch.wait.max.ms", "100"),
            // how soon partitions that were added to a topic are read
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("statistics.interval.ms", "1000"),
        ]);
        let noting = Noting {
            lags: Mutex::new(Some((join.group.clone(), Lags::default()))),
            ..Noting::default()
        };
        let consumer = consumer(&shared, &config, noting)?;
        subscribe(&consumer, &join.topics)?;
        let (records_max, bytes_max) = (join.records_max.max(1), join.bytes_max.max(1));
        Ok(Self {
            shared,
            consumer,
            group: Some(join.group.clone()),
            cursors: Vec::new(),
            records_max,
            bytes_max,
            ended: BTreeSet::new(),
        })
    }

    pub(super) fn reader(
        shared: Arc<Shared>,
        from: Vec<(Partition, i64)>,
        records_max: usize,
    ) -> Result<Self> {
        Self::reading(shared, from, records_max, "false")
    }

    /// Reads partitions of one topic; `at_end` tells when the ends of all of them were reached.
    pub(super) fn to_end(shared: Arc<Shared>, from: Vec<(Partition, i64)>) -> Result<Self> {
        Self::reading(shared, from, 1_000, "true")
    }

    pub(super) fn at_end(&self) -> bool {
        self.ended.len() >= self.cursors.len()
    }

    fn reading(
        shared: Arc<Shared>,
        from: Vec<(Partition, i64)>,
        records_max: usize,
        note_end: &str,
    ) -> Result<Self> {
        for (partition, _) in &from {
            shared.check(partition)?;
        }
        // librdkafka assigns only where there is a group id; this one never joins
        let config = shared.consumer_settings(&[
            ("group.id", GROUP_READERS),
            ("enable.partition.eof", note_end),
            ("fetch.queue.backoff.ms", "10"),
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.wait.max.ms", "100"),
            ("statistics.interval.ms", LOOK_MS),
        ]);
        let consumer = consumer(&shared, &config, Noting::default())?;
        let cursor = |(partition, next)| Cursor {
            partition,
            next: Some(next),
            paused: false,
            started: true,
            leaving: false,
        };
        let cursors: Vec<Cursor> = from.into_iter().map(cursor).collect();
        consumer
            .assign(&list(cursors.iter()))
            .map_err(LogError::unavailable)?;
        Ok(Self {
            shared,
            consumer,
            group: None,
            cursors,
            records_max: records_max.max(1),
            bytes_max: READER_BYTES_MAX,
            ended: BTreeSet::new(),
        })
    }

    /// Reads these topics from now on.
    pub(super) fn subscribe(&mut self, topics: &[Topic]) -> Result<()> {
        for topic in topics {
            self.shared.partitions(topic)?;
        }
        subscribe(&self.consumer, topics)
    }

    /// The group's metadata, to be taken when it is used: it goes stale with each rebalance.
    pub(super) fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }

    pub(super) fn owns(&self, partition: &Partition) -> bool {
        self.cursors
            .iter()
            .any(|cursor| cursor.partition == *partition)
    }

    /// What this member had belongs to others already, though `poll` has not said so yet.
    pub(super) fn is_lost(&self) -> bool {
        self.consumer
            .context()
            .notes
            .lock()
            .iter()
            .any(|note| matches!(note, Note::Leaves { lost: true, .. }))
    }

    /// Reads the group's committed offsets and goes back to them.
    pub(super) fn rewind(&mut self) -> Result<Vec<Assigned>> {
        let all: Vec<Partition> = self
            .cursors
            .iter()
            .map(|cursor| cursor.partition.clone())
            .collect();
        let assigned = self.committed(all)?;
        for found in &assigned {
            let next = found
                .committed
                .as_ref()
                .map(|position| position.next_offset);
            if !super::broken::is("no-seek-after-abort") {
                self.seek_to(&found.partition, next)?;
            }
        }
        Ok(assigned)
    }

    fn committed(&self, partitions: Vec<Partition>) -> Result<Vec<Assigned>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = TopicPartitionList::new();
        for partition in &partitions {
            asked.add_partition(&partition.topic, partition.number.cast_signed());
        }
        let answer = self
            .consumer
            .committed_offsets(asked, COMMITTED_WAIT)
            .map_err(|error| {
                self.consumer.context().revival.again();
                // brokers answer only once no open transaction holds an offset (KIP-447)
                LogError::unavailable(format_args!(
                    "the group's committed offsets: {error}; if this goes on, a transaction may hang: weir doctor"
                ))
            })?;
        let mut assigned = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let found = answer.find_partition(&partition.topic, partition.number.cast_signed());
            let found =
                found.ok_or_else(|| LogError::unavailable("no answer about a committed offset"))?;
            found.error().map_err(LogError::unavailable)?;
            let committed = match found.offset() {
                Offset::Offset(next_offset) => Some(Position {
                    partition: partition.clone(),
                    next_offset,
                    metadata: found.metadata().to_owned(),
                }),
                _ => None,
            };
            assigned.push(Assigned {
                partition,
                committed,
            });
        }
        Ok(assigned)
    }

    fn cursor(&mut self, partition: &Partition) -> Result<&mut Cursor> {
        let found = self
            .cursors
            .iter_mut()
            .find(|cursor| cursor.partition == *partition);
        found.ok_or_else(|| {
            LogError::invalid(format!(
                "{}/{} is not assigned to this consumer",
                partition.topic, partition.number
            ))
        })
    }

    fn seek_to(&mut self, partition: &Partition, next: Option<i64>) -> Result<()> {
        let cursor = self.cursor(partition)?;
        cursor.next = next;
        if !cursor.started {
            return Ok(());
        }
        let offset = next.map_or(Offset::Beginning, Offset::Offset);
        let deadline = Instant::now() + SEEK_RETRY_WAIT;
        while let Err(error) = self.consumer.seek(
            &partition.topic,
            partition.number.cast_signed(),
            offset,
            SEEK_WAIT,
        ) {
            if Instant::now() > deadline {
                tracing::debug!(%error, "a seek was refused; the partition is given to librdkafka anew");
                return self.restart(partition);
            }
            // a partition that librdkafka has only just been given cannot be sought yet
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }

    /// A partition that librdkafka has stopped reading (its offset was out of range) cannot be sought: take it back and
    /// give it again, from where its cursor now stands.
    fn restart(&mut self, partition: &Partition) -> Result<()> {
        if self.group.is_none() {
            let all = list(self.cursors.iter());
            self.consumer.assign(&all).map_err(LogError::unavailable)?;
        } else {
            let one = list(
                self.cursors
                    .iter()
                    .filter(|cursor| cursor.partition == *partition),
            );
            self.consumer
                .incremental_unassign(&one)
                .map_err(LogError::unavailable)?;
            self.consumer
                .incremental_assign(&one)
                .map_err(LogError::unavailable)?;
        }
        let paused = list(
            self.cursors
                .iter()
                .filter(|cursor| cursor.paused && cursor.started),
        );
        self.consumer.pause(&paused).map_err(LogError::unavailable)
    }

    /// Gives librdkafka what came, takes from it what went.
    fn carry_out(&mut self) -> Result<()> {
        let gone: Vec<&Cursor> = self
            .cursors
            .iter()
            .filter(|cursor| cursor.leaving)
            .collect();
        if !gone.is_empty() {
            let gone = list(gone.into_iter());
            if let Err(error) = self.consumer.incremental_unassign(&gone) {
                // lost partitions may be gone already
                tracing::debug!(%error, "giving partitions back");
            }
            self.cursors.retain(|cursor| !cursor.leaving);
        }
        let came: Vec<&Cursor> = self
            .cursors
            .iter()
            .filter(|cursor| !cursor.started)
            .collect();
        if came.is_empty() {
            return Ok(());
        }
        let paused = list(came.iter().copied().filter(|cursor| cursor.paused));
        self.consumer
            .incremental_assign(&list(came.into_iter()))
            .map_err(LogError::unavailable)?;
        self.consumer
            .pause(&paused)
            .map_err(LogError::unavailable)?;
        for cursor in &mut self.cursors {
            cursor.started = true;
        }
        Ok(())
    }

    /// The next rebalance to tell of.
    fn news(&mut self) -> Result<Option<Polled>> {
        let Some(note) = self.consumer.context().notes.lock().pop_front() else {
            return Ok(None);
        };
        match note {
            Note::Came(partitions) if partitions.is_empty() => {
                self.consumer
                    .incremental_assign(&TopicPartitionList::new())
                    .map_err(LogError::unavailable)?;
                Ok(Some(Polled::Assigned(Vec::new())))
            }
            Note::Leaves { partitions, .. } if partitions.is_empty() => {
                self.consumer
                    .incremental_unassign(&TopicPartitionList::new())
                    .map_err(LogError::unavailable)?;
                Ok(None)
            }
            Note::Came(partitions) => {
                let assigned = match self.committed(partitions.clone()) {
                    Ok(assigned) => assigned,
                    Err(error) => {
                        self.consumer
                            .context()
                            .notes
                            .lock()
                            .push_front(Note::Came(partitions));
                        return Err(error);
                    }
                };
                for Assigned {
                    partition,
                    committed,
                } in &assigned
                {
                    let next = committed.as_ref().map(|position| position.next_offset);
                    self.cursors.retain(|cursor| cursor.partition != *partition);
                    self.cursors.push(Cursor {
                        partition: partition.clone(),
                        next,
                        paused: false,
                        started: false,
                        leaving: false,
                    });
                }
                Ok(Some(Polled::Assigned(assigned)))
            }
            Note::Leaves { partitions, lost } => {
                for cursor in self
                    .cursors
                    .iter_mut()
                    .filter(|cursor| partitions.contains(&cursor.partition))
                {
                    cursor.leaving = true;
                }
                Ok(Some(Polled::Revoked { partitions, lost }))
            }
        }
    }

    fn fetch(&mut self, wait: Duration) -> Result<Vec<Fetched>> {
        let deadline = Instant::now() + wait;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < self.records_max && bytes < self.bytes_max {
            let left = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.consumer.poll(left) {
                None => {
                    let noted = !self.consumer.context().notes.lock().is_empty();
                    if noted || !records.is_empty() || Instant::now() >= deadline {
                        break;
                    }
                }
                Some(Ok(message)) => {
                    let number = message.partition().cast_unsigned();
                    let at = self.cursors.iter().position(|c| {
                        c.partition.number == number && *c.partition.topic == *message.topic()
                    });
                    let Some(at) = at.filter(|at| !self.cursors[*at].leaving) else {
                        continue;
                    };
                    let cursor = &mut self.cursors[at];
                    cursor.next = Some(message.offset() + 1);
                    let fetched = fetched(cursor.partition.clone(), &message);
                    bytes += message.key_len() + message.payload_len();
                    records.push(fetched);
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    self.ended.insert(number);
                    if self.at_end() {
                        break;
                    }
                }
                Some(Err(error)) => {
                    if let Some(error) = self.read_error(&error) {
                        if records.is_empty() {
                            return Err(error);
                        }
                        // it comes again, or is found again by the offsets, once these records have been taken
                        tracing::debug!(%error, "reading");
                        break;
                    }
                }
            }
        }
        Ok(records)
    }

    /// What an error of reading means; `None`: librdkafka deals with it by itself.
    fn read_error(&self, error: &KafkaError) -> Option<LogError> {
        match error {
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                Some(self.out_of_range())
            }
            KafkaError::MessageConsumption(
                Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition,
            ) => Some(LogError::Missing {
                what: "a topic that this consumer reads".into(),
            }),
            KafkaError::MessageConsumption(Code::TopicAuthorizationFailed) => {
                Some(LogError::invalid(format!(
                    "kafka refuses to let {} be read; grant READ on each of them (see `weir topics rights`)",
                    self.topics()
                )))
            }
            KafkaError::MessageConsumption(Code::GroupAuthorizationFailed) => {
                let group = self.group.as_deref().unwrap_or(GROUP_READERS);
                Some(LogError::invalid(format!(
                    "kafka refuses the group \"{group}\"; grant READ on it (see `weir topics rights`)"
                )))
            }
            KafkaError::MessageConsumptionFatal(code) if is_fenced(*code) => {
                Some(LogError::Fenced {
                    owner: self.group.clone().unwrap_or_default(),
                })
            }
            KafkaError::MessageConsumptionFatal(_) => Some(LogError::unavailable(error)),
            error => {
                tracing::debug!(%error, "reading");
                None
            }
        }
    }

    /// Those that this consumer reads, for an error in which librdkafka does not say which it was.
    fn topics(&self) -> String {
        let names: BTreeSet<&str> = self.cursors.iter().map(|c| &*c.partition.topic).collect();
        if names.is_empty() {
            return "its topics".to_owned();
        }
        names.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// librdkafka does not say which partition it was.
    fn out_of_range(&self) -> LogError {
        for cursor in &self.cursors {
            let (Some(offset), Ok((start, end))) =
                (cursor.next, self.shared.offsets(&cursor.partition))
            else {
                continue;
            };
            if offset < start || offset > end {
                return LogError::OutOfRange {
                    partition: cursor.partition.clone(),
                    offset,
                    start,
                    end,
                };
            }
        }
        LogError::unavailable("an offset was out of range, but no longer is")
    }
}

fn list<'a>(cursors: impl Iterator<Item = &'a Cursor>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for cursor in cursors {
        let offset = cursor.next.map_or(Offset::Beginning, Offset::Offset);
        let (topic, number) = (
            &cursor.partition.topic,
            cursor.partition.number.cast_signed(),
        );
        list.add_partition_offset(topic, number, offset)
            .expect("an offset that librdkafka or the group gave");
    }
    list
}

fn fetched(partition: Partition, message: &BorrowedMessage<'_>) -> Fetched {
    let record = Record {
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: message.headers().map(named).unwrap_or_default(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
    };
    Fetched {
        partition,
        offset: message.offset(),
        record,
    }
}

/// The headers whose names are UTF-8. The library gives no other access to them, and panics where one is not: such a
/// header is left out, and said.
fn named(headers: &BorrowedHeaders) -> Vec<(String, Bytes)> {
    let one = |at: usize| {
        let header = headers.get(at);
        let value = header.value.map(Bytes::copy_from_slice).unwrap_or_default();
        (header.key.to_owned(), value)
    };
    let read = |at: usize| {
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| one(at)));
        if read.is_err() {
            counter!("weir_kafka_headers_left_out_total").increment(1);
            tracing::warn!("a header whose name is no UTF-8 was left out");
        }
        read.ok()
    };
    (0..headers.count()).filter_map(read).collect()
}

impl Drop for Member {
    fn drop(&mut self) {
        self.consumer
            .context()
            .closing
            .store(true, Ordering::Relaxed);
        // a rebalance that was noted but not carried out would keep the group waiting
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "giving back partitions at the end");
        }
    }
}

impl Consumer for Member {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.carry_out()?;
        if let Some(news) = self.news()? {
            return Ok(news);
        }
        let records = self.fetch(wait)?;
        if records.is_empty()
            && let Some(news) = self.news()?
        {
            return Ok(news);
        }
        Ok(Polled::Records(records))
    }

    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        self.seek_to(partition, Some(offset))
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        for partition in partitions {
            self.cursor(partition)?.paused = true;
        }
        let started = self
            .cursors
            .iter()
            .filter(|cursor| cursor.started && partitions.contains(&cursor.partition));
        self.consumer
            .pause(&list(started))
            .map_err(LogError::unavailable)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        for partition in partitions {
            self.cursor(partition)?.paused = false;
        }
        let started = self
            .cursors
            .iter()
            .filter(|cursor| cursor.started && partitions.contains(&cursor.partition));
        self.consumer
            .resume(&list(started))
            .map_err(LogError::unavailable)
    }
}
