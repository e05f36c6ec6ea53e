//! Events as rows of users' tables: which fields of them are written. Pure. Done by the thread that reads records, so that the one
//! that writes has only to send them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use schemas::graph::WriteMode;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::writes::Target;

/// Shapes that are remembered.
const SHAPES_MAX: usize = 1_000;

/// What rows of one statement have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) table: String,
    pub(super) mode: WriteMode,
    pub(super) key: Vec<String>,
    /// Fields of the events that are written, in order of their names.
    pub(super) columns: Vec<String>,
}

/// An event that is a row.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(super) shape: Arc<Shape>,
    /// The text of its key, where it has one.
    pub(super) key: Option<Bytes>,
    data: Bytes,
    /// Where in `data` the value of each column lies.
    places: Vec<Range<usize>>,
}

impl Event {
    /// The value of each column as JSON; it was parsed, so it is UTF-8.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| &self.data[place.clone()])
    }
}

/// The shapes of a destination's events, by what their sink says and the last names that their fields had.
#[derive(Default)]
pub(crate) struct Shapes(HashMap<usize, Known>);

struct Known {
    /// Kept, so that its address stays its own.
    target: Arc<Target>,
    /// Of all fields, as they stand in the event.
    names: Vec<String>,
    shape: Arc<Shape>,
    /// Which of the fields are the columns, and which are the key.
    columns: Vec<usize>,
    key: Vec<usize>,
}

impl Shapes {
    /// The error says why it is no row.
    pub(crate) fn event(&mut self, target: &Arc<Target>, data: &Bytes) -> Result<Event, String> {
        // whatever the event is, as one whose bytes lie elsewhere
        if let Target::Refused(why) = &**target {
            return Err(why.clone());
        }
        let Object(fields) = serde_json::from_slice(data).map_err(|error| {
            format!("the event is no JSON object, so it has no columns: {error}")
        })?;
        let place = Arc::as_ptr(target) as usize;
        let known = match self.0.get(&place) {
            Some(known) if known.is_of(target, &fields) => known,
            _ => {
                let known = Known::new(target, &fields)?;
                if self.0.len() >= SHAPES_MAX {
                    self.0.clear();
                }
                self.0.insert(place, known);
                &self.0[&place]
            }
        };
        let start = data.as_ptr() as usize;
        let range = |number: &usize| {
            let value = fields[*number].1.get();
            let from = value.as_ptr() as usize - start;
            from..from + value.len()
        };
        let key = match &known.key[..] {
            [] => None,
            [one] => Some(data.slice(range(one))),
            more => {
                let texts: Vec<&str> = more.iter().map(|number| fields[*number].1.get()).collect();
                Some(texts.join("\u{1f}").into())
            }
        };
        Ok(Event {
            shape: known.shape.clone(),
            key,
            places: known.columns.iter().map(range).collect(),
            data: data.clone(),
        })
    }
}

impl Known {
    fn new(target: &Arc<Target>, fields: &[Field<'_>]) -> Result<Self, String> {
        let Target::Postgres {
            table,
            mode,
            key,
            columns,
        } = &**target
        else {
            return Err("it is no row of a table in Postgres".into());
        };
        // of fields with the same name the last one counts
        let named = fields.iter().enumerate();
        let all: BTreeMap<&str, usize> = named.map(|(place, (name, _))| (&**name, place)).collect();
        if let Some(missing) = key.iter().find(|name| !all.contains_key(&***name)) {
            return Err(format!(
                "the event has no field \"{missing}\", which is in the key of table {table}"
            ));
        }
        let is_written = |name: &str| match mode {
            WriteMode::Delete => key.iter().any(|key| key == name),
            _ => columns.is_empty() || columns.iter().chain(key).any(|column| column == name),
        };
        let written = all.iter().filter(|(name, _)| is_written(name));
        let (names, places): (Vec<String>, Vec<usize>) = written
            .map(|(name, place)| ((*name).to_owned(), *place))
            .unzip();
        if names.is_empty() {
            return Err(format!(
                "the event has no field that is a column of table {table}"
            ));
        }
        let shape = Shape {
            table: table.clone(),
            mode: *mode,
            key: key.clone(),
            columns: names,
        };
        Ok(Self {
            target: target.clone(),
            names: fields.iter().map(|(name, _)| name.to_string()).collect(),
            shape: Arc::new(shape),
            columns: places,
            key: key
                .iter()
                .filter_map(|name| all.get(&**name).copied())
                .collect(),
        })
    }

    fn is_of(&self, target: &Arc<Target>, fields: &[Field<'_>]) -> bool {
        let names = fields.iter().map(|(name, _)| &**name);
        Arc::ptr_eq(&self.target, target) && self.names.iter().map(|name| &**name).eq(names)
    }
}

/// Its name, and its value as it stands.
type Field<'e> = (Cow<'e, str>, &'e RawValue);

/// The fields of an object, as they stand.
struct Object<'e>(Vec<Field<'e>>);

#[derive(Deserialize)]
struct Name<'e>(#[serde(borrow)] Cow<'e, str>);

impl<'e> Deserialize<'e> for Object<'e> {
    fn deserialize<D: Deserializer<'e>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'e> Visitor<'e> for Fields {
            type Value = Vec<Field<'e>>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'e>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(fields)
            }
        }
        from.deserialize_map(Fields).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mode: WriteMode, key: &[&str], columns: &[&str]) -> Arc<Target> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Target::Postgres {
            table: "orders".into(),
            mode,
            key: names(key),
            columns: names(columns),
        })
    }

    fn shown(event: &Event) -> Vec<(&str, &str)> {
        let names = event.shape.columns.iter().map(|name| &**name);
        let values = event
            .fields()
            .map(|value| std::str::from_utf8(value).unwrap());
        names.zip(values).collect()
    }

    #[test]
    fn fields_are_found_whatever_their_order() {
        let mut shapes = Shapes::default();
        let all = target(WriteMode::Insert, &["id"], &[]);
        for (data, expected) in [
            (r#"{"id":1,"a":"x"}"#, vec![("a", r#""x""#), ("id", "1")]),
            (r#"{"id":2,"a":[1]}"#, vec![("a", "[1]"), ("id", "2")]),
            (
                r#"{"a":null,"id":"\u0031"}"#,
                vec![("a", "null"), ("id", r#""\u0031""#)],
            ),
            (
                r#" {"id" : 3 , "a" : 1, "a":2}"#,
                vec![("a", "2"), ("id", "3")],
            ),
            (r#"{"\u0069d":4}"#, vec![("id", "4")]),
            (r#"{"id":5,"a":"x"}"#, vec![("a", r#""x""#), ("id", "5")]),
        ] {
            let event = shapes.event(&all, &Bytes::from(data)).unwrap();
            assert_eq!(shown(&event), expected, "{data}");
            let id = expected.last().unwrap().1;
            assert_eq!(event.key.as_deref(), Some(id.as_bytes()));
        }
    }

    #[test]
    fn only_what_the_sink_names_is_written() {
        let mut shapes = Shapes::default();
        let data = Bytes::from_static(br#"{"b":2,"id":1,"a":3,"at":4}"#);
        for (mode, key, columns, expected) in [
            (
                WriteMode::Upsert,
                vec!["id", "at"],
                vec!["b"],
                vec![("at", "4"), ("b", "2"), ("id", "1")],
            ),
            (WriteMode::Delete, vec!["id"], vec![], vec![("id", "1")]),
            (WriteMode::Insert, vec![], vec!["a"], vec![("a", "3")]),
        ] {
            let target = target(mode, &key, &columns);
            let event = shapes.event(&target, &data).unwrap();
            assert_eq!(shown(&event), expected);
            let keys: Vec<&str> = key
                .iter()
                .map(|name| if *name == "id" { "1" } else { "4" })
                .collect();
            let key = event
                .key
                .map(|key| String::from_utf8(key.to_vec()).unwrap());
            assert_eq!(key, (!keys.is_empty()).then(|| keys.join("\u{1f}")));
        }
        // its bytes lie elsewhere
        let refused = Arc::new(Target::Refused("too large".into()));
        let large = shapes.event(&refused, &Bytes::new());
        assert_eq!(large.unwrap_err(), "too large");
        let nothing = shapes.event(&target(WriteMode::Insert, &[], &["c"]), &data);
        assert!(nothing.unwrap_err().contains("no field that is a column"));
    }
}
