//! A detour: a record that waits on another topic (`weir.delays.…`, `weir.parked`) before it is run. Its key, value and
//! headers are the original's, unchanged; one more header, JSON, says where it came from and how it goes on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire::RecordError;

/// The header's name.
const HEADER: &str = "weir-detour";

/// A call that was tried before the segment was suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub step: String,
    /// Which of the step's calls in the segment.
    pub call: u32,
    /// The try that comes next.
    pub attempt: u32,
}

/// Where a waiting record came from, and how it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detour {
    /// Where the original was read first.
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    /// The id of that topic, for triggers that are named by it.
    pub topic_id: String,
    /// The original's timestamp: milliseconds since 1970 UTC.
    pub timestamp_ms: i64,
    /// Where it was read last, if it had come from another detour already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<(String, u32)>,
    /// Whose it is: of a user topic's record each graph that reads it has its own.
    pub tenant: String,
    pub graph: String,
    pub trigger: String,
    /// sha256 in hex; of a suspended segment the version that it goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl Detour {
    /// The topic and partition that it was read from before it came here.
    pub fn last(&self) -> (&str, u32) {
        match &self.via {
            Some((topic, number)) => (topic, *number),
            None => (&self.topic, self.partition),
        }
    }

    /// The header to append to the original's.
    pub fn header(&self) -> (String, Bytes) {
        let json = serde_json::to_vec(self).expect("strings and numbers are always JSON");
        (HEADER.to_owned(), Bytes::from(json))
    }

    /// Takes the header off: the last one, for an original may have had one of its own.
    pub fn take(headers: &mut Vec<(String, Bytes)>) -> Result<Self, RecordError> {
        let at = headers.iter().rposition(|(name, _)| name == HEADER);
        let at = at.ok_or(RecordError::Malformed {
            at: 0,
            what: "no header weir-detour",
        })?;
        let detour =
            serde_json::from_slice(&headers[at].1).map_err(|_| RecordError::Malformed {
                at: 0,
                what: "the header weir-detour is not what Weir writes",
            })?;
        headers.remove(at);
        Ok(detour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that were once written are read for ever.
    #[test]
    fn golden() {
        let detour = Detour {
            topic: "orders".into(),
            partition: 3,
            offset: 42,
            topic_id: "QlAQRcEGQNiDWGjQbE5_rg".into(),
            timestamp_ms: 1_700_000_000_000,
            via: Some(("later".into(), 1)),
            tenant: "default".into(),
            graph: "orders".into(),
            trigger: "shop".into(),
            version: Some("ab12".into()),
            attempts: vec![Attempt {
                step: "price".into(),
                call: 0,
                attempt: 2,
            }],
        };
        let bytes = br#"{"topic":"orders","partition":3,"offset":42,"topic_id":"QlAQRcEGQNiDWGjQbE5_rg","timestamp_ms":1700000000000,"via":["later",1],"tenant":"default","graph":"orders","trigger":"shop","version":"ab12","attempts":[{"step":"price","call":0,"attempt":2}]}"#;
        assert_eq!(&detour.header().1[..], bytes);
        let newer = br#"{"topic":"t","partition":0,"offset":0,"topic_id":"t","timestamp_ms":0,"tenant":"a","graph":"g","trigger":"x","later":1}"#;
        let mut headers = vec![(HEADER.to_owned(), Bytes::from_static(newer))];
        assert_eq!(
            Detour::take(&mut headers).map(|d| d.attempts),
            Ok(Vec::new())
        );
    }

    #[test]
    fn only_the_last_header_is_ours() {
        let own = ("weir-detour".to_owned(), Bytes::from_static(b"theirs"));
        let detour = Detour {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            topic_id: "t".into(),
            timestamp_ms: 0,
            via: None,
            tenant: "a".into(),
            graph: "g".into(),
            trigger: "x".into(),
            version: None,
            attempts: Vec::new(),
        };
        let mut headers = vec![own.clone(), detour.header()];
        assert_eq!(Detour::take(&mut headers), Ok(detour));
        assert_eq!(headers, [own]);
        assert!(Detour::take(&mut headers).is_err());
        assert!(Detour::take(&mut Vec::new()).is_err());
    }
}
