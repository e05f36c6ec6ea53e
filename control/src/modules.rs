//! `/api/v1/modules`: content-addressed, so sending one twice is the same as once.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::{Problem, Result};
use crate::router::{ControlState, query_problem};
use crate::show::Page;

/// The largest module.
pub(crate) const MODULE_BYTES_MAX: usize = 64 << 20;
/// How many one question may name.
const DIGESTS_MAX: usize = 1_000;

#[derive(Deserialize)]
pub(crate) struct Digests {
    digests: Vec<String>,
}

/// Which of these the server does not have: `{"missing": […]}`.
pub(crate) async fn missing(
    State(state): State<ControlState>,
    body: Result<Json<Digests>, JsonRejection>,
) -> Result<Json<Value>> {
    let Json(Digests { digests }) =
        body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    if digests.len() > DIGESTS_MAX {
        return Err(Problem::bad_request(format!(
            "{} digests in one question; ask for at most {DIGESTS_MAX}",
            digests.len()
        )));
    }
    let here = state.store.has_modules(&digests).await?;
    let missing: Vec<String> = digests
        .into_iter()
        .filter(|digest| !here.contains(digest))
        .collect();
    Ok(Json(json!({ "missing": missing })))
}

/// Keeps the module, if it is what the digest says.
pub(crate) async fn put(
    State(state): State<ControlState>,
    Path(digest): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>)> {
    let module = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a module may have {} MiB", MODULE_BYTES_MAX >> 20),
        ),
        status => Problem::new(status, rejection.body_text()),
    })?;
    let found = format!(
        "sha256:{}",
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&module))
    );
    if found != digest {
        return Err(Problem::unprocessable(
            format!(
                "the module's digest is {found}, not {digest}; it was changed or cut on its way"
            ),
            Vec::new(),
        ));
    }
    state.store.put_module(&module).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"digest": digest, "bytes": module.len()})),
    ))
}

/// The modules in the order of their digests.
pub(crate) async fn list(
    State(state): State<ControlState>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(page) = query.map_err(|rejection| query_problem(&rejection))?;
    let limit = page.limit()?;
    let mut modules = state
        .store
        .modules(page.cursor.as_deref(), limit + 1)
        .await?;
    let more = modules.len() > limit as usize;
    modules.truncate(limit as usize);
    let next = modules
        .last()
        .filter(|_| more)
        .map(|module| module.digest.clone());
    let items: Vec<Value> = modules
        .into_iter()
        .map(|module| json!({"digest": module.digest, "bytes": module.bytes}))
        .collect();
    Ok(Json(json!({"items": items, "next": next})))
}
