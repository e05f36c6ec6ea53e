//! The `Log` port over the model, as `topics::kafka` has it over the true cluster: `member.rs` is the consumer,
//! `transaction.rs` the producer and its error rule, `lane.rs` both together.

mod lane;
mod member;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use topics::{
    Append, Appended, Consumer, Join, Lane, Log, LogError, Outgoing, Partition, Polled, Result,
    Source, TopicId, TopicSpec,
};

use crate::broker::Micros;
use crate::world::World;
use lane::SimLane;

/// The log as one lane's owner thread sees it.
#[derive(Clone)]
pub(crate) struct SimLog {
    pub(crate) world: Arc<World>,
    pub(crate) thread: usize,
}

fn micros(wait: Duration) -> Micros {
    wait.as_micros() as Micros
}

fn unavailable(reason: &str) -> LogError {
    LogError::Unavailable {
        reason: reason.to_owned(),
    }
}

fn outside<T>() -> Result<T> {
    Err(LogError::Invalid {
        reason: "the simulation has lanes and readers only".to_owned(),
    })
}

impl SimLog {
    /// A request that changes nothing: it may fail.
    fn ask(&self, what: &str) -> Result<()> {
        self.world.travel(self.thread);
        let mut state = self.world.state();
        let rate = state.faults.unavailable;
        if state.random.chance(rate) {
            state.counts.unavailable += 1;
            let thread = self.thread;
            state.trace(|| format!("lane {thread}: {what} fails"));
            return Err(unavailable(what));
        }
        Ok(())
    }

    fn find(&self, partition: &Partition) -> Result<usize> {
        let found = self.world.state().broker.find(partition);
        found.ok_or_else(|| LogError::Missing {
            what: format!("{}/{}", partition.topic, partition.number),
        })
    }
}

impl Log for SimLog {
    fn create_topics(&self, _: &[TopicSpec]) -> Result<()> {
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<u32> {
        self.ask("metadata")?;
        Ok(self.world.state().broker.count(topic))
    }

    fn topic_id(&self, topic: &str) -> Result<TopicId> {
        Ok(topic.into())
    }

    fn offsets(&self, partition: &Partition) -> Result<(i64, i64)> {
        self.ask("offsets")?;
        let at = self.find(partition)?;
        Ok((0, self.world.state().broker.log(at).stable()))
    }

    fn lane(&self, join: Join, slot: &str) -> Result<Box<dyn Lane>> {
        self.ask("opening a lane")?;
        Ok(Box::new(SimLane::open(self.clone(), join, slot)?))
    }

    fn consumer(&self, _: Join) -> Result<Box<dyn Consumer>> {
        outside()
    }

    fn reader(&self, from: Vec<(Partition, i64)>, records_max: usize) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(Reader {
            log: self.clone(),
            from,
            records_max,
        }))
    }

    fn source(&self, _: &str) -> Result<(Box<dyn Source>, Option<Bytes>)> {
        outside()
    }

    fn appender(&self) -> Arc<dyn Append> {
        Arc::new(Nothing)
    }
}

/// Reads given partitions, in no group.
struct Reader {
    log: SimLog,
    from: Vec<(Partition, i64)>,
    records_max: usize,
}

impl Consumer for Reader {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        self.log.ask("reading")?;
        let mut found = Vec::new();
        for (partition, next) in &mut self.from {
            let at = self.log.find(partition)?;
            let state = self.log.world.state();
            let (records, after) = state.broker.log(at).read(*next, self.records_max, false);
            *next = after;
            found.extend(member::fetched(partition, records));
        }
        if found.is_empty() {
            self.log.world.pass(self.log.thread, micros(wait));
        }
        Ok(Polled::Records(found))
    }

    fn seek(&mut self, _: &Partition, _: i64) -> Result<()> {
        outside()
    }
    fn pause(&mut self, _: &[Partition]) -> Result<()> {
        outside()
    }
    fn resume(&mut self, _: &[Partition]) -> Result<()> {
        outside()
    }
}

struct Nothing;

impl Append for Nothing {
    fn append(&self, _: Vec<Outgoing>) -> Appended<'_> {
        Box::pin(async { outside() })
    }
}
