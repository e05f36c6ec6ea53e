//! The database behind the store: a SQLite file, or a Postgres server. The rest of the crate speaks to it through
//! `Query`, and writes in a `Transaction`.

pub(crate) mod postgres;
mod query;
mod sqlite;

use std::path::Path;

pub(crate) use query::{Query, Row, sql};

use crate::{Options, Result, StoreError, schema};

/// A SQLite file, or a Postgres server.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub(crate) enum Database {
    Sqlite(sqlite::File),
    Postgres(postgres::Server),
}

impl Database {
    pub(crate) async fn open(path: &Path, options: &Options) -> Result<Self> {
        let database = Self::Sqlite(sqlite::File::open(path, options).await?);
        database.migrate().await?;
        Ok(database)
    }

    pub(crate) async fn memory(options: &Options) -> Result<Self> {
        let database = Self::Sqlite(sqlite::File::memory(options).await?);
        database.migrate().await?;
        Ok(database)
    }

    pub(crate) async fn postgres(url: &str, options: &Options) -> Result<Self> {
        let database = Self::Postgres(postgres::Server::new(url, options)?);
        database.migrate().await?;
        Ok(database)
    }

    pub(crate) fn place(&self) -> &str {
        match self {
            Self::Sqlite(file) => &file.place,
            Self::Postgres(server) => &server.place,
        }
    }

    /// Begins a transaction. In SQLite, when the ones before it have ended.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>> {
        match self {
            Self::Sqlite(file) => Ok(Transaction::Sqlite(file.begin().await?)),
            Self::Postgres(server) => Ok(Transaction::Postgres(server.begin().await?)),
        }
    }

    /// Reads outside a transaction; never while holding one.
    pub(crate) async fn optional<T: Row>(&self, query: Query) -> Result<Option<T>> {
        match self {
            Self::Sqlite(file) => file.optional(query).await,
            Self::Postgres(server) => server.optional(query).await,
        }
    }

    /// As [`Database::optional`].
    pub(crate) async fn all<T: Row>(&self, query: Query) -> Result<Vec<T>> {
        match self {
            Self::Sqlite(file) => file.all(query).await,
            Self::Postgres(server) => server.all(query).await,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(server) => server.close().await,
        }
    }

    pub(crate) fn corrupt(&self, reason: &str) -> StoreError {
        StoreError::Corrupt {
            place: self.place().to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Makes the tables, or brings them up to date. Of several processes that come at once one does it; the others wait.
    async fn migrate(&self) -> Result<()> {
        let known = schema::STEPS.len() as i64;
        let mut transaction = match self {
            Self::Sqlite(file) => Transaction::Sqlite(file.begin().await?),
            Self::Postgres(server) => Transaction::Postgres(server.begin_migration().await?),
        };
        transaction
            .execute(sql(
                "create table if not exists store_format (format bigint not null)",
            ))
            .await?;
        let found: Option<(i64,)> = transaction
            .optional(sql("select format from store_format"))
            .await?;
        let found = found.map_or(0, |(format,)| format);
        if found > known {
            return Err(StoreError::Newer {
                place: self.place().to_owned(),
                found,
                known,
            });
        }
        if found < known {
            for step in &schema::STEPS[found as usize..] {
                for statement in *step {
                    transaction.execute(statement.query()).await?;
                }
            }
            transaction.execute(sql("delete from store_format")).await?;
            transaction
                .execute(sql("insert into store_format (format) values ($1)").bind(known))
                .await?;
        }
        transaction.commit().await
    }
}

/// A transaction; rolled back unless `commit` is called. In Postgres each statement sees what was committed before it.
pub(crate) enum Transaction<'d> {
    Sqlite(sqlite::Transaction<'d>),
    Postgres(postgres::Transaction<'d>),
}

impl Transaction<'_> {
    /// Runs a statement; gives the number of rows it changed.
    pub(crate) async fn execute(&mut self, query: Query) -> Result<u64> {
        match self {
            Self::Sqlite(transaction) => transaction.execute(query).await,
            Self::Postgres(transaction) => transaction.execute(query).await,
        }
    }

    pub(crate) async fn optional<T: Row>(&mut self, query: Query) -> Result<Option<T>> {
        match self {
            Self::Sqlite(transaction) => transaction.optional(query).await,
            Self::Postgres(transaction) => transaction.optional(query).await,
        }
    }

    pub(crate) async fn all<T: Row>(&mut self, query: Query) -> Result<Vec<T>> {
        match self {
            Self::Sqlite(transaction) => transaction.all(query).await,
            Self::Postgres(transaction) => transaction.all(query).await,
        }
    }

    /// Adds to a counter row and gives its new value. Two transactions that take from one counter are one after the
    /// other (in Postgres by the row's lock), so numbers are in commit order and none is missing.
    pub(crate) async fn count(&mut self, name: &str, by: i64) -> Result<i64> {
        let next = sql("insert into counters (name, value) values ($1, $2)
             on conflict (name) do update set value = counters.value + excluded.value returning value");
        let (value,): (i64,) = self
            .optional(next.bind(name).bind(by))
            .await?
            .ok_or_else(|| StoreError::Corrupt {
                place: name.to_owned(),
                reason: "a counter gave no value".to_owned(),
            })?;
        Ok(value)
    }

    /// An error leaves it open whether it was committed, unless the database says that it was not.
    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}
