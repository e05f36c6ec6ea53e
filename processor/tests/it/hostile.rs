//! T10: steps that trap, loop, bomb and flood, through the line. Each of their events is a dead letter that says why; their neighbours' are
//! all there, and hardly later than without them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use schemas::records::{FailureKind, SegmentResult};
use topics::catalog::{DEAD_LETTERS, RESULTS};
use topics::{Partition, Polled};
use xtask::proof::{Row, full};

use crate::faulty::Faults;
use crate::lanes::{Line, small};

/// In a thousand: 10 trap, one each loops, bombs and floods; the others are well.
fn bad(number: usize) -> (&'static str, Option<FailureKind>) {
    match number % 1_000 {
        7 => (r#"{"do":"loop"}"#, Some(FailureKind::Timeout)),
        307 => (r#"{"do":"bomb"}"#, Some(FailureKind::OutOfMemory)),
        607 => (
            r#"{"do":"huge","n":10485760}"#,
            Some(FailureKind::OutputTooLarge),
        ),
        n if n % 100 == 3 => (r#"{"do":"panic"}"#, Some(FailureKind::Trap)),
        _ => ("{}", None),
    }
}

const GOOD: &str = "  copy: { uses: copy, from: [t], isolation: batch }\n";

/// Unoptimised, a bomb takes longer to go off.
fn bad_steps() -> String {
    let time = if full() { "100ms" } else { "1s" };
    format!(
        "  bad: {{ uses: bad, from: [t], isolation: batch, limits: {{ time: {time}, memory: 16MiB }} }}\n"
    )
}

#[test]
fn bad_steps_become_dead_letters_and_neighbours_hardly_notice() {
    let started = Instant::now();
    let events = if full() { 100_000 } else { 3_000 };
    let mut line = Line::start(&small(), Faults::every(0));
    line.apply("good", GOOD);
    line.apply("bad", &bad_steps());
    line.trigger("good", (0..200).map(|n| (format!("w{n}"), n.to_string())));
    line.trigger("bad", (0..200).map(|n| (format!("w{n}"), "{}".to_owned())));
    line.results(400);
    let alone = neighbours(&line, 400, None);
    let beside = neighbours(&line, 400 + alone.len(), Some(events));
    let count = 400 + alone.len() + beside.len() + events;
    let results: Vec<SegmentResult> = line.results(count);
    line.stop();
    let mut kinds: HashMap<Option<FailureKind>, usize> = HashMap::new();
    for result in results.iter().filter(|result| result.graph == "bad") {
        let kind = result.failure.as_ref().map(|failure| failure.kind);
        *kinds.entry(kind).or_default() += 1;
        if let Some(failure) = &result.failure {
            assert!(!failure.reason.is_empty() && failure.step.is_some());
        }
    }
    let mut expected: HashMap<Option<FailureKind>, usize> = HashMap::from([(None, 200)]);
    (0..events).for_each(|n| *expected.entry(bad(n).1).or_default() += 1);
    assert_eq!(kinds, expected);
    let broken: usize = expected
        .iter()
        .filter(|(kind, _)| kind.is_some())
        .map(|(_, n)| n)
        .sum();
    assert_eq!(line.read(DEAD_LETTERS, broken).len(), broken);
    let (p99_alone, p99_beside) = (p99(alone), p99(beside));
    let ratio = p99_beside.as_secs_f64() / p99_alone.as_secs_f64();
    Row {
        id: "T10",
        title: "steps that trap, loop, bomb and flood",
        injected: broken,
        expected: format!(
            "each a dead letter with its reason; neighbours' p99 {p99_beside:.1?} beside {p99_alone:.1?} alone ({ratio:.1} times)"
        ),
        passed: true,
        took: started.elapsed(),
        ..Row::default()
    }
    .keep()
    .unwrap();
}

/// Sends 20 good events at a time while bad ones come, and waits for them: how long each took.
fn neighbours(line: &Line, already: usize, bad_events: Option<usize>) -> Vec<Duration> {
    const ROUND: usize = 20;
    let rounds = 100;
    let mut reader = results(line);
    let mut skipped = 0;
    while skipped < already {
        skipped += polled(&mut *reader).len();
    }
    let mut took = Vec::new();
    for round in 0..rounds {
        if let Some(events) = bad_events {
            let (from, to) = (events * round / rounds, events * (round + 1) / rounds);
            line.trigger(
                "bad",
                (from..to).map(|n| (format!("b{n}"), bad(n).0.to_owned())),
            );
        }
        let sent = Instant::now();
        let event = |n: usize| (format!("g{round}-{n}"), n.to_string());
        line.trigger("good", (0..ROUND).map(event));
        let mut waiting = ROUND;
        while waiting > 0 {
            for result in polled(&mut *reader) {
                if result.graph == "good" {
                    waiting -= 1;
                    took.push(sent.elapsed());
                }
            }
            assert!(
                sent.elapsed() < Duration::from_secs(60),
                "neighbours wait for ever"
            );
        }
    }
    took
}

fn polled(reader: &mut dyn topics::Consumer) -> Vec<SegmentResult> {
    let Polled::Records(records) = reader.poll(Duration::from_millis(20)).unwrap() else {
        panic!("in no group");
    };
    let value = |record: topics::Fetched| record.record.value.unwrap();
    records
        .into_iter()
        .map(|record| SegmentResult::decode(&value(record)).unwrap())
        .collect()
}

fn results(line: &Line) -> Box<dyn topics::Consumer> {
    let from = (0..line.log.partitions(RESULTS).unwrap()).map(|number| {
        let partition = Partition {
            topic: RESULTS.into(),
            number,
        };
        (partition, 0)
    });
    line.log.reader(from.collect(), 10_000).unwrap()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}
