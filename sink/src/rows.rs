//! A batch as rows of the history's tables. Pure.

use schemas::ExecutionId;
use schemas::records::{DeadLetter, FailureKind, LogLine, Output, Payload, SegmentResult};
use serde_json::json;
use topics::Fetched;

use crate::batch::{Batch, Landing, Row};
use crate::writes::Write;

/// One column's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

fn optional(value: Option<impl Into<Value>>) -> Value {
    value.map_or(Value::Null, Into::into)
}

fn blob(bytes: Option<&bytes::Bytes>) -> Value {
    bytes.map_or(Value::Null, |bytes| Value::Blob(bytes.to_vec()))
}

/// Text where it is UTF-8, so that people can read it; else the bytes. Empty is not null.
fn readable(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| Value::Blob(bytes.to_vec()), Value::from)
}

/// Rows of three tables; each table's values one after the other, in the order of its columns in schema.sql.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) executions: Vec<Value>,
    pub(crate) outputs: Vec<Value>,
    pub(crate) dead_letters: Vec<Value>,
    /// Dead letters to purge, and when that was asked for.
    pub(crate) purges: Vec<(String, i64)>,
}

pub(crate) const EXECUTION_COLUMNS: usize = 18;
pub(crate) const OUTPUT_COLUMNS: usize = 13;
pub(crate) const DEAD_LETTER_COLUMNS: usize = 17;

impl Rows {
    pub(crate) fn of(batch: &Batch) -> Self {
        Self::of_landings(&batch.landings, true)
    }

    /// `history`: also those of the history's tables; without it, only what nobody can read, which is this sink's own.
    pub(crate) fn of_landings<'l>(
        landings: impl IntoIterator<Item = &'l Landing>,
        history: bool,
    ) -> Self {
        let mut rows = Self::default();
        for Landing { row, from, .. } in landings {
            match row {
                Row::Unreadable(reason) => rows.unreadable(reason, from),
                _ if !history => {}
                Row::Result(result) => rows.result(result, from),
                Row::DeadLetter(letter) => rows.dead_letter(letter, from),
                Row::Purge(letter) => {
                    let purge = (letter.clone(), from.record.timestamp_ms);
                    rows.purges.push(purge);
                }
            }
        }
        rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        let all = [&self.executions, &self.outputs, &self.dead_letters];
        all.iter().all(|table| table.is_empty()) && self.purges.is_empty()
    }

    fn result(&mut self, result: &SegmentResult, from: &Fetched) {
        let execution = result.execution.to_string();
        let segment = ExecutionId(result.segment).to_string();
        let failure = result.failure.as_ref();
        let started: Vec<String> = result
            .started
            .iter()
            .map(|s| ExecutionId(*s).to_string())
            .collect();
        let row: [Value; EXECUTION_COLUMNS] = [
            execution.as_str().into(),
            segment.as_str().into(),
            result.tenant.as_str().into(),
            result.graph.as_str().into(),
            hex::encode(result.version).into(),
            result.trigger.as_str().into(),
            result.trigger_id.as_str().into(),
            if failure.is_none() {
                "succeeded"
            } else {
                "failed"
            }
            .into(),
            optional(failure.and_then(|f| f.step.as_deref())),
            optional(failure.map(|f| f.kind.as_str())),
            optional(failure.map(|f| f.reason.as_str())),
            optional(failure.map(|f| f.attempt)),
            list(&started).into(),
            logs(&result.logs).into(),
            result.logs_dropped.into(),
            optional(result.origin.as_deref()),
            (result.time_us as i64).into(),
            from.record.timestamp_ms.into(),
        ];
        self.executions.extend(row);
        for output in &result.outputs {
            self.output(&execution, &segment, result, output);
        }
    }

    fn output(&mut self, execution: &str, segment: &str, result: &SegmentResult, output: &Output) {
        // the column tells a reference from an output that looks like one
        let (data, sha256) = match &output.data {
            Payload::Inline(data) => (readable(data), Value::Null),
            Payload::Reference { sha256, bytes } => {
                let sha256 = hex::encode(sha256);
                let data = json!({ "sha256": sha256, "bytes": bytes }).to_string();
                (data.into(), sha256.into())
            }
        };
        let row: [Value; OUTPUT_COLUMNS] = [
            execution.into(),
            segment.into(),
            output.number.into(),
            result.tenant.as_str().into(),
            result.graph.as_str().into(),
            output.step.as_str().into(),
            output.port.as_str().into(),
            list(&output.sinks).into(),
            blob(output.key.as_ref()),
            output.content_type.as_str().into(),
            headers(&output.headers).into(),
            data,
            sha256,
        ];
        self.outputs.extend(row);
    }

    /// A row of a user's own table that the destination refuses: it is a dead letter of this sink.
    pub(crate) fn refused(&mut self, write: &Write, reason: &str, from: &Fetched) {
        let letter = refused(write, reason, from);
        let original = refused_headers(write);
        let value = Value::Blob(write.data.to_vec());
        self.letter(refused_id(write, from), &letter, value, &original, from);
    }

    fn dead_letter(&mut self, letter: &DeadLetter, from: &Fetched) {
        let original = DeadLetter::original_headers(&from.record.headers);
        let value = blob(from.record.value.as_ref());
        self.letter(letter_id(from), letter, value, &original, from);
    }

    fn unreadable(&mut self, reason: &str, from: &Fetched) {
        let letter = unreadable(reason, from);
        let value = blob(from.record.value.as_ref());
        self.letter(letter_id(from), &letter, value, &from.record.headers, from);
    }

    fn letter(
        &mut self,
        id: String,
        letter: &DeadLetter,
        value: Value,
        original: &[(String, bytes::Bytes)],
        from: &Fetched,
    ) {
        let row: [Value; DEAD_LETTER_COLUMNS] = [
            id.into(),
            letter.tenant.as_str().into(),
            optional(letter.graph.as_deref()),
            optional(letter.version.as_deref()),
            optional(letter.execution.map(|id| id.to_string())),
            optional(letter.step.as_deref()),
            letter.kind.as_str().into(),
            letter.reason.as_str().into(),
            letter.attempt.into(),
            letter.topic.as_str().into(),
            letter.partition.into(),
            letter.offset.into(),
            blob(from.record.key.as_ref()),
            value,
            headers(original).into(),
            from.record.timestamp_ms.into(),
            Value::Null,
        ];
        self.dead_letters.extend(row);
    }
}

/// The id of the dead letter that a record is.
pub(crate) fn letter_id(from: &Fetched) -> String {
    let Fetched {
        partition, offset, ..
    } = from;
    match &*partition.topic {
        topics::catalog::DEAD_LETTERS => format!("{}-{offset}", partition.number),
        other => format!("{other}-{}-{offset}", partition.number),
    }
}

/// The id of the dead letter that a refused row is: that of its place, so that landing it again gives the same row.
pub(crate) fn refused_id(write: &Write, from: &Fetched) -> String {
    let (topic, partition) = (&from.partition.topic, from.partition.number);
    let Fetched { offset, .. } = from;
    format!(
        "{topic}-{partition}-{offset}-{}-{}",
        write.output().number,
        write.sink()
    )
}

/// Whose a record is that nobody can read.
pub(crate) const UNREADABLE: &str = "default";

/// A record that nobody can read is a dead letter of this sink.
pub(crate) fn unreadable(reason: &str, from: &Fetched) -> DeadLetter {
    DeadLetter {
        tenant: UNREADABLE.into(),
        topic: from.partition.topic.to_string(),
        partition: from.partition.number,
        offset: from.offset,
        kind: FailureKind::Record,
        reason: reason.to_owned(),
        attempt: 1,
        graph: None,
        version: None,
        execution: None,
        step: None,
    }
}

/// An event that its table does not take is a dead letter of this sink.
pub(crate) fn refused(write: &Write, reason: &str, from: &Fetched) -> DeadLetter {
    let result = &write.result;
    DeadLetter {
        tenant: result.tenant.clone(),
        kind: FailureKind::Sink,
        graph: Some(result.graph.clone()),
        version: Some(hex::encode(result.version)),
        execution: Some(result.execution),
        step: Some(write.output().step.clone()),
        ..unreadable(reason, from)
    }
}

/// What stands for the headers of a refused event.
pub(crate) fn refused_headers(write: &Write) -> [(String, bytes::Bytes); 1] {
    let content_type = write.output().content_type.clone();
    [("content-type".to_owned(), content_type.into())]
}

/// Most lists are empty.
pub(crate) fn list(items: &[String]) -> String {
    if items.is_empty() {
        "[]".to_owned()
    } else {
        json!(items).to_string()
    }
}

pub(crate) fn logs(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return "[]".to_owned();
    }
    let lines: Vec<_> = lines
        .iter()
        .map(|l| json!({ "step": l.step, "level": l.level, "message": l.message }))
        .collect();
    json!(lines).to_string()
}

pub(crate) fn headers(headers: &[(String, bytes::Bytes)]) -> String {
    if headers.is_empty() {
        return "[]".to_owned();
    }
    let list: Vec<_> = headers
        .iter()
        .map(|(name, value)| match std::str::from_utf8(value) {
            Ok(text) => json!([name, text]),
            Err(_) => json!([name, { "base16": hex::encode(value) }]),
        })
        .collect();
    json!(list).to_string()
}
