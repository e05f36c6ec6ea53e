//! Deleting a tenant's rows; what they held is overwritten in the file. A sink may write meanwhile: it waits, and so does this.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use crate::erase::{CHUNK, Erased, Tally, Told};

const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

const EXECUTIONS: &str = "select distinct graph, execution from weir_executions where tenant = $1 order by graph, execution limit $2";
/// In this order.
const DELETE: [(&str, &str); 2] = [
    (
        "weir_outputs",
        "delete from weir_outputs where tenant = $1 and execution in (select value from json_each($2))",
    ),
    (
        "weir_executions",
        "delete from weir_executions where tenant = $1 and execution in (select value from json_each($2))",
    ),
];

impl super::Sqlite {
    /// Of this tenant; a file that is not there has none.
    pub async fn erase(path: &Path, tenant: &str, told: Told<'_>) -> Result<Vec<Erased>, String> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("secure_delete", "on")
            .disable_statement_logging();
        let said = |error: sqlx::Error| format!("{}: {error}", path.display());
        let mut connection = options.connect().await.map_err(said)?;
        let mut tally = Tally::new(told);
        let erased = erase(&mut connection, tenant, &mut tally).await;
        // the pages as they were, which the log of writes still has; a reader may keep some until the sink's next turn
        let turned = sqlx::raw_sql("pragma wal_checkpoint(truncate)")
            .execute(&mut connection)
            .await;
        let closed = turned.map(drop).and(connection.close().await);
        erased.and(closed).map_err(said)?;
        Ok(tally.tables())
    }
}

async fn erase(
    connection: &mut SqliteConnection,
    tenant: &str,
    tally: &mut Tally<'_>,
) -> Result<(), sqlx::Error> {
    loop {
        let mut transaction = connection.begin_with("begin immediate").await?;
        let select = sqlx::query(EXECUTIONS).bind(tenant).bind(CHUNK);
        let rows = select.fetch_all(&mut *transaction).await?;
        let ids = rows.iter().map(|row| row.try_get::<String, _>("execution"));
        let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
        let list = serde_json::json!(ids).to_string();
        let mut gone = Vec::new();
        for (table, delete) in DELETE {
            let delete = sqlx::query(delete).bind(tenant).bind(&list);
            let deleted = delete.execute(&mut *transaction).await?;
            gone.push((table, deleted.rows_affected()));
        }
        transaction.commit().await?;
        for (table, rows) in gone {
            tally.add(table, rows);
        }
        if ids.is_empty() {
            break;
        }
    }
    loop {
        let delete = sqlx::query(
            "delete from weir_dead_letters where id in
               (select id from weir_dead_letters where tenant = $1 order by died_at_ms, id limit $2)",
        );
        let deleted = delete.bind(tenant).bind(CHUNK);
        let rows = deleted.execute(&mut *connection).await?.rows_affected();
        tally.add("weir_dead_letters", rows);
        if rows == 0 {
            return Ok(());
        }
    }
}
