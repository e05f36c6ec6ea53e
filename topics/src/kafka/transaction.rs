//! A transactional producer and its open transaction, as lanes and sources use it.
//!
//! What an error leaves behind is `rule`'s to say:
//! - *abortable*: nothing is committed; abort, go on with the same producer;
//! - *broken* (fatal, or a commit whose outcome is not known): only a successor with the same transactional id settles
//!   it; aborting instead could hit a later transaction (KAFKA-17754);
//! - *fenced*: somebody else has the id; this owner is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::Mutex;
use rdkafka::bindings::{rd_kafka_flush, rd_kafka_resp_err_t as Response};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{MESSAGE_BYTES_MAX, Shared, logged};
use super::rule::{Action, Call, REPEAT_BACKOFF, Seen, action, certain};
use crate::error::LogError;
use crate::log::{Outgoing, Position, Record, Result};

const INIT_WAIT: Duration = Duration::from_secs(60);
const FLUSH_STEP_MS: i32 = 5;
/// How long records gather before they are sent; a commit waits for none of it. Longer than a broker takes to acknowledge:
/// while a partition has a request under way, the thread of librdkafka's producer that has the next one ready asks for its
/// end without a pause (`rd_kafka_msgq_allow_wakeup_at` wakes it at once, `rd_kafka_toppar_producer_serve` may not send).
/// With 5 ms that was 70,000 turns a second for each lane, a sixth of all its processor time.
const LINGER_MS: &str = "20";
const STEP_WAIT: Duration = Duration::from_secs(5);
/// The broker is still writing a transaction's markers when it has answered its commit. A next one that begins within
/// them is refused, and librdkafka waits 20 ms before it tries again: the first records are held back for a little.
const MARKERS: Duration = Duration::from_millis(3);

/// The callbacks: the first delivery that failed, and whether a connection is known to have broken. They are called when
/// the producer is polled, never within a transactional call, and leave out what is like the last error: an extra, that
/// nothing rests on.
#[derive(Default)]
struct Delivering {
    failed: Mutex<Option<(Code, String)>>,
    disturbed: AtomicBool,
    /// How many callbacks there were.
    called: AtomicU64,
}

impl ClientContext for Delivering {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.called.fetch_add(1, Ordering::Relaxed);
        if facility == "FAIL" || facility == "REQTMOUT" {
            self.disturbed.store(true, Ordering::Release);
        }
        logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.called.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, reason, "librdkafka");
        self.disturbed.store(true, Ordering::Release);
    }
}

impl ProducerContext for Delivering {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        self.called.fetch_add(1, Ordering::Relaxed);
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
    /// Sent too soon after the last commit.
    held: VecDeque<Outgoing>,
    committed_at: Option<Instant>,
    /// The longest transactional call since the transaction began.
    longest: Duration,
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
            held: VecDeque::new(),
            committed_at: None,
            longest: Duration::ZERO,
        })
    }

    /// Adds records; begins if need be.
    pub(super) fn send(&mut self, records: Vec<Outgoing>) -> Result<()> {
        self.usable()?;
        if !self.open && self.committed_at.is_some_and(|at| at.elapsed() < MARKERS) {
            self.held.extend(records);
            return Ok(());
        }
        self.send_held()?;
        records.iter().try_for_each(|record| self.send_one(record))
    }

    fn send_held(&mut self) -> Result<()> {
        while let Some(outgoing) = self.held.pop_front() {
            self.send_one(&outgoing)?;
        }
        Ok(())
    }

    fn send_one(&mut self, outgoing: &Outgoing) -> Result<()> {
        let partition = self.shared.route(outgoing)?;
        self.begin()?;
        let mut record = record(outgoing, partition);
        let deadline = Instant::now() + self.finish_wait();
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
                    if error.rdkafka_error_code() == Some(Code::MessageSizeTooLarge) {
                        self.health = Health::Abortable;
                        let value = outgoing.record.value.as_ref();
                        return Err(LogError::TooLarge {
                            topic: outgoing.topic.to_string(),
                            bytes: value.map_or(0, |value| value.len()),
                            bytes_max: MESSAGE_BYTES_MAX,
                        });
                    }
                    let (_, failed) = self.failed(Call::Send, &error, false);
                    return Err(match error.rdkafka_error_code() {
                        Some(Code::TopicAuthorizationFailed) => {
                            LogError::denied(&outgoing.topic, "WRITE")
                        }
                        _ => failed,
                    });
                }
            }
        }
    }

    /// Commits what was sent, with the offsets if there are any. On an error: `settle`.
    pub(super) fn finish(
        &mut self,
        positions: &[Position],
        group: &str,
        metadata: impl Fn() -> Option<Arc<ConsumerGroupMetadata>>,
    ) -> Result<()> {
        self.usable()?;
        if !self.open && self.held.is_empty() && positions.is_empty() {
            return Ok(());
        }
        if !self.open && self.held.is_empty() {
            // offsets alone begin with a request that is refused within the markers, and repeated only much later
            let since = self.committed_at.map_or(MARKERS, |at| at.elapsed());
            std::thread::sleep(MARKERS.saturating_sub(since));
        }
        self.begin()?;
        self.send_held()?;
        let deadline = Instant::now() + self.finish_wait();
        self.drain(deadline)?;
        if !positions.is_empty() {
            self.send_offsets(positions, group, metadata, deadline)?;
        }
        self.commit(deadline)
    }

    /// Retried calls of one commit end well before the transaction does.
    fn finish_wait(&self) -> Duration {
        self.shared.timeouts().transaction * 4 / 5
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
            // Every request of the last transaction has been answered once: what happened since concerns none.
            self.disturbed();
            let context = self.producer.context();
            context.disturbed.store(false, Ordering::Release);
            self.longest = Duration::ZERO;
            if let Err(error) = self.producer.begin_transaction() {
                return Err(self.failed(Call::Begin, &error, false).1);
            }
            self.open = true;
        }
        Ok(())
    }

    /// Whether a connection broke or a request timed out since the transaction began. A poll serves one event.
    fn disturbed(&self) -> bool {
        let context = self.producer.context();
        loop {
            let called = context.called.load(Ordering::Relaxed);
            self.producer.poll(Duration::ZERO);
            if context.called.load(Ordering::Relaxed) == called {
                return context.disturbed.load(Ordering::Acquire);
            }
        }
    }

    /// Waits a little for every record to be acknowledged or to fail; whether that is so. librdkafka forgets the linger
    /// meanwhile. The library's own `flush` and `poll` would wait out a millisecond at a time, spinning.
    #[expect(
        unsafe_code,
        reason = "the library offers no flush that only waits for the count of messages"
    )]
    fn flushed(&self) -> bool {
        // SAFETY: the handle is the producer's, which outlives the call; flushing may be done from any thread.
        let left = unsafe { rd_kafka_flush(self.producer.client().native_ptr(), FLUSH_STEP_MS) };
        // what failed counts until its report has been taken
        self.disturbed();
        left == Response::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Waits until every record has been acknowledged, or one has failed.
    fn drain(&mut self, deadline: Instant) -> Result<()> {
        while !self.flushed() {
            if Instant::now() > deadline {
                self.health = Health::Abortable;
                return Err(LogError::unavailable(
                    "records were not acknowledged in time",
                ));
            }
        }
        let failed = self.producer.context().failed.lock().take();
        let Some((code, topic)) = failed else {
            return Ok(());
        };
        let (_, failed) = self.failed(Call::Deliver, &KafkaError::MessageProduction(code), false);
        Err(match code {
            Code::MessageSizeTooLarge => LogError::TooLarge {
                topic,
                bytes: MESSAGE_BYTES_MAX,
                bytes_max: MESSAGE_BYTES_MAX,
            },
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                LogError::missing_topic(&topic)
            }
            Code::TopicAuthorizationFailed => LogError::denied(&topic, "WRITE"),
            _ => failed,
        })
    }

    fn send_offsets(
        &mut self,
        positions: &[Position],
        group: &str,
        metadata: impl Fn() -> Option<Arc<ConsumerGroupMetadata>>,
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
        let moved = || LogError::Moved {
            group: group.to_owned(),
        };
        loop {
            // taken anew for each try: what was true of the group a moment ago may be no longer
            let Some(metadata) = metadata() else {
                self.health = Health::Abortable;
                return Err(moved());
            };
            let started = Instant::now();
            let sent = self
                .producer
                .send_offsets_to_transaction(&offsets, &metadata, STEP_WAIT);
            self.longest = self.longest.max(started.elapsed());
            let Err(error) = sent else { return Ok(()) };
            match self.failed(Call::Offsets, &error, Instant::now() < deadline) {
                (Action::Again, _) => {}
                (Action::AbortMoved, _) => return Err(moved()),
                (_, failed) => return Err(failed),
            }
        }
    }

    fn commit(&mut self, deadline: Instant) -> Result<()> {
        let started = Instant::now();
        loop {
            let committed = self.producer.commit_transaction(STEP_WAIT);
            self.longest = self.longest.max(started.elapsed());
            let Err(error) = committed else { break };
            match self.failed(Call::Commit, &error, Instant::now() < deadline) {
                (Action::Again, _) => {}
                (Action::RebuildUncertain, _) => {
                    return Err(self.uncertain("unanswered", &error.to_string()));
                }
                (_, failed) => return Err(failed),
            }
        }
        self.open = false;
        self.committed_at = Some(Instant::now());
        let disturbed = self.disturbed();
        let timeouts = self.shared.timeouts();
        if certain(self.longest, disturbed, timeouts.socket) || super::broken::is("trust-commit-ok")
        {
            return Ok(());
        }
        self.health = Health::Broken;
        Err(if disturbed {
            self.uncertain(
                "disturbed",
                "a connection broke or a request timed out meanwhile",
            )
        } else {
            self.uncertain("slow", "a call took long")
        })
    }

    /// After an error, or to drop what was sent: brings the producer back to where a new transaction may begin.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.held.clear();
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
        while !self.flushed() && Instant::now() < deadline {}
        let aborted = loop {
            let started = Instant::now();
            let aborted = self.producer.abort_transaction(STEP_WAIT);
            self.longest = self.longest.max(started.elapsed());
            let Err(error) = aborted else { break Ok(()) };
            match self.failed(Call::Abort, &error, Instant::now() < deadline) {
                (Action::Again, _) => {}
                (_, failed) => break Err(failed),
            }
        };
        // an abort's copy that is under way would abort the next transaction
        let disturbed = self.disturbed();
        let sure = certain(self.longest, disturbed, self.shared.timeouts().socket);
        match aborted {
            Ok(()) if sure => {
                self.producer.context().failed.lock().take();
                (self.open, self.health) = (false, Health::Good);
                self.committed_at = Some(Instant::now());
                Ok(())
            }
            Err(failed @ (LogError::Fenced { .. } | LogError::Invalid { .. })) => Err(failed),
            Ok(()) | Err(_) => self.rebuild(),
        }
    }

    fn rebuild(&mut self) -> Result<()> {
        tracing::info!(id = %self.id, "a new transactional producer settles what the last one left open");
        counter!("weir_kafka_producers_rebuilt_total").increment(1);
        self.producer = producer(&self.shared, &self.id)?;
        (self.open, self.health) = (false, Health::Good);
        self.committed_at = None;
        Ok(())
    }

    fn fenced(&self) -> LogError {
        LogError::Fenced {
            owner: self.id.clone(),
        }
    }

    fn uncertain(&self, cause: &'static str, why: &str) -> LogError {
        counter!("weir_kafka_uncertain_total", "cause" => cause).increment(1);
        LogError::Uncertain {
            what: format!("a transaction of \"{}\" ({why})", self.id),
        }
    }

    /// Looks a failed call up in the table, and notes what it leaves behind.
    fn failed(&mut self, call: Call, error: &KafkaError, time_left: bool) -> (Action, LogError) {
        let action = action(call, seen(&self.producer, error), time_left);
        let call = call.name();
        tracing::debug!(id = %self.id, call, ?action, %error, "a transactional call failed");
        let failed = match action {
            Action::Again => return (action, LogError::unavailable(error)),
            Action::Fenced => self.fenced(),
            Action::Stop(reason) => LogError::invalid(format!("{reason} ({call}: {error})")),
            _ => LogError::unavailable(format!("{call} of \"{}\": {error}", self.id)),
        };
        self.health = match action {
            Action::Again => self.health,
            Action::Abort | Action::AbortMoved => Health::Abortable,
            Action::Rebuild | Action::RebuildUncertain | Action::Stop(_) => Health::Broken,
            Action::Fenced => Health::Fenced,
        };
        (action, failed)
    }
}

fn seen(producer: &BaseProducer<Delivering>, error: &KafkaError) -> Seen {
    Seen {
        code: error.rdkafka_error_code().unwrap_or(Code::Unknown),
        fatal: producer.client().fatal_error().map(|(code, _)| code),
        retriable: matches!(error, KafkaError::Transaction(e) if e.is_retriable()),
        requires_abort: matches!(error, KafkaError::Transaction(e) if e.txn_requires_abort()),
        flush: matches!(error, KafkaError::Flush(_)),
    }
}

fn producer(shared: &Shared, id: &str) -> Result<BaseProducer<Delivering>> {
    let config = shared.settings(&[
        ("transactional.id", id),
        (
            "transaction.timeout.ms",
            &shared.timeouts().transaction.as_millis().to_string(),
        ),
        ("linger.ms", LINGER_MS),
        ("batch.size", "1000000"),
        ("message.max.bytes", &MESSAGE_BYTES_MAX.to_string()),
        ("queue.buffering.max.messages", "1000000"),
        ("delivery.report.only.error", "true"),
        // the default, and needed: a request that timed out ends its connection, and a late answer with it
        ("socket.max.fails", "1"),
        // what makes a repeated request visible, see `rule::certain`
        ("retry.backoff.ms", &REPEAT_BACKOFF.as_millis().to_string()),
    ]);
    let producer: BaseProducer<Delivering> = config
        .create_with_context(Delivering::default())
        .map_err(|e| LogError::invalid(format!("kafka settings: {e}")))?;
    let deadline = Instant::now() + INIT_WAIT;
    loop {
        let Err(error) = producer.init_transactions(STEP_WAIT) else {
            return Ok(producer);
        };
        match action(
            Call::Init,
            seen(&producer, &error),
            Instant::now() < deadline,
        ) {
            Action::Again => {}
            Action::Stop(reason) => {
                return Err(LogError::invalid(format!("{reason} (\"{id}\": {error})")));
            }
            _ => return Err(LogError::unavailable(format!("taking \"{id}\": {error}"))),
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
