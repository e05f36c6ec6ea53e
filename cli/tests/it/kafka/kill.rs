//! T1: `kill -9` of processors; T3: `kill -9` of brokers.

use std::time::{Duration, Instant};

use topics::Log as _;

use super::cluster::Cluster;
use super::ledger::{Count, Ledger};
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::PATIENCE;

/// A processor's session has to run out, and its partitions have to be taken over.
const CATCH_UP: Duration = Duration::from_secs(15);
const BROKERS: usize = 3;
/// Longer than a request may take, and than the session of a broker of three: its partitions get other leaders.
const STOOD_STILL: Duration = Duration::from_secs(5);
/// Longer than the session of a lone broker.
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
    .keep()
    .unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(in_time, "caught up {caught_up:?} after the last kill");
}

#[test]
fn nothing_is_lost_and_nothing_twice_when_brokers_are_killed() {
    let mut cluster = Cluster::new(BROKERS);
    let (kills, freezes) = if full() { (10, 5) } else { (2, 1) };
    let begun = Instant::now();
    let mut seed = Seed::new("T3");
    let ledger = Ledger::new("broker");
    cluster.apply("broker", "copy", "");
    let processes = Process::start_all(&cluster, &Recipe::processor(), 2);
    let load = Load::start(&cluster, &ledger, usize::MAX, 3_000);
    for round in 0..kills + freezes {
        std::thread::sleep(seed.between(Duration::from_secs(1), Duration::from_secs(3)));
        // What brokers took from the load is to be known; what the processors are about is not.
        load.pause();
        let victim = seed.below(BROKERS);
        if round % 3 == 1 {
            cluster.kafka.freeze(victim).unwrap();
            load.resume();
            std::thread::sleep(STOOD_STILL);
            cluster.kafka.thaw(victim).unwrap();
        } else {
            cluster.kafka.kill(victim).unwrap();
            load.resume();
            std::thread::sleep(seed.between(Duration::ZERO, Duration::from_secs(5)));
            cluster.kafka.restart(victim).unwrap();
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let asked = load.finish();
    let follower = ledger.follow(&cluster);
    let settled = ledger.settle(asked, PATIENCE);
    drop(follower);
    Process::stop_all(processes);
    let count = ledger.count(&cluster, asked);
    eprintln!("T3: {kills} kills, {freezes} freezes, {count:?}");
    Row {
        id: "T3",
        title: "kill -9 and restart of one of three brokers; frozen until it is fenced",
        injected: kills + freezes,
        expected: format!("{asked} triggers, one result each, without anybody's help"),
        lost: count.lost,
        duplicated: count.duplicated,
        passed: count == Count::right(asked) && settled,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep()
    .unwrap();
    assert_eq!(count, Count::right(asked));
    assert!(settled);
}

/// For a moment the cluster has no broker at all, and librdkafka forgets the last one. Nothing is written meanwhile: of a
/// transaction that a lone broker ends at that moment it may lose the markers (`short_timeouts` says why).
#[test]
fn processors_come_back_to_a_lone_broker_that_was_fenced() {
    let cluster = Cluster::new(1);
    let ledger = Ledger::new("fenced");
    cluster.apply("fenced", "copy", "");
    let processes = Process::start_all(&cluster, &Recipe::processor(), 2);
    let follower = ledger.follow(&cluster);
    let append = |numbers: std::ops::Range<usize>| {
        let triggers: Vec<_> = numbers.map(|number| ledger.trigger(number)).collect();
        let appender = cluster.log.appender();
        cluster.runtime.block_on(appender.append(triggers)).unwrap();
    };
    append(0..500);
    assert!(ledger.settle(500, PATIENCE));
    cluster.kafka.freeze(0).unwrap();
    std::thread::sleep(FENCED);
    cluster.kafka.thaw(0).unwrap();
    append(500..1_000);
    assert!(ledger.settle(1_000, PATIENCE));
    drop(follower);
    Process::stop_all(processes);
    assert_eq!(ledger.count(&cluster, 1_000), Count::right(1_000));
}
