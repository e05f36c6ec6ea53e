//! Executions that go over hops and delays, while processors are killed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::records::SegmentResult;
use serde_json::json;
use topics::Log as _;
use topics::catalog::RESULTS;
use xtask::checker;

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, until};

/// How wide an execution fans out.
const WIDTH: usize = 1_000;

/// What came of the executions that fan out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fans {
    /// That began.
    begun: usize,
    /// Segments that were started and have not reported.
    open: usize,
    /// Segments that reported twice, or that nobody started.
    doubled: usize,
    failed: usize,
}

impl Fans {
    fn read(cluster: &Cluster, graph: &str) -> Self {
        let mut fans = Self::default();
        let (mut started, mut reported) = (HashSet::new(), HashMap::<[u8; 16], usize>::new());
        checker::read(cluster.brokers(), &[RESULTS], |record| {
            let value = Bytes::from(record.value.unwrap_or_default());
            let result = SegmentResult::decode(&value)?;
            if result.graph == graph {
                fans.failed += usize::from(result.failure.is_some());
                if result.segment == result.execution.0 {
                    fans.begun += 1;
                    started.insert(result.segment);
                }
                started.extend(result.started);
                *reported.entry(result.segment).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
        fans.open = started
            .iter()
            .filter(|s| !reported.contains_key(*s))
            .count();
        let twice: usize = reported.values().map(|times| times - 1).sum();
        let strange = reported.keys().filter(|s| !started.contains(*s)).count();
        fans.doubled = twice + strange;
        fans
    }
}

#[test]
fn hops_and_delays_are_run_once_while_processors_are_killed() {
    let cluster = Cluster::shared();
    let (executions, retried, kills) = if full() { (60, 6_000, 12) } else { (6, 600, 3) };
    let begun = Instant::now();
    let mut seed = Seed::new("T1b");
    let control = Process::start(&cluster, &Recipe::control());
    until("the API answers", || {
        control.get("/api/v1/graphs").is_some()
    });
    let (fan, copy) = (cluster.module("fan"), cluster.module("copy"));
    let source = format!(
        "weir: 1\nname: fanned\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n  fan: {{ uses: \"{fan}\", from: [t], ports: [a], isolation: batch }}\n  copy: {{ uses: \"{copy}\", from: [fan.a], hop: string(event.data.n), isolation: batch }}\n"
    );
    let applied = control.post("/api/v1/graphs", &json!({ "source": source }));
    assert_eq!(applied["changed"], true, "{applied}");
    cluster.apply("retried", "bad", ", retry: { attempts: 2, order: release }");
    let (fans, delays) = (
        Ledger::new("fanned"),
        Ledger::new("retried").of_any_output(),
    );
    let recipe = Recipe::processor();
    let mut processes = Process::start_all(&cluster, &recipe, 2);
    let follower = delays.follow(&cluster);
    let wide = Bytes::from(json!({ "ports": vec!["a"; WIDTH] }).to_string());
    let once = Bytes::from_static(br#"{"do":"once"}"#);
    let mut records: Vec<_> = (0..executions)
        .map(|number| fans.with_data(number, wide.clone()))
        .collect();
    records.extend((0..retried).map(|number| delays.with_data(number, once.clone())));
    cluster
        .runtime
        .block_on(cluster.log.appender().append(records))
        .unwrap();
    for _ in 0..kills {
        std::thread::sleep(seed.between(Duration::from_millis(500), Duration::from_millis(1_800)));
        let victim = seed.below(processes.len());
        processes.swap_remove(victim).kill();
        processes.push(Process::start(&cluster, &recipe));
    }
    let settled = delays.settle(retried, 2 * PATIENCE);
    let right = Fans {
        begun: executions,
        ..Fans::default()
    };
    let mut found = Fans::default();
    until("every segment has reported", || {
        found = Fans::read(&cluster, "fanned");
        found.begun == executions && found.open == 0
    });
    drop(follower);
    processes.push(control);
    Process::stop_all(processes);
    let count = delays.count(&cluster, retried);
    found = Fans::read(&cluster, "fanned");
    eprintln!("T1b: {kills} kills, {found:?}, {count:?}");
    // a retry gives up its place: others of its key may overtake it
    let count = Count {
        disordered: 0,
        ..count
    };
    Row {
        id: "T1b",
        title: "hops and delays under kill -9",
        injected: kills,
        expected: format!(
            "{executions} executions of {WIDTH} hops each, all segments reported once; {retried} triggers whose retry waits on weir.delays.5s, one result each"
        ),
        lost: count.lost + found.open,
        duplicated: count.duplicated + found.doubled,
        passed: count == Count::right(retried) && found == right && settled,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert_eq!(found, right);
    assert_eq!(count, Count::right(retried));
    assert!(settled);
}
