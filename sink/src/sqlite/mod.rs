//! Destination kind SQLite: the history of `weir dev`, one file.
//!
//! Promise: rows and positions in one transaction, each partition's position moved by compare-and-set; so a batch lands
//! once, whatever dies when. `synchronous = FULL`: what has landed survives a power cut; losing it would be no loss
//! anyway, the position goes with it.

mod rows;

use std::collections::HashMap;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _};
use tokio::runtime::Runtime;
use topics::Partition;

use crate::batch::Batch;
use crate::error::SinkError;
use rows::Rows;

const SCHEMA: &str = include_str!("schema.sql");

const INSERT_EXECUTIONS: &str = r#"insert into weir_executions
  select e.value->>0, e.value->>1, e.value->>2, e.value->>3, e.value->>4, e.value->>5, e.value->>6, e.value->>7, e.value->>8,
         e.value->>9, e.value->>10, e.value->>11, e.value->>12, e.value->>13, e.value->>14, e.value->>15, e.value->>16, e.value->>17
  from json_each(?1) e where true on conflict do nothing"#;

/// `?2` holds keys and data; a row says where: [start, length], and whether it is text. `substr` of nothing at all is
/// null in SQLite, hence the `coalesce`: empty is not null.
const INSERT_OUTPUTS: &str = r#"insert into weir_outputs
  select e.value->>0, e.value->>1, e.value->>2, e.value->>3, e.value->>4, e.value->>5, e.value->>6, e.value->>7,
         case when e.value->>8 is null then null else coalesce(substr(?2, e.value->>8, e.value->>9), x'') end,
         e.value->>10, e.value->>11,
         case when e.value->>14 then cast(coalesce(substr(?2, e.value->>12, e.value->>13), x'') as text) else coalesce(substr(?2, e.value->>12, e.value->>13), x'') end
  from json_each(?1) e where true on conflict do nothing"#;

const INSERT_DEAD_LETTERS: &str = r#"insert into weir_dead_letters
  select e.value->>0, e.value->>1, e.value->>2, e.value->>3, e.value->>4, e.value->>5, e.value->>6, e.value->>7, e.value->>8,
         e.value->>9, e.value->>10, e.value->>11,
         case when e.value->>12 is null then null else coalesce(substr(?2, e.value->>12, e.value->>13), x'') end,
         case when e.value->>14 is null then null else coalesce(substr(?2, e.value->>14, e.value->>15), x'') end,
         e.value->>16, e.value->>17
  from json_each(?1) e where true on conflict do nothing"#;

/// An open destination. One thread owns it.
pub struct Sqlite {
    name: String,
    runtime: Runtime,
    connection: SqliteConnection,
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
            .pragma("wal_autocheckpoint", "4096")
            .pragma("cache_size", "-16384")
            .disable_statement_logging();
        let connection = runtime
            .block_on(async {
                let mut connection = options.connect().await?;
                sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
                Ok::<_, sqlx::Error>(connection)
            })
            .map_err(|e| fail(format!("{}: {e}", path.display())))?;
        Ok(Self {
            name: name.to_owned(),
            runtime,
            connection,
        })
    }

    /// The next offset to land of a partition; `None`: nothing has landed yet.
    pub(crate) fn position(&mut self, partition: &Partition) -> Result<Option<i64>, SinkError> {
        let query = sqlx::query(
            r#"select next_offset from weir_positions where topic = ? and "partition" = ?"#,
        )
        .bind(&*partition.topic)
        .bind(partition.number);
        let row = self
            .runtime
            .block_on(query.fetch_optional(&mut self.connection))
            .map_err(|e| unavailable(&self.name, &e))?;
        row.map(|row| row.try_get(0))
            .transpose()
            .map_err(|e| unavailable(&self.name, &e))
    }

    /// Lands the batch. `stored`: the positions that this sink believes in.
    pub(crate) fn land(
        &mut self,
        batch: &Batch,
        stored: &HashMap<Partition, i64>,
    ) -> Result<(), SinkError> {
        let rows = Rows::of(batch);
        let Self {
            name,
            runtime,
            connection,
        } = self;
        runtime.block_on(land(connection, name, batch, &rows, stored))
    }
}

async fn land(
    connection: &mut SqliteConnection,
    name: &str,
    batch: &Batch,
    rows: &Rows,
    stored: &HashMap<Partition, i64>,
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
    for (statement, json, data) in [
        (INSERT_EXECUTIONS, &rows.executions, None::<&Vec<u8>>),
        (INSERT_OUTPUTS, &rows.outputs, Some(&rows.outputs_data)),
        (
            INSERT_DEAD_LETTERS,
            &rows.dead_letters,
            Some(&rows.dead_letters_data),
        ),
    ] {
        if let Some(json) = json.text() {
            let query = sqlx::query(statement).bind(json);
            let query = if let Some(data) = data {
                query.bind(&data[..])
            } else {
                query
            };
            query.execute(&mut *transaction).await.map_err(fail)?;
        }
    }
    transaction.commit().await.map_err(fail)
}

/// Locked, full, an I/O error: nothing here is about the rows, so all of it is tried again.
fn unavailable(name: &str, e: &sqlx::Error) -> SinkError {
    SinkError::Unavailable {
        destination: name.to_owned(),
        reason: e.to_string(),
    }
}
