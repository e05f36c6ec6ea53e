//! `weir exec replay` and `weir replay`: past triggers run again in this process, on the version that they had or another one, and what would
//! be other than it was. Nothing is written and nobody is called, unless `--allow-http`: then the server's lanes run them, as new executions.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use processor::rehearsal::{Rehearsal, Rehearsed};
use processor::wasm::Engine;
use processor::{Loaded, Subscriber};
use schemas::graph::TriggerKind;
use schemas::records::Payload;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use topics::{Fetched, Partition, Record, catalog};

use super::world::Here;
use super::{local, rehearse, run};
use crate::args::{Format, Global, ReplayArgs, ReplayOneArgs};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Rows, cell};
use crate::roles::TENANT;

/// Differences that are shown of a range; all are counted.
const SHOWN_MAX: usize = 20;

/// One execution again.
pub(super) fn one(
    args: &ReplayOneArgs,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let client = super::client(global)?;
    let id = &args.id;
    if args.allow_http {
        if args.graph.is_some() {
            return Err(Failure::usage(
                "with --allow-http the server runs the active version; apply the graph first, or leave --graph out",
            )
            .into());
        }
        return for_real(
            &client,
            std::slice::from_ref(id),
            args.request.as_deref(),
            output,
        );
    }
    let found = client.get(&format!("/api/v1/executions/{}/trigger", segment(id)), &[])?;
    let engine = rehearse::engine()?;
    let (name, was) = (cell(&found, "graph"), cell(&found, "version"));
    let loaded = match args.graph.as_deref() {
        Some(graph) if run::is_file_name(graph) => {
            let local = local::load(Path::new(graph), Some(&client))?;
            rehearse::loaded(&engine, &local, Some(&client))?
        }
        Some(wanted) => version(&engine, &client, &name, wanted)?,
        None => version(&engine, &client, &name, &was)?,
    };
    let trigger = record(&found["record"])?;
    let mut rehearsal = rehearsal(&engine, loaded.clone(), &name, &cell(&found, "trigger"))?;
    let done = rehearsal.run(&trigger)?;
    let now = came_to(&done);
    let before = before(&client, id)?;
    let same = now == before;
    let used = json!({"version": loaded.version_hex, "modules": modules(&loaded)});
    let value = json!({"execution": id, "same": same, "used": used, "before": before, "now": now});
    if output.format() == Format::Table {
        output.table(&Rows {
            header: &["EXECUTION", "GRAPH", "VERSION", "AGAIN"],
            rows: vec![vec![
                id.clone(),
                name,
                loaded.version_hex[..12].to_owned(),
                if same { "the same" } else { "OTHERWISE" }.to_owned(),
            ]],
        })?;
        if args.diff && !same {
            output.text(&super::test::diff(&before, &now))?;
        }
    } else {
        output.document(&value)?;
    }
    output.flush()?;
    Ok(if same || args.graph.is_some() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// All triggers of a topic in a range of time.
pub(super) fn range(
    args: &ReplayArgs,
    global: &Global,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let client = super::client(global)?;
    let (name, wanted) = args
        .graph
        .split_once('@')
        .unwrap_or((&args.graph, "active"));
    if !args.dry_run && !args.allow_http {
        return Err(Failure::usage(
            "say --dry-run to see what would come of it here, or --allow-http to have the server run it all again as new executions",
        )
        .into());
    }
    let engine = rehearse::engine()?;
    let loaded = version(&engine, &client, name, wanted)?;
    let own = args.topic == catalog::TRIGGERS;
    let trigger = loaded.graph.subscriptions();
    let trigger = trigger
        .filter(|(_, reads)| reads.name == args.topic)
        .map(|(name, _)| name.to_owned())
        .next();
    if !own && trigger.is_none() {
        return Err(Failure::failed(format!(
            "graph \"{name}\" has no trigger that reads the topic \"{}\"",
            args.topic
        ))
        .into());
    }
    let mut rehearsal = rehearsal(&engine, loaded.clone(), name, &trigger.unwrap_or_default())?;
    let mut tally = Tally::default();
    let bar = output.progress().bar("triggers", 0);
    let mut next = Value::Null;
    loop {
        let mut query = vec![("topic", args.topic.clone()), ("graph", name.to_owned())];
        query.extend(args.from.clone().map(|from| ("from", from)));
        query.extend(args.to.clone().map(|to| ("to", to)));
        query.extend(next.as_str().map(|next| ("cursor", next.to_owned())));
        let page = client.get("/api/v1/records", &query)?;
        let items = page["items"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        bar.inc_length(items.len() as u64);
        let mut executions = Vec::new();
        for item in items {
            let trigger = record(item)?;
            let done = rehearsal.run(&trigger)?;
            bar.inc(1);
            let Some(id) = done
                .results
                .first()
                .map(|(result, _)| result.execution.to_string())
            else {
                continue;
            };
            if args.allow_http {
                executions.push(id);
                continue;
            }
            tally.count(&client, &id, &done, args.diff, output)?;
        }
        for some in executions.chunks(500) {
            for_real(&client, some, args.request.as_deref(), output)?;
        }
        next = page["next"].clone();
        if next.is_null() {
            break;
        }
    }
    bar.finish_and_clear();
    let used = json!({"version": loaded.version_hex, "modules": modules(&loaded)});
    let value = json!({
        "items": [{"topic": args.topic, "graph": name, "run": tally.run, "same": tally.same, "other": tally.other, "new": tally.new, "failed": tally.failed, "used": used}],
    });
    output.print(&value, |value| Rows {
        header: &[
            "TOPIC",
            "GRAPH",
            "RUN",
            "THE SAME",
            "OTHERWISE",
            "NOT RUN BEFORE",
            "FAILED",
        ],
        rows: super::validate::rows(value, |item| {
            ["topic", "graph", "run", "same", "other", "new", "failed"]
                .iter()
                .map(|field| cell(item, field))
                .collect()
        }),
    })?;
    Ok(Exit::Ok)
}

#[derive(Default)]
struct Tally {
    run: u64,
    same: u64,
    other: u64,
    /// Nothing is known of what they came to.
    new: u64,
    failed: u64,
}

impl Tally {
    fn count(
        &mut self,
        client: &Client,
        id: &str,
        done: &Rehearsed,
        diff: bool,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        self.run += 1;
        self.failed += u64::from(done.failure().is_some());
        let now = came_to(done);
        match before(client, id) {
            Ok(before) if before == now => self.same += 1,
            Ok(before) => {
                self.other += 1;
                if diff && self.other as usize <= SHOWN_MAX && output.format() == Format::Table {
                    output.text(&format!("{id}\n{}\n", super::test::diff(&before, &now)))?;
                }
            }
            Err(failure) if failure.exit == Exit::NotFound => self.new += 1,
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }
}

/// A version of a graph on the server: its first digits, or `active`.
pub(super) fn version(
    engine: &Engine,
    client: &Client,
    graph: &str,
    wanted: &str,
) -> anyhow::Result<Arc<Loaded>> {
    let path = format!(
        "/api/v1/graphs/{}/versions/{}",
        segment(graph),
        segment(wanted)
    );
    let found = client.get(&path, &[])?;
    // keys come sorted, as in the canonical form
    let canonical = serde_json::to_vec(&found["definition"])?;
    rehearse::version(engine, &canonical, client)
}

/// Nobody is called: a step that asks is told so, and it stands in the log of what it came to.
fn rehearsal(
    engine: &Engine,
    loaded: Arc<Loaded>,
    graph: &str,
    trigger: &str,
) -> anyhow::Result<Rehearsal> {
    let reads = loaded
        .graph
        .triggers
        .iter()
        .any(|t| t.name == trigger && matches!(t.kind, TriggerKind::Topic(_)));
    let subscriber = reads.then(|| Subscriber {
        tenant: TENANT.to_owned(),
        graph: graph.to_owned(),
        trigger: trigger.to_owned(),
    });
    let outside = Arc::new(Here::new(false)?);
    Ok(Rehearsal::new(engine, loaded, subscriber, outside))
}

fn for_real(
    client: &Client,
    executions: &[String],
    request: Option<&str>,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let request = request.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let body = json!({"request": request, "executions": executions}).to_string();
    let sent = client.post("/api/v1/replays", "application/json", body.as_bytes())?;
    output.print(&sent, |value| Rows {
        header: &["ORIGIN", "EXECUTION", "SENT"],
        rows: super::validate::rows(value, |item| {
            let sent = if item["duplicate"] == true {
                "before"
            } else {
                "now"
            };
            vec![
                cell(item, "origin"),
                cell(item, "execution"),
                sent.to_owned(),
            ]
        }),
    })?;
    output.progress().note(&format!(
        "if this was not heard, send it again with --request {request}: nothing runs twice"
    ));
    Ok(Exit::Ok)
}

fn record(value: &Value) -> anyhow::Result<Fetched> {
    let bytes = |value: &Value| {
        let text = value.as_str();
        text.map(|text| BASE64.decode(text).map(Bytes::from))
            .transpose()
    };
    let mut headers = Vec::new();
    for header in value["headers"].as_array().into_iter().flatten() {
        let name = header[0].as_str().unwrap_or_default().to_owned();
        headers.push((name, bytes(&header[1])?.unwrap_or_default()));
    }
    Ok(Fetched {
        partition: Partition {
            topic: value["topic"].as_str().unwrap_or_default().into(),
            number: value["partition"]
                .as_u64()
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0),
        },
        offset: value["offset"].as_i64().unwrap_or(0),
        record: Record {
            key: bytes(&value["key"])?,
            value: bytes(&value["value"])?,
            headers,
            timestamp_ms: value["timestamp_ms"].as_i64().unwrap_or(0),
        },
    })
}

/// What an execution came to, as the history has it.
fn before(client: &Client, id: &str) -> Result<Value, Failure> {
    let execution = client.get(&format!("/api/v1/executions/{}", segment(id)), &[])?;
    let outputs = execution["outputs"].as_array().into_iter().flatten();
    let mut outputs: Vec<Value> = outputs
        .map(|output| {
            json!({
                "segment": output["segment"], "number": output["number"], "step": output["step"], "port": output["port"],
                "content_type": output["content_type"], "sha256": output["sha256"], "data": output["data"],
            })
        })
        .collect();
    outputs.sort_by_key(order);
    let failure = &execution["failure"];
    let failure = match failure {
        Value::Null => Value::Null,
        failure => {
            json!({"step": failure["step"], "kind": failure["kind"], "reason": failure["reason"]})
        }
    };
    Ok(json!({"outputs": outputs, "failure": failure}))
}

/// The same of a rehearsal.
fn came_to(done: &Rehearsed) -> Value {
    let mut outputs = Vec::new();
    for (result, _) in &done.results {
        let segment = uuid::Uuid::from_bytes(result.segment).to_string();
        for output in &result.outputs {
            let (sha256, data) = match &output.data {
                Payload::Inline(data) => (
                    Sha256::digest(data).into(),
                    control::shown(&output.content_type, data),
                ),
                Payload::Reference { sha256, bytes } => (
                    *sha256,
                    json!({"sha256": hex::encode(sha256), "bytes": bytes}),
                ),
            };
            let sha256: [u8; 32] = sha256;
            outputs.push(json!({
                "segment": segment, "number": output.number, "step": output.step, "port": output.port,
                "content_type": output.content_type, "sha256": hex::encode(sha256), "data": data,
            }));
        }
    }
    outputs.sort_by_key(order);
    let failure = done.failure().map_or(Value::Null, |failure| {
        json!({"step": failure.step, "kind": failure.kind.as_str(), "reason": failure.reason})
    });
    json!({"outputs": outputs, "failure": failure})
}

fn order(output: &Value) -> (String, u64) {
    (
        cell(output, "segment"),
        output["number"].as_u64().unwrap_or(0),
    )
}

fn modules(loaded: &Loaded) -> Vec<Value> {
    let steps = loaded.graph.steps.iter();
    steps
        .map(|step| json!({"step": step.name, "module": step.uses}))
        .collect()
}
