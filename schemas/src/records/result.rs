//! The result record: what one segment came to.

use std::fmt;

use bytes::Bytes;

use super::avro::{Reader, Writer};
use super::trigger::Payload;
use super::wire::{self, Kind, RecordError};
use crate::ExecutionId;

/// The Avro schema of the present version.
pub const SCHEMA: &str = include_str!("../../avro/result.avsc");
pub(super) const VERSION: u8 = 1;

/// What one segment came to. Nothing in it depends on when or where the segment ran, so running it again gives the
/// same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentResult {
    pub tenant: String,
    pub graph: String,
    pub version: [u8; 32],
    pub trigger: String,
    pub trigger_id: String,
    pub execution: ExecutionId,
    /// The trigger's time.
    pub time_us: u64,
    /// The execution's id for its first segment.
    pub segment: [u8; 16],
    pub origin: Option<String>,
    /// `None`: it succeeded.
    pub failure: Option<Failure>,
    /// What database sinks take, and what no edge and no sink takes.
    pub outputs: Vec<Output>,
    /// The segments that this one started.
    pub started: Vec<[u8; 16]>,
    pub logs: Vec<LogLine>,
    /// Log lines beyond the limit.
    pub logs_dropped: u32,
}

/// Why a segment failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `None`: before any step ran.
    pub step: Option<String>,
    pub kind: FailureKind,
    pub reason: String,
    pub attempt: u32,
}

/// The kinds of failure; their words stand in records, tables and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The step said `reject`.
    Rejected,
    /// The step said `fatal`.
    Fatal,
    /// The step said `retry` and has no tries left.
    Retries,
    Trap,
    Timeout,
    OutOfMemory,
    OutputTooLarge,
    /// The step broke the world's contract: invalid UTF-8, a port that the graph does not name.
    Protocol,
    /// A `when`, `key` or `hop` expression could not be evaluated.
    Expression,
    /// One event came to more calls than an execution may make.
    TooManyCalls,
    /// The graph or its version is gone.
    GraphGone,
    /// The record's bytes are not what its topic carries.
    Record,
    /// The record ended the process that ran it, three times.
    HostCrash,
    /// A topic sink could not be written.
    Sink,
}

const KINDS: [(FailureKind, &str); 14] = [
    (FailureKind::Rejected, "rejected"),
    (FailureKind::Fatal, "fatal"),
    (FailureKind::Retries, "retries-exhausted"),
    (FailureKind::Trap, "trap"),
    (FailureKind::Timeout, "time-out"),
    (FailureKind::OutOfMemory, "out-of-memory"),
    (FailureKind::OutputTooLarge, "output-too-large"),
    (FailureKind::Protocol, "protocol"),
    (FailureKind::Expression, "expression"),
    (FailureKind::TooManyCalls, "too-many-calls"),
    (FailureKind::GraphGone, "graph-gone"),
    (FailureKind::Record, "record"),
    (FailureKind::HostCrash, "host-crash"),
    (FailureKind::Sink, "sink"),
];

impl FailureKind {
    pub fn as_str(self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("unknown", |(_, word)| word)
    }

    /// `None`: a word of a newer version.
    pub fn parse(word: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(kind, _)| *kind)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One output of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The step, or the trigger where a sink takes it directly.
    pub step: String,
    pub port: String,
    /// Its place among the outputs of the segment.
    pub number: u32,
    /// The database sinks that take it, by name.
    pub sinks: Vec<String>,
    pub key: Option<Bytes>,
    pub content_type: String,
    pub headers: Vec<(String, Bytes)>,
    pub data: Payload,
}

/// A line that a step logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub step: String,
    /// `debug`, `info`, `warn` or `error`; `stdout` and `stderr` for what was printed.
    pub level: String,
    pub message: String,
}

impl SegmentResult {
    /// The record's value: wire-format prefix and Avro body.
    pub fn encode(&self) -> Bytes {
        let outputs: usize = self
            .outputs
            .iter()
            .map(|o| {
                if let Payload::Inline(data) = &o.data {
                    data.len() + 96
                } else {
                    128
                }
            })
            .sum();
        let logs: usize = self.logs.iter().map(|l| l.message.len() + 32).sum();
        let mut w = Writer::new(wire::prefix(Kind::Result, VERSION), 256 + outputs + logs);
        w.string(&self.tenant);
        w.string(&self.graph);
        w.fixed(&self.version);
        w.string(&self.trigger);
        w.string(&self.trigger_id);
        w.fixed(&self.execution.0);
        w.long(self.time_us as i64);
        w.fixed(&self.segment);
        w.option(self.origin.as_deref(), Writer::string);
        w.option(self.failure.as_ref(), |w, failure| {
            w.option(failure.step.as_deref(), Writer::string);
            w.string(failure.kind.as_str());
            w.string(&failure.reason);
            w.long(i64::from(failure.attempt));
        });
        w.array(&self.outputs, |w, output| {
            w.string(&output.step);
            w.string(&output.port);
            w.long(i64::from(output.number));
            w.array(&output.sinks, |w, sink| w.string(sink));
            w.option(output.key.as_ref(), |w, key| w.bytes(key));
            w.string(&output.content_type);
            w.headers(&output.headers);
            w.payload(&output.data);
        });
        w.array(&self.started, |w, segment| w.fixed(segment));
        w.array(&self.logs, |w, line| {
            w.string(&line.step);
            w.string(&line.level);
            w.string(&line.message);
        });
        w.long(i64::from(self.logs_dropped));
        w.finish()
    }

    /// Payloads, keys and header values are slices of `record`.
    pub fn decode(record: &Bytes) -> Result<Self, RecordError> {
        let (version, at) = wire::open(record, Kind::Result)?;
        if version != VERSION {
            return Err(RecordError::Malformed {
                at: 4,
                what: "a result of a version newer than this program",
            });
        }
        let mut r = Reader::new(record, at);
        let result = Self {
            tenant: r.string()?,
            graph: r.string()?,
            version: r.fixed()?,
            trigger: r.string()?,
            trigger_id: r.string()?,
            execution: ExecutionId(r.fixed()?),
            time_us: r.long()? as u64,
            segment: r.fixed()?,
            origin: r.option(Reader::string)?,
            failure: r.option(|r| {
                Ok(Failure {
                    step: r.option(Reader::string)?,
                    // A word of a newer version is still a failure.
                    kind: FailureKind::parse(r.str()?).unwrap_or(FailureKind::Protocol),
                    reason: r.string()?,
                    attempt: r.int()? as u32,
                })
            })?,
            outputs: r.array(|r| {
                Ok(Output {
                    step: r.string()?,
                    port: r.string()?,
                    number: r.int()? as u32,
                    sinks: r.array(Reader::string)?,
                    key: r.option(Reader::bytes)?,
                    content_type: r.string()?,
                    headers: r.headers()?,
                    data: r.payload()?,
                })
            })?,
            started: r.array(Reader::fixed)?,
            logs: r.array(|r| {
                Ok(LogLine {
                    step: r.string()?,
                    level: r.string()?,
                    message: r.string()?,
                })
            })?,
            logs_dropped: r.int()? as u32,
        };
        r.end()?;
        Ok(result)
    }
}
