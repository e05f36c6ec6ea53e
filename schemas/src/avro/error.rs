//! Why a schema or a datum is refused. None of these can get better by trying again.

use thiserror::Error;

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AvroSchemaError {
    #[error("the Avro schema cannot be parsed: {reason}")]
    Unparsable { reason: String },
    #[error("the Avro schema names \"{name}\", which neither it nor what it refers to defines")]
    Undefined { name: String },
}

/// A datum that is not what its schema says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AvroError {
    /// Bytes that were to be read.
    #[error("{}: {what}, at byte {at}", place(.path))]
    Body {
        /// Such as `customer.lines[3].price`; empty: the datum itself.
        path: String,
        at: usize,
        what: String,
    },
    /// A JSON text that was to be written.
    #[error("{}: {what}", place(.path))]
    Value { path: String, what: String },
    #[error("this is no JSON: {reason}")]
    Json { reason: String },
}

fn place(path: &str) -> String {
    if path.is_empty() {
        "the value".to_owned()
    } else {
        format!("\"{path}\"")
    }
}

/// An error on its way out of the datum; whoever it passes puts itself before the path.
#[derive(Debug)]
pub(super) struct Wrong {
    path: String,
    what: String,
    /// A limit was reached: no other branch of a union is tried.
    pub(super) bound: bool,
    /// How many fields and items it has passed.
    pub(super) depth: usize,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            path: String::new(),
            what: what.into(),
            bound: false,
            depth: 0,
        })
    }

    pub(super) fn bound(what: String) -> Box<Self> {
        let mut wrong = Self::new(what);
        wrong.bound = true;
        wrong
    }

    fn within(mut self: Box<Self>, segment: &str) -> Box<Self> {
        self.path.insert_str(0, segment);
        self.depth += 1;
        self
    }

    pub(super) fn in_field(self: Box<Self>, name: &str) -> Box<Self> {
        self.within(&format!(".{name}"))
    }

    pub(super) fn in_item(self: Box<Self>, number: usize) -> Box<Self> {
        self.within(&format!("[{number}]"))
    }

    pub(super) fn in_entry(self: Box<Self>, key: &str) -> Box<Self> {
        self.within(&format!("[{}]", shown(key)))
    }

    fn path(&self) -> String {
        self.path.strip_prefix('.').unwrap_or(&self.path).to_owned()
    }

    pub(super) fn reading(self, at: usize) -> AvroError {
        AvroError::Body {
            path: self.path(),
            at,
            what: self.what,
        }
    }

    pub(super) fn writing(self) -> AvroError {
        AvroError::Value {
            path: self.path(),
            what: self.what,
        }
    }
}

/// In quotes, and not longer than a line of a log.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
