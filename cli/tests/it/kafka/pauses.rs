//! A graph is paused and resumed again and again under load, while processors are killed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, until};

#[test]
fn what_is_parked_runs_once_and_in_order_while_processors_are_killed() {
    let cluster = Cluster::shared();
    let (rounds, per_second) = if full() { (12, 3_000) } else { (3, 1_500) };
    let begun = Instant::now();
    let mut seed = Seed::new("T17b");
    let ledger = Ledger::new("paused");
    cluster.apply("paused", "copy", "");
    let control = Process::start(&cluster, &Recipe::control());
    until("the API answers", || {
        control.get("/api/v1/graphs").is_some()
    });
    let recipe = Recipe::processor();
    let mut processes = Process::start_all(&cluster, &recipe, 2);
    let follower = ledger.follow(&cluster);
    let load = Load::start(&cluster, &ledger, usize::MAX, per_second);
    until("there is load", || ledger.results() > 0);
    let state = || {
        let shown = control.get("/api/v1/graphs/paused").unwrap_or_default();
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        shown["state"].as_str().unwrap_or_default().to_owned()
    };
    let wish = |what: &str| {
        let path = format!("/api/v1/graphs/paused/{what}");
        control.post(&path, &json!({}));
    };
    let mut kills = 0;
    let mut kill = |processes: &mut Vec<Process>, seed: &mut Seed| {
        let victim = seed.below(processes.len());
        processes.swap_remove(victim).kill();
        processes.push(Process::start(&cluster, &recipe));
        kills += 1;
    };
    let ms = Duration::from_millis;
    for round in 0..rounds {
        wish("pause");
        std::thread::sleep(seed.between(ms(800), ms(2_000)));
        if round % 2 == 0 {
            kill(&mut processes, &mut seed);
        }
        wish("resume");
        std::thread::sleep(seed.between(ms(50), ms(1_200)));
        kill(&mut processes, &mut seed);
        // now and then the next pause comes before the release is over
        if round % 3 != 1 {
            until("the release is over", || state() == "active");
        }
    }
    let asked = load.finish();
    let settled = ledger.settle(asked, 2 * PATIENCE);
    until("the last release is over", || state() == "active");
    drop(follower);
    processes.push(control);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("T17b: {rounds} pauses, {kills} kills, {count:?}");
    Row {
        id: "T17b",
        title: "pause and resume under load, with kills",
        injected: rounds + kills,
        expected: format!(
            "{asked} triggers at {per_second}/s, one result each, each key's in order ({} out of it)",
            count.disordered
        ),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked) && settled,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
}
