//! The sink on the embedded log: every result becomes a row once, whatever dies and whoever else writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod postgres;
mod scylla;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::records::{DeadLetter, Failure, FailureKind, Output, Payload, SegmentResult, headers};
use schemas::{ExecutionId, graph};
use sink::{Sink, SinkConfig, Sqlite};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::runtime::Runtime;
use topics::catalog::{DEAD_LETTERS, RESULTS, TRIGGERS, topics};
use topics::{Embedded, Log, Outgoing, Record};

const PATIENCE: Duration = Duration::from_secs(60);

struct Line {
    runtime: Runtime,
    log: Arc<dyn Log>,
    folder: tempfile::TempDir,
}

impl Line {
    fn new() -> Self {
        let log: Arc<dyn Log> = Arc::new(Embedded::memory());
        log.create_topics(&topics()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            log,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("history.db")
    }

    fn sink(&self) -> Sink {
        let config = SinkConfig {
            batch_records_max: 20,
            interval: Duration::from_millis(1),
            ..SinkConfig::new("history")
        };
        Sink::start(
            self.log.clone(),
            Sqlite::open("history", &self.file()).unwrap(),
            None,
            config,
            Arc::new(|| {}),
        )
        .unwrap()
    }

    fn append(&self, topic: &str, key: &str, value: Bytes, headers: Vec<(String, Bytes)>) {
        let record = Record {
            key: Some(Bytes::from(key.to_owned())),
            value: Some(value),
            headers,
            timestamp_ms: 7,
        };
        let outgoing = Outgoing {
            topic: topic.into(),
            partition: None,
            record,
        };
        self.runtime
            .block_on(self.log.appender().append(vec![outgoing]))
            .unwrap();
    }

    fn results(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.append(
                RESULTS,
                &number.to_string(),
                result(number).encode(),
                vec![],
            );
        }
    }

    fn query(&self, sql: &str) -> Vec<sqlx::sqlite::SqliteRow> {
        let path: &Path = &self.file();
        self.runtime.block_on(async {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .busy_timeout(PATIENCE);
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::query(AssertSqlSafe(sql.to_owned()))
                .fetch_all(&mut connection)
                .await
                .unwrap()
        })
    }

    fn count(&self, of: &str) -> i64 {
        self.query(&format!("select count(*) from {of}"))[0].get(0)
    }

    fn until(&self, table: &str, rows: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(table) < rows {
            assert!(
                Instant::now() < deadline,
                "{} of {rows} rows in {table}",
                self.count(table)
            );
            std::thread::yield_now();
        }
    }
}

fn result(number: u64) -> SegmentResult {
    let execution = ExecutionId::derive(number, "default", "g", "t", &number.to_string());
    let output = |place: u32, data: &'static [u8]| Output {
        step: "s".into(),
        port: "out".into(),
        number: place,
        sinks: vec![],
        key: Some(Bytes::new()),
        content_type: "application/json".into(),
        headers: vec![("h".into(), Bytes::from_static(b"\xff"))],
        data: Payload::Inline(Bytes::from_static(data)),
    };
    let failure = Failure {
        step: Some("s".into()),
        kind: FailureKind::Trap,
        reason: "it's \"broken\"".into(),
        attempt: 1,
    };
    let failed = number % 10 == 9;
    SegmentResult {
        tenant: "default".into(),
        graph: "g".into(),
        version: [1; 32],
        trigger: "t".into(),
        trigger_id: number.to_string(),
        execution,
        time_us: 5,
        segment: execution.0,
        origin: None,
        failure: failed.then_some(failure),
        outputs: if failed {
            vec![]
        } else {
            vec![
                output(0, b"007"),
                output(1, b""),
                output(2, b"\xfe\xff"),
                Output {
                    data: Payload::Reference {
                        sha256: [0xab; 32],
                        bytes: 5 << 20,
                    },
                    ..output(3, b"")
                },
            ]
        },
        started: vec![],
        logs: vec![],
        logs_dropped: 0,
    }
}

struct Nothing;

impl graph::Resolve for Nothing {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        Err(uses.to_owned())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}

fn hex(version: &str) -> [u8; 32] {
    let digits = (0..32).map(|byte| u8::from_str_radix(&version[2 * byte..2 * byte + 2], 16));
    let bytes: Vec<u8> = digits.map(Result::unwrap).collect();
    bytes.try_into().unwrap()
}

#[test]
fn rows_are_what_the_results_said() {
    let line = Line::new();
    line.results(0..10);
    let sink = line.sink();
    line.until("weir_executions", 10);
    sink.stop().unwrap();
    assert_eq!(
        line.count("weir_executions where status = 'failed' and reason = 'it''s \"broken\"'"),
        1
    );
    assert_eq!(line.count("weir_outputs"), 36);
    // A reference says so in a column of its own.
    let data = format!("{{\"bytes\":5242880,\"sha256\":\"{}\"}}", "ab".repeat(32));
    let referring = format!("number = 3 and data = '{data}' and sha256 like 'abab%'");
    assert_eq!(line.count(&format!("weir_outputs where {referring}")), 9);
    assert_eq!(line.count("weir_outputs where sha256 is null"), 27);
    // Text stays text, empty is not null, and what is no UTF-8 is a blob.
    for (number, kind) in [(0, "text"), (1, "text"), (2, "blob")] {
        assert_eq!(
            line.count(&format!(
                "weir_outputs where number = {number} and typeof(data) = '{kind}'"
            )),
            9
        );
    }
    assert_eq!(line.count("weir_outputs where data = '007'"), 9);
    assert_eq!(line.count("weir_outputs where key = x''"), 36);
    assert_eq!(
        line.count("weir_outputs where headers = '[[\"h\",{\"base16\":\"ff\"}]]'"),
        36
    );
}

#[test]
fn a_sink_that_stops_goes_on_and_one_that_lost_its_rows_writes_them_again() {
    let line = Line::new();
    line.results(0..100);
    for to in [100, 200, 300] {
        let sink = line.sink();
        line.until("weir_executions", to);
        sink.stop().unwrap();
        line.results(to as u64..to as u64 + 100);
    }
    let sink = line.sink();
    line.until("weir_executions", 400);
    sink.stop().unwrap();
    assert_eq!(line.count("weir_executions"), 400);

    std::fs::remove_file(line.file()).unwrap();
    let sink = line.sink();
    line.until("weir_executions", 400);
    sink.stop().unwrap();
    assert_eq!(line.count("weir_outputs"), 360 * 4);
}

#[test]
fn another_writer_is_noticed_by_the_position_and_nothing_is_written_twice() {
    let line = Line::new();
    line.results(0..50);
    let sink = line.sink();
    line.until("weir_executions", 50);
    // Somebody else moves the positions: what this sink believes in is no longer true.
    let before = line.query("select topic, \"partition\", next_offset from weir_positions where topic = 'weir.results' order by 2");
    line.query("delete from weir_executions");
    line.query("delete from weir_outputs");
    line.query("update weir_positions set next_offset = 0 where topic = 'weir.results'");
    line.results(50..60);
    // It starts over from the stored positions, which were set back: everything lands again, once.
    line.until("weir_executions", 60);
    sink.stop().unwrap();
    assert_eq!(line.count("weir_executions"), 60);
    let after = line.query("select topic, \"partition\", next_offset from weir_positions where topic = 'weir.results' order by 2");
    let total =
        |rows: &[sqlx::sqlite::SqliteRow]| rows.iter().map(|row| row.get::<i64, _>(2)).sum::<i64>();
    assert_eq!((total(&before), total(&after)), (50, 60));
}

#[test]
fn a_destination_that_is_locked_holds_the_batch_until_it_is_free() {
    let line = Line::new();
    let sink = line.sink();
    line.results(0..5);
    line.until("weir_executions", 5);
    line.runtime.block_on(async {
        let mut other =
            SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(line.file()))
                .await
                .unwrap();
        sqlx::query("begin immediate")
            .execute(&mut other)
            .await
            .unwrap();
        let record = |number: u64| {
            let record = Record {
                key: None,
                value: Some(result(number).encode()),
                headers: vec![],
                timestamp_ms: 7,
            };
            Outgoing {
                topic: RESULTS.into(),
                partition: Some(0),
                record,
            }
        };
        line.log
            .appender()
            .append((5..30).map(record).collect())
            .await
            .unwrap();
        sqlx::query("commit").execute(&mut other).await.unwrap();
    });
    line.until("weir_executions", 30);
    sink.stop().unwrap();
    assert_eq!(line.count("weir_executions"), 30);
}

#[test]
fn dead_letters_keep_the_original_and_what_nobody_can_read_is_one() {
    let line = Line::new();
    let letter = DeadLetter {
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
    };
    let mut headers = vec![("traceparent".to_owned(), Bytes::from_static(b"00"))];
    headers.extend(letter.headers());
    line.append(
        DEAD_LETTERS,
        "k",
        Bytes::from_static(b"\0original"),
        headers,
    );
    line.append(RESULTS, "k", Bytes::from_static(b"no result"), vec![]);
    line.append(DEAD_LETTERS, "k", Bytes::new(), vec![]);
    let sink = line.sink();
    line.until("weir_dead_letters", 3);
    sink.stop().unwrap();
    let kept = "weir_dead_letters where kind = 'rejected' and value = x'006f726967696e616c' and headers = '[[\"traceparent\",\"00\"]]' and \"offset\" = 9";
    assert_eq!(line.count(kept), 1);
    assert_eq!(
        line.count("weir_dead_letters where kind = 'record' and value = x'6e6f20726573756c74'"),
        1
    );
    assert_eq!(
        line.count("weir_dead_letters where kind = 'record' and value = x''"),
        1
    );
}

#[test]
fn a_purged_dead_letter_stays_as_a_row_without_its_bytes() {
    let line = Line::new();
    // a history that a version before purges has made
    let older = include_str!("../../src/sqlite/schema.sql").replace(
        "died_at_ms   integer not null,\n  purged_at_ms integer                     -- since then key, value and headers are gone\n",
        "died_at_ms   integer not null\n",
    );
    assert!(!older.contains("purged_at_ms"));
    line.runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(line.file())
            .create_if_missing(true);
        let mut made = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(older))
            .execute(&mut made)
            .await
            .unwrap();
    });
    let letter = DeadLetter {
        tenant: "default".into(),
        topic: TRIGGERS.into(),
        partition: 0,
        offset: 1,
        kind: FailureKind::Rejected,
        reason: "no".into(),
        attempt: 1,
        graph: Some("g".into()),
        version: None,
        execution: None,
        step: None,
    };
    let purge = |id: String| Outgoing {
        topic: DEAD_LETTERS.into(),
        partition: Some(0),
        record: Record {
            key: None,
            value: None,
            headers: vec![(headers::PURGE.to_owned(), Bytes::from(id))],
            timestamp_ms: 99,
        },
    };
    // one with a header of that name is a dead letter all the same
    let odd = vec![(headers::PURGE.to_owned(), Bytes::from_static(b"0-0"))];
    for own in [vec![], odd, vec![]] {
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: [own, letter.headers()].concat(),
            timestamp_ms: 7,
        };
        let outgoing = Outgoing {
            topic: DEAD_LETTERS.into(),
            partition: Some(0),
            record,
        };
        let appended = line.log.appender();
        let appended = appended.append(vec![outgoing]);
        line.runtime.block_on(appended).unwrap();
    }
    let purges = vec![
        purge("0-2".into()),
        purge("0-2".into()),
        purge("9-9".into()),
    ];
    let appender = line.log.appender();
    line.runtime.block_on(appender.append(purges)).unwrap();
    let sink = line.sink();
    line.until("weir_dead_letters where purged_at_ms = 99", 1);
    sink.stop().unwrap();
    assert_eq!(line.count("weir_dead_letters"), 3, "a purge is no letter");
    assert_eq!(
        line.count("weir_dead_letters where id = '0-2' and key is null and headers = '[]' and reason = 'no'"),
        1
    );
    assert_eq!(
        line.count("weir_dead_letters where purged_at_ms is null and key = x'6b'"),
        2
    );
}
