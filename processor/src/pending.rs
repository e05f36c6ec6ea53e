//! What a lane has fetched and not handed out, and how far each partition comes with what it has. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use topics::{Fetched, Partition};

/// Records in the order in which they came.
#[derive(Default)]
pub(crate) struct Pending {
    records: VecDeque<Fetched>,
    bytes: usize,
}

impl Pending {
    pub(crate) fn extend(&mut self, records: Vec<Fetched>) {
        self.bytes += records.iter().map(size).sum::<usize>();
        self.records.extend(records);
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Fetched> {
        self.records.get(at)
    }

    /// The first `count` records.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Fetched> {
        let taken: Vec<Fetched> = self.records.drain(..count).collect();
        self.bytes -= taken.iter().map(size).sum::<usize>();
        taken
    }

    pub(crate) fn forget(&mut self, partitions: &[Partition]) {
        self.records.retain(|r| !partitions.contains(&r.partition));
        self.bytes = self.records.iter().map(size).sum();
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes of key and value.
pub(crate) fn size(record: &Fetched) -> usize {
    record.record.key.as_ref().map_or(0, Bytes::len)
        + record.record.value.as_ref().map_or(0, Bytes::len)
}

/// How far some records come: the next offset of each of their partitions, their number and bytes.
#[derive(Default)]
pub(crate) struct Reach {
    pub(crate) next: Vec<(Partition, i64)>,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Reach {
    /// `records`: in offset order within each partition.
    pub(crate) fn of(records: &[Fetched]) -> Self {
        let mut reach = Self {
            records: records.len(),
            ..Self::default()
        };
        for record in records {
            reach.bytes += size(record);
            reach.set(&record.partition, record.offset + 1);
        }
        reach
    }

    /// What comes after this.
    pub(crate) fn extend(&mut self, later: Self) {
        self.records += later.records;
        self.bytes += later.bytes;
        for (partition, next) in later.next {
            self.set(&partition, next);
        }
    }

    fn set(&mut self, partition: &Partition, next_offset: i64) {
        // Records of one partition mostly come together, and partitions are few.
        match self.next.iter_mut().rev().find(|(p, _)| p == partition) {
            Some((_, next)) => *next = next_offset,
            None => self.next.push((partition.clone(), next_offset)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}
