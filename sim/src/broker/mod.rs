//! The model of a cluster, as far as a lane can tell it from the true one: partitions with transaction markers, the
//! transaction coordinator, and one group. A state machine in virtual time: no threads, no I/O, no chance but what the
//! seed gives.
//!
//! What makes it worth having is that it does what Kafka does and not what one would wish: an EndTxn of the right epoch
//! ends whatever transaction is open when it comes (KAFKA-17754), the offset that was appended last wins, markers come
//! some time after the answer, and offsets are checked against the group's generation but not against ownership.

mod group;
mod log;
mod transactions;

use std::collections::BTreeMap;

use topics::{Outgoing, Partition, Position, partitioner};

pub(crate) use group::{MemberId, News};
pub(crate) use log::{Log, Producer};
pub(crate) use transactions::{Owner, Transaction};

use crate::random::Random;
use group::Group;

/// Microseconds since the run began.
pub(crate) type Micros = u64;

pub(crate) const MS: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000_000;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
    Fenced,
    /// CONCURRENT_TRANSACTIONS: the last one is being ended; try again.
    Concurrent,
    /// UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION.
    Moved,
    /// INVALID_TXN_STATE.
    State,
    /// UNSTABLE_OFFSET_COMMIT.
    Unstable,
}

/// A request that may arrive late or twice.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// AddPartitionsToTxn, AddOffsetsToTxn.
    Begin(Owner),
    Offsets(Owner, Claim, Vec<Position>),
    End(Owner, bool),
}

/// The group's metadata that goes with offsets; `None`: a client from before KIP-447.
pub(crate) type Claim = Option<(MemberId, u64)>;

enum Due {
    Request(Request),
    Marker {
        id: String,
        /// `None`: the group's offsets.
        partition: Option<usize>,
        commit: bool,
    },
}

pub(crate) struct Broker {
    pub(crate) now: Micros,
    pub(crate) random: Random,
    partitions: Vec<Partition>,
    logs: Vec<Log>,
    transactions: BTreeMap<String, Transaction>,
    producers: Producer,
    committed: BTreeMap<usize, Position>,
    /// Offsets in transactions that have not ended: of each producer, the last ones.
    pending: BTreeMap<Producer, BTreeMap<usize, Position>>,
    pub(crate) group: Group,
    due: BTreeMap<(Micros, u64), Due>,
    number: u64,
    /// The rules that were broken, in words.
    pub(crate) broken: Vec<String>,
    pub(crate) timeouts: u64,
    pub(crate) refused: u64,
}

impl Broker {
    pub(crate) fn new(topics: &[(&str, u32)], consumed: &[&str], random: Random) -> Self {
        let mut partitions = Vec::new();
        for (topic, count) in topics {
            for number in 0..*count {
                partitions.push(Partition {
                    topic: (*topic).into(),
                    number,
                });
            }
        }
        let consumed = (0..partitions.len())
            .filter(|at| consumed.contains(&&*partitions[*at].topic))
            .collect();
        Self {
            now: 0,
            random,
            logs: partitions.iter().map(|_| Log::default()).collect(),
            partitions,
            transactions: BTreeMap::new(),
            producers: 0,
            committed: BTreeMap::new(),
            pending: BTreeMap::new(),
            group: Group::new(consumed),
            due: BTreeMap::new(),
            number: 0,
            broken: Vec::new(),
            timeouts: 0,
            refused: 0,
        }
    }

    pub(crate) fn find(&self, partition: &Partition) -> Option<usize> {
        self.partitions.iter().position(|p| p == partition)
    }

    pub(crate) fn name(&self, partition: usize) -> &Partition {
        &self.partitions[partition]
    }

    pub(crate) fn count(&self, topic: &str) -> u32 {
        self.partitions
            .iter()
            .filter(|p| *p.topic == *topic)
            .count() as u32
    }

    pub(crate) fn log(&self, partition: usize) -> &Log {
        &self.logs[partition]
    }

    /// The partition of a record; `None`: there is no such topic.
    pub(crate) fn route(&self, outgoing: &Outgoing) -> Option<usize> {
        let first = self
            .partitions
            .iter()
            .position(|p| p.topic == outgoing.topic)?;
        let count = self.count(&outgoing.topic);
        let number = match (&outgoing.partition, &outgoing.record.key) {
            (Some(number), _) => *number,
            (None, Some(key)) => partitioner::partition_of(key, count),
            (None, None) => 0,
        };
        (number < count).then_some(first + number as usize)
    }

    /// A record outside any transaction.
    pub(crate) fn append(&mut self, outgoing: Outgoing) -> Option<(usize, i64)> {
        let at = self.route(&outgoing)?;
        Some((at, self.logs[at].append(outgoing.record, None)))
    }

    /// Where the group stands; `Unstable` while a transaction that has not ended has an offset for it.
    pub(crate) fn committed(
        &self,
        partition: usize,
        dirty: bool,
    ) -> Result<Option<Position>, Refusal> {
        let unstable = self.pending.values().any(|of| of.contains_key(&partition));
        if unstable && !dirty {
            return Err(Refusal::Unstable);
        }
        Ok(self.committed.get(&partition).cloned())
    }

    /// Whether everything that can be consumed has been, and no transaction is left open.
    pub(crate) fn settled(&self) -> bool {
        let consumed = self.group.consumed.iter().all(|at| {
            let committed = self.committed.get(at);
            committed.is_some_and(|p| self.logs[*at].read(p.next_offset, 1, false).0.is_empty())
        });
        consumed && self.pending.is_empty() && !self.logs.iter().any(Log::has_open)
    }

    /// What is still to be consumed, in words.
    pub(crate) fn unsettled(&self) -> String {
        let mut words = Vec::new();
        for (at, log) in self.logs.iter().enumerate() {
            let Partition { topic, number } = &self.partitions[at];
            if self.group.consumed.contains(&at) {
                let next = self.committed.get(&at).map_or(0, |p| p.next_offset);
                let left = log.read(next, usize::MAX, false).0.len();
                if !self.committed.contains_key(&at) {
                    words.push(format!("{topic}/{number} is not started"));
                }
                if left > 0 {
                    words.push(format!("{left} records of {topic}/{number} after {next}"));
                }
            }
            if log.has_open() {
                words.push(format!("an open transaction on {topic}/{number}"));
            }
        }
        if !self.pending.is_empty() {
            words.push("pending offsets".to_owned());
        }
        words.join(", ")
    }

    fn at(&mut self, when: Micros, due: Due) {
        self.number += 1;
        self.due.insert((when, self.number), due);
    }

    /// A request that arrives later.
    pub(crate) fn later(&mut self, wait: Micros, request: Request) {
        self.at(self.now + wait, Due::Request(request));
    }

    /// Lets time pass: what is due happens, in its order.
    pub(crate) fn advance(&mut self, now: Micros) {
        while let Some(first) = self.due.first_entry() {
            let when = first.key().0;
            if when > now {
                break;
            }
            let due = first.remove();
            self.now = self.now.max(when);
            match due {
                // Nobody waits for the answer any more.
                Due::Request(request) => drop(self.request(request)),
                Due::Marker {
                    id,
                    partition,
                    commit,
                } => self.mark(&id, partition, commit),
            }
        }
        self.now = self.now.max(now);
        self.time_out();
        self.keep_group();
    }

    pub(crate) fn request(&mut self, request: Request) -> Result<(), Refusal> {
        let answer = match request {
            Request::Begin(owner) => self.begin(&owner),
            Request::Offsets(owner, claim, positions) => self.offsets(&owner, claim, &positions),
            Request::End(owner, commit) => self.end(&owner, commit),
        };
        self.refused += u64::from(answer.is_err());
        answer
    }
}
