//! From a trigger's own time to its committed result in a reader's hands, at half of what the line can do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use schemas::records::SegmentResult;
use topics::catalog::{GROUP_PROCESSORS, RESULTS, TRIGGERS};

use super::child::Settings;
use super::cluster::{Cluster, PARTITIONS, cluster};
use super::orders;
use super::ours::{self, Samples};
use crate::meter::load;
use crate::place;
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &[
    "latency.p50_over_interval",
    "latency.p99_over_interval",
    "latency.p50_ms.10ms",
];
const GRAPH: &str = "orders";
/// How the full speed is found.
const CALIBRATION: u64 = 200_000;
const WARM: Duration = Duration::from_secs(5);
const TIME: Duration = Duration::from_secs(20);
/// For results that are late; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds.
struct Latency {
    p50: f64,
    p99: f64,
    most: f64,
    count: usize,
    /// How often results began to come later than three intervals, in the order in which they came.
    spells: usize,
    complaints: Vec<String>,
}

pub(crate) fn run() -> Result<Vec<Row>> {
    let cluster = cluster()?;
    cluster.weir_topics(PARTITIONS)?;
    let settings = ours::orders_settings(cluster)?;
    let full = full_speed(cluster, &settings)?;
    let rate = full / 2.0;
    let at = |interval_ms: u64| {
        measure(
            cluster,
            &Settings {
                interval_ms,
                ..settings.clone()
            },
            rate,
        )
    };
    let (slow, fast) = (at(100)?, at(10)?);
    let note = |interval: u64, l: &Latency| {
        format!(
            "p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms of {} results, above three intervals in {} spells; a commit each {interval} ms; {rate:.0} triggers/s, half of {full:.0}/s; three steps, batch; {}{}",
            l.p50,
            l.p99,
            l.most,
            l.count,
            l.spells,
            load(),
            told(&l.complaints)
        )
    };
    Ok(vec![
        Row::new(NAMES[0], slow.p50 / 100.0, "×")
            .peer("the commit interval of 100 ms", 1.0)
            .target(Target::AtMost(1.3))
            .note(note(100, &slow)),
        Row::new(NAMES[1], slow.p99 / 100.0, "×")
            .peer("the commit interval of 100 ms", 1.0)
            .target(Target::AtMost(3.0))
            .note(note(100, &slow)),
        Row::new(NAMES[2], fast.p50, "ms")
            .target(Target::AtMost(35.0))
            .note(note(10, &fast)),
    ])
}

fn told(complaints: &[String]) -> String {
    match complaints {
        [] => String::new(),
        [first, ..] => format!("; {} complaints, such as: {first}", complaints.len()),
    }
}

fn full_speed(cluster: &Cluster, settings: &Settings) -> Result<f64> {
    let triggers = cluster.load(TRIGGERS, PARTITIONS, CALIBRATION, |n| {
        (
            orders::key(n),
            orders::trigger(n, GRAPH, orders::order(n).into_bytes()).to_vec(),
        )
    })?;
    let span = (CALIBRATION / 4, CALIBRATION - CALIBRATION / 10);
    let passed = ours::pass(
        cluster,
        settings,
        &triggers,
        "weir at full speed",
        span,
        &mut Samples::default(),
    )?;
    cluster.empty(TRIGGERS, PARTITIONS)?;
    Ok(passed.per_s)
}

fn measure(cluster: &Cluster, settings: &Settings, rate: f64) -> Result<Latency> {
    crate::say(&format!(
        "  {rate:.0} triggers/s, a commit each {} ms …",
        settings.interval_ms
    ));
    // an empty load: the group stands where the sender begins
    let nothing = cluster.load(TRIGGERS, PARTITIONS, 0, |n| (orders::key(n), Vec::new()))?;
    cluster.rewind(GROUP_PROCESSORS, &nothing)?;
    let consumer = results(cluster)?;
    let scratch = place::scratch()?;
    let running = ours::start(settings, scratch.path())?;
    // what the group takes to form (3 s by Kafka's default) is not what is measured: nor is the load that would pile up
    probe(cluster, &consumer)?;
    let stop = AtomicBool::new(false);
    let (latencies, spells) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(cluster, rate, &stop));
        let read = read(&consumer, &stop);
        stop.store(true, Ordering::Relaxed);
        let sent = sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let (mut taken, count) = read?;
        // everything that was sent comes out
        come(&consumer, count, sent)?;
        let late = |us: &u64| *us > 3_000 * settings.interval_ms;
        let spells = taken.chunk_by(|a, b| late(a) == late(b));
        let spells = spells.filter(|spell| late(&spell[0])).count();
        taken.sort_unstable();
        anyhow::Ok((taken, spells))
    })?;
    let complaints = running.complaints();
    running.stop()?;
    let at = |part: f64| -> Result<f64> {
        let place = ((latencies.len().saturating_sub(1)) as f64 * part) as usize;
        Ok(*latencies.get(place).context("no result came")? as f64 / 1_000.0)
    };
    Ok(Latency {
        p50: at(0.5)?,
        p99: at(0.99)?,
        most: at(1.0)?,
        count: latencies.len(),
        spells,
        complaints,
    })
}

/// A reader of committed results, from now on.
fn results(cluster: &Cluster) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = cluster
        .settings()
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let mut start = TopicPartitionList::new();
    for (partition, end) in (0..).zip(cluster.ends(RESULTS, PARTITIONS)?) {
        start.add_partition_offset(RESULTS, partition, Offset::Offset(end))?;
    }
    consumer.assign(&start)?;
    Ok(consumer)
}

/// One trigger for each partition, and waits until their results have come.
fn probe(cluster: &Cluster, consumer: &BaseConsumer) -> Result<()> {
    let producer: BaseProducer = cluster.settings().create()?;
    let partitions = u64::from(PARTITIONS);
    for n in 0..partitions {
        send_one(&producer, n)?;
    }
    producer.flush(PATIENCE)?;
    come(consumer, 0, partitions)
}

/// Waits until the results that are missing have come.
fn come(consumer: &BaseConsumer, mut count: u64, all: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while count < all {
        ensure!(
            Instant::now() < deadline,
            "{count} of {all} results came out"
        );
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            message?;
            count += 1;
        }
    }
    Ok(())
}

/// The n-th trigger, of now.
fn send_one(producer: &BaseProducer, n: u64) -> Result<()> {
    let key = orders::key(n);
    let trigger = orders::trigger_at(n, GRAPH, orders::order(n).into_bytes(), now_us());
    let record = BaseRecord::to(TRIGGERS)
        .partition((n % u64::from(PARTITIONS)) as i32)
        .key(key.as_bytes())
        .payload(&trigger[..])
        .timestamp((now_us() / 1_000) as i64);
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .context("the sender")
}

/// Sends at a steady rate, whatever becomes of it, until told to stop; how many.
fn send(cluster: &Cluster, rate: f64, stop: &AtomicBool) -> Result<u64> {
    let producer: BaseProducer = cluster
        .settings()
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("queue.buffering.max.messages", "1000000")
        .set("delivery.report.only.error", "true")
        .create()?;
    let (started, mut sent) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            send_one(&producer, sent)?;
            sent += 1;
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(500));
    }
    producer.flush(PATIENCE)?;
    Ok(sent)
}

/// µs of all results between the end of the warm-up and the end of the time, and how many came at all.
fn read(consumer: &BaseConsumer, stop: &AtomicBool) -> Result<(Vec<u64>, u64)> {
    let (mut taken, mut count, mut first) = (Vec::new(), 0, None::<Instant>);
    let deadline = Instant::now() + PATIENCE + WARM + TIME;
    loop {
        let since = first.map_or(Duration::ZERO, |first| first.elapsed());
        if since >= WARM + TIME {
            stop.store(true, Ordering::Relaxed);
            return Ok((taken, count));
        }
        ensure!(Instant::now() < deadline, "no results came");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let (message, now) = (message?, now_us());
        first.get_or_insert_with(Instant::now);
        let result = SegmentResult::decode(&Bytes::copy_from_slice(
            message.payload().unwrap_or_default(),
        ))?;
        ensure!(
            result.failure.is_none(),
            "an execution failed: {:?}",
            result.failure
        );
        count += 1;
        if since >= WARM {
            taken.push(now.saturating_sub(result.time_us));
        }
    }
}

pub(super) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
