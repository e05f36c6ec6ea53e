//! A lane: a group member and a transactional producer, used by one thread.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;

use super::client::Shared;
use super::consumer::Member;
use super::transaction::Transaction;
use crate::catalog::{GROUP_TOPICS, LANE_PREFIX};
use crate::error::LogError;
use crate::log::{
    Assigned, Consumer, Join, Lane, Outgoing, Partition, Polled, Position, Result, Topic,
};

/// The broker's default `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

pub(super) struct KafkaLane {
    group: String,
    /// Before the producer: when a lane goes, its partitions are given back first.
    member: Member,
    transaction: Transaction,
    /// Only of the broken variant that takes it once.
    stale: Option<Arc<ConsumerGroupMetadata>>,
    /// Only of the broken variant that trusts its memory: what it knows to be committed.
    remembered: Vec<Position>,
}

impl KafkaLane {
    /// Takes the slot's transactional id before it joins: what its last owner left open would hide offsets.
    pub(super) fn open(shared: Arc<Shared>, join: Join, slot: &str) -> Result<Self> {
        for topic in &join.topics {
            shared.partitions(topic)?;
        }
        let id = match &*join.group {
            // the same prefix as all lanes: what a cluster grants by it is for both groups
            GROUP_TOPICS => format!("{LANE_PREFIX}{slot}"),
            group => format!("{group}-{slot}"),
        };
        let transaction = Transaction::take(shared.clone(), id)?;
        let member = Member::join(shared, &join)?;
        Ok(Self {
            group: join.group,
            member,
            transaction,
            stale: None,
            remembered: Vec::new(),
        })
    }
}

impl Consumer for KafkaLane {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.member.poll(wait)
    }

    fn seek(&mut self, partition: &Partition, offset: i64) -> Result<()> {
        self.member.seek(partition, offset)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<()> {
        self.member.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<()> {
        self.member.resume(partitions)
    }
}

impl Lane for KafkaLane {
    fn subscribe(&mut self, topics: &[Topic]) -> Result<()> {
        self.member.subscribe(topics)
    }

    fn send(&mut self, records: Vec<Outgoing>) -> Result<()> {
        self.transaction.send(records)
    }

    fn commit(&mut self, positions: Vec<Position>) -> Result<()> {
        if let Some(position) = positions
            .iter()
            .find(|position| position.metadata.len() > METADATA_BYTES_MAX)
        {
            let bytes = position.metadata.len();
            return Err(LogError::invalid(format!(
                "metadata of {bytes} bytes at an offset; at most {METADATA_BYTES_MAX} are kept"
            )));
        }
        // the broker only checks the group's generation: that the partitions are ours is for us to check
        if let Some(position) = positions
            .iter()
            .find(|position| !self.member.owns(&position.partition))
        {
            let Partition { topic, number } = &position.partition;
            return Err(LogError::Fenced {
                owner: format!("{} of {topic}/{number}", self.group),
            });
        }
        if self.member.is_lost() {
            return Err(LogError::Moved {
                group: self.group.clone(),
            });
        }
        if super::broken::is("stale-group-metadata") && self.stale.is_none() {
            self.stale = self.member.metadata().map(Arc::new);
        }
        let (member, stale) = (&self.member, &self.stale);
        let metadata = || stale.clone().or_else(|| member.metadata().map(Arc::new));
        self.transaction.finish(&positions, &self.group, metadata)?;
        if super::broken::is("abort-after-commit-timeout") {
            self.remembered
                .retain(|old| positions.iter().all(|new| new.partition != old.partition));
            self.remembered.extend(positions);
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<Vec<Assigned>> {
        self.transaction.settle()?;
        let mut assigned = self.member.rewind()?;
        for position in &self.remembered {
            let of_it = |found: &&mut Assigned| found.partition == position.partition;
            if let Some(found) = assigned.iter_mut().find(of_it) {
                self.member
                    .seek(&position.partition, position.next_offset)?;
                found.committed = Some(position.clone());
            }
        }
        Ok(assigned)
    }
}
