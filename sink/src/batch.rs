//! What one write lands: rows decoded from records, and how far each partition comes with them.

use std::sync::Arc;

use schemas::records::{DeadLetter, SegmentResult, headers};
use topics::catalog::{DEAD_LETTERS, RESULTS};
use topics::{Fetched, Partition};

use crate::writes::Write;

/// One record, decoded.
pub(crate) enum Row {
    Result(Arc<SegmentResult>),
    DeadLetter(Box<DeadLetter>),
    /// A dead letter's id: it is purged.
    Purge(String),
    /// Bytes that are no record of ours: they land among the dead letters, with the reason.
    Unreadable(String),
}

pub(crate) struct Landing {
    pub(crate) row: Row,
    /// Rows of users' own tables that it asks for.
    pub(crate) writes: Vec<Write>,
    /// What it was decoded from.
    pub(crate) from: Fetched,
}

/// From `first` (inclusive) to `next` (exclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) partition: Partition,
    pub(crate) first: i64,
    pub(crate) next: i64,
}

#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) landings: Vec<Landing>,
    pub(crate) progress: Vec<Progress>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.landings.is_empty()
    }

    /// Landings come in offset order within each partition.
    pub(crate) fn push(&mut self, landing: Landing) {
        let from = &landing.from;
        match self
            .progress
            .iter_mut()
            .find(|p| p.partition == from.partition)
        {
            Some(progress) => progress.next = from.offset + 1,
            None => self.progress.push(Progress {
                partition: from.partition.clone(),
                first: from.offset,
                next: from.offset + 1,
            }),
        }
        self.landings.push(landing);
    }

    /// Drops what came from these partitions.
    pub(crate) fn forget(&mut self, partitions: &[Partition]) {
        self.landings
            .retain(|landing| !partitions.contains(&landing.from.partition));
        self.progress
            .retain(|progress| !partitions.contains(&progress.partition));
    }
}

/// What a record says.
pub(crate) fn decode(from: &Fetched) -> Row {
    let value = from.record.value.clone().unwrap_or_default();
    match &*from.partition.topic {
        RESULTS => match SegmentResult::decode(&value) {
            Ok(result) => Row::Result(Arc::new(result)),
            Err(e) => Row::Unreadable(e.to_string()),
        },
        DEAD_LETTERS => match DeadLetter::from_headers(&from.record.headers) {
            Ok(letter) => Row::DeadLetter(Box::new(letter)),
            Err(e) => purge(from).map_or_else(
                || Row::Unreadable(format!("its headers do not say where it came from: {e}")),
                Row::Purge,
            ),
        },
        other => Row::Unreadable(format!("topic \"{other}\" is not one that this sink lands")),
    }
}

/// Which dead letter this record purges. One that has died is a dead letter, whatever its own headers say.
fn purge(from: &Fetched) -> Option<String> {
    let named = |(name, _): &&(String, bytes::Bytes)| name == headers::PURGE;
    let (_, id) = from.record.headers.iter().find(named)?;
    (from.record.value.is_none()).then(|| String::from_utf8_lossy(id).into_owned())
}
