//! `/api/v1/secrets`: names are listed, values are set and never shown again.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde_json::{Value, json};

use crate::clock;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};
use crate::show::Page;

/// The body is the value, as it is.
pub(crate) async fn set(
    State(state): State<ControlState>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>)> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let Some(vault) = &state.vault else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "this server has no key to seal secrets with; give all its processes the same one: [secrets] key, or WEIR_SECRETS__KEY (`openssl rand -hex 32` makes one)",
        ));
    };
    if !schemas::graph::is_identifier(&name) {
        return Err(Problem::bad_request(
            "a secret's name has letters, digits and \"_\", begins with no digit, and has at most 63 characters",
        ));
    }
    let Ok(value) = std::str::from_utf8(&body) else {
        return Err(Problem::bad_request("a secret's value is text in UTF-8"));
    };
    vault.set(TENANT, &name, value, clock::now_ms()).await?;
    tracing::info!(name, "secret set");
    Ok((StatusCode::CREATED, Json(json!({ "name": name }))))
}

pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(page) = query.map_err(|rejection| query_problem(&rejection))?;
    let limit = page.limit()?;
    let after = page.cursor.as_deref();
    let mut secrets = state.store.secrets(TENANT, after, limit + 1).await?;
    let more = secrets.len() > limit as usize;
    secrets.truncate(limit as usize);
    let next = secrets.last().filter(|_| more).map(|one| one.name.clone());
    let items: Vec<Value> = secrets
        .into_iter()
        .map(|one| json!({"name": one.name, "set_at": clock::rfc3339(one.at_ms)}))
        .collect();
    Ok(Json(json!({"items": items, "next": next})))
}

pub(crate) async fn remove(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    if !state.store.remove_secret(TENANT, &name).await? {
        return Err(Problem::not_found(format!("there is no secret \"{name}\"")));
    }
    tracing::info!(name, "secret removed");
    Ok(Json(json!({ "name": name })))
}
