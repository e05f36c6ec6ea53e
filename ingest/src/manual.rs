//! The REST trigger: `POST /api/v1/graphs/{graph}/triggers/{trigger}`, one event, and `…/batch`, one per line (NDJSON).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemas::{Event, ExecutionId};
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use crate::accept::{Accepted, Arrival, Ready};
use crate::headers;
use crate::problem::Problem;
use crate::router::{Ingest, count, outcome, read, unhurried};
use crate::targets::{Lookup, Target};

/// Until accounts exist.
const TENANT: &str = "default";
const JSON: &str = "application/json";
/// Records that one append takes.
const APPEND_RECORDS: usize = 500;

type Named = Path<(String, String)>;

pub(crate) async fn one(
    State(ingest): State<Ingest>,
    Path(named): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let accepted = take_one(&ingest, named, &headers, body).await;
    count("manual", outcome(&accepted), 1);
    accepted.into_response()
}

/// Answers `{"executions": [...]}`, in the order of the lines, when all are durable. With an `Idempotency-Key`, line n has
/// the key `KEY/n`: the same batch sent again starts nothing. A bad line refuses all before anything is taken; a line
/// whose key was used with another body refuses the request, but not the lines that were taken already.
pub(crate) async fn batch(
    State(ingest): State<Ingest>,
    Path(named): Named,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match take_batch(&ingest, named, &headers, body).await {
        Ok(executions) => listed(&executions),
        Err(problem) => {
            count("manual", problem.outcome, 1);
            problem.into_response()
        }
    }
}

async fn take_one(
    ingest: &Ingest,
    named: (String, String),
    headers: &HeaderMap,
    body: Body,
) -> Result<Accepted, Problem> {
    let time_us = ingest.parts.clock.now_us();
    let target = find(ingest, time_us, named).await?;
    let read = ingest.read(headers, body).await?;
    let id = headers::trigger_id(headers, None)?;
    let event = Event {
        key: None,
        content_type: headers::content_type(headers, JSON),
        headers: headers::carried(headers),
        data: read.bytes.clone(),
    };
    let made = move || Ready::new(&target, Arrival { event, time_us, id });
    let ready = unhurried(read.bytes.len(), made).await?;
    ingest.accept(ready).await
}

async fn take_batch(
    ingest: &Ingest,
    named: (String, String),
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<ExecutionId>, Problem> {
    let time_us = ingest.parts.clock.now_us();
    let target = find(ingest, time_us, named).await?;
    let body = read(
        headers,
        body,
        ingest.parts.config.batch_bytes_max,
        ingest.parts.config.body_timeout_ms,
    )
    .await?;
    let key = headers::trigger_id(headers, None)?;
    let carried = headers::carried(headers);
    let mut ready = Vec::new();
    for (number, data) in lines(&body) {
        let place = || format!("line {number}");
        if ready.len() as u64 == u64::from(ingest.parts.config.batch_events_max) {
            return Err(Problem::invalid(
                format!(
                    "a batch may have {} events",
                    ingest.parts.config.batch_events_max
                ),
                Vec::new(),
            ));
        }
        if data.len() as u64 > ingest.body_bytes_max() {
            return Err(ingest.too_large().at(&place()));
        }
        if serde_json::from_slice::<IgnoredAny>(&data).is_err() {
            return Err(Problem::invalid("not JSON", Vec::new()).at(&place()));
        }
        let event = Event {
            key: None,
            content_type: JSON.to_owned(),
            headers: carried.clone(),
            data,
        };
        let id = key.as_ref().map(|key| format!("{key}/{number}"));
        ready.push(
            Ready::new(&target, Arrival { event, time_us, id })
                .map_err(|problem| problem.at(&place()))?,
        );
    }
    if key.is_some() {
        keyed(ingest, ready).await
    } else {
        unkeyed(ingest, ready).await
    }
}

/// All through the inbox, which puts those that wait together into one transaction.
async fn keyed(ingest: &Ingest, ready: Vec<Ready>) -> Result<Vec<ExecutionId>, Problem> {
    let mut executions: Vec<ExecutionId> = ready.iter().map(|ready| ready.execution).collect();
    let mut under_way = JoinSet::new();
    for (index, ready) in ready.into_iter().enumerate() {
        let ingest = ingest.clone();
        under_way.spawn(async move { (index, ingest.accept(ready).await) });
    }
    let mut refused = None;
    while let Some(done) = under_way.join_next().await {
        let (index, accepted) = done.map_err(|_| Problem::unavailable())?;
        match accepted {
            Ok(accepted) => {
                count(
                    "manual",
                    if accepted.duplicate {
                        "duplicate"
                    } else {
                        "accepted"
                    },
                    1,
                );
                executions[index] = accepted.execution;
            }
            Err(problem) => refused = Some(problem.at(&format!("event {}", index + 1))),
        }
    }
    refused.map_or(Ok(executions), Err)
}

async fn unkeyed(ingest: &Ingest, ready: Vec<Ready>) -> Result<Vec<ExecutionId>, Problem> {
    let executions: Vec<ExecutionId> = ready.iter().map(|ready| ready.execution).collect();
    let mut rest = ready.into_iter();
    loop {
        let some: Vec<Ready> = rest.by_ref().take(APPEND_RECORDS).collect();
        if some.is_empty() {
            return Ok(executions);
        }
        let triggers = some.len() as u64;
        ingest.append(some).await?;
        count("manual", "accepted", triggers);
    }
}

async fn find(
    ingest: &Ingest,
    now_us: u64,
    (graph, trigger): (String, String),
) -> Result<Arc<Target>, Problem> {
    let name = format!("{graph}/{trigger}");
    let lookup = Lookup::Manual {
        tenant: TENANT,
        graph: &graph,
        trigger: &trigger,
    };
    let found = ingest
        .parts
        .manuals
        .find(&ingest.parts.store, now_us, &name, lookup)
        .await?;
    let target =
        found.ok_or_else(|| Problem::unknown("no such graph, or it has no such trigger"))?;
    if target.manual {
        Ok(target)
    } else {
        Err(Problem::not_manual(&trigger))
    }
}

/// The lines that hold something, with their numbers from 1; slices of the body.
fn lines(body: &Bytes) -> impl Iterator<Item = (usize, Bytes)> + '_ {
    let numbered = body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .zip(1..);
    numbered
        .filter(|(line, _)| !line.is_empty())
        .map(|(line, number)| (number, body.slice_ref(line)))
}

fn listed(executions: &[ExecutionId]) -> Response {
    let mut body = String::with_capacity(20 + 39 * executions.len());
    body.push_str("{\"executions\":[");
    for (index, execution) in executions.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&format!("\"{execution}\""));
    }
    body.push_str("]}");
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
