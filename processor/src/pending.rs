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

    /// Of a partition, what lies at this place or behind it.
    pub(crate) fn forget_from(&mut self, place: usize, partition: &Partition) {
        let mut at = 0;
        self.records.retain(|record| {
            at += 1;
            at <= place || record.partition != *partition
        });
        self.bytes = self.records.iter().map(size).sum();
    }

    /// The offset of a partition's first record.
    pub(crate) fn first_of(&self, partition: &Partition) -> Option<i64> {
        let first = self.records.iter().find(|r| r.partition == *partition);
        first.map(|record| record.offset)
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
    /// Of records that had been parked: the partition they came from, and the next parked one.
    pub(crate) released: Vec<(Partition, i64)>,
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
        for (partition, next) in later.released {
            self.set_released(&partition, next);
        }
    }

    fn set(&mut self, partition: &Partition, next_offset: i64) {
        set(&mut self.next, partition, next_offset);
    }

    pub(crate) fn set_released(&mut self, partition: &Partition, next: i64) {
        set(&mut self.released, partition, next);
    }

    /// How far it comes in a partition.
    pub(crate) fn next_of(&self, partition: &Partition) -> Option<i64> {
        let found = self.next.iter().find(|(p, _)| p == partition);
        found.map(|(_, next)| *next)
    }

    /// Whether something of these partitions is in it.
    pub(crate) fn holds(&self, partitions: &[Partition]) -> bool {
        let mut all = self.next.iter().chain(&self.released);
        all.any(|(p, _)| partitions.contains(p))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }
}

fn set(all: &mut Vec<(Partition, i64)>, partition: &Partition, next: i64) {
    // Records of one partition mostly come together, and partitions are few.
    match all.iter_mut().rev().find(|(p, _)| p == partition) {
        Some((_, known)) => *known = next,
        None => all.push((partition.clone(), next)),
    }
}
