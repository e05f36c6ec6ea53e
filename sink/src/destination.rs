//! What the loop asks of a destination, whatever its kind.

use std::collections::HashMap;

use topics::Partition;

use crate::batch::Batch;
use crate::error::SinkError;
use crate::retention::Retention;

/// Where each of this sink's partitions stands in the destination: the next offset to land. The compare of the
/// compare-and-set.
pub(crate) type Stored = HashMap<Partition, i64>;

/// What a write came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Landed {
    pub(crate) rows: u64,
    /// Rows that the destination refused; each is among its dead letters.
    pub(crate) dead: u64,
}

/// A kind of destination; each says at the head of its file what it promises. Calls block, and are not made from a task
/// of a runtime.
pub(crate) trait Kind: Send {
    /// The next offset to land of a partition; `None`: nothing has landed yet.
    fn position(&mut self, partition: &Partition) -> Result<Option<i64>, SinkError>;

    /// Lands the batch. `stored` moves on for partitions that have landed, also where an error ends the others: the same
    /// batch may be landed again, and what is there already is passed over.
    fn land(&mut self, batch: &Batch, stored: &mut Stored) -> Result<Landed, SinkError>;

    /// Drops what is older than the destination keeps, and makes room for what comes. Called now and then.
    fn tidy(&mut self, _now_ms: i64) -> Result<(), SinkError> {
        Ok(())
    }
}

/// An open destination of some kind. One thread owns it.
pub struct Destination(pub(crate) Box<dyn Kind>);

impl<K: Kind + 'static> From<K> for Destination {
    fn from(kind: K) -> Self {
        Self(Box::new(kind))
    }
}

/// What every kind is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name in `weir.toml`, for messages.
    pub name: String,
    /// It holds `weir_executions`, `weir_outputs` and what comes from `weir.dead-letters`.
    pub history: bool,
    pub retention: Retention,
}
