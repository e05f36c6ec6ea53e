//! A running control plane and a client for it.

use std::path::PathBuf;
use std::sync::Arc;

use control::{ControlState, History};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, SqliteConnection};
use store::Store;
use tokio::runtime::Runtime;

/// The contract between the sink, which writes these tables, and this crate, which reads them.
const SCHEMA: &str = include_str!("../../../sink/src/sqlite/schema.sql");

pub(crate) struct Server {
    pub(crate) runtime: Runtime,
    pub(crate) url: String,
    pub(crate) history: SqliteConnection,
    folder: tempfile::TempDir,
}

/// What the server said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|state| state)
    }

    pub(crate) fn start_with(change: impl FnOnce(ControlState) -> ControlState) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let (history, url) = runtime.block_on(async {
            let store = Store::memory().await.unwrap();
            let options = SqliteConnectOptions::new()
                .filename(&path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal);
            let mut history = options.connect().await.unwrap();
            sqlx::raw_sql(SCHEMA).execute(&mut history).await.unwrap();
            let state = ControlState {
                store,
                history: History::open(&path),
                log: Arc::new(topics::Embedded::memory()),
                grants: control::Grants::everything(),
                missing_topics: control::MissingTopics::Created { partitions: 4 },
                tables: Arc::new(()),
                payloads: None,
                registry: None,
                activations: None,
                redrives: None,
                api_key: None,
                vault: None,
                readiness: Vec::new(),
            };
            let router = control::router(change(state));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            (history, url)
        });
        Self {
            runtime,
            url,
            history,
            folder,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        answer(agent().get(format!("{}{path}", self.url)).call())
    }

    pub(crate) fn get_with_key(&self, path: &str, authorization: &str) -> Answer {
        answer(
            agent()
                .get(format!("{}{path}", self.url))
                .header("authorization", authorization)
                .call(),
        )
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        answer(
            agent()
                .post(format!("{}{path}", self.url))
                .content_type("application/json")
                .send(body.to_string()),
        )
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        answer(agent().delete(format!("{}{path}", self.url)).call())
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Answer {
        answer(
            agent()
                .put(format!("{}{path}", self.url))
                .content_type("application/wasm")
                .send(body),
        )
    }

    /// Sends a module and gives its digest.
    pub(crate) fn module(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let answer = self.put(&format!("/api/v1/modules/{digest}"), bytes);
        assert_eq!(answer.status, 201, "{}", answer.body);
        digest
    }

    pub(crate) fn apply(&self, source: &str) -> Answer {
        self.post("/api/v1/graphs", &json!({ "source": source }))
    }

    pub(crate) fn execution(&mut self, row: Execution<'_>) {
        let insert = sqlx::query(
            r#"insert into weir_executions (execution, segment, tenant, graph, version, "trigger", trigger_id, status, failed_step,
                 failure, reason, attempt, started, logs, logs_dropped, origin, triggered_at_us, finished_at_ms)
               values ($1, $2, $3, $4, 'ab', 'hand', $5, $6, $7, $8, $9, $10, $11, '[{"step":"s","level":"info","message":"hi"}]', 0, null, $12, $13)"#,
        );
        let failed = row.failure.is_some();
        let insert = insert
            .bind(row.execution)
            .bind(row.segment.unwrap_or(row.execution))
            .bind(row.tenant)
            .bind(row.graph)
            .bind(row.trigger_id)
            .bind(if failed { "failed" } else { "succeeded" })
            .bind(failed.then_some("s"))
            .bind(row.failure)
            .bind(failed.then_some("why"))
            .bind(failed.then_some(1))
            .bind(json!(row.started).to_string())
            .bind(1_700_000_000_123_000_i64)
            .bind(1_700_000_000_200_i64);
        self.runtime
            .block_on(insert.execute(&mut self.history))
            .unwrap();
    }

    /// A statement of the test's own.
    pub(crate) fn sql(&mut self, statement: &'static str) {
        self.runtime
            .block_on(sqlx::raw_sql(statement).execute(&mut self.history))
            .unwrap();
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// A row of `weir_executions`.
#[derive(Clone, Copy)]
pub(crate) struct Execution<'a> {
    pub(crate) execution: &'a str,
    /// `None`: the first.
    pub(crate) segment: Option<&'a str>,
    pub(crate) tenant: &'a str,
    pub(crate) graph: &'a str,
    pub(crate) trigger_id: &'a str,
    pub(crate) failure: Option<&'a str>,
    pub(crate) started: &'a [&'a str],
}

impl Default for Execution<'_> {
    fn default() -> Self {
        Self {
            execution: "",
            segment: None,
            tenant: "default",
            graph: "orders",
            trigger_id: "t",
            failure: None,
            started: &[],
        }
    }
}

/// An execution's id by its number; later numbers are later executions.
pub(crate) fn id(number: u64) -> String {
    schemas::ExecutionId::derive(
        1_700_000_000_000 + number,
        "default",
        "orders",
        "hand",
        &number.to_string(),
    )
    .to_string()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |text, byte| {
            text + &format!("{byte:02x}")
        })
}

/// A component that is committed for the processor's tests.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../processor/tests/guests/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A graph of one step.
pub(crate) fn graph(name: &str, uses: &str) -> String {
    format!(
        "weir: 1\nname: {name}\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  only: {{ uses: \"{uses}\", from: [hand] }}\n"
    )
}

pub(crate) fn readiness(
    check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> control::Readiness {
    Arc::new(check)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

fn answer(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut answer = answer.unwrap();
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let (content_type, retry_after) = (
        header("content-type").unwrap_or_default(),
        header("retry-after"),
    );
    let text = answer.body_mut().read_to_string().unwrap();
    Answer {
        status: answer.status().as_u16(),
        content_type,
        retry_after,
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}
