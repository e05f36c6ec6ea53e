//! One lane: one consumer, one transactional producer, their partitions, one owner thread. The only place that commits
//! outputs together with consumed offsets.
//!
//! Records flow: fetched → `pending` → chunks that workers run → outputs sent into the open transaction → committed with
//! the offsets that they come to. A chunk's outputs are sent only when all of them are ready, so no transaction is open
//! because a step runs, and a commit waits for no step: chunks that still run belong to the next one. Whatever goes
//! wrong, the lane drops what it holds and goes on from the group's committed offsets: they are the only memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use topics::catalog::{GROUP_PROCESSORS, HOPS, TRIGGERS};
use topics::{
    Assigned, Disposition, Fetched, Join, Log, LogError, Outgoing, Partition, Polled, Position,
    TopicId,
};

use crate::ProcessorConfig;
use crate::clock::Clock;
use crate::config::Reads;
use crate::error::ProcessorError;
use crate::isolation::{Next, Note, Standing};
use crate::pending::{Pending, Reach, size};
use crate::started;
use crate::topic_ids::{TopicIds, signature, signed};
use crate::watch::Watch;
use crate::workers::Work;

/// How long an idle lane waits for records; also how soon it sees `stop`.
const IDLE: Duration = Duration::from_millis(200);
/// How often a lane polls while its workers are busy.
const BUSY_POLL: Duration = Duration::from_millis(50);
/// How often a lane looks again whether what holds its records up is over.
const HELD_POLL: Duration = Duration::from_millis(5);
/// A lane that has enough to do polls no more; for longer than this, and its partitions are paused and it polls again.
const FULL_POLL: Duration = Duration::from_millis(500);
/// How long partitions that leave, and a stop, wait for what runs.
const FINISH: Duration = Duration::from_secs(5);
/// How long a lane waits to follow the graphs' changes that its partitions' last owner had followed.
const FOLLOW: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// From one commit to the next there is at least so many times what a commit takes …
const COMMIT_SHARE: u32 = 3;
/// … but never more than so many times the interval that is wished for.
const WIDENED_MAX: u32 = 10;
/// What a worker is given at once.
const CHUNK_RECORDS: usize = 128;
const CHUNK_BYTES: usize = 512 << 10;
/// What waits to be handed out.
const PENDING_RECORDS: usize = 8 * CHUNK_RECORDS;
const PENDING_BYTES: usize = 4 * CHUNK_BYTES;

/// What a lane has from its process.
#[derive(Clone)]
pub struct Surroundings {
    pub log: Arc<dyn Log>,
    /// The highest epoch of a graph's change that this process has followed.
    pub epoch: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub ids: Arc<TopicIds>,
    /// Taken by the one lane of the process that runs a record alone, so that a death convicts the right one.
    pub alone: Arc<AtomicBool>,
    pub stop: Arc<AtomicBool>,
}

/// A partition that this lane owns.
struct Owned {
    partition: Partition,
    topic_id: TopicId,
    committed: i64,
    standing: Standing,
}

/// One lane, in its owner's hands.
pub struct Lane {
    around: Surroundings,
    port: Box<dyn topics::Lane>,
    slot: String,
    join: Join,
    config: ProcessorConfig,
    work: Box<dyn Work>,
    clock: Box<dyn Clock>,
    watch: Arc<Watch>,
    owned: Vec<Owned>,
    pending: Pending,
    /// Handed out: how far each chunk comes.
    out: VecDeque<Reach>,
    /// In the open transaction.
    sent: Reach,
    /// The record that runs is the only one, and this lane holds `Surroundings::alone`.
    alone: bool,
    /// Records wait that may only be handed out after something else has been committed.
    blocked: bool,
    paused: bool,
    polled_at: Instant,
    committed_at: Instant,
    /// How long commits take, lately.
    commit_takes: Duration,
    /// The changes of topics' ids that what is owned was compared with.
    ids_seen: u64,
    /// The epoch that some partition's last owner had followed, and until when it is waited for.
    follow: Option<(u64, Instant)>,
    backoff: Duration,
    #[cfg(feature = "broken")]
    broken: crate::broken::Held,
}

impl Lane {
    pub fn open(
        slot: &str,
        reads: Reads,
        around: Surroundings,
        config: ProcessorConfig,
        work: Box<dyn Work>,
        clock: Box<dyn Clock>,
    ) -> Result<Self, ProcessorError> {
        let join = join(&config, reads);
        let port = around.log.lane(join.clone(), slot)?;
        let now = clock.now();
        Ok(Self {
            around,
            port,
            slot: slot.to_owned(),
            join,
            config,
            work,
            clock,
            watch: Watch::new(slot),
            owned: Vec::new(),
            pending: Pending::default(),
            out: VecDeque::new(),
            sent: Reach::default(),
            alone: false,
            blocked: false,
            paused: false,
            polled_at: now,
            committed_at: now,
            commit_takes: Duration::ZERO,
            ids_seen: 0,
            follow: None,
            backoff: BACKOFF_MIN,
            #[cfg(feature = "broken")]
            broken: crate::broken::Held::default(),
        })
    }

    pub(crate) fn watch(&self) -> Arc<Watch> {
        self.watch.clone()
    }

    /// Runs until `stop`, then finishes what is under way. An `Err` is nothing that this process can repair.
    pub fn run(mut self) -> Result<(), ProcessorError> {
        while !self.stopped() {
            if let Err(trouble) = self.turn() {
                self.recover(trouble)?;
            }
        }
        self.finish()
    }

    fn stopped(&self) -> bool {
        self.around.stop.load(Ordering::Acquire)
    }

    /// One turn: hand out, take in what is ready, commit if it is time, fetch.
    pub fn turn(&mut self) -> Result<(), ProcessorError> {
        self.watch.turned();
        self.same_topics()?;
        self.hand_out()?;
        if !self.out.is_empty() {
            let mut wait = self.until_due().unwrap_or(BUSY_POLL).min(BUSY_POLL);
            while let Some(became) = self.work.ready(wait) {
                self.send(became?)?;
                wait = Duration::ZERO;
            }
        }
        if self.until_due().is_some_and(|wait| wait.is_zero()) {
            self.commit()?;
        }
        self.fetch()
    }

    /// What this lane owns must not have become partitions of other topics.
    fn same_topics(&mut self) -> Result<(), ProcessorError> {
        let changes = self.around.ids.changes();
        if changes == self.ids_seen {
            return Ok(());
        }
        let ids = &self.around.ids;
        let other = |o: &&Owned| !ids.is(&o.partition.topic, &o.topic_id);
        if let Some(other) = self.owned.iter().find(other) {
            let partition = other.partition.clone();
            return Err(ProcessorError::Replaced { partition });
        }
        self.ids_seen = changes;
        Ok(())
    }

    /// How long until the open transaction is to be committed; `None`: there is none.
    fn until_due(&self) -> Option<Duration> {
        if self.sent.is_empty() {
            return None;
        }
        let full = self.sent.records >= self.config.batch_records_max
            || self.sent.bytes >= self.config.batch_bytes_max;
        if full || self.alone || (self.blocked && self.out.is_empty()) {
            return Some(Duration::ZERO);
        }
        let since = self
            .clock
            .now()
            .saturating_duration_since(self.committed_at);
        Some(interval(self.config.commit_interval, self.commit_takes).saturating_sub(since))
    }

    /// Gives the workers what they have room for.
    fn hand_out(&mut self) -> Result<(), ProcessorError> {
        self.blocked = false;
        while !self.alone && !self.pending.is_empty() && self.work.room() && self.followed() {
            let Some((count, condemned)) = self.cut()? else {
                self.blocked = true;
                return Ok(());
            };
            let chunk = self.pending.take(count);
            self.out.push_back(Reach::of(&chunk));
            self.work.run(chunk, condemned, self.clock.unix_ms())?;
        }
        Ok(())
    }

    /// Whether this process knows the graphs' changes that the partitions' last owners knew.
    fn followed(&mut self) -> bool {
        let Some((epoch, until)) = self.follow else {
            return true;
        };
        if (self.around.epoch)() < epoch {
            if self.clock.now() < until {
                return false;
            }
            counter!("weir_alarms_total", "alarm" => "graphs-behind").increment(1);
            tracing::error!(
                "lane {} goes on without having followed weir.graphs up to change {epoch}; is it the store that this log belongs to?",
                self.slot
            );
        }
        self.follow = None;
        true
    }

    /// How many of the pending records make the next chunk, and whether it is one to be condemned; `None`: not now.
    fn cut(&mut self) -> Result<Option<(usize, bool)>, ProcessorError> {
        let epoch = (self.around.epoch)();
        let (mut count, mut bytes) = (0, 0);
        while let Some(record) = self.pending.get(count) {
            bytes += size(record);
            if count > 0 && (count >= CHUNK_RECORDS || bytes > CHUNK_BYTES) {
                break;
            }
            let (offset, Some(at)) = (record.offset, self.owner_of(record)) else {
                return Err(LogError::Moved {
                    group: GROUP_PROCESSORS.into(),
                }
                .into());
            };
            match self.owned[at].standing.next(offset, epoch) {
                Next::Together { below } if below.is_none_or(|below| offset < below) => count += 1,
                // What is ahead of it goes first.
                _ if count > 0 => break,
                Next::Together { .. } | Next::Later => return Ok(None),
                Next::Count { note, then } => {
                    self.note(at, self.owned[at].committed, note)?;
                    self.owned[at].standing = then;
                }
                Next::Alone { .. } | Next::Condemned
                    if !self.out.is_empty() || !self.sent.is_empty() =>
                {
                    return Ok(None);
                }
                Next::Alone { note } => {
                    if self.around.alone.swap(true, Ordering::AcqRel) {
                        return Ok(None);
                    }
                    self.alone = true;
                    self.note(at, offset, note)?;
                    return Ok(Some((1, false)));
                }
                Next::Condemned => return Ok(Some((1, true))),
            }
        }
        Ok((count > 0).then_some((count, false)))
    }

    fn owner_of(&self, record: &Fetched) -> Option<usize> {
        let partition = &record.partition;
        self.owned.iter().position(|o| o.partition == *partition)
    }

    /// Commits a note about a partition, after what is sent.
    fn note(&mut self, at: usize, next_offset: i64, note: Note) -> Result<(), ProcessorError> {
        self.commit_sent()?;
        let position = Position {
            partition: self.owned[at].partition.clone(),
            next_offset,
            metadata: signed(&note.format(), &self.owned[at].topic_id),
        };
        self.owned[at].committed = next_offset;
        Ok(self.port.commit(vec![position])?)
    }

    /// Takes a chunk's outputs into the transaction.
    fn send(&mut self, became: Vec<Outgoing>) -> Result<(), ProcessorError> {
        let Some(reach) = self.out.pop_front() else {
            return Ok(());
        };
        if self.sent.is_empty() {
            self.watch.opened();
        }
        #[cfg(feature = "broken")]
        let became = self.broken.instead_of_send(became);
        self.port.send(became)?;
        self.sent.extend(reach);
        Ok(())
    }

    fn commit_sent(&mut self) -> Result<(), ProcessorError> {
        if self.sent.is_empty() {
            return Ok(());
        }
        self.commit()
    }

    /// Invariant (1): outputs and input offsets become visible together or not at all.
    fn commit(&mut self) -> Result<(), ProcessorError> {
        self.same_topics()?;
        let sent = std::mem::take(&mut self.sent);
        let epoch = (self.around.epoch)();
        let mut positions = Vec::with_capacity(sent.next.len());
        let mut standings = Vec::with_capacity(sent.next.len());
        for (partition, next_offset) in sent.next {
            let Some(at) = self.owned.iter().position(|o| o.partition == partition) else {
                return Err(LogError::Moved {
                    group: self.join.group.clone(),
                }
                .into());
            };
            let owned = &self.owned[at];
            let (note, after) = owned.standing.progress(next_offset, epoch);
            standings.push((at, next_offset, after));
            positions.push(Position {
                partition,
                next_offset,
                metadata: signed(&note.format(), &owned.topic_id),
            });
        }
        let begun = self.clock.now();
        #[cfg(feature = "broken")]
        self.broken.before_commit(&mut *self.port, &positions)?;
        self.port.commit(positions)?;
        for (at, next_offset, after) in standings {
            self.owned[at].committed = next_offset;
            self.owned[at].standing = after;
        }
        self.release();
        self.watch.closed();
        let took = self.clock.now().saturating_duration_since(begun);
        histogram!("weir_lane_commit_seconds").record(took.as_secs_f64());
        histogram!("weir_lane_batch_records").record(sent.records as f64);
        counter!("weir_lane_commits_total").increment(1);
        counter!("weir_lane_records_total").increment(sent.records as u64);
        self.commit_takes = (self.commit_takes * 7 + took) / 8;
        self.committed_at = begun;
        self.backoff = BACKOFF_MIN;
        Ok(())
    }

    fn release(&mut self) {
        if self.alone {
            self.alone = false;
            self.around.alone.store(false, Ordering::Release);
        }
    }

    /// Polls, unless there is enough to do; never stays away from the group for long.
    fn fetch(&mut self) -> Result<(), ProcessorError> {
        let full = self.pending.len() >= PENDING_RECORDS || self.pending.bytes() >= PENDING_BYTES;
        let now = self.clock.now();
        if full && now.saturating_duration_since(self.polled_at) < FULL_POLL {
            // Nothing runs and nothing was handed out: something holds it up, and asking at once again would spin.
            if self.out.is_empty() {
                let wait = self.until_due().unwrap_or(HELD_POLL);
                self.clock.sleep(wait.min(HELD_POLL));
            }
            return Ok(());
        }
        if full != self.paused {
            let owned: Vec<Partition> = self.owned.iter().map(|o| o.partition.clone()).collect();
            if full {
                self.port.pause(&owned)?;
            } else {
                self.port.resume(&owned)?;
            }
            self.paused = full;
        }
        let held = self.blocked || self.follow.is_some();
        let wait = match self.until_due() {
            _ if !self.out.is_empty() => Duration::ZERO,
            _ if !self.pending.is_empty() && !held => Duration::ZERO,
            Some(due) => due,
            None if held => HELD_POLL,
            None => IDLE,
        };
        let polled = self.port.poll(wait)?;
        self.polled_at = self.clock.now();
        match polled {
            Polled::Records(records) => {
                self.pending.extend(records);
                Ok(())
            }
            Polled::Assigned(assigned) => self.assign(assigned),
            Polled::Revoked { partitions, lost } => self.revoke(&partitions, lost),
        }
    }

    fn assign(&mut self, assigned: Vec<Assigned>) -> Result<(), ProcessorError> {
        counter!("weir_lane_partitions_assigned_total").increment(assigned.len() as u64);
        counter!("weir_lane_rebalances_total").increment(1);
        self.watch.join();
        let (mut unstarted, mut came) = (Vec::new(), Vec::new());
        for Assigned {
            partition,
            committed,
        } in assigned
        {
            came.push(partition.clone());
            match committed {
                Some(position) => self.own(position)?,
                None => unstarted.push(partition),
            }
        }
        self.start(unstarted)?;
        if self.paused {
            self.port.pause(&came)?;
        }
        Ok(())
    }

    /// Before its first record a partition gets its start offset and a mark, in one transaction. A started partition whose
    /// offset is missing would be run all over again, or skipped: it stops the lane with an alarm instead.
    fn start(&mut self, unstarted: Vec<Partition>) -> Result<(), ProcessorError> {
        if unstarted.is_empty() {
            return Ok(());
        }
        match started::check(&*self.around.log, &unstarted) {
            Err(ProcessorError::OffsetMissing { partition }) if !self.missing(&partition)? => {
                return Err(LogError::Moved {
                    group: self.join.group.clone(),
                }
                .into());
            }
            checked => checked?,
        }
        self.commit_sent()?;
        let (mut marks, mut starts) = (Vec::new(), Vec::new());
        for partition in unstarted {
            let (start, _) = self.around.log.offsets(&partition)?;
            marks.push(started::mark(&partition, start, self.clock.unix_ms()));
            let note = Note {
                epoch: (self.around.epoch)(),
                ..Note::default()
            };
            let id = self.around.ids.of(&partition.topic)?;
            starts.push(Position {
                partition,
                next_offset: start,
                metadata: signed(&note.format(), &id),
            });
        }
        self.port.send(marks)?;
        self.port.commit(starts.clone())?;
        starts.into_iter().try_for_each(|start| self.own(start))
    }

    /// Whether this one has no committed offset still. The answer that came with the assignment may be old: while this
    /// lane was held up, another one may have started the partition.
    fn missing(&mut self, partition: &Partition) -> Result<bool, ProcessorError> {
        let now = self.port.abort()?;
        let missing = |a: &Assigned| a.committed.is_none() && a.partition == *partition;
        Ok(now.iter().any(missing))
    }

    fn own(&mut self, position: Position) -> Result<(), ProcessorError> {
        let topic_id = self.around.ids.of(&position.partition.topic)?;
        if signature(&position.metadata).is_some_and(|committed| *committed != *topic_id) {
            let partition = position.partition;
            return Err(ProcessorError::Replaced { partition });
        }
        let note = Note::parse(&position.metadata);
        if note.epoch > (self.around.epoch)() {
            let epoch = self.follow.map_or(0, |(epoch, _)| epoch).max(note.epoch);
            self.follow = Some((epoch, self.clock.now() + FOLLOW));
        }
        self.owned.retain(|o| o.partition != position.partition);
        self.owned.push(Owned {
            partition: position.partition,
            topic_id,
            committed: position.next_offset,
            standing: Standing::New(note),
        });
        Ok(())
    }

    /// Partitions leave with the next poll: until then what has been run of them may still be committed.
    fn revoke(&mut self, partitions: &[Partition], lost: bool) -> Result<(), ProcessorError> {
        counter!("weir_lane_partitions_revoked_total").increment(partitions.len() as u64);
        self.pending.forget(partitions);
        let holds = |reach: &Reach| reach.next.iter().any(|(p, _)| partitions.contains(p));
        if !self.out.iter().any(holds) && !holds(&self.sent) {
            self.owned.retain(|o| !partitions.contains(&o.partition));
            return Ok(());
        }
        let finished = !lost && self.take_in(FINISH)?;
        if finished {
            self.commit_sent()?;
        }
        self.owned.retain(|o| !partitions.contains(&o.partition));
        if finished {
            return Ok(());
        }
        // Whoever owns the partitions runs it again.
        Err(LogError::Moved {
            group: GROUP_PROCESSORS.into(),
        }
        .into())
    }

    /// Waits until everything that is out has been sent; whether it was in time.
    fn take_in(&mut self, wait: Duration) -> Result<bool, ProcessorError> {
        let until = self.clock.now() + wait;
        while !self.out.is_empty() {
            let left = until.saturating_duration_since(self.clock.now());
            match self.work.ready(left) {
                Some(became) => self.send(became?)?,
                None if self.clock.now() >= until => return Ok(false),
                None => {}
            }
        }
        Ok(true)
    }

    /// Commits what can be within a bound; the rest is dropped and run again by whoever comes next.
    pub fn finish(mut self) -> Result<(), ProcessorError> {
        let finished = self.take_in(FINISH).and_then(|_| self.commit_sent());
        self.release();
        let ours = match &finished {
            Ok(()) => false,
            Err(ProcessorError::Log(e)) => e.disposition() != Disposition::Invalid,
            Err(e) => !e.ends_the_lane(),
        };
        match finished {
            Err(e) if ours => {
                tracing::warn!(
                    "lane {} could not commit what it had at its end, whoever comes next runs it again: {e}",
                    self.slot
                );
                // What was sent must not stay open: it would hide what comes after it.
                if let Err(e) = self.port.abort() {
                    tracing::debug!("aborting at the end: {e}");
                }
                Ok(())
            }
            finished => finished,
        }
    }

    /// The error rule: abort and rewind, open anew, or stop.
    pub fn recover(&mut self, mut trouble: ProcessorError) -> Result<(), ProcessorError> {
        loop {
            let disposition = match &trouble {
                ProcessorError::Log(e) => e.disposition(),
                broken if broken.ends_the_lane() => {
                    tracing::error!("lane {} stops: {trouble}", self.slot);
                    return Err(trouble);
                }
                // The store, the engine: whatever it is, the records are still there.
                _ => Disposition::Retry,
            };
            counter!("weir_lane_aborts_total", "cause" => cause(&trouble)).increment(1);
            self.drop_everything();
            let again = match disposition {
                Disposition::Reject | Disposition::Invalid => {
                    tracing::error!("lane {} stops: {trouble}", self.slot);
                    return Err(trouble);
                }
                Disposition::Retry => {
                    tracing::warn!(
                        "lane {} aborts and runs its batch again: {trouble}",
                        self.slot
                    );
                    self.rewind()
                }
                Disposition::Fenced => {
                    tracing::warn!("lane {} starts over: {trouble}", self.slot);
                    self.owned.clear();
                    self.around
                        .log
                        .lane(self.join.clone(), &self.slot)
                        .map(|port| self.port = port)
                        .map_err(ProcessorError::from)
                }
            };
            self.watch.closed();
            self.clock.sleep(self.backoff);
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            match again {
                Ok(()) => return Ok(()),
                Err(_) if self.stopped() => return Ok(()),
                Err(e) => trouble = e,
            }
        }
    }

    /// Aborts, and reads on from the group's committed offsets.
    fn rewind(&mut self) -> Result<(), ProcessorError> {
        let assigned = self.port.abort()?;
        let before = std::mem::take(&mut self.owned);
        let all: Vec<Partition> = assigned.iter().map(|a| a.partition.clone()).collect();
        let mut unstarted = Vec::new();
        for Assigned {
            partition,
            committed,
        } in assigned
        {
            let Some(position) = committed else {
                unstarted.push(partition);
                continue;
            };
            let known = before.iter().find(|o| o.partition == partition);
            self.own(position)?;
            // What this owner knows counts, not what it noted.
            if let (Some(known), Some(owned)) = (known, self.owned.last_mut()) {
                owned.standing = known
                    .standing
                    .after_rewind(known.committed, owned.committed);
            }
        }
        match self.start(unstarted) {
            // The group has gone on without us. Only a poll would tell, and it would bring records of what is not
            // started; aborting and starting again would never poll: join anew instead.
            Err(ProcessorError::Log(LogError::Moved { .. })) => {
                return Err(LogError::Fenced {
                    owner: self.slot.clone(),
                }
                .into());
            }
            started => started?,
        }
        Ok(self.port.resume(&all)?)
    }

    /// A lane that lost its footing keeps nothing: not what runs, not what it had fetched.
    fn drop_everything(&mut self) {
        self.work.forget();
        self.out.clear();
        self.pending.clear();
        self.sent = Reach::default();
        self.paused = false;
        self.release();
        #[cfg(feature = "broken")]
        self.broken.drop_everything();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.release();
    }
}

/// The time from one commit to the next. Where commits are slow for the interval that is wished for (a busy broker, a slow
/// disk), most of the time would go into them, and the lane would fall behind further and further: then they are made
/// less often.
fn interval(wished: Duration, commit_takes: Duration) -> Duration {
    let bearable = (commit_takes * COMMIT_SHARE).min(wished * WIDENED_MAX);
    wished.max(bearable)
}

fn join(config: &ProcessorConfig, reads: Reads) -> Join {
    Join {
        group: GROUP_PROCESSORS.into(),
        topics: match reads {
            Reads::Both => vec![TRIGGERS.into(), HOPS.into()],
            Reads::Triggers => vec![TRIGGERS.into()],
            Reads::Hops => vec![HOPS.into()],
        },
        records_max: 4 * CHUNK_RECORDS,
        bytes_max: PENDING_BYTES.min(config.batch_bytes_max),
    }
}

fn cause(trouble: &ProcessorError) -> &'static str {
    match trouble {
        ProcessorError::Log(LogError::Fenced { .. }) => "fenced",
        ProcessorError::Log(LogError::Moved { .. }) => "rebalance",
        ProcessorError::Log(LogError::Full { .. }) => "disk-full",
        ProcessorError::Log(LogError::Uncertain { .. }) => "uncertain",
        ProcessorError::Log(_) => "log",
        ProcessorError::Store(_) => "store",
        ProcessorError::Busy { .. } => "busy",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_commits_are_made_less_often() {
        let ms = Duration::from_millis;
        assert_eq!(interval(ms(100), ms(5)), ms(100));
        assert_eq!(interval(ms(10), ms(8)), ms(24));
        assert_eq!(interval(ms(10), ms(500)), ms(100));
        assert_eq!(interval(ms(0), ms(8)), ms(0));
    }
}
