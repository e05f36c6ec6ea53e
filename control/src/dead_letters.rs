//! `/api/v1/dead-letters`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::records::{EdgeEvent, Hop, Payload, Trigger, headers};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::Repaired;
use topics::catalog;

use crate::executions::raw;
use crate::history::{DeadLetter, Letters};
use crate::problem::{Problem, Result};
use crate::redrives::since_ms;
use crate::router::{ControlState, TENANT, query_problem};
use crate::{clock, show};

#[derive(Deserialize, Debug, Default)]
pub(crate) struct Filter {
    graph: Option<String>,
    kind: Option<String>,
    step: Option<String>,
    since: Option<String>,
    /// Those that were purged, instead of those that were not.
    #[serde(default)]
    purged: bool,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Newest first.
pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(filter) = query.map_err(|rejection| query_problem(&rejection))?;
    let limit = show::limit(filter.limit)? as usize;
    let mut before = match &filter.cursor {
        None => (i64::MAX, String::new()),
        Some(cursor) => {
            let parts = cursor
                .split_once('_')
                .and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
            parts.ok_or_else(|| {
                Problem::bad_request(format!(
                    "cursor={cursor} is not the next of a page of dead letters"
                ))
            })?
        }
    };
    let since = filter.since.as_deref();
    let letters = Letters {
        graph: filter.graph,
        kind: filter.kind,
        step: filter.step,
        since_ms: since.map(|s| since_ms(s, clock::now_ms())).transpose()?,
        purged: filter.purged,
    };
    let mut found: Vec<(DeadLetter, Repaired)> = Vec::new();
    while found.len() <= limit {
        let page = limit + 1 - found.len();
        let history = &state.history;
        let page = history
            .dead_letters(TENANT, &letters, (before.0, &before.1), page as u32)
            .await?;
        let Some(last) = page.last() else { break };
        before = (last.died_at_ms, last.id.clone());
        let ids: Vec<String> = page.iter().map(|letter| letter.id.clone()).collect();
        let mut repaired = state.store.repaired(TENANT, &ids).await?;
        for letter in page {
            let of = repaired.remove(&letter.id).unwrap_or_default();
            // The sink has not heard of the purge yet.
            if letters.purged || of.purged_at_ms.is_none() {
                found.push((letter, of));
            }
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|(letter, _)| format!("{}_{}", letter.died_at_ms, letter.id));
    let items: Vec<Value> = found.iter().map(|(l, of)| summary(l, of)).collect();
    Ok(Json(json!({"items": items, "next": next})))
}

/// One dead letter with the original record: its bytes, and what they hold where that can be read.
pub(crate) async fn get(
    State(state): State<ControlState>,
    Path(id): Path<String>,
) -> Result<Response> {
    let found = state.history.dead_letter(TENANT, &id).await?;
    let (letter, original) =
        found.ok_or_else(|| Problem::not_found(format!("there is no dead letter \"{id}\"")))?;
    let record = original
        .value
        .as_deref()
        .and_then(|value| record(&letter.topic, value));
    let repaired = state.store.repaired(TENANT, std::slice::from_ref(&id));
    let repaired = repaired.await?.remove(&id).unwrap_or_default();
    let header = |name: &str| header(&original.headers, name);
    let shown = Shown {
        summary: summary(&letter, &repaired),
        trace: header(headers::TRACE).or_else(|| record.as_ref().and_then(Record::trace)),
        origin: header(headers::ORIGIN),
        first_origin: header(headers::FIRST_ORIGIN),
        key: original.key.as_deref().map(show::short),
        value: original.value.as_deref().map(show::short),
        headers: raw(&original.headers)?,
        record,
    };
    Ok(Json(shown).into_response())
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    summary: Value,
    /// The W3C trace of whoever sent the original.
    trace: Option<String>,
    /// Of a redriven record: the dead letter that it repeats, and the first of all.
    origin: Option<String>,
    first_origin: Option<String>,
    key: Option<Value>,
    value: Option<Value>,
    headers: Box<RawValue>,
    record: Option<Record>,
}

/// What the original held.
#[derive(Serialize)]
#[serde(untagged)]
enum Record {
    Trigger {
        trigger: String,
        trigger_id: String,
        #[serde(flatten)]
        event: show::ShownEvent,
    },
    Hop {
        step: String,
        events: Vec<ShownEdge>,
    },
}

#[derive(Serialize)]
struct ShownEdge {
    edge: String,
    #[serde(flatten)]
    event: show::ShownEvent,
}

impl Record {
    fn trace(&self) -> Option<String> {
        match self {
            Self::Trigger { event, .. } => event.header(headers::TRACE),
            Self::Hop { events, .. } => {
                let mut traces = events.iter().map(|e| e.event.header(headers::TRACE));
                traces.find_map(|trace| trace)
            }
        }
    }
}

/// The last text of this name; `headers`: as the sink writes them.
fn header(headers: &str, name: &str) -> Option<String> {
    let all: Vec<(String, Value)> = serde_json::from_str(headers).ok()?;
    let (_, value) = all.into_iter().rev().find(|(of, _)| of == name)?;
    value.as_str().map(str::to_owned)
}

/// `None`: not one of our records, or damaged, which may be why it died.
fn record(topic: &str, value: &[u8]) -> Option<Record> {
    let value = Bytes::copy_from_slice(value);
    match topic {
        catalog::TRIGGERS => {
            let trigger = Trigger::decode(&value).ok()?;
            let event = show::event(&trigger.event(Bytes::new()), &trigger.data);
            Some(Record::Trigger {
                trigger: trigger.trigger,
                trigger_id: trigger.trigger_id,
                event,
            })
        }
        catalog::HOPS => {
            let hop = Hop::decode(&value).ok()?;
            let events = hop
                .events
                .iter()
                .map(|e| ShownEdge {
                    edge: e.edge.clone(),
                    event: show::event(&e.event, &payload(e)),
                })
                .collect();
            Some(Record::Hop {
                step: hop.step,
                events,
            })
        }
        _ => None,
    }
}

fn payload(event: &EdgeEvent) -> Payload {
    match event.reference {
        None => Payload::Inline(event.event.data.clone()),
        Some((sha256, bytes)) => Payload::Reference { sha256, bytes },
    }
}

fn summary(letter: &DeadLetter, repaired: &Repaired) -> Value {
    let redrive = repaired.redrive.as_ref();
    let purged_at_ms = letter.purged_at_ms.or(repaired.purged_at_ms);
    json!({
        "id": letter.id,
        "graph": letter.graph,
        "version": letter.version,
        "execution": letter.execution,
        "step": letter.step,
        "kind": letter.kind,
        "reason": letter.reason,
        "attempt": letter.attempt,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "died_at": clock::rfc3339(letter.died_at_ms),
        "redrive": redrive.map(|(id, _)| id),
        "redriven_at": redrive.map(|(_, at_ms)| clock::rfc3339(*at_ms)),
        "purged_at": purged_at_ms.map(clock::rfc3339),
    })
}
