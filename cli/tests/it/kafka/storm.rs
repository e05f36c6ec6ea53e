//! T4: members join and leave all the time.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::PATIENCE;

const STAY: usize = 2;
const GUESTS_MAX: usize = 2;

#[test]
fn nothing_is_lost_and_nothing_twice_while_members_come_and_go() {
    let cluster = Cluster::shared();
    let changes = if full() { 46 } else { 6 };
    let pace = Duration::from_secs(if full() { 3 } else { 2 });
    let begun = Instant::now();
    let mut seed = Seed::new("T4");
    let ledger = Ledger::new("storm");
    cluster.apply("storm", "copy", "");
    let recipe = Recipe::processor();
    let mut stay = Process::start_all(&cluster, &recipe, STAY);
    let generations_before = generations(&cluster);
    let follower = ledger.follow(&cluster);
    let load = Load::start(&cluster, &ledger, usize::MAX, 2_500);
    let mut guests: Vec<Process> = Vec::new();
    let mut kill_next = false;
    for _ in 0..changes {
        let next = Instant::now() + pace;
        let join = guests.is_empty() || guests.len() < GUESTS_MAX && seed.below(2) == 0;
        if join {
            guests.push(Process::start(&cluster, &recipe));
        } else {
            let leaver = guests.swap_remove(seed.below(guests.len()));
            if kill_next {
                leaver.kill();
            } else {
                Process::stop_all(vec![leaver]);
            }
            kill_next = !kill_next;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let asked = load.finish();
    let settled = ledger.settle(asked, PATIENCE);
    drop(follower);
    stay.append(&mut guests);
    let failures: f64 = stay
        .iter()
        .map(|process| process.metric("weir_lane_aborts_total", &[]))
        .sum();
    Process::stop_all(stay);
    let generations = generations(&cluster) - generations_before;
    let count = ledger.count(&cluster, asked);
    eprintln!("T4: {changes} changes, {generations} generations, {failures} aborts, {count:?}");
    // Otherwise nothing was disturbed, and the test slept.
    let awake = !full() || (generations >= 40 && failures >= 1.0);
    Row {
        id: "T4",
        title: "members join and leave, half of them by SIGTERM, half by SIGKILL",
        injected: changes,
        expected: format!(
            "{asked} triggers, one result each; {generations} generations (at least 40), {failures} commits that failed (at least 1)"
        ),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked) && settled && awake,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
    assert!(awake, "{generations} generations, {failures} aborts");
}

/// The group's newest generation, as the broker says.
fn generations(cluster: &Cluster) -> u64 {
    let text = std::fs::read_to_string(cluster.broker_log()).unwrap();
    let group = topics::catalog::GROUP_PROCESSORS;
    text.lines()
        .filter(|line| line.contains("Stabilized group") && line.contains(group))
        .filter_map(|line| {
            let (_, rest) = line.split_once("generation ")?;
            rest.split(' ').next()?.parse().ok()
        })
        .max()
        .unwrap_or(0)
}
