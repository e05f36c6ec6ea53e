//! The hop record: what starts a segment that is not an execution's first.

use bytes::Bytes;

use super::avro::{Reader, Writer};
use super::trigger::Payload;
use super::wire::{self, Kind, RecordError};
use crate::{Event, ExecutionId};

/// The Avro schema of the present version.
pub const SCHEMA: &str = include_str!("../../avro/hop.avsc");
pub(super) const VERSION: u8 = 1;

/// An event and the edge it came over. `event.data` is empty where `reference` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeEvent {
    pub edge: String,
    pub event: Event,
    pub reference: Option<([u8; 32], u64)>,
}

/// A step's gathered input on its way to the segment that it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub tenant: String,
    pub graph: String,
    pub version: [u8; 32],
    pub trigger: String,
    pub trigger_id: String,
    pub execution: ExecutionId,
    pub time_us: u64,
    /// The segment that this hop starts.
    pub segment: [u8; 16],
    /// The step that it starts at.
    pub step: String,
    pub attempt: u32,
    pub events: Vec<EdgeEvent>,
}

impl Hop {
    /// The record's value: wire-format prefix and Avro body.
    pub fn encode(&self) -> Bytes {
        let events: usize = self.events.iter().map(|e| e.event.data.len() + 128).sum();
        let mut w = Writer::new(wire::prefix(Kind::Hop, VERSION), 256 + events);
        w.string(&self.tenant);
        w.string(&self.graph);
        w.fixed(&self.version);
        w.string(&self.trigger);
        w.string(&self.trigger_id);
        w.fixed(&self.execution.0);
        w.long(self.time_us as i64);
        w.fixed(&self.segment);
        w.string(&self.step);
        w.long(i64::from(self.attempt));
        w.array(&self.events, |w, e| {
            w.string(&e.edge);
            let data = match e.reference {
                None => Payload::Inline(e.event.data.clone()),
                Some((sha256, bytes)) => Payload::Reference { sha256, bytes },
            };
            w.event(&e.event, &data);
        });
        w.finish()
    }

    /// Payloads are slices of `record`.
    pub fn decode(record: &Bytes) -> Result<Self, RecordError> {
        let (version, at) = wire::open(record, Kind::Hop)?;
        if version != VERSION {
            return Err(RecordError::Malformed {
                at: 4,
                what: "a hop of a version newer than this program",
            });
        }
        let mut r = Reader::new(record, at);
        let hop = Self {
            tenant: r.string()?,
            graph: r.string()?,
            version: r.fixed()?,
            trigger: r.string()?,
            trigger_id: r.string()?,
            execution: ExecutionId(r.fixed()?),
            time_us: r.long()? as u64,
            segment: r.fixed()?,
            step: r.string()?,
            attempt: r.int()? as u32,
            events: r.array(|r| {
                let edge = r.string()?;
                let (key, content_type, headers) =
                    (r.option(Reader::bytes)?, r.string()?, r.headers()?);
                let (data, reference) = match r.payload()? {
                    Payload::Inline(data) => (data, None),
                    Payload::Reference { sha256, bytes } => (Bytes::new(), Some((sha256, bytes))),
                };
                Ok(EdgeEvent {
                    edge,
                    event: Event {
                        key,
                        content_type,
                        headers,
                        data,
                    },
                    reference,
                })
            })?,
        };
        r.end()?;
        Ok(hop)
    }
}
