//! A Postgres server: a small pool of connections, shared by all that this process does with the store.
//!
//! Invariants: a transaction that did not end with a commit takes its connection with it: the server rolls back when the
//! socket closes, whatever state the connection was in. No call waits longer than `CALL_WAIT` for the server. A frozen
//! process cannot hold a row's lock for longer than `IDLE_IN_TRANSACTION`.
//!
//! It needs sessions: no pooler in transaction mode may stand between.

use std::future::Future;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, Postgres};

use super::query::{Query, Row};
use crate::{Options, Result, StoreError};

/// How long a connection is waited for: one that is free, or a new one.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// How long the server may work on one statement, and how long it waits for the next one of a transaction.
const STATEMENT: &str = "10s";
const IDLE_IN_TRANSACTION: &str = "10s";
/// Longer than the server itself would take to give up: then it is gone.
const CALL_WAIT: Duration = Duration::from_secs(15);
/// A connection that has been idle for so long is tried before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Taken while the tables are made: of all that start at once, one makes them. ("weir" in ASCII.)
const MIGRATION_LOCK: &str = "select pg_advisory_xact_lock(2003134834)";

pub(crate) struct Server {
    pub(super) place: String,
    connect: PgConnectOptions,
    pool: PgPool,
}

impl Server {
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Nothing is connected yet.
    pub(super) fn new(url: &str, options: &Options) -> Result<Self> {
        let connect = PgConnectOptions::from_str(url).map_err(|_| {
            // what the parser says may quote the URL, and the password with it
            StoreError::invalid(
                "the store's URL cannot be read; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, special characters percent-encoded",
            )
        })?;
        let connect = connect
            .application_name("weir")
            .options([
                // what is acknowledged is durable, whatever the server's default is
                ("synchronous_commit", "on"),
                ("statement_timeout", STATEMENT),
                ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
                // a client whose machine is gone must not hold its locks for hours
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ])
            .log_statements(tracing::log::LevelFilter::Off)
            .log_slow_statements(tracing::log::LevelFilter::Off, Duration::from_secs(1));
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max.max(1))
            .min_connections(0)
            .acquire_timeout(CONNECT_WAIT)
            .idle_timeout(IDLE)
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for < TRUSTED {
                        return Ok(true);
                    }
                    let ping = tokio::time::timeout(CONNECT_WAIT / 3, connection.ping()).await;
                    Ok(matches!(ping, Ok(Ok(()))))
                })
            })
            .connect_lazy_with(connect.clone());
        let place = format!(
            "postgres {}:{}/{}",
            connect.get_host(),
            connect.get_port(),
            connect
                .get_database()
                .unwrap_or_else(|| connect.get_username())
        );
        Ok(Self {
            place,
            connect,
            pool,
        })
    }

    /// A connection outside the pool.
    pub(crate) async fn session(&self) -> Result<PgConnection> {
        match tokio::time::timeout(CONNECT_WAIT, self.connect.connect()).await {
            Ok(connected) => connected.map_err(|error| self.error(error)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn acquire(&self) -> Result<Borrowed> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Borrowed(Some(connection))),
            Err(error) => Err(self.error(error)),
        }
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'_>> {
        // a pooled connection may have died since its last use: the next one is new, or was tried
        let started = Instant::now();
        match self.try_begin().await {
            Err(StoreError::Unavailable { .. }) if started.elapsed() < TRUSTED => {
                self.try_begin().await
            }
            begun => begun,
        }
    }

    async fn try_begin(&self) -> Result<Transaction<'_>> {
        let mut borrowed = self.acquire().await?;
        // not what the server's default may be: each statement has to see what was committed before it
        let begin = sqlx::raw_sql("begin isolation level read committed");
        self.call(begin.execute(borrowed.connection())).await?;
        Ok(Transaction {
            server: self,
            borrowed,
        })
    }

    pub(super) async fn begin_migration(&self) -> Result<Transaction<'_>> {
        let mut transaction = self.begin().await?;
        let lock = sqlx::raw_sql(MIGRATION_LOCK);
        self.call(lock.execute(transaction.borrowed.connection()))
            .await?;
        Ok(transaction)
    }

    pub(super) async fn optional<T: Row>(&self, query: Query) -> Result<Option<T>> {
        let started = Instant::now();
        match self.try_optional(query.clone()).await {
            Err(StoreError::Unavailable { .. }) if started.elapsed() < TRUSTED => {
                self.try_optional(query).await
            }
            found => found,
        }
    }

    pub(super) async fn all<T: Row>(&self, query: Query) -> Result<Vec<T>> {
        let started = Instant::now();
        match self.try_all(query.clone()).await {
            Err(StoreError::Unavailable { .. }) if started.elapsed() < TRUSTED => {
                self.try_all(query).await
            }
            found => found,
        }
    }

    async fn try_optional<T: Row>(&self, query: Query) -> Result<Option<T>> {
        let mut borrowed = self.acquire().await?;
        let select = query.postgres_as();
        let found = self
            .call(select.fetch_optional(borrowed.connection()))
            .await?;
        borrowed.give_back();
        Ok(found)
    }

    async fn try_all<T: Row>(&self, query: Query) -> Result<Vec<T>> {
        let mut borrowed = self.acquire().await?;
        let select = query.postgres_as();
        let found = self.call(select.fetch_all(borrowed.connection())).await?;
        borrowed.give_back();
        Ok(found)
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Waits for the server, but not for ever.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T> {
        match tokio::time::timeout(CALL_WAIT, call).await {
            Ok(done) => done.map_err(|error| self.error(error)),
            Err(_) => Err(self.silent()),
        }
    }

    pub(crate) fn error(&self, error: sqlx::Error) -> StoreError {
        StoreError::of_postgres(&self.place, error)
    }

    fn silent(&self) -> StoreError {
        StoreError::Unavailable {
            place: self.place.clone(),
            reason: "the server does not answer".to_owned(),
        }
    }
}

/// A connection of the pool, closed unless it is given back.
struct Borrowed(Option<PoolConnection<Postgres>>);

impl Borrowed {
    fn connection(&mut self) -> &mut PgConnection {
        self.0
            .as_mut()
            .expect("only drop and give_back take it, and they are the last")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// A transaction; rolled back unless `commit` is called.
pub(crate) struct Transaction<'d> {
    server: &'d Server,
    borrowed: Borrowed,
}

impl Transaction<'_> {
    pub(super) async fn execute(&mut self, query: Query) -> Result<u64> {
        let done = self
            .server
            .call(query.postgres().execute(self.borrowed.connection()))
            .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn optional<T: Row>(&mut self, query: Query) -> Result<Option<T>> {
        let select = query.postgres_as();
        self.server
            .call(select.fetch_optional(self.borrowed.connection()))
            .await
    }

    pub(super) async fn all<T: Row>(&mut self, query: Query) -> Result<Vec<T>> {
        let select = query.postgres_as();
        self.server
            .call(select.fetch_all(self.borrowed.connection()))
            .await
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        let commit = sqlx::raw_sql("commit");
        self.server
            .call(commit.execute(self.borrowed.connection()))
            .await?;
        self.borrowed.give_back();
        Ok(())
    }
}
