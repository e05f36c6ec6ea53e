//! Which record a dead letter becomes when it is redriven or purged. Pure.
//!
//! A redrive is a new execution: its id is derived as every execution's, from a trigger id that names the redrive and the
//! letter. So the same letter in the same redrive is the same execution everywhere, and in another redrive another one.

use bytes::Bytes;
use schemas::ExecutionId;
use schemas::graph::TriggerKind;
use schemas::records::{Hop, Payload, Trigger, headers};
use serde_json::Value;
use topics::{Outgoing, Record, catalog};

use super::graphs::{Active, Graphs};
use crate::history::{DeadLetter, Original};
use crate::router::TENANT;

/// What the log takes in one record, with room for what it adds.
const RECORD_BYTES_MAX: usize = (1 << 20) - (1 << 10);
/// Of a user topic's record nothing is known but its bytes.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Which version of its graph a letter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// What its record says: a trigger runs the active one, a hop the one that it began with.
    Recorded,
    Active,
    /// The one that it died in.
    Original,
}

/// A redrive as it has been accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redriving<'a> {
    pub(super) id: &'a str,
    pub(super) version: Version,
    pub(super) at_ms: i64,
}

/// The record to write, or why there is none and what can be done.
pub(super) fn redrive(
    letter: &DeadLetter,
    original: &Original,
    graphs: &Graphs,
    redriving: Redriving<'_>,
) -> Result<Outgoing, String> {
    if letter.purged_at_ms.is_some() {
        return Err("it was purged: its bytes are gone".to_owned());
    }
    let headers = original_headers(original)?;
    let value = original.value.clone().map(Bytes::from);
    let value = value.unwrap_or_default();
    let unreadable = || {
        format!(
            "it is no record that can be read ({}), so nothing can be run again; write what it should have been, and purge it",
            letter.reason
        )
    };
    let planning = Planning {
        letter,
        graphs,
        redriving,
    };
    let outgoing = match &*letter.topic {
        catalog::TRIGGERS => {
            let trigger = Trigger::decode(&value).map_err(|_| unreadable())?;
            planning.trigger(trigger, original, headers)?
        }
        catalog::HOPS => {
            let hop = Hop::decode(&value).map_err(|_| unreadable())?;
            planning.hop(hop, original, headers)?
        }
        topic if catalog::topics().iter().any(|own| *own.name == *topic) => {
            return Err(unreadable());
        }
        _ => planning.of_user_topic(original, headers)?,
    };
    let bytes = size(&outgoing.record);
    if bytes > RECORD_BYTES_MAX {
        return Err(format!(
            "with what a redrive adds it comes to {bytes} bytes, more than the {RECORD_BYTES_MAX} that a record may have"
        ));
    }
    Ok(outgoing)
}

/// The record that tells the sink to drop the letter's bytes. In the letter's own partition, so that it comes after it.
pub(super) fn purge(letter: &DeadLetter, at_ms: i64) -> Result<Outgoing, String> {
    if letter.purged_at_ms.is_some() {
        return Err("it was purged before".to_owned());
    }
    let record = Record {
        key: Some(Bytes::from(letter.id.clone())),
        value: None,
        headers: vec![(headers::PURGE.to_owned(), Bytes::from(letter.id.clone()))],
        timestamp_ms: at_ms,
    };
    Ok(Outgoing {
        topic: catalog::DEAD_LETTERS.into(),
        partition: place(&letter.id).map(|(partition, _)| partition),
        record,
    })
}

/// The version that the letter's record or the letter itself names.
pub(super) fn version_of(letter: &DeadLetter, original: &Original) -> Option<String> {
    if letter.topic == catalog::HOPS {
        let value = Bytes::from(original.value.clone()?);
        return Hop::decode(&value).ok().map(|hop| hex::encode(hop.version));
    }
    letter.version.clone()
}

/// Partition and offset on the topic of dead letters; `None`: a letter of the sink's own.
pub(super) fn place(id: &str) -> Option<(u32, i64)> {
    let (partition, offset) = id.split_once('-')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// The headers of the original, as the sink has written them.
pub(super) fn original_headers(original: &Original) -> Result<Vec<(String, Bytes)>, String> {
    let damaged = || "its headers in the history are not as the sink writes them".to_owned();
    let list: Vec<(String, Value)> =
        serde_json::from_str(&original.headers).map_err(|_| damaged())?;
    let value = |value: Value| match &value {
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => hex::decode(other["base16"].as_str()?).ok().map(Bytes::from),
    };
    list.into_iter()
        .map(|(name, said)| Some((name, value(said)?)))
        .collect::<Option<_>>()
        .ok_or_else(damaged)
}

struct Planning<'a> {
    letter: &'a DeadLetter,
    graphs: &'a Graphs,
    redriving: Redriving<'a>,
}

impl Planning<'_> {
    fn trigger(
        &self,
        mut trigger: Trigger,
        original: &Original,
        headers: Vec<(String, Bytes)>,
    ) -> Result<Outgoing, String> {
        let version = self.of_trigger(&trigger.graph, &trigger.trigger)?;
        let before = trigger.execution;
        let (trigger_id, execution) = self.identity(&trigger.graph, &trigger.trigger);
        trigger.trigger_id = trigger_id;
        trigger.execution = execution;
        trigger.time_us = self.time_us();
        trigger.origin = Some(self.letter.id.clone());
        let key = key(original, before, execution, execution.to_string().into());
        let headers = self.headers(headers, version);
        Ok(self.outgoing(catalog::TRIGGERS, key, trigger.encode(), headers))
    }

    fn hop(
        &self,
        mut hop: Hop,
        original: &Original,
        headers: Vec<(String, Bytes)>,
    ) -> Result<Outgoing, String> {
        let active = self.active(&hop.graph)?;
        match self.redriving.version {
            Version::Active => {
                let Some(graph) = &active.graph else {
                    return Err(unknown(&hop.graph));
                };
                if !graph.steps.iter().any(|step| step.name == hop.step) {
                    return Err(format!(
                        "the active version of graph \"{}\" has no step \"{}\"; apply one that has it, or redrive with --version original",
                        hop.graph, hop.step
                    ));
                }
                hop.version = active.version;
            }
            Version::Recorded | Version::Original => self.stored(&hex::encode(hop.version))?,
        }
        let before = hop.execution;
        let (trigger_id, execution) = self.identity(&hop.graph, &hop.trigger);
        hop.trigger_id = trigger_id;
        hop.execution = execution;
        // the first segment of the new execution
        hop.segment = execution.0;
        hop.time_us = self.time_us();
        hop.attempt = 1;
        let own = Bytes::copy_from_slice(&execution.0);
        let key = key(original, before, execution, own);
        let headers = self.headers(headers, None);
        Ok(self.outgoing(catalog::HOPS, key, hop.encode(), headers))
    }

    /// A record of a topic that is not Weir's: a trigger of the graph it died in, with its bytes as the data. Which
    /// trigger, the dead letter does not say: it is the graph's one trigger of that topic.
    fn of_user_topic(
        &self,
        original: &Original,
        headers: Vec<(String, Bytes)>,
    ) -> Result<Outgoing, String> {
        let topic = &self.letter.topic;
        let Some(name) = &self.letter.graph else {
            return Err(format!(
                "it came from topic \"{topic}\" and no graph had taken it; write it to that topic again, and purge it"
            ));
        };
        let Some(graph) = &self.active(name)?.graph else {
            return Err(unknown(name));
        };
        let of_topic =
            |kind: &TriggerKind| matches!(kind, TriggerKind::Topic(of) if of.name == *topic);
        let mut triggers = graph.triggers.iter().filter(|t| of_topic(&t.kind));
        let (Some(found), None) = (triggers.next(), triggers.next()) else {
            return Err(format!(
                "graph \"{name}\" has no trigger, or several, for topic \"{topic}\"; write the record to that topic again, and purge it"
            ));
        };
        let version = self.of_trigger(name, &found.name)?;
        let (trigger_id, execution) = self.identity(name, &found.name);
        let trigger = Trigger {
            tenant: TENANT.to_owned(),
            graph: name.clone(),
            trigger: found.name.clone(),
            trigger_id,
            execution,
            time_us: self.time_us(),
            origin: Some(self.letter.id.clone()),
            key: original.key.clone().map(Bytes::from),
            content_type: CONTENT_TYPE.to_owned(),
            headers,
            data: Payload::Inline(original.value.clone().unwrap_or_default().into()),
        };
        let key = key(original, execution, execution, execution.to_string().into());
        let headers = self.headers(Vec::new(), version);
        Ok(self.outgoing(catalog::TRIGGERS, key, trigger.encode(), headers))
    }

    fn active(&self, graph: &str) -> Result<&Active, String> {
        self.graphs.active(graph).ok_or_else(|| {
            format!(
                "graph \"{graph}\" does not exist; apply it and redrive the letter then, or purge it"
            )
        })
    }

    fn stored(&self, version: &str) -> Result<(), String> {
        if self.graphs.has(version) {
            return Ok(());
        }
        Err(format!(
            "version {version}, in which it died, is not in the store; redrive with --version active"
        ))
    }

    /// The version that a trigger's record has to name; `None`: the active one runs it.
    fn of_trigger(&self, graph: &str, trigger: &str) -> Result<Option<String>, String> {
        let active = self.active(graph)?;
        if self.redriving.version == Version::Original {
            let Some(version) = &self.letter.version else {
                return Err(
                    "it does not say which version it died in; redrive with --version active"
                        .to_owned(),
                );
            };
            self.stored(version)?;
            return Ok(Some(version.clone()));
        }
        let there =
            |graph: &schemas::graph::Graph| graph.triggers.iter().any(|t| t.name == trigger);
        if !active.graph.as_ref().is_none_or(there) {
            return Err(format!(
                "the active version of graph \"{graph}\" has no trigger \"{trigger}\"; apply one that has it, or redrive with --version original"
            ));
        }
        Ok(None)
    }

    fn identity(&self, graph: &str, trigger: &str) -> (String, ExecutionId) {
        let trigger_id = format!("redrive:{}:{}", self.redriving.id, self.letter.id);
        let time_ms = self.redriving.at_ms as u64;
        let execution = ExecutionId::derive(time_ms, TENANT, graph, trigger, &trigger_id);
        (trigger_id, execution)
    }

    fn time_us(&self) -> u64 {
        self.redriving.at_ms as u64 * 1_000
    }

    /// The original's headers, and what says that this is a redrive. Of a letter that was redriven before, the first
    /// origin stays.
    fn headers(
        &self,
        mut headers: Vec<(String, Bytes)>,
        version: Option<String>,
    ) -> Vec<(String, Bytes)> {
        let letter = Bytes::from(self.letter.id.clone());
        let named = |(name, _): &&(String, Bytes)| name == headers::FIRST_ORIGIN;
        let first = headers.iter().find(named).map(|(_, first)| first.clone());
        let ours = [
            headers::VERSION,
            headers::REDRIVE,
            headers::ORIGIN,
            headers::FIRST_ORIGIN,
        ];
        headers.retain(|(name, _)| !ours.contains(&&**name));
        let mut put = |name: &str, value: Bytes| headers.push((name.to_owned(), value));
        put(headers::REDRIVE, Bytes::from(self.redriving.id.to_owned()));
        put(headers::ORIGIN, letter.clone());
        put(headers::FIRST_ORIGIN, first.unwrap_or(letter));
        if let Some(version) = version {
            put(headers::VERSION, Bytes::from(version));
        }
        headers
    }

    fn outgoing(
        &self,
        topic: &str,
        key: Bytes,
        value: Bytes,
        headers: Vec<(String, Bytes)>,
    ) -> Outgoing {
        let record = Record {
            key: Some(key),
            value: Some(value),
            headers,
            timestamp_ms: self.redriving.at_ms,
        };
        Outgoing {
            topic: topic.into(),
            partition: None,
            record,
        }
    }
}

/// The original's key, so that the order of its key is kept; where that was the execution's id, the new one's. `own`:
/// where there was none.
fn key(original: &Original, before: ExecutionId, now: ExecutionId, own: Bytes) -> Bytes {
    match original.key.as_deref() {
        None => own,
        Some(key) if *key == before.0 => Bytes::copy_from_slice(&now.0),
        Some(key) if key == before.to_string().as_bytes() => Bytes::from(now.to_string()),
        Some(key) => Bytes::copy_from_slice(key),
    }
}

fn unknown(graph: &str) -> String {
    format!(
        "the active version of graph \"{graph}\" is not one that this program can read; use the program that applied it"
    )
}

fn size(record: &Record) -> usize {
    let headers = record.headers.iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    part(&record.key) + part(&record.value) + headers
}

#[cfg(test)]
mod tests;
