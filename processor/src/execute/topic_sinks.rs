//! What topic sinks take: records of users' topics, in the lane's own transaction.

use bytes::Bytes;
use schemas::Event;
use schemas::graph::{Scope, SinkKind};
use schemas::records::FailureKind;
use topics::{Outgoing, Record, Topic};

use super::records::{is_trace, size, traces};
use super::subject::Subject;
use super::{Executor, Given};
use crate::definitions::{Loaded, Schema};

/// Says which execution a record of a topic sink belongs to.
const EXECUTION: &str = "weir-execution";
/// The largest record that a topic is sure to take: Kafka's default is 1 MiB for a batch, and `apply` asks for no less.
const RECORD_BYTES_MAX: usize = 1_000_000;

impl Executor {
    /// The record that a topic sink is written, or why the segment fails instead.
    pub(super) fn topic_record(
        &self,
        given: Given<'_>,
        subject: &Subject,
        loaded: Option<&Loaded>,
        sink: usize,
        event: Event,
    ) -> Result<Outgoing, (FailureKind, String)> {
        let schema = loaded.and_then(|l| l.schemas.iter().find(|(of, _)| *of == sink));
        let schema = schema.map(|(_, schema)| schema);
        let sink = loaded.and_then(|loaded| loaded.graph.sinks.get(sink));
        let Some((
            sink,
            SinkKind::Topic {
                name, key, format, ..
            },
        )) = sink.map(|sink| (sink, &sink.kind))
        else {
            let reason = "an output for a sink that the graph does not have".to_owned();
            return Err((FailureKind::Protocol, reason));
        };
        let failed =
            |kind: FailureKind, what: String| (kind, format!("sink \"{}\": {what}", sink.name));
        if let Some(why) = self.notes.barred(name) {
            return Err(failed(FailureKind::Sink, why));
        }
        let key = match key {
            None => event.key.clone(),
            Some(key) => key
                .eval_key(&Scope::new(&event, &sink.name))
                .map_err(|e| failed(FailureKind::Expression, format!("`key`: {e}")))?,
        };
        let value = value(format, schema, &event.data).map_err(|e| failed(FailureKind::Sink, e))?;
        let mut headers: Vec<(String, Bytes)> = event
            .headers
            .into_iter()
            .filter(|(name, _)| name != EXECUTION && !is_trace(name))
            .collect();
        headers.extend(traces(given.from));
        headers.push((
            EXECUTION.to_owned(),
            Bytes::from(subject.execution.to_string()),
        ));
        let record = Record {
            key,
            value: Some(value),
            headers,
            timestamp_ms: given.now_ms,
        };
        let bytes = size(&record);
        if bytes > RECORD_BYTES_MAX {
            let what = format!(
                "a record for topic \"{name}\" comes to {bytes} bytes, more than the {RECORD_BYTES_MAX} that one may have; emit less, or keep large data elsewhere and emit a reference"
            );
            return Err(failed(FailureKind::OutputTooLarge, what));
        }
        Ok(Outgoing {
            topic: Topic::from(&**name),
            partition: None,
            record,
        })
    }
}

fn value(format: &str, schema: Option<&Schema>, data: &Bytes) -> Result<Bytes, String> {
    match format {
        "avro" => {
            let Some(Schema { id, avro }) = schema else {
                return Err(
                    "its schema was not noted when the graph was applied; apply it again".into(),
                );
            };
            // Confluent's wire format
            let mut body = Vec::with_capacity(5 + data.len());
            body.push(0);
            body.extend_from_slice(&id.to_be_bytes());
            match avro.from_json(data, &mut body) {
                Ok(()) => Ok(Bytes::from(body)),
                Err(e) => Err(format!("the output is not what its schema says: {e}")),
            }
        }
        "json" => match serde_json::from_slice::<&serde_json::value::RawValue>(data) {
            Ok(_) => Ok(data.clone()),
            Err(e) => Err(format!(
                "the output is not JSON: {e}; emit JSON, or write the topic with format: raw"
            )),
        },
        _ => Ok(data.clone()),
    }
}
