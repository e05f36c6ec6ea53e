//! The databases that results land in, each on a real server, and what they say of themselves without Weir: Postgres through
//! `psql`, Cassandra through the driver.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::CqlValue;
use tokio::runtime::Runtime;
use xtask::services::{cassandra, postgres};

use super::results::hash;

/// The user's own table.
const LATEST_POSTGRES: &str =
    "create table latest (id text primary key, n bigint not null, pad text)";
const LATEST_CQL: &str = "create table latest (id text primary key, n bigint, pad text)";

/// One for all tests that do not harm it; it ends with this process.
static CASSANDRA: LazyLock<cassandra::Temporary> =
    LazyLock::new(|| cassandra::Temporary::start().unwrap());

/// A row of `weir_executions` with its output, hashed.
pub(super) struct Landed {
    pub(super) execution: String,
    pub(super) hash: Option<String>,
}

pub(super) trait Database: Sync {
    /// For `[destinations.x]`.
    fn url(&self) -> String;
    /// The kind of a graph's sink that writes to it, and what else that says of the table `latest`.
    fn sink(&self) -> (&'static str, &'static str);
    /// Everything of this graph that has landed.
    fn landed(&self, graph: &str) -> Vec<Landed>;
    /// The sum of the positions of all partitions; 0 also while it is down.
    fn settled(&self) -> usize;
    /// The rows of `latest`: its key and its number.
    fn latest(&self) -> HashMap<String, String>;
    /// How many rows of `weir_dead_letters`.
    fn dead(&self) -> usize;
    /// As if nothing had landed.
    fn forget_positions(&self);
}

/// A server of its own.
pub(super) struct Postgres {
    pub(super) server: postgres::Temporary,
}

impl Postgres {
    pub(super) fn start() -> Self {
        let server = postgres::Temporary::start().unwrap();
        server.sql(LATEST_POSTGRES).unwrap();
        Self { server }
    }

    pub(super) fn sql(&self, text: &str) -> String {
        self.server.sql(text).unwrap().trim().to_owned()
    }

    /// 0 also while it is down or has no such table.
    fn number(&self, text: &str) -> usize {
        let said = self.server.sql(text).unwrap_or_default();
        said.trim().parse().unwrap_or(0)
    }
}

impl Database for Postgres {
    fn url(&self) -> String {
        self.server.url()
    }

    fn sink(&self) -> (&'static str, &'static str) {
        ("postgres", ", mode: upsert, key: [id]")
    }

    fn landed(&self, graph: &str) -> Vec<Landed> {
        let rows = self.sql(&format!(
            "select e.execution, coalesce(encode(sha256(convert_to(o.data, 'utf8')), 'hex'), '')
             from weir_executions e left join weir_outputs o on o.execution = e.execution and o.segment = e.segment
             where e.graph = '{graph}'"
        ));
        let rows = rows.lines().filter_map(|row| row.split_once('|'));
        rows.map(|(execution, hash)| Landed {
            execution: execution.to_owned(),
            hash: Some(hash.to_owned()).filter(|hash| !hash.is_empty()),
        })
        .collect()
    }

    fn settled(&self) -> usize {
        self.number("select coalesce(sum(next_offset), 0) from weir_positions")
    }

    fn latest(&self) -> HashMap<String, String> {
        let rows = self.sql("select id, n from latest");
        let rows = rows.lines().filter_map(|row| row.split_once('|'));
        rows.map(|(id, n)| (id.to_owned(), n.to_owned())).collect()
    }

    fn dead(&self) -> usize {
        self.number("select count(*) from weir_dead_letters")
    }

    fn forget_positions(&self) {
        self.sql("delete from weir_positions");
    }
}

/// A keyspace on the server that tests share, or on one of its own.
pub(super) struct Cassandra {
    server: Option<cassandra::Temporary>,
    runtime: Runtime,
    session: Session,
    url: String,
}

impl Cassandra {
    pub(super) fn shared() -> Self {
        Self::on(&CASSANDRA.at(), None)
    }

    pub(super) fn start() -> Self {
        let server = cassandra::Temporary::start().unwrap();
        Self::on(&server.at(), Some(server))
    }

    fn on(at: &str, server: Option<cassandra::Temporary>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let keyspace = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let session = runtime.block_on(async {
            let session = SessionBuilder::new().known_node(at).build().await.unwrap();
            let create = format!(
                "create keyspace {keyspace} with replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
            );
            session.query_unpaged(create, ()).await.unwrap();
            session.use_keyspace(&keyspace, true).await.unwrap();
            session.query_unpaged(LATEST_CQL, ()).await.unwrap();
            session
        });
        Self {
            server,
            runtime,
            session,
            url: format!("scylla://{at}/{keyspace}"),
        }
    }

    /// kill -9 of its own server.
    pub(super) fn kill(&mut self) {
        self.server.as_mut().unwrap().kill().unwrap();
    }

    pub(super) fn restart(&mut self) {
        self.server.as_mut().unwrap().restart().unwrap();
    }

    /// Page by page; an error while it is down, or there is no such table.
    fn rows(&self, select: &str) -> Result<Vec<Vec<Option<CqlValue>>>, String> {
        use scylla::response::{PagingState, PagingStateResponse};
        use scylla::value::Row;

        let mut statement = scylla::statement::Statement::new(select);
        statement.set_page_size(5_000);
        statement.set_request_timeout(Some(Duration::from_secs(20)));
        self.runtime.block_on(async {
            let mut all = Vec::new();
            let mut state = PagingState::start();
            loop {
                let page = self
                    .session
                    .query_single_page(statement.clone(), (), state)
                    .await;
                let (page, next) = page.map_err(|e| e.to_string())?;
                let page = page.into_rows_result().map_err(|e| e.to_string())?;
                let rows = page.rows::<Row>().map_err(|e| e.to_string())?;
                for row in rows {
                    all.push(row.map_err(|e| e.to_string())?.columns);
                }
                match next {
                    PagingStateResponse::HasMorePages { state: next } => state = next,
                    PagingStateResponse::NoMorePages => return Ok(all),
                }
            }
        })
    }
}

fn id(value: &Option<CqlValue>) -> String {
    let id = value.as_ref().and_then(CqlValue::as_uuid);
    id.unwrap().to_string()
}

impl Database for Cassandra {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn sink(&self) -> (&'static str, &'static str) {
        ("scylla", "")
    }

    fn landed(&self, graph: &str) -> Vec<Landed> {
        let outputs = self
            .rows("select execution, segment, data from weir_outputs")
            .unwrap();
        let mut data: HashMap<_, _> = outputs
            .iter()
            .map(|row| {
                let text = row[2].as_ref().and_then(CqlValue::as_text).unwrap();
                ((id(&row[0]), id(&row[1])), hash(text.as_bytes()))
            })
            .collect();
        let executions = self
            .rows("select execution, segment, graph from weir_executions")
            .unwrap();
        let of_it = executions
            .iter()
            .filter(|row| row[2].as_ref().and_then(CqlValue::as_text).map(|g| &**g) == Some(graph));
        of_it
            .map(|row| {
                let execution = id(&row[0]);
                let hash = data.remove(&(execution.clone(), id(&row[1])));
                Landed { execution, hash }
            })
            .collect()
    }

    fn settled(&self) -> usize {
        let rows = self.rows("select next_offset from weir_positions");
        let next = |row: &Vec<Option<CqlValue>>| row[0].as_ref()?.as_bigint();
        let sum: i64 = rows.unwrap_or_default().iter().filter_map(next).sum();
        sum as usize
    }

    fn latest(&self) -> HashMap<String, String> {
        let rows = self.rows("select id, n from latest").unwrap();
        let pair = |row: &Vec<Option<CqlValue>>| {
            let id = row[0].as_ref()?.as_text()?.clone();
            Some((id, row[1].as_ref()?.as_bigint()?.to_string()))
        };
        rows.iter().filter_map(pair).collect()
    }

    fn dead(&self) -> usize {
        let rows = self.rows("select id from weir_dead_letters");
        rows.unwrap_or_default().len()
    }

    fn forget_positions(&self) {
        let truncated = self.session.query_unpaged("truncate weir_positions", ());
        self.runtime.block_on(truncated).unwrap();
    }
}
