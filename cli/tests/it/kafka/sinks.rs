//! Results in databases, while sinks and databases die. T2: `kill -9` right before and after a write is committed; T19: a database
//! that is down; T28: the last update of each key stands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use schemas::ExecutionId;
use schemas::records::{Output, Payload, SegmentResult};
use sha2::{Digest as _, Sha256};
use topics::catalog::RESULTS;
use topics::{Log as _, Outgoing, Record};
use xtask::checker;
use xtask::services::postgres;

use super::cluster::Cluster;
use super::process::{Process, Recipe};
use super::seed::Seed;
use crate::kill::broken_binary;
use crate::proof::{Row, full};
use crate::weir::{PATIENCE, run, until};

const CHUNK: usize = 2_000;

/// Results that processors might have written: number n is an update of key n modulo `keys`.
struct Results<'c> {
    cluster: &'c Cluster,
    graph: &'static str,
    version: [u8; 32],
    keys: usize,
    count: usize,
    /// Of all of them; what is older than the topic keeps would be gone.
    time_ms: u64,
}

impl<'c> Results<'c> {
    /// Each output goes to the table `latest` of each destination.
    fn of(cluster: &'c Cluster, graph: &'static str, keys: usize, destinations: &[&str]) -> Self {
        let sinks: String = destinations
            .iter()
            .map(|to| format!("  {to}: {{ postgres: {{ to: {to}, table: latest, mode: upsert, key: [id] }}, from: [t] }}\n"))
            .collect();
        let text = format!(
            "weir: 1\nname: {graph}\ntriggers:\n  t: {{ manual: {{}} }}\nsteps: {{}}\nsinks:\n{sinks}"
        );
        Self {
            version: cluster.put(graph, &text, String::new()),
            cluster,
            graph,
            keys,
            count: 0,
            time_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_millis() as u64,
        }
    }

    fn payload(&self, number: usize) -> Bytes {
        let pad = "x".repeat(number % 300);
        Bytes::from(format!(
            "{{\"id\":\"{}\",\"n\":{number},\"pad\":\"{pad}\"}}",
            number % self.keys
        ))
    }

    fn id(&self, number: usize) -> ExecutionId {
        ExecutionId::derive(
            self.time_ms,
            "default",
            self.graph,
            "t",
            &number.to_string(),
        )
    }

    fn add(&mut self, count: usize, sinks: &[&str]) {
        let appender = self.cluster.log.appender();
        let mut numbers = self.count..self.count + count;
        loop {
            let chunk: Vec<Outgoing> = numbers
                .by_ref()
                .take(CHUNK)
                .map(|number| self.outgoing(number, sinks))
                .collect();
            if chunk.is_empty() {
                break;
            }
            self.cluster
                .runtime
                .block_on(appender.append(chunk))
                .unwrap();
        }
        self.count += count;
    }

    fn outgoing(&self, number: usize, sinks: &[&str]) -> Outgoing {
        let execution = self.id(number);
        let output = Output {
            step: "t".into(),
            port: "out".into(),
            number: 0,
            sinks: sinks.iter().map(|sink| (*sink).to_owned()).collect(),
            key: None,
            content_type: "application/json".into(),
            headers: vec![],
            data: Payload::Inline(self.payload(number)),
        };
        let result = SegmentResult {
            tenant: "default".into(),
            graph: self.graph.into(),
            version: self.version,
            trigger: "t".into(),
            trigger_id: number.to_string(),
            execution,
            time_us: self.time_ms * 1_000,
            segment: execution.0,
            origin: None,
            failure: None,
            outputs: vec![output],
            started: vec![],
            logs: vec![],
            logs_dropped: 0,
        };
        Outgoing {
            topic: RESULTS.into(),
            partition: None,
            record: Record {
                key: Some(Bytes::from(format!("key-{}", number % self.keys))),
                value: Some(result.encode()),
                headers: vec![],
                timestamp_ms: self.time_ms as i64,
            },
        }
    }

    /// What another client reads of the log: each execution's payload, hashed.
    fn written(&self) -> HashMap<String, String> {
        let mut written = HashMap::new();
        checker::read(self.cluster.brokers(), &[RESULTS], |record| {
            let value = Bytes::from(record.value.unwrap_or_default());
            let Ok(result) = SegmentResult::decode(&value) else {
                return Ok(());
            };
            if result.graph != self.graph {
                return Ok(());
            }
            if let [
                Output {
                    data: Payload::Inline(data),
                    ..
                },
            ] = &result.outputs[..]
            {
                written.insert(result.execution.to_string(), hash(data));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(
            written.len(),
            self.count,
            "the log has what was written to it"
        );
        written
    }

    /// Holds the rows of `weir_executions` and `weir_outputs` against the log.
    fn count(&self, database: &Database) -> Count {
        let mut written = self.written();
        let mut count = Count::default();
        let rows = database.sql(&format!(
            "select e.execution, encode(sha256(convert_to(o.data, 'utf8')), 'hex')
             from weir_executions e left join weir_outputs o on o.execution = e.execution and o.segment = e.segment
             where e.graph = '{}'",
            self.graph
        ));
        for row in rows.lines() {
            let (execution, hash) = row.split_once('|').unwrap();
            match written.remove(execution) {
                None => count.duplicated += 1,
                Some(expected) if expected == hash => {}
                Some(_) => count.altered += 1,
            }
        }
        count.lost = written.len();
        count
    }

    /// Keys whose last update does not stand in `latest`.
    fn stale(&self, database: &Database) -> usize {
        let rows = database.sql("select id, n from latest");
        let found: HashMap<&str, &str> =
            rows.lines().filter_map(|row| row.split_once('|')).collect();
        let last = (self.count.saturating_sub(self.keys)..self.count)
            .map(|number| ((number % self.keys).to_string(), number.to_string()));
        last.filter(|(id, n)| found.get(&**id) != Some(&&**n))
            .count()
    }
}

fn hash(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    lost: usize,
    duplicated: usize,
    altered: usize,
}

/// A database of its own on a server of its own.
struct Database {
    server: postgres::Temporary,
}

impl Database {
    fn start() -> Self {
        let server = postgres::Temporary::start().unwrap();
        let table = "create table latest (id text primary key, n bigint not null, pad text)";
        server.sql(table).unwrap();
        Self { server }
    }

    fn sql(&self, text: &str) -> String {
        self.server.sql(text).unwrap().trim().to_owned()
    }

    /// 0 also while it is down or has no such table.
    fn number(&self, text: &str) -> usize {
        let said = self.server.sql(text).unwrap_or_default();
        said.trim().parse().unwrap_or(0)
    }

    fn executions(&self, graph: &str) -> usize {
        self.number(&format!(
            "select count(*) from weir_executions where graph = '{graph}'"
        ))
    }
}

/// A sink of one destination `name`.
fn recipe(destinations: &[(&str, &Database)], history: bool) -> Recipe {
    let recipe = Recipe {
        binary: broken_binary(),
        ..Recipe::of("sink")
    };
    let mut recipe = recipe
        .with("WEIR_KAFKA__SESSION_TIMEOUT", "1s")
        .with("WEIR_TENANTS__DEFAULT__TABLES", "*");
    for (name, database) in destinations {
        let name = name.to_uppercase();
        let set = |key: &str| format!("WEIR_DESTINATIONS__{name}__{key}");
        recipe = recipe
            .with(&set("URL"), &database.server.url())
            .with(&set("HISTORY"), &history.to_string())
            .with(&set("BATCH_RECORDS_MAX"), "200");
    }
    recipe
}

/// Kills a sink at failpoints until it was killed so often; the count after another has landed the rest.
fn killed_at_failpoints(
    results: &Results<'_>,
    database: &Database,
    kills: usize,
    variant: Option<&str>,
    seed: &mut Seed,
) -> (Count, usize) {
    let mut recipe = recipe(&[("rows", database)], true);
    if let Some(variant) = variant {
        recipe = recipe.with("WEIR_BROKEN", variant);
    }
    let mut killed = 0;
    while killed < kills {
        let place = ["before-commit", "after-commit"][killed % 2];
        let failpoint = format!("{place}={}", 1 + seed.below(3));
        let mut sink = Process::start(
            results.cluster,
            &recipe.clone().with("WEIR_FAILPOINT", &failpoint),
        );
        let mut at = (results.count, Instant::now());
        // the rest may be less than what it is killed after
        loop {
            if sink.has_ended() {
                killed += 1;
                break;
            }
            let landed = database.executions(results.graph);
            if landed == results.count {
                sink.kill();
                return (results.count(database), killed);
            }
            if at.0 != landed {
                at = (landed, Instant::now());
            }
            assert!(
                at.1.elapsed() < PATIENCE,
                "it lands nothing; it said:\n{}",
                sink.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let sink = Process::start(results.cluster, &recipe);
    let deadline = Instant::now() + PATIENCE;
    while database.executions(results.graph) < results.count && Instant::now() < deadline {
        let settled = database.number("select sum(next_offset) from weir_positions");
        if variant.is_some() && settled >= results.count {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Process::stop_all(vec![sink]);
    (results.count(database), killed)
}

#[test]
fn each_result_is_a_row_once_when_the_sink_is_killed_around_its_commits() {
    let cluster = Cluster::new(1);
    let kills = if full() { 100 } else { 6 };
    let begun = Instant::now();
    let mut seed = Seed::new("T2");
    let database = Database::start();
    let mut results = Results::of(&cluster, "rows", 500, &["rows"]);
    // each life lands up to three batches of each of two writers
    results.add(kills * 1_000, &["rows"]);
    let (count, killed) = killed_at_failpoints(&results, &database, kills, None, &mut seed);
    let stale = results.stale(&database);
    eprintln!("T2: {killed} kills, {count:?}, {stale} keys without their last update");

    // the test itself is tested: positions outside the transaction lose what a kill falls upon
    let other = Database::start();
    let (broken, _) =
        killed_at_failpoints(&results, &other, 3, Some("position-outside"), &mut seed);
    eprintln!("T2: position-outside: {broken:?}");
    let passed = count == Count::default() && stale == 0 && killed == kills && broken.lost > 0;
    Row {
        id: "T2",
        title: "kill -9 of the sink right before and right after the commit of its rows, Postgres",
        injected: killed,
        expected: format!(
            "{} results, a row each with the payload that the log has, in weir_executions and weir_outputs; the last update of each of {} keys in a table of the user's; variant position-outside caught: {} lost",
            results.count, results.keys, broken.lost
        ),
        lost: count.lost,
        duplicated: count.duplicated,
        passed,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep();
    assert_eq!((count, stale, killed), (Count::default(), 0, kills));
    assert!(
        broken.lost > 0,
        "the broken variant is not caught: {broken:?}"
    );
}

#[test]
fn a_database_that_is_down_holds_up_itself_alone() {
    let cluster = Cluster::new(1);
    let outage = Duration::from_secs(if full() { 60 } else { 5 });
    let begun = Instant::now();
    let (mut down, up) = (Database::start(), Database::start());
    let mut results = Results::of(&cluster, "outage", 100, &["down", "up"]);
    let sinks = ["down", "up"];
    let both = recipe(&[("down", &down), ("up", &up)], true);
    let sink = Process::start_all(&cluster, &both, 1);
    results.add(10_000, &sinks);
    let landed = |database: &Database, count: usize| {
        until("all has landed", || database.executions("outage") == count);
    };
    landed(&down, 10_000);
    down.server.kill().unwrap();
    let since = Instant::now();
    let mut rounds = 0;
    while since.elapsed() < outage {
        results.add(1_000, &sinks);
        rounds += 1;
        // the other goes on
        landed(&up, results.count);
    }
    down.server.restart().unwrap();
    landed(&down, results.count);
    landed(&up, results.count);
    Process::stop_all(sink);
    let counts = [results.count(&down), results.count(&up)];
    let stale = results.stale(&down) + results.stale(&up);
    eprintln!("T19: {counts:?}, {stale} stale, {rounds} rounds meanwhile");
    let right = counts == [Count::default(), Count::default()] && stale == 0;
    Row {
        id: "T19",
        title: "a database of two is down",
        injected: 1,
        expected: format!(
            "{} results, a row each in both; down for {} s, in which the other took {} as they came",
            results.count,
            outage.as_secs(),
            rounds * 1_000
        ),
        lost: counts.iter().map(|count| count.lost).sum(),
        duplicated: counts.iter().map(|count| count.duplicated).sum(),
        passed: right,
        took: begun.elapsed(),
        seed: None,
    }
    .keep();
    assert!(right, "{counts:?}, {stale} keys without their last update");
}

#[test]
fn the_last_update_of_each_key_stands() {
    let cluster = Cluster::new(1);
    let (updates, kills) = if full() { (100_000, 20) } else { (10_000, 3) };
    let begun = Instant::now();
    let mut seed = Seed::new("T28");
    let database = Database::start();
    let mut results = Results::of(&cluster, "updates", 1_000, &["rows"]);
    let recipe = recipe(&[("rows", &database)], false);
    let mut sinks: Vec<Process> = (0..2).map(|_| Process::start(&cluster, &recipe)).collect();
    for _ in 0..kills {
        results.add(updates / kills, &["rows"]);
        std::thread::sleep(seed.between(Duration::from_millis(300), Duration::from_millis(2_500)));
        sinks.swap_remove(seed.below(sinks.len())).kill();
        sinks.push(Process::start(&cluster, &recipe));
    }
    results.add(updates - results.count, &["rows"]);
    let behind = "select coalesce(sum(next_offset), 0) from weir_positions";
    until("all has landed", || {
        database.number(behind) >= results.count
    });
    Process::stop_all(sinks);
    let stale = results.stale(&database);
    let keys = database.number("select count(*) from latest");
    let dead = database.number("select count(*) from weir_dead_letters");
    eprintln!("T28: {kills} kills, {keys} keys, {stale} without their last update, {dead} dead");
    let passed = (stale, keys, dead) == (0, results.keys, 0);
    Row {
        id: "T28",
        title: "updates through an upsert sink; one of two sinks is killed again and again, Postgres",
        injected: results.count,
        expected: format!(
            "the last update of each of {} keys stands, after {kills} kills and twice as many rebalances",
            results.keys
        ),
        lost: stale,
        duplicated: 0,
        passed,
        took: begun.elapsed(),
        seed: Some(seed.seed),
    }
    .keep();
    assert!(passed, "{stale} stale, {keys} keys, {dead} dead");
}

/// As a user would: destinations in settings, a graph applied over HTTP, a row in the user's own table, the history read back.
#[test]
fn a_graph_with_a_table_of_its_own_is_applied_and_its_history_read_from_postgres() {
    let cluster = Cluster::shared();
    let database = Arc::new(Database::start());
    let all =
        recipe(&[("shop", &database)], true).with("WEIR_TENANTS__DEFAULT__TABLES", "shop/latest");
    let all = Recipe { role: "all", ..all };
    let weir = Process::start_all(&cluster, &all, 1);
    let url = weir[0].url();
    let file = cluster.folder().join("tables.yaml");
    let apply = |table: &str, to: &str| {
        let text = format!(
            "weir: 1\nname: tables\ntriggers:\n  t: {{ manual: {{}} }}\nsteps: {{}}\nsinks:\n  rows: {{ postgres: {{ to: {to}, table: {table}, mode: upsert, key: [id] }}, from: [t] }}\n"
        );
        std::fs::write(&file, text).unwrap();
        run(&url, &["apply", &file.display().to_string()])
    };
    for (table, to, expected) in [
        ("latest", "nowhere", "there is no destination \"nowhere\""),
        ("other", "shop", "is not granted"),
    ] {
        let refused = apply(table, to);
        assert!(refused.err.contains(expected), "{}", refused.err);
    }
    apply("latest", "shop").ok();
    let sent = weir[0].post(
        "/api/v1/graphs/tables/triggers/t",
        &serde_json::json!({"id": "a", "n": 7}),
    );
    let execution = sent["execution"].as_str().unwrap().to_owned();
    let got = run(
        &url,
        &["exec", "get", &execution, "--wait", "30s", "-o", "json"],
    )
    .ok()
    .json();
    assert_eq!(got["status"], "succeeded", "{got}");
    assert_eq!(database.sql("select id, n from latest"), "a|7");
    let listed = run(
        &url,
        &[
            "exec", "list", "--graph", "tables", "--since", "1h", "-o", "json",
        ],
    )
    .ok()
    .json();
    assert_eq!(listed["items"][0]["execution"], *execution, "{listed}");
    // what the table does not take is a dead letter of this destination
    weir[0].post(
        "/api/v1/graphs/tables/triggers/t",
        &serde_json::json!({"id": "b"}),
    );
    until("it has died", || {
        let list = run(&url, &["dlq", "list", "--graph", "tables", "-o", "json"])
            .ok()
            .json();
        list["items"][0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("not-null"))
    });
    Process::stop_all(weir);
}
