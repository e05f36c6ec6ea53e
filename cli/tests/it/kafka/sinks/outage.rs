//! T19: a database is down, or its disk is full; it holds up itself alone.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::cluster::Cluster;
use super::super::process::Process;
use super::databases::{Cassandra, Database, Postgres};
use super::results::{Count, Results};
use super::{ROWS, WIDE, recipe};
use crate::disk_full::Disk;
use crate::proof::{Row, full};
use crate::weir::until;

/// A thousand results come in.
const ROUND: Duration = Duration::from_millis(500);

/// The tables that are made from now on, and what there are, lie on a small disk.
fn onto(postgres: &Postgres, disk: &Path) {
    // where we are not root, the server runs as who we are, and this fails
    std::process::Command::new("chown")
        .arg("postgres")
        .arg(disk)
        .status()
        .ok();
    postgres.sql(&format!(
        "create tablespace small location '{}'",
        disk.display()
    ));
    postgres.sql("alter role postgres set default_tablespace = small");
    postgres.sql("alter table latest set tablespace small");
}

#[test]
fn a_database_that_is_down_holds_up_itself_alone() {
    let cluster = Cluster::new(1);
    let outage = Duration::from_secs(if full() { 60 } else { 4 });
    let begun = Instant::now();
    let (mut postgres, mut cassandra) = (Postgres::start(), Cassandra::start());
    // what comes while the other is down must have room: some 3 KB a result
    let disk_mib = if full() { 2_000 } else { 200 };
    let disk = Disk::new(&cluster.folder().join("disk"), disk_mib);
    onto(&postgres, disk.path());
    let mut results = Results::of(
        &cluster,
        "outage",
        100,
        &[(ROWS, &postgres), (WIDE, &cassandra)],
    );
    let both = recipe(&[(ROWS, &postgres), (WIDE, &cassandra)], true);
    let sink = Process::start_all(&cluster, &both, 1);
    let down = |name: &str| {
        let of_it = format!("destination=\"{name}\"");
        until("the gauge says so", || {
            sink[0].metric("weir_sink_up", &[&of_it]) == 0.0
        });
    };
    results.add(10_000);
    results.until_landed(&postgres);
    results.until_landed(&cassandra);
    assert_eq!(sink[0].metric("weir_sink_up", &[]), 2.0);

    // the other goes on meanwhile; how many rounds
    let meanwhile = |results: &mut Results<'_>, other: &dyn Database| {
        let since = Instant::now();
        let mut rounds = 0;
        while since.elapsed() < outage || rounds == 0 {
            results.add(1_000);
            rounds += 1;
            results.until_landed(other);
            // no more a second than the slower of the two catches up with afterwards
            std::thread::sleep((ROUND * rounds).saturating_sub(since.elapsed()));
        }
        rounds
    };
    postgres.server.kill().unwrap();
    let mut rounds = meanwhile(&mut results, &cassandra);
    down(ROWS);
    postgres.server.restart().unwrap();
    results.until_landed(&postgres);

    cassandra.kill();
    rounds += meanwhile(&mut results, &postgres);
    down(WIDE);
    cassandra.restart();
    results.until_landed(&cassandra);

    disk.fill();
    // what has room in the tables' files still lands
    let mut filled = 0;
    until("the disk is full", || {
        results.add(2_000);
        filled += 2_000;
        results.until_landed(&cassandra);
        sink[0].said().contains("No space left on device")
    });
    rounds += meanwhile(&mut results, &cassandra);
    let behind = results.count - postgres.settled();
    disk.empty();
    results.until_landed(&postgres);
    results.until_landed(&cassandra);
    assert_eq!(sink[0].metric("weir_sink_up", &[]), 2.0);

    Process::stop_all(sink);
    let counts = [results.count(&postgres), results.count(&cassandra)];
    let stale = results.stale(&postgres) + results.stale(&cassandra);
    let dead = postgres.dead() + cassandra.dead();
    eprintln!("T19: {counts:?}, {stale} stale, {dead} dead, {rounds} rounds meanwhile");
    let right = counts == [Count::default(), Count::default()] && (stale, dead) == (0, 0);
    Row {
        id: "T19",
        title: "one of two databases is down: Postgres, Cassandra, Postgres's disk full",
        injected: 3,
        expected: format!(
            "{} results, a row each in both; each fault for {} s, in which the other took {} as they came; {behind} were waiting for room",
            results.count,
            outage.as_secs(),
            rounds * 1_000
        ),
        lost: counts.iter().map(|count| count.lost).sum(),
        duplicated: counts.iter().map(|count| count.duplicated).sum(),
        passed: right && behind > 0,
        took: begun.elapsed(),
        seed: None,
    }
    .keep().unwrap();
    assert!(
        right,
        "{counts:?}, {stale} keys without their last update, {dead} dead"
    );
    assert!(behind > 0, "the full disk took everything");
}
