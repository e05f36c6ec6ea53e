//! The whole line: from a trigger's own time until its row is there for somebody who looks in Postgres; by the real `weir`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use topics::catalog::{GROUP_PROCESSORS, TRIGGERS};
use xtask::services::postgres::Temporary;

use super::cluster::{Cluster, Loaded, PARTITIONS};
use super::latency::now_us;
use super::orders;
use super::serve::{PATIENCE, Serve};
use crate::meter::load;
use crate::place;
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["line.p50_ms"];
const GRAPH: &str = "line";
/// How the speeds are found.
const CALIBRATION: u64 = 150_000;
/// Of what the line can do, the rates at which it is measured; the last is the one that counts. Sender, broker, database and the one
/// who looks take their part of the same cores, and so does the broker's compiler, for a minute or two.
const PARTS: [f64; 3] = [0.1, 0.25, 0.5];
const WARM: Duration = Duration::from_secs(5);
const TIME: Duration = Duration::from_secs(20);
/// Between two looks at the table.
const LOOK: Duration = Duration::from_millis(2);
/// Of so many triggers one is looked for.
const SAMPLE: usize = 100;
/// The most that are looked for at once.
const AHEAD: usize = 60;
/// Between two counts of the rows, each of which reads all of them.
const COUNT: Duration = Duration::from_millis(500);
/// The intervals, each of which a row waits for half of on average, and the right to the table.
const SETTINGS: [(&str, &str); 3] = [
    ("WEIR_PROCESSOR__COMMIT_INTERVAL", "100ms"),
    ("WEIR_DESTINATIONS__SHOP__INTERVAL", "100ms"),
    ("WEIR_TENANTS__DEFAULT__TABLES", "shop/orders"),
];
const TABLE: &str = "create table orders (id text primary key, placed_at timestamptz, currency text, customer jsonb, lines jsonb, coupon text, shipping jsonb, note text)";

pub(crate) fn run() -> Result<Vec<Row>> {
    let place = Place::start()?;
    place.apply()?;
    let line = |role: &str| place.serve(role);
    let landed = || place.landed();
    // the parts alone, one after the other, with the same records
    let triggers = place.load(0)?;
    let counter = place.cluster.counter(GROUP_PROCESSORS, &triggers)?;
    let processor = line("processor")?;
    let processor_alone = speed("the processor alone", || counter.committed(), 0)?;
    processor.stop()?;
    let sink = line("sink")?;
    let sink_alone = speed("the sink alone", landed, 0)?;
    sink.stop()?;
    place.load(CALIBRATION)?;
    let both = line("processor,sink")?;
    let whole = speed("the line", landed, CALIBRATION)?;
    let mut first = CALIBRATION * 2;
    let mut measured = Vec::with_capacity(PARTS.len());
    for part in PARTS {
        let rate = whole * part;
        crate::say(&format!("  {rate:.0} triggers/s …"));
        let (sent, latencies) = measure(&place, first, rate)?;
        first += sent;
        let at = |part: f64| -> Result<f64> {
            let place = ((latencies.len().saturating_sub(1)) as f64 * part) as usize;
            Ok(*latencies.get(place).context("no row came")? as f64 / 1_000.0)
        };
        let (p50, p99, most) = (at(0.5)?, at(0.99)?, at(1.0)?);
        let words = format!(
            "at {rate:.0} triggers/s, {part} of that, p50 {p50:.0}, p99 {p99:.0}, max {most:.0} ms of {} rows (one of {SAMPLE})",
            latencies.len()
        );
        crate::say(&format!("  {words}"));
        measured.push((p50, words));
    }
    both.stop()?;
    let p50 = measured.last().context("there are rates")?.0;
    let words: Vec<String> = measured.into_iter().map(|(_, words)| words).collect();
    let (slowest, slowest_per_s) = if processor_alone < sink_alone {
        ("processor", processor_alone)
    } else {
        ("sink", sink_alone)
    };
    let note = format!(
        "a commit each 100 ms, a write each 100 ms; the line can do {whole:.0}/s, {:.2} × its slowest part alone (the {slowest}; processor {processor_alone:.0}/s, \
         sink {sink_alone:.0}/s); {}; one copying step, 0.8 KiB orders, the history in SQLite beside it; {}",
        whole / slowest_per_s,
        words.join("; "),
        load()
    );
    Ok(vec![
        Row::new(NAMES[0], p50, "ms")
            .target(Target::AtMost(230.0))
            .note(note),
    ])
}

/// Broker, database, and where processes run.
struct Place {
    runtime: Runtime,
    // dropped before its folder
    postgres: Temporary,
    scratch: TempDir,
    cluster: Cluster,
}

impl Place {
    fn start() -> Result<Self> {
        // one of its own: what lies in the results of others is no row here
        let cluster = Cluster::start()?;
        cluster.weir_topics(PARTITIONS)?;
        let postgres = Temporary::start()?;
        postgres.sql("create database shop")?;
        let place = Self {
            runtime: crate::log::runtime()?,
            postgres,
            scratch: place::scratch()?,
            cluster,
        };
        let mut connection = place.connect()?;
        place
            .runtime
            .block_on(sqlx::query(TABLE).execute(&mut connection))?;
        Ok(place)
    }

    /// The destination; Weir's store is another database of the server.
    fn url(&self) -> String {
        let url = self.postgres.url();
        url.strip_suffix("/postgres").unwrap_or(&url).to_owned() + "/shop"
    }

    fn connect(&self) -> Result<PgConnection> {
        Ok(self.runtime.block_on(PgConnection::connect(&self.url()))?)
    }

    fn process(&self, role: &str) -> Result<Serve> {
        let url = self.url();
        let mut settings = vec![("WEIR_DESTINATIONS__SHOP__URL", &*url)];
        settings.extend(SETTINGS);
        Serve::start(
            &self.cluster,
            &self.postgres.url(),
            role,
            &settings,
            self.scratch.path(),
        )
    }

    /// Nobody is there to control afterwards.
    fn apply(&self) -> Result<()> {
        let control = self.process("control")?;
        control.until("answers", || control.get("/api/v1/graphs").is_ok())?;
        let module = std::fs::read(place::root().join("processor/tests/guests/copy.wasm"))?;
        let digest = control.put_module(&module)?;
        control.apply(&format!(
            "weir: 1\nname: {GRAPH}\ntriggers:\n  {}: {{ manual: {{}} }}\nsteps:\n  copy: {{ uses: \"{digest}\", from: [{}], isolation: batch }}\nsinks:\n  rows: {{ postgres: {{ to: shop, table: orders, mode: insert, key: [id] }}, from: [copy] }}\n",
            orders::TRIGGER,
            orders::TRIGGER
        ))?;
        Ok(())
    }

    /// One that takes part, and has read from the store what was applied before.
    fn serve(&self, role: &str) -> Result<Serve> {
        let serve = self.process(role)?;
        serve.until("is ready", || serve.get("/readyz").is_ok())?;
        Ok(serve)
    }

    fn load(&self, first: u64) -> Result<Loaded> {
        self.cluster.load(TRIGGERS, PARTITIONS, CALIBRATION, |n| {
            let order = orders::order(first + n).into_bytes();
            let trigger = orders::trigger(first + n, GRAPH, order);
            (orders::key(first + n), trigger.to_vec())
        })
    }

    /// How many rows are there.
    fn landed(&self) -> Result<u64> {
        let mut connection = self.connect()?;
        let count: i64 = self.runtime.block_on(
            sqlx::query_scalar("select count(*) from orders").fetch_one(&mut connection),
        )?;
        Ok(count.unsigned_abs())
    }
}

/// What comes a second, from a fifth of the way to nine tenths of it; the rest is waited for. `before`: what was there.
fn speed(what: &str, count: impl Fn() -> Result<u64>, before: u64) -> Result<f64> {
    let deadline = Instant::now() + PATIENCE * 3;
    let until = |part: u64| loop {
        let now = count()?.saturating_sub(before);
        if now >= part {
            return anyhow::Ok((Instant::now(), now));
        }
        ensure!(
            Instant::now() < deadline,
            "{what}: {now} of {part} came out"
        );
        std::thread::sleep(COUNT);
    };
    let (begun, first) = until(CALIBRATION / 5)?;
    let (ended, last) = until(CALIBRATION - CALIBRATION / 10)?;
    until(CALIBRATION)?;
    let per_s = (last - first) as f64 / (ended - begun).as_secs_f64();
    crate::say(&format!("  {what}: {per_s:.0}/s"));
    Ok(per_s)
}

/// How many were sent; µs of each trigger of the sample after the warm-up, the smallest first.
fn measure(place: &Place, first: u64, rate: f64) -> Result<(u64, Vec<u64>)> {
    let (stop, all) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
    let (sent, seen) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&place.cluster, first, rate, &stop, &all));
        let watcher = scope.spawn(|| watch(&place.url(), first, &all));
        let joined = |outcome: std::thread::Result<Result<Vec<u64>>>, who| {
            outcome.map_err(|_| anyhow::anyhow!("the {who} panicked"))?
        };
        std::thread::sleep(WARM + TIME);
        stop.store(true, Ordering::Relaxed);
        let sent = joined(sender.join(), "sender")?;
        anyhow::Ok((sent, joined(watcher.join(), "watcher")?))
    })?;
    let from = sent.first().copied().unwrap_or_default() + WARM.as_micros() as u64;
    let mut taken: Vec<u64> = sent
        .iter()
        .step_by(SAMPLE)
        .zip(&seen)
        .filter(|(sent, _)| **sent >= from)
        .map(|(sent, seen)| seen.saturating_sub(*sent))
        .collect();
    taken.sort_unstable();
    Ok((sent.len() as u64, taken))
}

/// Sends at a steady rate, whatever becomes of it, until told to stop; gives the time of each.
fn send(
    cluster: &Cluster,
    first: u64,
    rate: f64,
    stop: &AtomicBool,
    all: &AtomicU64,
) -> Result<Vec<u64>> {
    let producer: BaseProducer = cluster
        .settings()
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("delivery.report.only.error", "true")
        .create()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * rate) as usize;
        while times.len() < due {
            let n = first + times.len() as u64;
            let (key, now) = (orders::key(n), now_us());
            let trigger = orders::trigger_at(n, GRAPH, orders::order(n).into_bytes(), now);
            let record = BaseRecord::to(TRIGGERS)
                .partition((n % u64::from(PARTITIONS)) as i32)
                .key(key.as_bytes())
                .payload(&trigger[..])
                .timestamp((now / 1_000) as i64);
            producer.send(record).map_err(|(error, _)| error)?;
            times.push(now);
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(500));
    }
    producer.flush(PATIENCE)?;
    all.store(times.len() as u64, Ordering::Relaxed);
    Ok(times)
}

/// When each row of a sample was first seen, until all of it are there. All rows would cost a core to look at.
fn watch(url: &str, first: u64, all: &AtomicU64) -> Result<Vec<u64>> {
    let runtime = crate::log::runtime()?;
    let mut connection = runtime.block_on(PgConnection::connect(url))?;
    // the table has no statistics yet
    runtime.block_on(sqlx::query("set enable_seqscan = off").execute(&mut connection))?;
    let (mut seen, mut missing) = (Vec::<u64>::new(), BTreeMap::new());
    let deadline = Instant::now() + WARM + TIME + PATIENCE;
    loop {
        let sent = all.load(Ordering::Relaxed).div_ceil(SAMPLE as u64);
        while missing.len() < AHEAD && (seen.len() as u64) < sent {
            missing.insert(
                orders::key(first + (seen.len() * SAMPLE) as u64),
                seen.len(),
            );
            seen.push(0);
        }
        // some that were looked for have never been sent
        missing.retain(|_, place| (*place as u64) < sent);
        let Some((id, _)) = missing.first_key_value() else {
            seen.truncate(sent as usize);
            return Ok(seen);
        };
        ensure!(Instant::now() < deadline, "row {id} never came");
        let ids: Vec<&str> = missing.keys().map(|id| &**id).collect();
        let select = sqlx::query_scalar::<_, String>("select id from orders where id = any($1)");
        let rows = runtime.block_on(select.bind(ids).fetch_all(&mut connection))?;
        let now = now_us();
        for id in rows {
            let place = missing.remove(&id).context("a row of somebody else")?;
            seen[place] = now;
        }
        std::thread::sleep(LOOK);
    }
}
