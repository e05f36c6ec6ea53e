//! Graphs in motion, on the embedded log: what is parked while a graph is paused is run when it is resumed, once and in
//! order, also when the log fails under the lanes; and retries that give up their place.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use schemas::activation::{Activation, ActivationKind, ActivationState};
use schemas::records::{DeadLetter, FailureKind, SegmentResult};
use store::GraphState;
use topics::catalog::{DEAD_LETTERS, DELAYS_5S, GRAPHS, PARKED, RESULTS};
use topics::{Outgoing, Record};

use crate::faulty::Faults;
use crate::lanes::{Line, data, small};

const PATIENCE: Duration = Duration::from_secs(60);

impl Line {
    /// Tells the lanes of a change, as the control plane's source does.
    fn publish(&self, change: store::Activation, kind: ActivationKind) {
        assert!(change.changed, "{change:?}");
        let state = match change.state {
            GraphState::Active => ActivationState::Active,
            GraphState::Paused => ActivationState::Paused,
            GraphState::Resuming => ActivationState::Resuming,
            GraphState::Deleted => ActivationState::Deleted,
        };
        let activation = Activation {
            tenant: change.tenant,
            graph: change.graph,
            version: change.version,
            epoch: change.epoch,
            kind,
            state,
        };
        let record = Record {
            key: Some(activation.key()),
            value: Some(activation.encode()),
            headers: vec![],
            timestamp_ms: 1,
        };
        let record = Outgoing {
            topic: GRAPHS.into(),
            partition: Some(0),
            record,
        };
        let appended = self.log.appender();
        self.runtime
            .block_on(appended.append(vec![record]))
            .unwrap();
    }

    fn pause(&self) {
        let paused = self.store.pause("default", "g", 1);
        let paused = self.runtime.block_on(paused).unwrap();
        self.publish(paused, ActivationKind::Paused);
    }

    fn wake(&self) {
        let resumed = self.store.resume("default", "g", 2);
        let resumed = self.runtime.block_on(resumed).unwrap();
        self.publish(resumed, ActivationKind::Resumed);
    }

    fn state(&self) -> store::Activation {
        let active = self.store.active("default", "g");
        self.runtime.block_on(active).unwrap().unwrap()
    }

    /// Records of a topic so far.
    fn count(&self, topic: &str) -> i64 {
        let partitions = self.log.partitions(topic).unwrap();
        let end = |number| {
            let topic = topic.into();
            let partition = topics::Partition { topic, number };
            self.log.offsets(&partition).unwrap().1
        };
        (0..partitions).map(end).sum()
    }

    fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what} was waited for");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const KEYS: u64 = 37;

fn events(numbers: std::ops::Range<u64>) -> impl Iterator<Item = (String, String)> {
    numbers.map(|n| (format!("key-{}", n % KEYS), n.to_string()))
}

/// Each number once, and of each key in order.
fn check(results: &[SegmentResult], count: u64) {
    let (mut seen, mut last) = (vec![0; count as usize], HashMap::<u64, u64>::new());
    for result in results {
        assert_eq!(result.failure, None);
        let number: u64 = data(&result.outputs[0]).parse().unwrap();
        seen[number as usize] += 1;
        let before = last.insert(number % KEYS, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{number} of a key after {before:?}"
        );
    }
    assert!(seen.iter().all(|times| *times == 1), "each of them once");
}

#[test]
fn what_is_parked_is_run_once_and_in_order_while_more_comes_whatever_fails() {
    for every in [0, 11, 4] {
        let mut line = Line::start(&small(), Faults::every(every));
        line.apply("g", "  copy: { uses: copy, from: [t], isolation: batch }\n");
        line.trigger("g", events(0..500));
        line.until("the first results", |line| line.count(RESULTS) >= 500);
        line.pause();
        // lanes follow the pause a moment later: what comes before may still run
        for part in 0..8 {
            line.trigger("g", events(500 + part * 250..750 + part * 250));
        }
        line.until("everything to be run or parked", |line| {
            line.count(RESULTS) + line.count(PARKED) >= 2_500
        });
        assert!(line.count(PARKED) > 0, "nothing was parked");
        line.wake();
        for part in 0..10 {
            line.trigger("g", events(2_500 + part * 100..2_600 + part * 100));
            std::thread::sleep(Duration::from_millis(20));
        }
        line.until("all results", |line| line.count(RESULTS) >= 3_500);
        line.until("the release to be over", |line| {
            line.state().state == GraphState::Active
        });
        line.trigger("g", events(3_500..3_600));
        let results = line.results(3_600);
        check(&results, 3_600);
        line.stop();
        line.results(3_600);
        line.read(DEAD_LETTERS, 0);
        let faults = line.faults.done.load(Ordering::Acquire);
        assert!(every == 0 || faults > 5, "only {faults} faults");
    }
}

#[test]
fn lanes_that_are_stopped_in_the_middle_of_a_release_go_on_with_it() {
    let mut line = Line::start(&small(), Faults::every(0));
    line.apply("g", "  copy: { uses: copy, from: [t], isolation: batch }\n");
    line.pause();
    line.trigger("g", events(0..4_000));
    line.until("everything to be parked", |line| {
        line.count(RESULTS) + line.count(PARKED) >= 4_000
    });
    line.wake();
    for lanes in [1, 3, 2] {
        std::thread::sleep(Duration::from_millis(30));
        line.stop();
        line.resume(&processor::ProcessorConfig { lanes, ..small() });
    }
    let results = line.results(4_000);
    check(&results, 4_000);
    line.until("the release to be over", |line| {
        line.state().state == GraphState::Active
    });
    line.stop();
    line.results(4_000);
}

#[test]
fn what_is_parked_of_a_deleted_graph_becomes_dead_letters() {
    let mut line = Line::start(&small(), Faults::every(0));
    line.apply("g", "  copy: { uses: copy, from: [t], isolation: batch }\n");
    line.pause();
    line.trigger("g", events(0..300));
    line.until("everything to be run or parked", |line| {
        line.count(RESULTS) + line.count(PARKED) >= 300
    });
    let parked = line.count(PARKED);
    let deleted = line.store.delete("default", "g", 3);
    let deleted = line.runtime.block_on(deleted).unwrap();
    line.publish(deleted, ActivationKind::Deleted);
    line.until("all to be buried", |line| {
        line.count(DEAD_LETTERS) == parked
    });
    line.until("the burial to be over", |line| {
        line.state().paused_at_ms.is_none()
    });
    line.trigger("g", events(300..301));
    line.until("the next one to be refused", |line| {
        line.count(DEAD_LETTERS) == parked + 1
    });
    line.stop();
    let letters = line.read(DEAD_LETTERS, parked as usize + 1);
    for letter in &letters {
        let about = DeadLetter::from_headers(&letter.record.headers).unwrap();
        assert_eq!(about.kind, FailureKind::GraphGone);
        assert_eq!(
            about.topic,
            topics::catalog::TRIGGERS,
            "where it came from first"
        );
        assert_eq!(
            DeadLetter::original_headers(&letter.record.headers),
            [],
            "nothing of the detour is left"
        );
    }
}

#[test]
fn a_retry_that_gives_up_its_place_comes_back_and_others_go_on() {
    let mut line = Line::start(&small(), Faults::every(7));
    line.apply(
        "g",
        "  bad: { uses: bad, from: [t], retry: { attempts: 2, order: release } }\n",
    );
    let order = |what: &str| ("k".to_owned(), format!("{{\"do\":\"{what}\"}}"));
    line.trigger("g", [order("once"), order("nothing"), order("retry")]);
    line.until("the one that needs no retry", |line| {
        line.count(RESULTS) >= 1
    });
    line.until("two to wait", |line| line.count(DELAYS_5S) >= 2);
    let results = line.results(3);
    line.stop();
    let results_after = line.results(3);
    assert_eq!(results.len(), results_after.len());
    assert_eq!(results[0].trigger_id, "1", "it did not wait for the others");
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].kind, failed[0].attempt),
        (FailureKind::Retries, 2)
    );
    let letters = line.read(DEAD_LETTERS, 1);
    let about = DeadLetter::from_headers(&letters[0].record.headers).unwrap();
    assert_eq!(about.topic, topics::catalog::TRIGGERS);
    assert_eq!(about.attempt, 2);
}
