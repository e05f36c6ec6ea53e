//! Rows that the sink lands in Postgres, against the fastest of four bare ways to write the same rows over one connection.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::runtime::Runtime;
use xtask::services::postgres::Temporary;

use super::line::{BATCH, Line, options};
use super::rows::{Order, order};
use super::{Passed, Watch};
use crate::meter::{load, median};
use crate::report::{Row, Target};

pub(crate) const NAMES: &[&str] = &["postgres.rows_per_s.over_bare"];
const ROWS: u64 = 150_000;
const PAIRS: usize = 5;
/// Of all ways, to find the fastest.
const ROUNDS: usize = 3;
const SINGLES_TIME: Duration = Duration::from_secs(2);
const SINKS: &str =
    "  rows: { postgres: { to: shop, table: orders, mode: insert, key: [id] }, from: [t] }\n";
const COLUMNS: &str = "id, bucket, customer, placed_at, total_cents, note";
const TABLE: &str = "create table orders (id bigint primary key, bucket bigint, customer text, placed_at timestamptz, total_cents bigint, note text)";

/// How a batch is written, as one transaction.
#[derive(Clone, Copy)]
enum Way {
    CopyText,
    CopyBinary,
    /// An array for each column.
    Unnest,
    /// What the sink does where a field is no text.
    Json,
}

const WAYS: [(Way, &str); 4] = [
    (Way::CopyText, "copy in text"),
    (Way::CopyBinary, "copy in binary"),
    (Way::Unnest, "unnest"),
    (Way::Json, "jsonb_populate_recordset"),
];

pub(crate) fn run() -> Result<Vec<Row>> {
    let server = Temporary::start()?;
    server.sql(TABLE)?;
    let runtime = super::runtime()?;
    let mut client = runtime.block_on(PgConnection::connect(&server.url()))?;
    let orders: Vec<Order> = (0..ROWS).map(order).collect();
    let users = Line::fill(&runtime, SINKS, Some("rows"), ROWS)?;
    let history = Line::fill(&runtime, SINKS, None, ROWS)?;
    let mut bare = |way| {
        ready(&server)?;
        bare(&runtime, &mut client, way, &orders)
    };
    // a server that has just started is slow
    bare(Way::CopyText)?;
    let ((fastest, name), tried) = fastest(&mut bare)?;
    let (mut ratios, mut statement, mut singles, mut told) = (vec![], vec![], vec![], vec![]);
    let (mut histories, mut writers) = (vec![], vec![]);
    for pair in 0..PAIRS {
        let (ours, theirs) = if pair % 2 == 0 {
            let theirs = bare(fastest)?;
            (sink(&runtime, &server, &users, 1, false)?, theirs)
        } else {
            let ours = sink(&runtime, &server, &users, 1, false)?;
            (ours, bare(fastest)?)
        };
        let same = bare(Way::Json)?;
        let two = sink(&runtime, &server, &users, 2, false)?;
        let past = sink(&runtime, &server, &history, 1, true)?;
        let single = single(&runtime, &server, &orders)?;
        ratios.push(ours.per_s / theirs.per_s);
        statement.push(ours.per_s / same.per_s);
        singles.push(ours.per_s / single);
        writers.push(two.per_s / theirs.per_s);
        // an execution and an output of each result
        histories.push((past.per_s * 2.0, past.cpu_us / 2.0));
        let words = format!(
            "{} of {} ({:.0} rows a write)",
            ours.words(),
            theirs.words(),
            ours.batch
        );
        crate::say(&format!(
            "  {words}; two writers {}; history {}",
            two.words(),
            past.words()
        ));
        told.push(words);
    }
    histories.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (history_per_s, history_us) = histories[PAIRS / 2];
    let note = format!(
        "rows/s and CPU µs a row of this process, median of {PAIRS} pairs of {ROWS} rows of 600 B, {BATCH} a transaction, one connection each: {}; \
         tried: {}; to a list of JSON objects, bare, {:.2} ×; to single inserts {:.1} × (target ≥ 10); with two writers, as by default, {:.2} ×; \
         history {history_per_s:.0} rows/s, {history_us:.1} µs a row; {}",
        told.join("; "),
        tried.join(", "),
        median(&mut statement),
        median(&mut singles),
        median(&mut writers),
        load()
    );
    let mut row = Row::new(NAMES[0], median(&mut ratios), "×")
        .target(Target::AtLeast(0.8))
        .note(note);
    row.against = format!("rows/s of {name}, the fastest bare way; {}", row.against);
    row.ratio = None;
    Ok(vec![row])
}

/// The way with the best median, and what each came to: on a machine with other work one round says little.
fn fastest(
    mut bare: impl FnMut(Way) -> Result<Passed>,
) -> Result<((Way, &'static str), Vec<String>)> {
    let mut all = WAYS.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((way, _), rates) in WAYS.iter().zip(&mut all) {
            rates.push(bare(*way)?.per_s);
        }
    }
    let medians = all.map(|mut rates| median(&mut rates));
    let tried: Vec<String> = WAYS
        .iter()
        .zip(medians)
        .map(|((_, words), per_s)| format!("{words} {per_s:.0}/s"))
        .collect();
    crate::say(&format!("  bare: {}", tried.join(", ")));
    let best = WAYS
        .into_iter()
        .zip(medians)
        .max_by(|a, b| a.1.total_cmp(&b.1));
    Ok((best.context("there are ways")?.0, tried))
}

/// An empty table, and a server that has nothing left to do.
fn ready(server: &Temporary) -> Result<()> {
    server.sql("truncate orders")?;
    server.sql("checkpoint").map(drop)
}

fn sink(
    runtime: &Runtime,
    server: &Temporary,
    line: &Line,
    writers: usize,
    history: bool,
) -> Result<Passed> {
    ready(server)?;
    for table in ["weir_positions", "weir_executions", "weir_outputs"] {
        // they are there from the second pass on
        server
            .sql(&format!("do $$ begin if to_regclass('{table}') is not null then truncate {table}; end if; end $$"))?;
    }
    let mut watcher = runtime.block_on(PgConnection::connect(&server.url()))?;
    let position = || runtime.block_on(landed(&mut watcher));
    let destination = sink::Postgres::open(&server.url(), writers, options(history))?;
    let passed = line.pass(runtime, destination, history, position)?;
    let (table, rows) = if history {
        ("weir_outputs", line.results)
    } else {
        ("orders", line.results)
    };
    let count = server.sql(&format!("select count(*) from {table}"))?;
    ensure!(
        count.trim() == rows.to_string(),
        "{table} has {} rows instead of {rows}",
        count.trim()
    );
    Ok(passed)
}

/// How many results the positions are past.
async fn landed(connection: &mut PgConnection) -> Result<u64> {
    let is_made: bool = sqlx::query_scalar("select to_regclass('weir_positions') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !is_made {
        return Ok(0);
    }
    let sum: i64 = sqlx::query_scalar(
        "select coalesce(sum(next_offset), 0)::bigint from weir_positions where topic = 'weir.results'",
    )
    .fetch_one(connection)
    .await?;
    Ok(sum.unsigned_abs())
}

/// All orders, measured from a tenth on.
fn bare(
    runtime: &Runtime,
    client: &mut PgConnection,
    way: Way,
    orders: &[Order],
) -> Result<Passed> {
    let (warm, rest) = orders.split_at(orders.len() / 10);
    runtime.block_on(async {
        for batch in warm.chunks(BATCH) {
            write(client, way, batch).await?;
        }
        let watch = Watch::start();
        for batch in rest.chunks(BATCH) {
            write(client, way, batch).await?;
        }
        Ok(watch.passed(rest.len() as u64))
    })
}

async fn write(client: &mut PgConnection, way: Way, batch: &[Order]) -> Result<()> {
    let written = match way {
        Way::CopyText => {
            let mut copy = client
                .copy_in_raw(&format!("copy orders ({COLUMNS}) from stdin"))
                .await?;
            copy.send(text(batch)?).await?;
            copy.finish().await?
        }
        Way::CopyBinary => {
            let mut copy = client
                .copy_in_raw(&format!(
                    "copy orders ({COLUMNS}) from stdin with (format binary)"
                ))
                .await?;
            copy.send(binary(batch)).await?;
            copy.finish().await?
        }
        Way::Unnest => {
            let numbers = |of: fn(&Order) -> i64| batch.iter().map(of).collect::<Vec<_>>();
            let texts = |of: fn(&Order) -> &str| batch.iter().map(of).collect::<Vec<_>>();
            sqlx::query("insert into orders select id, bucket, customer, placed_at::timestamptz, total_cents, note from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[]) as u(id, bucket, customer, placed_at, total_cents, note)")
                .bind(numbers(|order| order.id))
                .bind(numbers(|order| order.bucket))
                .bind(texts(|order| &order.customer))
                .bind(texts(|order| &order.placed_at))
                .bind(numbers(|order| order.total_cents))
                .bind(texts(|order| &order.note))
                .execute(client)
                .await?
                .rows_affected()
        }
        Way::Json => {
            let events: Vec<String> = batch.iter().map(Order::json).collect();
            sqlx::query("insert into orders select r.id, r.bucket, r.customer, r.placed_at, r.total_cents, r.note from jsonb_populate_recordset(null::orders, $1::jsonb) as r on conflict (id) do nothing")
                .bind(format!("[{}]", events.join(",")))
                .execute(client)
                .await?
                .rows_affected()
        }
    };
    ensure!(
        written == batch.len() as u64,
        "{written} rows of {}",
        batch.len()
    );
    Ok(())
}

/// As `copy` reads it; nothing in it has to be escaped.
fn text(batch: &[Order]) -> Result<Vec<u8>> {
    let mut text = String::with_capacity(batch.len() * 640);
    for order in batch {
        writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}",
            order.id, order.bucket, order.customer, order.placed_at, order.total_cents, order.note
        )?;
    }
    Ok(text.into_bytes())
}

/// The same in Postgres's own form.
fn binary(batch: &[Order]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.len() * 640);
    // the signature, no flags, no extension
    bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for order in batch {
        bytes.extend_from_slice(&6_i16.to_be_bytes());
        let mut field = |value: &[u8]| {
            bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
            bytes.extend_from_slice(value);
        };
        field(&order.id.to_be_bytes());
        field(&order.bucket.to_be_bytes());
        field(order.customer.as_bytes());
        field(&placed_us(&order.placed_at).to_be_bytes());
        field(&order.total_cents.to_be_bytes());
        field(order.note.as_bytes());
    }
    bytes.extend_from_slice(&(-1_i16).to_be_bytes());
    bytes
}

/// µs since the year 2000 of a time of the day on which all orders are placed.
fn placed_us(text: &str) -> i64 {
    // 21 November 2026
    const DAY: i64 = 9_821;
    let part = |from: usize| text.get(from..from + 2).and_then(|two| two.parse().ok());
    let part = |from| part(from).unwrap_or(0_i64);
    ((DAY * 24 + part(11)) * 3_600 + part(14) * 60 + part(17)) * 1_000_000
}

/// Rows/s of one insert a row, prepared, each its own transaction.
fn single(runtime: &Runtime, server: &Temporary, orders: &[Order]) -> Result<f64> {
    ready(server)?;
    runtime.block_on(async {
        let mut client = PgConnection::connect(&server.url()).await?;
        client.execute("set timezone = 'UTC'").await?;
        let watch = Watch::start();
        let mut count = 0;
        for order in orders {
            if watch.begun.elapsed() >= SINGLES_TIME {
                break;
            }
            sqlx::query("insert into orders values ($1, $2, $3, $4::text::timestamptz, $5, $6)")
                .bind(order.id)
                .bind(order.bucket)
                .bind(&order.customer)
                .bind(&order.placed_at)
                .bind(order.total_cents)
                .bind(&order.note)
                .execute(&mut client)
                .await
                .context("a single insert")?;
            count += 1;
        }
        Ok(watch.passed(count).per_s)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_postgres() {
        // select extract(epoch from timestamptz '2026-11-21T09:01:02Z' - timestamptz '2000-01-01Z')
        assert_eq!(placed_us("2026-11-21T09:01:02Z"), 848_566_862_000_000);
    }
}
