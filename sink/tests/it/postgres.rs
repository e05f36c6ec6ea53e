//! The sink on a real Postgres: each result a row once, whoever dies; users' own tables as the database takes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::graph;
use schemas::records::{Output, Payload, SegmentResult};
use sink::{Definitions, Options, Postgres, Retention, Sink, SinkConfig, Wanted};
use store::{NewVersion, Store};
use topics::catalog::{RESULTS, topics};
use topics::{Embedded, Log, Outgoing, Record};
use xtask::services::postgres::Temporary;

use super::{Nothing, PATIENCE, hex, result};

/// Writes to `orders` and `shop.latest`.
const GRAPH: &str = "weir: 1
name: g
triggers: { t: { manual: {} } }
steps: {}
sinks:
  rows: { postgres: { to: shop, table: orders }, from: [t] }
  latest: { postgres: { to: shop, table: shop.latest, mode: upsert, key: [id] }, from: [t] }
  gone: { postgres: { to: shop, table: shop.latest, mode: delete, key: [id] }, from: [t] }
  elsewhere: { postgres: { to: other, table: orders }, from: [t] }
  texts: { postgres: { to: shop, table: texts }, from: [t] }
  json: { postgres: { to: shop, table: objects }, from: [t] }
  kept: { postgres: { to: shop, table: kept, mode: upsert, key: [id] }, from: [t] }
  once: { postgres: { to: shop, table: once, mode: insert, key: [id] }, from: [t] }
";

struct Line {
    runtime: tokio::runtime::Runtime,
    log: Arc<dyn Log>,
    store: Store,
    version: [u8; 32],
    server: Temporary,
}

impl Line {
    fn new() -> Self {
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&topics()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
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
        let server = Temporary::start().unwrap();
        server
            .sql("create schema shop; create table orders (id bigint primary key, at timestamptz not null default now(), total numeric check (total >= 0), tags text[]);
                  create table shop.latest (id text primary key, n bigint)")
            .unwrap();
        Self {
            runtime,
            log,
            store,
            version: hex(&version),
            server,
        }
    }

    fn sink(&self) -> Sink {
        self.sink_with(true)
    }

    fn sink_with(&self, history: bool) -> Sink {
        let config = SinkConfig {
            batch_records_max: 50,
            interval: Duration::from_millis(1),
            ..SinkConfig::new("shop")
        };
        let options = Options {
            name: "shop".into(),
            history,
            retention: Retention::all(Some(Duration::from_secs(7 * 86_400))),
        };
        let definitions = Definitions::new(
            self.store.clone(),
            self.runtime.handle().clone(),
            "shop",
            Arc::new(|_, _, table| table != "secret"),
        );
        let destination = Postgres::open(&self.server.url(), 2, options).unwrap();
        Sink::start(
            self.log.clone(),
            destination,
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

    fn append(&self, values: Vec<Bytes>) {
        self.append_to(None, values);
    }

    fn append_to(&self, partition: Option<u32>, values: Vec<Bytes>) {
        let outgoing = values.into_iter().map(|value| Outgoing {
            topic: RESULTS.into(),
            partition,
            record: Record {
                key: Some(Bytes::from_static(b"k")),
                value: Some(value),
                headers: vec![],
                timestamp_ms: 7,
            },
        });
        let appender = self.log.appender();
        self.runtime
            .block_on(appender.append(outgoing.collect()))
            .unwrap();
    }

    fn sql(&self, text: &str) -> String {
        self.server.sql(text).unwrap().trim().to_owned()
    }

    fn until(&self, query: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // it may be down just now
            let found = self.server.sql(query).unwrap_or_default();
            if found.trim() == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{query}: {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn rows_land_once_whatever_dies() {
    let mut line = Line::new();
    let sink = line.sink();
    let results = |numbers: std::ops::Range<u64>| numbers.map(|n| result(n).encode());
    line.append(results(0..100).collect());
    line.until("select count(*) from weir_executions", "100");
    line.until("select count(*) from weir_outputs", "360");
    assert_eq!(
        line.sql("select count(*) from weir_outputs where data = '007' and data_bytes is null"),
        "90"
    );
    assert_eq!(
        line.sql("select count(*) from weir_outputs where data_bytes = '\\xfeff'"),
        "90"
    );
    assert_eq!(
        line.sql("select distinct triggered_at = timestamptz 'epoch' + interval '5 us', finished_at = timestamptz 'epoch' + interval '7 ms' from weir_executions"),
        "t|t"
    );
    assert_eq!(
        line.sql("select count(*) from weir_executions where reason = 'it''s \"broken\"'"),
        "10"
    );

    // the database dies while it is written to
    line.append(results(100..2_000).collect());
    line.server.kill().unwrap();
    line.append(results(2_000..3_000).collect());
    line.server.restart().unwrap();
    line.until("select count(*) from weir_executions", "3000");
    line.until("select sum(next_offset) from weir_positions", "3000");
    sink.stop().unwrap();

    // a sink that lost its positions writes the same rows again
    line.sql("delete from weir_positions");
    let sink = line.sink();
    line.until("select sum(next_offset) from weir_positions", "3000");
    assert_eq!(line.sql("select count(*) from weir_executions"), "3000");
    assert_eq!(line.sql("select count(*) from weir_outputs"), "10800");
    sink.stop().unwrap();
}

#[test]
fn another_writer_is_fenced() {
    let line = Line::new();
    let first = line.sink();
    line.append((0..50).map(|n| result(n).encode()).collect());
    line.until("select count(*) from weir_executions", "50");
    // somebody sets the positions back while the sink runs: it notices, starts over, and doubles nothing
    line.sql("update weir_positions set next_offset = 0");
    line.append((50..60).map(|n| result(n).encode()).collect());
    line.until("select count(*) from weir_executions", "60");
    line.until("select sum(next_offset) from weir_positions", "60");
    assert_eq!(
        line.sql("select count(*) from weir_outputs"),
        (54 * 4).to_string()
    );
    first.stop().unwrap();
}

/// Where there is nothing else to write, positions and rows go by one statement.
#[test]
fn rows_and_positions_are_one_statement() {
    let line = Line::new();
    line.sql(
        "create table once (id bigint primary key, n integer unique deferrable initially deferred)",
    );
    let rows = |partition: u32, ids: std::ops::Range<u64>| {
        let row = |id| line.result(id, &[("once", &format!("{{\"id\":{id},\"n\":{id}}}"))]);
        line.append_to(Some(partition), ids.map(row).collect());
    };
    let all = |count: u32| {
        line.until("select count(*) from once", &count.to_string());
        line.until(
            "select sum(next_offset) from weir_positions",
            &count.to_string(),
        );
    };
    let sink = line.sink_with(false);
    // both are written by the same connection
    rows(0, 0..100);
    rows(2, 100..200);
    all(200);
    // it does not move, so the other one may not either
    line.sql(r#"update weir_positions set next_offset = 50 where "partition" = 0"#);
    rows(2, 200..210);
    rows(0, 210..220);
    rows(2, 220..230);
    all(230);
    // a constraint that waits until the end of the transaction takes one row, not the batch
    line.append_to(
        Some(0),
        vec![line.result(230, &[("once", r#"{"id":230,"n":7}"#)])],
    );
    rows(0, 231..240);
    line.until("select sum(next_offset) from weir_positions", "240");
    assert_eq!(line.sql("select count(*) from once"), "239");
    assert!(
        line.sql("select reason from weir_dead_letters")
            .contains("duplicate key value"),
    );
    sink.stop().unwrap();
    // a sink that lost its positions
    line.sql("delete from weir_positions");
    let sink = line.sink_with(false);
    line.until("select sum(next_offset) from weir_positions", "240");
    assert_eq!(line.sql("select count(*) from once"), "239");
    assert_eq!(line.sql("select count(*) from weir_dead_letters"), "1");
    rows(2, 240..250);
    line.until("select count(*) from once", "249");
    sink.stop().unwrap();
}

#[test]
fn users_tables_take_what_the_database_takes_and_the_rest_dies() {
    let line = Line::new();
    let sink = line.sink();
    line.append(vec![
        line.result(
            1,
            &[("rows", r#"{"id":1,"total":"12.50","tags":["a","b"]}"#)],
        ),
        line.result(2, &[("rows", r#"{"id":2,"total":-1}"#)]),
        line.result(
            3,
            &[("rows", r#"{"id":"x"}"#), ("elsewhere", r#"{"id":3}"#)],
        ),
        line.result(4, &[("rows", r#"{"id":4,"colour":"red"}"#)]),
        line.result(5, &[("rows", r#"{"id":1,"total":3}"#)]),
        line.result(
            6,
            &[
                ("rows", "no json"),
                ("rows", r#"{"id":6,"at":"2026-01-31T12:00:00Z"}"#),
            ],
        ),
        line.result(
            7,
            &[
                ("latest", r#"{"id":"a","n":1}"#),
                ("latest", r#"{"id":"b","n":1}"#),
            ],
        ),
        line.result(
            8,
            &[("latest", r#"{"id":"a","n":2}"#), ("gone", r#"{"id":"b"}"#)],
        ),
        line.result(
            9,
            &[
                ("latest", r#"{"id":"c\u0000","n":2}"#),
                ("latest", r#"{"n":2}"#),
            ],
        ),
    ]);
    line.until("select count(*) from weir_executions", "9");
    assert_eq!(
        line.sql("select id, total, tags, at = '2026-01-31 12:00+00' from orders order by id"),
        "1|12.50|{a,b}|f\n6|||t"
    );
    assert_eq!(line.sql("select * from shop.latest"), "a|2");
    let dead = line.sql("select step, kind, \"offset\", convert_from(value, 'utf8'), reason from weir_dead_letters order by \"offset\", id");
    let dead: Vec<&str> = dead.lines().collect();
    let expected = [
        (1, "violates check constraint"),
        (2, "invalid input syntax for type bigint"),
        (3, "column \"colour\" of relation \"orders\" does not exist"),
        (4, "duplicate key value"),
        (5, "no JSON object"),
        (8, "cannot be converted to text"),
        (8, "no field \"id\""),
    ];
    assert_eq!(dead.len(), expected.len(), "{dead:#?}");
    for (letter, (offset, reason)) in dead.iter().zip(expected) {
        assert!(letter.starts_with(&format!("t|sink|{offset}|")), "{letter}");
        assert!(letter.contains(reason), "{letter}");
    }
    // written again, it is the same
    sink.stop().unwrap();
    line.sql("delete from weir_positions");
    let sink = line.sink();
    line.until("select sum(next_offset) from weir_positions", "9");
    assert_eq!(
        line.sql("select count(*) from weir_dead_letters where \"offset\" > 0"),
        "7"
    );
    assert_eq!(line.sql("select count(*) from orders"), "2");
    sink.stop().unwrap();
}

#[test]
fn a_table_is_checked_against_the_live_one() {
    let line = Line::new();
    line.sql("create view seen as select 1 as id; create table made (id int generated always as identity, n int not null, m int, unique (n) include (m))");
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    for (table, mode, key, columns, expected) in [
        ("orders", graph::WriteMode::Insert, vec![], vec![], None),
        (
            "orders",
            graph::WriteMode::Upsert,
            vec!["id"],
            vec!["id", "total"],
            None,
        ),
        ("made", graph::WriteMode::Upsert, vec!["n"], vec![], None),
        (
            "nowhere",
            graph::WriteMode::Insert,
            vec![],
            vec![],
            Some("there is no table nowhere"),
        ),
        (
            "seen",
            graph::WriteMode::Insert,
            vec![],
            vec![],
            Some("is no table"),
        ),
        (
            "shop.latest",
            graph::WriteMode::Upsert,
            vec!["key"],
            vec![],
            Some("no column \"key\"; it has id, n"),
        ),
        (
            "shop.latest",
            graph::WriteMode::Upsert,
            vec!["n"],
            vec![],
            Some("no primary key or unique constraint"),
        ),
        (
            "made",
            graph::WriteMode::Insert,
            vec![],
            vec!["id"],
            Some("is generated"),
        ),
        (
            "made",
            graph::WriteMode::Insert,
            vec![],
            vec!["m"],
            Some("must not be null"),
        ),
    ] {
        let (key, columns) = (list(&key), list(&columns));
        let wanted = Wanted {
            table,
            mode,
            key: &key,
            columns: &columns,
        };
        let url = line.server.url();
        let faults = line
            .runtime
            .block_on(Postgres::check(&url, &wanted))
            .unwrap();
        match expected {
            None => assert!(faults.is_empty(), "{table}: {faults:?}"),
            Some(text) => assert!(
                faults.iter().any(|fault| fault.contains(text)),
                "{table}: {faults:?}"
            ),
        }
    }
}

#[test]
fn days_that_are_old_are_dropped() {
    let line = Line::new();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    // a result that ends in 9 fails
    let now_ms = now.as_millis() as u64 / 10 * 10;
    let day = |days: u64| now_ms - days * 86_400_000;
    let results = [day(0), day(3), day(6)].map(|ms| result(ms).encode());
    let sink = line.sink();
    line.append(results.to_vec());
    line.append(vec![result(5).encode()]);
    line.until("select count(*) from weir_executions", "4");
    // of 1970: in the part for what has none
    assert_eq!(
        line.sql("select count(*) from weir_executions_default"),
        "1"
    );
    let parts = "select count(*) from pg_inherits where inhparent = 'weir_executions'::regclass";
    let before: u64 = line.sql(parts).parse().unwrap();
    assert!(before >= 6, "{before}");
    sink.stop().unwrap();

    let options = Options {
        name: "shop".into(),
        history: true,
        retention: Retention {
            outputs: Some(Duration::from_secs(86_400)),
            ..Retention::all(Some(Duration::from_secs(4 * 86_400)))
        },
    };
    let destination = Postgres::open(&line.server.url(), 1, options).unwrap();
    let sink = Sink::start(
        line.log.clone(),
        destination,
        None,
        SinkConfig::new("shop"),
        Arc::new(|| {}),
    )
    .unwrap();
    line.until("select count(*) from weir_executions", "2");
    line.until("select count(*) from weir_executions_default", "0");
    // of today
    line.until("select count(distinct execution) from weir_outputs", "1");
    sink.stop().unwrap();
}

/// Fields that travel as texts, and the same fields beside an array, which makes all of them travel as JSON.
#[test]
fn a_column_gets_the_same_however_its_field_travels() {
    let line = Line::new();
    line.sql(
        "create table texts (id bigint, a boolean, b bytea, d smallint, e integer, f text, g json, h cidr, i real, j double precision,
            k macaddr, l inet, m char(5), n varchar(5), o date, p time, q timestamp(3), r timestamptz, s interval, t timetz,
            u numeric(6,2), v uuid, w jsonb);
         create table objects (like texts, more text[]);
         create table kept (like texts, primary key (id))",
    );
    let fields = [
        r#""a":true,"b":"\\x00ff","d":-7,"e":"12","f":"a\"b\u00e9","g":{"x":[1,"y"]},"h":"10.0.0.0/8","i":1.5,"j":-2.25,"k":"08:00:2b:01:02:03","l":"::1""#,
        r#""m":"abc","n":"abc  ","o":"2026-02-28","p":"12:30:00.5","q":"2026-01-01 00:00:00.123456","r":"2026-01-01T00:00:00+02:00","s":"1 day 02:00","t":"01:00+01""#,
        r#""u":1.005,"v":"00000000-0000-0000-0000-00000000000A","w":"text","g":"text""#,
        r#""f":12.50,"a":"yes","d":0,"w":12,"u":"-3.999","j":"NaN""#,
        r#""f":true,"a":0,"w":null,"g":null,"f":null,"u":null"#,
        // numbers as jsonb writes them
        r#""f":1e3,"e":1e3,"j":1E-2"#,
        r#""f":-0,"u":-0.0"#,
        r#""f":{"x":1},"w":[1,{"y":2}]"#,
        // which no column takes
        r#""n":"abcdef""#,
        r#""m":"abcdef""#,
        r#""d":40000"#,
        r#""e":1.5"#,
        r#""e":[1]"#,
        r#""u":123456.7"#,
        r#""v":"no uuid""#,
        r#""f":"\u0000""#,
        r#""f":"\ud800""#,
        r#""o":"2026-02-30""#,
    ];
    let sink = line.sink();
    for (fields, n) in fields.iter().zip(0..) {
        let texts = format!("{{\"id\":{n},{fields}}}");
        let json = format!("{{\"id\":{n},{fields},\"more\":[\"z\"]}}");
        // each a batch of its own: one that has a refused row is written as JSON
        let ways = [("texts", &texts), ("json", &json), ("kept", &texts)];
        for ((sink, event), way) in ways.into_iter().zip(0..) {
            let number = 3 * n + way;
            line.append(vec![line.result(number, &[(sink, event)])]);
            let landed = (number + 1).to_string();
            line.until("select count(*) from weir_executions", &landed);
        }
    }
    sink.stop().unwrap();
    // a json keeps its text where it travels as one
    let rows = |table: &str| {
        line.sql(&format!(
            "select (to_jsonb(whole) - 'more') || jsonb_build_object('g', whole.g::jsonb) from {table} as whole order by id"
        ))
    };
    assert_eq!(rows("texts"), rows("objects"));
    assert_eq!(rows("kept"), rows("objects"));
    assert_eq!(line.sql("select count(*) from texts"), "8");
    let dead = |sink: &str| {
        line.sql(&format!(
            r#"select "offset" / 3 from weir_dead_letters where id like '%-{sink}' order by 1"#
        ))
    };
    assert_eq!(dead("texts"), dead("json"));
    assert_eq!(dead("kept"), dead("json"));
}
