//! The consumer of a lane: partitions come with one poll and start with the next; those that leave are told and given
//! back with the next poll.

use topics::{Assigned, Fetched, Join, LogError, Partition, Polled, Record, Result};

use super::{SimLog, unavailable};
use crate::broken::Variant;
use crate::broker::{Claim, MS, MemberId, Micros, News, Refusal, SECOND};

/// What a lane may hold of records that it has not committed.
const HELD_MAX: i64 = 3_000;
const COMMITTED_WAIT: Micros = 5 * SECOND;

struct Cursor {
    at: usize,
    partition: Partition,
    next: i64,
    committed: i64,
    paused: bool,
    leaving: bool,
}

pub(super) struct Member {
    log: SimLog,
    id: Option<MemberId>,
    join: Join,
    cursors: Vec<Cursor>,
    /// The generation of a client that takes the group's metadata once.
    stale: Option<u64>,
}

pub(super) fn fetched(partition: &Partition, records: Vec<(i64, Record)>) -> Vec<Fetched> {
    let of = |(offset, record)| Fetched {
        partition: partition.clone(),
        offset,
        record,
    };
    records.into_iter().map(of).collect()
}

impl Member {
    pub(super) fn join(log: SimLog, join: Join) -> Self {
        let mut member = Self {
            log,
            id: None,
            join,
            cursors: Vec::new(),
            stale: None,
        };
        member.enter();
        member
    }

    fn enter(&mut self) {
        let mut state = self.log.world.state();
        let id = state.broker.join(&self.join.topics);
        state.threads[self.log.thread].member = Some(id);
        let thread = self.log.thread;
        state.trace(|| format!("lane {thread} joins as member {id}"));
        self.id = Some(id);
    }

    pub(super) fn owns(&self, partition: &Partition) -> bool {
        self.cursors.iter().any(|c| c.partition == *partition)
    }

    /// The group's metadata as it is now; `None`: there is none any more.
    pub(super) fn claim(&self) -> Option<Claim> {
        let state = self.log.world.state();
        if state.variant == Variant::NoMetadata {
            return Some(None);
        }
        let id = self.id?;
        let generation = state.broker.group.generation(id, state.now).unwrap_or(0);
        Some(Some((id, self.stale.unwrap_or(generation))))
    }

    pub(super) fn committed(&mut self, positions: &[topics::Position]) {
        for position in positions {
            let cursor = self
                .cursors
                .iter_mut()
                .find(|c| c.partition == position.partition);
            if let Some(cursor) = cursor {
                cursor.committed = position.next_offset;
            }
        }
    }

    pub(super) fn poll(&mut self, wait: Micros) -> Result<Polled> {
        self.log.ask("poll")?;
        if let Some(news) = self.news()? {
            return Ok(news);
        }
        let records = self.fetch();
        if !records.is_empty() || wait == 0 {
            return Ok(Polled::Records(records));
        }
        self.log.world.pass(self.log.thread, wait);
        if let Some(news) = self.news()? {
            return Ok(news);
        }
        Ok(Polled::Records(self.fetch()))
    }

    /// Gives back what leaves, then takes the next news.
    fn news(&mut self) -> Result<Option<Polled>> {
        let leaving: Vec<usize> = self
            .cursors
            .iter()
            .filter(|c| c.leaving)
            .map(|c| c.at)
            .collect();
        let mut state = self.log.world.state();
        self.cursors.retain(|cursor| !cursor.leaving);
        let Some(id) = self.id else {
            drop(state);
            self.enter();
            return Ok(None);
        };
        if !leaving.is_empty() {
            state.broker.release(id, &leaving);
        }
        let (thread, variant) = (self.log.thread, state.variant);
        match state.broker.poll(id) {
            // Too late: others have had them for some time.
            None => {
                self.id = None;
                let partitions: Vec<Partition> =
                    self.cursors.iter().map(|c| c.partition.clone()).collect();
                self.cursors
                    .iter_mut()
                    .for_each(|cursor| cursor.leaving = true);
                if partitions.is_empty() {
                    return Ok(None);
                }
                let rate = state.faults.unsaid;
                let lost = !state.random.chance(rate);
                state.trace(|| {
                    format!(
                        "lane {thread} has lost {}, said: {lost}",
                        named(&partitions)
                    )
                });
                if variant == Variant::RevokedKept {
                    return Ok(None);
                }
                Ok(Some(Polled::Revoked { partitions, lost }))
            }
            Some(None) => Ok(None),
            Some(Some(News::Leaves(leaves))) => {
                state.broker.told(id);
                let mut partitions = Vec::new();
                for cursor in self.cursors.iter_mut().filter(|c| leaves.contains(&c.at)) {
                    cursor.leaving = true;
                    partitions.push(cursor.partition.clone());
                }
                state.trace(|| format!("lane {thread}: {} leave", named(&partitions)));
                if variant == Variant::RevokedKept {
                    return Ok(None);
                }
                Ok(Some(Polled::Revoked {
                    partitions,
                    lost: false,
                }))
            }
            Some(Some(News::Came(came))) => {
                drop(state);
                let assigned = self.look_up(&came)?;
                let mut state = self.log.world.state();
                if !state.broker.group.is_member(id) {
                    return Ok(None); // lost while the offsets were looked up
                }
                state.broker.told(id);
                if variant == Variant::StaleMetadata && self.stale.is_none() {
                    self.stale = state.broker.group.generation(id, state.now);
                }
                for (
                    at,
                    Assigned {
                        partition,
                        committed,
                    },
                ) in came.into_iter().zip(&assigned)
                {
                    let next = committed.as_ref().map_or(0, |p| p.next_offset);
                    self.cursors.retain(|cursor| cursor.at != at);
                    self.cursors.push(Cursor {
                        at,
                        partition: partition.clone(),
                        next,
                        committed: next,
                        paused: false,
                        leaving: false,
                    });
                }
                state.trace(|| format!("lane {thread}: {} come", positions(&assigned)));
                Ok(Some(Polled::Assigned(assigned)))
            }
        }
    }

    fn fetch(&mut self) -> Vec<Fetched> {
        let mut state = self.log.world.state();
        let dirty = state.variant == Variant::ReadUncommitted;
        let mut found = Vec::new();
        let count = self.cursors.len();
        let first = state.random.index(count.max(1));
        self.cursors.rotate_left(first.min(count));
        for cursor in self.cursors.iter_mut().filter(|c| !c.paused && !c.leaving) {
            let max = self.join.records_max - found.len();
            let (records, next) = state.broker.log(cursor.at).read(cursor.next, max, dirty);
            cursor.next = next;
            found.extend(fetched(&cursor.partition, records));
        }
        let held: i64 = self
            .cursors
            .iter()
            .map(|c| (c.next - c.committed).max(0))
            .sum();
        if held > HELD_MAX && state.variant == Variant::None {
            state.wrong(format!(
                "a lane holds {held} records that it has not committed"
            ));
        }
        found
    }

    /// Where the group stands with these partitions, once nothing of them is pending.
    fn look_up(&self, partitions: &[usize]) -> Result<Vec<Assigned>> {
        self.log.ask("OffsetFetch")?;
        let deadline = self.log.world.now() + COMMITTED_WAIT;
        loop {
            let found: std::result::Result<Vec<Assigned>, Refusal> = {
                let state = self.log.world.state();
                let dirty = state.variant == Variant::Unstable;
                let of = |at: &usize| {
                    let committed = state.broker.committed(*at, dirty)?;
                    Ok(Assigned {
                        partition: state.broker.name(*at).clone(),
                        committed,
                    })
                };
                partitions.iter().map(of).collect()
            };
            match found {
                Ok(assigned) => return Ok(assigned),
                Err(_) if self.log.world.now() > deadline => {
                    return Err(unavailable("offsets are pending"));
                }
                Err(_) => self.log.world.pass(self.log.thread, 100 * MS),
            }
        }
    }

    /// Every partition goes on from what is committed.
    pub(super) fn rewind(&mut self) -> Result<Vec<Assigned>> {
        let all: Vec<usize> = self.cursors.iter().map(|cursor| cursor.at).collect();
        let assigned = if all.is_empty() {
            Vec::new()
        } else {
            self.look_up(&all)?
        };
        let mut state = self.log.world.state();
        let thread = self.log.thread;
        state.trace(|| format!("lane {thread} goes on from {}", positions(&assigned)));
        if state.variant != Variant::NoSeek {
            for (cursor, found) in self.cursors.iter_mut().zip(&assigned) {
                cursor.next = found.committed.as_ref().map_or(0, |p| p.next_offset);
                cursor.committed = cursor.next;
            }
        }
        Ok(assigned)
    }

    fn cursor(&mut self, partition: &Partition) -> Result<&mut Cursor> {
        let found = self.cursors.iter_mut().find(|c| c.partition == *partition);
        found.ok_or_else(|| LogError::Invalid {
            reason: format!("{}/{} is not assigned", partition.topic, partition.number),
        })
    }

    pub(super) fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        self.cursor(partition)?.next = offset;
        Ok(())
    }

    pub(super) fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        partitions.iter().try_for_each(|partition| {
            self.cursor(partition)?.paused = true;
            Ok(())
        })
    }

    pub(super) fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        partitions.iter().try_for_each(|partition| {
            self.cursor(partition)?.paused = false;
            Ok(())
        })
    }

    pub(super) fn group(&self) -> &str {
        &self.join.group
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.log.world.state();
        // A process that dies tells nobody.
        if let Some(id) = self.id
            && !state.threads[self.log.thread].dead
        {
            state.broker.leave(id);
        }
    }
}

fn named(partitions: &[Partition]) -> String {
    let names: Vec<String> = partitions
        .iter()
        .map(|p| format!("{}/{}", p.topic, p.number))
        .collect();
    names.join(" ")
}

fn positions(assigned: &[Assigned]) -> String {
    let names: Vec<String> = assigned
        .iter()
        .map(
            |Assigned {
                 partition,
                 committed,
             }| {
                let next = committed
                    .as_ref()
                    .map(|p| (p.next_offset, p.metadata.as_str()));
                format!("{}/{} at {next:?}", partition.topic, partition.number)
            },
        )
        .collect();
    names.join(" ")
}
