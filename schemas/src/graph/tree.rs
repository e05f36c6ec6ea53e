//! A YAML (or JSON) file as a tree in which each value knows its place. Duplicate keys are kept, so that both can be named.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, Spanned};

use super::problem::{Report, Span};

/// The largest file.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;
/// Values in one file, those that aliases repeat included.
const NODES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Tree,
}

#[derive(Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) span: Span,
    pub(super) name: String,
}

impl Tree {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        }
    }
}

/// The file's tree, or nothing where it is no YAML at all; then the report says why.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} bytes; at most {FILE_BYTES_MAX} are allowed",
            text.len()
        );
        report.add(
            (0, 0),
            message,
            "move large settings into the module, or split the graph".to_owned(),
        );
        return None;
    }
    if text.trim().is_empty() {
        report.add(
            (0, 0),
            "the file is empty",
            "begin with \"weir: 1\"".to_owned(),
        );
        return None;
    }
    let budget = serde_saphyr::budget! {
        max_events: 2 * NODES_MAX,
        max_nodes: NODES_MAX,
        max_depth: DEPTH_MAX,
        max_aliases: 1_000,
        max_anchors: 1_000,
        max_recorded_anchor_events: NODES_MAX,
        max_recorded_anchor_bytes: 4 * FILE_BYTES_MAX,
        flow_nesting_limit: DEPTH_MAX,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX, max_replay_stack_depth: 16 },
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Some(place(root, text, report)),
        Err(error) => {
            let at = error
                .location()
                .map_or((0, 0), |location| span(location, text));
            let message = error.without_snippet().to_string();
            let message = message.lines().next().unwrap_or("the file cannot be read");
            // The place is said already.
            let message = message.split(" at line ").next().unwrap_or(message);
            let message = message.split(": line ").next().unwrap_or(message);
            report.add(at, format!("not valid YAML: {message}"), None);
            None
        }
    }
}

/// A tree whose values have no place.
pub(super) fn from_json(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Tree::Null,
        Json::Bool(value) => Tree::Bool(value),
        Json::Number(value) => Tree::Number(value),
        Json::String(value) => Tree::Text(value),
        Json::Array(list) => Tree::List(list.into_iter().map(from_json).collect()),
        Json::Object(map) => {
            let entry = |(name, value)| (Key { span: (0, 0), name }, from_json(value));
            Tree::Map(map.into_iter().map(entry).collect())
        }
    };
    Node {
        span: (0, 0),
        value,
    }
}

fn span(location: Location, text: &str) -> Span {
    let span = location.span();
    let bytes = span.byte_offset().zip(span.byte_len());
    let found = bytes
        .and_then(|(start, len)| Some((usize::try_from(start).ok()?, usize::try_from(len).ok()?)));
    found.unwrap_or_else(|| {
        let line = usize::try_from(location.line()).unwrap_or(1);
        let start: usize = text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let column = usize::try_from(location.column())
            .unwrap_or(1)
            .saturating_sub(1);
        (
            text[start..]
                .char_indices()
                .nth(column)
                .map_or(text.len(), |(at, _)| start + at),
            1,
        )
    })
}

/// Of a key given twice the first counts; the second is reported.
fn place(raw: Spanned<Raw>, text: &str, report: &mut Report<'_>) -> Node {
    let value = match raw.value {
        Raw::Null => Tree::Null,
        Raw::Bool(value) => Tree::Bool(value),
        Raw::Number(value) => Tree::Number(value),
        Raw::Text(value) => Tree::Text(value),
        Raw::List(list) => Tree::List(
            list.into_iter()
                .map(|value| place(value, text, report))
                .collect(),
        ),
        Raw::Map(map) => {
            let mut seen: HashMap<String, Span> = HashMap::new();
            let mut entries = Vec::new();
            for (key, value) in map {
                let key = Key {
                    span: span(key.referenced, text),
                    name: key.value,
                };
                let value = place(value, text, report);
                if let Some(first) = seen.get(&key.name) {
                    let line = report.line(*first);
                    let help = format!("the first is on line {line}; remove one or rename it");
                    report.add(
                        key.span,
                        format!("\"{}\" is here a second time", key.name),
                        help,
                    );
                    continue;
                }
                seen.insert(key.name.clone(), key.span);
                entries.push((key, value));
            }
            Tree::Map(entries)
        }
    };
    Node {
        span: span(raw.referenced, text),
        value,
    }
}

/// As `Tree`, with the places that the parser gives.
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Raw, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Raw, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value)
            .map(Raw::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = access.next_key()? {
            map.push((key, access.next_value()?));
        }
        Ok(Raw::Map(map))
    }
}
