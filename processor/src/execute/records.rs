//! The records that a segment becomes.

use bytes::Bytes;
use schemas::graph::OnError;
use schemas::records::{DeadLetter, Detour, Failure, FailureKind, Hop, SegmentResult};
use topics::{Fetched, Outgoing, Record, Topic};

use super::subject::{Resumed, Subject};
use super::{Executor, Given};
use crate::definitions::Loaded;
use crate::run::{Finished, Started, Suspended};

impl Executor {
    /// The records of a settled segment: its hops, what topic sinks take, a dead letter if it failed, its result.
    pub(super) fn written(
        &self,
        given: Given<'_>,
        subject: &Subject,
        loaded: Option<&Loaded>,
        done: Finished,
    ) -> Vec<Outgoing> {
        let refuse =
            |kind: FailureKind, reason: String| self.refused(given, subject, loaded, kind, reason);
        let Given { from, now_ms, .. } = given;
        let result = SegmentResult {
            tenant: subject.tenant.clone(),
            graph: subject.graph.clone(),
            version: loaded.map_or([0; 32], |l| l.version),
            trigger: subject.trigger.clone(),
            trigger_id: subject.trigger_id.clone(),
            execution: subject.execution,
            time_us: subject.time_us,
            segment: subject.segment,
            origin: subject.origin.clone(),
            failure: done.failure,
            outputs: done.outputs,
            started: done.started.iter().map(|s| s.segment).collect(),
            logs: done.logs,
            logs_dropped: done.logs_dropped,
        };
        let value = result.encode();
        if result.failure.is_none() && value.len() > self.config.result_bytes_max {
            let reason = format!(
                "the outputs of this segment come to {} bytes, more than the {} that a result can carry; {}",
                value.len(),
                self.config.result_bytes_max,
                self.way_out()
            );
            return refuse(FailureKind::OutputTooLarge, reason);
        }
        let mut out = Vec::with_capacity(
            1 + done.started.len()
                + done.topic_outputs.len()
                + usize::from(result.failure.is_some()),
        );
        for started in done.started {
            let hop = self.hop_record(given, subject, loaded, started);
            let bytes = size(&hop.record);
            if bytes > self.config.result_bytes_max {
                let reason = format!(
                    "a hop comes to {bytes} bytes, more than the {} that one can carry; {}",
                    self.config.result_bytes_max,
                    self.way_out()
                );
                return refuse(FailureKind::OutputTooLarge, reason);
            }
            out.push(hop);
        }
        for (sink, event) in done.topic_outputs {
            match self.topic_record(given, subject, loaded, sink, event) {
                Ok(record) => out.push(record),
                Err((kind, reason)) => return refuse(kind, reason),
            }
        }
        let discards = loaded.is_some_and(|l| l.graph.on_error == OnError::Discard);
        if let Some(failure) = result.failure.as_ref().filter(|_| !discards) {
            out.push(self.dead_letter(from, Some(subject), loaded, failure, now_ms));
        }
        out.push(Outgoing {
            topic: self.results.clone(),
            partition: None,
            record: Record {
                key: from.record.key.clone(),
                value: Some(value),
                headers: traces(from),
                timestamp_ms: now_ms,
            },
        });
        out
    }

    fn hop_record(
        &self,
        given: Given<'_>,
        subject: &Subject,
        loaded: Option<&Loaded>,
        started: Started,
    ) -> Outgoing {
        let hop = Hop {
            tenant: subject.tenant.clone(),
            graph: subject.graph.clone(),
            version: loaded.map_or([0; 32], |l| l.version),
            trigger: subject.trigger.clone(),
            trigger_id: subject.trigger_id.clone(),
            execution: subject.execution,
            time_us: subject.time_us,
            segment: started.segment,
            step: loaded.map_or_else(String::new, |l| l.graph.steps[started.step].name.clone()),
            attempt: 1,
            events: started.events,
        };
        let key = started
            .key
            .unwrap_or_else(|| Bytes::copy_from_slice(&subject.execution.0));
        Outgoing {
            topic: self.hops.clone(),
            partition: None,
            record: Record {
                key: Some(key),
                value: Some(hop.encode()),
                headers: traces(given.from),
                timestamp_ms: given.now_ms,
            },
        }
    }

    /// A failed result and a dead letter for a record that came to nothing else: its graph cannot run it, or what it
    /// became cannot be written.
    pub(super) fn refused(
        &self,
        given: Given<'_>,
        subject: &Subject,
        loaded: Option<&Loaded>,
        kind: FailureKind,
        reason: String,
    ) -> Vec<Outgoing> {
        let failure = Failure {
            step: None,
            kind,
            reason,
            attempt: subject.attempt,
        };
        let done = Finished {
            failure: Some(failure),
            ..Finished::default()
        };
        self.written(given, subject, loaded, done)
    }

    /// A dead letter for bytes that are no record of ours: there is no execution to report on.
    pub(super) fn unreadable(
        &self,
        from: &Fetched,
        subject: Option<&Subject>,
        reason: String,
        now_ms: i64,
    ) -> Outgoing {
        let failure = Failure {
            step: None,
            kind: FailureKind::Record,
            reason,
            attempt: 1,
        };
        self.dead_letter(from, subject, None, &failure, now_ms)
    }

    fn dead_letter(
        &self,
        from: &Fetched,
        subject: Option<&Subject>,
        loaded: Option<&Loaded>,
        failure: &Failure,
        now_ms: i64,
    ) -> Outgoing {
        let letter = DeadLetter {
            tenant: subject.map_or_else(|| "default".to_owned(), |s| s.tenant.clone()),
            topic: from.partition.topic.to_string(),
            partition: from.partition.number,
            offset: from.offset,
            kind: failure.kind,
            reason: failure.reason.clone(),
            attempt: failure.attempt,
            graph: subject.map(|s| s.graph.clone()),
            version: loaded.map(|l| l.version_hex.clone()),
            execution: subject.map(|s| s.execution),
            step: failure.step.clone(),
        };
        let mut headers = from.record.headers.clone();
        headers.extend(letter.headers());
        Outgoing {
            topic: self.dead_letters.clone(),
            partition: None,
            record: Record {
                key: from.record.key.clone(),
                value: from.record.value.clone(),
                headers,
                timestamp_ms: now_ms,
            },
        }
    }

    /// The record, on its way to wait until its graph is resumed. Its partition follows from where it came from, so that
    /// whoever owns that finds what waits.
    pub(super) fn park(&self, given: Given<'_>, subject: &Subject, resumed: &Resumed) -> Outgoing {
        let version = resumed.version.map(hex::encode);
        let detour = self.detour(given, subject, version, resumed.attempts.clone());
        let number = given.read.number % self.config.parked_partitions.max(1);
        waiting(given, self.parked.clone(), Some(number), &detour)
    }

    /// The record, on its way to wait for its next try.
    pub(super) fn suspend(
        &self,
        given: Given<'_>,
        subject: &Subject,
        loaded: &Loaded,
        suspended: Suspended,
    ) -> Outgoing {
        let version = Some(loaded.version_hex.clone());
        let detour = self.detour(given, subject, version, suspended.attempts);
        waiting(given, suspended.topic.into(), None, &detour)
    }

    fn detour(
        &self,
        given: Given<'_>,
        subject: &Subject,
        version: Option<String>,
        attempts: Vec<schemas::records::Attempt>,
    ) -> Detour {
        let from = &given.from.partition;
        let topic_id = match given.detour {
            Some(before) => before.topic_id.clone(),
            None => self.notes.id(&from.topic).to_string(),
        };
        Detour {
            topic: from.topic.to_string(),
            partition: from.number,
            offset: given.from.offset,
            topic_id,
            timestamp_ms: given.from.record.timestamp_ms,
            via: (given.read != from).then(|| (given.read.topic.to_string(), given.read.number)),
            tenant: subject.tenant.clone(),
            graph: subject.graph.clone(),
            trigger: subject.trigger.clone(),
            version,
            attempts,
        }
    }
}

fn waiting(given: Given<'_>, topic: Topic, partition: Option<u32>, detour: &Detour) -> Outgoing {
    let original = &given.from.record;
    let mut headers = original.headers.clone();
    headers.push(detour.header());
    Outgoing {
        topic,
        partition,
        record: Record {
            key: original.key.clone(),
            value: original.value.clone(),
            headers,
            timestamp_ms: given.now_ms,
        },
    }
}

/// Bytes of key, value and headers.
pub(super) fn size(record: &Record) -> usize {
    let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    bytes(&record.key)
        + bytes(&record.value)
        + headers
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
}

/// The W3C trace headers travel on.
pub(super) fn traces(from: &Fetched) -> Vec<(String, Bytes)> {
    from.record
        .headers
        .iter()
        .filter(|(name, _)| is_trace(name))
        .cloned()
        .collect()
}

pub(super) fn is_trace(name: &str) -> bool {
    name == "traceparent" || name == "tracestate"
}
