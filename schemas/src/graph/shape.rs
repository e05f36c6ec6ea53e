//! The first pass over a file: does each value have the form that the JSON Schema of the file types says. Driven by that
//! schema, so that a field is described in one place. What does not fit is reported and cut out, so that the second pass can
//! look at the rest; where each value stands is noted for it.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::names::closest;
use super::problem::{Report, Span};
use super::tree::{Node, Tree};

/// Where values stand: by their path, such as `steps/check/uses` or `steps/check/from/0`.
#[derive(Default)]
pub(super) struct Places {
    values: HashMap<String, Span>,
    keys: HashMap<String, Span>,
    /// Keys of maps in the order of the file, by the map's path.
    order: HashMap<String, Vec<String>>,
    /// Entries that were cut out because something needed is missing or wrong in them.
    broken: HashSet<String>,
}

impl Places {
    /// Where the value stands; where it is absent, what it would be in.
    pub(super) fn value(&self, path: &str) -> Span {
        let mut path = path;
        loop {
            if let Some(span) = self.values.get(path) {
                return *span;
            }
            match path.rsplit_once('/') {
                Some((parent, _)) if self.keys.contains_key(parent) => return self.key(parent),
                Some((parent, _)) => path = parent,
                None => return (0, 0),
            }
        }
    }

    /// Where the name of the value stands.
    pub(super) fn key(&self, path: &str) -> Span {
        self.keys
            .get(path)
            .copied()
            .unwrap_or_else(|| self.values.get(path).copied().unwrap_or((0, 0)))
    }

    pub(super) fn order(&self, path: &str) -> &[String] {
        self.order.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_broken(&self, path: &str) -> bool {
        self.broken.contains(path)
    }
}

/// The value without what does not fit, and where all stands.
pub(super) fn check(
    root: &Node,
    schema: &Value,
    report: &mut Report<'_>,
) -> (Option<Value>, Places) {
    let mut pass = Pass {
        root: schema,
        report,
        places: Places::default(),
    };
    let value = pass.value(root, schema, "");
    (value, pass.places)
}

struct Pass<'s, 'r, 't> {
    root: &'s Value,
    report: &'r mut Report<'t>,
    places: Places,
}

impl<'s> Pass<'s, '_, '_> {
    fn value(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        self.places.values.insert(path.to_owned(), node.span);
        let schema = self.resolve(schema);
        if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
            let fitting = alternatives.iter().find(|one| self.takes(node, one));
            let chosen = fitting.or(alternatives.first())?;
            return self.value(node, chosen, path);
        }
        if let Some(words) = words(schema) {
            return self.word(node, &words, path);
        }
        match &node.value {
            Tree::Map(entries) if allows(schema, "object") => self.map(node, entries, schema, path),
            Tree::List(items) if allows(schema, "array") => self.list(items, schema, path),
            Tree::Text(text) if allows(schema, "string") => Some(Value::String(text.clone())),
            Tree::Bool(value) if allows(schema, "boolean") => Some(Value::Bool(*value)),
            Tree::Number(number)
                if allows(schema, "integer") && (number.is_u64() || number.is_i64()) =>
            {
                self.integer(node, number, schema, path)
            }
            Tree::Number(number) if allows(schema, "number") => Some(Value::Number(number.clone())),
            Tree::Null if allows(schema, "null") => Some(Value::Null),
            other => {
                let wanted = wanted(schema);
                let help = match other {
                    Tree::Text(text) if allows(schema, "array") => Some(format!("write [{text}]")),
                    Tree::Number(_) | Tree::Bool(_) if allows(schema, "string") => {
                        Some("put it in quotes".to_owned())
                    }
                    _ => None,
                };
                self.report.add(
                    node.span,
                    format!(
                        "{} must be {wanted}, not {}",
                        self.called(path),
                        other.kind()
                    ),
                    help,
                );
                None
            }
        }
    }

    fn map(
        &mut self,
        node: &Node,
        entries: &[(super::tree::Key, Node)],
        schema: &'s Value,
        path: &str,
    ) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema
            .get("additionalProperties")
            .filter(|others| **others != Value::Bool(false));
        // A type without fields has neither.
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        let mut map = Map::new();
        for (key, value) in entries {
            let name = key.name.as_str();
            let below = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}/{name}")
            };
            self.places.keys.insert(below.clone(), key.span);
            let known = properties.and_then(|known| known.get(name));
            let Some(inner) = known.or(if closed { None } else { others }) else {
                if closed {
                    self.unknown(key, properties, path);
                    continue;
                }
                map.insert(name.to_owned(), free(value));
                continue;
            };
            self.places
                .order
                .entry(path.to_owned())
                .or_default()
                .push(name.to_owned());
            // What stands there with nothing in it counts as absent.
            if matches!(value.value, Tree::Null) && known.is_some() && !is_required(schema, name) {
                if name == "manual" {
                    map.insert(name.to_owned(), Value::Object(Map::new()));
                }
                continue;
            }
            match if *inner == Value::Bool(true) {
                Some(free(value))
            } else {
                self.value(value, inner, &below)
            } {
                Some(value) => drop(map.insert(name.to_owned(), value)),
                None => drop(self.places.broken.insert(below)),
            }
        }
        let mut whole = true;
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if map.contains_key(name) {
                continue;
            }
            // The file itself is looked at further in any case.
            whole = path.is_empty() && whole;
            if !path.is_empty() && !self.places.keys.contains_key(&format!("{path}/{name}")) {
                let at = if self.places.keys.contains_key(path) {
                    self.places.key(path)
                } else {
                    node.span
                };
                let help = properties
                    .and_then(|known| known.get(name))
                    .and_then(|field| field.get("description"))
                    .and_then(Value::as_str);
                let help = help.map(|text| format!("{name}: {}", first_sentence(text)));
                self.report
                    .add(at, format!("{} has no \"{name}\"", self.called(path)), help);
            }
        }
        whole.then_some(Value::Object(map))
    }

    fn unknown(
        &mut self,
        key: &super::tree::Key,
        properties: Option<&Map<String, Value>>,
        path: &str,
    ) {
        let known: Vec<&str> = properties
            .map(|known| known.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let kind = match path.split('/').collect::<Vec<_>>()[..] {
            ["triggers", _] => Some(("trigger", super::parse::TRIGGER_KINDS.as_slice())),
            ["sinks", _] => Some(("sink", super::parse::SINK_KINDS.as_slice())),
            _ => None,
        };
        let help = match (closest(&key.name, known.iter().copied()), kind) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, Some((what, kinds))) => format!("known {what} kinds: {}", kinds.join(", ")),
            (None, None) if known.is_empty() => "it has no fields".to_owned(),
            (None, None) => format!("known fields: {}", known.join(", ")),
        };
        let message = match kind {
            Some((what, _)) => format!("unknown {what} kind or field \"{}\"", key.name),
            None => format!("unknown field \"{}\"", key.name),
        };
        self.report.add(key.span, message, help);
        // With its kind unknown there is nothing more to say about it.
        if kind.is_some() {
            self.places.broken.insert(path.to_owned());
        }
    }

    fn list(&mut self, items: &[Node], schema: &'s Value, path: &str) -> Option<Value> {
        let inner = schema.get("items")?;
        let values = items
            .iter()
            .enumerate()
            .map(|(i, item)| self.value(item, inner, &format!("{path}/{i}")));
        // All are looked at; one that does not fit spoils the list.
        let values: Vec<Option<Value>> = values.collect();
        values
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }

    fn integer(
        &mut self,
        node: &Node,
        number: &serde_json::Number,
        schema: &Value,
        path: &str,
    ) -> Option<Value> {
        let bound = |name: &str, otherwise: f64| {
            schema
                .get(name)
                .and_then(Value::as_f64)
                .unwrap_or(otherwise)
        };
        let (low, high) = (bound("minimum", 0.0), bound("maximum", f64::from(u32::MAX)));
        let value = number.as_f64().unwrap_or(f64::NAN);
        if (low..=high).contains(&value) {
            return Some(Value::Number(number.clone()));
        }
        let message = format!("{} is {number}, which is out of range", self.called(path));
        let help = if low == high {
            format!("write {low}")
        } else {
            format!("from {low} to {high}")
        };
        self.report.add(node.span, message, help);
        None
    }

    fn word(&mut self, node: &Node, words: &[&str], path: &str) -> Option<Value> {
        let found = match &node.value {
            Tree::Text(text) if words.contains(&text.as_str()) => {
                return Some(Value::String(text.clone()));
            }
            Tree::Text(text) => format!("\"{}\"", text.chars().take(64).collect::<String>()),
            other => other.kind().to_owned(),
        };
        let near = match &node.value {
            Tree::Text(text) => closest(text, words.iter().copied()),
            _ => None,
        };
        let known = words.join(", ");
        let help = near.map_or(format!("known: {known}"), |near| {
            format!("did you mean \"{near}\"? known: {known}")
        });
        self.report
            .add(node.span, format!("unknown {}: {found}", last(path)), help);
        None
    }

    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let name = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|path| path.strip_prefix("#/$defs/"));
        name.and_then(|name| self.root.get("$defs")?.get(name))
            .unwrap_or(schema)
    }

    fn takes(&self, node: &Node, schema: &'s Value) -> bool {
        let schema = self.resolve(schema);
        match &node.value {
            Tree::Map(_) => allows(schema, "object"),
            Tree::List(_) => allows(schema, "array"),
            Tree::Text(_) => allows(schema, "string") || words(schema).is_some(),
            Tree::Null => allows(schema, "null"),
            Tree::Bool(_) => allows(schema, "boolean"),
            Tree::Number(_) => allows(schema, "integer") || allows(schema, "number"),
        }
    }

    /// `step "check"`, `"limits"`, `the file`.
    fn called(&self, path: &str) -> String {
        match path.split('/').collect::<Vec<_>>()[..] {
            [""] => "the file".to_owned(),
            ["triggers", name] => format!("trigger \"{name}\""),
            ["steps", name] => format!("step \"{name}\""),
            ["sinks", name] => format!("sink \"{name}\""),
            _ => format!("\"{}\"", last(path)),
        }
    }
}

/// The field that a path is about: `from` for `steps/check/from/0`.
fn last(path: &str) -> &str {
    path.rsplit('/')
        .find(|part| part.parse::<usize>().is_err())
        .unwrap_or(path)
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ")
        .next()
        .unwrap_or(text)
        .trim_end_matches(['.', ' '])
}

fn allows(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(many)) => many.iter().any(|one| one == kind),
        _ => false,
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|required| required.iter().any(|one| one == name))
}

fn words(schema: &Value) -> Option<Vec<&str>> {
    let one_of = schema.get("oneOf")?.as_array()?;
    one_of
        .iter()
        .map(|one| one.get("const")?.as_str())
        .collect()
}

fn wanted(schema: &Value) -> &'static str {
    let kinds = [
        ("object", "a map"),
        ("array", "a list"),
        ("string", "text"),
        ("boolean", "true or false"),
        ("integer", "a whole number"),
        ("number", "a number"),
    ];
    kinds
        .iter()
        .find(|(kind, _)| allows(schema, kind))
        .map_or("something else", |(_, name)| name)
}

/// A value whose form is free, such as settings.
fn free(node: &Node) -> Value {
    match &node.value {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(*value),
        Tree::Number(number) => Value::Number(number.clone()),
        Tree::Text(text) => Value::String(text.clone()),
        Tree::List(items) => Value::Array(items.iter().map(free).collect()),
        Tree::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.name.clone(), free(value)))
                .collect(),
        ),
    }
}
