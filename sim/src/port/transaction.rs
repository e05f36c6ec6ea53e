//! A transactional producer. Which error leaves what behind is the rule of `topics::kafka`: abortable, broken, fenced.

use topics::{LogError, Outgoing, Position, Result};

use super::{SimLog, unavailable};
use crate::broken::Variant;
use crate::broker::{Claim, MS, Micros, Owner, Refusal, Request, SECOND};
use crate::faults::TIMEOUTS;

/// How long calls are repeated.
const FINISH: Micros = 8 * SECOND;
const INIT: Micros = 60 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Abortable,
    Broken,
    Fenced,
}

/// What came of a request.
enum Answer {
    Done,
    Refused(Refusal),
    /// The answer never came.
    Unknown,
}

/// What becomes of a request on its way.
enum Way {
    Good,
    Retriable,
    RequestLost,
    AnswerLost,
    Late(Micros),
}

pub(super) struct Transaction {
    log: SimLog,
    owner: Owner,
    health: Health,
    open: bool,
    /// Sent, and not on the log yet.
    buffered: Vec<Outgoing>,
    failed: bool,
    disturbed: bool,
}

impl Transaction {
    pub(super) fn take(log: SimLog, id: &str) -> Result<Self> {
        let owner = take(&log, id)?;
        Ok(Self {
            log,
            owner,
            health: Health::Good,
            open: false,
            buffered: Vec::new(),
            failed: false,
            disturbed: false,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.owner.id
    }

    pub(super) fn send(&mut self, records: Vec<Outgoing>) -> Result<()> {
        self.usable()?;
        self.begin();
        let (fails, part, now) = {
            let mut state = self.log.world.state();
            let rate = state.faults.unavailable;
            let fails = state.random.chance(rate);
            state.counts.unavailable += u64::from(fails);
            let part = state.random.index(records.len() + 1);
            (fails, part, state.random.below(2) == 0)
        };
        if fails {
            self.buffered.extend(records.into_iter().take(part));
            self.flush()?;
            self.health = Health::Abortable;
            return Err(unavailable("send"));
        }
        self.buffered.extend(records);
        if now { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(
        &mut self,
        positions: &[Position],
        claim: impl Fn() -> Option<Claim>,
        group: &str,
    ) -> Result<()> {
        self.usable()?;
        if !self.open && positions.is_empty() {
            return Ok(());
        }
        self.begin();
        let variant = self.log.world.state().variant;
        if variant == Variant::OffsetsOutside {
            let outputs = std::mem::take(&mut self.buffered);
            self.offsets(positions, &claim, group)?;
            self.end()?;
            self.buffered = outputs;
            self.begin();
            self.flush()?;
            return self.end();
        }
        self.flush()?;
        if self.failed && variant != Variant::OutputsForgotten {
            self.health = Health::Abortable;
            return Err(unavailable("delivery"));
        }
        if !positions.is_empty() {
            self.offsets(positions, &claim, group)?;
        }
        self.end()
    }

    fn begin(&mut self) {
        if !self.open {
            (self.open, self.failed, self.disturbed) = (true, false, false);
        }
    }

    fn usable(&self) -> Result<()> {
        match self.health {
            Health::Good => Ok(()),
            Health::Fenced => Err(self.fenced()),
            Health::Abortable | Health::Broken => Err(LogError::Uncertain {
                what: format!("the last transaction of \"{}\"", self.owner.id),
            }),
        }
    }

    fn fenced(&self) -> LogError {
        LogError::Fenced {
            owner: self.owner.id.clone(),
        }
    }

    /// Writes what is buffered, in its order.
    fn flush(&mut self) -> Result<()> {
        if self.buffered.is_empty() {
            return Ok(());
        }
        self.log.world.travel(self.log.thread);
        for outgoing in std::mem::take(&mut self.buffered) {
            loop {
                let produced = {
                    let mut state = self.log.world.state();
                    let rate = state.faults.delivery;
                    if state.random.chance(rate) {
                        state.counts.unavailable += 1;
                        self.failed = true;
                    }
                    if self.failed {
                        break;
                    }
                    state.broker.produce(&self.owner, outgoing.clone())
                };
                match produced {
                    Ok(_) => break,
                    Err(Refusal::Concurrent) => self.log.world.pass(self.log.thread, 20 * MS),
                    Err(_) => {
                        self.health = Health::Fenced;
                        return Err(self.fenced());
                    }
                }
            }
        }
        Ok(())
    }

    fn offsets(
        &mut self,
        positions: &[Position],
        claim: &impl Fn() -> Option<Claim>,
        group: &str,
    ) -> Result<()> {
        let Some(claim) = claim() else {
            self.health = Health::Abortable;
            return Err(LogError::Moved {
                group: group.to_owned(),
            });
        };
        let request = Request::Offsets(self.owner.clone(), claim, positions.to_vec());
        match self.ask(&request) {
            Answer::Done => Ok(()),
            Answer::Refused(Refusal::Moved) => {
                self.health = Health::Abortable;
                Err(LogError::Moved {
                    group: group.to_owned(),
                })
            }
            Answer::Refused(Refusal::Fenced) => {
                self.health = Health::Fenced;
                Err(self.fenced())
            }
            Answer::Refused(_) | Answer::Unknown => {
                self.health = Health::Broken;
                Err(unavailable("offsets"))
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        let begun = self.log.world.now();
        let answer = self.ask(&Request::End(self.owner.clone(), true));
        let took = self.log.world.now() - begun;
        let uncertain = match answer {
            Answer::Done => {
                self.open = false;
                self.disturbed || took > TIMEOUTS.socket / 2
            }
            Answer::Refused(Refusal::Fenced) => {
                self.health = Health::Fenced;
                return Err(self.fenced());
            }
            Answer::Refused(_) | Answer::Unknown => {
                self.health = Health::Broken;
                return Err(self.uncertain());
            }
        };
        let mut state = self.log.world.state();
        if uncertain && state.variant != Variant::TrustOk {
            state.counts.uncertain += 1;
            drop(state);
            self.health = Health::Broken;
            return Err(self.uncertain());
        }
        state.counts.commits += 1;
        Ok(())
    }

    fn uncertain(&self) -> LogError {
        LogError::Uncertain {
            what: format!("a transaction of \"{}\"", self.owner.id),
        }
    }

    /// Back to where a transaction may begin.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.buffered.clear();
        let variant = self.log.world.state().variant;
        let health = match self.health {
            Health::Broken if variant == Variant::AbortUncertain => Health::Abortable,
            health => health,
        };
        match health {
            Health::Fenced => return Err(self.fenced()),
            Health::Broken => return self.rebuild(),
            Health::Good | Health::Abortable if !self.open => {
                self.health = Health::Good;
                return Ok(());
            }
            Health::Good | Health::Abortable => {}
        }
        self.disturbed = false;
        let answer = self.ask(&Request::End(self.owner.clone(), false));
        let done = match answer {
            Answer::Done => !self.disturbed || variant == Variant::TrustAbort,
            Answer::Refused(Refusal::Fenced) => {
                self.health = Health::Fenced;
                return Err(self.fenced());
            }
            // What was opened had not come to the coordinator.
            Answer::Refused(Refusal::State) | Answer::Refused(_) | Answer::Unknown => false,
        };
        if done || variant == Variant::AbortUncertain {
            (self.open, self.health) = (false, Health::Good);
            return Ok(());
        }
        self.rebuild()
    }

    fn rebuild(&mut self) -> Result<()> {
        self.health = Health::Broken;
        self.owner = take(&self.log, &self.owner.id)?;
        (self.open, self.health) = (false, Health::Good);
        Ok(())
    }

    /// Sends a request until it is answered; what is repeated may be under way twice.
    fn ask(&mut self, request: &Request) -> Answer {
        let (world, thread) = (self.log.world.clone(), self.log.thread);
        let deadline = world.now() + FINISH;
        loop {
            world.travel(thread);
            let (way, wait, goes_on) = {
                let mut state = world.state();
                let way = way(&mut state);
                let wait = state.random.between(10 * MS, TIMEOUTS.socket);
                let goes_on = state.random.below(3) > 0 && state.now + wait < deadline;
                if !matches!(way, Way::Good) {
                    let name = name(request);
                    let what = match way {
                        Way::Good => "arrives",
                        Way::Retriable => "is refused for now",
                        Way::RequestLost => "is lost",
                        Way::AnswerLost => "is done, its answer is lost",
                        Way::Late(_) => "arrives later",
                    };
                    state.trace(|| format!("lane {thread}: {name} {what}; sent again: {goes_on}"));
                }
                (way, wait, goes_on)
            };
            match way {
                Way::Good => {
                    let answer = world.state().broker.request(request.clone());
                    world.travel(thread);
                    match answer {
                        Ok(()) => return Answer::Done,
                        Err(Refusal::Concurrent) => {
                            world.pass(thread, 20 * MS);
                            continue;
                        }
                        Err(refusal) => return Answer::Refused(refusal),
                    }
                }
                Way::Retriable => {
                    world.pass(thread, 100 * MS);
                    continue;
                }
                Way::RequestLost => {}
                Way::AnswerLost => drop(world.state().broker.request(request.clone())),
                Way::Late(late) => {
                    let mut state = world.state();
                    state.broker.later(late, request.clone());
                    // The request that opens a transaction may come twice as well.
                    if state.random.below(4) == 0 {
                        let begin = Request::Begin(self.owner.clone());
                        let more = state.random.between(0, 2 * SECOND);
                        state.broker.later(late + more, begin);
                    }
                }
            }
            self.disturbed = true;
            world.pass(thread, wait);
            if !goes_on {
                return Answer::Unknown;
            }
        }
    }
}

fn name(request: &Request) -> String {
    match request {
        Request::Begin(_) => "AddPartitionsToTxn".to_owned(),
        Request::Offsets(..) => "TxnOffsetCommit".to_owned(),
        Request::End(_, commit) => format!("EndTxn(commit: {commit})"),
    }
}

fn way(state: &mut crate::world::State) -> Way {
    let (lost, late, unavailable) = (
        state.faults.lost,
        state.faults.late,
        state.faults.unavailable,
    );
    if state.random.chance(lost) {
        state.counts.lost += 1;
        return if state.random.below(2) == 0 {
            Way::RequestLost
        } else {
            Way::AnswerLost
        };
    }
    if state.random.chance(late) {
        state.counts.late += 1;
        return Way::Late(state.random.between(100 * MS, 12 * SECOND));
    }
    if state.random.chance(unavailable) {
        state.counts.unavailable += 1;
        return Way::Retriable;
    }
    Way::Good
}

/// InitProducerId, until what the last owner left open has been settled.
fn take(log: &SimLog, id: &str) -> Result<Owner> {
    let deadline = log.world.now() + INIT;
    loop {
        log.ask("InitProducerId")?;
        let taken = {
            let mut state = log.world.state();
            let taken = state.broker.take(id, TIMEOUTS.transaction);
            let thread = log.thread;
            if let Ok(owner) = &taken {
                state.trace(|| format!("lane {thread} has \"{id}\", epoch {}", owner.epoch));
            }
            taken
        };
        match taken {
            Ok(owner) => return Ok(owner),
            Err(_) if log.world.now() < deadline => {
                log.world.pass(log.thread, 50 * MS);
            }
            Err(_) => return Err(unavailable("the last transaction does not end")),
        }
    }
}
