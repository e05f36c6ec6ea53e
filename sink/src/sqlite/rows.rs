//! A batch as the three statements take it: one JSON list of rows each, and one blob for keys and data, so that a
//! thousand rows are one statement. Pure.

use bytes::Bytes;
use schemas::records::{DeadLetter, LogLine, Output, Payload, SegmentResult};
use serde::Serialize;
use serde_json::json;
use topics::Fetched;

use crate::batch::{Batch, Landing, Row};

/// A JSON list that grows row by row.
#[derive(Default)]
pub(super) struct List(Vec<u8>);

impl List {
    /// Starts a row; `column` by `column` it fills in the order of the table.
    fn row(&mut self) -> &mut Self {
        match self.0.last_mut() {
            None => self.0.extend_from_slice(b"[["),
            Some(end) => {
                *end = b','; // the `]` that closed the list so far
                self.0.push(b'[');
            }
        }
        self.0.extend_from_slice(b"]]");
        self
    }

    fn column(&mut self, value: impl Serialize) -> &mut Self {
        let end = self.0.len() - 2;
        let first = self.0[end - 1] == b'[';
        self.0.truncate(end);
        if !first {
            self.0.push(b',');
        }
        serde_json::to_writer(&mut self.0, &value)
            .expect("columns are strings, numbers and null, which are always JSON");
        self.0.extend_from_slice(b"]]");
        self
    }

    /// `None`: no rows.
    pub(super) fn text(&self) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        Some(std::str::from_utf8(&self.0).expect("serde_json writes UTF-8"))
    }
}

#[derive(Default)]
pub(super) struct Rows {
    pub(super) executions: List,
    pub(super) outputs: List,
    pub(super) outputs_data: Vec<u8>,
    pub(super) dead_letters: List,
    pub(super) dead_letters_data: Vec<u8>,
}

impl Rows {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut rows = Self::default();
        for Landing { row, from } in &batch.landings {
            match row {
                Row::Result(result) => rows.result(result, from),
                Row::DeadLetter(letter) => rows.dead_letter(letter, from),
                Row::Unreadable(reason) => rows.unreadable(reason, from),
            }
        }
        rows
    }

    fn result(&mut self, result: &SegmentResult, from: &Fetched) {
        let execution = result.execution.to_string();
        let segment = schemas::ExecutionId(result.segment).to_string();
        let failure = result.failure.as_ref();
        let started: Vec<String> = result
            .started
            .iter()
            .map(|s| schemas::ExecutionId(*s).to_string())
            .collect();
        self.executions
            .row()
            .column(&execution)
            .column(&segment)
            .column(&result.tenant)
            .column(&result.graph)
            .column(hex(&result.version))
            .column(&result.trigger)
            .column(&result.trigger_id)
            .column(if failure.is_none() {
                "succeeded"
            } else {
                "failed"
            })
            .column(failure.and_then(|f| f.step.as_deref()))
            .column(failure.map(|f| f.kind.as_str()))
            .column(failure.map(|f| &f.reason))
            .column(failure.map(|f| f.attempt))
            .column(if started.is_empty() {
                "[]".to_owned()
            } else {
                json!(started).to_string()
            })
            .column(logs(&result.logs))
            .column(result.logs_dropped)
            .column(&result.origin)
            .column(result.time_us)
            .column(from.record.timestamp_ms);
        for output in &result.outputs {
            self.output(&execution, &segment, result, output);
        }
    }

    fn output(&mut self, execution: &str, segment: &str, result: &SegmentResult, output: &Output) {
        let key = place(&mut self.outputs_data, output.key.as_ref());
        let reference;
        let (data, text): (&[u8], bool) = match &output.data {
            Payload::Inline(data) => (data, std::str::from_utf8(data).is_ok()),
            Payload::Reference { sha256, bytes } => {
                reference = json!({ "sha256": hex(sha256), "bytes": bytes }).to_string();
                (reference.as_bytes(), true)
            }
        };
        let start = self.outputs_data.len() + 1;
        self.outputs_data.extend_from_slice(data);
        self.outputs
            .row()
            .column(execution)
            .column(segment)
            .column(output.number)
            .column(&result.tenant)
            .column(&result.graph)
            .column(&output.step)
            .column(&output.port)
            .column(if output.sinks.is_empty() {
                "[]".to_owned()
            } else {
                json!(output.sinks).to_string()
            })
            .column(key.map(|k| k.0))
            .column(key.map(|k| k.1))
            .column(&output.content_type)
            .column(headers(&output.headers))
            .column(start)
            .column(data.len())
            .column(text);
    }

    fn dead_letter(&mut self, letter: &DeadLetter, from: &Fetched) {
        let original = DeadLetter::original_headers(&from.record.headers);
        self.letter(letter, &headers(&original), from);
    }

    /// A record that nobody can read is a dead letter of this sink.
    fn unreadable(&mut self, reason: &str, from: &Fetched) {
        let letter = DeadLetter {
            tenant: "default".into(),
            topic: from.partition.topic.to_string(),
            partition: from.partition.number,
            offset: from.offset,
            kind: schemas::records::FailureKind::Record,
            reason: reason.to_owned(),
            attempt: 1,
            graph: None,
            version: None,
            execution: None,
            step: None,
        };
        self.letter(&letter, &headers(&from.record.headers), from);
    }

    fn letter(&mut self, letter: &DeadLetter, headers: &str, from: &Fetched) {
        let id = match &*from.partition.topic {
            topics::catalog::DEAD_LETTERS => format!("{}-{}", from.partition.number, from.offset),
            other => format!("{other}-{}-{}", from.partition.number, from.offset),
        };
        let key = place(&mut self.dead_letters_data, from.record.key.as_ref());
        let value = place(&mut self.dead_letters_data, from.record.value.as_ref());
        self.dead_letters
            .row()
            .column(id)
            .column(&letter.tenant)
            .column(&letter.graph)
            .column(&letter.version)
            .column(letter.execution.map(|id| id.to_string()))
            .column(&letter.step)
            .column(letter.kind.as_str())
            .column(&letter.reason)
            .column(letter.attempt)
            .column(&letter.topic)
            .column(letter.partition)
            .column(letter.offset)
            .column(key.map(|k| k.0))
            .column(key.map(|k| k.1))
            .column(value.map(|v| v.0))
            .column(value.map(|v| v.1))
            .column(headers)
            .column(from.record.timestamp_ms);
    }
}

/// Appends the bytes; where they start (from 1, as SQL counts) and how many they are.
fn place(data: &mut Vec<u8>, bytes: Option<&Bytes>) -> Option<(usize, usize)> {
    let bytes = bytes?;
    let start = data.len() + 1;
    data.extend_from_slice(bytes);
    Some((start, bytes.len()))
}

fn logs(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return "[]".to_owned();
    }
    let lines: Vec<_> = lines
        .iter()
        .map(|l| json!({ "step": l.step, "level": l.level, "message": l.message }))
        .collect();
    json!(lines).to_string()
}

fn headers(headers: &[(String, Bytes)]) -> String {
    if headers.is_empty() {
        return "[]".to_owned();
    }
    let list: Vec<_> = headers
        .iter()
        .map(|(name, value)| match std::str::from_utf8(value) {
            Ok(text) => json!([name, text]),
            Err(_) => json!([name, { "base16": hex(value) }]),
        })
        .collect();
    json!(list).to_string()
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}
