//! Which rows of users' own tables a result asks for: its outputs name sinks, and the graph's version says what those are.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use schemas::graph::{Graph, SinkKind, WriteMode};
use schemas::records::{Output, Payload, SegmentResult};
use store::{Disposition, Store};
use tokio::runtime::Handle;

use crate::error::SinkError;
use crate::postgres::{Event, Shapes};

/// Versions whose sinks are remembered.
const VERSIONS_MAX: usize = 10_000;

/// Where a row goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Postgres {
        table: String,
        mode: WriteMode,
        key: Vec<String>,
        /// Empty: all fields of the event.
        columns: Vec<String>,
    },
    Scylla {
        table: String,
    },
    /// It cannot be written, whatever the database says.
    Refused(String),
}

/// One row for a user's own table.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// What asks for it.
    pub(crate) result: Arc<SegmentResult>,
    /// The place of its output there, and of the sink in that.
    output: usize,
    sink: usize,
    pub(crate) target: Arc<Target>,
    /// Empty where its bytes lie elsewhere.
    pub(crate) data: Bytes,
    /// As a row in Postgres, or why it is none; elsewhere nothing.
    pub(crate) event: Option<Result<Event, String>>,
}

impl Write {
    pub(crate) fn output(&self) -> &Output {
        // it was made of that place, and a result does not change
        &self.result.outputs[self.output]
    }

    /// The sink's name in the graph.
    pub(crate) fn sink(&self) -> &str {
        &self.output().sinks[self.sink]
    }
}

/// A version's sinks that write to one destination.
type Targets = Arc<HashMap<String, Arc<Target>>>;

/// Whether a tenant may write a table of a destination: tenant, destination, table.
pub type Allowed = Arc<dyn Fn(&str, &str, &str) -> bool + Send + Sync>;

/// What sinks of graphs write to this destination. Versions never change, so what the store said once holds.
pub struct Definitions {
    store: Store,
    runtime: Handle,
    destination: String,
    allowed: Allowed,
    versions: HashMap<[u8; 32], Option<Targets>>,
    shapes: Shapes,
}

impl Definitions {
    /// `runtime`: where the store's calls run.
    pub fn new(store: Store, runtime: Handle, destination: &str, allowed: Allowed) -> Self {
        Self {
            store,
            runtime,
            destination: destination.to_owned(),
            allowed,
            versions: HashMap::new(),
            shapes: Shapes::default(),
        }
    }

    /// The rows that a result asks for, in the order of its outputs.
    pub(crate) fn writes(&mut self, result: &Arc<SegmentResult>) -> Result<Vec<Write>, SinkError> {
        if result.outputs.iter().all(|output| output.sinks.is_empty()) {
            return Ok(Vec::new());
        }
        let targets = self.targets(result.version)?;
        let mut writes = Vec::new();
        for (place, output) in result.outputs.iter().enumerate() {
            for (number, sink) in output.sinks.iter().enumerate() {
                let target = match &targets {
                    Some(targets) => match targets.get(sink) {
                        Some(target) => self.granted(&result.tenant, target),
                        // it writes to another destination
                        None => continue,
                    },
                    None => Arc::new(Target::Refused(format!(
                        "version {} of graph \"{}\" is not in the store, so nobody knows what its sink \"{sink}\" writes",
                        hex::encode(result.version),
                        result.graph
                    ))),
                };
                let (data, target) = data(output, target);
                let event = (!matches!(*target, Target::Scylla { .. }))
                    .then(|| self.shapes.event(&target, &data));
                writes.push(Write {
                    result: result.clone(),
                    output: place,
                    sink: number,
                    target,
                    data,
                    event,
                });
            }
        }
        Ok(writes)
    }

    /// Grants may have been taken back since the graph was applied.
    fn granted(&self, tenant: &str, target: &Arc<Target>) -> Arc<Target> {
        let (Target::Postgres { table, .. } | Target::Scylla { table }) = &**target else {
            return target.clone();
        };
        if (self.allowed)(tenant, &self.destination, table) {
            return target.clone();
        }
        Arc::new(Target::Refused(format!(
            "table {table} of destination \"{}\" is no longer granted to tenant \"{tenant}\"",
            self.destination
        )))
    }

    fn targets(&mut self, version: [u8; 32]) -> Result<Option<Targets>, SinkError> {
        if let Some(known) = self.versions.get(&version) {
            return Ok(known.clone());
        }
        let name = hex::encode(version);
        let asked = self.runtime.block_on(self.store.version(&name));
        let canonical = asked.map_err(|error| match error.disposition() {
            Disposition::Retry => SinkError::Unavailable {
                destination: self.destination.clone(),
                reason: format!("the store does not say what it takes: {error}"),
            },
            _ => SinkError::Open {
                destination: self.destination.clone(),
                reason: error.to_string(),
            },
        })?;
        let targets = canonical
            .and_then(|canonical| Graph::from_canonical(&canonical).ok())
            .map(|graph| Arc::new(targets(&graph, &self.destination)));
        // one that is not there may yet come
        if targets.is_some() {
            if self.versions.len() >= VERSIONS_MAX {
                self.versions.clear();
            }
            self.versions.insert(version, targets.clone());
        }
        Ok(targets)
    }
}

/// The graph's sinks that write to the destination, by name. Pure.
fn targets(graph: &Graph, destination: &str) -> HashMap<String, Arc<Target>> {
    let target = |kind: &SinkKind| match kind {
        SinkKind::Postgres {
            to,
            table,
            mode,
            key,
            columns,
        } if to == destination => Some(Target::Postgres {
            table: table.clone(),
            mode: *mode,
            key: key.clone(),
            columns: columns.clone(),
        }),
        SinkKind::Scylla { to, table } if to == destination => Some(Target::Scylla {
            table: table.clone(),
        }),
        _ => None,
    };
    let named = graph.sinks.iter();
    named
        .filter_map(|sink| Some((sink.name.clone(), Arc::new(target(&sink.kind)?))))
        .collect()
}

/// What is written, if it is there.
fn data(output: &Output, target: Arc<Target>) -> (Bytes, Arc<Target>) {
    match &output.data {
        Payload::Inline(data) => (data.clone(), target),
        Payload::Reference { bytes, .. } => {
            let refused = Target::Refused(format!(
                "an event of {bytes} bytes is no row; rows hold 512 KiB at most"
            ));
            (Bytes::new(), Arc::new(refused))
        }
    }
}

#[cfg(test)]
impl Write {
    /// Of a result with this one output.
    pub(crate) fn of(target: Target, data: &str) -> Self {
        let target = Arc::new(target);
        let data = Bytes::from(data.to_owned());
        let output = Output {
            step: "s".into(),
            port: "out".into(),
            number: 0,
            sinks: vec!["rows".into()],
            key: None,
            content_type: "application/json".into(),
            headers: vec![],
            data: Payload::Inline(data.clone()),
        };
        let result = SegmentResult {
            tenant: "t".into(),
            graph: "g".into(),
            version: [0; 32],
            trigger: "t".into(),
            trigger_id: "1".into(),
            execution: schemas::ExecutionId([0; 16]),
            time_us: 0,
            segment: [0; 16],
            origin: None,
            failure: None,
            outputs: vec![output],
            started: vec![],
            logs: vec![],
            logs_dropped: 0,
        };
        Self {
            result: Arc::new(result),
            output: 0,
            sink: 0,
            event: Some(Shapes::default().event(&target, &data)),
            target,
            data,
        }
    }
}
