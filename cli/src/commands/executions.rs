//! `weir exec …`

use std::time::{Duration, Instant};

use serde_json::Value;

use super::validate::rows;
use crate::args::{ExecCommand, Status};
use crate::client::{Client, segment};
use crate::output::{Output, Rows, cell, shorten};

pub(super) fn exec(
    client: &Client,
    command: ExecCommand,
    output: &mut Output,
) -> anyhow::Result<()> {
    match command {
        ExecCommand::List {
            graph,
            status,
            trigger_id,
            since,
            limit,
        } => {
            let status = status.map(|status| match status {
                Status::Running => "running".to_owned(),
                Status::Succeeded => "succeeded".to_owned(),
                Status::Failed => "failed".to_owned(),
            });
            let query: Vec<(&str, String)> = [
                ("graph", graph),
                ("status", status),
                ("trigger_id", trigger_id),
                ("since", since),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
            let list = client.list("/api/v1/executions", &query, limit.limit)?;
            output.print(&list, |value| Rows {
                header: &[
                    "EXECUTION",
                    "GRAPH",
                    "TRIGGER",
                    "STATUS",
                    "TRIGGERED AT",
                    "FAILURE",
                ],
                rows: rows(value, |item| {
                    vec![
                        cell(item, "execution"),
                        cell(item, "graph"),
                        cell(item, "trigger"),
                        cell(item, "status"),
                        cell(item, "triggered_at"),
                        failure(item),
                    ]
                }),
            })?;
        }
        // runs here, not on the server: `replay`
        ExecCommand::Replay(_) => {}
        ExecCommand::Watch { id, timeout } => watch(client, &id, timeout, output)?,
        ExecCommand::Get { id, wait } => {
            let execution = get(client, &id, wait)?;
            output.print(&execution, table)?;
            if output.format() == crate::args::Format::Table
                && execution["outputs"]
                    .as_array()
                    .is_some_and(|outputs| !outputs.is_empty())
            {
                output.text("\n")?;
                output.table(&outputs(&execution))?;
                for path in downloads(&execution) {
                    output.text(&format!(
                        "\nto have a payload that is too large for a row:\n  {}\n",
                        client.download(path)
                    ))?;
                }
            }
        }
    }
    Ok(())
}

/// Prints what lands as it lands, and the end.
fn watch(client: &Client, id: &str, timeout: Duration, output: &mut Output) -> anyhow::Result<()> {
    let until = Instant::now() + timeout;
    let mut shown = std::collections::BTreeSet::new();
    loop {
        let wait = until.saturating_duration_since(Instant::now()).min(WATCH);
        let query = [("wait", format!("{}ms", wait.as_millis()))];
        let path = format!("/api/v1/executions/{}", segment(id));
        let execution = match client.try_get(&path, &query)? {
            Ok(execution) => execution,
            // accepted, and nothing of it has landed yet
            Err(refused) if refused.status == 404 && Instant::now() < until => continue,
            Err(refused) => return Err(refused.into_failure().into()),
        };
        for one in execution["outputs"].as_array().into_iter().flatten() {
            if shown.insert((cell(one, "segment"), cell(one, "number"))) {
                if output.format() == crate::args::Format::Table {
                    let (step, port) = (cell(one, "step"), cell(one, "port"));
                    output.text(&format!("{step}.{port}  {}\n", data(one)))?;
                } else {
                    output.line(one)?;
                }
                output.flush()?;
            }
        }
        let status = cell(&execution, "status");
        if status != "running" || Instant::now() >= until {
            if output.format() == crate::args::Format::Table {
                output.print(&execution, table)?;
            } else {
                output.line(&serde_json::json!({"execution": id, "status": status, "failure": execution["failure"]}))?;
            }
            return Ok(());
        }
    }
}

/// How long one look waits.
const WATCH: Duration = Duration::from_secs(1);

fn get(client: &Client, id: &str, wait: Option<Duration>) -> anyhow::Result<Value> {
    let query: Vec<(&str, String)> = wait
        .into_iter()
        .map(|wait| ("wait", format!("{}ms", wait.as_millis().min(60_000))))
        .collect();
    Ok(client.get(&format!("/api/v1/executions/{}", segment(id)), &query)?)
}

/// `step: kind: reason`, short; `-` where nothing failed.
pub(super) fn failure(item: &Value) -> String {
    let failure = &item["failure"];
    if failure.is_null() {
        return "-".to_owned();
    }
    let step = failure["step"]
        .as_str()
        .map(|step| format!("{step}: "))
        .unwrap_or_default();
    shorten(
        &format!(
            "{step}{}: {}",
            cell(failure, "kind"),
            cell(failure, "reason")
        ),
        80,
    )
}

/// Where payloads are to be had that lie outside of the history; the first few.
fn downloads(execution: &Value) -> impl Iterator<Item = &str> {
    let outputs = execution["outputs"].as_array().into_iter().flatten();
    let paths = outputs.filter_map(|output| output["download"].as_str());
    paths.take(DOWNLOADS_MAX)
}

const DOWNLOADS_MAX: usize = 5;

/// An output's data on one line.
pub(super) fn data(output: &Value) -> String {
    if output["encoding"] == "reference" {
        let data = &output["data"];
        return format!(
            "{} bytes, sha256:{}",
            cell(data, "bytes"),
            cell(data, "sha256")
        );
    }
    let text = match &output["data"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    shorten(&text, 100)
}

fn table(execution: &Value) -> Rows {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows: Vec<Vec<String>> = [
        "execution",
        "graph",
        "version",
        "trigger",
        "trigger_id",
        "status",
        "triggered_at",
        "finished_at",
    ]
    .map(|field| row(field, cell(execution, field)))
    .into();
    if !execution["failure"].is_null() {
        rows.push(row("failure", failure(execution)));
    }
    for segment in execution["segments"].as_array().into_iter().flatten() {
        for line in segment["logs"].as_array().into_iter().flatten() {
            rows.push(row(
                "log",
                shorten(
                    &format!(
                        "{} {}: {}",
                        cell(line, "level"),
                        cell(line, "step"),
                        cell(line, "message")
                    ),
                    160,
                ),
            ));
        }
    }
    Rows {
        header: &["FIELD", "VALUE"],
        rows,
    }
}

fn outputs(execution: &Value) -> Rows {
    let outputs = execution["outputs"].as_array().into_iter().flatten();
    Rows {
        header: &["STEP", "PORT", "CONTENT TYPE", "DATA"],
        rows: outputs
            .map(|output| {
                vec![
                    cell(output, "step"),
                    cell(output, "port"),
                    cell(output, "content_type"),
                    data(output),
                ]
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn failures_on_one_line() {
        assert_eq!(failure(&json!({"failure": null})), "-");
        assert_eq!(
            failure(
                &json!({"failure": {"step": "price", "kind": "trap", "reason": "unreachable"}})
            ),
            "price: trap: unreachable"
        );
        assert_eq!(
            failure(&json!({"failure": {"step": null, "kind": "record", "reason": "short"}})),
            "record: short"
        );
    }

    #[test]
    fn an_execution_as_a_table() {
        let execution = json!({
            "execution": "e", "graph": "orders", "status": "succeeded", "failure": null,
            "segments": [{"logs": [{"level": "info", "step": "a", "message": "hello"}]}],
            "outputs": [{"step": "a", "port": "out", "content_type": "application/json", "data": {"x": 1}}, {"step": "b", "port": "out", "content_type": "text/plain", "data": "hi"},
                {"step": "c", "port": "out", "content_type": "text/plain", "encoding": "reference", "data": {"sha256": "ab", "bytes": 7}, "download": "/api/v1/x"}],
        });
        let rows = table(&execution).rows;
        assert!(
            rows.contains(&vec!["log".to_owned(), "info a: hello".to_owned()]),
            "{rows:?}"
        );
        let data: Vec<String> = outputs(&execution)
            .rows
            .into_iter()
            .map(|row| row[3].clone())
            .collect();
        assert_eq!(data, ["{\"x\":1}", "hi", "7 bytes, sha256:ab"]);
        assert_eq!(downloads(&execution).collect::<Vec<_>>(), ["/api/v1/x"]);
    }
}
