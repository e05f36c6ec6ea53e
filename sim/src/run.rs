//! One seed: a deployment of processes, what is sent to it, faults for a while, then calm; and the count.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use generator::{Generator, Gn};
use processor::{
    Executor, Graphs, Lane, ProcessorConfig, ProcessorError, Reads, Surroundings, TopicIds,
};
use topics::catalog::{DEAD_LETTERS, HOPS, POSITIONS, RESULTS, TRIGGERS};

use crate::broken::Variant;
use crate::broker::{Broker, MS, Micros, Owner, Request, SECOND};
use crate::check::{Verdict, check};
use crate::faults::{Faults, TIMEOUTS};
use crate::orders::{Closures, Kind, OneGraph, Order, Still, order};
use crate::port::SimLog;
use crate::random::Random;
use crate::work::{SimClock, SimWork};
use crate::world::{Counts, Death, Process, STACK_WORDS, Thread, World};

/// After the last fault everything has to be done within this time, in the world's time.
const PATIENCE: Micros = 240 * SECOND;
/// Requests that are still under way, and zombies, get this long to do harm.
const AFTER: Micros = 15 * SECOND;

/// What a seed came to.
#[derive(Clone, Debug)]
pub struct Ran {
    pub seed: u64,
    pub verdict: Verdict,
    pub counts: Counts,
    pub orders: usize,
    /// Virtual time.
    pub took: Duration,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs a seed. `traced`: what happens is kept in words.
pub fn run(seed: u64, variant: Variant, traced: bool) -> Ran {
    let mut sim = Sim::new(seed, variant, traced);
    sim.go();
    sim.end(seed)
}

struct Fiber {
    generator: Generator<'static, (), Micros>,
    wake: Micros,
    ended: bool,
}

/// Something that the outside world does.
enum Act {
    Append(Order),
    /// A foreign producer's transaction: begins, or ends; without an end it dies.
    Foreign(String, Vec<Order>),
    End(String, bool),
}

struct Sim {
    world: Arc<World>,
    fibers: Vec<Fiber>,
    graphs: Arc<dyn Graphs>,
    config: ProcessorConfig,
    /// What each lane of a process reads.
    lanes: Vec<Reads>,
    acts: Vec<(Micros, Act)>,
    foreign: Vec<Owner>,
    orders: Vec<Order>,
    calm_at: Micros,
    start: Instant,
}

thread_local! {
    static GRAPH: Arc<OneGraph> = Arc::new(OneGraph::load());
}

impl Sim {
    fn new(seed: u64, variant: Variant, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults::draw(&mut random);
        let topics = [
            (TRIGGERS, random.between(1, 4) as u32),
            (HOPS, random.between(1, 3) as u32),
            (RESULTS, random.between(1, 3) as u32),
            (DEAD_LETTERS, 1),
            (POSITIONS, 1),
        ];
        let mut broker = Broker::new(&topics, &[TRIGGERS, HOPS], Random::new(random.next()));
        broker.group.session = TIMEOUTS.session;
        broker.group.max_poll = TIMEOUTS.max_poll;
        let config = ProcessorConfig {
            batch_records_max: random.between(1, 60) as usize,
            commit_interval: Duration::from_millis(match random.below(4) {
                0 => random.below(2_000),
                _ => random.below(150),
            }),
            ..ProcessorConfig::default()
        };
        let calm_at = random.between(5 * SECOND, 40 * SECOND);
        let processes = random.between(1, 3) as usize;
        let lanes = match random.below(3) {
            0 => vec![Reads::Both],
            1 => vec![Reads::Both, Reads::Both],
            _ => vec![Reads::Triggers, Reads::Hops],
        };
        let (acts, orders) = acts(&mut random, calm_at);
        let world = World::new(broker, faults, variant, random, traced);
        world.state().starts = (0..processes).map(|place| (0, place)).collect();
        Self {
            world,
            fibers: Vec::new(),
            graphs: GRAPH.with(|graph| graph.clone()),
            config,
            lanes,
            acts,
            foreign: Vec::new(),
            orders,
            calm_at,
            start: Instant::now(),
        }
    }

    /// Whoever is to go on next does, until everything is done or patience ends.
    fn go(&mut self) {
        let mut calm = false;
        let mut done_at: Option<Micros> = None;
        loop {
            let now = self.step();
            if !calm && now >= self.calm_at {
                calm = true;
                self.world.state().calm();
            }
            if !calm || !self.acts.is_empty() {
                continue;
            }
            let mut state = self.world.state();
            if !state.wrong.is_empty() || !state.broker.broken.is_empty() {
                return;
            }
            if !state.broker.settled() {
                done_at = None;
                if now > self.calm_at + PATIENCE {
                    let left = state.broker.unsettled();
                    state.wrong(format!("it does not come to an end: {left}"));
                    return;
                }
            } else if *done_at.get_or_insert(now) + AFTER < now {
                return;
            }
        }
    }

    /// Time goes to whatever is next: a fiber that wakes, a start, a death, something that is sent.
    fn step(&mut self) -> Micros {
        let mut next = Micros::MAX;
        let mut fiber = None;
        {
            let state = self.world.state();
            for (at, found) in self.fibers.iter().enumerate().filter(|(_, f)| !f.ended) {
                let thread = &state.threads[at];
                let wake = if thread.dead {
                    state.now
                } else {
                    found.wake.max(state.processes[thread.process].frozen_until)
                };
                if wake < next {
                    (next, fiber) = (wake, Some(at));
                }
            }
            let others = state.starts.iter().map(|(when, _)| *when);
            let others = others.chain(state.deaths.iter().map(|(when, _)| *when));
            let others = others.chain(self.acts.iter().map(|(when, _)| *when));
            if let Some(other) = others.min().filter(|other| *other <= next) {
                (next, fiber) = (other, None);
            }
        }
        let now = {
            let mut state = self.world.state();
            // Nobody is there: time goes on all the same.
            next = if next == Micros::MAX {
                state.now + SECOND
            } else {
                next.max(state.now)
            };
            state.now = next;
            state.broker.advance(next);
            next
        };
        match fiber {
            Some(at) => self.resume(at),
            None => self.outside(now),
        }
        now
    }

    fn resume(&mut self, at: usize) {
        let fiber = &mut self.fibers[at];
        let wake = fiber.generator.resume();
        fiber.ended = fiber.generator.is_done();
        fiber.wake = wake.unwrap_or(0);
        if fiber.ended {
            let mut state = self.world.state();
            let process = state.threads[at].process;
            let was_dead = state.threads[at].dead;
            state.threads[at].dead = true;
            let over = state.threads.iter().all(|t| t.process != process || t.dead);
            // One that ended by itself, or was told to, is started again.
            if over && !was_dead && state.processes[process].alive {
                state.processes[process].alive = false;
                if !state.processes[process].replaced {
                    let place = state.processes[process].place;
                    let wait = state.random.between(50 * MS, 2 * SECOND);
                    let when = state.now + wait;
                    state.starts.push((when, place));
                }
            }
        }
    }

    fn outside(&mut self, now: Micros) {
        let (starts, deaths) = {
            let mut state = self.world.state();
            let starts: Vec<usize> = state
                .starts
                .extract_if(.., |(when, _)| *when <= now)
                .map(|(_, place)| place)
                .collect();
            let deaths: Vec<usize> = state
                .deaths
                .extract_if(.., |(when, _)| *when <= now)
                .map(|(_, process)| process)
                .collect();
            (starts, deaths)
        };
        for process in deaths {
            self.world.state().kill(process);
        }
        for place in starts {
            self.start(place);
        }
        while self.acts.first().is_some_and(|(when, _)| *when <= now) {
            let (_, act) = self.acts.remove(0);
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        let mut state = self.world.state();
        match act {
            Act::Append(order) => {
                state.trace(|| format!("{:?} {} is sent", order.kind, order.execution));
                state.broker.append(order.outgoing);
            }
            Act::Foreign(id, orders) => {
                let Ok(owner) = state.broker.take(&id, TIMEOUTS.transaction) else {
                    return;
                };
                for order in orders {
                    state.trace(|| {
                        format!(
                            "{:?} {} is sent in a transaction",
                            order.kind, order.execution
                        )
                    });
                    state.broker.produce(&owner, order.outgoing).ok();
                }
                self.foreign.push(owner);
            }
            Act::End(id, commit) => {
                if let Some(owner) = self.foreign.iter().find(|owner| owner.id == id) {
                    let request = Request::End(owner.clone(), commit);
                    state.broker.request(request).ok();
                }
            }
        }
    }

    /// A process starts, with its lanes.
    fn start(&mut self, place: usize) {
        let process = {
            let mut state = self.world.state();
            state.trace(|| format!("process {place} starts"));
            state.processes.push(Process {
                place,
                alive: true,
                frozen_until: 0,
                replaced: false,
                stop: Arc::new(AtomicBool::new(false)),
                alone: Arc::new(AtomicBool::new(false)),
            });
            state.processes.len() - 1
        };
        for (lane, reads) in self.lanes.clone().into_iter().enumerate() {
            let thread = {
                let mut state = self.world.state();
                state.threads.push(Thread {
                    process,
                    dead: false,
                    member: None,
                });
                state.threads.len() - 1
            };
            let owner = OwnerThread {
                log: SimLog {
                    world: self.world.clone(),
                    thread,
                },
                slot: format!("{place}-{lane}"),
                reads,
                graphs: self.graphs.clone(),
                config: self.config.clone(),
                start: self.start,
            };
            let now = self.world.now();
            self.fibers.push(Fiber {
                generator: Gn::new_opt(STACK_WORDS, move || owner.run()),
                wake: now,
                ended: false,
            });
        }
    }

    fn end(mut self, seed: u64) -> Ran {
        // Every coroutine ends before it is dropped.
        {
            let mut state = self.world.state();
            state
                .threads
                .iter_mut()
                .for_each(|thread| thread.dead = true);
        }
        for fiber in self.fibers.iter_mut().filter(|fiber| !fiber.ended) {
            fiber.generator.resume();
        }
        let mut state = self.world.state();
        let counts = state.counts;
        // Whatever cuts an owner off leaves a count behind, as a death does.
        let cut_off =
            state.broker.group.expelled + state.broker.timeouts + counts.fenced + counts.moved;
        let deaths = counts.crashes + counts.freezes + counts.stops + cut_off;
        let mut verdict = check(&state.broker, &self.orders, deaths);
        verdict.wrong.splice(0..0, std::mem::take(&mut state.wrong));
        Ran {
            seed,
            verdict,
            counts,
            orders: self.orders.len(),
            took: Duration::from_micros(state.now),
            trace: state.traced(),
        }
    }
}

/// A lane's owner thread, as `Processor` starts it.
struct OwnerThread {
    log: SimLog,
    slot: String,
    reads: Reads,
    graphs: Arc<dyn Graphs>,
    config: ProcessorConfig,
    start: Instant,
}

impl OwnerThread {
    fn run(self) -> Micros {
        let (world, thread) = (self.log.world.clone(), self.log.thread);
        match catch_unwind(AssertUnwindSafe(|| self.lane())) {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => world
                .state()
                .wrong(format!("lane {thread} stopped: {trouble}")),
            Err(payload) if payload.is::<Death>() => {}
            Err(payload) => {
                let said = payload.downcast_ref::<String>().map(String::as_str);
                let said = said
                    .or_else(|| payload.downcast_ref::<&str>().copied())
                    .unwrap_or("?")
                    .to_owned();
                world
                    .state()
                    .wrong(format!("lane {thread} panicked: {said}"));
            }
        }
        0
    }

    fn lane(self) -> Result<(), ProcessorError> {
        let around = {
            let state = self.log.world.state();
            let process = &state.processes[state.threads[self.log.thread].process];
            Surroundings {
                log: Arc::new(self.log.clone()),
                ids: Arc::new(TopicIds::new(Arc::new(self.log.clone()))),
                streams: Arc::new(Still),
                notes: Arc::default(),
                alone: process.alone.clone(),
                stop: process.stop.clone(),
            }
        };
        loop {
            let steps = Box::new(Closures);
            let executor = Executor::with(
                self.graphs.clone(),
                steps,
                self.config.clone(),
                around.notes.clone(),
            );
            let work = Box::new(SimWork::new(self.log.clone(), executor));
            let clock = Box::new(SimClock {
                log: self.log.clone(),
                start: self.start,
            });
            match Lane::open(
                &self.slot,
                self.reads,
                around.clone(),
                self.config.clone(),
                work,
                clock,
            ) {
                Ok(lane) => return lane.run(),
                // The process would end and be started again.
                Err(_) => self.log.world.pass(self.log.thread, 200 * MS),
            }
        }
    }
}

/// What is sent, and when: most of it while faults happen.
fn acts(random: &mut Random, calm_at: Micros) -> (Vec<(Micros, Act)>, Vec<Order>) {
    let large = random.below(200) == 0;
    let count = if large {
        random.between(1_500, 3_000)
    } else {
        random.between(5, 80)
    };
    // Killers are dear: three deaths each.
    let killers = random.below(12) == 0 && !large;
    let (mut acts, mut orders) = (Vec::new(), Vec::new());
    let mut number = 0;
    while number < count {
        let when = if large {
            random.below(2 * SECOND)
        } else {
            random.below(calm_at)
        };
        let foreign = random.below(40) == 0;
        let some = if foreign { random.between(1, 4) } else { 1 };
        let fate = random.below(3);
        let mut sent = Vec::new();
        for _ in 0..some {
            let kind = match random.below(20) {
                _ if foreign && fate > 0 => Kind::Aborted,
                0 => Kind::Reject,
                1 => Kind::Trap,
                2 => Kind::Garbage,
                3 if killers && random.below(4) == 0 => Kind::Killer,
                4..=6 => Kind::Hops(1),
                7 => Kind::Hops(2),
                _ => Kind::Copy,
            };
            sent.push(order(number, random, kind));
            number += 1;
        }
        orders.extend(sent.iter().cloned());
        if foreign {
            let id = format!("foreign-{number}");
            let wait = random.between(MS, 9 * SECOND);
            acts.push((when, Act::Foreign(id.clone(), sent)));
            match fate {
                0 => acts.push((when + wait, Act::End(id, true))),
                1 => acts.push((when + wait, Act::End(id, false))),
                _ => {} // it dies, and its transaction times out
            }
        } else {
            acts.extend(sent.into_iter().map(|order| (when, Act::Append(order))));
        }
    }
    acts.sort_by_key(|(when, _)| *when);
    (acts, orders)
}
