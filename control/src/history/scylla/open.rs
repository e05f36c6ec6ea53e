//! An open session with the statements prepared. Each asks one partition, or a range of one.

use futures_util::TryStreamExt as _;
use scylla::client::pager::{NextRowError, TypedRowStream};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{PagerExecutionError, PrepareError};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

/// Rows of one page: of keys, and of what may hold half a MiB.
const KEYS: i32 = 500;
const CONTENTS: i32 = 16;

pub(super) struct Open {
    session: Session,
    pub(super) days_down: PreparedStatement,
    pub(super) days_up: PreparedStatement,
    pub(super) ids: PreparedStatement,
    pub(super) ids_of_graph: PreparedStatement,
    pub(super) segments: PreparedStatement,
    pub(super) output_keys: PreparedStatement,
    pub(super) outputs: PreparedStatement,
    pub(super) letters_down: PreparedStatement,
    pub(super) letters_up: PreparedStatement,
    pub(super) letter: PreparedStatement,
    pub(super) original: PreparedStatement,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Fault {
    Unavailable(String),
    /// The rows are not as the sink writes them.
    Damaged(String),
}

/// A dead letter's columns.
const LETTER: &str = r#"id, tenant, graph, version, execution, step, kind, reason, attempt, topic, "partition", "offset", died_at_ms, purged_at_ms"#;

impl Open {
    /// Fails as long as the sink has not made the tables.
    pub(super) async fn open(session: Session) -> Result<Self, String> {
        let prepare = async |text: &str, page: i32| {
            let prepared = session.prepare(text).await;
            let mut prepared = prepared.map_err(|error: PrepareError| error.to_string())?;
            prepared.set_is_idempotent(true);
            prepared.set_page_size(page);
            Ok::<_, String>(prepared)
        };
        let days = "select day from weir_days where tenant = ? and kind = ? and graph = ? and day >= ? and day <= ?";
        let ids = "day = ? and slice = ? and execution >= ? and execution < ?";
        let execution = "tenant = ? and day = ? and slice = ? and execution = ?";
        let by_day = "select died_at_ms, id, graph, kind from weir_dead_letters_by_day where tenant = ? and day = ?";
        let letter = "from weir_dead_letters where id = ?";
        let statements = Self {
            days_down: prepare(&format!("{days} order by day desc"), KEYS).await?,
            days_up: prepare(&format!("{days} order by day asc"), KEYS).await?,
            ids: prepare(
                &format!("select execution from weir_executions where tenant = ? and {ids}"),
                KEYS,
            )
            .await?,
            ids_of_graph: prepare(
                &format!("select execution from weir_executions_by_graph where tenant = ? and graph = ? and {ids}"),
                KEYS,
            )
            .await?,
            segments: prepare(
                &format!(
                    r#"select execution, segment, graph, version, "trigger", trigger_id, status, failed_step, failure, reason, attempt, started,
                              logs, logs_dropped, origin, triggered_at_us, finished_at_ms
                       from weir_executions where {execution}"#
                ),
                KEYS,
            )
            .await?,
            output_keys: prepare(
                &format!("select segment, number from weir_outputs where {execution}"),
                KEYS,
            )
            .await?,
            outputs: prepare(
                &format!(
                    "select segment, number, step, port, sinks, key, content_type, headers, data, data_bytes, sha256
                     from weir_outputs where {execution} and segment = ? and number >= ? and number <= ?"
                ),
                CONTENTS,
            )
            .await?,
            letters_down: prepare(&format!("{by_day} and (died_at_ms, id) < (?, ?)"), KEYS).await?,
            letters_up: prepare(
                &format!("{by_day} and (died_at_ms, id) > (?, ?) order by died_at_ms asc, id asc"),
                KEYS,
            )
            .await?,
            letter: prepare(&format!("select {LETTER} {letter}"), KEYS).await?,
            original: prepare(
                &format!("select {LETTER}, key, value, headers {letter}"),
                KEYS,
            )
            .await?,
            session,
        };
        Ok(statements)
    }

    /// Rows in their order, page after page as they are taken.
    pub(super) async fn rows<T>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<TypedRowStream<T>, Fault>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let pager = self.session.execute_iter(statement.clone(), values).await;
        let pager = pager.map_err(unavailable)?;
        pager
            .rows_stream::<T>()
            .map_err(|error| Fault::Damaged(error.to_string()))
    }

    /// All of them; of a statement that gives few.
    pub(super) async fn all<T>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<T>, Fault>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let rows = self.rows::<T>(statement, values).await?;
        rows.map_err(broken).try_collect().await
    }

    pub(super) async fn check(&self) -> Result<(), Fault> {
        let nobody = ("", "executions", "", 0, 0);
        self.all::<(i32,)>(&self.days_down, nobody).await.map(drop)
    }
}

fn unavailable(error: PagerExecutionError) -> Fault {
    Fault::Unavailable(error.to_string())
}

/// What ends a stream of rows.
pub(super) fn broken(error: NextRowError) -> Fault {
    match error {
        NextRowError::RowDeserializationError(error) => Fault::Damaged(error.to_string()),
        other => Fault::Unavailable(other.to_string()),
    }
}
