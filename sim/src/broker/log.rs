//! One partition: records, transaction markers, and the last stable offset.

use std::collections::BTreeMap;

use topics::Record;

/// A producer's id; the coordinator gives one to each transactional id.
pub(crate) type Producer = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
    /// A transaction's marker: an offset that no reader sees.
    Marker,
}

struct Entry {
    record: Record,
    producer: Option<Producer>,
    state: State,
}

/// Offsets are places in it; nothing is ever deleted.
#[derive(Default)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    /// Where each open transaction begins.
    open: BTreeMap<Producer, usize>,
}

impl Log {
    /// `producer`: in its open transaction; `None`: at once.
    pub(crate) fn append(&mut self, record: Record, producer: Option<Producer>) -> i64 {
        let offset = self.entries.len();
        let state = match producer {
            Some(producer) => {
                self.open.entry(producer).or_insert(offset);
                State::Open
            }
            None => State::Committed,
        };
        self.entries.push(Entry {
            record,
            producer,
            state,
        });
        offset as i64
    }

    /// Ends what the producer has open here.
    pub(crate) fn mark(&mut self, producer: Producer, commit: bool) {
        let state = if commit {
            State::Committed
        } else {
            State::Aborted
        };
        if let Some(first) = self.open.remove(&producer) {
            for entry in &mut self.entries[first..] {
                if entry.producer == Some(producer) && entry.state == State::Open {
                    entry.state = state;
                }
            }
        }
        self.entries.push(Entry {
            record: Record::default(),
            producer: Some(producer),
            state: State::Marker,
        });
    }

    pub(crate) fn stable(&self) -> i64 {
        let open = self.open.values().min();
        open.copied().unwrap_or(self.entries.len()) as i64
    }

    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The committed records from `next` on, up to `max`, and where reading goes on. `dirty`: what a reader sees that
    /// does not care for transactions.
    pub(crate) fn read(&self, next: i64, max: usize, dirty: bool) -> (Vec<(i64, Record)>, i64) {
        let end = if dirty {
            self.entries.len()
        } else {
            self.stable() as usize
        };
        let mut at = next as usize;
        let mut found = Vec::new();
        while at < end && found.len() < max {
            let entry = &self.entries[at];
            let seen = entry.state == State::Committed || (dirty && entry.state != State::Marker);
            if seen {
                found.push((at as i64, entry.record.clone()));
            }
            at += 1;
        }
        (found, at.max(next as usize) as i64)
    }
}
