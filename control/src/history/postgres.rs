//! The history in Postgres: a destination marked `history = true`, read in read-only sessions.

use std::str::FromStr;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use super::read::postgres::{dead_letter, original, output, segment};
use super::{
    ACQUIRE, DeadLetter, HistoryError, Letters, OUTPUT_BYTES_MAX, OUTPUTS_MAX, Original, Output,
    READERS_MAX, Range, Result, Segment, least,
};

/// A statement that takes longer is given up.
const STATEMENT_TIMEOUT: &str = "30s";

/// A dead letter's columns, and those of its original record.
const LETTER: &str = r#"id, graph, version, execution::text as execution, step, kind, reason, attempt, topic, "partition", "offset",
    (extract(epoch from died_at) * 1000)::bigint as died_at_ms, (extract(epoch from purged_at) * 1000)::bigint as purged_at_ms"#;
const ORIGINAL: &str = "key, value, headers::text as headers";
/// What `matching` binds.
const LETTERS: &str = "tenant = $1 and ($2::text is null or graph = $2) and ($3::text is null or kind = $3) and ($4::text is null or step = $4)
    and ($5::bigint is null or died_at >= timestamptz 'epoch' + $5 * interval '1 millisecond') and (purged_at is not null) = $6";
const PLACE: &str = "(timestamptz 'epoch' + $7::bigint * interval '1 millisecond', $8::text)";

#[derive(Clone)]
pub(super) struct Postgres {
    pool: PgPool,
    place: String,
}

impl Postgres {
    /// The URL may hold a password: no message quotes it.
    pub(super) fn open(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url).map_err(|_| HistoryError::Damaged {
            place: "a destination with history = true".into(),
            reason: "its url is none of Postgres".into(),
        })?;
        let place = format!(
            "postgres {}/{}",
            options.get_host(),
            options.get_database().unwrap_or_default()
        );
        let options = options
            .application_name("weir-control")
            .options([
                ("default_transaction_read_only", "on"),
                ("statement_timeout", STATEMENT_TIMEOUT),
            ])
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(READERS_MAX)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options);
        Ok(Self { pool, place })
    }

    pub(super) async fn check(&self) -> Result<()> {
        let read = sqlx::query("select 1 from weir_executions limit 1")
            .fetch_optional(&self.pool)
            .await;
        read.map(drop)
            .map_err(|error| super::error(&self.place, &error))
    }

    pub(super) async fn ids(&self, range: &Range<'_>, limit: u32) -> Result<Vec<String>> {
        let select = sqlx::query(
            "select distinct execution, execution::text as text from weir_executions
             where tenant = $1 and ($2::text is null or graph = $2) and execution >= $3::text::uuid and execution < $4::text::uuid
             order by execution desc limit $5",
        );
        let select = select
            .bind(range.tenant)
            .bind(range.graph)
            .bind(least(range.from))
            .bind(least(range.below))
            .bind(i64::from(limit));
        self.rows(select.fetch_all(&self.pool).await, |row| {
            row.try_get("text")
        })
    }

    pub(super) async fn segments(&self, tenant: &str, ids: &[String]) -> Result<Vec<Segment>> {
        let select = sqlx::query(
            r#"select execution::text as execution, segment::text as segment, graph, version, "trigger", trigger_id, status,
                      failed_step, failure, reason, attempt, started::text as started, logs::text as logs, logs_dropped, origin,
                      (extract(epoch from triggered_at) * 1000000)::bigint as triggered_at_us,
                      (extract(epoch from finished_at) * 1000)::bigint as finished_at_ms
               from weir_executions where tenant = $1 and execution = any($2::text[]::uuid[])
               order by weir_executions.execution desc, weir_executions.segment"#,
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
            "select segment::text as segment, number, step, port, sinks::text as sinks, key, content_type, headers::text as headers,
                    coalesce(convert_to(data, 'UTF8'), data_bytes) as data, sha256, bytes, place from (
                select *, sum(coalesce(octet_length(data), octet_length(data_bytes))) over (order by segment, number) as bytes,
                       row_number() over (order by segment, number) as place
                from weir_outputs where execution = $1::text::uuid and tenant = $2) o
             where bytes <= $3 or place = 1 order by o.segment, number limit $4",
        );
        let select = select
            .bind(execution)
            .bind(tenant)
            .bind(OUTPUT_BYTES_MAX)
            .bind(OUTPUTS_MAX as i64);
        let outputs = self.rows(select.fetch_all(&self.pool).await, output)?;
        let count = sqlx::query(
            "select count(*) from weir_outputs where execution = $1::text::uuid and tenant = $2",
        );
        let rows = count
            .bind(execution)
            .bind(tenant)
            .fetch_all(&self.pool)
            .await;
        let counted = self.rows(rows, |row| row.try_get::<i64, _>(0))?;
        Ok((outputs, counted.into_iter().sum()))
    }

    pub(super) async fn output(
        &self,
        tenant: &str,
        execution: &str,
        (segment, number): (&str, i64),
    ) -> Result<Vec<Output>> {
        let select = sqlx::query(
            "select segment::text as segment, number, step, port, sinks::text as sinks, key, content_type, headers::text as headers,
                    coalesce(convert_to(data, 'UTF8'), data_bytes) as data, sha256
             from weir_outputs where execution = $1::text::uuid and segment = $2::text::uuid and number = $3 and tenant = $4",
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
             where {LETTERS} and (died_at, id) < {PLACE} order by died_at desc, id desc limit $9"
        );
        let select = matching(&select, tenant, letters, before, limit);
        self.rows(select.fetch_all(&self.pool).await, dead_letter)
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
             where {LETTERS} and (died_at, id) > {PLACE} order by died_at, id limit $9"
        );
        let select = matching(&select, tenant, letters, after, limit);
        let rows = select.fetch_all(&self.pool).await;
        self.rows(rows, |row| Ok((dead_letter(row)?, original(row)?)))
    }

    pub(super) async fn originals_of(
        &self,
        tenant: &str,
        ids: &[String],
    ) -> Result<Vec<(DeadLetter, Original)>> {
        let select = format!(
            "select {LETTER}, {ORIGINAL} from weir_dead_letters where tenant = $1 and id = any($2)"
        );
        let select = sqlx::query(AssertSqlSafe(select))
            .bind(tenant.to_owned())
            .bind(ids.to_vec());
        let rows = select.fetch_all(&self.pool).await;
        self.rows(rows, |row| Ok((dead_letter(row)?, original(row)?)))
    }

    fn rows<T>(
        &self,
        rows: sqlx::Result<Vec<PgRow>>,
        read: impl Fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        rows.and_then(|rows| rows.iter().map(read).collect())
            .map_err(|error| super::error(&self.place, &error))
    }
}

type Select = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

/// A statement of ours whose first six values say which letters, the next two a place among them, and the last how many.
fn matching(
    select: &str,
    tenant: &str,
    letters: &Letters,
    place: (i64, &str),
    limit: u32,
) -> Select {
    sqlx::query(AssertSqlSafe(select.to_owned()))
        .bind(tenant.to_owned())
        .bind(letters.graph.clone())
        .bind(letters.kind.clone())
        .bind(letters.step.clone())
        .bind(letters.since_ms)
        .bind(letters.purged)
        // beyond these years there is no timestamp
        .bind(place.0.clamp(-YEARS_MS, YEARS_MS))
        .bind(place.1.to_owned())
        .bind(i64::from(limit))
}

/// About two thousand years.
const YEARS_MS: i64 = 2_000 * 365 * 86_400_000;
