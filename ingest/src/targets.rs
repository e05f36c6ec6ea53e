//! What a webhook path or a manual trigger leads to, kept ready: found in the store, proven, compiled once per version.
//! That of a paused graph leads there too: its triggers are taken, and parked by the lane.
//!
//! Invariants: bounded, whatever is asked for (what leads nowhere is not kept); never older than its time to live plus
//! one look into the store; a change of a graph that `forget` is told of is seen by the next request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use schemas::graph::{Expr, Graph, TriggerKind, Verify};
use store::{GraphState, Hook, Store};

use crate::problem::{Problem, Violation};

/// At most so many violations of a schema are listed.
const VIOLATIONS_MAX: usize = 8;

/// A trigger, ready for events.
pub(crate) struct Target {
    pub(crate) tenant: String,
    pub(crate) graph: String,
    pub(crate) trigger: String,
    version: String,
    pub(crate) key: Option<Expr>,
    pub(crate) verify: Option<Verify>,
    pub(crate) manual: bool,
    schema: Option<jsonschema::Validator>,
    /// Why no request can be taken.
    fault: Option<String>,
    /// When the store last confirmed it.
    checked_us: AtomicU64,
    /// When its owner was last told in the log that something is wrong.
    warned_us: AtomicU64,
}

impl Target {
    /// Whether the body is what the graph's `schema:` asks for.
    pub(crate) fn validate(&self, body: &[u8]) -> Result<(), Problem> {
        let Some(schema) = &self.schema else {
            return Ok(());
        };
        let body: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
            let message = format!(
                "no JSON at line {}, column {}",
                error.line(),
                error.column()
            );
            Problem::invalid(
                "the body is not JSON",
                vec![Violation {
                    path: String::new(),
                    message,
                }],
            )
        })?;
        if schema.is_valid(&body) {
            return Ok(());
        }
        let violation = |error: jsonschema::ValidationError<'_>| Violation {
            path: error.instance_path().to_string(),
            message: error.masked().to_string(),
        };
        let errors = schema
            .iter_errors(&body)
            .take(VIOLATIONS_MAX)
            .map(violation)
            .collect();
        Err(Problem::invalid(
            "the body does not satisfy the trigger's schema",
            errors,
        ))
    }

    /// Whether requests can be taken at all.
    pub(crate) fn ready(&self, now_us: u64) -> Result<(), Problem> {
        let Some(fault) = &self.fault else {
            return Ok(());
        };
        self.warn(now_us, fault);
        Err(Problem::not_ready())
    }

    /// Tells the graph's owner, once a minute and not once a request.
    pub(crate) fn warn(&self, now_us: u64, reason: &str) {
        let last = self.warned_us.load(Relaxed);
        if now_us.saturating_sub(last) >= 60_000_000
            && self
                .warned_us
                .compare_exchange(last, now_us, Relaxed, Relaxed)
                .is_ok()
        {
            tracing::error!(
                tenant = self.tenant,
                graph = self.graph,
                trigger = self.trigger,
                "requests are refused: {reason}"
            );
        }
    }

    /// Kept as well, so that it is not tried again for each request.
    fn broken(tenant: &str, hook: Hook, fault: String, now_us: u64) -> Self {
        Self {
            tenant: tenant.to_owned(),
            graph: hook.graph,
            trigger: hook.trigger,
            version: hook.version,
            key: None,
            verify: None,
            manual: false,
            schema: None,
            fault: Some(fault),
            checked_us: AtomicU64::new(now_us),
            warned_us: AtomicU64::new(0),
        }
    }

    fn new(tenant: &str, hook: Hook, canonical: &[u8], now_us: u64) -> Result<Self, String> {
        let graph = Graph::from_canonical(canonical).map_err(|error| error.to_string())?;
        let found = graph
            .triggers
            .into_iter()
            .find(|trigger| trigger.name == hook.trigger);
        let found =
            found.ok_or_else(|| format!("the graph has no trigger \"{}\"", hook.trigger))?;
        let manual = matches!(found.kind, TriggerKind::Manual);
        let (verify, schema) = match found.kind {
            TriggerKind::Webhook(webhook) => (webhook.verify, webhook.schema),
            _ => (None, None),
        };
        let schema = schema.as_deref().map(compile).transpose()?;
        Ok(Self {
            tenant: tenant.to_owned(),
            graph: hook.graph,
            trigger: hook.trigger,
            version: hook.version,
            key: found.key,
            verify,
            manual,
            schema,
            fault: None,
            checked_us: AtomicU64::new(now_us),
            warned_us: AtomicU64::new(0),
        })
    }
}

fn compile(schema: &str) -> Result<jsonschema::Validator, String> {
    let schema =
        serde_json::from_str(schema).map_err(|error| format!("its schema is no JSON: {error}"))?;
    jsonschema::validator_for(&schema)
        .map_err(|error| format!("its schema is no JSON Schema: {error}"))
}

/// Where to look for a target.
#[derive(Clone, Copy)]
pub(crate) enum Lookup<'a> {
    Webhook {
        tenant: &'a str,
        path: &'a str,
    },
    Manual {
        tenant: &'a str,
        graph: &'a str,
        trigger: &'a str,
    },
}

impl Lookup<'_> {
    fn tenant(&self) -> &str {
        match self {
            Self::Webhook { tenant, .. } | Self::Manual { tenant, .. } => tenant,
        }
    }

    async fn ask(&self, store: &Store) -> store::Result<Option<Hook>> {
        match self {
            Self::Webhook { tenant, path } => store.webhook(tenant, path).await,
            Self::Manual {
                tenant,
                graph,
                trigger,
            } => {
                let active = store.active(tenant, graph).await?;
                let there = active.filter(|active| active.state != GraphState::Deleted);
                Ok(there.map(|active| Hook {
                    graph: active.graph,
                    trigger: (*trigger).to_owned(),
                    version: active.version,
                    epoch: active.epoch,
                }))
            }
        }
    }
}

/// The targets that were used lately.
pub(crate) struct Targets {
    generations: RwLock<Generations>,
    targets_max: usize,
    ttl_us: u64,
}

/// Two halves: when the young one is full it becomes the old one, and what was in the old one is forgotten unless it
/// was used since.
#[derive(Default)]
struct Generations {
    young: HashMap<Box<str>, Arc<Target>>,
    old: HashMap<Box<str>, Arc<Target>>,
}

impl Targets {
    pub(crate) fn new(targets_max: u32, ttl_ms: u64) -> Self {
        Self {
            generations: RwLock::default(),
            targets_max: targets_max as usize,
            ttl_us: ttl_ms * 1_000,
        }
    }

    /// `name` names it in this cache.
    pub(crate) async fn find(
        &self,
        store: &Store,
        now_us: u64,
        name: &str,
        lookup: Lookup<'_>,
    ) -> Result<Option<Arc<Target>>, Problem> {
        let kept = self.kept(name);
        if let Some(target) = &kept {
            let checked = target.checked_us.load(Relaxed);
            // One request asks the store again; those beside it use what there is.
            let fresh = now_us.saturating_sub(checked) < self.ttl_us;
            if fresh
                || target
                    .checked_us
                    .compare_exchange(checked, now_us, Relaxed, Relaxed)
                    .is_err()
            {
                return Ok(kept);
            }
        }
        let Some(hook) = lookup.ask(store).await? else {
            self.remove(name);
            return Ok(None);
        };
        if kept.as_ref().is_some_and(|t| {
            t.graph == hook.graph && t.trigger == hook.trigger && t.version == hook.version
        }) {
            return Ok(kept);
        }
        let canonical = store
            .version(&hook.version)
            .await?
            .ok_or_else(Problem::not_ready)?;
        let target = match Target::new(lookup.tenant(), hook.clone(), &canonical, now_us) {
            Ok(target) => target,
            // A manual trigger's name comes from the request: it may be any.
            Err(_) if matches!(lookup, Lookup::Manual { .. }) => return Ok(None),
            Err(fault) => Target::broken(lookup.tenant(), hook, fault, now_us),
        };
        let target = Arc::new(target);
        self.insert(name, target.clone());
        Ok(Some(target))
    }

    /// Forgets what belongs to the graph.
    pub(crate) fn forget(&self, tenant: &str, graph: &str) {
        let mut generations = self.generations.write();
        let Generations { young, old } = &mut *generations;
        for half in [young, old] {
            half.retain(|_, target| target.tenant != tenant || target.graph != graph);
        }
    }

    fn kept(&self, name: &str) -> Option<Arc<Target>> {
        let generations = self.generations.read();
        if let Some(target) = generations.young.get(name) {
            return Some(target.clone());
        }
        let target = generations.old.get(name)?.clone();
        drop(generations);
        self.insert(name, target.clone());
        Some(target)
    }

    fn insert(&self, name: &str, target: Arc<Target>) {
        let mut generations = self.generations.write();
        if generations.young.len() >= self.targets_max.div_ceil(2) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(name.into(), target);
    }

    fn remove(&self, name: &str) {
        let mut generations = self.generations.write();
        generations.young.remove(name);
        generations.old.remove(name);
    }
}
