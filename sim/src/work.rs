//! The workers of a lane, in virtual time: the true executor, and a duration for each chunk.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use processor::{Clock, Executor, ProcessorError, Way, Work};
use topics::{Fetched, Outgoing};

use crate::broker::{MS, Micros, SECOND};
use crate::orders::kills;
use crate::port::SimLog;

/// As the true workers.
const OUT_MAX: usize = 3;

pub(crate) struct SimWork {
    log: SimLog,
    executor: Executor,
    out: VecDeque<(Micros, Result<Vec<Outgoing>, ProcessorError>)>,
    /// When everything that was handed out is done, forgotten or not.
    busy_until: Micros,
}

impl SimWork {
    pub(crate) fn new(log: SimLog, executor: Executor) -> Self {
        Self {
            log,
            executor,
            out: VecDeque::new(),
            busy_until: 0,
        }
    }

    /// How long a chunk takes; sometimes longer than a transaction may.
    fn duration(&self, records: usize) -> Micros {
        let mut state = self.log.world.state();
        let rate = state.faults.slow;
        if state.random.chance(rate) {
            return state.random.between(SECOND, 15 * SECOND);
        }
        let each = state.random.between(1, 2 * MS);
        records as u64 * each
    }

    fn became(
        &mut self,
        chunk: &[Fetched],
        way: Way,
        now_ms: i64,
    ) -> Result<Vec<Outgoing>, ProcessorError> {
        let trouble = {
            let mut state = self.log.world.state();
            let rate = state.faults.trouble;
            state.random.chance(rate)
        };
        if trouble {
            return Err(ProcessorError::Busy {
                step: "check".to_owned(),
            });
        }
        let mut all = Vec::new();
        for record in chunk {
            all.extend(self.executor.execute(record, way, now_ms)?);
        }
        Ok(all)
    }
}

impl Work for SimWork {
    fn room(&self) -> bool {
        self.out.len() < OUT_MAX
    }

    fn run(&mut self, chunk: Vec<Fetched>, way: Way, now_ms: i64) -> Result<(), ProcessorError> {
        let ready = self.busy_until.max(self.log.world.now()) + self.duration(chunk.len());
        self.busy_until = ready;
        let killer = way != Way::Condemned
            && chunk
                .iter()
                .any(|f| f.record.value.as_ref().is_some_and(|value| kills(value)));
        if killer {
            let mut state = self.log.world.state();
            let process = state.threads[self.log.thread].process;
            state.deaths.push((ready, process));
        }
        {
            let mut state = self.log.world.state();
            let thread = self.log.thread;
            state.trace(|| {
                let of: Vec<String> = chunk
                    .iter()
                    .map(|f| format!("{}/{}@{}", f.partition.topic, f.partition.number, f.offset))
                    .collect();
                format!("lane {thread} runs {} ({way:?})", of.join(" "))
            });
        }
        let became = self.became(&chunk, way, now_ms);
        self.out.push_back((ready, became));
        Ok(())
    }

    fn ready(&mut self, wait: Duration) -> Option<Result<Vec<Outgoing>, ProcessorError>> {
        let ready = self.out.front()?.0;
        let now = self.log.world.now();
        if ready > now && !wait.is_zero() {
            let wait = (wait.as_micros() as Micros).min(ready - now);
            self.log.world.pass(self.log.thread, wait);
        }
        if ready > self.log.world.now() {
            return None;
        }
        self.out.pop_front().map(|(_, became)| became)
    }

    fn forget(&mut self) {
        self.out.clear();
    }
}

/// Virtual time for the lane.
pub(crate) struct SimClock {
    pub(crate) log: SimLog,
    pub(crate) start: Instant,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.log.world.now())
    }

    fn unix_ms(&self) -> i64 {
        1_700_000_000_000 + (self.log.world.now() / MS) as i64
    }

    fn sleep(&self, wait: Duration) {
        self.log
            .world
            .pass(self.log.thread, wait.as_micros() as Micros);
    }
}
