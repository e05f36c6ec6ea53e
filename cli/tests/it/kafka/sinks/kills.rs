//! T2: `kill -9` of the sink at failpoints, until it was killed so often, of each database; then its positions are lost.

use std::time::{Duration, Instant};

use super::super::cluster::Cluster;
use super::super::process::{Process, Recipe};
use super::super::seed::Seed;
use super::databases::{Cassandra, Database, Postgres};
use super::results::{Count, Results};
use super::{ROWS, WIDE, recipe};
use crate::proof::{Row, full};
use crate::weir::PATIENCE;

/// What was counted of one database.
#[derive(Debug)]
struct Seen {
    killed: usize,
    count: Count,
    stale: usize,
}

/// Kills a sink at failpoints until it was killed so often, and has another land the rest.
fn killed_at_failpoints(
    results: &Results<'_>,
    to: (&str, &dyn Database),
    kills: usize,
    variant: Option<&str>,
    seed: &mut Seed,
) -> Seen {
    let (_, database) = to;
    let mut recipe = recipe(&[to], true);
    if let Some(variant) = variant {
        recipe = recipe.with("WEIR_BROKEN", variant);
    }
    let mut killed = 0;
    while killed < kills && !results.are_settled(database) {
        let place = ["before-commit", "after-commit"][killed % 2];
        let failpoint = format!("{place}={}", 1 + seed.below(3));
        let recipe = recipe.clone().with("WEIR_FAILPOINT", &failpoint);
        let mut sink = Process::start(results.cluster, &recipe);
        let mut at = (results.count, Instant::now());
        loop {
            if sink.has_ended() {
                killed += 1;
                break;
            }
            // the rest was less than what it is killed after
            if results.are_settled(database) {
                sink.kill();
                break;
            }
            let settled = database.settled();
            if at.0 != settled {
                at = (settled, Instant::now());
            }
            assert!(
                at.1.elapsed() < PATIENCE,
                "it lands nothing; it said:\n{}",
                sink.said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    land(results, database, &recipe);
    Seen {
        killed,
        count: results.count(database),
        stale: results.stale(database),
    }
}

/// A sink that nobody kills lands what is left.
fn land(results: &Results<'_>, database: &dyn Database, recipe: &Recipe) {
    let sink = Process::start(results.cluster, recipe);
    results.until_landed(database);
    Process::stop_all(vec![sink]);
}

/// All of it a second time, by a sink that does not know that it has landed.
fn landed_again(results: &Results<'_>, to: (&str, &dyn Database)) -> (Count, usize) {
    let (_, database) = to;
    database.forget_positions();
    land(results, database, &recipe(&[to], true));
    (results.count(database), results.stale(database))
}

#[test]
fn each_result_is_a_row_once_when_the_sink_is_killed_around_its_commits() {
    let cluster = Cluster::new(1);
    let kills = if full() { 100 } else { 4 };
    let begun = Instant::now();
    let mut seed = Seed::new("T2");
    let (postgres, cassandra) = (Postgres::start(), Cassandra::shared());
    let both: [(&str, &dyn Database); 2] = [(ROWS, &postgres), (WIDE, &cassandra)];
    let mut results = Results::of(&cluster, "rows", 500, &both);
    // each life lands up to three batches of each of two writers
    results.add(kills * 1_000);
    let seen = std::thread::scope(|scope| {
        let results = &results;
        let of = both.map(|to| {
            let mut seed = seed.another();
            scope.spawn(move || {
                let seen = killed_at_failpoints(results, to, kills, None, &mut seed);
                (seen, landed_again(results, to))
            })
        });
        of.map(|thread| thread.join().unwrap())
    });
    eprintln!("T2: Postgres and Cassandra, and again: {seen:?}");

    // the test itself is tested: positions outside the transaction, or before the rows, lose what a kill falls upon
    let (postgres, cassandra) = (Postgres::start(), Cassandra::shared());
    let others: [(&str, &dyn Database); 2] = [(ROWS, &postgres), (WIDE, &cassandra)];
    let broken = others.map(|to| {
        let variant = Some("position-outside");
        let seen = killed_at_failpoints(&results, to, 3, variant, &mut seed);
        seen.count.lost
    });
    eprintln!("T2: position-outside: {broken:?} lost");
    let right = (Count::default(), 0);
    let sound = seen.iter().all(|(seen, again)| {
        (seen.count.clone(), seen.stale) == right && seen.killed == kills && *again == right
    });
    let passed = sound && broken.iter().all(|lost| *lost > 0);
    Row {
        id: "T2",
        title: "kill -9 of the sink right before and right after the commit of its rows or its position, Postgres and Cassandra",
        injected: seen.iter().map(|(seen, _)| seen.killed).sum(),
        expected: format!(
            "{} results, a row each with the payload that the log has, in weir_executions and weir_outputs; the last update of each of {} keys in a table of the user's; the same after its positions are lost and all lands again; variant position-outside caught: {broken:?} lost",
            results.count, results.keys
        ),
        lost: seen.iter().map(|(seen, _)| seen.count.lost + seen.stale).sum(),
        duplicated: seen
            .iter()
            .map(|(seen, _)| seen.count.duplicated + seen.count.altered)
            .sum(),
        passed,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep().unwrap();
    assert!(sound, "{seen:?}");
    assert!(passed, "the broken variant is not caught: {broken:?}");
}
