//! `weir graph …`

use serde_json::Value;

use super::validate::rows;
use crate::args::GraphCommand;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output::{Output, Rows, cell, shorten};

pub(super) fn graph(
    client: &Client,
    command: GraphCommand,
    output: &mut Output,
) -> anyhow::Result<()> {
    match command {
        GraphCommand::List(limit) => {
            let list = client.list("/api/v1/graphs", &[], limit.limit)?;
            output.print(&list, |value| Rows {
                header: &["GRAPH", "VERSION", "EPOCH", "STATE"],
                rows: rows(value, |item| {
                    vec![
                        cell(item, "name"),
                        shorten(&cell(item, "version"), 13),
                        cell(item, "epoch"),
                        cell(item, "state"),
                    ]
                }),
            })?;
        }
        GraphCommand::Get { name, source: true } => {
            let graph = get(client, &name)?;
            let text = graph["source"].as_str().ok_or_else(|| {
                Failure::failed(format!("graph \"{name}\" was applied without its file"))
            })?;
            output.text(text)?;
        }
        GraphCommand::Get {
            name,
            source: false,
        } => {
            let graph = get(client, &name)?;
            output.print(&graph, table)?;
        }
        GraphCommand::History { name, limit } => {
            let mut graph = get(client, &name)?;
            let mut history = graph["history"].take();
            if let Some(items) = history.as_array_mut() {
                items.truncate(limit.limit as usize);
            }
            output.print(&serde_json::json!({ "items": history }), |value| Rows {
                header: &["EPOCH", "KIND", "VERSION", "AT"],
                rows: rows(value, |item| {
                    vec![
                        cell(item, "epoch"),
                        cell(item, "kind"),
                        shorten(&cell(item, "version"), 13),
                        cell(item, "at"),
                    ]
                }),
            })?;
        }
    }
    Ok(())
}

/// One graph as the server shows it.
pub(super) fn get(client: &Client, name: &str) -> Result<Value, Failure> {
    client.get(&format!("/api/v1/graphs/{}", segment(name)), &[])
}

fn table(graph: &Value) -> Rows {
    let names = |field: &str, describe: fn(&Value) -> String| -> String {
        graph[field]
            .as_array()
            .into_iter()
            .flatten()
            .map(describe)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    Rows {
        header: &["FIELD", "VALUE"],
        rows: vec![
            row("graph", cell(graph, "name")),
            row("version", cell(graph, "version")),
            row("epoch", cell(graph, "epoch")),
            row("state", cell(graph, "state")),
            row(
                "triggers",
                names("triggers", |t| {
                    format!("{} ({})", cell(t, "name"), cell(t, "kind"))
                }),
            ),
            row("steps", names("steps", |s| cell(s, "name"))),
        ],
    }
}
