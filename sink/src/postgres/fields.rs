//! Events of a group as an array of texts for each column, which costs the database half of what a list of JSON objects does.
//!
//! Only where a text becomes what `jsonb_populate_recordset` makes of the field: of the types below, each by its own input
//! function, and with the limits of the column (`varchar(10)`) kept by the assignment. Everything else (arrays, composites,
//! domains, enums, numbers with an exponent) goes as JSON.

use std::borrow::Cow;
use std::collections::HashMap;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgTypeInfo};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Postgres, Row as _, Type};

use super::Statement;
use super::check;
use super::tables::{Group, quoted, quoted_table};

/// Types by their object ids, which are fixed (`pg_type.dat`).
const TYPES: [(i64, &str); 23] = [
    (16, "boolean"),
    (17, "bytea"),
    (20, "bigint"),
    (21, "smallint"),
    (23, "integer"),
    (25, "text"),
    (114, JSON),
    (650, "cidr"),
    (700, "real"),
    (701, "double precision"),
    (829, "macaddr"),
    (869, "inet"),
    (1042, "bpchar"),
    (1043, "varchar"),
    (1082, "date"),
    (1083, "time"),
    (1114, "timestamp"),
    (1184, "timestamptz"),
    (1186, "interval"),
    (1266, "timetz"),
    (1700, "numeric"),
    (2950, "uuid"),
    (3802, JSONB),
];
const JSON: &str = "json";
const JSONB: &str = "jsonb";

/// What is known of a table.
#[derive(Default)]
pub(super) struct Known {
    /// Columns whose types are among them.
    columns: HashMap<String, &'static str>,
    /// The columns, in order of their names, of each index that says whether a row is there.
    unique: Vec<Vec<String>>,
}

impl Known {
    /// Whether a row whose key is there fails by itself.
    pub(super) fn is_unique(&self, key: &[String]) -> bool {
        let mut key = key.to_vec();
        key.sort_unstable();
        self.unique.contains(&key)
    }
}

/// Asks the database; of a table that is not there nothing is known.
pub(super) async fn known(
    connection: &mut PgConnection,
    table: &str,
) -> Result<Known, sqlx::Error> {
    let select = sqlx::query(
        "select attname::text, atttypid::bigint from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped",
    );
    let rows = select
        .bind(quoted_table(table))
        .fetch_all(&mut *connection)
        .await?;
    let mut columns = HashMap::new();
    for row in rows {
        let id: i64 = row.try_get(1)?;
        if let Some((_, name)) = TYPES.iter().find(|(known, _)| *known == id) {
            columns.insert(row.try_get::<String, _>(0)?, *name);
        }
    }
    let unique = check::unique(connection, &quoted_table(table)).await?;
    Ok(Known { columns, unique })
}

/// What a statement takes, and how its rows are made of it.
pub(super) struct Arrays {
    cast: Vec<String>,
    values: Vec<Texts>,
}

impl Arrays {
    /// `None`: they have to go as JSON.
    pub(super) fn of(group: &Group<'_>, known: &Known) -> Option<Self> {
        let names = group.columns();
        let types: Option<Vec<&str>> = names
            .iter()
            .map(|name| known.columns.get(name).copied())
            .collect();
        let types = types?;
        // a column's part of the first event is about its part of all; whatever they are, the room is not much more than what they take
        let bytes: usize = group.rows.iter().map(|row| row.write.data.len()).sum();
        let of_first = group.rows.first()?.write.data.len().max(1);
        let room = |field: &[u8]| field.len() * bytes / of_first * 9 / 8 + 8 * group.rows.len();
        let first = group.events.first()?.fields();
        let mut values: Vec<Texts> = first.map(|field| Texts::with_room(room(field))).collect();
        for event in &group.events {
            for ((field, of), column) in event.fields().zip(&types).zip(&mut values) {
                column.push(text(field, matches!(*of, JSON | JSONB))?.as_deref());
            }
        }
        let named = names.iter().zip(&types).enumerate();
        let cast = named.map(|(place, (name, of))| format!("c{place}::{of} as {}", quoted(name)));
        Some(Self {
            cast: cast.collect(),
            values,
        })
    }

    /// Rows `r`. `condition`: on which there are any.
    pub(super) fn source(&self, condition: &str) -> String {
        let all = 0..self.values.len();
        let arrays: Vec<String> = all.clone().map(|n| format!("${}::text[]", n + 1)).collect();
        let places: Vec<String> = all.map(|n| format!("c{n}")).collect();
        let (cast, arrays, places) = (self.cast.join(", "), arrays.join(", "), places.join(", "));
        format!("(select {cast} from unnest({arrays}) as u({places}) {condition}) as r")
    }

    pub(super) fn bind(self, statement: String) -> Result<Statement, sqlx::Error> {
        let bytes: usize = self
            .values
            .iter()
            .map(|texts| texts.elements.len() + 24)
            .sum();
        let mut arguments = PgArguments::default();
        arguments.reserve(self.values.len(), bytes);
        for texts in self.values {
            arguments.add(texts).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(statement), arguments))
    }
}

/// A `text[]`, whose elements are laid down as Postgres reads them (`array_recv`): the length of each, then its bytes.
struct Texts {
    count: i32,
    has_nulls: bool,
    elements: Vec<u8>,
}

impl Texts {
    fn with_room(bytes: usize) -> Self {
        Self {
            count: 0,
            has_nulls: false,
            elements: Vec::with_capacity(bytes),
        }
    }

    fn push(&mut self, text: Option<&[u8]>) {
        self.count += 1;
        self.has_nulls |= text.is_none();
        // an event has 512 KiB at most
        let bytes = text.map_or(-1, |text| text.len() as i32);
        self.elements.extend_from_slice(&bytes.to_be_bytes());
        self.elements.extend_from_slice(text.unwrap_or_default());
    }
}

impl Type<Postgres> for Texts {
    fn type_info() -> PgTypeInfo {
        <Vec<String> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Texts {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        /// The object id of `text`.
        const TEXT: i32 = 25;
        // one dimension, from 1 on
        for number in [1, i32::from(self.has_nulls), TEXT, self.count, 1] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        buffer.extend_from_slice(&self.elements);
        Ok(IsNull::No)
    }
}

/// A field as the text that its column's type reads; a JSON null is none. The outer `None`: it has to go as JSON.
fn text(raw: &[u8], is_json: bool) -> Option<Option<Cow<'_, [u8]>>> {
    if raw == b"null" {
        return Some(None);
    }
    if is_json {
        return Some(Some(raw.into()));
    }
    match raw {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Some(Some(inner.into())),
        [b'"', ..] => {
            let text: String = serde_json::from_slice(raw).ok()?;
            Some(Some(text.into_bytes().into()))
        }
        [b'[' | b'{', ..] | [] => None,
        [b't' | b'f', ..] => Some(Some(raw.into())),
        number => is_plain(number).then(|| Some(number.into())),
    }
}

/// Whether `jsonb` writes a number as it stands: not `1e3`, and not `-0`.
fn is_plain(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-");
    let is_minus_zero = digits.is_some_and(|rest| rest.iter().all(|b| matches!(b, b'0' | b'.')));
    !is_minus_zero && !number.iter().any(|b| matches!(b, b'e' | b'E'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_the_text_that_a_column_reads() {
        for (raw, expected) in [
            ("null", Some(None)),
            ("12", Some(Some("12"))),
            ("-1.50", Some(Some("-1.50"))),
            ("true", Some(Some("true"))),
            (r#""a b""#, Some(Some("a b"))),
            (r#""a\"\n\u00e9""#, Some(Some("a\"\né"))),
            // as jsonb writes them, or not at all
            ("1e3", None),
            ("-0", None),
            ("-0.00", None),
            ("[1]", None),
            (r#"{"a":1}"#, None),
            (r#""\ud800""#, None),
        ] {
            let found = text(raw.as_bytes(), false);
            let expected = expected.map(|text: Option<&str>| text.map(str::as_bytes));
            assert_eq!(found.as_ref().map(Option::as_deref), expected, "{raw}");
        }
        let object = r#"{"a":1}"#;
        let object = object.as_bytes();
        assert_eq!(text(object, true), Some(Some(object.into())));
    }
}
