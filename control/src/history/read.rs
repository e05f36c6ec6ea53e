//! What a row says: the statements of both databases name and type their columns alike.

/// The same functions for the rows of one database.
macro_rules! readers {
    ($module:ident, $row:ty) => {
        pub(super) mod $module {
            use sqlx::Row as _;

            use crate::history::{DeadLetter, Original, Output, Segment};

            pub(in crate::history) fn segment(row: &$row) -> sqlx::Result<Segment> {
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

            pub(in crate::history) fn output(row: &$row) -> sqlx::Result<Output> {
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

            pub(in crate::history) fn original(row: &$row) -> sqlx::Result<Original> {
                Ok(Original {
                    key: row.try_get("key")?,
                    value: row.try_get("value")?,
                    headers: row.try_get("headers")?,
                })
            }

            pub(in crate::history) fn dead_letter(row: &$row) -> sqlx::Result<DeadLetter> {
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
        }
    };
}

readers!(sqlite, sqlx::sqlite::SqliteRow);
readers!(postgres, sqlx::postgres::PgRow);
