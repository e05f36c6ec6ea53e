//! The embedded log itself: opening it, in a file or in memory, and the handles it gives out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::append::Appender;
use super::batch::{Batch, compact};
use super::encode::{Encoded, Topics};
use super::file::{File, FileWriter};
use super::member::{EmbeddedLane, Reading};
use super::source::Shard;
use super::state::{BATCH_BYTES_MAX, Command, LogId, Membership, Outcome, State};
use super::writer::{Reply, Task, Writer};
use crate::catalog::{Cleanup, TopicSpec};
use crate::error::LogError;
use crate::log::{Append, Consumer, Join, Lane, Log, Partition, Result, Source, Topic, TopicId};

/// How long a tombstone is kept for readers that are behind.
pub(super) const TOMBSTONE_AGE_MS: i64 = 24 * 3_600_000;
/// What a `reader` brings in one poll at most; it has no limit of its own.
const READER_BYTES_MAX: usize = 4 << 20;

/// How a file is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Records that readers find without touching the file: the last ones of all partitions together.
    pub cache_bytes_max: usize,
    /// How large the file may become; `None`: as large as the disk.
    pub file_bytes_max: Option<u64>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            cache_bytes_max: 32 << 20,
            file_bytes_max: None,
        }
    }
}

/// A log for one process. Cloning gives another handle of the same log.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

/// What the handles share. The last one to go ends the writer and closes the file.
pub(super) struct Shared {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) topics: Topics,
    /// In memory: none; the caller applies what it staged. Before `file`: it ends before the file is unlocked.
    writer: Option<Writer>,
    file: Option<File>,
}

impl Embedded {
    /// An empty log in memory.
    pub fn memory() -> Self {
        let state = Arc::new(Mutex::new(State::new(None)));
        Self {
            shared: Arc::new(Shared {
                state,
                topics: Topics::default(),
                writer: None,
                file: None,
            }),
        }
    }

    /// Opens the file, or makes it. Refuses one that is open already, here or in another process.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &EmbeddedConfig::default())
    }

    /// As `open`, with other limits.
    pub fn open_with(path: &Path, config: &EmbeddedConfig) -> Result<Self> {
        let mut state = State::new(Some(config.cache_bytes_max));
        let file = File::lock(path)?;
        let writer = FileWriter::open(path, config, &mut state)?;
        let state = Arc::new(Mutex::new(state));
        let shared = Shared {
            state: state.clone(),
            topics: Topics::default(),
            writer: Some(Writer::start(state, writer)?),
            file: Some(file),
        };
        shared.copy_topics();
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Deletes what is older or larger than its topic keeps, and compacts. To be called now and then; only whole batches go.
    pub fn enforce_retention(&self, now_ms: i64) -> Result<()> {
        let Some(writer) = &self.shared.writer else {
            return retain_in_memory(&mut self.shared.state.lock(), now_ms);
        };
        let (reply, answer) = crossbeam_channel::bounded(1);
        writer.push(Task::Retain { now_ms, reply })?;
        answer.recv().map_err(|_| ended())?
    }

    fn member(&self, join: &Join, slot: Option<(Arc<str>, u64)>) -> Result<(Reading, Membership)> {
        let group: Arc<str> = Arc::from(join.group.as_str());
        let waker = Arc::new(Condvar::new());
        let mut state = self.shared.state.lock();
        for topic in &join.topics {
            state.topic(topic)?;
        }
        let member = state.new_member();
        let membership = Membership {
            group,
            member,
            slot,
        };
        state.join(&membership, &join.topics, &waker)?;
        drop(state);
        let limits = (join.records_max, join.bytes_max);
        Ok((
            Reading::new(self.shared.clone(), limits, waker, member).in_group(membership.clone()),
            membership,
        ))
    }
}

fn retain_in_memory(state: &mut State, now_ms: i64) -> Result<()> {
    for id in 0..state.next_log_id() {
        let log = state.log(id);
        match log.cleanup {
            Cleanup::Delete => {
                let batches = state
                    .cached(id)
                    .map(|b| (b.end(), b.timestamp_max, b.bytes.len() as u64));
                let (start, freed) = State::start_after(log, batches, now_ms);
                state.advance_start(id, start, freed);
            }
            Cleanup::Compact if log.is_dirty() => {
                let batches: Vec<Batch> = state.cached(id).cloned().collect();
                let kept = compact(&batches, now_ms - TOMBSTONE_AGE_MS, BATCH_BYTES_MAX).map_err(
                    |wrong| LogError::Corrupt {
                        place: format!("memory: {}", wrong.0),
                    },
                )?;
                state.compacted(id, kept);
            }
            Cleanup::Compact => {}
        }
    }
    Ok(())
}

fn ended() -> LogError {
    LogError::unavailable("its writer has ended")
}

impl Shared {
    /// Does a command and waits until it is durable.
    pub(super) fn submit(&self, command: Command) -> Result<Outcome> {
        let Some(writer) = &self.writer else {
            return self.apply_now(command);
        };
        let (reply, answer) = crossbeam_channel::bounded(1);
        writer.push(Task::Command(command, Reply::Blocking(reply)))?;
        answer.recv().map_err(|_| ended())?
    }

    pub(super) async fn submit_async(&self, command: Command) -> Result<Outcome> {
        let Some(writer) = &self.writer else {
            return self.apply_now(command);
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        writer.push(Task::Command(command, Reply::Async(reply)))?;
        answer.await.map_err(|_| ended())?
    }

    fn apply_now(&self, command: Command) -> Result<Outcome> {
        let mut state = self.state.lock();
        let (plan, mut outcomes) = state.stage(vec![command]);
        state.apply(plan);
        outcomes.pop().expect("one command has one outcome")
    }

    /// Reads stored batches that begin at or before `offset`.
    pub(super) fn load(
        &self,
        log: LogId,
        partition: &Partition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Vec<Batch>> {
        let file = self
            .file
            .as_ref()
            .expect("only a log in a file has batches that are not in memory");
        file.load(log, partition, offset, bytes_max)
    }

    fn copy_topics(&self) {
        let state = self.state.lock();
        let mut topics = self.topics.write();
        for (_, log) in state.logs().filter(|(_, log)| log.partition.number == 0) {
            let topic = state
                .topic(&log.partition.topic)
                .expect("a log belongs to a topic");
            topics.insert(log.partition.topic.clone(), topic);
        }
    }

    fn create(&self, topics: &[TopicSpec]) -> Result<()> {
        let Some(writer) = &self.writer else {
            let mut state = self.state.lock();
            for spec in state.missing(topics) {
                state.create(&spec);
            }
            state.rebalance();
            return Ok(());
        };
        let (reply, answer) = crossbeam_channel::bounded(1);
        writer.push(Task::Create(topics.to_vec(), reply))?;
        answer.recv().map_err(|_| ended())?
    }
}

impl Log for Embedded {
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        if let Some(empty) = topics.iter().find(|spec| spec.partitions_embedded == 0) {
            return Err(LogError::invalid(format!(
                "topic \"{}\" has no partitions; give it one or more",
                empty.name
            )));
        }
        self.shared.create(topics)?;
        self.shared.copy_topics();
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<u32> {
        Ok(self.shared.state.lock().topic(topic)?.partitions)
    }

    /// Its name: topics of this log are never deleted.
    fn topic_id(&self, topic: &str) -> Result<TopicId> {
        self.partitions(topic).map(|_| topic.into())
    }

    fn offsets(&self, partition: &Partition) -> Result<(i64, i64)> {
        let state = self.shared.state.lock();
        let log = state.log(state.log_id(partition)?);
        Ok((log.start, log.end))
    }

    fn lane(&self, join: Join, slot: &str) -> Result<Box<dyn Lane>> {
        let (group, slot): (Arc<str>, Arc<str>) = (Arc::from(join.group.as_str()), Arc::from(slot));
        for topic in &join.topics {
            self.partitions(topic)?;
        }
        // by way of the writer: what the slot's last owner has under way is settled before
        let opened = self.shared.submit(Command::LaneOpen {
            group,
            slot: slot.clone(),
        })?;
        let Outcome::LaneOpened(epoch) = opened else {
            unreachable!("a lane is opened with an epoch, not {opened:?}")
        };
        let (reading, membership) = self.member(&join, Some((slot, epoch)))?;
        Ok(Box::new(EmbeddedLane {
            reading,
            membership,
            sent: Encoded::default(),
            keyless: AtomicU32::new(0),
        }))
    }

    fn consumer(&self, join: Join) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(self.member(&join, None)?.0))
    }

    fn reader(&self, from: Vec<(Partition, i64)>, records_max: usize) -> Result<Box<dyn Consumer>> {
        let id = self.shared.state.lock().new_member();
        let waker = Arc::new(Condvar::new());
        let reading = Reading::new(
            self.shared.clone(),
            (records_max, READER_BYTES_MAX),
            waker,
            id,
        );
        Ok(Box::new(reading.from(from)?))
    }

    fn source(&self, shard: &str) -> Result<(Box<dyn Source>, Option<Bytes>)> {
        let shard: Arc<str> = Arc::from(shard);
        let opened = self.shared.submit(Command::SourceOpen {
            shard: shard.clone(),
        })?;
        let Outcome::SourceOpened(epoch, position) = opened else {
            unreachable!("a source is opened with an epoch, not {opened:?}")
        };
        let source = Shard {
            shared: self.shared.clone(),
            shard,
            epoch,
            keyless: AtomicU32::new(0),
        };
        Ok((Box::new(source), position))
    }

    fn appender(&self) -> Arc<dyn Append> {
        Arc::new(Appender {
            shared: self.shared.clone(),
            keyless: AtomicU32::new(0),
        })
    }
}

/// The topics by name, for those who list them.
impl Embedded {
    /// Every topic that exists.
    pub fn topics(&self) -> Vec<Topic> {
        let mut topics: Vec<Topic> = self.shared.topics.read().keys().cloned().collect();
        topics.sort();
        topics
    }
}
