//! `weir run`: one event per line of a file, wait for all of their executions, print what came out.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::executions::{data, failure};
use super::{Ephemeral, apply, graphs};
use crate::args::{Format, Global, RunArgs};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell};

/// Events sent with one request.
const BATCH_EVENTS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 512 << 10;
/// How long one request waits for an execution.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) fn run(
    args: &RunArgs,
    global: &Global,
    ephemeral: fn(&Path) -> anyhow::Result<Box<dyn Ephemeral>>,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    if args.trace {
        return super::trace::trace(args, global, output);
    }
    let events = events(&args.input)?;
    let file = Path::new(&args.graph);
    if !is_file_name(&args.graph) {
        return fire(&super::client(global)?, &args.graph, args, &events, output);
    }
    if !file.is_file() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no file {}", file.display()),
        )
        .into());
    }
    // Proven before a server is started for it.
    super::local::load(file, None)?;
    let server = ephemeral(file)?;
    let client = Client::new(&server.url(), server.api_key())?;
    let applied = apply::apply_file(&client, file, output.progress())?;
    let name = applied["name"]
        .as_str()
        .context("the server did not say the graph's name")?;
    fire(&client, name, args, &events, output)
}

fn fire(
    client: &Client,
    graph: &str,
    args: &RunArgs,
    events: &[String],
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let deadline = Instant::now() + args.timeout;
    let shown = graphs::get(client, graph)?;
    runs(&shown)?;
    let trigger = trigger(&shown, args.trigger.as_deref())?;
    let path = format!(
        "/api/v1/graphs/{}/triggers/{}/batch",
        segment(graph),
        segment(&trigger)
    );
    let mut executions = Vec::with_capacity(events.len());
    for batch in batches(events) {
        let answer = client.post(&path, "application/x-ndjson", batch.as_bytes())?;
        let ids = answer["executions"]
            .as_array()
            .context("the server did not name the executions")?;
        executions.extend(ids.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    let bar = output.progress().bar("executions", executions.len() as u64);
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    for id in &executions {
        let execution = wait(client, id, deadline)?;
        bar.inc(1);
        tally.count(&execution);
        if output.format() == Format::Table {
            rows.extend(table_rows(&execution));
        } else {
            output.line(&line(&execution))?;
        }
    }
    bar.finish_and_clear();
    if output.format() == Format::Table {
        output.table(&Rows {
            header: &["EXECUTION", "STATUS", "STEP", "PORT", "DATA"],
            rows,
        })?;
    }
    output.flush()?;
    output.progress().note(&tally.to_string());
    Ok(
        if tally.succeeded == executions.len() && executions.len() == events.len() {
            Exit::Ok
        } else {
            Exit::Failed
        },
    )
}

/// The execution as the server shows it when it is complete or time has run out.
fn wait(client: &Client, id: &str, deadline: Instant) -> Result<Value, Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let query = [("wait", format!("{}ms", left.min(WAIT_MAX).as_millis()))];
        let out_of_time = left <= WAIT_MAX;
        match client.try_get(&format!("/api/v1/executions/{}", segment(id)), &query)? {
            Ok(execution) if out_of_time || execution["status"] != "running" => {
                return Ok(execution);
            }
            // Accepted, and nothing of it has landed yet.
            Err(refused) if refused.status == 404 && out_of_time => {
                return Ok(json!({"execution": id, "status": "running", "outputs": []}));
            }
            Ok(_) => {}
            Err(refused) if refused.status == 404 => {}
            Err(refused) => return Err(refused.into_failure()),
        }
    }
}

/// Whoever fires a graph that does not run would wait in vain.
fn runs(graph: &Value) -> Result<(), Failure> {
    let name = cell(graph, "name");
    match graph["state"].as_str() {
        Some("paused") => Err(Failure::failed(format!(
            "graph \"{name}\" is paused, and nothing would come of it; first:  weir graph resume {name}"
        ))),
        Some("deleted") => Err(Failure::new(
            Exit::NotFound,
            format!("graph \"{name}\" was deleted; apply it to bring it back"),
        )),
        _ => Ok(()),
    }
}

/// The one manual trigger, or the one that was named.
fn trigger(graph: &Value, named: Option<&str>) -> Result<String, Failure> {
    let name = cell(graph, "name");
    let triggers = graph["triggers"].as_array().into_iter().flatten();
    let manual: Vec<String> = triggers
        .filter(|t| t["kind"] == "manual")
        .map(|t| cell(t, "name"))
        .collect();
    match (named, manual.as_slice()) {
        (Some(named), manual) if manual.iter().any(|m| m == named) => Ok(named.to_owned()),
        (_, []) => Err(Failure::failed(format!(
            "graph \"{name}\" has no manual trigger; add one under triggers:, such as  hand: {{ manual: {{}} }}"
        ))),
        (Some(named), manual) => Err(Failure::new(
            Exit::NotFound,
            format!(
                "graph \"{name}\" has no manual trigger \"{named}\"; it has {}",
                manual.join(", ")
            ),
        )),
        (None, [one]) => Ok(one.clone()),
        (None, several) => Err(Failure::usage(format!(
            "graph \"{name}\" has several manual triggers; say which with --trigger: {}",
            several.join(", ")
        ))),
    }
}

/// The lines that hold something; each must be JSON.
pub(super) fn events(input: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    if input == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(input)
            .with_context(|| format!("cannot read {}", input.display()))?;
    }
    let mut events = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(line) {
            return Err(Failure::failed(format!(
                "{}:{}: not JSON: {error}",
                input.display(),
                number + 1
            ))
            .into());
        }
        events.push(line.to_owned());
    }
    if events.is_empty() {
        return Err(Failure::failed(format!(
            "{} holds no events; write one JSON value a line",
            input.display()
        ))
        .into());
    }
    Ok(events)
}

/// Lines joined up to what one request takes; a line larger than that goes alone.
fn batches(events: &[String]) -> Vec<String> {
    let mut batches: Vec<String> = Vec::new();
    let mut count = 0;
    for event in events {
        match batches.last_mut() {
            Some(batch)
                if count < BATCH_EVENTS_MAX && batch.len() + event.len() < BATCH_BYTES_MAX =>
            {
                batch.push_str(event);
                batch.push('\n');
                count += 1;
            }
            _ => {
                batches.push(format!("{event}\n"));
                count = 1;
            }
        }
    }
    batches
}

pub(super) fn is_file_name(graph: &str) -> bool {
    graph.contains(['/', '\\'])
        || [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| graph.ends_with(end))
}

/// What a program wants to know of an execution.
fn line(execution: &Value) -> Value {
    let outputs: Vec<Value> = execution["outputs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|output| json!({"step": output["step"], "port": output["port"], "content_type": output["content_type"], "data": output["data"]}))
        .collect();
    json!({"execution": execution["execution"], "status": execution["status"], "failure": execution["failure"], "outputs": outputs})
}

/// One row for each output; one with the failure where there is none.
fn table_rows(execution: &Value) -> Vec<Vec<String>> {
    let outputs = execution["outputs"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let row = |step: String, port: String, data: String| {
        vec![
            cell(execution, "execution"),
            cell(execution, "status"),
            step,
            port,
            data,
        ]
    };
    if outputs.is_empty() {
        return vec![row("-".to_owned(), "-".to_owned(), failure(execution))];
    }
    outputs
        .iter()
        .map(|output| row(cell(output, "step"), cell(output, "port"), data(output)))
        .collect()
}

#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    succeeded: usize,
    failed: usize,
    running: usize,
}

impl Tally {
    fn count(&mut self, execution: &Value) {
        match execution["status"].as_str() {
            Some("succeeded") => self.succeeded += 1,
            Some("failed") => self.failed += 1,
            _ => self.running += 1,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} succeeded, {} failed", self.succeeded, self.failed)?;
        if self.running > 0 {
            write!(
                f,
                ", {} not finished in time; they go on; look later with `weir exec get ID`",
                self.running
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_lose_nothing() {
        let events: Vec<String> = (0..1000)
            .map(|i| {
                if i == 500 {
                    "x".repeat(BATCH_BYTES_MAX * 2)
                } else {
                    i.to_string()
                }
            })
            .collect();
        let batches = batches(&events);
        assert_eq!(
            batches.concat(),
            events.iter().map(|e| format!("{e}\n")).collect::<String>()
        );
        assert!(
            batches
                .iter()
                .all(|b| b.lines().count() <= BATCH_EVENTS_MAX)
        );
        assert!(
            batches
                .iter()
                .filter(|b| b.len() > BATCH_BYTES_MAX)
                .all(|b| b.lines().count() == 1)
        );
    }

    #[test]
    fn which_trigger() {
        let graph = |triggers: Value| json!({"name": "g", "triggers": triggers});
        let one =
            graph(json!([{"name": "shop", "kind": "webhook"}, {"name": "hand", "kind": "manual"}]));
        assert_eq!(trigger(&one, None), Ok("hand".to_owned()));
        assert_eq!(trigger(&one, Some("hand")), Ok("hand".to_owned()));
        assert_eq!(
            trigger(&one, Some("shop")).map_err(|f| f.exit),
            Err(Exit::NotFound)
        );
        assert_eq!(
            trigger(&graph(json!([{"name": "shop", "kind": "webhook"}])), None).map_err(|f| f.exit),
            Err(Exit::Failed)
        );
        let two = graph(json!([{"name": "a", "kind": "manual"}, {"name": "b", "kind": "manual"}]));
        assert_eq!(trigger(&two, None).map_err(|f| f.exit), Err(Exit::Usage));
    }

    #[test]
    fn names_and_files() {
        assert!(
            is_file_name("./orders") && is_file_name("orders.yaml") && is_file_name("a/b.json")
        );
        assert!(!is_file_name("orders"));
    }

    #[test]
    fn a_failed_execution_has_a_row_and_counts() {
        let failed = json!({"execution": "e", "status": "failed", "outputs": [], "failure": {"step": "s", "kind": "trap", "reason": "r"}});
        assert_eq!(
            table_rows(&failed),
            [["e", "failed", "-", "-", "s: trap: r"]]
        );
        let mut tally = Tally::default();
        tally.count(&failed);
        tally.count(&json!({"status": "running"}));
        assert_eq!(
            tally,
            Tally {
                succeeded: 0,
                failed: 1,
                running: 1
            }
        );
        assert!(tally.to_string().contains("1 not finished in time"));
    }
}
