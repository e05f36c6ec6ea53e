//! Days of the history: a part for each that is kept, made before rows land in it, and dropped when it is old.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::days::Day;
use crate::destination::Options;
use crate::retention::Retention;

const DAY: Duration = Duration::from_secs(86_400);

/// Tables that are cut by day; those of executions by the ids that begin with a time.
const BY_ID: [&str; 2] = ["weir_executions", "weir_outputs"];
const BY_TIME: &str = "weir_dead_letters";

/// Whole days, at least one.
pub(super) fn kept_days(retention: Option<Duration>) -> Option<i64> {
    let days = |kept: Duration| kept.as_secs().div_ceil(DAY.as_secs()).max(1) as i64;
    retention.map(days)
}

fn tables(history: bool) -> impl Iterator<Item = &'static str> {
    let by_id = BY_ID.into_iter().filter(move |_| history);
    by_id.chain([BY_TIME])
}

fn bounds(table: &str, day: Day) -> (String, String) {
    let next = Day(day.0 + 1);
    if table == BY_TIME {
        (day.first_moment(), next.first_moment())
    } else {
        (day.first_id(), next.first_id())
    }
}

fn cut_by(table: &str) -> &'static str {
    if table == BY_TIME {
        "died_at"
    } else {
        "execution"
    }
}

/// Makes the parts of a day. What lies in the default part of it, because it came before, moves over.
pub(super) async fn add(
    connection: &mut PgConnection,
    day: Day,
    history: bool,
) -> Result<(), sqlx::Error> {
    for table in tables(history) {
        let part = format!("{table}_{}", day.suffix());
        let (from, to) = bounds(table, day);
        let by = cut_by(table);
        let mut transaction = connection.begin().await?;
        // sinks of one destination take turns
        sqlx::query("select pg_advisory_xact_lock(hashtext('weir parts'))")
            .execute(&mut *transaction)
            .await?;
        let there = sqlx::query("select to_regclass($1) is not null").bind(&part);
        if there.fetch_one(&mut *transaction).await?.try_get(0)? {
            continue;
        }
        for statement in [
            format!("create table {part} (like {table} including all)"),
            format!(
                "with moved as (delete from {table}_default where {by} >= '{from}' and {by} < '{to}' returning *) insert into {part} select * from moved"
            ),
            format!(
                "alter table {table} attach partition {part} for values from ('{from}') to ('{to}')"
            ),
        ] {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// Of a table, by days; `None`: for ever.
fn kept(table: &str, retention: &Retention) -> Option<i64> {
    kept_days(match table {
        "weir_executions" => retention.executions,
        "weir_outputs" => retention.outputs,
        _ => retention.dead_letters,
    })
}

/// Drops the parts of days that their table keeps no longer, and what lies in its default part of them.
pub(super) async fn drop_old(
    connection: &mut PgConnection,
    today: Day,
    options: &Options,
) -> Result<(), sqlx::Error> {
    for table in tables(options.history) {
        let Some(kept) = kept(table, &options.retention) else {
            continue;
        };
        let oldest = Day(today.0 - kept);
        let parts = sqlx::query(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = to_regclass($1)",
        );
        for row in parts.bind(table).fetch_all(&mut *connection).await? {
            let part: String = row.try_get(0)?;
            let suffix = part
                .strip_prefix(table)
                .and_then(|rest| rest.strip_prefix('_'));
            if suffix
                .and_then(Day::of_suffix)
                .is_some_and(|day| day < oldest)
            {
                let drop = format!("drop table if exists {part}");
                sqlx::query(AssertSqlSafe(drop))
                    .execute(&mut *connection)
                    .await?;
                tracing::info!("{part} is older than the destination keeps: dropped");
            }
        }
        let (from, _) = bounds(table, oldest);
        let delete = format!(
            "delete from {table}_default where {} < '{from}'",
            cut_by(table)
        );
        sqlx::query(AssertSqlSafe(delete))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
