//! T28: many updates of few keys, while sinks are killed, frozen until another has their partitions, and live in other times.
//! The last update of each key stands.

use std::time::{Duration, Instant};

use super::super::cluster::Cluster;
use super::super::process::Process;
use super::super::seed::Seed;
use super::databases::{Cassandra, Database, Postgres};
use super::results::Results;
use super::{ROWS, WIDE, recipe};
use crate::proof::{Row, full};

/// How wrong the clock of a sink goes, in seconds.
const CLOCKS: [&str; 3] = ["0", "-3600", "3600"];
/// Longer than the group waits for one that is silent, so that two then write to a partition.
const FROZEN: Duration = Duration::from_millis(2_500);

/// A first life with a clock that is an hour ahead, a second one with the true clock; keys whose last update does not stand.
/// `before`: results that the topic has for other destinations.
fn stale_after_the_clock_is_set_back(
    cluster: &Cluster,
    name: &'static str,
    variant: Option<&str>,
    before: &mut usize,
) -> usize {
    let database = Cassandra::shared();
    let to: [(&str, &dyn Database); 1] = [(name, &database)];
    let mut results = Results::of(cluster, name, 100, &to).after(*before);
    let mut recipe = recipe(&to, false);
    if let Some(variant) = variant {
        recipe = recipe.with("WEIR_BROKEN", variant);
    }
    for clock in ["3600", "0"] {
        let sink = Process::start(cluster, &recipe.clone().with("WEIR_CLOCK", clock));
        results.add(1_000);
        results.until_landed(&database);
        sink.kill();
    }
    *before += results.count;
    results.stale(&database)
}

#[test]
fn the_last_update_of_each_key_stands() {
    let cluster = Cluster::new(1);
    let (updates, faults) = if full() { (100_000, 30) } else { (10_000, 4) };
    let begun = Instant::now();
    let mut seed = Seed::new("T28");
    let (postgres, cassandra) = (Postgres::start(), Cassandra::shared());
    let both: [(&str, &dyn Database); 2] = [(ROWS, &postgres), (WIDE, &cassandra)];
    let mut results = Results::of(&cluster, "updates", 1_000, &both);
    let recipe = recipe(&both, false);
    let start = |seed: &mut Seed| {
        let clock = CLOCKS[seed.below(CLOCKS.len())];
        Process::start(&cluster, &recipe.clone().with("WEIR_CLOCK", clock))
    };
    let mut sinks: Vec<Process> = (0..2).map(|_| start(&mut seed)).collect();
    for fault in 0..faults {
        results.add(updates / faults);
        std::thread::sleep(seed.between(Duration::from_millis(300), Duration::from_millis(2_500)));
        let which = seed.below(sinks.len());
        if fault % 2 == 0 {
            sinks.swap_remove(which).kill();
            sinks.push(start(&mut seed));
        } else {
            // what it had read it writes when the other has written later updates
            sinks[which].freeze();
            results.add(updates / faults / 10);
            std::thread::sleep(FROZEN);
            sinks[which].thaw();
        }
    }
    results.add(updates.saturating_sub(results.count));
    for (_, database) in both {
        results.until_landed(database);
    }
    Process::stop_all(sinks);
    let seen = both.map(|(_, database)| {
        let stale = results.stale(database);
        (stale, database.latest().len(), database.dead())
    });
    eprintln!("T28: {faults} faults; stale, keys, dead in Postgres and Cassandra: {seen:?}");

    let mut before = results.count;
    let mut set_back =
        |name, variant| stale_after_the_clock_is_set_back(&cluster, name, variant, &mut before);
    let sound = set_back("sound", None);
    let server = set_back("server", Some("server-times"));
    let execution = set_back("execution", Some("by-execution"));
    eprintln!(
        "T28: the clock set back: {sound} stale; server-times: {server}, by-execution: {execution}"
    );
    let right = seen == [(0, results.keys, 0); 2] && sound == 0;
    let caught = server > 0 && execution > 0;
    Row {
        id: "T28",
        title: "updates through upsert sinks in Postgres and Cassandra; one of two sinks is killed, or frozen until two write, each with a clock of its own",
        injected: faults,
        expected: format!(
            "{} updates, the last of each of {} keys stands in both, and of each of 100 where the clock is set back an hour in between; variants caught: server-times {server}, by-execution {execution} of 100 keys stale",
            results.count, results.keys
        ),
        lost: seen.iter().map(|(stale, ..)| stale).sum::<usize>() + sound,
        duplicated: 0,
        passed: right && caught,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert!(
        right,
        "{seen:?}, {sound} stale after the clock was set back"
    );
    assert!(
        caught,
        "a broken variant is not caught: {server}, {execution}"
    );
}
