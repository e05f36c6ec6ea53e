//! A log with results, and a pass of the sink over it: from memory, so that the sink and the database are what takes time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use schemas::records::{Output, Payload, SegmentResult};
use schemas::{ExecutionId, graph};
use sink::{Definitions, Destination, Options, Sink, SinkConfig};
use store::{NewVersion, Store};
use tokio::runtime::Runtime;
use topics::catalog::{RESULTS, topics};
use topics::{Embedded, Log, Outgoing, Record};

use super::rows::order;
use super::{Passed, Watch};

pub(super) const DESTINATION: &str = "shop";
/// Of the sink, and so of whoever it is held against.
pub(super) const BATCH: usize = 1_000;
const GRAPH: &str = "g";
const TENANT: &str = "default";
const STEP: &str = "t";
const PARTITIONS: u64 = 4;
const LOOK: Duration = Duration::from_millis(20);
/// Without anything landed; reaching it is a failure.
const STALLED: Duration = Duration::from_secs(60);

/// Results that wait, and the version that they are of.
pub(super) struct Line {
    pub(super) log: Arc<dyn Log>,
    pub(super) store: Store,
    pub(super) results: u64,
}

impl Line {
    /// One output each. `sinks`: as a graph has them; the output goes to `to`.
    pub(super) fn fill(
        runtime: &Runtime,
        sinks: &str,
        to: Option<&str>,
        results: u64,
    ) -> Result<Self> {
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&topics())?;
        let store = runtime.block_on(Store::memory())?;
        let version = apply(runtime, &store, sinks)?;
        // of today, as most batches are
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let since_ms = since.as_millis() as u64;
        let appender = log.appender();
        for first in (0..results).step_by(BATCH) {
            let until = results.min(first + BATCH as u64);
            let records = (first..until)
                .map(|n| record(n, since_ms, version, to))
                .collect();
            runtime.block_on(appender.append(records))?;
        }
        Ok(Self {
            log,
            store,
            results,
        })
    }

    /// All of it, measured from a tenth on. `position`: how many results have landed, as the destination says.
    pub(super) fn pass(
        &self,
        runtime: &Runtime,
        destination: impl Into<Destination>,
        history: bool,
        mut position: impl FnMut() -> Result<u64>,
    ) -> Result<Passed> {
        let definitions = Definitions::new(
            self.store.clone(),
            runtime.handle().clone(),
            DESTINATION,
            Arc::new(|_, _, _| true),
        );
        let config = SinkConfig {
            history,
            batch_records_max: BATCH,
            ..SinkConfig::new(DESTINATION)
        };
        let writes = Arc::new(AtomicU64::new(0));
        let counted = writes.clone();
        let sink = Sink::start(
            self.log.clone(),
            destination,
            Some(definitions),
            config,
            Arc::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }),
        )?;
        let mut until = |count: u64| {
            let (mut landed, mut moved) = (0, Instant::now());
            loop {
                let now = position()?;
                if now >= count {
                    return anyhow::Ok(now);
                }
                if now > landed {
                    (landed, moved) = (now, Instant::now());
                }
                ensure!(
                    sink.healthy() && moved.elapsed() < STALLED,
                    "{landed} of {} results landed; {}",
                    self.results,
                    sink.trouble().unwrap_or_default()
                );
                std::thread::sleep(LOOK);
            }
        };
        let warm = until(self.results / 10)?;
        let (watch, before) = (Watch::start(), writes.load(Ordering::Relaxed));
        until(self.results)?;
        let rows = self.results - warm;
        let mut passed = watch.passed(rows);
        sink.stop()?;
        let writes = writes.load(Ordering::Relaxed) - before;
        passed.batch = rows as f64 / writes.max(1) as f64;
        Ok(passed)
    }
}

pub(super) fn options(history: bool) -> Options {
    Options {
        name: DESTINATION.into(),
        history,
        retention: sink::Retention::default(),
    }
}

fn record(n: u64, since_ms: u64, version: [u8; 32], to: Option<&str>) -> Outgoing {
    let time_ms = since_ms + n;
    let execution = ExecutionId::derive(time_ms, TENANT, GRAPH, STEP, &n.to_string());
    let output = Output {
        step: STEP.into(),
        port: "out".into(),
        number: 0,
        sinks: to.map(str::to_owned).into_iter().collect(),
        key: None,
        content_type: "application/json".into(),
        headers: vec![],
        data: Payload::Inline(Bytes::from(order(n).json())),
    };
    let result = SegmentResult {
        tenant: TENANT.into(),
        graph: GRAPH.into(),
        version,
        trigger: STEP.into(),
        trigger_id: n.to_string(),
        execution,
        time_us: time_ms * 1_000,
        segment: execution.0,
        origin: None,
        failure: None,
        outputs: vec![output],
        started: vec![],
        logs: vec![],
        logs_dropped: 0,
    };
    Outgoing {
        topic: RESULTS.into(),
        // in runs, so that rows of one bucket stay together
        partition: Some((n / 20 % PARTITIONS) as u32),
        record: Record {
            key: None,
            value: Some(result.encode()),
            headers: vec![],
            timestamp_ms: time_ms as i64,
        },
    }
}

fn apply(runtime: &Runtime, store: &Store, sinks: &str) -> Result<[u8; 32]> {
    let source = format!(
        "weir: 1\nname: {GRAPH}\ntriggers: {{ {STEP}: {{ manual: {{}} }} }}\nsteps: {{}}\nsinks:\n{sinks}"
    );
    let canonical = graph::parse(&source, GRAPH)
        .and_then(|graph| graph.resolve(&mut Nothing))
        .map_err(|problems| anyhow!("the graph: {problems:?}"))?
        .canonical()
        .map_err(|error| anyhow!("the graph: {error:?}"))?;
    let version = graph::version(&canonical);
    let new = NewVersion {
        tenant: TENANT.into(),
        graph: GRAPH.into(),
        version: version.clone(),
        canonical,
        source,
        webhooks: vec![],
        subscriptions: vec![],
        writes: vec![],
        starts: vec![],
        schemas: vec![],
        at_ms: 1,
    };
    runtime.block_on(store.apply(new))?;
    let bytes = hex::decode(version)?;
    bytes.try_into().ok().context("a version is 32 bytes")
}

/// The graph names no files.
struct Nothing;

impl graph::Resolve for Nothing {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        Err(uses.to_owned())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}
