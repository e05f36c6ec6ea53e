//! The embedded log as a pure state machine: no I/O, no clock, no threads.
//!
//! Writing has three steps. `stage` decides what a list of commands would do, in order, without changing anything; the
//! effect makes the plan durable (`file`), or there is none (in memory); `apply` makes it visible. A plan that could not
//! be made durable is dropped and nothing has happened. Only one plan exists at a time, and what a staged plan rests on
//! (who owns a partition, which epoch is current) changes only by a plan, or by a call of the very owner that waits for
//! the plan: so what was true when it was staged is true when it is applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Condvar;

use super::batch::{Batch, Chunk};
use super::group::{Group, MemberId};
use crate::catalog::{Cleanup, TopicSpec};
use crate::error::LogError;
use crate::log::{Partition, Result, Topic};

/// A partition's number within this log; never reused.
pub(super) type LogId = u32;

/// Batches are cut at about this size, so that a reader never has to load much more than it asked for.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// The longest note that travels with an offset.
pub(super) const METADATA_BYTES_MAX: usize = 4096;

/// What a command brings to one partition.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) log: LogId,
    pub(super) chunk: Chunk,
}

/// A lane's or consumer's place in a group.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) group: Arc<str>,
    pub(super) member: MemberId,
    /// Lanes only.
    pub(super) slot: Option<(Arc<str>, u64)>,
}

/// A change of what is stored, or of who may change it.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        writes: Vec<Write>,
    },
    LaneOpen {
        group: Arc<str>,
        slot: Arc<str>,
    },
    LaneCommit {
        as_member: Membership,
        writes: Vec<Write>,
        offsets: Vec<(LogId, i64, String)>,
    },
    SourceOpen {
        shard: Arc<str>,
    },
    SourceCommit {
        shard: Arc<str>,
        epoch: u64,
        writes: Vec<Write>,
        position: bytes::Bytes,
    },
}

/// What became of a command.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The base offset of each of its writes.
    Written(Vec<i64>),
    /// The new epoch of the slot.
    LaneOpened(u64),
    /// The new epoch of the shard and its position.
    SourceOpened(u64, Option<bytes::Bytes>),
}

/// What a list of commands will do.
#[derive(Default, Debug)]
pub(super) struct Plan {
    pub(super) batches: Vec<(LogId, Batch)>,
    pub(super) offsets: BTreeMap<(Arc<str>, LogId), (i64, String)>,
    pub(super) positions: BTreeMap<Arc<str>, bytes::Bytes>,
    slots: BTreeMap<SlotKey, u64>,
    shards: BTreeMap<Arc<str>, u64>,
}

impl Plan {
    /// Nothing of it has to survive.
    pub(super) fn is_volatile(&self) -> bool {
        self.batches.is_empty() && self.offsets.is_empty() && self.positions.is_empty()
    }
}

/// One partition.
#[derive(Debug)]
pub(super) struct LogState {
    pub(super) partition: Partition,
    pub(super) cleanup: Cleanup,
    pub(super) retention_ms: Option<u64>,
    pub(super) retention_bytes: Option<u64>,
    /// The first offset kept.
    pub(super) start: i64,
    /// The next offset to be written; everything below is visible.
    pub(super) end: i64,
    /// The bytes kept, in memory or in the file.
    pub(super) bytes: u64,
    /// Bytes written since the last compaction.
    pub(super) dirty: u64,
    /// The last batches, by base; in memory: all. What lies below `cached_from` is in the file only.
    cache: BTreeMap<i64, Batch>,
    cached_from: i64,
    /// Whom a new record wakes.
    watchers: Vec<(MemberId, Arc<Condvar>)>,
}

impl LogState {
    /// Enough has been written since the last compaction to make the next one worth its reading.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty > 0 && self.dirty >= self.bytes / 2
    }
}

/// A topic's partitions are consecutive logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicState {
    pub(super) first: LogId,
    pub(super) partitions: u32,
    pub(super) record_bytes_max: u64,
}

/// A group and one of its slots.
type SlotKey = (Arc<str>, Arc<str>);

#[derive(Default, Debug)]
struct Slot {
    epoch: u64,
    /// Who is in it, in this epoch.
    member: Option<MemberId>,
}

/// A member of some group.
#[derive(Debug)]
struct Present {
    group: Arc<str>,
    topics: Vec<Topic>,
    /// What its poll waits on.
    waker: Arc<Condvar>,
}

#[derive(Default, Debug)]
struct Shard {
    epoch: u64,
    position: Option<bytes::Bytes>,
}

/// What a reader finds at an offset.
pub(super) enum Found {
    Batches(Vec<Batch>),
    /// Only the file has it.
    Stored,
    Nothing,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    topics: BTreeMap<Topic, TopicState>,
    logs: Vec<LogState>,
    groups: BTreeMap<Arc<str>, Group>,
    members: BTreeMap<MemberId, Present>,
    slots: BTreeMap<SlotKey, Slot>,
    shards: BTreeMap<Arc<str>, Shard>,
    next_member: MemberId,
    /// Bytes of batches that may stay cached; `None`: the memory is the log.
    cache_bytes_max: Option<usize>,
    cached_bytes: usize,
    /// Oldest first.
    eviction: std::collections::VecDeque<(LogId, i64)>,
}

impl State {
    pub(super) fn new(cache_bytes_max: Option<usize>) -> Self {
        Self {
            topics: BTreeMap::new(),
            logs: Vec::new(),
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            slots: BTreeMap::new(),
            shards: BTreeMap::new(),
            next_member: 1,
            cache_bytes_max,
            cached_bytes: 0,
            eviction: std::collections::VecDeque::new(),
        }
    }

    // ---- topics

    pub(super) fn topic(&self, name: &str) -> Result<TopicState> {
        self.topics
            .get(name)
            .copied()
            .ok_or_else(|| LogError::missing_topic(name))
    }

    pub(super) fn log_id(&self, partition: &Partition) -> Result<LogId> {
        let topic = self.topic(&partition.topic)?;
        if partition.number >= topic.partitions {
            return Err(LogError::missing_partition(partition));
        }
        Ok(topic.first + partition.number)
    }

    pub(super) fn log(&self, id: LogId) -> &LogState {
        &self.logs[id as usize]
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = (LogId, &LogState)> {
        self.logs
            .iter()
            .enumerate()
            .map(|(id, log)| (id as LogId, log))
    }

    /// The topics of these that do not exist, each once.
    pub(super) fn missing(&self, topics: &[TopicSpec]) -> Vec<TopicSpec> {
        let mut missing: Vec<TopicSpec> = Vec::new();
        for spec in topics {
            if !self.topics.contains_key(&spec.name)
                && !missing.iter().any(|seen| seen.name == spec.name)
            {
                missing.push(spec.clone());
            }
        }
        missing
    }

    pub(super) fn next_log_id(&self) -> LogId {
        self.logs.len() as LogId
    }

    pub(super) fn create(&mut self, spec: &TopicSpec) {
        let first = self.next_log_id();
        let partitions = spec.partitions_embedded;
        for number in 0..partitions {
            self.logs.push(LogState {
                partition: Partition {
                    topic: spec.name.clone(),
                    number,
                },
                cleanup: spec.cleanup,
                retention_ms: spec.retention_ms,
                retention_bytes: spec.retention_bytes,
                start: 0,
                end: 0,
                bytes: 0,
                dirty: 0,
                cache: BTreeMap::new(),
                cached_from: 0,
                watchers: Vec::new(),
            });
        }
        self.topics.insert(
            spec.name.clone(),
            TopicState {
                first,
                partitions,
                record_bytes_max: spec.record_max_bytes,
            },
        );
    }

    /// Start, end and bytes of a log that was read from a file; none of it is cached.
    pub(super) fn restore_log(&mut self, id: LogId, start: i64, end: i64, bytes: u64) {
        let log = &mut self.logs[id as usize];
        (log.start, log.end, log.bytes, log.dirty, log.cached_from) =
            (start, end, bytes, bytes, end);
    }

    pub(super) fn restore_offset(&mut self, group: &str, log: LogId, next: i64, metadata: String) {
        self.groups
            .entry(Arc::from(group))
            .or_default()
            .committed
            .insert(log, (next, metadata));
    }

    pub(super) fn restore_position(&mut self, shard: &str, position: bytes::Bytes) {
        self.shards.entry(Arc::from(shard)).or_default().position = Some(position);
    }

    // ---- writing

    /// What the commands will do, each after those before it, and what to answer once it is done.
    pub(super) fn stage(&self, commands: Vec<Command>) -> (Plan, Vec<Result<Outcome>>) {
        let mut plan = Plan::default();
        let mut open = BTreeMap::<LogId, (i64, Chunk)>::new();
        let outcomes = commands
            .into_iter()
            .map(|command| self.stage_one(command, &mut plan, &mut open))
            .collect();
        for (log, (base, chunk)) in open {
            plan.batches.push((log, chunk.seal(base)));
        }
        (plan, outcomes)
    }

    fn stage_one(
        &self,
        command: Command,
        plan: &mut Plan,
        open: &mut BTreeMap<LogId, (i64, Chunk)>,
    ) -> Result<Outcome> {
        match command {
            Command::Append { writes } => {
                Ok(Outcome::Written(self.stage_writes(writes, plan, open)))
            }
            Command::LaneOpen { group, slot } => {
                let key = (group, slot);
                let epoch = plan
                    .slots
                    .get(&key)
                    .copied()
                    .unwrap_or_else(|| self.slots.get(&key).map_or(0, |slot| slot.epoch))
                    + 1;
                plan.slots.insert(key, epoch);
                Ok(Outcome::LaneOpened(epoch))
            }
            Command::LaneCommit {
                as_member,
                writes,
                offsets,
            } => {
                self.fence(&as_member, Some(&*plan))?;
                let group = self.groups.get(&as_member.group);
                if let Some((log, ..)) = offsets
                    .iter()
                    .find(|(log, ..)| !group.is_some_and(|g| g.owns(as_member.member, *log)))
                {
                    let partition = &self.log(*log).partition;
                    return Err(LogError::Fenced {
                        owner: format!(
                            "{} of {}/{}",
                            as_member.group, partition.topic, partition.number
                        ),
                    });
                }
                for (log, next, metadata) in offsets {
                    plan.offsets
                        .insert((as_member.group.clone(), log), (next, metadata));
                }
                Ok(Outcome::Written(self.stage_writes(writes, plan, open)))
            }
            Command::SourceOpen { shard } => {
                let known = self.shards.get(&shard);
                let epoch = plan
                    .shards
                    .get(&shard)
                    .copied()
                    .unwrap_or_else(|| known.map_or(0, |s| s.epoch))
                    + 1;
                let position = plan
                    .positions
                    .get(&shard)
                    .cloned()
                    .or_else(|| known.and_then(|s| s.position.clone()));
                plan.shards.insert(shard, epoch);
                Ok(Outcome::SourceOpened(epoch, position))
            }
            Command::SourceCommit {
                shard,
                epoch,
                writes,
                position,
            } => {
                let current = plan
                    .shards
                    .get(&shard)
                    .copied()
                    .or_else(|| self.shards.get(&shard).map(|s| s.epoch));
                if current != Some(epoch) {
                    return Err(LogError::Fenced {
                        owner: format!("{}{shard}", crate::catalog::SOURCE_PREFIX),
                    });
                }
                plan.positions.insert(shard, position);
                Ok(Outcome::Written(self.stage_writes(writes, plan, open)))
            }
        }
    }

    fn stage_writes(
        &self,
        writes: Vec<Write>,
        plan: &mut Plan,
        open: &mut BTreeMap<LogId, (i64, Chunk)>,
    ) -> Vec<i64> {
        let mut bases = Vec::with_capacity(writes.len());
        for Write { log, chunk } in writes {
            if let Some((base, gathered)) = open.get_mut(&log) {
                let next = *base + i64::from(gathered.records);
                bases.push(next);
                if gathered.len() + chunk.len() <= BATCH_BYTES_MAX {
                    gathered.join(&chunk);
                } else {
                    let full = std::mem::replace(gathered, chunk);
                    plan.batches.push((log, full.seal(*base)));
                    *base = next;
                }
            } else {
                let base = self.log(log).end;
                bases.push(base);
                open.insert(log, (base, chunk));
            }
        }
        bases
    }

    /// Makes a plan visible. Returns whom to wake.
    pub(super) fn apply(&mut self, plan: Plan) {
        for (id, batch) in plan.batches {
            let log = &mut self.logs[id as usize];
            debug_assert_eq!(batch.base, log.end, "batches of a log are applied in order");
            let bytes = batch.bytes.len();
            log.end = batch.end();
            log.bytes += bytes as u64;
            log.dirty += bytes as u64;
            if self.cache_bytes_max.is_some() {
                self.cached_bytes += bytes;
                self.eviction.push_back((id, batch.base));
            }
            log.cache.insert(batch.base, batch);
            for (_, watcher) in &log.watchers {
                watcher.notify_all();
            }
        }
        self.evict();
        for ((group, log), committed) in plan.offsets {
            self.groups
                .entry(group)
                .or_default()
                .committed
                .insert(log, committed);
        }
        for (shard, position) in plan.positions {
            self.shards.entry(shard).or_default().position = Some(position);
        }
        for (shard, epoch) in plan.shards {
            self.shards.entry(shard).or_default().epoch = epoch;
        }
        for (key, epoch) in plan.slots {
            let slot = self.slots.entry(key).or_default();
            slot.epoch = epoch;
            if let Some(fenced) = slot.member.take() {
                self.leave(fenced);
            }
        }
    }

    fn evict(&mut self) {
        let Some(max) = self.cache_bytes_max else {
            return;
        };
        while self.cached_bytes > max {
            let Some((id, base)) = self.eviction.pop_front() else {
                return;
            };
            let log = &mut self.logs[id as usize];
            if let Some(batch) = log.cache.remove(&base) {
                self.cached_bytes -= batch.bytes.len();
                log.cached_from = log.cached_from.max(batch.end());
            }
        }
    }

    // ---- reading

    /// Batches with records from `offset` on, of about `bytes_max` together, at least one if there is any.
    pub(super) fn find(&self, id: LogId, offset: i64, bytes_max: usize) -> Result<Found> {
        let log = self.log(id);
        if offset < log.start || offset > log.end {
            let (partition, start, end) = (log.partition.clone(), log.start, log.end);
            return Err(LogError::OutOfRange {
                partition,
                offset,
                start,
                end,
            });
        }
        if offset == log.end {
            return Ok(Found::Nothing);
        }
        if offset < log.cached_from {
            return Ok(Found::Stored);
        }
        let first = log
            .cache
            .range(..=offset)
            .next_back()
            .filter(|(_, b)| b.end() > offset)
            .map_or(offset, |(base, _)| *base);
        let mut bytes = 0;
        let mut batches = Vec::new();
        for batch in log.cache.range(first..).map(|(_, batch)| batch) {
            if bytes >= bytes_max {
                break;
            }
            bytes += batch.bytes.len();
            batches.push(batch.clone());
        }
        Ok(if batches.is_empty() {
            Found::Nothing
        } else {
            Found::Batches(batches)
        })
    }

    pub(super) fn watch(&mut self, id: LogId, member: MemberId, waker: &Arc<Condvar>) {
        self.logs[id as usize]
            .watchers
            .push((member, waker.clone()));
    }

    pub(super) fn unwatch(&mut self, id: LogId, member: MemberId) {
        self.logs[id as usize]
            .watchers
            .retain(|(watching, _)| *watching != member);
    }

    // ---- groups

    /// A number that no member and no reader has had.
    pub(super) fn new_member(&mut self) -> MemberId {
        self.next_member += 1;
        self.next_member
    }

    /// Joins a group; in a slot only while the slot's epoch is this one.
    pub(super) fn join(
        &mut self,
        as_member: &Membership,
        topics: &[Topic],
        waker: &Arc<Condvar>,
    ) -> Result<()> {
        if let Some((slot, epoch)) = &as_member.slot {
            let current = self
                .slots
                .entry((as_member.group.clone(), slot.clone()))
                .or_default();
            if current.epoch != *epoch {
                return Err(LogError::Fenced {
                    owner: format!("{}-{slot}", as_member.group),
                });
            }
            current.member = Some(as_member.member);
        }
        let logs = self.subscribed(topics);
        let (group, topics, waker) = (as_member.group.clone(), topics.to_vec(), waker.clone());
        self.members.insert(
            as_member.member,
            Present {
                group,
                topics,
                waker,
            },
        );
        self.groups
            .entry(as_member.group.clone())
            .or_default()
            .join(as_member.member, logs);
        self.wake_group(&as_member.group);
        Ok(())
    }

    fn subscribed(&self, topics: &[Topic]) -> Vec<Vec<LogId>> {
        let ids = |topic: &Topic| {
            self.topics
                .get(topic)
                .map(|t| (t.first..t.first + t.partitions).collect())
        };
        topics.iter().filter_map(ids).collect()
    }

    pub(super) fn leave(&mut self, member: MemberId) {
        let Some(Present { group, .. }) = self.members.remove(&member) else {
            return;
        };
        for log in &mut self.logs {
            log.watchers.retain(|(watching, _)| *watching != member);
        }
        if let Some(found) = self.groups.get_mut(&group) {
            found.leave(member);
        }
        self.wake_group(&group);
    }

    pub(super) fn wake_group(&self, group: &str) {
        for member in self
            .members
            .values()
            .filter(|member| &*member.group == group)
        {
            member.waker.notify_all();
        }
    }

    /// `Fenced` unless the member is still in its group, and its slot still its own, also after the plan.
    pub(super) fn fence(&self, as_member: &Membership, plan: Option<&Plan>) -> Result<()> {
        let present = self
            .groups
            .get(&as_member.group)
            .is_some_and(|group| group.has(as_member.member));
        let current = as_member.slot.as_ref().is_none_or(|(slot, epoch)| {
            let key = (as_member.group.clone(), slot.clone());
            plan.and_then(|plan| plan.slots.get(&key).copied())
                .or_else(|| self.slots.get(&key).map(|slot| slot.epoch))
                == Some(*epoch)
        });
        if present && current {
            return Ok(());
        }
        let slot = as_member.slot.as_ref().map_or("", |(slot, _)| slot);
        Err(LogError::Fenced {
            owner: format!("{}-{slot}", as_member.group),
        })
    }

    pub(super) fn group(&mut self, name: &Arc<str>) -> &mut Group {
        self.groups.entry(name.clone()).or_default()
    }

    /// What a group has committed for a partition.
    pub(super) fn committed(&self, group: &str, log: LogId) -> Option<(i64, String)> {
        self.groups
            .get(group)
            .and_then(|group| group.committed.get(&log))
            .cloned()
    }

    // ---- retention

    /// Where a log may start so that age and size are kept, looking at whole batches given oldest first.
    pub(super) fn start_after(
        log: &LogState,
        batches: impl Iterator<Item = (i64, i64, u64)>,
        now_ms: i64,
    ) -> (i64, u64) {
        let (mut start, mut freed) = (log.start, 0);
        for (end, timestamp_max, bytes) in batches {
            let old = log
                .retention_ms
                .is_some_and(|age| timestamp_max < now_ms.saturating_sub_unsigned(age));
            let large = log
                .retention_bytes
                .is_some_and(|max| log.bytes - freed > max);
            if !old && !large {
                break;
            }
            start = end;
            freed += bytes;
        }
        (start, freed)
    }

    /// All batches of a log that memory holds.
    pub(super) fn cached(&self, id: LogId) -> impl Iterator<Item = &Batch> {
        self.log(id).cache.values()
    }

    /// Drops what lies before `start`.
    pub(super) fn advance_start(&mut self, id: LogId, start: i64, freed: u64) {
        let log = &mut self.logs[id as usize];
        log.start = log.start.max(start);
        log.bytes = log.bytes.saturating_sub(freed);
        log.cached_from = log.cached_from.max(start);
        let kept = log.cache.split_off(&start);
        let dropped: usize = std::mem::replace(&mut log.cache, kept)
            .values()
            .map(|batch| batch.bytes.len())
            .sum();
        if self.cache_bytes_max.is_some() {
            self.cached_bytes -= dropped;
        }
    }

    /// Takes what compaction has left of a log: in memory the batches themselves, of a file only that they changed.
    pub(super) fn compacted(&mut self, id: LogId, batches: Vec<Batch>) {
        let log = &mut self.logs[id as usize];
        log.bytes = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        log.dirty = 0;
        let dropped: usize = log.cache.values().map(|batch| batch.bytes.len()).sum();
        log.cache.clear();
        if self.cache_bytes_max.is_some() {
            self.cached_bytes -= dropped;
            log.cached_from = log.end;
        } else {
            log.cache
                .extend(batches.into_iter().map(|batch| (batch.base, batch)));
        }
    }

    /// New topics have come: those who subscribed to them get them.
    pub(super) fn rebalance(&mut self) {
        let members: Vec<_> = self
            .members
            .iter()
            .map(|(id, member)| (*id, member.group.clone(), member.topics.clone()))
            .collect();
        for (member, group, topics) in members {
            let logs = self.subscribed(&topics);
            self.group(&group).join(member, logs);
            self.wake_group(&group);
        }
    }
}
