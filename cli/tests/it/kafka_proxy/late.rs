//! One lane and one late copy at a time, where it hurts: each hazard of KAFKA-17754 that Kafka 4.3.1 and librdkafka 2.12.1
//! leave open, done to Weir's lane, which must not be harmed, and to a plain loop that trusts what librdkafka says, which
//! is: the control.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use topics::{Assigned, Join, Log, Outgoing, Partition, Polled, Position, Record, TopicSpec};
use xtask::proxy::{Fault, Injected, Request, Until, api};

use super::World;
use super::raw_tests::Raw;
use crate::proof::Row;
use crate::weir::PATIENCE;

const GROUP: &str = "copiers";
/// Transactions of one hazard.
const COUNT: i64 = 6;
/// The transaction that has the fault; the late copy arrives in the one after it.
const FAULT_AT: i64 = 2;

/// What copies offsets: reads position n, writes the result n and the position n + 1 in one transaction.
pub(super) trait Copier {
    /// Adds the result of a position to the open transaction.
    fn send(&mut self, result: Outgoing) -> bool;
    /// Whether the transaction has been committed, as far as it knows.
    fn commit(&mut self, position: Position) -> bool;
    /// Drops the transaction and goes back; returns the committed position.
    fn abort(&mut self) -> Option<i64>;
}

/// One way to be hit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hazard {
    name: &'static str,
    /// The request that is late, and right before which one of the next transaction it arrives.
    late: i16,
    commits: Option<bool>,
    before: i16,
    /// The transactions that are dropped once, and then done again.
    aborted: &'static [i64],
}

pub(super) const HAZARDS: [Hazard; 3] = [
    // the next transaction's results are dropped, its offsets are committed: lost
    Hazard {
        name: "abort before AddOffsetsToTxn",
        late: api::END_TXN,
        commits: Some(false),
        before: api::ADD_OFFSETS_TO_TXN,
        aborted: &[FAULT_AT],
    },
    // the next transaction is to be dropped, and is committed: its results come twice
    Hazard {
        name: "commit before an abort",
        late: api::END_TXN,
        commits: Some(true),
        before: api::END_TXN,
        aborted: &[FAULT_AT + 1],
    },
    // the next transaction commits the offsets of the one before: after a restart its results come twice
    Hazard {
        name: "offsets before EndTxn",
        late: api::TXN_OFFSET_COMMIT,
        commits: None,
        before: api::END_TXN,
        aborted: &[],
    },
];

/// What became of the positions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) lost: usize,
    pub(super) doubled: usize,
}

impl Hazard {
    /// Hits this transactional id once, at the position `FAULT_AT`.
    fn script(
        self,
        id: String,
        at: Arc<AtomicI64>,
    ) -> impl FnMut(&Request) -> Option<Fault> + Send {
        let mut done = false;
        move |request| {
            let here = !done
                && at.load(Ordering::Acquire) == FAULT_AT
                && request.transactional_id.as_deref() == Some(&id)
                && request.api == self.late
                && (self.commits.is_none() || self.commits == request.commits);
            if !here {
                return None;
            }
            done = true;
            Some(Fault::Late(Until::Next {
                api: self.before,
                held: Duration::ZERO,
            }))
        }
    }

    fn topics(self, number: usize, kind: &str) -> (String, String) {
        (
            format!("in-{kind}-{number}"),
            format!("out-{kind}-{number}"),
        )
    }
}

fn result(topic: &str, position: i64) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition: Some(0),
        record: Record {
            value: Some(position.to_string().into_bytes().into()),
            timestamp_ms: 1,
            ..Record::default()
        },
    }
}

fn partition(topic: &str) -> Partition {
    Partition {
        topic: topic.into(),
        number: 0,
    }
}

/// Goes over the positions from the committed one to the last; a transaction that is to be aborted is, the first time.
fn copy(
    copier: &mut dyn Copier,
    from: i64,
    hazard: Hazard,
    (input, output): (&str, &str),
    at: &AtomicI64,
) {
    let mut aborted: Vec<i64> = hazard.aborted.to_vec();
    let mut next = from;
    let deadline = Instant::now() + PATIENCE;
    while next < COUNT {
        assert!(
            Instant::now() < deadline,
            "{}: stuck at {next}",
            hazard.name
        );
        at.store(next, Ordering::Release);
        // a lane holds records back that come right after a commit: the transaction shall have begun
        std::thread::park_timeout(Duration::from_millis(20));
        let sent = copier.send(result(output, next));
        let to_abort = aborted.iter().position(|position| *position == next);
        if let Some(place) = to_abort {
            aborted.swap_remove(place);
        }
        let position = Position {
            partition: partition(input),
            next_offset: next + 1,
            metadata: String::new(),
        };
        if sent && to_abort.is_none() && copier.commit(position) {
            next += 1;
        } else if let Some(committed) = copier.abort() {
            next = committed;
        }
    }
}

/// Committed results, counted.
fn count(log: &dyn Log, output: &str) -> Outcome {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let place = partition(output);
    let deadline = Instant::now() + PATIENCE;
    let (start, mut end) = log.offsets(&place).unwrap();
    // an open transaction that nobody ends hides what comes after it until the broker aborts it
    loop {
        std::thread::park_timeout(Duration::from_millis(500));
        let (_, now) = log.offsets(&place).unwrap();
        if now == end || Instant::now() > deadline {
            break;
        }
        end = now;
    }
    let mut reader = log.reader(vec![(place, start)], 100).unwrap();
    let mut quiet = 0;
    while quiet < 5 {
        let Polled::Records(records) = reader.poll(Duration::from_millis(200)).unwrap() else {
            panic!("in no group")
        };
        quiet = if records.is_empty() { quiet + 1 } else { 0 };
        for fetched in records {
            let value = String::from_utf8(fetched.record.value.unwrap().to_vec()).unwrap();
            *seen.entry(value).or_default() += 1;
        }
    }
    Outcome {
        lost: (0..COUNT)
            .filter(|n| !seen.contains_key(&n.to_string()))
            .count(),
        doubled: seen.values().filter(|count| **count > 1).count(),
    }
}

/// Weir's lane.
struct Mine {
    lane: Box<dyn topics::Lane>,
    input: String,
}

impl Mine {
    fn open(log: &dyn Log, input: &str, slot: &str) -> (Self, i64) {
        let join = Join {
            group: format!("{GROUP}-{input}"),
            topics: vec![input.into()],
            records_max: 10,
            bytes_max: 1 << 20,
        };
        let mut lane = log.lane(join, slot).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no partition came");
            if let Polled::Assigned(assigned) = lane.poll(Duration::from_millis(100)).unwrap() {
                let from = committed(&assigned).unwrap_or(0);
                let input = input.to_owned();
                return (Self { lane, input }, from);
            }
        }
    }
}

fn committed(assigned: &[Assigned]) -> Option<i64> {
    assigned
        .first()
        .map(|found| found.committed.as_ref().map_or(0, |at| at.next_offset))
}

impl Copier for Mine {
    fn send(&mut self, result: Outgoing) -> bool {
        self.lane.send(vec![result]).is_ok()
    }

    fn commit(&mut self, position: Position) -> bool {
        let done = self.lane.commit(vec![position]);
        if let Err(error) = &done {
            eprintln!("{}: {error}", self.input);
        }
        done.is_ok()
    }

    fn abort(&mut self) -> Option<i64> {
        let aborted = self.lane.abort();
        if let Err(error) = &aborted {
            eprintln!("{}: {error}", self.input);
        }
        committed(&aborted.ok()?)
    }
}

fn explain(hazard: Hazard, kind: &str, injected: &[Injected], outcome: &Outcome) {
    let faults: Vec<String> = injected
        .iter()
        .map(|i| {
            format!(
                "{} late, the broker said {:?}",
                api::name(i.api),
                i.answered
            )
        })
        .collect();
    eprintln!("{kind}, {}: {faults:?}; {outcome:?}", hazard.name);
}

/// Each hazard, on the lane and on the plain loop.
#[test]
fn a_late_copy_harms_a_lane_as_little_as_it_harms_a_plain_loop_much() {
    let world = World::start(|_: &Request| None);
    let direct = world.direct();
    let begun = Instant::now();
    let (mut before, mut failed) = (0, Vec::new());
    // of the lane and of the plain loop
    let (mut mine, mut theirs) = (Outcome::default(), Outcome::default());
    for (number, hazard) in HAZARDS.into_iter().enumerate() {
        for kind in ["lane", "raw"] {
            let (input, output) = hazard.topics(number, kind);
            direct
                .create_topics(&[TopicSpec::new(&input, 1), TopicSpec::new(&output, 1)])
                .unwrap();
            let group = format!("{GROUP}-{input}");
            let at = Arc::new(AtomicI64::new(-1));
            let id = format!("{group}-0");
            world.proxy.decide(hazard.script(id, at.clone()));
            if kind == "lane" {
                let log = world.proxied();
                // the second time is a restart
                for _ in 0..2 {
                    let (mut lane, from) = Mine::open(&*log, &input, "0");
                    copy(&mut lane, from, hazard, (&input, &output), &at);
                }
            } else {
                for _ in 0..2 {
                    let (mut raw, from) = Raw::open(&world.proxy.address(), &input, &group);
                    copy(&mut raw, from, hazard, (&input, &output), &at);
                }
            }
            let outcome = count(&*direct, &output);
            let all = world.proxy.injected();
            explain(hazard, kind, &all[before..], &outcome);
            assert_eq!(all.len(), before + 1, "the fault was not done");
            before = all.len();
            let sum = if kind == "lane" {
                if outcome != Outcome::default() {
                    failed.push(hazard.name);
                }
                &mut mine
            } else {
                &mut theirs
            };
            sum.lost += outcome.lost;
            sum.doubled += outcome.doubled;
        }
    }
    let caught = theirs != Outcome::default();
    Row {
        id: "T6c",
        title: "late copies one by one: each hazard on a lane, and on a plain loop without the mitigation",
        injected: before,
        expected: format!(
            "the plain loop is harmed; it lost {} and doubled {}",
            theirs.lost, theirs.doubled
        ),
        lost: mine.lost,
        duplicated: mine.doubled,
        passed: failed.is_empty() && caught,
        took: begun.elapsed(),
        seed: None,
    }
    .keep().unwrap();
    assert!(failed.is_empty(), "a lane was harmed by: {failed:?}");
    assert!(
        caught,
        "a loop that trusts librdkafka came through: the late copies are not late"
    );
}
