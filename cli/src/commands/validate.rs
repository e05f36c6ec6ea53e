//! `weir validate`: what can be said of a graph without a server.

use serde_json::{Value, json};

use super::local;
use crate::args::ValidateArgs;
use crate::exit::Exit;
use crate::output::{Output, Rows, cell, shorten};

/// Every file is looked at, also after one has failed.
pub(super) fn validate(args: &ValidateArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let mut items = Vec::new();
    let mut exit = Exit::Ok;
    for file in &args.files {
        // Sound, and yet more than this version can run: `apply` would refuse it.
        let later = |graph: &schemas::graph::Graph| {
            for line in control::unsupported(graph) {
                output
                    .progress()
                    .note(&format!("note: {}: {line}", file.display()));
            }
        };
        let checked = if args.graph_only {
            local::parse(file).inspect(|(_, graph)| later(graph)).map(|(_, graph)| json!({"file": file.display().to_string(), "name": graph.name, "steps": graph.steps.len()}))
        } else {
            local::load(file, None).inspect(|local| later(&local.graph)).map(|local| {
                json!({"file": file.display().to_string(), "name": local.graph.name, "steps": local.graph.steps.len(), "version": local.version})
            })
        };
        match checked {
            Ok(item) => items.push(item),
            Err(error) => {
                output.progress().note(format!("{error:#}").trim_end());
                exit = Exit::Failed;
            }
        }
    }
    if !items.is_empty() || exit == Exit::Ok {
        output.print(&json!({ "items": items }), |value| Rows {
            header: &["FILE", "GRAPH", "STEPS", "VERSION"],
            rows: rows(value, |item| {
                vec![
                    cell(item, "file"),
                    cell(item, "name"),
                    cell(item, "steps"),
                    shorten(&cell(item, "version"), 13),
                ]
            }),
        })?;
    }
    Ok(exit)
}

/// One row for each of `items`.
pub(super) fn rows(value: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    value["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(row)
        .collect()
}
