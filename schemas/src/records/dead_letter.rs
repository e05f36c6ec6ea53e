//! A dead letter: the original record's key, value and headers unchanged, and headers that say where it came from and why.
//!
//! Not an Avro record: whoever redrives it copies the bytes. Headers are text, so that any Kafka client can read them.
//!
//! The headers are a block behind the original's own, and `weir-dead-tenant` is its first. So the last header of that name
//! tells the two apart, whatever the original's headers were called: a record that died before, and was written again with
//! all its headers, keeps the earlier block as part of the original.

use bytes::Bytes;

use super::result::FailureKind;
use super::wire::RecordError;
use crate::ExecutionId;

const PREFIX: &str = "weir-dead-";
/// The first of a block.
const FIRST: &str = "weir-dead-tenant";

/// Where a dead letter came from and why it died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub tenant: String,
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    pub kind: FailureKind,
    pub reason: String,
    pub attempt: u32,
    /// `None` where the record could not even be decoded.
    pub graph: Option<String>,
    /// sha256 in hex.
    pub version: Option<String>,
    pub execution: Option<ExecutionId>,
    pub step: Option<String>,
}

impl DeadLetter {
    /// The headers to append to the original's, `weir-dead-tenant` first.
    pub fn headers(&self) -> Vec<(String, Bytes)> {
        let mut headers = Vec::with_capacity(11);
        let mut put = |name: &str, value: String| {
            headers.push((format!("{PREFIX}{name}"), Bytes::from(value)))
        };
        put("tenant", self.tenant.clone());
        put("topic", self.topic.clone());
        put("partition", self.partition.to_string());
        put("offset", self.offset.to_string());
        put("kind", self.kind.to_string());
        put("reason", self.reason.clone());
        put("attempt", self.attempt.to_string());
        for (name, value) in [
            ("graph", self.graph.clone()),
            ("version", self.version.clone()),
            ("execution", self.execution.map(|id| id.to_string())),
            ("step", self.step.clone()),
        ] {
            if let Some(value) = value {
                put(name, value);
            }
        }
        headers
    }

    /// Reads what `headers` wrote, the last time where it did so several times: a redriven record may die again.
    pub fn from_headers(headers: &[(String, Bytes)]) -> Result<Self, RecordError> {
        Self::of_block(&headers[start(headers).unwrap_or(headers.len())..])
    }

    /// The record's deaths, the first one first, where each was written again with all its headers.
    pub fn all_of(headers: &[(String, Bytes)]) -> Vec<Self> {
        let mut deaths = Vec::new();
        let mut rest = headers;
        while let Some(at) = start(rest) {
            deaths.extend(Self::of_block(&rest[at..]));
            rest = &rest[..at];
        }
        deaths.reverse();
        deaths
    }

    /// `block`: begins with `weir-dead-tenant`.
    fn of_block(block: &[(String, Bytes)]) -> Result<Self, RecordError> {
        let find = |name: &str| -> Option<String> {
            let (_, value) = block
                .iter()
                .find(|(n, _)| n.strip_prefix(PREFIX) == Some(name))?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let need =
            |name: &'static str| find(name).ok_or(RecordError::Malformed { at: 0, what: name });
        let number = |name: &'static str| {
            need(name)?
                .parse::<i64>()
                .map_err(|_| RecordError::Malformed { at: 0, what: name })
        };
        Ok(Self {
            tenant: need("tenant")?,
            topic: need("topic")?,
            partition: number("partition")? as u32,
            offset: number("offset")?,
            kind: FailureKind::parse(&need("kind")?).unwrap_or(FailureKind::Protocol),
            reason: need("reason")?,
            attempt: number("attempt")? as u32,
            graph: find("graph"),
            version: find("version"),
            execution: find("execution").and_then(|id| id.parse().ok()),
            step: find("step"),
        })
    }

    /// The original's own headers, each as it was: those before the ones that `headers` wrote last.
    pub fn original_headers(headers: &[(String, Bytes)]) -> Vec<(String, Bytes)> {
        headers[..start(headers).unwrap_or(headers.len())].to_vec()
    }
}

/// Where the last block begins.
fn start(headers: &[(String, Bytes)]) -> Option<usize> {
    headers.iter().rposition(|(name, _)| name == FIRST)
}
