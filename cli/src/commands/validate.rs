//! `weir validate` and `weir module inspect`: what can be said without a server.

use std::path::Path;

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
            local::load(file).inspect(|local| later(&local.graph)).map(|local| {
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

pub(super) fn inspect(file: &Path, output: &mut Output) -> anyhow::Result<()> {
    let (digest, bytes, interface) = local::inspect(file)?;
    let value = json!({"file": file.display().to_string(), "digest": digest, "bytes": bytes, "interface": interface});
    output.print(&value, |value| {
        let imports = value["interface"]["imports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        Rows {
            header: &["DIGEST", "BYTES", "IMPORTS"],
            rows: vec![vec![
                cell(value, "digest"),
                cell(value, "bytes"),
                if imports.is_empty() {
                    "none".to_owned()
                } else {
                    imports
                },
            ]],
        }
    })?;
    Ok(())
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
