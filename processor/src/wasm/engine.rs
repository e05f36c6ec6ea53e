//! The one engine of a process: wasmtime's configuration, the linker, loaded modules, the ticker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
};

use super::cache::Cache;
use super::config::EngineConfig;
use super::copies;
use super::error::EngineError;
use super::module::{self, Module};
use super::state::State;
use super::ticker::Ticker;

/// Compiles and loads modules. Cheap to clone; the last clone or [`Pool`](super::Pool) to go stops the ticker thread.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: EngineConfig,
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Linker<State>,
    pub(super) ticker: Ticker,
    cache: Option<Cache>,
    loaded: Mutex<HashMap<String, Weak<module::Inner>>>,
    /// Entries of `loaded` after those of modules that are gone were last removed.
    swept: AtomicUsize,
    modules: AtomicU64,
    compiled: AtomicU64,
    from_cache: AtomicU64,
    cache_rejected: AtomicU64,
}

/// What `load` did since the engine was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Modules compiled.
    pub compiled: u64,
    /// Modules taken from the cache folder.
    pub from_cache: u64,
    /// Files of the cache folder that were torn, altered or not readable, and were removed.
    pub cache_rejected: u64,
}

impl Engine {
    /// Reserves addresses for the instances and starts the ticker.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        validate(&config)?;
        let start = |error: wasmtime::Error| EngineError::Start(format!("{error:#}"));
        let wasm = wasmtime::Engine::new(&wasmtime_config(&config)).map_err(start)?;
        let linker = module::linker(&wasm).map_err(start)?;
        let cache = config.cache_dir.as_ref().map(|dir| Cache::new(dir, &wasm));
        let ticking = wasm.clone();
        let ticker = Ticker::start(config.tick, move || ticking.increment_epoch())
            .map_err(|error| EngineError::Start(error.to_string()))?;
        let inner = Inner {
            config,
            wasm,
            linker,
            ticker,
            cache,
            loaded: Mutex::default(),
            swept: AtomicUsize::new(0),
            modules: AtomicU64::new(0),
            compiled: AtomicU64::new(0),
            from_cache: AtomicU64::new(0),
            cache_rejected: AtomicU64::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The module with this digest (sha256 in hex, `sha256:` before it or not), whose bytes these are. Compiles in the
    /// caller's thread, once per process and, with a cache folder, once per machine.
    pub fn load(&self, digest: &str, bytes: &[u8]) -> Result<Module, EngineError> {
        let expected = digest.strip_prefix("sha256:").unwrap_or(digest);
        if let Some(inner) = self
            .inner
            .loaded
            .lock()
            .get(expected)
            .and_then(Weak::upgrade)
        {
            return Ok(Module { inner });
        }
        let max = self.inner.config.module_bytes_max;
        if bytes.len() > max {
            return Err(EngineError::TooLarge {
                bytes: bytes.len(),
                max,
            });
        }
        let actual = hex::encode(Sha256::digest(bytes));
        if actual != expected {
            return Err(EngineError::Digest {
                expected: expected.to_owned(),
                actual,
            });
        }
        let component = self.component(&actual, bytes)?;
        self.keep(actual, &component)
    }

    /// The module with this digest, if this process has it or the cache folder does: its bytes are not needed then.
    pub fn known(&self, digest: &str) -> Option<Module> {
        let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
        let loaded = self.inner.loaded.lock().get(digest).and_then(Weak::upgrade);
        if let Some(inner) = loaded {
            return Some(Module { inner });
        }
        let cache = self.inner.cache.as_ref()?;
        let (found, rejected) = cache.get(&self.inner.wasm, digest);
        self.inner
            .cache_rejected
            .fetch_add(rejected, Ordering::Relaxed);
        let component = found?;
        self.inner.from_cache.fetch_add(1, Ordering::Relaxed);
        self.keep(digest.to_owned(), &component).ok()
    }

    /// Two threads may both have made it; the first one's is kept.
    fn keep(&self, digest: String, component: &Component) -> Result<Module, EngineError> {
        let mut loaded = self.inner.loaded.lock();
        if let Some(inner) = loaded.get(&digest).and_then(Weak::upgrade) {
            return Ok(Module { inner });
        }
        let id = self.inner.modules.fetch_add(1, Ordering::Relaxed);
        let module = Module::link(&self.inner, id, digest.clone(), component)?;
        // seldom, or a thousand modules would look at each other a million times
        if loaded.len() >= 2 * self.inner.swept.load(Ordering::Relaxed).max(64) {
            loaded.retain(|_, module| module.strong_count() > 0);
            self.inner.swept.store(loaded.len(), Ordering::Relaxed);
        }
        loaded.insert(digest, Arc::downgrade(&module.inner));
        Ok(module)
    }

    /// What `load` did so far.
    pub fn stats(&self) -> EngineStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            compiled: read(&self.inner.compiled),
            from_cache: read(&self.inner.from_cache),
            cache_rejected: read(&self.inner.cache_rejected),
        }
    }

    fn component(&self, digest: &str, bytes: &[u8]) -> Result<Component, EngineError> {
        let add = |counter: &AtomicU64, n| counter.fetch_add(n, Ordering::Relaxed);
        if let Some(cache) = &self.inner.cache {
            let (found, rejected) = cache.get(&self.inner.wasm, digest);
            add(&self.inner.cache_rejected, rejected);
            if let Some(component) = found {
                add(&self.inner.from_cache, 1);
                return Ok(component);
            }
        }
        let compile = |bytes: &[u8]| Component::from_binary(&self.inner.wasm, bytes);
        let shortened = copies::shortened(bytes).and_then(|bytes: Vec<u8>| compile(&bytes).ok());
        // what is wrong with a component is told of what its author wrote
        let component = shortened
            .map_or_else(|| compile(bytes), Ok)
            .map_err(|error| EngineError::Compile(format!("{error:#}")))?;
        add(&self.inner.compiled, 1);
        if let Some(cache) = &self.inner.cache {
            cache.put(digest, &component);
        }
        Ok(component)
    }
}

fn validate(config: &EngineConfig) -> Result<(), EngineError> {
    let problem = |setting, problem| Err(EngineError::Config { setting, problem });
    match config {
        c if c.instances_max == 0 => problem("instances_max", "must be at least 1"),
        c if c.tick.is_zero() => problem("tick", "must be longer than nothing"),
        c if c.memory_max_bytes < 1 << 16 => problem("memory_max_bytes", "must be at least 64 KiB"),
        c if c.memory_max_bytes > 4 << 30 => problem("memory_max_bytes", "must be at most 4 GiB"),
        c if !(64 << 10..=1 << 20).contains(&c.stack_bytes) => {
            problem("stack_bytes", "must be between 64 KiB and 1 MiB")
        }
        _ => Ok(()),
    }
}

fn wasmtime_config(config: &EngineConfig) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let n = config.instances_max;
    pool.total_component_instances(n)
        .total_core_instances(n.saturating_mul(6))
        .total_memories(n)
        .total_tables(n.saturating_mul(4))
        // Calls run on the caller's stack.
        .total_stacks(0)
        .max_memory_size(usize::try_from(config.memory_max_bytes).unwrap_or(usize::MAX))
        .table_elements(50_000)
        .max_core_instance_size(2 << 20)
        .max_component_instance_size(2 << 20)
        .max_core_instances_per_component(64)
        .max_memories_per_component(4)
        .max_tables_per_component(16)
        .linear_memory_keep_resident(config.resident_bytes)
        .table_keep_resident(16 << 10)
        .max_unused_warm_slots(n.min(64))
        // Where the kernel has it (Linux 6.7).
        .pagemap_scan(Enabled::Auto);

    let mut wasm = Config::new();
    wasm.strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .epoch_interruption(true)
        .max_wasm_stack(config.stack_bytes)
        // The same bits everywhere.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        // Not needed, and more that could go wrong.
        .wasm_memory64(false)
        .concurrency_support(false)
        .generate_address_map(false);
    wasm
}
