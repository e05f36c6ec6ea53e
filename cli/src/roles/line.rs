//! The roles of one process: what each is made of, in which order they start, and in which they stop.
//!
//! Started from the end of the line to its beginning, so that nothing is accepted before it can be run; stopped from the
//! beginning to the end, so that what was accepted is run. A crash instead of a stop loses nothing either. Where the log,
//! the store and the settings come from is the caller's: `weir dev` and `weir serve` differ in that alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::Router;
use control::{Activations, ControlState, Grants, History, MissingTopics, Redrives, Sweeper};
use ingest::{Clock, Components, InboxSource, Ingest, IngestConfig, Secrets};
use processor::wasm::{Engine, EngineConfig};
use processor::web::WebConfig;
use processor::{Definitions, ProcessorConfig};
use schemas::activation::Activation;
use sink::{Sink, SinkConfig, Sqlite};
use store::{Claimed, Payloads, Store, Vault};
use tokio::runtime::Handle;
use topics::{Log, Registry};

use super::front::Behind;
use super::processing::{Making, Processing};
use super::world::{SecretsOf, world};
use super::{Board, Destinations, Role, Roles};
use crate::config::HISTORY;

/// What the roles are made of. The topics exist.
pub(crate) struct Parts {
    pub(crate) roles: Roles,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Store,
    /// Where payloads are that no record takes; `None`: they are refused.
    pub(crate) payloads: Option<Payloads>,
    pub(crate) ingest: IngestConfig,
    pub(crate) processing: ProcessorConfig,
    /// The slots of the lanes; `None`: no other process has lanes.
    pub(crate) claimed: Option<Claimed>,
    /// The SQLite file that the sink writes and control reads, where no destination holds the history.
    pub(crate) history: PathBuf,
    pub(crate) destinations: Destinations,
    /// Compiled modules.
    pub(crate) modules: PathBuf,
    pub(crate) api_key: Option<String>,
    /// What graphs may do with users' topics.
    pub(crate) grants: Grants,
    pub(crate) missing_topics: MissingTopics,
    /// Seals secrets; `None`: they come from the environment alone.
    pub(crate) vault: Option<Vault>,
    /// What steps reach of the network.
    pub(crate) web: WebConfig,
    /// Weir's own schemas are registered in it.
    pub(crate) registry: Option<Registry>,
}

/// The running roles.
pub(crate) struct Line {
    runtime: Handle,
    routes: Router,
    control: Option<ControlState>,
    inbox: Option<InboxSource>,
    following: Option<Following>,
    activations: Option<Arc<Activations>>,
    redrives: Option<Arc<Redrives>>,
    sweeper: Option<Sweeper>,
    processing: Option<Processing>,
    sinks: Vec<Sink>,
    store: Store,
}

impl Line {
    /// Blocks; not to be called from a task of the runtime.
    pub(crate) fn start(mut parts: Parts, runtime: &Handle) -> anyhow::Result<Self> {
        // Some parts take the runtime from where they are started.
        let _entered = runtime.enter();
        let has = |role: Role| parts.roles.contains(&role);
        let mut line = Self {
            runtime: runtime.clone(),
            routes: Router::new(),
            control: None,
            inbox: None,
            following: None,
            activations: None,
            redrives: None,
            sweeper: None,
            processing: None,
            sinks: Vec::new(),
            store: parts.store.clone(),
        };
        if has(Role::Sink) {
            line.sinks = sinks(&parts, runtime)?;
        }
        if has(Role::Processor) {
            let claimed = parts.claimed.take();
            line.processing = Some(processing(&parts, claimed, runtime)?);
        }
        if has(Role::Control) {
            let activations =
                Activations::start(parts.log.clone(), parts.store.clone(), runtime.clone())?;
            line.activations = Some(Arc::new(activations));
            let redrives =
                Redrives::start(parts.log.clone(), parts.store.clone(), runtime.clone())?;
            line.redrives = Some(Arc::new(redrives));
            let payloads = parts.payloads.clone();
            line.sweeper = payloads.map(|payloads| Sweeper::start(payloads, runtime));
        }
        let state = ControlState {
            store: parts.store.clone(),
            history: match parts.destinations.history() {
                Some(history) => history?,
                None => History::open(&parts.history),
            },
            payloads: parts.payloads.clone(),
            log: parts.log.clone(),
            grants: parts.grants.clone(),
            missing_topics: parts.missing_topics.clone(),
            tables: Arc::new(parts.destinations.clone()),
            registry: parts.registry.clone(),
            activations: line.activations.clone(),
            redrives: line.redrives.clone(),
            api_key: parts.api_key.as_deref().map(Arc::from),
            vault: parts.vault.clone(),
            readiness: Vec::new(),
        };
        if has(Role::Ingest) {
            let (ingest, inbox) = ingest(&parts, runtime)?;
            line.inbox = Some(inbox);
            line.following = Some(Following::start(parts.log.clone(), ingest.clone())?);
            line.routes = line
                .routes
                .merge(ingest::hooks(ingest.clone()))
                .merge(state.guard(ingest::api(ingest)));
        }
        if has(Role::Control) {
            line.routes = line.routes.merge(control::api(state.clone()));
            line.control = Some(state);
        }
        Ok(line)
    }

    /// What the server needs of it.
    pub(crate) fn behind(&self) -> Behind {
        Behind {
            routes: self.routes.clone(),
            store: self.store.clone(),
            control: self.control.clone(),
        }
    }

    /// Notes what is ready and what has ended; whether all of it is ready.
    pub(crate) fn look(&self, board: &Board) -> bool {
        let mut ready = true;
        if let Some(processing) = &self.processing {
            ready &= processing.look(board);
        }
        for sink in &self.sinks {
            board.note("sink", Ok(()));
            if !sink.healthy() {
                let why = sink
                    .trouble()
                    .unwrap_or_else(|| "the log says why".to_owned());
                let name = sink.destination();
                board.ended("sink", &format!("the sink of {name} has ended: {why}"));
            }
        }
        ready
    }

    /// Finishes what is under way. Requests no longer reach it.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        if let Some(inbox) = self.inbox {
            self.runtime.block_on(inbox.stop());
        }
        if let Some(following) = self.following {
            following.stop();
        }
        let processed = self.processing.map_or(Ok(()), Processing::stop);
        drop((self.activations, self.redrives, self.sweeper));
        drop((self.control, self.routes));
        let mut landed = Ok(());
        for sink in self.sinks {
            let stopped = sink.stop().context("a sink did not stop cleanly");
            landed = landed.and(stopped);
        }
        self.runtime.block_on(self.store.close());
        processed.and(landed)
    }
}

fn sinks(parts: &Parts, runtime: &Handle) -> anyhow::Result<Vec<Sink>> {
    let mut sinks = parts
        .destinations
        .start(&parts.log, &parts.store, &parts.grants, runtime)?;
    if parts.destinations.has_history() {
        return Ok(sinks);
    }
    if let Some(folder) = parts.history.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    sinks.push(Sink::start(
        parts.log.clone(),
        Sqlite::open(HISTORY, &parts.history)?,
        None,
        SinkConfig::new(HISTORY),
        Arc::new(|| {}),
    )?);
    Ok(sinks)
}

fn processing(
    parts: &Parts,
    claimed: Option<Claimed>,
    runtime: &Handle,
) -> anyhow::Result<Processing> {
    // what a machine has addresses for; beyond it kept instances make room for others
    let instances_max = parts.processing.instances().clamp(1_024, 8_192);
    let engine = Engine::new(EngineConfig {
        cache_dir: Some(parts.modules.clone()),
        instances_max,
        ..EngineConfig::default()
    })?;
    let definitions = Definitions::new(
        parts.store.clone(),
        engine,
        runtime.clone(),
        &parts.processing,
    )
    .with_outside(Arc::new(world(
        SecretsOf::new(parts.vault.clone()),
        parts.web.clone(),
        runtime,
    )?))
    .with_registry(parts.registry.clone())
    .with_payloads(parts.payloads.clone());
    let making = Making {
        log: parts.log.clone(),
        store: parts.store.clone(),
        definitions: Arc::new(definitions),
        config: parts.processing.clone(),
        runtime: runtime.clone(),
    };
    Processing::start(making, claimed)
}

fn ingest(parts: &Parts, runtime: &Handle) -> anyhow::Result<(Ingest, InboxSource)> {
    let clock = Clock::new(now_us);
    let config = parts.ingest.clone();
    let inbox = InboxSource::start(parts.log.clone(), &parts.store, clock.clone(), &config)?;
    // Nothing is accepted before what was accepted earlier can be emitted.
    runtime.block_on(inbox.opened());
    let secrets: Arc<dyn Secrets> = Arc::new(SecretsOf::new(parts.vault.clone()));
    let components = Components {
        log: parts.log.clone(),
        store: parts.store.clone(),
        payloads: parts.payloads.clone(),
        secrets,
        clock,
    };
    Ok((Ingest::new(config, components), inbox))
}

/// Tells ingest of every change of a graph, so that the next request sees it.
struct Following {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Following {
    fn start(log: Arc<dyn Log>, ingest: Ingest) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::Builder::new()
            .name("ingest-follower".into())
            .spawn(move || {
                let forget = |change: &Activation| ingest.forget(&change.tenant, &change.graph);
                processor::follow(&*log, &forget, &flag);
            })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the thread that tells ingest of changed graphs panicked");
        }
    }
}

/// Microseconds since 1970 UTC.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    (now_us() / 1_000) as i64
}
