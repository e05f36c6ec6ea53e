//! What a record asks to be run: whose execution it is, and where its segment starts.

use schemas::graph::{Graph, TopicTrigger, TriggerKind};
use schemas::records::{Attempt, Detour, EdgeEvent, Hop, Trigger, headers};
use schemas::{Event, ExecutionId};
use store::Reference;
use topics::Fetched;

/// The content type of an event that is JSON.
pub(crate) const JSON: &str = "application/json";
/// … of bytes as they are.
pub(crate) const BYTES: &str = "application/octet-stream";
/// … of a record without a value, as compacted topics have them; its data is empty.
pub(crate) const TOMBSTONE: &str = "application/vnd.weir.tombstone";

/// A segment's identity: what its trigger or hop says.
pub(crate) struct Subject {
    pub(crate) tenant: String,
    pub(crate) graph: String,
    pub(crate) trigger: String,
    pub(crate) trigger_id: String,
    pub(crate) execution: ExecutionId,
    pub(crate) time_us: u64,
    pub(crate) segment: [u8; 16],
    pub(crate) origin: Option<String>,
    pub(crate) attempt: u32,
}

/// Where a segment starts. Payloads that lie elsewhere are fetched once it is known that it runs.
pub(crate) enum Start {
    /// The event's data is empty where there is a reference.
    Trigger(Event, Option<Reference>),
    Hop {
        version: [u8; 32],
        step: String,
        events: Vec<EdgeEvent>,
    },
}

/// How a segment goes on that was suspended; empty for one that begins.
#[derive(Default)]
pub(crate) struct Resumed {
    /// The version that it runs, where that is not the active one.
    pub(crate) version: Option<[u8; 32]>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Resumed {
    /// A version that is no digest counts as none: nobody but Weir writes it.
    pub(crate) fn of(detour: &Detour) -> Self {
        Self {
            version: detour.version.as_deref().and_then(digest),
            attempts: detour.attempts.clone(),
        }
    }
}

/// 64 hex digits.
pub(crate) fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut version = [0; 32];
    hex::decode_to_slice(hex, &mut version).ok()?;
    Some(version)
}

impl Subject {
    pub(crate) fn of_trigger(trigger: Trigger) -> Self {
        Self {
            tenant: trigger.tenant,
            graph: trigger.graph,
            trigger: trigger.trigger,
            trigger_id: trigger.trigger_id,
            execution: trigger.execution,
            time_us: trigger.time_us,
            segment: trigger.execution.0,
            origin: trigger.origin,
            attempt: 1,
        }
    }

    /// A hop that was redriven says in a header what it repeats.
    pub(crate) fn of_hop(hop: &Hop, from: &Fetched) -> Self {
        let mut headers = from.record.headers.iter().rev();
        let origin = headers.find(|(name, _)| name == headers::ORIGIN);
        Self {
            tenant: hop.tenant.clone(),
            graph: hop.graph.clone(),
            trigger: hop.trigger.clone(),
            trigger_id: hop.trigger_id.clone(),
            execution: hop.execution,
            time_us: hop.time_us,
            segment: hop.segment,
            origin: origin.map(|(_, value)| String::from_utf8_lossy(value).into_owned()),
            attempt: hop.attempt,
        }
    }

    /// A record of a user's topic, for one of the triggers that read it. `topic_id`: the topic's, so that a topic made anew
    /// gives other executions.
    pub(crate) fn of_record(
        from: &Fetched,
        topic_id: &str,
        (tenant, graph, trigger): (&str, &str, &str),
    ) -> Self {
        // a record of before Kafka 0.10 has no time
        let time_ms = u64::try_from(from.record.timestamp_ms).unwrap_or(0);
        let trigger_id = format!("{topic_id}/{}/{}", from.partition.number, from.offset);
        let execution = ExecutionId::derive(time_ms, tenant, graph, trigger, &trigger_id);
        Self {
            tenant: tenant.to_owned(),
            graph: graph.to_owned(),
            trigger: trigger.to_owned(),
            trigger_id,
            execution,
            time_us: time_ms.saturating_mul(1_000),
            segment: execution.0,
            origin: None,
            attempt: 1,
        }
    }
}

/// The trigger of a graph that reads this topic; `None`: the version has none of that name, or it reads another one.
pub(crate) fn topic_trigger<'g>(
    graph: &'g Graph,
    trigger: &str,
    topic: &str,
) -> Option<(usize, &'g TopicTrigger)> {
    graph
        .triggers
        .iter()
        .enumerate()
        .find_map(|(at, found)| match &found.kind {
            TriggerKind::Topic(reads) if found.name == trigger && reads.name == topic => {
                Some((at, reads))
            }
            _ => None,
        })
}

/// The event that a record of a user's topic is, its data as they are.
pub(crate) fn raw_event(from: &Fetched) -> Event {
    let content_type = match &from.record.value {
        Some(_) => BYTES,
        None => TOMBSTONE,
    };
    Event {
        key: from.record.key.clone(),
        content_type: content_type.to_owned(),
        headers: from.record.headers.clone(),
        data: from.record.value.clone().unwrap_or_default(),
    }
}
