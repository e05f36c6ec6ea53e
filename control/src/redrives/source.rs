//! The source that writes what redrives and purges ask for, each letter exactly once, in the order of their numbers
//! (`copier`). What the store says of progress is housekeeping behind the shard's position.

use std::sync::Arc;

use store::{LetterRow, Store};
use tokio::runtime::Handle;
use topics::{Log, Outgoing};

use super::record;
use crate::copier::{Broken, Copier, Desk, Job};

/// The one shard is `redrives-0`.
pub const KIND: &str = "redrives";
/// Letters of one transaction. Few: what is redriven shall not stand in the way of what comes in.
const LETTERS: u32 = 200;
const BYTES: u64 = 2 << 20;

/// The running source. Dropping it stops its threads and waits for them.
pub struct Redrives(Copier);

impl Redrives {
    /// Starts the threads. `runtime` runs the store's calls.
    pub fn start(log: Arc<dyn Log>, store: Store, runtime: Handle) -> std::io::Result<Self> {
        Copier::start(Letters, log, store, runtime).map(Self)
    }

    /// There may be something to write.
    pub(crate) fn wake(&self) {
        self.0.wake();
    }

    /// An error says why nothing is written just now. Where another process writes, all is well here.
    pub fn check(&self) -> Result<(), String> {
        self.0.check()
    }

    /// Ends after what is being written.
    pub fn stop(&mut self) {
        self.0.stop();
    }
}

struct Letters;

impl Job for Letters {
    const KIND: &'static str = KIND;

    fn begin(&self, desk: &Desk, position: i64) -> Result<i64, Broken> {
        // A store that is younger than the log must not give numbers out again that the position has passed.
        desk.ask(async |store| store.redrives_number_from(position).await)?;
        // A log that is younger than the store gets nothing again that an older one has had.
        let emitted = desk.ask(async |store| store.redrives_emitted_up_to().await)?;
        let position = position.max(emitted);
        // What the last owner has written, and did not come to say.
        self.done(desk, position)?;
        Ok(position)
    }

    fn next(&self, desk: &Desk, after: i64) -> Result<Option<(Vec<Outgoing>, i64)>, Broken> {
        let rows =
            desk.ask(async |store| store.redrive_letters_after(after, LETTERS, BYTES).await)?;
        let Some(last) = rows.last().map(|row| row.number) else {
            return Ok(None);
        };
        let records = rows.into_iter().map(outgoing).collect::<Result<_, _>>()?;
        Ok(Some((records, last)))
    }

    fn done(&self, desk: &Desk, position: i64) -> Result<(), Broken> {
        desk.ask(async |store| store.redrives_emitted(position).await)
    }
}

fn outgoing(row: LetterRow) -> Result<Outgoing, Broken> {
    record::decode(&row.record).ok_or_else(|| {
        Broken::failed(format!(
            "the store's record of redriven letter {} is damaged, or of a newer Weir",
            row.number
        ))
    })
}
