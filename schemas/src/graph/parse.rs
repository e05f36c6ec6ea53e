//! From text to a proven graph, in four passes: the tree ([`super::tree`]), the form of each value ([`super::shape`]), each
//! entry by itself ([`super::proof`]), and how the entries hang together ([`super::wiring`]). Each pass reports all it finds
//! and leaves out what does not fit, so that one run names everything that can be named.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::file::GraphFile;
use super::problem::{Report, Span};
use super::shape::{self, Places};
use super::{Graph, Problems, file, proof, tree, wiring};

pub(super) const TRIGGER_KINDS: [&str; 5] = ["webhook", "cron", "topic", "postgres", "manual"];
pub(super) const SINK_KINDS: [&str; 3] = ["postgres", "scylla", "topic"];

/// Where a graph was read from.
#[derive(Clone)]
pub(super) struct Origin(pub(super) Arc<Source>);

pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) places: Places,
}

static SCHEMA: LazyLock<Value> = LazyLock::new(file::json_schema);

/// Reads a graph file, YAML or JSON; `file` is its name, for messages. All problems that can be found are in the error.
pub fn parse(text: &str, file: &str) -> Result<Graph, Problems> {
    let mut report = Report::new(text);
    let graph =
        tree::read(text, &mut report).and_then(|root| prove(&root, text, file, &mut report));
    finish(graph, report, file)
}

/// Proves a graph that is JSON already; its problems have no place.
pub(super) fn from_json(value: Value, file: &str) -> Result<Graph, Problems> {
    let mut report = Report::new("");
    let graph = prove(&tree::from_json(value), "", file, &mut report);
    finish(graph, report, file)
}

fn finish(graph: Option<Graph>, mut report: Report<'_>, file: &str) -> Result<Graph, Problems> {
    match graph {
        Some(graph) if report.is_clean() => Ok(graph),
        _ => {
            if report.is_clean() {
                report.add((0, 0), "the graph cannot be read", None);
            }
            Err(report.finish(file))
        }
    }
}

fn prove(root: &tree::Node, text: &str, file: &str, report: &mut Report<'_>) -> Option<Graph> {
    let (value, places) = shape::check(root, &SCHEMA, report);
    let parsed: GraphFile = match serde_json::from_value(value?) {
        Ok(parsed) => parsed,
        Err(error) => {
            report.add((0, 0), error.to_string(), None);
            return None;
        }
    };
    let entries = wiring::wire(proof::prove(parsed, &places, text, report), &places, report)?;
    let origin = Origin(Arc::new(Source {
        file: file.to_owned(),
        text: text.to_owned(),
        places,
    }));
    let proof::Entries {
        name,
        triggers,
        steps,
        sinks,
        on_error,
        limits,
    } = entries;
    Some(Graph {
        name,
        triggers,
        steps,
        sinks,
        on_error,
        limits,
        origin,
    })
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.file)
    }
}

impl Origin {
    /// A problem found after parsing, at a path of the file.
    pub(super) fn place(&self, path: &str) -> Span {
        self.0.places.value(path)
    }
}
