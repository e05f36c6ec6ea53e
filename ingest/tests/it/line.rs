//! What the tests stand on: a graph that is applied, a server that listens, a client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ingest::{Clock, Components, InboxSource, Ingest, IngestConfig, Secret};
use schemas::graph::{Resolve, TriggerKind};
use schemas::records::Trigger;
use sha2::Sha256;
use store::{Activation, NewVersion, Payloads, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use topics::{Embedded, Fetched, Log, Partition, Polled, catalog};

pub(crate) const SECRET: &str = "It's a Secret to Everybody";
pub(crate) const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The clock's first time.
pub(crate) const START_US: u64 = 1_800_000_000_000_000;

/// The graph of most tests: one webhook of each kind, and a trigger for hands.
pub(crate) const GRAPH: &str = r#"
weir: 1
name: orders
triggers:
  github: { webhook: { path: /github, verify: { scheme: github, secret: GITHUB } } }
  shop: { webhook: { path: /shop, verify: { scheme: standard, secret: SHOP } } }
  open: { webhook: { path: /open/orders } }
  strict: { webhook: { path: /strict, schema: order.json } }
  keyed: { webhook: { path: /keyed }, key: event.data.customer }
  lost: { webhook: { path: /lost, verify: { scheme: github, secret: MISSING } } }
  hand: { manual: {} }
steps:
  copy: { uses: copy, from: [github, shop, open, strict, keyed, lost, hand] }
sinks:
  out: { topic: { name: out, format: json }, from: [copy] }
"#;
const SCHEMA: &str = r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"},
    "lines": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}}}}"#;

struct Files;

impl Resolve for Files {
    fn module(&mut self, _uses: &str) -> Result<String, String> {
        Ok(format!("sha256:{}", "ab".repeat(32)))
    }
    fn file(&mut self, path: &str) -> Result<String, String> {
        assert_eq!(path, "order.json");
        Ok(SCHEMA.to_owned())
    }
}

pub(crate) async fn apply(store: &Store, graph: &str) -> Activation {
    let parsed =
        schemas::graph::parse(graph, "graph.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    let canonical = parsed.resolve(&mut Files).unwrap().canonical().unwrap();
    let webhooks = parsed
        .triggers
        .iter()
        .filter_map(|trigger| match &trigger.kind {
            TriggerKind::Webhook(webhook) => Some((webhook.path.clone(), trigger.name.clone())),
            _ => None,
        });
    let new = NewVersion {
        tenant: "default".to_owned(),
        graph: parsed.name.clone(),
        version: schemas::graph::version(&canonical),
        webhooks: webhooks.collect(),
        canonical,
        source: graph.to_owned(),
        at_ms: 1,
        ..NewVersion::default()
    };
    store.apply(new).await.unwrap()
}

pub(crate) struct Line {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Store,
    pub(crate) ingest: Ingest,
    pub(crate) now_us: Arc<AtomicU64>,
    pub(crate) address: SocketAddr,
    _server: JoinSet<()>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: serde_json::Value,
}

impl Answer {
    pub(crate) fn execution(&self) -> &str {
        self.body["execution"]
            .as_str()
            .unwrap_or_else(|| panic!("{} {}", self.status, self.body))
    }
}

pub(crate) fn memory() -> Arc<dyn Log> {
    let log = Embedded::memory();
    log.create_topics(&catalog::topics()).unwrap();
    Arc::new(log)
}

impl Line {
    pub(crate) async fn new() -> Self {
        let store = Store::memory().await.unwrap();
        apply(&store, GRAPH).await;
        Self::with(memory(), store, IngestConfig::default()).await
    }

    pub(crate) async fn with(log: Arc<dyn Log>, store: Store, config: IngestConfig) -> Self {
        Self::with_payloads(log, store, config, None).await
    }

    pub(crate) async fn with_payloads(
        log: Arc<dyn Log>,
        store: Store,
        config: IngestConfig,
        payloads: Option<Payloads>,
    ) -> Self {
        let now_us = Arc::new(AtomicU64::new(START_US));
        let secrets = |_: &str, name: &str| match name {
            "GITHUB" => Some(Secret::new(SECRET)),
            "SHOP" => Some(Secret::new(STANDARD_SECRET)),
            _ => None,
        };
        let components = Components {
            log: log.clone(),
            store: store.clone(),
            payloads,
            secrets: Arc::new(secrets),
            clock: clock(&now_us),
        };
        config.validate().unwrap();
        let ingest = Ingest::new(config, components);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        let router = ingest::router(ingest.clone());
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            log,
            store,
            ingest,
            now_us,
            address,
            _server: server,
        }
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send(Method::POST, path, headers, body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        send(self.address, method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A webhook as GitHub sends it.
    pub(crate) async fn github(&self, delivery: &str, body: &str) -> Answer {
        github(self.address, delivery, body)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn source(&self) -> InboxSource {
        InboxSource::start(
            self.log.clone(),
            &self.store,
            clock(&self.now_us),
            &IngestConfig::default(),
        )
        .unwrap()
    }

    /// What is on `weir.triggers`, all of it.
    pub(crate) fn records(&self) -> Vec<Fetched> {
        let partitions =
            (0..self.log.partitions(catalog::TRIGGERS).unwrap()).map(|number| Partition {
                topic: catalog::TRIGGERS.into(),
                number,
            });
        let mut records = Vec::new();
        for partition in partitions {
            let (start, end) = self.log.offsets(&partition).unwrap();
            let mut reader = self.log.reader(vec![(partition, start)], 1_000).unwrap();
            let mut left = (end - start) as usize;
            while left > 0 {
                let Polled::Records(some) = reader.poll(Duration::from_secs(10)).unwrap() else {
                    continue;
                };
                left -= some.len();
                records.extend(some);
            }
        }
        records
    }

    pub(crate) fn triggers(&self) -> Vec<Trigger> {
        let value = |record: Fetched| Trigger::decode(&record.record.value.unwrap()).unwrap();
        self.records().into_iter().map(value).collect()
    }

    /// Waits until so many records are there; they may be more by then.
    pub(crate) async fn until(&self, records: usize) {
        let mut commits = tokio::time::interval(Duration::from_millis(2));
        while self.records().len() < records {
            commits.tick().await;
        }
    }

    /// Waits until the inbox has nothing left to emit.
    pub(crate) async fn drained(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        let inbox = self.store.inbox();
        for shard in 0..inbox.shards() {
            while !inbox.after(shard, 0, 1, 1).await.unwrap().is_empty() {
                ticks.tick().await;
            }
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// One request on a connection of its own; the server may be gone.
pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, Failed> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let response = sender
        .send_request(request.body(Full::new(body.into()))?)
        .await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// A webhook as GitHub sends it.
pub(crate) async fn github(
    address: SocketAddr,
    delivery: &str,
    body: &str,
) -> Result<Answer, Failed> {
    let headers = [
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", &sign(body)),
        ("x-github-event", "push"),
    ];
    let path = "/hooks/default/github";
    send(address, Method::POST, path, &headers, body.to_owned()).await
}

pub(crate) fn clock(now_us: &Arc<AtomicU64>) -> Clock {
    let now_us = now_us.clone();
    Clock::new(move || now_us.load(Ordering::Relaxed))
}

pub(crate) fn sign(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// How often each execution is there.
pub(crate) fn counted(triggers: &[Trigger]) -> HashMap<String, usize> {
    let mut counted = HashMap::new();
    for trigger in triggers {
        *counted.entry(trigger.execution.to_string()).or_default() += 1;
    }
    counted
}
