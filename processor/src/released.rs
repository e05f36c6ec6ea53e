//! The marks of releases on `weir.positions`: how far the parked records of a graph have been run, for each partition that
//! they came from.

use bytes::Bytes;
use topics::catalog::POSITIONS;
use topics::{Outgoing, Partition, Record};

use crate::isolation::Note;
use crate::streams::Releasing;

/// What a mark says: `n=1042;done=7;e=7;s=2`, the last ones as in a committed offset's metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The next parked record.
    pub(crate) next: i64,
    /// The release that is over for this partition.
    pub(crate) done: Option<u64>,
    /// About records that kill their process.
    pub(crate) note: Note,
}

impl Progress {
    pub(crate) fn parse(mark: &[u8]) -> Self {
        let text = String::from_utf8_lossy(mark);
        let field = |name: &str| {
            let found = text.split(';').find_map(|field| {
                let (found, value) = field.split_once('=')?;
                (found == name).then_some(value)
            });
            found.map(str::to_owned)
        };
        Self {
            next: field("n").and_then(|n| n.parse().ok()).unwrap_or(0),
            done: field("done").and_then(|done| done.parse().ok()),
            note: Note::parse(&text),
        }
    }

    fn format(&self) -> String {
        let done = self
            .done
            .map_or_else(String::new, |done| format!(";done={done}"));
        format!("n={}{done};{}", self.next, self.note.format())
    }
}

/// The key of a mark.
pub(crate) fn key(of: &Releasing, from: &Partition) -> Bytes {
    let (Releasing { tenant, graph, .. }, Partition { topic, number }) = (of, from);
    Bytes::from(format!("released/{tenant}/{graph}/{topic}/{number}"))
}

pub(crate) fn mark(of: &Releasing, from: &Partition, progress: &Progress, now_ms: i64) -> Outgoing {
    Outgoing {
        topic: POSITIONS.into(),
        partition: None,
        record: Record {
            key: Some(key(of, from)),
            value: Some(Bytes::from(progress.format())),
            headers: Vec::new(),
            timestamp_ms: now_ms,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was() {
        let note = Note {
            epoch: 7,
            starts: 2,
            until: 1_100,
            record: Some((1_042, 1)),
        };
        for progress in [
            Progress::default(),
            Progress {
                next: 1_042,
                done: None,
                note,
            },
            Progress {
                next: 5,
                done: Some(9),
                note: Note::default(),
            },
        ] {
            assert_eq!(Progress::parse(progress.format().as_bytes()), progress);
        }
    }
}
