//! An open session: the tables made, their statements prepared.

use std::collections::HashMap;
use std::sync::Arc;

use scylla::client::session::Session;
use scylla::policies::load_balancing::LoadBalancingPolicy;
use scylla::statement::prepared::PreparedStatement;

use super::rows::{OurRow, Table};
use super::settings::ScyllaSettings;
use super::tables::UserTables;
use super::write::{Refused, Write, send};
use crate::destination::Options;

const SCHEMA: &str = include_str!("schema.cql");
const HISTORY: &str = include_str!("history.cql");
/// What goes together to ScyllaDB, and to Cassandra, which warns of batches above 5 KiB, in its log and in each answer.
const BATCH_BYTES_MAX: usize = 30 << 10;
const BATCH_BYTES_MAX_CASSANDRA: usize = 4 << 10;
/// What the database takes at most: 20 years.
const SECONDS_MAX: u64 = 630_720_000;

pub(super) struct Open {
    pub(super) session: Arc<Session>,
    pub(super) policy: Arc<dyn LoadBalancingPolicy>,
    batch_bytes_max: usize,
    inserts: HashMap<Table, PreparedStatement>,
    pub(super) positions: Positions,
    pub(super) purges: Purges,
    pub(super) users: UserTables,
}

pub(super) struct Positions {
    pub(super) select: PreparedStatement,
    pub(super) insert: PreparedStatement,
}

pub(super) struct Purges {
    pub(super) select: PreparedStatement,
    pub(super) update: PreparedStatement,
}

impl Open {
    pub(super) async fn open(settings: &ScyllaSettings, options: &Options) -> Result<Self, String> {
        let policy = settings.policy();
        let session = settings.session(policy.clone())?.build().await;
        let session = session.map_err(|e| e.to_string())?;
        migrate(&session, settings, options).await?;

        let mut tables = Table::EVERYWHERE.to_vec();
        if options.history {
            tables.extend(Table::HISTORY);
        }
        let mut inserts = HashMap::new();
        for table in tables {
            inserts.insert(table, prepare(&session, &table.insert()).await?);
        }
        let positions = Positions {
            select: prepare(
                &session,
                r#"select next_offset from weir_positions where topic = ? and "partition" = ? and topic_id = ?"#,
            )
            .await?,
            insert: prepare(
                &session,
                r#"insert into weir_positions (topic, "partition", topic_id, next_offset) values (?, ?, ?, ?) using timestamp ?"#,
            )
            .await?,
        };
        let purges = Purges {
            select: prepare(
                &session,
                "select purged_at_ms, writetime(headers) from weir_dead_letters where id = ?",
            )
            .await?,
            update: prepare(
                &session,
                "update weir_dead_letters using timestamp ? set key = null, value = null, headers = '[]', purged_at_ms = ? where id = ?",
            )
            .await?,
        };
        let cluster = session.get_cluster_state();
        let mut nodes = cluster.get_nodes_info().iter();
        // only ScyllaDB has shards
        let batch_bytes_max = if nodes.any(|node| node.sharder().is_some()) {
            BATCH_BYTES_MAX
        } else {
            BATCH_BYTES_MAX_CASSANDRA
        };
        Ok(Self {
            session: Arc::new(session),
            policy,
            batch_bytes_max,
            inserts,
            positions,
            purges,
            users: UserTables::default(),
        })
    }

    /// As `send`.
    pub(super) async fn send(&self, writes: Vec<Write>) -> Result<Vec<Refused>, String> {
        send(&self.session, self.batch_bytes_max, writes).await
    }

    /// `None`: of a table that this destination does not have.
    pub(super) fn write(&self, row: OurRow) -> Option<Write> {
        Some(Write {
            statement: self.inserts.get(&row.table)?.clone(),
            values: row.values,
            bytes: row.bytes,
            partition: Some(row.partition),
            event: None,
        })
    }
}

async fn prepare(session: &Session, text: &str) -> Result<PreparedStatement, String> {
    let prepared = session.prepare(text).await;
    let mut prepared = prepared.map_err(|e| e.to_string())?;
    // each carries its time, or only reads
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

/// Makes the tables that are missing, and sets how long rows live.
async fn migrate(
    session: &Session,
    settings: &ScyllaSettings,
    options: &Options,
) -> Result<(), String> {
    let keyspace = &settings.keyspace;
    let cluster = session.get_cluster_state();
    let there = cluster.get_keyspace(keyspace).map(|there| &there.tables);
    let mut statements = statements(SCHEMA);
    if options.history {
        statements.extend(self::statements(HISTORY));
    }
    for (table, create) in statements {
        // a change of the schema makes all nodes agree on it, also one that changes nothing
        if there.is_some_and(|tables| tables.contains_key(table)) {
            continue;
        }
        let created = session.query_unpaged(create.as_str(), ()).await;
        created.map_err(|e| format!("making {table}: {e}"))?;
    }
    let mut tables = Table::EVERYWHERE.to_vec();
    if options.history {
        tables.extend(Table::HISTORY);
    }
    let kept = &options.retention;
    for table in tables {
        let keep = match table {
            Table::Days => kept.longest(),
            Table::Executions | Table::ExecutionsByGraph => kept.executions,
            Table::Outputs => kept.outputs,
            Table::DeadLetters | Table::DeadLettersByDay => kept.dead_letters,
        };
        if let Some(keep) = keep {
            let seconds = keep.as_secs().clamp(1, SECONDS_MAX);
            expire(session, keyspace, table.name(), seconds).await?;
        }
    }
    Ok(())
}

/// Tables and the statements that make them.
fn statements(text: &'static str) -> Vec<(&'static str, String)> {
    let lines = |statement: &'static str| {
        let lines = statement.lines().filter(|line| !line.starts_with("--"));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    let name = |statement: &'static str| {
        let (_, rest) = statement.split_once("if not exists ")?;
        rest.split_whitespace().next()
    };
    text.split(";\n")
        .filter_map(|statement| Some((name(statement)?, lines(statement))))
        .collect()
}

/// Rows written from now on live so long.
async fn expire(
    session: &Session,
    keyspace: &str,
    table: &str,
    seconds: u64,
) -> Result<(), String> {
    let said = |e: String| format!("asking how long {table} keeps its rows: {e}");
    let select = "select default_time_to_live from system_schema.tables where keyspace_name = ? and table_name = ?";
    let found = session.query_unpaged(select, (keyspace, table)).await;
    let found = found.map_err(|e| said(e.to_string()))?;
    let rows = found.into_rows_result().map_err(|e| said(e.to_string()))?;
    let now = rows.maybe_first_row::<(Option<i32>,)>();
    let now = now.map_err(|e| said(e.to_string()))?;
    if now.and_then(|(now,)| now).map(i64::from) == i64::try_from(seconds).ok() {
        return Ok(());
    }
    let alter = format!("alter table {table} with default_time_to_live = {seconds}");
    let altered = session.query_unpaged(alter, ()).await;
    altered
        .map(drop)
        .map_err(|e| format!("setting how long {table} keeps its rows: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_one_statement_per_table() {
        let all = [statements(SCHEMA), statements(HISTORY)].concat();
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "weir_positions",
                "weir_days",
                "weir_dead_letters",
                "weir_dead_letters_by_day",
                "weir_executions",
                "weir_executions_by_graph",
                "weir_outputs"
            ]
        );
        assert!(all.iter().all(|(_, text)| text.starts_with("create table")));
    }
}
