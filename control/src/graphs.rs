//! `/api/v1/graphs`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use schemas::graph::{Graph, TriggerKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::{Change, ChangeKind, NewVersion};

use crate::apply::{self, Definition, Refused};
use crate::clock;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};
use crate::show::Page;

/// How much of a graph's history one answer carries.
const HISTORY_MAX: u32 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    /// The canonical form.
    definition: Option<Box<RawValue>>,
    /// What the user wrote; is the definition itself where there is no other.
    #[serde(default)]
    source: String,
}

/// Proves the graph and makes it active: `{name, version, epoch, changed}`.
pub(crate) async fn apply(
    State(state): State<ControlState>,
    body: Result<Json<Apply>, JsonRejection>,
) -> Result<Json<Value>> {
    let Json(body) =
        body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let source = body.source.clone();
    let definition = blocking(move || match &body.definition {
        Some(definition) => apply::from_definition(definition.get()),
        None => apply::from_source(&body.source),
    })
    .await?;

    let mut modules = BTreeMap::new();
    for digest in apply::digests(&definition.graph) {
        if let Some(bytes) = state.store.module(&digest).await? {
            modules.insert(digest, bytes);
        }
    }
    let definition =
        blocking(move || apply::check_modules(&definition.graph, &modules).map(|()| definition))
            .await?;

    let Definition {
        graph,
        canonical,
        version,
    } = definition;
    let activation = state
        .store
        .apply(NewVersion {
            tenant: TENANT.to_owned(),
            graph: graph.name.clone(),
            version,
            canonical,
            source,
            webhooks: webhooks(&graph),
            at_ms: clock::now_ms(),
        })
        .await?;
    if let Some(activations) = state.activations.as_ref().filter(|_| activation.changed) {
        activations.wake();
    }
    tracing::info!(
        graph = activation.graph,
        version = activation.version,
        epoch = activation.epoch,
        changed = activation.changed,
        "graph applied"
    );
    Ok(Json(json!({
        "name": activation.graph,
        "version": activation.version,
        "epoch": activation.epoch,
        "changed": activation.changed,
    })))
}

/// Proving takes a while for large graphs and modules; it must not hold up other requests.
async fn blocking<T: Send + 'static>(
    prove: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(prove).await {
        Ok(proven) => {
            proven.map_err(|refused| Problem::unprocessable(refused.detail, refused.problems))
        }
        Err(panic) => Err(Problem::internal(&format!(
            "the proof of the graph broke off: {panic}"
        ))),
    }
}

fn webhooks(graph: &Graph) -> Vec<(String, String)> {
    let path = |kind: &TriggerKind| {
        if let TriggerKind::Webhook(webhook) = kind {
            Some(webhook.path.clone())
        } else {
            None
        }
    };
    graph
        .triggers
        .iter()
        .filter_map(|trigger| Some((path(&trigger.kind)?, trigger.name.clone())))
        .collect()
}

/// The graphs in the order of their names.
pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(page) = query.map_err(|rejection| query_problem(&rejection))?;
    let limit = page.limit()?;
    let mut graphs = state
        .store
        .graphs(TENANT, page.cursor.as_deref(), limit + 1)
        .await?;
    let more = graphs.len() > limit as usize;
    graphs.truncate(limit as usize);
    let next = graphs
        .last()
        .filter(|_| more)
        .map(|graph| graph.graph.clone());
    let items: Vec<Value> = graphs
        .into_iter()
        .map(|graph| json!({"name": graph.graph, "version": graph.version, "epoch": graph.epoch, "state": "active", "at": clock::rfc3339(graph.at_ms)}))
        .collect();
    Ok(Json(json!({"items": items, "next": next})))
}

/// One graph with its definition, its source and its history.
pub(crate) async fn get(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    let active = state.store.active(TENANT, &name).await?;
    let active =
        active.ok_or_else(|| Problem::not_found(format!("there is no graph \"{name}\"")))?;
    let canonical = state.store.version(&active.version).await?;
    let canonical = canonical.ok_or_else(|| {
        Problem::internal(&format!(
            "version {} of graph \"{name}\" is not in the store",
            active.version
        ))
    })?;
    let history = state.store.history(TENANT, &name, HISTORY_MAX).await?;
    // Older and newer programs' versions may not be provable here; they are shown all the same.
    let (triggers, steps) =
        Graph::from_canonical(&canonical).map_or((Vec::new(), Vec::new()), |graph| parts(&graph));
    let definition: Value = serde_json::from_slice(&canonical).unwrap_or(Value::Null);
    let source = history
        .iter()
        .find(|change| change.epoch == active.epoch)
        .map(|change| change.source.as_str());
    Ok(Json(json!({
        "name": active.graph,
        "version": active.version,
        "epoch": active.epoch,
        "state": "active",
        "at": clock::rfc3339(active.at_ms),
        "triggers": triggers,
        "steps": steps,
        "definition": definition,
        "source": source.filter(|source| !source.is_empty()),
        "history": history.iter().map(change).collect::<Vec<_>>(),
    })))
}

fn parts(graph: &Graph) -> (Vec<Value>, Vec<Value>) {
    let trigger = |trigger: &schemas::graph::Trigger| match &trigger.kind {
        TriggerKind::Webhook(webhook) => {
            json!({"name": trigger.name, "kind": "webhook", "path": format!("/hooks/{TENANT}{}", webhook.path)})
        }
        TriggerKind::Manual => json!({"name": trigger.name, "kind": "manual"}),
        TriggerKind::Cron(_) => json!({"name": trigger.name, "kind": "cron"}),
        TriggerKind::Topic(_) => json!({"name": trigger.name, "kind": "topic"}),
        TriggerKind::Postgres(_) => json!({"name": trigger.name, "kind": "postgres"}),
    };
    let step = |step: &schemas::graph::Step| json!({"name": step.name, "module": step.uses, "from": step.from});
    (
        graph.triggers.iter().map(trigger).collect(),
        graph.steps.iter().map(step).collect(),
    )
}

fn change(change: &Change) -> Value {
    let kind = match change.kind {
        ChangeKind::Applied => "applied",
    };
    json!({"epoch": change.epoch, "kind": kind, "version": change.version, "at": clock::rfc3339(change.at_ms)})
}
