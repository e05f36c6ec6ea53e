//! `weir graph …`

use serde_json::{Value, json};

use super::confirm::confirm;
use super::validate::rows;
use crate::args::GraphCommand;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output::{Output, Progress, Rows, cell, shorten};

pub(super) fn graph(
    client: &Client,
    command: GraphCommand,
    output: &mut Output,
) -> anyhow::Result<()> {
    match command {
        GraphCommand::List { deleted, limit } => {
            let query = [("deleted", deleted.to_string())];
            let list = client.list("/api/v1/graphs", &query, limit.limit)?;
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
            output.print(&json!({ "items": history }), |value| Rows {
                header: &["EPOCH", "KIND", "VERSION", "STATE", "AT"],
                rows: rows(value, |item| {
                    vec![
                        cell(item, "epoch"),
                        cell(item, "kind"),
                        shorten(&cell(item, "version"), 13),
                        cell(item, "state"),
                        cell(item, "at"),
                    ]
                }),
            })?;
        }
        GraphCommand::Pause { name } => {
            let done = act(client, &name, "pause", b"")?;
            print(&done, "was paused already", output)?;
        }
        GraphCommand::Resume { name } => {
            let done = act(client, &name, "resume", b"")?;
            print(&done, "was not paused", output)?;
        }
        GraphCommand::Rollback { name, to } => {
            let body = to.map_or_else(String::new, |to| json!({ "to": to }).to_string());
            let done = act(client, &name, "rollback", body.as_bytes())?;
            print(&done, "was active already", output)?;
            note_state(&done, output.progress());
        }
        GraphCommand::Delete { name, yes } => {
            if !yes {
                confirm(
                    &format!("deletes graph \"{name}\""),
                    &format!(
                        "Delete graph \"{name}\"? It takes no triggers any more, and what is parked becomes dead letters."
                    ),
                )?;
            }
            let done = client.delete(&path(&name))?;
            print(&done, "was deleted already", output)?;
        }
    }
    Ok(())
}

fn path(name: &str) -> String {
    format!("/api/v1/graphs/{}", segment(name))
}

fn act(client: &Client, name: &str, what: &str, body: &[u8]) -> Result<Value, Failure> {
    client.post(&format!("{}/{what}", path(name)), "application/json", body)
}

/// `{name, version, epoch, state, changed}`; `same` says why nothing has changed.
fn print(done: &Value, same: &str, output: &mut Output) -> std::io::Result<()> {
    output.print(done, |done| Rows {
        header: &["GRAPH", "VERSION", "EPOCH", "STATE", "CHANGED"],
        rows: vec![vec![
            cell(done, "name"),
            shorten(&cell(done, "version"), 13),
            cell(done, "epoch"),
            cell(done, "state"),
            changed(done, same),
        ]],
    })
}

/// Whether something has changed, for a person.
pub(super) fn changed(done: &Value, same: &str) -> String {
    if done["changed"] == json!(true) {
        "yes".to_owned()
    } else {
        format!("no, {same}")
    }
}

/// Says of a graph that was changed and does not run why it does not.
pub(super) fn note_state(done: &Value, progress: Progress) {
    let name = cell(done, "name");
    match done["state"].as_str() {
        Some("paused") => progress.note(&format!(
            "graph \"{name}\" is paused: its triggers are parked until  weir graph resume {name}"
        )),
        Some("resuming") => progress.note(&format!(
            "graph \"{name}\" is resuming: what was parked runs first"
        )),
        _ => {}
    }
}

/// One graph as the server shows it.
pub(super) fn get(client: &Client, name: &str) -> Result<Value, Failure> {
    client.get(&path(name), &[])
}

fn state(graph: &Value) -> String {
    match graph["paused_at"].as_str() {
        Some(at) => format!("{} (paused at {at})", cell(graph, "state")),
        None => cell(graph, "state"),
    }
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
            row("state", state(graph)),
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
