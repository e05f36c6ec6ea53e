//! What a schema is compiled into: types in one list that name each other by their place, so that recursion costs nothing.

use std::collections::HashMap;

/// A type's place in `Plan::types`.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) types: Vec<Type>,
    pub(super) root: Id,
}

#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(Id),
    Map(Id),
    Union(Vec<Branch>),
    Record(Record),
    Enum(Enum),
    Fixed(usize),
    Decimal {
        precision: usize,
        scale: usize,
        storage: Storage,
    },
    /// Bytes that hold an unscaled number and its scale.
    BigDecimal,
    UuidText,
    UuidBytes(Storage),
    /// Days.
    Date,
    /// Of the day; milliseconds are an int, microseconds a long.
    Time(Unit),
    Timestamp {
        unit: Unit,
        local: bool,
    },
    /// 12 bytes: months, days, milliseconds.
    Duration,
}

/// How bytes of a logical type are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// With their length before them.
    Bytes,
    /// As many as this.
    Fixed(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    pub(super) fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// How many digits stand after the second's point.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }
}

#[derive(Debug)]
pub(super) struct Branch {
    /// As Avro's own JSON encoding names it: the type, or the full name.
    pub(super) name: Box<str>,
    pub(super) of: Id,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: Box<str>,
    pub(super) fields: Vec<Field>,
    /// By name.
    pub(super) places: HashMap<Box<str>, usize>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    /// `"name":`
    pub(super) member: Box<[u8]>,
    pub(super) of: Id,
    pub(super) default: Default,
}

/// What is written for a field that is missing.
#[derive(Debug)]
pub(super) enum Default {
    None,
    /// Its Avro body.
    Body(Box<[u8]>),
    /// The schema has one, but it is none of the field's type: only whoever needs it is refused.
    Wrong(Box<str>),
}

#[derive(Debug)]
pub(super) struct Enum {
    pub(super) name: Box<str>,
    /// In quotes.
    pub(super) symbols: Vec<Box<[u8]>>,
    pub(super) places: HashMap<Box<str>, usize>,
}

impl Type {
    /// What it is called in errors.
    pub(super) fn called(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Boolean => "a boolean".into(),
            Self::Int => "an int".into(),
            Self::Long => "a long".into(),
            Self::Float => "a float".into(),
            Self::Double => "a double".into(),
            Self::Bytes => "bytes in base64".into(),
            Self::String => "a text".into(),
            Self::Array(_) => "an array".into(),
            Self::Map(_) => "an object (a map)".into(),
            Self::Union(_) => "a value of a union".into(),
            Self::Record(record) => format!("an object (the record {})", record.name),
            Self::Enum(known) => format!("a symbol of the enum {}", known.name),
            Self::Fixed(size) => format!("{size} bytes in base64"),
            Self::Decimal {
                precision, scale, ..
            } => format!("a decimal({precision}, {scale}) such as \"12.34\""),
            Self::BigDecimal => "a decimal such as \"12.34\"".into(),
            Self::UuidText | Self::UuidBytes(_) => "a UUID".into(),
            Self::Date => "a date such as \"2024-12-31\"".into(),
            Self::Time(_) => "a time such as \"23:59:59\"".into(),
            Self::Timestamp { local: false, .. } => {
                "a timestamp such as \"2024-12-31T23:59:59Z\"".into()
            }
            Self::Timestamp { local: true, .. } => {
                "a local timestamp such as \"2024-12-31T23:59:59\"".into()
            }
            Self::Duration => "a duration: {\"months\", \"days\", \"millis\"}".into(),
        }
    }
}
