//! Our side in a process of its own: the processor on Kafka with a store in memory, until standard input ends.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use processor::wasm::{Engine, EngineConfig};
use processor::{Definitions, Processor, ProcessorConfig};
use schemas::graph::{self, Resolve};
use serde::{Deserialize, Serialize};
use store::{NewSubscription, NewVersion, SinkSchema, Store, TopicStart};
use topics::registry::{Registry, RegistryConfig};
use topics::{Kafka, KafkaConfig, Log};
use tracing_subscriber::filter::LevelFilter;

use super::orders::TENANT;
use super::plain::Plain;

const HEALTH: Duration = Duration::from_millis(200);
/// What it says when it runs.
pub(super) const READY: &str = "ready";
/// What the bench's own program is called with to be this process; then the settings as JSON.
pub const ARGUMENT: &str = "--processor";

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) brokers: String,
    /// The text of the graph's file; its modules lie relative to `folder`.
    pub(super) graph: String,
    pub(super) folder: PathBuf,
    pub(super) lanes: usize,
    pub(super) batch_records_max: usize,
    pub(super) batch_bytes_max: usize,
    pub(super) interval_ms: u64,
    /// `false`: the same line without transactions, for the exactly-once tax.
    pub(super) transactions: bool,
    /// What the graph has to do with topics of users.
    pub(super) topics: Topics,
}

/// What `weir apply` would find out about a graph's topics.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Topics {
    /// The topic that is read: name, id, and where each partition starts.
    pub(super) read: Option<(String, String, Vec<i64>)>,
    /// The registry's url.
    pub(super) registry: Option<String>,
    /// The sink that writes Avro, its schema's id, and the schema.
    pub(super) schema: Option<(String, u32, String)>,
}

/// Runs until standard input ends.
pub fn run(settings: &str) -> Result<()> {
    let settings: Settings = serde_json::from_str(settings).context("settings")?;
    // a pass that fails shows the end of it
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let store = runtime.block_on(stored(&settings))?;
    let config = ProcessorConfig {
        lanes: settings.lanes,
        batch_records_max: settings.batch_records_max,
        batch_bytes_max: settings.batch_bytes_max,
        commit_interval: Duration::from_millis(settings.interval_ms),
        hop_lanes: 1,
        ..ProcessorConfig::default()
    };
    let engine = Engine::new(EngineConfig::default())?;
    let registry = settings.topics.registry.as_ref().map(|url| {
        let config = RegistryConfig {
            url: url.clone(),
            ..RegistryConfig::default()
        };
        Registry::new(config, runtime.handle().clone())
    });
    let definitions = Definitions::new(store, engine, runtime.handle().clone(), &config)
        .with_registry(registry.transpose()?);
    let definitions = Arc::new(definitions);
    let kafka = Kafka::new(KafkaConfig {
        brokers: settings.brokers.clone(),
        ..KafkaConfig::default()
    })?;
    let log: Arc<dyn Log> = if settings.transactions {
        Arc::new(kafka)
    } else {
        Arc::new(Plain::new(kafka, settings.brokers))
    };
    let processor = Processor::start(log, definitions, &config)?;
    writeln!(std::io::stdout(), "{READY}")?;
    let (end, ended) = mpsc::channel();
    // whoever started this holds the other end
    std::thread::spawn(move || end.send(std::io::stdin().read_to_end(&mut Vec::new())));
    while ended.recv_timeout(HEALTH).is_err() {
        if !processor.healthy() {
            processor.stop()?;
            bail!("a lane has stopped by itself");
        }
    }
    Ok(processor.stop()?)
}

async fn stored(settings: &Settings) -> Result<Store> {
    let store = Store::memory().await?;
    let graph = graph::parse(&settings.graph, "graph.yaml")
        .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let mut digests = Vec::new();
    for step in &graph.steps {
        let path = settings.folder.join(&step.uses);
        let module =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        digests.push((step.uses.clone(), store.put_module(&module).await?));
    }
    let resolved = graph
        .resolve(&mut Digests(digests))
        .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let canonical = resolved.canonical()?;
    let topics = &settings.topics;
    let read = topics
        .read
        .as_ref()
        .map(|(topic, topic_id, starts)| TopicStart {
            topic: topic.clone(),
            topic_id: topic_id.clone(),
            starts: starts.clone(),
        });
    let subscriptions = graph
        .subscriptions()
        .map(|(trigger, reads)| NewSubscription {
            trigger: trigger.to_owned(),
            topic: reads.name.clone(),
        });
    let schema = topics.schema.as_ref().map(|(sink, id, schema)| SinkSchema {
        sink: sink.clone(),
        id: *id,
        schema: schema.clone(),
    });
    let new = NewVersion {
        subscriptions: subscriptions.collect(),
        starts: read.into_iter().collect(),
        schemas: schema.into_iter().collect(),
        tenant: TENANT.into(),
        graph: graph.name.clone(),
        version: graph::version(&canonical),
        canonical,
        source: settings.graph.clone(),
        webhooks: Vec::new(),
        at_ms: now_ms(),
        ..NewVersion::default()
    };
    store.apply(new).await?;
    Ok(store)
}

struct Digests(Vec<(String, String)>);

impl Resolve for Digests {
    fn module(&mut self, uses: &str) -> Result<String, String> {
        let found = self.0.iter().find(|(name, _)| name == uses);
        found
            .map(|(_, digest)| digest.clone())
            .ok_or_else(|| "not read".to_owned())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        Err(format!(
            "the bench's graphs name no files, but this one names {path}"
        ))
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
