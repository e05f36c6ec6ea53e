//! A batch as rows of Weir's own tables. Pure.
//!
//! A value that a row does not have stays unset: an explicit null would be a tombstone.

use std::hash::{DefaultHasher, Hash, Hasher};

use schemas::ExecutionId;
use schemas::records::{DeadLetter, Output, Payload, SegmentResult};
use scylla::value::{CqlValue, MaybeUnset};
use serde_json::json;
use topics::Fetched;

use crate::batch::{Landing, Row};
use crate::rows::{headers, letter_id, list, logs, refused_headers, refused_id};
use crate::writes::Write;

const DAY_MS: i64 = 86_400_000;
/// What a reason may take: some quote what was refused.
const REASON_CHARS_MAX: usize = 2_000;

/// One of Weir's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Days,
    DeadLetters,
    DeadLettersByDay,
    Executions,
    ExecutionsByGraph,
    Outputs,
}

impl Table {
    pub(super) const EVERYWHERE: [Self; 3] =
        [Self::Days, Self::DeadLetters, Self::DeadLettersByDay];
    pub(super) const HISTORY: [Self; 3] =
        [Self::Executions, Self::ExecutionsByGraph, Self::Outputs];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Days => "weir_days",
            Self::DeadLetters => "weir_dead_letters",
            Self::DeadLettersByDay => "weir_dead_letters_by_day",
            Self::Executions => "weir_executions",
            Self::ExecutionsByGraph => "weir_executions_by_graph",
            Self::Outputs => "weir_outputs",
        }
    }

    /// In the order of a row's values.
    fn columns(self) -> &'static str {
        match self {
            Self::Days => r#"tenant, kind, graph, day, topic, "partition", record_ms"#,
            Self::DeadLetters => {
                r#"id, tenant, graph, version, execution, step, kind, reason, attempt, topic, "partition", "offset", key, value, headers, died_at_ms"#
            }
            Self::DeadLettersByDay => "tenant, day, died_at_ms, id, graph, kind",
            Self::Executions => {
                r#"tenant, day, slice, execution, segment, graph, version, "trigger", trigger_id, status, failed_step, failure, reason, attempt, started, logs, logs_dropped, origin, triggered_at_us, finished_at_ms"#
            }
            Self::ExecutionsByGraph => "tenant, graph, day, slice, execution, segment, status",
            Self::Outputs => {
                "tenant, day, slice, execution, segment, number, graph, step, port, sinks, key, content_type, headers, data, data_bytes, sha256"
            }
        }
    }

    /// The time is its last value.
    pub(super) fn insert(self) -> String {
        let columns = self.columns();
        let marks = vec!["?"; columns.split(',').count()].join(", ");
        let table = self.name();
        format!("insert into {table} ({columns}) values ({marks}) using timestamp ?")
    }
}

/// A row of one of them, and when it is written.
pub(super) struct OurRow {
    pub(super) table: Table,
    /// Equal for rows of one partition of one table.
    pub(super) partition: u64,
    pub(super) values: Vec<MaybeUnset<CqlValue>>,
    pub(super) bytes: usize,
}

impl OurRow {
    pub(super) fn new(
        table: Table,
        partition: impl Hash,
        values: Vec<Value>,
        time_us: i64,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        (table, partition).hash(&mut hasher);
        let bytes = values.iter().map(|value| value.bytes).sum();
        let time = MaybeUnset::Set(CqlValue::BigInt(time_us));
        let values = values.into_iter().map(|value| value.cql);
        Self {
            table,
            partition: hasher.finish(),
            values: values.chain([time]).collect(),
            bytes,
        }
    }
}

/// A column's value and about its size.
pub(super) struct Value {
    cql: MaybeUnset<CqlValue>,
    bytes: usize,
}

impl Value {
    const UNSET: Self = Self {
        cql: MaybeUnset::Unset,
        bytes: 4,
    };

    fn of(value: CqlValue, bytes: usize) -> Self {
        Self {
            cql: MaybeUnset::Set(value),
            bytes: bytes + 4,
        }
    }
}

pub(super) fn text(text: impl Into<String>) -> Value {
    let text = text.into();
    let bytes = text.len();
    Value::of(CqlValue::Text(text), bytes)
}

pub(super) fn int(number: u32) -> Value {
    Value::of(CqlValue::Int(i32::try_from(number).unwrap_or(i32::MAX)), 4)
}

pub(super) fn big(number: i64) -> Value {
    Value::of(CqlValue::BigInt(number), 8)
}

pub(super) fn date(day: i32) -> Value {
    Value::of(CqlValue::Int(day), 4)
}

fn blob(bytes: &[u8]) -> Value {
    Value::of(CqlValue::Blob(bytes.to_vec()), bytes.len())
}

fn uuid(id: [u8; 16]) -> Value {
    Value::of(CqlValue::Uuid(uuid::Uuid::from_bytes(id)), 16)
}

fn optional<T>(value: Option<T>, of: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::UNSET, of)
}

/// Where an execution's rows lie: the day of its id, and one of 16 parts of it.
pub(super) fn bucket(execution: ExecutionId) -> (i32, i8) {
    let day = execution.time_ms() / DAY_MS as u64;
    // 48 bits of milliseconds are fewer than 2^22 days
    (day as i32, (execution.0[15] & 0x0f) as i8)
}

pub(super) fn day(ms: i64) -> i32 {
    i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or_default()
}

/// What the record of a landing becomes. `history`: also rows of the history's tables; without it, only what nobody can read,
/// which is this sink's own.
pub(super) fn of_landing(landing: &Landing, history: bool, time_us: i64, rows: &mut Vec<OurRow>) {
    let from = &landing.from;
    match &landing.row {
        Row::Unreadable(reason) => unreadable(reason, from, time_us, rows),
        _ if !history => {}
        Row::Result(result) => executions(result, from, time_us, rows),
        Row::DeadLetter(letter) => {
            let original = DeadLetter::original_headers(&from.record.headers);
            let content = Content {
                key: from.record.key.as_deref(),
                value: from.record.value.as_deref(),
                headers: headers(&original),
            };
            dead_letter(&letter_id(from), letter, content, from, time_us, rows);
        }
        // when what it purges has landed
        Row::Purge(_) => {}
    }
}

fn executions(result: &SegmentResult, from: &Fetched, time_us: i64, rows: &mut Vec<OurRow>) {
    let (day, slice) = bucket(result.execution);
    let place = |of: &mut Vec<Value>| {
        of.push(date(day));
        of.push(Value::of(CqlValue::TinyInt(slice), 1));
        of.push(uuid(result.execution.0));
        of.push(uuid(result.segment));
    };
    let failure = result.failure.as_ref();
    let status = if failure.is_none() {
        "succeeded"
    } else {
        "failed"
    };
    let started: Vec<String> = result
        .started
        .iter()
        .map(|segment| ExecutionId(*segment).to_string())
        .collect();

    let mut row = vec![text(&result.tenant)];
    place(&mut row);
    row.extend([
        text(&result.graph),
        text(hex::encode(result.version)),
        text(&result.trigger),
        text(&result.trigger_id),
        text(status),
        optional(failure.and_then(|f| f.step.as_deref()), text),
        optional(failure.map(|f| f.kind.as_str()), text),
        optional(failure.map(|f| f.reason.as_str()), text),
        optional(failure.map(|f| f.attempt), int),
        text(list(&started)),
        text(logs(&result.logs)),
        big(result.logs_dropped.into()),
        optional(result.origin.as_deref(), text),
        big(i64::try_from(result.time_us).unwrap_or(i64::MAX)),
        big(from.record.timestamp_ms),
    ]);
    let partition = (&result.tenant, day, slice);
    rows.push(OurRow::new(Table::Executions, partition, row, time_us));

    let mut row = vec![text(&result.tenant), text(&result.graph)];
    place(&mut row);
    row.push(text(status));
    let partition = (&result.tenant, &result.graph, day, slice);
    rows.push(OurRow::new(
        Table::ExecutionsByGraph,
        partition,
        row,
        time_us,
    ));

    for output in &result.outputs {
        let mut row = vec![text(&result.tenant)];
        place(&mut row);
        row.push(int(output.number));
        row.push(text(&result.graph));
        row.extend(content(output));
        let partition = (&result.tenant, day, slice);
        rows.push(OurRow::new(Table::Outputs, partition, row, time_us));
    }
}

/// From `step` on.
fn content(output: &Output) -> [Value; 9] {
    // the last column tells a reference from an output that looks like one
    let (data, bytes, sha256) = match &output.data {
        Payload::Inline(data) => match std::str::from_utf8(data) {
            Ok(readable) => (text(readable), Value::UNSET, Value::UNSET),
            Err(_) => (Value::UNSET, blob(data), Value::UNSET),
        },
        Payload::Reference { sha256, bytes } => {
            let sha256 = hex::encode(sha256);
            let reference = json!({ "sha256": sha256, "bytes": bytes });
            (text(reference.to_string()), Value::UNSET, text(sha256))
        }
    };
    [
        text(&output.step),
        text(&output.port),
        text(list(&output.sinks)),
        optional(output.key.as_deref(), blob),
        text(&output.content_type),
        text(headers(&output.headers)),
        data,
        bytes,
        sha256,
    ]
}

fn unreadable(reason: &str, from: &Fetched, time_us: i64, rows: &mut Vec<OurRow>) {
    let letter = crate::rows::unreadable(reason, from);
    let content = Content {
        key: from.record.key.as_deref(),
        value: from.record.value.as_deref(),
        headers: headers(&from.record.headers),
    };
    dead_letter(&letter_id(from), &letter, content, from, time_us, rows);
}

/// An event that its table does not take.
pub(super) fn refused(
    write: &Write,
    reason: &str,
    from: &Fetched,
    time_us: i64,
    rows: &mut Vec<OurRow>,
) {
    let letter = crate::rows::refused(write, reason, from);
    let content = Content {
        key: from.record.key.as_deref(),
        value: Some(&write.data),
        headers: headers(&refused_headers(write)),
    };
    dead_letter(
        &refused_id(write, from),
        &letter,
        content,
        from,
        time_us,
        rows,
    );
}

struct Content<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: String,
}

fn dead_letter(
    id: &str,
    letter: &DeadLetter,
    content: Content<'_>,
    from: &Fetched,
    time_us: i64,
    rows: &mut Vec<OurRow>,
) {
    let reason: String = letter.reason.chars().take(REASON_CHARS_MAX).collect();
    let row = vec![
        text(id),
        text(&letter.tenant),
        optional(letter.graph.as_deref(), text),
        optional(letter.version.as_deref(), text),
        optional(letter.execution.map(|id| id.to_string()), text),
        optional(letter.step.as_deref(), text),
        text(letter.kind.as_str()),
        text(reason),
        int(letter.attempt),
        text(&letter.topic),
        int(letter.partition),
        big(letter.offset),
        optional(content.key, blob),
        optional(content.value, blob),
        text(content.headers),
        big(from.record.timestamp_ms),
    ];
    rows.push(OurRow::new(Table::DeadLetters, id, row, time_us));
    let day = day(from.record.timestamp_ms);
    let row = vec![
        text(&letter.tenant),
        date(day),
        big(from.record.timestamp_ms),
        text(id),
        optional(letter.graph.as_deref(), text),
        text(letter.kind.as_str()),
    ];
    let partition = (&letter.tenant, day);
    rows.push(OurRow::new(
        Table::DeadLettersByDay,
        partition,
        row,
        time_us,
    ));
}
