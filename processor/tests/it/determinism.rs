//! T18: past triggers run again, on the same version, give the very bytes that were committed. What steps make of clocks and randomness, and
//! hops and retries, included.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use processor::Loaded;
use processor::rehearsal::Rehearsal;
use processor::wasm::{Engine, EngineConfig, Nowhere};
use schemas::graph::Graph;
use schemas::records::SegmentResult;
use topics::catalog::{RESULTS, TRIGGERS};
use xtask::proof::{Row, full};

use crate::faulty::Faults;
use crate::lanes::{Line, small};

const STEPS: &str = "  json: { uses: json, from: [t], isolation: batch }
  rand: { uses: wasi, from: [t], isolation: batch, on_error: continue, log: true }
  seen: { uses: echo, from: [json, rand], join: all }
  fan: { uses: fan, from: [t], ports: [a, b, c] }
  far: { uses: copy, from: [fan.a], hop: event.key, isolation: batch }
  bad: { uses: bad, from: [fan.b], retry: { attempts: 2, backoff: constant } }
";

#[test]
fn past_triggers_give_the_same_bytes() {
    let started = Instant::now();
    let events = if full() { 100_000 } else { 1_500 };
    let mut line = Line::start(&small(), Faults::every(0));
    line.apply("g", STEPS);
    let event = |n: usize| {
        let what = ["random", "time", "now", "uuid"][n % 4];
        (
            format!("key-{}", n % 53),
            format!(r#"{{"do":"{what}","n":{n},"ports":["a","b","a"]}}"#),
        )
    };
    line.trigger("g", (0..events).map(event));
    // each trigger hops twice
    let committed: HashMap<[u8; 16], Vec<u8>> = line
        .read(RESULTS, events * 3)
        .into_iter()
        .map(|record| {
            let value = record.record.value.unwrap();
            (
                SegmentResult::decode(&value).unwrap().segment,
                value.to_vec(),
            )
        })
        .collect();
    assert_eq!(committed.len(), events * 3);
    let active = line
        .runtime
        .block_on(line.store.active("default", "g"))
        .unwrap()
        .unwrap();
    let canonical = line
        .runtime
        .block_on(line.store.version(&active.version))
        .unwrap()
        .unwrap();
    let graph = Graph::from_canonical(&canonical).unwrap();
    // another engine: nothing of the first one's is at hand
    let engine = Engine::new(EngineConfig::default()).unwrap();
    let modules = graph.steps.iter().map(|step| {
        let bytes = line
            .runtime
            .block_on(line.store.module(&step.uses))
            .unwrap()
            .unwrap();
        engine.load(&step.uses, &bytes).unwrap()
    });
    let loaded = Arc::new(Loaded::of(&canonical, graph.clone(), modules.collect()));
    let mut rehearsal = Rehearsal::new(&engine, loaded, None, Arc::new(Nowhere));
    let (mut same, mut other) = (0, 0);
    for trigger in line.read(TRIGGERS, events) {
        for (result, bytes) in rehearsal.run(&trigger).unwrap().results {
            match committed.get(&result.segment) {
                Some(before) if before[..] == bytes[..] => same += 1,
                _ => other += 1,
            }
        }
    }
    line.stop();
    Row {
        id: "T18",
        title: "past triggers run again on the same version",
        injected: events,
        expected: format!(
            "{} segments byte by byte the same; {other} otherwise",
            events * 3
        ),
        passed: other == 0 && same == events * 3,
        took: started.elapsed(),
        ..Row::default()
    }
    .keep()
    .unwrap();
    assert_eq!((same, other), (events * 3, 0));
}
