//! T17: a graph is deployed again and again under load.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::records::{SegmentResult, Trigger};
use topics::catalog::{RESULTS, TRIGGERS};
use xtask::checker;

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, until};

type Version = [u8; 32];

#[test]
fn each_trigger_runs_on_one_version_and_none_goes_back_while_versions_are_deployed() {
    let cluster = Cluster::shared();
    let (deploys, per_second) = if full() { (20, 5_000) } else { (6, 2_500) };
    let begun = Instant::now();
    let mut seed = Seed::new("T17");
    let ledger = Ledger::new("deployed");
    let module = cluster.module("copy");
    let control = Process::start(&cluster, &Recipe::control());
    until("the API answers", || {
        control.get("/api/v1/graphs").is_some()
    });
    let deploy = |number: usize| deploy(&control, &module, number);
    let mut versions = vec![deploy(0)];
    // two lanes, of which each has some of the partitions
    let recipe = Recipe::processor().with("WEIR_PROCESSOR__LANES", "2");
    let mut processes = Process::start_all(&cluster, &recipe, 1);

    let first: Arc<Mutex<HashMap<Version, Instant>>> = Arc::default();
    let noted = first.clone();
    let follower = ledger.follow_with(&cluster, move |result| {
        let mut first = noted.lock().unwrap_or_else(PoisonError::into_inner);
        first.entry(result.version).or_insert_with(Instant::now);
    });
    let seen = |version: &Version| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get(version).copied()
    };
    let load = Load::start(&cluster, &ledger, usize::MAX, per_second);
    until("there is load", || seen(&versions[0]).is_some());
    let mut delays: Vec<Duration> = Vec::new();
    for number in 1..=deploys {
        std::thread::sleep(seed.between(Duration::from_millis(300), Duration::from_millis(1_500)));
        let version = deploy(number);
        let answered = Instant::now();
        versions.push(version);
        until("a result of the new version", || seen(&version).is_some());
        let at = seen(&version).unwrap_or(answered);
        delays.push(at.saturating_duration_since(answered));
    }
    let asked = load.finish();
    let settled = ledger.settle(asked, PATIENCE);
    drop(follower);
    processes.push(control);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    let order = Order::read(&cluster, &ledger, &versions);
    delays.sort_unstable();
    let median = delays[delays.len() / 2];
    let slowest = delays[delays.len() - 1];
    eprintln!(
        "T17: {deploys} deploys, first result of a version after {median:.1?} (median), {slowest:.1?} (slowest), {order:?}, {count:?}"
    );
    let in_order = order == Order::right(versions.len());
    Row {
        id: "T17",
        title: "hot deploys under load",
        injected: deploys,
        expected: format!(
            "{asked} triggers at {per_second}/s, one result each, on one of {} versions; {} times an older version after a newer one on a partition (at most 0); the first result of a version {} ms after the answer of apply (median), {} ms (slowest)",
            versions.len(),
            order.backwards,
            median.as_millis(),
            slowest.as_millis()
        ),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked) && settled && in_order,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
    assert_eq!(order, Order::right(versions.len()));
}

/// Applies version `number` of the graph, as `weir apply` does. Each is another one: that a version stands at a place of
/// the log says which deployment it is.
fn deploy(control: &Process, module: &str, number: usize) -> Version {
    let step = ["even", "odd"][number % 2];
    let millis = 1_000 + number;
    let source = format!(
        "weir: 1\nname: deployed\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n  {step}: {{ uses: \"{module}\", from: [t], isolation: batch, limits: {{ time: {millis}ms }} }}\n"
    );
    let applied = control.post("/api/v1/graphs", &serde_json::json!({ "source": source }));
    assert_eq!(applied["changed"], true, "{applied}");
    let version = hex::decode(applied["version"].as_str().unwrap()).unwrap();
    version.try_into().unwrap()
}

/// Which versions ran, in the order of the triggers' offsets.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    /// That ran anything.
    versions: usize,
    /// Results of a version that was never deployed.
    strange: usize,
    /// Triggers that ran on an older version than one before them on their partition.
    backwards: usize,
}

impl Order {
    fn right(versions: usize) -> Self {
        Self {
            versions,
            strange: 0,
            backwards: 0,
        }
    }

    /// Each trigger's place on the log, and the version of its result; read with another client library.
    fn read(cluster: &Cluster, ledger: &Ledger, versions: &[Version]) -> Self {
        let mut places: Vec<(u32, i64, String)> = Vec::new();
        let mut ran: HashMap<String, Version> = HashMap::new();
        checker::read(cluster.brokers(), &[TRIGGERS, RESULTS], |record| {
            let value = Bytes::from(record.value.unwrap_or_default());
            if record.topic == RESULTS {
                let result = SegmentResult::decode(&value)?;
                if *result.graph == *ledger.graph {
                    ran.insert(result.trigger_id, result.version);
                }
            // others' tests write what is no trigger
            } else if let Ok(trigger) = Trigger::decode(&value)
                && *trigger.graph == *ledger.graph
            {
                places.push((record.partition, record.offset, trigger.trigger_id));
            }
            Ok(())
        })
        .unwrap();
        Self::of(places, &ran, versions)
    }

    /// `places`: partition, offset and trigger id.
    fn of(
        mut places: Vec<(u32, i64, String)>,
        ran: &HashMap<String, Version>,
        versions: &[Version],
    ) -> Self {
        places.sort_unstable();
        let mut newest: HashMap<u32, usize> = HashMap::new();
        let mut used = vec![false; versions.len()];
        let mut order = Self::right(0);
        for (partition, _, trigger) in &places {
            let Some(version) = ran.get(trigger) else {
                continue; // the ledger counts it
            };
            let Some(number) = versions.iter().position(|one| one == version) else {
                order.strange += 1;
                continue;
            };
            used[number] = true;
            let newest = newest.entry(*partition).or_insert(number);
            if number < *newest {
                order.backwards += 1;
            }
            *newest = number.max(*newest);
        }
        order.versions = used.iter().filter(|used| **used).count();
        order
    }
}

/// The checker itself: it must see what is wrong.
#[test]
fn the_order_of_versions_is_seen() {
    let version = |number: u8| [number; 32];
    let versions = [version(0), version(1), version(2)];
    // partition, offset, version
    let order = |rows: &[(u32, i64, u8)]| {
        let id = |row: &(u32, i64, u8)| format!("{}-{}", row.0, row.1);
        let places = rows.iter().map(|row| (row.0, row.1, id(row))).collect();
        let ran = rows.iter().map(|row| (id(row), version(row.2))).collect();
        Order::of(places, &ran, &versions)
    };
    let good = order(&[(0, 9, 2), (0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 3, 2)]);
    assert_eq!(good, Order::right(3));
    let back = order(&[(0, 0, 1), (0, 1, 0), (0, 2, 2), (0, 3, 1)]);
    assert_eq!((back.backwards, back.strange), (2, 0));
    let strange = order(&[(0, 0, 1), (0, 1, 7)]);
    assert_eq!(
        (strange.backwards, strange.strange, strange.versions),
        (0, 1, 1)
    );
}
