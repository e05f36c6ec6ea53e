//! Destination kind Postgres.
//!
//! Promise: rows, the rows that the database refuses (dead letters of this sink) and the partition's next offset are written in one
//! database transaction, and the offset moves by compare-and-set: a batch lands once, whatever dies when and whoever else
//! writes. A commit whose answer is lost is settled by the stored offset. Partitions are written side by side, each in its order.
//!
//! A row that the database refuses never stops the others: the batch is then written again row by row, within the same
//! transaction, and only what is refused by itself dies.

mod check;
mod columns;
mod days;
mod erase;
mod event;
mod fault;
mod fields;
mod keep;
mod open;
mod tables;

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Row as _};
use tokio::runtime::Runtime;
use topics::Partition;

use crate::batch::{Batch, Landing, Progress};
use crate::destination::{Kind, Landed, Options, Stored};
use crate::error::SinkError;
use crate::rows::Rows;
use columns::{DEAD_LETTERS, EXECUTIONS, OUTPUTS, Table};
use days::Day;
use fields::{Arrays, Known};
use tables::{Group, Row};

pub use check::Wanted;
pub(crate) use event::{Event, Shapes};

/// After a row that was there already: replays come in rows.
const LOOKS: u32 = 1_000;

/// An open destination. One thread owns it.
pub struct Postgres {
    runtime: Runtime,
    options: Options,
    place: PgConnectOptions,
    writers: Vec<Writer>,
    /// The tables are there.
    made: bool,
    /// Days whose parts are there.
    days: HashSet<Day>,
}

/// One connection, and what is written through it.
struct Writer {
    connection: Option<PgConnection>,
    /// Partitions whose row in `weir_positions` is there.
    known: HashSet<Partition>,
    /// Of users' tables, as they were when last asked.
    tables: HashMap<String, Known>,
    /// How many more transactions look whether rows are there already: one was lately.
    looks: u32,
    /// A write has failed: what has become of its transaction is asked before the next one.
    uncertain: bool,
}

/// What one connection writes in one transaction.
struct Share<'b> {
    progress: Vec<&'b Progress>,
    landings: Vec<&'b Landing>,
}

impl Postgres {
    /// `url`: `postgres://USER:PASSWORD@HOST/DATABASE`. `writers`: how many transactions are written side by side. Nothing is
    /// asked of the database yet: its tables are made when it is first used.
    pub fn open(url: &str, writers: usize, options: Options) -> Result<Self, SinkError> {
        let fail = |reason: String| SinkError::Open {
            destination: options.name.clone(),
            reason,
        };
        let place = open::place(url).map_err(fail)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| fail(e.to_string()))?;
        let writers = (0..writers.max(1)).map(|_| Writer {
            connection: None,
            known: HashSet::new(),
            tables: HashMap::new(),
            looks: 0,
            uncertain: false,
        });
        Ok(Self {
            writers: writers.collect(),
            runtime,
            options,
            place,
            made: false,
            days: HashSet::new(),
        })
    }

    /// Asks something through one of the connections. After an error it is made anew.
    fn ask<T>(
        &mut self,
        writer: usize,
        work: impl AsyncFnOnce(&mut PgConnection, &Options) -> Result<T, sqlx::Error>,
    ) -> Result<T, SinkError> {
        let (writer, options) = (&mut self.writers[writer], &self.options);
        let asked = self.runtime.block_on(async {
            let connection = writer.open(&self.place).await?;
            work(connection, options).await
        });
        asked.map_err(|e| {
            writer.connection = None;
            fault::of(&options.name, &e)
        })
    }

    fn migrate(&mut self) -> Result<(), SinkError> {
        if !self.made {
            self.ask(0, async |connection, options| {
                open::migrate(connection, options.history).await
            })?;
            self.made = true;
        }
        Ok(())
    }

    /// Makes parts for the days that the rows of a batch need.
    fn prepare(&mut self, batch: &Batch, today: Day) -> Result<(), SinkError> {
        self.migrate()?;
        let kept = keep::kept_days(self.options.retention.longest());
        let mut wanted: Vec<Day> = days::ahead(today).collect();
        if self.options.history {
            wanted.extend(batch.landings.iter().filter_map(Landing::day));
        }
        wanted.retain(|day| !self.days.contains(day) && days::has_part(*day, today, kept));
        wanted.sort_unstable();
        wanted.dedup();
        for day in wanted {
            self.ask(0, async |connection, options| {
                keep::add(connection, day, options.history).await
            })?;
            self.days.insert(day);
        }
        Ok(())
    }
}

impl Kind for Postgres {
    fn position(&mut self, partition: &Partition) -> Result<Option<i64>, SinkError> {
        self.migrate()?;
        let writer = share_of(partition, self.writers.len());
        self.ask(writer, async |connection, _| {
            let found = positions(connection, [partition]).await?;
            Ok(found.get(partition).copied())
        })
    }

    fn land(&mut self, batch: &Batch, stored: &mut Stored) -> Result<Landed, SinkError> {
        self.prepare(batch, Day::of_ms(crate::clock::now_ms()))?;
        let Self {
            runtime,
            options,
            place,
            writers,
            ..
        } = self;
        let shares = shares(batch, writers.len(), stored);
        let (before, options, place) = (&*stored, &*options, &*place);
        let outcomes = runtime.block_on(join_all(
            writers
                .iter_mut()
                .zip(&shares)
                .filter(|(_, share)| !share.progress.is_empty())
                .map(|(writer, share)| async move {
                    (share, writer.land(place, options, share, before).await)
                }),
        ));
        let mut total = Landed::default();
        let mut failed: Option<SinkError> = None;
        for (share, outcome) in outcomes {
            match outcome {
                Ok(landed) => {
                    total.rows += landed.rows;
                    total.dead += landed.dead;
                    for progress in &share.progress {
                        stored.insert(progress.partition.clone(), progress.next);
                    }
                }
                // what cannot be tried again is what has to be told
                Err(error) => {
                    let worse = failed.as_ref().is_none_or(|failed| {
                        failed.disposition() == crate::error::Disposition::Retry
                    });
                    if worse {
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(total), Err)
    }

    fn tidy(&mut self, now_ms: i64) -> Result<(), SinkError> {
        let today = Day::of_ms(now_ms);
        self.prepare(&Batch::default(), today)?;
        if let Some(kept) = keep::kept_days(self.options.retention.longest()) {
            self.days.retain(|day| day.0 >= today.0 - kept);
        }
        self.ask(0, async |connection, options| {
            keep::drop_old(connection, today, options).await
        })
    }
}

/// Which connection writes a partition.
fn share_of(partition: &Partition, writers: usize) -> usize {
    partition.number as usize % writers
}

/// Cuts a batch by connection; partitions that have landed already are left out.
fn shares<'b>(batch: &'b Batch, writers: usize, stored: &Stored) -> Vec<Share<'b>> {
    let mut shares: Vec<Share<'b>> = (0..writers)
        .map(|_| Share {
            progress: Vec::new(),
            landings: Vec::new(),
        })
        .collect();
    let landed: HashSet<&Partition> = batch
        .progress
        .iter()
        .filter(|progress| stored.get(&progress.partition) == Some(&progress.next))
        .map(|progress| &progress.partition)
        .collect();
    for progress in &batch.progress {
        if !landed.contains(&progress.partition) {
            shares[share_of(&progress.partition, writers)]
                .progress
                .push(progress);
        }
    }
    for landing in &batch.landings {
        let partition = &landing.from.partition;
        if !landed.contains(partition) {
            shares[share_of(partition, writers)].landings.push(landing);
        }
    }
    shares
}

impl Writer {
    async fn open(&mut self, place: &PgConnectOptions) -> Result<&mut PgConnection, sqlx::Error> {
        if self.connection.is_none() {
            self.connection = Some(PgConnection::connect_with(place).await?);
        }
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    async fn land(
        &mut self,
        place: &PgConnectOptions,
        options: &Options,
        share: &Share<'_>,
        stored: &Stored,
    ) -> Result<Landed, SinkError> {
        let name = &options.name;
        let fail = |e: sqlx::Error| fault::of(name, &e);
        if self.uncertain {
            match self.settle(place, options, share).await? {
                Some(landed) => return Ok(landed),
                None => self.uncertain = false,
            }
        }
        let (mut careful, mut alone) = (false, true);
        self.looks = self.looks.saturating_sub(1);
        loop {
            let (known, tables) = (&mut self.known, &mut self.tables);
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(PgConnection::connect_with(place).await.map_err(fail)?),
            };
            let attempt = Attempt {
                options,
                share,
                stored,
                careful,
                alone,
                looks: self.looks > 0,
            };
            match attempt.run(connection, known, tables).await {
                Ok(landed) => return Ok(landed),
                Err(Trouble::Row(e)) if self.looks == 0 && fault::is_double(&e) => {
                    self.looks = LOOKS;
                }
                // it does not say what it is about
                Err(Trouble::Row(_)) if alone => alone = false,
                // a row of a user's: once more, one by one
                Err(Trouble::Row(_)) if !careful => careful = true,
                Err(Trouble::Row(e)) => {
                    self.connection = None;
                    self.uncertain = true;
                    return Err(fail(e));
                }
                Err(Trouble::Database(e)) => {
                    self.connection = None;
                    self.uncertain = true;
                    return Err(fail(e));
                }
                Err(Trouble::Fenced(error)) => {
                    self.known.clear();
                    return Err(error);
                }
            }
        }
    }

    /// What has become of the last transaction: everything of it has landed, nothing (`None`), or somebody else writes.
    async fn settle(
        &mut self,
        place: &PgConnectOptions,
        options: &Options,
        share: &Share<'_>,
    ) -> Result<Option<Landed>, SinkError> {
        let partitions = share.progress.iter().map(|progress| &progress.partition);
        let asked = async {
            let connection = self.open(place).await?;
            positions(connection, partitions).await
        };
        let found = asked.await.map_err(|e| {
            self.connection = None;
            fault::of(&options.name, &e)
        })?;
        let stands = |progress: &&&Progress| found.get(&progress.partition) == Some(&progress.next);
        if !share.progress.iter().all(|progress| stands(&progress)) {
            return Ok(None);
        }
        self.uncertain = false;
        let rows = share.landings.len() as u64;
        Ok(Some(Landed { rows, dead: 0 }))
    }
}

async fn positions<'p>(
    connection: &mut PgConnection,
    partitions: impl IntoIterator<Item = &'p Partition>,
) -> Result<HashMap<Partition, i64>, sqlx::Error> {
    let partitions: Vec<&Partition> = partitions.into_iter().collect();
    let topics: Vec<String> = partitions.iter().map(|p| p.topic.to_string()).collect();
    let numbers: Vec<i32> = partitions.iter().map(|p| p.number as i32).collect();
    let select = sqlx::query(
        r#"select u.topic, u.number, p.next_offset from unnest($1::text[], $2::integer[]) as u(topic, number)
           join weir_positions p on p.topic = u.topic and p."partition" = u.number"#,
    );
    let rows = select
        .bind(topics)
        .bind(numbers)
        .fetch_all(connection)
        .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let topic: String = row.try_get(0)?;
        let number: i32 = row.try_get(1)?;
        let partition = Partition {
            topic: topic.as_str().into(),
            number: number as u32,
        };
        Ok((partition, row.try_get(2)?))
    };
    rows.iter().map(read).collect()
}

/// Why a transaction did not come to its end.
enum Trouble {
    /// The database refuses a row of a user's table.
    Row(sqlx::Error),
    Database(sqlx::Error),
    Fenced(SinkError),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// One transaction.
struct Attempt<'a, 'b> {
    options: &'a Options,
    share: &'a Share<'b>,
    stored: &'a Stored,
    /// Rows of users' tables are written so that one that is refused leaves the others.
    careful: bool,
    /// Where one statement is all there is to write, it is a transaction by itself.
    alone: bool,
    /// Whether rows to insert are there already; else one that is there fails the transaction.
    looks: bool,
}

impl Attempt<'_, '_> {
    async fn run(
        &self,
        connection: &mut PgConnection,
        known: &mut HashSet<Partition>,
        tables: &mut HashMap<String, Known>,
    ) -> Result<Landed, Trouble> {
        let landings = &self.share.landings;
        let writes = landings.iter().flat_map(|landing| {
            let rows = landing.writes.iter();
            rows.map(|write| Row {
                write,
                from: &landing.from,
            })
        });
        let (groups, mut refused) = tables::groups(writes);
        let mut rows = Rows::of_landings(landings.iter().copied(), self.options.history);
        if let ([group], true) = (&groups[..], refused.is_empty() && rows.is_empty())
            && let Some(landed) = self.stroke(connection, group, known, tables).await?
        {
            return Ok(landed);
        }
        // a constraint that waits for the end of the transaction would take all other rows with it
        let begin = "begin; set constraints all immediate";
        let mut transaction = connection.begin_with(begin).await?;
        self.advance(&mut transaction, known).await?;
        #[cfg(feature = "broken")]
        if crate::broken::is("position-outside") {
            transaction.commit().await?;
            crate::broken::kill_at("before-commit");
            transaction = connection.begin_with(begin).await?;
        }
        let mut landed = Landed::default();
        for group in &groups {
            landed.rows += group.rows.len() as u64;
            if self.careful {
                // the table may have changed
                tables.remove(group.table());
                one_by_one(&mut transaction, group, &mut refused).await?;
            } else {
                let table = table(&mut transaction, group, tables).await?;
                at_once(&mut transaction, group, table, self.fails(group, table)).await?;
            }
        }
        landed.dead = refused.len() as u64;
        landed.rows = landed.rows.saturating_sub(landed.dead);
        for (row, why) in &refused {
            rows.refused(row.write, why, row.from);
        }
        for (table, values) in [
            (&EXECUTIONS, rows.executions),
            (&OUTPUTS, rows.outputs),
            (&DEAD_LETTERS, rows.dead_letters),
        ] {
            landed.rows += insert(&mut transaction, table, values).await?;
        }
        if !rows.purges.is_empty() {
            purge(&mut transaction, rows.purges).await?;
        }
        #[cfg(feature = "broken")]
        if !crate::broken::is("position-outside") {
            crate::broken::kill_at("before-commit");
        }
        transaction.commit().await?;
        #[cfg(feature = "broken")]
        crate::broken::kill_at("after-commit");
        known.extend(
            self.share
                .progress
                .iter()
                .map(|progress| progress.partition.clone()),
        );
        Ok(landed)
    }

    /// Positions and rows by one statement; three questions less. It fails as a whole where one of the positions does not move.
    /// `None`: not these.
    async fn stroke(
        &self,
        connection: &mut PgConnection,
        group: &Group<'_>,
        known: &HashSet<Partition>,
        tables: &mut HashMap<String, Known>,
    ) -> Result<Option<Landed>, Trouble> {
        let mut progress = self.share.progress.iter();
        if !self.alone || progress.any(|p| !known.contains(&p.partition)) {
            return Ok(None);
        }
        #[cfg(feature = "broken")]
        if crate::broken::is("position-outside") {
            return Ok(None);
        }
        let table = table(connection, group, tables).await?;
        let Some(arrays) = Arrays::of(group, table) else {
            return Ok(None);
        };
        let place = group.columns().len() + 1;
        let source = arrays.source(&format!(
            // a text that is no boolean, which is found out only when it is needed
            "where (select case count(*) when cardinality(${place}::text[]) then true else ('moved ' || count(*))::boolean end from moved)"
        ));
        let statement = format!(
            "with moved as ({} returning 1) {}",
            advance(place),
            group.statement(&source, self.fails(group, table))
        );
        #[cfg(feature = "broken")]
        crate::broken::kill_at("before-commit");
        let query = self.moves().bind(arrays.bind(statement)?);
        execute(connection, query).await?;
        #[cfg(feature = "broken")]
        crate::broken::kill_at("after-commit");
        let rows = group.rows.len() as u64;
        Ok(Some(Landed { rows, dead: 0 }))
    }

    /// Whether rows that are there already fail by themselves, and need not be looked for.
    fn fails(&self, group: &Group<'_>, table: &Known) -> bool {
        let is_unique = |key| table.is_unique(key);
        !self.looks && group.inserted_key().is_some_and(is_unique)
    }

    fn moves(&self) -> Moves {
        let progress = &self.share.progress;
        let expected = |progress: &Progress| {
            let stored = self.stored.get(&progress.partition);
            stored.copied().unwrap_or(progress.first)
        };
        let topic = |progress: &&Progress| progress.partition.topic.to_string();
        Moves {
            topics: progress.iter().map(topic).collect(),
            numbers: progress.iter().map(|p| p.partition.number as i32).collect(),
            old: progress.iter().map(|p| expected(p)).collect(),
            new: progress.iter().map(|p| p.next).collect(),
        }
    }

    /// Moves each partition's position, if it is where this sink believes.
    async fn advance(
        &self,
        connection: &mut PgConnection,
        known: &HashSet<Partition>,
    ) -> Result<(), Trouble> {
        let progress = &self.share.progress;
        let moves = self.moves();
        if progress.iter().any(|p| !known.contains(&p.partition)) {
            let insert = sqlx::query(
                "insert into weir_positions select * from unnest($1::text[], $2::integer[], $3::bigint[]) on conflict do nothing",
            );
            let insert = insert.bind(&moves.topics).bind(&moves.numbers);
            insert.bind(&moves.old).execute(&mut *connection).await?;
        }
        let update = moves.bind(sqlx::query(AssertSqlSafe(advance(1))));
        let moved = update.execute(&mut *connection).await?.rows_affected();
        if moved == progress.len() as u64 {
            return Ok(());
        }
        let found = positions(connection, progress.iter().map(|p| &p.partition)).await?;
        // those that did move show their new place here, within the transaction
        let other = progress
            .iter()
            .find(|p| found.get(&p.partition) != Some(&p.next));
        let partition = other.or(progress.first()).map(|p| &p.partition);
        Err(Trouble::Fenced(SinkError::Fenced {
            destination: self.options.name.clone(),
            topic: partition.map(|p| p.topic.to_string()).unwrap_or_default(),
            partition: partition.map(|p| p.number).unwrap_or_default(),
        }))
    }
}

/// What becomes of positions, a place of each list for each partition.
struct Moves {
    topics: Vec<String>,
    numbers: Vec<i32>,
    old: Vec<i64>,
    new: Vec<i64>,
}

type Statement = Query<'static, sqlx::Postgres, PgArguments>;

impl Moves {
    fn bind(self, query: Statement) -> Statement {
        let query = query.bind(self.topics).bind(self.numbers);
        query.bind(self.old).bind(self.new)
    }
}

/// Moves positions by compare-and-set. `place`: of the first of the four lists among what is bound.
fn advance(place: usize) -> String {
    let [topics, numbers, old, new] = [0, 1, 2, 3].map(|more| place + more);
    format!(
        r#"update weir_positions p set next_offset = u.new
           from unnest(${topics}::text[], ${numbers}::integer[], ${old}::bigint[], ${new}::bigint[]) as u(topic, number, old, new)
           where p.topic = u.topic and p."partition" = u.number and p.next_offset = u.old"#
    )
}

async fn insert(
    connection: &mut PgConnection,
    table: &Table,
    values: Vec<crate::rows::Value>,
) -> Result<u64, sqlx::Error> {
    if values.is_empty() {
        return Ok(0);
    }
    let inserted = table
        .bind(table.insert(), values)
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected())
}

/// The letters stay as rows that say what they were; their bytes go. The first purge counts.
async fn purge(
    connection: &mut PgConnection,
    purges: Vec<(String, i64)>,
) -> Result<(), sqlx::Error> {
    let (ids, times): (Vec<String>, Vec<i64>) = purges.into_iter().unzip();
    let update = sqlx::query(
        "update weir_dead_letters l set key = null, value = null, headers = '[]', purged_at = timestamptz 'epoch' + u.ms * interval '1 millisecond'
         from (select id, min(ms) as ms from unnest($1::text[], $2::bigint[]) as u(id, ms) group by id) u
         where l.id = u.id and l.purged_at is null",
    );
    update
        .bind(ids)
        .bind(times)
        .execute(connection)
        .await
        .map(drop)
}

/// What is known of a group's table; asked once.
async fn table<'t>(
    connection: &mut PgConnection,
    group: &Group<'_>,
    tables: &'t mut HashMap<String, Known>,
) -> Result<&'t Known, sqlx::Error> {
    let name = group.table();
    let known = match tables.remove(name) {
        Some(known) => known,
        None => fields::known(connection, name).await?,
    };
    Ok(tables.entry(name.to_owned()).or_insert(known))
}

/// All rows of a group, or none.
async fn at_once(
    connection: &mut PgConnection,
    group: &Group<'_>,
    table: &Known,
    fails: bool,
) -> Result<(), Trouble> {
    match Arrays::of(group, table) {
        Some(arrays) => {
            let statement = group.statement(&arrays.source(""), fails);
            execute(connection, arrays.bind(statement)?).await
        }
        None => {
            let statement = group.statement(&group.events(), fails);
            as_json(connection, &statement, &group.rows).await
        }
    }
}

async fn as_json(
    connection: &mut PgConnection,
    statement: &str,
    rows: &[Row<'_>],
) -> Result<(), Trouble> {
    let query = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(tables::events(rows));
    execute(connection, query).await
}

async fn execute(connection: &mut PgConnection, query: Statement) -> Result<(), Trouble> {
    match query.execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if fault::is_of_a_row(&error) => Err(Trouble::Row(error)),
        Err(error) => Err(Trouble::Database(error)),
    }
}

/// Writes what can be written: a part that fails is halved, until the row that fails is alone. The order stays.
async fn one_by_one<'b>(
    connection: &mut PgConnection,
    group: &Group<'b>,
    refused: &mut Vec<(Row<'b>, String)>,
) -> Result<(), Trouble> {
    let statement = group.statement(&group.events(), false);
    let mut parts: Vec<_> = std::iter::once(0..group.rows.len()).collect();
    while let Some(part) = parts.pop() {
        sqlx::query("savepoint part")
            .execute(&mut *connection)
            .await?;
        match as_json(connection, &statement, &group.rows[part.clone()]).await {
            Ok(()) => {
                sqlx::query("release savepoint part")
                    .execute(&mut *connection)
                    .await?;
            }
            Err(Trouble::Row(error)) => {
                sqlx::query("rollback to savepoint part")
                    .execute(&mut *connection)
                    .await?;
                let alone = &group.rows[part.clone()];
                if part.len() == 1
                    && fault::is_double(&error)
                    && is_there(connection, group, alone).await?
                {
                    // it landed before this sink lost its position
                } else if part.len() == 1 {
                    refused.push((group.rows[part.start], fault::reason(&error)));
                } else {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Whether the table has a row just like this one. Types that cannot be compared say no.
async fn is_there(
    connection: &mut PgConnection,
    group: &Group<'_>,
    row: &[Row<'_>],
) -> Result<bool, Trouble> {
    let Some(select) = group.same() else {
        return Ok(false);
    };
    sqlx::query("savepoint look")
        .execute(&mut *connection)
        .await?;
    let select = sqlx::query(AssertSqlSafe(select)).bind(tables::events(row));
    match select.fetch_optional(&mut *connection).await {
        Ok(found) => Ok(found.is_some()),
        Err(error) if fault::is_of_a_row(&error) => {
            sqlx::query("rollback to savepoint look")
                .execute(connection)
                .await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

impl Landing {
    /// The day that its rows in the history belong to.
    fn day(&self) -> Option<Day> {
        match &self.row {
            crate::batch::Row::Result(result) => Some(Day::of(&result.execution)),
            crate::batch::Row::Purge(_) => None,
            _ => Some(Day::of_ms(self.from.record.timestamp_ms)),
        }
    }
}
