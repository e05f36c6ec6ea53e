//! The tables that a graph's sinks write: whether they are granted, and whether the live database has them as the sinks say.

use std::pin::Pin;

use schemas::graph::{Graph, Sink, SinkKind};
use serde_json::json;

use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT};

/// What is wrong with a table, each in a sentence; the error says that its database does not answer.
pub type Looked<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<Vec<String>, String>> + Send + 'a>>;

/// The databases that sinks write to.
pub trait Tables: Send + Sync {
    /// Names of the destinations that this server knows.
    fn names(&self) -> Vec<String>;
    /// Asks the live database about the table of a sink that writes to it.
    fn look<'a>(&'a self, sink: &'a SinkKind) -> Looked<'a>;
}

/// A server without destinations.
impl Tables for () {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn look<'a>(&'a self, _sink: &'a SinkKind) -> Looked<'a> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Asked anew each time that a version is to become active: grants and tables come and go.
pub(crate) async fn check(state: &ControlState, graph: &Graph) -> Result<()> {
    let mut problems = Vec::new();
    for sink in &graph.sinks {
        let (SinkKind::Postgres { to, table, .. } | SinkKind::Scylla { to, table }) = &sink.kind
        else {
            continue;
        };
        let faults = match known(state, to, table) {
            Some(fault) => vec![fault],
            None => state.tables.look(&sink.kind).await.map_err(|reason| {
                Problem::unavailable(format!(
                    "destination \"{to}\" cannot be asked about table {table} ({reason}); apply again once it answers"
                ))
            })?,
        };
        problems.extend(faults.iter().map(|fault| problem(sink, fault)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let detail = format!("graph \"{}\" cannot write its tables", graph.name);
    Err(Problem::unprocessable(detail, problems))
}

/// What is wrong before the database is asked.
fn known(state: &ControlState, to: &str, table: &str) -> Option<String> {
    let names = state.tables.names();
    if !names.iter().any(|name| name == to) {
        let there = if names.is_empty() {
            "this server has none".to_owned()
        } else {
            format!("it has {}", names.join(", "))
        };
        return Some(format!(
            "there is no destination \"{to}\" ({there}); add [destinations.{to}] to the server's weir.toml"
        ));
    }
    if !state.grants.allow_table(TENANT, to, table) {
        return Some(format!(
            "table {table} of destination \"{to}\" is not granted; add \"{to}/{table}\" to tables under [tenants.{TENANT}] in the server's weir.toml"
        ));
    }
    None
}

fn problem(sink: &Sink, fault: &str) -> serde_json::Value {
    json!({"sink": sink.name, "message": format!("sink \"{}\": {fault}", sink.name)})
}
