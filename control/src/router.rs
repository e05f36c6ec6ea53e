//! The routes, and what they share.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use http::StatusCode;
use serde_json::{Map, Value, json};
use store::{Payloads, Store, Vault};
use topics::Log;
use topics::registry::Registry;

use crate::problem::Problem;
use crate::{
    Activations, Grants, History, MissingTopics, Redrives, Tables, auth, dead_letters, executions,
    graphs, lifecycle, modules, payloads, redrives, replays, secrets,
};

/// Until accounts exist there is the one tenant.
pub(crate) const TENANT: &str = "default";
/// The largest graph, definition and source together.
const GRAPH_BYTES_MAX: usize = 4 << 20;
/// The longest list of dead letters.
const ASK_BYTES_MAX: usize = 8 << 20;

/// Says whether a dependency can do its work; an error is a text for an operator.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the routes work with. Cheap to clone.
#[derive(Clone)]
pub struct ControlState {
    pub store: Store,
    pub history: History,
    /// Where outputs are that are too large for a record.
    pub payloads: Option<Payloads>,
    /// Asked about users' topics.
    pub log: Arc<dyn Log>,
    pub grants: Grants,
    pub missing_topics: MissingTopics,
    /// Asked about users' tables.
    pub tables: Arc<dyn Tables>,
    /// Needed by graphs that read or write Avro.
    pub registry: Option<Registry>,
    /// Told of each change; `None`: somebody else's process copies the changes.
    pub activations: Option<Arc<Activations>>,
    /// Told of each redrive; `None`: somebody else's process writes them.
    pub redrives: Option<Arc<Redrives>>,
    /// Asked for on `/api` where there is one.
    pub api_key: Option<Arc<str>>,
    /// Seals secrets; `None`: there is no key, and they come from the environment alone.
    pub vault: Option<Vault>,
    /// Further dependencies that `/readyz` reports, by name.
    pub readiness: Vec<(&'static str, Readiness)>,
}

/// [`api`], `/healthz` and `/readyz`.
pub fn router(state: ControlState) -> Router {
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(state.clone());
    api(state).merge(open)
}

/// `/api/v1/{graphs,modules,executions,payloads,dead-letters,redrives,purges}`, behind the key.
///
/// Other crates' routes can be merged with it; to put them behind the same key, see [`ControlState::guard`].
pub fn api(state: ControlState) -> Router {
    let api = Router::new()
        .route(
            "/api/v1/graphs",
            get(graphs::list)
                .post(graphs::apply)
                .layer(DefaultBodyLimit::max(GRAPH_BYTES_MAX)),
        )
        .route(
            "/api/v1/graphs/{name}",
            get(graphs::get).delete(lifecycle::delete),
        )
        .route(
            "/api/v1/graphs/{name}/versions/{version}",
            get(graphs::version),
        )
        .route("/api/v1/graphs/{name}/pause", post(lifecycle::pause))
        .route("/api/v1/graphs/{name}/resume", post(lifecycle::resume))
        .route("/api/v1/graphs/{name}/rollback", post(lifecycle::rollback))
        .route("/api/v1/modules", get(modules::list))
        .route("/api/v1/modules/missing", post(modules::missing))
        .route(
            "/api/v1/modules/{digest}",
            put(modules::put)
                .layer(DefaultBodyLimit::max(modules::MODULE_BYTES_MAX))
                .get(modules::get),
        )
        .route(
            "/api/v1/module-names/{name}/{version}",
            put(modules::name).get(modules::named),
        )
        .route("/api/v1/modules/{digest}/bytes", get(modules::bytes))
        .route("/api/v1/executions/{id}/trigger", get(replays::trigger))
        .route("/api/v1/records", get(replays::records))
        .route(
            "/api/v1/replays",
            post(replays::replay).layer(DefaultBodyLimit::max(ASK_BYTES_MAX)),
        )
        .route("/api/v1/secrets", get(secrets::list))
        .route(
            "/api/v1/secrets/{name}",
            put(secrets::set)
                .layer(DefaultBodyLimit::max(store::SECRET_BYTES_MAX))
                .delete(secrets::remove),
        )
        .route("/api/v1/executions", get(executions::list))
        .route("/api/v1/executions/{id}", get(executions::get))
        .route(
            "/api/v1/executions/{id}/outputs/{segment}/{number}/data",
            get(payloads::download),
        )
        .route("/api/v1/payloads/sweep", post(payloads::sweep))
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/dead-letters/{id}", get(dead_letters::get))
        .route(
            "/api/v1/dead-letters/redrive",
            post(redrives::redrive).layer(DefaultBodyLimit::max(ASK_BYTES_MAX)),
        )
        .route(
            "/api/v1/dead-letters/purge",
            post(redrives::purge).layer(DefaultBodyLimit::max(ASK_BYTES_MAX)),
        )
        .route("/api/v1/redrives/{id}", get(redrives::redrive_progress))
        .route("/api/v1/purges/{id}", get(redrives::purge_progress))
        .with_state(state.clone());
    state.guard(api)
}

impl ControlState {
    /// Puts routes behind the API key, if there is one.
    pub fn guard(&self, routes: Router) -> Router {
        routes.route_layer(middleware::from_fn_with_state(self.clone(), auth::check))
    }
}

async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// 200 when every dependency can do its work, else 503; either way each of them by name.
async fn readyz(State(state): State<ControlState>) -> Response {
    let checks = state.checks().await;
    let ready = checks.iter().all(|(_, result)| result.is_ok());
    let dependencies: Map<String, Value> = checks
        .into_iter()
        .map(|(name, result)| {
            (
                name.to_owned(),
                result.map_or_else(
                    |reason| json!({"ready": false, "reason": reason}),
                    |()| json!({"ready": true}),
                ),
            )
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({"ready": ready, "dependencies": dependencies})),
    )
        .into_response()
}

impl ControlState {
    /// Whether each dependency can do its work, by name; an error is a text for an operator.
    pub async fn checks(&self) -> Vec<(&'static str, Result<(), String>)> {
        let state = self;
        let mut checks: Vec<(&'static str, Result<(), String>)> = vec![
            (
                "store",
                state
                    .store
                    .changes_after(i64::MAX, 1)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string()),
            ),
            (
                "history",
                state
                    .history
                    .check()
                    .await
                    .map_err(|error| error.to_string()),
            ),
        ];
        if let Some(activations) = &state.activations {
            checks.push(("activations", activations.check()));
        }
        if let Some(redrives) = &state.redrives {
            checks.push(("redrives", redrives.check()));
        }
        checks.extend(state.readiness.iter().map(|(name, check)| (*name, check())));
        checks
    }
}

/// A query string that cannot be read, in our words.
pub(crate) fn query_problem(rejection: &axum::extract::rejection::QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}
