//! A dead letter: the original record's key, value and headers unchanged, and headers that say where it came from and why.
//!
//! Not an Avro record: whoever redrives it copies the bytes. Headers are text, so that any Kafka client can read them.

use bytes::Bytes;

use super::result::FailureKind;
use super::wire::RecordError;
use crate::ExecutionId;

const PREFIX: &str = "weir-dead-";

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
    /// The headers to append to the original's.
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

    /// Reads what `headers` wrote. Of several of one name the last counts: a redriven record may die again.
    pub fn from_headers(headers: &[(String, Bytes)]) -> Result<Self, RecordError> {
        let find = |name: &str| -> Option<String> {
            let (_, value) = headers
                .iter()
                .rev()
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

    /// The original's own headers: those that `headers` did not write.
    pub fn original_headers(headers: &[(String, Bytes)]) -> Vec<(String, Bytes)> {
        headers
            .iter()
            .filter(|(name, _)| !name.starts_with(PREFIX))
            .cloned()
            .collect()
    }
}
