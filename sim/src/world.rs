//! One run's world: virtual time, the cluster, the processes, what was seen. Everything in it belongs to one thread; the
//! lock is there because the `Log` port is for threads.
//!
//! Each lane runs in a coroutine. `pass` is where it waits: for an answer, for records, for a worker, for time. There it
//! may also die, be frozen or be held.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::broken::Variant;
use crate::broker::{Broker, MS, MemberId, Micros, SECOND};
use crate::faults::{Faults, latency};
use crate::random::Random;

/// Stack of a coroutine, in words.
pub(crate) const STACK_WORDS: usize = 64 << 10;

/// What unwinds a lane whose process has died.
pub(crate) struct Death;

pub(crate) struct World(Mutex<State>);

/// One lane's owner thread.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) process: usize,
    pub(crate) dead: bool,
    pub(crate) member: Option<MemberId>,
}

/// One start of a process.
#[derive(Clone)]
pub(crate) struct Process {
    /// Which of the processes of the deployment it is; names its slots.
    pub(crate) place: usize,
    pub(crate) alive: bool,
    pub(crate) frozen_until: Micros,
    /// A new process has its slots: it will be ended when it wakes.
    pub(crate) replaced: bool,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) alone: Arc<AtomicBool>,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub commits: u64,
    pub aborts: u64,
    pub crashes: u64,
    pub freezes: u64,
    pub holds: u64,
    pub stops: u64,
    pub unavailable: u64,
    pub lost: u64,
    pub late: u64,
    pub uncertain: u64,
    pub fenced: u64,
    pub moved: u64,
}

impl Counts {
    /// Faults done.
    pub(crate) fn faults(&self) -> u64 {
        self.crashes
            + self.freezes
            + self.holds
            + self.stops
            + self.unavailable
            + self.lost
            + self.late
    }
}

pub(crate) struct State {
    pub(crate) now: Micros,
    pub(crate) random: Random,
    pub(crate) broker: Broker,
    pub(crate) faults: Faults,
    pub(crate) variant: Variant,
    pub(crate) threads: Vec<Thread>,
    pub(crate) processes: Vec<Process>,
    /// Processes that are to be started: when, and which place.
    pub(crate) starts: Vec<(Micros, usize)>,
    /// Deaths that stand: when, and of which process.
    pub(crate) deaths: Vec<(Micros, usize)>,
    pub(crate) counts: Counts,
    pub(crate) wrong: Vec<String>,
    trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(
        broker: Broker,
        faults: Faults,
        variant: Variant,
        random: Random,
        traced: bool,
    ) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            now: 0,
            random,
            broker,
            faults,
            variant,
            threads: Vec::new(),
            processes: Vec::new(),
            starts: Vec::new(),
            deaths: Vec::new(),
            counts: Counts::default(),
            wrong: Vec::new(),
            trace: traced.then(Vec::new),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub(crate) fn now(&self) -> Micros {
        self.state().now
    }

    /// A request's or an answer's way.
    pub(crate) fn travel(&self, thread: usize) {
        let wait = latency(&mut self.state().random);
        self.pass(thread, wait);
    }

    /// Lets time pass for this thread while others go on; it may die here.
    pub(crate) fn pass(&self, thread: usize, wait: Micros) {
        let until = {
            let mut state = self.state();
            state.counts.calls += 1;
            state.strike(thread);
            if state.threads[thread].dead {
                drop(state);
                die();
            }
            let held = state.hold(thread);
            state.now + (wait + held).max(1)
        };
        suspend(until);
        if self.state().threads[thread].dead {
            die();
        }
    }
}

fn die() -> ! {
    resume_unwind(Box::new(Death))
}

#[expect(
    deprecated,
    reason = "the scoped form would have to be carried through the port, which is for threads"
)]
fn suspend(until: Micros) {
    generator::yield_with(until);
}

impl State {
    /// The text is only made for the run that is shown.
    pub(crate) fn trace(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} ms  {}", now as f64 / 1e3, text()));
        }
    }

    pub(crate) fn traced(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.trace(|| format!("WRONG: {what}"));
        self.wrong.push(what);
    }

    fn strike(&mut self, thread: usize) {
        let process = self.threads[thread].process;
        if self.random.chance(self.faults.crash) {
            self.kill(process);
        } else if self.random.chance(self.faults.freeze) {
            self.freeze(process);
        } else if self.random.chance(self.faults.stop) {
            let process = &self.processes[process];
            if !process.stop.swap(true, Ordering::AcqRel) {
                let place = process.place;
                self.counts.stops += 1;
                self.trace(|| format!("process {place} is told to stop"));
            }
        }
        if self.random.chance(self.faults.stir) {
            self.broker.stir();
        }
    }

    /// A process dies: nobody is told.
    pub(crate) fn kill(&mut self, process: usize) {
        if !self.processes[process].alive {
            return;
        }
        let place = self.processes[process].place;
        self.trace(|| format!("process {place} dies"));
        self.counts.crashes += 1;
        self.end(process);
        if !self.processes[process].replaced {
            let wait = self.random.between(50 * MS, 3 * SECOND);
            self.starts.push((self.now + wait, place));
        }
    }

    fn end(&mut self, process: usize) {
        let now = self.now;
        self.processes[process].alive = false;
        for thread in self.threads.iter_mut().filter(|t| t.process == process) {
            thread.dead = true;
            if let Some(member) = thread.member {
                self.broker.group.silence(member, now, Micros::MAX);
            }
        }
    }

    /// Longer than the session, shorter or longer than a transaction may last.
    fn freeze(&mut self, process: usize) {
        if self.processes[process].frozen_until > self.now {
            return;
        }
        let place = self.processes[process].place;
        let wait = self.random.between(3 * SECOND, 20 * SECOND);
        let (now, until) = (self.now, self.now + wait);
        self.counts.freezes += 1;
        self.trace(|| format!("process {place} stands still for {} ms", wait / MS));
        self.processes[process].frozen_until = until;
        for thread in self
            .threads
            .iter()
            .filter(|t| t.process == process && !t.dead)
        {
            if let Some(member) = thread.member {
                self.broker.group.silence(member, now, until);
            }
        }
        if !self.processes[process].replaced && self.random.chance(self.faults.replace) {
            let wait = self.random.between(SECOND, wait);
            self.processes[process].replaced = true;
            self.starts.push((self.now + wait, place));
            // It goes on for a moment before it hears that it is over.
            let over = until + self.random.between(0, 2 * SECOND);
            self.deaths.push((over, process));
        }
    }

    /// The owner thread stands still; what else its process does goes on.
    fn hold(&mut self, thread: usize) -> Micros {
        if !self.random.chance(self.faults.hold) {
            return 0;
        }
        let wait = self.random.between(SECOND, 25 * SECOND);
        self.counts.holds += 1;
        self.trace(|| format!("lane {thread} is held for {} ms", wait / MS));
        wait
    }

    /// Everything goes well from now on.
    pub(crate) fn calm(&mut self) {
        self.faults = Faults::default();
        self.trace(|| "no more faults".to_owned());
    }
}
