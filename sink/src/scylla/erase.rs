//! Deleting a tenant's rows. Which partitions there are is read from each table itself, and each row is deleted with the time
//! that it was written with: so that row is gone, also when its record lands once more while the database keeps the deletion,
//! and nothing else is. Were a whole partition deleted with one time, rows that land later with lesser times, from another
//! partition of the log, would be hidden by it.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::client::pager::TypedRowStream;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

use super::settings::ScyllaSettings;
use crate::erase::{CHUNK, Erased, Tally, Told};

/// Deletions under way.
const IN_FLIGHT_MAX: usize = 64;

/// A table in partitions that begin with a tenant.
struct Table {
    name: &'static str,
    /// The partition's key, tenant first.
    partition: &'static [&'static str],
    /// The rest of a row's key.
    row: &'static [&'static str],
    /// A column that each row has: its time is the row's.
    cell: &'static str,
}

/// Where dead letters are found by their tenant.
const LETTERS: Table = Table {
    name: "weir_dead_letters_by_day",
    partition: &["tenant", "day"],
    row: &["died_at_ms", "id"],
    cell: "kind",
};

const EXECUTIONS: [Table; 3] = [
    Table {
        name: "weir_outputs",
        partition: &["tenant", "day", "slice"],
        row: &["execution", "segment", "number"],
        cell: "step",
    },
    Table {
        name: "weir_executions",
        partition: &["tenant", "day", "slice"],
        row: &["execution", "segment"],
        cell: "status",
    },
    Table {
        name: "weir_executions_by_graph",
        partition: &["tenant", "graph", "day", "slice"],
        row: &["execution", "segment"],
        cell: "status",
    },
];

const DAYS: Table = Table {
    name: "weir_days",
    partition: &["tenant", "kind", "graph"],
    row: &["day", "topic", "\"partition\""],
    cell: "record_ms",
};

impl super::Scylla {
    /// Of this tenant, from all tables that are there. The error says why it was broken off.
    pub async fn erase(
        settings: &ScyllaSettings,
        tenant: &str,
        told: Told<'_>,
    ) -> Result<Vec<Erased>, String> {
        let session = settings.connect().await?;
        let cluster = session.get_cluster_state();
        let there = |table: &Table| {
            let keyspace = cluster.get_keyspace(&settings.keyspace);
            keyspace.is_some_and(|keyspace| keyspace.tables.contains_key(table.name))
        };
        let mut tally = Tally::new(told);
        // Days are read first and deleted last, each with the time that it had then: a row of a day is written after that day's
        // other rows, so what lands meanwhile has a later one.
        let mut days = Vec::new();
        if there(&DAYS) {
            let statements = Statements::new(&session, &DAYS).await?;
            for key in partitions(&session, &DAYS, tenant).await? {
                let mut rows = statements.rows(&session, &key).await?;
                while let Some(row) = rows.next().await? {
                    days.push(row);
                }
            }
        }
        if there(&LETTERS) {
            let letters = Letters::new(&session).await?;
            erase(&session, &LETTERS, tenant, Some(&letters), &mut tally).await?;
        }
        for table in EXECUTIONS.iter().filter(|table| there(table)) {
            erase(&session, table, tenant, None, &mut tally).await?;
        }
        if there(&DAYS) {
            let statements = Statements::new(&session, &DAYS).await?;
            for chunk in days.chunks(CHUNK as usize) {
                statements.delete(&session, chunk, None, &mut tally).await?;
            }
        }
        Ok(tally.tables())
    }
}

/// The keys of all partitions of a tenant. The database reads the keys of all tenants for it, and of each partition no more than
/// a row.
async fn partitions(
    session: &Session,
    table: &Table,
    tenant: &str,
) -> Result<Vec<Vec<CqlValue>>, String> {
    let key = table.partition.join(", ");
    let select = format!("select distinct {key} from {}", table.name);
    let select = prepare(session, &select).await?;
    let mut rows = rows::<Row>(session, &select, ()).await?;
    let mut found = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|e| e.to_string())? {
        let key: Vec<CqlValue> = row.columns.into_iter().flatten().collect();
        let of = key.first().and_then(CqlValue::as_text);
        if of.is_some_and(|of| of == tenant) {
            found.push(key);
        }
    }
    Ok(found)
}

/// All rows of a tenant; with `letters`, before each also the one that it names.
async fn erase(
    session: &Session,
    table: &Table,
    tenant: &str,
    letters: Option<&Letters>,
    tally: &mut Tally<'_>,
) -> Result<(), String> {
    let statements = Statements::new(session, table).await?;
    for key in partitions(session, table, tenant).await? {
        let mut rows = statements.rows(session, &key).await?;
        loop {
            let mut chunk = Vec::new();
            while chunk.len() < CHUNK as usize
                && let Some(row) = rows.next().await?
            {
                chunk.push(row);
            }
            if chunk.is_empty() {
                break;
            }
            statements.delete(session, &chunk, letters, tally).await?;
        }
    }
    Ok(())
}

/// What deletes a row: its time, and its whole key.
type Deletion = Vec<CqlValue>;

/// For one table.
struct Statements {
    table: &'static str,
    /// Columns that `select` gives.
    width: usize,
    select: PreparedStatement,
    delete: PreparedStatement,
}

/// Of one partition.
struct Rows<'a> {
    of: &'a Statements,
    key: &'a [CqlValue],
    stream: TypedRowStream<Row>,
}

impl Statements {
    async fn new(session: &Session, table: &Table) -> Result<Self, String> {
        let is = |names: &[&str]| {
            let each: Vec<String> = names.iter().map(|name| format!("{name} = ?")).collect();
            each.join(" and ")
        };
        let (partition, row) = (is(table.partition), is(table.row));
        let (name, columns, cell) = (table.name, table.row.join(", "), table.cell);
        let select = format!("select writetime({cell}), {columns} from {name} where {partition}");
        let delete = format!("delete from {name} using timestamp ? where {partition} and {row}");
        Ok(Self {
            table: name,
            width: 1 + table.row.len(),
            select: prepare(session, &select).await?,
            delete: prepare(session, &delete).await?,
        })
    }

    async fn rows<'a>(
        &'a self,
        session: &Session,
        key: &'a [CqlValue],
    ) -> Result<Rows<'a>, String> {
        let stream = rows(session, &self.select, key).await?;
        let of = self;
        Ok(Rows { of, key, stream })
    }

    /// Some at once.
    async fn delete(
        &self,
        session: &Session,
        rows: &[Deletion],
        letters: Option<&Letters>,
        tally: &mut Tally<'_>,
    ) -> Result<(), String> {
        let deleted = rows.iter().map(|row| async move {
            let letter = match letters {
                Some(letters) => letters.erase(session, row).await?,
                None => 0,
            };
            execute(session, &self.delete, row).await?;
            Ok::<_, String>(letter)
        });
        let deleted = stream::iter(deleted).buffer_unordered(IN_FLIGHT_MAX);
        let deleted: Vec<u64> = deleted.try_collect().await?;
        if letters.is_some() {
            tally.add("weir_dead_letters", deleted.iter().sum());
        }
        tally.add(self.table, rows.len() as u64);
        Ok(())
    }
}

impl Rows<'_> {
    async fn next(&mut self) -> Result<Option<Deletion>, String> {
        let row = self.stream.try_next().await.map_err(|e| e.to_string())?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut values: Vec<CqlValue> = row.columns.into_iter().flatten().collect();
        if values.len() != self.of.width {
            let table = self.of.table;
            return Err(format!(
                "a row of {table} lacks what the sink writes into each; look at it, and delete it yourself"
            ));
        }
        values.splice(1..1, self.key.iter().cloned());
        Ok(Some(values))
    }
}

/// Dead letters by their ids.
struct Letters {
    select: PreparedStatement,
    delete: PreparedStatement,
}

impl Letters {
    async fn new(session: &Session) -> Result<Self, String> {
        let select = "select tenant, writetime(kind), writetime(headers), writetime(purged_at_ms) from weir_dead_letters where id = ?";
        let delete = "delete from weir_dead_letters using timestamp ? where id = ?";
        Ok(Self {
            select: prepare(session, select).await?,
            delete: prepare(session, delete).await?,
        })
    }

    /// The one that a row of the list by day names, if it is of the same tenant; how many that are.
    async fn erase(&self, session: &Session, row: &[CqlValue]) -> Result<u64, String> {
        type Times = (Option<String>, Option<i64>, Option<i64>, Option<i64>);
        // after the row's time
        let tenant = row.get(1).and_then(CqlValue::as_text);
        let Some(id) = row.last().and_then(CqlValue::as_text) else {
            return Ok(0);
        };
        let found = rows::<Times>(session, &self.select, (id,)).await?;
        let found: Vec<Times> = found.try_collect().await.map_err(|e| e.to_string())?;
        for (of, landed, headers, purged) in found {
            // a purge came later than the row
            let last = [landed, headers, purged].into_iter().flatten().max();
            let Some(time) = last.filter(|_| of.as_ref() == tenant) else {
                continue;
            };
            execute(session, &self.delete, (time, id)).await?;
            return Ok(1);
        }
        Ok(0)
    }
}

async fn prepare(session: &Session, text: &str) -> Result<PreparedStatement, String> {
    let prepared = session.prepare(text).await;
    let mut prepared = prepared.map_err(|e| e.to_string())?;
    // a deletion carries its time
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

async fn execute(
    session: &Session,
    statement: &PreparedStatement,
    values: impl SerializeRow,
) -> Result<(), String> {
    let done = session.execute_unpaged(statement, values).await;
    done.map(drop).map_err(|e| e.to_string())
}

/// Page after page.
async fn rows<T>(
    session: &Session,
    statement: &PreparedStatement,
    values: impl SerializeRow,
) -> Result<TypedRowStream<T>, String>
where
    T: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let pager = session.execute_iter(statement.clone(), values).await;
    let pager = pager.map_err(|e| e.to_string())?;
    pager.rows_stream().map_err(|e| e.to_string())
}
