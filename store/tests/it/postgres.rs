//! The Postgres server of all tests, with a database for each.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use xtask::services::postgres::Temporary;

/// It ends with this process.
static SERVER: LazyLock<Temporary> = LazyLock::new(|| Temporary::start().unwrap());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The URL of a new database.
pub(crate) async fn database() -> String {
    let url = tokio::task::spawn_blocking(|| SERVER.url()).await.unwrap();
    create(&url).await
}

/// Makes a database on the server; its URL.
pub(crate) async fn create(url: &str) -> String {
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(url, format!("create database {name}")).await;
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

pub(crate) async fn connection(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.connect().await.unwrap()
}

pub(crate) async fn execute(url: &str, statement: String) {
    let mut connection = connection(url).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
