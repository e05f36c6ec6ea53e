//! From an event to an answer: the trigger record, durable in the inbox or on the log.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use schemas::graph::{ExprError, Scope};
use schemas::records::{INLINE_BYTES_MAX, Payload, Trigger};
use schemas::{Event, ExecutionId};
use sha2::{Digest, Sha256};
use store::{Entry, Key, Put, Reference};
use topics::{Outgoing, Record, catalog};

use crate::problem::Problem;
use crate::router::Ingest;
use crate::targets::Target;

/// What the log takes in one record, with room for what it adds.
const RECORD_BYTES_MAX: usize = (1 << 20) - (4 << 10);

/// An event that arrived, checked.
pub(crate) struct Arrival {
    pub(crate) event: Event,
    /// Microseconds since 1970 UTC.
    pub(crate) time_us: u64,
    /// What makes a second delivery the same trigger; `None`: nothing does.
    pub(crate) id: Option<String>,
}

/// Durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) execution: ExecutionId,
    pub(crate) duplicate: bool,
}

/// A trigger, not durable yet.
pub(crate) struct Ready {
    pub(crate) execution: ExecutionId,
    /// Present if the trigger came with an id.
    entry: Option<(Key, [u8; 32])>,
    /// What the record refers to; to be put before it.
    payload: Option<(Reference, Bytes)>,
    outgoing: Outgoing,
}

impl Ready {
    pub(crate) fn new(target: &Target, arrival: Arrival) -> Result<Self, Problem> {
        let Arrival { event, time_us, id } = arrival;
        let key = key(target, &event)?;
        let payload = (event.data.len() > INLINE_BYTES_MAX)
            .then(|| (Reference::of(&event.data), event.data.clone()));
        let entry = id.as_deref().map(|id| {
            let key = Key::new(&target.tenant, &target.graph, &target.trigger, id);
            let sha256 = match &payload {
                Some((reference, _)) => reference.sha256,
                None => Sha256::digest(&event.data).into(),
            };
            (key, sha256)
        });
        let trigger_id = id.unwrap_or_else(|| fresh_id(time_us));
        let time_ms = time_us / 1_000;
        let execution = ExecutionId::derive(
            time_ms,
            &target.tenant,
            &target.graph,
            &target.trigger,
            &trigger_id,
        );
        let record_key = key
            .clone()
            .unwrap_or_else(|| Bytes::from(execution.to_string()));
        let trigger = Trigger {
            tenant: target.tenant.clone(),
            graph: target.graph.clone(),
            trigger: target.trigger.clone(),
            trigger_id,
            execution,
            time_us,
            origin: None,
            key,
            content_type: event.content_type,
            headers: event.headers,
            data: match &payload {
                Some((Reference { sha256, bytes }, _)) => Payload::Reference {
                    sha256: *sha256,
                    bytes: *bytes,
                },
                None => Payload::Inline(event.data),
            },
        };
        let value = trigger.encode();
        if record_key.len() + value.len() > RECORD_BYTES_MAX {
            return Err(Problem::too_large(RECORD_BYTES_MAX as u64));
        }
        let record = Record {
            key: Some(record_key),
            value: Some(value),
            headers: Vec::new(),
            timestamp_ms: time_ms as i64,
        };
        let outgoing = Outgoing {
            topic: catalog::TRIGGERS.into(),
            partition: None,
            record,
        };
        Ok(Self {
            execution,
            entry,
            payload,
            outgoing,
        })
    }
}

impl Ingest {
    /// Makes one trigger durable.
    pub(crate) async fn accept(&self, ready: Ready) -> Result<Accepted, Problem> {
        let Ready {
            execution,
            entry,
            payload,
            outgoing,
        } = ready;
        self.keep(payload).await?;
        let Some((key, body_sha256)) = entry else {
            self.parts.appender.append(vec![outgoing]).await?;
            return Ok(Accepted {
                execution,
                duplicate: false,
            });
        };
        let Record {
            key: record_key,
            value,
            timestamp_ms,
            ..
        } = outgoing.record;
        let record = value.unwrap_or_default();
        let entry = Entry {
            key,
            body_sha256,
            execution,
            at_ms: timestamp_ms,
            record_key,
            record,
        };
        match self.parts.store.inbox().put(entry).await? {
            Put::New => Ok(Accepted {
                execution,
                duplicate: false,
            }),
            Put::Duplicate { execution } => Ok(Accepted {
                execution,
                duplicate: true,
            }),
            Put::Conflict => Err(Problem::conflict()),
        }
    }

    /// Makes what a record will refer to durable. If the record never comes to be, the sweep takes it.
    async fn keep(&self, payload: Option<(Reference, Bytes)>) -> Result<(), Problem> {
        let Some((reference, data)) = payload else {
            return Ok(());
        };
        let Some(payloads) = &self.parts.payloads else {
            return Err(self.too_large());
        };
        Ok(payloads.put(&reference, data).await?)
    }

    /// Makes triggers without an id durable, together.
    pub(crate) async fn append(&self, mut ready: Vec<Ready>) -> Result<(), Problem> {
        debug_assert!(
            ready.iter().all(|ready| ready.entry.is_none()),
            "a trigger with an id goes through the inbox"
        );
        for ready in &mut ready {
            self.keep(ready.payload.take()).await?;
        }
        self.parts
            .appender
            .append(ready.into_iter().map(|ready| ready.outgoing).collect())
            .await?;
        Ok(())
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let id = self.execution.to_string();
        let duplicate = if self.duplicate {
            ",\"duplicate\":true"
        } else {
            ""
        };
        let body = format!("{{\"execution\":\"{id}\"{duplicate}}}");
        let mut response = (StatusCode::ACCEPTED, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let location =
            HeaderValue::from_str(&format!("/api/v1/executions/{id}")).expect("an id is ASCII");
        response.headers_mut().insert(header::LOCATION, location);
        response
    }
}

/// What `key:` says; the message never tells a value of the event.
fn key(target: &Target, event: &Event) -> Result<Option<Bytes>, Problem> {
    let Some(expr) = &target.key else {
        return Ok(None);
    };
    expr.eval_key(&Scope::new(event, &target.trigger))
        .map_err(|error| {
            tracing::debug!(graph = target.graph, trigger = target.trigger, %error, "no key");
            let reason = match error {
                ExprError::Type { expected, .. } => format!("does not give {expected}"),
                ExprError::TooMuch { .. } => "needs too much work".to_owned(),
                ExprError::Invalid { .. } | ExprError::Failed(_) => "fails".to_owned(),
            };
            Problem::invalid(
                format!("the trigger's key `{}` {reason} on this event", expr.text()),
                Vec::new(),
            )
        })
}

/// A UUIDv7 of the trigger's time.
fn fresh_id(time_us: u64) -> String {
    let (seconds, nanos) = (time_us / 1_000_000, (time_us % 1_000_000) as u32 * 1_000);
    uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)).to_string()
}
