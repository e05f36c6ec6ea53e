//! Rows of Weir's own tables as one statement: an array for each column, whatever the number of rows. Pure, but for the
//! binding.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use crate::rows::Value;

/// What a column holds, and how its values travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Text,
    Uuid,
    Json,
    Integer,
    /// Microseconds since 1970.
    Us,
    /// Milliseconds since 1970.
    Ms,
    Bytes,
    /// Two columns: text, and bytes where it is none.
    Data,
}

/// A table's columns, in the order of `rows.rs`.
pub(super) struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Type)],
}

pub(super) const EXECUTIONS: Table = Table {
    name: "weir_executions",
    columns: &[
        ("execution", Type::Uuid),
        ("segment", Type::Uuid),
        ("tenant", Type::Text),
        ("graph", Type::Text),
        ("version", Type::Text),
        ("\"trigger\"", Type::Text),
        ("trigger_id", Type::Text),
        ("status", Type::Text),
        ("failed_step", Type::Text),
        ("failure", Type::Text),
        ("reason", Type::Text),
        ("attempt", Type::Integer),
        ("started", Type::Json),
        ("logs", Type::Json),
        ("logs_dropped", Type::Integer),
        ("origin", Type::Text),
        ("triggered_at", Type::Us),
        ("finished_at", Type::Ms),
    ],
};

pub(super) const OUTPUTS: Table = Table {
    name: "weir_outputs",
    columns: &[
        ("execution", Type::Uuid),
        ("segment", Type::Uuid),
        ("number", Type::Integer),
        ("tenant", Type::Text),
        ("graph", Type::Text),
        ("step", Type::Text),
        ("port", Type::Text),
        ("sinks", Type::Json),
        ("key", Type::Bytes),
        ("content_type", Type::Text),
        ("headers", Type::Json),
        ("data", Type::Data),
        ("sha256", Type::Text),
    ],
};

pub(super) const DEAD_LETTERS: Table = Table {
    name: "weir_dead_letters",
    columns: &[
        ("id", Type::Text),
        ("tenant", Type::Text),
        ("graph", Type::Text),
        ("version", Type::Text),
        ("execution", Type::Uuid),
        ("step", Type::Text),
        ("kind", Type::Text),
        ("reason", Type::Text),
        ("attempt", Type::Integer),
        ("topic", Type::Text),
        ("\"partition\"", Type::Integer),
        ("\"offset\"", Type::Integer),
        ("key", Type::Bytes),
        ("value", Type::Bytes),
        ("headers", Type::Json),
        ("died_at", Type::Ms),
        ("purged_at", Type::Ms),
    ],
};

/// One column's values.
enum Array {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Table {
    /// Inserts rows; those whose key is there already stay as they are: the same record always becomes the same row.
    pub(super) fn insert(&self) -> String {
        let (mut names, mut arrays, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut column = |name: &'static str, cast: &str, value: Option<&str>| {
            let number = names.len() + 1;
            arrays.push(format!("${number}::{cast}"));
            values.push(value.map_or_else(
                || format!("c{number}"),
                |value| value.replace('?', &format!("c{number}")),
            ));
            names.push(name);
        };
        for (name, kind) in self.columns {
            match kind {
                Type::Text => column(name, "text[]", None),
                Type::Uuid => column(name, "text[]", Some("?::uuid")),
                Type::Json => column(name, "text[]", Some("?::json")),
                Type::Integer => column(name, "bigint[]", None),
                Type::Us => column(name, "bigint[]", Some(US)),
                Type::Ms => column(name, "bigint[]", Some(MS)),
                Type::Bytes => column(name, "bytea[]", None),
                Type::Data => {
                    column(name, "text[]", None);
                    column("data_bytes", "bytea[]", None);
                }
            }
        }
        let columns: Vec<String> = (1..=names.len()).map(|n| format!("c{n}")).collect();
        format!(
            "insert into {} ({}) select {} from unnest({}) as u({}) on conflict do nothing",
            self.name,
            names.join(", "),
            values.join(", "),
            arrays.join(", "),
            columns.join(", "),
        )
    }

    /// How many values a row has.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The statement with its values, row after row.
    pub(super) fn bind(
        &self,
        statement: String,
        values: Vec<Value>,
    ) -> Query<'static, Postgres, PgArguments> {
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for array in self.arrays(values) {
            query = match array {
                Array::Text(values) => query.bind(values),
                Array::Integer(values) => query.bind(values),
                Array::Bytes(values) => query.bind(values),
            };
        }
        query
    }

    fn arrays(&self, values: Vec<Value>) -> Vec<Array> {
        let rows = values.len() / self.width();
        let mut arrays = Vec::with_capacity(self.width() + 1);
        let mut places = Vec::with_capacity(self.width());
        for (_, kind) in self.columns {
            places.push(arrays.len());
            match kind {
                Type::Text | Type::Uuid | Type::Json => {
                    arrays.push(Array::Text(Vec::with_capacity(rows)));
                }
                Type::Integer | Type::Us | Type::Ms => {
                    arrays.push(Array::Integer(Vec::with_capacity(rows)));
                }
                Type::Bytes => arrays.push(Array::Bytes(Vec::with_capacity(rows))),
                Type::Data => {
                    arrays.push(Array::Text(Vec::with_capacity(rows)));
                    arrays.push(Array::Bytes(Vec::with_capacity(rows)));
                }
            }
        }
        for (number, value) in values.into_iter().enumerate() {
            let column = number % self.width();
            let place = places[column];
            if self.columns[column].1 == Type::Data {
                let (text, bytes) = match value {
                    Value::Text(text) if !text.contains('\0') => (Some(text), None),
                    Value::Text(text) => (None, Some(text.into_bytes())),
                    Value::Blob(bytes) => (None, Some(bytes)),
                    Value::Integer(_) | Value::Null => (None, None),
                };
                push_text(&mut arrays[place], text);
                push_bytes(&mut arrays[place + 1], bytes);
                continue;
            }
            match (&mut arrays[place], value) {
                (Array::Text(values), Value::Text(text)) => values.push(Some(printable(text))),
                (Array::Integer(values), Value::Integer(number)) => values.push(Some(number)),
                (Array::Bytes(values), Value::Blob(bytes)) => values.push(Some(bytes)),
                (Array::Text(values), _) => values.push(None),
                (Array::Integer(values), _) => values.push(None),
                (Array::Bytes(values), _) => values.push(None),
            }
        }
        arrays
    }
}

pub(super) const US: &str = "timestamptz 'epoch' + ? * interval '1 microsecond'";
pub(super) const MS: &str = "timestamptz 'epoch' + ? * interval '1 millisecond'";

fn push_text(array: &mut Array, value: Option<String>) {
    if let Array::Text(values) = array {
        values.push(value);
    }
}

fn push_bytes(array: &mut Array, value: Option<Vec<u8>>) {
    if let Array::Bytes(values) = array {
        values.push(value);
    }
}

/// Postgres's text cannot hold a NUL; a reason with one is still to be read.
fn printable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{2400}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_a_place_for_each_column() {
        let sql = OUTPUTS.insert();
        assert!(
            sql.starts_with("insert into weir_outputs (execution, segment, number, tenant, "),
            "{sql}"
        );
        assert!(
            sql.contains("$13::bytea[]") && sql.contains("c1::uuid"),
            "{sql}"
        );
        assert!(
            DEAD_LETTERS
                .insert()
                .contains("'epoch' + c16 * interval '1 millisecond'")
        );
    }

    #[test]
    fn text_that_postgres_cannot_hold_becomes_bytes_or_a_sign() {
        let row = |data: &str| {
            let mut row = vec![Value::Null; OUTPUTS.width()];
            row[4] = "a\0b".into();
            row[11] = data.into();
            row
        };
        let arrays = OUTPUTS.arrays([row("plain"), row("\0")].concat());
        let Array::Text(graphs) = &arrays[4] else {
            panic!("text expected");
        };
        assert_eq!(graphs[0].as_deref(), Some("a\u{2400}b"));
        let (Array::Text(data), Array::Bytes(bytes)) = (&arrays[11], &arrays[12]) else {
            panic!("text and bytes expected");
        };
        assert_eq!(data, &[Some("plain".to_owned()), None]);
        assert_eq!(bytes, &[None, Some(vec![0])]);
    }
}
