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
use schemas::graph::Graph;
use store::Store;
use tokio::runtime::Handle;

use crate::ProcessorConfig;
use crate::error::ProcessorError;
use crate::wasm::{Engine, Module};

/// One graph version, ready to run.
pub struct Loaded {
    pub version: [u8; 32],
    /// `version` in hex.
    pub version_hex: String,
    pub graph: Graph,
    /// One for each of `graph.steps`.
    pub modules: Vec<Module>,
}

/// (tenant, graph) → its active version.
type Active = Bounded<(String, String), Option<[u8; 32]>>;

/// The graphs in use. Shared by all lanes of a process.
pub struct Definitions {
    store: Store,
    engine: Engine,
    runtime: Handle,
    active: RwLock<Active>,
    versions: RwLock<Bounded<[u8; 32], Arc<Loaded>>>,
    /// One thread loads a version at a time: lanes that miss the same one wait instead of compiling it twice.
    loading: Mutex<()>,
    epoch: AtomicU64,
}

impl Definitions {
    /// `runtime`: where the store's calls run; the calling threads must not belong to it.
    pub fn new(store: Store, engine: Engine, runtime: Handle, config: &ProcessorConfig) -> Self {
        Self {
            store,
            engine,
            runtime,
            active: RwLock::new(Bounded::new(config.graphs_max)),
            versions: RwLock::new(Bounded::new(config.versions_max)),
            loading: Mutex::new(()),
            epoch: AtomicU64::new(0),
        }
    }

    /// The active version of a graph; `None`: there is no such graph.
    pub fn active(&self, tenant: &str, graph: &str) -> Result<Option<Arc<Loaded>>, ProcessorError> {
        let name = (tenant.to_owned(), graph.to_owned());
        let held = self.active.read().get(&name);
        let version = match held {
            Some(version) => version,
            None => {
                // A change that is followed while the store answers is newer than the answer or the same: it wins.
                let before = self.epoch();
                let found = self.runtime.block_on(self.store.active(tenant, graph))?;
                let version = found
                    .map(|active| parse_version(&active.version))
                    .transpose()?;
                let mut active = self.active.write();
                if self.epoch() == before {
                    // A graph that is not there yet is asked for again next time.
                    if version.is_some() {
                        active.put(name, version);
                    }
                    version
                } else {
                    active.get(&name).unwrap_or(version)
                }
            }
        };
        version
            .map(|version| self.version(version))
            .transpose()
            .map(Option::flatten)
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
        let loaded = Arc::new(Loaded {
            version,
            version_hex,
            graph,
            modules,
        });
        self.versions.write().put(version, loaded.clone());
        Ok(Some(loaded))
    }

    fn module(&self, digest: &str) -> Result<Module, ProcessorError> {
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
    }

    /// The highest epoch followed.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }
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
