//! The history as the API shows it: read from CQL it is what it is read from Postgres, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use control::{Connecting, ControlState, Grants, History, MissingTopics};
use schemas::ExecutionId;
use schemas::records::{DeadLetter, FailureKind, LogLine, Output, Payload, SegmentResult, headers};
use serde_json::{Value, json};
use sink::{Erased, Options, Postgres, Retention, Scylla, Sink, SinkConfig};
use store::Store;
use topics::catalog::{DEAD_LETTERS, RESULTS, TRIGGERS};
use topics::{Outgoing, Record};
use tower::ServiceExt as _;
use xtask::services::postgres;

use super::super::{PATIENCE, result};
use super::Line;

const DAY_MS: u64 = 86_400_000;
/// The day of the first execution.
const FIRST: u64 = 20_000 * DAY_MS;

/// One log whose records land in both.
pub(super) struct Both {
    pub(super) line: Line,
    pub(super) server: postgres::Temporary,
    sinks: Vec<Sink>,
}

impl Both {
    pub(super) fn new() -> Self {
        let line = Line::new();
        let server = postgres::Temporary::start().unwrap();
        let options = Options {
            name: "shop".into(),
            history: true,
            // the days of these rows are long past
            retention: Retention::default(),
        };
        let config = SinkConfig {
            interval: Duration::from_millis(1),
            ..SinkConfig::new("shop")
        };
        let postgres = Postgres::open(&server.url(), 2, options).unwrap();
        let postgres = Sink::start(line.log.clone(), postgres, None, config, Arc::new(|| {}));
        let sinks = vec![postgres.unwrap(), line.sink()];
        Self {
            line,
            server,
            sinks,
        }
    }

    /// To a partition of a topic, with a time.
    pub(super) fn append(&self, topic: &str, partition: u32, records: Vec<(u64, Record)>) {
        let outgoing = records.into_iter().map(|(ms, record)| Outgoing {
            topic: topic.into(),
            partition: Some(partition),
            record: Record {
                timestamp_ms: i64::try_from(ms).unwrap(),
                ..record
            },
        });
        let appender = self.line.log.appender();
        let appended = appender.append(outgoing.collect());
        self.line.runtime.block_on(appended).unwrap();
    }

    pub(super) fn results(&self, partition: u32, results: Vec<SegmentResult>) {
        let record =
            |result: SegmentResult| (result.execution.time_ms() + 5, value(result.encode()));
        let records = results.into_iter().map(record);
        self.append(RESULTS, partition, records.collect());
    }

    /// Waits for all that was appended.
    pub(super) fn landed(&self, ends: &[(&str, u32, i64)]) {
        for (topic, partition, end) in ends {
            let of = format!("topic = '{topic}' and \"partition\" = {partition}");
            self.line.until(
                &format!("select next_offset from weir_positions where {of}"),
                &format!("{{\"next_offset\": {end}}}"),
            );
            let select = format!("select next_offset from weir_positions where {of}");
            let deadline = Instant::now() + PATIENCE;
            while self.server.sql(&select).unwrap_or_default().trim() != end.to_string() {
                assert!(Instant::now() < deadline, "{select}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    pub(super) fn postgres(&self) -> Api<'_> {
        let _entered = self.line.runtime.enter();
        Api::new(&self.line, History::postgres(&self.server.url()).unwrap())
    }

    pub(super) fn scylla(&self) -> Api<'_> {
        let settings = self.line.settings.clone();
        let place = settings.place();
        let connect = Arc::new(move || -> Connecting {
            let settings = settings.clone();
            Box::pin(async move { settings.connect().await })
        });
        Api::new(&self.line, History::scylla(place, connect))
    }

    pub(super) fn stop(&mut self) {
        for sink in self.sinks.drain(..) {
            sink.stop().unwrap();
        }
    }
}

fn value(value: Bytes) -> Record {
    Record {
        key: Some(Bytes::from_static(b"k")),
        value: Some(value),
        headers: vec![],
        timestamp_ms: 0,
    }
}

/// The API over one history.
pub(super) struct Api<'l> {
    line: &'l Line,
    router: Router,
}

impl<'l> Api<'l> {
    fn new(line: &'l Line, history: History) -> Self {
        let store = line.runtime.block_on(Store::memory()).unwrap();
        let state = ControlState {
            store,
            history,
            log: line.log.clone(),
            grants: Grants::everything(),
            missing_topics: MissingTopics::Created { partitions: 4 },
            tables: Arc::new(()),
            payloads: None,
            registry: None,
            activations: None,
            redrives: None,
            api_key: None,
            vault: None,
            readiness: Vec::new(),
        };
        let router = control::router(state);
        Self { line, router }
    }

    fn ask(&self, request: Request<Body>) -> (u16, Bytes) {
        self.line.runtime.block_on(async {
            let answer = self.router.clone().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), 128 << 20).await.unwrap();
            (status, body)
        })
    }

    fn get(&self, path: &str) -> (u16, Bytes) {
        self.ask(Request::get(path).body(Body::empty()).unwrap())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        let (status, body) = self.ask(request.body(Body::from(body.to_string())).unwrap());
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// All pages of a list.
    pub(super) fn pages(&self, path: &str) -> Vec<Vec<Value>> {
        let mut pages = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, body) = self.get(&format!("{path}{cursor}"));
            assert_eq!(status, 200, "{path}{cursor}: {body:?}");
            let page: Value = serde_json::from_slice(&body).unwrap();
            pages.push(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else {
                return pages;
            };
            cursor = format!("&cursor={next}");
            assert!(pages.len() < 1_000, "{path} has no end");
        }
    }
}

fn execution(tenant: &str, graph: &str, ms: u64, number: u64) -> SegmentResult {
    let trigger_id = number.to_string();
    let execution = ExecutionId::derive(ms, tenant, graph, "t", &trigger_id);
    SegmentResult {
        tenant: tenant.into(),
        graph: graph.into(),
        trigger_id,
        execution,
        segment: execution.0,
        time_us: ms * 1_000,
        ..result(number)
    }
}

fn outputs(numbers: std::ops::Range<u32>, data: &str) -> Vec<Output> {
    let output = |number: u32| Output {
        step: "s".into(),
        port: if number.is_multiple_of(2) {
            "out"
        } else {
            "odd"
        }
        .into(),
        number,
        // nothing else shall take them
        sinks: vec![],
        key: (!number.is_multiple_of(3)).then(|| Bytes::from_static(b"\xff")),
        content_type: "application/json".into(),
        headers: vec![("h".into(), Bytes::from_static(b"v"))],
        data: Payload::Inline(Bytes::from(data.to_owned())),
    };
    numbers.map(output).collect()
}

fn letter(tenant: &str, number: u64) -> (u64, Record) {
    let graph = ["g", "h", "i"].get((number % 3) as usize);
    let letter = DeadLetter {
        tenant: tenant.into(),
        topic: TRIGGERS.into(),
        partition: 2,
        offset: 9,
        kind: if number.is_multiple_of(4) {
            FailureKind::Trap
        } else {
            FailureKind::Rejected
        },
        reason: format!("no {number}"),
        attempt: 2,
        graph: graph
            .filter(|graph| **graph != "i")
            .map(|g| (*g).to_owned()),
        version: Some("ab".into()),
        execution: Some(ExecutionId::derive(FIRST, tenant, "g", "t", "l")),
        step: Some(
            if number.is_multiple_of(5) {
                "five"
            } else {
                "s"
            }
            .into(),
        ),
    };
    let mut record = value(Bytes::from(format!("original {number}")));
    record.headers = vec![("own".to_owned(), Bytes::from_static(b"\xfe"))];
    record.headers.extend(letter.headers());
    // some of one time, and a day without any
    (FIRST + (number / 4) * DAY_MS / 4 + 1, record)
}

#[test]
fn the_history_in_cql_answers_as_the_one_in_postgres() {
    let mut both = Both::new();
    let scylla = both.scylla();
    // nothing is there yet, or just now
    assert!([200, 503].contains(&scylla.get("/api/v1/executions").0));

    let minute = DAY_MS / 1_440;
    let busy = (0..90).map(|n| execution("default", "g", FIRST + n / 3 * minute, n));
    let late = (90..120).map(|n| execution("default", "h", FIRST + n * DAY_MS / 40, n));
    let other = (0..20).map(|n| execution("other", "g", FIRST + n * minute, n));
    both.results(0, busy.chain(late).collect());
    both.results(1, other.collect());

    // one of three segments whose results lie in two partitions, with more outputs than an answer has
    let first = execution("default", "h", FIRST + 9 * DAY_MS, 200);
    let (second, third) = ([0xf1; 16], [0x0a; 16]);
    let segment = |segment, outputs, started| SegmentResult {
        segment,
        outputs,
        started,
        failure: None,
        logs: vec![LogLine {
            step: "s".into(),
            level: "info".into(),
            message: "said".into(),
        }],
        ..first.clone()
    };
    let large = execution("default", "h", FIRST + 9 * DAY_MS, 201);
    let heavy = "x".repeat(400 << 10);
    let heavy = (0..21).map(|n: u8| SegmentResult {
        segment: [n * 12; 16],
        outputs: outputs(0..4, &heavy),
        failure: None,
        ..large.clone()
    });
    both.results(1, vec![segment(second, outputs(0..700, "2"), vec![])]);
    both.results(
        0,
        vec![segment(first.execution.0, vec![], vec![second, third])],
    );
    both.results(0, vec![segment(third, outputs(0..700, "3"), vec![])]);
    both.results(1, heavy.collect());

    both.append(
        DEAD_LETTERS,
        0,
        (0..60).map(|n| letter("default", n)).collect(),
    );
    both.append(
        DEAD_LETTERS,
        1,
        (0..10).map(|n| letter("other", n)).collect(),
    );
    let purge = |n: u64| {
        let headers = vec![(headers::PURGE.to_owned(), Bytes::from(format!("0-{n}")))];
        let record = Record {
            value: None,
            headers,
            ..value(Bytes::new())
        };
        (FIRST + 30 * DAY_MS, record)
    };
    both.append(DEAD_LETTERS, 0, (10..45).step_by(2).map(purge).collect());
    both.landed(&[
        (RESULTS, 0, 122),
        (RESULTS, 1, 42),
        (DEAD_LETTERS, 0, 78),
        (DEAD_LETTERS, 1, 10),
    ]);

    let postgres = both.postgres();
    let since = FIRST + 2 * DAY_MS + 3;
    for (path, expected) in [
        ("/api/v1/executions?limit=7".to_owned(), 122),
        ("/api/v1/executions?limit=200".to_owned(), 122),
        ("/api/v1/executions?graph=g&limit=16".to_owned(), 90),
        ("/api/v1/executions?graph=h&limit=16".to_owned(), 32),
        ("/api/v1/executions?graph=none&limit=16".to_owned(), 0),
        ("/api/v1/executions?status=failed&limit=5".to_owned(), 12),
        ("/api/v1/executions?status=running&limit=5".to_owned(), 1),
        ("/api/v1/executions?trigger_id=77&limit=5".to_owned(), 1),
        (format!("/api/v1/executions?since={since}&limit=9"), 32),
        (
            format!("/api/v1/executions?graph=g&since={since}&limit=9"),
            0,
        ),
        ("/api/v1/dead-letters?limit=3".to_owned(), 42),
        ("/api/v1/dead-letters?limit=40".to_owned(), 42),
        ("/api/v1/dead-letters?purged=true&limit=4".to_owned(), 18),
        ("/api/v1/dead-letters?graph=h&limit=4".to_owned(), 14),
        ("/api/v1/dead-letters?graph=none&limit=4".to_owned(), 0),
        ("/api/v1/dead-letters?kind=trap&limit=4".to_owned(), 6),
        ("/api/v1/dead-letters?step=five&limit=4".to_owned(), 8),
        (format!("/api/v1/dead-letters?since={since}&limit=4"), 19),
        (
            format!("/api/v1/dead-letters?since={since}&purged=true&step=five&limit=1"),
            1,
        ),
    ] {
        let (cql, sql) = (scylla.pages(&path), postgres.pages(&path));
        let (of_cql, of_sql) = (cql.concat(), sql.concat());
        let other = of_cql.iter().zip(&of_sql).find(|(a, b)| a != b);
        assert!(other.is_none(), "{path}: {other:#?}");
        assert_eq!(of_cql.len(), expected, "{path}");
        assert_eq!(cql, sql, "{path}");
    }

    let segment = |segment| ExecutionId(segment).to_string();
    let plain = execution("default", "g", FIRST, 1).execution;
    for (path, status) in [
        (format!("/api/v1/executions/{plain}"), 200),
        (format!("/api/v1/executions/{}", first.execution), 200),
        (format!("/api/v1/executions/{}", large.execution), 200),
        (
            format!(
                "/api/v1/executions/{}",
                execution("other", "g", FIRST, 0).execution
            ),
            404,
        ),
        (
            format!("/api/v1/executions/{plain}/outputs/{plain}/2/data"),
            200,
        ),
        (
            format!(
                "/api/v1/executions/{}/outputs/{}/699/data",
                first.execution,
                segment(second)
            ),
            200,
        ),
        (
            format!("/api/v1/executions/{plain}/outputs/{plain}/9/data"),
            404,
        ),
        ("/api/v1/dead-letters/0-1".to_owned(), 200),
        ("/api/v1/dead-letters/0-10".to_owned(), 200),
        ("/api/v1/dead-letters/1-1".to_owned(), 404),
        ("/api/v1/dead-letters/9-9".to_owned(), 404),
    ] {
        let (cql, sql) = (scylla.get(&path), postgres.get(&path));
        assert_eq!(cql.0, status, "{path}: {cql:?}");
        assert!(cql == sql, "{path}");
    }
    // what is not carried is said
    for (execution, carried) in [(first.execution, 1_000), (large.execution, 81)] {
        let (_, body) = scylla.get(&format!("/api/v1/executions/{execution}"));
        let shown: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(shown["outputs"].as_array().unwrap().len(), carried);
        assert_eq!(shown["more_outputs"], true);
    }

    // what is redriven and purged is read with its bytes, the oldest first
    for (path, ask, letters) in [
        (
            "/api/v1/dead-letters/purge",
            json!({"request": "1", "filter": {"graph": "g", "since": since.to_string()}}),
            6,
        ),
        (
            "/api/v1/dead-letters/purge",
            json!({"request": "2", "ids": ["0-3", "0-1", "0-12", "1-1", "9-9", ""]}),
            2,
        ),
        (
            "/api/v1/dead-letters/purge",
            json!({"request": "3", "filter": {"step": "five"}}),
            7,
        ),
    ] {
        let (cql, sql) = (scylla.post(path, &ask), postgres.post(path, &ask));
        let told = |answer: &Value| {
            let mut told = answer.clone();
            for field in ["purge", "accepted_at", "id"] {
                told.as_object_mut().unwrap().remove(field);
            }
            told
        };
        assert_eq!((cql.0, told(&cql.1)), (sql.0, told(&sql.1)), "{ask}");
        assert_eq!(cql.1["letters"], letters, "{ask}: {}", cql.1);
    }
    drop((scylla, postgres));
    both.stop();
}

#[test]
fn a_history_that_does_not_answer_is_asked_again() {
    let line = Line::new();
    let asked = Arc::new(AtomicU32::new(0));
    let (settings, count) = (line.settings.clone(), asked.clone());
    let history = History::scylla(
        settings.place(),
        Arc::new(move || -> Connecting {
            let mut settings = settings.clone();
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                settings.nodes = vec!["127.0.0.1:1".into()];
            }
            Box::pin(async move { settings.connect().await })
        }),
    );
    let api = Api::new(&line, history);
    // nobody, then no tables
    for reason in ["refused", "weir_"] {
        let (status, body) = api.get("/api/v1/executions");
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 503, "{body}");
        assert!(body.contains(reason) && body.contains("cql "), "{body}");
    }
    let sink = line.sink();
    line.append(vec![result(1).encode()]);
    line.until_position(1);
    assert_eq!(api.pages("/api/v1/executions?limit=5").concat().len(), 1);
    assert_eq!(api.get("/readyz").0, 200);
    // a session that is open is kept, and one whose tables are gone is opened anew
    let opened = asked.load(Ordering::Relaxed);
    assert_eq!(opened, 3);
    sink.stop().unwrap();
    line.execute("drop table weir_days");
    for _ in 0..2 {
        assert_eq!(api.get("/api/v1/executions").0, 503);
    }
    assert!(asked.load(Ordering::Relaxed) > opened);
}

#[test]
fn an_erased_tenant_is_gone_and_the_others_stay() {
    let mut both = Both::new();
    let (mine, other) = (0..700, 0..30);
    let of = |tenant: &'static str| move |n| execution(tenant, "g", FIRST + n * DAY_MS / 200, n);
    both.results(0, other.clone().map(of("other")).collect());
    both.results(1, mine.clone().map(of("default")).collect());
    both.append(
        DEAD_LETTERS,
        0,
        mine.map(|n| letter("default", n)).collect(),
    );
    both.append(DEAD_LETTERS, 1, other.map(|n| letter("other", n)).collect());
    let purge = vec![(headers::PURGE.to_owned(), Bytes::from_static(b"0-7"))];
    let purge = Record {
        value: None,
        headers: purge,
        ..value(Bytes::new())
    };
    both.append(DEAD_LETTERS, 0, vec![(FIRST, purge)]);
    both.landed(&[
        (RESULTS, 0, 30),
        (RESULTS, 1, 700),
        (DEAD_LETTERS, 0, 701),
        (DEAD_LETTERS, 1, 30),
    ]);

    let erase = |tenant: &str| {
        let told = |_: Erased| {};
        let (url, settings) = (both.server.url(), both.line.settings.clone());
        both.line.runtime.block_on(async {
            let sql = Postgres::erase(&url, tenant, &told).await.unwrap();
            let cql = Scylla::erase(&settings, tenant, &told).await.unwrap();
            (rows(&sql), rows(&cql))
        })
    };
    let left = |tenant: &str| {
        let tables = ["weir_executions", "weir_outputs", "weir_dead_letters"];
        let sql = tables.map(|table| {
            let select = format!("select count(*) from {table} where tenant = '{tenant}'");
            both.server.sql(&select).unwrap().trim().to_owned()
        });
        let tables = [
            "weir_executions",
            "weir_outputs",
            "weir_dead_letters",
            "weir_executions_by_graph",
            "weir_dead_letters_by_day",
            "weir_days",
        ];
        let cql = tables.map(|table| {
            let of = format!("tenant = '{tenant}' allow filtering");
            let select = format!("select tenant from {table} where {of}");
            both.line.rows(&select).len()
        });
        (sql, cql)
    };
    let before = left("other");
    assert_eq!(before.0, ["30", "108", "30"]);
    assert_eq!(before.1[..5], [30, 108, 30, 30, 30]);
    // one of executions, of all and of the graph, and two of letters
    assert_eq!(before.1[5], 4);

    assert_eq!(erase("nobody").0.values().sum::<u64>(), 0);
    let (sql, cql) = erase("default");
    for (table, rows) in [
        ("weir_executions", 700),
        // ten of a hundred failed
        ("weir_outputs", 630 * 4),
        ("weir_dead_letters", 700),
    ] {
        assert_eq!((sql[table], cql[table]), (rows, rows), "{table}");
    }
    assert_eq!(cql["weir_executions_by_graph"], 700);
    assert_eq!(
        left("default"),
        (["0", "0", "0"].map(str::to_owned), [0; 6])
    );
    assert_eq!(left("other"), before);
    // nothing is left to do
    let again = erase("default");
    assert_eq!(again.0.values().chain(again.1.values()).sum::<u64>(), 0);

    // what lands later stays, whichever partition of the log it comes from
    both.results(0, vec![execution("default", "g", FIRST, 1_000)]);
    both.results(1, vec![execution("default", "g", FIRST, 1_001)]);
    both.append(DEAD_LETTERS, 1, vec![letter("default", 0)]);
    both.landed(&[(RESULTS, 0, 31), (RESULTS, 1, 701), (DEAD_LETTERS, 1, 31)]);
    let (cql, sql) = (both.scylla(), both.postgres());
    for (path, expected) in [
        ("/api/v1/executions?limit=5", 2),
        ("/api/v1/executions?graph=g&limit=5", 2),
        ("/api/v1/dead-letters?limit=5", 1),
    ] {
        let pages = cql.pages(path);
        assert_eq!(pages, sql.pages(path), "{path}");
        assert_eq!(pages.concat().len(), expected, "{path}");
    }
    drop((cql, sql));
    both.stop();
}

fn rows(erased: &[Erased]) -> BTreeMap<&'static str, u64> {
    erased.iter().map(|of| (of.table, of.rows)).collect()
}
