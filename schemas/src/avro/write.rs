//! JSON text → Avro bytes.
//!
//! Each array and map is one block. In a union, branches that cannot take such a JSON value are passed over; of the others
//! the first that takes it is written.

use std::borrow::Cow;

use base64::Engine as _;

use super::bounds::Bounds;
use super::calendar;
use super::decimal::Decimal;
use super::error::{AvroError, Wrong};
use super::json::{BASE64, Node};
use super::plan::{Branch, Default, Id, Plan, Record, Storage, Type, Unit};

type Written<T = ()> = Result<T, Box<Wrong>>;

/// Trying a union's branches may visit a value several times.
const VISITS: usize = 16;

pub(super) fn write(plan: &Plan, json: &[u8], body: &mut Vec<u8>) -> Result<(), AvroError> {
    let node = Node::parse(json)?;
    let start = body.len();
    body.reserve(json.len().min(1 << 20));
    let mut writer = Writer {
        plan,
        body,
        bounds: Bounds::new(json.len().saturating_mul(VISITS), start),
    };
    writer.value(plan.root, &node, 0).map_err(|wrong| {
        body.truncate(start);
        wrong.writing()
    })
}

struct Writer<'a> {
    plan: &'a Plan,
    body: &'a mut Vec<u8>,
    bounds: Bounds,
}

impl Writer<'_> {
    fn value(&mut self, of: Id, node: &Node<'_>, depth: usize) -> Written {
        self.bounds.step(depth, self.body.len())?;
        let plan = self.plan;
        let kind = &plan.types[of];
        let wrong = || unexpected(kind, node);
        match (kind, node) {
            (Type::Null, Node::Null) => {}
            (Type::Boolean, Node::Bool(value)) => self.body.push((*value).into()),
            (Type::Int, Node::Int(value)) => self.int(kind, *value)?,
            (Type::Long, Node::Int(value)) => put_long(self.body, *value),
            (Type::Float, node) => {
                let value = float(node).ok_or_else(wrong)?;
                let narrow = value as f32;
                if value.is_finite() && !narrow.is_finite() {
                    return Err(wrong());
                }
                self.body.extend_from_slice(&narrow.to_le_bytes());
            }
            (Type::Double, node) => {
                let value = float(node).ok_or_else(wrong)?;
                self.body.extend_from_slice(&value.to_le_bytes());
            }
            (Type::Bytes, Node::Text(text)) => {
                let bytes = BASE64.decode(&**text).map_err(|_| wrong())?;
                put_bytes(self.body, &bytes);
            }
            (Type::String, Node::Text(text)) => put_bytes(self.body, text.as_bytes()),
            (Type::Fixed(size), Node::Text(text)) => {
                let bytes = BASE64.decode(&**text).map_err(|_| wrong())?;
                if bytes.len() != *size {
                    return Err(wrong());
                }
                self.body.extend_from_slice(&bytes);
            }
            (Type::Enum(known), Node::Text(symbol)) => {
                let place = known.places.get(&**symbol).ok_or_else(wrong)?;
                put_long(self.body, *place as i64);
            }
            (Type::Array(item), Node::Array(nodes)) => {
                if !nodes.is_empty() {
                    put_long(self.body, nodes.len() as i64);
                    for (number, node) in nodes.iter().enumerate() {
                        self.value(*item, node, depth + 1)
                            .map_err(|wrong| wrong.in_item(number))?;
                    }
                }
                put_long(self.body, 0);
            }
            (Type::Map(item), Node::Object(members)) => {
                if !members.is_empty() {
                    put_long(self.body, members.len() as i64);
                    for (key, node) in members {
                        put_bytes(self.body, key.as_bytes());
                        self.value(*item, node, depth + 1)
                            .map_err(|wrong| wrong.in_entry(key))?;
                    }
                }
                put_long(self.body, 0);
            }
            (Type::Record(record), Node::Object(members)) => self.record(record, members, depth)?,
            (Type::Union(branches), node) => self.union(branches, node, depth)?,
            (
                Type::Decimal {
                    precision,
                    scale,
                    storage,
                },
                node,
            ) => {
                let decimal = decimal(node)
                    .and_then(|decimal| decimal.with_scale(*scale))
                    .filter(|decimal| decimal.precision() <= *precision)
                    .ok_or_else(wrong)?;
                let bytes = decimal.bytes();
                match storage {
                    Storage::Bytes => put_bytes(self.body, &bytes),
                    Storage::Fixed(size) => {
                        let more = size.checked_sub(bytes.len()).ok_or_else(wrong)?;
                        let sign = if bytes[0] >= 0x80 { 0xff } else { 0 };
                        self.body.resize(self.body.len() + more, sign);
                        self.body.extend_from_slice(&bytes);
                    }
                }
            }
            (Type::BigDecimal, node) => {
                let decimal = decimal(node).ok_or_else(wrong)?;
                let mut inner = Vec::new();
                put_bytes(&mut inner, &decimal.bytes());
                put_long(&mut inner, decimal.scale as i64);
                put_bytes(self.body, &inner);
            }
            (Type::UuidText, Node::Text(text)) => {
                uuid(text).ok_or_else(wrong)?;
                put_bytes(self.body, text.as_bytes());
            }
            (Type::UuidBytes(storage), Node::Text(text)) => {
                let uuid = uuid(text).ok_or_else(wrong)?;
                match storage {
                    Storage::Bytes => put_bytes(self.body, uuid.as_bytes()),
                    Storage::Fixed(_) => self.body.extend_from_slice(uuid.as_bytes()),
                }
            }
            (Type::Date | Type::Time(Unit::Millis), Node::Int(raw)) => self.int(kind, *raw)?,
            (Type::Time(_) | Type::Timestamp { .. }, Node::Int(raw)) => put_long(self.body, *raw),
            (Type::Date, Node::Text(text)) => {
                put_long(self.body, calendar::date(text).ok_or_else(wrong)?);
            }
            (Type::Time(unit), Node::Text(text)) => {
                let nanos = calendar::time(text).ok_or_else(wrong)?;
                put_long(self.body, in_unit(nanos.into(), *unit, text)?);
            }
            (Type::Timestamp { unit, local }, Node::Text(text)) => {
                let nanos = calendar::timestamp(text, *local).ok_or_else(wrong)?;
                put_long(self.body, in_unit(nanos, *unit, text)?);
            }
            (Type::Duration, Node::Object(members)) => {
                for name in ["months", "days", "millis"] {
                    let part = members.iter().find(|(key, _)| key == name);
                    let part = match part {
                        Some((_, Node::Int(part))) => u32::try_from(*part).ok(),
                        _ => None,
                    };
                    let part = part.filter(|_| members.len() == 3).ok_or_else(wrong)?;
                    self.body.extend_from_slice(&part.to_le_bytes());
                }
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn int(&mut self, kind: &Type, value: i64) -> Written {
        if i32::try_from(value).is_err() {
            return Err(unexpected(kind, &Node::Int(value)));
        }
        put_long(self.body, value);
        Ok(())
    }

    fn record(
        &mut self,
        record: &Record,
        members: &[(Cow<'_, str>, Node<'_>)],
        depth: usize,
    ) -> Written {
        let mut found: Vec<Option<&Node<'_>>> = vec![None; record.fields.len()];
        for (number, (key, node)) in members.iter().enumerate() {
            // most texts have the schema's order
            let place = match record.fields.get(number) {
                Some(field) if *field.name == **key => number,
                _ => *record.places.get(&**key).ok_or_else(|| {
                    let fields: Vec<&str> = record.fields.iter().map(|f| &*f.name).collect();
                    Wrong::new(format!(
                        "the record {} has no field {}; it has {}",
                        record.name,
                        super::error::shown(key),
                        listed(&fields)
                    ))
                })?,
            };
            if found[place].replace(node).is_some() {
                return Err(Wrong::new("is there twice").in_field(key));
            }
        }
        for (field, node) in record.fields.iter().zip(found) {
            match (node, &field.default) {
                (Some(node), _) => self
                    .value(field.of, node, depth + 1)
                    .map_err(|wrong| wrong.in_field(&field.name))?,
                (None, Default::Body(body)) => {
                    self.bounds.step(depth, self.body.len())?;
                    self.body.extend_from_slice(body);
                }
                (None, Default::None) => {
                    return Err(
                        Wrong::new("is missing, and the schema has no default for it")
                            .in_field(&field.name),
                    );
                }
                (None, Default::Wrong(why)) => {
                    return Err(Wrong::new(format!(
                        "is missing, and its default in the schema is wrong: {why}"
                    ))
                    .in_field(&field.name));
                }
            }
        }
        Ok(())
    }

    fn union(&mut self, branches: &[Branch], node: &Node<'_>, depth: usize) -> Written {
        let start = self.body.len();
        let mut refused: Vec<Box<Wrong>> = Vec::new();
        for (place, branch) in branches.iter().enumerate() {
            if !may_take(&self.plan.types[branch.of], node) {
                continue;
            }
            put_long(self.body, place as i64);
            match self.value(branch.of, node, depth + 1) {
                Ok(()) => return Ok(()),
                Err(wrong) if wrong.bound => return Err(wrong),
                Err(wrong) => refused.push(wrong),
            }
            self.body.truncate(start);
        }
        if let Node::Object(members) = node
            && let [(name, inner)] = &members[..]
            && let Some(place) = branches.iter().position(|branch| *branch.name == **name)
        {
            put_long(self.body, place as i64);
            return self
                .value(branches[place].of, inner, depth + 1)
                .map_err(|wrong| wrong.in_field(name));
        }
        // the branch that was meant is the one that came furthest
        refused.sort_by_key(|wrong| wrong.depth);
        let furthest = refused.last().map_or(0, |wrong| wrong.depth);
        match refused.pop() {
            Some(wrong) if furthest > 0 || refused.is_empty() => Err(wrong),
            _ => {
                let names: Vec<String> = branches
                    .iter()
                    .map(|branch| self.plan.types[branch.of].called())
                    .collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Err(Wrong::new(format!(
                    "expected one of {}; found {}",
                    listed(&names),
                    node.called()
                )))
            }
        }
    }
}

/// Whether a type has values of this JSON kind at all.
fn may_take(kind: &Type, node: &Node<'_>) -> bool {
    match node {
        Node::Null => matches!(kind, Type::Null),
        Node::Bool(_) => matches!(kind, Type::Boolean),
        Node::Int(_) => matches!(
            kind,
            Type::Int
                | Type::Long
                | Type::Float
                | Type::Double
                | Type::Decimal { .. }
                | Type::BigDecimal
                | Type::Date
                | Type::Time(_)
                | Type::Timestamp { .. }
        ),
        Node::Large(_) | Node::Float(_) => matches!(
            kind,
            Type::Float | Type::Double | Type::Decimal { .. } | Type::BigDecimal
        ),
        Node::Text(text) => match kind {
            Type::Float | Type::Double => special(text).is_some(),
            Type::Bytes
            | Type::String
            | Type::Enum(_)
            | Type::Fixed(_)
            | Type::Decimal { .. }
            | Type::BigDecimal
            | Type::UuidText
            | Type::UuidBytes(_)
            | Type::Date
            | Type::Time(_)
            | Type::Timestamp { .. } => true,
            _ => false,
        },
        Node::Array(_) => matches!(kind, Type::Array(_)),
        Node::Object(_) => matches!(kind, Type::Map(_) | Type::Record(_) | Type::Duration),
    }
}

fn unexpected(kind: &Type, node: &Node<'_>) -> Box<Wrong> {
    Wrong::new(format!(
        "expected {}, found {}",
        kind.called(),
        node.called()
    ))
}

fn listed(names: &[&str]) -> String {
    const NAMES_MAX: usize = 12;
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn float(node: &Node<'_>) -> Option<f64> {
    match node {
        Node::Int(value) => Some(*value as f64),
        Node::Large(value) => Some(*value as f64),
        Node::Float(value) => Some(*value),
        Node::Text(text) => special(text),
        _ => None,
    }
}

/// What is no number in JSON.
pub(super) fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn decimal(node: &Node<'_>) -> Option<Decimal> {
    match node {
        Node::Text(text) => Decimal::parse(text),
        Node::Int(value) => Decimal::parse(&value.to_string()),
        Node::Large(value) => Decimal::parse(&value.to_string()),
        // the shortest digits that are this number: those that stood in the text, or as good
        Node::Float(value) => Decimal::parse(&value.to_string()),
        _ => None,
    }
}

/// As 36 characters only.
fn uuid(text: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::try_parse(text)
        .ok()
        .filter(|_| text.len() == 36)
}

fn in_unit(nanos: i128, unit: Unit, text: &str) -> Written<i64> {
    let per = i128::from(1_000_000_000 / unit.per_second());
    if nanos % per != 0 {
        return Err(Wrong::new(format!(
            "{text:?} has more than the {} digits after the second that the schema holds",
            unit.digits()
        )));
    }
    i64::try_from(nanos / per)
        .map_err(|_| Wrong::new(format!("{text:?} is beyond what 64 bits hold")))
}

pub(super) fn put_long(body: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        body.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
}

pub(super) fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    put_long(body, bytes.len() as i64);
    body.extend_from_slice(bytes);
}
