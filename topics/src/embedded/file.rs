//! The file: one SQLite database, one row per batch. The only place that knows how it looks.
//!
//! WAL with `synchronous = FULL`: a transaction that was answered survives `kill -9` and a power cut. One connection
//! writes; readers that have fallen behind the cache use connections of their own, which never wait for the writer.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};
use tokio::runtime::Runtime;

use super::batch::{Batch, compact};
use super::open::{EmbeddedConfig, TOMBSTONE_AGE_MS};
use super::state::{BATCH_BYTES_MAX, LogId, Plan, State};
use crate::catalog::{Cleanup, TopicSpec};
use crate::error::LogError;
use crate::log::{Partition, Result};

const VERSION: i64 = 1;
/// A row of 1 KiB records spills over less, and the tree is flatter, than with 4 KiB (measured).
const PAGE_BYTES: u32 = 16_384;
/// 64 MiB: rewriting hot pages less often is worth the disk.
const CHECKPOINT_PAGES: u32 = 4_096;
/// Readers' connections kept for the next one who falls behind.
const IDLE_READERS_MAX: usize = 2;
/// Batches looked at in one go, by readers and by retention.
const ROWS_MAX: i64 = 256;
/// Rows of one insert statement at most: crossing to sqlx's thread costs more than a row.
const INSERT_ROWS_MAX: usize = 16;

/// Deletion has to find what is old without reading the batches: the index has all it needs.
const SCHEMA: &str = "
create table topics (name text primary key, first integer not null, partitions integer not null, compact integer not null,
  retention_ms integer, retention_bytes integer, record_bytes_max integer not null);
create table logs (id integer primary key, start integer not null);
create table batches (log integer not null, base integer not null, span integer not null, timestamp_max integer not null,
  size integer not null, data blob not null);
create unique index batches_by_base on batches (log, base, span, timestamp_max, size);
create table offsets (grp text not null, log integer not null, next integer not null, metadata text not null,
  primary key (grp, log)) without rowid;
create table positions (shard text primary key, position blob not null) without rowid;
";

/// The locked file, and connections for readers.
pub(super) struct File {
    path: PathBuf,
    idle: Mutex<Vec<Session>>,
    /// Unlocked when dropped, also by the death of the process.
    _lock: std::fs::File,
}

/// A connection and what drives it. sqlx runs SQLite on a thread of its own; this runtime only waits for it.
struct Session {
    runtime: Runtime,
    connection: SqliteConnection,
}

impl Session {
    fn open(
        path: &Path,
        adjust: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(LogError::unavailable)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .page_size(PAGE_BYTES)
            .busy_timeout(std::time::Duration::from_secs(5));
        let options = adjust(options).disable_statement_logging();
        let connection = runtime
            .block_on(options.connect())
            .map_err(|e| failed(path, &e))?;
        Ok(Self {
            runtime,
            connection,
        })
    }
}

impl File {
    /// Takes the file for this process.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        let beside = path.with_added_extension("lock");
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&beside);
        let lock =
            lock.map_err(|e| LogError::unavailable(format!("\"{}\": {e}", beside.display())))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                idle: Mutex::new(Vec::new()),
                _lock: lock,
            }),
            Err(std::fs::TryLockError::WouldBlock) => Err(LogError::invalid(format!(
                "the log \"{}\" is open already; stop the process that uses it",
                path.display()
            ))),
            Err(std::fs::TryLockError::Error(e)) => Err(LogError::unavailable(format!(
                "\"{}\": {e}",
                beside.display()
            ))),
        }
    }

    /// Batches of a log from the one that has `offset` on, of about `bytes_max` together, at least one if there is any.
    pub(super) fn load(
        &self,
        log: LogId,
        partition: &Partition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Vec<Batch>> {
        let idle = self.idle.lock().pop();
        let mut session = match idle {
            Some(session) => session,
            None => Session::open(&self.path, |options| options.read_only(true))?,
        };
        let Session {
            runtime,
            connection,
        } = &mut session;
        let found = runtime
            .block_on(load(connection, log, offset, bytes_max))
            .map_err(|e| failed(&self.path, &e))?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_READERS_MAX {
            idle.push(session);
        }
        drop(idle);
        check(&self.path, partition, &found)?;
        Ok(found)
    }
}

fn check(path: &Path, partition: &Partition, batches: &[Batch]) -> Result<()> {
    for batch in batches {
        batch.check().map_err(|wrong| LogError::Corrupt {
            place: format!(
                "\"{}\" {}/{} offset {}: {}",
                path.display(),
                partition.topic,
                partition.number,
                batch.base,
                wrong.0
            ),
        })?;
    }
    Ok(())
}

async fn load(
    connection: &mut SqliteConnection,
    log: LogId,
    offset: i64,
    bytes_max: usize,
) -> Result<Vec<Batch>, sqlx::Error> {
    let sizes = sqlx::query(
        "select base, span, size from batches where log = ?1 and base >= coalesce(
           (select base from batches where log = ?1 and base <= ?2 order by base desc limit 1), ?2) order by base limit ?3",
    );
    let sizes = sizes
        .bind(log)
        .bind(offset)
        .bind(ROWS_MAX)
        .fetch_all(&mut *connection)
        .await?;
    let (mut first, mut count, mut bytes) = (None, 0_i64, 0_usize);
    for row in sizes {
        let (base, span, size): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if base + span <= offset {
            continue;
        }
        let size = usize::try_from(size).unwrap_or(0);
        if first.is_some() && bytes + size > bytes_max {
            break;
        }
        first.get_or_insert(base);
        bytes += size;
        count += 1;
    }
    let Some(first) = first else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query(
        "select base, span, timestamp_max, data from batches where log = ?1 and base >= ?2 order by base limit ?3",
    );
    let rows = rows
        .bind(log)
        .bind(first)
        .bind(count)
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(batch).collect())
}

fn batch(row: &SqliteRow) -> Batch {
    Batch {
        base: row.get(0),
        span: row.get(1),
        timestamp_max: row.get(2),
        bytes: Bytes::from(row.get::<Vec<u8>, _>(3)),
    }
}

/// What went wrong, as the port says it.
fn failed(path: &Path, error: &sqlx::Error) -> LogError {
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const NOT_A_DATABASE: i32 = 26;
    const NO_ROOM_FOR_SHARED_MEMORY: i32 = 4874;
    let place = || path.display().to_string();
    let code = error
        .as_database_error()
        .and_then(|e| i32::from_str(&e.code()?).ok())
        .unwrap_or(0);
    match (code & 0xff, code) {
        (FULL, _) | (_, NO_ROOM_FOR_SHARED_MEMORY) => LogError::Full { place: place() },
        (CORRUPT | NOT_A_DATABASE, _) => LogError::Corrupt {
            place: format!("\"{}\": {error}", place()),
        },
        _ => LogError::unavailable(format!("\"{}\": {error}", place())),
    }
}

/// The connection that writes.
pub(super) struct FileWriter {
    path: PathBuf,
    session: Session,
}

/// The statement that inserts so many batches; each is made once.
fn insert_statement(rows: usize) -> &'static str {
    static TEXTS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let text = |rows| {
        let values = vec!["(?,?,?,?,?,?)"; rows].join(",");
        format!("insert into batches (log, base, span, timestamp_max, size, data) values {values}")
    };
    &TEXTS.get_or_init(|| (0..=INSERT_ROWS_MAX).map(text).collect())[rows]
}

impl FileWriter {
    /// Opens the file, makes its tables if it is new, and reads everything but the records into the state.
    pub(super) fn open(path: &Path, config: &EmbeddedConfig, state: &mut State) -> Result<Self> {
        let session = Session::open(path, |options| {
            options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                // A statement's own journal: else a file in /var/tmp in each transaction.
                .pragma("temp_store", "memory")
                .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
                .pragma(
                    "journal_size_limit",
                    (i64::from(CHECKPOINT_PAGES) * i64::from(PAGE_BYTES)).to_string(),
                )
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            session,
        };
        let Session {
            runtime,
            connection,
        } = &mut writer.session;
        runtime
            .block_on(restore(connection, config, state))
            .map_err(|e| match e {
                sqlx::Error::Protocol(reason) => {
                    LogError::invalid(format!("\"{}\": {reason}", path.display()))
                }
                e => failed(path, &e),
            })?;
        Ok(writer)
    }

    /// Writes a plan in one transaction, or nothing of it.
    pub(super) fn write(&mut self, plan: &Plan) -> Result<()> {
        let batches: Vec<_> = plan
            .batches
            .iter()
            .map(|(log, batch)| (*log, batch))
            .collect();
        if plan.offsets.is_empty() && plan.positions.is_empty() && batches.len() <= INSERT_ROWS_MAX
        {
            // one statement is a transaction of its own: a third of the crossings to sqlx's thread
            let Session {
                runtime,
                connection,
            } = &mut self.session;
            return runtime
                .block_on(insert_batches(connection, batches))
                .map_err(|e| failed(&self.path, &e));
        }
        self.transaction(async |connection| {
            insert_batches(connection, batches).await?;
            if !plan.offsets.is_empty() {
                let rows: Vec<_> = plan.offsets.iter().map(|((group, log), (next, metadata))| (&**group, log, next, metadata)).collect();
                let rows = serde_json::to_string(&rows).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
                let upsert = "insert into offsets (grp, log, next, metadata)
                    select value->>0, value->>1, value->>2, value->>3 from json_each(?) where true
                    on conflict (grp, log) do update set next = excluded.next, metadata = excluded.metadata";
                sqlx::query(upsert).bind(rows).execute(&mut *connection).await?;
            }
            for (shard, position) in &plan.positions {
                let upsert = "insert into positions (shard, position) values (?, ?) on conflict (shard) do update set position = excluded.position";
                sqlx::query(upsert).bind(&**shard).bind(&position[..]).execute(&mut *connection).await?;
            }
            Ok(())
        })
    }

    pub(super) fn create(&mut self, topics: &[TopicSpec], first: LogId) -> Result<()> {
        self.transaction(async |connection| {
            let mut next = first;
            for spec in topics {
                let insert = "insert into topics (name, first, partitions, compact, retention_ms, retention_bytes, record_bytes_max) values (?,?,?,?,?,?,?)";
                let insert = sqlx::query(insert).bind(&*spec.name).bind(next).bind(spec.partitions_embedded);
                let insert = insert.bind(spec.cleanup == Cleanup::Compact).bind(spec.retention_ms.map(u64::cast_signed));
                let insert = insert.bind(spec.retention_bytes.map(u64::cast_signed)).bind(spec.record_max_bytes.cast_signed());
                insert.execute(&mut *connection).await?;
                for _ in 0..spec.partitions_embedded {
                    sqlx::query("insert into logs (id, start) values (?, 0)").bind(next).execute(&mut *connection).await?;
                    next += 1;
                }
            }
            Ok(())
        })
    }

    /// Enforces every log's retention, a bounded piece per transaction.
    pub(super) fn retain(&mut self, state: &Mutex<State>, now_ms: i64) -> Result<()> {
        let logs: Vec<(LogId, Cleanup)> = state
            .lock()
            .logs()
            .map(|(id, log)| (id, log.cleanup))
            .collect();
        for (id, cleanup) in logs {
            match cleanup {
                Cleanup::Delete => while self.delete_some(state, id, now_ms)? {},
                Cleanup::Compact if state.lock().log(id).is_dirty() => {
                    self.compact(state, id, now_ms)?
                }
                Cleanup::Compact => {}
            }
        }
        Ok(())
    }

    /// Returns whether there may be more to delete.
    fn delete_some(&mut self, state: &Mutex<State>, id: LogId, now_ms: i64) -> Result<bool> {
        let Session {
            runtime,
            connection,
        } = &mut self.session;
        let oldest = sqlx::query(
            "select base + span, timestamp_max, size from batches where log = ? order by base limit ?",
        );
        let oldest = oldest.bind(id).bind(ROWS_MAX).fetch_all(connection);
        let rows = runtime
            .block_on(oldest)
            .map_err(|e| failed(&self.path, &e))?;
        let batches = rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get::<i64, _>(2).cast_unsigned()));
        let (before, (start, freed)) = {
            let state = state.lock();
            (
                state.log(id).start,
                State::start_after(state.log(id), batches, now_ms),
            )
        };
        if start == before {
            return Ok(false);
        }
        self.transaction(async |connection| {
            sqlx::query("delete from batches where log = ? and base < ?")
                .bind(id)
                .bind(start)
                .execute(&mut *connection)
                .await?;
            sqlx::query("update logs set start = ? where id = ?")
                .bind(start)
                .bind(id)
                .execute(connection)
                .await
                .map(drop)
        })?;
        state.lock().advance_start(id, start, freed);
        Ok(true)
    }

    fn compact(&mut self, state: &Mutex<State>, id: LogId, now_ms: i64) -> Result<()> {
        let partition = state.lock().log(id).partition.clone();
        let Session {
            runtime,
            connection,
        } = &mut self.session;
        let all = sqlx::query(
            "select base, span, timestamp_max, data from batches where log = ? order by base",
        )
        .bind(id)
        .fetch_all(connection);
        let batches: Vec<Batch> = runtime
            .block_on(all)
            .map_err(|e| failed(&self.path, &e))?
            .iter()
            .map(batch)
            .collect();
        check(&self.path, &partition, &batches)?;
        let kept =
            compact(&batches, now_ms - TOMBSTONE_AGE_MS, BATCH_BYTES_MAX).map_err(|wrong| {
                LogError::Corrupt {
                    place: format!(
                        "\"{}\" {}/{}: {}",
                        self.path.display(),
                        partition.topic,
                        partition.number,
                        wrong.0
                    ),
                }
            })?;
        self.transaction(async |connection| {
            sqlx::query("delete from batches where log = ?")
                .bind(id)
                .execute(&mut *connection)
                .await?;
            insert_batches(connection, kept.iter().map(|batch| (id, batch)).collect()).await
        })?;
        state.lock().compacted(id, kept);
        Ok(())
    }

    fn transaction(
        &mut self,
        body: impl AsyncFnOnce(&mut SqliteConnection) -> Result<(), sqlx::Error>,
    ) -> Result<()> {
        let Session {
            runtime,
            connection,
        } = &mut self.session;
        let done = runtime.block_on(async {
            sqlx::query("begin immediate")
                .execute(&mut *connection)
                .await?;
            body(connection).await?;
            sqlx::query("commit").execute(&mut *connection).await
        });
        let Err(error) = done else { return Ok(()) };
        // SQLite may have rolled back by itself, so that there is nothing to roll back
        if let Err(e) = runtime.block_on(sqlx::query("rollback").execute(connection)) {
            tracing::debug!("rollback after \"{error}\": {e}");
        }
        Err(failed(&self.path, &error))
    }

    pub(super) fn close(self) {
        let Session {
            runtime,
            connection,
        } = self.session;
        if let Err(error) = runtime.block_on(connection.close()) {
            tracing::warn!(%error, "closing \"{}\"", self.path.display());
        }
    }
}

async fn insert_batches(
    connection: &mut SqliteConnection,
    batches: Vec<(LogId, &Batch)>,
) -> Result<(), sqlx::Error> {
    for rows in batches.chunks(INSERT_ROWS_MAX) {
        let mut insert = sqlx::query(insert_statement(rows.len()));
        for (log, batch) in rows {
            insert = insert
                .bind(*log)
                .bind(batch.base)
                .bind(batch.span)
                .bind(batch.timestamp_max);
            insert = insert.bind(batch.bytes.len() as i64).bind(&batch.bytes[..]);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn restore(
    connection: &mut SqliteConnection,
    config: &EmbeddedConfig,
    state: &mut State,
) -> Result<(), sqlx::Error> {
    let version: i64 = sqlx::query("pragma user_version")
        .fetch_one(&mut *connection)
        .await?
        .get(0);
    match version {
        VERSION => {}
        0 => {
            let all = format!("begin immediate; {SCHEMA} pragma user_version = {VERSION}; commit;");
            sqlx::raw_sql(AssertSqlSafe(all))
                .execute(&mut *connection)
                .await?;
        }
        newer => {
            return Err(sqlx::Error::Protocol(format!(
                "a log of version {newer}; this program knows {VERSION}; use the newer program"
            )));
        }
    }
    if let Some(bytes) = config.file_bytes_max {
        let pages = format!("pragma max_page_count = {}", bytes / u64::from(PAGE_BYTES));
        sqlx::raw_sql(AssertSqlSafe(pages))
            .execute(&mut *connection)
            .await?;
    }
    let topics = "select name, partitions, compact, retention_ms, retention_bytes, record_bytes_max from topics order by first";
    for row in sqlx::query(topics).fetch_all(&mut *connection).await? {
        let mut spec = TopicSpec::new(row.get::<&str, _>(0), row.get(1));
        spec.cleanup = if row.get(2) {
            Cleanup::Compact
        } else {
            Cleanup::Delete
        };
        spec.retention_ms = row.get::<Option<i64>, _>(3).map(i64::cast_unsigned);
        spec.retention_bytes = row.get::<Option<i64>, _>(4).map(i64::cast_unsigned);
        spec.record_max_bytes = row.get::<i64, _>(5).cast_unsigned();
        state.create(&spec);
    }
    let logs = "select id, start,
        coalesce((select base + span from batches where log = id order by base desc limit 1), start),
        coalesce((select sum(size) from batches where log = id), 0) from logs";
    for row in sqlx::query(logs).fetch_all(&mut *connection).await? {
        state.restore_log(
            row.get(0),
            row.get(1),
            row.get(2),
            row.get::<i64, _>(3).cast_unsigned(),
        );
    }
    for row in sqlx::query("select grp, log, next, metadata from offsets")
        .fetch_all(&mut *connection)
        .await?
    {
        state.restore_offset(row.get(0), row.get(1), row.get(2), row.get(3));
    }
    for row in sqlx::query("select shard, position from positions")
        .fetch_all(&mut *connection)
        .await?
    {
        state.restore_position(row.get(0), Bytes::from(row.get::<Vec<u8>, _>(1)));
    }
    Ok(())
}
