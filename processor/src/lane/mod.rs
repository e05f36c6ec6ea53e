//! One lane: one consumer, one transactional producer, their partitions, one owner thread. The only place that commits
//! outputs together with consumed offsets.
//!
//! Records flow: fetched → `pending` → chunks that workers run → outputs sent into the open transaction → committed with
//! the offsets that they come to. A chunk's outputs are sent only when all of them are ready, so no transaction is open
//! because a step runs, and a commit waits for no step: chunks that still run belong to the next one. Whatever goes
//! wrong, the lane drops what it holds and goes on from the group's committed offsets: they are the only memory.
//!
//! `assign` is how partitions come and go, `holds` how single ones wait, `user_topics` what is special about topics that are
//! not Weir's, `release` how parked records are run, `trouble` the error rule.

mod assign;
mod holds;
mod release;
mod trouble;
mod user_topics;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use topics::catalog::{DELAYS, GROUP_PROCESSORS, GROUP_TOPICS, HOPS, TRIGGERS};
use topics::{Fetched, Join, Log, LogError, Outgoing, Partition, Polled, Position, Topic, TopicId};

use crate::ProcessorConfig;
use crate::clock::Clock;
use crate::config::Reads;
use crate::error::ProcessorError;
use crate::execute::{Notes, Way};
use crate::isolation::{Next, Note, Standing};
use crate::pending::{Pending, Reach, size};
use crate::streams::{Streams, Subscribed};
use crate::topic_ids::{TopicIds, signed};
use crate::watch::Watch;
use crate::workers::Work;
use holds::Hold;
use release::Release;

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
    pub streams: Arc<dyn Streams>,
    pub notes: Arc<Notes>,
    pub ids: Arc<TopicIds>,
    /// Taken by the one lane of the process that runs a record alone, so that a death convicts the right one.
    pub alone: Arc<AtomicBool>,
    pub stop: Arc<AtomicBool>,
}

/// A partition that this lane owns.
struct Owned {
    partition: Partition,
    topic_id: TopicId,
    /// Of a user's topic: which time of its being read by somebody this is; 0 for Weir's own.
    generation: i64,
    committed: i64,
    /// What was committed with it.
    metadata: String,
    standing: Standing,
    /// Nothing of it is handed out for now.
    held: Option<Hold>,
}

/// One lane, in its owner's hands.
pub struct Lane {
    around: Surroundings,
    port: Box<dyn topics::Lane>,
    slot: String,
    reads: Reads,
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
    /// Of a lane that reads users' topics: what is read, and the epoch at which that was asked.
    subscribed: Arc<[Subscribed]>,
    subscribed_at: Option<(u64, Instant)>,
    /// Parked records that are being run, and the epoch at which it was asked whether there are any.
    release: Option<Release>,
    release_asked: Option<u64>,
    /// Of releases that were broken off: their number, how each partition stood, and the next parked record.
    released_so_far: HashMap<Partition, (u64, Standing, i64)>,
    /// When it last said that a partition waits.
    said_at: Option<Instant>,
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
            reads,
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
            subscribed: Arc::new([]),
            subscribed_at: None,
            release: None,
            release_asked: None,
            released_so_far: HashMap::new(),
            said_at: None,
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
        self.follow_subscriptions()?;
        self.wake()?;
        self.hand_out()?;
        self.release_parked()?;
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
        let ids = self.around.ids.clone();
        for at in 0..self.owned.len() {
            let owned = &self.owned[at];
            if ids.is(&owned.partition.topic, &owned.topic_id) {
                continue;
            }
            let replaced = ProcessorError::Replaced {
                group: self.join.group.clone(),
                partition: owned.partition.clone(),
            };
            if self.reads != Reads::Topics {
                return Err(replaced);
            }
            self.stop_partition(at, &replaced)?;
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
            let Some((count, way)) = self.cut()? else {
                // what was next may have been put aside
                self.blocked = !self.pending.is_empty();
                return Ok(());
            };
            let chunk = self.pending.take(count);
            self.out.push_back(Reach::of(&chunk));
            self.work.run(chunk, way, self.clock.unix_ms())?;
        }
        Ok(())
    }

    /// Whether this process knows the graphs' changes that the partitions' last owners knew.
    fn followed(&mut self) -> bool {
        let Some((epoch, until)) = self.follow else {
            return true;
        };
        if self.around.streams.epoch() < epoch {
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

    /// How many of the pending records make the next chunk, and what is done with them; `None`: not now.
    fn cut(&mut self) -> Result<Option<(usize, Way)>, ProcessorError> {
        let epoch = self.around.streams.epoch();
        let (mut count, mut bytes) = (0, 0);
        while let Some(record) = self.pending.get(count) {
            if let Some((until, why)) = self.waits(record) {
                self.hold_from(count, until, &why)?;
                continue;
            }
            bytes += size(record);
            if count > 0 && (count >= CHUNK_RECORDS || bytes > CHUNK_BYTES) {
                break;
            }
            let (offset, Some(at)) = (record.offset, self.owner_of(record)) else {
                return Err(self.moved());
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
                    return Ok(Some((1, Way::Run)));
                }
                Next::Condemned => return Ok(Some((1, Way::Condemned))),
            }
        }
        Ok((count > 0).then_some((count, Way::Run)))
    }

    fn moved(&self) -> ProcessorError {
        LogError::Moved {
            group: self.join.group.clone(),
        }
        .into()
    }

    fn owner_of(&self, record: &Fetched) -> Option<usize> {
        let partition = &record.partition;
        self.owned.iter().position(|o| o.partition == *partition)
    }

    /// Commits a note about a partition, after what is sent.
    fn note(&mut self, at: usize, next_offset: i64, note: Note) -> Result<(), ProcessorError> {
        self.commit_sent()?;
        let position = self.owned[at].position(next_offset, note);
        self.owned[at].committed = next_offset;
        self.owned[at].metadata.clone_from(&position.metadata);
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
        let epoch = self.around.streams.epoch();
        let mut positions = Vec::with_capacity(sent.next.len());
        let mut standings = Vec::with_capacity(sent.next.len());
        for (partition, next_offset) in sent.next {
            let Some(at) = self.owned.iter().position(|o| o.partition == partition) else {
                return Err(self.moved());
            };
            let owned = &self.owned[at];
            let (note, after) = owned.standing.progress(next_offset, epoch);
            let position = owned.position(next_offset, note);
            standings.push((at, next_offset, after, position.metadata.clone()));
            positions.push(position);
        }
        self.send_marks(&sent.released, &mut positions)?;
        let begun = self.clock.now();
        #[cfg(feature = "broken")]
        self.broken.before_commit(&mut *self.port, &positions)?;
        self.port.commit(positions)?;
        for (at, next_offset, after, metadata) in standings {
            let owned = &mut self.owned[at];
            (owned.committed, owned.standing, owned.metadata) = (next_offset, after, metadata);
        }
        self.let_others_run_alone();
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

    fn let_others_run_alone(&mut self) {
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
                self.port.resume(&self.unheld())?;
            }
            self.paused = full;
        }
        let held = self.blocked || self.follow.is_some() || self.release.is_some();
        let wait = match self.until_due() {
            _ if !self.out.is_empty() => Duration::ZERO,
            _ if !self.pending.is_empty() && !held => Duration::ZERO,
            Some(due) => due,
            None if held => HELD_POLL,
            None => self.until_wake().unwrap_or(IDLE).min(IDLE),
        };
        let polled = self.port.poll(wait);
        self.polled_at = self.clock.now();
        let polled = match polled {
            Err(error) if self.reads == Reads::Topics => return self.unreadable_topic(error),
            polled => polled?,
        };
        match polled {
            Polled::Records(records) => {
                self.pending.extend(records);
                Ok(())
            }
            Polled::Assigned(assigned) => self.assign(assigned),
            Polled::Revoked { partitions, lost } => self.revoke(&partitions, lost),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.let_others_run_alone();
    }
}

impl Owned {
    /// A partition of which nothing is read.
    fn idle(partition: Partition, topic_id: TopicId, generation: i64) -> Self {
        Self {
            partition,
            topic_id,
            generation,
            committed: 0,
            metadata: String::new(),
            standing: Standing::New(Note::default()),
            held: None,
        }
    }

    fn position(&self, next_offset: i64, note: Note) -> Position {
        Position {
            partition: self.partition.clone(),
            next_offset,
            metadata: signed(&note.format(), &self.topic_id, self.generation),
        }
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
    let delayed = || DELAYS.map(|(name, _)| Topic::from(name));
    let (group, topics) = match reads {
        Reads::Both => {
            let both = [TRIGGERS.into(), HOPS.into()];
            (
                GROUP_PROCESSORS,
                both.into_iter().chain(delayed()).collect(),
            )
        }
        Reads::Triggers => (GROUP_PROCESSORS, vec![TRIGGERS.into()]),
        Reads::Hops => {
            let hops = [HOPS.into()].into_iter().chain(delayed());
            (GROUP_PROCESSORS, hops.collect())
        }
        // what graphs ask for, see `user_topics`
        Reads::Topics => (GROUP_TOPICS, Vec::new()),
    };
    Join {
        group: group.into(),
        topics,
        records_max: 4 * CHUNK_RECORDS,
        bytes_max: PENDING_BYTES.min(config.batch_bytes_max),
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
