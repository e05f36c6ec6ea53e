//! Runs a case and says what was not as expected.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use processor::Loaded;
use processor::rehearsal::{Rehearsal, Rehearsed, inline};
use processor::wasm::Engine;
use schemas::graph::Graph;
use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use super::case::{Case, Letter, Line, Piece};
use super::mocks::{Mocks, bytes, value};
use crate::commands::rehearse::{self, Occurrence};

/// `None`: all as expected.
pub(super) fn run(
    case: &Case,
    file: &Path,
    engine: &Engine,
    graph: &Graph,
    loaded: Arc<Loaded>,
) -> anyhow::Result<Option<String>> {
    let data = match (&case.file, &case.data) {
        (Some(path), _) => {
            let path = file.parent().unwrap_or(Path::new("")).join(path);
            let read = std::fs::read(&path);
            Bytes::from(read.with_context(|| format!("cannot read {}", path.display()))?)
        }
        (None, Some(Value::String(text))) if case.content_type.contains("json") => {
            Bytes::from(Value::from(text.as_str()).to_string())
        }
        (None, Some(data)) => bytes(data),
        (None, None) => Bytes::new(),
    };
    let occurrence = Occurrence {
        trigger: rehearse::trigger(graph, case.trigger.as_deref())?,
        trigger_id: format!("test/{}", case.name),
        time_us: control::instant(&case.at)
            .and_then(|ms| u64::try_from(ms).ok()?.checked_mul(1_000))
            .with_context(|| format!("`at: {}` is no time; write 2026-01-31T12:00:00Z", case.at))?,
        key: case.key.clone().map(Bytes::from),
        content_type: case.content_type.clone(),
        headers: case
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect(),
        data,
    };
    let mocks = Arc::new(Mocks::new(case.secrets.clone(), case.http.clone())?);
    let mut rehearsal = Rehearsal::new(engine, loaded, None, mocks.clone());
    let done = rehearsal.run(&occurrence.record(&graph.name))?;
    let mut faults = faults(case, &done);
    faults.extend(mocks.faults());
    Ok((!faults.is_empty()).then(|| faults.join("\n")))
}

fn faults(case: &Case, done: &Rehearsed) -> Vec<String> {
    let mut faults = Vec::new();
    match (&case.expect.dead_letter, done.failure()) {
        (None, None) => {}
        (Some(_), None) => faults.push("a dead letter was expected, and it succeeded".to_owned()),
        (None, Some(failure)) => {
            let step = failure.step.as_deref().unwrap_or("-");
            let (kind, reason) = (failure.kind, &failure.reason);
            faults.push(format!("it failed: step {step}: {kind}: {reason}"));
        }
        (Some(expected), Some(failure)) => faults.extend(letter(expected, failure)),
    }
    if let Some(expected) = &case.expect.outputs {
        let found = done.outputs().map(|output| {
            let data = inline(&output.data).map_or(Value::Null, |data| value(data));
            json!({
                "step": output.step, "port": output.port, "key": output.key.as_deref().map(text),
                "content_type": output.content_type, "headers": headers(&output.headers), "data": data,
            })
        });
        faults.extend(pieces("outputs", expected, found.collect()));
    }
    if let Some(expected) = &case.expect.topics {
        let found = done.topic_records.iter().map(|outgoing| {
            let record = &outgoing.record;
            json!({
                "topic": &*outgoing.topic, "key": record.key.as_deref().map(text), "headers": headers(&record.headers),
                "data": record.value.as_deref().map_or(Value::Null, value),
            })
        });
        faults.extend(pieces("topics", expected, found.collect()));
    }
    faults.extend(lines(&case.expect.logs, done));
    faults
}

fn letter(expected: &Letter, found: &schemas::records::Failure) -> Option<String> {
    let step = expected.step.as_ref();
    let fits = step.is_none_or(|step| found.step.as_ref() == Some(step))
        && expected
            .kind
            .as_ref()
            .is_none_or(|kind| found.kind.as_str() == kind)
        && expected
            .reason
            .as_ref()
            .is_none_or(|part| found.reason.contains(part));
    if fits {
        return None;
    }
    let wanted = json!({"step": expected.step, "kind": expected.kind, "reason": expected.reason});
    let found = json!({"step": found.step, "kind": found.kind.as_str(), "reason": found.reason});
    Some(format!("another dead letter:\n{}", diff(&wanted, &found)))
}

/// Compares what is said and shows both with only that.
fn pieces(what: &str, expected: &[Piece], found: Vec<Value>) -> Option<String> {
    let wanted: Vec<Value> = expected.iter().map(said).collect();
    let none = Map::new();
    let cut: Vec<Value> = found
        .iter()
        .enumerate()
        .map(|(at, found)| match wanted.get(at) {
            // whatever is not said of it is not compared
            Some(wanted) => {
                let fields = wanted.as_object().unwrap_or(&none).keys();
                fields
                    .map(|field| {
                        let value = match (field.as_str(), &wanted[field]) {
                            ("headers", Value::Object(said)) => said
                                .keys()
                                .map(|name| (name.clone(), found["headers"][name].clone()))
                                .collect::<Map<_, _>>()
                                .into(),
                            _ => found[field].clone(),
                        };
                        (field.clone(), value)
                    })
                    .collect::<Map<_, _>>()
                    .into()
            }
            None => found.clone(),
        })
        .collect();
    (wanted != cut).then(|| {
        format!(
            "other {what} than expected:\n{}",
            diff(&wanted.into(), &cut.into())
        )
    })
}

fn said(piece: &Piece) -> Value {
    let mut said = Map::new();
    let mut text = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            said.insert(name.to_owned(), value.as_str().into());
        }
    };
    text("step", &piece.step);
    text("port", &piece.port);
    text("topic", &piece.topic);
    text("key", &piece.key);
    text("content_type", &piece.content_type);
    if !piece.headers.is_empty() {
        said.insert("headers".to_owned(), json!(piece.headers));
    }
    if let Some(data) = &piece.data {
        said.insert("data".to_owned(), data.clone());
    }
    said.into()
}

/// Each is found after the one before.
fn lines(expected: &[Line], done: &Rehearsed) -> Option<String> {
    let mut logged = done.results.iter().flat_map(|(result, _)| &result.logs);
    for line in expected {
        let fits = |log: &&schemas::records::LogLine| {
            line.step.as_ref().is_none_or(|step| log.step == *step)
                && line.level.as_ref().is_none_or(|level| log.level == *level)
                && log.message.contains(&line.message)
        };
        if logged.find(fits).is_none() {
            let all = done.results.iter().flat_map(|(result, _)| &result.logs);
            let all: Vec<String> = all
                .map(|log| format!("  {} {}: {}", log.level, log.step, log.message))
                .collect();
            return Some(format!(
                "no such line in the log: \"{}\"; there is:\n{}",
                line.message,
                all.join("\n")
            ));
        }
    }
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn headers(headers: &[(String, Bytes)]) -> Value {
    let one = |(name, value): &(String, Bytes)| (name.clone(), Value::from(text(value)));
    headers.iter().map(one).collect::<Map<_, _>>().into()
}

/// Line by line, `-` expected and `+` found.
pub(crate) fn diff(expected: &Value, found: &Value) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let (expected, found) = (pretty(expected), pretty(found));
    let diff = TextDiff::from_lines(&expected, &found);
    let mut shown = String::new();
    for group in diff.grouped_ops(3) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            shown.push_str(&format!("  {sign} {}\n", change.value().trim_end()));
        }
    }
    shown
}
