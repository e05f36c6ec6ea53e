//! `POST /api/v1/dead-letters/redrive` and `…/purge`, and how far they have come.
//!
//! A request has an id of the client's, so that a client that does not know whether it was heard asks again: the same id
//! is one redrive, and its answer is the same.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use schemas::ExecutionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{NewRedrive, Redrive, RedriveAccepted, RedriveKind};

use super::choose::{self, Chosen, LETTERS_MAX, Refused, Selection};
use super::plan::{Redriving, Version};
use crate::clock;
use crate::history::Letters;
use crate::problem::{Problem, Result};
use crate::router::{ControlState, TENANT};

const REQUEST_CHARS_MAX: usize = 200;

/// What a client asks for.
#[derive(Deserialize, Serialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// These letters …
    ids: Option<Vec<String>>,
    /// … or all that are like this.
    filter: Option<Filter>,
    /// `active` or `original`; a redrive without it runs what each record says.
    version: Option<String>,
    /// The client's id for this request.
    #[serde(default, skip_serializing)]
    request: String,
}

#[derive(Deserialize, Serialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct Filter {
    graph: Option<String>,
    kind: Option<String>,
    step: Option<String>,
    since: Option<String>,
    /// Also letters that were redriven before.
    #[serde(default)]
    all: bool,
}

type Asked = Result<Json<Ask>, JsonRejection>;

pub(crate) async fn redrive(State(state): State<ControlState>, ask: Asked) -> Result<Response> {
    accept(&state, RedriveKind::Redrive, body(ask)?).await
}

pub(crate) async fn purge(State(state): State<ControlState>, ask: Asked) -> Result<Response> {
    accept(&state, RedriveKind::Purge, body(ask)?).await
}

pub(crate) async fn redrive_progress(
    State(state): State<ControlState>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    progress(&state, RedriveKind::Redrive, &id).await
}

pub(crate) async fn purge_progress(
    State(state): State<ControlState>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    progress(&state, RedriveKind::Purge, &id).await
}

async fn progress(state: &ControlState, kind: RedriveKind, id: &str) -> Result<Json<Value>> {
    let found = state.store.redrive_by_id(TENANT, kind, id).await?;
    let found =
        found.ok_or_else(|| Problem::not_found(format!("there is no {} \"{id}\"", noun(kind))))?;
    shown(kind, &found).map(Json)
}

fn body(ask: Asked) -> Result<Ask> {
    let Json(ask) =
        ask.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    Ok(ask)
}

async fn accept(state: &ControlState, kind: RedriveKind, ask: Ask) -> Result<Response> {
    request_id(&ask.request)?;
    let digest = digest(&ask)?;
    // Before anything is looked for: what was asked for then may not be there any more.
    let known = state.store.redrive_of_request(TENANT, kind, &ask.request);
    if let Some(known) = known.await? {
        return if known.selection == digest {
            answer(kind, &known)
        } else {
            Err(conflict(&ask.request))
        };
    }
    ready(state)?;
    let at_ms = clock::now_ms();
    let version = version(kind, ask.version.as_deref())?;
    let (selection, again) = selection(&ask, at_ms)?;
    let id = ExecutionId::derive(at_ms as u64, TENANT, noun(kind), "", &ask.request).to_string();
    let redriving = Redriving {
        id: &id,
        version,
        at_ms,
    };
    let Chosen { letters, refused } = choose::choose(state, &selection, kind, redriving).await?;
    if letters.is_empty() {
        return nothing(kind, &refused);
    }
    let accepted = state
        .store
        .redrive(NewRedrive {
            id,
            tenant: TENANT.to_owned(),
            kind,
            request: ask.request.clone(),
            selection: digest,
            version: ask.version.unwrap_or_default(),
            refused: json!(refused).to_string(),
            again,
            at_ms,
            letters,
        })
        .await?;
    match accepted {
        RedriveAccepted::New(new) => {
            if let Some(redrives) = &state.redrives {
                redrives.wake();
            }
            tracing::info!(
                id = new.id,
                letters = new.letters,
                refused = refused.count,
                "{} accepted",
                noun(kind)
            );
            answer(kind, &new)
        }
        RedriveAccepted::Known(known) => answer(kind, &known),
        RedriveAccepted::Conflict => Err(conflict(&ask.request)),
    }
}

/// A store that is younger than the log must not give out numbers before the source has said how far the log is.
fn ready(state: &ControlState) -> Result<()> {
    let check = state.redrives.as_ref().map_or(Ok(()), |r| r.check());
    check.map_err(|reason| {
        let detail = format!("dead letters cannot be redriven or purged just now ({reason})");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
    })
}

fn request_id(request: &str) -> Result<()> {
    let sound = (1..=REQUEST_CHARS_MAX).contains(&request.len())
        && request.bytes().all(|byte| byte.is_ascii_graphic());
    if sound {
        return Ok(());
    }
    Err(Problem::bad_request(format!(
        "\"request\" is missing or odd: give an id of your own, 1 to {REQUEST_CHARS_MAX} printable ASCII characters, so that asking again is not doing again"
    )))
}

/// The same request asks for the same, as far as its client said it: `15m` is the same a minute later.
fn digest(ask: &Ask) -> Result<String> {
    let said = serde_json::to_vec(ask).map_err(|error| Problem::internal(&error.to_string()))?;
    Ok(hex::encode(Sha256::digest(said)))
}

fn version(kind: RedriveKind, asked: Option<&str>) -> Result<Version> {
    match (kind, asked) {
        (_, None) => Ok(Version::Recorded),
        (RedriveKind::Redrive, Some("active")) => Ok(Version::Active),
        (RedriveKind::Redrive, Some("original")) => Ok(Version::Original),
        (RedriveKind::Redrive, Some(other)) => Err(Problem::bad_request(format!(
            "version \"{other}\" is neither active nor original"
        ))),
        (RedriveKind::Purge, Some(_)) => Err(Problem::bad_request(
            "a purge runs no version; leave \"version\" out",
        )),
    }
}

/// Which letters, and whether those are taken that were taken before.
fn selection(ask: &Ask, now_ms: i64) -> Result<(Selection, bool)> {
    match (&ask.ids, &ask.filter) {
        (Some(ids), None) if ids.is_empty() => {
            Err(Problem::bad_request("\"ids\" is empty; name a dead letter"))
        }
        (Some(ids), None) if ids.len() > LETTERS_MAX => Err(Problem::bad_request(format!(
            "\"ids\" has {} letters, one request takes {LETTERS_MAX}; ask for fewer at a time",
            ids.len()
        ))),
        // The history has no ids with others, and Postgres no texts with a NUL.
        (Some(ids), None)
            if ids
                .iter()
                .any(|id| !id.bytes().all(|b| b.is_ascii_graphic())) =>
        {
            Err(Problem::bad_request(
                "\"ids\" has what is no dead letter's id",
            ))
        }
        (Some(ids), None) => Ok((Selection::Ids(ids.clone()), true)),
        (None, Some(filter)) => Ok((filtered(filter, now_ms)?, filter.all)),
        _ => Err(Problem::bad_request(
            "say which dead letters: either \"ids\" or \"filter\"",
        )),
    }
}

fn filtered(filter: &Filter, now_ms: i64) -> Result<Selection> {
    let Filter {
        graph,
        kind,
        step,
        since,
        all,
    } = filter;
    if [graph, kind, step, since]
        .iter()
        .all(|field| field.is_none())
    {
        return Err(Problem::bad_request(
            "\"filter\" is empty: give graph, kind, step or since",
        ));
    }
    let since_ms = since.as_deref().map(|text| since_ms(text, now_ms));
    Ok(Selection::Filter {
        letters: Letters {
            graph: graph.clone(),
            kind: kind.clone(),
            step: step.clone(),
            since_ms: since_ms.transpose()?,
            purged: false,
        },
        all: *all,
    })
}

/// A point in time as people write it.
pub(crate) fn since_ms(text: &str, now_ms: i64) -> Result<i64> {
    clock::since(text, now_ms).ok_or_else(|| {
        Problem::bad_request(format!(
            "since={text} is no time; write 15m, 2h, 7d or 2026-01-31T12:00:00Z"
        ))
    })
}

/// Nothing was found is no failure; nothing that was found could be taken is one.
fn nothing(kind: RedriveKind, refused: &Refused) -> Result<Response> {
    if refused.count > 0 {
        let detail = format!(
            "none of these dead letters can be {}; {} refused",
            done(kind),
            refused.count
        );
        return Err(Problem::unprocessable(detail, refused.items()));
    }
    let body = json!({noun(kind): null, "letters": 0, "emitted": 0, "refused": [], "refused_count": 0, "more": false});
    Ok(Json(body).into_response())
}

fn answer(kind: RedriveKind, redrive: &Redrive) -> Result<Response> {
    let mut response = (StatusCode::ACCEPTED, Json(shown(kind, redrive)?)).into_response();
    let place = format!("/api/v1/{}s/{}", noun(kind), redrive.id);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn shown(kind: RedriveKind, redrive: &Redrive) -> Result<Value> {
    let refused: Refused = serde_json::from_str(&redrive.refused)
        .map_err(|error| Problem::internal(&format!("a redrive's refusals: {error}")))?;
    let version = (!redrive.version.is_empty()).then_some(&redrive.version);
    Ok(json!({
        noun(kind): redrive.id,
        "request": redrive.request,
        "letters": redrive.letters,
        "emitted": redrive.emitted,
        "version": version,
        "refused": refused.items(),
        "refused_count": refused.count,
        "more": refused.more,
        "accepted_at": clock::rfc3339(redrive.at_ms),
    }))
}

fn conflict(request: &str) -> Problem {
    Problem::unprocessable(
        format!(
            "request \"{request}\" was made before and asked for something else; give each its own id"
        ),
        Vec::new(),
    )
}

fn noun(kind: RedriveKind) -> &'static str {
    match kind {
        RedriveKind::Redrive => "redrive",
        RedriveKind::Purge => "purge",
    }
}

fn done(kind: RedriveKind) -> &'static str {
    match kind {
        RedriveKind::Redrive => "redriven",
        RedriveKind::Purge => "purged",
    }
}
