//! The history in SQLite: the file is opened read-only.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use super::read::sqlite::{dead_letter, original, output, segment};
use super::{
    ACQUIRE, DeadLetter, Letters, OUTPUT_BYTES_MAX, OUTPUTS_MAX, Original, Output, READERS_MAX,
    Range, Result, Segment,
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A dead letter's columns, and those of its original record.
const LETTER: &str = r#"id, graph, version, execution, step, kind, reason, attempt, topic, "partition", "offset", died_at_ms, purged_at_ms"#;
const ORIGINAL: &str = "cast(key as blob) as key, cast(value as blob) as value, headers";
/// What `matching` binds.
const LETTERS: &str = "tenant = $1 and ($2 is null or graph = $2) and ($3 is null or kind = $3) and ($4 is null or step = $4)
    and ($5 is null or died_at_ms >= $5) and (purged_at_ms is not null) = $6";

#[derive(Clone)]
pub(super) struct Sqlite {
    pool: SqlitePool,
    place: String,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Self {
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
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Self {
            pool,
            place: path.display().to_string(),
        }
    }

    pub(super) async fn check(&self) -> Result<()> {
        let read = sqlx::query("select 1 from weir_executions limit 1")
            .fetch_optional(&self.pool)
            .await;
        read.map(drop)
            .map_err(|error| super::error(&self.place, &error))
    }

    pub(super) async fn ids(&self, range: &Range<'_>, limit: u32) -> Result<Vec<String>> {
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

    pub(super) async fn segments(&self, tenant: &str, ids: &[String]) -> Result<Vec<Segment>> {
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

    pub(super) async fn outputs(
        &self,
        tenant: &str,
        execution: &str,
    ) -> Result<(Vec<Output>, i64)> {
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
        Ok((outputs, total))
    }

    pub(super) async fn output(
        &self,
        tenant: &str,
        execution: &str,
        (segment, number): (&str, i64),
    ) -> Result<Vec<Output>> {
        let select = sqlx::query(
            "select segment, number, step, port, sinks, key, content_type, headers, cast(data as blob) as data, sha256
             from weir_outputs where execution = $1 and segment = $2 and number = $3 and tenant = $4",
        );
        let select = select.bind(execution).bind(segment).bind(number);
        self.rows(select.bind(tenant).fetch_all(&self.pool).await, output)
    }

    pub(super) async fn dead_letters(
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

    pub(super) async fn originals(
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

    pub(super) async fn originals_of(
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

    fn rows<T>(
        &self,
        rows: sqlx::Result<Vec<SqliteRow>>,
        read: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        rows.and_then(|rows| rows.iter().map(read).collect())
            .map_err(|error| super::error(&self.place, &error))
    }
}

type Select = sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>;

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
