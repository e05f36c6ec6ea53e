//! T12: dead letters are redriven while the process that writes them is killed again and again.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::records::{Payload, SegmentResult};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};
use store::{RedriveKind, Store};
use topics::catalog::RESULTS;
use xtask::checker;

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::load::Load;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::proof::{Row, full};
use crate::weir::{Ran, run, until};

const GRAPH: &str = "redriven";
const REQUEST: &str = "t12";

/// How the redriven executions differ from what they must be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    lost: usize,
    duplicated: usize,
    /// After a later one of the same key, or with another payload than the one that died.
    altered: usize,
}

fn count(cluster: &Cluster, ledger: &Ledger, asked: usize) -> Count {
    let mut times: HashMap<usize, usize> = HashMap::new();
    let mut last: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut count = Count::default();
    checker::read(cluster.brokers(), &[RESULTS], |record| {
        let value = Bytes::from(record.value.unwrap_or_default());
        let Ok(result) = SegmentResult::decode(&value) else {
            return Ok(());
        };
        let redriven = result.trigger_id.starts_with("redrive:");
        if result.graph != GRAPH || !redriven {
            return Ok(());
        }
        let data = match &result.outputs[..] {
            [output] if result.failure.is_none() && result.origin.is_some() => &output.data,
            _ => &Payload::default(),
        };
        let Payload::Inline(data) = data else {
            return Ok(());
        };
        let said: Value = serde_json::from_slice(data).unwrap_or_default();
        let Some(number) = said["number"].as_u64().map(|number| number as usize) else {
            count.altered += 1;
            return Ok(());
        };
        *times.entry(number).or_default() += 1;
        let key = record.key.unwrap_or_default();
        let as_sent = *data == ledger.payload(number) && Ledger::key(number) == key;
        let in_order = last.insert(key, number).is_none_or(|last| last < number);
        count.altered += usize::from(!as_sent || !in_order);
        Ok(())
    })
    .unwrap();
    count.lost = (0..asked).filter(|n| !times.contains_key(n)).count();
    count.duplicated = times.values().map(|times| times - 1).sum();
    count
}

/// The graph's dead letters that have landed.
fn landed(cluster: &Cluster, history: &Path) -> usize {
    let read = async {
        let options = SqliteConnectOptions::new()
            .filename(history)
            .read_only(true);
        let mut history = SqliteConnection::connect_with(&options).await?;
        let count = sqlx::query("select count(*) from weir_dead_letters where graph = $1");
        let row = count.bind(GRAPH).fetch_one(&mut history).await?;
        row.try_get::<i64, _>(0)
    };
    cluster.runtime.block_on(read).unwrap_or(0) as usize
}

fn ask(url: &str) -> Ran {
    let arguments = ["dlq", "redrive", "--graph", GRAPH, "--request", REQUEST];
    run(
        url,
        &[&arguments[..], &["--wait", "0s", "-o", "json"]].concat(),
    )
}

/// How many the store knows to be written.
fn known(cluster: &Cluster, id: &str) -> usize {
    let ask = async {
        let store = Store::connect(&cluster.store_url()).await.unwrap();
        let redrive = store.redrive_by_id("default", RedriveKind::Redrive, id);
        let redrive = redrive.await.unwrap().unwrap();
        store.close().await;
        redrive.emitted as usize
    };
    cluster.runtime.block_on(ask)
}

fn emitted(control: &Process, id: &str) -> usize {
    let body = control.get(&format!("/api/v1/redrives/{id}"));
    let state: Value = serde_json::from_str(&body.unwrap_or_default()).unwrap_or_default();
    state["emitted"].as_u64().unwrap_or(0) as usize
}

#[test]
fn each_letter_is_redriven_once_when_the_process_that_writes_them_is_killed() {
    let cluster = Cluster::shared();
    let (letters, kills) = if full() { (50_000, 10) } else { (6_000, 3) };
    let begun = Instant::now();
    let mut seed = Seed::new("T12");
    let ledger = Ledger::new(GRAPH);
    let history = cluster.folder().join("redrive-history.db");
    let path = history.display().to_string();
    let here = |role| Recipe::of(role).with("WEIR_SINK__PATH", &path);
    let mut others = Process::start_all(&cluster, &here("processor"), 1);
    others.extend(Process::start_all(&cluster, &here("sink"), 1));

    // there is no such graph yet: all of them die
    let load = Load::start(&cluster, &ledger, letters, 6_000);
    assert_eq!(load.complete(), letters);
    until("all have died and landed", || {
        landed(&cluster, &history) == letters
    });
    cluster.apply(GRAPH, "copy", "");

    let mut control = Process::start_all(&cluster, &here("control"), 1).remove(0);
    // killed while it is asked: nobody knows whether it has heard
    let url = control.url();
    let asking = std::thread::spawn(move || ask(&url));
    std::thread::sleep(seed.between(Duration::ZERO, Duration::from_millis(800)));
    control.kill();
    asking.join().unwrap();
    control = Process::start_all(&cluster, &here("control"), 1).remove(0);
    let asked = ask(&control.url()).json();
    assert_eq!(asked["letters"], letters, "{asked}");
    let id = asked["redrive"].as_str().unwrap().to_owned();

    let mut midway = 0;
    for _ in 1..kills {
        until("it writes", || {
            control.metric("weir_source_records_total", &["kind=\"redrives\""]) > 0.0
                || emitted(&control, &id) == letters
        });
        std::thread::sleep(seed.between(Duration::ZERO, Duration::from_millis(100)));
        control.kill();
        // before another takes over
        let at = known(&cluster, &id);
        midway += usize::from(0 < at && at < letters);
        control = Process::start_all(&cluster, &here("control"), 1).remove(0);
        let again = ask(&control.url()).json();
        assert_eq!(again["redrive"], id, "the same request is the same redrive");
    }
    until("all are written", || emitted(&control, &id) == letters);
    let mut counted = Count::default();
    until("all have run again", || {
        counted = count(&cluster, &ledger, letters);
        counted.lost == 0
    });
    let list = run(
        &control.url(),
        &["dlq", "list", "--graph", GRAPH, "-o", "json"],
    );
    let list = list.ok().json();
    let items = list["items"].as_array().unwrap();
    assert!(items.iter().all(|letter| letter["redrive"] == id), "{list}");
    others.push(control);
    Process::stop_all(others);
    eprintln!("T12: {kills} kills, {midway} of them midway, {counted:?}");
    Row {
        id: "T12",
        title: "kill -9 of the process that redrives dead letters",
        injected: kills,
        expected: format!(
            "{letters} dead letters, one new execution each; {midway} kills came in the middle"
        ),
        lost: counted.lost,
        duplicated: counted.duplicated,
        passed: counted == Count::default() && midway > 0,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep()
    .unwrap();
    assert_eq!(counted, Count::default());
    assert!(midway > 0, "no kill came in the middle");
}
