//! Partitions that wait while the others go on: for a delay to be over, for a schema that a registry does not give just now,
//! for a payload that cannot be reached, for parked records that come first, or for somebody to look.

use std::time::{Duration, Instant};

use metrics::counter;
use schemas::records::headers;
use topics::catalog::delay_ms;
use topics::{Fetched, LogError, Partition, Topic};

use super::Lane;
use crate::config::Reads;
use crate::error::ProcessorError;

/// How soon it is looked again whether a record can be read.
const LOOK: Duration = Duration::from_millis(200);
/// How often a lane says that one of its partitions waits.
const SAY: Duration = Duration::from_secs(10);

/// Why nothing of a partition is handed out, and where it goes on.
pub(super) struct Hold {
    /// The next record to be handed out.
    pub(super) offset: i64,
    pub(super) until: Until,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Time(Instant),
    /// Parked records that come before have been run.
    Released,
    /// Somebody has applied a graph that starts it anew.
    Mended,
}

/// A dead letter that runs again: of a user's topic it may be, whose schema has to be known as it had to be there.
fn is_redriven(record: &Fetched) -> bool {
    let mut headers = record.record.headers.iter();
    headers.any(|(name, _)| name == headers::REDRIVE)
}

impl Lane {
    /// What a record waits for, if it is not to be handed out now.
    pub(super) fn waits(&self, record: &Fetched) -> Option<(Until, String)> {
        if let Some(left) = self.due_in(record) {
            return Some((Until::Time(self.clock.now() + left), String::new()));
        }
        if let Some((until, why)) = self.around.notes.outage.holds(record) {
            return Some((Until::Time(until), why));
        }
        if self.reads != Reads::Topics && !is_redriven(record) {
            return None;
        }
        let why = self.around.streams.readable(record).err()?;
        Some((Until::Time(self.clock.now() + LOOK), why))
    }

    /// How long a record of a topic of delays has still to wait.
    fn due_in(&self, record: &Fetched) -> Option<Duration> {
        if !matches!(self.reads, Reads::Both | Reads::Hops) {
            return None;
        }
        let due_ms = record.record.timestamp_ms + delay_ms(&record.partition.topic)?;
        let left = u64::try_from(due_ms - self.clock.unix_ms()).ok()?;
        Duration::from_millis(left).checked_sub(Duration::from_nanos(1))
    }

    /// Puts the partition of a pending record aside, from that record on.
    pub(super) fn hold_from(
        &mut self,
        place: usize,
        until: Until,
        why: &str,
    ) -> Result<(), ProcessorError> {
        let Some(record) = self.pending.get(place) else {
            return Ok(());
        };
        let (partition, offset) = (record.partition.clone(), record.offset);
        let Some(at) = self.owner_of(record) else {
            return Err(self.moved());
        };
        let now = self.clock.now();
        if !why.is_empty() {
            counter!("weir_lane_partitions_held_total").increment(1);
            // it is looked at again and again, and others wait for the same
            if self.said_at.is_none_or(|at| now >= at + SAY) {
                self.said_at = Some(now);
                tracing::warn!(
                    "lane {}: {}/{} waits at offset {offset}: {why}",
                    self.slot,
                    partition.topic,
                    partition.number
                );
            }
        }
        self.pending.forget_from(place, &partition);
        self.hold(at, offset, until)
    }

    pub(super) fn hold(
        &mut self,
        at: usize,
        offset: i64,
        until: Until,
    ) -> Result<(), ProcessorError> {
        let owned = &mut self.owned[at];
        owned.held = Some(Hold { offset, until });
        Ok(self.port.pause(std::slice::from_ref(&owned.partition))?)
    }

    /// A user's partition that cannot be read on: the others go on, and somebody has to look.
    pub(super) fn stop_partition(
        &mut self,
        at: usize,
        trouble: &ProcessorError,
    ) -> Result<(), ProcessorError> {
        counter!("weir_alarms_total", "alarm" => "partition-stopped").increment(1);
        tracing::error!("lane {}: {trouble}", self.slot);
        let partition = self.owned[at].partition.clone();
        let next = self.next_offset(at);
        self.pending.forget(&[partition]);
        self.hold(at, next, Until::Mended)
    }

    /// The first record of a partition that has not been handed out.
    pub(super) fn next_offset(&self, at: usize) -> i64 {
        let owned = &self.owned[at];
        if let Some(hold) = &owned.held {
            return hold.offset;
        }
        if let Some(offset) = self.pending.first_of(&owned.partition) {
            return offset;
        }
        let handed_out = self
            .out
            .iter()
            .chain([&self.sent])
            .filter_map(|reach| reach.next_of(&owned.partition))
            .max();
        handed_out.unwrap_or(owned.committed)
    }

    /// Partitions whose time has come go on.
    pub(super) fn wake(&mut self) -> Result<(), ProcessorError> {
        let now = self.clock.now();
        for at in 0..self.owned.len() {
            let held = self.owned[at].held.as_ref();
            if held.is_some_and(|hold| matches!(hold.until, Until::Time(until) if until <= now)) {
                self.go_on(at)?;
            }
        }
        Ok(())
    }

    /// A held partition is read again, from where it was put aside.
    pub(super) fn go_on(&mut self, at: usize) -> Result<(), ProcessorError> {
        let owned = &mut self.owned[at];
        let Some(hold) = owned.held.take() else {
            return Ok(());
        };
        let partition = owned.partition.clone();
        self.port.seek(&partition, hold.offset)?;
        if !self.paused {
            self.port.resume(&[partition])?;
        }
        Ok(())
    }

    /// How long until the first of them goes on.
    pub(super) fn until_wake(&self) -> Option<Duration> {
        let now = self.clock.now();
        let until = |hold: &Hold| match hold.until {
            Until::Time(until) => Some(until.saturating_duration_since(now)),
            Until::Released | Until::Mended => None,
        };
        let held = self.owned.iter().filter_map(|o| o.held.as_ref());
        held.filter_map(until).min()
    }

    pub(super) fn unheld(&self) -> Vec<Partition> {
        let unheld = self.owned.iter().filter(|o| o.held.is_none());
        unheld.map(|o| o.partition.clone()).collect()
    }

    /// A lane of users' topics could not poll. What is the matter with one topic must not hold the others up.
    pub(super) fn unreadable_topic(&mut self, error: LogError) -> Result<(), ProcessorError> {
        match error {
            LogError::OutOfRange { ref partition, .. } => {
                let at = self.owned.iter().position(|o| o.partition == *partition);
                at.map_or(Ok(()), |at| self.stop_partition(at, &error.into()))
            }
            LogError::MissingTopic { ref topic } | LogError::Denied { ref topic, .. } => {
                let topic = Topic::from(&**topic);
                let of_it = |at: &usize| self.owned[*at].partition.topic == topic;
                let all: Vec<usize> = (0..self.owned.len()).filter(of_it).collect();
                if all.is_empty() {
                    return Err(error.into());
                }
                let trouble = error.into();
                all.into_iter()
                    .try_for_each(|at| self.stop_partition(at, &trouble))
            }
            error => Err(error.into()),
        }
    }
}
