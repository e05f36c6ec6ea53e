//! Past triggers, as they were: for whoever runs them again. Reading them writes nothing; the server runs no step. `POST /api/v1/replays` has
//! the lanes run them again, each as a new execution that names its origin, exactly once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use schemas::ExecutionId;
use schemas::records::{Payload, Trigger};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{Entry, Key, Put};
use topics::catalog::{self, TRIGGERS};
use topics::{Fetched, Partition, Polled};

use crate::clock;
use crate::grants::Use;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};

/// A trigger is on its topic this long after its time at most; a redriven or replayed one later still, and is not found by its time.
const LATE_MS: i64 = 15 * 60 * 1_000;
/// How long one request reads.
const READ_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 8 << 20;
/// Executions of one replay.
const EXECUTIONS_MAX: usize = 1_000;
/// Polls without a record after which a partition's end has been reached: the last offsets may be marks of transactions.
const EMPTY_MAX: u32 = 5;

/// The record that started an execution: `{graph, trigger, version, record: {topic, partition, offset, timestamp_ms, key, value, headers}}`,
/// bytes in base64.
pub(crate) async fn trigger(
    State(state): State<ControlState>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    let found = find(&state, &id).await?;
    Ok(Json(json!({
        "execution": id, "graph": found.graph, "trigger": found.trigger, "version": found.version,
        "record": shown(&found.record),
    })))
}

struct Found {
    graph: String,
    trigger: String,
    version: String,
    record: Fetched,
}

async fn find(state: &ControlState, id: &str) -> Result<Found> {
    let wanted: ExecutionId = id
        .parse()
        .map_err(|_| Problem::bad_request(format!("\"{id}\" is no execution's id")))?;
    let segments = state.history.segments(TENANT, &[id.to_owned()]).await?;
    let first = segments
        .iter()
        .find(|segment| segment.segment == id)
        .or(segments.first())
        .ok_or_else(|| Problem::not_found(format!("there is no execution {id} (yet)")))?;
    let (graph, trigger, version) = (
        first.graph.clone(),
        first.trigger.clone(),
        first.version.clone(),
    );
    let (trigger_id, time_ms) = (
        first.trigger_id.clone(),
        first.triggered_at_us.div_euclid(1_000),
    );
    let topic = user_topic(state, &version, &trigger).await?;
    let reading = state.clone();
    let record = blocking(move || match topic {
        Some(topic) => of_user_topic(&reading, &topic, &trigger_id),
        None => of_triggers(&reading, wanted, time_ms),
    })
    .await?;
    let record = record.ok_or_else(|| {
        Problem::not_found(format!(
            "the trigger of execution {id} is not on its topic any more: it is older than the topic's retention, or came in by a redrive"
        ))
    })?;
    Ok(Found {
        graph,
        trigger: first.trigger.clone(),
        version,
        record,
    })
}

/// The topic that a version's trigger reads, if it reads one.
async fn user_topic(state: &ControlState, version: &str, trigger: &str) -> Result<Option<String>> {
    let Some(canonical) = state.store.version(version).await? else {
        return Ok(None);
    };
    let Ok(graph) = schemas::graph::Graph::from_canonical(&canonical) else {
        return Ok(None);
    };
    let mut reads = graph.subscriptions();
    let found = reads.find(|(name, _)| *name == trigger);
    Ok(found.map(|(_, topic)| topic.name.clone()))
}

/// By its place: the trigger's id is the topic's id, partition and offset.
fn of_user_topic(state: &ControlState, topic: &str, trigger_id: &str) -> Result<Option<Fetched>> {
    let mut parts = trigger_id.rsplitn(3, '/');
    let (offset, number) = (parts.next(), parts.next());
    let place = (
        number.and_then(|n| n.parse().ok()),
        offset.and_then(|n| n.parse::<i64>().ok()),
    );
    let (Some(number), Some(offset)) = place else {
        return Ok(None);
    };
    let log = &state.log;
    if parts.next() != Some(&*log.topic_id(topic)?) {
        return Ok(None);
    }
    let partition = Partition {
        topic: topic.into(),
        number,
    };
    let found = read(state, vec![(partition, offset, offset + 1)], |_| true)?;
    Ok(found
        .records
        .into_iter()
        .find(|record| record.offset == offset))
}

fn of_triggers(state: &ControlState, wanted: ExecutionId, time_ms: i64) -> Result<Option<Fetched>> {
    let mut from = Vec::new();
    for number in 0..state.log.partitions(TRIGGERS)? {
        let partition = Partition {
            topic: TRIGGERS.into(),
            number,
        };
        let start = state.log.offset_at(&partition, time_ms)?;
        let end = state.log.offset_at(&partition, time_ms + LATE_MS)?;
        from.push((partition, start, end));
    }
    let is = |record: &Fetched| {
        let value = record.record.value.clone().unwrap_or_default();
        Trigger::decode(&value).is_ok_and(|trigger| trigger.execution == wanted)
    };
    let mut left = from;
    let until = Instant::now() + READ_MAX;
    while !left.is_empty() && Instant::now() < until {
        let read = read(state, left, is)?;
        if let Some(found) = read.records.into_iter().next() {
            return Ok(Some(found));
        }
        left = read.left;
    }
    Ok(None)
}

struct Read {
    records: Vec<Fetched>,
    /// What is still to be read of each partition.
    left: Vec<(Partition, i64, i64)>,
}

/// Reads parts of partitions, up to a bound of records that are wanted.
fn read(
    state: &ControlState,
    parts: Vec<(Partition, i64, i64)>,
    wanted: impl Fn(&Fetched) -> bool,
) -> Result<Read> {
    let mut left: BTreeMap<Partition, (i64, i64)> = parts
        .into_iter()
        .filter(|(_, start, end)| start < end)
        .map(|(partition, start, end)| (partition, (start, end)))
        .collect();
    let mut records = Vec::new();
    let from = left
        .iter()
        .map(|(partition, (start, _))| (partition.clone(), *start));
    if left.is_empty() {
        return Ok(Read {
            records,
            left: Vec::new(),
        });
    }
    let mut reader = state.log.reader(from.collect(), RECORDS_MAX)?;
    let (mut empty, mut bytes) = (0, 0);
    let until = Instant::now() + READ_MAX / 2;
    while !left.is_empty()
        && records.len() < RECORDS_MAX
        && bytes < BYTES_MAX
        && Instant::now() < until
    {
        let Polled::Records(polled) = reader.poll(POLL)? else {
            continue;
        };
        if polled.is_empty() {
            empty += 1;
            if empty >= EMPTY_MAX {
                left.clear();
            }
            continue;
        }
        empty = 0;
        for record in polled {
            let Some((next, end)) = left.get_mut(&record.partition) else {
                continue;
            };
            if record.offset >= *end {
                left.remove(&record.partition);
                continue;
            }
            // a page that is full leaves the rest for the next one
            if records.len() >= RECORDS_MAX || bytes >= BYTES_MAX {
                continue;
            }
            *next = record.offset + 1;
            let over = *next >= *end;
            let partition = record.partition.clone();
            if wanted(&record) {
                bytes += record.record.value.as_ref().map_or(0, Bytes::len);
                records.push(record);
            }
            if over {
                left.remove(&partition);
            }
        }
    }
    let left = left.into_iter();
    Ok(Read {
        records,
        left: left
            .map(|(partition, (next, end))| (partition, next, end))
            .collect(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    topic: String,
    /// A time, `15m` before now, or `earliest`.
    from: Option<String>,
    to: Option<String>,
    /// Of `weir.triggers`: only those of this graph.
    graph: Option<String>,
    /// Where the page before ended: its `next`.
    cursor: Option<String>,
}

/// A place in a range.
#[derive(Serialize, Deserialize)]
struct Cursor(Vec<(u32, i64, i64)>);

/// Records of a topic in a range of time: `{items: […], next}`.
pub(crate) async fn records(
    State(state): State<ControlState>,
    query: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(range) = query.map_err(|rejection| query_problem(&rejection))?;
    let own = catalog::topics()
        .iter()
        .any(|own| *own.name == *range.topic);
    if own && range.topic != TRIGGERS {
        return Err(Problem::bad_request(format!(
            "of Weir's own topics only {TRIGGERS} has triggers"
        )));
    }
    if !own && !state.grants.allow(TENANT, Use::Read, &range.topic) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "the topic \"{}\" is not granted to read; grant it in weir.toml: [tenants.{TENANT}] topics_read",
                range.topic
            ),
        ));
    }
    let now = clock::now_ms();
    let time = |text: &Option<String>, name: &str| match text.as_deref() {
        None | Some("earliest" | "latest") => Ok(None),
        Some(text) => clock::since(text, now).map(Some).ok_or_else(|| {
            Problem::bad_request(format!(
                "{name}={text} is no time; write 2h, or 2026-01-31T12:00:00Z"
            ))
        }),
    };
    let (from, to) = (time(&range.from, "from")?, time(&range.to, "to")?);
    let reading = state.clone();
    let read = blocking(move || {
        let parts = match &range.cursor {
            Some(cursor) => parse_cursor(cursor, &range.topic)?,
            None => parts(&reading, &range.topic, from, to)?,
        };
        let graph = range.graph.as_deref();
        read(&reading, parts, |record| !own || is_of(record, graph))
    })
    .await?;
    let items: Vec<Value> = read.records.iter().map(shown).collect();
    let left: Vec<(u32, i64, i64)> = read
        .left
        .iter()
        .map(|(partition, next, end)| (partition.number, *next, *end))
        .collect();
    let next = (!left.is_empty())
        .then(|| hex::encode(serde_json::to_vec(&Cursor(left)).unwrap_or_default()));
    Ok(Json(json!({"items": items, "next": next})))
}

fn is_of(record: &Fetched, graph: Option<&str>) -> bool {
    let value = record.record.value.clone().unwrap_or_default();
    Trigger::decode(&value).is_ok_and(|trigger| {
        trigger.tenant == TENANT && graph.is_none_or(|graph| trigger.graph == graph)
    })
}

fn parts(
    state: &ControlState,
    topic: &str,
    from: Option<i64>,
    to: Option<i64>,
) -> Result<Vec<(Partition, i64, i64)>> {
    let mut parts = Vec::new();
    for number in 0..state.log.partitions(topic)? {
        let partition = Partition {
            topic: topic.into(),
            number,
        };
        let (first, last) = state.log.offsets(&partition)?;
        let start = match from {
            Some(time) => state.log.offset_at(&partition, time)?,
            None => first,
        };
        let end = match to {
            Some(time) => state.log.offset_at(&partition, time)?,
            None => last,
        };
        parts.push((partition, start, end));
    }
    Ok(parts)
}

fn parse_cursor(cursor: &str, topic: &str) -> Result<Vec<(Partition, i64, i64)>> {
    let read = hex::decode(cursor).ok();
    let read: Option<Cursor> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Cursor(left) =
        read.ok_or_else(|| Problem::bad_request("the cursor is not one of this list"))?;
    let part = |(number, next, end)| {
        let partition = Partition {
            topic: topic.into(),
            number,
        };
        (partition, next, end)
    };
    Ok(left.into_iter().map(part).collect())
}

fn shown(record: &Fetched) -> Value {
    let Fetched {
        partition,
        offset,
        record,
    } = record;
    let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| BASE64.encode(bytes));
    let header = |(name, value): &(String, Bytes)| json!([name, BASE64.encode(value)]);
    json!({
        "topic": &*partition.topic, "partition": partition.number, "offset": offset, "timestamp_ms": record.timestamp_ms,
        "key": bytes(&record.key), "value": bytes(&record.value),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    /// Makes a second asking the same replay.
    request: String,
    executions: Vec<String>,
}

/// Has the lanes run triggers again, on the active versions: `{items: [{origin, execution, duplicate}]}`. Each becomes a new execution, once
/// for each request.
pub(crate) async fn replay(
    State(state): State<ControlState>,
    body: Result<Json<Replay>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>)> {
    let Json(asked) =
        body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    if asked.request.is_empty() || asked.request.len() > 200 {
        return Err(Problem::bad_request(
            "`request` names this replay, in at most 200 bytes",
        ));
    }
    if asked.executions.len() > EXECUTIONS_MAX {
        return Err(Problem::bad_request(format!(
            "a replay has {EXECUTIONS_MAX} executions at most; send several"
        )));
    }
    let mut items = Vec::with_capacity(asked.executions.len());
    for origin in &asked.executions {
        let found = find(&state, origin).await?;
        if &*found.record.partition.topic != TRIGGERS {
            return Err(Problem::unprocessable(
                format!(
                    "execution {origin} was started by a record of a user's topic; produce that record again to have it run again"
                ),
                Vec::new(),
            ));
        }
        let entry = entry(&asked.request, origin, &found.record)
            .ok_or_else(|| Problem::internal(&format!("the trigger of {origin} cannot be read")))?;
        let execution = entry.execution;
        let put = state.store.inbox().put(entry).await?;
        let duplicate = !matches!(put, Put::New);
        items.push(
            json!({"origin": origin, "execution": execution.to_string(), "duplicate": duplicate}),
        );
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "items": items }))))
}

/// The same event at the same time; another trigger id makes it another execution.
fn entry(request: &str, origin: &str, record: &Fetched) -> Option<Entry> {
    let value = record.record.value.clone()?;
    let mut trigger = Trigger::decode(&value).ok()?;
    let time_ms = trigger.time_us / 1_000;
    trigger.trigger_id = format!("replay/{request}/{origin}");
    trigger.execution = ExecutionId::derive(
        time_ms,
        &trigger.tenant,
        &trigger.graph,
        &trigger.trigger,
        &trigger.trigger_id,
    );
    trigger.origin = Some(origin.to_owned());
    let body: [u8; 32] = match &trigger.data {
        Payload::Inline(data) => Sha256::digest(data).into(),
        Payload::Reference { sha256, .. } => *sha256,
    };
    let key = trigger.key.clone();
    let record_key = key.unwrap_or_else(|| Bytes::from(trigger.execution.to_string()));
    Some(Entry {
        key: Key::new(
            &trigger.tenant,
            &trigger.graph,
            &trigger.trigger,
            &trigger.trigger_id,
        ),
        body_sha256: body,
        execution: trigger.execution,
        at_ms: clock::now_ms(),
        record_key: Some(record_key),
        record: trigger.encode(),
    })
}

/// Readers block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(Problem::internal(&format!("reading broke off: {panic}"))),
    }
}
