//! The graphs in use: which version of a graph is active, and each version proven, compiled and ready.
//!
//! Bounded: memory follows what runs, not what exists. A name or version not held is asked of the store; names held are
//! kept right by following `weir.graphs`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use schemas::activation::Activation;
use schemas::avro::Avro;
use schemas::graph::{Graph, Isolation, Step, StepIndex};
use schemas::records::{self, Payload};
use sha2::{Digest, Sha256};
use store::{GraphState, Payloads, SinkSchema, Store, StoreError};
use tokio::runtime::Handle;
use topics::registry::{Known, Registry, SchemaId, framing};
use topics::{Fetched, Topic, catalog};

use crate::ProcessorConfig;
use crate::clock::{Clock as _, SystemClock};
use crate::error::ProcessorError;
use crate::execute::{Active, State, Subscriber};
use crate::large::Large;
use crate::streams::{Releasing, Streams, Subscribed};
use crate::wasm::{Engine, Module, Nowhere, Outside};

/// One graph version, ready to run.
pub struct Loaded {
    pub version: [u8; 32],
    /// `version` in hex.
    pub version_hex: String,
    pub graph: Graph,
    /// One for each of `graph.steps`.
    pub modules: Vec<Module>,
    /// Steps that are not to be reused, whatever the graph says.
    pub demoted: Demoted,
    /// Some step may speak HTTP and so wait for answers.
    pub waits: bool,
    /// Of topic sinks that write Avro: index into `graph.sinks`.
    pub schemas: Vec<(usize, Schema)>,
}

impl Loaded {
    /// A graph with the modules of its steps, in their order, and no demotions.
    pub fn of(canonical: &[u8], graph: Graph, modules: Vec<Module>) -> Self {
        let digest: [u8; 32] = Sha256::digest(canonical).into();
        Self {
            version: digest,
            version_hex: hex::encode(digest),
            graph,
            waits: modules.iter().any(Module::imports_http),
            modules,
            demoted: Demoted::default(),
            schemas: Vec::new(),
        }
    }
}

/// Steps of a version whose reused instances answered otherwise than a fresh one. Set while it is in use.
#[derive(Debug, Default)]
pub struct Demoted(RwLock<Vec<StepIndex>>);

impl Demoted {
    fn of(steps: Vec<StepIndex>) -> Self {
        Self(RwLock::new(steps))
    }

    pub(crate) fn has(&self, step: StepIndex) -> bool {
        // mostly empty
        self.0.read().contains(&step)
    }

    /// `false`: it was known.
    fn add(&self, step: StepIndex) -> bool {
        let mut steps = self.0.write();
        let new = !steps.contains(&step);
        if new {
            steps.push(step);
        }
        new
    }
}

/// What a topic sink writes.
pub struct Schema {
    /// The registry's.
    pub id: u32,
    pub avro: Avro,
}

/// (tenant, graph) → its active version, and whether it runs.
type Actives = Bounded<(String, String), Option<([u8; 32], State)>>;

/// What the store said, and the epoch before it was asked.
type Asked<T> = Option<(u64, Arc<[T]>)>;

/// The graphs in use. Shared by all lanes of a process.
pub struct Definitions {
    store: Store,
    engine: Engine,
    runtime: Handle,
    active: RwLock<Actives>,
    /// Who reads a user's topic.
    subscribers: RwLock<Bounded<String, Arc<[Subscriber]>>>,
    /// Whether somebody reads a user's topic as Avro, and the epoch at which that was so.
    avro: RwLock<HashMap<Topic, (u64, bool)>>,
    registry: Option<Registry>,
    payloads: Option<Payloads>,
    outside: Arc<dyn Outside>,
    subscribed: Mutex<Asked<Subscribed>>,
    releasing: Mutex<Asked<Releasing>>,
    versions: RwLock<Bounded<[u8; 32], Arc<Loaded>>>,
    /// One thread loads a version at a time: lanes that miss the same one wait instead of compiling it twice.
    loading: Mutex<()>,
    epoch: AtomicU64,
    /// Pauses that executions of this process asked for.
    pauses: AtomicU64,
}

impl Definitions {
    /// `runtime`: where the store's calls run; the calling threads must not belong to it.
    pub fn new(store: Store, engine: Engine, runtime: Handle, config: &ProcessorConfig) -> Self {
        Self {
            store,
            engine,
            runtime,
            active: RwLock::new(Bounded::new(config.graphs_max)),
            subscribers: RwLock::new(Bounded::new(SUBSCRIBERS_MAX)),
            avro: RwLock::default(),
            registry: None,
            payloads: None,
            outside: Arc::new(Nowhere),
            subscribed: Mutex::new(None),
            releasing: Mutex::new(None),
            versions: RwLock::new(Bounded::new(config.versions_max)),
            loading: Mutex::new(()),
            epoch: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
        }
    }

    /// Where the schemas of Avro records are asked for.
    #[must_use]
    pub fn with_registry(mut self, registry: Option<Registry>) -> Self {
        self.registry = registry;
        self
    }

    /// Where payloads are that are too large for a record.
    #[must_use]
    pub fn with_payloads(mut self, payloads: Option<Payloads>) -> Self {
        self.payloads = payloads;
        self
    }

    /// What steps reach: secrets and the network. Without it nothing.
    #[must_use]
    pub fn with_outside(mut self, outside: Arc<dyn Outside>) -> Self {
        self.outside = outside;
        self
    }

    pub(crate) fn outside(&self) -> Arc<dyn Outside> {
        self.outside.clone()
    }

    pub(crate) fn large(&self) -> Option<Large> {
        let payloads = self.payloads.clone()?;
        Some(Large::new(payloads, self.runtime.clone()))
    }

    /// The active version of a graph, and whether it runs; `None`: there is no such graph.
    pub fn active(&self, tenant: &str, graph: &str) -> Result<Option<Active>, ProcessorError> {
        let name = (tenant.to_owned(), graph.to_owned());
        let held = self.active.read().get(&name);
        let known = match held {
            Some(known) => known,
            None => {
                // A change that is followed while the store answers is newer than the answer or the same: it wins.
                let before = self.epoch();
                let found = self.runtime.block_on(self.store.active(tenant, graph))?;
                let known = found.as_ref().map(known).transpose()?.flatten();
                let mut active = self.active.write();
                if self.epoch() == before {
                    // A graph that is not there yet is asked for again next time.
                    if known.is_some() {
                        active.put(name, known);
                    }
                    known
                } else {
                    active.get(&name).unwrap_or(known)
                }
            }
        };
        let Some((version, state)) = known else {
            return Ok(None);
        };
        let loaded = self.version(version)?;
        Ok(loaded.map(|loaded| Active { loaded, state }))
    }

    /// Who reads a user's topic, in the order (tenant, graph, trigger).
    pub fn subscribers(&self, topic: &str) -> Result<Arc<[Subscriber]>, ProcessorError> {
        if let Some(known) = self.subscribers.read().get(&topic.to_owned()) {
            return Ok(known);
        }
        let before = self.epoch();
        let found = self.runtime.block_on(self.store.subscribers(topic))?;
        let found: Arc<[Subscriber]> = found
            .into_iter()
            .map(|one| Subscriber {
                tenant: one.tenant,
                graph: one.graph,
                trigger: one.trigger,
            })
            .collect();
        let mut subscribers = self.subscribers.write();
        if self.epoch() == before {
            subscribers.put(topic.to_owned(), found.clone());
        }
        Ok(found)
    }

    /// What the store says, asked once for each epoch.
    fn asked<T>(
        &self,
        asked: &Mutex<Asked<T>>,
        ask: impl FnOnce() -> Result<Vec<T>, store::StoreError>,
    ) -> Result<Arc<[T]>, ProcessorError> {
        let epoch = self.epoch();
        let mut asked = asked.lock();
        if let Some((at, known)) = &*asked
            && *at == epoch
        {
            return Ok(known.clone());
        }
        let known: Arc<[T]> = ask()?.into();
        *asked = Some((epoch, known.clone()));
        Ok(known)
    }

    /// A version by its id; `None`: the store does not know it.
    pub fn version(&self, version: [u8; 32]) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        if let Some(loaded) = self.versions.read().get(&version) {
            return Ok(Some(loaded));
        }
        let _one_at_a_time = self.loading.lock();
        if let Some(loaded) = self.versions.read().get(&version) {
            return Ok(Some(loaded));
        }
        let version_hex = hex::encode(version);
        let Some(canonical) = self.runtime.block_on(self.store.version(&version_hex))? else {
            return Ok(None);
        };
        let graph = Graph::from_canonical(&canonical).map_err(|e| ProcessorError::Version {
            version: version_hex.clone(),
            reason: e.to_string(),
        })?;
        let mut modules = Vec::with_capacity(graph.steps.len());
        for step in &graph.steps {
            modules.push(self.module(&step.uses)?);
        }
        let schemas = self.schemas(&graph, &version_hex)?;
        let demoted = self.demoted(&graph, &version_hex)?;
        let loaded = Arc::new(Loaded {
            demoted,
            schemas,
            ..Loaded::of(&canonical, graph, modules)
        });
        self.versions.write().put(version, loaded.clone());
        Ok(Some(loaded))
    }

    fn demoted(&self, graph: &Graph, version: &str) -> Result<Demoted, ProcessorError> {
        let reuses = |step: &Step| step.isolation == Isolation::Batch;
        if !graph.steps.iter().any(reuses) {
            return Ok(Demoted::default());
        }
        let known = self.runtime.block_on(self.store.demotions(version))?;
        let index = |of: &store::Demotion| graph.steps.iter().position(|s| s.name == of.step);
        Ok(Demoted::of(known.iter().filter_map(index).collect()))
    }

    /// A step is not reused any more: kept, counted, and told.
    pub(crate) fn demote(&self, loaded: &Loaded, step: StepIndex, of: Demotion<'_>) {
        if !loaded.demoted.add(step) {
            return;
        }
        let name = &loaded.graph.steps[step].name;
        metrics::counter!("weir_steps_demoted_total").increment(1);
        tracing::error!(
            tenant = of.tenant,
            graph = of.graph,
            version = loaded.version_hex,
            step = name,
            execution = of.execution,
            difference = of.difference,
            "a step keeps something between calls: it gets a fresh instance for each call from now on, and the fresh answer counts"
        );
        let demotion = store::Demotion {
            tenant: of.tenant.to_owned(),
            graph: of.graph.to_owned(),
            version: loaded.version_hex.clone(),
            step: name.clone(),
            digest: loaded.graph.steps[step].uses.clone(),
            execution: of.execution,
            difference: of.difference,
            at_ms: SystemClock.unix_ms(),
        };
        // this process knows it; others find it as this one did
        if let Err(error) = self.runtime.block_on(self.store.demote(&demotion)) {
            tracing::warn!(%error, "a demotion could not be kept");
        }
    }

    /// An execution said that nothing of its graph can work any more: what comes from now on is parked.
    pub(crate) fn pause(
        &self,
        (tenant, graph): (&str, &str),
        execution: &str,
        reason: &str,
    ) -> Result<(), ProcessorError> {
        let why = store::PauseReason { reason, execution };
        let paused = self.runtime.block_on(self.store.pause_because(
            tenant,
            graph,
            SystemClock.unix_ms(),
            why,
        ));
        match paused {
            Ok(activation) if activation.changed => {
                metrics::counter!("weir_graphs_paused_total").increment(1);
                tracing::error!(
                    tenant,
                    graph,
                    execution,
                    reason,
                    "the graph is paused: an execution said that nothing of it can work any more; mend it, then resume it"
                );
            }
            // deleted meanwhile, or paused already
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let name = (tenant.to_owned(), graph.to_owned());
        self.active.write().remove(&name);
        self.pauses.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// The epoch, and how often this process paused a graph by itself: that it has not followed yet.
    pub fn generation(&self) -> u64 {
        let pauses = self.pauses.load(Ordering::Acquire);
        self.epoch().wrapping_add(pauses << 40)
    }

    fn schemas(
        &self,
        graph: &Graph,
        version: &str,
    ) -> Result<Vec<(usize, Schema)>, ProcessorError> {
        if !graph.topics_written().any(|_| true) {
            return Ok(Vec::new());
        }
        let noted = self.runtime.block_on(self.store.sink_schemas(version))?;
        let mut schemas = Vec::with_capacity(noted.len());
        for SinkSchema { sink, id, schema } in noted {
            let Some(at) = graph.sinks.iter().position(|s| s.name == sink) else {
                continue;
            };
            let avro = Avro::parse(&schema, &[]).map_err(|e| ProcessorError::Version {
                version: version.to_owned(),
                reason: format!("the schema of sink \"{sink}\": {e}"),
            })?;
            schemas.push((at, Schema { id, avro }));
        }
        Ok(schemas)
    }

    /// What is known of a record's schema.
    pub(crate) fn schema(&self, id: SchemaId) -> Known {
        match &self.registry {
            Some(registry) => registry.known(id),
            None => Known::Not("no schema registry is configured; set [registry] url".into()),
        }
    }

    /// Whether some graph reads this topic as Avro.
    fn reads_avro(&self, topic: &Topic) -> Result<bool, ProcessorError> {
        let epoch = self.epoch();
        if let Some((at, avro)) = self.avro.read().get(topic)
            && *at == epoch
        {
            return Ok(*avro);
        }
        let mut avro = false;
        for one in self.subscribers(topic)?.iter() {
            let active = self.active(&one.tenant, &one.graph)?;
            avro |= active.is_some_and(|active| {
                let mut reads = active.loaded.graph.subscriptions();
                reads.any(|(_, reads)| *reads.name == **topic && reads.format == "avro")
            });
        }
        self.avro.write().insert(topic.clone(), (epoch, avro));
        Ok(avro)
    }

    fn module(&self, digest: &str) -> Result<Module, ProcessorError> {
        if let Some(known) = self.engine.known(digest) {
            return Ok(known);
        }
        let bytes = self
            .runtime
            .block_on(self.store.module(digest))?
            .ok_or_else(|| ProcessorError::Module {
                digest: digest.to_owned(),
            })?;
        Ok(self.engine.load(digest, &bytes)?)
    }

    /// A change of a graph, from `weir.graphs`, in epoch order.
    pub fn follow(&self, change: &Activation) {
        let mut active = self.active.write();
        self.epoch.fetch_max(change.epoch as u64, Ordering::AcqRel);
        let name = (change.tenant.clone(), change.graph.clone());
        // Forgotten rather than set: the next trigger asks the store, which is never behind what it published.
        active.remove(&name);
        self.subscribers.write().clear();
    }

    /// Tells the store that a graph's parked records have been run; `false`: it has changed since.
    pub(crate) fn settle(&self, of: &Releasing) -> Result<bool, ProcessorError> {
        let epoch = i64::try_from(of.number).unwrap_or(i64::MAX);
        let settled = self.store.settled(&of.tenant, &of.graph, epoch);
        Ok(self.runtime.block_on(settled)?)
    }

    /// The highest epoch followed.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Streams for Definitions {
    fn epoch(&self) -> u64 {
        self.epoch()
    }

    fn subscribed(&self) -> Result<Arc<[Subscribed]>, ProcessorError> {
        self.asked(&self.subscribed, || {
            let found = self.runtime.block_on(self.store.topics_subscribed())?;
            let subscribed = |one: store::TopicSubscribed| Subscribed {
                topic: Topic::from(one.topic),
                topic_id: one.topic_id,
                generation: one.generation,
                starts: one.starts,
            };
            Ok(found.into_iter().map(subscribed).collect())
        })
    }

    fn releasing(&self) -> Result<Arc<[Releasing]>, ProcessorError> {
        self.asked(&self.releasing, || {
            let found = self.runtime.block_on(self.store.releasing())?;
            let releasing = |one: store::Releasing| Releasing {
                number: one.epoch.unsigned_abs(),
                since_ms: one.paused_at_ms,
                tenant: one.tenant,
                graph: one.graph,
                deleted: one.deleted,
            };
            Ok(found.into_iter().map(releasing).collect())
        })
    }

    fn readable(&self, record: &Fetched) -> Result<(), String> {
        let Some(value) = &record.record.value else {
            return Ok(());
        };
        // what names no schema becomes a dead letter when it is run
        let framed = if catalog::is_own(&record.partition.topic) {
            let Ok(records::Trigger {
                headers,
                data: Payload::Inline(data),
                ..
            }) = records::Trigger::decode(value)
            else {
                return Ok(());
            };
            framing(&headers, &data).map(|(id, _)| id)
        } else {
            let avro = self.reads_avro(&record.partition.topic);
            if !avro.map_err(|e| e.to_string())? {
                return Ok(());
            }
            framing(&record.record.headers, value).map(|(id, _)| id)
        };
        let Ok(id) = framed else {
            return Ok(());
        };
        match self.schema(id) {
            Known::Schema(_) | Known::Not(_) => Ok(()),
            Known::Asking(why) => Err(format!("schema {id} is not known yet: {why}")),
        }
    }
}

/// Topics whose readers are held in memory.
const SUBSCRIBERS_MAX: usize = 10_000;

/// A deleted graph is none.
fn known(found: &store::Activation) -> Result<Option<([u8; 32], State)>, ProcessorError> {
    let state = match found.state {
        GraphState::Active => State::Active,
        GraphState::Paused => State::Paused,
        GraphState::Resuming => State::Resuming(found.epoch.unsigned_abs()),
        GraphState::Deleted => return Ok(None),
    };
    Ok(Some((parse_version(&found.version)?, state)))
}

/// At which execution a step lost its trust, and how.
pub struct Demotion<'a> {
    pub tenant: &'a str,
    pub graph: &'a str,
    pub execution: String,
    pub difference: String,
}

fn parse_version(text: &str) -> Result<[u8; 32], ProcessorError> {
    let mut version = [0; 32];
    hex::decode_to_slice(text, &mut version).map_err(|e| ProcessorError::Version {
        version: text.to_owned(),
        reason: e.to_string(),
    })?;
    Ok(version)
}

/// A map that forgets its older half when it is full: cheap reads, no bookkeeping on the hot path.
struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq, V: Clone> Bounded<K, V> {
    fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (max / 2).max(1),
        }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::Bounded;

    #[test]
    fn the_map_stays_bounded_and_keeps_the_newest() {
        let mut map = Bounded::new(10);
        for i in 0..1_000 {
            map.put(i, i);
            assert!(map.young.len() + map.old.len() <= 10);
            assert_eq!(map.get(&i), Some(i));
        }
        map.put(999, 0);
        assert_eq!(map.get(&999), Some(0));
        map.remove(&999);
        assert_eq!(map.get(&999), None);
    }
}
