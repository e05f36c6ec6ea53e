//! The history in CQL: a destination in ScyllaDB or Cassandra that is marked `history = true`. Only reads.
//!
//! Rows lie in partitions of a tenant's day; `weir_days` says which days there are, and days are read one after the other until
//! there is enough. `open.rs` has the statements, the others what is asked with them. What CQL cannot choose or sort is
//! chosen and sorted here, so that the answers are those of Postgres.

mod days;
mod executions;
mod letters;
mod open;
mod outputs;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::letters::Way;
use super::{
    ACQUIRE, DeadLetter, HistoryError, Letters, Original, Output, READERS_MAX, Range, Result,
    Segment,
};
use open::{Fault, Open};

/// A question that takes longer is given up.
const ANSWER: Duration = Duration::from_secs(30);

/// A session that is being opened; the error says why there is none.
pub type Connecting = Pin<Box<dyn Future<Output = std::result::Result<Session, String>> + Send>>;
/// Opens one, within a Tokio runtime.
pub type Connect = Arc<dyn Fn() -> Connecting + Send + Sync>;

#[derive(Clone)]
pub(super) struct Scylla {
    place: String,
    connect: Connect,
    readers: Arc<Semaphore>,
    /// Made when it is first needed, and anew after an error: nodes may have come back at other addresses.
    open: Arc<Mutex<Option<Arc<Open>>>>,
}

/// What one question works with.
struct Reader {
    open: Arc<Open>,
    _turn: OwnedSemaphorePermit,
}

impl Scylla {
    pub(super) fn open(place: String, connect: Connect) -> Self {
        Self {
            place,
            connect,
            readers: Arc::new(Semaphore::new(READERS_MAX as usize)),
            open: Arc::default(),
        }
    }

    pub(super) async fn check(&self) -> Result<()> {
        let reader = self.reader().await?;
        self.answer(&reader, reader.open.check()).await
    }

    pub(super) async fn ids(&self, range: &Range<'_>, limit: u32) -> Result<Vec<String>> {
        let reader = self.reader().await?;
        self.answer(&reader, reader.open.ids(range, limit)).await
    }

    pub(super) async fn segments(&self, tenant: &str, ids: &[String]) -> Result<Vec<Segment>> {
        let reader = self.reader().await?;
        self.answer(&reader, reader.open.segments(tenant, ids))
            .await
    }

    pub(super) async fn outputs(
        &self,
        tenant: &str,
        execution: &str,
    ) -> Result<(Vec<Output>, i64)> {
        let reader = self.reader().await?;
        self.answer(&reader, reader.open.outputs(tenant, execution))
            .await
    }

    pub(super) async fn output(
        &self,
        tenant: &str,
        execution: &str,
        place: (&str, i64),
    ) -> Result<Vec<Output>> {
        let reader = self.reader().await?;
        self.answer(&reader, reader.open.output(tenant, execution, place))
            .await
    }

    pub(super) async fn dead_letters(
        &self,
        tenant: &str,
        letters: &Letters,
        before: (i64, &str),
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        let reader = self.reader().await?;
        let way = Way::Down { before };
        let found = reader.open.letters(tenant, letters, way, limit);
        self.answer(&reader, found).await
    }

    pub(super) async fn originals(
        &self,
        tenant: &str,
        letters: &Letters,
        after: (i64, &str),
        limit: u32,
    ) -> Result<Vec<(DeadLetter, Original)>> {
        let reader = self.reader().await?;
        let way = Way::Up { after };
        let found = reader.open.letters(tenant, letters, way, limit);
        self.answer(&reader, found).await
    }

    pub(super) async fn originals_of(
        &self,
        tenant: &str,
        ids: &[String],
    ) -> Result<Vec<(DeadLetter, Original)>> {
        let reader = self.reader().await?;
        self.answer(&reader, reader.open.originals_of(tenant, ids))
            .await
    }

    /// Waits for its turn, and for the session where there is none.
    async fn reader(&self) -> Result<Reader> {
        let reader = async {
            let turn = self.readers.clone().acquire_owned().await;
            let turn = turn.map_err(|closed| closed.to_string())?;
            let mut kept = self.open.lock().await;
            let open = match &*kept {
                Some(open) => open.clone(),
                None => {
                    let open = Open::open((self.connect)().await?).await?;
                    kept.insert(Arc::new(open)).clone()
                }
            };
            Ok(Reader { open, _turn: turn })
        };
        match timeout(ACQUIRE, reader).await {
            Ok(reader) => reader.map_err(|reason| self.unavailable(reason)),
            Err(_) => {
                let reason = format!("no session within {} s", ACQUIRE.as_secs());
                Err(self.unavailable(reason))
            }
        }
    }

    async fn answer<T>(
        &self,
        reader: &Reader,
        answer: impl Future<Output = std::result::Result<T, Fault>>,
    ) -> Result<T> {
        let reason = match timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Fault::Damaged(reason))) => {
                let place = self.place.clone();
                return Err(HistoryError::Damaged { place, reason });
            }
            Ok(Err(Fault::Unavailable(reason))) => reason,
            Err(_) => format!(
                "no answer within {} s: ask for less, as with since or graph",
                ANSWER.as_secs()
            ),
        };
        let mut kept = self.open.lock().await;
        if kept
            .as_ref()
            .is_some_and(|open| Arc::ptr_eq(open, &reader.open))
        {
            *kept = None;
        }
        Err(self.unavailable(reason))
    }

    fn unavailable(&self, reason: String) -> HistoryError {
        let place = self.place.clone();
        HistoryError::Unavailable { place, reason }
    }
}
