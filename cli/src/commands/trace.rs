//! `weir run --trace`: each step's input, outputs and time, in this process. Nothing is written, and nobody is called unless `--allow-http`.

use std::path::Path;
use std::sync::Arc;

use processor::rehearsal::{Rehearsal, Rehearsed, Traced};
use processor::wasm::Outcome;
use schemas::Event;
use serde_json::{Value, json};

use super::rehearse::{self, Occurrence};
use super::world::Here;
use super::{local, run};
use crate::args::{Format, Global, RunArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Output, shorten};
use crate::roles::now_us;

/// Data on one line of a trace.
const SHOWN_CHARS: usize = 160;

pub(super) fn trace(args: &RunArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let events = run::events(&args.input)?;
    let engine = rehearse::engine()?;
    let (graph, loaded) = if run::is_file_name(&args.graph) {
        let file = Path::new(&args.graph);
        if !file.is_file() {
            let what = format!("there is no file {}", file.display());
            return Err(Failure::new(Exit::NotFound, what).into());
        }
        let local = local::load(file, None)?;
        let loaded = rehearse::loaded(&engine, &local, None)?;
        (local.graph, loaded)
    } else {
        let client = super::client(global)?;
        let loaded = super::replay::version(&engine, &client, &args.graph, "active")?;
        (loaded.graph.clone(), loaded)
    };
    let trigger = rehearse::trigger(&graph, args.trigger.as_deref())?;
    let outside = Arc::new(Here::new(args.allow_http)?);
    let mut rehearsal = Rehearsal::new(&engine, loaded, None, outside);
    let mut failed = 0;
    for (number, event) in events.iter().enumerate() {
        let occurrence = Occurrence {
            trigger: trigger.clone(),
            trigger_id: format!("trace/{}", number + 1),
            time_us: now_us(),
            key: None,
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            data: event.clone().into(),
        };
        let done = rehearsal.run(&occurrence.record(&graph.name))?;
        failed += usize::from(done.failure().is_some());
        if output.format() == Format::Table {
            output.text(&shown(number + 1, &done))?;
        } else {
            output.line(&value(&done))?;
        }
    }
    output.flush()?;
    output.progress().note(&format!(
        "{} succeeded, {failed} failed; nothing was written",
        events.len() - failed
    ));
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}

fn shown(number: usize, done: &Rehearsed) -> String {
    let mut text = format!("event {number}\n");
    for call in &done.calls {
        let again = if call.attempt > 1 {
            format!(", try {}", call.attempt)
        } else {
            String::new()
        };
        let took = call.took.as_secs_f64() * 1e6;
        text.push_str(&format!("  {}{again}  {took:.0} µs\n", call.step));
        for (edge, event) in &call.input {
            text.push_str(&format!("    in   {edge}: {}\n", short(event)));
        }
        for log in &call.logs {
            text.push_str(&format!("    log  {:?}: {}\n", log.level, log.message));
        }
        for line in outcome(&call.outcome) {
            text.push_str(&format!("    {line}\n"));
        }
    }
    if let Some(failure) = done.failure() {
        let step = failure.step.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "  FAILED at {step}: {}: {}\n",
            failure.kind, failure.reason
        ));
    }
    text
}

fn outcome(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Outputs(outputs) if outputs.is_empty() => vec!["out  nothing".to_owned()],
        Outcome::Outputs(outputs) => outputs
            .iter()
            .map(|output| format!("out  {}: {}", output.port, text(&output.data)))
            .collect(),
        Outcome::Retry { delay_ms, reason } => {
            let delay = delay_ms.map_or(String::new(), |ms| format!(" in {ms} ms"));
            vec![format!("asks to be tried again{delay}: {reason}")]
        }
        Outcome::Reject(reason) => vec![format!("rejects: {reason}")],
        Outcome::Fatal(reason) => vec![format!("fatal: {reason}")],
        Outcome::Broken(broken, reason) => vec![format!("{}: {reason}", broken.name())],
    }
}

fn short(event: &Event) -> String {
    text(&event.data)
}

fn text(data: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(data), SHOWN_CHARS)
}

fn value(done: &Rehearsed) -> Value {
    let call = |call: &Traced| {
        let input = call.input.iter();
        let input = input.map(|(edge, event)| json!({"edge": edge, "data": data(&event.data)}));
        let outputs = match &call.outcome {
            Outcome::Outputs(outputs) => outputs
                .iter()
                .map(|output| json!({"port": output.port, "data": data(&output.data)}))
                .collect(),
            _ => Vec::new(),
        };
        let failed = match &call.outcome {
            Outcome::Outputs(_) => Value::Null,
            other => outcome(other).join("\n").into(),
        };
        let logs = call.logs.iter().map(|log| log.message.clone());
        json!({
            "step": call.step, "attempt": call.attempt, "us": call.took.as_micros() as u64,
            "input": input.collect::<Vec<_>>(), "outputs": outputs, "failed": failed, "logs": logs.collect::<Vec<_>>(),
        })
    };
    let failure = done.failure().map(|failure| {
        json!({"step": failure.step, "kind": failure.kind.as_str(), "reason": failure.reason})
    });
    json!({"steps": done.calls.iter().map(call).collect::<Vec<_>>(), "failure": failure})
}

/// JSON where it is some, else text.
fn data(data: &[u8]) -> Value {
    serde_json::from_slice(data)
        .unwrap_or_else(|_| String::from_utf8_lossy(data).into_owned().into())
}
