//! Sending writes: those of one partition together, all others alone, so many at once and no more.
//!
//! Nothing depends on the order in which they arrive: each carries its time, and the later one wins.

use std::collections::HashMap;
use std::sync::Arc;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, MaybeUnset};
use tokio::task::JoinSet;

/// Rows of one batch.
const BATCH_ROWS_MAX: usize = 50;
/// Requests under way, a batch counting as many: 256 rows alone, or 16 batches.
const IN_FLIGHT_MAX: usize = 256;
const BATCH_WEIGHT: usize = 16;

/// A statement with its values, the last of which is its time.
pub(super) struct Write {
    pub(super) statement: PreparedStatement,
    pub(super) values: Vec<MaybeUnset<CqlValue>>,
    /// About; of the values.
    pub(super) bytes: usize,
    /// Equal for writes to one partition of one table; `None`: it goes alone.
    pub(super) partition: Option<u64>,
    /// Whose it is; `None`: a row of ours, which no destination refuses.
    pub(super) event: Option<usize>,
}

/// An event that the database does not take, and why.
pub(super) struct Refused {
    pub(super) event: usize,
    pub(super) reason: String,
}

/// Why a request failed.
pub(super) enum Failed {
    /// What was sent is wrong, and will be.
    Refused(String),
    /// It may succeed later.
    Unavailable(String),
}

/// `batch_bytes_max`: of what goes together. Returns when all are acknowledged, at the session's consistency, or refused. An error leaves it open which have been
/// written: all are to be sent again.
pub(super) async fn send(
    session: &Arc<Session>,
    batch_bytes_max: usize,
    writes: Vec<Write>,
) -> Result<Vec<Refused>, String> {
    let mut waiting = chunks(writes, batch_bytes_max);
    let mut refused = Vec::new();
    let mut flying = JoinSet::new();
    let mut weight = 0;
    loop {
        while let Some(chunk) = waiting.pop() {
            if weight > 0 && weight + weigh(&chunk) > IN_FLIGHT_MAX {
                waiting.push(chunk);
                break;
            }
            weight += weigh(&chunk);
            let session = session.clone();
            flying.spawn(async move { (execute(&session, &chunk).await, chunk) });
        }
        // dropping the others on an error: they are sent again
        let (outcome, chunk) = match flying.join_next().await {
            None => return Ok(refused),
            Some(Ok(landed)) => landed,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => return Err(cancelled.to_string()),
            },
        };
        weight -= weigh(&chunk);
        match outcome {
            Ok(()) => {}
            Err(Failed::Unavailable(reason)) => return Err(reason),
            // one of them, or all together
            Err(Failed::Refused(_)) if chunk.len() > 1 => {
                waiting.extend(chunk.into_iter().map(|write| vec![write]));
            }
            Err(Failed::Refused(reason)) => match chunk[0].event {
                Some(event) => refused.push(Refused { event, reason }),
                None => return Err(reason),
            },
        }
    }
}

fn weigh(chunk: &[Write]) -> usize {
    if chunk.len() > 1 { BATCH_WEIGHT } else { 1 }
}

/// What goes together.
fn chunks(writes: Vec<Write>, bytes_max: usize) -> Vec<Vec<Write>> {
    let mut chunks: Vec<Vec<Write>> = Vec::new();
    // the last chunk of each partition, and its bytes
    let mut open: HashMap<u64, (usize, usize)> = HashMap::new();
    for write in writes {
        let Some(partition) = write.partition else {
            chunks.push(vec![write]);
            continue;
        };
        if let Some((chunk, bytes)) = open.get_mut(&partition)
            && chunks[*chunk].len() < BATCH_ROWS_MAX
            && *bytes + write.bytes <= bytes_max
        {
            *bytes += write.bytes;
            chunks[*chunk].push(write);
            continue;
        }
        open.insert(partition, (chunks.len(), write.bytes));
        chunks.push(vec![write]);
    }
    chunks
}

async fn execute(session: &Session, chunk: &[Write]) -> Result<(), Failed> {
    let landed = match chunk {
        [write] => {
            session
                .execute_unpaged(&write.statement, &write.values)
                .await
        }
        writes => {
            let mut batch = Batch::new(BatchType::Unlogged);
            batch.set_is_idempotent(true);
            let policy = writes[0].statement.get_load_balancing_policy();
            batch.set_load_balancing_policy(policy.cloned());
            let mut values = Vec::with_capacity(writes.len());
            for write in writes {
                batch.append_statement(write.statement.clone());
                values.push(&write.values);
            }
            session.batch(&batch, values).await
        }
    };
    landed.map(drop).map_err(|error| failed(&error))
}

/// Whether it is about what was sent, or about the database's state.
pub(super) fn failed(error: &ExecutionError) -> Failed {
    match error {
        ExecutionError::BadQuery(reason) => Failed::Refused(reason.to_string()),
        ExecutionError::LastAttemptError(attempt) => attempted(attempt),
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
            attempted(first_attempt)
        }
        other => Failed::Unavailable(other.to_string()),
    }
}

pub(super) fn unprepared(error: &PrepareError) -> Failed {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempted(first_attempt),
        other => Failed::Unavailable(other.to_string()),
    }
}

fn attempted(error: &RequestAttemptError) -> Failed {
    match error {
        RequestAttemptError::DbError(
            DbError::Invalid
            | DbError::SyntaxError
            | DbError::ConfigError
            | DbError::Unauthorized
            | DbError::FunctionFailure { .. },
            reason,
        ) => Failed::Refused(reason.clone()),
        RequestAttemptError::SerializationError(reason) => Failed::Refused(reason.to_string()),
        RequestAttemptError::CqlRequestSerialization(reason) => Failed::Refused(reason.to_string()),
        other => Failed::Unavailable(other.to_string()),
    }
}
