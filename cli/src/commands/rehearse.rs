//! Graphs run in this very process, with no server: what `weir test`, `weir run --trace` and the replays have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use processor::Loaded;
use processor::wasm::{Engine, EngineConfig};
use schemas::ExecutionId;
use schemas::graph::{Graph, TriggerKind};
use schemas::records::{Payload, Trigger};
use topics::{Fetched, Partition, Record, catalog};

use super::local::Local;
use crate::client::Client;
use crate::exit::Failure;
use crate::roles::TENANT;

/// The engine of this process; modules that were compiled before are found again.
pub(super) fn engine() -> anyhow::Result<Engine> {
    Ok(Engine::new(EngineConfig {
        cache_dir: cache(),
        ..EngineConfig::default()
    })?)
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
    let base = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    Some(base.join("weir").join("modules"))
}

/// A graph with the code of its steps; a module that is not on this machine is asked of the server.
pub(super) fn loaded(
    engine: &Engine,
    local: &Local,
    server: Option<&Client>,
) -> anyhow::Result<Arc<Loaded>> {
    let bytes = local.modules.iter();
    let bytes = bytes.map(|(digest, module)| (digest.clone(), module.bytes.clone()));
    of(
        engine,
        &local.canonical,
        local.graph.clone(),
        bytes.collect(),
        server,
    )
}

/// A version that the server has.
pub(super) fn version(
    engine: &Engine,
    canonical: &[u8],
    server: &Client,
) -> anyhow::Result<Arc<Loaded>> {
    let graph = Graph::from_canonical(canonical)?;
    of(engine, canonical, graph, BTreeMap::new(), Some(server))
}

fn of(
    engine: &Engine,
    canonical: &[u8],
    graph: Graph,
    mut bytes: BTreeMap<String, Vec<u8>>,
    server: Option<&Client>,
) -> anyhow::Result<Arc<Loaded>> {
    let mut modules = Vec::with_capacity(graph.steps.len());
    for step in &graph.steps {
        if !bytes.contains_key(&step.uses) {
            let server = server.ok_or_else(|| {
                Failure::failed(format!(
                    "module {} of step \"{}\" is not on this machine; write the path of its file, or name a server",
                    step.uses, step.name
                ))
            })?;
            let found = server.bytes(&format!("/api/v1/modules/{}/bytes", step.uses))?;
            bytes.insert(step.uses.clone(), found);
        }
        let module = engine
            .load(&step.uses, &bytes[&step.uses])
            .with_context(|| format!("the module of step \"{}\"", step.name))?;
        modules.push(module);
    }
    Ok(Arc::new(Loaded::of(canonical, graph, modules)))
}

/// What is rehearsed: one event of a trigger.
pub(super) struct Occurrence {
    pub(super) trigger: String,
    /// Tells one execution from another.
    pub(super) trigger_id: String,
    pub(super) time_us: u64,
    pub(super) key: Option<Bytes>,
    pub(super) content_type: String,
    pub(super) headers: Vec<(String, Bytes)>,
    pub(super) data: Bytes,
}

impl Occurrence {
    /// As ingest would have written it.
    pub(super) fn record(self, graph: &str) -> Fetched {
        let time_ms = self.time_us / 1_000;
        let execution =
            ExecutionId::derive(time_ms, TENANT, graph, &self.trigger, &self.trigger_id);
        let key = self.key.clone();
        let trigger = Trigger {
            tenant: TENANT.to_owned(),
            graph: graph.to_owned(),
            trigger: self.trigger,
            trigger_id: self.trigger_id,
            execution,
            time_us: self.time_us,
            origin: None,
            key: self.key,
            content_type: self.content_type,
            headers: self.headers,
            data: Payload::Inline(self.data),
        };
        Fetched {
            partition: Partition {
                topic: catalog::TRIGGERS.into(),
                number: 0,
            },
            offset: 0,
            record: Record {
                key: Some(key.unwrap_or_else(|| Bytes::from(execution.to_string()))),
                value: Some(trigger.encode()),
                headers: Vec::new(),
                timestamp_ms: i64::try_from(time_ms).unwrap_or(i64::MAX),
            },
        }
    }
}

/// The trigger that was named, or the one that there is: a manual one before others.
pub(super) fn trigger(graph: &Graph, named: Option<&str>) -> Result<String, Failure> {
    let names: Vec<&str> = graph.triggers.iter().map(|t| t.name.as_str()).collect();
    if let Some(named) = named {
        return names
            .contains(&named)
            .then(|| named.to_owned())
            .ok_or_else(|| {
                Failure::failed(format!(
                    "graph \"{}\" has no trigger \"{named}\"; it has {}",
                    graph.name,
                    names.join(", ")
                ))
            });
    }
    let manual = graph.triggers.iter();
    let manual: Vec<_> = manual
        .filter(|t| matches!(t.kind, TriggerKind::Manual))
        .collect();
    match (manual.as_slice(), names.as_slice()) {
        ([one], _) => Ok(one.name.clone()),
        ([], [one]) => Ok((*one).to_owned()),
        _ => Err(Failure::failed(format!(
            "graph \"{}\" has several triggers; say which: {}",
            graph.name,
            names.join(", ")
        ))),
    }
}
