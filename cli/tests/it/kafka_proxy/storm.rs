//! Many lanes at once behind the proxy: T6, all kinds of faults on what transactions consist of; T7, answers to commits
//! that get lost when the broker has committed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use xtask::proxy::{Decide, Dice, Fault, Injected, Request, Seeded, Trouble, Until, api};

use super::World;
use super::lanes::{Found, Line};
use crate::proof::Row;

const SLOTS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
const SEED: u64 = 17_754;
/// Put on the log at once, and how often.
const BURST: u64 = 40;
const PACE: Duration = Duration::from_millis(100);
/// How often a lane more joins the others, and for how long: what it takes from them is aborted.
const GUEST_EVERY: Duration = Duration::from_secs(20);
const GUEST_STAYS: Duration = Duration::from_secs(5);
/// Faults must come at least this often, or something hangs.
const STALL: Duration = Duration::from_secs(60);

/// How many faults, from the environment where `make prove` asks for more.
fn faults(default: usize) -> usize {
    let set = std::env::var("WEIR_TEST_FAULTS").ok();
    set.and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs triggers through the lanes until so many faults have been done, and counts what became of them.
fn storm(decide: impl Decide + 'static, faults: usize) -> (Line, Found, Vec<Injected>) {
    let mut line = Line::start(World::start(|_: &Request| None));
    let lanes = line.processor(&SLOTS);
    line.trigger(BURST);
    line.settle();
    line.world.proxy.decide(decide);
    let (mut done, mut since, mut guest_at) = (0, Instant::now(), Instant::now());
    let mut guest = None;
    while done < faults {
        line.trigger(BURST);
        let until = Instant::now() + PACE;
        while Instant::now() < until {
            line.look(until.saturating_duration_since(Instant::now()));
        }
        let now = line.world.proxy.injected().len();
        if now > done {
            (done, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < STALL, "no fault after the {done}th");
        if guest.is_none() && guest_at.elapsed() > GUEST_EVERY {
            guest = Some(line.processor(&["guest"]));
            guest_at = Instant::now();
        } else if guest_at.elapsed() > GUEST_STAYS
            && let Some(guest) = guest.take()
        {
            guest.stop().unwrap();
            guest_at = Instant::now();
        }
    }
    line.settle();
    if let Some(guest) = guest {
        guest.stop().unwrap();
    }
    let healthy = lanes.healthy();
    lanes.stop().unwrap();
    assert!(healthy, "a lane ended");
    let found = line.check();
    let injected = line.world.proxy.injected();
    (line, found, injected)
}

fn kind(injected: &Injected) -> String {
    let what = match injected.fault {
        Fault::Request(Trouble::Delay { .. }) => "request delayed",
        Fault::Request(Trouble::Drop { .. }) => "request lost",
        Fault::Answer(Trouble::Delay { .. }) => "answer delayed",
        Fault::Answer(Trouble::Drop { .. }) => "answer lost",
        Fault::Twice => "request doubled",
        Fault::Late(Until::Elapsed(_)) => "first copy late",
        Fault::Late(Until::Next { .. }) => "first copy in the next transaction",
    };
    format!("{} {what}", api::name(injected.api))
}

/// How many of each kind, and what the broker said to copies.
fn tell(title: &str, line: &Line, found: &Found, injected: &[Injected], took: Duration) {
    let mut kinds: BTreeMap<(String, Option<i16>), usize> = BTreeMap::new();
    for one in injected {
        *kinds.entry((kind(one), one.answered)).or_default() += 1;
    }
    eprintln!(
        "{title}: {} faults, {} triggers, {took:.0?}: {found:?}",
        injected.len(),
        line.sent()
    );
    for ((kind, answered), count) in kinds {
        match answered {
            Some(0) => eprintln!("  {count} × {kind}, obeyed"),
            Some(error) => eprintln!("  {count} × {kind}, refused with error {error}"),
            None => eprintln!("  {count} × {kind}"),
        }
    }
}

#[test]
fn nothing_is_lost_and_nothing_twice_whatever_happens_to_a_transactions_requests() {
    let faults = faults(40);
    let begun = Instant::now();
    let (line, found, injected) = storm(Seeded::new(SEED, faults), faults);
    tell("T6", &line, &found, &injected, begun.elapsed());
    let passed = found == Found::default();
    Row {
        id: "T6",
        title: "KAFKA-17754: transactions' requests and answers delayed, lost, doubled and late",
        injected: injected.len(),
        expected: format!(
            "{} ids, one result each, offsets at the ends; 8 lanes; seed {SEED}; control: the plain loop of T6c is harmed",
            line.sent()
        ),
        lost: found.lost,
        duplicated: found.doubled,
        passed,
        took: begun.elapsed(),
        seed: Some(SEED),
    }
    .keep().unwrap();
    assert!(passed, "{found:?}; seed {SEED}");
}

/// Loses the answers to commits, and sees to it that nobody goes on with the producer that asked.
struct Lose {
    dice: Dice,
    left: usize,
    /// Transactional ids whose last commit got no answer and that have no new producer yet.
    open: HashSet<String>,
    spared: HashSet<String>,
    trusted: Arc<AtomicUsize>,
}

impl Decide for Lose {
    fn decide(&mut self, request: &Request) -> Option<Fault> {
        let id = request.transactional_id.as_ref()?;
        match request.api {
            api::INIT_PRODUCER_ID => {
                self.open.remove(id);
            }
            api::END_TXN if request.commits == Some(true) && !self.open.contains(id) => {
                // every second one of a lane, so that all get on
                if self.left == 0 || self.spared.insert(id.clone()) {
                    return None;
                }
                self.spared.remove(id);
                self.left -= 1;
                self.open.insert(id.clone());
                let cut = self.dice.below(4) > 0;
                return Some(Fault::Answer(Trouble::Drop { cut }));
            }
            // librdkafka asks once more by itself
            api::END_TXN => {}
            _ if self.open.contains(id) => {
                self.trusted.fetch_add(1, Ordering::AcqRel);
            }
            _ => {}
        }
        None
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_settled_by_a_new_producer() {
    let faults = faults(24);
    let begun = Instant::now();
    let trusted = Arc::new(AtomicUsize::new(0));
    let lose = Lose {
        dice: Dice::new(SEED),
        left: faults,
        open: HashSet::new(),
        spared: HashSet::new(),
        trusted: trusted.clone(),
    };
    let (line, found, injected) = storm(lose, faults);
    tell("T7", &line, &found, &injected, begun.elapsed());
    let trusted = trusted.load(Ordering::Acquire);
    let passed = found == Found::default() && trusted == 0;
    Row {
        id: "T7",
        title: "the answer to a commit is lost when the broker has committed",
        injected: injected.len(),
        expected: format!(
            "{} ids, one result each, offsets at the ends; the producer replaced every time, kept {trusted} times",
            line.sent()
        ),
        lost: found.lost,
        duplicated: found.doubled,
        passed,
        took: begun.elapsed(),
        seed: Some(SEED),
    }
    .keep().unwrap();
    assert!(passed, "{found:?}; went on {trusted} times");
}
