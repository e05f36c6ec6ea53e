//! `/api/v1/modules`: content-addressed, so sending one twice is the same as once.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use store::ModuleName;

use crate::clock;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT, query_problem};
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

/// What a module is and what it asks for.
pub(crate) async fn get(
    State(state): State<ControlState>,
    Path(digest): Path<String>,
) -> Result<Json<Value>> {
    let none = || Problem::not_found(format!("there is no module {digest}"));
    let module = state.store.module(&digest).await?.ok_or_else(none)?;
    let names = state
        .store
        .module_names(TENANT, std::slice::from_ref(&digest))
        .await?;
    let inspected = schemas::module::inspect(&module).map_err(|problem| {
        Problem::internal(&format!("module {digest} cannot be read: {problem}"))
    })?;
    let names: Vec<String> = names.iter().map(shown).collect();
    Ok(Json(json!({
        "digest": digest, "bytes": module.len(), "names": names, "asks": inspected.asks(), "imports": inspected.imports,
    })))
}

/// The component itself.
pub(crate) async fn bytes(
    State(state): State<ControlState>,
    Path(digest): Path<String>,
) -> Result<([(http::HeaderName, &'static str); 1], Bytes)> {
    let none = || Problem::not_found(format!("there is no module {digest}"));
    let module = state.store.module(&digest).await?.ok_or_else(none)?;
    Ok(([(http::header::CONTENT_TYPE, "application/wasm")], module))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Name {
    digest: String,
}

/// Gives a module that is here a name and version, which keep it for ever.
pub(crate) async fn name(
    State(state): State<ControlState>,
    Path((name, version)): Path<(String, String)>,
    body: Result<Json<Name>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>)> {
    let Json(Name { digest }) =
        body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let well = |text: &str| {
        !text.is_empty()
            && text.len() <= 63
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
    };
    if !well(&name) || numbers(&version).is_none_or(|numbers| numbers.len() != 3) {
        return Err(Problem::bad_request(
            "a module's name has a-z, 0-9, \"-\", \"_\" and \".\", its version three numbers, such as price@1.2.0",
        ));
    }
    if state
        .store
        .has_modules(std::slice::from_ref(&digest))
        .await?
        .is_empty()
    {
        return Err(Problem::not_found(format!(
            "there is no module {digest}; send it first"
        )));
    }
    let wanted = ModuleName {
        name,
        version,
        digest,
        at_ms: clock::now_ms(),
    };
    let has = state.store.name_module(TENANT, &wanted).await?;
    if has.digest != wanted.digest {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "{} is module {} already and keeps it; give this one the next version",
                shown(&has),
                has.digest
            ),
        ));
    }
    Ok((
        StatusCode::CREATED,
        Json(json!({"name": has.name, "version": has.version, "digest": has.digest})),
    ))
}

/// The newest module whose version begins with these numbers: `1` takes 1.12.0 before 1.2.3; `latest` takes all.
pub(crate) async fn named(
    State(state): State<ControlState>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<Value>> {
    let wanted = match version.as_str() {
        "latest" => Some(Vec::new()),
        version => numbers(version),
    };
    let wanted = wanted.ok_or_else(|| {
        Problem::bad_request("a version is one to three numbers, such as 1, 1.2 or 1.2.0")
    })?;
    let versions = state.store.module_versions(TENANT, &name).await?;
    let fits = versions
        .iter()
        .filter_map(|one| Some((numbers(&one.version)?, one)));
    let newest = fits
        .filter(|(numbers, _)| numbers.starts_with(&wanted))
        .max_by(|(a, _), (b, _)| a.cmp(b));
    match newest {
        Some((_, one)) => Ok(Json(
            json!({"name": one.name, "version": one.version, "digest": one.digest}),
        )),
        None => Err(Problem::not_found(format!(
            "there is no module {name}@{version}; push it first:  weir module push FILE {name}@1.0.0"
        ))),
    }
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
    numbers.filter(|numbers| numbers.len() <= 3)
}

fn shown(named: &ModuleName) -> String {
    format!("{}@{}", named.name, named.version)
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
    let digests: Vec<String> = modules.iter().map(|module| module.digest.clone()).collect();
    let names = state.store.module_names(TENANT, &digests).await?;
    let items: Vec<Value> = modules
        .into_iter()
        .map(|module| {
            let of = names.iter().filter(|name| name.digest == module.digest);
            let names: Vec<String> = of.map(shown).collect();
            json!({"digest": module.digest, "bytes": module.bytes, "names": names})
        })
        .collect();
    Ok(Json(json!({"items": items, "next": next})))
}
