//! The raw loop that any Kafka line in this place would have: librdkafka, consume, copy, produce, commit, in transactions, with
//! all that makes it fast (a proper drain, the fetch queue's backoff, large batches), and nothing else. As a process of its
//! own, with partitions given to it, so that no rebalance disturbs it.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use topics::catalog::TRIGGERS;

use super::child::READY;
use super::cluster::{Cluster, Loaded, PARTITIONS, cluster};
use super::orders;
use super::ours::{self, COPY, Check, Samples};
use super::pass::{Passed, Running, measure};
use crate::meter::{load, median};
use crate::place;
use crate::report::{Row, Target};

/// What the bench's own program is called with to be this process; then the settings as JSON.
pub const ARGUMENT: &str = "--raw-loop";
pub(crate) const NAMES: &[&str] = &["raw_loop.records_per_s.passthrough"];

const GROUP: &str = "bench-raw";
const LANES: usize = 2;
/// The same for both.
const TRANSACTION_RECORDS: usize = 5_000;
const WAIT: Duration = Duration::from_secs(10);
const PAIRS: usize = 3;

#[derive(Serialize, Deserialize)]
struct Settings {
    brokers: String,
    output: String,
    /// Where each partition begins.
    from: Vec<i64>,
}

/// Waits until everything is acknowledged; whether it was in time.
#[expect(
    unsafe_code,
    reason = "rdkafka's own flush serves one event at a time and waits out the linger"
)]
pub(super) fn flush(producer: &BaseProducer, wait: Duration) -> bool {
    // SAFETY: the handle lives as long as the producer; the call takes nothing else.
    let answer = unsafe {
        rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), wait.as_millis() as i32)
    };
    answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// The process: loops until standard input ends.
pub fn child(settings: &str) -> Result<()> {
    let settings: Settings = serde_json::from_str(settings).context("settings")?;
    writeln!(std::io::stdout(), "{READY}")?;
    // whoever started this holds the other end
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn({
                    let settings = &settings;
                    move || run(lane, settings)
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join()
                .map_err(|_| anyhow::anyhow!("a lane panicked"))?
        })
    })
}

fn run(lane: usize, settings: &Settings) -> Result<()> {
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", &settings.brokers);
    let consumer: BaseConsumer = base
        .clone()
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "65536")
        .create()?;
    let producer: BaseProducer = base
        .set("transactional.id", format!("bench-raw-{lane}"))
        .set("transaction.timeout.ms", "15000")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("delivery.report.only.error", "true")
        .create()?;
    producer.init_transactions(WAIT)?;
    let mut next = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(&settings.from) {
        if partition as usize % LANES == lane {
            next.add_partition_offset(TRIGGERS, partition, Offset::Offset(*offset))?;
        }
    }
    consumer.assign(&next)?;
    loop {
        let (mut records, deadline) = (0, Instant::now() + Duration::from_secs(1));
        let mut offsets = TopicPartitionList::new();
        while records < TRANSACTION_RECORDS && (records == 0 || Instant::now() < deadline) {
            let Some(message) = consumer.poll(Duration::from_millis(50)) else {
                continue;
            };
            let message = message?;
            if records == 0 {
                producer.begin_transaction()?;
            }
            let key = message.key().unwrap_or_default();
            let record = BaseRecord::to(&settings.output)
                .partition(message.partition())
                .key(key)
                .payload(message.payload().unwrap_or_default());
            producer.send(record).map_err(|(error, _)| error)?;
            match offsets.find_partition(TRIGGERS, message.partition()) {
                Some(mut found) => found.set_offset(Offset::Offset(message.offset() + 1))?,
                None => offsets.add_partition_offset(
                    TRIGGERS,
                    message.partition(),
                    Offset::Offset(message.offset() + 1),
                )?,
            }
            records += 1;
        }
        ensure!(
            flush(&producer, WAIT),
            "records were not acknowledged in time"
        );
        let metadata = consumer.group_metadata().context("no group")?;
        producer.send_offsets_to_transaction(&offsets, &metadata, WAIT)?;
        match producer.commit_transaction(WAIT) {
            Ok(()) => {}
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                producer.commit_transaction(WAIT)?
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ours and theirs in turns.
pub(crate) fn measure_both() -> Result<Vec<Row>> {
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    let (records, warm) = (600_000, 100_000);
    crate::say(&format!("loading {records} orders …"));
    let triggers = cluster.load(TRIGGERS, PARTITIONS, records, |n| {
        (
            orders::key(n),
            orders::trigger(n, COPY, orders::order(n).into_bytes()).to_vec(),
        )
    })?;
    let span = (warm, records - records / 10);
    let mut settings = ours::copy_settings(cluster)?;
    settings.batch_records_max = TRANSACTION_RECORDS;
    settings.interval_ms = 1_000;
    let (mut we, mut they) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        they.push(theirs(cluster, &triggers, pair, span)?);
        let mut samples = Samples::of(records, |n| orders::order(n).into_bytes());
        we.push(ours::pass(
            cluster,
            &settings,
            &triggers,
            "weir, passthrough",
            span,
            &mut samples,
        )?);
    }
    cluster.empty(TRIGGERS, PARTITIONS)?;
    let middle =
        |passes: &[Passed]| median(&mut passes.iter().map(|p| p.per_s).collect::<Vec<_>>());
    let told = |passes: &[Passed]| {
        let told: Vec<String> = passes
            .iter()
            .map(|p| format!("{:.0}/s {:.1} µs", p.per_s, p.cpu_us))
            .collect();
        told.join("; ")
    };
    let note = format!(
        "median of {PAIRS} pairs of {} records, {TRANSACTION_RECORDS} a transaction; ours {}; theirs {}; µs by thread: {}; {}",
        span.1 - span.0,
        told(&we),
        told(&they),
        we.last().map_or("", |p| p.threads.as_str()),
        load()
    );
    Ok(vec![
        Row::new(NAMES[0], middle(&we), "1/s")
            .peer("the raw librdkafka loop", middle(&they))
            .ratio_target(Target::AtLeast(0.5))
            .note(note),
    ])
}

fn theirs(cluster: &Cluster, triggers: &Loaded, pair: usize, span: (u64, u64)) -> Result<Passed> {
    let output = format!("raw-{pair}");
    cluster.topic(&output, PARTITIONS)?;
    cluster.rewind(GROUP, triggers)?;
    let settings = Settings {
        brokers: cluster.brokers().to_owned(),
        output: output.clone(),
        from: triggers.from.clone(),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).arg(serde_json::to_string(&settings)?);
    let scratch = place::scratch()?;
    let mut running = Running::start(command, Some(READY), scratch.path())?;
    let counter = cluster.counter(GROUP, triggers)?;
    let passed = measure(
        &mut running,
        &counter,
        "raw loop",
        span.0,
        span.1,
        triggers.count,
    )?;
    running.stop()?;
    let mut samples = Samples::of(triggers.count, |n| {
        orders::trigger(n, COPY, orders::order(n).into_bytes()).to_vec()
    });
    let mut check = Check::new(triggers.count, &mut samples);
    cluster.read(&output, &vec![0; PARTITIONS as usize], |message| {
        check.one(message.key(), message.payload().unwrap_or_default())
    })?;
    check.end()?;
    cluster.empty(&output, PARTITIONS)?;
    Ok(passed)
}
