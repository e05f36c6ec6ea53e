//! The defaults of fields, as a schema writes them, → the bytes that stand for a missing field.
//!
//! Here, and only here, values are as Avro's own JSON encoding has them: bytes and fixed as text with a character per byte,
//! logical types as what they are kept in, unions as a value of one of their branches.

use std::cell::Cell;
use std::collections::HashMap;

use serde_json::Value;

use super::bounds::DEPTH_MAX;
use super::plan::{Id, Storage, Type};
use super::write::{put_bytes, put_long};

/// How many values one default may come to, with those of records within it.
const VALUES_MAX: usize = 10_000;

pub(super) struct Defaults<'a> {
    pub(super) types: &'a [Type],
    /// By record and field.
    pub(super) known: &'a HashMap<(Id, usize), &'a Value>,
}

impl Defaults<'_> {
    /// The Avro body of a default; the error says why it is none.
    pub(super) fn body(&self, of: Id, value: &Value) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        let left = Cell::new(VALUES_MAX);
        self.put(of, value, &mut body, 0, &left)?;
        Ok(body)
    }

    fn put(
        &self,
        of: Id,
        value: &Value,
        body: &mut Vec<u8>,
        depth: usize,
        left: &Cell<usize>,
    ) -> Result<(), String> {
        left.set(left.get().saturating_sub(1));
        if depth > DEPTH_MAX || left.get() == 0 {
            return Err("it is too large, or holds itself".to_owned());
        }
        let kind = &self.types[of];
        let wrong = || format!("{value} is not {}", kind.called());
        match kind {
            Type::Null => value.as_null().ok_or_else(wrong)?,
            Type::Boolean => body.push(value.as_bool().ok_or_else(wrong)?.into()),
            Type::Int | Type::Date | Type::Time(super::plan::Unit::Millis) => {
                let value = value.as_i64().filter(|value| i32::try_from(*value).is_ok());
                put_long(body, value.ok_or_else(wrong)?);
            }
            Type::Long | Type::Time(_) | Type::Timestamp { .. } => {
                put_long(body, value.as_i64().ok_or_else(wrong)?);
            }
            Type::Float => {
                let value = float(value).ok_or_else(wrong)? as f32;
                body.extend_from_slice(&value.to_le_bytes());
            }
            Type::Double => {
                body.extend_from_slice(&float(value).ok_or_else(wrong)?.to_le_bytes());
            }
            Type::String | Type::UuidText => {
                put_bytes(body, value.as_str().ok_or_else(wrong)?.as_bytes());
            }
            Type::Bytes | Type::BigDecimal => {
                put_bytes(body, &characters(value).ok_or_else(wrong)?);
            }
            Type::Fixed(size) => self.stored(Storage::Fixed(*size), value, body, wrong)?,
            Type::Duration => self.stored(Storage::Fixed(12), value, body, wrong)?,
            Type::Decimal { storage, .. } | Type::UuidBytes(storage) => {
                self.stored(*storage, value, body, wrong)?;
            }
            Type::Enum(known) => {
                let place = value.as_str().and_then(|symbol| known.places.get(symbol));
                put_long(body, *place.ok_or_else(wrong)? as i64);
            }
            Type::Array(item) => {
                let items = value.as_array().ok_or_else(wrong)?;
                if !items.is_empty() {
                    put_long(body, items.len() as i64);
                    for value in items {
                        self.put(*item, value, body, depth + 1, left)?;
                    }
                }
                put_long(body, 0);
            }
            Type::Map(item) => {
                let entries = value.as_object().ok_or_else(wrong)?;
                if !entries.is_empty() {
                    put_long(body, entries.len() as i64);
                    for (key, value) in entries {
                        put_bytes(body, key.as_bytes());
                        self.put(*item, value, body, depth + 1, left)?;
                    }
                }
                put_long(body, 0);
            }
            // the first, says the older specification; any, says the newer
            Type::Union(branches) => {
                let start = body.len();
                for (place, branch) in branches.iter().enumerate() {
                    put_long(body, place as i64);
                    if self.put(branch.of, value, body, depth + 1, left).is_ok() {
                        return Ok(());
                    }
                    body.truncate(start);
                }
                return Err(wrong());
            }
            Type::Record(record) => {
                let members = value.as_object().ok_or_else(wrong)?;
                for (place, field) in record.fields.iter().enumerate() {
                    let found = members.get(&*field.name);
                    let found = found.or_else(|| self.known.get(&(of, place)).copied());
                    let value = found
                        .ok_or_else(|| format!("{value} lacks the field \"{}\"", field.name))?;
                    self.put(field.of, value, body, depth + 1, left)?;
                }
            }
        }
        Ok(())
    }

    fn stored(
        &self,
        storage: Storage,
        value: &Value,
        body: &mut Vec<u8>,
        wrong: impl Fn() -> String,
    ) -> Result<(), String> {
        let bytes = characters(value).ok_or_else(&wrong)?;
        match storage {
            Storage::Bytes => put_bytes(body, &bytes),
            Storage::Fixed(size) if bytes.len() == size => body.extend_from_slice(&bytes),
            Storage::Fixed(_) => return Err(wrong()),
        }
        Ok(())
    }
}

fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => super::write::special(text),
        None => value.as_f64(),
    }
}

/// A byte per character.
fn characters(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}
