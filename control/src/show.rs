//! How stored bytes and pages look in an answer. Pure.

use std::str;

use schemas::Event;
use schemas::records::Payload;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::problem::{Problem, Result};

const LIMIT: u32 = 50;
const LIMIT_MAX: u32 = 1_000;

/// The part of a list that is asked for.
#[derive(Deserialize, Debug, Default)]
pub(crate) struct Page {
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    #[serde(alias = "after")]
    pub(crate) cursor: Option<String>,
}

impl Page {
    pub(crate) fn limit(&self) -> Result<u32> {
        limit(self.limit)
    }
}

/// How many items an answer may have.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(LIMIT),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(limit) => Err(Problem::bad_request(format!(
            "limit={limit} is outside 1 to {LIMIT_MAX}"
        ))),
    }
}

/// A payload as a person or program can read it; `encoding` says which it is.
#[derive(Serialize, Debug)]
pub(crate) struct Shown {
    encoding: &'static str,
    data: Form,
}

#[derive(Serialize, Debug)]
#[serde(untagged)]
enum Form {
    /// As it was written, down to the digits of its numbers.
    Json(Box<RawValue>),
    Text(String),
    /// It lies outside of the record.
    Reference {
        sha256: String,
        bytes: u64,
    },
}

/// A payload that lies outside of its record.
pub(crate) fn reference(sha256: String, bytes: u64) -> Shown {
    Shown {
        encoding: "reference",
        data: Form::Reference { sha256, bytes },
    }
}

/// JSON where the type says so and it is; else text where it is UTF-8; else base16.
pub(crate) fn data(content_type: &str, bytes: &[u8]) -> Shown {
    match str::from_utf8(bytes) {
        Ok(text) if is_json(content_type) => match serde_json::from_str::<Box<RawValue>>(text) {
            Ok(json) => Shown {
                encoding: "json",
                data: Form::Json(json),
            },
            Err(_) => Shown {
                encoding: "text",
                data: Form::Text(text.to_owned()),
            },
        },
        Ok(text) => Shown {
            encoding: "text",
            data: Form::Text(text.to_owned()),
        },
        Err(_) => Shown {
            encoding: "base16",
            data: Form::Text(hex::encode(bytes)),
        },
    }
}

/// What the API shows as `data` of these bytes.
pub fn shown(content_type: &str, bytes: &[u8]) -> Value {
    serde_json::to_value(data(content_type, bytes))
        .map_or(Value::Null, |shown| shown["data"].clone())
}

/// A key or a header: text, or `{"base16": …}`.
pub(crate) fn short(bytes: &[u8]) -> Value {
    str::from_utf8(bytes).map_or_else(|_| json!({ "base16": hex::encode(bytes) }), Value::from)
}

/// What a record held.
#[derive(Serialize, Debug)]
pub(crate) struct ShownEvent {
    key: Option<Value>,
    content_type: String,
    headers: Vec<(String, Value)>,
    #[serde(flatten)]
    data: Shown,
}

impl ShownEvent {
    /// The last header of this name, where it is a text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut of_it = self.headers.iter().rev().filter(|(of, _)| of == name);
        of_it.find_map(|(_, value)| value.as_str().map(str::to_owned))
    }
}

/// `payload`: the event's, which has none of its own where this is a reference.
pub(crate) fn event(event: &Event, payload: &Payload) -> ShownEvent {
    ShownEvent {
        key: event.key.as_deref().map(short),
        content_type: event.content_type.clone(),
        headers: event
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), short(value)))
            .collect(),
        data: match payload {
            Payload::Inline(bytes) => data(&event.content_type, bytes),
            Payload::Reference { sha256, bytes } => reference(hex::encode(sha256), *bytes),
        },
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        for (content_type, bytes, shown) in [
            (
                "application/json",
                &b"{\"n\": 1.50}"[..],
                r#"{"encoding":"json","data":{"n": 1.50}}"#,
            ),
            (
                "application/json; charset=utf-8",
                b"7",
                r#"{"encoding":"json","data":7}"#,
            ),
            (
                "application/vnd.x+JSON",
                b"[]",
                r#"{"encoding":"json","data":[]}"#,
            ),
            (
                "application/json",
                b"{broken",
                r#"{"encoding":"text","data":"{broken"}"#,
            ),
            ("text/plain", b"1", r#"{"encoding":"text","data":"1"}"#),
            (
                "text/plain",
                b"\xff\x00",
                r#"{"encoding":"base16","data":"ff00"}"#,
            ),
            ("application/json", b"", r#"{"encoding":"text","data":""}"#),
        ] {
            assert_eq!(
                serde_json::to_string(&data(content_type, bytes)).expect("JSON"),
                shown
            );
        }
    }

    #[test]
    fn a_payload_elsewhere() {
        let payload = Payload::Reference {
            sha256: [0xab; 32],
            bytes: 5 << 20,
        };
        let shown = serde_json::to_value(event(&Event::default(), &payload)).expect("JSON");
        assert_eq!(shown["encoding"], "reference");
        assert_eq!(
            shown["data"],
            json!({"sha256": "ab".repeat(32), "bytes": 5 << 20})
        );
    }

    #[test]
    fn limits() {
        assert_eq!(limit(None).ok(), Some(LIMIT));
        assert!(
            limit(Some(0)).is_err()
                && limit(Some(LIMIT_MAX + 1)).is_err()
                && limit(Some(1)).is_ok()
        );
    }
}
