//! `/api/v1/executions`. What an execution came to is derived on read from what its segments reported; nothing counts.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemas::ExecutionId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::history::{Output, Range, Segment};
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};
use crate::{clock, payloads, show};

/// Executions that one request looks at when it filters by what is not indexed.
const SCAN_MAX: usize = 2_000;
const SCAN_STEP: u32 = 500;
/// The longest that a request waits.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often a waiting request looks: at first, and at last.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// A segment that was started has not reported yet.
    Running,
    Succeeded,
    Failed,
}

/// What the segments that have reported say of their execution.
#[derive(Debug, PartialEq, Eq)]
struct Derived<'a> {
    status: Status,
    /// Started and not reported.
    missing: BTreeSet<&'a str>,
    /// The first one that failed, in the order of the segments' ids.
    failed: Option<&'a Segment>,
}

/// An execution is complete when its first segment and every segment that any of them started have reported. Hops travel
/// on other partitions, so a later segment's row may land before an earlier one's.
fn derive(segments: &[Segment]) -> Derived<'_> {
    let reported: BTreeSet<&str> = segments
        .iter()
        .map(|segment| segment.segment.as_str())
        .collect();
    let first = segments.first().map(|segment| segment.execution.as_str());
    let started = segments
        .iter()
        .flat_map(|segment| segment.started.iter().map(String::as_str));
    let missing: BTreeSet<&str> = first
        .into_iter()
        .chain(started)
        .filter(|segment| !reported.contains(segment))
        .collect();
    let failed = segments.iter().find(|segment| segment.failed);
    let status = match (missing.is_empty(), failed) {
        (false, _) => Status::Running,
        (true, Some(_)) => Status::Failed,
        (true, None) => Status::Succeeded,
    };
    Derived {
        status,
        missing,
        failed,
    }
}

#[derive(Deserialize, Debug, Default)]
pub(crate) struct Filter {
    graph: Option<String>,
    status: Option<Status>,
    trigger_id: Option<String>,
    since: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Newest first. With a filter by status or trigger id a page may have fewer items than asked for, and still a next one.
pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(filter) = query.map_err(|rejection| query_problem(&rejection))?;
    let limit = show::limit(filter.limit)?;
    let from = match &filter.since {
        None => String::new(),
        Some(text) => first_id(clock::since(text, clock::now_ms()).ok_or_else(|| {
            Problem::bad_request(format!(
                "since={text} is no time; write it as 15m, 2h, 7d or 2026-01-31T12:00:00Z"
            ))
        })?),
    };
    let mut below = match &filter.cursor {
        None => "g".to_owned(), // after every hexadecimal digit
        Some(cursor) => id(cursor)?,
    };
    let filtered = filter.status.is_some() || filter.trigger_id.is_some();
    let mut items = Vec::new();
    let mut scanned = 0;
    let next = loop {
        let step = if filtered { SCAN_STEP } else { limit };
        let range = Range {
            tenant: TENANT,
            graph: filter.graph.as_deref(),
            from: &from,
            below: &below,
        };
        let ids = state.history.ids(&range, step).await?;
        scanned += ids.len();
        let segments = state.history.segments(TENANT, &ids).await?;
        for execution in segments.chunk_by(|a, b| a.execution == b.execution) {
            if items.len() == limit as usize {
                break;
            }
            below.clone_from(&execution[0].execution);
            let derived = derive(execution);
            let wanted = filter.status.is_none_or(|status| status == derived.status)
                && filter
                    .trigger_id
                    .as_ref()
                    .is_none_or(|wanted| *wanted == execution[0].trigger_id);
            if wanted {
                items.push(summary(execution, &derived));
            }
        }
        if items.len() == limit as usize || (ids.len() == step as usize && scanned >= SCAN_MAX) {
            break Some(below);
        }
        if ids.len() < step as usize {
            break None;
        }
    };
    Ok(Json(json!({"items": items, "next": next})))
}

#[derive(Deserialize)]
pub(crate) struct Wait {
    wait: Option<String>,
}

/// One execution with its segments and outputs; with `wait` after it is complete or the time has run out.
pub(crate) async fn get(
    State(state): State<ControlState>,
    Path(text): Path<String>,
    query: Result<Query<Wait>, QueryRejection>,
) -> Result<Response> {
    let Query(Wait { wait }) = query.map_err(|rejection| query_problem(&rejection))?;
    let id = id(&text)?;
    let wait = match wait {
        None => Duration::ZERO,
        Some(wait) => clock::duration_ms(&wait)
            .map(|ms| Duration::from_millis(ms.unsigned_abs()).min(WAIT_MAX))
            .ok_or_else(|| {
                Problem::bad_request(format!("wait={wait} is no time; write it as 500ms or 5s"))
            })?,
    };
    let deadline = Instant::now() + wait;
    let mut pause = LOOK_FIRST;
    let ids = [id];
    let segments = loop {
        let segments = state.history.segments(TENANT, &ids).await?;
        let complete = !segments.is_empty() && derive(&segments).status != Status::Running;
        let now = Instant::now();
        if complete || now >= deadline {
            break segments;
        }
        tokio::time::sleep(pause.min(deadline - now)).await;
        pause = (pause * 2).min(LOOK_LAST);
    };
    let [id] = ids;
    if segments.is_empty() {
        let detail = format!(
            "execution {id} is not known (yet): if it was accepted just now, its results have not landed; ask again, or wait with ?wait=5s"
        );
        return Err(Problem::not_found(detail).retry_after(1));
    }
    let (outputs, more) = state.history.outputs(TENANT, &id).await?;
    let derived = derive(&segments);
    let shown = Execution {
        summary: summary(&segments, &derived),
        version: &segments[0].version,
        missing: derived.missing.iter().copied().collect(),
        segments: segments.iter().map(segment).collect::<Result<_>>()?,
        outputs: outputs
            .iter()
            .map(|found| output(&id, found))
            .collect::<Result<_>>()?,
        more_outputs: more,
    };
    Ok(Json(shown).into_response())
}

#[derive(Serialize)]
struct Execution<'a> {
    #[serde(flatten)]
    summary: Value,
    version: &'a str,
    /// Segments that were started and have not reported.
    missing: Vec<&'a str>,
    segments: Vec<ShownSegment<'a>>,
    outputs: Vec<ShownOutput<'a>>,
    /// There are more outputs than this answer carries.
    more_outputs: bool,
}

#[derive(Serialize)]
struct ShownSegment<'a> {
    segment: &'a str,
    status: Status,
    failure: Option<Value>,
    started: &'a [String],
    logs: Box<RawValue>,
    logs_dropped: i64,
    finished_at: String,
}

#[derive(Serialize)]
struct ShownOutput<'a> {
    segment: &'a str,
    number: i64,
    step: &'a str,
    port: &'a str,
    sinks: Box<RawValue>,
    key: Option<Value>,
    content_type: &'a str,
    headers: Box<RawValue>,
    #[serde(flatten)]
    data: show::Shown,
    /// Of the bytes of `data`.
    sha256: String,
    /// Where the payload is to be had that lies outside of the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<String>,
}

fn summary(segments: &[Segment], derived: &Derived<'_>) -> Value {
    let first = &segments[0];
    let finished = segments
        .iter()
        .map(|segment| segment.finished_at_ms)
        .max()
        .filter(|_| derived.status != Status::Running);
    json!({
        "execution": first.execution,
        "graph": first.graph,
        "version": first.version,
        "trigger": first.trigger,
        "trigger_id": first.trigger_id,
        "status": derived.status,
        "failure": derived.failed.map(failure),
        // the first segment's, which is not the first of the list; those that hop have none
        "origin": segments.iter().find_map(|segment| segment.origin.as_deref()),
        "triggered_at": clock::rfc3339(first.triggered_at_us.div_euclid(1_000)),
        "finished_at": finished.map(clock::rfc3339),
    })
}

fn failure(segment: &Segment) -> Value {
    json!({"step": segment.failed_step, "kind": segment.failure, "reason": segment.reason, "attempt": segment.attempt})
}

fn segment(segment: &Segment) -> Result<ShownSegment<'_>> {
    Ok(ShownSegment {
        segment: &segment.segment,
        status: if segment.failed {
            Status::Failed
        } else {
            Status::Succeeded
        },
        failure: segment.failed.then(|| failure(segment)),
        started: &segment.started,
        logs: raw(&segment.logs)?,
        logs_dropped: segment.logs_dropped,
        finished_at: clock::rfc3339(segment.finished_at_ms),
    })
}

fn output<'o>(execution: &str, output: &'o Output) -> Result<ShownOutput<'o>> {
    let (data, sha256, download) = match payloads::reference(output)? {
        None => (show::data(&output.content_type, &output.data), None, None),
        Some(reference) => {
            let sha256 = hex::encode(reference.sha256);
            (
                show::reference(sha256.clone(), reference.bytes),
                Some(sha256),
                Some(payloads::path(execution, output)),
            )
        }
    };
    Ok(ShownOutput {
        segment: &output.segment,
        number: output.number,
        step: &output.step,
        port: &output.port,
        sinks: raw(&output.sinks)?,
        key: output.key.as_deref().map(show::short),
        content_type: &output.content_type,
        headers: raw(&output.headers)?,
        data,
        sha256: match &sha256 {
            Some(sha256) => sha256.clone(),
            None => hex::encode(Sha256::digest(&output.data)),
        },
        download,
    })
}

/// A column that holds JSON.
pub(crate) fn raw(text: &str) -> Result<Box<RawValue>> {
    serde_json::from_str(text)
        .map_err(|error| Problem::internal(&format!("a column of the history is no JSON: {error}")))
}

/// An execution's id as the history writes it.
pub(crate) fn id(text: &str) -> Result<String> {
    let id: ExecutionId = text
        .parse()
        .map_err(|_| Problem::bad_request(format!("\"{text}\" is no execution's id")))?;
    Ok(id.to_string())
}

/// The least id of executions that were triggered at this time or later.
fn first_id(ms: i64) -> String {
    let ms = ms.unsigned_abs() & 0xffff_ffff_ffff;
    format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(segment: &str, started: &[&str], failed: bool) -> Segment {
        Segment {
            execution: "e".into(),
            segment: segment.into(),
            graph: String::new(),
            version: String::new(),
            trigger: String::new(),
            trigger_id: String::new(),
            failed,
            failed_step: None,
            failure: None,
            reason: None,
            attempt: None,
            started: started.iter().map(|s| (*s).to_owned()).collect(),
            logs: "[]".into(),
            logs_dropped: 0,
            origin: None,
            triggered_at_us: 0,
            finished_at_ms: 0,
        }
    }

    #[test]
    fn what_the_segments_come_to() {
        let cases: [(&str, Vec<Segment>, Status); 7] = [
            ("one segment", vec![row("e", &[], false)], Status::Succeeded),
            ("it failed", vec![row("e", &[], true)], Status::Failed),
            (
                "one is on its way",
                vec![row("e", &["a", "b"], false), row("a", &[], false)],
                Status::Running,
            ),
            (
                "all have come",
                vec![row("e", &["a"], false), row("a", &[], false)],
                Status::Succeeded,
            ),
            (
                "a later one failed",
                vec![row("e", &["a"], false), row("a", &[], true)],
                Status::Failed,
            ),
            (
                "the first has not landed",
                vec![row("a", &[], false)],
                Status::Running,
            ),
            (
                "a middle one has not landed",
                vec![row("e", &["a"], false), row("b", &[], true)],
                Status::Running,
            ),
        ];
        for (case, segments, status) in cases {
            assert_eq!(derive(&segments).status, status, "{case}");
        }
    }

    #[test]
    fn ids_begin_with_their_time() {
        let id = ExecutionId::derive(1_700_000_000_123, "default", "g", "t", "i").to_string();
        assert!(id.as_str() >= first_id(1_700_000_000_123).as_str());
        assert!(id.as_str() < first_id(1_700_000_000_124).as_str());
        assert!(id.as_str() < "g");
    }
}
