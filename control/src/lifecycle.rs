//! `/api/v1/graphs/{name}/{pause,resume,rollback}`, and `DELETE /api/v1/graphs/{name}`: what is done to a graph that is
//! there. Each answers `{name, version, epoch, state, changed}`; asked for again it changes nothing.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::StatusCode;
use schemas::graph::Graph;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Activation, TopicStart};

use crate::clock;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT};
use crate::{tables, user_topics};

pub(crate) async fn pause(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    let activation = state.store.pause(TENANT, &name, clock::now_ms()).await?;
    Ok(done(&state, &activation))
}

pub(crate) async fn resume(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    let activation = state.store.resume(TENANT, &name, clock::now_ms()).await?;
    Ok(done(&state, &activation))
}

pub(crate) async fn delete(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    let activation = state.store.delete(TENANT, &name, clock::now_ms()).await?;
    Ok(done(&state, &activation))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Rollback {
    /// The first digits of a version; none: the version before.
    to: Option<String>,
}

/// The body may be left out.
pub(crate) async fn rollback(
    State(state): State<ControlState>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>> {
    let Rollback { to } = if body.trim_ascii().is_empty() {
        Rollback::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "the body is not {{\"to\": \"VERSION\"}} ({error}); leave it out to go back to the version before"
                ),
            )
        })?
    };
    let version = state.store.before(TENANT, &name, to.as_deref()).await?;
    let starts = starts(&state, &version).await?;
    let back = store::Rollback {
        tenant: TENANT,
        graph: &name,
        to: Some(&version),
        starts: &starts,
        at_ms: clock::now_ms(),
    };
    let activation = state.store.rollback(back).await?;
    Ok(done(&state, &activation))
}

/// Checks the topics of a version that is to be active again. One that cannot be proven is refused by the store.
async fn starts(state: &ControlState, version: &str) -> Result<Vec<TopicStart>> {
    let Some(canonical) = state.store.version(version).await? else {
        return Ok(Vec::new());
    };
    let Ok(graph) = Graph::from_canonical(&canonical) else {
        return Ok(Vec::new());
    };
    tables::check(state, &graph).await?;
    Ok(user_topics::check(state, &graph).await?.starts)
}

/// Tells whoever copies changes, and answers.
pub(crate) fn done(state: &ControlState, activation: &Activation) -> Json<Value> {
    if let Some(activations) = state.activations.as_ref().filter(|_| activation.changed) {
        activations.wake();
    }
    tracing::info!(
        graph = activation.graph,
        version = activation.version,
        epoch = activation.epoch,
        state = activation.state.name(),
        changed = activation.changed,
        "graph changed"
    );
    Json(json!({
        "name": activation.graph,
        "version": activation.version,
        "epoch": activation.epoch,
        "state": activation.state.name(),
        "changed": activation.changed,
    }))
}
