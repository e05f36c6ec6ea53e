//! `/api/v1/graphs`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use schemas::graph::{Graph, TriggerKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::{Activation, Change, GraphState, Listed, NewVersion};

use crate::apply::{self, Definition, Refused};
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};
use crate::user_topics::{self, Checked};
use crate::{clock, lifecycle, show, sink_schemas, tables};

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

/// Proves the graph and makes it active: `{name, version, epoch, state, changed}`.
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
    let Checked {
        subscriptions,
        writes,
        starts,
    } = user_topics::check(&state, &graph).await?;
    tables::check(&state, &graph).await?;
    let schemas = sink_schemas::check(&state, &graph).await?;
    let activation = state
        .store
        .apply(NewVersion {
            tenant: TENANT.to_owned(),
            graph: graph.name.clone(),
            version,
            canonical,
            source,
            webhooks: graph.webhooks(),
            subscriptions,
            writes,
            starts,
            schemas,
            at_ms: clock::now_ms(),
        })
        .await?;
    Ok(lifecycle::done(&state, &activation))
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

/// Which graphs are asked for.
#[derive(Deserialize)]
pub(crate) struct Which {
    limit: Option<u32>,
    /// Where the page before ended: its `next`.
    #[serde(alias = "after")]
    cursor: Option<String>,
    /// Also those that were deleted.
    #[serde(default)]
    deleted: bool,
}

/// The graphs in the order of their names; those that were deleted with `?deleted=true` only.
pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(which) = query.map_err(|rejection| query_problem(&rejection))?;
    let listed = if which.deleted {
        Listed::All
    } else {
        Listed::Present
    };
    let limit = show::limit(which.limit)?;
    let mut graphs = state
        .store
        .graphs(TENANT, listed, which.cursor.as_deref(), limit + 1)
        .await?;
    let more = graphs.len() > limit as usize;
    graphs.truncate(limit as usize);
    let next = graphs
        .last()
        .filter(|_| more)
        .map(|graph| graph.graph.clone());
    let items: Vec<Value> = graphs.iter().map(summary).collect();
    Ok(Json(json!({"items": items, "next": next})))
}

fn summary(graph: &Activation) -> Value {
    json!({
        "name": graph.graph,
        "version": graph.version,
        "epoch": graph.epoch,
        "state": graph.state.name(),
        "paused_at": graph.paused_at_ms.map(clock::rfc3339),
        "at": clock::rfc3339(graph.at_ms),
    })
}

/// One graph with its definition, its source and its history; also one that was deleted.
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
    let source = state.store.source(TENANT, &name, &active.version).await?;
    let mut shown = summary(&active);
    if active.state == GraphState::Paused
        && let Some((reason, execution)) = state.store.pause_reason(&active).await?
    {
        shown["paused_because"] = json!({"reason": reason, "execution": execution});
    }
    let demoted = state.store.demotions(&active.version).await?;
    let demoted = demoted.iter().filter(|one| one.tenant == TENANT);
    shown["demoted"] = demoted
        .map(|one| {
            json!({"step": one.step, "execution": one.execution, "difference": one.difference, "at": clock::rfc3339(one.at_ms)})
        })
        .collect();
    for (field, value) in [
        ("triggers", json!(triggers)),
        ("steps", json!(steps)),
        ("definition", definition),
        ("source", json!(source)),
        (
            "history",
            history.iter().map(change).collect::<Vec<_>>().into(),
        ),
    ] {
        shown[field] = value;
    }
    Ok(Json(shown))
}

/// The canonical form of one of a graph's versions: `{name, version, definition}`. `version`: its first digits, 6 or more, or `active`.
pub(crate) async fn version(
    State(state): State<ControlState>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<Value>> {
    let version = if version == "active" {
        let active = state.store.active(TENANT, &name).await?;
        let none = || Problem::not_found(format!("there is no graph \"{name}\""));
        active.ok_or_else(none)?.version
    } else {
        state.store.before(TENANT, &name, Some(&version)).await?
    };
    let canonical = state.store.version(&version).await?;
    let canonical = canonical.ok_or_else(|| {
        Problem::internal(&format!(
            "version {version} of graph \"{name}\" is not in the store"
        ))
    })?;
    let definition: Value = serde_json::from_slice(&canonical).unwrap_or(Value::Null);
    Ok(Json(
        json!({"name": name, "version": version, "definition": definition}),
    ))
}

fn parts(graph: &Graph) -> (Vec<Value>, Vec<Value>) {
    let trigger = |trigger: &schemas::graph::Trigger| match &trigger.kind {
        TriggerKind::Webhook(webhook) => {
            json!({"name": trigger.name, "kind": "webhook", "path": format!("/hooks/{TENANT}{}", webhook.path)})
        }
        TriggerKind::Manual => json!({"name": trigger.name, "kind": "manual"}),
        TriggerKind::Cron(_) => json!({"name": trigger.name, "kind": "cron"}),
        TriggerKind::Topic(topic) => {
            json!({"name": trigger.name, "kind": "topic", "topic": topic.name, "format": topic.format})
        }
        TriggerKind::Postgres(_) => json!({"name": trigger.name, "kind": "postgres"}),
    };
    let step = |step: &schemas::graph::Step| json!({"name": step.name, "module": step.uses, "from": step.from});
    (
        graph.triggers.iter().map(trigger).collect(),
        graph.steps.iter().map(step).collect(),
    )
}

fn change(change: &Change) -> Value {
    json!({
        "epoch": change.epoch,
        "kind": change.kind.name(),
        "version": change.version,
        "state": change.state.name(),
        "at": clock::rfc3339(change.at_ms),
    })
}
