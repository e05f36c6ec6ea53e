//! T1: `kill -9` of processors; T3: `kill -9` of the broker.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::PATIENCE;

/// A processor's session has to run out, and its partitions have to be taken over.
const CATCH_UP: Duration = Duration::from_secs(15);
/// Longer than a request may take.
const STOOD_STILL: Duration = Duration::from_secs(5);
/// Longer than the broker's session: the controller fences it, and for a moment the cluster has no broker at all. Only
/// while nothing is written: of what a broker ends at that moment it may lose the markers (`short_timeouts` says why).
const FENCED: Duration = Duration::from_secs(9);

#[test]
fn nothing_is_lost_and_nothing_twice_when_processors_are_killed() {
    let cluster = Cluster::shared();
    let (triggers, kills) = if full() { (300_000, 30) } else { (10_000, 4) };
    let (least, most) = if full() { (2_000, 5_000) } else { (600, 1_800) };
    let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
    let begun = Instant::now();
    let mut seed = Seed::new("T1");
    let ledger = Ledger::new("killed");
    cluster.apply("killed", "copy", "");
    let recipe = Recipe::processor();
    let mut processes = Process::start_all(&cluster, &recipe, 3);
    let follower = ledger.follow(&cluster);
    // over somewhat before the last kill
    let seconds = ((least + most) / 2 * (kills - 1)).as_secs_f64();
    let load = Load::start(
        &cluster,
        &ledger,
        triggers,
        (triggers as f64 / seconds) as usize,
    );
    let mut last = Instant::now();
    for kill in 1..=kills {
        std::thread::sleep(seed.between(least, most));
        if kill == kills {
            crate::weir::until("all triggers are sent", || load.sent() == triggers);
        }
        let victim = seed.below(processes.len());
        processes.swap_remove(victim).kill();
        last = Instant::now();
        processes.push(Process::start(&cluster, &recipe));
    }
    let asked = load.complete();
    let settled = ledger.settle(asked, PATIENCE);
    let caught_up = last.elapsed();
    drop(follower);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("T1: {kills} kills, caught up {caught_up:.1?} after the last, {count:?}");
    let in_time = settled && (caught_up <= CATCH_UP || !full());
    Row {
        id: "T1",
        title: "kill -9 of a random processor of 3",
        injected: kills as usize,
        expected: format!(
            "{asked} triggers, one result each; caught up {:.1} s after the last kill (at most 15)",
            caught_up.as_secs_f64()
        ),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked) && in_time,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep();
    assert_eq!(count, Count::right(asked));
    assert!(in_time, "caught up {caught_up:?} after the last kill");
}

#[test]
fn nothing_is_lost_and_nothing_twice_when_the_broker_is_killed() {
    let mut cluster = Cluster::new(1);
    let (kills, freezes) = if full() { (10, 5) } else { (2, 1) };
    let begun = Instant::now();
    let mut seed = Seed::new("T3");
    let ledger = Ledger::new("broker");
    cluster.apply("broker", "copy", "");
    let processes = Process::start_all(&cluster, &Recipe::processor(), 2);
    let load = Load::start(&cluster, &ledger, usize::MAX, 6_000);
    for round in 0..kills + freezes {
        std::thread::sleep(seed.between(Duration::from_secs(1), Duration::from_secs(3)));
        // What the broker took from the load is to be known; what the processors are about is not.
        load.pause();
        if round % 3 == 1 {
            cluster.kafka.freeze(0).unwrap();
            std::thread::sleep(STOOD_STILL);
            cluster.kafka.thaw(0).unwrap();
        } else {
            cluster.kafka.kill(0).unwrap();
            cluster.kafka.restart(0).unwrap();
        }
        load.resume();
    }
    load.pause();
    let follower = ledger.follow(&cluster);
    let before = ledger.settle(load.sent(), PATIENCE);
    cluster.kafka.freeze(0).unwrap();
    std::thread::sleep(FENCED);
    cluster.kafka.thaw(0).unwrap();
    load.resume();
    std::thread::sleep(Duration::from_secs(1));
    let asked = load.finish();
    let settled = before && ledger.settle(asked, PATIENCE);
    drop(follower);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("T3: {kills} kills, {freezes} freezes, {count:?}");
    Row {
        id: "T3",
        title: "kill -9 and restart of the broker; frozen; once until its controller has fenced it",
        injected: kills + freezes + 1,
        expected: format!("{asked} triggers, one result each, without anybody's help"),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked),
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
}
