//! Users' tables as the cluster has them: looked up once, and again when an event does not fit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use scylla::client::session::Session;
use scylla::cluster::metadata::{ColumnKind, ColumnType, NativeType, Table};
use scylla::frame::response::result::TableSpec;
use scylla::routing::Token;
use scylla::statement::prepared::PreparedStatement;

use super::events::{Column, EventRow, Kind, Role, Shape};
use super::write::{Failed, unprepared};

/// A table that events are written to.
pub(super) struct UserTable {
    pub(super) shape: Shape,
    keyspace: String,
    name: String,
    pub(super) insert: PreparedStatement,
}

impl UserTable {
    pub(super) fn spec(&self) -> TableSpec<'static> {
        TableSpec::owned(self.keyspace.clone(), self.name.clone())
    }

    /// Where the row lies on the ring; `None`: not known here.
    pub(super) fn token(&self, session: &Session, row: &EventRow) -> Option<Token> {
        let partition = self.shape.partition(row)?;
        let cluster = session.get_cluster_state();
        let token = cluster.compute_token(&self.keyspace, &self.name, &partition);
        token.ok()
    }
}

/// Those that were looked up, by the name that users gave; `Err`: why events cannot be written there.
#[derive(Default)]
pub(super) struct UserTables(HashMap<String, Result<Arc<UserTable>, String>>);

impl UserTables {
    /// The outer error: the database does not answer.
    pub(super) async fn get(
        &mut self,
        session: &Session,
        keyspace: &str,
        table: &str,
    ) -> Result<Result<Arc<UserTable>, String>, String> {
        if let Some(known) = self.0.get(table) {
            return Ok(known.clone());
        }
        let found = match find(session, keyspace, table) {
            Ok((keyspace, name, shape)) => prepare(session, keyspace, name, shape).await?,
            Err(reason) => Err(reason),
        };
        self.0.insert(table.to_owned(), found.clone());
        Ok(found)
    }

    /// Asks the cluster again.
    pub(super) async fn refresh(&mut self, session: &Session) -> Result<(), String> {
        session
            .refresh_metadata()
            .await
            .map_err(|e| e.to_string())?;
        self.0.clear();
        Ok(())
    }
}

/// The table, as the session knows the cluster; `Err`: why events cannot be written there.
pub(super) fn find(
    session: &Session,
    keyspace: &str,
    table: &str,
) -> Result<(String, String, Shape), String> {
    let (keyspace, name) = match table.split_once('.') {
        Some((keyspace, name)) => (keyspace, name),
        None => (keyspace, table),
    };
    if name.starts_with("weir") || keyspace.starts_with("system") {
        return Err(format!("table \"{table}\" is not one for users"));
    }
    let cluster = session.get_cluster_state();
    let there = cluster
        .get_keyspace(keyspace)
        .ok_or_else(|| format!("there is no keyspace \"{keyspace}\", or nobody may see it"))?;
    if there.views.contains_key(name) {
        return Err(format!("\"{table}\" is a view: write to its table"));
    }
    let found = there
        .tables
        .get(name)
        .ok_or_else(|| format!("keyspace \"{keyspace}\" has no table \"{name}\""))?;
    let shape = shape(table, found);
    let counters = found
        .columns
        .iter()
        .find(|(_, column)| matches!(column.typ, ColumnType::Native(NativeType::Counter)));
    if let Some((counter, _)) = counters {
        return Err(format!(
            "column \"{counter}\" of table \"{table}\" is a counter: a count that is written twice counts twice"
        ));
    }
    Ok((keyspace.to_owned(), name.to_owned(), shape))
}

fn shape(table: &str, found: &Table) -> Shape {
    let column = |(name, column): (&String, &scylla::cluster::metadata::Column)| {
        let role = match column.kind {
            ColumnKind::PartitionKey | ColumnKind::Clustering => Role::Key,
            ColumnKind::Static => Role::Static,
            _ => Role::Plain,
        };
        let kind = match &column.typ {
            ColumnType::Native(NativeType::Text | NativeType::Ascii) => Kind::Text,
            ColumnType::Native(NativeType::TinyInt) => Kind::TinyInt,
            ColumnType::Native(NativeType::SmallInt) => Kind::SmallInt,
            ColumnType::Native(NativeType::Int) => Kind::Int,
            ColumnType::Native(NativeType::BigInt) => Kind::BigInt,
            ColumnType::Native(NativeType::Boolean) => Kind::Boolean,
            ColumnType::Native(NativeType::Uuid) => Kind::Uuid,
            _ => Kind::Other,
        };
        (name.clone(), Column { role, kind })
    };
    Shape {
        table: table.to_owned(),
        columns: found.columns.iter().map(column).collect::<BTreeMap<_, _>>(),
        partition_key: found.partition_key.clone(),
        clustering_key: found.clustering_key.clone(),
    }
}

/// Columns that an event does not have stay as they are.
async fn prepare(
    session: &Session,
    keyspace: String,
    name: String,
    shape: Shape,
) -> Result<Result<Arc<UserTable>, String>, String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let text = format!(
        "insert into {}.{} json ? default unset using timestamp ?",
        quoted(&keyspace),
        quoted(&name)
    );
    match session.prepare(text).await {
        Ok(mut insert) => {
            insert.set_is_idempotent(true);
            Ok(Ok(Arc::new(UserTable {
                shape,
                keyspace,
                name,
                insert,
            })))
        }
        Err(error) => match unprepared(&error) {
            Failed::Refused(reason) => Ok(Err(reason)),
            Failed::Unavailable(reason) => Err(reason),
        },
    }
}
