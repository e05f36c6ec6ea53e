//! The handles that read: a lane, a member that commits nothing, and a reader of given partitions.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, MutexGuard};

use super::batch::{Batch, weight};
use super::encode::Encoded;
use super::group::MemberId;
use super::open::Shared;
use super::state::{Command, Found, LogId, METADATA_BYTES_MAX, Membership, State};
use crate::error::LogError;
use crate::log::{
    Assigned, Consumer, Fetched, Lane, Outgoing, Partition, Polled, Position, Result, Topic,
};

/// How far a handle has read one partition.
struct Cursor {
    log: LogId,
    partition: Partition,
    next: i64,
    paused: bool,
    /// Told to be given up; brings no records any more.
    leaving: bool,
}

/// What all handles that read have in common.
pub(super) struct Reading {
    shared: Arc<Shared>,
    id: MemberId,
    membership: Option<Membership>,
    cursors: Vec<Cursor>,
    /// Which partition is looked at first; moves on, so that none starves.
    turn: usize,
    records_max: usize,
    bytes_max: usize,
    waker: Arc<Condvar>,
}

/// What one look at the state found.
enum Look {
    Batches(Vec<(usize, Vec<Batch>)>),
    Stored(usize),
    Nothing,
}

impl Reading {
    pub(super) fn new(
        shared: Arc<Shared>,
        limits: (usize, usize),
        waker: Arc<Condvar>,
        id: MemberId,
    ) -> Self {
        let (records_max, bytes_max) = (limits.0.max(1), limits.1.max(1));
        Self {
            shared,
            id,
            membership: None,
            cursors: Vec::new(),
            turn: 0,
            records_max,
            bytes_max,
            waker,
        }
    }

    pub(super) fn in_group(mut self, membership: Membership) -> Self {
        self.membership = Some(membership);
        self
    }

    /// Reads these partitions, in no group.
    pub(super) fn from(mut self, from: Vec<(Partition, i64)>) -> Result<Self> {
        let mut state = self.shared.state.lock();
        for (partition, next) in from {
            let log = state.log_id(&partition)?;
            self.cursors.push(Cursor {
                log,
                partition,
                next,
                paused: false,
                leaving: false,
            });
            state.watch(log, self.id, &self.waker);
        }
        drop(state);
        Ok(self)
    }

    fn cursor(&mut self, partition: &Partition) -> Result<&mut Cursor> {
        let found = self
            .cursors
            .iter_mut()
            .find(|cursor| cursor.partition == *partition);
        found.ok_or_else(|| {
            LogError::invalid(format!(
                "{}/{} is not assigned to this consumer",
                partition.topic, partition.number
            ))
        })
    }

    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let shared = self.shared.clone();
        // no clock is read without a wait: the simulation has its own
        let deadline = (!wait.is_zero()).then(|| Instant::now() + wait);
        let mut state = shared.state.lock();
        self.release(&mut state)?;
        loop {
            if let Some(change) = self.membership_change(&mut state)? {
                return Ok(change);
            }
            let found = match self.look(&state)? {
                Look::Batches(found) => found,
                Look::Stored(at) => {
                    let found = MutexGuard::unlocked(&mut state, || self.load(&shared, at))?;
                    let cursor = &self.cursors[at];
                    if found.is_empty() && cursor.next >= state.log(cursor.log).start {
                        return Err(LogError::Corrupt {
                            place: self.place(at, "nothing is stored there"),
                        });
                    }
                    vec![(at, found)]
                }
                Look::Nothing => {
                    let expired = deadline.is_none_or(|deadline| {
                        self.waker.wait_until(&mut state, deadline).timed_out()
                    });
                    if expired {
                        // what came in the last moment waits for the next poll
                        return Ok(Polled::Records(Vec::new()));
                    }
                    continue;
                }
            };
            let records = MutexGuard::unlocked(&mut state, || self.decode(found))?;
            if !records.is_empty() {
                return Ok(Polled::Records(records));
            }
            // all of it was compacted away; the cursor has moved on
        }
    }

    /// A poll begins: gives up what it was told to give up.
    fn release(&mut self, state: &mut State) -> Result<()> {
        let Some(membership) = self.membership.clone() else {
            return Ok(());
        };
        state.fence(&membership, None)?;
        let gone = state.group(&membership.group).release(self.id);
        if gone.is_empty() {
            return Ok(());
        }
        for log in &gone {
            state.unwatch(*log, self.id);
        }
        self.cursors.retain(|cursor| !gone.contains(&cursor.log));
        state.wake_group(&membership.group);
        Ok(())
    }

    fn membership_change(&mut self, state: &mut State) -> Result<Option<Polled>> {
        let Some(membership) = self.membership.clone() else {
            return Ok(None);
        };
        state.fence(&membership, None)?;
        let revoked = state.group(&membership.group).revoke(self.id);
        if !revoked.is_empty() {
            let leaving = self
                .cursors
                .iter_mut()
                .filter(|cursor| revoked.contains(&cursor.log));
            let partitions = leaving
                .map(|cursor| {
                    cursor.leaving = true;
                    cursor.partition.clone()
                })
                .collect();
            return Ok(Some(Polled::Revoked {
                partitions,
                lost: false,
            }));
        }
        let came = state.group(&membership.group).assign(self.id);
        if came.is_empty() {
            return Ok(None);
        }
        let mut assigned = Vec::with_capacity(came.len());
        for log in came {
            let found = committed(state, &membership.group, log);
            let next = found
                .committed
                .as_ref()
                .map_or(state.log(log).start, |position| position.next_offset);
            self.cursors.push(Cursor {
                log,
                partition: found.partition.clone(),
                next,
                paused: false,
                leaving: false,
            });
            state.watch(log, self.id, &self.waker);
            assigned.push(found);
        }
        Ok(Some(Polled::Assigned(assigned)))
    }

    fn look(&mut self, state: &State) -> Result<Look> {
        let count = self.cursors.len();
        let mut found = Vec::new();
        let mut stored = None;
        let (mut records, mut bytes) = (0, 0);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let cursor = &self.cursors[at];
            if cursor.paused || cursor.leaving {
                continue;
            }
            match state.find(cursor.log, cursor.next, self.bytes_max - bytes)? {
                Found::Nothing => {}
                Found::Stored => stored = stored.or(Some(at)),
                Found::Batches(batches) => {
                    let available = batches.last().map_or(0, Batch::end) - cursor.next;
                    records += usize::try_from(available).unwrap_or(usize::MAX);
                    bytes += batches.iter().map(|batch| batch.bytes.len()).sum::<usize>();
                    found.push((at, batches));
                    if records >= self.records_max || bytes >= self.bytes_max {
                        break;
                    }
                }
            }
        }
        // what only the file has goes first: whoever is behind must not wait until the others are quiet
        Ok(match stored {
            Some(at) => Look::Stored(at),
            None if found.is_empty() => Look::Nothing,
            None => Look::Batches(found),
        })
    }

    /// Reads batches from the file. The state is not locked: what is read is never changed, at most deleted or compacted.
    fn load(&self, shared: &Shared, at: usize) -> Result<Vec<Batch>> {
        let cursor = &self.cursors[at];
        shared.load(cursor.log, &cursor.partition, cursor.next, self.bytes_max)
    }

    fn decode(&mut self, found: Vec<(usize, Vec<Batch>)>) -> Result<Vec<Fetched>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        'all: for (at, batches) in found {
            let cursor = &mut self.cursors[at];
            self.turn = at + 1;
            for batch in batches {
                for next in batch.records_from(cursor.next) {
                    let (offset, record) = next.map_err(|wrong| LogError::Corrupt {
                        place: format!(
                            "{}/{} offset {}: {}",
                            cursor.partition.topic, cursor.partition.number, cursor.next, wrong.0
                        ),
                    })?;
                    let weight = weight(&record);
                    if !records.is_empty()
                        && (records.len() >= self.records_max || bytes + weight > self.bytes_max)
                    {
                        break 'all;
                    }
                    bytes += weight;
                    cursor.next = offset + 1;
                    records.push(Fetched {
                        partition: cursor.partition.clone(),
                        offset,
                        record,
                    });
                }
                // past the holes that compaction leaves at the end of a batch
                cursor.next = cursor.next.max(batch.end());
            }
        }
        Ok(records)
    }

    fn place(&self, at: usize, what: &str) -> String {
        let Cursor {
            partition, next, ..
        } = &self.cursors[at];
        format!(
            "{}/{} offset {next}: {what}",
            partition.topic, partition.number
        )
    }

    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        self.cursor(partition)?.next = offset;
        Ok(())
    }

    fn set_paused(&mut self, partitions: &[Partition], paused: Paused) -> Result<()> {
        for partition in partitions {
            self.cursor(partition)?.paused = matches!(paused, Paused::Yes);
        }
        Ok(())
    }
}

enum Paused {
    Yes,
    No,
}

fn committed(state: &State, group: &str, log: LogId) -> Assigned {
    let partition = state.log(log).partition.clone();
    let committed = state
        .committed(group, log)
        .map(|(next_offset, metadata)| Position {
            partition: partition.clone(),
            next_offset,
            metadata,
        });
    Assigned {
        partition,
        committed,
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if self.membership.is_some() {
            state.leave(self.id);
        } else {
            for cursor in &self.cursors {
                state.unwatch(cursor.log, self.id);
            }
        }
    }
}

impl Consumer for Reading {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        Self::poll(self, wait)
    }

    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        Self::seek(self, partition, offset)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        self.set_paused(partitions, Paused::Yes)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        self.set_paused(partitions, Paused::No)
    }
}

/// A member of a group with an open transaction: the records sent since the last commit.
pub(super) struct EmbeddedLane {
    pub(super) reading: Reading,
    pub(super) membership: Membership,
    pub(super) sent: Encoded,
    pub(super) keyless: AtomicU32,
}

impl Consumer for EmbeddedLane {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.reading.poll(wait)
    }

    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        self.reading.seek(partition, offset)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        self.reading.set_paused(partitions, Paused::Yes)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        self.reading.set_paused(partitions, Paused::No)
    }
}

impl Lane for EmbeddedLane {
    fn subscribe(&mut self, topics: &[Topic]) -> Result<()> {
        let shared = self.reading.shared.clone();
        let mut state = shared.state.lock();
        for topic in topics {
            state.topic(topic)?;
        }
        state.fence(&self.membership, None)?;
        state.join(&self.membership, topics, &self.reading.waker)
    }

    fn send(&mut self, records: Vec<Outgoing>) -> Result<()> {
        for outgoing in &records {
            self.sent
                .push(&self.reading.shared.topics, &self.keyless, outgoing)?;
        }
        Ok(())
    }

    fn commit(&mut self, positions: Vec<Position>) -> Result<()> {
        if self.sent.is_empty() && positions.is_empty() {
            return self
                .reading
                .shared
                .state
                .lock()
                .fence(&self.membership, None);
        }
        let mut offsets = Vec::with_capacity(positions.len());
        {
            let state = self.reading.shared.state.lock();
            for position in positions {
                if position.metadata.len() > METADATA_BYTES_MAX {
                    let bytes = position.metadata.len();
                    return Err(LogError::invalid(format!(
                        "metadata of {bytes} bytes at an offset; at most {METADATA_BYTES_MAX} are kept"
                    )));
                }
                offsets.push((
                    state.log_id(&position.partition)?,
                    position.next_offset,
                    position.metadata,
                ));
            }
        }
        let writes = std::mem::take(&mut self.sent).writes;
        let as_member = self.membership.clone();
        self.reading
            .shared
            .submit(Command::LaneCommit {
                as_member,
                writes,
                offsets,
            })
            .map(drop)
    }

    fn abort(&mut self) -> Result<Vec<Assigned>> {
        self.sent = Encoded::default();
        let shared = self.reading.shared.clone();
        let mut state = shared.state.lock();
        state.fence(&self.membership, None)?;
        let owned = state
            .group(&self.membership.group)
            .owned(self.membership.member);
        let mut assigned = Vec::with_capacity(owned.len());
        for log in owned {
            let found = committed(&state, &self.membership.group, log);
            if let Some(cursor) = self
                .reading
                .cursors
                .iter_mut()
                .find(|cursor| cursor.log == log)
            {
                cursor.next = found
                    .committed
                    .as_ref()
                    .map_or(state.log(log).start, |position| position.next_offset);
            }
            assigned.push(found);
        }
        Ok(assigned)
    }
}
