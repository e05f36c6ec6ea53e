//! A statement with its values, for whichever database it will run on.
//!
//! Most statements are the same for both. Where they must differ, both texts stand side by side (`Query::each`) and take
//! the same values.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{FromRow, Postgres, Sqlite};

/// Binds the values to a `Query` or a `QueryAs`, which have no trait in common.
macro_rules! sqlite {
    ($query:expr, $values:expr) => {
        $values
            .into_iter()
            .fold($query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
                Value::Blob(blob) => query.bind(blob),
                Value::Texts(texts) => query.bind(serde_json::Value::from(texts).to_string()),
                Value::Ints(_) | Value::Blobs(_) => unreachable!("SQLite has no arrays"),
            })
    };
}

/// As above.
macro_rules! postgres {
    ($query:expr, $values:expr) => {
        $values
            .into_iter()
            .fold($query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
                Value::Blob(blob) => query.bind(blob),
                Value::Texts(texts) => query.bind(texts),
                Value::Ints(ints) => query.bind(ints),
                Value::Blobs(blobs) => query.bind(blobs),
            })
    };
}

/// A tuple that a row of either database can be read as.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{}

/// A value of a statement.
#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    Int(Option<i64>),
    Blob(Vec<u8>),
    /// SQLite: a JSON array, for `json_each`.
    Texts(Vec<String>),
    /// Postgres only.
    Ints(Vec<i64>),
    /// Postgres only.
    Blobs(Vec<Vec<u8>>),
}

/// A statement, and its values `$1`, `$2`, …
#[derive(Clone)]
pub(crate) struct Query {
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

/// A statement that both databases understand.
pub(crate) fn sql(text: &'static str) -> Query {
    Query::each(text, text)
}

impl Query {
    /// A statement whose text differs.
    pub(crate) fn each(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite,
            postgres,
            values: Vec::new(),
        }
    }

    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(super) fn sqlite(self) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
        sqlite!(sqlx::query(self.sqlite), self.values)
    }

    pub(super) fn sqlite_as<T: Row>(
        self,
    ) -> sqlx::query::QueryAs<'static, Sqlite, T, SqliteArguments> {
        sqlite!(sqlx::query_as(self.sqlite), self.values)
    }

    pub(super) fn postgres(self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        postgres!(sqlx::query(self.postgres), self.values)
    }

    pub(super) fn postgres_as<T: Row>(
        self,
    ) -> sqlx::query::QueryAs<'static, Postgres, T, PgArguments> {
        postgres!(sqlx::query_as(self.postgres), self.values)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

/// `None`: null.
impl From<Option<i64>> for Value {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

impl From<u32> for Value {
    fn from(int: u32) -> Self {
        Self::Int(Some(i64::from(int)))
    }
}

impl From<&[u8]> for Value {
    fn from(blob: &[u8]) -> Self {
        Self::Blob(blob.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(blob: Vec<u8>) -> Self {
        Self::Blob(blob)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<Vec<i64>> for Value {
    fn from(ints: Vec<i64>) -> Self {
        Self::Ints(ints)
    }
}

impl From<Vec<Vec<u8>>> for Value {
    fn from(blobs: Vec<Vec<u8>>) -> Self {
        Self::Blobs(blobs)
    }
}
