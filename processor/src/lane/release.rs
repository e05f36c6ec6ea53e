//! Parked records of graphs that have been resumed, or deleted, are run (or become dead letters) by the lane that owns the
//! partition they came from, before anything that comes after them.
//!
//! A lane parks what comes for a paused graph, and goes on parking until it has run all that was parked: it alone writes what
//! was parked from its partitions, so it can know when it has come to the end. Then it holds the partitions up for a moment,
//! writes an *end* behind the last parked record, runs what is left before it, and from there on the graph's records run as
//! they come. How far it has come is a record of `weir.positions`, written in the transaction of what the parked records
//! became; the offsets of the partitions they came from are committed with it, so that an owner that was overtaken cannot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::counter;
use schemas::records::Detour;
use topics::catalog::{PARKED, POSITIONS};
use topics::{Consumer, Fetched, Outgoing, Partition, Polled, Position, Record, Topic};

use super::holds::Until;
use super::{CHUNK_BYTES, CHUNK_RECORDS, Lane};
use crate::error::ProcessorError;
use crate::execute::Way;
use crate::isolation::{Next, Note, Standing};
use crate::pending::{Reach, size};
use crate::released::{self, Progress};
use crate::streams::Releasing;

/// The header of an end; its value tells one from another.
const END: &str = "weir-parked-end";

/// One graph's parked records, of all partitions that this lane owns.
pub(super) struct Release {
    of: Releasing,
    reader: Box<dyn Consumer>,
    from: Vec<From>,
    /// Read and not handed out.
    waiting: VecDeque<Fetched>,
    /// Next offset to read of each partition of `weir.parked`, and the end that it had when this began.
    read: BTreeMap<u32, (i64, i64)>,
    phase: Phase,
    /// Since when the reader has brought nothing.
    quiet: Option<Instant>,
    /// The next record is to become a dead letter.
    condemned: bool,
}

/// A partition whose records were parked.
struct From {
    partition: Partition,
    /// Its partition of `weir.parked`.
    parked: u32,
    standing: Standing,
    /// The next parked record that has not been handed out.
    next: i64,
    committed: i64,
}

#[derive(PartialEq, Eq)]
enum Phase {
    /// What was parked before this began is run; what comes meanwhile is parked.
    Behind,
    /// The partitions are held up; the ends are written and waited for.
    Closing { token: String, open: Vec<u32> },
}

impl Lane {
    /// One turn of it: a little is read, handed out, and if it has come to the end, ended.
    pub(super) fn release_parked(&mut self) -> Result<(), ProcessorError> {
        if self.release.is_none() {
            return self.next_release();
        }
        self.read_parked()?;
        self.hand_out_parked()?;
        self.close_release()
    }

    /// Looks for a graph whose records this lane has still to run.
    fn next_release(&mut self) -> Result<(), ProcessorError> {
        let epoch = self.around.streams.epoch();
        if self.release_asked == Some(epoch) || self.owned.is_empty() || !self.followed() {
            return Ok(());
        }
        // what an earlier release has handed out must be committed: the marks say where this one begins
        if self
            .out
            .iter()
            .chain([&self.sent])
            .any(|reach| !reach.released.is_empty())
        {
            return Ok(());
        }
        for of in self.around.streams.releasing()?.iter() {
            let from = self.unreleased(of)?;
            if !from.is_empty() {
                self.release = Some(self.open_release(of.clone(), from)?);
                return Ok(());
            }
        }
        self.release_asked = Some(epoch);
        Ok(())
    }

    /// The owned partitions that may have parked records of this graph.
    fn unreleased(&self, of: &Releasing) -> Result<Vec<From>, ProcessorError> {
        let count = self.config.parked_partitions.max(1);
        let name = (&*of.tenant, &*of.graph);
        let unknown: Vec<Partition> = self
            .owned
            .iter()
            .map(|o| &o.partition)
            .filter(|p| !self.around.notes.is_released(p, name, of.number))
            .cloned()
            .collect();
        let keys: Vec<Bytes> = unknown.iter().map(|p| released::key(of, p)).collect();
        let marks = if keys.is_empty() {
            Vec::new()
        } else {
            self.around.log.last(POSITIONS, &keys)?
        };
        let mut from = Vec::new();
        for (partition, mark) in unknown.into_iter().zip(marks) {
            let progress = mark.as_deref().map(Progress::parse).unwrap_or_default();
            if progress.done == Some(of.number) {
                self.around
                    .notes
                    .release(&partition, name.0, name.1, of.number);
                continue;
            }
            // what this owner knows counts, not what it noted
            let standing = match self.released_so_far.get(&partition) {
                Some((number, standing, committed)) if *number == of.number => {
                    standing.after_rewind(*committed, progress.next)
                }
                _ => Standing::New(progress.note),
            };
            from.push(From {
                parked: partition.number % count,
                partition,
                standing,
                next: progress.next,
                committed: progress.next,
            });
        }
        Ok(from)
    }

    fn open_release(&self, of: Releasing, mut from: Vec<From>) -> Result<Release, ProcessorError> {
        let log = &self.around.log;
        let mut read = BTreeMap::new();
        for one in &mut from {
            let parked = partition_of(one.parked);
            let (first, end) = log.offsets(&parked)?;
            // nothing that was parked before belongs to this pause; clocks may differ
            let since = log.offset_at(&parked, of.since_ms.saturating_sub(SKEW_MS))?;
            one.next = one.next.max(first).max(since);
            one.committed = one.next;
            let (next, _) = read.entry(one.parked).or_insert((one.next, end));
            *next = one.next.min(*next);
        }
        let at: Vec<(Partition, i64)> = read
            .iter()
            .map(|(number, (next, _))| (partition_of(*number), *next))
            .collect();
        tracing::info!(
            "lane {}: parked records of graph \"{}\" are {}",
            self.slot,
            of.graph,
            if of.deleted { "buried" } else { "released" }
        );
        Ok(Release {
            of,
            reader: log.reader(at, 4 * CHUNK_RECORDS)?,
            from,
            waiting: VecDeque::new(),
            read,
            phase: Phase::Behind,
            quiet: None,
            condemned: false,
        })
    }

    /// What is under way ends; it begins again from the marks.
    pub(super) fn forget_release(&mut self) {
        self.release_asked = None;
        if let Some(release) = self.release.take() {
            let number = release.of.number;
            for from in release.from {
                let known = (number, from.standing, from.committed);
                self.released_so_far.insert(from.partition, known);
            }
            for owned in &mut self.owned {
                let held = owned.held.as_mut();
                if let Some(hold) = held.filter(|hold| hold.until == Until::Released) {
                    hold.until = Until::Time(self.clock.now());
                }
            }
        }
    }

    fn read_parked(&mut self) -> Result<(), ProcessorError> {
        let Some(release) = &mut self.release else {
            return Ok(());
        };
        if release.waiting.len() >= CHUNK_RECORDS {
            return Ok(());
        }
        let Polled::Records(records) = release.reader.poll(Duration::ZERO)? else {
            return Ok(());
        };
        let now = self.clock.now();
        release.quiet = match records.is_empty() {
            true => release.quiet.or(Some(now)),
            false => None,
        };
        records.into_iter().for_each(|record| release.take(record));
        Ok(())
    }

    fn hand_out_parked(&mut self) -> Result<(), ProcessorError> {
        while !self.alone && self.work.room() {
            let Some(count) = self.cut_parked()? else {
                return Ok(());
            };
            let Some(release) = &mut self.release else {
                return Ok(());
            };
            let chunk: Vec<Fetched> = release.waiting.drain(..count).collect();
            let mut reach = Reach {
                records: chunk.len(),
                bytes: chunk.iter().map(size).sum(),
                ..Reach::default()
            };
            for record in &chunk {
                if let Some(at) = release.owner_of(record) {
                    let from = &mut release.from[at];
                    from.next = record.offset + 1;
                    reach.set_released(&from.partition, from.next);
                }
            }
            let condemned = std::mem::take(&mut release.condemned);
            let way = match (condemned, release.of.deleted) {
                (true, _) => Way::Condemned,
                (false, true) => Way::Buried,
                (false, false) => Way::Released,
            };
            self.out.push_back(reach);
            self.work.run(chunk, way, self.clock.unix_ms())?;
        }
        Ok(())
    }

    /// How many of those that wait make the next chunk; `None`: not now. As for records that come, one that kills its
    /// process again and again is found by running it alone; `Release::condemned` says that the one record is condemned.
    fn cut_parked(&mut self) -> Result<Option<usize>, ProcessorError> {
        let epoch = self.around.streams.epoch();
        let (mut count, mut bytes) = (0, 0);
        loop {
            let Some(release) = &mut self.release else {
                return Ok(None);
            };
            let Some(record) = release.waiting.get(count) else {
                return Ok((count > 0).then_some(count));
            };
            if self.around.notes.outage.holds(record).is_some() {
                return Ok((count > 0).then_some(count));
            }
            bytes += size(record);
            if count > 0 && (count >= CHUNK_RECORDS || bytes > CHUNK_BYTES) {
                return Ok(Some(count));
            }
            let (offset, Some(at)) = (record.offset, release.owner_of(record)) else {
                release.waiting.remove(count);
                continue;
            };
            match release.from[at].standing.next(offset, epoch) {
                Next::Together { below } if below.is_none_or(|below| offset < below) => count += 1,
                _ if count > 0 => return Ok(Some(count)),
                Next::Together { .. } | Next::Later => return Ok(None),
                Next::Count { note, then } => {
                    let next = release.from[at].committed;
                    self.note_parked(at, next, note)?;
                    if let Some(release) = &mut self.release {
                        release.from[at].standing = then;
                    }
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
                    self.note_parked(at, offset, note)?;
                    return Ok(Some(1));
                }
                Next::Condemned => {
                    release.condemned = true;
                    return Ok(Some(1));
                }
            }
        }
    }

    /// Commits a note about a partition's parked records, after what is sent.
    fn note_parked(&mut self, at: usize, next: i64, note: Note) -> Result<(), ProcessorError> {
        self.commit_sent()?;
        let Some(release) = &self.release else {
            return Ok(());
        };
        let from = release.from[at].partition.clone();
        let progress = Progress {
            next,
            note,
            done: None,
        };
        let mark = released::mark(&release.of, &from, &progress, self.clock.unix_ms());
        self.commit_with(vec![mark], &[from])
    }

    /// Commits records, together with the offsets of partitions as they are.
    fn commit_with(
        &mut self,
        records: Vec<Outgoing>,
        from: &[Partition],
    ) -> Result<(), ProcessorError> {
        let mut positions = Vec::new();
        self.touch(from.iter(), &mut positions)?;
        self.port.send(records)?;
        Ok(self.port.commit(positions)?)
    }

    /// The offsets of these partitions, as they were committed last, where they are not among the positions.
    fn touch<'p>(
        &self,
        from: impl Iterator<Item = &'p Partition>,
        positions: &mut Vec<Position>,
    ) -> Result<(), ProcessorError> {
        for partition in from {
            if positions.iter().any(|p| p.partition == *partition) {
                continue;
            }
            let owned = self.owned.iter().find(|o| o.partition == *partition);
            let Some(owned) = owned else {
                return Err(self.moved());
            };
            positions.push(Position {
                partition: partition.clone(),
                next_offset: owned.committed,
                metadata: owned.metadata.clone(),
            });
        }
        Ok(())
    }

    /// A commit is about to take parked records along: how far they come goes into it.
    pub(super) fn send_marks(
        &mut self,
        reached: &[(Partition, i64)],
        positions: &mut Vec<Position>,
    ) -> Result<(), ProcessorError> {
        if reached.is_empty() {
            return Ok(());
        }
        self.touch(reached.iter().map(|(partition, _)| partition), positions)?;
        let (epoch, now_ms) = (self.around.streams.epoch(), self.clock.unix_ms());
        let Some(release) = &mut self.release else {
            // it was forgotten while they ran: whoever begins again runs them
            return Err(self.moved());
        };
        let mut marks = Vec::with_capacity(reached.len());
        for (partition, next) in reached {
            let Some(from) = release.from.iter_mut().find(|f| f.partition == *partition) else {
                continue;
            };
            let (note, after) = from.standing.progress(*next, epoch);
            (from.standing, from.committed) = (after, *next);
            let progress = Progress {
                next: *next,
                note,
                done: None,
            };
            marks.push(released::mark(&release.of, partition, &progress, now_ms));
        }
        let records: usize = reached.len();
        counter!("weir_lane_released_partitions_total").increment(records as u64);
        Ok(self.port.send(marks)?)
    }

    /// Ends what has come to its end.
    fn close_release(&mut self) -> Result<(), ProcessorError> {
        let Some(release) = &self.release else {
            return Ok(());
        };
        match &release.phase {
            Phase::Behind => {
                // the last offsets may be those of transactions' own marks, which no reader brings
                let behind = release.read.values().any(|(next, end)| next < end);
                let now = self.clock.now();
                let quiet = release.quiet.is_some_and(|since| now >= since + QUIET);
                if (behind && !quiet) || !release.waiting.is_empty() {
                    return Ok(());
                }
                self.begin_closing()
            }
            Phase::Closing { open, .. } => {
                if !open.is_empty() || !release.waiting.is_empty() || !self.out.is_empty() {
                    return Ok(());
                }
                self.commit_sent()?;
                self.end_release()
            }
        }
    }

    /// Holds the partitions up, and writes the ends once nothing of them is under way.
    fn begin_closing(&mut self) -> Result<(), ProcessorError> {
        let Some(release) = &self.release else {
            return Ok(());
        };
        let from: Vec<Partition> = release.from.iter().map(|f| f.partition.clone()).collect();
        let parked: Vec<u32> = release.read.keys().copied().collect();
        for partition in &from {
            let Some(at) = self.owned.iter().position(|o| o.partition == *partition) else {
                return Err(self.moved());
            };
            if self.owned[at].held.is_none() {
                let next = self.next_offset(at);
                self.pending.forget(std::slice::from_ref(partition));
                self.hold(at, next, Until::Released)?;
            }
        }
        if !self.out.is_empty() {
            return Ok(());
        }
        self.commit_sent()?;
        let now_ms = self.clock.unix_ms();
        // the log's own offsets make it unique: nobody else commits these partitions
        let of = self.release.as_ref().map_or(0, |r| r.of.number);
        let token = format!("{}/{of}/{now_ms}", self.slot);
        let end = |number: u32| Outgoing {
            topic: PARKED.into(),
            partition: Some(number),
            record: Record {
                key: None,
                value: None,
                headers: vec![(END.to_owned(), Bytes::from(token.clone()))],
                timestamp_ms: now_ms,
            },
        };
        self.commit_with(parked.iter().copied().map(end).collect(), &from)?;
        if let Some(release) = &mut self.release {
            release.phase = Phase::Closing {
                token,
                open: parked,
            };
        }
        Ok(())
    }

    /// All of it has been run: from now on the graph's records run as they come.
    fn end_release(&mut self) -> Result<(), ProcessorError> {
        let Some(release) = &self.release else {
            return Ok(());
        };
        let (of, now_ms) = (release.of.clone(), self.clock.unix_ms());
        let mut marks = Vec::with_capacity(release.from.len());
        for from in &release.from {
            let read = release.read.get(&from.parked);
            let progress = Progress {
                next: read.map_or(from.next, |(next, _)| *next),
                note: Note::default(),
                done: Some(of.number),
            };
            marks.push(released::mark(&of, &from.partition, &progress, now_ms));
        }
        let from: Vec<Partition> = release.from.iter().map(|f| f.partition.clone()).collect();
        self.commit_with(marks, &from)?;
        for partition in &from {
            let notes = &self.around.notes;
            notes.release(partition, &of.tenant, &of.graph, of.number);
        }
        self.release = None;
        for at in 0..self.owned.len() {
            let held = self.owned[at].held.as_ref();
            if held.is_some_and(|hold| hold.until == Until::Released) {
                self.go_on(at)?;
            }
        }
        Ok(())
    }
}

/// A reader that brings nothing for so long has come to the end.
const QUIET: Duration = Duration::from_millis(300);
/// How far clocks may differ.
const SKEW_MS: i64 = 600_000;

fn partition_of(number: u32) -> Partition {
    Partition {
        topic: Topic::from(PARKED),
        number,
    }
}

impl Release {
    fn owner_of(&self, record: &Fetched) -> Option<usize> {
        let mut headers = record.record.headers.clone();
        let detour = Detour::take(&mut headers).ok()?;
        let (topic, number) = detour.last();
        self.from
            .iter()
            .position(|f| f.partition.number == number && *f.partition.topic == *topic)
    }

    /// A record of `weir.parked`.
    fn take(&mut self, record: Fetched) {
        let number = record.partition.number;
        if let Some((next, _)) = self.read.get_mut(&number) {
            *next = record.offset + 1;
        }
        if let Some((_, token)) = record.record.headers.iter().find(|(name, _)| name == END) {
            if let Phase::Closing { token: ours, open } = &mut self.phase
                && token[..] == *ours.as_bytes()
            {
                open.retain(|o| *o != number);
            }
            return;
        }
        let mut headers = record.record.headers.clone();
        let Ok(detour) = Detour::take(&mut headers) else {
            tracing::error!(
                "{PARKED}/{number}@{} is nothing that Weir parked",
                record.offset
            );
            return;
        };
        if detour.tenant != self.of.tenant || detour.graph != self.of.graph {
            return;
        }
        let at = self.owner_of(&record);
        if at.is_some_and(|at| record.offset >= self.from[at].next) {
            self.waiting.push_back(record);
        }
    }
}
