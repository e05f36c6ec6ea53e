//! A lane's port: a member of the group and a transactional producer.

use std::time::Duration;

use topics::{
    Assigned, Consumer, Join, Lane, LogError, Outgoing, Partition, Polled, Position, Result, Topic,
};

use super::member::Member;
use super::transaction::Transaction;
use super::{SimLog, micros};
use crate::broken::Variant;

pub(super) struct SimLane {
    log: SimLog,
    member: Member,
    transaction: Transaction,
}

impl SimLane {
    pub(super) fn open(log: SimLog, join: Join, slot: &str) -> Result<Self> {
        let transaction = Transaction::take(log.clone(), &format!("{}-{slot}", join.group))?;
        let member = Member::join(log.clone(), join);
        Ok(Self {
            log,
            member,
            transaction,
        })
    }

    fn try_commit(&mut self, positions: &[Position]) -> Result<()> {
        let variant = self.log.world.state().variant;
        if variant != Variant::RevokedKept
            && let Some(foreign) = positions.iter().find(|p| !self.member.owns(&p.partition))
        {
            let Partition { topic, number } = &foreign.partition;
            let what = format!("a lane wants to commit {topic}/{number}, which it does not own");
            self.log.world.state().wrong(what);
            return Err(LogError::Fenced {
                owner: format!("{topic}/{number}"),
            });
        }
        let member = &self.member;
        let (group, claim) = (member.group(), || member.claim());
        self.transaction.finish(positions, claim, group)
    }
}

impl Consumer for SimLane {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.member.poll(micros(wait))
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

impl Lane for SimLane {
    fn subscribe(&mut self, _: &[Topic]) -> Result<()> {
        super::outside()
    }

    fn send(&mut self, records: Vec<Outgoing>) -> Result<()> {
        let (thread, count) = (self.log.thread, records.len());
        self.log
            .world
            .state()
            .trace(|| format!("lane {thread} sends {count} records"));
        self.transaction.send(records)
    }

    fn commit(&mut self, positions: Vec<Position>) -> Result<()> {
        let committed = self.try_commit(&positions);
        if committed.is_ok() {
            self.member.committed(&positions);
        }
        let mut state = self.log.world.state();
        match &committed {
            Err(LogError::Fenced { .. }) => state.counts.fenced += 1,
            Err(LogError::Moved { .. }) => state.counts.moved += 1,
            _ => {}
        }
        let thread = self.log.thread;
        state.trace(|| {
            let what: Vec<String> = positions
                .iter()
                .map(|p| {
                    format!(
                        "{}/{}={} ({})",
                        p.partition.topic, p.partition.number, p.next_offset, p.metadata
                    )
                })
                .collect();
            format!("lane {thread} commits {}: {committed:?}", what.join(" "))
        });
        drop(state);
        committed
    }

    fn abort(&mut self) -> Result<Vec<Assigned>> {
        self.log.world.state().counts.aborts += 1;
        let settled = self.transaction.settle();
        let mut state = self.log.world.state();
        let (thread, id) = (self.log.thread, self.transaction.id());
        state.trace(|| format!("lane {thread} settles \"{id}\": {settled:?}"));
        drop(state);
        settled?;
        self.member.rewind()
    }
}
