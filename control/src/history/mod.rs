//! The history database, which the sink writes and this crate only reads: executions, outputs and dead letters. `sqlite.rs`,
//! `postgres.rs` and `scylla/` hold the statements, `read.rs` what a row in SQL says.
//!
//! Invariants: nothing is written here; every statement is bounded by a limit. The tables are the sink's.

mod postgres;
mod read;
mod scylla;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use self::scylla::Scylla;
pub use self::scylla::{Connect, Connecting};
use postgres::Postgres;
use sqlite::Sqlite;

const READERS_MAX: u32 = 4;
/// Outputs of one execution that an answer carries.
pub(crate) const OUTPUTS_MAX: usize = 1_000;
/// Bytes of their data; the first output is shown however large it is.
const OUTPUT_BYTES_MAX: i64 = 32 << 20;
const ACQUIRE: Duration = Duration::from_secs(10);

/// Reads the history. Cheap to clone.
#[derive(Clone)]
pub struct History(Database);

#[derive(Clone)]
enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
    Scylla(Scylla),
}

/// Why the history cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Also while the sink has not made the tables yet.
    #[error("the history at \"{place}\" cannot be read ({reason}); try again")]
    Unavailable { place: String, reason: String },
    #[error("the history at \"{place}\" is not as the sink writes it ({reason})")]
    Damaged { place: String, reason: String },
}

type Result<T, E = HistoryError> = std::result::Result<T, E>;

/// What went wrong, at a place.
fn error(place: &str, error: &sqlx::Error) -> HistoryError {
    let (place, reason) = (place.to_owned(), error.to_string());
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => HistoryError::Damaged { place, reason },
        _ => HistoryError::Unavailable { place, reason },
    }
}

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

/// Asks whichever database it is.
macro_rules! ask {
    ($self:ident, $history:ident => $call:expr) => {
        match &$self.0 {
            Database::Sqlite($history) => $call.await,
            Database::Postgres($history) => $call.await,
            Database::Scylla($history) => $call.await,
        }
    };
}

impl History {
    /// Within a Tokio runtime. The SQLite file is opened when it is first read, so it may come to be later.
    pub fn open(path: &Path) -> Self {
        Self(Database::Sqlite(Sqlite::open(path)))
    }

    /// Within a Tokio runtime. A destination in Postgres that is marked `history = true`; nothing is asked of it yet.
    pub fn postgres(url: &str) -> Result<Self> {
        Ok(Self(Database::Postgres(Postgres::open(url)?)))
    }

    /// A destination in ScyllaDB or Cassandra that is marked `history = true`; `connect` is asked for a session when it is first
    /// read, and again after errors. `place`: for messages.
    pub fn scylla(place: String, connect: Connect) -> Self {
        Self(Database::Scylla(Scylla::open(place, connect)))
    }

    /// Can it be read?
    pub async fn check(&self) -> Result<()> {
        ask!(self, history => history.check())
    }

    /// The last ids of the range, the latest first.
    pub(crate) async fn ids(&self, range: &Range<'_>, limit: u32) -> Result<Vec<String>> {
        ask!(self, history => history.ids(range, limit))
    }

    /// All that has been reported of these executions, the latest execution first.
    pub(crate) async fn segments(&self, tenant: &str, ids: &[String]) -> Result<Vec<Segment>> {
        ask!(self, history => history.segments(tenant, ids))
    }

    /// What came out of an execution: at most [`OUTPUTS_MAX`], and whether there is more.
    pub(crate) async fn outputs(
        &self,
        tenant: &str,
        execution: &str,
    ) -> Result<(Vec<Output>, bool)> {
        let (outputs, total) = ask!(self, history => history.outputs(tenant, execution))?;
        let more = total > outputs.len() as i64;
        Ok((outputs, more))
    }

    /// One output of a segment.
    pub(crate) async fn output(
        &self,
        tenant: &str,
        execution: &str,
        place: (&str, i64),
    ) -> Result<Option<Output>> {
        let mut found = ask!(self, history => history.output(tenant, execution, place))?;
        Ok(found.pop())
    }

    /// The last dead letters before a time and an id, the latest first.
    pub(crate) async fn dead_letters(
        &self,
        tenant: &str,
        letters: &Letters,
        before: (i64, &str),
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        ask!(self, history => history.dead_letters(tenant, letters, before, limit))
    }

    /// The first dead letters after a time and an id, with the original records, the oldest first.
    pub(crate) async fn originals(
        &self,
        tenant: &str,
        letters: &Letters,
        after: (i64, &str),
        limit: u32,
    ) -> Result<Vec<(DeadLetter, Original)>> {
        ask!(self, history => history.originals(tenant, letters, after, limit))
    }

    /// These dead letters with the original records, in any order; those that are not there are left out.
    pub(crate) async fn originals_of(
        &self,
        tenant: &str,
        ids: &[String],
    ) -> Result<Vec<(DeadLetter, Original)>> {
        ask!(self, history => history.originals_of(tenant, ids))
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
}

/// The least uuid that begins with this text; the greatest one for what lies behind all of them.
fn least(beginning: &str) -> String {
    const LEAST: &str = "00000000-0000-0000-0000-000000000000";
    const GREATEST: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    if beginning > GREATEST {
        return GREATEST.to_owned();
    }
    let rest = LEAST.get(beginning.len()..).unwrap_or_default();
    format!("{beginning}{rest}")
}

#[cfg(test)]
mod tests {
    use super::least;

    #[test]
    fn beginnings_become_ids() {
        for (beginning, expected) in [
            ("", "00000000-0000-0000-0000-000000000000"),
            ("018bcfe5-687b", "018bcfe5-687b-0000-0000-000000000000"),
            ("g", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            (
                "018bcfe5-687b-8000-8000-000000000001",
                "018bcfe5-687b-8000-8000-000000000001",
            ),
        ] {
            assert_eq!(least(beginning), expected);
        }
    }
}
