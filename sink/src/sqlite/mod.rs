//! Destination kind SQLite: the history of `weir dev`, one file.
//!
//! Promise: rows and positions in one transaction, each partition's position moved by compare-and-set; so a batch lands
//! once, whatever dies when. `synchronous = FULL`: what has landed survives a power cut; losing it would be no loss
//! anyway, the position goes with it.

mod erase;

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row as _};
use tokio::runtime::Runtime;
use topics::Partition;

use crate::batch::Batch;
use crate::destination::{Kind, Landed, Stored};
use crate::error::SinkError;
use crate::rows::{DEAD_LETTER_COLUMNS, EXECUTION_COLUMNS, OUTPUT_COLUMNS, Rows, Value};

const SCHEMA: &str = include_str!("schema.sql");

/// Rows of one statement: each statement is a trip to the connection's thread and back, so many rows share it; few sizes,
/// so that all of them stay prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// An open destination. One thread owns it.
pub struct Sqlite {
    name: String,
    runtime: Runtime,
    options: SqliteConnectOptions,
    /// Given up after any error: SQLite itself rolls a transaction back when the disk is full, and the library's
    /// count of open transactions does not learn of it.
    connection: Option<SqliteConnection>,
}

impl Sqlite {
    /// Opens or creates the file and its tables. `name`: the destination's name, for messages.
    pub fn open(name: &str, path: &Path) -> Result<Self, SinkError> {
        let fail = |reason: String| SinkError::Open {
            destination: name.to_owned(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|e| fail(e.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .page_size(16_384)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // A statement's own journal: else a file in /var/tmp in each transaction.
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", "4096")
            .pragma("cache_size", "-16384")
            .disable_statement_logging();
        let connection = runtime
            .block_on(async {
                let mut connection = options.clone().connect().await?;
                sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
                bring_up_to_date(&mut connection).await?;
                Ok::<_, sqlx::Error>(connection)
            })
            .map_err(|e| fail(format!("{}: {e}", path.display())))?;
        Ok(Self {
            name: name.to_owned(),
            runtime,
            options,
            connection: Some(connection),
        })
    }
}

impl Kind for Sqlite {
    fn position(&mut self, partition: &Partition) -> Result<Option<i64>, SinkError> {
        let query = sqlx::query(
            r#"select next_offset from weir_positions where topic = ? and "partition" = ?"#,
        )
        .bind(&*partition.topic)
        .bind(partition.number);
        let Self {
            runtime,
            options,
            connection,
            ..
        } = self;
        let found = runtime.block_on(async {
            let row = query.fetch_optional(open(options, connection).await?);
            row.await?.map(|row| row.try_get(0)).transpose()
        });
        found.map_err(|e| {
            self.connection = None;
            unavailable(&self.name, &e)
        })
    }

    fn land(&mut self, batch: &Batch, stored: &mut Stored) -> Result<Landed, SinkError> {
        let rows = Rows::of(batch);
        let Self {
            name,
            runtime,
            options,
            connection,
        } = self;
        let landed = runtime.block_on(async {
            let connection = open(options, connection)
                .await
                .map_err(|e| unavailable(name, &e))?;
            land(connection, name, batch, rows, stored).await
        });
        match landed {
            Ok(()) => {
                for progress in &batch.progress {
                    stored.insert(progress.partition.clone(), progress.next);
                }
                let rows = batch.landings.len() as u64;
                Ok(Landed { rows, dead: 0 })
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
        }
    }
}

/// The connection, made anew if an error has ended the last one.
async fn open<'a>(
    options: &SqliteConnectOptions,
    connection: &'a mut Option<SqliteConnection>,
) -> Result<&'a mut SqliteConnection, sqlx::Error> {
    match connection {
        Some(open) => Ok(open),
        None => Ok(connection.insert(options.connect().await?)),
    }
}

async fn land(
    connection: &mut SqliteConnection,
    name: &str,
    batch: &Batch,
    rows: Rows,
    stored: &Stored,
) -> Result<(), SinkError> {
    let fail = |e: sqlx::Error| unavailable(name, &e);
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(fail)?;
    for progress in &batch.progress {
        let Partition { topic, number } = &progress.partition;
        let expected = stored
            .get(&progress.partition)
            .copied()
            .unwrap_or(progress.first);
        let moved = sqlx::query(
            r#"insert into weir_positions values (?, ?, ?)
               on conflict (topic, "partition") do update set next_offset = excluded.next_offset where next_offset = ?"#,
        )
        .bind(&**topic)
        .bind(number)
        .bind(progress.next)
        .bind(expected)
        .execute(&mut *transaction)
        .await
        .map_err(fail)?;
        if moved.rows_affected() != 1 {
            return Err(SinkError::Fenced {
                destination: name.into(),
                topic: topic.to_string(),
                partition: *number,
            });
        }
    }
    for (table, columns, values) in [
        ("weir_executions", EXECUTION_COLUMNS, rows.executions),
        ("weir_outputs", OUTPUT_COLUMNS, rows.outputs),
        ("weir_dead_letters", DEAD_LETTER_COLUMNS, rows.dead_letters),
    ] {
        insert(&mut transaction, table, columns, values)
            .await
            .map_err(fail)?;
    }
    for (letter, at_ms) in rows.purges {
        purge(&mut transaction, &letter, at_ms)
            .await
            .map_err(fail)?;
    }
    transaction.commit().await.map_err(fail)
}

/// A file that an older version made has every table, but not every column.
async fn bring_up_to_date(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (table, column, kind) in [
        ("weir_dead_letters", "purged_at_ms", "integer"),
        ("weir_outputs", "sha256", "text"),
    ] {
        let there = sqlx::query("select 1 from pragma_table_info($1) where name = $2");
        let there = there.bind(table).bind(column);
        if there.fetch_optional(&mut *connection).await?.is_none() {
            let add = format!("alter table {table} add column {column} {kind}");
            sqlx::query(AssertSqlSafe(add))
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// The letter stays as a row that says what it was; its bytes go. The first purge counts.
async fn purge(
    connection: &mut SqliteConnection,
    letter: &str,
    at_ms: i64,
) -> Result<(), sqlx::Error> {
    let update = sqlx::query(
        "update weir_dead_letters set key = null, value = null, headers = '[]', purged_at_ms = ?
         where id = ? and purged_at_ms is null",
    );
    let update = update.bind(at_ms).bind(letter);
    update.execute(connection).await.map(drop)
}

/// Rows that are there already stay as they are: the same record always becomes the same row.
async fn insert(
    connection: &mut SqliteConnection,
    table: &str,
    columns: usize,
    values: Vec<Value>,
) -> Result<(), sqlx::Error> {
    let mut left = values.len() / columns;
    let mut values = values.into_iter();
    while left > 0 {
        let rows = CHUNKS.into_iter().find(|chunk| *chunk <= left).unwrap_or(1);
        left -= rows;
        let mut query = sqlx::query(AssertSqlSafe(statement(table, columns, rows)));
        for value in values.by_ref().take(rows * columns) {
            query = match value {
                Value::Null => query.bind(None::<i64>),
                Value::Integer(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Blob(bytes) => query.bind(bytes),
            };
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// `insert into TABLE values (?,…),…`; the table's name is one of ours.
fn statement(table: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!(
        "insert into {table} values {} on conflict do nothing",
        vec![row.as_str(); rows].join(",")
    )
}

/// Locked, full, an I/O error: nothing here is about the rows, so all of it is tried again.
fn unavailable(name: &str, e: &sqlx::Error) -> SinkError {
    SinkError::Unavailable {
        destination: name.to_owned(),
        reason: e.to_string(),
    }
}
