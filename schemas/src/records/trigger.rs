//! The trigger record.

use bytes::Bytes;

use super::avro::{Reader, Writer};
use super::wire::{self, Kind, RecordError};
use crate::{Event, ExecutionId};

/// The Avro schema of the present version.
pub const SCHEMA: &str = include_str!("../../avro/trigger.avsc");
pub(super) const VERSION: u8 = 1;

/// Larger payloads do not travel in a record: it refers to them.
pub const INLINE_BYTES_MAX: usize = 512 << 10;

/// A payload: in the record, or in the store under its sha256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Inline(Bytes),
    Reference { sha256: [u8; 32], bytes: u64 },
}

impl Default for Payload {
    fn default() -> Self {
        Self::Inline(Bytes::new())
    }
}

/// One event that starts one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub tenant: String,
    pub graph: String,
    /// The trigger's name in the graph.
    pub trigger: String,
    /// What makes a second delivery the same trigger.
    pub trigger_id: String,
    pub execution: ExecutionId,
    /// Microseconds since 1970 UTC.
    pub time_us: u64,
    /// The execution or dead letter that this one repeats.
    pub origin: Option<String>,
    pub key: Option<Bytes>,
    pub content_type: String,
    pub headers: Vec<(String, Bytes)>,
    pub data: Payload,
}

impl Trigger {
    /// The record's value: wire-format prefix and Avro body.
    pub fn encode(&self) -> Bytes {
        let inline = if let Payload::Inline(data) = &self.data {
            data.len()
        } else {
            48
        };
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        let mut w = Writer::new(wire::prefix(Kind::Trigger, VERSION), 160 + headers + inline);
        w.string(&self.tenant);
        w.string(&self.graph);
        w.string(&self.trigger);
        w.string(&self.trigger_id);
        w.fixed(&self.execution.0);
        w.long(self.time_us as i64);
        w.option(self.origin.as_deref(), Writer::string);
        w.option(self.key.as_ref(), |w, key| w.bytes(key));
        w.string(&self.content_type);
        w.headers(&self.headers);
        w.payload(&self.data);
        w.finish()
    }

    /// Payload, keys and header values are slices of `record`.
    pub fn decode(record: &Bytes) -> Result<Self, RecordError> {
        let (version, at) = wire::open(record, Kind::Trigger)?;
        if version != VERSION {
            return Err(RecordError::Malformed {
                at: 4,
                what: "a trigger of a version newer than this program",
            });
        }
        let mut r = Reader::new(record, at);
        let trigger = Self {
            tenant: r.string()?,
            graph: r.string()?,
            trigger: r.string()?,
            trigger_id: r.string()?,
            execution: ExecutionId(r.fixed()?),
            time_us: r.long()? as u64,
            origin: r.option(Reader::string)?,
            key: r.option(Reader::bytes)?,
            content_type: r.string()?,
            headers: r.headers()?,
            data: r.payload()?,
        };
        r.end()?;
        Ok(trigger)
    }

    /// Whose it is, tenant and graph, without reading the rest; `None`: it cannot be read.
    pub fn subject(record: &Bytes) -> Option<(&str, &str)> {
        let (version, at) = wire::open(record, Kind::Trigger).ok()?;
        if version != VERSION {
            return None;
        }
        let mut r = Reader::new(record, at);
        Some((r.str().ok()?, r.str().ok()?))
    }

    /// The event that the graph sees. `data`: the payload, fetched from the store if it was a reference.
    pub fn event(&self, data: Bytes) -> Event {
        Event {
            key: self.key.clone(),
            content_type: self.content_type.clone(),
            headers: self.headers.clone(),
            data,
        }
    }
}
