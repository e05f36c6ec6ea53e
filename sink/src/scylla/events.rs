//! Events as rows of users' tables: which columns they have, and whether they can be a row at all. Pure.
//!
//! Values stay the JSON they are; the database converts them, and refuses what it cannot. (Cassandra reads a number as a double
//! also for a `decimal`; as a string all its digits count.)

use std::collections::BTreeMap;

use scylla::value::CqlValue;
use serde_json::value::RawValue;

/// A table as the database describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// As users write it.
    pub(super) table: String,
    pub(super) columns: BTreeMap<String, Column>,
    pub(super) partition_key: Vec<String>,
    pub(super) clustering_key: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) role: Role,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    /// One value for all rows of a partition.
    Static,
    Plain,
}

/// The types whose bytes are computed here, to find the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Boolean,
    Uuid,
    Other,
}

/// A row: its columns as JSON.
#[derive(Clone, Debug)]
pub(super) struct EventRow {
    fields: BTreeMap<String, Box<RawValue>>,
}

impl Shape {
    /// The event as a row of this table, or why it cannot be one.
    pub(super) fn row(&self, data: &[u8]) -> Result<EventRow, String> {
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(data)
            .map_err(|e| format!("the event is not one JSON object: {e}"))?;
        if let Some(unknown) = fields.keys().find(|name| !self.columns.contains_key(*name)) {
            let known: Vec<&str> = self.columns.keys().map(String::as_str).collect();
            return Err(format!(
                "table \"{}\" has no column \"{unknown}\"; it has {}",
                self.table,
                known.join(", ")
            ));
        }
        let given = |name: &String| fields.get(name).is_some_and(|value| value.get() != "null");
        let plain = |name: &String| {
            self.columns
                .get(name)
                .is_some_and(|c| c.role == Role::Plain)
        };
        // a row that has static columns only needs no place within its partition
        let placed = self.clustering_key.iter().any(given)
            || fields.keys().any(plain)
            || !fields.keys().any(|name| !self.partition_key.contains(name));
        let place = self.clustering_key.iter().filter(|_| placed);
        if let Some(missing) = self.partition_key.iter().chain(place).find(|n| !given(n)) {
            return Err(format!(
                "the event has no \"{missing}\", which is of the key of table \"{}\"",
                self.table
            ));
        }
        Ok(EventRow { fields })
    }

    /// What tells the row from others of the table: two that differ in how a key is written (1.0 for 1) are not known to be
    /// one.
    pub(super) fn key(&self, row: &EventRow) -> Vec<Option<String>> {
        let names = self.partition_key.iter().chain(&self.clustering_key);
        let value = |name: &String| row.fields.get(name).filter(|value| value.get() != "null");
        names
            .map(|name| value(name).map(|value| text(value)))
            .collect()
    }

    /// The partition key's values; `None`: of a type that is not converted here.
    pub(super) fn partition(&self, row: &EventRow) -> Option<Vec<CqlValue>> {
        let value = |name: &String| {
            let value = row.fields.get(name)?;
            convert(self.columns.get(name)?.kind, value)
        };
        self.partition_key.iter().map(value).collect()
    }
}

impl EventRow {
    /// Of the same row, and later: its columns win.
    pub(super) fn merge(&mut self, later: Self) {
        self.fields.extend(later.fields);
    }

    /// As `insert … json` takes it: a name that is not all lower case in quotes of its own.
    pub(super) fn json(&self) -> String {
        let mut json = String::from("{");
        for (name, value) in &self.fields {
            if json.len() > 1 {
                json.push(',');
            }
            let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let quoted = if name.bytes().all(lower) {
                serde_json::Value::from(name.as_str())
            } else {
                serde_json::Value::from(format!("\"{name}\""))
            };
            json.push_str(&quoted.to_string());
            json.push(':');
            json.push_str(value.get());
        }
        json.push('}');
        json
    }
}

/// A string's content; of others what is written.
fn text(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

fn convert(kind: Kind, value: &RawValue) -> Option<CqlValue> {
    let string = value.get().starts_with('"');
    match kind {
        Kind::Text => string.then(|| CqlValue::Text(text(value))),
        Kind::TinyInt => text(value).parse().ok().map(CqlValue::TinyInt),
        Kind::SmallInt => text(value).parse().ok().map(CqlValue::SmallInt),
        Kind::Int => text(value).parse().ok().map(CqlValue::Int),
        Kind::BigInt => text(value).parse().ok().map(CqlValue::BigInt),
        Kind::Boolean => text(value).parse().ok().map(CqlValue::Boolean),
        Kind::Uuid => text(value).parse().ok().map(CqlValue::Uuid),
        Kind::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let column = |name: &str, role, kind| (name.to_owned(), Column { role, kind });
        Shape {
            table: "orders".into(),
            columns: BTreeMap::from([
                column("id", Role::Key, Kind::Int),
                column("at", Role::Key, Kind::Other),
                column("Owner", Role::Static, Kind::Text),
                column("total", Role::Plain, Kind::Other),
            ]),
            partition_key: vec!["id".into()],
            clustering_key: vec!["at".into()],
        }
    }

    #[test]
    fn what_can_be_a_row() {
        for (event, outcome) in [
            (
                r#"{"id":1,"at":2,"total":1.50}"#,
                r#"{"at":2,"id":1,"total":1.50}"#,
            ),
            (r#"{"id":1,"Owner":"a"}"#, r#"{"\"Owner\"":"a","id":1}"#),
            (r#"{"id":1,"at":2,"at":3}"#, r#"{"at":3,"id":1}"#),
            (
                r#"{"id":1,"at":2,"ID":3}"#,
                "table \"orders\" has no column \"ID\"; it has Owner, at, id, total",
            ),
            (
                r#"{"at":2}"#,
                "the event has no \"id\", which is of the key of table \"orders\"",
            ),
            (
                r#"{"id":1,"total":null}"#,
                "the event has no \"at\", which is of the key of table \"orders\"",
            ),
            (
                r#"{"id":1}"#,
                "the event has no \"at\", which is of the key of table \"orders\"",
            ),
            (
                r#"{"id":null,"at":1}"#,
                "the event has no \"id\", which is of the key of table \"orders\"",
            ),
        ] {
            let row = shape().row(event.as_bytes()).map(|row| row.json());
            assert_eq!(row.unwrap_or_else(|why| why), outcome, "{event}");
        }
        for event in ["[1]", "1", "", "{", "\u{fffd}", r#"{"id":1}{}"#] {
            let refused = shape().row(event.as_bytes()).unwrap_err();
            assert!(refused.starts_with("the event is not one JSON object"));
        }
    }

    #[test]
    fn of_two_events_of_one_row_the_later_columns_win() {
        let shape = shape();
        let mut first = shape.row(br#"{"id":1,"at":2,"total":3}"#).unwrap();
        let later = shape
            .row(br#"{"id":"1","at":2,"Owner":"b","total":4}"#)
            .unwrap();
        assert_eq!(shape.key(&first), shape.key(&later));
        assert_eq!(shape.partition(&later), Some(vec![CqlValue::Int(1)]));
        first.merge(later);
        assert_eq!(
            first.json(),
            r#"{"\"Owner\"":"b","at":2,"id":"1","total":4}"#
        );
    }
}
