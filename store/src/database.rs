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

use crate::inbox::Inbox;
use crate::{Result, StoreError, schema};

/// One page holds a narrow index row a thousand times and a small batch whole (measured: half the time of 4 KiB pages).
const PAGE_BYTES: u32 = 16 << 10;
/// The write-ahead log is copied into the file when it has grown to this.
const CHECKPOINT_BYTES: u32 = 64 << 20;
const READERS_MAX: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How large the file may grow; beyond it calls fail with [`StoreError::Full`]. `None`: as the disk allows.
    pub bytes_max: Option<u64>,
}

/// What is at rest. Cheap to clone; the file is closed when the last clone is gone.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Arc<Database>,
    inbox: Inbox,
}

impl Store {
    /// Opens the file, creates it if it is missing, and brings an older one up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &Options::default()).await
    }

    /// As [`Store::open`].
    pub async fn open_with(path: &Path, options: &Options) -> Result<Self> {
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

    /// A store that is gone with its last clone.
    pub async fn memory() -> Result<Self> {
        let connect = common(SqliteConnectOptions::new());
        Self::new("memory".to_owned(), connect, None, &Options::default()).await
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
            .map_err(|error| StoreError::of(&place, error))?;
        let writer = Arc::new(Mutex::new(Writer {
            connection,
            open: false,
        }));
        let database = Arc::new(Database {
            place,
            writer,
            readers,
        });
        database.migrate().await?;
        let inbox = Inbox::start(database.clone());
        Ok(Self { database, inbox })
    }

    /// The triggers that carry an idempotency key.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Finishes what is being written and closes the file. Later calls fail.
    pub async fn close(&self) {
        self.inbox.stop().await;
        if let Some(readers) = &self.database.readers {
            readers.close().await;
        }
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

/// The connections.
pub(crate) struct Database {
    place: String,
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

impl Database {
    /// Begins a transaction, when the ones before it have ended.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>> {
        let mut writer = self.writer.clone().lock_owned().await;
        writer.roll_back().await;
        writer.open = true;
        match sqlx::query("begin immediate")
            .execute(&mut writer.connection)
            .await
        {
            Ok(_) => Ok(Transaction {
                database: self,
                writer,
            }),
            Err(error) => Err(self.error(error)),
        }
    }

    /// A connection to read with. Never hold it while beginning a transaction.
    pub(crate) async fn read(&self) -> Result<Reader> {
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

    pub(crate) fn error(&self, error: sqlx::Error) -> StoreError {
        StoreError::of(&self.place, error)
    }

    pub(crate) fn corrupt(&self, reason: &str) -> StoreError {
        StoreError::Corrupt {
            place: self.place.clone(),
            reason: reason.to_owned(),
        }
    }

    async fn migrate(&self) -> Result<()> {
        let known = schema::STEPS.len() as i64;
        let mut transaction = self.begin().await?;
        transaction
            .execute(sqlx::query(
                "create table if not exists store_format (format bigint not null)",
            ))
            .await?;
        let found: Option<(i64,)> = transaction
            .optional(sqlx::query_as("select format from store_format"))
            .await?;
        let found = found.map_or(0, |(format,)| format);
        if found > known {
            return Err(StoreError::Newer {
                place: self.place.clone(),
                found,
                known,
            });
        }
        if found < known {
            for statement in schema::STEPS[found as usize..]
                .iter()
                .copied()
                .flatten()
                .copied()
            {
                transaction.execute(sqlx::query(statement)).await?;
            }
            transaction
                .execute(sqlx::query("delete from store_format"))
                .await?;
            transaction
                .execute(sqlx::query("insert into store_format (format) values ($1)").bind(known))
                .await?;
        }
        transaction.commit().await
    }
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

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;
type QueryAs<'q, T> = sqlx::query::QueryAs<'q, Sqlite, T, sqlx::sqlite::SqliteArguments>;

/// A transaction; rolled back unless `commit` is called.
pub(crate) struct Transaction<'d> {
    database: &'d Database,
    writer: OwnedMutexGuard<Writer>,
}

impl Transaction<'_> {
    /// Runs a statement; gives the number of rows it changed.
    pub(crate) async fn execute(&mut self, query: Query<'_>) -> Result<u64> {
        match query.execute(&mut self.writer.connection).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.database.error(error)),
        }
    }

    pub(crate) async fn optional<T>(&mut self, query: QueryAs<'_, T>) -> Result<Option<T>>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        query
            .fetch_optional(&mut self.writer.connection)
            .await
            .map_err(|error| self.database.error(error))
    }

    pub(crate) async fn all<T>(&mut self, query: QueryAs<'_, T>) -> Result<Vec<T>>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        query
            .fetch_all(&mut self.writer.connection)
            .await
            .map_err(|error| self.database.error(error))
    }

    /// Adds to a counter row and gives its new value. Two transactions that take from one counter are one after the
    /// other (here always, in Postgres by the row's lock), so numbers are in commit order and none is missing.
    pub(crate) async fn count(&mut self, name: &str, by: i64) -> Result<i64> {
        let next = sqlx::query_as(
            "insert into counters (name, value) values ($1, $2)
             on conflict (name) do update set value = counters.value + excluded.value returning value",
        );
        let (value,): (i64,) = self
            .optional(next.bind(name.to_owned()).bind(by))
            .await?
            .ok_or_else(|| self.database.corrupt("a counter gave no value"))?;
        Ok(value)
    }

    pub(crate) async fn commit(mut self) -> Result<()> {
        match sqlx::query("commit")
            .execute(&mut self.writer.connection)
            .await
        {
            Ok(_) => {
                self.writer.open = false;
                Ok(())
            }
            Err(error) => Err(self.database.error(error)),
        }
    }
}

/// A connection that only reads.
pub(crate) enum Reader {
    Pooled(PoolConnection<Sqlite>),
    Writer(OwnedMutexGuard<Writer>),
}

impl Reader {
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Writer(writer) => &mut writer.connection,
        }
    }
}

impl Database {
    pub(crate) async fn read_optional<T>(&self, query: QueryAs<'_, T>) -> Result<Option<T>>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        let mut reader = self.read().await?;
        query
            .fetch_optional(reader.connection())
            .await
            .map_err(|error| self.error(error))
    }

    pub(crate) async fn read_all<T>(&self, query: QueryAs<'_, T>) -> Result<Vec<T>>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        let mut reader = self.read().await?;
        query
            .fetch_all(reader.connection())
            .await
            .map_err(|error| self.error(error))
    }
}
