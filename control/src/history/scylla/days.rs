//! Days that have rows, and where an execution's rows lie.

use futures_util::TryStreamExt as _;
use schemas::ExecutionId;
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

use super::open::{Fault, Open, broken};
use crate::history::least;

const DAY_MS: i64 = 86_400_000;

/// Parts of a day's executions.
pub(super) const SLICES: i8 = 16;

/// Whose days: of executions (of one graph; else the empty name) or of dead letters.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) tenant: &'a str,
    pub(super) kind: &'static str,
    pub(super) graph: &'a str,
}

/// Days one after the other, each once.
pub(super) struct Days<S> {
    stream: S,
    last: Option<i32>,
}

impl Open {
    /// Those from `first` to `last`, in the order of the statement.
    pub(super) async fn days(
        &self,
        statement: &PreparedStatement,
        whose: Whose<'_>,
        first: i32,
        last: i32,
    ) -> Result<Days<TypedDays>, Fault> {
        let values = (whose.tenant, whose.kind, whose.graph, first, last);
        let stream = self.rows::<(i32,)>(statement, values).await?;
        Ok(Days { stream, last: None })
    }
}

pub(super) type TypedDays = scylla::client::pager::TypedRowStream<(i32,)>;

impl Days<TypedDays> {
    pub(super) async fn next(&mut self) -> Result<Option<i32>, Fault> {
        while let Some((day,)) = self.stream.try_next().await.map_err(broken)? {
            if self.last.replace(day) != Some(day) {
                return Ok(Some(day));
            }
        }
        Ok(None)
    }
}

/// Since 1970.
pub(super) fn day(ms: i64) -> i32 {
    let day = ms.div_euclid(DAY_MS);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

/// The day and the slice of an execution.
pub(super) fn bucket(execution: Uuid) -> (i32, i8) {
    let bytes = execution.as_bytes();
    // below 16
    let slice = (bytes[15] & 0x0f) as i8;
    (day_of(execution), slice)
}

/// Of the time that an execution's id begins with.
pub(super) fn day_of(execution: Uuid) -> i32 {
    // 48 bits
    day(ExecutionId(execution.into_bytes()).time_ms() as i64)
}

/// The least id of an execution that begins with this text. CQL compares the versions of UUIDs before all else: it has that of
/// all executions.
pub(super) fn bound(beginning: &str) -> Result<Uuid, Fault> {
    let least: Uuid = least(beginning)
        .parse()
        .map_err(|_| Fault::Unavailable(format!("\"{beginning}\" begins no id")))?;
    let mut bytes = least.into_bytes();
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    Ok(Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_have_the_version_of_all_executions() {
        for (beginning, expected) in [
            ("", "00000000-0000-8000-0000-000000000000"),
            ("018bcfe5-687b", "018bcfe5-687b-8000-0000-000000000000"),
            ("g", "ffffffff-ffff-8fff-ffff-ffffffffffff"),
            (
                "018bcfe5-687b-8123-8000-000000000001",
                "018bcfe5-687b-8123-8000-000000000001",
            ),
        ] {
            assert_eq!(bound(beginning).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn an_execution_lies_where_the_sink_puts_it() {
        let id = "01a21c82-b115-8000-8000-000000000007".parse().unwrap();
        assert_eq!(bucket(id), (20_784, 7));
        assert_eq!(day(-1), -1);
    }
}
