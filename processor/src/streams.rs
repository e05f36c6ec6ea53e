//! What lanes ask about the graphs in use, beside how a record of theirs is run: which topics are read, what waits to be
//! released, what can be read just now.

use std::sync::Arc;

use topics::{Fetched, Topic};

use crate::error::ProcessorError;

/// A user's topic that graphs read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub topic: Topic,
    /// The topic's id when it began to be read.
    pub topic_id: String,
    /// Grows when a topic that nobody read any more is read again.
    pub generation: i64,
    /// Where each partition of it starts; those that were added later start at their beginning.
    pub starts: Vec<i64>,
}

/// A graph whose parked records are to be run, or to become dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Releasing {
    pub tenant: String,
    pub graph: String,
    /// The graph's epoch: tells one release from another.
    pub number: u64,
    /// Nothing was parked before: milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// The graph is gone: what was parked becomes dead letters.
    pub deleted: bool,
}

/// What lanes ask.
pub trait Streams: Send + Sync {
    /// The highest epoch of a graph's change that this process has followed.
    fn epoch(&self) -> u64;
    /// The users' topics that graphs read, in the order of their names.
    fn subscribed(&self) -> Result<Arc<[Subscribed]>, ProcessorError>;
    /// The graphs whose parked records are due.
    fn releasing(&self) -> Result<Arc<[Releasing]>, ProcessorError>;
    /// Whether a record of a user's topic can be read, or a trigger that was one; an error says what is waited for.
    fn readable(&self, record: &Fetched) -> Result<(), String>;
}
