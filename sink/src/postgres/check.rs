//! Whether a user's table is what a graph's sink says, asked of the live database when the graph is applied.

use schemas::graph::WriteMode;
use sqlx::Connection;
use sqlx::{PgConnection, Row};

use super::tables::quoted_table;

/// What a sink wants to do with a table.
#[derive(Clone, Debug)]
pub struct Wanted<'g> {
    pub table: &'g str,
    pub mode: WriteMode,
    pub key: &'g [String],
    pub columns: &'g [String],
}

/// A column of the live table.
struct Column {
    name: String,
    is_generated: bool,
    /// It must be given: not null, and nothing that fills it.
    is_required: bool,
}

impl super::Postgres {
    /// What is wrong with a table, each in a sentence; the outer error says that the database does not answer. Within a runtime.
    pub async fn check(url: &str, wanted: &Wanted<'_>) -> Result<Vec<String>, String> {
        let place = super::open::place(url)?;
        let asked = async {
            let mut connection = PgConnection::connect_with(&place).await?;
            let faults = faults(&mut connection, wanted).await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(faults)
        };
        asked.await.map_err(|error| super::fault::reason(&error))
    }
}

async fn faults(
    connection: &mut PgConnection,
    wanted: &Wanted<'_>,
) -> Result<Vec<String>, sqlx::Error> {
    let table = quoted_table(wanted.table);
    let found = sqlx::query(
        "select c.oid::bigint, c.relkind::text, has_table_privilege(c.oid, 'insert'), has_table_privilege(c.oid, 'update'),
                has_table_privilege(c.oid, 'delete'), has_table_privilege(c.oid, 'select')
         from pg_class c where c.oid = to_regclass($1)",
    );
    let Some(row) = found.bind(&table).fetch_optional(&mut *connection).await? else {
        return Ok(vec![format!(
            "there is no table {} (or its schema may not be used); create it first",
            wanted.table
        )]);
    };
    let (oid, kind): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    if !matches!(&*kind, "r" | "p") {
        return Ok(vec![format!("{} is no table", wanted.table)]);
    }
    let mut faults = Vec::new();
    let may = |place: usize| row.try_get::<bool, _>(place);
    let needed: &[(&str, usize)] = match wanted.mode {
        WriteMode::Insert if wanted.key.is_empty() => &[("insert", 2)],
        // what names the row is read
        WriteMode::Insert => &[("insert", 2), ("select", 5)],
        WriteMode::Upsert => &[("insert", 2), ("update", 3), ("select", 5)],
        WriteMode::Delete => &[("delete", 4), ("select", 5)],
    };
    for (right, place) in needed {
        if !may(*place)? {
            faults.push(format!(
                "the sink's user may not {right} in {}; grant it",
                wanted.table
            ));
        }
    }
    let columns = columns(connection, oid).await?;
    faults.extend(of_columns(wanted, &columns));
    if faults.is_empty() && !wanted.key.is_empty() && wanted.mode != WriteMode::Delete {
        let unique = unique(connection, &table).await?;
        let mut key = wanted.key.to_vec();
        key.sort_unstable();
        if !unique.contains(&key) {
            faults.push(format!(
                "table {} has no primary key or unique constraint on exactly ({}), so nothing says that a row is the same; add one, or change key",
                wanted.table,
                wanted.key.join(", ")
            ));
        }
    }
    Ok(faults)
}

/// Pure.
fn of_columns(wanted: &Wanted<'_>, columns: &[Column]) -> Vec<String> {
    let mut faults = Vec::new();
    let find = |name: &String| columns.iter().find(|column| column.name == *name);
    for name in wanted.key.iter().chain(wanted.columns) {
        match find(name) {
            None => {
                let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
                faults.push(format!(
                    "table {} has no column \"{name}\"; it has {}",
                    wanted.table,
                    names.join(", ")
                ));
            }
            Some(column) if column.is_generated => faults.push(format!(
                "column \"{name}\" of table {} is generated; leave it out",
                wanted.table
            )),
            Some(_) => {}
        }
    }
    if !wanted.columns.is_empty() && wanted.mode != WriteMode::Delete {
        let given = |name: &String| wanted.columns.contains(name) || wanted.key.contains(name);
        for column in columns {
            if column.is_required && !given(&column.name) {
                faults.push(format!(
                    "column \"{}\" of table {} must not be null and has no default; add it to columns",
                    column.name, wanted.table
                ));
            }
        }
    }
    faults.dedup();
    faults
}

async fn columns(connection: &mut PgConnection, oid: i64) -> Result<Vec<Column>, sqlx::Error> {
    let select = sqlx::query(
        "select a.attname::text, a.attgenerated <> '' or a.attidentity = 'a', a.attnotnull and not a.atthasdef and a.attidentity = ''
         from pg_attribute a where a.attrelid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped order by a.attnum",
    );
    let rows = select.bind(oid).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Column {
                name: row.try_get(0)?,
                is_generated: row.try_get(1)?,
                is_required: row.try_get(2)?,
            })
        })
        .collect()
}

/// The columns of each unique index that can say whether a row is the same, in order of their names. `table`: as SQL.
pub(super) async fn unique(
    connection: &mut PgConnection,
    table: &str,
) -> Result<Vec<Vec<String>>, sqlx::Error> {
    let select = sqlx::query(
        "select array_agg(a.attname::text order by a.attname::text collate \"C\")
         from pg_index i cross join unnest(i.indkey) with ordinality as k(number, place)
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
         where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts
         group by i.indexrelid",
    );
    let rows = select.bind(table).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
