//! Partitions come and go: where each starts, and what is done for those that leave.

use metrics::counter;
use topics::catalog::is_own;
use topics::{Assigned, LogError, Outgoing, Partition, Position};

use super::holds::Until;
use super::{FINISH, FOLLOW, Lane, Owned};
use crate::error::ProcessorError;
use crate::isolation::{Note, Standing};
use crate::pending::Reach;
use crate::started;
use crate::topic_ids::{signature, signed};

impl Lane {
    pub(super) fn assign(&mut self, assigned: Vec<Assigned>) -> Result<(), ProcessorError> {
        counter!("weir_lane_partitions_assigned_total").increment(assigned.len() as u64);
        counter!("weir_lane_rebalances_total").increment(1);
        self.watch.join();
        let came: Vec<Partition> = assigned.iter().map(|a| a.partition.clone()).collect();
        self.forget_release();
        self.forget_released(&came);
        let unstarted = self.take(assigned)?;
        self.start(unstarted)?;
        if self.paused {
            self.port.pause(&came)?;
        }
        Ok(())
    }

    /// Owns what has been started, and gives back what has not.
    pub(super) fn take(
        &mut self,
        assigned: Vec<Assigned>,
    ) -> Result<Vec<Partition>, ProcessorError> {
        let mut unstarted = Vec::new();
        for Assigned {
            partition,
            committed,
        } in assigned
        {
            if !is_own(&partition.topic) {
                unstarted.extend(self.take_users(partition, committed)?);
                continue;
            }
            match committed {
                Some(position) => self.own(position)?,
                None => unstarted.push(partition),
            }
        }
        Ok(unstarted)
    }

    /// Before its first record a partition gets its start offset and a mark, in one transaction. A started partition whose
    /// offset is missing would be run all over again, or skipped: it stops the lane (a user's: that partition) with an
    /// alarm instead.
    pub(super) fn start(&mut self, mut unstarted: Vec<Partition>) -> Result<(), ProcessorError> {
        if unstarted.is_empty() {
            return Ok(());
        }
        let keys: Vec<started::Start> = unstarted.iter().map(|p| self.start_of(p)).collect();
        let marked = started::marked(&*self.around.log, &self.join.group, &keys)?;
        if let Some(partition) = marked.first() {
            // The answer that came with the assignment may be old: while this lane was held up, another one may have
            // started the partition.
            if !self.missing(partition)? {
                return Err(self.moved());
            }
            let missing = |partition: &Partition| ProcessorError::OffsetMissing {
                group: self.join.group.clone(),
                partition: partition.clone(),
            };
            if is_own(&partition.topic) {
                return Err(missing(partition));
            }
            let troubles: Vec<ProcessorError> = marked.iter().map(missing).collect();
            for (partition, trouble) in marked.iter().zip(troubles) {
                self.own_stopped(partition.clone(), 0, &trouble)?;
            }
            unstarted.retain(|partition| !marked.contains(partition));
        }
        self.commit_sent()?;
        let (mut marks, mut starts): (Vec<Outgoing>, _) = (Vec::new(), Vec::new());
        for partition in unstarted {
            let (start, generation) = match self.first_offset(&partition)? {
                Some(found) => found,
                None => continue,
            };
            let key = self.start_of(&partition);
            marks.push(started::mark(
                &self.join.group,
                &key,
                start,
                self.clock.unix_ms(),
            ));
            let note = Note {
                epoch: self.around.streams.epoch(),
                ..Note::default()
            };
            let id = self.around.ids.of(&partition.topic)?;
            starts.push(Position {
                partition,
                next_offset: start,
                metadata: signed(&note.format(), &id, generation),
            });
        }
        if starts.is_empty() {
            return Ok(());
        }
        self.port.send(marks)?;
        self.port.commit(starts.clone())?;
        for start in starts {
            // the log gave it where the partition begins, which may be elsewhere
            self.port.seek(&start.partition, start.next_offset)?;
            self.own(start)?;
        }
        Ok(())
    }

    /// Where a partition that was never read begins, and its generation. Weir's own from the first record.
    fn first_offset(
        &mut self,
        partition: &Partition,
    ) -> Result<Option<(i64, i64)>, ProcessorError> {
        let (first, end) = self.around.log.offsets(partition)?;
        if is_own(&partition.topic) {
            return Ok(Some((first, 0)));
        }
        let Some(subscribed) = self.subscription(&partition.topic) else {
            return Ok(None);
        };
        let asked = usize::try_from(partition.number)
            .ok()
            .and_then(|number| subscribed.starts.get(number).copied())
            .unwrap_or(0);
        let start = asked.clamp(first, end);
        if start != asked && asked != 0 {
            tracing::warn!(
                "{}/{} was to be read from offset {asked}, but holds {first} to {end}: reading begins at {start}",
                partition.topic,
                partition.number
            );
        }
        Ok(Some((start, subscribed.generation)))
    }

    /// Whether this one has no committed offset still.
    fn missing(&mut self, partition: &Partition) -> Result<bool, ProcessorError> {
        let now = self.port.abort()?;
        let generation = self
            .subscription(&partition.topic)
            .map_or(0, |subscribed| subscribed.generation);
        let committed = now.iter().find(|a| a.partition == *partition);
        let committed = committed.and_then(|a| a.committed.as_ref());
        Ok(committed
            .is_none_or(|position| crate::topic_ids::generation(&position.metadata) < generation))
    }

    pub(super) fn own(&mut self, position: Position) -> Result<(), ProcessorError> {
        let topic_id = self.around.ids.of(&position.partition.topic)?;
        if signature(&position.metadata).is_some_and(|committed| *committed != *topic_id) {
            return Err(ProcessorError::Replaced {
                group: self.join.group.clone(),
                partition: position.partition,
            });
        }
        if !is_own(&position.partition.topic) {
            self.around
                .notes
                .know_id(&position.partition.topic, &topic_id);
        }
        let note = Note::parse(&position.metadata);
        if note.epoch > self.around.streams.epoch() {
            let epoch = self.follow.map_or(0, |(epoch, _)| epoch).max(note.epoch);
            self.follow = Some((epoch, self.clock.now() + FOLLOW));
        }
        self.owned.retain(|o| o.partition != position.partition);
        self.owned.push(Owned {
            partition: position.partition,
            topic_id,
            generation: crate::topic_ids::generation(&position.metadata),
            committed: position.next_offset,
            metadata: position.metadata,
            standing: Standing::New(note),
            held: None,
        });
        Ok(())
    }

    /// Owns a user's partition that is not to be read until somebody has looked.
    pub(super) fn own_stopped(
        &mut self,
        partition: Partition,
        generation: i64,
        trouble: &ProcessorError,
    ) -> Result<(), ProcessorError> {
        counter!("weir_alarms_total", "alarm" => "partition-stopped").increment(1);
        tracing::error!("lane {}: {trouble}", self.slot);
        let topic_id = self.around.ids.of(&partition.topic)?;
        self.owned.retain(|o| o.partition != partition);
        self.owned
            .push(Owned::idle(partition, topic_id, generation));
        self.hold(self.owned.len() - 1, 0, Until::Mended)
    }

    /// Partitions leave with the next poll: until then what has been run of them may still be committed.
    pub(super) fn revoke(
        &mut self,
        partitions: &[Partition],
        lost: bool,
    ) -> Result<(), ProcessorError> {
        counter!("weir_lane_partitions_revoked_total").increment(partitions.len() as u64);
        self.forget_release();
        self.pending.forget(partitions);
        let holds = |reach: &Reach| reach.holds(partitions);
        if !self.out.iter().any(holds) && !holds(&self.sent) {
            self.disown(partitions);
            return Ok(());
        }
        let finished = !lost && self.take_in(FINISH)?;
        if finished {
            self.commit_sent()?;
        }
        self.disown(partitions);
        if finished {
            return Ok(());
        }
        // Whoever owns the partitions runs it again.
        Err(LogError::Moved {
            group: self.join.group.clone(),
        }
        .into())
    }

    fn disown(&mut self, partitions: &[Partition]) {
        self.owned.retain(|o| !partitions.contains(&o.partition));
        self.forget_released(partitions);
    }

    fn forget_released(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.around.notes.forget(partition);
            self.released_so_far.remove(partition);
        }
    }
}
