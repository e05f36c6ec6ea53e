//! Deleting a tenant's rows. A chunk is a transaction: executions go together with their outputs.

use sqlx::{Connection, PgConnection, Row};

use super::open;
use crate::erase::{CHUNK, Erased, Tally, Told};

const EXECUTIONS: &str = "select distinct graph, execution, execution::text as id from weir_executions where tenant = $1 order by graph, execution limit $2";
/// In this order.
const DELETE: [(&str, &str); 2] = [
    (
        "weir_outputs",
        "delete from weir_outputs where tenant = $1 and execution = any($2::text[]::uuid[])",
    ),
    (
        "weir_executions",
        "delete from weir_executions where tenant = $1 and execution = any($2::text[]::uuid[])",
    ),
];

impl super::Postgres {
    /// Of this tenant, from all tables that are there. The error says why it was broken off, without a password.
    pub async fn erase(url: &str, tenant: &str, told: Told<'_>) -> Result<Vec<Erased>, String> {
        let options = open::place(url)?;
        let said = |error: sqlx::Error| error.to_string();
        let mut connection = PgConnection::connect_with(&options).await.map_err(said)?;
        let mut tally = Tally::new(told);
        let erased = erase(&mut connection, tenant, &mut tally).await;
        // the server learns of it either way
        drop(connection.close().await);
        erased.map_err(said)?;
        Ok(tally.tables())
    }
}

async fn erase(
    connection: &mut PgConnection,
    tenant: &str,
    tally: &mut Tally<'_>,
) -> Result<(), sqlx::Error> {
    while is_there(connection, "weir_executions").await? {
        let mut transaction = connection.begin().await?;
        let select = sqlx::query(EXECUTIONS).bind(tenant).bind(CHUNK);
        let rows = select.fetch_all(&mut *transaction).await?;
        let ids = rows.iter().map(|row| row.try_get::<String, _>("id"));
        let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
        let mut gone = Vec::new();
        for (table, delete) in DELETE {
            let delete = sqlx::query(delete).bind(tenant).bind(&ids);
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
    while is_there(connection, "weir_dead_letters").await? {
        let delete = sqlx::query(
            "delete from weir_dead_letters where tenant = $1 and (id, died_at) in
               (select id, died_at from weir_dead_letters where tenant = $1 order by died_at, id limit $2)",
        );
        let deleted = delete.bind(tenant).bind(CHUNK);
        let rows = deleted.execute(&mut *connection).await?.rows_affected();
        tally.add("weir_dead_letters", rows);
        if rows == 0 {
            break;
        }
    }
    Ok(())
}

async fn is_there(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    let there = sqlx::query("select to_regclass($1) is not null").bind(table);
    there.fetch_one(connection).await?.try_get(0)
}
