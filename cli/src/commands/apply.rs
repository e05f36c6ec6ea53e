//! `weir apply`: proves graphs here, sends the modules that the server does not have yet, then the graphs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::graphs::{changed, note_state};
use super::local::{self, Local};
use super::validate::rows;
use crate::args::ApplyArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, Progress, Rows, cell, shorten};

/// All files are proven before the first one is sent.
pub(super) fn apply(client: &Client, args: &ApplyArgs, output: &mut Output) -> anyhow::Result<()> {
    let graphs = args
        .files
        .iter()
        .map(|file| local::load(file, Some(client)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let progress = output.progress();
    let items = graphs
        .iter()
        .map(|local| send(client, local, progress))
        .collect::<anyhow::Result<Vec<_>>>()?;
    output.print(&json!({ "items": &items }), |value| Rows {
        header: &["GRAPH", "VERSION", "EPOCH", "CHANGED"],
        rows: rows(value, |item| {
            vec![
                cell(item, "name"),
                shorten(&cell(item, "version"), 13),
                cell(item, "epoch"),
                changed(item, "was active already"),
            ]
        }),
    })?;
    items.iter().for_each(|item| note_state(item, progress));
    Ok(())
}

/// Applies one file; gives `{name, version, epoch, state, changed}`. Also for `weir dev GRAPH…` and `weir run FILE`.
pub(crate) fn apply_file(
    client: &Client,
    file: &Path,
    progress: Progress,
) -> anyhow::Result<Value> {
    send(client, &local::load(file, Some(client))?, progress)
}

/// The files that a graph file names, as far as it can be read: modules, schemas, sub-graphs.
pub(crate) fn files_of(file: &Path) -> Vec<PathBuf> {
    local::named(file)
}

fn send(client: &Client, local: &Local, progress: Progress) -> anyhow::Result<Value> {
    let digests: Vec<&String> = local.modules.keys().collect();
    let answer = client.post(
        "/api/v1/modules/missing",
        "application/json",
        &serde_json::to_vec(&json!({ "digests": digests }))?,
    )?;
    let missing: Vec<&str> = answer["missing"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let bar = progress.bar("modules", missing.len() as u64);
    for digest in missing {
        let module = local.modules.get(digest).ok_or_else(|| {
            Failure::failed(format!(
                "the server asks for {digest}, which the graph does not use"
            ))
        })?;
        client.put(
            &format!("/api/v1/modules/{digest}"),
            "application/wasm",
            &module.bytes,
        )?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let definition: &serde_json::value::RawValue = serde_json::from_slice(&local.canonical)?;
    let body = serde_json::to_vec(&Body {
        definition,
        source: &local.source,
    })?;
    let applied = client
        .post("/api/v1/graphs", "application/json", &body)
        .map_err(|failure| Failure {
            message: format!("{}: {}", local.file.display(), failure.message),
            ..failure
        })?;
    Ok(applied)
}

#[derive(serde::Serialize)]
struct Body<'a> {
    definition: &'a serde_json::value::RawValue,
    source: &'a str,
}
