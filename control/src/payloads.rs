//! `/api/v1/executions/{id}/outputs/{segment}/{number}/data`: an output's bytes, wherever they lie; and
//! `/api/v1/payloads/sweep`.
//!
//! Invariant: a payload is given out only by way of a tenant's own row that refers to it; nobody can ask for one by its
//! sha256, and an output that looks like a reference is none.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Reference, Sweep, Swept};

use crate::executions::id;
use crate::history::Output;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT};

/// What the data of a row says that refers to a payload.
#[derive(Deserialize)]
struct Referring {
    bytes: u64,
}

/// The payload that an output refers to; `None`: the row holds the data itself.
pub(crate) fn reference(output: &Output) -> Result<Option<Reference>> {
    let Some(name) = &output.sha256 else {
        return Ok(None);
    };
    let mut sha256 = [0; 32];
    let is_name = hex::decode_to_slice(name, &mut sha256).is_ok();
    let data: Option<Referring> = serde_json::from_slice(&output.data).ok();
    match data {
        Some(Referring { bytes }) if is_name => Ok(Some(Reference { sha256, bytes })),
        _ => Err(Problem::internal("a reference of the history is none")),
    }
}

/// Where an output's bytes are to be had.
pub(crate) fn path(execution: &str, output: &Output) -> String {
    let (segment, number) = (&output.segment, output.number);
    format!("/api/v1/executions/{execution}/outputs/{segment}/{number}/data")
}

/// The bytes as the step emitted them, piece by piece. What is damaged ends before its length is reached.
pub(crate) async fn download(
    State(state): State<ControlState>,
    Path((execution, segment, number)): Path<(String, String, String)>,
) -> Result<Response> {
    let (execution, segment) = (id(&execution)?, id(&segment)?);
    let place: i64 = number
        .parse()
        .map_err(|_| Problem::bad_request(format!("\"{number}\" is no output's number")))?;
    let found = state.history.output(TENANT, &execution, (&segment, place));
    let Some(output) = found.await? else {
        return Err(Problem::not_found(format!(
            "execution {execution} has no output {place} of segment {segment} (yet)"
        )));
    };
    let (body, bytes) = match reference(&output)? {
        None => (Body::from(output.data.clone()), output.data.len() as u64),
        Some(reference) => {
            let Some(payloads) = &state.payloads else {
                return Err(Problem::unavailable(
                    "this process has no place for payloads; set [payloads] url as where they were written",
                ));
            };
            let pieces = payloads.stream(&reference).await?;
            (Body::from_stream(pieces), reference.bytes)
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(&output.content_type);
    let unknown = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(unknown));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    // whatever a step emits, a browser is not to take it for a page of this server
    for (name, value) in [
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ask {
    /// Look only.
    dry_run: bool,
}

/// Removes payloads that nothing refers to any more, as is done once an hour anyway.
pub(crate) async fn sweep(
    State(state): State<ControlState>,
    ask: Option<Json<Ask>>,
) -> Result<Json<Value>> {
    let Json(Ask { dry_run }) = ask.unwrap_or_default();
    let Some(payloads) = &state.payloads else {
        return Err(Problem::not_found(
            "this server has no place for payloads; set [payloads] url",
        ));
    };
    let how = if dry_run { Sweep::Look } else { Sweep::Remove };
    let Swept {
        kept,
        kept_bytes,
        orphans,
        orphan_bytes,
    } = payloads.sweep(how).await?;
    Ok(Json(json!({
        "place": payloads.place(),
        "dry_run": dry_run,
        "orphans": orphans,
        "orphan_bytes": orphan_bytes,
        "kept": kept,
        "kept_bytes": kept_bytes,
    })))
}
