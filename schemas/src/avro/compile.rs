//! A schema's text → its plan.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, UuidSchema};
use serde_json::Value;

use super::default::Defaults;
use super::error::{AvroError, AvroSchemaError};
use super::plan::{Branch, Default, Enum, Field, Id, Plan, Record, Storage, Type, Unit};
use super::{read, write};

/// A compiled Avro schema.
#[derive(Debug)]
pub struct Avro {
    plan: Plan,
}

impl Avro {
    /// `schema`: its JSON text; `references`: the texts of the schemas that it, or one of them, names, in any order.
    pub fn parse(schema: &str, references: &[&str]) -> Result<Self, AvroSchemaError> {
        let (main, others) = if references.is_empty() {
            (Schema::parse_str(schema), Vec::new())
        } else {
            match Schema::parse_str_with_list(schema, references) {
                Ok((main, others)) => (Ok(main), others),
                Err(error) => (Err(error), Vec::new()),
            }
        };
        let main = main.map_err(|error| AvroSchemaError::Unparsable {
            reason: error.to_string(),
        })?;
        let mut compiler = Compiler::default();
        for other in &others {
            compiler.add(other, None);
        }
        let root = compiler.add(&main, None);
        Ok(Self {
            plan: compiler.finish(root)?,
        })
    }

    /// Appends the JSON text of a datum to `json`; all of `body` must be used up. After an error `json` is as it was.
    pub fn to_json(&self, body: &[u8], json: &mut Vec<u8>) -> Result<(), AvroError> {
        read::read(&self.plan, body, json)
    }

    /// Appends the Avro body of a JSON text to `body`. A missing field gets its default; an unknown one is an error. In a
    /// union the first branch that fits is written; `{"branch.name": value}` is understood where none does. After an error
    /// `body` is as it was.
    pub fn from_json(&self, json: &[u8], body: &mut Vec<u8>) -> Result<(), AvroError> {
        write::write(&self.plan, json, body)
    }
}

#[derive(Default)]
struct Compiler<'a> {
    /// `None`: named, and not yet defined.
    types: Vec<Option<Type>>,
    names: HashMap<String, Id>,
    defaults: HashMap<(Id, usize), &'a Value>,
}

impl<'a> Compiler<'a> {
    fn add(&mut self, schema: &'a Schema, namespace: Option<&str>) -> Id {
        let new = match schema {
            Schema::Ref { name } => return self.named(name, namespace),
            Schema::Record(record) => return self.record(record, namespace),
            Schema::Enum(known) => {
                let mut places = HashMap::new();
                let mut symbols = Vec::new();
                for (place, symbol) in known.symbols.iter().enumerate() {
                    places.insert(symbol.as_str().into(), place);
                    symbols.push(quoted(symbol).into());
                }
                let new = Type::Enum(Enum {
                    name: known.name.fullname(namespace).into(),
                    symbols,
                    places,
                });
                return self.define(&known.name, namespace, new);
            }
            Schema::Fixed(fixed) => {
                return self.define(&fixed.name, namespace, Type::Fixed(fixed.size));
            }
            Schema::Duration(fixed) => return self.define(&fixed.name, namespace, Type::Duration),
            Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                let new = Type::UuidBytes(Storage::Fixed(fixed.size));
                return self.define(&fixed.name, namespace, new);
            }
            Schema::Decimal(decimal) => {
                let new = |storage| Type::Decimal {
                    precision: decimal.precision,
                    scale: decimal.scale,
                    storage,
                };
                match &decimal.inner {
                    InnerDecimalSchema::Bytes => new(Storage::Bytes),
                    InnerDecimalSchema::Fixed(fixed) => {
                        let new = new(Storage::Fixed(fixed.size));
                        return self.define(&fixed.name, namespace, new);
                    }
                }
            }
            Schema::Array(array) => Type::Array(self.add(&array.items, namespace)),
            Schema::Map(map) => Type::Map(self.add(&map.types, namespace)),
            Schema::Union(union) => Type::Union(
                union
                    .variants()
                    .iter()
                    .map(|variant| Branch {
                        name: branch_name(variant, namespace).into(),
                        of: self.add(variant, namespace),
                    })
                    .collect(),
            ),
            Schema::Null => Type::Null,
            Schema::Boolean => Type::Boolean,
            Schema::Int => Type::Int,
            Schema::Long => Type::Long,
            Schema::Float => Type::Float,
            Schema::Double => Type::Double,
            Schema::Bytes => Type::Bytes,
            Schema::String => Type::String,
            Schema::BigDecimal => Type::BigDecimal,
            Schema::Uuid(UuidSchema::String) => Type::UuidText,
            Schema::Uuid(UuidSchema::Bytes) => Type::UuidBytes(Storage::Bytes),
            Schema::Date => Type::Date,
            Schema::TimeMillis => Type::Time(Unit::Millis),
            Schema::TimeMicros => Type::Time(Unit::Micros),
            Schema::TimestampMillis => timestamp(Unit::Millis, false),
            Schema::TimestampMicros => timestamp(Unit::Micros, false),
            Schema::TimestampNanos => timestamp(Unit::Nanos, false),
            Schema::LocalTimestampMillis => timestamp(Unit::Millis, true),
            Schema::LocalTimestampMicros => timestamp(Unit::Micros, true),
            Schema::LocalTimestampNanos => timestamp(Unit::Nanos, true),
        };
        self.types.push(Some(new));
        self.types.len() - 1
    }

    fn record(&mut self, record: &'a RecordSchema, namespace: Option<&str>) -> Id {
        // its place first: its fields may name it
        let id = self.named(&record.name, namespace);
        let namespace = record.name.namespace().or(namespace);
        let mut places = HashMap::new();
        let mut fields = Vec::with_capacity(record.fields.len());
        for (place, field) in record.fields.iter().enumerate() {
            places.insert(field.name.as_str().into(), place);
            if let Some(default) = &field.default {
                self.defaults.insert((id, place), default);
            }
            let mut member = quoted(&field.name);
            member.push(b':');
            fields.push(Field {
                name: field.name.as_str().into(),
                member: member.into(),
                of: self.add(&field.schema, namespace),
                default: Default::None,
            });
        }
        self.types[id] = Some(Type::Record(Record {
            name: record.name.fullname(namespace).into(),
            fields,
            places,
        }));
        id
    }

    fn named(&mut self, name: &Name, namespace: Option<&str>) -> Id {
        *self
            .names
            .entry(name.fullname(namespace))
            .or_insert_with(|| {
                self.types.push(None);
                self.types.len() - 1
            })
    }

    fn define(&mut self, name: &Name, namespace: Option<&str>, new: Type) -> Id {
        let id = self.named(name, namespace);
        self.types[id] = Some(new);
        id
    }

    fn finish(self, root: Id) -> Result<Plan, AvroSchemaError> {
        let mut types = Vec::with_capacity(self.types.len());
        for (id, found) in self.types.into_iter().enumerate() {
            types.push(found.ok_or_else(|| {
                let name = self.names.iter().find(|(_, named)| **named == id);
                AvroSchemaError::Undefined {
                    name: name.map(|(name, _)| name.clone()).unwrap_or_default(),
                }
            })?);
        }
        let bodies: Vec<_> = {
            let defaults = Defaults {
                types: &types,
                known: &self.defaults,
            };
            let body = |(&(record, place), value): (&(Id, usize), &&Value)| {
                let of = match &types[record] {
                    Type::Record(record) => record.fields.get(place)?.of,
                    _ => return None,
                };
                Some((record, place, defaults.body(of, value)))
            };
            self.defaults.iter().filter_map(body).collect()
        };
        for (record, place, body) in bodies {
            if let Type::Record(record) = &mut types[record] {
                record.fields[place].default = match body {
                    Ok(body) => Default::Body(body.into()),
                    Err(why) => Default::Wrong(why.into()),
                };
            }
        }
        Ok(Plan { types, root })
    }
}

fn timestamp(unit: Unit, local: bool) -> Type {
    Type::Timestamp { unit, local }
}

fn quoted(text: &str) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 3);
    super::json::put(&mut quoted, text);
    quoted
}

/// What Avro's JSON encoding calls a branch of a union: logical types by what they are kept in.
fn branch_name(variant: &Schema, namespace: Option<&str>) -> String {
    match variant {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Date | Schema::TimeMillis => "int",
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => "bytes",
        Schema::String | Schema::Uuid(UuidSchema::String) => "string",
        Schema::Array(_) => "array",
        Schema::Map(_) => "map",
        Schema::Union(_) => "union",
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => "bytes",
            InnerDecimalSchema::Fixed(fixed) => return fixed.name.fullname(namespace),
        },
        Schema::Uuid(UuidSchema::Fixed(fixed)) | Schema::Fixed(fixed) | Schema::Duration(fixed) => {
            return fixed.name.fullname(namespace);
        }
        Schema::Record(record) => return record.name.fullname(namespace),
        Schema::Enum(known) => return known.name.fullname(namespace),
        Schema::Ref { name } => return name.fullname(namespace),
    }
    .to_owned()
}
