//! The database file: one connection that writes, a few that read.
//!
//! Invariants: every write is one transaction of the writer (SQLite has one at a time anyway; several connections that
//! want to write starve each other); a transaction whose caller went away is rolled back before the next one begins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::query::{Query, Row};
use crate::{Options, Result, StoreError};

/// One page holds a narrow index row a thousand times and a small batch whole (measured: half the time of 4 KiB pages).
const PAGE_BYTES: u32 = 16 << 10;
/// The write-ahead log is copied into the file when it has grown to this.
const CHECKPOINT_BYTES: u32 = 64 << 20;
const READERS_MAX: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections.
pub(crate) struct File {
    pub(super) place: String,
    writer: Arc<Mutex<Writer>>,
    /// `None` in memory, which belongs to one connection.
    readers: Option<SqlitePool>,
}

pub(crate) struct Writer {
    connection: SqliteConnection,
    /// A transaction was begun and not ended. Found at the start of the next one if the caller of the last was
    /// cancelled (a client hung up), or if its COMMIT failed.
    open: bool,
}

impl File {
    pub(super) async fn open(path: &Path, options: &Options) -> Result<Self> {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma(
                "wal_autocheckpoint",
                (CHECKPOINT_BYTES / PAGE_BYTES).to_string(),
            );
        let place = path.display().to_string();
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .min_connections(0)
            .test_before_acquire(false)
            .connect_lazy_with(common(connect.clone()));
        Self::new(place, common(connect), Some(readers), options).await
    }

    pub(super) async fn memory(options: &Options) -> Result<Self> {
        let connect = common(SqliteConnectOptions::new());
        Self::new("memory".to_owned(), connect, None, options).await
    }

    async fn new(
        place: String,
        connect: SqliteConnectOptions,
        readers: Option<SqlitePool>,
        options: &Options,
    ) -> Result<Self> {
        let mut connect = connect
            .pragma("cache_size", "-16384")
            .pragma("temp_store", "memory");
        if let Some(bytes) = options.bytes_max {
            connect = connect.pragma(
                "max_page_count",
                bytes.div_ceil(u64::from(PAGE_BYTES)).max(1).to_string(),
            );
        }
        let connection = connect
            .connect()
            .await
            .map_err(|error| StoreError::of_sqlite(&place, error))?;
        let writer = Arc::new(Mutex::new(Writer {
            connection,
            open: false,
        }));
        Ok(Self {
            place,
            writer,
            readers,
        })
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'_>> {
        let mut writer = self.writer.clone().lock_owned().await;
        writer.roll_back().await;
        writer.open = true;
        match sqlx::query("begin immediate")
            .execute(&mut writer.connection)
            .await
        {
            Ok(_) => Ok(Transaction { file: self, writer }),
            Err(error) => Err(self.error(error)),
        }
    }

    /// A connection to read with. Never hold it while beginning a transaction.
    async fn reader(&self) -> Result<Reader> {
        match &self.readers {
            Some(pool) => Ok(Reader::Pooled(
                pool.acquire().await.map_err(|error| self.error(error))?,
            )),
            None => {
                let mut writer = self.writer.clone().lock_owned().await;
                writer.roll_back().await;
                Ok(Reader::Writer(writer))
            }
        }
    }

    pub(super) async fn optional<T: Row>(&self, query: Query) -> Result<Option<T>> {
        let mut reader = self.reader().await?;
        let found = query.sqlite_as().fetch_optional(reader.connection()).await;
        found.map_err(|error| self.error(error))
    }

    pub(super) async fn all<T: Row>(&self, query: Query) -> Result<Vec<T>> {
        let mut reader = self.reader().await?;
        let found = query.sqlite_as().fetch_all(reader.connection()).await;
        found.map_err(|error| self.error(error))
    }

    pub(super) async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
    }

    fn error(&self, error: sqlx::Error) -> StoreError {
        StoreError::of_sqlite(&self.place, error)
    }
}

fn common(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .page_size(PAGE_BYTES)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .log_statements(tracing::log::LevelFilter::Off)
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::from_secs(1))
}

impl Writer {
    async fn roll_back(&mut self) {
        if self.open {
            // SQLite ends some transactions by itself, when the disk is full for instance: then this fails, and may.
            if let Err(error) = sqlx::query("rollback").execute(&mut self.connection).await {
                tracing::debug!(%error, "nothing to roll back");
            }
            self.open = false;
        }
    }
}

/// A transaction; rolled back unless `commit` is called.
pub(crate) struct Transaction<'d> {
    file: &'d File,
    writer: OwnedMutexGuard<Writer>,
}

impl Transaction<'_> {
    pub(super) async fn execute(&mut self, query: Query) -> Result<u64> {
        match query.sqlite().execute(&mut self.writer.connection).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.file.error(error)),
        }
    }

    pub(super) async fn optional<T: Row>(&mut self, query: Query) -> Result<Option<T>> {
        let found = query
            .sqlite_as()
            .fetch_optional(&mut self.writer.connection)
            .await;
        found.map_err(|error| self.file.error(error))
    }

    pub(super) async fn all<T: Row>(&mut self, query: Query) -> Result<Vec<T>> {
        let found = query
            .sqlite_as()
            .fetch_all(&mut self.writer.connection)
            .await;
        found.map_err(|error| self.file.error(error))
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        match sqlx::query("commit")
            .execute(&mut self.writer.connection)
            .await
        {
            Ok(_) => {
                self.writer.open = false;
                Ok(())
            }
            Err(error) => Err(self.file.error(error)),
        }
    }
}

/// A connection that only reads.
enum Reader {
    Pooled(PoolConnection<Sqlite>),
    Writer(OwnedMutexGuard<Writer>),
}

impl Reader {
    fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Writer(writer) => &mut writer.connection,
        }
    }
}
