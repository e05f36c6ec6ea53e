//! Rows that the sink lands in a CQL database, against the driver's own concurrent inserts of the same rows.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use sink::{Scylla, ScyllaSettings, WriteTimes};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xtask::services::cassandra::Temporary;

use super::line::{Line, options};
use super::rows::{Order, order};
use super::{Passed, Watch};
use crate::meter::{load, median};
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["cql.rows_per_s.over_bare"];
const ROWS: u64 = 60_000;
const PAIRS: usize = 3;
const IN_FLIGHT: usize = 256;
/// Each row a partition of its own, or twenty of them one.
const TABLES: [(&str, &str); 2] = [("orders", "id"), ("buckets", "bucket, id")];
const SINKS: &str = "  alone: { scylla: { to: shop, table: orders }, from: [t] }\n  together: { scylla: { to: shop, table: buckets }, from: [t] }\n";

pub(crate) fn run() -> Result<Vec<Row>> {
    let server = Temporary::start()?;
    let runtime = super::runtime()?;
    let session = Arc::new(runtime.block_on(prepare(&server.at()))?);
    let fill = |to, results| Line::fill(&runtime, SINKS, to, results);
    let (alone, together) = (fill(Some("alone"), ROWS)?, fill(Some("together"), ROWS)?);
    let history = fill(None, ROWS / 3)?;
    let orders: Vec<Arc<Order>> = (0..ROWS).map(|n| Arc::new(order(n))).collect();
    let bare = |table| {
        empty(&runtime, &session)?;
        runtime.block_on(bare(&session, table, &orders))
    };
    let ours = |line, history| sink(&runtime, &session, &server.at(), line, history);
    // a server that has just started is slow
    for _ in 0..2 {
        bare("orders")?;
    }
    let (mut ratios, mut buckets, mut histories, mut told) = (vec![], vec![], vec![], vec![]);
    for pair in 0..PAIRS {
        let (landed, inserted) = if pair % 2 == 0 {
            let inserted = bare("orders")?;
            (ours(&alone, false)?, inserted)
        } else {
            let landed = ours(&alone, false)?;
            (landed, bare("orders")?)
        };
        let (gathered, scattered) = (ours(&together, false)?, bare("buckets")?);
        // an execution, its place in the list of its day, and an output
        let past = ours(&history, true)?;
        ratios.push(landed.per_s / inserted.per_s);
        buckets.push(gathered.per_s / scattered.per_s);
        histories.push(past.per_s * 3.0);
        let words = format!("{} of {}", landed.words(), inserted.words());
        crate::say(&format!(
            "  {words}; twenty in a partition {} of {}; history {}",
            gathered.words(),
            scattered.words(),
            past.words()
        ));
        told.push(words);
    }
    let note = format!(
        "rows/s and CPU µs a row of this process, median of {PAIRS} pairs of {ROWS} rows of 600 B, each its own partition: {}; with twenty rows in a \
         partition {:.2} ×; history {:.0} rows/s; Cassandra that syncs each write; {}",
        told.join("; "),
        median(&mut buckets),
        median(&mut histories),
        load()
    );
    let mut row = Row::new(NAMES[0], median(&mut ratios), "×")
        .target(Target::AtLeast(0.8))
        .note(note);
    row.against = format!(
        "rows/s of the driver's single inserts, {IN_FLIGHT} in flight; {}",
        row.against
    );
    row.ratio = None;
    Ok(vec![row])
}

async fn prepare(at: &str) -> Result<Session> {
    let session = SessionBuilder::new().known_node(at).build().await?;
    let create = "create keyspace bench with replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    session.query_unpaged(create, ()).await?;
    session.use_keyspace("bench", true).await?;
    for (table, key) in TABLES {
        let create = format!(
            "create table {table} (id bigint, bucket bigint, customer text, placed_at text, total_cents bigint, note text, primary key ({key}))"
        );
        session.query_unpaged(create, ()).await?;
    }
    Ok(session)
}

fn empty(runtime: &Runtime, session: &Session) -> Result<()> {
    for (table, _) in TABLES {
        runtime.block_on(session.query_unpaged(format!("truncate {table}"), ()))?;
    }
    // it is there from the first pass of the sink on
    runtime
        .block_on(session.query_unpaged("truncate weir_positions", ()))
        .ok();
    Ok(())
}

/// One request a row, measured from a tenth on.
async fn bare(session: &Arc<Session>, table: &str, orders: &[Arc<Order>]) -> Result<Passed> {
    let mut insert = session
        .prepare(format!(
            "insert into {table} (id, bucket, customer, placed_at, total_cents, note) values (?, ?, ?, ?, ?, ?) using timestamp ?"
        ))
        .await?;
    insert.set_is_idempotent(true);
    let warm = orders.len() / 10;
    let (mut flying, mut watch) = (JoinSet::new(), Watch::start());
    for (n, order) in orders.iter().enumerate() {
        if flying.len() >= IN_FLIGHT {
            flying.join_next().await.context("one is under way")???;
        }
        if n == warm {
            watch = Watch::start();
        }
        let (session, insert, order) = (session.clone(), insert.clone(), order.clone());
        // later than whatever was there
        let time = 1_790_000_000_000_000 + n as i64;
        flying.spawn(async move {
            let Order {
                id,
                bucket,
                customer,
                placed_at,
                total_cents,
                note,
            } = &*order;
            let values = (id, bucket, customer, placed_at, total_cents, note, time);
            session.execute_unpaged(&insert, values).await.map(drop)
        });
    }
    while let Some(done) = flying.join_next().await {
        done??;
    }
    Ok(watch.passed((orders.len() - warm) as u64))
}

fn sink(
    runtime: &Runtime,
    session: &Session,
    at: &str,
    line: &Line,
    history: bool,
) -> Result<Passed> {
    empty(runtime, session)?;
    let times = WriteTimes::new(
        line.log.clone(),
        line.store.clone(),
        runtime.handle().clone(),
    );
    let settings =
        ScyllaSettings::parse(&format!("scylla://{at}/bench")).map_err(anyhow::Error::msg)?;
    let destination = Scylla::new(settings, options(history), times)?;
    let passed = line.pass(runtime, destination, history, || {
        // the table may not be there yet
        Ok(position(runtime, session).unwrap_or_default())
    })?;
    if let Ok(dead) = count(runtime, session, "weir_dead_letters") {
        ensure!(dead == 0, "{dead} rows were refused");
    }
    Ok(passed)
}

/// How many results the positions are past.
fn position(runtime: &Runtime, session: &Session) -> Result<u64> {
    let select = "select next_offset from weir_positions";
    let found = runtime.block_on(session.query_unpaged(select, ()))?;
    let found = found.into_rows_result()?;
    let rows = found.rows::<(i64,)>()?;
    let offsets: Vec<i64> = rows
        .map(|row| row.map(|(next,)| next))
        .collect::<Result<_, _>>()?;
    Ok(offsets.iter().sum::<i64>().unsigned_abs())
}

fn count(runtime: &Runtime, session: &Session, table: &str) -> Result<i64> {
    let select = format!("select count(*) from {table}");
    let found = runtime
        .block_on(session.query_unpaged(select, ()))?
        .into_rows_result()?;
    Ok(found.single_row::<(i64,)>()?.0)
}
