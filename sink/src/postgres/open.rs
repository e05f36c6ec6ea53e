//! How the database is reached, and its tables made.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

/// Of a user's trigger that hangs, and of a lock that somebody holds: longer waits count as the row's fault, or as an outage.
const STATEMENT_TIMEOUT: &str = "30s";
const LOCK_TIMEOUT: &str = "10s";

/// The URL may hold a password: no message quotes it.
pub(super) fn place(url: &str) -> Result<PgConnectOptions, String> {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        "its url is none of Postgres; write postgres://USER:PASSWORD@HOST/DATABASE".to_owned()
    })?;
    let options = options.application_name("weir-sink").options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("timezone", "UTC"),
    ]);
    Ok(options.disable_statement_logging())
}

/// Makes what is missing; processes that start together take turns.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    history: bool,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock(hashtext('weir parts'))")
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(include_str!("schema.sql"))
        .execute(&mut *transaction)
        .await?;
    if history {
        sqlx::raw_sql(include_str!("history.sql"))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}
