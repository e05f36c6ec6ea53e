//! Rows a second that the sink lands in a CQL database, against the driver's own concurrent inserts of the same rows.
//!
//! `cargo run --release -p sink --example cql_rate [ROWS]`; it starts a Cassandra of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use schemas::graph;
use schemas::records::{Output, Payload, SegmentResult};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use sink::{Definitions, Options, Scylla, ScyllaSettings, Sink, SinkConfig, WriteTimes};
use store::{NewVersion, Store};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use topics::catalog::{RESULTS, topics};
use topics::{Embedded, Log, Outgoing, Record};
use xtask::services::cassandra::Temporary;

const GRAPH: &str = "weir: 1
name: g
triggers: { t: { manual: {} } }
steps: {}
sinks:
  rows: { scylla: { to: wide, table: orders }, from: [t] }
";
/// Rows of one partition of the user's table.
const LINES: u64 = 20;
const IN_FLIGHT: usize = 256;

fn main() -> Result<()> {
    let rows = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse())?;
    let server = Temporary::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let session = Arc::new(runtime.block_on(prepare(&server.at()))?);
    let bare = |rows| runtime.block_on(bare(&session, rows));
    // a database that has just started is slow
    bare(rows / 4)?;
    for round in 0..3 {
        let theirs = bare(rows)?;
        let users = sink(&runtime, &session, &server.at(), rows, false)?;
        let history = sink(&runtime, &session, &server.at(), rows / 3, true)?;
        eprintln!(
            "round {round}: the driver's inserts {theirs:.0} rows/s; a user's table {users:.0} rows/s, ratio {:.2}; the history {history:.0} rows/s, ratio {:.2}",
            users / theirs,
            history / theirs
        );
    }
    Ok(())
}

async fn prepare(at: &str) -> Result<Session> {
    let session = SessionBuilder::new().known_node(at).build().await?;
    let create = "create keyspace rate with replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    session.query_unpaged(create, ()).await?;
    session.use_keyspace("rate", true).await?;
    for table in ["orders", "bare"] {
        let create = format!(
            "create table {table} (id bigint, line int, note text, primary key (id, line))"
        );
        session.query_unpaged(create, ()).await?;
    }
    Ok(session)
}

fn note() -> String {
    "n".repeat(560)
}

/// One request per row.
async fn bare(session: &Arc<Session>, rows: u64) -> Result<f64> {
    let insert = "insert into bare (id, line, note) values (?, ?, ?) using timestamp ?";
    let mut insert = session.prepare(insert).await?;
    insert.set_is_idempotent(true);
    let begun = Instant::now();
    let mut flying = JoinSet::new();
    for n in 0..rows {
        if flying.len() >= IN_FLIGHT {
            flying.join_next().await.context("one is under way")???;
        }
        let (session, insert) = (session.clone(), insert.clone());
        flying.spawn(async move {
            let values = ((n / LINES) as i64, (n % LINES) as i32, note(), n as i64);
            session.execute_unpaged(&insert, values).await.map(drop)
        });
    }
    while let Some(done) = flying.join_next().await {
        done??;
    }
    Ok(rows as f64 / begun.elapsed().as_secs_f64())
}

/// The whole sink: from results on the log to the position that says that all have landed.
fn sink(
    runtime: &Runtime,
    session: &Session,
    at: &str,
    results: u64,
    history: bool,
) -> Result<f64> {
    let log: Arc<dyn Log> = Arc::new(Embedded::memory());
    log.create_topics(&topics())?;
    let store = runtime.block_on(Store::memory())?;
    let version = apply(runtime, &store)?;
    runtime.block_on(fill(&*log, version, results, history))?;
    let config = SinkConfig {
        history,
        ..SinkConfig::new("wide")
    };
    let options = Options {
        name: "wide".into(),
        history,
        retention: None,
    };
    let handle = runtime.handle().clone();
    let definitions = Definitions::new(
        store.clone(),
        handle.clone(),
        "wide",
        Arc::new(|_, _, _| true),
    );
    let times = WriteTimes::new(log.clone(), store, handle);
    let settings =
        ScyllaSettings::parse(&format!("scylla://{at}/rate")).map_err(anyhow::Error::msg)?;
    // the tables are made beforehand
    if position(runtime, session).is_ok() {
        runtime.block_on(session.query_unpaged("truncate weir_positions", ()))?;
    }
    let begun = Instant::now();
    let sink = Sink::start(
        log,
        Scylla::new(settings, options, times)?,
        Some(definitions),
        config,
        Arc::new(|| {}),
    )?;
    while position(runtime, session).unwrap_or_default() < results as i64 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let rows = if history { results * 3 } else { results };
    let rate = rows as f64 / begun.elapsed().as_secs_f64();
    sink.stop()?;
    Ok(rate)
}

fn position(runtime: &Runtime, session: &Session) -> Result<i64> {
    let select = "select next_offset from weir_positions";
    let found = runtime.block_on(session.query_unpaged(select, ()))?;
    let found = found.into_rows_result()?;
    let rows = found.rows::<(i64,)>()?;
    Ok(rows
        .map(|row| row.map(|(next,)| next))
        .sum::<Result<i64, _>>()?)
}

async fn fill(log: &dyn Log, version: [u8; 32], results: u64, history: bool) -> Result<()> {
    let appender = log.appender();
    let record = |n: u64| {
        let data = format!(
            r#"{{"id":{},"line":{},"note":"{}"}}"#,
            n / LINES,
            n % LINES,
            note()
        );
        let output = Output {
            step: "t".into(),
            port: "out".into(),
            number: 0,
            sinks: if history { vec![] } else { vec!["rows".into()] },
            key: None,
            content_type: "application/json".into(),
            headers: vec![],
            data: Payload::Inline(Bytes::from(data)),
        };
        let execution = schemas::ExecutionId::derive(n, "default", "g", "t", &n.to_string());
        let result = SegmentResult {
            tenant: "default".into(),
            graph: "g".into(),
            version,
            trigger: "t".into(),
            trigger_id: n.to_string(),
            execution,
            time_us: n,
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
            partition: Some((n / LINES % 4) as u32),
            record: Record {
                key: None,
                value: Some(result.encode()),
                headers: vec![],
                timestamp_ms: n as i64,
            },
        }
    };
    for first in (0..results).step_by(1_000) {
        let until = results.min(first + 1_000);
        appender
            .append((first..until).map(record).collect())
            .await?;
    }
    Ok(())
}

fn apply(runtime: &Runtime, store: &Store) -> Result<[u8; 32]> {
    let graph = graph::parse(GRAPH, "g").map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let graph = graph
        .resolve(&mut Nothing)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let canonical = graph.canonical().map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let version = graph::version(&canonical);
    let new = NewVersion {
        tenant: "default".into(),
        graph: "g".into(),
        version: version.clone(),
        canonical,
        source: GRAPH.into(),
        webhooks: vec![],
        subscriptions: vec![],
        writes: vec![],
        starts: vec![],
        schemas: vec![],
        at_ms: 1,
    };
    runtime.block_on(store.apply(new))?;
    let bytes = hex::decode(version)?;
    bytes
        .try_into()
        .map_err(|_| anyhow::anyhow!("a version is 32 bytes"))
}

struct Nothing;

impl graph::Resolve for Nothing {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        Err(uses.to_owned())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}
