//! The sink on a real Cassandra, which speaks what ScyllaDB speaks: rows converge, whoever dies and whatever is written twice.

mod history;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::graph;
use schemas::records::{DeadLetter, FailureKind, Output, Payload, SegmentResult, headers};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use sink::{Definitions, Options, Retention, Scylla, ScyllaSettings, Sink, SinkConfig, WriteTimes};
use store::{NewVersion, Store};
use topics::catalog::{DEAD_LETTERS, RESULTS, TRIGGERS, topics};
use topics::{Embedded, Log, Outgoing, Record};
use xtask::services::cassandra::Temporary;

use super::{Nothing, PATIENCE, result};

/// Writes to `orders` and `latest`.
const GRAPH: &str = "weir: 1
name: g
triggers: { t: { manual: {} } }
steps: {}
sinks:
  rows: { scylla: { to: wide, table: orders }, from: [t] }
  latest: { scylla: { to: wide, table: latest }, from: [t] }
  nowhere: { scylla: { to: wide, table: nowhere }, from: [t] }
  secret: { scylla: { to: wide, table: secret }, from: [t] }
  elsewhere: { scylla: { to: other, table: orders }, from: [t] }
";

const TABLES: [&str; 4] = [
    "create table orders (id int, line int, at timestamp, total decimal, tags set<text>, \"Owner\" text static, primary key (id, line))",
    "create table latest (id text primary key, n bigint, m bigint)",
    "create table counts (id text primary key, n counter)",
    "create materialized view seen as select * from latest where id is not null and n is not null primary key (n, id)",
];

/// It ends with this process.
static SERVER: LazyLock<Temporary> = LazyLock::new(|| Temporary::start().unwrap());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A topic, a value and headers.
type Appended<'t> = (&'t str, Option<Bytes>, Vec<(String, Bytes)>);

/// A keyspace, and a log whose results go there.
struct Line {
    runtime: tokio::runtime::Runtime,
    log: Arc<dyn Log>,
    store: Store,
    version: [u8; 32],
    settings: ScyllaSettings,
    session: Session,
}

impl Line {
    fn new() -> Self {
        Self::on(&SERVER.at())
    }

    fn on(at: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let keyspace = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let session = runtime.block_on(async {
            let session = SessionBuilder::new().known_node(at).build().await.unwrap();
            let create = format!(
                "create keyspace {keyspace} with replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
            );
            session.query_unpaged(create, ()).await.unwrap();
            session.use_keyspace(&keyspace, true).await.unwrap();
            for table in TABLES {
                session.query_unpaged(table, ()).await.unwrap();
            }
            session
        });
        let store = runtime.block_on(Store::memory()).unwrap();
        let canonical = graph::parse(GRAPH, "g")
            .unwrap()
            .resolve(&mut Nothing)
            .unwrap()
            .canonical()
            .unwrap();
        let version = graph::version(&canonical);
        let new = NewVersion {
            tenant: "default".into(),
            graph: "g".into(),
            version: version.clone(),
            canonical,
            source: GRAPH.into(),
            webhooks: vec![],
            subscriptions: vec![],
            writes: vec![],
            starts: vec![],
            schemas: vec![],
            at_ms: 1,
        };
        runtime.block_on(store.apply(new)).unwrap();
        Self {
            runtime,
            log: log(),
            store,
            version: super::hex(&version),
            settings: ScyllaSettings::parse(&format!("scylla://{at}/{keyspace}")).unwrap(),
            session,
        }
    }

    fn sink(&self) -> Sink {
        self.sink_with(true, 50)
    }

    fn sink_with(&self, history: bool, batch_records_max: usize) -> Sink {
        let config = SinkConfig {
            history,
            batch_records_max,
            interval: Duration::from_millis(1),
            ..SinkConfig::new("wide")
        };
        let options = Options {
            name: "wide".into(),
            history,
            retention: Retention {
                outputs: Some(Duration::from_secs(86_400)),
                ..Retention::all(Some(Duration::from_secs(7 * 86_400)))
            },
        };
        let runtime = self.runtime.handle().clone();
        let definitions = Definitions::new(
            self.store.clone(),
            runtime.clone(),
            "wide",
            Arc::new(|_, _, table| table != "secret"),
        );
        let times = WriteTimes::new(self.log.clone(), self.store.clone(), runtime);
        Sink::start(
            self.log.clone(),
            Scylla::new(self.settings.clone(), options, times).unwrap(),
            Some(definitions),
            config,
            Arc::new(|| {}),
        )
        .unwrap()
    }

    /// One result whose outputs go to the sinks named.
    fn result(&self, number: u64, outputs: &[(&str, &str)]) -> Bytes {
        let outputs = outputs
            .iter()
            .zip(0..)
            .map(|((sink, data), number)| Output {
                step: "t".into(),
                port: "out".into(),
                number,
                sinks: vec![(*sink).to_owned()],
                key: None,
                content_type: "application/json".into(),
                headers: vec![],
                data: Payload::Inline(Bytes::from((*data).to_owned())),
            });
        SegmentResult {
            version: self.version,
            failure: None,
            outputs: outputs.collect(),
            ..result(number)
        }
        .encode()
    }

    /// To one partition.
    fn append(&self, values: Vec<Bytes>) {
        let records = values
            .into_iter()
            .map(|value| (RESULTS, Some(value), vec![]));
        self.append_to(records.collect());
    }

    fn append_to(&self, records: Vec<Appended<'_>>) {
        let outgoing = records.into_iter().map(|(topic, value, headers)| Outgoing {
            topic: topic.into(),
            partition: Some(0),
            record: Record {
                key: Some(Bytes::from_static(b"k")),
                value,
                headers,
                timestamp_ms: 7,
            },
        });
        let appender = self.log.appender();
        self.runtime
            .block_on(appender.append(outgoing.collect()))
            .unwrap();
    }

    /// The rows, each as JSON.
    fn rows(&self, select: &str) -> Vec<String> {
        self.try_rows(select).unwrap()
    }

    fn try_rows(&self, select: &str) -> Result<Vec<String>, String> {
        let text = select.replacen("select", "select json", 1);
        self.runtime.block_on(async {
            let found = self.session.query_unpaged(text, ()).await;
            let rows = found
                .map_err(|e| e.to_string())?
                .into_rows_result()
                .unwrap();
            let mut rows: Vec<String> = rows
                .rows::<(String,)>()
                .unwrap()
                .map(|row| row.unwrap().0)
                .collect();
            rows.sort();
            Ok(rows)
        })
    }

    fn execute(&self, text: &str) {
        let done = self.session.query_unpaged(text, ());
        self.runtime.block_on(done).unwrap();
    }

    fn until(&self, select: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // it may be down, and the tables not there yet
            let found = self.try_rows(select).unwrap_or_else(|e| vec![e]);
            if found == [expected] {
                return;
            }
            assert!(Instant::now() < deadline, "{select}: {found:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn until_position(&self, next: i64) {
        self.until(
            "select next_offset from weir_positions where topic = 'weir.results' and \"partition\" = 0",
            &format!("{{\"next_offset\": {next}}}"),
        );
    }

    /// Everything that the sink has written, with the times of it.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (table, cell) in [
            ("weir_executions", "logs"),
            ("weir_executions_by_graph", "status"),
            ("weir_outputs", "step"),
            ("weir_dead_letters", "headers"),
            ("weir_dead_letters_by_day", "kind"),
            ("weir_days", "record_ms"),
            ("orders", "total"),
            ("latest", "n"),
        ] {
            all.extend(self.rows(&format!("select * from {table}")));
            all.extend(self.rows(&format!("select writetime({cell}) as at from {table}")));
        }
        all
    }
}

fn log() -> Arc<dyn Log> {
    let log: Arc<dyn Log> = Arc::new(Embedded::memory());
    log.create_topics(&topics()).unwrap();
    log
}

fn letter() -> DeadLetter {
    DeadLetter {
        tenant: "default".into(),
        topic: TRIGGERS.into(),
        partition: 2,
        offset: 9,
        kind: FailureKind::Rejected,
        reason: "no".into(),
        attempt: 1,
        graph: Some("g".into()),
        version: None,
        execution: None,
        step: Some("s".into()),
    }
}

#[test]
fn rows_are_what_the_results_said_and_landing_them_again_changes_nothing() {
    let line = Line::new();
    line.append((0..100).map(|n| result(n).encode()).collect());
    line.append(vec![Bytes::from_static(b"no result")]);
    let purge = vec![(headers::PURGE.to_owned(), Bytes::from_static(b"0-1"))];
    let unknown = vec![(headers::PURGE.to_owned(), Bytes::from_static(b"9-9"))];
    let original = Some(Bytes::from_static(b"\0original"));
    line.append_to(vec![
        (DEAD_LETTERS, original.clone(), letter().headers()),
        (DEAD_LETTERS, original, letter().headers()),
        (DEAD_LETTERS, None, purge),
        (DEAD_LETTERS, None, unknown),
    ]);
    let sink = line.sink();
    line.until_position(101);
    line.until("select count(*) as n from weir_executions", r#"{"n": 100}"#);
    line.until("select count(*) as n from weir_outputs", r#"{"n": 360}"#);
    line.until("select count(*) as n from weir_dead_letters", r#"{"n": 3}"#);
    line.until(
        "select key, value, headers, purged_at_ms, kind from weir_dead_letters where id = '0-1'",
        r#"{"key": null, "value": null, "headers": "[]", "purged_at_ms": 7, "kind": "rejected"}"#,
    );
    sink.stop().unwrap();

    let id = schemas::ExecutionId::derive(3, "default", "g", "t", "3");
    let slice = id.0[15] & 15;
    let of = |what: &str, table: &str| {
        line.rows(&format!(
            "select {what} from {table} where tenant = 'default' and day = 0 and slice = {slice} and execution = {id}"
        ))
    };
    assert_eq!(
        of(
            "number, data, data_bytes, key, headers, sha256",
            "weir_outputs"
        ),
        [
            r#"{"number": 0, "data": "007", "data_bytes": null, "key": "0x", "headers": "[[\"h\",{\"base16\":\"ff\"}]]", "sha256": null}"#,
            r#"{"number": 1, "data": "", "data_bytes": null, "key": "0x", "headers": "[[\"h\",{\"base16\":\"ff\"}]]", "sha256": null}"#,
            r#"{"number": 2, "data": null, "data_bytes": "0xfeff", "key": "0x", "headers": "[[\"h\",{\"base16\":\"ff\"}]]", "sha256": null}"#,
            &format!(
                r#"{{"number": 3, "data": "{{\"bytes\":5242880,\"sha256\":\"{0}\"}}", "data_bytes": null, "key": "0x", "headers": "[[\"h\",{{\"base16\":\"ff\"}}]]", "sha256": "{0}"}}"#,
                "ab".repeat(32)
            ),
        ]
    );
    assert_eq!(
        of(
            "status, reason, triggered_at_us, finished_at_ms",
            "weir_executions"
        ),
        [r#"{"status": "succeeded", "reason": null, "triggered_at_us": 5, "finished_at_ms": 7}"#]
    );
    let failed = "select reason, failure from weir_executions where status = 'failed' and failure = 'trap' allow filtering";
    assert_eq!(line.rows(failed).len(), 10);
    let graph: usize = (0..16)
        .map(|slice| {
            let select = format!("select execution from weir_executions_by_graph where tenant = 'default' and graph = 'g' and day = 0 and slice = {slice}");
            line.rows(&select).len()
        })
        .sum();
    assert_eq!(graph, 100);
    let unreadable = "select kind, value from weir_dead_letters where id = 'weir.results-0-100'";
    assert_eq!(
        line.rows(unreadable),
        [r#"{"kind": "record", "value": "0x6e6f20726573756c74"}"#]
    );
    for (table, seconds) in [
        ("weir_outputs", 86_400),
        ("weir_executions", 604_800),
        ("weir_days", 604_800),
    ] {
        let keyspace = &line.settings.keyspace;
        let ttl = format!(
            "select default_time_to_live as s from system_schema.tables where keyspace_name = '{keyspace}' and table_name = '{table}'"
        );
        assert_eq!(line.rows(&ttl), [format!(r#"{{"s": {seconds}}}"#)]);
    }

    // a sink that lost its positions, in batches of another size
    let before = line.all();
    line.execute("truncate weir_positions");
    let sink = line.sink_with(true, 7);
    line.until_position(101);
    sink.stop().unwrap();
    assert_eq!(line.all(), before);
    // and one that has lost all
    for table in [
        "weir_positions",
        "weir_executions",
        "weir_outputs",
        "weir_executions_by_graph",
        "weir_dead_letters",
        "weir_days",
    ] {
        line.execute(&format!("truncate {table}"));
    }
    let sink = line.sink();
    line.until_position(101);
    line.until(
        "select purged_at_ms from weir_dead_letters where id = '0-1'",
        r#"{"purged_at_ms": 7}"#,
    );
    sink.stop().unwrap();
    assert_eq!(line.all(), before);
}

#[test]
fn the_later_record_wins_whichever_is_written_last_and_a_position_never_goes_back() {
    let mut line = Line::new();
    let first = line.result(0, &[("latest", r#"{"id":"a","n":1,"m":1}"#)]);
    let second = line.result(1, &[("latest", r#"{"id":"a","n":2}"#)]);
    line.append(vec![first.clone(), second]);
    let sink = line.sink_with(false, 50);
    line.until_position(2);
    sink.stop().unwrap();
    // m was not in the later event
    let landed = [r#"{"id": "a", "m": 1, "n": 2}"#];
    assert_eq!(line.rows("select * from latest"), landed);

    // the same partition as somebody sees it who knows its first record only
    line.execute("truncate weir_positions");
    line.log = log();
    line.append(vec![first]);
    let sink = line.sink_with(false, 50);
    line.until_position(1);
    sink.stop().unwrap();
    assert_eq!(line.rows("select * from latest"), landed);

    line.execute("insert into weir_positions (topic, \"partition\", topic_id, next_offset) values ('weir.results', 0, 'weir.results', 0) using timestamp 0");
    line.until_position(1);
    let history = line.try_rows("select * from weir_executions").unwrap_err();
    assert!(history.contains("does not exist"), "{history}");
}

#[test]
fn users_tables_take_what_the_database_takes_and_the_rest_dies() {
    let line = Line::new();
    let sink = line.sink_with(false, 50);
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(70_000));
    line.append(vec![
        line.result(1, &[("rows", r#"{"id":1,"line":1,"at":"2026-01-31T12:00:00Z","total":"12.50","tags":["b","a"],"Owner":"me"}"#)]),
        line.result(2, &[("rows", r#"{"id":2,"line":"x"}"#)]),
        line.result(3, &[("rows", r#"{"id":1}"#), ("elsewhere", r#"{"id":3}"#)]),
        line.result(4, &[("rows", r#"{"id":4,"line":1,"colour":"red"}"#)]),
        line.result(5, &[("rows", "no json"), ("rows", r#"{"id":5,"line":1}"#)]),
        line.result(6, &[("latest", &long)]),
        line.result(7, &[("nowhere", "{}"), ("secret", r#"{"id":1}"#)]),
        // of one record that writes a row twice the later output wins
        line.result(8, &[("latest", r#"{"id":"a","n":9,"m":9}"#), ("latest", r#"{"id":"a","n":8}"#)]),
        // both at once, in one partition with one that is refused
        line.result(9, &[("rows", r#"{"id":6,"line":1}"#), ("rows", r#"{"id":6,"line":2,"total":"much"}"#), ("rows", r#"{"id":6,"line":3}"#)]),
    ]);
    line.until_position(9);
    assert_eq!(
        line.rows("select id, line, at, total, tags, \"Owner\" from orders"),
        [
            r#"{"id": 1, "line": 1, "at": "2026-01-31 12:00:00.000Z", "total": 12.50, "tags": ["a", "b"], "\"Owner\"": "me"}"#,
            r#"{"id": 5, "line": 1, "at": null, "total": null, "tags": null, "\"Owner\"": null}"#,
            r#"{"id": 6, "line": 1, "at": null, "total": null, "tags": null, "\"Owner\"": null}"#,
            r#"{"id": 6, "line": 3, "at": null, "total": null, "tags": null, "\"Owner\"": null}"#,
        ]
    );
    assert_eq!(
        line.rows("select * from latest"),
        [r#"{"id": "a", "m": 9, "n": 8}"#]
    );
    let dead = line.rows("select id, kind, step, reason from weir_dead_letters");
    let expected = [
        ("1-0-rows", "Error decoding JSON value for line"),
        ("2-0-rows", "has no \\\"line\\\", which is of the key"),
        (
            "3-0-rows",
            "has no column \\\"colour\\\"; it has Owner, at, id, line, tags, total",
        ),
        ("4-0-rows", "not one JSON object"),
        ("5-0-latest", "Key length of 70000"),
        ("6-0-nowhere", "has no table \\\"nowhere\\\""),
        ("6-1-secret", "no longer granted"),
        ("8-1-rows", "Error decoding JSON value for total"),
    ];
    assert_eq!(dead.len(), expected.len(), "{dead:#?}");
    for (letter, (id, reason)) in dead.iter().zip(expected) {
        let begins =
            format!(r#"{{"id": "weir.results-0-{id}", "kind": "sink", "step": "t", "reason": ""#);
        assert!(letter.starts_with(&begins), "{letter}");
        assert!(letter.contains(reason), "{letter}");
    }
    // the table changes under the running sink
    line.execute("alter table orders add colour text");
    line.append(vec![
        line.result(10, &[("rows", r#"{"id":7,"line":1,"colour":"red"}"#)]),
    ]);
    line.until(
        "select colour from orders where id = 7",
        r#"{"colour": "red"}"#,
    );
    sink.stop().unwrap();
}

#[test]
fn a_table_is_checked_against_the_live_one() {
    let line = Line::new();
    for (table, expected) in [
        ("orders", None),
        ("latest", None),
        ("system.local", Some("is not one for users")),
        ("weir_outputs", Some("is not one for users")),
        ("nowhere", Some("has no table \"nowhere\"")),
        ("gone.orders", Some("there is no keyspace \"gone\"")),
        ("seen", Some("is a view")),
        ("counts", Some("is a counter")),
    ] {
        let faults = line.runtime.block_on(Scylla::check(&line.settings, table));
        let faults = faults.unwrap();
        match expected {
            None => assert!(faults.is_empty(), "{table}: {faults:?}"),
            Some(text) => assert!(faults[0].contains(text), "{table}: {faults:?}"),
        }
    }
    let nobody = ScyllaSettings {
        nodes: vec!["127.0.0.1:1".into()],
        ..line.settings.clone()
    };
    let unanswered = line.runtime.block_on(Scylla::check(&nobody, "orders"));
    unanswered.unwrap_err();
}

#[test]
fn a_database_that_dies_while_it_is_written_to_gets_every_row() {
    let mut server = Temporary::start().unwrap();
    let line = Line::on(&server.at());
    let results = |numbers: std::ops::Range<u64>| {
        let row = |n: u64| format!(r#"{{"id":{},"line":{n}}}"#, n % 10);
        numbers
            .map(|n| line.result(n, &[("rows", &row(n))]))
            .collect::<Vec<_>>()
    };
    let sink = line.sink_with(true, 500);
    line.append(results(0..1_000));
    line.until_position(1_000);
    line.append(results(1_000..6_000));
    std::thread::sleep(Duration::from_millis(100));
    server.kill().unwrap();
    line.append(results(6_000..7_000));
    assert!(sink.healthy());
    server.restart().unwrap();
    line.until_position(7_000);
    sink.stop().unwrap();
    for table in [
        "weir_executions",
        "weir_executions_by_graph",
        "weir_outputs",
        "orders",
    ] {
        line.until(
            &format!("select count(*) as n from {table}"),
            r#"{"n": 7000}"#,
        );
    }
    let died = "select count(*) as n from weir_dead_letters";
    line.until(died, r#"{"n": 0}"#);
}
