//! `/api/v1/dead-letters`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::records::{Hop, Payload, Trigger};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use topics::catalog;

use crate::executions::raw;
use crate::history::{DeadLetter, LetterRange};
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};
use crate::{clock, show};

#[derive(Deserialize, Debug, Default)]
pub(crate) struct Filter {
    graph: Option<String>,
    kind: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Newest first.
pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(filter) = query.map_err(|rejection| query_problem(&rejection))?;
    let limit = show::limit(filter.limit)?;
    let before = match &filter.cursor {
        None => (i64::MAX, ""),
        Some(cursor) => {
            let parts = cursor
                .split_once('_')
                .and_then(|(at, id)| Some((at.parse().ok()?, id)));
            parts.ok_or_else(|| {
                Problem::bad_request(format!(
                    "cursor={cursor} is not the next of a page of dead letters"
                ))
            })?
        }
    };
    let range = LetterRange {
        tenant: TENANT,
        graph: filter.graph.as_deref(),
        kind: filter.kind.as_deref(),
        before,
    };
    let mut letters = state.history.dead_letters(&range, limit + 1).await?;
    let more = letters.len() > limit as usize;
    letters.truncate(limit as usize);
    let next = letters
        .last()
        .filter(|_| more)
        .map(|letter| format!("{}_{}", letter.died_at_ms, letter.id));
    Ok(Json(
        json!({"items": letters.iter().map(summary).collect::<Vec<_>>(), "next": next}),
    ))
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
    let shown = Shown {
        summary: summary(&letter),
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

/// `None`: not one of our records, or damaged, which may be why it died.
fn record(topic: &str, value: &[u8]) -> Option<Record> {
    let value = Bytes::copy_from_slice(value);
    match topic {
        catalog::TRIGGERS => {
            let trigger = Trigger::decode(&value).ok()?;
            let Payload::Inline(data) = &trigger.data else {
                return None;
            };
            let event = show::event(&trigger.event(data.clone()));
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
                    event: show::event(&e.event),
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

fn summary(letter: &DeadLetter) -> Value {
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
    })
}
