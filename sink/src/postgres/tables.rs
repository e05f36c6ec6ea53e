//! Users' own tables: which statements a batch's events become. The database converts fields to columns itself
//! (`jsonb_populate_recordset`), so what it takes is what its types take. Pure.

use std::collections::HashMap;

use schemas::graph::WriteMode;
use topics::Fetched;

use super::event::{Event, Shape};
use crate::writes::Write;

/// Rows that one statement writes: of one table, with the same fields.
pub(super) struct Group<'b> {
    shape: &'b Shape,
    /// In order; of rows with the same key only the last one.
    pub(super) rows: Vec<Row<'b>>,
    /// Of each row.
    pub(super) events: Vec<&'b Event>,
    places: HashMap<&'b [u8], usize>,
}

#[derive(Clone, Copy)]
pub(super) struct Row<'b> {
    pub(super) write: &'b Write,
    pub(super) from: &'b Fetched,
}

/// A row that cannot be written, and why.
pub(super) type Refused<'b> = (Row<'b>, String);

/// Groups of rows; a row comes after all earlier ones of its key.
pub(super) fn groups<'b>(
    rows: impl IntoIterator<Item = Row<'b>>,
) -> (Vec<Group<'b>>, Vec<Refused<'b>>) {
    let mut groups: Vec<Group<'b>> = Vec::new();
    let mut refused = Vec::new();
    for row in rows {
        match event(row.write) {
            Ok(event) => add(&mut groups, row, event),
            Err(why) => refused.push((row, why)),
        }
    }
    (groups, refused)
}

fn event(write: &Write) -> Result<&Event, String> {
    match &write.event {
        Some(event) => event.as_ref().map_err(Clone::clone),
        None => Err("this destination is in Postgres, and the sink is of kind scylla".into()),
    }
}

fn add<'b>(groups: &mut Vec<Group<'b>>, row: Row<'b>, event: &'b Event) {
    let (shape, key) = (&*event.shape, event.key.as_deref());
    // it may not overtake one of its key, nor one whose key nobody can compare with its own
    let after = groups.iter().rposition(|group| {
        let Some(key) = key else { return false };
        group.shape.table == shape.table
            && (group.shape.key != shape.key || group.places.contains_key(key))
    });
    let is_like = |group: &Group<'_>| std::ptr::eq(group.shape, shape) || group.shape == shape;
    let like = groups.iter().rposition(is_like);
    let group = match like {
        Some(like) if after.is_none_or(|after| after <= like) => &mut groups[like],
        _ => {
            groups.push(Group {
                shape,
                rows: Vec::new(),
                events: Vec::new(),
                places: HashMap::new(),
            });
            let last = groups.len() - 1;
            &mut groups[last]
        }
    };
    let replaces = group.shape.mode != WriteMode::Insert;
    match key.and_then(|key| group.places.get(key)) {
        Some(place) if replaces => {
            group.rows[*place] = row;
            group.events[*place] = event;
        }
        // the first of a key stands
        Some(_) => {}
        None => {
            if let Some(key) = key {
                group.places.insert(key, group.rows.len());
            }
            group.rows.push(row);
            group.events.push(event);
        }
    }
}

impl Group<'_> {
    pub(super) fn table(&self) -> &str {
        &self.shape.table
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.shape.columns
    }

    /// Rows `r` of the table, where `$1` is a JSON list of events.
    pub(super) fn events(&self) -> String {
        let table = quoted_table(&self.shape.table);
        format!("jsonb_populate_recordset(null::{table}, $1::jsonb) as r")
    }

    /// The key that says whether an inserted row is there already.
    pub(super) fn inserted_key(&self) -> Option<&[String]> {
        let is_it = self.shape.mode == WriteMode::Insert && !self.shape.key.is_empty();
        is_it.then_some(&*self.shape.key)
    }

    /// `events`: where the rows `r` come from. `fails`: an insert of a row whose key is there already fails, which costs the
    /// database less than looking for it.
    pub(super) fn statement(&self, events: &str, fails: bool) -> String {
        let Shape {
            table,
            mode,
            key,
            columns,
        } = self.shape;
        let table = quoted_table(table);
        let names = list(columns, "");
        let insert = format!(
            "insert into {table} ({names}) select {} from {events}",
            list(columns, "r.")
        );
        match mode {
            WriteMode::Insert if fails || key.is_empty() => insert,
            WriteMode::Insert => format!("{insert} on conflict ({}) do nothing", list(key, "")),
            WriteMode::Upsert => {
                let others = columns.iter().filter(|column| !key.contains(column));
                let set: Vec<String> = others
                    .map(|column| format!("{0} = excluded.{0}", quoted(column)))
                    .collect();
                let what = if set.is_empty() {
                    "do nothing".to_owned()
                } else {
                    format!("do update set {}", set.join(", "))
                };
                format!("{insert} on conflict ({}) {what}", list(key, ""))
            }
            WriteMode::Delete => {
                let same: Vec<String> = key
                    .iter()
                    .map(|column| format!("t.{0} = r.{0}", quoted(column)))
                    .collect();
                format!(
                    "delete from {table} as t using {events} where {}",
                    same.join(" and ")
                )
            }
        }
    }
}

impl Group<'_> {
    /// Finds rows of the table that are just as the events of `$1` would be; only for inserts.
    pub(super) fn same(&self) -> Option<String> {
        let Shape {
            table,
            mode,
            columns,
            ..
        } = self.shape;
        let table = quoted_table(table);
        let same: Vec<String> = columns
            .iter()
            .map(|column| format!("t.{0} is not distinct from r.{0}", quoted(column)))
            .collect();
        (*mode == WriteMode::Insert).then(|| {
            format!(
                "select 1 from {table} as t, {} where {} limit 1",
                self.events(),
                same.join(" and ")
            )
        })
    }
}

/// The events as a JSON list.
pub(super) fn events(rows: &[Row<'_>]) -> String {
    let bytes: usize = rows.iter().map(|row| row.write.data.len() + 1).sum();
    let mut list = String::with_capacity(bytes + 2);
    list.push('[');
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            list.push(',');
        }
        // it was parsed as JSON, which is UTF-8
        list.push_str(&String::from_utf8_lossy(&row.write.data));
    }
    list.push(']');
    list
}

fn list(names: &[String], before: &str) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("{before}{}", quoted(name)))
        .collect();
    quoted.join(", ")
}

/// A name as SQL, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// `shop.orders` as SQL.
pub(super) fn quoted_table(table: &str) -> String {
    let parts: Vec<String> = table.split('.').map(quoted).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use topics::{Partition, Record};

    use super::*;
    use crate::writes::Target;

    fn from(offset: i64) -> Fetched {
        Fetched {
            partition: Partition {
                topic: topics::catalog::RESULTS.into(),
                number: 0,
            },
            offset,
            record: Record {
                key: None,
                value: None,
                headers: vec![],
                timestamp_ms: 0,
            },
        }
    }

    fn write(mode: WriteMode, key: &[&str], data: &str) -> Write {
        let target = Target::Postgres {
            table: "shop.orders".into(),
            mode,
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            columns: vec![],
        };
        Write::of(target, data)
    }

    fn shown(groups: &[Group<'_>]) -> Vec<String> {
        groups.iter().map(|group| events(&group.rows)).collect()
    }

    #[test]
    fn the_last_of_a_key_stands_and_none_overtakes_another() {
        let upsert = |data| write(WriteMode::Upsert, &["id"], data);
        let writes = [
            upsert(r#"{"id":1,"a":1}"#),
            upsert(r#"{"id":2,"a":1}"#),
            upsert(r#"{"id":1,"a":2}"#),
            upsert(r#"{"id":1,"b":3}"#),
            upsert(r#"{"id":3,"a":4}"#),
            upsert(r#"{"id":1,"a":5}"#),
            write(WriteMode::Delete, &["id"], r#"{"id":2}"#),
        ];
        let at = from(0);
        let rows = writes.iter().map(|write| Row { write, from: &at });
        let (groups, refused) = groups(rows);
        assert!(refused.is_empty());
        assert_eq!(
            shown(&groups),
            [
                r#"[{"id":1,"a":2},{"id":2,"a":1},{"id":3,"a":4}]"#,
                r#"[{"id":1,"b":3}]"#,
                r#"[{"id":1,"a":5}]"#,
                r#"[{"id":2}]"#,
            ]
        );
        assert_eq!(
            groups[0].statement(&groups[0].events(), false),
            r#"insert into "shop"."orders" ("a", "id") select r."a", r."id" from jsonb_populate_recordset(null::"shop"."orders", $1::jsonb) as r on conflict ("id") do update set "a" = excluded."a""#
        );
        assert!(
            groups[3]
                .statement("events", false)
                .starts_with(r#"delete from "shop"."orders" as t using "#)
        );
    }

    #[test]
    fn what_is_no_row_says_why() {
        let at = from(0);
        for (data, expected) in [
            ("[1]", "no JSON object"),
            ("{\"x\":", "no JSON object"),
            ("{\"a\":1}", "no field \"id\""),
        ] {
            let write = write(WriteMode::Upsert, &["id"], data);
            let (groups, refused) = groups([Row {
                write: &write,
                from: &at,
            }]);
            assert!(groups.is_empty());
            assert!(refused[0].1.contains(expected), "{}", refused[0].1);
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted_table("a.b\"; drop"), "\"a\".\"b\"\"; drop\"");
    }
}
