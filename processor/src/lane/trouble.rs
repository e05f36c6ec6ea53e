//! The error rule: what a lane does when something goes wrong, and at its end.

use std::time::Duration;

use metrics::counter;
use topics::{Disposition, LogError, Partition};

use super::{BACKOFF_MAX, FINISH, Lane};
use crate::error::ProcessorError;
use crate::pending::Reach;

impl Lane {
    /// Waits until everything that is out has been sent; whether it was in time.
    pub(super) fn take_in(&mut self, wait: Duration) -> Result<bool, ProcessorError> {
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
        self.let_others_run_alone();
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
                // it is one topic sink's trouble: its segments fail when the batch runs again
                _ if self.bar(&trouble) => self.rewind(),
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
        let unstarted = self.take(assigned)?;
        // What this owner knows counts, not what it noted.
        for owned in &mut self.owned {
            if let Some(known) = before.iter().find(|o| o.partition == owned.partition) {
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
        let held = |p: &Partition| {
            self.owned
                .iter()
                .any(|o| o.partition == *p && o.held.is_some())
        };
        let all: Vec<Partition> = all.into_iter().filter(|p| !held(p)).collect();
        Ok(self.port.resume(&all)?)
    }

    /// A lane that lost its footing keeps nothing: not what runs, not what it had fetched.
    fn drop_everything(&mut self) {
        self.work.forget();
        self.out.clear();
        self.pending.clear();
        self.forget_release();
        self.sent = Reach::default();
        self.paused = false;
        self.let_others_run_alone();
        #[cfg(feature = "broken")]
        self.broken.drop_everything();
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
        ProcessorError::Payloads(_) | ProcessorError::NoPayloads { .. } => "payloads",
        ProcessorError::Busy { .. } => "busy",
        _ => "other",
    }
}
