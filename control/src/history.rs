//! The history database, which the sink writes and this crate only reads: executions, outputs and dead letters.
//!
//! Invariants: the file is opened read-only; every statement is bounded by a limit. The tables are the sink's.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, Sqlite};

const READERS_MAX: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Outputs of one execution that an answer carries.
pub(crate) const OUTPUTS_MAX: usize = 1_000;
/// Bytes of their data; the first output is shown however large it is.
const OUTPUT_BYTES_MAX: i64 = 32 << 20;

/// A dead letter's columns, and those of its original record.
const LETTER: &str = r#"id, graph, version, execution, step, kind, reason, attempt, topic, "partition", "offset", died_at_ms, purged_at_ms"#;
const ORIGINAL: &str = "cast(key as blob) as key, cast(value as blob) as value, headers";
/// What `matching` binds.
const LETTERS: &str = "tenant = $1 and ($2 is null or graph = $2) and ($3 is null or kind = $3) and ($4 is null or step = $4)
    and ($5 is null or died_at_ms >= $5) and (purged_at_ms is not null) = $6";

/// Reads the history. Cheap to clone.
#[derive(Clone)]
pub struct History {
    pool: SqlitePool,
    place: String,
}

/// Why the history cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Also while the sink has not made the file yet.
    #[error("the history at \"{place}\" cannot be read ({reason}); try again")]
    Unavailable { place: String, reason: String },
    #[error("the history at \"{place}\" is not as the sink writes it ({reason})")]
    Damaged { place: String, reason: String },
}

type Result<T, E = HistoryError> = std::result::Result<T, E>;

/// What one segment of an execution came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) execution: String,
    pub(crate) segment: String,
    pub(crate) graph: String,
    pub(crate) version: String,
    pub(crate) trigger: String,
    pub(crate) trigger_id: String,
    pub(crate) failed: bool,
    pub(crate) failed_step: Option<String>,
    pub(crate) failure: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) attempt: Option<i64>,
    /// The segments that this one started.
    pub(crate) started: Vec<String>,
    /// JSON.
    pub(crate) logs: String,
    pub(crate) logs_dropped: i64,
    pub(crate) origin: Option<String>,
    pub(crate) triggered_at_us: i64,
    pub(crate) finished_at_ms: i64,
}

pub(crate) struct Output {
    pub(crate) segment: String,
    pub(crate) number: i64,
    pub(crate) step: String,
    pub(crate) port: String,
    /// JSON.
    pub(crate) sinks: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) content_type: String,
    /// JSON.
    pub(crate) headers: String,
    /// JSON of `sha256` and `bytes` where the payload lies outside.
    pub(crate) data: Vec<u8>,
    /// Where it does: its name, in hex.
    pub(crate) sha256: Option<String>,
}

pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) graph: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) execution: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) attempt: i64,
    pub(crate) topic: String,
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) died_at_ms: i64,
    pub(crate) purged_at_ms: Option<i64>,
}

/// The original record of a dead letter.
pub(crate) struct Original {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    /// JSON.
    pub(crate) headers: String,
}

/// Which executions: ids in `[from, below)`.
pub(crate) struct Range<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) graph: Option<&'a str>,
    pub(crate) from: &'a str,
    pub(crate) below: &'a str,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Letters {
    pub(crate) graph: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) since_ms: Option<i64>,
    /// Those that were purged, instead of those that were not.
    pub(crate) purged: bool,
}

impl History {
    /// Within a Tokio runtime. The file is opened when it is first read, so it may come to be later.
    pub fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .log_statements(tracing::log::LevelFilter::Off)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1));
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .min_connections(0)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Self {
            pool,
            place: path.display().to_string(),
        }
    }

    /// Can it be read?
    pub async fn check(&self) -> Result<()> {
        let read = sqlx::query("select 1 from weir_executions limit 1")
            .fetch_optional(&self.pool)
            .await;
        read.map(drop).map_err(|error| self.error(&error))
    }

    /// The last ids of the range, the latest first.
    pub(crate) async fn ids(&self, range: &Range<'_>, limit: u32) -> Result<Vec<String>> {
        // Two statements, so that each has its index.
        let rows = match range.graph {
            Some(graph) => {
                let select = sqlx::query(
                    "select distinct execution from weir_executions
                     where tenant = $1 and graph = $2 and execution >= $3 and execution < $4 order by execution desc limit $5",
                );
                select
                    .bind(range.tenant)
                    .bind(graph)
                    .bind(range.from)
                    .bind(range.below)
                    .bind(limit)
                    .fetch_all(&self.pool)
                    .await
            }
            None => {
                let select = sqlx::query(
                    "select distinct execution from weir_executions
                     where tenant = $1 and execution >= $2 and execution < $3 order by execution desc limit $4",
                );
                select
                    .bind(range.tenant)
                    .bind(range.from)
                    .bind(range.below)
                    .bind(limit)
                    .fetch_all(&self.pool)
                    .await
            }
        };
        self.rows(rows, |row| row.try_get(0))
    }

    /// All that has been reported of these executions, the latest execution first.
    pub(crate) async fn segments(&self, tenant: &str, ids: &[String]) -> Result<Vec<Segment>> {
        let ids = serde_json::to_string(ids).expect("texts are always JSON");
        let select = sqlx::query(
            r#"select execution, segment, graph, version, "trigger", trigger_id, status, failed_step, failure, reason, attempt,
                      started, logs, logs_dropped, origin, triggered_at_us, finished_at_ms
               from weir_executions where tenant = $1 and execution in (select value from json_each($2))
               order by execution desc, segment"#,
        );
        let rows = select.bind(tenant).bind(ids).fetch_all(&self.pool).await;
        self.rows(rows, segment)
    }

    /// What came out of an execution: at most [`OUTPUTS_MAX`], and whether there is more.
    pub(crate) async fn outputs(
        &self,
        tenant: &str,
        execution: &str,
    ) -> Result<(Vec<Output>, bool)> {
        let select = sqlx::query(
            "select segment, number, step, port, sinks, key, content_type, headers, data, sha256, bytes, place from (
                select segment, number, step, port, sinks, key, content_type, headers, cast(data as blob) as data, sha256,
                       sum(length(cast(data as blob))) over (order by segment, number) as bytes,
                       row_number() over (order by segment, number) as place
                from weir_outputs where execution = $1 and tenant = $2)
             where bytes <= $3 or place = 1 order by segment, number limit $4",
        );
        let select = select
            .bind(execution)
            .bind(tenant)
            .bind(OUTPUT_BYTES_MAX)
            .bind(OUTPUTS_MAX as i64);
        let outputs = self.rows(select.fetch_all(&self.pool).await, output)?;
        let count =
            sqlx::query("select count(*) from weir_outputs where execution = $1 and tenant = $2");
        let rows = count
            .bind(execution)
            .bind(tenant)
            .fetch_all(&self.pool)
            .await;
        let total: i64 = self
            .rows(rows, |row| row.try_get::<i64, _>(0))?
            .into_iter()
            .sum();
        let more = total > outputs.len() as i64;
        Ok((outputs, more))
    }

    /// One output of a segment.
    pub(crate) async fn output(
        &self,
        tenant: &str,
        execution: &str,
        (segment, number): (&str, i64),
    ) -> Result<Option<Output>> {
        let select = sqlx::query(
            "select segment, number, step, port, sinks, key, content_type, headers, cast(data as blob) as data, sha256
             from weir_outputs where execution = $1 and segment = $2 and number = $3 and tenant = $4",
        );
        let select = select.bind(execution).bind(segment).bind(number);
        let rows = select.bind(tenant).fetch_all(&self.pool).await;
        Ok(self.rows(rows, output)?.pop())
    }

    /// The last dead letters before a time and an id, the latest first.
    pub(crate) async fn dead_letters(
        &self,
        tenant: &str,
        letters: &Letters,
        before: (i64, &str),
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        let select = format!(
            "select {LETTER} from weir_dead_letters
             where {LETTERS} and (died_at_ms, id) < ($7, $8) order by died_at_ms desc, id desc limit $9"
        );
        let select = matching(&select, tenant, letters)
            .bind(before.0)
            .bind(before.1.to_owned());
        self.rows(select.bind(limit).fetch_all(&self.pool).await, dead_letter)
    }

    /// The first dead letters after a time and an id, with the original records, the oldest first.
    pub(crate) async fn originals(
        &self,
        tenant: &str,
        letters: &Letters,
        after: (i64, &str),
        limit: u32,
    ) -> Result<Vec<(DeadLetter, Original)>> {
        let select = format!(
            "select {LETTER}, {ORIGINAL} from weir_dead_letters
             where {LETTERS} and (died_at_ms, id) > ($7, $8) order by died_at_ms, id limit $9"
        );
        let select = matching(&select, tenant, letters)
            .bind(after.0)
            .bind(after.1.to_owned());
        let rows = select.bind(limit).fetch_all(&self.pool).await;
        self.rows(rows, |row| Ok((dead_letter(row)?, original(row)?)))
    }

    /// These dead letters with the original records, in any order; those that are not there are left out.
    pub(crate) async fn originals_of(
        &self,
        tenant: &str,
        ids: &[String],
    ) -> Result<Vec<(DeadLetter, Original)>> {
        let ids = serde_json::to_string(ids).expect("texts are always JSON");
        let select = format!(
            "select {LETTER}, {ORIGINAL} from weir_dead_letters
             where tenant = $1 and id in (select value from json_each($2))"
        );
        let select = sqlx::query(AssertSqlSafe(select)).bind(tenant).bind(ids);
        let rows = select.fetch_all(&self.pool).await;
        self.rows(rows, |row| Ok((dead_letter(row)?, original(row)?)))
    }

    /// One dead letter with the original record.
    pub(crate) async fn dead_letter(
        &self,
        tenant: &str,
        id: &str,
    ) -> Result<Option<(DeadLetter, Original)>> {
        let mut found = self.originals_of(tenant, &[id.to_owned()]).await?;
        Ok(found.pop())
    }

    fn rows<T>(
        &self,
        rows: sqlx::Result<Vec<SqliteRow>>,
        read: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = rows.map_err(|error| self.error(&error))?;
        rows.iter()
            .map(read)
            .collect::<sqlx::Result<_>>()
            .map_err(|error| self.error(&error))
    }

    fn error(&self, error: &sqlx::Error) -> HistoryError {
        let (place, reason) = (self.place.clone(), error.to_string());
        match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_) => HistoryError::Damaged { place, reason },
            _ => HistoryError::Unavailable { place, reason },
        }
    }
}

type Select = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// A statement of ours whose first six values say which letters.
fn matching(select: &str, tenant: &str, letters: &Letters) -> Select {
    sqlx::query(AssertSqlSafe(select.to_owned()))
        .bind(tenant.to_owned())
        .bind(letters.graph.clone())
        .bind(letters.kind.clone())
        .bind(letters.step.clone())
        .bind(letters.since_ms)
        .bind(letters.purged)
}

fn segment(row: &SqliteRow) -> sqlx::Result<Segment> {
    let started: String = row.try_get("started")?;
    Ok(Segment {
        execution: row.try_get("execution")?,
        segment: row.try_get("segment")?,
        graph: row.try_get("graph")?,
        version: row.try_get("version")?,
        trigger: row.try_get("trigger")?,
        trigger_id: row.try_get("trigger_id")?,
        failed: row.try_get::<String, _>("status")? != "succeeded",
        failed_step: row.try_get("failed_step")?,
        failure: row.try_get("failure")?,
        reason: row.try_get("reason")?,
        attempt: row.try_get("attempt")?,
        started: serde_json::from_str(&started)
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        logs: row.try_get("logs")?,
        logs_dropped: row.try_get("logs_dropped")?,
        origin: row.try_get("origin")?,
        triggered_at_us: row.try_get("triggered_at_us")?,
        finished_at_ms: row.try_get("finished_at_ms")?,
    })
}

fn output(row: &SqliteRow) -> sqlx::Result<Output> {
    Ok(Output {
        segment: row.try_get("segment")?,
        number: row.try_get("number")?,
        step: row.try_get("step")?,
        port: row.try_get("port")?,
        sinks: row.try_get("sinks")?,
        key: row.try_get("key")?,
        content_type: row.try_get("content_type")?,
        headers: row.try_get("headers")?,
        data: row.try_get("data")?,
        sha256: row.try_get("sha256")?,
    })
}

fn original(row: &SqliteRow) -> sqlx::Result<Original> {
    Ok(Original {
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        headers: row.try_get("headers")?,
    })
}

fn dead_letter(row: &SqliteRow) -> sqlx::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        graph: row.try_get("graph")?,
        version: row.try_get("version")?,
        execution: row.try_get("execution")?,
        step: row.try_get("step")?,
        kind: row.try_get("kind")?,
        reason: row.try_get("reason")?,
        attempt: row.try_get("attempt")?,
        topic: row.try_get("topic")?,
        partition: row.try_get("partition")?,
        offset: row.try_get("offset")?,
        died_at_ms: row.try_get("died_at_ms")?,
        purged_at_ms: row.try_get("purged_at_ms")?,
    })
}
