//! What processors share: Kafka with Weir's topics, Postgres with the store, and a graph in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use schemas::graph;
use store::{NewVersion, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use topics::{Kafka, KafkaConfig, Log};
use xtask::proxy::{Proxy, Request};
use xtask::services::{kafka, postgres};

use crate::kafka_proxy::World;
use crate::weir::guest;

pub(crate) struct Cluster {
    pub(crate) kafka: kafka::Temporary,
    /// Between the processes and the broker.
    pub(crate) proxy: Option<Proxy>,
    postgres: postgres::Temporary,
    pub(crate) log: Arc<Kafka>,
    pub(crate) runtime: Runtime,
    folder: TempDir,
}

impl Cluster {
    /// The one that all tests use which do not harm it, one at a time.
    pub(crate) fn shared() -> MutexGuard<'static, Self> {
        static SHARED: OnceLock<Mutex<Cluster>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Mutex::new(Self::new(1)));
        // a test that failed has left its processors dead and its topics as they are
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(brokers: usize) -> Self {
        let builder = kafka::Temporary::builder().brokers(brokers);
        Self::with(builder.short_timeouts().start().unwrap(), None)
    }

    /// Of one broker behind a proxy that does nothing yet.
    pub(crate) fn behind_a_proxy() -> Self {
        let World { proxy, broker } = World::start(|_: &Request| None);
        Self::with(broker, Some(proxy))
    }

    fn with(kafka: kafka::Temporary, proxy: Option<Proxy>) -> Self {
        let log = Kafka::new(KafkaConfig {
            brokers: kafka.brokers().to_owned(),
            ..KafkaConfig::default()
        })
        .unwrap();
        log.create_topics(&topics::catalog::topics()).unwrap();
        Self {
            kafka,
            proxy,
            postgres: postgres::Temporary::start().unwrap(),
            log: Arc::new(log),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            folder: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn brokers(&self) -> &str {
        self.kafka.brokers()
    }

    /// Where processes find them.
    pub(crate) fn proxied(&self) -> String {
        match &self.proxy {
            Some(proxy) => proxy.address(),
            None => self.brokers().to_owned(),
        }
    }

    pub(crate) fn store_url(&self) -> String {
        self.postgres.url()
    }

    /// Ends the sessions that hold slots, as a failover of the server does; how many.
    pub(crate) fn end_slot_sessions(&self) -> usize {
        let ended = self.postgres.sql(
            "select pg_terminate_backend(pid) from (select distinct pid from pg_locks
             where locktype = 'advisory' and objsubid = 2 and granted) holders",
        );
        ended.unwrap().lines().filter(|line| *line == "t").count()
    }

    /// For what processes say and keep to themselves.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a module of `processor/tests/guests` into the store; its digest.
    pub(crate) fn module(&self, name: &str) -> String {
        let bytes = std::fs::read(guest(name)).unwrap();
        self.runtime.block_on(async {
            let store = Store::connect(&self.store_url()).await.unwrap();
            let digest = store.put_module(&bytes).await.unwrap();
            store.close().await;
            digest
        })
    }

    /// Makes a graph of the trigger `t` and one step active. `step` is what stands behind the step's name.
    pub(crate) fn apply(&self, name: &str, module: &str, settings: &str) {
        let text = format!(
            "weir: 1\nname: {name}\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n  one: {{ uses: {module}, from: [t], isolation: batch{settings} }}\n"
        );
        self.put(name, &text, self.module(module));
    }

    /// Makes a graph active whose modules are all this one; its version.
    pub(crate) fn put(&self, name: &str, text: &str, digest: String) -> [u8; 32] {
        self.runtime.block_on(async {
            let store = Store::connect(&self.store_url()).await.unwrap();
            let parsed = graph::parse(text, "graph.yaml").unwrap_or_else(|p| panic!("{p}"));
            let resolved = parsed.resolve(&mut One(digest)).unwrap();
            let canonical = resolved.canonical().unwrap();
            let new = NewVersion {
                tenant: "default".into(),
                graph: name.into(),
                version: graph::version(&canonical),
                canonical: canonical.clone(),
                source: text.to_owned(),
                webhooks: vec![],
                at_ms: 1,
                ..NewVersion::default()
            };
            let version = hex::decode(&new.version).unwrap();
            store.apply(new).await.unwrap();
            store.close().await;
            version.try_into().unwrap()
        })
    }

    /// Where this cluster's brokers write what they do.
    pub(crate) fn broker_log(&self) -> PathBuf {
        self.kafka.log(0)
    }
}

/// Every module is this one.
struct One(String);

impl graph::Resolve for One {
    fn module(&mut self, _: &str) -> Result<String, String> {
        Ok(self.0.clone())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }
}
